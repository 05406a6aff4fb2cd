//! What the stages that change packets do with frames that lie: a fuzz target for each family, in the
//! manner of `crates/wire/tests/fuzz`.

#[path = "../shaped/mod.rs"]
mod shaped;

use api::{Anchor, AnonymizeKey, Layer, StageKind, Tags, Tpid};
use io::Packet;
use shaped::{Shaper, frame, packet, tunnelled};
use std::cell::RefCell;
use std::time::Duration;
use wire::LinkType;
use wire::checksum::Sum;
use wire::walk::{IpVersion, TransportKind, Walk};

/// A target: what a family of stages has to hold for any bytes.
type Target = fn(&[u8]);

macro_rules! targets {
    ($($name:ident => $target:path,)*) => {
        $(
            #[test]
            fn $name() {
                let check = bolero::check!().with_iterations(2_000);
                let check = check.with_test_time(Duration::from_secs(120));
                check.for_each(|bytes: &[u8]| $target(bytes));
            }
        )*

        const TARGETS: &[Target] = &[$($target,)*];
    };
}

targets! {
    fuzz_tag => tag,
    fuzz_cut => cut,
    fuzz_strip => strip,
    fuzz_anonymize => anonymize,
}

#[test]
fn every_lie_and_every_cut() {
    for seed in seeds() {
        for &target in TARGETS {
            for len in 0..=seed.len() {
                target(&seed[..len]);
            }
            let mut lying = seed.clone();
            for at in 0..seed.len() {
                for lie in [0x00, 0x01, 0x45, 0x60, 0x7f, 0x81, 0x88, 0xff] {
                    lying[at] = lie;
                    target(&lying);
                }
                lying[at] = seed[at];
            }
        }
    }
}

/// Nests as deep as a packet can be long: the work stays bounded, and so does the stack.
#[test]
fn deep_nests_have_an_end() {
    let udp = frame::udp(1, 2, &[]);
    let nested = |protocol, between: &[u8]| {
        (0..2_000).fold(udp.clone(), |inside, _| {
            let mut packet = frame::ipv4(protocol, &[between, &inside].concat());
            packet[2..4].fill(0); // a length that tells nothing
            packet
        })
    };
    let labelled = [0u8, 1, 1, 64, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0x88, 0x47].repeat(2_000);
    for packet in [nested(4, &[]), nested(47, &[0, 0, 8, 0]), nested(137, &[0, 1, 1, 64])] {
        for target in TARGETS {
            target(&[&[0], &frame::ethernet(0x0800, &packet)[..]].concat());
            target(&[&[1], &packet[..]].concat());
        }
    }
    for target in TARGETS {
        target(&[&[0], &frame::ethernet(0x8847, &labelled)[..]].concat());
        target(&[&[0], &frame::tagged(&[2; 60], &[1; 2_000])[..]].concat());
    }
}

// The first byte chooses the link type and how much of the frame is there.
fn read(bytes: &[u8]) -> Option<Packet> {
    let (&choice, frame) = bytes.split_first()?;
    let link_type = [LinkType::ETHERNET, LinkType::RAW, LinkType::LINUX_SLL, LinkType::NULL]
        [usize::from(choice & 3)];
    let mut packet = packet(link_type, frame);
    packet.meta.origlen += u32::from(choice >> 2);
    Some(packet)
}

fn missing(packet: &Packet) -> i64 {
    i64::from(packet.meta.origlen) - packet.caplen() as i64
}

fn flow(packet: &Packet) -> u32 {
    packet.meta.flow_hash.unwrap_or_else(|| packet.compute_flow_hash())
}

thread_local! {
    static TAGGING: RefCell<[Shaper; 3]> = RefCell::new([
        Shaper::new(StageKind::VlanPush { vid: 5, pcp: None, dei: None, tpid: None }),
        Shaper::new(StageKind::VlanReplace {
            vid: None, pcp: Some(3), dei: Some(true), tpid: Some(Tpid::Dot1Ad), or_push: true,
        }),
        Shaper::new(StageKind::VlanPop { tags: Tags::Count(1) }),
    ]);
    static CUTTING: RefCell<Vec<Shaper>> = RefCell::new({
        let anchors = [
            Anchor::Ethernet, Anchor::Ip, Anchor::Transport, Anchor::InnerIp, Anchor::InnerTransport,
        ];
        let slices = anchors.map(|after| StageKind::Slice { bytes: 3, after: Some(after) });
        let masks = anchors.map(|from| StageKind::Mask {
            offset: 2, bytes: Some(4), from: Some(from), value: 0xee,
        });
        let kinds = slices.into_iter().chain(masks).chain([StageKind::Trim { bytes: 4 }]);
        kinds.map(Shaper::new).collect()
    });
    static STRIPPING: RefCell<Shaper> = RefCell::new(Shaper::new(StageKind::Strip {
        layers: vec![
            Layer::Vlan, Layer::Mpls, Layer::Vxlan, Layer::Gre, Layer::Erspan, Layer::Geneve,
        ],
    }));
    static ANONYMIZING: RefCell<Shaper> = RefCell::new(Shaper::new(StageKind::Anonymize {
        key: AnonymizeKey([7; 32]),
    }));
}

// A pop undoes a push, whatever stands in the frame.
fn tag(bytes: &[u8]) {
    let Some(before) = read(bytes) else { return };
    TAGGING.with_borrow_mut(|[push, replace, pop]| {
        let pushed = push.one(before.copy());
        assert_eq!(missing(&pushed), missing(&before));
        if pushed.caplen() > before.caplen() {
            assert_eq!(flow(&pushed), flow(&before));
            let popped = pop.one(pushed);
            assert_eq!(*popped.data, *before.data);
        }
        let replaced = replace.one(before.copy());
        assert_eq!(missing(&replaced), missing(&before));
        let popped = pop.one(before.copy());
        assert!(missing(&popped) == missing(&before) || before.meta.origlen < 4);
        assert_eq!(popped.caplen() % 4, before.caplen() % 4);
    });
}

// What is cut or masked was there before, and the flow is still known.
fn cut(bytes: &[u8]) {
    let Some(before) = read(bytes) else { return };
    CUTTING.with_borrow_mut(|stages| {
        for stage in stages {
            let after = stage.one(before.copy());
            assert_eq!(after.meta.origlen, before.meta.origlen);
            assert_eq!(flow(&after), flow(&before));
            let differ = after.data.iter().zip(&*before.data).filter(|(a, b)| a != b).count();
            assert!(differ <= 4 && after.caplen() <= before.caplen());
        }
    });
}

// What is stripped has nothing to strip left.
fn strip(bytes: &[u8]) {
    let Some(before) = read(bytes) else { return };
    STRIPPING.with_borrow_mut(|stage| {
        let once = stage.one(before.copy());
        assert!(once.caplen() <= before.caplen());
        let twice = stage.one(once.copy());
        assert_eq!(*twice.data, *once.data);
        assert_eq!(twice.meta.link_type, once.meta.link_type);
    });
}

// Lengths and headers stay; a checksum is as right as before.
fn anonymize(bytes: &[u8]) {
    let Some(before) = read(bytes) else { return };
    ANONYMIZING.with_borrow_mut(|stage| {
        let after = stage.one(before.copy());
        assert_eq!(after.caplen(), before.caplen());
        let walks = [&before, &after].map(|p| Walk::new(p.meta.link_type, &p.data));
        let [was, is] = walks.map(|walk| walk.network.map(|n| (n.version, n.at, n.header_len)));
        assert_eq!(was, is);
        assert_eq!(walks[0].transport, walks[1].transport);
        let [was, is] = [&before, &after].map(checksums);
        assert_eq!(was, is, "{:02x?} became {:02x?}", before.data, after.data);
    });
}

// Whether the checksums of the outermost IP header and of its transport header are right.
fn checksums(packet: &Packet) -> (Option<bool>, Option<bool>) {
    let data = &*packet.data;
    let walk = Walk::new(packet.meta.link_type, data);
    let Some(network) = walk.network else { return (None, None) };
    let at = network.at as usize;
    let ends = match network.version {
        IpVersion::V4 => &data[at + 12..at + 20],
        IpVersion::V6 => &data[at + 8..at + 40],
    };
    let header = (network.version == IpVersion::V4)
        .then(|| data.get(at..at + usize::from(data[at] & 0xf) * 4))
        .flatten()
        .map(|header| wire::checksum::of(header) == 0);
    let Some(transport) = walk.transport.filter(|_| !network.rerouted) else {
        return (header, None);
    };
    let segment = &data[transport.at as usize..walk.end as usize];
    let (check_at, protocol) = match transport.kind {
        TransportKind::Tcp => (16, Some(6)),
        TransportKind::Udp => (6, Some(17)),
        TransportKind::Icmpv6 => (2, Some(58)),
        TransportKind::Icmp => (2, None),
    };
    let check = segment.get(check_at..check_at + 2);
    if check.is_none_or(|check| transport.kind == TransportKind::Udp && check == [0, 0]) {
        return (header, None);
    }
    let mut sum = Sum::new();
    if let Some(protocol) = protocol {
        sum.add_bytes(ends);
        sum.add_u16(protocol);
        sum.add_u16(segment.len() as u16);
    }
    sum.add_bytes(segment);
    (header, Some(sum.finish() == 0))
}

// Frames of many kinds, each behind the byte that chooses.
fn seeds() -> Vec<Vec<u8>> {
    let udp = frame::udp(1000, 53, &[7; 20]);
    let inner = frame::ethernet(0x0800, &frame::ipv4(17, &udp));
    let quoted = [&[3, 1, 0, 0, 0, 0, 0, 0][..], &frame::ipv4(17, &udp)].concat();
    let solicitation = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &[0xfd; 16]].concat();
    let routed = [&[17, 2, 4, 1, 0, 0, 0, 0][..], &[0xfd; 16], &udp].concat();
    let mut frames = vec![
        frame::tagged(&inner, &[100, 200]),
        frame::ethernet(0x0800, &frame::ipv4(6, &frame::tcp(1, 2, 2, &[5; 9]))),
        frame::ethernet(0x0800, &frame::ipv4(1, &quoted)),
        frame::ethernet(0x86dd, &frame::ipv6(58, &solicitation)),
        frame::ethernet(0x86dd, &frame::ipv6(43, &routed)),
        frame::ethernet(0x8847, &[&[0, 1, 0, 64, 0, 2, 1, 64, 0, 0, 0, 0][..], &inner].concat()),
        frame::ethernet(0x8864, &[&[0x11, 0, 0, 1, 0, 50, 0, 0x21][..], &inner[14..]].concat()),
        frame::arp(),
    ];
    for encap in tunnelled::encaps() {
        frames.extend(tunnelled::frames(&encap, &inner).into_iter().map(|(outer, _)| outer));
    }
    let ethernet = frames.iter().map(|frame| [&[0], &frame[..]].concat());
    ethernet.chain([[&[1], &inner[14..]].concat()]).collect()
}
