//! Writes pcap: one link type, no direction, no comments. For tools that read nothing else.

use crate::pcap_layout::*;
use crate::pcapng_writer::Output;
use crate::{BLOCK_LEN_MAX, Error};
use std::io::Write;

/// Length of a tick in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PcapResolution {
    /// Microseconds, magic 0xa1b2c3d4: what every tool reads. Nanoseconds are rounded down.
    Micro,
    /// Nanoseconds, magic 0xa1b23c4d.
    #[default]
    Nano,
}

/// A pcap file that is being written, little-endian.
///
/// Makes two writes a packet: wrap a file in a [`std::io::BufWriter`].
#[derive(Debug)]
pub struct PcapWriter<W> {
    output: Output<W>,
    resolution: PcapResolution,
}

impl<W: Write> PcapWriter<W> {
    /// Writes the file header. `snaplen` is told to readers, not applied; libpcap takes 0 for
    /// "no limit".
    ///
    /// # Errors
    /// [`Error::Io`] if the stream fails.
    pub fn new(
        stream: W,
        link_type: u16,
        snaplen: u32,
        resolution: PcapResolution,
    ) -> Result<Self, Error> {
        let magic = match resolution {
            PcapResolution::Micro => MAGIC_MICRO,
            PcapResolution::Nano => MAGIC_NANO,
        };
        let mut header = [0; FILE_HEADER_LEN];
        header[..4].copy_from_slice(&magic.to_le_bytes());
        header[4..6].copy_from_slice(&VERSION.0.to_le_bytes());
        header[6..8].copy_from_slice(&VERSION.1.to_le_bytes());
        header[16..20].copy_from_slice(&snaplen.to_le_bytes());
        header[20..24].copy_from_slice(&u32::from(link_type).to_le_bytes());
        let mut output = Output::new(stream);
        output.put(&header)?;
        Ok(PcapWriter { output, resolution })
    }

    /// Writes one packet: `data` are the bytes present, `origlen` those on the wire.
    ///
    /// # Errors
    /// [`Error::TimeOutOfRange`] after 2106, [`Error::TooLong`] above [`BLOCK_LEN_MAX`], both
    /// before anything is written; [`Error::Io`] if the stream fails.
    #[inline]
    pub fn write(&mut self, ts_ns: u64, origlen: u32, data: &[u8]) -> Result<(), Error> {
        let Ok(seconds) = u32::try_from(ts_ns / 1_000_000_000) else {
            return Err(Error::TimeOutOfRange { ts_ns });
        };
        let max = BLOCK_LEN_MAX - RECORD_HEADER_LEN;
        if data.len() > max {
            return Err(Error::TooLong { what: "a packet", len: data.len(), max });
        }
        let ns = (ts_ns % 1_000_000_000) as u32;
        let fraction = match self.resolution {
            PcapResolution::Micro => ns / 1000,
            PcapResolution::Nano => ns,
        };
        let mut header = [0; RECORD_HEADER_LEN];
        header[..4].copy_from_slice(&seconds.to_le_bytes());
        header[4..8].copy_from_slice(&fraction.to_le_bytes());
        header[8..12].copy_from_slice(&(data.len() as u32).to_le_bytes());
        header[12..].copy_from_slice(&origlen.to_le_bytes());
        self.output.put(&header)?;
        self.output.put(data)
    }

    /// Flushes the stream.
    ///
    /// # Errors
    /// [`Error::Io`] if the stream fails.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.output.flush()
    }

    /// Bytes given to the stream, the header included.
    pub fn bytes_written(&self) -> u64 {
        self.output.bytes
    }

    /// The stream, not flushed.
    pub fn get_ref(&self) -> &W {
        &self.output.stream
    }

    /// The stream, not flushed; bytes written to it directly damage the capture.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.output.stream
    }

    /// Gives the stream back, not flushed.
    pub fn into_inner(self) -> W {
        self.output.stream
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_the_layout_page() {
        for (resolution, magic, fraction) in [
            (PcapResolution::Micro, b"\xd4\xc3\xb2\xa1", b"\x01\0\0\0"),
            (PcapResolution::Nano, b"\x4d\x3c\xb2\xa1", b"\xcf\x07\0\0"),
        ] {
            let mut writer = PcapWriter::new(Vec::new(), 113, 0x0403_0201, resolution).unwrap();
            writer.write(5_000_001_999, 60, b"abc").unwrap();
            let header = b"\x02\0\x04\0\0\0\0\0\0\0\0\0\x01\x02\x03\x04\x71\0\0\0";
            let record = [b"\x05\0\0\0", &fraction[..], b"\x03\0\0\0\x3c\0\0\0abc"].concat();
            assert_eq!(writer.bytes_written(), 24 + 19);
            assert_eq!(writer.into_inner(), [magic, &header[..], &record].concat());
        }
    }

    #[test]
    fn what_cannot_be_written_leaves_the_file_as_it_was() {
        let mut writer = PcapWriter::new(Vec::new(), 1, 0, PcapResolution::Nano).unwrap();
        let late = (u64::from(u32::MAX) + 1) * 1_000_000_000;
        writer.write(late - 1, 0, b"").unwrap();
        let error = writer.write(late, 0, b"").unwrap_err();
        assert!(matches!(error, Error::TimeOutOfRange { ts_ns } if ts_ns == late));
        let error = writer.write(0, 0, &vec![0; BLOCK_LEN_MAX]).unwrap_err();
        assert!(matches!(error, Error::TooLong { .. }));
        assert_eq!(writer.into_inner().len(), FILE_HEADER_LEN + RECORD_HEADER_LEN);
    }
}
