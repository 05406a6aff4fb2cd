//! A file that gets its name when it is complete, and its hash while it is written.

use crate::error::Error;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Readable by the archive's group, for no one else.
const MODE: u32 = 0o640;
const BUFFER_LEN: usize = 1 << 20;

/// A file on its way. What has no name when this is dropped is removed.
pub(super) struct Out {
    path: PathBuf,
    part: PathBuf,
    file: BufWriter<File>,
    hash: Sha256,
    bytes: u64,
    is_placed: bool,
}

impl Out {
    /// Begins the file that will be `path`, as `<path>.part`.
    pub(super) fn create(path: &Path) -> Result<Out, Error> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        // Anew, not over one that is there: whoever still writes that must not write into this.
        let file = remove(&part)
            .and_then(|()| File::options().write(true).create_new(true).mode(MODE).open(&part));
        let file = file.map_err(|e| Error::system(format!("create {}", part.display()), e))?;
        let file = BufWriter::with_capacity(BUFFER_LEN, file);
        let (hash, bytes, is_placed) = (Sha256::new(), 0, false);
        Ok(Out { path: path.into(), part, file, hash, bytes, is_placed })
    }

    /// Adds bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.write_all(bytes).map_err(|e| self.failed("write", e))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Hash of what was written, in hexadecimal digits.
    pub(super) fn sha256(&self) -> String {
        self.hash.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Brings it onto the disk.
    pub(super) fn sync(&mut self) -> Result<(), Error> {
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(|e| self.failed("write", e))
    }

    /// Gives it its name.
    pub(super) fn place(&mut self) -> Result<(), Error> {
        std::fs::rename(&self.part, &self.path).map_err(|e| self.failed("rename", e))?;
        self.is_placed = true;
        Ok(())
    }

    pub(super) fn failed(&self, action: &str, source: io::Error) -> Error {
        Error::system(format!("{action} {}", self.part.display()), source)
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.file.write(bytes)?;
        self.hash.update(&bytes[..len]);
        self.bytes += len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        if !self.is_placed
            && let Err(error) = remove(&self.part)
        {
            tracing::debug!("{} stays: {error}", self.part.display());
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
