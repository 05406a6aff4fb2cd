//! Packets of all kinds, at random: sealed, each is found by its addresses, and comes out as it went in.

use crate::assert_found;
use crate::made::*;
use archive::seal::reindex_segment;
use proptest::collection::vec;
use proptest::prelude::*;
use rig::Scratch;
use std::net::{IpAddr, Ipv4Addr};

const VXLAN_PORT: u16 = 4789;

/// What is in a packet, in words of the generator.
#[derive(Debug, Clone)]
struct Plan {
    kind: Kind,
    hosts: (u8, u8),
    port: u8,
    is_v6: bool,
    vlans: Vec<u16>,
    /// VNI and outer hosts, if it stands in VXLAN.
    tunnel: Option<(u32, u8, u8)>,
    payload_len: u16,
    /// Bytes that are cut off its end.
    cut: u16,
    wait_ns: u64,
}

#[derive(Debug, Clone)]
enum Kind {
    Udp,
    Tcp(u8),
    Icmp(u8),
    Sctp,
    Fragment(u16),
    Other(u8),
    Arp,
    Lldp,
    Noise,
}

fn host(n: u8, is_v6: bool) -> IpAddr {
    match is_v6 {
        true => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(n)]),
        false => IpAddr::from([10, 0, 0, n]),
    }
}

impl Plan {
    fn make(&self, ts_ns: u64) -> Made {
        let [src, dst] = [self.hosts.0, self.hosts.1].map(|n| host(n, self.is_v6));
        let payload = vec![0x5a; self.payload_len.into()];
        let ports = (1024 + u16::from(self.port), 443);
        let of_ip = |proto, fragment, payload: &[u8]| {
            let (ethertype, packet) = ip(src, dst, proto, fragment, payload);
            (ethertype, packet, vec![src, dst])
        };
        let icmp = if self.is_v6 { 58 } else { 1 };
        let (ethertype, packet, mut addresses) = match self.kind {
            Kind::Udp => of_ip(17, 0, &udp(ports.0, ports.1, &payload)),
            Kind::Tcp(flags) => of_ip(6, 0, &tcp(ports.0, ports.1, flags, &payload)),
            Kind::Icmp(kind) => {
                of_ip(icmp, 0, &[&[kind, 0, 0, 0, 0, 1, 0, 1], &payload[..]].concat())
            }
            Kind::Sctp => of_ip(132, 0, &udp(ports.0, ports.1, &payload)),
            Kind::Fragment(offset) => of_ip(17, 0x2000 | offset & 0x1fff, &payload),
            Kind::Other(proto) => of_ip(proto, 0, &payload),
            Kind::Arp => {
                let [sender, target] =
                    [self.hosts.0, self.hosts.1].map(|n| Ipv4Addr::new(10, 0, 0, n));
                (0x0806, arp(sender, target), vec![sender.into(), target.into()])
            }
            Kind::Lldp => (0x88cc, payload, vec![]),
            Kind::Noise => (0x0800, payload, vec![]),
        };
        let mut frame = ethernet(&self.vlans, ethertype, &packet);
        if let Some((vni, a, b)) = self.tunnel {
            let outer = [a, b].map(|n| IpAddr::from([172, 16, 0, n]));
            let datagram = udp(50_000, VXLAN_PORT, &vxlan(vni, &frame));
            let (ethertype, packet) = ip(outer[0], outer[1], 17, 0, &datagram);
            frame = ethernet(&[], ethertype, &packet);
            addresses.extend(outer);
        }
        let origlen = frame.len() as u32;
        frame.truncate(frame.len().saturating_sub(self.cut.into()));
        // Which of its addresses a cut packet still has, is not worth knowing here.
        let spare = if matches!(self.kind, Kind::Arp) { 0 } else { self.payload_len };
        if self.cut > spare {
            addresses.clear();
        }
        Made { origlen, ..Made::new(ts_ns, frame, addresses) }
    }
}

fn plan() -> impl Strategy<Value = Plan> {
    let kind = prop_oneof![
        Just(Kind::Udp),
        any::<u8>().prop_map(Kind::Tcp),
        any::<u8>().prop_map(Kind::Icmp),
        Just(Kind::Sctp),
        any::<u16>().prop_map(Kind::Fragment),
        any::<u8>().prop_map(Kind::Other),
        Just(Kind::Arp),
        Just(Kind::Lldp),
        Just(Kind::Noise),
    ];
    let tunnel = proptest::option::weighted(0.3, (0..3_u32, 0..9_u8, 0..9_u8));
    let cut = prop_oneof![4 => Just(0_u16), 1 => 0..1500_u16];
    let shape = (any::<bool>(), vec(0..4096_u16, 0..4), tunnel, 0..1400_u16, cut);
    (kind, (0..24_u8, 0..24_u8), 0..4_u8, shape, 0..1_000_000_u64).prop_map(
        |(kind, hosts, port, (is_v6, vlans, tunnel, payload_len, cut), wait_ns)| Plan {
            kind,
            hosts,
            port,
            is_v6,
            vlans,
            tunnel,
            payload_len,
            cut,
            wait_ns,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn each_is_found_and_comes_out_as_it_went_in(plans in vec(plan(), 1..500)) {
        let scratch = Scratch::new("seal-any");
        let mut ts_ns = T;
        let packets: Vec<Made> = plans
            .iter()
            .map(|plan| {
                ts_ns += plan.wait_ns;
                plan.make(ts_ns)
            })
            .collect();
        let (closed, name) = (capture(&["eth0"], &packets, false), name("eth0", &packets));
        let sealed = sealed(scratch.folder(), &closed, &name).unwrap();
        prop_assert_eq!(frames_of(&sealed.data).concat(), closed);
        assert_found(&sealed, &packets);
        let anew = reindex_segment(&sealed.data, &name).unwrap();
        prop_assert_eq!(anew.index, std::fs::read(&sealed.index).unwrap());
    }
}
