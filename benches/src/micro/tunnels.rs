//! Putting a frame into a tunnel and taking it out again: the header alone, as nothing is copied.

use super::{Kind, SIZES};
use crate::row::{Row, Unit};
use crate::timing::time;
use std::hint::black_box;
use std::time::Duration;
use wire::decap::Rules;
use wire::encap::{HEADER_LEN_MAX, Told};
use wire::metadata::Lane;
use wire::tunnel::{Carrier, Encap, Erspan, Gre, L2tp, L2tpFormat};
use wire::{Direction, LinkType, Vni};

pub const ENCAP: &str = "encap";
pub const DECAP: &str = "decap";
/// Flows in turn, so that no branch is learnt from one frame.
const FRAMES: usize = 256;

/// Writes the header of each tunnel.
pub fn encap(batch: Duration) -> anyhow::Result<Vec<Row>> {
    each_tunnel(ENCAP, |tunnel, frames| {
        let mut header = [0; HEADER_LEN_MAX];
        time(batch, || {
            for (sequence, frame) in (0..).zip(frames) {
                black_box(tunnel.write(&mut header, black_box(frame), sequence));
                black_box(&header);
            }
        })
    })
}

/// Reads what a tunnel's socket gives, and finds the frame.
pub fn decap(batch: Duration) -> anyhow::Result<Vec<Row>> {
    each_tunnel(DECAP, |tunnel, frames| {
        let packets: Vec<Vec<u8>> = (0..).zip(frames).map(|(n, f)| tunnel.packet(f, n)).collect();
        let rules = Rules::default().with_l2tp(L2tpFormat::default());
        let kind = tunnel.encap.tunnel().kind;
        time(batch, || {
            for packet in &packets {
                let packet = black_box(&packet[..]);
                let found = match tunnel.carrier {
                    Carrier::Udp { .. } => rules.in_udp(kind, packet),
                    Carrier::Ip { .. } => rules.in_ip(kind, packet),
                };
                let _ = black_box(found);
            }
        })
    })
}

fn each_tunnel(
    bench: &str,
    mut run: impl FnMut(&Tunnel, &[Vec<u8>]) -> crate::timing::Timing,
) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for tunnel in tunnels() {
        for size in SIZES {
            let frames = Kind::TcpV4.flows(size, FRAMES)?;
            let timing = run(&tunnel, &frames).each(FRAMES);
            let case = format!("{}, {size} B", tunnel.name);
            rows.push(Row::timed(bench, &case, "tapline", Unit::NsPerPacket, timing, |ns| ns));
        }
    }
    Ok(rows)
}

struct Tunnel {
    name: &'static str,
    carrier: Carrier,
    encap: Encap,
}

impl Tunnel {
    /// Writes the header that goes in front of a frame; returns its length.
    fn write(&self, header: &mut [u8], frame: &[u8], sequence: u32) -> usize {
        let lane = Lane { epoch: 1, tap: 1, target: 0, lane: 0 };
        let origlen = frame.len() as u32;
        let told =
            Told { origlen, ts_ns: 1_700_000_000_000_000_000, direction: Direction::In, lane };
        if let Some(fit) = self.encap.fit(LinkType::ETHERNET, frame) {
            let payload = &frame[fit.at..fit.end];
            self.encap.emit(header, self.carrier, &fit, payload, &told, sequence);
        }
        self.encap.header_len(self.carrier)
    }

    /// A whole packet, from behind the IP or UDP header.
    fn packet(&self, frame: &[u8], sequence: u32) -> Vec<u8> {
        let mut packet = vec![0; HEADER_LEN_MAX];
        let len = self.write(&mut packet, frame, sequence);
        packet.truncate(len);
        let at = self.encap.fit(LinkType::ETHERNET, frame).map_or(0, |fit| fit.at);
        packet.extend_from_slice(&frame[at..]);
        packet
    }
}

fn tunnels() -> [Tunnel; 10] {
    let vni = Vni::from_be_bytes([0, 0, 71]);
    let udp = |port| Carrier::Udp { port };
    let gre = Carrier::Ip { protocol: 47 };
    let keyed = Gre { key: Some(500), ..Gre::default() };
    let l2tp = L2tp { session: 9, format: L2tpFormat::default(), sequence: false };
    let tunnel = |name, carrier, encap| Tunnel { name, carrier, encap };
    [
        tunnel("VXLAN", udp(4789), Encap::Vxlan { vni }),
        tunnel("GENEVE", udp(6081), Encap::Geneve { vni, metadata: false }),
        tunnel("GENEVE, metadata", udp(6081), Encap::Geneve { vni, metadata: true }),
        tunnel("GRE, key", gre, Encap::Gre(keyed)),
        tunnel("GRETAP, key", gre, Encap::Gretap(keyed)),
        tunnel("GRETAP, checksum", gre, Encap::Gretap(Gre { checksum: true, ..keyed })),
        tunnel("ERSPAN I", gre, Encap::Erspan(Erspan::I)),
        tunnel("ERSPAN II", gre, Encap::Erspan(Erspan::II { session: 5, index: 1 })),
        tunnel(
            "ERSPAN III",
            gre,
            Encap::Erspan(Erspan::III { session: 5, hardware: 0, seconds: true }),
        ),
        tunnel("L2TPv3", Carrier::Ip { protocol: 115 }, Encap::L2tp(l2tp)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::decap::Content;

    #[test]
    fn what_is_timed_finds_the_frame() {
        let frame = Kind::TcpV4.frame(512, 7).unwrap();
        for tunnel in tunnels() {
            let packet = tunnel.packet(&frame, 3);
            let rules = Rules::default().with_l2tp(L2tpFormat::default());
            let kind = tunnel.encap.tunnel().kind;
            let found = match tunnel.carrier {
                Carrier::Udp { .. } => rules.in_udp(kind, &packet),
                Carrier::Ip { .. } => rules.in_ip(kind, &packet),
            };
            let Content::Packet(inner) = found.unwrap().content else {
                panic!("{}", tunnel.name);
            };
            let at = if tunnel.encap.tunnel().kind == wire::tunnel::Kind::Gre { 14 } else { 0 };
            assert_eq!(
                packet[inner.at as usize..inner.end as usize],
                frame[at..],
                "{}",
                tunnel.name
            );
        }
    }
}
