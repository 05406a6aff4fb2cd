//! An archive in a bucket: what is there was confirmed.
//!
//! An object is confirmed by its length and the SHA-256 that the store gives for it; where it gives
//! none, or another one, the object is read back and hashed. An ETag is no such hash.

use super::bandwidth::Bandwidth;
use super::error::{StoreError, StoreFault, Told, plain, tell};
use super::folder::{read_part, short};
use super::hash::{Digest, Hasher, hash_file};
use super::{Object, PART_BYTES, PARTS_AT_ONCE, StoreOptions};
use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path as StorePath;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt};
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Parts of an upload at most: what S3 takes.
const PARTS_MAX: u64 = 10_000;

/// How long an upload that failed is given to be taken back.
const ABORT_TIME_MAX: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Remote {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) prefix: StorePath,
    pub(super) place: String,
    pub(super) options: StoreOptions,
    pub(super) bandwidth: Option<Bandwidth>,
}

impl Remote {
    /// Sends a small object.
    pub(super) async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let expected = Digest::of(&bytes);
        self.send(key, bytes).await?;
        self.confirm(key, &expected).await
    }

    /// Sends a file, unless it is there.
    pub(super) async fn put_file(
        &self,
        key: &str,
        path: &Path,
        sha256: &[u8; 32],
    ) -> Result<(), StoreError> {
        let local = |e| self.trouble("write", key, Told::local(path, &e));
        let mut file = File::open(path).map_err(local)?;
        let length = file.metadata().map_err(local)?.len();
        if length > PARTS_MAX * PART_BYTES {
            let reason = format!("{} has too many bytes: {length}", path.display());
            let told = Told { fault: StoreFault::Local, reason, mend: "" };
            return Err(self.trouble("write", key, told));
        }
        if self.length(key).await? == Some(length) {
            let known = hash_file(path, true).map_err(local)?;
            self.check(key, path, &known, sha256)?;
            if self.holds(key, &known).await? {
                return Ok(());
            }
        }
        let digest = if length <= PART_BYTES {
            let bytes = read_part(&mut file).map_err(local)?;
            let digest = Digest::of(&bytes);
            self.check(key, path, &digest, sha256)?;
            self.send(key, bytes).await?;
            digest
        } else {
            let object = self.path(key);
            let begun = self.store.put_multipart(&object);
            let mut upload = self.within("write", key, 0, begun).await?;
            let sent = self.send_parts(key, path, &mut file, sha256, upload.as_mut()).await;
            if sent.is_err() {
                // What stays behind is swept later, or by the bucket's lifecycle rule.
                let _ = tokio::time::timeout(ABORT_TIME_MAX, upload.abort()).await;
            }
            sent?
        };
        self.confirm(key, &digest).await
    }

    /// Sends the parts of an upload, some at once, and completes it.
    async fn send_parts(
        &self,
        key: &str,
        path: &Path,
        file: &mut File,
        sha256: &[u8; 32],
        upload: &mut dyn MultipartUpload,
    ) -> Result<Digest, StoreError> {
        let mut hasher = Hasher::new(true);
        let mut sending = FuturesUnordered::new();
        loop {
            let part =
                read_part(file).map_err(|e| self.trouble("write", key, Told::local(path, &e)))?;
            if part.is_empty() {
                break;
            }
            hasher.part(&part);
            let bytes = part.len() as u64;
            self.wait_for_bandwidth(bytes).await;
            sending.push(self.within("write", key, bytes, upload.put_part(part.into())));
            while sending.len() >= PARTS_AT_ONCE {
                sending.try_next().await?;
            }
        }
        while sending.try_next().await?.is_some() {}
        drop(sending);
        let digest = hasher.finish();
        // Nothing is completed that the file has not been.
        self.check(key, path, &digest, sha256)?;
        self.within("write", key, 0, upload.complete()).await?;
        Ok(digest)
    }

    async fn send(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let length = bytes.len() as u64;
        self.wait_for_bandwidth(length).await;
        let path = self.path(key);
        self.within("write", key, length, self.store.put(&path, bytes.into())).await.map(drop)
    }

    async fn wait_for_bandwidth(&self, bytes: u64) {
        if let Some(bandwidth) = &self.bandwidth {
            tokio::time::sleep(bandwidth.take(bytes, Instant::now())).await;
        }
    }

    fn check(
        &self,
        key: &str,
        path: &Path,
        digest: &Digest,
        sha256: &[u8; 32],
    ) -> Result<(), StoreError> {
        match digest.sha256 == *sha256 {
            true => Ok(()),
            false => Err(self.trouble("write", key, Told::altered(path))),
        }
    }

    async fn confirm(&self, key: &str, expected: &Digest) -> Result<(), StoreError> {
        match self.holds(key, expected).await? {
            true => Ok(()),
            false => Err(self.trouble("write", key, Told::unconfirmed())),
        }
    }

    /// Whether the object is there with this content.
    async fn holds(&self, key: &str, expected: &Digest) -> Result<bool, StoreError> {
        if self.length(key).await? != Some(expected.bytes) {
            return Ok(false);
        }
        let mut hasher = Hasher::new(false);
        let mut at = 0;
        while at < expected.bytes {
            let end = expected.bytes.min(at + PART_BYTES);
            match self.get_range(key, at..end).await {
                Ok(part) => hasher.part(&part),
                Err(error) if error.is_not_found() => return Ok(false),
                Err(error) => return Err(error),
            }
            at = end;
        }
        Ok(hasher.finish().sha256 == expected.sha256)
    }

    pub(super) async fn length(&self, key: &str) -> Result<Option<u64>, StoreError> {
        match self.within("look up", key, 0, self.store.head(&self.path(key))).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        let path = self.path(key);
        let found = self.within("read", key, 0, self.store.get(&path)).await?;
        let length = found.meta.size;
        let bytes = self.within("read", key, length, found.bytes()).await?;
        self.whole(key, 0..length, bytes)
    }

    pub(super) async fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let length = range.end - range.start;
        let path = self.path(key);
        let read = self.store.get_range(&path, range.clone());
        let bytes = self.within("read", key, length, read).await?;
        self.whole(key, range, bytes)
    }

    fn whole(&self, key: &str, range: Range<u64>, bytes: Bytes) -> Result<Bytes, StoreError> {
        if bytes.len() as u64 == range.end - range.start {
            return Ok(bytes);
        }
        let reason =
            format!("it has fewer than {}", short(&range, range.start + bytes.len() as u64));
        Err(self.trouble("read", key, Told { fault: StoreFault::Unavailable, reason, mend: "" }))
    }

    pub(super) async fn list(&self, folders: &str) -> Result<Vec<Object>, StoreError> {
        let below = self.path(folders);
        let mut objects = Vec::new();
        let mut pages = self.store.list(Some(&below)).chunks(1000);
        // The first of a page comes with all of it.
        while let Some(page) = self.page(folders, pages.next()).await? {
            for meta in page {
                let meta = meta.map_err(|e| self.failed("list", folders, &e))?;
                if let Some(key) = self.key(&meta.location) {
                    objects.push(Object { key, bytes: meta.size });
                }
            }
        }
        Ok(objects)
    }

    /// The names of the folders right below these.
    pub(super) async fn list_folders(&self, folders: &str) -> Result<Vec<String>, StoreError> {
        let below = self.path(folders);
        let listed = self.store.list_with_delimiter(Some(&below));
        let found = self.within("list", folders, 1 << 20, listed).await?;
        let names = found.common_prefixes.iter();
        Ok(names.filter_map(|path| path.filename().map(str::to_owned)).collect())
    }

    async fn page<T>(
        &self,
        folders: &str,
        next: impl Future<Output = Option<T>>,
    ) -> Result<Option<T>, StoreError> {
        self.within("list", folders, 1 << 20, async { Ok(next.await) }).await
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let path = self.path(key);
        match self.within("remove", key, 0, self.store.delete(&path)).await {
            Err(error) if error.is_not_found() => Ok(()),
            removed => removed,
        }
    }

    /// Waits for a request that carries so many bytes, but not for ever.
    async fn within<T>(
        &self,
        action: &str,
        key: &str,
        bytes: u64,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, StoreError> {
        let time_max = self.options.time_max(bytes);
        match tokio::time::timeout(time_max, request).await {
            Ok(answer) => answer.map_err(|e| self.failed(action, key, &e)),
            Err(_) => {
                let reason = format!("no answer in {} s", time_max.as_secs_f64());
                let told = Told { fault: StoreFault::Unavailable, reason, mend: "" };
                Err(self.trouble(action, key, told))
            }
        }
    }

    fn path(&self, key: &str) -> StorePath {
        let parts = self.prefix.parts().map(|part| part.as_ref().to_string());
        let own = key.split('/').filter(|part| !part.is_empty()).map(str::to_string);
        StorePath::from_iter(parts.chain(own))
    }

    fn key(&self, path: &StorePath) -> Option<String> {
        let parts: Vec<String> =
            path.prefix_match(&self.prefix)?.map(|part| part.as_ref().to_string()).collect();
        Some(parts.join("/"))
    }

    fn failed(&self, action: &str, key: &str, error: &object_store::Error) -> StoreError {
        self.trouble(action, key, tell(error))
    }

    fn trouble(&self, action: &str, key: &str, told: Told) -> StoreError {
        // Where there is no bucket to write to, S3 may say no more than 404.
        let told = match (action, told.fault) {
            ("write", StoreFault::NotFound) => Told {
                fault: StoreFault::Refused,
                mend: "; make the bucket, or correct its name",
                ..told
            },
            _ => told,
        };
        StoreError {
            place: self.place.clone(),
            what: format!("{action} {key}").trim_end().into(),
            fault: told.fault,
            reason: plain(&told.reason, &self.options.secrets()),
            mend: told.mend,
        }
    }
}
