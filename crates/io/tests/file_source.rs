//! Capture files that end early, are damaged, or arrive in drops, as a source.

use capfile::{Direction, Interface, PcapResolution, PcapWriter, PcapngWriter, SectionInfo};
use io::file::FileSource;
use io::{Arrival, Batch, Interfaces, Source};
use std::io::Read;
use std::sync::{Arc, Mutex};

const PACKETS: u64 = 8;

/// A file with the offset behind each packet, and the offset behind its header.
struct Made {
    bytes: Vec<u8>,
    header: usize,
    ends: Vec<usize>,
}

impl Made {
    fn whole_packets(&self, cut: usize) -> usize {
        self.ends.iter().filter(|&&end| end <= cut).count()
    }

    fn ends_whole(&self, cut: usize) -> bool {
        cut == self.header || self.ends.contains(&cut)
    }
}

fn data(number: u64) -> Vec<u8> {
    vec![number as u8; 1 + number as usize]
}

fn pcap() -> Made {
    let mut writer =
        PcapWriter::new(Vec::new(), 1, 65_535, PcapResolution::Nano).expect("memory takes it");
    let header = writer.get_ref().len();
    let ends = (0..PACKETS).map(|number| {
        writer.write(number, 1514, &data(number)).expect("memory takes it");
        writer.get_ref().len()
    });
    let ends = ends.collect();
    Made { bytes: writer.into_inner(), header, ends }
}

fn pcapng() -> Made {
    let mut writer =
        PcapngWriter::new(Vec::new(), &SectionInfo::default()).expect("memory takes it");
    writer.add_interface(&Interface::new(1)).expect("memory takes it");
    let header = writer.get_ref().len();
    let ends = (0..PACKETS).map(|number| {
        let data = data(number);
        writer.write(0, number, 1514, Direction::In, &data, None).expect("memory takes it");
        writer.get_ref().len()
    });
    let ends = ends.collect();
    Made { bytes: writer.into_inner(), header, ends }
}

/// Reads to the end or the error; gives the times of the packets, whose bytes are looked at.
fn read(stream: impl Read + Send + 'static) -> Result<(Vec<u64>, Option<io::Error>), io::Error> {
    let mut source = FileSource::new("X", Box::new(stream), &Interfaces::default())?;
    let (mut times, mut batch) = (Vec::new(), Batch::new());
    loop {
        let received = source.receive(&mut batch);
        for packet in batch.packets() {
            assert_eq!(*packet.data, *data(packet.meta.ts_ns), "packet {}", packet.meta.ts_ns);
            assert_eq!(packet.meta.origlen, 1514);
            times.push(packet.meta.ts_ns);
        }
        batch.clear();
        match received {
            Ok(Arrival::End) => return Ok((times, None)),
            Ok(_) => {}
            Err(error) => return Ok((times, Some(error))),
        }
    }
}

/// What is logged while `work` runs.
fn logged<T>(work: impl FnOnce() -> T) -> (T, String) {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no holder panics").extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let result = tracing::subscriber::with_default(subscriber, work);
    let text = log.0.lock().expect("no holder panics").clone();
    (result, String::from_utf8(text).expect("messages are text"))
}

#[test]
fn a_file_that_is_cut_gives_every_whole_packet_and_a_warning() {
    for made in [pcap(), pcapng()] {
        for cut in made.header..=made.bytes.len() {
            let bytes = std::io::Cursor::new(made.bytes[..cut].to_vec());
            let ((times, error), log) = logged(|| read(bytes).unwrap());
            assert!(error.is_none(), "cut at {cut}: {error:?}");
            let whole = made.whole_packets(cut) as u64;
            assert_eq!(times, (0..whole).collect::<Vec<u64>>(), "cut at {cut}");
            if made.ends_whole(cut) {
                assert_eq!(log, "", "cut at {cut}");
            } else {
                assert_eq!(log.lines().count(), 1, "cut at {cut}: {log}");
                assert!(log.contains("WARN") && log.contains("X:"), "cut at {cut}: {log}");
            }
        }
    }
}

#[test]
fn a_file_that_is_cut_in_its_header_is_no_capture() {
    for made in [pcap(), pcapng()] {
        for cut in 0..24 {
            let bytes = std::io::Cursor::new(made.bytes[..cut].to_vec());
            let error = read(bytes).expect_err("no header");
            assert!(error.to_string().starts_with("X: "), "cut at {cut}: {error}");
        }
    }
}

#[test]
fn a_damaged_file_gives_what_stands_before_the_damage() {
    // The length of the eighth packet's block, or its caplen, becomes impossible.
    for (made, field) in [(pcap(), 8), (pcapng(), 4)] {
        let mut bytes = made.bytes.clone();
        bytes[made.ends[6] + field..][..4].fill(0xff);
        let (times, error) = read(std::io::Cursor::new(bytes)).unwrap();
        assert_eq!(times, [0, 1, 2, 3, 4, 5, 6]);
        let message = error.expect("the damage is told").to_string();
        assert!(message.contains(&made.ends[6].to_string()), "says where: {message}");
    }
}

/// Gives one byte at a time, as a slow pipe may.
struct Drops(std::io::Cursor<Vec<u8>>);

impl Read for Drops {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let one = buffer.len().min(1);
        self.0.read(&mut buffer[..one])
    }
}

#[test]
fn a_stream_may_arrive_in_drops() {
    for made in [pcap(), pcapng()] {
        let (times, error) = read(Drops(std::io::Cursor::new(made.bytes))).unwrap();
        assert!(error.is_none());
        assert_eq!(times, (0..PACKETS).collect::<Vec<u64>>());
    }
}

#[test]
fn a_stopped_source_gives_no_more() {
    let bytes = Box::new(std::io::Cursor::new(pcapng().bytes));
    let mut source = FileSource::new("X", bytes, &Interfaces::default()).unwrap();
    source.stop().unwrap();
    let mut batch = Batch::new();
    assert_eq!(source.receive(&mut batch).unwrap(), Arrival::End);
    assert!(batch.is_empty());
}
