//! Prints what it costs to send a frame through an interface or into a TAP device here, as root:
//! `cargo run --release -p io --example devices`.
//!
//! CPU time of the sending thread, which on a veth and a TAP includes the receiving side up to the
//! ring of who captures there. Best of five rounds. Nothing leaves two network namespaces without a
//! name.

use io::netns::Netns;
use io::nic::NicSink;
use io::ring::{Handover, KernelFilter, RingOptions, RingSize, RingSource};
use io::tun::TapSink;
use io::{Data, Direction, InterfaceId, Interfaces, Meta, Packet, Selection, Sink};
use std::error::Error;
use wire::LinkType;

const ROUNDS: usize = 5;
const BATCHES: usize = 400;
const BATCH_PACKETS: u32 = 256;

fn main() -> Result<(), Box<dyn Error>> {
    let (here, there) = (Netns::new()?, Netns::new()?);
    here.join("right", &there, "left")?;
    for bytes in [64, 512, 1514] {
        let (mut nic, mut tap) =
            here.run(|| (NicSink::open("right"), TapSink::open("watch", None)))?;
        let nic = ns(nic.as_mut().map_err(|e| e.to_string())?, bytes)?;
        let tap = tap.as_mut().map_err(|e| e.to_string())?;
        let alone = ns(tap, bytes)?;
        let analyser = here.run(|| analyser("watch"))??;
        let watched = ns(tap, bytes)?;
        drop(analyser);
        println!(
            "{bytes:5} B   nic {nic:5.0} ns   tap {alone:5.0} ns   tap, captured on {watched:5.0} ns"
        );
    }
    Ok(())
}

/// A ring that takes what fits into it and is not read: the rest is lost there, as fast.
fn analyser(device: &str) -> Result<RingSource, io::Error> {
    let options = RingOptions {
        interface: device.into(),
        netns: None,
        promiscuous: false,
        ring_size: RingSize::Bytes(512 << 20),
        handover: Handover::Relaxed,
        snaplen: 0,
        filter: KernelFilter::Absent,
    };
    RingSource::open(&options, &Interfaces::default())
}

/// CPU time for a frame.
fn ns(sink: &mut impl Sink, bytes: usize) -> Result<f64, Box<dyn Error>> {
    let packets: Vec<Packet> = (0..BATCH_PACKETS).map(|_| packet(bytes)).collect();
    let chosen: Vec<u32> = (0..BATCH_PACKETS).collect();
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let (begun, sent) = (cpu_ns()?, sink.counters().sent);
        for _ in 0..BATCHES {
            let mut rest = Selection::new(&packets, &chosen);
            while !rest.is_empty() {
                rest = rest.skip(sink.send(rest));
            }
        }
        let sent = sink.counters().sent - sent;
        best = best.min((cpu_ns()? - begun) as f64 / sent.max(1) as f64);
    }
    Ok(best)
}

fn packet(bytes: usize) -> Packet {
    let mut frame = vec![2, 0x71, 0, 0, 0, 1, 2, 0x71, 0, 0, 0, 2, 0x88, 0xb5];
    frame.resize(bytes, 0);
    let meta = Meta {
        ts_ns: 1,
        origlen: bytes as u32,
        link_type: LinkType::ETHERNET,
        interface: InterfaceId(0),
        direction: Direction::Unknown,
        outer: None,
        packet_id: None,
        gso: None,
        decided: false,
        flow_hash: None,
    };
    Packet { data: Data::copy_of(&frame), meta }
}

/// CPU time of this thread so far, of which the scheduler keeps account.
fn cpu_ns() -> Result<u64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split(' ').next().unwrap_or_default().parse()?)
}
