//! The archiver: what is complete in a spool goes into the store, once, through any crash.
//!
//! ```text
//! <…>.pcapng.closed
//!    │ seal                    <…>.index.parquet.sealed, then <…>.pcapng.zst.sealed
//!    │ remove the closed one
//!    │ put                     data, then index, each confirmed by the store
//!    │ enter                   into the manifest
//!    │ mark                    <…>.pcapng.zst.uploaded
//!    ▼ remove                  the index, and the data, or the oldest of them when room is needed
//! ```
//! What a segment has behind it is in the names of its files and in the manifest, nowhere else. Each
//! step can be taken again: sealing replaces what it made before, an object's key is the segment's, and
//! the end of the own chain tells what was entered. So an archiver that starts goes on from whatever a
//! crash left, and a segment that the store has not confirmed is never removed.
//!
//! Two threads do that, both of low priority: one seals, so that nothing that the store does or does
//! not do keeps it from it; the other one ships.

mod budget;
mod keep;
mod plain;
mod resume;
mod sealer;
mod shipper;
mod spool;
mod status;
mod steps;
mod wakeup;

pub use budget::{Full, SpoolBudget, SpoolPolicy};
pub use status::{ArchiverStatus, Progress, Tally, Trouble};
pub use steps::{Onward, Step, Steps};

use crate::error::Error;
use crate::expire::Rules;
use crate::manifest::SegmentRecord;
use crate::name::SegmentName;
use crate::seal::SealOptions;
use crate::store::{Backoff, Store};
use spool::Spool;
use status::hold;
use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use ulid::Ulid;
use wakeup::Wakeup;

/// How often a spool is looked at that nobody speaks of: other processes may record into it.
const LOOK: Duration = Duration::from_secs(1);
/// How much nicer an archiver's threads are than those that record.
const NICE: i32 = 10;
/// Segments whose records are kept at hand for the manifest. Those of others are made again from
/// their data when it is their turn.
const RECORDS_MAX: usize = 4096;

/// How segments are shipped.
pub struct ArchiverOptions {
    /// The folder that segments wait in; it is made if it is not there.
    pub spool: PathBuf,
    /// Where they go.
    pub store: Store,
    /// How they are sealed.
    pub seal: SealOptions,
    /// The bound on the spool.
    pub budget: Arc<SpoolBudget>,
    /// How long it waits between two tries on a store that refuses.
    pub backoff: Backoff,
    /// What is kept of what is stored; it is looked at each few minutes.
    pub rules: Rules,
    /// Who looks on.
    pub steps: Arc<dyn Steps>,
}

/// Ships what is in a spool, until it is told to end.
pub struct Archiver {
    shared: Arc<Shared>,
    ended: Receiver<()>,
}

/// What stays in a spool when its archiver ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Left {
    /// Segments that are not sealed.
    pub closed: Tally,
    /// Segments that are sealed and not shipped.
    pub sealed: Tally,
}

/// What both threads work on.
struct Shared {
    spool: Spool,
    store: Store,
    seal: SealOptions,
    budget: Arc<SpoolBudget>,
    backoff: Backoff,
    rules: Rules,
    steps: Arc<dyn Steps>,
    status: Arc<ArchiverStatus>,
    wakeup: Wakeup,
    /// What the manifest is told of segments that are sealed.
    records: Mutex<HashMap<Ulid, SegmentRecord>>,
    /// The lock of the spool.
    charge: Mutex<Option<File>>,
    /// Nothing will be sealed any more.
    is_sealing_over: AtomicBool,
    /// A step's onlooker has ended it all.
    is_dead: AtomicBool,
}

impl Archiver {
    /// Begins to ship. The store need not be reachable; what a crash left behind is taken up. If another
    /// process ships the same spool, this one waits for its end.
    ///
    /// # Errors
    /// [`Error::System`] if the spool cannot be written to, or no thread can be started.
    pub fn start(options: ArchiverOptions) -> Result<Archiver, Error> {
        let ArchiverOptions { spool, store, seal, budget, backoff, rules, steps } = options;
        std::fs::create_dir_all(&spool)
            .map_err(|e| Error::system(format!("make the spool {}", spool.display()), e))?;
        let shared = Arc::new(Shared {
            spool: Spool::new(&spool),
            store,
            seal,
            budget,
            backoff,
            rules,
            steps,
            status: Arc::default(),
            wakeup: Wakeup::default(),
            records: Mutex::default(),
            charge: Mutex::new(None),
            is_sealing_over: AtomicBool::new(false),
            is_dead: AtomicBool::new(false),
        });
        if shared.budget.is_archive_bounded() {
            // Until they are read.
            shared.budget.set_holds(None);
        }
        // A mistake shows at the start.
        shared.try_to_take_charge()?;
        let (end, ended) = sync_channel(1);
        let of_thread = Arc::clone(&shared);
        let started = std::thread::Builder::new().name("archiver".into()).spawn(move || {
            be_nice();
            sealer::run(&of_thread);
            *hold(&of_thread.charge) = None;
            // Nobody waits for it if the archiver was dropped.
            let _ = end.send(());
        });
        started.map_err(|e| Error::system("start the archiver's thread", e))?;
        Ok(Archiver { shared, ended })
    }

    /// What other threads may look at.
    pub fn status(&self) -> Arc<ArchiverStatus> {
        Arc::clone(&self.shared.status)
    }

    /// Tells who closes segments how to wake it. It need not be woken, but looks at the spool only
    /// each second then.
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.shared))
    }

    /// Seals and ships what is there, for so long at most, and ends. What is not shipped stays in the
    /// spool; the next archiver goes on with it.
    ///
    /// # Errors
    /// [`Error::System`] if the spool cannot be listed.
    pub fn finish(self, within: Duration) -> Result<Left, Error> {
        let deadline = Instant::now() + within;
        self.shared.wakeup.end_by(deadline);
        // A segment that is being sealed when the time is over is not waited for.
        let _ = self.ended.recv_timeout(within + LOOK);
        let listed = spool::sum(&self.shared.spool.list()?);
        self.shared.status.listed(listed);
        Ok(Left { closed: listed.closed, sealed: listed.sealed })
    }
}

impl Drop for Archiver {
    fn drop(&mut self) {
        self.shared.wakeup.end_by(Instant::now());
    }
}

/// Wakes an archiver.
#[derive(Clone)]
pub struct Waker(Arc<Shared>);

impl Waker {
    /// Says that a segment was closed. Costs a lock that nobody holds for long.
    pub fn wake(&self) {
        self.0.wakeup.wake();
        self.0.wakeup.wake_shipper();
    }
}

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Waker").field(&self.0.spool.folder()).finish()
    }
}

/// Ships what is in a spool, and ends when nothing is left, or when the time is over.
///
/// # Errors
/// As [`Archiver::start`] and [`Archiver::finish`].
pub fn drain(options: ArchiverOptions, within: Duration) -> Result<Left, Error> {
    Archiver::start(options)?.finish(within)
}

impl Shared {
    /// Whether this process is the archiver of the spool, or can be.
    fn try_to_take_charge(&self) -> Result<bool, Error> {
        let mut charge = hold(&self.charge);
        if charge.is_none() {
            *charge = self.spool.take_charge()?;
            if charge.is_some() {
                self.status.took_charge();
            }
        }
        Ok(charge.is_some())
    }

    /// Notes a step; an error if it was the last one.
    fn step(&self, step: Step, segment: &SegmentName) -> Result<(), Stop> {
        if self.is_dead.load(Relaxed) || !self.steps.taken(step, segment) {
            self.is_dead.store(true, Relaxed);
            self.wakeup.end_by(Instant::now());
            return Err(Stop::Dead);
        }
        Ok(())
    }

    /// Whether the end has come, however far the work is.
    fn is_over(&self) -> bool {
        self.is_dead.load(Relaxed) || self.wakeup.is_over()
    }
}

/// Why a segment's way ends, for now.
enum Stop {
    /// It may go on later.
    Failed(Error),
    /// An onlooker wants it so.
    Dead,
}

impl<E: Into<Error>> From<E> for Stop {
    fn from(error: E) -> Stop {
        Stop::Failed(error.into())
    }
}

/// Lets the calling thread come after those that record.
fn be_nice() {
    // To Linux a thread's priority is its own.
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!("cannot lower the archiver's priority: {error}");
    }
}

fn utc_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
