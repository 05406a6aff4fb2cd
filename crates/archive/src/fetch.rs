//! Reads parts of segments and indexes, wherever they are, and counts how much that was.

use crate::catalog::Place;
use crate::error::Error;
use crate::store::Store;
use bytes::Bytes;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Reads ranges of bytes out of a store's objects and local files. Objects of an archive in a folder are
/// read as the files that they are. Share it by reference: reads may run at the same time.
#[derive(Debug)]
pub struct Fetch {
    store: Store,
    range_reads: AtomicU64,
    bytes: AtomicU64,
}

impl Fetch {
    /// Reads from this store, and from local files.
    pub fn new(store: &Store) -> Fetch {
        Fetch { store: store.clone(), range_reads: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    /// The store that objects are read from.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// How many ranges were read: of files and of objects, whole ones included.
    pub fn range_reads(&self) -> u64 {
        self.range_reads.load(Relaxed)
    }

    /// How many bytes were read.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Counts reads that went past it.
    pub(crate) fn count(&self, range_reads: u64, bytes: u64) {
        self.range_reads.fetch_add(range_reads, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    /// The file in which a place's bytes are, if they are on this host.
    pub(crate) fn local(&self, place: &Place) -> Option<PathBuf> {
        match place {
            Place::File(path) => Some(path.clone()),
            Place::Object(key) => Some(self.store.root()?.join(key)),
        }
    }

    /// Reads all bytes of a range, in one read. Does not block: local files are read by threads of the
    /// runtime.
    ///
    /// # Errors
    /// [`Error`] if it is not there, is shorter, or cannot be read.
    pub async fn range(&self, place: &Place, range: Range<u64>) -> Result<Bytes, Error> {
        self.count(1, range.end - range.start);
        match (self.local(place), place) {
            (Some(path), _) => in_thread(move || read_range(&path, range)).await,
            (None, Place::Object(key)) => Ok(self.store.get_range(key, range).await?),
            (None, Place::File(_)) => unreachable!("a file is local"),
        }
    }

    /// A file with the bytes of a place, to be read from its begin: the file itself, or a copy of the
    /// object in an unnamed file below `scratch`.
    pub(crate) async fn as_file(
        &self,
        place: &Place,
        bytes: u64,
        scratch: &Path,
    ) -> Result<File, Error> {
        const PART_BYTES: u64 = 8 << 20;
        if let Some(path) = self.local(place) {
            self.count(1, bytes);
            return in_thread(move || open(&path)).await;
        }
        let file = unnamed_file(scratch)?;
        let mut at = 0;
        while at < bytes {
            let part = self.range(place, at..bytes.min(at + PART_BYTES)).await?;
            let written = file.write_all_at(&part, at);
            written.map_err(|e| Error::system(format!("write below {}", scratch.display()), e))?;
            at += part.len() as u64;
        }
        Ok(file)
    }
}

/// Runs what blocks in a thread of the runtime.
pub(crate) async fn in_thread<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(run).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// A new file that nobody else finds, and that is gone when it is closed.
pub(crate) fn unnamed_file(folder: &Path) -> Result<File, Error> {
    let path = folder.join(format!(".tapline-search-{}", ulid::Ulid::new()));
    let failed = |e| Error::system(format!("make a file below {}", folder.display()), e);
    let file = File::options().read(true).write(true).create_new(true).open(&path);
    let file = file.map_err(failed)?;
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(file)
}

fn open(path: &Path) -> Result<File, Error> {
    File::open(path).map_err(|e| Error::system(format!("open {}", path.display()), e))
}

fn read_range(path: &Path, range: Range<u64>) -> Result<Bytes, Error> {
    let failed = |e| {
        let Range { start, end } = &range;
        Error::system(format!("read bytes {start} to {end} of {}", path.display()), e)
    };
    let file = open(path)?;
    // Bounded by what is there, whatever was asked for.
    let there = file.metadata().map_err(failed)?.len();
    if there < range.end {
        return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
    }
    let len = usize::try_from(range.end - range.start)
        .map_err(|_| failed(std::io::ErrorKind::OutOfMemory.into()))?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, range.start).map_err(failed)?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[tokio::test]
    async fn files_and_objects_are_read_alike_and_counted() {
        let scratch = rig::Scratch::new("fetch");
        std::fs::write(scratch.path("a"), b"0123456789").unwrap();
        let file = Place::File(scratch.path("a"));
        let object = Place::Object("a".into());
        let store = Store::memory();
        store.put("a", Bytes::from_static(b"0123456789")).await.unwrap();
        let fetch = Fetch::new(&store);
        for place in [&file, &object] {
            assert_eq!(&fetch.range(place, 2..5).await.unwrap()[..], b"234");
            assert!(fetch.range(&Place::File(scratch.path("b")), 0..1).await.is_err());
            let mut text = String::new();
            let mut copy = fetch.as_file(place, 10, scratch.folder()).await.unwrap();
            copy.read_to_string(&mut text).unwrap();
            assert_eq!(text, "0123456789");
        }
        assert_eq!((fetch.range_reads(), fetch.bytes()), (6, 28));
        assert!(fetch.range(&file, 5..11).await.is_err());
    }
}
