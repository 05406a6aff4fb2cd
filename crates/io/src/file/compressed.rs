//! Capture files that were compressed: gzip (RFC 1952) and zstd (RFC 8878), known by their first bytes.

use flate2::read::MultiGzDecoder;
use std::io::{Chain, Cursor, ErrorKind, Read, Result};

/// The first bytes of a gzip member, of a zstd frame, and of one to be skipped (its first byte is of
/// a range).
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];

/// A stream whose first bytes were looked at.
type Looked = Chain<Cursor<Vec<u8>>, Box<dyn Read + Send>>;

/// What a stream holds, decompressed if it was compressed. One that was cut ends where it was cut, and
/// a warning says so; `name` is what that calls it.
///
/// # Errors
/// If its first bytes cannot be read.
pub fn decompressed(name: &str, mut stream: Box<dyn Read + Send>) -> Result<Box<dyn Read + Send>> {
    let mut first = Vec::new();
    stream.by_ref().take(ZSTD.len() as u64).read_to_end(&mut first)?;
    let is_gzip = first.starts_with(&GZIP);
    let is_skippable = first.len() == 4 && first[0] & 0xf0 == 0x50 && first[1..] == ZSTD_SKIPPABLE;
    let is_zstd = first.starts_with(&ZSTD) || is_skippable;
    let looked: Looked = Cursor::new(first).chain(stream);
    let decoder: Box<dyn Read + Send> = match () {
        () if is_gzip => Box::new(MultiGzDecoder::new(looked)),
        () if is_zstd => Box::new(zstd::stream::read::Decoder::new(looked)?),
        () => return Ok(Box::new(looked)),
    };
    Ok(Box::new(Lenient { decoder, name: name.into() }))
}

/// Ends where a compressed stream was cut.
struct Lenient {
    decoder: Box<dyn Read + Send>,
    name: String,
}

impl Read for Lenient {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
        match self.decoder.read(bytes) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                tracing::warn!(
                    "{}: the compressed file was cut; packets are read up to there",
                    self.name
                );
                self.decoder = Box::new(std::io::empty());
                Ok(0)
            }
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read(bytes: Vec<u8>) -> Result<Vec<u8>> {
        let mut read = Vec::new();
        decompressed("x", Box::new(Cursor::new(bytes)))?.read_to_end(&mut read)?;
        Ok(read)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn each_form_is_known_by_its_first_bytes() {
        let text = b"0123456789".repeat(10_000);
        let zstd = zstd::encode_all(&text[..], 1).unwrap();
        let skipped = [b"\x5e\x2a\x4d\x18\x02\0\0\0ab".to_vec(), zstd.clone()].concat();
        // Members and frames may follow each other.
        let members = [gzip(&text[..7]), gzip(&text[7..])].concat();
        for bytes in [text.clone(), gzip(&text), members, zstd, skipped] {
            assert!(read(bytes).unwrap() == text);
        }
        for short in [&b""[..], b"\x1f", b"\x28\xb5\x2f", b"abc"] {
            assert_eq!(read(short.to_vec()).unwrap(), short);
        }
    }

    #[test]
    fn what_was_cut_ends_there_and_what_is_damaged_is_an_error() {
        let text: Vec<u8> =
            (0..100_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
        for bytes in [gzip(&text), zstd::encode_all(&text[..], 1).unwrap()] {
            let got = read(bytes[..bytes.len() * 3 / 4].to_vec()).unwrap();
            assert!(text.starts_with(&got) && got.len() > text.len() / 4, "{}", got.len());
            let mut bad = bytes.clone();
            bad[8..300].fill(0xff);
            assert!(read(bad).is_err());
        }
    }
}
