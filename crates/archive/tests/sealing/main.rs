//! Sealed segments: what comes out is what went in, the index finds each packet, and other programs
//! read both.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod any_packets;
mod flood;
mod made;
mod tools;

use archive::index::{
    AddressSet, BYTES_PER_ROW, ROWS_MIN, Row, Wanted, rows_in, rows_of as read_rows,
};
use archive::seal::{SealOptions, Sealed, reindex_segment, seal};
use archive::{Error, Part, SpoolState, Window};
use capfile::seekable::FRAME_RAW_LEN;
use capfile::{PcapResolution, PcapWriter, Reader};
use made::*;
use rig::Scratch;

fn many(count: u32) -> Vec<Made> {
    let payload = |n| vec![n as u8; (n % 1400) as usize];
    (0..count).map(|n| question(n % 50, T + u64::from(n), &payload(n))).collect()
}

#[test]
fn a_segment_is_sealed_byte_for_byte() {
    let scratch = Scratch::new("seal-bytes");
    let packets = many(2000);
    let (closed, name) = (capture(&["eth0"], &packets, false), name("eth0", &packets));
    let sealed = sealed(scratch.folder(), &closed, &name).unwrap();
    let frames = frames_of(&sealed.data);
    assert_eq!(frames.concat(), closed);
    assert!(frames.len() > 5 && frames.iter().all(|raw| raw.len() <= FRAME_RAW_LEN));
    // Frame 0 has the interfaces and no packet; with it any other one is a capture.
    assert!(!Reader::new(&frames[0][..]).unwrap().advance().unwrap());
    let record = &sealed.record;
    let len = |path| std::fs::metadata(path).unwrap().len();
    assert_eq!((record.bytes, &record.sha256), (len(&sealed.data), &sha256(&sealed.data)));
    assert_eq!(
        (record.index_bytes, &record.index_sha256),
        (len(&sealed.index), &sha256(&sealed.index))
    );
    assert_eq!((record.packets, record.raw_bytes), (2000, closed.len() as u64));
    assert_eq!((record.object.clone(), record.dropped), (name.key(Part::Data), Some(3)));
    let file = name.spool_file(Part::Data, SpoolState::Sealed);
    assert_eq!(sealed.data, scratch.path(&file));
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
    assert!(set.may_hold(&mapped([10, 0, 0, 7].into())));
    assert!(!set.may_hold(&mapped([9, 9, 9, 9].into())));
    // Again: the same files.
    let index = std::fs::read(&sealed.index).unwrap();
    let options = SealOptions::default();
    let again = seal(&scratch.path("closed"), &name, scratch.folder(), &options).unwrap();
    assert_eq!(again, sealed);
    assert_eq!(frames_of(&again.data).concat(), closed);
    let made_anew = reindex_segment(&sealed.data, &name).unwrap();
    assert_eq!((made_anew.index, made_anew.addresses), (index, record.addresses.clone()));
    assert_eq!((made_anew.packets, made_anew.dropped), (2000, Some(3)));
}

#[test]
fn interfaces_that_come_late_stand_in_front() {
    let scratch = Scratch::new("seal-late");
    let mut packets = many(1500);
    for (n, packet) in packets.iter_mut().enumerate() {
        packet.interface = n as u32 / 500;
    }
    let interfaces = ["vxlan-71-10.71.2.2", "gre-none-fd00--1", "eth0"];
    let name = name("many", &packets);
    let mut all = capture(&interfaces, &packets, true);
    let one = sealed(scratch.folder(), &all, &name).unwrap();
    let frames = frames_of(&one.data);
    // Every frame can be read with the first, though the file had the interfaces further behind.
    let mut seen = Vec::new();
    for frame in &frames[1..] {
        let part = [&frames[0][..], frame].concat();
        let mut reader = Reader::new(&part[..]).unwrap();
        assert_eq!(reader.interfaces().len(), 0);
        while let Some(packet) = reader.next().unwrap() {
            seen.push((packet.interface, packet.ts_ns, packet.data.to_vec()));
        }
        assert_eq!(reader.interfaces().len(), 3);
    }
    let sent: Vec<_> = packets.iter().map(|p| (p.interface, p.ts_ns, p.data.clone())).collect();
    assert_eq!(seen, sent);
    let tunnels: std::collections::BTreeSet<_> = rows_of(&one)
        .into_iter()
        .map(|row| row.tunnel.map(|tunnel| (tunnel.kind.to_string(), tunnel.id)))
        .collect();
    let want = [None, Some(("gre".to_owned(), None)), Some(("vxlan".to_owned(), Some(71)))];
    assert_eq!(tunnels.into_iter().collect::<Vec<_>>(), want);
    let index = std::fs::read(&one.index).unwrap();
    assert_eq!(reindex_segment(&one.data, &name).unwrap().index, index);

    // Two sections become one.
    all.extend(capture(&["eth1"], &many(10), false));
    let two = sealed(scratch.folder(), &all, &name).unwrap();
    assert_eq!((two.record.packets, frames_of(&two.data).len()), (1510, frames.len()));
}

#[test]
fn a_pcap_file_is_sealed_as_pcapng() {
    let scratch = Scratch::new("seal-pcap");
    let packets = many(300);
    let mut writer = PcapWriter::new(Vec::new(), 1, 0, PcapResolution::Nano).unwrap();
    for packet in &packets {
        writer.write(packet.ts_ns, packet.origlen, &packet.data).unwrap();
    }
    let sealed = sealed(scratch.folder(), &writer.into_inner(), &name("eth0", &packets)).unwrap();
    let raw = frames_of(&sealed.data).concat();
    let mut reader = Reader::new(&raw[..]).unwrap();
    for packet in &packets {
        let read = reader.next().unwrap().unwrap();
        assert_eq!((read.ts_ns, read.data), (packet.ts_ns, &packet.data[..]));
    }
    assert!(reader.next().unwrap().is_none());
}

#[test]
fn a_cut_file_gives_its_whole_packets_and_a_damaged_one_nothing() {
    let scratch = Scratch::new("seal-cut");
    let packets = many(100);
    let (closed, name) = (capture(&["eth0"], &packets, false), name("eth0", &packets));
    let cut = sealed(scratch.folder(), &closed[..closed.len() - 200], &name).unwrap();
    let whole = cut.cut.unwrap().good_offset as usize;
    assert_eq!(frames_of(&cut.data).concat(), closed[..whole]);
    assert!((90..=100).contains(&cut.record.packets), "{}", cut.record.packets);
    std::fs::remove_file(&cut.data).unwrap();
    std::fs::remove_file(&cut.index).unwrap();

    let mut damaged = closed.clone();
    let middle = closed.len() / 8 * 4;
    damaged[middle..middle + 2000].fill(0xff);
    let error = sealed(scratch.folder(), &damaged, &name).unwrap_err();
    assert!(matches!(&error, Error::Capture { .. }), "{error}");
    for empty in [&b""[..], b"PK\x03\x04 no capture"] {
        let error = sealed(scratch.folder(), empty, &name).unwrap_err();
        assert!(error.to_string().contains("closed"), "{error}");
    }
    // A name that excludes packets would hide them.
    let later = archive::SegmentName { first_ns: name.first_ns + 1, ..name.clone() };
    let error = sealed(scratch.folder(), &closed, &later).unwrap_err();
    assert!(error.to_string().contains("its name says"), "{error}");
    // Nothing half written is left.
    let left = std::fs::read_dir(scratch.folder()).unwrap().count();
    assert_eq!(left, 1, "only the closed file");
}

#[test]
fn a_damaged_index_is_an_error() {
    let scratch = Scratch::new("seal-index");
    let packets = many(500);
    let closed = capture(&["eth0"], &packets, false);
    let sealed = sealed(scratch.folder(), &closed, &name("eth0", &packets)).unwrap();
    let index = std::fs::read(&sealed.index).unwrap();
    assert_eq!(read_rows(index.clone().into()).unwrap().len(), 50);
    for len in [0, 4, 100, index.len() - 1] {
        assert!(read_rows(index[..len].to_vec().into()).is_err(), "{len}");
    }
    // Not all damage shows without the hash of the whole; none of it is the end of the program.
    for at in (0..index.len()).step_by(31) {
        let mut damaged = index.clone();
        damaged[at] ^= 0xff;
        let _ = std::hint::black_box(read_rows(damaged.into()));
    }
    let error = read_rows(vec![0; 64].into()).unwrap_err();
    assert!(error.to_string().contains("reindex"), "{error}");
}

/// Asserts that a search for its addresses would find each packet: that a row which may hold it names its
/// frame.
fn assert_found(sealed: &Sealed, packets: &[Made]) {
    let index = bytes::Bytes::from(std::fs::read(&sealed.index).unwrap());
    let set = AddressSet::decode(&sealed.record.addresses);
    let mut known = std::collections::HashMap::new();
    let mut next = packets.iter();
    let frames = frames_of(&sealed.data);
    for (number, raw) in (1..).zip(&frames[1..]) {
        let part = [&frames[0][..], raw].concat();
        let mut reader = Reader::new(&part[..]).unwrap();
        while let Some(read) = reader.next().unwrap() {
            let packet = next.next().unwrap();
            assert_eq!((read.ts_ns, read.data), (packet.ts_ns, &packet.data[..]));
            let window = Window { after_ns: packet.ts_ns, before_ns: Some(packet.ts_ns + 1) };
            for address in &packet.addresses {
                assert!(set.may_hold(address), "{address} of {packet:?}");
                let rows = known.entry(*address).or_insert_with(|| {
                    let wanted = Wanted { addresses: vec![*address], ..Wanted::default() };
                    rows_in(index.clone(), &wanted).unwrap()
                });
                let wanted = Wanted { addresses: vec![*address], window, community_id: None };
                let mut rows = rows.iter().filter(|row| wanted.may_be_in(row));
                assert!(rows.any(|row| row.frames.contains(&number)), "{address} of {packet:?}");
            }
        }
    }
    assert!(next.next().is_none());
    let rows = rows_of(sealed);
    let sum = |of: fn(&Row) -> (u64, u64)| -> u64 {
        rows.iter().map(of).map(|(forward, back)| forward + back).sum()
    };
    assert_eq!(sum(|row| row.packets), packets.len() as u64);
    assert_eq!(sum(|row| row.bytes), packets.iter().map(|p| u64::from(p.origlen)).sum::<u64>());
    let max = ROWS_MIN as u64 + sealed.record.raw_bytes / BYTES_PER_ROW;
    assert!(rows.len() as u64 <= max, "{} rows", rows.len());
}
