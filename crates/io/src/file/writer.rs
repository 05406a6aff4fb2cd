//! A capture file that is being written, with a count of what became of each packet.
//!
//! Packets are gathered in a buffer and counted as held until the buffer is in the file. When it
//! cannot be written, the file is cut back to where it is good (in pcapng behind the last whole packet
//! that had room), the other packets of the buffer are counted as dropped, and writing goes on when
//! there is room again.

use super::origins::{Origin, OriginCounters, Origins, Written};
use crate::device::Upstream;
use crate::error::Error;
use crate::interface::{Interface, Interfaces};
use crate::packet::{InterfaceId, Packet};
use api::DropReason;
use capfile::pcapng_layout::block_type;
use capfile::{Marks, PcapResolution, PcapWriter, PcapngWriter, SectionInfo, Statistics};
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;
use wire::LinkType;

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 256 << 10;
/// libpcap's own bound, which readers of pcap expect.
const PCAP_SNAPLEN: u32 = 262_144;

/// The format of a capture file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FileFormat {
    /// Interfaces, directions and statistics are kept.
    #[default]
    Pcapng,
    /// Nanosecond pcap: one link type, no interfaces.
    Pcap,
}

impl FileFormat {
    /// pcap for names that end in `.pcap`, else pcapng.
    pub fn of_path(path: &Path) -> FileFormat {
        match path.extension() {
            Some(extension) if extension == "pcap" => FileFormat::Pcap,
            _ => FileFormat::Pcapng,
        }
    }
}

/// A capture file that is being written.
pub struct FileWriter {
    output: Output,
    encoder: Encoder,
    interfaces: Interfaces,
    origins: Origins,
    /// Where the buffer describes interfaces: that is kept when the packets are given up.
    descriptions: Vec<Range<usize>>,
    /// Bytes in the file.
    file_bytes: u64,
    closed: bool,
    /// Why the last write of the file failed, until one succeeds.
    trouble: Option<DropReason>,
    /// Whether it was said that some packets do not fit the format.
    refusal_told: bool,
}

enum Output {
    File(File),
    Stream(Box<dyn Write + Send>),
}

/// Both encoders write into memory, which cannot fail.
enum Encoder {
    Pcapng(PcapngWriter<Vec<u8>>),
    /// Made with the first packet, whose link type becomes the file's.
    Pcap(Option<(u16, PcapWriter<Vec<u8>>)>),
}

impl FileWriter {
    /// Creates a file, or replaces it. `first` is the interface that an empty file names.
    ///
    /// # Errors
    /// [`Error::System`] if the file cannot be created or has no room for its header.
    pub fn create(
        path: &Path,
        format: FileFormat,
        interfaces: &Interfaces,
        first: Option<InterfaceId>,
    ) -> Result<FileWriter, Error> {
        let file = File::create(path).map_err(|e| unwritable(path, e))?;
        FileWriter::over(file, path, format, interfaces, first)
    }

    /// Finds out whether a file can be replaced, or has a folder to be created in, and leaves all as it
    /// is: for who opens several, of which none is to be lost for the sake of another.
    ///
    /// # Errors
    /// [`Error::System`] if it is clear that it cannot.
    pub fn check(path: &Path) -> Result<(), Error> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let found = match path.metadata() {
            Ok(metadata) if metadata.is_file() || metadata.is_dir() => {
                File::options().write(true).open(path).map(drop)
            }
            // Opening a pipe would wait for its reader.
            Ok(_) => Ok(()),
            Err(_) => folder.unwrap_or(Path::new(".")).metadata().map(drop),
        };
        found.map_err(|error| unwritable(path, error))
    }

    /// Writes to an empty file that is open; `path` is where it stands. Without room for its header
    /// it is no capture and is removed.
    ///
    /// # Errors
    /// [`Error::System`] if the header cannot be written.
    pub fn over(
        file: File,
        path: &Path,
        format: FileFormat,
        interfaces: &Interfaces,
        first: Option<InterfaceId>,
    ) -> Result<FileWriter, Error> {
        // What cannot be cut back (a pipe, a device) is written like a stream.
        let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
        let output = match is_file {
            true => Output::File(file),
            false => Output::Stream(Box::new(file)),
        };
        FileWriter::new(output, format, interfaces, first).map_err(|error| {
            if is_file {
                let _ = std::fs::remove_file(path);
            }
            unwritable(path, error)
        })
    }

    /// Writes to standard output or another stream.
    ///
    /// # Errors
    /// [`Error::System`] if the header cannot be written.
    pub fn stream(
        stream: Box<dyn Write + Send>,
        format: FileFormat,
        interfaces: &Interfaces,
        first: Option<InterfaceId>,
    ) -> Result<FileWriter, Error> {
        FileWriter::new(Output::Stream(stream), format, interfaces, first)
            .map_err(|e| Error::system("write the capture's header", e))
    }

    fn new(
        output: Output,
        format: FileFormat,
        interfaces: &Interfaces,
        first: Option<InterfaceId>,
    ) -> io::Result<FileWriter> {
        let buffer = Vec::with_capacity(2 * BUFFER_BYTES);
        let encoder = match format {
            FileFormat::Pcapng => {
                Encoder::Pcapng(PcapngWriter::new(buffer, &section()).map_err(io::Error::other)?)
            }
            FileFormat::Pcap => Encoder::Pcap(None),
        };
        let mut writer = FileWriter {
            output,
            encoder,
            interfaces: interfaces.clone(),
            origins: Origins::default(),
            descriptions: Vec::new(),
            file_bytes: 0,
            closed: false,
            trouble: None,
            refusal_told: false,
        };
        if let Some(first) = first {
            writer.describe((first, None));
        }
        writer.write_buffer()?;
        Ok(writer)
    }

    /// Takes a packet. It is held until the buffer is written; what fails is counted.
    #[inline]
    pub fn write(&mut self, packet: &Packet) {
        let origin = (packet.meta.interface, packet.meta.outer);
        let place = self.origins.find(origin).unwrap_or_else(|| self.describe(origin));
        self.origins.received(place);
        if self.closed {
            return self.origins.dropped(place, DropReason::Stopped);
        }
        match self.encode(place, packet) {
            Ok(()) => self.origins.held(place, packet.meta.ts_ns, packet.caplen()),
            Err((reason, error)) => {
                if !std::mem::replace(&mut self.refusal_told, true) {
                    tracing::error!("capture file: {error}; such packets are dropped and counted");
                }
                self.origins.dropped(place, reason);
            }
        }
        if self.buffer().len() >= BUFFER_BYTES {
            self.flush();
        }
    }

    /// Brings what is held into the file.
    pub fn flush(&mut self) {
        if self.buffer().is_empty() && !self.closed {
            return; // that nothing can be written proves nothing
        }
        let result = self.write_buffer();
        let lost = result.as_ref().err().map(reason);
        self.origins.settle(lost);
        match result {
            Ok(()) => self.recovered(),
            Err(error) => {
                self.report(&error);
                self.trouble = lost;
            }
        }
    }

    /// Why packets are being lost, if the last write failed.
    pub fn trouble(&self) -> Option<DropReason> {
        self.trouble
    }

    /// Notes that the file can be written again, if it could not.
    pub fn recovered(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!("the capture file can be written again");
        }
    }

    /// Completes the file with its statistics. On a full disk it stays without them: it is whole
    /// all the same, and what it lost is counted.
    ///
    /// # Errors
    /// [`Error::System`] if the statistics could not be written for another reason.
    pub fn finish(&mut self, upstream: Option<&Upstream>) -> Result<(), Error> {
        self.flush();
        if self.closed {
            return Ok(());
        }
        if self.origins.iter().len() == 0 {
            // Readers ask for a link type of a file without packets too.
            self.add_interface(&Interface::new(LinkType::ETHERNET.0));
        }
        if let Encoder::Pcapng(encoder) = &mut self.encoder {
            let alone = self.origins.iter().len() == 1;
            for (interface, written) in self.origins.iter().enumerate() {
                let statistics = statistics(written, upstream, alone);
                encoder
                    .write_stats(interface as u32, &statistics)
                    .map_err(|e| Error::system("write the statistics", io::Error::other(e)))?;
            }
        }
        match self.write_buffer() {
            Err(error) if reason(&error) == DropReason::DiskFull => {
                tracing::warn!("no room for the statistics at the end of a capture file");
                Ok(())
            }
            result => result.map_err(|e| Error::system("complete the capture file", e)),
        }
    }

    /// Counts what was brought into the file as dropped: somebody has removed the file since.
    pub fn give_up(&mut self, reason: DropReason) {
        self.origins.give_up(reason);
    }

    /// What became of the packets, by origin.
    pub fn counters(&self) -> impl Iterator<Item = (Origin, &OriginCounters)> {
        self.origins.iter().map(|written| (written.origin, &written.packets))
    }

    /// The times of the earliest and of the latest packet in the file, nanoseconds since 1970.
    pub fn span_ns(&self) -> Option<(u64, u64)> {
        self.origins.span().pair()
    }

    /// Whether nothing more can be written: the reader of a stream is gone.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Bytes in the file and in the buffer.
    pub fn bytes(&self) -> u64 {
        self.file_bytes + self.buffer().len() as u64
    }

    fn encode(
        &mut self,
        place: usize,
        packet: &Packet,
    ) -> Result<(), (DropReason, capfile::Error)> {
        let (meta, data) = (&packet.meta, &*packet.data);
        let written = match &mut self.encoder {
            Encoder::Pcapng(encoder) => {
                let marks = Marks { direction: meta.direction, packet_id: meta.packet_id };
                encoder.append(place as u32, meta.ts_ns, meta.origlen, marks, data)
            }
            Encoder::Pcap(Some((link_type, encoder))) if *link_type == meta.link_type.0 => {
                encoder.write(meta.ts_ns, meta.origlen, data)
            }
            Encoder::Pcap(_) => {
                let error = refused(
                    "packets of a second link type do not fit a pcap file; write pcapng (a name \
                     that does not end in .pcap)",
                );
                return Err((DropReason::LinkType, error));
            }
        };
        written.map_err(|error| (DropReason::WriteError, error))
    }

    /// Adds an interface to the file; its block reaches the file before any packet of it.
    fn describe(&mut self, origin: Origin) -> usize {
        let mut interface = Interface::clone(&self.interfaces.get(origin.0));
        if let Some(outer) = origin.1 {
            interface.name = Some(outer.to_string());
        }
        let start = self.buffer().len();
        self.add_interface(&interface);
        self.descriptions.push(start..self.buffer().len());
        self.origins.add(origin)
    }

    /// Puts an interface's block, or the file header that takes its place, into the buffer.
    fn add_interface(&mut self, interface: &Interface) {
        match &mut self.encoder {
            Encoder::Pcapng(encoder) => {
                if encoder.add_interface(interface).is_err() {
                    // Only texts beyond the format's lengths are refused: leave the texts out.
                    let bare = Interface {
                        snaplen: interface.snaplen,
                        ..Interface::new(interface.link_type)
                    };
                    encoder.add_interface(&bare).expect("an interface without texts fits");
                }
            }
            Encoder::Pcap(encoder @ None) => {
                let snaplen = PCAP_SNAPLEN.max(interface.snaplen);
                let buffer = Vec::with_capacity(2 * BUFFER_BYTES);
                let new =
                    PcapWriter::new(buffer, interface.link_type, snaplen, PcapResolution::Nano);
                *encoder = Some((interface.link_type, new.expect("writing to memory")));
            }
            Encoder::Pcap(Some(_)) => {}
        }
    }

    fn buffer(&self) -> &[u8] {
        match &self.encoder {
            Encoder::Pcapng(encoder) => encoder.get_ref(),
            Encoder::Pcap(Some((_, encoder))) => encoder.get_ref(),
            Encoder::Pcap(None) => &[],
        }
    }

    /// Writes the buffer, or cuts the file back to where it was and gives the packets up.
    fn write_buffer(&mut self) -> io::Result<()> {
        let is_pcapng = matches!(self.encoder, Encoder::Pcapng(_));
        let mut kept = 0;
        let buffer = match &mut self.encoder {
            Encoder::Pcapng(encoder) => encoder.get_mut(),
            Encoder::Pcap(Some((_, encoder))) => encoder.get_mut(),
            Encoder::Pcap(None) => return Ok(()),
        };
        let written = match &mut self.output {
            _ if self.closed => Err(io::ErrorKind::BrokenPipe.into()),
            Output::File(file) => {
                let (written, result) = write_counted(file, buffer);
                if result.is_err() {
                    kept = match is_pcapng {
                        true => whole_blocks(&buffer[..written], |place, ts_ns, bytes| {
                            self.origins.kept(place, ts_ns, bytes);
                        }),
                        false => 0,
                    };
                    self.file_bytes += kept as u64;
                    // If even this fails, a reader finds whole packets up to `file_bytes`.
                    let _ = file.set_len(self.file_bytes);
                    let _ = file.seek(SeekFrom::Start(self.file_bytes));
                }
                result
            }
            // Half a block may have gone out: nothing that follows could be read.
            Output::Stream(stream) => stream
                .write_all(buffer)
                .and_then(|()| stream.flush())
                .inspect_err(|_| self.closed = true),
        };
        match written {
            Ok(()) => {
                self.file_bytes += buffer.len() as u64;
                self.descriptions.clear();
                buffer.clear();
            }
            Err(_) => {
                let mut end = 0;
                self.descriptions.retain(|description| description.start >= kept);
                for description in &mut self.descriptions {
                    buffer.copy_within(description.clone(), end);
                    *description = end..end + description.len();
                    end = description.end;
                }
                buffer.truncate(end);
            }
        }
        written
    }

    /// Reports the first of a run of failures.
    fn report(&mut self, error: &dyn std::fmt::Display) {
        if self.closed {
            tracing::debug!("nobody reads the capture any more: {error}");
        } else if self.trouble.is_none() {
            tracing::error!(
                "capture file: {error}; packets are dropped and counted until it can be written"
            );
        }
    }
}

/// Writes all bytes, or as many as there is room for, and says how many that were.
fn write_counted(file: &mut File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(len) => written += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// The length of the whole pcapng blocks at the front of some bytes; tells the interface, the time and
/// the bytes of each packet in them.
fn whole_blocks(bytes: &[u8], mut packet: impl FnMut(usize, u64, u32)) -> usize {
    let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let mut end = 0;
    while let (Some(kind), Some(len)) = (word(end), word(end + 4)) {
        let next = end + len as usize;
        if len == 0 || next > bytes.len() {
            break;
        }
        if kind == block_type::ENHANCED_PACKET
            && let (Some(interface), Some(high), Some(low), Some(caplen)) =
                (word(end + 8), word(end + 12), word(end + 16), word(end + 20))
        {
            packet(interface as usize, u64::from(high) << 32 | u64::from(low), caplen);
        }
        end = next;
    }
    end
}

fn unwritable(path: &Path, source: io::Error) -> Error {
    let mend = match reason(&source) {
        DropReason::DiskFull => "; make room on its disk, or choose another",
        _ => "; choose a folder that exists and that you may write to",
    };
    Error::System { what: format!("write {}", path.display()), source, mend }
}

fn section() -> SectionInfo {
    SectionInfo {
        hardware: None,
        os: Some(format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
        application: Some(concat!("tapline ", env!("CARGO_PKG_VERSION")).into()),
        comment: None,
    }
}

fn statistics(written: &Written, upstream: Option<&Upstream>, alone: bool) -> Statistics {
    let upstream_alone = upstream.filter(|_| alone);
    Statistics {
        start_ns: written.span.pair().map(|(first, _)| first),
        end_ns: written.span.pair().map(|(_, last)| last),
        received: upstream_alone.map(|u| u.seen),
        dropped: upstream_alone.map(|u| u.drops.total()),
        filter_accepted: upstream_alone.map(|u| u.matched),
        os_drop: upstream
            .map(|u| u.drops.get(DropReason::KernelRing) + u.drops.get(DropReason::KernelSocket)),
        delivered: Some(written.packets.fate.sent),
        comment: (!alone && upstream.is_some()).then(|| {
            "the drops of the operating system are those of all interfaces together".into()
        }),
    }
}

fn refused(why: &'static str) -> capfile::Error {
    capfile::Error::Io { action: "write", offset: 0, source: io::Error::other(why) }
}

/// The reason under which the packets of a failed write are counted.
pub fn reason(error: &io::Error) -> DropReason {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => DropReason::DiskFull,
        // The reader of a pipe had enough: that is the end of the tap.
        Some(libc::EPIPE) => DropReason::Stopped,
        _ => DropReason::WriteError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use crate::device::{Arrival, SinkCounters, Source};
    use crate::file::FileSource;
    use crate::packet::{Direction, Meta, Outer};
    use crate::pool::Data;
    use std::sync::{Arc, Mutex};
    use wire::LinkType;
    use wire::tunnel::{Kind, Tunnel};

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
        let names: Vec<_> =
            packets.iter().map(|p| table.get(p.meta.interface).name.clone()).collect();
        assert_eq!(
            names,
            [Some("eth0".into()), Some("vxlan-71-fd00--1".into()), Some("eth0".into())]
        );
        assert!(
            packets.iter().all(|p| p.meta.origlen == 1514 && p.meta.direction == Direction::Out)
        );
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
    fn of_a_cut_buffer_the_whole_packets_are_found() {
        let mut encoder = PcapngWriter::new(Vec::new(), &section()).unwrap();
        let mut ends = vec![(0, 0), (encoder.get_ref().len(), 0)];
        for interface in 0..2 {
            encoder.add_interface(&Interface::new(1)).unwrap();
            ends.push((encoder.get_ref().len(), 0));
            let data = vec![7; 61 + interface as usize];
            encoder.write(interface, 1 << 40, 99, Direction::In, &data, None).unwrap();
            ends.push((encoder.get_ref().len(), 1));
        }
        let bytes = encoder.into_inner();
        for len in 0..=bytes.len() {
            let mut packets = Vec::new();
            let packet = |interface, ts_ns, bytes| packets.push((interface, ts_ns, bytes));
            let end = whole_blocks(&bytes[..len], packet);
            let before = ends.iter().filter(|(end, _)| *end <= len);
            assert_eq!(end, before.clone().map(|(end, _)| *end).max().unwrap());
            let count = before.map(|(_, packets)| packets).sum();
            assert_eq!(packets, [(0, 1 << 40, 61), (1, 1 << 40, 62)][..count]);
        }
    }

    #[test]
    fn each_refusal_of_the_disk_has_its_reason() {
        let of = |code| reason(&io::Error::from_raw_os_error(code));
        for code in [libc::ENOSPC, libc::EDQUOT, libc::EFBIG] {
            assert_eq!(of(code), DropReason::DiskFull);
        }
        for code in [libc::EROFS, libc::EIO, libc::EACCES, libc::EPERM, libc::ENOENT] {
            assert_eq!(of(code), DropReason::WriteError);
        }
        assert_eq!(of(libc::EPIPE), DropReason::Stopped);
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
}
