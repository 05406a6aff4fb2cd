//! All chains of an archive, read and checked.

use super::parse_key;
use super::{ENTRIES_MAX, Entry, Event, FOLDER, NO_HASH, SegmentRecord, hash, is_intact, key};
use crate::error::Error;
use crate::store::Store;
use futures_util::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeMap, BTreeSet};
use ulid::Ulid;

/// Objects that are read at once.
const AT_ONCE: usize = 8;

/// A place where a chain is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Break {
    /// The object of the chain.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
}

/// What the chains of an archive say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// All entries that can be read, in the order of their times; those of one chain in its order.
    pub entries: Vec<Entry>,
    /// Where chains are not as they were written.
    pub breaks: Vec<Break>,
    /// Chains that there are.
    pub chains: usize,
}

impl Manifest {
    /// What there must be: the newest record of each segment that was stored and not removed since, by
    /// the key of its data.
    pub fn segments(&self) -> BTreeMap<&str, &SegmentRecord> {
        let mut segments = BTreeMap::new();
        for entry in &self.entries {
            match &entry.event {
                Event::Stored(record) | Event::Reindexed(record) => {
                    segments.insert(record.object.as_str(), record);
                }
                Event::Removed { object, .. } => drop(segments.remove(object.as_str())),
                Event::Held { .. } | Event::Released { .. } => {}
            }
        }
        segments
    }

    /// What there must no longer be: the entries of segments that were removed and not stored since,
    /// by the key of their data.
    pub fn removed(&self) -> BTreeMap<&str, &Entry> {
        let mut removed = BTreeMap::new();
        for entry in &self.entries {
            match &entry.event {
                Event::Stored(record) => drop(removed.remove(record.object.as_str())),
                Event::Removed { object, .. } => drop(removed.insert(object.as_str(), entry)),
                _ => {}
            }
        }
        removed
    }
}

/// Reads all chains. What is no object of a chain is passed over.
///
/// # Errors
/// [`Error::Store`] if the store cannot be read. Damage is no error: it is in [`Manifest::breaks`].
pub async fn read(store: &Store) -> Result<Manifest, Error> {
    let chains = load(store, |numbers| numbers).await?;
    let mut manifest = Manifest { chains: chains.len(), ..Manifest::default() };
    let mut hashes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (&writer, objects) in &chains {
        let mut check = Check { writer, seq: 0, prev: NO_HASH.into(), hashes: BTreeSet::new() };
        let last = objects.keys().next_back().copied().unwrap_or(0);
        for number in 0..=last {
            let object = key(writer, number);
            let found = match objects.get(&number) {
                Some(text) => check.object(text, number == last, &mut manifest.entries),
                None => Err("it is missing".into()),
            };
            if let Err(what) = found {
                manifest.breaks.push(Break { object, what });
                // What follows is compared with itself only.
                check.prev.clear();
            }
        }
        hashes.insert(writer.to_string(), check.hashes);
    }
    manifest.breaks.extend(missing_heads(&manifest.entries, &hashes));
    in_order(&mut manifest.entries);
    Ok(manifest)
}

/// Orders entries, which stand chain by chain, by time. Where a writer's clock was set back, what it
/// wrote then counts as written when it wrote the entry before.
fn in_order(entries: &mut Vec<Entry>) {
    let mut latest: Option<(String, String)> = None;
    let mut timed: Vec<(String, Entry)> = Vec::with_capacity(entries.len());
    for entry in entries.drain(..) {
        let before = latest.take().filter(|(writer, _)| *writer == entry.writer);
        let time = before.map_or(String::new(), |(_, time)| time).max(entry.time.clone());
        latest = Some((entry.writer.clone(), time.clone()));
        timed.push((time, entry));
    }
    timed.sort_by(|(a, _), (b, _)| a.cmp(b));
    entries.extend(timed.into_iter().map(|(_, entry)| entry));
}

/// The hash of the last line of each chain, by writer.
pub(super) async fn heads(store: &Store) -> Result<BTreeMap<String, String>, Error> {
    let newest = load(store, |numbers| numbers.last().copied().into_iter().collect()).await?;
    let head = |(writer, objects): (Ulid, BTreeMap<u64, String>)| {
        let line = objects.into_values().next_back()?.lines().last().map(hash)?;
        Some((writer.to_string(), line))
    };
    Ok(newest.into_iter().filter_map(head).collect())
}

/// Reads of each chain the objects that `wanted` chooses from their numbers, which ascend. What is not
/// text is read as if it were.
async fn load(
    store: &Store,
    wanted: impl Fn(Vec<u64>) -> Vec<u64>,
) -> Result<BTreeMap<Ulid, BTreeMap<u64, String>>, Error> {
    let mut numbers: BTreeMap<Ulid, Vec<u64>> = BTreeMap::new();
    for object in store.list(FOLDER).await? {
        if let Some((writer, number)) = parse_key(&object.key) {
            numbers.entry(writer).or_default().push(number);
        }
    }
    let wanted = numbers.into_iter().flat_map(|(writer, mut numbers)| {
        numbers.sort_unstable();
        wanted(numbers).into_iter().map(move |number| (writer, number))
    });
    let read = |(writer, number)| async move {
        let bytes = store.get(&key(writer, number)).await?;
        Ok::<_, Error>((writer, number, String::from_utf8_lossy(&bytes).into_owned()))
    };
    let read: Vec<_> = stream::iter(wanted).map(read).buffered(AT_ONCE).try_collect().await?;
    let mut chains: BTreeMap<Ulid, BTreeMap<u64, String>> = BTreeMap::new();
    for (writer, number, text) in read {
        chains.entry(writer).or_default().insert(number, text);
    }
    Ok(chains)
}

/// How far a chain was followed.
struct Check {
    writer: Ulid,
    /// What the next entry must say of its place and of the line before; empty if that is not known.
    seq: u64,
    prev: String,
    /// The hashes of all lines.
    hashes: BTreeSet<String>,
}

impl Check {
    /// Follows the chain through one object; gives the first thing that is wrong.
    fn object(
        &mut self,
        text: &str,
        is_last: bool,
        entries: &mut Vec<Entry>,
    ) -> Result<(), String> {
        let mut result = Ok(());
        let mut found = 0;
        for (number, line) in (1..).zip(text.lines()) {
            found = number;
            let wrong = match serde_json::from_str::<Entry>(line) {
                Err(error) => Err(format!("line {number} is not an entry: {error}")),
                Ok(entry) => {
                    let altered = || Err("was altered: its check is another one".into());
                    let wrong = if is_intact(line) { Ok(()) } else { altered() };
                    let wrong = wrong.and_then(|()| self.follow(&entry));
                    let wrong = wrong.map_err(|what| format!("line {number} {what}"));
                    self.seq = entry.seq + 1;
                    entries.push(entry);
                    wrong
                }
            };
            result = result.and(wrong);
            self.prev = hash(line);
            self.hashes.insert(self.prev.clone());
        }
        if !is_last && found != ENTRIES_MAX || found == 0 {
            result = result.and(Err(format!("it has {found} entries, not {ENTRIES_MAX}")));
        }
        if !text.ends_with('\n') && found > 0 {
            result = result.and(Err("its last line has no end".into()));
        }
        result
    }

    fn follow(&self, entry: &Entry) -> Result<(), String> {
        if entry.writer != self.writer.to_string() {
            return Err(format!("is of another writer, {}", entry.writer));
        }
        if self.prev.is_empty() {
            return Ok(());
        }
        if entry.seq != self.seq {
            return Err(format!("is entry {}, where {} must follow", entry.seq, self.seq));
        }
        if entry.prev != self.prev {
            return Err("does not follow the line before: one of the two was altered".into());
        }
        Ok(())
    }
}

/// The chains that others remember and that are no longer there as they were.
fn missing_heads(
    entries: &[Entry],
    hashes: &BTreeMap<String, BTreeSet<String>>,
) -> BTreeSet<Break> {
    let heads = entries.iter().flat_map(|entry| &entry.heads);
    let lost = heads.filter(|(writer, head)| {
        hashes.get(*writer).is_none_or(|hashes| !hashes.contains(head.as_str()))
    });
    lost.map(|(writer, head)| Break {
        object: format!("{FOLDER}/{writer}"),
        what: format!("another chain remembers its line {head}, which is missing or was altered"),
    })
    .collect()
}
