//! What comes out of L2TP tunnels, tunnel by tunnel: a source behind the one that takes packets out of
//! them.
//!
//! ```text
//! tunnel packets ─► decap ─► id known? ── no ──► dropped: foreign_id
//!                               └ yes ─► counted ─► sign of life? ── no ─► packet
//!                                                        └ yes: taken out, no packet of the traffic
//! ```

use super::tunnels::{Counters, Share, Tunnels};
use api::{DropReason, Drops};
use io::{Arrival, Batch, Error, Now, Outer, Packet, Screening, Source};
use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;
use wire::LinkType;
use wire::l2tp::KeepAlive;
use wire::sequence::Counts;

const ETHERNET_HEADER_LEN: usize = 14;

/// The packets of the tunnels that are known.
pub struct Sessions {
    source: Box<dyn Source>,
    /// What the source delivered.
    outer: Batch,
    tunnels: Arc<Tunnels>,
    /// The version of the table that is in use, and that table.
    version: u64,
    known: HashMap<u32, Known>,
    drops: Drops,
}

/// A tunnel that is known.
struct Known {
    counters: Arc<Counters>,
    /// The outer source of its last packet.
    source: Option<IpAddr>,
}

impl Sessions {
    /// Of a source whose packets say which tunnel they came out of.
    pub fn new(source: Box<dyn Source>, tunnels: Arc<Tunnels>) -> Sessions {
        Sessions {
            source,
            outer: Batch::new(),
            tunnels,
            version: 0,
            known: HashMap::new(),
            drops: Drops::default(),
        }
    }

    /// Hands on what is of a tunnel that is known.
    fn sort(&mut self, batch: &mut Batch) {
        if let Some(by_id) = self.tunnels.newer(&mut self.version) {
            let known = |counters| Known { counters, source: None };
            self.known = by_id.map(|(id, counters)| (id, known(counters))).collect();
        }
        let now_ns = Now::read().monotonic_ns;
        let Sessions { outer, known, drops, .. } = self;
        // Most packets are of the same tunnel as the one before.
        let mut current: Option<(u32, &mut Known)> = None;
        let mut share = Share::default();
        for packet in outer.drain() {
            let Some((id, source)) = tunnel_of(&packet) else {
                drops.add(DropReason::ForeignId);
                continue;
            };
            if current.as_ref().is_none_or(|(of, _)| *of != id) {
                if let Some((_, tunnel)) = current.take() {
                    tunnel.counters.add(std::mem::take(&mut share), now_ns);
                }
                current = known.get_mut(&id).map(|tunnel| (id, tunnel));
            }
            let Some((_, tunnel)) = &mut current else {
                drops.add(DropReason::ForeignId);
                continue;
            };
            if tunnel.source != Some(source) {
                tunnel.source = Some(source);
                tunnel.counters.set_source(source);
            }
            match is_keep_alive(&packet) {
                Ok(true) => share.keep_alives += 1,
                Ok(false) => {
                    share.packets += 1;
                    share.bytes += u64::from(packet.meta.origlen);
                    batch.push(packet);
                }
                Err(reason) => {
                    share.errors += 1;
                    drops.add(reason);
                }
            }
        }
        if let Some((_, tunnel)) = current {
            tunnel.counters.add(share, now_ns);
        }
    }
}

/// The id of the tunnel that a packet came out of, and who sent it.
fn tunnel_of(packet: &Packet) -> Option<(u32, IpAddr)> {
    let outer = packet.meta.outer?;
    Some((outer.tunnel.id?, outer.source))
}

/// Whether a packet is a sign of life.
fn is_keep_alive(packet: &Packet) -> Result<bool, DropReason> {
    match packet.meta.link_type {
        LinkType::ETHERNET if packet.data.len() >= ETHERNET_HEADER_LEN => {
            Ok(KeepAlive::parse(&packet.data).is_some())
        }
        LinkType::ETHERNET => Err(DropReason::TooShort),
        _ => Err(DropReason::LinkType),
    }
}

impl Source for Sessions {
    fn receive(&mut self, batch: &mut Batch) -> Result<Arrival, Error> {
        let arrival = self.source.receive(&mut self.outer);
        self.sort(batch);
        arrival
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.source.readiness()
    }

    fn gather(&self) -> Duration {
        self.source.gather()
    }

    fn stop(&mut self) -> Result<(), Error> {
        self.source.stop()
    }

    fn drops(&mut self) -> Drops {
        let mut drops = self.source.drops();
        drops.merge(&self.drops);
        drops
    }

    fn missing(&self) -> u64 {
        self.source.missing()
    }

    fn screening(&mut self) -> Screening {
        self.source.screening()
    }

    fn streams(&self) -> Vec<(Outer, Counts)> {
        self.source.streams()
    }

    fn is_live(&self) -> bool {
        self.source.is_live()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use io::memory::MemorySource;
    use io::{Direction, InterfaceId, Meta, Pool};
    use std::path::Path;
    use wire::l2tp::Ends;
    use wire::tunnel::{Kind, Tunnel};

    fn packet(id: u32, source: &str, frame: &[u8]) -> Packet {
        let data = Pool::new(1, 4096).copy(frame).unwrap();
        let tunnel = Tunnel { kind: Kind::L2tp, id: Some(id) };
        let meta = Meta {
            ts_ns: 1,
            origlen: frame.len() as u32,
            link_type: LinkType::ETHERNET,
            interface: InterfaceId(0),
            direction: Direction::Unknown,
            outer: Some(Outer { tunnel, source: source.parse().unwrap() }),
            packet_id: None,
            gso: None,
            decided: false,
            flow_hash: None,
        };
        Packet { data, meta }
    }

    fn keep_alive(id: u32) -> Vec<u8> {
        let ends = Ends::new("10.0.0.2".parse().unwrap(), "10.0.0.1".parse().unwrap()).unwrap();
        let sign = KeepAlive { ends, session: id, number: 0 };
        let mut frame = vec![0; sign.frame_len()];
        sign.emit(&mut frame);
        frame
    }

    #[test]
    fn each_tunnel_counts_its_own_and_strangers_are_dropped() {
        let lines = b"10.0.0.1 10.0.0.2 - 1.0.0.1\n10.0.0.1 10.0.0.3 - 2";
        let wanted = api::parse_l2tp_receive(Path::new("x"), lines).unwrap();
        let tunnels = Arc::new(Tunnels::new("mtun", Duration::from_secs(60)));
        tunnels.set(&wanted, 0);
        let frame = [7; 60];
        let mut unknown = packet(0x0100_0001, "10.0.0.2", &frame);
        unknown.meta.outer = None;
        let packets = [
            packet(0x0100_0001, "10.0.0.2", &frame),
            packet(0x0100_0001, "10.0.0.2", &frame),
            packet(2, "0.0.0.2", &keep_alive(2)),
            packet(3, "10.0.0.9", &frame),
            packet(0x0100_0001, "192.168.0.1", &frame),
            packet(2, "0.0.0.2", &[1; 13]),
            packet(3, "10.0.0.9", &keep_alive(3)),
            unknown,
        ];
        let source = Box::new(MemorySource::new(packets, true));
        let mut sessions = Sessions::new(source, Arc::clone(&tunnels));
        let mut batch = Batch::new();
        assert_eq!(sessions.receive(&mut batch).unwrap(), Arrival::End);
        assert_eq!(batch.len(), 3);
        assert!(batch.packets().iter().all(|packet| *packet.data == frame));
        let drops = sessions.drops();
        let count = |reason| drops.get(reason);
        assert_eq!((count(DropReason::ForeignId), count(DropReason::TooShort)), (3, 1));
        let stats = tunnels.stats(0);
        let shown: Vec<_> =
            stats.iter().map(|t| (t.packets, t.bytes, t.errors, t.keep_alives, t.nat)).collect();
        assert_eq!(shown, [(3, 180, 0, Some(0), Some(true)), (0, 0, 1, Some(1), None)]);
        assert_eq!(stats[0].source, "192.168.0.1".parse().ok());
    }

    #[test]
    fn a_change_counts_from_the_next_batch_on() {
        let tunnels = Arc::new(Tunnels::new("mtun", Duration::from_secs(60)));
        let packets = (0..600).map(|_| packet(5, "10.0.0.2", &[7; 60]));
        let source = Box::new(MemorySource::new(packets, true));
        let mut sessions = Sessions::new(source, Arc::clone(&tunnels));
        let mut batch = Batch::new();
        sessions.receive(&mut batch).unwrap();
        assert_eq!(batch.len(), 0, "nothing is known yet");
        let wanted = api::parse_l2tp_receive(Path::new("x"), b"10.0.0.1 10.0.0.2 - 5").unwrap();
        tunnels.set(&wanted, 0);
        sessions.receive(&mut batch).unwrap();
        let came = batch.len() as u64;
        assert!(came > 0);
        assert_eq!(sessions.drops().get(DropReason::ForeignId), io::BATCH_PACKETS as u64);
        assert_eq!(tunnels.stats(0)[0].packets, came);
        tunnels.set(&[], 0);
        batch.clear();
        sessions.receive(&mut batch).unwrap();
        assert_eq!(batch.len(), 0);
    }
}
