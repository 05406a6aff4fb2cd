//! The place where an archive's objects are: a folder, a bucket, or memory.
//!
//! Keys are relative to the archive's root, with `/` between their parts. Nothing is trusted to be
//! atomic but the replacement of one object; conditional puts are not used.

use crate::location::Location;
use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path as StorePath;
use object_store::{ObjectStore, ObjectStoreExt};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a store refused, or could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {what}: {source}{mend}")]
pub struct StoreError {
    /// The archive, without credentials.
    pub place: String,
    /// What was tried, on which key.
    pub what: String,
    /// The store's answer.
    pub source: Box<object_store::Error>,
    /// "; " and the mend, or empty.
    pub mend: &'static str,
}

impl StoreError {
    /// Whether there is no such object.
    pub fn is_not_found(&self) -> bool {
        matches!(*self.source, object_store::Error::NotFound { .. })
    }
}

/// An object that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its key below the archive's root.
    pub key: String,
    /// Its length.
    pub bytes: u64,
}

/// An archive's objects. Cloning shares the connection.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    prefix: StorePath,
    /// The folder, of an archive in one.
    root: Option<PathBuf>,
    place: String,
}

impl Store {
    /// Opens an archive's place; a folder is made if it is not there. A bucket is not asked yet.
    ///
    /// # Errors
    /// [`StoreError`] if the folder cannot be made, or the URL or the credentials make no sense.
    pub fn open(location: &Location) -> Result<Store, StoreError> {
        let place = location.to_string();
        let failed = |source| StoreError {
            place: place.clone(),
            what: "open the archive".into(),
            source: Box::new(source),
            mend: "",
        };
        match location {
            Location::Directory(path) => {
                let store = std::fs::create_dir_all(path)
                    .map_err(|e| object_store::Error::Generic { store: "folder", source: e.into() })
                    .and_then(|()| object_store::local::LocalFileSystem::new_with_prefix(path))
                    .map_err(failed)?;
                let root = Some(path.clone());
                Ok(Store { inner: Arc::new(store), prefix: StorePath::default(), root, place })
            }
            Location::Url(text) => {
                let url = text.parse().map_err(|e: url::ParseError| {
                    failed(object_store::Error::Generic { store: "url", source: e.into() })
                })?;
                let options =
                    std::env::vars().map(|(key, value)| (key.to_ascii_lowercase(), value));
                let (inner, prefix) =
                    object_store::parse_url_opts(&url, options).map_err(failed)?;
                Ok(Store { inner: inner.into(), prefix, root: None, place })
            }
        }
    }

    /// An archive in memory, for tests.
    pub fn memory() -> Store {
        let inner = Arc::new(InMemory::new());
        Store { inner, prefix: StorePath::default(), root: None, place: "memory".into() }
    }

    /// The folder, if it is one.
    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
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
        let put = self.inner.put(&self.path(key), bytes.into()).await;
        put.map(drop).map_err(|e| self.failed("write", key, e))
    }

    /// Reads an object whole.
    ///
    /// # Errors
    /// [`StoreError`] if it is not there or cannot be read.
    pub async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        let failed = |e| self.failed("read", key, e);
        self.inner.get(&self.path(key)).await.map_err(failed)?.bytes().await.map_err(failed)
    }

    /// Reads a range of an object's bytes.
    ///
    /// # Errors
    /// [`StoreError`] if it is not there, is shorter, or cannot be read.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let read = self.inner.get_range(&self.path(key), range).await;
        read.map_err(|e| self.failed("read", key, e))
    }

    /// The objects whose keys begin with these folders (all, if there are none), in the order of keys.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be listed.
    pub async fn list(&self, folders: &str) -> Result<Vec<Object>, StoreError> {
        let below = self.path(folders);
        let failed = |e| self.failed("list", folders, e);
        let found: Vec<_> = self.inner.list(Some(&below)).try_collect().await.map_err(failed)?;
        let mut objects: Vec<Object> = found
            .into_iter()
            .filter_map(|meta| {
                let parts: Option<Vec<String>> = meta
                    .location
                    .prefix_match(&self.prefix)
                    .map(|parts| parts.map(|part| part.as_ref().to_string()).collect());
                Some(Object { key: parts?.join("/"), bytes: meta.size })
            })
            .collect();
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    /// Removes an object; one that is not there is no error.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be removed.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self.inner.delete(&self.path(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("remove", key, error)),
        }
    }

    fn path(&self, key: &str) -> StorePath {
        let parts = self.prefix.parts().map(|part| part.as_ref().to_string());
        let own = key.split('/').filter(|part| !part.is_empty()).map(str::to_string);
        StorePath::from_iter(parts.chain(own))
    }

    fn failed(&self, action: &str, key: &str, source: object_store::Error) -> StoreError {
        let mend = match &source {
            object_store::Error::NotFound { .. } => "",
            object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. } => {
                "; check the credentials and their rights"
            }
            _ => "",
        };
        StoreError {
            place: self.place.clone(),
            what: format!("{action} {key}"),
            source: Box::new(source),
            mend,
        }
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
