//! A segment that is being read: frames of a sealed one, or one that is not sealed as a stream.

use super::GROUP_FRAMES_MAX;
use super::found::{Found, Place};
use super::judge::Judge;
use crate::catalog::{self, Segment, State};
use crate::error::Error;
use crate::fetch::{Fetch, in_thread};
use bytes::Bytes;
use capfile::seekable::{FOOTER_LEN, FRAME_RAW_LEN, Frame, SeekTable, decompress};
use capfile::{Interface, Reader};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Take};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes at the end of a sealed segment that are read at first: the table of 8,000 frames fits, and
/// many a segment does as a whole.
const TAIL_BYTES: u64 = 64 << 10;
/// Bytes between two frames that are read with them, rather than to read twice.
const GAP_BYTES_MAX: u64 = 64 << 10;
/// Bytes of packets that are judged at a time, in a segment that is not sealed.
const TURN_BYTES: u64 = 1 << 20;

/// A sealed segment.
#[derive(Debug)]
pub(super) struct Sealed {
    /// Where its data is; it may move from the spool into the store.
    place: Mutex<catalog::Place>,
    table: SeekTable,
    /// The first frame, decompressed: it describes the interfaces.
    header: Vec<u8>,
    /// The whole of a short one.
    whole: Option<Bytes>,
    judge: Judge,
}

/// Frames that are read in one range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// Their numbers, ascending.
    pub(super) frames: Vec<u32>,
    /// Time of the earliest packet, at the earliest.
    pub(super) first_ns: u64,
}

/// What reading a part of a segment gave.
#[derive(Debug, Default)]
pub(super) struct Examined {
    /// In the order of the segment.
    pub(super) found: Vec<Found>,
    /// What could not be read, and why.
    pub(super) troubles: Vec<String>,
}

impl Sealed {
    /// Reads where the frames are, and what the interfaces are.
    pub(super) async fn open(
        fetch: &Fetch,
        segment: &Segment,
        judge: Judge,
    ) -> Result<Sealed, Error> {
        let (place, bytes) = &segment.data;
        let damaged = |source| Error::Capture { what: name(segment), source };
        let tail = fetch.range(place, bytes.saturating_sub(TAIL_BYTES)..*bytes).await?;
        let footer = &tail[tail.len().saturating_sub(FOOTER_LEN)..];
        let table_bytes = SeekTable::len_in_file(footer).map_err(damaged)?;
        let table = if table_bytes <= tail.len() {
            tail.slice(tail.len() - table_bytes..)
        } else {
            let start = bytes.checked_sub(table_bytes as u64).ok_or_else(|| {
                damaged(capfile::Error::Seekable { what: "the seek table is longer than the file" })
            })?;
            fetch.range(place, start..*bytes).await?
        };
        let table = SeekTable::parse(&table).map_err(damaged)?;
        let (Some(first), true) =
            (table.frames().first(), table.bytes() + table_bytes as u64 == *bytes)
        else {
            let what = "the frames of the seek table are not as long as the file";
            return Err(damaged(capfile::Error::Seekable { what }));
        };
        let whole = Some(tail).filter(|tail| tail.len() as u64 == *bytes);
        let header = match &whole {
            Some(whole) => whole.slice(..first.len as usize),
            None => fetch.range(place, 0..u64::from(first.len)).await?,
        };
        let header = decompress(&header, first).map_err(damaged)?;
        Ok(Sealed { place: Mutex::new(place.clone()), table, header, whole, judge })
    }

    /// The numbers of all frames.
    pub(super) fn frames(&self) -> Range<u32> {
        // As many as the table's count, which has 32 bits.
        0..self.table.frames().len() as u32
    }

    /// Joins frames, whose numbers ascend, into groups.
    pub(super) fn groups(
        &self,
        frames: impl IntoIterator<Item = u32>,
        first_ns: impl Fn(u32) -> u64,
    ) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        let (mut end, mut raw_bytes) = (0, 0);
        for number in frames {
            let Some(frame) = self.frame(number) else { continue };
            let first_ns = first_ns(number);
            raw_bytes += frame.raw_len as usize;
            match groups.last_mut() {
                Some(group)
                    if raw_bytes <= GROUP_FRAMES_MAX * FRAME_RAW_LEN
                        && frame.offset.saturating_sub(end) <= GAP_BYTES_MAX =>
                {
                    group.frames.push(number);
                    group.first_ns = group.first_ns.min(first_ns);
                }
                _ => {
                    raw_bytes = frame.raw_len as usize;
                    groups.push(Group { frames: vec![number], first_ns });
                }
            }
            end = frame.offset + u64::from(frame.len);
        }
        groups
    }

    fn frame(&self, number: u32) -> Option<&Frame> {
        self.table.frames().get(number as usize)
    }

    pub(super) fn place(&self) -> catalog::Place {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says where its data is now.
    pub(super) fn moved(&self, place: catalog::Place) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }

    /// Reads a group's frames and judges their packets.
    pub(super) async fn examine(
        self: Arc<Sealed>,
        fetch: &Fetch,
        group: Group,
        segment: u32,
    ) -> Result<Examined, Error> {
        let frames = group.frames.iter().filter_map(|&number| self.frame(number));
        let start = frames.clone().map(|frame| frame.offset).min().unwrap_or_default();
        let end = frames.map(|frame| frame.offset + u64::from(frame.len)).max().unwrap_or_default();
        let bytes = match &self.whole {
            // The table's frames end before the file does.
            Some(whole) => whole.slice(start as usize..end as usize),
            None => fetch.range(&self.place(), start..end).await?,
        };
        in_thread(move || Ok(self.examine_bytes(&group.frames, start, &bytes, segment))).await
    }

    fn examine_bytes(&self, frames: &[u32], start: u64, bytes: &Bytes, segment: u32) -> Examined {
        let mut judge = self.judge.clone();
        let mut examined = Examined::default();
        for &number in frames {
            let Some(frame) = self.frame(number) else { continue };
            let at = usize::try_from(frame.offset - start).expect("it is in memory");
            let raw = decompress(&bytes[at..at + frame.len as usize], frame);
            let read = raw.and_then(|raw| {
                self.examine_frame(number, &raw, segment, &mut judge, &mut examined.found)
            });
            if let Err(error) = read {
                examined.troubles.push(format!("frame {number}: {error}"));
            }
        }
        examined.troubles.append(&mut judge.take_unjudged());
        examined
    }

    fn examine_frame(
        &self,
        number: u32,
        raw: &[u8],
        segment: u32,
        judge: &mut Judge,
        found: &mut Vec<Found>,
    ) -> Result<(), capfile::Error> {
        let (header, raw) = if number == 0 { (raw, &[][..]) } else { (&self.header[..], raw) };
        let mut reader = Reader::new(header.chain(raw))?;
        let mut at = 0;
        while reader.advance()? {
            // Packets in the first frame are none of another one.
            if number != 0 && reader.good_offset() <= header.len() as u64 {
                continue;
            }
            let place = Place { ts_ns: 0, segment, part: number, at };
            at += 1;
            found.extend(judged(&reader, judge, place));
        }
        match reader.warning() {
            None => Ok(()),
            Some(_) => {
                let what = "a frame ends inside a block";
                Err(capfile::Error::Seekable { what })
            }
        }
    }
}

/// A segment that is not sealed, and has packets of the range.
pub(super) struct Stream {
    reader: Reader<Take<File>>,
    judge: Judge,
    segment: u32,
    part: u32,
    /// How far behind the latest packet so far one may be.
    disorder_ns: u64,
    latest_ns: u64,
}

/// What is known of a segment that is not sealed once it was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Survey {
    /// Times of the earliest and of the latest packet.
    span_ns: Option<(u64, u64)>,
    disorder_ns: u64,
    /// Offset behind the last whole block.
    end: u64,
}

impl Stream {
    /// Reads it once, for its times; gives it, with the time of its earliest packet, if it has any of the
    /// range, and what could not be read of it.
    pub(super) async fn open(
        fetch: &Fetch,
        segment: &Segment,
        number: u32,
        judge: Judge,
    ) -> Result<(Option<(Stream, u64)>, Vec<String>), Error> {
        let (place, bytes) = &segment.data;
        let file = fetch.as_file(place, *bytes, &std::env::temp_dir()).await?;
        let is_open = segment.state == State::Open;
        let what = name(segment);
        in_thread(move || {
            let failed = |source| Error::Capture { what: what.clone(), source };
            let (survey, trouble) = survey(&file, is_open).map_err(failed)?;
            let window = judge.query().window;
            let Some((first_ns, _)) = survey.span_ns.filter(|&span_ns| window.overlaps(span_ns))
            else {
                return Ok((None, trouble));
            };
            let mut file = file;
            let rewound = file.seek(SeekFrom::Start(0));
            rewound.map_err(|e| Error::system(format!("read {what} again"), e))?;
            let reader = Reader::new(file.take(survey.end)).map_err(failed)?;
            let disorder_ns = survey.disorder_ns;
            let (part, latest_ns) = (0, 0);
            let stream = Stream { reader, judge, segment: number, part, disorder_ns, latest_ns };
            Ok((Some((stream, first_ns)), trouble))
        })
        .await
    }

    /// Judges some packets more. Gives the stream back, with a time before which none of the packets to
    /// come is, unless it is at its end.
    pub(super) async fn turn(
        mut self: Box<Stream>,
    ) -> Result<(Examined, Option<(Box<Stream>, u64)>), Error> {
        in_thread(move || {
            let mut examined = Examined::default();
            let start = self.reader.good_offset();
            let mut at = 0;
            let mut has_more = true;
            while has_more && self.reader.good_offset() < start + TURN_BYTES {
                match self.reader.advance() {
                    Ok(is_packet) => has_more = is_packet,
                    Err(error) => {
                        examined.troubles.push(error.to_string());
                        has_more = false;
                    }
                }
                let Some(record) = self.reader.record() else { break };
                self.latest_ns = self.latest_ns.max(record.ts_ns);
                let place = Place { ts_ns: 0, segment: self.segment, part: self.part, at };
                at += 1;
                examined.found.extend(judged(&self.reader, &mut self.judge, place));
            }
            self.part += 1;
            examined.troubles.append(&mut self.judge.take_unjudged());
            let bound = self.latest_ns.saturating_sub(self.disorder_ns);
            Ok((examined, has_more.then_some((self, bound))))
        })
        .await
    }
}

fn judged<R: Read>(reader: &Reader<R>, judge: &mut Judge, place: Place) -> Option<Found> {
    let record = reader.record()?;
    let interface: &Interface = reader.interfaces().get(record.interface as usize)?;
    judge.found(&record, interface, place)
}

/// Reads a capture to its end, or to where it is damaged: then that is said, too. The end of one that is
/// being written may be incomplete, and may be blank.
fn survey(file: &File, is_open: bool) -> Result<(Survey, Vec<String>), capfile::Error> {
    let mut survey = Survey::default();
    let mut reader = match Reader::new(file) {
        Err(capfile::Error::Empty | capfile::Error::HeaderCut { .. }) if is_open => {
            return Ok((survey, Vec::new()));
        }
        reader => reader?,
    };
    let mut troubles = Vec::new();
    let mut latest_ns = 0;
    loop {
        match reader.advance() {
            Ok(_) => {}
            Err(_) if is_open && is_blank(file, reader.good_offset()) => break,
            Err(error) => {
                troubles.push(error.to_string());
                break;
            }
        }
        let Some(record) = reader.record() else { break };
        let ts_ns = record.ts_ns;
        survey.disorder_ns = survey.disorder_ns.max(u64::saturating_sub(latest_ns, ts_ns));
        latest_ns = latest_ns.max(ts_ns);
        let (first_ns, _) = survey.span_ns.unwrap_or((ts_ns, ts_ns));
        survey.span_ns = Some((first_ns.min(ts_ns), latest_ns));
    }
    if let Some(warning) = reader.warning().filter(|_| !is_open) {
        troubles.push(warning.to_string());
    }
    survey.end = reader.good_offset();
    Ok((survey, troubles))
}

/// Whether what should be a block is still zeros.
fn is_blank(file: &File, offset: u64) -> bool {
    let mut head = [1; 12];
    file.read_at(&mut head, offset).is_ok() && head[..8] == [0; 8]
}

/// What a segment is called in messages.
pub(super) fn name(segment: &Segment) -> String {
    match &segment.data.0 {
        catalog::Place::File(path) => path.display().to_string(),
        catalog::Place::Object(key) => key.clone(),
    }
}
