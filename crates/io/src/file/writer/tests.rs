use super::*;
use crate::batch::Batch;
use crate::device::{Arrival, SinkCounters, Source};
use crate::file::FileSource;
use crate::file::direct::LANES_MAX;
use crate::file::sys::PAGE;
use crate::packet::{Direction, Meta, Outer};
use crate::pool::Data;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use wire::LinkType;
use wire::tunnel::{Kind, Tunnel};

const PATIENCE: Duration = Duration::from_secs(30);

fn packet(interface: InterfaceId, n: u8, outer: Option<Outer>) -> Packet {
    Packet {
        data: Data::copy_of(&[n; 60]),
        meta: Meta {
            ts_ns: 1_700_000_000_000_000_000 + u64::from(n),
            origlen: 1514,
            link_type: LinkType::ETHERNET,
            interface,
            direction: Direction::Out,
            outer,
            packet_id: None,
            gso: None,
            decided: false,
            flow_hash: None,
        },
    }
}

/// A stream that takes `room` bytes and then has no room, as often as asked.
struct Narrow {
    bytes: Arc<Mutex<Vec<u8>>>,
    room: usize,
}

impl Write for Narrow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = self.bytes.lock().unwrap();
        let fits = bytes.len().min(self.room - all.len());
        if fits == 0 {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        all.extend_from_slice(&bytes[..fits]);
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn total(writer: &FileWriter) -> SinkCounters {
    writer.counters().fold(SinkCounters::default(), |mut sum, (_, counters)| {
        assert_eq!(counters.received, counters.fate.taken());
        sum.merge(&counters.fate);
        sum
    })
}

fn read(bytes: Vec<u8>) -> (Vec<Packet>, Interfaces) {
    let interfaces = Interfaces::default();
    let stream = Box::new(io::Cursor::new(bytes));
    let mut source = FileSource::new("memory", stream, &interfaces).unwrap();
    let mut packets = Vec::new();
    loop {
        let mut batch = Batch::new();
        let arrival = source.receive(&mut batch).unwrap();
        packets.extend(
            batch
                .packets()
                .iter()
                .map(|p| Packet { data: Data::copy_of(&p.data), meta: p.meta.clone() }),
        );
        if arrival == Arrival::End {
            return (packets, interfaces);
        }
    }
}

#[test]
fn each_source_gets_an_interface_block() {
    let interfaces = Interfaces::default();
    let eth0 = interfaces.add(Interface { name: Some("eth0".into()), ..Interface::new(1) });
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let stream = Box::new(Narrow { bytes: Arc::clone(&bytes), room: 1 << 20 });
    let mut writer =
        FileWriter::stream(stream, FileFormat::Pcapng, &interfaces, Some(eth0)).unwrap();
    let tunnel = Tunnel { kind: Kind::Vxlan, id: Some(71) };
    let outer = Outer { tunnel, source: "fd00::1".parse().unwrap() };
    writer.write(&packet(eth0, 1, None));
    writer.write(&packet(eth0, 2, Some(outer)));
    writer.write(&packet(eth0, 3, None));
    assert_eq!(total(&writer).held, 3);
    writer.finish(None).unwrap();
    let written = SinkCounters { sent: 3, sent_bytes: 180, ..SinkCounters::default() };
    assert_eq!(total(&writer), written);
    let (packets, table) = read(bytes.lock().unwrap().clone());
    let names: Vec<_> = packets.iter().map(|p| table.get(p.meta.interface).name.clone()).collect();
    assert_eq!(names, [Some("eth0".into()), Some("vxlan-71-fd00--1".into()), Some("eth0".into())]);
    assert!(packets.iter().all(|p| p.meta.origlen == 1514 && p.meta.direction == Direction::Out));
}

#[test]
fn a_stream_without_room_is_closed_and_counted() {
    let interfaces = Interfaces::default();
    let eth0 = interfaces.add(Interface::new(1));
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let stream = Box::new(Narrow { bytes, room: 200 });
    let mut writer =
        FileWriter::stream(stream, FileFormat::Pcapng, &interfaces, Some(eth0)).unwrap();
    for n in 0..10 {
        writer.write(&packet(eth0, n, None));
    }
    writer.flush();
    writer.write(&packet(eth0, 10, None));
    writer.finish(None).unwrap();
    assert!(writer.is_closed());
    let counters = total(&writer);
    assert_eq!((counters.sent, counters.held), (0, 0));
    assert_eq!(counters.drops.get(DropReason::DiskFull), 10);
    assert_eq!(counters.drops.get(DropReason::Stopped), 1);
}

#[test]
fn pcap_takes_one_link_type() {
    let interfaces = Interfaces::default();
    let ethernet = interfaces.add(Interface::new(1));
    let raw = interfaces.add(Interface::new(101));
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let stream = Box::new(Narrow { bytes: Arc::clone(&bytes), room: 1 << 20 });
    let mut writer = FileWriter::stream(stream, FileFormat::Pcap, &interfaces, None).unwrap();
    writer.write(&packet(ethernet, 1, None));
    let mut other = packet(raw, 2, None);
    other.meta.link_type = LinkType::RAW;
    writer.write(&other);
    writer.write(&packet(ethernet, 3, None));
    writer.finish(None).unwrap();
    assert_eq!(total(&writer).sent, 2);
    assert_eq!(total(&writer).drops.get(DropReason::LinkType), 1);
    assert_eq!(read(bytes.lock().unwrap().clone()).0.len(), 2);
}

/// A writer into a file of a folder, and the interface of its packets.
fn in_folder(folder: &Path) -> (PathBuf, FileWriter, InterfaceId) {
    let interfaces = Interfaces::default();
    let eth0 = interfaces.add(Interface::new(1));
    let path = folder.join("x.pcapng");
    let writer = FileWriter::create(&path, FileFormat::Pcapng, &interfaces, Some(eth0)).unwrap();
    (path, writer, eth0)
}

/// A packet of a number that its time tells.
fn numbered(interface: InterfaceId, number: u64, len: usize) -> Packet {
    let mut packet = packet(interface, 0, None);
    packet.data = Data::copy_of(&vec![7; len]);
    packet.meta.ts_ns = number;
    packet
}

/// The numbers of the packets in a file, which must end behind a whole block.
fn numbers(path: &Path) -> Vec<u64> {
    let mut reader = capfile::Reader::new(File::open(path).unwrap()).unwrap();
    let mut numbers = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        numbers.push(record.ts_ns);
    }
    assert!(reader.warning().is_none(), "{:?}", reader.warning());
    numbers
}

fn wait_for_idle(writer: &mut FileWriter) {
    rig::wait_until("direct writes have ended", PATIENCE, || {
        writer.poll();
        writer.is_idle() && !writer.flush_due
    });
}

#[test]
fn a_file_that_is_written_directly_is_whole_whenever_it_is_read() {
    let scratch = rig::Scratch::new("direct");
    let (path, mut writer, eth0) = in_folder(scratch.folder());
    writer.use_lanes(&Lanes::default());
    let (count, mut read_back) = (9000, 0);
    for number in 0..count {
        writer.write(&numbered(eth0, number, 60 + number as usize % 1400));
        match number % 1000 {
            999 => writer.flush(),
            499 => {
                let whole = numbers(&path);
                assert!(whole.iter().copied().eq(0..whole.len() as u64));
                read_back = whole.len();
            }
            _ => writer.poll(),
        }
        assert_eq!(total(&writer).taken(), number + 1);
    }
    assert!(read_back > 0);
    writer.flush();
    wait_for_idle(&mut writer);
    assert_eq!(numbers(&path).len() as u64, count, "flushed, and not finished");
    assert_eq!(writer.bytes(), path.metadata().unwrap().len());
    writer.finish(None).unwrap();
    assert!(numbers(&path).into_iter().eq(0..count));
    assert_eq!(writer.bytes(), path.metadata().unwrap().len());
    assert_eq!((total(&writer).sent, total(&writer).held), (count, 0));
    assert_eq!(writer.span_ns(), Some((0, count - 1)));
}

#[test]
fn a_file_that_became_quiet_gives_its_lane_to_others() {
    let scratch = rig::Scratch::new("lanes");
    let lanes = Lanes::default();
    let mut files: Vec<_> = (0..LANES_MAX + 1)
        .map(|n| {
            let folder = scratch.folder().join(n.to_string());
            std::fs::create_dir(&folder).unwrap();
            let (path, mut writer, eth0) = in_folder(&folder);
            writer.use_lanes(&lanes);
            (0..300).for_each(|number| writer.write(&numbered(eth0, number, 1400)));
            (path, writer, eth0)
        })
        .collect();
    let direct = |(_, writer, _): &(PathBuf, FileWriter, InterfaceId)| writer.direct.is_some();
    if !direct(&files[0]) {
        return; // a file system or a kernel without
    }
    assert_eq!(files.iter().filter(|file| direct(file)).count(), LANES_MAX);
    for _ in 0..=QUIET_FLUSHES {
        files[0].1.flush();
        wait_for_idle(&mut files[0].1);
    }
    assert!(!direct(&files[0]));
    let (path, last, eth0) = &mut files[LANES_MAX];
    (300..600).for_each(|number| last.write(&numbered(*eth0, number, 1400)));
    assert!(last.direct.is_some());
    last.finish(None).unwrap();
    assert!(numbers(path).into_iter().eq(0..600));
    let (path, first, _) = &mut files[0];
    first.finish(None).unwrap();
    assert!(numbers(path).into_iter().eq(0..300));
}

#[test]
fn what_cannot_be_written_directly_takes_the_other_way() {
    let scratch = rig::Scratch::new("direct-refused");
    let (path, mut writer, eth0) = in_folder(scratch.folder());
    let direct = Direct::over(File::open(&path).unwrap(), PAGE, &Lanes::default());
    let Some(direct) = direct else { return }; // a kernel without
    writer.go_direct(direct);
    for number in 0..6000 {
        writer.write(&numbered(eth0, number, 1000));
        writer.poll();
    }
    assert!(writer.direct.is_none());
    writer.finish(None).unwrap();
    assert!(numbers(&path).into_iter().eq(0..6000));
    assert_eq!((total(&writer).sent, total(&writer).drops.total()), (6000, 0));
}

#[test]
fn a_disk_that_fills_up_under_direct_writes_costs_what_has_no_room() {
    let Some(disk) = rig::Tmpfs::new(5 << 20, "") else { return };
    let filler = disk.path().join("filler");
    std::fs::write(&filler, vec![1; 2 << 20]).unwrap();
    let (path, mut writer, eth0) = in_folder(&disk.path());
    // A tmpfs has no direct writes, but takes the flag.
    let file = File::options().write(true).open(&path).unwrap();
    let Some(direct) = Direct::over(file, PAGE, &Lanes::default()) else { return };
    writer.go_direct(direct);
    let tunnel = Tunnel { kind: Kind::Vxlan, id: Some(71) };
    for number in 0..5000_u64 {
        let mut packet = numbered(eth0, number, 1000);
        // The second interface comes when there is no more room.
        let source = std::net::Ipv4Addr::from_bits(number as u32 / 3500).into();
        packet.meta.outer = Some(Outer { tunnel, source });
        writer.write(&packet);
    }
    writer.flush();
    wait_for_idle(&mut writer);
    let full = total(&writer);
    assert!((2900..3100).contains(&full.sent), "{full:?}");
    assert_eq!(full.drops.get(DropReason::DiskFull) + full.sent, 5000);
    assert!(numbers(&path).into_iter().eq(0..full.sent));
    assert_eq!(writer.trouble(), Some(DropReason::DiskFull));
    std::fs::remove_file(filler).unwrap();
    for number in 5000..6000 {
        let mut packet = numbered(eth0, number, 1000);
        let source = std::net::Ipv4Addr::from_bits(1).into();
        packet.meta.outer = Some(Outer { tunnel, source });
        writer.write(&packet);
    }
    writer.finish(None).unwrap();
    assert_eq!(total(&writer).sent, full.sent + 1000);
    assert!(numbers(&path).into_iter().eq((0..full.sent).chain(5000..6000)));
}
