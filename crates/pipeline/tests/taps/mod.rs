//! What the tests of the tap share: frames, numbered packets, taps over memory, the balance.

#![allow(dead_code, reason = "each test uses its part")]

pub mod frame;

use io::memory::{MemorySink, MemorySource};
use io::{Arrival, Batch, Data, Direction, Error, InterfaceId, Meta, Packet, Sink, Source};
use pipeline::{Input, Report, Tap, Target, TargetGroup, Worker};
use std::os::fd::BorrowedFd;
use wire::LinkType;

/// An Ethernet frame of an IPv4 packet of UDP, checksums left 0.
pub fn udp4(src: ([u8; 4], u16), dst: ([u8; 4], u16), payload: &[u8]) -> Vec<u8> {
    let udp = frame::udp(src.1, dst.1, payload);
    frame::ethernet(0x0800, &frame::ipv4_between(src.0, dst.0, 17, 0, &udp))
}

/// A packet with a number, which stands in its time: no stage and no fault touches that.
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

/// Packets numbered from 0, of 97 flows of which some are each other's other direction.
pub fn packets(count: u64) -> impl Iterator<Item = Packet> {
    (0..count).map(|number| packet(number, &flow_frame(number % 97)))
}

/// A frame of a flow; odd ones are the other direction of the even one before.
pub fn flow_frame(flow: u64) -> Vec<u8> {
    let client = ([10, 0, 0, 1], 1000 + (flow / 2) as u16);
    let server = ([10, 0, 0, 2], 53);
    let (src, dst) = if flow.is_multiple_of(2) { (client, server) } else { (server, client) };
    udp4(src, dst, &[7; 40])
}

/// The numbers that arrived at a sink, in order.
pub fn numbers(sink: &MemorySink) -> Vec<u64> {
    sink.take().iter().map(|packet| packet.meta.ts_ns).collect()
}

pub fn live(packets: impl IntoIterator<Item = Packet>) -> MemorySource {
    MemorySource::new(packets, true)
}

pub fn file(packets: impl IntoIterator<Item = Packet>) -> MemorySource {
    MemorySource::new(packets, false)
}

pub fn input(name: &str, source: impl Source + 'static) -> Input {
    Input { name: name.into(), source: Box::new(source) }
}

pub fn target(name: &str, sink: impl Sink + 'static) -> Target {
    Target::new(name.into(), Box::new(sink))
}

/// A group of one.
pub fn only(name: &str, sink: impl Sink + 'static) -> TargetGroup {
    TargetGroup::new(vec![target(name, sink)], &[1])
}

/// A tap that keeps everything of one source.
pub fn tap(source: impl Source + 'static, groups: Vec<TargetGroup>) -> Tap {
    Tap::new("tap".into(), vec![input("source", source)], groups)
}

/// Runs a tap to its end, which must come without an error, and checks its balance.
pub fn run(tap: Tap) -> Report {
    let worker = Worker::start(tap).expect("a thread for the tap");
    let (report, result) = worker.join();
    result.expect("nothing of the tap fails");
    assert_balances(&report);
    for line in &report.targets {
        assert_eq!(line.queued, 0, "nothing waits behind the end: {line}");
    }
    report
}

/// Asserts that every line of a ledger is balanced.
pub fn assert_balances(report: &Report) {
    let line = report.tap();
    assert_eq!(line.unaccounted, 0, "{line}");
    for line in &report.targets {
        assert_eq!(line.unaccounted, 0, "{line}");
    }
}

/// A live source that gives three packets at a time for as long as it is not stopped.
#[derive(Default)]
pub struct Endless {
    next: u64,
    stopped: bool,
}

impl Source for Endless {
    fn receive(&mut self, batch: &mut Batch) -> Result<Arrival, Error> {
        if self.stopped {
            return Ok(Arrival::End);
        }
        for number in self.next..self.next + 3 {
            batch.push(packet(number, &flow_frame(number % 97)));
        }
        self.next += 3;
        Ok(Arrival::Packets)
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn stop(&mut self) -> Result<(), Error> {
        self.stopped = true;
        Ok(())
    }

    fn drops(&mut self) -> api::Drops {
        api::Drops::default()
    }

    fn is_live(&self) -> bool {
        true
    }
}
