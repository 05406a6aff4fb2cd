//! Writes pcapng: one section, any number of interfaces, laid out as [`crate::pcapng_layout`] shows.

use crate::option::{push, push_text};
use crate::pcapng_layout::*;
use crate::record::direction_flags;
use crate::{
    BLOCK_LEN_MAX, Direction, Error, Interface, Marks, SectionInfo, Statistics, TsResolution,
};
use std::io::Write;

/// Longest packet that is written, bytes: what a reader takes, less the block around it.
const PACKET_LEN_MAX: usize = 16 << 20;

/// Padding, `epb_flags`, `epb_packetid`, `opt_endofopt` and the trailing length.
const TAIL_LEN_MAX: usize = 3 + 8 + 12 + 4 + 4;

/// A stream and the count of the bytes given to it.
#[derive(Debug)]
pub(crate) struct Output<W> {
    pub(crate) stream: W,
    pub(crate) bytes: u64,
}

impl<W: Write> Output<W> {
    pub(crate) fn new(stream: W) -> Self {
        Output { stream, bytes: 0 }
    }

    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match self.stream.write_all(bytes) {
            Ok(()) => {
                self.bytes += bytes.len() as u64;
                Ok(())
            }
            Err(source) => Err(Error::Io { action: "write", offset: self.bytes, source }),
        }
    }

    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        let offset = self.bytes;
        self.stream.flush().map_err(|source| Error::Io { action: "flush", offset, source })
    }
}

/// What stands around a packet's bytes in an Enhanced Packet Block.
struct PacketFrame {
    header: [u8; PACKET_HEADER_LEN],
    /// Padding, flags, end of options and total length: so many bytes of it.
    tail: [u8; TAIL_LEN_MAX],
    tail_len: usize,
    /// Bytes of the tail before the place of a comment.
    padding: usize,
}

impl PacketFrame {
    #[inline]
    fn new(
        interface: u32,
        ts_ns: u64,
        origlen: u32,
        marks: Marks,
        data: &[u8],
        comment_len: usize,
    ) -> Result<PacketFrame, Error> {
        let caplen = data.len();
        if caplen > PACKET_LEN_MAX {
            return Err(Error::TooLong { what: "a packet", len: caplen, max: PACKET_LEN_MAX });
        }
        let padding = padded(caplen) - caplen;
        let mut tail = [0; TAIL_LEN_MAX];
        let mut tail_len = padding;
        if marks.direction != Direction::Unknown {
            tail[tail_len..tail_len + 2].copy_from_slice(&option_code::PACKET_FLAGS.to_le_bytes());
            tail[tail_len + 2] = 4;
            tail[tail_len + 4..tail_len + 8]
                .copy_from_slice(&direction_flags(marks.direction).to_le_bytes());
            tail_len += 8;
        }
        if let Some(id) = marks.packet_id {
            tail[tail_len..tail_len + 2].copy_from_slice(&option_code::PACKET_ID.to_le_bytes());
            tail[tail_len + 2] = 8;
            tail[tail_len + 4..tail_len + 12].copy_from_slice(&id.to_le_bytes());
            tail_len += 12;
        }
        if tail_len > padding || comment_len > 0 {
            tail_len += 4; // opt_endofopt is four zeros
        }
        let total = (PACKET_HEADER_LEN + caplen + comment_len + tail_len + 4) as u32;
        tail[tail_len..tail_len + 4].copy_from_slice(&total.to_le_bytes());
        tail_len += 4;

        let mut header = [0; PACKET_HEADER_LEN];
        header[..4].copy_from_slice(&block_type::ENHANCED_PACKET.to_le_bytes());
        header[4..8].copy_from_slice(&total.to_le_bytes());
        header[8..12].copy_from_slice(&interface.to_le_bytes());
        header[12..20].copy_from_slice(&ticks(ts_ns));
        header[20..24].copy_from_slice(&(caplen as u32).to_le_bytes());
        header[24..].copy_from_slice(&origlen.to_le_bytes());
        Ok(PacketFrame { header, tail, tail_len, padding })
    }
}

/// A pcapng file that is being written.
///
/// Makes three writes a packet: wrap a file in a [`std::io::BufWriter`]. After [`Error::Io`] the
/// file may end inside a block; all other errors come before anything is written.
#[derive(Debug)]
pub struct PcapngWriter<W> {
    output: Output<W>,
    interfaces: u32,
    /// Blocks other than packets are put together here.
    scratch: Vec<u8>,
}

impl<W: Write> PcapngWriter<W> {
    /// Writes the section header.
    ///
    /// # Errors
    /// [`Error::TooLong`] if a text has more than 65,535 bytes; [`Error::Io`] if the stream fails.
    pub fn new(stream: W, section: &SectionInfo) -> Result<Self, Error> {
        let mut writer =
            PcapngWriter { output: Output::new(stream), interfaces: 0, scratch: Vec::new() };
        let block = writer.begin(block_type::SECTION_HEADER);
        block.extend_from_slice(&BYTE_ORDER_MAGIC.to_le_bytes());
        block.extend_from_slice(&1_u16.to_le_bytes());
        block.extend_from_slice(&0_u16.to_le_bytes());
        block.extend_from_slice(&(-1_i64).to_le_bytes());
        push_text(block, option_code::COMMENT, section.comment.as_deref())?;
        push_text(block, option_code::SHB_HARDWARE, section.hardware.as_deref())?;
        push_text(block, option_code::SHB_OS, section.os.as_deref())?;
        push_text(block, option_code::SHB_USERAPPL, section.application.as_deref())?;
        writer.finish(SECTION_HEADER_LEN)?;
        Ok(writer)
    }

    /// Describes an interface and gives its index, from 0 up. The ticks are nanoseconds whatever
    /// the description says about the file that it was read from.
    ///
    /// # Errors
    /// [`Error::TooLong`] if an option has more than 65,535 bytes or all together fit no block;
    /// [`Error::Io`] if the stream fails.
    pub fn add_interface(&mut self, interface: &Interface) -> Result<u32, Error> {
        let block = self.begin(block_type::INTERFACE_DESCRIPTION);
        block.extend_from_slice(&interface.link_type.to_le_bytes());
        block.extend_from_slice(&[0; 2]);
        block.extend_from_slice(&interface.snaplen.to_le_bytes());
        push_text(block, option_code::IF_NAME, interface.name.as_deref())?;
        push_text(block, option_code::IF_DESCRIPTION, interface.description.as_deref())?;
        push(block, option_code::IF_TSRESOL, &[TsResolution::NANO.0])?;
        if let Some(filter) = &interface.filter {
            push(block, option_code::IF_FILTER, &[&[0], filter.as_bytes()].concat())?;
        }
        push_text(block, option_code::IF_OS, interface.os.as_deref())?;
        for option in &interface.other {
            // These two are ours to say, and code 0 would hide what follows.
            let ours = [option_code::END, option_code::IF_TSRESOL, option_code::IF_TSOFFSET];
            if !ours.contains(&option.code) {
                push(block, option.code, &option.value)?;
            }
        }
        self.finish(INTERFACE_HEADER_LEN)?;
        self.interfaces += 1;
        Ok(self.interfaces - 1)
    }

    /// Writes one packet: `data` are the bytes present, `origlen` those on the wire.
    ///
    /// # Errors
    /// [`Error::UnknownInterface`]; [`Error::TooLong`] for a packet above 16 MiB or a comment above
    /// 65,535 bytes; [`Error::Io`] if the stream fails.
    #[inline]
    pub fn write(
        &mut self,
        interface: u32,
        ts_ns: u64,
        origlen: u32,
        marks: impl Into<Marks>,
        data: &[u8],
        comment: Option<&str>,
    ) -> Result<(), Error> {
        self.check_interface(interface)?;
        self.scratch.clear();
        if let Some(comment) = comment {
            push(&mut self.scratch, option_code::COMMENT, comment.as_bytes())?;
        }
        let comment_len = self.scratch.len();
        let frame = PacketFrame::new(interface, ts_ns, origlen, marks.into(), data, comment_len)?;
        self.output.put(&frame.header)?;
        self.output.put(data)?;
        if comment_len == 0 {
            return self.output.put(&frame.tail[..frame.tail_len]);
        }
        self.output.put(&frame.tail[..frame.padding])?;
        self.output.put(&self.scratch)?;
        self.output.put(&frame.tail[frame.padding..frame.tail_len])
    }

    /// Writes what an interface counted, usually once, behind its last packet.
    ///
    /// The block's own time is `end_ns`, else `start_ns`, else 0.
    ///
    /// # Errors
    /// [`Error::UnknownInterface`]; [`Error::TooLong`] for a comment above 65,535 bytes;
    /// [`Error::Io`] if the stream fails.
    pub fn write_stats(&mut self, interface: u32, statistics: &Statistics) -> Result<(), Error> {
        self.check_interface(interface)?;
        let Statistics { start_ns, end_ns, .. } = *statistics;
        let block = self.begin(block_type::INTERFACE_STATISTICS);
        block.extend_from_slice(&interface.to_le_bytes());
        block.extend_from_slice(&ticks(end_ns.or(start_ns).unwrap_or(0)));
        push_text(block, option_code::COMMENT, statistics.comment.as_deref())?;
        for (code, ns) in
            [(option_code::ISB_STARTTIME, start_ns), (option_code::ISB_ENDTIME, end_ns)]
        {
            if let Some(ns) = ns {
                push(block, code, &ticks(ns))?;
            }
        }
        for (code, count) in [
            (option_code::ISB_IFRECV, statistics.received),
            (option_code::ISB_IFDROP, statistics.dropped),
            (option_code::ISB_FILTERACCEPT, statistics.filter_accepted),
            (option_code::ISB_OSDROP, statistics.os_drop),
            (option_code::ISB_USRDELIV, statistics.delivered),
        ] {
            if let Some(count) = count {
                push(block, code, &count.to_le_bytes())?;
            }
        }
        self.finish(STATISTICS_HEADER_LEN)
    }

    /// Writes a block that says nothing, of so many bytes: a multiple of 4, from
    /// [`BLOCK_LEN_MIN`] to [`BLOCK_LEN_MAX`]; other lengths are brought there.
    ///
    /// # Errors
    /// [`Error::Io`] if the stream fails.
    pub fn pad(&mut self, total: usize) -> Result<(), Error> {
        let total = padded(total.clamp(BLOCK_LEN_MIN, BLOCK_LEN_MAX));
        let block = self.begin(block_type::PADDING);
        block.resize(total - 4, 0);
        self.finish(total)
    }

    /// Flushes the stream.
    ///
    /// # Errors
    /// [`Error::Io`] if the stream fails.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.output.flush()
    }

    /// Bytes given to the stream, the section header included.
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

    #[inline]
    fn check_interface(&self, interface: u32) -> Result<(), Error> {
        if interface < self.interfaces {
            return Ok(());
        }
        Err(Error::UnknownInterface { interface, known: self.interfaces })
    }

    /// Starts a block in the scratch buffer, its length still open.
    fn begin(&mut self, kind: u32) -> &mut Vec<u8> {
        self.scratch.clear();
        self.scratch.extend_from_slice(&kind.to_le_bytes());
        self.scratch.extend_from_slice(&[0; 4]);
        &mut self.scratch
    }

    /// Ends the options, if the block is longer than its `header_len`, and writes it.
    fn finish(&mut self, header_len: usize) -> Result<(), Error> {
        if self.scratch.len() > header_len {
            self.scratch.extend_from_slice(&[0; 4]);
        }
        let total = self.scratch.len() + 4;
        if total > BLOCK_LEN_MAX {
            return Err(Error::TooLong { what: "a block", len: total, max: BLOCK_LEN_MAX });
        }
        let total = (total as u32).to_le_bytes();
        self.scratch[4..8].copy_from_slice(&total);
        self.scratch.extend_from_slice(&total);
        self.output.put(&self.scratch)
    }
}

/// A time as two 32-bit halves, the high one first.
#[inline]
fn ticks(ts_ns: u64) -> [u8; 8] {
    (ts_ns.rotate_left(32)).to_le_bytes()
}

impl PcapngWriter<Vec<u8>> {
    /// As [`Self::write`] without a comment, at the cost of one growth check: for those who gather
    /// packets in memory.
    ///
    /// # Errors
    /// [`Error::UnknownInterface`]; [`Error::TooLong`] for a packet above 16 MiB.
    #[inline]
    pub fn append(
        &mut self,
        interface: u32,
        ts_ns: u64,
        origlen: u32,
        marks: impl Into<Marks>,
        data: &[u8],
    ) -> Result<(), Error> {
        self.check_interface(interface)?;
        let frame = PacketFrame::new(interface, ts_ns, origlen, marks.into(), data, 0)?;
        let buffer = &mut self.output.stream;
        buffer.reserve(PACKET_HEADER_LEN + data.len() + TAIL_LEN_MAX);
        buffer.extend_from_slice(&frame.header);
        buffer.extend_from_slice(data);
        let end = buffer.len() + frame.tail_len;
        buffer.extend_from_slice(&frame.tail); // all of it: a copy of known length is quicker
        buffer.truncate(end);
        self.output.bytes += (PACKET_HEADER_LEN + data.len() + frame.tail_len) as u64;
        Ok(())
    }
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reader;

    #[test]
    fn padding_has_the_length_asked_for_and_is_stepped_over() {
        let mut writer = PcapngWriter::new(Vec::new(), &SectionInfo::default()).unwrap();
        writer.add_interface(&Interface::new(1)).unwrap();
        for (asked, len) in [(0, 12), (12, 12), (14, 16), (4096, 4096), (usize::MAX, BLOCK_LEN_MAX)]
        {
            let before = writer.get_ref().len();
            writer.pad(asked).unwrap();
            assert_eq!(writer.get_ref().len() - before, len);
        }
        writer.write(0, 7, 60, Direction::In, &[1; 60], None).unwrap();
        let bytes = writer.into_inner();
        let mut reader = Reader::new(&bytes[..]).unwrap();
        assert_eq!(reader.next().unwrap().map(|record| record.ts_ns), Some(7));
        assert!(reader.next().unwrap().is_none() && reader.warning().is_none());
    }

    /// Takes so many bytes, then fails.
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
    }

    fn writer() -> PcapngWriter<Vec<u8>> {
        let mut writer = PcapngWriter::new(Vec::new(), &SectionInfo::default()).unwrap();
        writer.add_interface(&Interface::new(1)).unwrap();
        writer
    }

    #[test]
    fn the_block_of_the_layout_page() {
        let mut writer = writer();
        let start = writer.get_ref().len();
        writer.write(0, 0x0102_0304_0506_0708, 6, Direction::In, b"hello", None).unwrap();
        let want = b"\x06\0\0\0\x34\0\0\0\0\0\0\0\x04\x03\x02\x01\x08\x07\x06\x05\
            \x05\0\0\0\x06\0\0\0hello\0\0\0\x02\0\x04\0\x01\0\0\0\0\0\0\0\x34\0\0\0";
        assert_eq!(&writer.get_ref()[start..], want);
        // Nothing known of the direction: no options at all.
        let start = writer.get_ref().len();
        writer.write(0, 0, 0, Direction::Unknown, b"", None).unwrap();
        assert_eq!(&writer.get_ref()[start..start + 8], b"\x06\0\0\0\x20\0\0\0");
        assert_eq!(writer.get_ref().len() - start, 32);
    }

    #[test]
    fn a_packet_id_is_written_and_read_back() {
        let mut writer = writer();
        let id = Some(0x0102_0304_0506_0708);
        for direction in [Direction::Unknown, Direction::Out] {
            let start = writer.get_ref().len();
            let marks = Marks { direction, packet_id: id };
            writer.append(0, 1, 5, marks, b"hello").unwrap();
            let flags = if direction == Direction::Out { 8 } else { 0 };
            let options = &writer.get_ref()[start + PACKET_HEADER_LEN + 8 + flags..];
            assert_eq!(&options[..16], b"\x05\0\x08\0\x08\x07\x06\x05\x04\x03\x02\x01\0\0\0\0");
        }
        writer.write(0, 1, 5, Marks { packet_id: id, ..Marks::default() }, b"", Some("c")).unwrap();
        writer.write(0, 1, 5, Direction::In, b"", None).unwrap();
        let file = writer.into_inner();
        let mut reader = Reader::new(&file[..]).unwrap();
        let mut next = || {
            let record = reader.next().unwrap().unwrap();
            (record.direction, record.packet_id, record.comments().count())
        };
        assert_eq!(next(), (Direction::Unknown, id, 0));
        assert_eq!(next(), (Direction::Out, id, 0));
        assert_eq!(next(), (Direction::Unknown, id, 1));
        assert_eq!(next(), (Direction::In, None, 0));
    }

    #[test]
    fn what_cannot_be_written_leaves_the_file_as_it_was() {
        let mut writer = writer();
        let bytes_written = writer.bytes_written();
        let long = "x".repeat(65536);
        let unknown = writer.write(1, 0, 0, Direction::Unknown, b"", None).unwrap_err();
        assert!(matches!(unknown, Error::UnknownInterface { interface: 1, known: 1 }));
        let unknown = writer.write_stats(7, &Statistics::default()).unwrap_err();
        assert!(matches!(unknown, Error::UnknownInterface { interface: 7, known: 1 }));
        let comment = writer.write(0, 0, 0, Direction::In, b"", Some(&long)).unwrap_err();
        assert!(matches!(comment, Error::TooLong { len: 65536, max: 65535, .. }));
        let packet = vec![0; PACKET_LEN_MAX + 1];
        let packet = writer.write(0, 0, 0, Direction::In, &packet, None).unwrap_err();
        assert!(matches!(packet, Error::TooLong { max: PACKET_LEN_MAX, .. }));
        let name = Interface { name: Some(long), ..Interface::new(1) };
        assert!(matches!(writer.add_interface(&name), Err(Error::TooLong { .. })));
        assert_eq!(writer.bytes_written(), bytes_written);
        assert_eq!(writer.get_ref().len() as u64, bytes_written);
        assert_eq!(writer.add_interface(&Interface::new(1)).unwrap(), 1);
    }

    #[test]
    fn the_longest_packet_with_the_longest_comment_is_read_back() {
        let mut writer = writer();
        let (data, comment) = (vec![7; PACKET_LEN_MAX], "x".repeat(65535));
        writer.write(0, 1, 2, Direction::Out, &data, Some(&comment)).unwrap();
        let file = writer.into_inner();
        let mut reader = Reader::new(&file[..]).unwrap();
        let record = reader.next().unwrap().unwrap();
        assert!(record.data == data && record.comments().eq([&comment[..]]));
    }

    #[test]
    fn a_full_disk_says_where() {
        let mut writer = PcapngWriter::new(Full(59), &SectionInfo::default()).unwrap();
        let error = writer.add_interface(&Interface::new(1)).unwrap_err();
        assert!(matches!(error, Error::Io { action: "write", offset: 28, .. }), "{error}");
        assert!(matches!(writer.flush(), Err(Error::Io { action: "flush", offset: 28, .. })));
    }
}
