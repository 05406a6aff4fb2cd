//! The packets of a segment on their way into frames and rows, and back.

use super::SealOptions;
use super::out::Out;
use crate::error::Error;
use crate::index::{Gathered, Table};
use crate::name::SegmentName;
use capfile::pcapng_layout::block_type;
use capfile::seekable::{self, FOOTER_LEN, Frame, SeekTable, SeekableWriter};
use capfile::{BLOCK_LEN_MAX, Interface, Marks, PcapngWriter, Reader, Record, SectionInfo};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// How a file goes into frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Block by block.
    AsItIs,
    /// Written anew: one section with all interfaces in front.
    Anew,
}

/// What was found on the way.
pub(super) struct Packed {
    pub gathered: Gathered,
    pub raw_bytes: u64,
    pub dropped: Option<u64>,
    pub cut: Option<capfile::Warning>,
}

/// Puts a capture into frames, and its flows into rows. `None` if it cannot go as it is.
pub(super) fn pack(
    path: &Path,
    name: &SegmentName,
    out: &mut Out,
    form: Form,
    options: &SealOptions,
) -> Result<Option<Packed>, Error> {
    let failed = |source| Error::Capture { what: path.display().to_string(), source };
    let open = || {
        let file = File::open(path);
        file.map_err(|e| Error::system(format!("open {}", path.display()), e))
    };
    let described = match form {
        Form::AsItIs => None,
        Form::Anew => Some(Described::read(open()?).map_err(failed)?),
    };
    let mut reader = Reader::new(open()?).map_err(failed)?;
    let table = Table::new(&name.source);
    let packed = || {
        let frames = SeekableWriter::new(out, options.level)?;
        let mut cutter = Cutter { frames, head: Vec::new(), table };
        let is_done = match &described {
            None => cutter.copy(&mut reader)?,
            Some(described) => cutter.write_anew(&mut reader, described)?,
        };
        if !is_done {
            return Ok(None);
        }
        let raw_bytes = cutter.frames.finish()?.1.raw_bytes();
        let gathered = cutter.table.finish(raw_bytes);
        let (dropped, cut) = (dropped(&reader), reader.warning().copied());
        Ok(Some(Packed { gathered, raw_bytes, dropped, cut }))
    };
    packed().map_err(failed)
}

struct Cutter<'a> {
    frames: SeekableWriter<&'a mut Out>,
    /// What stands before the first packet, and is to be frame 0.
    head: Vec<u8>,
    table: Table,
}

impl Cutter<'_> {
    // False if the file cannot go as it is.
    fn copy(&mut self, reader: &mut Reader<File>) -> Result<bool, capfile::Error> {
        let mut is_head = true;
        while let Some(block) = reader.block() {
            let record = reader.record();
            let goes = match block.kind {
                Some(block_type::SECTION_HEADER) => is_head && self.head.is_empty(),
                Some(block_type::INTERFACE_DESCRIPTION) => is_head,
                Some(_) => true,
                None => false,
            };
            if !goes {
                return Ok(false);
            }
            if is_head && record.is_none() {
                self.head.extend_from_slice(block.bytes);
            } else {
                if std::mem::take(&mut is_head) {
                    self.end_head()?;
                }
                let number = self.frames.add(block.bytes)?;
                if let Some(record) = record {
                    self.table.add(&record, reader.interfaces(), number);
                }
            }
            if !reader.advance_block()? {
                break;
            }
        }
        if is_head {
            self.end_head()?;
        }
        Ok(true)
    }

    fn write_anew(
        &mut self,
        reader: &mut Reader<File>,
        described: &Described,
    ) -> Result<bool, capfile::Error> {
        let mut writer = PcapngWriter::new(Vec::new(), &described.section)?;
        for interface in &described.interfaces {
            writer.add_interface(interface)?;
        }
        std::mem::swap(&mut self.head, writer.get_mut());
        self.end_head()?;
        while reader.advance()? {
            let Some(record) = reader.record() else { break };
            writer.get_mut().clear();
            write_packet(&mut writer, &record)?;
            let number = self.frames.add(writer.get_ref())?;
            self.table.add(&record, &described.interfaces, number);
        }
        for index in 0..described.interfaces.len() as u32 {
            if let Some(statistics) = reader.statistics(index) {
                writer.get_mut().clear();
                writer.write_stats(index, statistics)?;
                self.frames.add(writer.get_ref())?;
            }
        }
        Ok(true)
    }

    fn end_head(&mut self) -> Result<(), capfile::Error> {
        let len = self.head.len();
        if len > BLOCK_LEN_MAX {
            let what = "what stands before the first packet";
            return Err(capfile::Error::TooLong { what, len, max: BLOCK_LEN_MAX });
        }
        self.frames.frame(&self.head)?;
        Ok(())
    }
}

fn write_packet(writer: &mut PcapngWriter<Vec<u8>>, record: &Record) -> Result<(), capfile::Error> {
    let marks = Marks { direction: record.direction, packet_id: record.packet_id };
    let (interface, comment) = (record.interface, record.comments().next());
    writer.write(interface, record.ts_ns, record.origlen, marks, record.data, comment)
}

/// What a file says of its interfaces, wherever it does.
struct Described {
    section: SectionInfo,
    interfaces: Vec<Interface>,
}

impl Described {
    fn read(file: File) -> Result<Described, capfile::Error> {
        let mut reader = Reader::new(file)?;
        let section = reader.section().cloned().unwrap_or_default();
        while reader.advance()? {}
        Ok(Described { section, interfaces: reader.interfaces().to_vec() })
    }
}

// The number is the ledger's: each interface that has it has the same one.
fn dropped<R>(reader: &Reader<R>) -> Option<u64> {
    let all = 0..reader.interfaces().len() as u32;
    all.filter_map(|index| reader.statistics(index)?.os_drop).max()
}

/// Puts the flows of sealed data into rows.
pub(super) fn unpack(path: &Path, name: &SegmentName) -> Result<Packed, Error> {
    let failed = |source| Error::Capture { what: path.display().to_string(), source };
    let system = |e| Error::system(format!("read {}", path.display()), e);
    let file = File::open(path).map_err(system)?;
    let len = file.metadata().map_err(system)?.len();
    let table = read_table(&file, len).map_err(system)?.map_err(failed)?;
    let frames = table.frames();
    let mut reader =
        Reader::new(Unpacked { file: &file, frames: frames.iter(), raw: io::Cursor::default() })
            .map_err(failed)?;
    let mut rows = Table::new(&name.source);
    let mut number = 0;
    while reader.advance().map_err(failed)? {
        let Some(record) = reader.record() else { break };
        let block = reader.block().map_or(0, |block| block.bytes.len() as u64);
        let start = reader.good_offset() - block;
        while frames.get(number + 1).is_some_and(|next| next.raw_offset <= start) {
            number += 1;
        }
        rows.add(&record, reader.interfaces(), number as u32);
    }
    let raw_bytes = table.raw_bytes();
    let (dropped, cut) = (dropped(&reader), reader.warning().copied());
    Ok(Packed { gathered: rows.finish(raw_bytes), raw_bytes, dropped, cut })
}

fn read_table(file: &File, len: u64) -> io::Result<Result<SeekTable, capfile::Error>> {
    let mut footer = [0; FOOTER_LEN];
    let short = || Ok(Err(capfile::Error::Seekable { what: "too short for a seek table" }));
    let Some(at) = len.checked_sub(FOOTER_LEN as u64) else { return short() };
    file.read_exact_at(&mut footer, at)?;
    let table_len = match SeekTable::len_in_file(&footer) {
        Ok(table_len) => table_len,
        Err(error) => return Ok(Err(error)),
    };
    let Some(at) = len.checked_sub(table_len as u64) else { return short() };
    let mut table = vec![0; table_len];
    file.read_exact_at(&mut table, at)?;
    Ok(SeekTable::parse(&table))
}

/// The content of sealed data, frame by frame.
struct Unpacked<'a> {
    file: &'a File,
    frames: std::slice::Iter<'a, Frame>,
    raw: io::Cursor<Vec<u8>>,
}

impl Read for Unpacked<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let len = self.raw.read(into)?;
            if len > 0 || into.is_empty() {
                return Ok(len);
            }
            let Some(frame) = self.frames.next() else { return Ok(0) };
            let mut bytes = vec![0; frame.len as usize];
            self.file.read_exact_at(&mut bytes, frame.offset)?;
            let raw = seekable::decompress(&bytes, frame).map_err(io::Error::other)?;
            self.raw = io::Cursor::new(raw);
        }
    }
}
