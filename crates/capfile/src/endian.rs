//! Byte order of a section or file, chosen by whoever wrote it.

/// Byte order of the numbers in a capture file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endian {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

impl Endian {
    /// The 16-bit number at `at`. Panics out of range: callers check block lengths first.
    #[inline]
    pub(crate) fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let b = bytes[at..at + 2].try_into().expect("a slice of 2 is an array of 2");
        match self {
            Endian::Little => u16::from_le_bytes(b),
            Endian::Big => u16::from_be_bytes(b),
        }
    }

    /// The 32-bit number at `at`. Panics out of range, like [`Self::u16`].
    #[inline]
    pub(crate) fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let b = bytes[at..at + 4].try_into().expect("a slice of 4 is an array of 4");
        match self {
            Endian::Little => u32::from_le_bytes(b),
            Endian::Big => u32::from_be_bytes(b),
        }
    }

    /// The 64-bit number at `at`. Panics out of range, like [`Self::u16`].
    #[inline]
    pub(crate) fn u64(self, bytes: &[u8], at: usize) -> u64 {
        let b = bytes[at..at + 8].try_into().expect("a slice of 8 is an array of 8");
        match self {
            Endian::Little => u64::from_le_bytes(b),
            Endian::Big => u64::from_be_bytes(b),
        }
    }

    /// The timestamp at `at`: two 32-bit halves, the high one first in either byte order.
    #[inline]
    pub(crate) fn ticks(self, bytes: &[u8], at: usize) -> u64 {
        u64::from(self.u32(bytes, at)) << 32 | u64::from(self.u32(bytes, at + 4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

    #[test]
    fn both_orders() {
        assert_eq!(Endian::Little.u16(&BYTES, 1), 0x0302);
        assert_eq!(Endian::Big.u16(&BYTES, 1), 0x0203);
        assert_eq!(Endian::Little.u32(&BYTES, 4), 0x0807_0605);
        assert_eq!(Endian::Big.u32(&BYTES, 4), 0x0506_0708);
        assert_eq!(Endian::Little.u64(&BYTES, 0), 0x0807_0605_0403_0201);
        assert_eq!(Endian::Big.u64(&BYTES, 0), 0x0102_0304_0506_0708);
    }

    #[test]
    fn ticks_have_the_high_half_first_in_either_order() {
        assert_eq!(Endian::Little.ticks(&BYTES, 0), 0x0403_0201_0807_0605);
        assert_eq!(Endian::Big.ticks(&BYTES, 0), 0x0102_0304_0506_0708);
    }
}
