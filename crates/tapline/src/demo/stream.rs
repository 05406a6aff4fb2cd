//! One direction of a TCP connection, put together again from packets, and what was in it.

use std::collections::BTreeMap;

/// How many bytes, and which: FNV-1a, 64 bits. The same however the bytes were cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    pub bytes: u64,
    hash: u64,
}

impl Default for Digest {
    fn default() -> Digest {
        Digest { bytes: 0, hash: 0xcbf2_9ce4_8422_2325 }
    }
}

impl Digest {
    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        for &byte in bytes {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// What a TCP packet says of its direction.
pub struct Piece<'a> {
    pub sequence: u32,
    pub syn: bool,
    pub fin: bool,
    pub payload: &'a [u8],
}

/// One direction. Positions count from the first byte behind the SYN.
#[derive(Debug, Default)]
pub struct Stream {
    /// The sequence number of position 0, once the SYN was seen.
    first: Option<u32>,
    /// Every byte before this position is in the digest.
    next: u32,
    /// Where it ends, once the FIN was seen.
    end: Option<u32>,
    /// Bytes behind a gap.
    ahead: BTreeMap<u32, Vec<u8>>,
    digest: Digest,
}

impl Stream {
    pub fn add(&mut self, piece: &Piece<'_>) {
        if piece.syn {
            self.first.get_or_insert(piece.sequence.wrapping_add(1));
            return;
        }
        // Without its beginning it never gets whole.
        let Some(first) = self.first else { return };
        let at = piece.sequence.wrapping_sub(first);
        if piece.fin {
            self.end = Some(at.wrapping_add(piece.payload.len() as u32));
        }
        self.take(at, piece.payload);
        while let Some(entry) = self.ahead.first_entry()
            && *entry.key() <= self.next
        {
            let (at, bytes) = entry.remove_entry();
            self.take(at, &bytes);
        }
    }

    fn take(&mut self, at: u32, bytes: &[u8]) {
        if at > self.next {
            self.ahead.insert(at, bytes.to_vec());
            return;
        }
        // What was sent again is left out.
        let new = bytes.get((self.next - at) as usize..).unwrap_or_default();
        self.digest.add(new);
        self.next += new.len() as u32;
    }

    /// What was in it, if every byte from SYN to FIN is there.
    pub fn whole(&self) -> Option<Digest> {
        (self.end == Some(self.next)).then_some(self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(pieces: &[(u32, &str)]) -> Stream {
        let mut stream = Stream::default();
        for &(sequence, what) in pieces {
            let (syn, fin) = (what == "SYN", what.ends_with('.'));
            let payload = if syn { &[] } else { what.trim_end_matches('.').as_bytes() };
            stream.add(&Piece { sequence, syn, fin, payload });
        }
        stream
    }

    fn digest(text: &str) -> Option<Digest> {
        let mut digest = Digest::default();
        text.bytes().for_each(|byte| digest.add(&[byte]));
        Some(digest)
    }

    #[test]
    fn bytes_come_out_in_order_once() {
        let in_order = [(9, "SYN"), (10, "abc"), (13, "def"), (16, "gh."), (19, "")];
        assert_eq!(stream(&in_order).whole(), digest("abcdefgh"));
        let swapped = [(9, "SYN"), (16, "gh."), (13, "def"), (10, "abc")];
        assert_eq!(stream(&swapped).whole(), digest("abcdefgh"));
        let again = [(9, "SYN"), (10, "abc"), (9, "SYN"), (10, "abcdef"), (12, "cd"), (16, "gh.")];
        assert_eq!(stream(&again).whole(), digest("abcdefgh"));
        let round_the_end = [(u32::MAX - 2, "SYN"), (u32::MAX - 1, "abc"), (1, "d.")];
        assert_eq!(stream(&round_the_end).whole(), digest("abcd"));
        assert_eq!(stream(&[(9, "SYN"), (10, ".")]).whole(), digest(""));
    }

    #[test]
    fn a_gap_or_a_missing_end_is_not_whole() {
        for pieces in [
            &[(9, "SYN"), (13, "def.")][..],
            &[(10, "abc.")],
            &[(9, "SYN"), (10, "abc")],
            &[(9, "SYN"), (10, "abc"), (14, "ef.")],
            &[(9, "SYN"), (11, ".")],
        ] {
            assert_eq!(stream(pieces).whole(), None, "{pieces:?}");
        }
    }

    #[test]
    fn other_bytes_have_another_digest() {
        assert_ne!(digest("abcd"), digest("abdc"));
    }
}
