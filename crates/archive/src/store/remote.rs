//! An archive in a bucket: what is there was confirmed.
//!
//! An object is confirmed by its length and the SHA-256 that the store gives for it; where it gives
//! none, or another one, the object is read back and hashed. An ETag is no such hash.

use super::bandwidth::Bandwidth;
use super::error::{StoreError, StoreFault, Told, plain, tell};
use super::folder::{read_part, short};
use super::hash::{Digest, Hasher, hash_file};
use super::s3::S3;
use super::xml::Listing;
use super::{Object, PART_BYTES, StoreOptions};
use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3;
use object_store::path::Path as StorePath;
use object_store::{GetOptions, GetResult, MultipartUpload, ObjectStore, ObjectStoreExt};
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Parts of an upload at most: what S3 takes.
const PARTS_MAX: u64 = 10_000;

/// Memory for parts of files, however many are sent at once, and the unit in which it is counted.
const MEMORY_BYTES: u64 = 4 * PART_BYTES;
const MEMORY_UNIT: u64 = 64 << 10;

/// Permits for all of it.
pub(super) fn all_memory() -> Semaphore {
    Semaphore::new((MEMORY_BYTES / MEMORY_UNIT) as usize)
}

/// Objects of a page of a list, and bytes that it may have.
const PAGE: usize = 1000;
const PAGE_BYTES: u64 = 1 << 20;

/// How long an upload that failed is given to be taken back.
const ABORT_TIME_MAX: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Remote {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) prefix: StorePath,
    pub(super) s3: Option<(S3, AmazonS3)>,
    pub(super) place: String,
    pub(super) options: StoreOptions,
    pub(super) bandwidth: Option<Bandwidth>,
    pub(super) memory: Semaphore,
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
            let _memory = self.memory(length).await;
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
            let memory = {
                let mut memory = pin!(self.memory(PART_BYTES));
                loop {
                    // Parts that are under way must not wait for the next one.
                    tokio::select! {
                        biased;
                        Some(sent) = sending.next() => sent?,
                        memory = &mut memory => break memory,
                    }
                }
            };
            let part =
                read_part(file).map_err(|e| self.trouble("write", key, Told::local(path, &e)))?;
            if part.is_empty() {
                break;
            }
            hasher.part(&part);
            let bytes = part.len() as u64;
            let put = upload.put_part(part.into());
            sending.push(async move {
                self.wait_for_bandwidth(bytes).await;
                let sent = self.within("write", key, bytes, put).await;
                drop(memory);
                sent
            });
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

    /// Waits until there is memory for these bytes of a file, over all files that are being sent.
    async fn memory(&self, bytes: u64) -> Option<SemaphorePermit<'_>> {
        let units = bytes.div_ceil(MEMORY_UNIT).min(MEMORY_BYTES / MEMORY_UNIT) as u32;
        // It is never closed.
        self.memory.acquire_many(units).await.ok()
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
        let found = match self.look_up(key).await {
            Err(error) if error.is_not_found() => return Ok(false),
            found => found?,
        };
        if found.meta.size != expected.bytes {
            return Ok(false);
        }
        if S3::checksum(&found.attributes).is_some_and(|sum| expected.is(sum)) {
            return Ok(true);
        }
        // It gives none, or one that was made otherwise: the content decides.
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
        match self.look_up(key).await {
            Ok(found) => Ok(Some(found.meta.size)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn look_up(&self, key: &str) -> Result<GetResult, StoreError> {
        let path = self.path(key);
        let options = GetOptions { head: true, ..GetOptions::default() };
        self.within("look up", key, 0, self.store.get_opts(&path, options)).await
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
        let mut pages = self.store.list(Some(&below)).chunks(PAGE);
        while let Some(page) = self.list_page(folders, pages.next()).await? {
            for meta in page {
                match meta {
                    Ok(meta) => objects.extend(self.object(meta.location.as_ref(), meta.size)),
                    // object_store has no name for it: a foreign key.
                    Err(object_store::Error::InvalidPath { .. }) if self.s3.is_some() => {
                        return Ok(self.list_by_hand(folders, "").await?.found);
                    }
                    Err(error) => return Err(self.failed("list", folders, &error)),
                }
            }
        }
        Ok(objects)
    }

    /// The names of the folders right below these.
    pub(super) async fn list_folders(&self, folders: &str) -> Result<Vec<String>, StoreError> {
        let below = self.path(folders);
        let listed = self.store.list_with_delimiter(Some(&below));
        let listed = async {
            match listed.await {
                Err(object_store::Error::InvalidPath { .. }) if self.s3.is_some() => Ok(None),
                listed => listed.map(Some),
            }
        };
        let prefixes: Vec<String> = match self.within("list", folders, PAGE_BYTES, listed).await? {
            Some(found) => found.common_prefixes.iter().map(ToString::to_string).collect(),
            None => self.list_by_hand(folders, "/").await?.prefixes,
        };
        let name =
            |prefix: &str| prefix.trim_end_matches('/').rsplit('/').next().map(str::to_owned);
        Ok(prefixes.iter().filter_map(|prefix| name(prefix)).filter(|n| !n.is_empty()).collect())
    }

    /// Lists in a way that knows any key.
    async fn list_by_hand(
        &self,
        folders: &str,
        delimiter: &str,
    ) -> Result<Listing<Object>, StoreError> {
        let mut all = Listing { found: Vec::new(), prefixes: Vec::new(), next: None };
        let Some((s3, store)) = &self.s3 else { return Ok(all) };
        let bucket = self.within("list", folders, 0, S3::bucket(store)).await?;
        let mut prefix = self.path(folders).to_string();
        if !prefix.is_empty() {
            prefix.push('/');
        }
        loop {
            let asked = s3.list(&bucket, &prefix, delimiter, all.next.as_deref());
            let page = self.list_page(folders, asked).await?;
            let page = page.map_err(|told| self.trouble("list", folders, told))?;
            let found = page.found.into_iter();
            all.found.extend(found.filter_map(|object| self.object(&object.key, object.bytes)));
            all.prefixes.extend(page.prefixes);
            if page.next.is_none() || page.next == all.next {
                return Ok(all);
            }
            all.next = page.next;
        }
    }

    /// Waits for the next page of a list.
    async fn list_page<T>(
        &self,
        folders: &str,
        page: impl Future<Output = T>,
    ) -> Result<T, StoreError> {
        self.within("list", folders, PAGE_BYTES, async { Ok(page.await) }).await
    }

    /// Takes back uploads that began so long ago and did not end, where that can be.
    pub(super) async fn sweep(&self, older_than: Duration) -> Result<u64, StoreError> {
        let Some((s3, store)) = &self.s3 else { return Ok(0) };
        let bucket = self.within("sweep", "", 0, S3::bucket(store)).await?;
        let before = SystemTime::now().checked_sub(older_than).unwrap_or(SystemTime::UNIX_EPOCH);
        match s3.abort_uploads(&bucket, self.prefix.as_ref(), before).await {
            // A server that cannot list them.
            Err(told) if told.fault == StoreFault::Setup => Ok(0),
            swept => swept.map_err(|told| self.trouble("sweep", "", told)),
        }
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

    /// An object by its key in the bucket; none, if it is not below the prefix.
    fn object(&self, key: &str, bytes: u64) -> Option<Object> {
        let prefix = self.prefix.as_ref();
        let key = match prefix.is_empty() {
            true => key,
            false => key.strip_prefix(prefix)?.strip_prefix('/')?,
        };
        Some(Object { key: key.into(), bytes })
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
