//! A pcap-filter expression in our interpreter.

use super::{Kind, SIZES};
use crate::row::{Row, Unit};
use crate::timing::time;
use std::hint::black_box;
use std::time::Duration;
use wire::LinkType;

pub const BENCH: &str = "filter";
const EXPRESSION: &str = "tcp port 80";
const FRAMES: usize = 256;

pub fn run(batch: Duration) -> anyhow::Result<Vec<Row>> {
    if let Err(why) = io::libpcap::version() {
        let why = format!("libpcap cannot be loaded: {why}");
        let row = Row::skipped(BENCH, EXPRESSION, "tapline", Unit::NsPerPacket, Some(why));
        return Ok(vec![row]);
    }
    let program = io::libpcap::compile(EXPRESSION, LinkType::ETHERNET, 0)?;
    let mut rows = Vec::new();
    for (kind, matches) in [(Kind::TcpV4, true), (Kind::UdpV6, false)] {
        // A packet's length does not matter to this program.
        let size = SIZES[0];
        let frames = kind.flows(size, FRAMES)?;
        anyhow::ensure!(frames.iter().all(|f| program.matches(f, size as u32) == matches));
        let timing = time(batch, || {
            for frame in &frames {
                black_box(program.run(black_box(frame), size as u32));
            }
        });
        let verdict = if matches { "matches" } else { "does not match" };
        let case = format!("{EXPRESSION}, {} {verdict}", kind.name());
        let timing = timing.each(FRAMES);
        rows.push(Row::timed(BENCH, &case, "tapline", Unit::NsPerPacket, timing, |ns| ns));
    }
    Ok(rows)
}
