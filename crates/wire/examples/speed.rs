//! Prints what the hot functions of `wire` cost here: `cargo run --release -p wire --example speed`.
//!
//! Best of nine rounds, one thread, data in cache. etherparse's lax slices stand beside the walk.

use std::hint::black_box;
use std::time::Instant;
use wire::flow::flow_hash;
use wire::segment::{Gso, GsoKind, Plan, complete_checksum};
use wire::walk::Walk;
use wire::{LinkType, checksum};

const ROUNDS: usize = 9;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (name, v6, tags) in
        [("TCP/IPv4", false, 0), ("TCP/IPv4, tag", false, 1), ("TCP/IPv6", true, 0)]
    {
        let frames: Vec<_> =
            (0..1024).map(|port| tcp(v6, tags, port, &[])).collect::<Result<_, _>>()?;
        let walk = ns(1 << 20, |i| {
            let frame = black_box(&frames[i % frames.len()]);
            let walk = Walk::new(LinkType::ETHERNET, frame);
            black_box(flow_hash(&walk, frame));
        });
        let peer = ns(1 << 20, |i| {
            let frame = black_box(&frames[i % frames.len()]);
            let _ = black_box(etherparse::LaxSlicedPacket::from_ethernet(frame));
        });
        println!("walk + flow hash  {name:14} {walk:6.1} ns   (etherparse, no hash: {peer:.1} ns)");
    }
    let bytes = vec![0x5a; 1 << 16];
    for len in [20, 64, 1460, 1 << 16] {
        let t = ns(1 << 14, |_| {
            black_box(checksum::of(black_box(&bytes[..len])));
        });
        println!("checksum          {len:8} bytes {t:6.0} ns   {:6.0} MB/s", len as f64 * 1e3 / t);
    }
    let payload = &bytes[..60_000];
    let mut frame = tcp(false, 0, 1, payload)?;
    let mut out = vec![0; frame.len()];
    for size in [536, 1448, 8948] {
        let gso = Gso { kind: GsoKind::TcpV4, size, csum_start: 34, csum_offset: 16 };
        let count = Plan::new(LinkType::ETHERNET, &frame, &gso)?.count();
        let t = ns(1 << 10, |_| {
            if let Ok(plan) = Plan::new(LinkType::ETHERNET, black_box(&frame), &gso) {
                for i in 0..plan.count() {
                    plan.emit(&frame, i, &mut out[..plan.segment_len(i)]);
                }
            }
            black_box(&out);
        });
        let (each, rate) = (t / count as f64, payload.len() as f64 * 1e3 / t);
        println!("segmentation      {size:8} bytes {each:6.0} ns   {rate:6.0} MB/s");
    }
    let t = ns(1 << 10, |_| {
        let _ = black_box(complete_checksum(black_box(&mut frame), 34, 16));
    });
    println!("complete checksum {:8} bytes {t:6.0} ns", frame.len());
    Ok(())
}

fn tcp(
    v6: bool,
    tags: u8,
    port: u16,
    payload: &[u8],
) -> Result<Vec<u8>, etherparse::err::packet::BuildWriteError> {
    let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]);
    let ip = if v6 {
        builder.ipv6([0x20; 16], [0x30; 16], 64)
    } else {
        builder.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
    };
    let mut frame = Vec::new();
    ip.tcp(port, 443, 1, 500).write(&mut frame, payload)?;
    for _ in 0..tags {
        frame.splice(12..12, [0x81, 0, 0, 5]);
    }
    Ok(frame)
}

/// The least time of one call, over rounds of `calls`.
fn ns(calls: usize, mut f: impl FnMut(usize)) -> f64 {
    let round = |_| {
        let start = Instant::now();
        (0..calls).for_each(&mut f);
        start.elapsed().as_nanos() as f64 / calls as f64
    };
    (0..ROUNDS).map(round).fold(f64::MAX, f64::min)
}
