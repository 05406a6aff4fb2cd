//! Repair: what verification finds and what can be mended without losing anything.
//!
//! | found | done |
//! |---|---|
//! | index missing or altered, its data whole | the index is made anew from the data |
//! | data that the manifest does not know, whole | its index is completed, and an entry is written |
//! | objects that were removed by the manifest, and are there | they are deleted |
//! | a hold that the manifest does not know | an entry is written |
//! | a plain segment | it is sealed and stored; then the plain one is deleted |
//! | a half-written file that nobody has touched for a while | it is deleted |
//!
//! All else stays as it is, damaged data above all, and is given back.

use crate::catalog::Place;
use crate::error::Error;
use crate::expire;
use crate::holds::{self, Holds};
use crate::import::{append, store_sealed};
use crate::local::LocalFile;
use crate::manifest::{self, Chain, Event, Manifest, SegmentRecord};
use crate::name::{Part, SegmentName};
use crate::seal::{Reindexed, SealOptions, reindex_segment, seal};
use crate::store::Store;
use crate::verify::{self, Finding, Kind, file_sha256};
use bytes::Bytes;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A half-written file that was written to since then may still be.
const HALF_WRITTEN_AGE: Duration = Duration::from_secs(600);

/// How an archive is repaired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The spool of the archive, if it is on this host: what stands in it is on its way, and is left to
    /// who brings it there.
    pub spool: Option<PathBuf>,
    /// A folder for copies of objects, and for segments that are sealed.
    pub scratch: PathBuf,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// How plain segments are sealed.
    pub seal: SealOptions,
}

/// What is done with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// An index was made anew.
    Reindexed,
    /// An entry was written for a segment.
    Recorded,
    /// A removal was finished.
    Removed,
    /// An entry was written for a hold.
    HoldRecorded,
    /// A plain segment was sealed.
    Sealed,
    /// A half-written file was deleted.
    Cleared,
}

/// Something that was mended, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mended {
    /// The object's key, or a file's path.
    pub object: String,
    /// What is done.
    pub action: Action,
}

/// What came of a repair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// What was mended, or would be.
    pub mended: Vec<Mended>,
    /// What stays as it is, and why.
    pub left: Vec<Finding>,
}

/// Repairs an archive. `utc_ns` tells the time; `progress` is told of each object before it is looked at.
///
/// # Errors
/// [`Error`] if the archive cannot be read, or refuses to be written: what was mended stays so.
pub async fn repair(
    store: &Store,
    options: &Options,
    utc_ns: impl Fn() -> u64,
    progress: impl FnMut(u64, u64, &str),
) -> Result<Repaired, Error> {
    let look = verify::Options {
        spool: options.spool.clone(),
        deep: false,
        indexes: true,
        scratch: options.scratch.clone(),
    };
    let report = verify::verify(store, &look, progress).await?;
    let manifest = manifest::read(store).await?;
    let objects = store.list("").await?.into_iter().map(|of| (of.key, of.bytes)).collect();
    let mut repair = Repair { store, options, manifest: &manifest, objects, chain: None, utc_ns };
    let mut repaired = Repaired::default();
    // Data before indexes: the entry of unknown data comes with its index.
    let is_index =
        |of: &Finding| matches!(SegmentName::parse_key(&of.object), Some((_, Part::Index)));
    let (indexes, others): (Vec<_>, Vec<_>) = report.findings.into_iter().partition(is_index);
    for finding in others.into_iter().chain(indexes) {
        match repair.mend(&finding, &repaired.mended).await {
            Ok(Some(action)) => repaired.mended.push(Mended { object: finding.object, action }),
            Ok(None) if is_done_with(&finding, &repaired.mended) => {}
            Ok(None) => repaired.left.push(finding),
            Err(error @ Error::Store(_)) => return Err(error),
            Err(error) => {
                repaired.left.push(Finding { what: error.to_string(), ..finding });
            }
        }
    }
    Ok(repaired)
}

/// Whether an index was mended together with its data.
fn is_done_with(finding: &Finding, mended: &[Mended]) -> bool {
    let Some((name, Part::Index)) = SegmentName::parse_key(&finding.object) else { return false };
    mended.iter().any(|of| {
        let same = SegmentName::parse_key(&of.object).is_some_and(|(other, _)| other.id == name.id);
        same && matches!(of.action, Action::Recorded | Action::Removed | Action::Sealed)
    })
}

struct Repair<'a, F> {
    store: &'a Store,
    options: &'a Options,
    manifest: &'a Manifest,
    objects: BTreeMap<String, u64>,
    chain: Option<Chain>,
    utc_ns: F,
}

impl<F: Fn() -> u64> Repair<'_, F> {
    /// Mends what was found; `None` if that cannot be, or was done with something else.
    async fn mend(
        &mut self,
        finding: &Finding,
        mended: &[Mended],
    ) -> Result<Option<Action>, Error> {
        let object = &finding.object;
        let segment = SegmentName::parse_key(object);
        match (finding.finding, segment) {
            (Kind::IndexMissing | Kind::IndexAltered, Some((name, _))) => self.reindex(&name).await,
            (Kind::Orphan, Some((name, Part::Data))) => self.record(&name).await,
            (Kind::Leftover, Some((name, part))) if !is_done_with(finding, mended) => {
                self.remove(object, &name, part).await
            }
            (Kind::Plain, Some((name, _))) => self.seal(object, &name).await,
            (Kind::HoldUnrecorded, _) => self.record_hold(object).await,
            (Kind::HalfWritten, _) => self.clear(object),
            _ => Ok(None),
        }
    }

    /// Data as a local file; `None` if there is none.
    async fn local(&self, key: &str) -> Result<Option<LocalFile>, Error> {
        let Some(&bytes) = self.objects.get(key) else { return Ok(None) };
        let place = Place::Object(key.into());
        LocalFile::get(self.store, &place, bytes, &self.options.scratch).await.map(Some)
    }

    /// Makes an index anew, if the data is what was stored.
    async fn reindex(&mut self, name: &SegmentName) -> Result<Option<Action>, Error> {
        let key = name.key(Part::Data);
        let records = self.manifest.segments();
        let Some(record) = records.get(key.as_str()).copied() else { return Ok(None) };
        let Some(data) = self.local(&key).await? else { return Ok(None) };
        let anew = index_anew(data.path(), name, record)?;
        if !self.options.dry_run {
            let event = reindexed(record, &anew);
            self.store.put(&name.key(Part::Index), Bytes::from(anew.index)).await?;
            if let Some(event) = event {
                append(self.store, &mut self.chain, event, (self.utc_ns)()).await?;
            }
        }
        Ok(Some(Action::Reindexed))
    }

    /// Writes the entry of a segment that can be read to its end.
    async fn record(&mut self, name: &SegmentName) -> Result<Option<Action>, Error> {
        let key = name.key(Part::Data);
        let Some(data) = self.local(&key).await? else { return Ok(None) };
        let sha256 = file_sha256(data.path())?;
        let anew = reindex_segment(data.path(), name)?;
        if !self.options.dry_run {
            let record = SegmentRecord {
                bytes: self.objects.get(&key).copied().unwrap_or(0),
                object: key,
                sha256,
                raw_bytes: anew.raw_bytes,
                packets: anew.packets,
                index_bytes: anew.index.len() as u64,
                index_sha256: holds::sha256(&anew.index),
                index_rows: anew.rows,
                addresses: anew.addresses,
                dropped: anew.dropped,
            };
            self.store.put(&name.key(Part::Index), Bytes::from(anew.index)).await?;
            append(self.store, &mut self.chain, Event::Stored(record), (self.utc_ns)()).await?;
        }
        Ok(Some(Action::Recorded))
    }

    /// Finishes a removal, unless a hold covers the segment by now.
    async fn remove(
        &mut self,
        object: &str,
        name: &SegmentName,
        part: Part,
    ) -> Result<Option<Action>, Error> {
        let holds = Holds::load(self.store).await?;
        holds.complete(self.manifest)?;
        if holds.covers(name) {
            return Ok(None);
        }
        if !self.options.dry_run {
            let index = (part != Part::Plain).then(|| name.key(Part::Index));
            expire::delete(self.store, object, index.as_deref()).await?;
        }
        Ok(Some(Action::Removed))
    }

    /// Seals a plain segment, which is deleted when the sealed one is stored.
    async fn seal(&mut self, object: &str, name: &SegmentName) -> Result<Option<Action>, Error> {
        let Some(plain) = self.local(object).await? else { return Ok(None) };
        let key = name.key(Part::Data);
        let records = self.manifest.segments();
        let is_stored = |record: &SegmentRecord| self.objects.get(&key) == Some(&record.bytes);
        if !records.get(key.as_str()).copied().is_some_and(is_stored) {
            let sealed = seal(plain.path(), name, &self.options.scratch, &self.options.seal)?;
            let stored = match (&sealed.cut, self.options.dry_run) {
                (Some(cut), _) => Err(Error::Damaged {
                    object: object.into(),
                    what: cut.to_string(),
                    mend: "; it stays as it is",
                }),
                (None, true) => Ok(()),
                (None, false) => self.store_new(&sealed.record, &sealed).await,
            };
            for file in [&sealed.data, &sealed.index] {
                std::fs::remove_file(file)
                    .map_err(|e| Error::system(format!("remove {}", file.display()), e))?;
            }
            stored?;
        }
        if !self.options.dry_run {
            self.store.delete(object).await?;
        }
        Ok(Some(Action::Sealed))
    }

    async fn store_new(
        &mut self,
        record: &SegmentRecord,
        sealed: &crate::seal::Sealed,
    ) -> Result<(), Error> {
        store_sealed(self.store, sealed).await?;
        let event = Event::Stored(record.clone());
        append(self.store, &mut self.chain, event, (self.utc_ns)()).await
    }

    async fn record_hold(&mut self, object: &str) -> Result<Option<Action>, Error> {
        let Some(name) = holds::name_of(object) else { return Ok(None) };
        let sha256 = holds::sha256(&self.store.get(object).await?);
        if !self.options.dry_run {
            let event = Event::Held { hold: name.into(), sha256 };
            append(self.store, &mut self.chain, event, (self.utc_ns)()).await?;
        }
        Ok(Some(Action::HoldRecorded))
    }

    /// Deletes a half-written file of this host.
    fn clear(&self, file: &str) -> Result<Option<Action>, Error> {
        let path = PathBuf::from(file);
        let age =
            path.metadata().and_then(|of| of.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_none_or(|age| age < HALF_WRITTEN_AGE) {
            return Ok(None);
        }
        if !self.options.dry_run {
            std::fs::remove_file(&path)
                .map_err(|e| Error::system(format!("remove {}", path.display()), e))?;
        }
        Ok(Some(Action::Cleared))
    }
}

/// The index of data that is what was stored.
fn index_anew(data: &Path, name: &SegmentName, record: &SegmentRecord) -> Result<Reindexed, Error> {
    if file_sha256(data)? != record.sha256 {
        return Err(Error::Damaged {
            object: record.object.clone(),
            what: "its data was altered, so that no index is made of it".into(),
            mend: "; restore the object from another copy",
        });
    }
    reindex_segment(data, name)
}

/// What the manifest is to say of an index that was made anew; nothing, if it is the same again.
fn reindexed(record: &SegmentRecord, anew: &Reindexed) -> Option<Event> {
    let now = SegmentRecord {
        index_bytes: anew.index.len() as u64,
        index_sha256: holds::sha256(&anew.index),
        index_rows: anew.rows,
        addresses: anew.addresses.clone(),
        ..record.clone()
    };
    (now != *record).then_some(Event::Reindexed(now))
}

/// Makes the index of one segment anew from its data, whatever the index is now. False if it came out
/// the same again.
///
/// # Errors
/// [`Error::Damaged`] if the data is not what was stored, [`Error`] if it cannot be read or the index
/// not be written.
pub async fn reindex(
    store: &Store,
    chain: &mut Option<Chain>,
    record: &SegmentRecord,
    scratch: &Path,
    utc_ns: u64,
) -> Result<bool, Error> {
    let Some((name, _)) = SegmentName::parse_key(&record.object) else {
        return Err(Error::Usage(format!("`{}` is no segment's data", record.object)));
    };
    let place = Place::Object(record.object.clone());
    let data = LocalFile::get(store, &place, record.bytes, scratch).await?;
    let anew = index_anew(data.path(), &name, record)?;
    let index = name.key(Part::Index);
    let event = reindexed(record, &anew);
    let is_same = match store.get(&index).await {
        Ok(bytes) => event.is_none() && bytes == anew.index,
        Err(error) if error.is_not_found() => false,
        Err(error) => return Err(error.into()),
    };
    if is_same {
        return Ok(false);
    }
    store.put(&index, Bytes::from(anew.index)).await?;
    if let Some(event) = event {
        append(store, chain, event, utc_ns).await?;
    }
    Ok(true)
}
