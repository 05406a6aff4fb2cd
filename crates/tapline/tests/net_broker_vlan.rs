//! VLAN tags on real links: from a NIC through a broker to another one, with all their bits.
//!
//! ```text
//! client ───────── tapped ───────── sink
//!   tagged frames    broker           tcpdump
//! ```

#[path = "../../pipeline/tests/taps/frame.rs"]
#[allow(dead_code, reason = "one frame is needed")]
mod frame;
mod over_links;

use io::nic::NicSink;
use io::{Data, Direction, InterfaceId, Meta, Packet, Selection, Sink};
use over_links::*;
use rig::{Tcpdump, root_or_skip, tool_or_skip, wait_until};
use wire::LinkType;
use wire::walk::VlanTag;

/// Whoever sends the frames: not the hosts' own stacks.
const SENDER: &str = "02:00:00:00:00:01";

/// Frames of each way to be tagged: none, one, two, VLAN 0 and 4095, every TPID.
fn frames() -> Vec<(Vec<VlanTag>, Vec<u8>)> {
    let tag = VlanTag::new;
    let stacks = [
        vec![],
        vec![tag(0x8100, 5, true, 300)],
        vec![tag(0x8100, 7, false, 0)],
        vec![tag(0x88a8, 3, true, 4095)],
        vec![tag(0x88a8, 6, false, 10), tag(0x8100, 1, true, 20)],
        vec![tag(0x9100, 2, true, 30), tag(0x8100, 4, false, 0), tag(0x8100, 0, true, 1)],
    ];
    let tagged = |(number, stack): (u8, Vec<VlanTag>)| {
        let payload = [&[number][..], &[7; 59]].concat();
        let frame = with(&stack, &frame::ethernet(0x88b5, &payload));
        (stack, frame)
    };
    (0..).zip(stacks).map(tagged).collect()
}

fn with(stack: &[VlanTag], untagged: &[u8]) -> Vec<u8> {
    let tags: Vec<u8> = stack.iter().flat_map(|tag| tag.to_bytes()).collect();
    [&untagged[..12], &tags, &untagged[12..]].concat()
}

fn send(scene: &Scene, frames: &[Vec<u8>]) {
    let packets: Vec<Packet> = frames
        .iter()
        .map(|frame| Packet {
            data: Data::copy_of(frame),
            meta: Meta {
                ts_ns: 1,
                origlen: frame.len() as u32,
                link_type: LinkType::ETHERNET,
                interface: InterfaceId(0),
                direction: Direction::Unknown,
                outer: None,
                packet_id: None,
                gso: None,
                decided: false,
                flow_hash: None,
            },
        })
        .collect();
    let open = || NicSink::open("tapped");
    let mut nic = scene.host("client").netns.run(open).expect("a namespace").expect("Ethernet");
    let chosen: Vec<u32> = (0..packets.len() as u32).collect();
    let mut sent = 0;
    wait_until("the frames are sent", SOON, || {
        sent += nic.send(Selection::new(&packets, &chosen).skip(sent));
        sent == packets.len()
    });
    assert_eq!(nic.counters().drops.total(), 0);
}

/// What a broker with one stage makes of the frames on their way from one NIC to the other.
fn through(name: &str, stage: &str) -> Option<Vec<Vec<u8>>> {
    if !root_or_skip() || !tool_or_skip("tcpdump") {
        return None;
    }
    let scene = Scene::new(name);
    let config = scene.path("broker.toml");
    let content = format!(
        "[[source]]\ninterface = \"client\"\ndirection = \"in\"\nstages = [\"vlan\"]\n\
         [[stage]]\nname = \"vlan\"\n{stage}\n\
         [[target]]\nname = \"out\"\nto = \"nic:sink\"\n\
         [[map]]\nfrom = [\"client\"]\nto = [\"out\"]\nexpression = \"ether src {SENDER}\"\n"
    );
    std::fs::write(&config, content).expect("the folder is there");
    let tcpdump = Tcpdump::start(
        scene.host("sink"),
        "tapped",
        &scene.path("out.pcap"),
        &format!("ether src {SENDER}"),
    );
    let broker = scene.start("tapped", &["broker", "-c", text(&config)]);
    let sent: Vec<Vec<u8>> = frames().into_iter().map(|(_, frame)| frame).collect();
    send(&scene, &sent);
    wait_until("the frames are through", SOON, || {
        broker.ledger().targets.iter().any(|target| target.sent == sent.len() as u64)
    });
    let seen = tcpdump.stop();
    broker.stop();
    Some(seen.into_iter().map(|frame| frame.bytes).collect())
}

fn expected(change: impl Fn(&[VlanTag]) -> Vec<VlanTag>) -> Vec<Vec<u8>> {
    let changed = frames().into_iter().map(|(stack, frame)| {
        let untagged = [&frame[..12], &frame[12 + 4 * stack.len()..]].concat();
        with(&change(&stack), &untagged)
    });
    changed.collect()
}

#[test]
fn a_tag_is_pushed_in_front_of_what_is_there() {
    let Some(seen) = through("vlan-push", "type = \"vlan_push\"\nvid = 100\npcp = 6") else {
        return;
    };
    let wanted = expected(|stack| {
        let tag = match stack.first() {
            None => VlanTag::new(0x8100, 6, false, 100),
            Some(outer) => VlanTag::new(0x88a8, 6, outer.dei(), 100),
        };
        [&[tag], stack].concat()
    });
    assert_eq!(seen, wanted);
}

#[test]
fn only_what_is_asked_for_is_replaced() {
    let stage = "type = \"vlan_replace\"\nvid = 200\nor_push = true";
    let Some(seen) = through("vlan-replace", stage) else { return };
    let wanted = expected(|stack| match stack {
        [] => vec![VlanTag::new(0x8100, 0, false, 200)],
        [outer, inner @ ..] => {
            let tag = VlanTag::new(outer.tpid, outer.pcp(), outer.dei(), 200);
            [&[tag], inner].concat()
        }
    });
    assert_eq!(seen, wanted);
}

#[test]
fn one_tag_is_popped_and_the_others_keep_their_bits() {
    let Some(seen) = through("vlan-pop", "type = \"vlan_pop\"") else { return };
    assert_eq!(seen, expected(|stack| stack.get(1..).unwrap_or_default().to_vec()));
}
