//! Walking a frame and hashing its flow; beside etherparse's lax slices, which hash nothing.

use super::{Kind, SIZES};
use crate::row::{Row, Unit, compare};
use crate::timing::time;
use std::hint::black_box;
use std::time::Duration;
use wire::LinkType;
use wire::flow::flow_hash;
use wire::walk::Walk;

pub const BENCH: &str = "parse + flow hash";
/// Flows in turn, so that no branch is learnt from one frame.
const FRAMES: usize = 256;

pub fn run(batch: Duration) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for kind in Kind::ALL {
        for size in SIZES {
            let case = format!("{}, {size} B", kind.name());
            let frames = kind.flows(size, FRAMES)?;
            let walk = time(batch, || {
                for frame in &frames {
                    let walk = Walk::new(LinkType::ETHERNET, black_box(frame));
                    black_box(flow_hash(&walk, frame));
                }
            });
            let peer = time(batch, || {
                for frame in &frames {
                    let _ = black_box(etherparse::LaxSlicedPacket::from_ethernet(black_box(frame)));
                }
            });
            let row = |subject, timing| {
                Row::timed(BENCH, &case, subject, Unit::NsPerPacket, timing, |ns| ns)
            };
            let mut pair = [
                row("tapline", walk.each(FRAMES)),
                row("etherparse lax", peer.each(FRAMES)).note("slices only, no hash"),
            ];
            compare(&mut pair);
            rows.extend(pair);
        }
    }
    Ok(rows)
}
