//! What the reader does with files that lie: a fuzz target, in the manner of `crates/wire/tests/fuzz`.

#[path = "../reading/mod.rs"]
mod reading;

use capfile::{Endian, Error, Reader};
use reading::by_hand::{File, every_block};
use reading::{Packet, read_all};
use std::io::{self, Read};
use std::time::Duration;

#[test]
fn fuzz_reader() {
    let check = bolero::check!().with_iterations(2_000).with_test_time(Duration::from_secs(120));
    check.for_each(|bytes: &[u8]| reader(bytes));
}

#[test]
fn every_lie_and_every_cut() {
    let mut pcap = File::pcap(Endian::Big, 0xa1b2_3c4d, 1);
    pcap.record(1, 2, 3, b"abc").record(4, 5, 6, b"").record(7, 8, 900, &[9; 20]);
    for seed in [pcap.bytes, every_block().bytes] {
        for at in 0..seed.len() {
            reader(&seed[..at]);
            let mut lying = seed.clone();
            for lie in [0x00, 0x01, 0x04, 0x0f, 0x7f, 0x80, 0xff] {
                lying[at] = lie;
                reader(&lying);
            }
        }
    }
}

// The same comes out however the bytes arrive, and no more than there are bytes for.
fn reader(bytes: &[u8]) {
    let (packets, end, good_offset) = everything(bytes);
    assert!(good_offset <= bytes.len() as u64);
    assert!(packets.len() * SHORTEST <= bytes.len());
    let data: usize = packets.iter().map(|packet| packet.data.len()).sum();
    assert!(data <= bytes.len());
    assert_eq!(everything(Trickle(bytes)), (packets, end, good_offset));
}

/// A Simple Packet Block without data is 16 bytes long, and so is a pcap record.
const SHORTEST: usize = 16;

fn everything<R: Read>(stream: R) -> (Vec<Packet>, String, u64) {
    let mut reader = match Reader::new(stream) {
        Ok(reader) => reader,
        Err(e) => return (Vec::new(), e.to_string(), 0),
    };
    let mut packets = Vec::new();
    let end = loop {
        match reader.next() {
            Ok(Some(record)) => {
                for (code, value) in record.options.iter() {
                    assert!(record.options.get(code).is_some_and(|first| first.len() <= 0xffff));
                    assert!(value.len() <= 0xffff);
                }
                packets.push(Packet::from(record));
            }
            Ok(None) => break format!("{:?}", reader.warning()),
            Err(e) => {
                // It stays where it is.
                let again = read_all(&mut reader).map_err(|e: Error| e.to_string());
                assert_eq!(again, Err(e.to_string()));
                break e.to_string();
            }
        }
    };
    for packet in &packets {
        assert!((packet.interface as usize) < reader.interfaces().len());
        let _ = reader.statistics(packet.interface);
    }
    let _ = (reader.section(), reader.format());
    (packets, end, reader.good_offset())
}

/// Gives three bytes at a time.
struct Trickle<'a>(&'a [u8]);

impl Read for Trickle<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = buf.len().min(3);
        self.0.read(&mut buf[..n])
    }
}
