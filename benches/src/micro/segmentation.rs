//! Cutting a 64 kB TCP super-packet into the wire's packets, checksums and all.

use crate::row::{Row, Unit};
use crate::timing::time;
use etherparse::PacketBuilder;
use std::hint::black_box;
use std::time::Duration;
use wire::LinkType;
use wire::segment::{Gso, GsoKind, Plan};

pub const BENCH: &str = "segmentation";
/// Payload of one segment at an MTU of 1500, with TCP timestamps.
const SEGMENT_BYTES: u16 = 1448;
/// Payload of the super-packet: 45 segments, near the 64 kB that IP's length allows.
const PAYLOAD_BYTES: usize = 45 * SEGMENT_BYTES as usize;

pub fn run(batch: Duration) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let kinds = [("TCP/IPv4", GsoKind::TcpV4, 34), ("TCP/IPv6", GsoKind::TcpV6, 54)];
    for (name, kind, csum_start) in kinds {
        let gso = Gso { kind, size: SEGMENT_BYTES, csum_start, csum_offset: 16 };
        let frame = super_packet(kind)?;
        let mut out = vec![0; frame.len()];
        let mut segments = 0;
        let timing = time(batch, || {
            let plan = Plan::new(LinkType::ETHERNET, black_box(&frame), &gso)
                .expect("a whole super-packet of this kind");
            segments = plan.count();
            for segment in 0..segments {
                plan.emit(&frame, segment, &mut out[..plan.segment_len(segment)]);
                black_box(&out);
            }
        });
        let case = format!("{name}, {PAYLOAD_BYTES} B in {segments}");
        let bytes_per_us = |ns: f64| PAYLOAD_BYTES as f64 * 1e3 / ns;
        rows.push(
            Row::timed(BENCH, &case, "tapline", Unit::MegaBytes, timing, bytes_per_us)
                .note(&format!("{:.0} ns a segment", timing.each(segments).median_ns)),
        );
    }
    Ok(rows)
}

fn super_packet(kind: GsoKind) -> anyhow::Result<Vec<u8>> {
    let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let ip = match kind {
        GsoKind::TcpV6 => ethernet.ipv6([0x20; 16], [0x30; 16], 64),
        _ => ethernet.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64),
    };
    let mut frame = Vec::new();
    ip.tcp(1024, 80, 1, 500).write(&mut frame, &[0x5a; PAYLOAD_BYTES])?;
    Ok(frame)
}
