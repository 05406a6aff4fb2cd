//! The reader's one buffer: whole records contiguous in memory, large reads underneath.
//!
//! ```text
//!   buf: [ consumed | start .. end: read, not consumed | free ]
//! ```
//!
//! The consumed bytes stay until the next [`Input::fill`] that has to read, so a record just
//! consumed can still be borrowed. The buffer grows only as bytes really arrive: a length field
//! that lies costs no memory.

use crate::Error;
use std::io::{ErrorKind, Read};

/// First size of the buffer, so the size of the reads, bytes.
const BUF_LEN: usize = 512 << 10;

/// A stream with a window of bytes in front of it.
#[derive(Debug)]
pub(crate) struct Input<R> {
    stream: R,
    buf: Vec<u8>,
    start: usize,
    end: usize,
    /// Offset of `buf[start]` in the file.
    offset: u64,
    at_eof: bool,
}

impl<R: Read> Input<R> {
    pub(crate) fn new(stream: R) -> Self {
        Input { stream, buf: vec![0; BUF_LEN], start: 0, end: 0, offset: 0, at_eof: false }
    }

    /// Reads until `needed` bytes are there or the stream ends; false if it ended before.
    #[inline]
    pub(crate) fn fill(&mut self, needed: usize) -> Result<bool, Error> {
        if self.end - self.start >= needed { Ok(true) } else { self.fill_slow(needed) }
    }

    fn fill_slow(&mut self, needed: usize) -> Result<bool, Error> {
        // What is left is less than one record, so this moves each byte at most once a record.
        if self.start > 0 {
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while self.end < needed && !self.at_eof {
            if self.end == self.buf.len() {
                self.buf.resize(self.buf.len() * 2, 0);
            }
            match self.stream.read(&mut self.buf[self.end..]) {
                Ok(0) => self.at_eof = true,
                Ok(n) => self.end += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(source) => {
                    let offset = self.offset + self.end as u64;
                    return Err(Error::Io { action: "read", offset, source });
                }
            }
        }
        Ok(self.end >= needed)
    }
}

impl<R> Input<R> {
    /// All bytes that are read and not consumed.
    #[inline]
    pub(crate) fn ahead(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// Steps over `len` bytes of [`Self::ahead`].
    #[inline]
    pub(crate) fn consume(&mut self, len: usize) {
        debug_assert!(len <= self.end - self.start);
        self.start += len;
        self.offset += len as u64;
    }

    /// The last `len` bytes consumed; valid until the next [`Self::fill`].
    #[inline]
    pub(crate) fn behind(&self, len: usize) -> &[u8] {
        &self.buf[self.start - len..self.start]
    }

    /// Offset in the file of the first byte not consumed.
    #[inline]
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    /// Gives one byte a call, an interruption before each.
    struct Drip<'a>(&'a [u8], bool);

    impl Read for Drip<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(ErrorKind::Interrupted.into());
            }
            let n = self.0.len().min(buf.len()).min(1);
            buf[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    #[test]
    fn small_reads_and_interruptions_are_joined() {
        let mut input = Input::new(Drip(b"abcdef", false));
        assert!(input.fill(4).unwrap());
        assert_eq!(input.ahead(), b"abcd");
        input.consume(3);
        assert_eq!((input.behind(3), input.offset()), (&b"abc"[..], 3));
        assert!(input.fill(3).unwrap());
        assert_eq!(input.ahead(), b"def");
        assert!(!input.fill(4).unwrap());
        assert_eq!(input.ahead(), b"def");
    }

    #[test]
    fn grows_with_the_data_and_not_with_the_wish() {
        let mut input = Input::new(&[7; 100][..]);
        assert!(!input.fill(1 << 30).unwrap());
        assert_eq!(input.buf.len(), BUF_LEN);
        let long = vec![7; 3 * BUF_LEN];
        let mut input = Input::new(&long[..]);
        assert!(input.fill(long.len()).unwrap());
        assert_eq!(input.ahead(), long);
    }

    #[test]
    fn a_failing_stream_says_where() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(ErrorKind::ConnectionReset.into())
            }
        }
        let mut input = Input::new((&b"xyz"[..]).chain(Broken));
        let error = input.fill(5).unwrap_err();
        assert!(matches!(error, Error::Io { action: "read", offset: 3, .. }), "{error}");
        assert_eq!(input.ahead(), b"xyz");
    }
}
