//! Sealed segments: what comes out is what went in, the index finds each packet, and other programs
//! read both.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

use archive::index::{self, AddressSet, Row};
use archive::seal::{SealOptions, Sealed, reindex_segment, seal};
use archive::{Error, Part, SegmentName};
use capfile::seekable::{self, FOOTER_LEN, SeekTable};
use capfile::{Direction, Interface, PcapngWriter, Reader, SectionInfo};
use rig::Scratch;
use sha2::{Digest, Sha256};
use std::net::Ipv6Addr;
use std::path::Path;

const T: u64 = 1_795_785_255_123_456_789; // 2026-11-27 13:14:15 UTC

/// A packet of a capture that is made up.
#[derive(Debug, Clone)]
struct Made {
    interface: u32,
    ts_ns: u64,
    origlen: u32,
    data: Vec<u8>,
}

fn name(source: &str, packets: &[Made]) -> SegmentName {
    let times = packets.iter().map(|packet| packet.ts_ns);
    SegmentName {
        first_ns: times.clone().min().unwrap_or(T),
        last_ns: times.max().unwrap_or(T),
        id: ulid::Ulid::from_parts(1_795_785_255_123, 7),
        source: source.into(),
    }
}

fn capture(interfaces: &[&str], packets: &[Made]) -> Vec<u8> {
    let mut writer = PcapngWriter::new(Vec::new(), &SectionInfo::default()).unwrap();
    for name in interfaces {
        let interface = Interface { name: Some((*name).into()), ..Interface::new(1) };
        writer.add_interface(&interface).unwrap();
    }
    for packet in packets {
        let Made { interface, ts_ns, origlen, data } = packet;
        writer.write(*interface, *ts_ns, *origlen, Direction::In, data, None).unwrap();
    }
    let statistics = capfile::Statistics { os_drop: Some(3), ..Default::default() };
    writer.write_stats(0, &statistics).unwrap();
    writer.into_inner()
}

fn udp(n: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    let len = (28 + payload.len()) as u16;
    frame.extend([0x45, 0]);
    frame.extend(len.to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend((0x0a00_0000 + n).to_be_bytes());
    frame.extend([192, 0, 2, 1]);
    frame.extend((1024 + n as u16).to_be_bytes());
    frame.extend([0, 53]);
    frame.extend((len - 20).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}

fn many(count: u32) -> Vec<Made> {
    (0..count)
        .map(|n| {
            let data = udp(n % 50, &vec![n as u8; (n % 1400) as usize]);
            Made { interface: 0, ts_ns: T + u64::from(n), origlen: data.len() as u32, data }
        })
        .collect()
}

fn sealed(folder: &Path, closed: &[u8], name: &SegmentName) -> Result<Sealed, Error> {
    let path = folder.join("closed");
    std::fs::write(&path, closed).unwrap();
    seal(&path, name, folder, &SealOptions::default())
}

fn frames_of(data: &[u8]) -> Vec<Vec<u8>> {
    let len = SeekTable::len_in_file(&data[data.len() - FOOTER_LEN..]).unwrap();
    let table = SeekTable::parse(&data[data.len() - len..]).unwrap();
    let frame = |frame: &seekable::Frame| {
        let start = frame.offset as usize;
        seekable::decompress(&data[start..start + frame.len as usize], frame).unwrap()
    };
    table.frames().iter().map(frame).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn rows_of(sealed: &Sealed) -> Vec<Row> {
    index::rows_of(std::fs::read(&sealed.index).unwrap().into()).unwrap()
}

#[test]
fn a_segment_is_sealed_byte_for_byte() {
    let scratch = Scratch::new("seal-bytes");
    let packets = many(2000);
    let (closed, name) = (capture(&["eth0"], &packets), name("eth0", &packets));
    let sealed = sealed(&scratch.path(""), &closed, &name).unwrap();
    let (data, index) =
        (std::fs::read(&sealed.data).unwrap(), std::fs::read(&sealed.index).unwrap());
    let frames = frames_of(&data);
    assert_eq!(frames.concat(), closed);
    assert!(frames.len() > 5 && frames.iter().all(|raw| raw.len() <= seekable::FRAME_RAW_LEN));
    // Frame 0 has the interfaces and no packet; with it any other one is a capture.
    let head = Reader::new(&frames[0][..]).unwrap().advance().unwrap();
    assert!(!head);
    let record = &sealed.record;
    assert_eq!((record.bytes, &record.sha256), (data.len() as u64, &sha256(&data)));
    assert_eq!((record.index_bytes, &record.index_sha256), (index.len() as u64, &sha256(&index)));
    assert_eq!((record.packets, record.raw_bytes), (2000, closed.len() as u64));
    assert_eq!((record.object.clone(), record.dropped), (name.key(Part::Data), Some(3)));
    assert_eq!(
        sealed.data.file_name().unwrap().to_str().unwrap(),
        name.spool_file(Part::Data, archive::SpoolState::Sealed)
    );
    // Each row's packets are in its frames.
    let rows = rows_of(&sealed);
    assert_eq!((rows.len(), record.index_rows), (50, 50));
    for row in &rows {
        let flow = row.flow.as_ref().unwrap();
        let mut found = 0;
        for &frame in &row.frames {
            let part = [&frames[0][..], &frames[frame as usize]].concat();
            let mut reader = Reader::new(&part[..]).unwrap();
            while let Some(packet) = reader.next().unwrap() {
                let ip: [u8; 4] = packet.data[26..30].try_into().unwrap();
                found += u64::from(flow.ip_lo == Some(mapped(ip.into())));
            }
        }
        assert_eq!((found, row.packets), (40, (40, 0)));
    }
    let set = AddressSet::decode(&record.addresses);
    assert!(set.may_hold(&mapped([10, 0, 0, 7].into())) && !set.may_hold(&mapped([9; 4].into())));
    let again = reindex_segment(&sealed.data, &name).unwrap();
    assert_eq!((again.index, again.addresses), (index, record.addresses.clone()));
}

fn mapped(ip: std::net::Ipv4Addr) -> Ipv6Addr {
    ip.to_ipv6_mapped()
}
