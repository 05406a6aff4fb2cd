//! What an object must be: its length and its hashes.

use super::PART_BYTES;
use super::folder::read_part;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io;
use std::path::Path;

/// Length and SHA-256 of some content, and of each part of a multipart upload of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Digest {
    pub(super) bytes: u64,
    pub(super) sha256: [u8; 32],
    pub(super) parts: Vec<[u8; 32]>,
}

impl Digest {
    pub(super) fn of(bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new(true);
        for part in bytes.chunks(PART_BYTES as usize) {
            hasher.part(part);
        }
        hasher.finish()
    }

    /// Whether a checksum of S3's is of this content: its SHA-256 in base64; of an upload in parts that
    /// of the parts' hashes, with `-` and their number.
    pub(super) fn is(&self, checksum: &str) -> bool {
        let (sum, parts) = match checksum.split_once('-') {
            Some((sum, parts)) => (sum, Some(parts)),
            None => (checksum, None),
        };
        let Ok(sum) = BASE64_STANDARD.decode(sum) else { return false };
        match parts {
            Some(parts) => parts == self.parts.len().to_string() && sum == self.composite(),
            None => sum == self.sha256,
        }
    }

    fn composite(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        for part in &self.parts {
            hasher.update(part);
        }
        hasher.finalize().into()
    }
}

/// Hashes content part by part.
pub(super) struct Hasher {
    whole: Sha256,
    bytes: u64,
    parts: Option<Vec<[u8; 32]>>,
}

impl Hasher {
    /// Hashes each part for itself too, if that is wanted.
    pub(super) fn new(parts: bool) -> Hasher {
        Hasher { whole: Sha256::new(), bytes: 0, parts: parts.then(Vec::new) }
    }

    /// Takes up the next part: of PART_BYTES, but for the last one.
    pub(super) fn part(&mut self, part: &[u8]) {
        self.whole.update(part);
        self.bytes += part.len() as u64;
        if let Some(parts) = &mut self.parts {
            parts.push(Sha256::digest(part).into());
        }
    }

    pub(super) fn finish(self) -> Digest {
        Digest {
            bytes: self.bytes,
            sha256: self.whole.finalize().into(),
            parts: self.parts.unwrap_or_default(),
        }
    }
}

/// Reads a file whole; hashes each part for itself too, if that is wanted.
pub(super) fn hash_file(path: &Path, parts: bool) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::new(parts);
    loop {
        let part = read_part(&mut file)?;
        if part.is_empty() {
            return Ok(hasher.finish());
        }
        hasher.part(&part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_of_s3_are_compared() {
        let one = Digest::of(b"abc");
        assert!(one.is("ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="));
        assert!(!one.is("ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa1="));
        assert!(!one.is("") && !one.is("-") && !one.is("é"));
        let two = Digest::of(&vec![7; PART_BYTES as usize + 1]);
        let sum = BASE64_STANDARD.encode(two.composite());
        assert!(two.is(&format!("{sum}-2")) && !two.is(&format!("{sum}-3")) && !two.is(&sum));
    }
}
