//! pcapng options: a list of (code, value) at the end of most blocks.
//!
//! ```text
//!  0       2       4
//!  +-------+-------+----------------------+-------------+
//!  | code  | len   | value, len bytes     | 0-3 zeros   |   ... code 0, len 0 ends the list
//!  +-------+-------+----------------------+-------------+
//! ```
//!
//! The ending `opt_endofopt` may be left out where the block ends: files without it are common.

use crate::pcapng_layout::{option_code, padded};
use crate::{Endian, Error};

/// An option as bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RawOption {
    /// Option code, its meaning depends on the block.
    pub code: u16,
    /// Value without padding.
    pub value: Vec<u8>,
}

/// The options of one packet, whose lengths have been checked. Numbers in the values are in the
/// section's byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options<'a> {
    bytes: &'a [u8],
    endian: Endian,
}

impl<'a> Options<'a> {
    /// No options.
    pub const EMPTY: Options<'static> = Options { bytes: &[], endian: Endian::Little };

    /// Wraps a list that [`Self::check`] accepted.
    #[inline]
    pub(crate) fn new(bytes: &'a [u8], endian: Endian) -> Self {
        Options { bytes, endian }
    }

    /// Wraps a list after a walk over it.
    ///
    /// # Errors
    /// What is wrong, for [`Error::Malformed`].
    pub(crate) fn check(bytes: &'a [u8], endian: Endian) -> Result<Self, String> {
        let mut walk = Walk { rest: bytes, endian };
        while walk.next().is_some() {}
        if walk.rest.len() >= 4 {
            let (code, len) = (endian.u16(walk.rest, 0), endian.u16(walk.rest, 2));
            let left = walk.rest.len() - 4;
            return Err(format!("option {code} claims {len} bytes, its block has {left} left"));
        }
        Ok(Options { bytes, endian })
    }

    /// True if there is not one.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Byte order of the numbers in the values.
    pub fn endian(&self) -> Endian {
        self.endian
    }

    /// Codes and values in file order, without the end mark.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        Walk { rest: self.bytes, endian: self.endian }
    }

    /// Value of the first option with this code.
    pub fn get(&self, code: u16) -> Option<&'a [u8]> {
        self.iter().find(|&(c, _)| c == code).map(|(_, value)| value)
    }
}

/// Stops at the end mark with nothing left, at the end of the list, or in front of an option that
/// is longer than the list, which is then what is left.
struct Walk<'a> {
    rest: &'a [u8],
    endian: Endian,
}

impl<'a> Iterator for Walk<'a> {
    type Item = (u16, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.len() < 4 {
            return None;
        }
        let code = self.endian.u16(self.rest, 0);
        if code == option_code::END {
            self.rest = &[];
            return None;
        }
        let len = usize::from(self.endian.u16(self.rest, 2));
        let value = self.rest.get(4..4 + len)?;
        self.rest = self.rest.get(4 + padded(len)..)?;
        Some((code, value))
    }
}

/// Appends an option, little-endian, padded.
///
/// # Errors
/// [`Error::TooLong`] if the value does not fit the 16-bit length.
pub(crate) fn push(out: &mut Vec<u8>, code: u16, value: &[u8]) -> Result<(), Error> {
    let len = u16::try_from(value.len()).map_err(|_| Error::TooLong {
        what: "an option",
        len: value.len(),
        max: usize::from(u16::MAX),
    })?;
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(value);
    out.resize(out.len() + padded(value.len()) - value.len(), 0);
    Ok(())
}

/// Appends an option if it is there.
///
/// # Errors
/// Like [`push`].
pub(crate) fn push_text(out: &mut Vec<u8>, code: u16, text: Option<&str>) -> Result<(), Error> {
    text.map_or(Ok(()), |text| push(out, code, text.as_bytes()))
}

/// The text of an option: bytes that are no UTF-8 are replaced, zeros at the end (some writers
/// end strings as C does) are dropped.
pub(crate) fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushes_and_walks_back() {
        let mut out = vec![];
        push(&mut out, 1, b"abc").unwrap();
        push(&mut out, 9, b"").unwrap();
        push_text(&mut out, 7, None).unwrap();
        push(&mut out, 2, b"abcd").unwrap();
        assert_eq!(out, b"\x01\0\x03\0abc\0\x09\0\0\0\x02\0\x04\0abcd");
        let options = Options::check(&out, Endian::Little).unwrap();
        let found: Vec<_> = options.iter().collect();
        assert_eq!(found, [(1, &b"abc"[..]), (9, b""), (2, b"abcd")]);
        assert_eq!(options.get(2), Some(&b"abcd"[..]));
        assert_eq!(options.get(3), None);
    }

    #[test]
    fn the_end_mark_ends_and_what_follows_is_ignored() {
        let bytes = b"\0\x01\0\x01a\0\0\0\0\0\0\0\0\x02\xff\xff";
        let options = Options::check(bytes, Endian::Big).unwrap();
        assert_eq!(options.iter().collect::<Vec<_>>(), [(1, &b"a"[..])]);
    }

    #[test]
    fn a_length_beyond_the_block_is_an_error() {
        let error = Options::check(b"\x01\0\x05\0abcd", Endian::Little).unwrap_err();
        assert_eq!(error, "option 1 claims 5 bytes, its block has 4 left");
    }

    #[test]
    fn a_value_that_fits_no_length_field_is_an_error() {
        assert!(push(&mut vec![], 1, &[0; 65535]).is_ok());
        let error = push(&mut vec![], 1, &[0; 65536]).unwrap_err();
        assert!(matches!(error, Error::TooLong { len: 65536, max: 65535, .. }));
    }

    #[test]
    fn text_is_lenient() {
        assert_eq!(text(b"eth0\0\0"), "eth0");
        assert_eq!(text(b"a\xffb"), "a\u{fffd}b");
    }
}
