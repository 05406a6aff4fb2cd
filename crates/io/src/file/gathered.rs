//! Blocks that were gathered to be written at once, and what is done when there is no room for all.

use super::encoder::FileFormat;
use super::origins::Origins;
use api::DropReason;
use capfile::pcapng_layout::block_type;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Blocks of a file that are to be written one behind the other.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub buffer: Vec<u8>,
    /// Bytes at the buffer's front that are not the file's: they align the others.
    pub lead: usize,
    /// Where the buffer describes interfaces: that is kept when the packets are given up.
    pub descriptions: Vec<Range<usize>>,
    /// Under which load its packets are counted.
    pub load: usize,
}

impl Gathered {
    /// What is to be written.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.lead..]
    }

    /// Forgets what was written.
    pub fn clear(&mut self) {
        self.buffer.truncate(self.lead);
        self.descriptions.clear();
    }

    /// Writes all to a file's end, through the page cache. If there is no room the file ends behind
    /// its last whole packet (pcap, gzip: where it ended before), and no more than the descriptions of
    /// interfaces that are not in it are left. Gives the bytes by which it grew.
    pub fn write(
        &mut self,
        file: &File,
        end: u64,
        format: FileFormat,
        origins: &mut Origins,
    ) -> (u64, io::Result<()>) {
        let (written, result) = match format.is_gzip() {
            true => write_counted(file, end, &member(self.bytes())),
            false => write_counted(file, end, self.bytes()),
        };
        if result.is_ok() {
            self.clear();
            return (written as u64, result);
        }
        let load = self.load;
        let kept = match format {
            FileFormat::Pcapng => whole_blocks(&self.bytes()[..written], |place, ts_ns, bytes| {
                origins.kept(place, load, ts_ns, bytes);
            }),
            _ => 0,
        };
        // If even this fails, a reader finds whole packets up to there.
        let _ = file.set_len(end + kept as u64);
        self.keep_descriptions(kept);
        (kept as u64, result)
    }

    /// Keeps what describes interfaces behind so many bytes, and nothing else.
    pub fn keep_descriptions(&mut self, kept: usize) {
        let mut end = self.lead;
        self.descriptions.retain(|description| description.start >= self.lead + kept);
        for description in &mut self.descriptions {
            self.buffer.copy_within(description.clone(), end);
            *description = end..end + description.len();
            end = description.end;
        }
        self.buffer.truncate(end);
    }

    /// Puts the descriptions that another left in front of all.
    pub fn prepend(&mut self, other: &Gathered) {
        let (moved, lead) = (other.bytes().len(), self.lead);
        self.buffer.splice(lead..lead, other.bytes().iter().copied());
        let own = self.descriptions.iter().map(|at| at.start + moved..at.end + moved);
        let others = other.descriptions.iter();
        let others = others.map(|at| at.start - other.lead + lead..at.end - other.lead + lead);
        self.descriptions = others.chain(own).collect();
    }
}

/// A member of a gzip file.
fn member(bytes: &[u8]) -> Vec<u8> {
    let packed = Vec::with_capacity(bytes.len() / 2);
    let mut encoder = GzEncoder::new(packed, Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("writing to memory")
}

/// Writes all bytes, or as many as there is room for, and says how many that were.
fn write_counted(file: &File, offset: u64, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match file.write_at(&bytes[written..], offset + written as u64) {
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
    use capfile::{Direction, Interface, PcapngWriter, SectionInfo};

    #[test]
    fn of_a_cut_buffer_the_whole_packets_are_found() {
        let mut encoder = PcapngWriter::new(Vec::new(), &SectionInfo::default()).unwrap();
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
}
