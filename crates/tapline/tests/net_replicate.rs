//! What a broker replicates to two NICs leaves both as it came: each frame once, in order, byte for byte,
//! whatever VLAN tags it has.

mod over_links;

use io::nic::NicSink;
use io::{Data, Direction, InterfaceId, Meta, Packet, Selection, Sink};
use over_links::{SOON, Scene, text};
use rig::{
    Finished, Host, Running, frames_in, root_or_skip, tool_or_skip, wait_for_turn, wait_until,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wire::LinkType;

const FRAMES: u64 = 200_000;
/// Below what a busy machine carries, so that what is lost was lost by a mistake.
const PPS: u64 = 50_000;
const BURST: u64 = 32;
/// tcpdump takes a block of its ring that is not full after a second.
const STILL: Duration = Duration::from_millis(1500);

/// The tags of a frame: none, and all that must not be confused: priorities, the drop eligible bit,
/// VLAN 0 and 4095, service tags, one tag inside another, also of the same kind.
const TAGS: [&[(u16, u16)]; 8] = [
    &[],
    &[(0x8100, 0x0007)],
    &[(0x8100, 0xe000)],
    &[(0x8100, 0x7fff)],
    &[(0x88a8, 0x1064)],
    &[(0x88a8, 0xa0c8), (0x8100, 0x5002)],
    &[(0x8100, 0x0001), (0x8100, 0x0001)],
    &[(0x88a8, 0x3fff), (0x88a8, 0x0000), (0x8100, 0x2003)],
];

/// The frame of a number: its tags and its length follow from the number too.
fn frame(number: u64) -> Vec<u8> {
    let mut frame = vec![2, 0x71, 0, 0, 0xff, 9, 2, 0x71, 0, 0, 0xff, 1];
    for (tpid, tci) in TAGS[(number % 8) as usize] {
        frame.extend([tpid.to_be_bytes(), tci.to_be_bytes()].concat());
    }
    frame.extend([0x88, 0xb5]);
    frame.extend(number.to_be_bytes());
    frame.resize(60 + (number * 7 % 200) as usize, number as u8);
    frame
}

fn packet(number: u64) -> Packet {
    let frame = frame(number);
    let meta = Meta {
        ts_ns: 0,
        origlen: frame.len() as u32,
        link_type: LinkType::ETHERNET,
        interface: InterfaceId(0),
        direction: Direction::Unknown,
        outer: None,
        packet_id: None,
        gso: None,
        decided: false,
        flow_hash: None,
    };
    Packet { data: Data::copy_of(&frame), meta }
}

/// Sends all frames at the pace by an interface of a host.
fn send(host: &Host, interface: &str) {
    let open = || NicSink::open(interface).expect("the interface is there");
    let mut nic = host.netns.run(open).expect("it can be entered");
    let start = Instant::now();
    for first in (0..FRAMES).step_by(BURST as usize) {
        let packets: Vec<Packet> = (first..FRAMES.min(first + BURST)).map(packet).collect();
        let chosen: Vec<u32> = (0..packets.len() as u32).collect();
        wait_for_turn(start, first, PPS);
        let mut rest = Selection::new(&packets, &chosen);
        while !rest.is_empty() {
            rest = rest.skip(nic.send(rest));
        }
    }
    let counters = nic.counters();
    assert_eq!((counters.sent, counters.drops.total()), (FRAMES, 0), "{counters:?}");
}

/// tcpdump with a ring that holds all of the frames.
struct Judge {
    running: Running,
    file: PathBuf,
}

impl Judge {
    fn start(host: &Host, interface: &str, file: PathBuf) -> Judge {
        let mut command = host.netns.command("tcpdump");
        command.args(["-n", "-U", "-Z", "root", "-s", "2048", "-B", "131072", "-Q", "in"]);
        let running = Running::start(command.args(["-i", interface, "-w"]).arg(&file));
        running.wait_for("listening on", SOON);
        Judge { running, file }
    }

    /// Its file, once that has rested.
    fn stop(self) -> PathBuf {
        let bytes = |file: &Path| file.metadata().map_or(0, |of| of.len());
        let (mut last, mut since) = (bytes(&self.file), Instant::now());
        wait_until("tcpdump has written all", Duration::from_secs(60), || {
            let now = bytes(&self.file);
            if now != last {
                (last, since) = (now, Instant::now());
            }
            since.elapsed() >= STILL
        });
        let Finished { status, stderr, .. } = self.running.stop(SOON);
        assert!(status.success() && stderr.contains("\n0 packets dropped"), "{stderr}");
        self.file
    }
}

#[test]
fn two_nics_get_the_same_frames_in_order_with_their_tags() {
    if !root_or_skip() || !tool_or_skip("tcpdump") {
        return;
    }
    let scene = Scene::alone("replicate");
    let (client, tapped, sink) = (scene.host("client"), scene.host("tapped"), scene.host("sink"));
    tapped.netns.join("sink2", &sink.netns, "tapped2").expect("the names are free");
    let judges = ["tapped", "tapped2"]
        .map(|interface| Judge::start(sink, interface, scene.path(&format!("{interface}.pcap"))));
    let words =
        ["broker", "--in", "nic:client,direction=in", "--out", "nic:sink", "--out", "nic:sink2"];
    let broker = scene.start("tapped", &words);
    send(client, "tapped");
    let all_sent = || broker.ledger().sent == 2 * FRAMES;
    wait_until("all frames are sent", Duration::from_secs(60), all_sent);
    let ledger = broker.stop();
    assert_eq!((ledger.received, ledger.sent, ledger.drops.total()), (FRAMES, 2 * FRAMES, 0));

    for file in judges.map(Judge::stop) {
        let frames = frames_in(&file);
        for (number, found) in (0..).zip(&frames) {
            assert!(found.bytes == frame(number), "{}: frame {number}", text(&file));
        }
        assert_eq!(frames.len() as u64, FRAMES, "{}", text(&file));
    }
}
