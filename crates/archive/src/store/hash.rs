//! What an object must be: its length and its hashes.

use super::PART_BYTES;
use super::folder::read_part;
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
