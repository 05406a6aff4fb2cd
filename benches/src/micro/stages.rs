//! Stages of a broker: what each costs a packet, a batch at a time.
//!
//! A batch holds a packet of each of 256 flows, a microsecond apart. What a row's note names happens
//! to all packets.

use super::{Kind, SIZES};
use crate::row::{Row, Unit};
use crate::timing::time;
use api::{Action, DedupIgnore, Drops};
use io::{Data, Direction, InterfaceId, Meta, Now, Packet, Pool};
use pipeline::stage::{Dedup, FLOWS_MAX, First, RateLimit, Sample, Stage, Work};
use std::time::Duration;
use wire::LinkType;

pub const BENCH: &str = "stage";

const PACKETS: usize = 256;
const GAP_NS: u64 = 1000;
/// Where a number is put that makes a packet unlike all before: the sequence number of TCP.
const NUMBER_AT: usize = 14 + 20 + 4;

/// Each stage that chooses among packets.
pub fn run(batch: Duration) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for size in SIZES {
        for Case { name, note, new, mut stage } in cases() {
            let mut way = Way::new(&Kind::TcpV4.flows(size, PACKETS)?);
            let timing = time(batch, || way.go(stage.as_mut(), new)).each(PACKETS);
            let case = format!("{name}, {size} B");
            let row = Row::timed(BENCH, &case, "tapline", Unit::NsPerPacket, timing, |ns| ns);
            rows.push(row.note(note));
        }
    }
    Ok(rows)
}

struct Case {
    name: &'static str,
    note: &'static str,
    /// Whether each packet is unlike all before; otherwise each batch is like the first.
    new: bool,
    stage: Box<dyn Stage>,
}

fn cases() -> Vec<Case> {
    let case = |name, note, new, stage| Case { name, note, new, stage };
    let all = DedupIgnore { ttl: true, mac: true, vlan: true, checksum: true };
    let window = Duration::from_millis(10);
    let dedup = |ignore| Box::new(Dedup::new(window, ignore, Action::Drop));
    let idle = Duration::from_secs(60);
    vec![
        case("sample by packet", "goes on", true, Box::new(Sample::packets(1))),
        case("sample by flow", "goes on; with the flow hash", true, Box::new(Sample::flows(1))),
        case(
            "rate limit, pps and bps",
            "goes on",
            true,
            Box::new(RateLimit::new(Some(1 << 32), Some(1 << 44), window)),
        ),
        case("dedup", "new", true, dedup(DedupIgnore::default())),
        case("dedup, all ignored", "new", true, dedup(all)),
        case("dedup, all ignored", "duplicate", false, dedup(all)),
        case(
            "first",
            "behind the first",
            true,
            Box::new(First::new(Some(1), None, idle, FLOWS_MAX)),
        ),
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
    fn new(frames: &[Vec<u8>]) -> Way {
        Way {
            packets: frames.iter().map(|frame| packet(frame)).collect(),
            chosen: Vec::with_capacity(PACKETS),
            pool: Pool::new(2, 1 << 20),
            drops: Drops::default(),
            now: Now { monotonic_ns: 1, utc_ns: 1_700_000_000_000_000_000 },
            number: 0,
        }
    }

    fn go(&mut self, stage: &mut dyn Stage, new: bool) {
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
        stage.apply(&mut Work {
            packets: &mut self.packets,
            chosen: &mut self.chosen,
            pool: &mut self.pool,
            drops: &mut self.drops,
            now: self.now,
        });
    }
}

fn packet(frame: &[u8]) -> Packet {
    Packet {
        data: Data::copy_of(frame),
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
    }
}
