//! Frames: the walk, the flow hash, segmentation and checksums.

use wire::checksum::{self, Sum};
use wire::flow::flow_hash;
use wire::segment::{Gso, GsoKind, Plan, Tcp, complete_checksum};
use wire::walk::{IpVersion, VLANS_KEPT, Walk};
use wire::{LinkType, flow};

/// The link types that are walked, and one that is not.
pub const LINKS: [LinkType; 9] = [
    LinkType::ETHERNET,
    LinkType::RAW,
    LinkType::IPV4,
    LinkType::IPV6,
    LinkType::NULL,
    LinkType::LOOP,
    LinkType::LINUX_SLL,
    LinkType::LINUX_SLL2,
    LinkType(147),
];

/// The link type that a byte names.
pub fn link(byte: u8) -> LinkType {
    LINKS[usize::from(byte) % LINKS.len()]
}

// The first byte is the link type.
pub fn walk(bytes: &[u8]) {
    let Some((&first, frame)) = bytes.split_first() else { return };
    let walk = Walk::new(link(first), frame);
    let (len, end, payload_at) = (frame.len(), walk.end as usize, walk.payload_at as usize);
    assert!(end <= len && payload_at <= len, "{walk:?}");
    assert!(walk.stop.at as usize <= len, "{walk:?}");
    assert!(walk.payload(frame).len() <= end.saturating_sub(payload_at));
    assert!(walk.vlans().len() <= VLANS_KEPT.min(usize::from(walk.vlan_count)));
    // Each tag took four bytes.
    assert!(usize::from(walk.vlan_count) * 4 <= len);
    if let Some(network) = walk.network {
        assert!(network.at as usize <= len);
        let version = walk.five_tuple(frame).map(|tuple| tuple.src.is_ipv4());
        assert!(version.is_none_or(|v4| v4 == (network.version == IpVersion::V4)));
    }
    if let Some(transport) = walk.transport {
        assert!(transport.at as usize <= len);
    }
    let _ = (walk.wire_len(), walk.ports(frame), walk.is_fragment());
}

// As above. Both directions of a flow have one hash.
pub fn flow(bytes: &[u8]) {
    let Some((&first, frame)) = bytes.split_first() else { return };
    let walk = Walk::new(link(first), frame);
    let hash = flow_hash(&walk, frame);
    assert!(flow::slot(hash) < flow::SLOTS);
    assert!(flow::source_port(hash) >= 0xc000);
    let mut back = frame.to_vec();
    if let (Some(network), false) = (walk.network, walk.is_fragment()) {
        // Quoted packets would have to be turned as well.
        let quotes = matches!(network.protocol, 1 | 58);
        let (at, half) = match network.version {
            IpVersion::V4 => (network.at as usize + 12, 4),
            IpVersion::V6 => (network.at as usize + 8, 16),
        };
        if quotes || back.len() < at + 2 * half {
            return;
        }
        back[at..at + 2 * half].rotate_left(half);
        if walk.ports(frame).is_some()
            && let Some(transport) = walk.transport
        {
            let at = transport.at as usize;
            back[at..at + 4].rotate_left(2);
        }
        assert_eq!(flow_hash(&Walk::new(link(first), &back), &back), hash, "{walk:?}");
    }
}

// Kind and link type, then what the kernel says beside the frame, then the frame.
pub fn segment(bytes: &[u8]) {
    let Some((&[kinds, size, csum_start, csum_offset], frame)) = bytes.split_first_chunk() else {
        return;
    };
    let kind = match kinds & 3 {
        0 => GsoKind::TcpV4,
        1 => GsoKind::TcpV6,
        _ => GsoKind::UdpL4,
    };
    let (size, csum_start) = (u16::from(size), u16::from(csum_start));
    let gso = Gso { kind, size, csum_start, csum_offset: u16::from(csum_offset) };
    let mut completed = frame.to_vec();
    if complete_checksum(&mut completed, csum_start.into(), csum_offset.into()).is_ok() {
        assert!(usize::from(csum_start) + usize::from(csum_offset) + 2 <= frame.len());
    }
    let Ok(plan) = Plan::new(link(kinds >> 2), frame, &gso) else { return };
    assert!(plan.count() >= 1 && plan.count() <= frame.len().max(1));
    let mut end = plan.segment_end(0);
    for i in 0..plan.count() {
        let len = plan.segment_len(i);
        assert!(len <= plan.segment_len(0));
        if i > 0 {
            assert!(plan.segment_end(i) > end, "segment {i} is empty");
            end = plan.segment_end(i);
        }
        if (3..plan.count() - 1).contains(&i) {
            continue; // they are as the second one
        }
        let [first, second] = [0x5a, 0xa5].map(|dirt| {
            let mut out = vec![dirt; len];
            plan.emit(frame, i, &mut out);
            out
        });
        assert_eq!(first, second);
        let walk = Walk::new(link(kinds >> 2), &first);
        let network = walk.network.expect("what was cut holds an IP packet");
        assert!(walk.wire_len().is_some_and(|declared| declared <= len));
        if network.version == IpVersion::V4 {
            let at = network.at as usize;
            let header_len = usize::from(first[at] & 0xf) * 4;
            assert_eq!(checksum::of(&first[at..at + header_len]), 0);
        }
    }
    assert!(end <= frame.len());
}

// Link type, an MSS or MTU in units of ten, then a frame of a file. What is recognised as TCP can be
// cut for that size, or says why not; what is cut holds all of the payload.
pub fn recognise(bytes: &[u8]) {
    let Some((&[kind, tens], frame)) = bytes.split_first_chunk() else { return };
    let link = link(kind);
    let Ok(tcp) = Tcp::find(link, frame) else { return };
    assert!(tcp.payload_len() <= tcp.ip_len() && tcp.ip_len() <= frame.len());
    assert_eq!(tcp.flow.reversed().reversed(), tcp.flow);
    let wanted = u16::from(tens) * 10;
    let sizes = [tcp.segment_bytes_of_mss(wanted), tcp.segment_bytes_of_mtu(wanted)];
    for size in sizes.into_iter().flatten() {
        assert!(size >= 8 && size <= wanted.max(48));
        let Ok(plan) = Plan::new(link, frame, &tcp.gso(size)) else { continue };
        let payload: usize =
            (0..plan.count()).map(|i| plan.segment_len(i) - plan.header_len()).sum();
        assert_eq!(payload, tcp.payload_len());
        let mut out = vec![0xa5; plan.segment_len(0)];
        plan.emit(frame, 0, &mut out);
        assert!(plan.checksum_at() + 2 <= plan.header_len());
    }
}

// The first byte is where the bytes are parted.
pub fn checksum(bytes: &[u8]) {
    let Some((&at, bytes)) = bytes.split_first() else { return };
    let (a, b) = bytes.split_at(bytes.len().min(at.into()));
    let mut sum = Sum::new();
    sum.add_bytes(a);
    sum.add_bytes(b);
    let mut naive = 0u64;
    for word in bytes.chunks(2) {
        naive += u64::from(word[0]) << 8 | u64::from(*word.get(1).unwrap_or(&0));
    }
    while naive >> 16 != 0 {
        naive = (naive & 0xffff) + (naive >> 16);
    }
    assert_eq!((sum.fold(), checksum::of(bytes)), (naive as u16, !(naive as u16)));
}
