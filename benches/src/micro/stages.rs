//! Stages of a broker: what each costs a packet, a batch at a time.
//!
//! A batch holds a packet of each of 256 flows, a microsecond apart. What a row's note names happens
//! to all packets.

use super::{Kind, SIZES};
use crate::row::{Row, Unit};
use crate::timing::time;
use anyhow::Context;
use api::{Action, Anchor, AnonymizeKey, DedupIgnore, Drops, Layer, StageKind, Tags};
use io::{Direction, Interface, InterfaceId, Interfaces, Meta, Now, Packet, Pool};
use pipeline::stage::{Stage, Work, build};
use std::time::Duration;
use wire::LinkType;

pub const BENCH: &str = "stage";

const PACKETS: usize = 256;
const GAP_NS: u64 = 1000;
/// Where a number is put that makes a packet unlike all before: the sequence number of TCP.
const NUMBER_AT: usize = 14 + 20 + 4;

/// The stages that choose among packets, and some of those that change them.
pub fn run(batch: Duration) -> anyhow::Result<Vec<Row>> {
    let interfaces = Interfaces::default();
    interfaces.add(Interface::new(LinkType::ETHERNET.0));
    let mut rows = Vec::new();
    for size in SIZES {
        for (name, note, new, kinds) in cases() {
            let built = kinds.iter().map(|kind| build(kind, &interfaces));
            let mut stages: Vec<Box<dyn Stage>> = built.collect();
            let mut way = Way::new(&Kind::TcpV4.flows(size, PACKETS)?)?;
            let timing = time(batch, || way.go(&mut stages, new)).each(PACKETS);
            let case = format!("{name}, {size} B");
            let row = Row::timed(BENCH, &case, "tapline", Unit::NsPerPacket, timing, |ns| ns);
            rows.push(row.note(note));
        }
    }
    Ok(rows)
}

/// Name; note; whether each packet is unlike all before (otherwise each batch is like the first);
/// stages, one behind the other.
type Case = (&'static str, &'static str, bool, Vec<StageKind>);

fn cases() -> Vec<Case> {
    let all = DedupIgnore { ttl: true, mac: true, vlan: true, checksum: true };
    let window = Duration::from_millis(10);
    let dedup = |ignore| vec![StageKind::Dedup { window, ignore, action: Action::Drop }];
    let sample = |by_flow| vec![StageKind::Sample { n: 1, by_flow }];
    let idle = Duration::from_secs(60);
    let limit = StageKind::RateLimit { pps: Some(1 << 32), bps: Some(1 << 44), burst: window };
    let first = StageKind::First { packets: Some(1), bytes: None, idle };
    let push = StageKind::VlanPush { vid: 5, pcp: None, dei: None, tpid: None };
    let pop = StageKind::VlanPop { tags: Tags::Count(1) };
    let mask = StageKind::Mask { offset: 26, bytes: Some(8), from: None, value: 0 };
    let slice = StageKind::Slice { bytes: 1 << 16, after: Some(Anchor::Transport) };
    let layers = vec![Layer::Vlan, Layer::Mpls, Layer::Vxlan, Layer::Gre, Layer::Geneve];
    let strip = StageKind::Strip { layers };
    let anonymize = StageKind::Anonymize { key: AnonymizeKey([7; 32]) };
    vec![
        ("sample by packet", "goes on", true, sample(false)),
        ("sample by flow", "goes on; with the flow hash", true, sample(true)),
        ("rate limit, pps and bps", "goes on", true, vec![limit]),
        ("dedup", "new", true, dedup(DedupIgnore::default())),
        ("dedup, all ignored", "new", true, dedup(all)),
        ("dedup, all ignored", "duplicate", false, dedup(all)),
        ("first", "behind the first", true, vec![first]),
        ("VLAN push, then pop", "both, in place", true, vec![push, pop]),
        ("mask", "8 bytes", true, vec![mask]),
        ("slice behind transport", "kept whole", true, vec![slice]),
        ("strip", "nothing stands there", true, vec![strip]),
        ("anonymize", "IPv4, addresses kept in mind", true, vec![anonymize]),
    ]
}

/// What a batch goes through.
struct Way {
    packets: Vec<Packet>,
    chosen: Vec<u32>,
    pool: Pool,
    drops: Drops,
    now: Now,
    number: u32,
}

impl Way {
    fn new(frames: &[Vec<u8>]) -> anyhow::Result<Way> {
        let mut pool = Pool::new(2, 1 << 20);
        let packets = frames.iter().map(|frame| packet(&mut pool, frame));
        Ok(Way {
            packets: packets.collect::<Option<_>>().context("the pool is too small")?,
            chosen: Vec::with_capacity(PACKETS),
            pool,
            drops: Drops::default(),
            now: Now { monotonic_ns: 1, utc_ns: 1_700_000_000_000_000_000 },
            number: 0,
        })
    }

    fn go(&mut self, stages: &mut [Box<dyn Stage>], new: bool) {
        for packet in &mut self.packets {
            packet.meta.flow_hash = None;
            if new {
                self.number = self.number.wrapping_add(1);
                packet.data[NUMBER_AT..NUMBER_AT + 4].copy_from_slice(&self.number.to_be_bytes());
                packet.meta.ts_ns += GAP_NS;
                self.now = self.now.after(Duration::from_nanos(GAP_NS));
            }
        }
        self.chosen.clear();
        self.chosen.extend(0..PACKETS as u32);
        for stage in stages {
            stage.apply(&mut Work {
                packets: &mut self.packets,
                chosen: &mut self.chosen,
                pool: &mut self.pool,
                drops: &mut self.drops,
                now: self.now,
            });
        }
    }
}

fn packet(pool: &mut Pool, frame: &[u8]) -> Option<Packet> {
    Some(Packet {
        data: pool.copy(frame)?,
        meta: Meta {
            ts_ns: 1_700_000_000_000_000_000,
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
    })
}
