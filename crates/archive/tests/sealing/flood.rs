//! Floods and scans: the index stays small, and still excludes nothing.

use crate::assert_found;
use crate::made::*;
use archive::index::{AddressSet, Row};
use archive::seal::reindex_segment;
use rig::Scratch;
use std::net::IpAddr;

/// More flows than are held at a time.
const FLOWS: u32 = 130_000;

#[test]
fn a_flood_of_one_packet_flows_has_few_rows() {
    let scratch = Scratch::new("seal-flood");
    let mut packets: Vec<Made> =
        (0..FLOWS).map(|n| question(n, T + u64::from(n), b"flood")).collect();
    // In between a flow that matters.
    let (a, b) = (IpAddr::from([10, 255, 0, 1]), IpAddr::from([10, 255, 0, 2]));
    for n in 0..1000 {
        let (ethertype, packet) = ip(a, b, 6, 0, &tcp(40_000, 443, 0x18, b"of interest"));
        let at = n * 130;
        let packet = Made::new(packets[at].ts_ns, ethernet(&[], ethertype, &packet), [a, b]);
        packets.insert(at, packet);
    }
    let (closed, name) = (capture(&["eth0"], &packets, false), name("eth0", &packets));
    let sealed = sealed(scratch.folder(), &closed, &name).unwrap();
    let rows = rows_of(&sealed);
    let kept: Vec<&Row> = rows.iter().filter(|row| row.tcp_flags.is_some()).collect();
    assert!(matches!(kept[..], [Row { flows: 1, packets: (1000, 0), .. }]), "{kept:?}");
    let collapsed = rows.iter().max_by_key(|row| row.flows).unwrap();
    let flow = collapsed.flow.as_ref().unwrap();
    assert!(collapsed.flows > FLOWS / 2, "{collapsed:?}");
    assert_eq!((flow.ip_lo, flow.port_lo), (Some(mapped([192, 0, 2, 1].into())), Some(53)));
    assert_eq!((flow.ip_hi, flow.port_hi, &flow.community_id), (None, None, &None));
    let (index, raw) = (sealed.record.index_bytes, sealed.record.raw_bytes);
    assert!(index * 50 < raw, "{index} of {raw} bytes");
    assert_eq!(AddressSet::decode(&sealed.record.addresses), AddressSet::all());
    // Each packet is looked for: a sample of them is enough here.
    let anew = reindex_segment(&sealed.data, &name).unwrap();
    assert_eq!(anew.index, std::fs::read(&sealed.index).unwrap());
}

#[test]
fn each_packet_of_a_flood_is_found() {
    let scratch = Scratch::new("seal-found");
    let packets: Vec<Made> = (0..6000_u32)
        .map(|n| {
            // Spoofed ends that share nothing, tags that come once, ARP: whatever makes rows.
            let spread = n.wrapping_mul(2_654_435_761);
            let (src, dst) = (spread.to_be_bytes(), spread.rotate_left(13).to_be_bytes());
            let (src, dst) = (IpAddr::from(src), IpAddr::from(dst));
            let (ethertype, packet) = match n % 3 {
                0 => ip(src, dst, n as u8, 0, b"spoofed"),
                1 => ip(src, IpAddr::from([192, 0, 2, 1]), 17, 0, &udp(n as u16, 53, b"asked")),
                _ => ip(IpAddr::from([192, 0, 2, 9]), dst, 6, 0, &tcp(7, n as u16, 2, b"")),
            };
            let ends = match n % 3 {
                0 => [src, dst],
                1 => [src, IpAddr::from([192, 0, 2, 1])],
                _ => [IpAddr::from([192, 0, 2, 9]), dst],
            };
            let vlans = [n as u16 % 4096];
            let vlans = if n % 2 == 0 { &vlans[..] } else { &[] };
            Made::new(T + u64::from(n), ethernet(vlans, ethertype, &packet), ends)
        })
        .collect();
    let (closed, name) = (capture(&["eth0"], &packets, false), name("eth0", &packets));
    let sealed = sealed(scratch.folder(), &closed, &name).unwrap();
    // assert_found looks an address up once, so few of so many are asked for.
    let mut asked = packets.clone();
    asked
        .iter_mut()
        .enumerate()
        .filter(|(n, _)| n % 29 != 0)
        .for_each(|(_, p)| p.addresses.clear());
    assert_found(&sealed, &asked);
}
