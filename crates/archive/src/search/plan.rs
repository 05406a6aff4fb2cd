//! What a search will read, and what it cannot.

use super::Query;
use super::found::Origins;
use super::judge::Shared;
use super::run::Progress;
use crate::catalog::{self, Place, Segment};
use crate::error::Error;
use crate::fetch::Fetch;
use crate::index::AddressSet;
use crate::manifest::{self, Entry, Event};
use crate::name::SegmentName;
use crate::store::Store;
use futures_util::{StreamExt, stream};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use ulid::Ulid;

/// Objects of the manifest that are read at a time.
const AT_ONCE: usize = 8;
/// Names that are kept of segments that are not there.
const NAMES_MAX: usize = 1000;

/// Segments that are not there any more, or should be there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gone {
    /// How many.
    pub segments: u64,
    /// From the earliest packet of the first one to the latest of the last one, nanoseconds since 1970.
    pub span_ns: Option<(u64, u64)>,
    /// The keys of their data, a thousand at most.
    pub objects: Vec<String>,
}

impl Gone {
    fn add(&mut self, name: &SegmentName, object: String) {
        self.segments += 1;
        let (first, last) = self.span_ns.unwrap_or((name.first_ns, name.last_ns));
        self.span_ns = Some((first.min(name.first_ns), last.max(name.last_ns)));
        if self.objects.len() < NAMES_MAX {
            self.objects.push(object);
        }
    }
}

/// What a search will read.
#[derive(Debug)]
pub struct Plan {
    /// Segments of the range of time and of the sources.
    pub segments_listed: u64,
    /// Those of them that may hold a packet that is looked for, by what the manifest says.
    pub segments: u64,
    /// Bytes of their data: at most as many will be read of it.
    pub data_bytes: u64,
    /// Bytes of their indexes.
    pub index_bytes: u64,
    /// Segments of the range and the sources that were removed, as they had expired or on demand.
    pub expired: Gone,
    /// Segments of the range and the sources that the manifest has and the store has not.
    pub missing: Gone,
    /// Objects of the manifest that cannot be read, and why. No packet is left out for that.
    pub manifest_troubles: Vec<String>,
    pub(super) listed: Vec<Segment>,
    pub(super) spool: Option<PathBuf>,
    pub(super) fetch: Arc<Fetch>,
    pub(super) shared: Arc<Shared>,
    pub(super) progress: Arc<Progress>,
}

/// Looks up what a search has to read: in a store, and in a spool of segments on their way there, if
/// there is one.
///
/// # Errors
/// [`Error`] if the store or the spool cannot be listed.
pub async fn plan(store: &Store, spool: Option<&Path>, query: Query) -> Result<Plan, Error> {
    let fetch = Arc::new(Fetch::new(store));
    let mut listed = catalog::list(store, spool, query.window).await?;
    listed.retain(|segment| query.wants_source(&segment.name.source));
    let (digest, manifest_troubles) = digest(&fetch, &query).await?;
    let segments_listed = listed.len() as u64;
    let there: BTreeSet<Ulid> = listed.iter().map(|segment| segment.name.id).collect();
    // What the manifest does not know, such as what is still in the spool, may hold anything.
    listed.retain(|segment| digest.get(&segment.name.id).is_none_or(|noted| noted.may_match));
    let (mut expired, mut missing) = (Gone::default(), Gone::default());
    for (id, noted) in digest {
        if there.contains(&id) {
            continue;
        }
        if noted.is_removed {
            expired.add(&noted.name, noted.object);
        } else if store.length(&noted.object).await?.is_none() {
            missing.add(&noted.name, noted.object);
        }
        // Else it was stored after it was listed: the search is of what there was.
    }
    let bytes = |part: Option<&(Place, u64)>| part.map_or(0, |(_, bytes)| *bytes);
    let progress = Progress::new(&fetch, listed.len() as u64);
    Ok(Plan {
        segments_listed,
        segments: listed.len() as u64,
        data_bytes: listed.iter().map(|segment| segment.data.1).sum(),
        index_bytes: listed.iter().map(|segment| bytes(segment.index.as_ref())).sum(),
        expired,
        missing,
        manifest_troubles,
        listed,
        spool: spool.map(Path::to_path_buf),
        fetch,
        shared: Arc::new(Shared { query, origins: Mutex::new(Origins::default()) }),
        progress: Arc::new(progress),
    })
}

impl Plan {
    /// What is looked for.
    pub fn query(&self) -> &Query {
        &self.shared.query
    }

    /// How far the search is, to be looked at while it runs.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }
}

/// What the manifest says of a segment.
struct Noted {
    name: SegmentName,
    object: String,
    is_removed: bool,
    /// By its addresses it may hold what is looked for.
    may_match: bool,
}

/// Reads of the manifest what is about segments of the range and of the sources, and nothing else into
/// memory.
async fn digest(
    fetch: &Fetch,
    query: &Query,
) -> Result<(BTreeMap<Ulid, Noted>, Vec<String>), Error> {
    let objects = fetch.store().list(manifest::FOLDER).await?;
    let chains = objects.into_iter().filter(|object| manifest::parse_key(&object.key).is_some());
    let read = |object: crate::store::Object| async move {
        let place = Place::Object(object.key.clone());
        (object.key, fetch.range(&place, 0..object.bytes).await)
    };
    let mut reads = stream::iter(chains).map(read).buffered(AT_ONCE);
    let mut noted = BTreeMap::new();
    let mut troubles = Vec::new();
    while let Some((key, bytes)) = reads.next().await {
        match bytes {
            Err(error) => troubles.push(error.to_string()),
            Ok(bytes) => {
                let unread = note(&bytes, query, &mut noted);
                if unread > 0 {
                    troubles.push(format!("{key}: {unread} lines are no entries"));
                }
            }
        }
    }
    Ok((noted, troubles))
}

/// Notes the entries of one object of a chain; gives how many lines are none.
fn note(bytes: &[u8], query: &Query, noted: &mut BTreeMap<Ulid, Noted>) -> usize {
    let mut unread = 0;
    for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let Ok(entry) = serde_json::from_slice::<Entry>(line) else {
            unread += 1;
            continue;
        };
        let (object, addresses) = match &entry.event {
            Event::Stored(record) | Event::Reindexed(record) => {
                (&record.object, Some(&record.addresses))
            }
            Event::Removed { object, .. } => (object, None),
            Event::Held { .. } | Event::Released { .. } => continue,
        };
        let Some((name, _)) = SegmentName::parse_key(object) else { continue };
        let is_wanted = query.window.overlaps((name.first_ns, name.last_ns))
            && query.wants_source(&name.source);
        if !is_wanted {
            continue;
        }
        let may_match =
            addresses.is_some_and(|text| query.wants_addresses(&AddressSet::decode(text)));
        // An id is never used again, so what was removed stays so.
        let is_removed = addresses.is_none();
        let note = Noted { name: name.clone(), object: object.clone(), is_removed, may_match };
        noted
            .entry(name.id)
            .and_modify(|known: &mut Noted| {
                known.is_removed |= is_removed;
                known.may_match |= may_match;
            })
            .or_insert(note);
    }
    unread
}
