//! The place where an archive's objects are: a folder, a bucket, or memory.
//!
//! Keys are relative to the archive's root, with `/` between their parts. Nothing is trusted to be
//! atomic but the replacement of one object; conditional puts are not used. What was put is
//! confirmed: a function that puts and returns `Ok` has seen that the store holds it.
//!
//! All functions want a runtime, such as [`crate::runtime`] gives.

mod backoff;
mod bandwidth;
mod connect;
mod credentials;
mod error;
mod folder;
mod hash;
mod options;
mod remote;
mod s3;
mod xml;

pub use backoff::{Backoff, random};
pub use error::{StoreError, StoreFault};
pub use options::{Retention, StoreOptions};

use crate::location::Location;
use crate::window::Window;
use bandwidth::Bandwidth;
use bytes::Bytes;
use error::{Told, plain};
use folder::Folder;
use object_store::memory::InMemory;
use object_store::path::Path as StorePath;
use remote::Remote;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A file of more bytes is sent in parts of so many.
pub const PART_BYTES: u64 = 8 << 20;

/// An object that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its key below the archive's root. Of a file whose name is not UTF-8, an approximation.
    pub key: String,
    /// Its length.
    pub bytes: u64,
}

/// An archive's objects. Cloning shares the connection.
#[derive(Clone)]
pub struct Store {
    backend: Backend,
    place: String,
}

#[derive(Clone)]
enum Backend {
    Folder(Folder),
    Remote(Arc<Remote>),
}

impl Store {
    /// Opens an archive's place; a folder is made if it is not there. A bucket is not asked yet.
    ///
    /// # Errors
    /// [`StoreError`] if the folder cannot be made, or the URL or the settings make no sense.
    pub fn open(location: &Location, options: &StoreOptions) -> Result<Store, StoreError> {
        let place = location.to_string();
        let failed = |told: Told| StoreError {
            place: place.clone(),
            what: "open the archive".into(),
            fault: told.fault,
            reason: plain(&told.reason, &options.secrets()),
            mend: told.mend,
        };
        match location {
            Location::Directory(path) => {
                let folder = Folder::open(path).map_err(|e| failed(e.into()))?;
                Ok(Store { backend: Backend::Folder(folder), place })
            }
            Location::Url(text) => {
                let connected = connect::connect(text, options).map_err(failed)?;
                let remote = Remote {
                    store: connected.store,
                    prefix: connected.prefix,
                    s3: connected.s3,
                    place: place.clone(),
                    options: options.clone(),
                    bandwidth: options
                        .bytes_per_s_max
                        .map(|max| Bandwidth::new(max, Instant::now())),
                    memory: remote::all_memory(),
                };
                Ok(Store { backend: Backend::Remote(Arc::new(remote)), place })
            }
        }
    }

    /// An archive in memory, for tests.
    pub fn memory() -> Store {
        let remote = Remote {
            store: Arc::new(InMemory::new()),
            prefix: StorePath::default(),
            s3: None,
            place: "memory".into(),
            options: StoreOptions::default(),
            bandwidth: None,
            memory: remote::all_memory(),
        };
        Store { place: remote.place.clone(), backend: Backend::Remote(Arc::new(remote)) }
    }

    /// The folder, if it is one.
    pub fn root(&self) -> Option<&Path> {
        match &self.backend {
            Backend::Folder(folder) => Some(&folder.root),
            Backend::Remote(_) => None,
        }
    }

    /// What it is called in messages.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Writes a small object, or replaces it.
    ///
    /// # Errors
    /// [`StoreError`] if the store has not confirmed it.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Folder(folder) => {
                let (folder, own) = (folder.clone(), key.to_owned());
                self.apart("write", key, move || Ok(folder.put(&own, &bytes)?)).await
            }
            Backend::Remote(remote) => remote.put(key, bytes).await,
        }
    }

    /// Stores a file whose SHA-256 is known, in parts above [`PART_BYTES`], unless it is there
    /// already. The file stays; in a folder, the object may be a link to it.
    ///
    /// # Errors
    /// [`StoreError`] if the store has not confirmed that it holds this content; with
    /// [`StoreFault::Local`] if the file is another one.
    pub async fn put_file(
        &self,
        key: &str,
        path: &Path,
        sha256: &[u8; 32],
    ) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Folder(folder) => {
                let (folder, own, path) = (folder.clone(), key.to_owned(), path.to_path_buf());
                let sha256 = *sha256;
                self.apart("write", key, move || folder.put_file(&own, &path, &sha256)).await
            }
            Backend::Remote(remote) => remote.put_file(key, path, sha256).await,
        }
    }

    /// The length of an object; `None` if it is not there.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be asked.
    pub async fn length(&self, key: &str) -> Result<Option<u64>, StoreError> {
        match &self.backend {
            Backend::Folder(folder) => {
                let (folder, own) = (folder.clone(), key.to_owned());
                match self.apart("look up", key, move || Ok(folder.length(&own)?)).await {
                    Ok(bytes) => Ok(Some(bytes)),
                    Err(error) if error.is_not_found() => Ok(None),
                    Err(error) => Err(error),
                }
            }
            Backend::Remote(remote) => remote.length(key).await,
        }
    }

    /// Reads an object whole.
    ///
    /// # Errors
    /// [`StoreError`] if it is not there or cannot be read.
    pub async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        match &self.backend {
            Backend::Folder(folder) => {
                let (folder, own) = (folder.clone(), key.to_owned());
                self.apart("read", key, move || Ok(folder.get(&own)?)).await
            }
            Backend::Remote(remote) => remote.get(key).await,
        }
    }

    /// Reads a range of an object's bytes.
    ///
    /// # Errors
    /// [`StoreError`] if it is not there, is shorter, or cannot be read.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        match &self.backend {
            Backend::Folder(folder) => {
                let (folder, own) = (folder.clone(), key.to_owned());
                self.apart("read", key, move || Ok(folder.get_range(&own, range)?)).await
            }
            Backend::Remote(remote) => remote.get_range(key, range).await,
        }
    }

    /// The objects whose keys begin with these folders (all, if there are none), in the order of keys.
    /// What is half written, and a spool that stands in the archive, are not listed.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be listed.
    pub async fn list(&self, folders: &str) -> Result<Vec<Object>, StoreError> {
        let mut objects = match &self.backend {
            Backend::Folder(folder) => {
                let (folder, own) = (folder.clone(), folders.to_owned());
                self.apart("list", folders, move || Ok(folder.list(&own)?)).await?
            }
            Backend::Remote(remote) => remote.list(folders).await?,
        };
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    /// The names of the folders right below these, in order.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be listed.
    pub async fn list_folders(&self, folders: &str) -> Result<Vec<String>, StoreError> {
        let mut names = match &self.backend {
            Backend::Folder(folder) => {
                let (folder, own) = (folder.clone(), folders.to_owned());
                self.apart("list", folders, move || Ok(folder.list_folders(&own)?)).await?
            }
            Backend::Remote(remote) => remote.list_folders(folders).await?,
        };
        names.sort();
        Ok(names)
    }

    /// The objects of the hours that a range of time touches, in the order of keys: those below
    /// `date=…/hour=…`. Other hours are not listed, however large the archive is.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be listed.
    pub async fn list_window(&self, window: Window) -> Result<Vec<Object>, StoreError> {
        let mut objects = Vec::new();
        for date in self.list_folders("").await? {
            let Some(day) = crate::name::parse_date(&date) else { continue };
            if !window.overlaps(day) {
                continue;
            }
            for hour in self.list_folders(&date).await? {
                let span = crate::name::parse_hour(&hour, day);
                if span.is_some_and(|span| window.overlaps(span)) {
                    objects.extend(self.list(&format!("{date}/{hour}")).await?);
                }
            }
        }
        Ok(objects)
    }

    /// Removes an object; one that is not there is no error.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be removed.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Folder(folder) => {
                let (folder, own) = (folder.clone(), key.to_owned());
                self.apart("remove", key, move || Ok(folder.delete(&own)?)).await
            }
            Backend::Remote(remote) => remote.delete(key).await,
        }
    }

    /// Removes what writes left behind that did not end, if it is older than this; gives the number. In
    /// a folder these are `.part` files, in S3 uploads in parts, where the server can list them. Azure
    /// forgets such parts by itself; for GCS, the bucket wants a lifecycle rule.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be found or removed.
    pub async fn sweep(&self, older_than: Duration) -> Result<u64, StoreError> {
        match &self.backend {
            Backend::Folder(folder) => {
                let folder = folder.clone();
                self.apart("sweep", "", move || Ok(folder.sweep(older_than)?)).await
            }
            Backend::Remote(remote) => remote.sweep(older_than).await,
        }
    }

    /// Does work with files where it keeps nothing waiting.
    async fn apart<T: Send + 'static>(
        &self,
        action: &str,
        key: &str,
        work: impl FnOnce() -> Result<T, Told> + Send + 'static,
    ) -> Result<T, StoreError> {
        let done = tokio::task::spawn_blocking(work).await;
        let done = done.unwrap_or_else(|e| Err(std::io::Error::other(e).into()));
        done.map_err(|told| StoreError {
            place: self.place.clone(),
            what: format!("{action} {key}").trim_end().into(),
            fault: told.fault,
            reason: told.reason,
            mend: told.mend,
        })
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("place", &self.place).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn objects_come_back() {
        let store = Store::memory();
        store.put("date=2026-11-27/a", Bytes::from_static(b"abc")).await.unwrap();
        store.put("manifest/b", Bytes::new()).await.unwrap();
        assert_eq!(&store.get_range("date=2026-11-27/a", 1..3).await.unwrap()[..], b"bc");
        let keys: Vec<_> = store.list("").await.unwrap().into_iter().map(|o| o.key).collect();
        assert_eq!(keys, ["date=2026-11-27/a", "manifest/b"]);
        assert_eq!(store.list("manifest").await.unwrap().len(), 1);
        store.delete("manifest/b").await.unwrap();
        store.delete("manifest/b").await.unwrap();
        assert!(store.get("manifest/b").await.unwrap_err().is_not_found());
    }
}
