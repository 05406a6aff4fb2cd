//! pcapng in memory: written, and read beside pcap-parser.

use super::{Kind, SIZES};
use crate::row::{Row, Unit, compare};
use crate::timing::{Timing, time};
use capfile::{Direction, Interface, PcapngWriter, Reader, SectionInfo};
use pcap_parser::traits::PcapReaderIterator;
use pcap_parser::{Block, PcapBlockOwned, PcapError, PcapNGReader};
use std::hint::black_box;
use std::time::Duration;

pub const WRITE: &str = "pcapng write";
pub const READ: &str = "pcapng read";
/// Packets of one file: small enough for the cache at 64 B, as a stream's buffer is.
const PACKETS: usize = 4096;
const TS_NS: u64 = 1_700_000_000_000_000_000;
/// Buffer of both readers, bytes.
const BUFFER_BYTES: usize = 256 << 10;

pub fn write(batch: Duration) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for size in SIZES {
        let (mut writer, frame) = (writer()?, Kind::TcpV4.frame(size, 1024)?);
        let timing = time(batch, || {
            writer.get_mut().clear();
            fill(&mut writer, &frame);
            black_box(writer.get_ref());
        });
        rows.push(row(WRITE, size, "tapline", timing));
    }
    Ok(rows)
}

pub fn read(batch: Duration) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for size in SIZES {
        let mut writer = writer()?;
        fill(&mut writer, &Kind::TcpV4.frame(size, 1024)?);
        let file = writer.into_inner();
        anyhow::ensure!(
            read_ours(&file) == PACKETS && read_peer(&file) == PACKETS,
            "unread packets"
        );
        let mut pair = [
            row(READ, size, "tapline", time(batch, || _ = black_box(read_ours(&file)))),
            row(READ, size, "pcap-parser", time(batch, || _ = black_box(read_peer(&file))))
                .note("options not read, times not converted"),
        ];
        compare(&mut pair);
        rows.extend(pair);
    }
    Ok(rows)
}

fn row(bench: &str, size: usize, subject: &str, timing: Timing) -> Row {
    let packets_per_us = |ns: f64| PACKETS as f64 * 1e3 / ns;
    Row::timed(bench, &format!("{size} B"), subject, Unit::MegaPackets, timing, packets_per_us)
}

fn writer() -> anyhow::Result<PcapngWriter<Vec<u8>>> {
    let mut writer = PcapngWriter::new(Vec::new(), &SectionInfo::default())?;
    writer.add_interface(&Interface::new(capfile::LINKTYPE_ETHERNET))?;
    Ok(writer)
}

fn fill(writer: &mut PcapngWriter<Vec<u8>>, frame: &[u8]) {
    for n in 0..PACKETS as u64 {
        let origlen = frame.len() as u32;
        writer
            .write(0, TS_NS + n, origlen, Direction::In, black_box(frame), None)
            .expect("memory takes every packet");
    }
}

fn read_ours(file: &[u8]) -> usize {
    let mut packets = 0;
    let mut reader = Reader::new(file).expect("a capture that was just written");
    while let Some(record) = reader.next().expect("a capture that was just written") {
        black_box((record.ts_ns, record.origlen, record.data));
        packets += 1;
    }
    packets
}

fn read_peer(file: &[u8]) -> usize {
    let mut packets = 0;
    let mut reader =
        PcapNGReader::new(BUFFER_BYTES, file).expect("a capture that was just written");
    loop {
        match reader.next() {
            Ok((bytes, block)) => {
                if let PcapBlockOwned::NG(Block::EnhancedPacket(packet)) = block {
                    black_box((packet.ts_low, packet.origlen, packet.data));
                    packets += 1;
                }
                reader.consume(bytes);
            }
            Err(PcapError::Incomplete(_)) => reader.refill().expect("memory can be read"),
            Err(_) => return packets,
        }
    }
}
