//! Packets as the records of a file format, put together in memory.

use super::gathered::Gathered;
use crate::interface::Interface;
use crate::packet::Packet;
use api::DropReason;
use capfile::{Marks, PcapResolution, PcapWriter, PcapngWriter, SectionInfo, Statistics};
use std::io;
use std::path::Path;

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
    /// pcapng, compressed by gzip: each write is a member of its own.
    PcapngGzip,
    /// pcap, likewise.
    PcapGzip,
}

impl FileFormat {
    /// pcap for names that end in `.pcap`, else pcapng; by gzip if `.gz` follows.
    pub fn of_path(path: &Path) -> FileFormat {
        let ends_in = |path: &Path, ending| path.extension().is_some_and(|of| of == ending);
        let is_gzip = ends_in(path, "gz");
        let stem = if is_gzip { path.file_stem().map(Path::new) } else { Some(path) };
        match (stem.is_some_and(|stem| ends_in(stem, "pcap")), is_gzip) {
            (true, true) => FileFormat::PcapGzip,
            (true, false) => FileFormat::Pcap,
            (false, true) => FileFormat::PcapngGzip,
            (false, false) => FileFormat::Pcapng,
        }
    }

    pub(super) fn is_pcapng(self) -> bool {
        matches!(self, FileFormat::Pcapng | FileFormat::PcapngGzip)
    }

    pub(super) fn is_gzip(self) -> bool {
        matches!(self, FileFormat::PcapngGzip | FileFormat::PcapGzip)
    }
}

/// Both encoders write into memory, which cannot fail.
pub(super) enum Encoder {
    Pcapng(PcapngWriter<Vec<u8>>),
    /// The file's link type is that of the first packet: before that there is no header.
    Pcap(Option<(u16, PcapWriter<Vec<u8>>)>, Vec<u8>),
}

impl Encoder {
    /// Puts the file's header into a buffer; pcap's comes with the first interface.
    pub fn new(format: FileFormat, buffer: Vec<u8>) -> io::Result<Encoder> {
        Ok(match format.is_pcapng() {
            true => {
                Encoder::Pcapng(PcapngWriter::new(buffer, &section()).map_err(io::Error::other)?)
            }
            false => Encoder::Pcap(None, buffer),
        })
    }

    #[inline]
    pub fn buffer(&self) -> &Vec<u8> {
        match self {
            Encoder::Pcapng(encoder) => encoder.get_ref(),
            Encoder::Pcap(Some((_, encoder)), _) => encoder.get_ref(),
            Encoder::Pcap(None, buffer) => buffer,
        }
    }

    pub fn buffer_mut(&mut self) -> &mut Vec<u8> {
        match self {
            Encoder::Pcapng(encoder) => encoder.get_mut(),
            Encoder::Pcap(Some((_, encoder)), _) => encoder.get_mut(),
            Encoder::Pcap(None, buffer) => buffer,
        }
    }

    /// Puts a packet of an interface into the buffer.
    #[inline]
    pub fn encode(
        &mut self,
        interface: usize,
        packet: &Packet,
    ) -> Result<(), (DropReason, capfile::Error)> {
        let (meta, data) = (&packet.meta, &*packet.data);
        let written = match self {
            Encoder::Pcapng(encoder) => {
                let marks = Marks { direction: meta.direction, packet_id: meta.packet_id };
                encoder.append(interface as u32, meta.ts_ns, meta.origlen, marks, data)
            }
            Encoder::Pcap(Some((link_type, encoder)), _) if *link_type == meta.link_type.0 => {
                encoder.write(meta.ts_ns, meta.origlen, data)
            }
            Encoder::Pcap(..) => {
                let error = refused(
                    "packets of a second link type do not fit a pcap file; write pcapng (a name \
                     that does not end in .pcap)",
                );
                return Err((DropReason::LinkType, error));
            }
        };
        written.map_err(|error| (DropReason::WriteError, error))
    }

    /// Puts an interface's block, or the file header that takes its place, into the buffer.
    pub fn add_interface(&mut self, interface: &Interface) {
        match self {
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
            Encoder::Pcap(encoder @ None, buffer) => {
                let snaplen = PCAP_SNAPLEN.max(interface.snaplen);
                let buffer = std::mem::take(buffer);
                let new =
                    PcapWriter::new(buffer, interface.link_type, snaplen, PcapResolution::Nano);
                *encoder = Some((interface.link_type, new.expect("writing to memory")));
            }
            Encoder::Pcap(Some(_), _) => {}
        }
    }

    /// Puts an interface's statistics into the buffer, if the format has them.
    ///
    /// # Errors
    /// If they do not fit the format.
    pub fn add_statistics(
        &mut self,
        interface: usize,
        statistics: &Statistics,
    ) -> Result<(), capfile::Error> {
        match self {
            Encoder::Pcapng(encoder) => encoder.write_stats(interface as u32, statistics),
            Encoder::Pcap(..) => Ok(()),
        }
    }

    /// So many bytes that say nothing in a pcapng file.
    pub fn padding(bytes: usize) -> Gathered {
        let mut encoder =
            PcapngWriter::new(Vec::new(), &SectionInfo::default()).expect("writing to memory");
        encoder.get_mut().clear();
        encoder.pad(bytes).expect("writing to memory");
        Gathered { buffer: encoder.into_inner(), ..Gathered::default() }
    }

    /// Puts so many bytes that say nothing into the buffer, if the format has them.
    pub fn pad(&mut self, bytes: usize) {
        if let Encoder::Pcapng(encoder) = self
            && bytes > 0
        {
            encoder.pad(bytes).expect("writing to memory");
        }
    }
}

/// What the section header says.
fn section() -> SectionInfo {
    SectionInfo {
        hardware: None,
        os: Some(format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
        application: Some(concat!("tapline ", env!("CARGO_PKG_VERSION")).into()),
        comment: None,
    }
}

fn refused(why: &'static str) -> capfile::Error {
    capfile::Error::Io { action: "write", offset: 0, source: io::Error::other(why) }
}
