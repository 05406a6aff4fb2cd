//! What the tests of stages share: a stage by itself, and packets to give it.

#[path = "../../tests/taps/frame.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
pub mod frame;

use super::{Stage, Step, Work};
use api::{Drops, StageStats};
use io::{Data, Direction, InterfaceId, Meta, Now, Packet, Pool};
use wire::LinkType;

/// A stage by itself, at a time that the test sets.
pub struct Trial {
    step: Step,
    pool: Pool,
    drops: Drops,
    pub now: Now,
}

impl Trial {
    pub fn new(stage: impl Stage + 'static) -> Trial {
        Trial {
            step: Step::new("stage".into(), Box::new(stage)),
            pool: Pool::new(2, 1 << 16),
            drops: Drops::default(),
            now: Now { monotonic_ns: 1_000_000_000, utc_ns: 1_700_000_000_000_000_000 },
        }
    }

    /// Gives it a batch; the numbers, that is the times, of the packets that go on.
    pub fn run(&mut self, packets: impl IntoIterator<Item = Packet>) -> Vec<u64> {
        let mut packets: Vec<Packet> = packets.into_iter().collect();
        let mut chosen: Vec<u32> = (0..packets.len() as u32).collect();
        self.step.apply(&mut Work {
            packets: &mut packets,
            chosen: &mut chosen,
            pool: &mut self.pool,
            drops: &mut self.drops,
            now: self.now,
        });
        let stats = self.stats();
        assert_eq!(stats.received, stats.passed + stats.drops.total(), "{stats}");
        assert_eq!(stats.drops, self.drops);
        chosen.iter().map(|&position| packets[position as usize].meta.ts_ns).collect()
    }

    pub fn drops(&self) -> Drops {
        self.drops
    }

    pub fn stats(&self) -> StageStats {
        self.step.stats("map test")
    }
}

/// A packet with a number, which stands in its time.
pub fn packet(number: u64, frame: &[u8]) -> Packet {
    Packet {
        data: Data::copy_of(frame),
        meta: Meta {
            ts_ns: number,
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
    }
}

/// An Ethernet frame of an IPv4 packet of UDP, checksums left 0.
pub fn udp4(src: ([u8; 4], u16), dst: ([u8; 4], u16), payload: &[u8]) -> Vec<u8> {
    let udp = frame::udp(src.1, dst.1, payload);
    frame::ethernet(0x0800, &frame::ipv4_between(src.0, dst.0, 17, 0, &udp))
}
