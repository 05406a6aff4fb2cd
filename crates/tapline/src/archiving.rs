//! The archive of `receive` and `inline`: its spool, its bounds, and who ships into its store.

use crate::cli::Archiving as Options;
use crate::failure::Failure;
use crate::identity::Becoming;
use crate::local::NewRule;
use crate::session::{Activity, Reloaded};
use api::{ArchiveStats, Removed, Stats, StoreFile, StoreState};
use archive::archiver::{Archiver, ArchiverOptions, Left, Onward, SpoolBudget, SpoolPolicy};
use archive::expire::Rules;
use archive::seal::SealOptions;
use archive::store::{Backoff, Store, StoreOptions};
use archive::{
    Adopted, ArchiverStatus, Layout, Location, RecorderOptions, Rotation, Window, catalog,
    source_name,
};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// When segments are closed unless the user says otherwise.
const SEGMENT_BYTES: u64 = 100_000_000;
const SEGMENT_TIME: Duration = Duration::from_secs(60);
/// Into how many segments a bound is cut unless the user says how large they are.
const SEGMENTS: u64 = 8;
/// The spool of an archive that is a folder, in it.
const SPOOL: &str = ".spool";
/// Where the spools of other archives are, unless a service manager names a folder.
const STATE_FOLDER: &str = "/var/lib/tapline";
/// How long the start waits until a bounded archive has room.
const ROOM: Duration = Duration::from_secs(10);

/// An archive that is going to be written.
pub struct Wanted {
    location: Location,
    spool: PathBuf,
    store_options: StoreOptions,
    rotation: Rotation,
    spool_max: Option<u64>,
    policy: SpoolPolicy,
    /// Of an archive in a folder.
    archive_max: Option<u64>,
    rules: Rules,
    seal: SealOptions,
}

impl Wanted {
    /// Reads what the options say; `None` if they name no archive. `bytes_max` is what it is to be kept
    /// within.
    pub fn new(
        location: Option<&Location>,
        mut rotation: Rotation,
        bytes_max: Option<u64>,
        archiving: &Options,
    ) -> Result<Option<Wanted>, Failure> {
        let Some(location) = location.cloned() else { return Ok(None) };
        if rotation.files.is_some() {
            return Err(Failure::Usage("an archive keeps every segment: leave -W out".into()));
        }
        let (archive_max, rules_max) = match location {
            Location::Directory(_) => (bytes_max, None),
            Location::Url(_) => (None, bytes_max),
        };
        let bound = archive_max.into_iter().chain(archiving.spool_max).min();
        let of_bound = bound.map_or(u64::MAX, |bytes| bytes / SEGMENTS);
        rotation.bytes.get_or_insert(SEGMENT_BYTES.min(of_bound));
        rotation.time.get_or_insert(SEGMENT_TIME);
        let mut store_options = StoreOptions::from_environment();
        if let Some(path) = &archiving.store_config {
            let file = StoreFile::read(path).map_err(|error| Failure::Usage(error.to_string()))?;
            store_options = store_options.with_file(&file).map_err(Failure::CouldNot)?;
        }
        store_options.bytes_per_s_max = archiving.bandwidth.or(store_options.bytes_per_s_max);
        Ok(Some(Wanted {
            spool: archiving.spool.clone().unwrap_or_else(|| spool_of(&location)),
            location,
            store_options,
            rotation,
            spool_max: archiving.spool_max,
            policy: archiving.spool_policy.into(),
            archive_max,
            rules: Rules {
                older_than: archiving.expire_after,
                bytes_max: rules_max,
                ..Rules::default()
            },
            seal: SealOptions { level: archiving.seal_level },
        }))
    }

    /// Makes the folders, for whom the process will be.
    pub fn make_folders(&self, becoming: &Becoming) {
        if let Location::Directory(folder) = &self.location {
            becoming.make_folder(folder);
        }
        becoming.make_folder(&self.spool);
    }

    /// Adopts what was left open in the spool, and opens the store, which need not be reachable.
    pub fn open(self) -> Result<Opened, Failure> {
        std::fs::create_dir_all(&self.spool).map_err(|error| {
            let spool = self.spool.display();
            let mend = "choose a folder that you may write to (--spool, --archive)";
            Failure::CouldNot(format!("make the spool {spool}: {error}; {mend}"))
        })?;
        tell(&archive::adopt(&self.spool)?);
        let failed = |error: archive::Error| Failure::CouldNot(error.to_string());
        let store = Store::open(&self.location, &self.store_options);
        let store = store.map_err(|error| failed(error.into()))?;
        let segment_bytes = self.rotation.bytes.unwrap_or(SEGMENT_BYTES);
        let budget = SpoolBudget::new(&self.spool, self.spool_max, self.policy, segment_bytes);
        let mut budget = budget.map_err(failed)?;
        if let Some(bytes_max) = self.archive_max {
            budget = budget.within(bytes_max, stored_bytes(&store)?);
        }
        Ok(Opened { wanted: self, store, budget: Arc::new(budget) })
    }
}

/// An archive that can be written.
pub struct Opened {
    wanted: Wanted,
    store: Store,
    budget: Arc<SpoolBudget>,
}

impl Opened {
    /// Begins to ship. Waits for room in an archive that has no more than its bound, for a while.
    pub fn start(self) -> Result<Archiving, Failure> {
        let Opened { wanted, store, budget } = self;
        let options = ArchiverOptions {
            spool: wanted.spool.clone(),
            store,
            seal: wanted.seal,
            budget: Arc::clone(&budget),
            backoff: Backoff::default(),
            rules: wanted.rules,
            steps: Arc::new(Onward),
        };
        let archiver = Archiver::start(options);
        let archiver = archiver.map_err(|error| Failure::CouldNot(error.to_string()))?;
        let shown = Shown { status: archiver.status(), budget };
        let begun = Instant::now();
        while !shown.budget.has_room_ahead() && begun.elapsed() < ROOM {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Archiving {
            archiver,
            shown,
            layout: Layout::Spool(wanted.spool),
            rotation: wanted.rotation,
        })
    }
}

/// An archive that is being written.
pub struct Archiving {
    archiver: Archiver,
    /// What others may look at.
    pub shown: Shown,
    layout: Layout,
    rotation: Rotation,
}

impl Archiving {
    /// How a recorder writes into it; there may be several. It wakes who ships when a segment was closed.
    pub fn recorder(&self, unbuffered: bool) -> RecorderOptions {
        RecorderOptions {
            layout: self.layout.clone(),
            rotation: self.rotation,
            unbuffered,
            first: None,
            budget: Some(Arc::clone(&self.shown.budget)),
            waker: Some(self.archiver.waker()),
        }
    }

    /// Has an activity's end bring what it recorded into the store, for so long at most.
    pub fn behind<'a>(
        self,
        activity: Box<dyn Activity + 'a>,
        within: Duration,
    ) -> Box<dyn Activity + 'a> {
        Box::new(Shipped { activity, archiving: self, within })
    }
}

/// How far shipping has come. Cloning shares it.
#[derive(Clone)]
pub struct Shown {
    status: Arc<ArchiverStatus>,
    budget: Arc<SpoolBudget>,
}

impl Shown {
    /// As the ledger has it.
    pub fn stats(&self) -> ArchiveStats {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let progress = self.status.progress(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        ArchiveStats {
            store: if progress.is_store_up { StoreState::Up } else { StoreState::Down },
            spool_segments: progress.closed.segments + progress.sealed.segments,
            spool_bytes: self.budget.bytes(),
            backlog_s: progress.backlog_ns / 1_000_000_000,
            shipped_segments: progress.shipped.segments,
            shipped_packets: progress.shipped_packets,
            shipped_bytes: progress.shipped.bytes,
            retries: progress.retries,
            last_error: progress.trouble.map(|trouble| trouble.text),
        }
    }

    /// What was removed for the bound.
    pub fn removed(&self) -> Removed {
        self.budget.removed()
    }
}

/// An activity, and the archive that gets what it recorded.
struct Shipped<'a> {
    activity: Box<dyn Activity + 'a>,
    archiving: Archiving,
    within: Duration,
}

impl Activity for Shipped<'_> {
    fn is_finished(&self) -> bool {
        self.activity.is_finished()
    }

    fn stop(&mut self) {
        self.activity.stop();
    }

    fn ask(&mut self) {
        self.activity.ask();
    }

    fn answered(&mut self) -> Option<Stats> {
        self.activity.answered()
    }

    fn snapshot(&mut self) -> Option<Stats> {
        self.activity.snapshot()
    }

    fn can_reload(&self) -> bool {
        self.activity.can_reload()
    }

    fn reload(&mut self) -> Result<Reloaded, Failure> {
        self.activity.reload()
    }

    fn shows_its_file(&self) -> bool {
        self.activity.shows_its_file()
    }

    fn show(&mut self) -> Result<serde_json::Value, Failure> {
        self.activity.show()
    }

    fn add(&mut self, rule: &NewRule) -> Result<serde_json::Value, Failure> {
        self.activity.add(rule)
    }

    fn remove(&mut self, rules: &[String]) -> Result<serde_json::Value, Failure> {
        self.activity.remove(rules)
    }

    fn interfaces(&self) -> Vec<String> {
        self.activity.interfaces()
    }

    fn join(self: Box<Self>) -> (Stats, Vec<Result<(), io::Error>>) {
        let Shipped { activity, archiving, within } = *self;
        let (mut stats, results) = activity.join();
        let Archiving { archiver, shown, .. } = archiving;
        match archiver.finish(within) {
            Ok(Left { closed, sealed }) if closed.segments + sealed.segments > 0 => {
                tracing::warn!(
                    "{} segments, {} bytes, stay in the spool; the next start ships them",
                    closed.segments + sealed.segments,
                    closed.bytes + sealed.bytes
                );
            }
            Ok(_) => {}
            Err(error) => tracing::error!("{error}"),
        }
        stats.archive = Some(shown.stats());
        stats.removed = stats.removed.map(|_| shown.removed());
        (stats, results)
    }
}

/// The spool of an archive, if the user names none.
fn spool_of(location: &Location) -> PathBuf {
    match location {
        Location::Directory(folder) => folder.join(SPOOL),
        Location::Url(url) => {
            let state = std::env::var_os("STATE_DIRECTORY").filter(|folder| !folder.is_empty());
            let state = state.map_or_else(|| STATE_FOLDER.into(), PathBuf::from);
            let name = url.split_once("://").map_or(url.as_str(), |(_, place)| place);
            state.join("spool").join(source_name(name.trim_end_matches('/')))
        }
    }
}

/// Bytes of the segments in an archive's folder.
fn stored_bytes(store: &Store) -> Result<u64, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::CouldNot(error.to_string());
    let runtime = archive::runtime().map_err(|error| failed(&error))?;
    let segments = runtime.block_on(catalog::list(store, None, Window::ALL));
    let segments = segments.map_err(|error| failed(&error))?;
    let bytes =
        |of: &catalog::Segment| of.data.1 + of.index.as_ref().map_or(0, |(_, bytes)| *bytes);
    Ok(segments.iter().map(bytes).sum())
}

/// Says what an earlier recording had left behind.
fn tell(adopted: &Adopted) {
    let Adopted { segments, packets, damaged } = adopted;
    if *segments > 0 {
        tracing::info!("adopted {segments} segments, {packets} packets, that were left open");
    }
    if !damaged.is_empty() {
        tracing::warn!("{} segments that were left open are damaged", damaged.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_spool_is_in_its_archive_or_named_after_it() {
        let spool = |place: &str| spool_of(&place.parse().unwrap());
        assert_eq!(spool("/srv/tap"), Path::new("/srv/tap/.spool"));
        assert!(spool("s3://bucket/a/b/").ends_with("spool/bucket-a-b"));
    }
}
