//! Objects as local files, for what reads them from the begin to the end.

use crate::catalog::Place;
use crate::error::Error;
use crate::store::Store;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use ulid::Ulid;

/// Bytes that are read at once.
const PART_BYTES: u64 = 8 << 20;

/// A local file with the bytes of a place: the file itself, or a copy of the object that is removed
/// with this value.
#[derive(Debug)]
pub struct LocalFile {
    path: PathBuf,
    is_copy: bool,
}

impl LocalFile {
    /// Gets a place's bytes, `bytes` of them; an object of a bucket is copied below the folder
    /// `scratch`.
    ///
    /// # Errors
    /// [`Error`] if the object cannot be read, or its copy not be written.
    pub async fn get(
        store: &Store,
        place: &Place,
        bytes: u64,
        scratch: &Path,
    ) -> Result<LocalFile, Error> {
        let key = match (place, store.root()) {
            (Place::File(path), _) => return Ok(LocalFile { path: path.clone(), is_copy: false }),
            (Place::Object(key), Some(root)) => {
                return Ok(LocalFile { path: root.join(key), is_copy: false });
            }
            (Place::Object(key), None) => key,
        };
        let path = scratch.join(format!("tapline-{}.part", Ulid::new()));
        let failed = |e| Error::system(format!("copy {key} to {}", path.display()), e);
        let mut file = File::options().write(true).create_new(true).open(&path).map_err(failed)?;
        let copy = LocalFile { path: path.clone(), is_copy: true };
        let mut at = 0;
        while at < bytes {
            let part = store.get_range(key, at..bytes.min(at + PART_BYTES)).await?;
            file.write_all(&part).map_err(failed)?;
            at += (part.len() as u64).max(1);
        }
        Ok(copy)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LocalFile {
    fn drop(&mut self) {
        if self.is_copy
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!("remove {}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[tokio::test]
    async fn a_copy_is_there_as_long_as_it_is_needed() {
        let scratch = rig::Scratch::new("local-file");
        let store = Store::memory();
        store.put("a/b", Bytes::from_static(b"abc")).await.unwrap();
        let place = Place::Object("a/b".into());
        let copy = LocalFile::get(&store, &place, 3, scratch.folder()).await.unwrap();
        assert_eq!(std::fs::read(copy.path()).unwrap(), b"abc");
        drop(copy);
        assert_eq!(std::fs::read_dir(scratch.folder()).unwrap().count(), 0);
        let missing = Place::Object("a/c".into());
        assert!(LocalFile::get(&store, &missing, 3, scratch.folder()).await.is_err());
        assert_eq!(std::fs::read_dir(scratch.folder()).unwrap().count(), 0);
        let own = scratch.path("own");
        std::fs::write(&own, b"x").unwrap();
        drop(LocalFile::get(&store, &Place::File(own.clone()), 1, scratch.folder()).await.unwrap());
        assert!(own.exists());
    }
}
