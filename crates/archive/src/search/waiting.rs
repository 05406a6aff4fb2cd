//! Packets that wait in a file.
//!
//! ```text
//!  0  u64  time, nanoseconds since 1970
//!  8  u32  number of the segment; 12 u32 of the part; 16 u32 in the part
//! 20  u32  origin
//! 24  u32  bytes on the wire
//! 28  u8   direction: 0 unknown, 1 in, 2 out
//! 29  u8   bit 0 it has a packet id, bit 1 it has a comment
//! 30  u64  packet id
//! 38  u32  length of the comment; 42 u32 of the data; then the two
//! ```
//! Little-endian. Nobody reads it but who wrote it: the file has no name.

use super::found::{Found, Place};
use crate::error::Error;
use crate::fetch::unnamed_file;
use capfile::{Direction, Marks};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

const HEADER_LEN: usize = 46;
const BUFFER_LEN: usize = 64 << 10;
const DIRECTIONS: [Direction; 3] = [Direction::Unknown, Direction::In, Direction::Out];

/// A run of packets in a file.
pub(super) struct Waiting {
    file: BufReader<File>,
    folder: PathBuf,
    left: u64,
    next: Option<Found>,
}

/// Writes packets, which come in order, into a new file.
pub(super) fn write(
    folder: &Path,
    mut next: impl FnMut() -> Result<Option<Found>, Error>,
) -> Result<Waiting, Error> {
    let failed = |e| Error::system(format!("keep packets in a file below {}", folder.display()), e);
    let mut file = BufWriter::with_capacity(BUFFER_LEN, unnamed_file(folder)?);
    let mut left = 0;
    while let Some(found) = next()? {
        file.write_all(&header(&found))
            .and_then(|()| file.write_all(found.comment.as_deref().unwrap_or("").as_bytes()))
            .and_then(|()| file.write_all(&found.data))
            .map_err(failed)?;
        left += 1;
    }
    let mut file = file.into_inner().map_err(|e| failed(e.into_error()))?;
    file.rewind().map_err(failed)?;
    let file = BufReader::with_capacity(BUFFER_LEN, file);
    Ok(Waiting { file, folder: folder.into(), left, next: None })
}

impl Waiting {
    /// Reads the first packet; gives its place.
    pub(super) fn begin(&mut self) -> Result<Option<Place>, Error> {
        self.next = self.read()?;
        Ok(self.peek())
    }

    /// The place of the next packet.
    pub(super) fn peek(&self) -> Option<Place> {
        self.next.as_ref().map(|found| found.place)
    }

    /// Gives the next packet.
    pub(super) fn next(&mut self) -> Result<Option<Found>, Error> {
        let following = self.read()?;
        Ok(std::mem::replace(&mut self.next, following))
    }

    fn read(&mut self) -> Result<Option<Found>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let found = read(&mut self.file);
        let what = || format!("read packets back from a file below {}", self.folder.display());
        found.map(Some).map_err(|e| Error::system(what(), e))
    }
}

fn header(found: &Found) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    let Place { ts_ns, segment, part, at } = found.place;
    header[..8].copy_from_slice(&ts_ns.to_le_bytes());
    let direction = DIRECTIONS.iter().position(|known| *known == found.marks.direction);
    header[28] = direction.unwrap_or(0) as u8;
    header[29] = u8::from(found.marks.packet_id.is_some()) | u8::from(found.comment.is_some()) << 1;
    header[30..38].copy_from_slice(&found.marks.packet_id.unwrap_or(0).to_le_bytes());
    let comment_len = found.comment.as_ref().map_or(0, |comment| comment.len());
    // A block of a capture bounds both lengths.
    for (at, number) in [
        (8, segment),
        (12, part),
        (16, at),
        (20, found.origin),
        (24, found.origlen),
        (38, comment_len as u32),
        (42, found.data.len() as u32),
    ] {
        header[at..at + 4].copy_from_slice(&number.to_le_bytes());
    }
    header
}

fn read(file: &mut impl Read) -> std::io::Result<Found> {
    let mut header = [0; HEADER_LEN];
    file.read_exact(&mut header)?;
    let u32_at = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|n| header[at + n]));
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    let mut comment = vec![0; u32_at(38) as usize];
    let mut data = vec![0; u32_at(42) as usize];
    file.read_exact(&mut comment)?;
    file.read_exact(&mut data)?;
    let comment = String::from_utf8(comment).map_err(std::io::Error::other)?;
    let (has_id, has_comment) = (header[29] & 1 != 0, header[29] & 2 != 0);
    Ok(Found {
        place: Place { ts_ns: u64_at(0), segment: u32_at(8), part: u32_at(12), at: u32_at(16) },
        origin: u32_at(20),
        origlen: u32_at(24),
        marks: Marks {
            direction: DIRECTIONS.get(usize::from(header[28])).copied().unwrap_or_default(),
            packet_id: has_id.then(|| u64_at(30)),
        },
        comment: has_comment.then(|| comment.into()),
        data: data.into(),
    })
}
