//! What the tests of stages that change packets share: a stage, and packets as a ring, a pool or a
//! file leaves them.

#![allow(dead_code, reason = "each test uses its part")]

pub mod tunnelled;

#[path = "../taps/frame.rs"]
pub mod frame;

use api::{DropReason, Drops, StageKind};
use io::{Data, Direction, HEADROOM, Interface, InterfaceId, Interfaces, Meta, Now, Packet, Pool};
use pipeline::stage::{Step, Work, build};
use wire::LinkType;

/// A packet of its own memory, without room in front.
pub fn packet(link_type: LinkType, frame: &[u8]) -> Packet {
    Packet {
        data: Data::copy_of(frame),
        meta: Meta {
            ts_ns: 7,
            origlen: frame.len() as u32,
            link_type,
            interface: InterfaceId(0),
            direction: Direction::In,
            outer: None,
            packet_id: None,
            gso: None,
            decided: false,
            flow_hash: None,
        },
    }
}

/// An Ethernet frame of which a capture has left out the last `cut` bytes.
pub fn cut(frame: &[u8], cut: usize) -> Packet {
    let mut packet = packet(LinkType::ETHERNET, frame);
    packet.data.truncate(frame.len() - cut);
    packet
}

/// A stage in a step, with a pool and the table of interfaces.
pub struct Shaper {
    step: Step,
    pool: Pool,
    pub interfaces: Interfaces,
}

impl Shaper {
    pub fn new(kind: StageKind) -> Shaper {
        Shaper::with_pool(kind, Pool::new(2, 1 << 20))
    }

    pub fn with_pool(kind: StageKind, pool: Pool) -> Shaper {
        let interfaces = Interfaces::default();
        interfaces.add(Interface::new(LinkType::ETHERNET.0));
        let stage = build(&kind, &interfaces);
        assert!(stage.changes());
        Shaper { step: Step::new("stage".into(), stage), pool, interfaces }
    }

    /// Gives it a batch; what goes on, and what is dropped.
    pub fn batch(&mut self, mut packets: Vec<Packet>) -> (Vec<Packet>, Drops) {
        let mut chosen: Vec<u32> = (0..packets.len() as u32).collect();
        let mut drops = Drops::default();
        self.step.apply(&mut Work {
            packets: &mut packets,
            chosen: &mut chosen,
            pool: &mut self.pool,
            drops: &mut drops,
            now: Now { monotonic_ns: 1, utc_ns: 1 },
        });
        let stats = self.step.stats("map test");
        assert_eq!(stats.received, stats.passed + stats.drops.total());
        let mut position = 0..;
        packets.retain(|_| position.next().is_some_and(|n| chosen.contains(&n)));
        (packets, drops)
    }

    /// Gives it one packet, which goes on.
    pub fn one(&mut self, packet: Packet) -> Packet {
        let (mut packets, drops) = self.batch(vec![packet]);
        assert_eq!((packets.len(), drops.total()), (1, 0));
        packets.remove(0)
    }

    /// The bytes of an Ethernet frame behind it.
    pub fn frame(&mut self, frame: &[u8]) -> Vec<u8> {
        self.one(packet(LinkType::ETHERNET, frame)).data.to_vec()
    }

    pub fn touched(&self) -> u64 {
        self.step.stats("").touched
    }

    /// A copy with room in front.
    pub fn roomy(&mut self, packet: &Packet) -> Packet {
        let copy = packet.copy_into(&mut self.pool).expect("room in the pool");
        assert_eq!(copy.data.headroom(), HEADROOM);
        copy
    }
}

/// Asserts that a packet was dropped for want of memory.
pub fn assert_no_memory((packets, drops): (Vec<Packet>, Drops)) {
    assert_eq!((packets.len(), drops.total()), (0, 1));
    assert_eq!(drops.get(DropReason::PoolExhausted), 1);
}
