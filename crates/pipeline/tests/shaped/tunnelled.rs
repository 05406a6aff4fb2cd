//! Frames inside of tunnels, over every carrier and both versions of IP.

use wire::decap::Found;
use wire::encap::{HEADER_LEN_MAX, Told};
use wire::metadata::Lane;
use wire::tunnel::{Carrier, Encap, Erspan, Gre};
use wire::{Direction, LinkType, Vni};

/// When a packet was captured, as the tunnels that tell it have it.
pub const TOLD_NS: u64 = 1_700_000_000_123_456_789;

/// Every tunnel that can be stripped, with all that it may carry and without.
pub fn encaps() -> Vec<Encap> {
    let vni = Vni::new(71).expect("fits 24 bits");
    let gre = Gre { key: Some(500), checksum: true, sequence: true };
    let (session, hardware) = (21, 1);
    vec![
        Encap::Vxlan { vni },
        Encap::Geneve { vni, metadata: false },
        Encap::Geneve { vni, metadata: true },
        Encap::Gre(Gre::default()),
        Encap::Gre(gre),
        Encap::Gretap(Gre::default()),
        Encap::Gretap(gre),
        Encap::Erspan(Erspan::I),
        Encap::Erspan(Erspan::II { session, index: 7 }),
        Encap::Erspan(Erspan::III { session, hardware, seconds: false }),
        Encap::Erspan(Erspan::III { session, hardware, seconds: true }),
    ]
}

/// The frame in such a tunnel, over each carrier and version of IP; each with what is in the tunnel.
pub fn frames(encap: &Encap, frame: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let kind = encap.tunnel().kind;
    let by_ip = kind.protocol().map(|protocol| Carrier::Ip { protocol });
    let carriers = [Some(Carrier::Udp { port: kind.port() }), by_ip].into_iter().flatten();
    let lane = Lane { epoch: 1, tap: 2, target: 3, lane: 4 };
    let origlen = frame.len() as u32;
    let told = Told { origlen, ts_ns: TOLD_NS, direction: Direction::Out, lane };
    let fit = encap.fit(LinkType::ETHERNET, frame).expect("the tunnel carries it");
    let payload = &frame[fit.at..fit.end];
    carriers
        .flat_map(|carrier| [(carrier, false), (carrier, true)])
        .map(|(carrier, is_ipv6)| {
            let mut header = [0xa5; HEADER_LEN_MAX];
            encap.emit(&mut header, carrier, &fit, payload, &told, 9);
            let tunnel = [&header[..encap.header_len(carrier)], payload].concat();
            let (protocol, carried) = match carrier {
                Carrier::Ip { protocol } => (protocol, tunnel),
                Carrier::Udp { port } => (17, super::frame::udp(50_000, port, &tunnel)),
            };
            let outer = match is_ipv6 {
                true => super::frame::ethernet(0x86dd, &super::frame::ipv6(protocol, &carried)),
                false => super::frame::ethernet(0x0800, &super::frame::ipv4(protocol, &carried)),
            };
            (outer, payload.to_vec())
        })
        .collect()
}

/// The tunnel of a frame.
pub fn found(frame: &[u8]) -> Found {
    let found = wire::decap::Rules::default().in_frame(LinkType::ETHERNET, frame);
    found.expect("headers are whole").expect("a tunnel")
}
