//! The thread that ships.

use super::keep::Keeper;
use super::spool::{Files, Spool, remove, sum};
use super::status::{Listed, Work, hold};
use super::{LOOK, RECORDS_MAX, Shared, Step, Stop, utc_ns};
use crate::error::Error;
use crate::manifest::{Chain, Event, SegmentRecord};
use crate::name::{Part, SegmentName, SpoolState};
use crate::store::{Backoff, StoreFault, random};
use futures_util::StreamExt;
use futures_util::stream;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use ulid::Ulid;

/// Segments that are shipped at once: small ones wait for the store's answers most of the time.
const AT_ONCE: usize = 8;
/// Segments that are entered into the manifest together.
const BATCH: usize = 32;
/// Bytes that make a batch complete, however few segments they are.
const BATCH_BYTES: u64 = 64 << 20;
/// Age of an upload that nobody is still at.
const UNFINISHED_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest wait after a failure while it is to end.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Ships what is sealed until the end.
pub(super) fn run(shared: &Shared) {
    let runtime = match crate::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!("cannot start the shipper: {error}"),
    };
    runtime.block_on(async {
        let mut shipper = Shipper {
            shared,
            chain: None,
            queue: VecDeque::new(),
            waiting: Listed::default(),
            tries: HashMap::new(),
            backoff: shared.backoff.clone(),
            is_lasting_told: false,
            keeper: Keeper::default(),
        };
        tokio::select! {
            () = shipper.run() => {}
            () = is_over(shared) => {}
        }
    });
}

/// Waits for the deadline, once there is one.
async fn is_over(shared: &Shared) {
    while !shared.is_over() {
        let left =
            shared.wakeup.deadline().map(|end| end.saturating_duration_since(Instant::now()));
        tokio::time::sleep(left.unwrap_or(LOOK / 10).min(LOOK / 10)).await;
    }
}

/// A segment that can be shipped.
type Ready = (SegmentName, SegmentRecord);

struct Shipper<'a> {
    shared: &'a Shared,
    /// Opened when the store first answers.
    chain: Option<Chain>,
    /// What was found to ship and is not tried yet.
    queue: VecDeque<SegmentName>,
    /// What there was in the spool then.
    waiting: Listed,
    /// Tries of segments that failed. What failed least is tried first, so that one that always fails
    /// keeps no other from its way.
    tries: HashMap<Ulid, u32>,
    backoff: Backoff,
    is_lasting_told: bool,
    keeper: Keeper,
}

impl Shipper<'_> {
    async fn run(&mut self) {
        loop {
            let is_last = self.shared.is_sealing_over.load(Relaxed);
            match self.pass().await {
                Ok(true) => {}
                Ok(false) if is_last => return,
                Ok(false) => self.shared.wakeup.wait_to_ship(LOOK).await,
                Err(Stop::Dead) => return,
                Err(Stop::Failed(error)) => {
                    self.failed(&error);
                    self.wait().await;
                }
            }
        }
    }

    /// Ships some of what is there, and says whether there was anything.
    async fn pass(&mut self) -> Result<bool, Stop> {
        // At the start, too: it shows whether the store can be reached.
        self.open_chain().await?;
        if let Some(chain) = &mut self.chain {
            self.keeper.pass(self.shared, chain).await;
        }
        let mut ready = self.ready();
        if ready.is_empty() {
            self.look()?;
            ready = self.ready();
        }
        if ready.is_empty() {
            self.tries.clear();
            self.succeeded();
            return Ok(false);
        }
        let (shared, chain) = (self.shared, self.chain.as_ref());
        let uploads = ready.into_iter().map(|ready| {
            // One that was entered was stored, and may have been removed since.
            let is_entered = chain.is_some_and(|chain| chain.has_stored(&ready.1.object));
            async move {
                let sent = if is_entered { Ok(()) } else { upload(shared, &ready).await };
                (ready, is_entered, sent)
            }
        });
        let mut uploads = stream::iter(uploads).buffered(AT_ONCE);
        let (mut entered, mut stored, mut failure) = (Vec::new(), Vec::new(), None);
        while let Some((ready, is_entered, sent)) = uploads.next().await {
            match sent {
                Ok(()) if is_entered => entered.push(ready),
                Ok(()) => stored.push(ready),
                Err(Stop::Dead) => return Err(Stop::Dead),
                Err(Stop::Failed(error)) => {
                    *self.tries.entry(ready.0.id).or_default() += 1;
                    if is_local(&error) {
                        // It is not what it was: its record is made anew.
                        hold(&shared.records).remove(&ready.0.id);
                        shared.wakeup.wake();
                    }
                    failure = Some(error);
                    // If nothing goes, more of it would not either.
                    if entered.is_empty() && stored.is_empty() {
                        break;
                    }
                }
            }
        }
        drop(uploads);
        match self.enter(&stored).await {
            Ok(count) => entered.extend(stored.into_iter().take(count)),
            Err(Stop::Dead) => return Err(Stop::Dead),
            Err(Stop::Failed(error)) => failure = Some(error),
        }
        self.clear(&entered)?;
        if failure.is_some() {
            self.queue.clear();
        }
        match failure {
            Some(error) if entered.is_empty() => Err(error.into()),
            Some(error) => {
                shared.status.retried();
                shared.status.set_trouble(Work::Shipping, Some(error.to_string()), utc_ns());
                Ok(true)
            }
            None => {
                self.succeeded();
                Ok(true)
            }
        }
    }

    /// Enters segments into the manifest; gives how many.
    async fn enter(&mut self, stored: &[Ready]) -> Result<usize, Stop> {
        let (Some(chain), false) = (&mut self.chain, stored.is_empty()) else { return Ok(0) };
        let events = stored.iter().map(|(_, record)| Event::Stored(record.clone())).collect();
        let count = chain.append_all(events, utc_ns()).await?;
        stored
            .iter()
            .take(count)
            .try_for_each(|(name, _)| self.shared.step(Step::Entered, name))?;
        Ok(count)
    }

    /// Looks what there is to ship: those first that failed least, the oldest first.
    fn look(&mut self) -> Result<(), Error> {
        let listing = self.shared.spool.list()?;
        self.waiting = sum(&listing);
        let is_sealed = |files: &Files| {
            matches!(files, Files { closed: None, sealed: Some(_), index: Some(_), .. })
        };
        let sealed = listing.into_iter().filter(|(_, files)| is_sealed(files));
        let mut sealed: Vec<(u32, SegmentName)> = sealed
            .map(|(name, _)| (self.tries.get(&name.id).copied().unwrap_or(0), name))
            .collect();
        sealed.sort();
        self.queue = sealed.into_iter().map(|(_, name)| name).collect();
        Ok(())
    }

    /// The segments that are shipped next; a single one as long as the store refuses.
    fn ready(&mut self) -> Vec<Ready> {
        let records = hold(&self.shared.records);
        let segments_max = if self.backoff.failures() > 0 { 1 } else { BATCH };
        let (mut ready, mut bytes) = (Vec::new(), 0);
        while ready.len() < segments_max
            && bytes < BATCH_BYTES
            && let Some(name) = self.queue.pop_front()
        {
            if let Some(record) = records.get(&name.id) {
                bytes += record.bytes;
                ready.push((name, record.clone()));
            }
        }
        ready
    }

    async fn open_chain(&mut self) -> Result<(), Error> {
        if self.chain.is_some() {
            return Ok(());
        }
        let Shared { spool, store, .. } = self.shared;
        let chain = match Chain::open(store, spool.writer(false)?).await {
            Err(error @ Error::Damaged { .. }) => {
                tracing::error!("{error}; a new chain is begun");
                Chain::open(store, spool.writer(true)?).await?
            }
            chain => chain?,
        };
        self.chain = Some(chain);
        // Uploads that a kill cut off; they are in nobody's way.
        if let Err(error) = store.sweep(UNFINISHED_AGE).await {
            tracing::warn!("cannot sweep unfinished uploads: {error}");
        }
        Ok(())
    }

    /// Marks what was entered, and removes what need not stay.
    fn clear(&mut self, entered: &[Ready]) -> Result<(), Stop> {
        let shared = self.shared;
        let Shared { spool, budget, .. } = shared;
        if entered.is_empty() {
            return Ok(());
        }
        for (name, record) in entered {
            mark(shared, name)?;
            shared.status.shipped(record.bytes + record.index_bytes, record.packets);
            self.tries.remove(&name.id);
        }
        // After a loss of power no more of them may wait than the chain remembers.
        spool.sync()?;
        for (name, record) in entered {
            let index = spool.path(name, Part::Index, SpoolState::Sealed);
            remove(&index)?;
            budget.set(&index, 0);
            budget.stored(record.bytes + record.index_bytes);
            shared.step(Step::IndexRemoved, name)?;
            let data = spool.path(name, Part::Data, SpoolState::Uploaded);
            if budget.keeps_uploaded() {
                budget.uploaded(name, record.bytes);
            } else {
                remove(&data)?;
                budget.set(&data, 0);
                shared.step(Step::DataRemoved, name)?;
            }
            hold(&shared.records).remove(&name.id);
        }
        // There may be others whose records had no room.
        if hold(&shared.records).len() + 2 * BATCH >= RECORDS_MAX {
            shared.wakeup.wake();
        }
        Ok(())
    }

    fn succeeded(&mut self) {
        let Shared { status, store, .. } = self.shared;
        self.backoff.succeeded();
        self.is_lasting_told = false;
        status.set_trouble(Work::Shipping, None, utc_ns());
        if status.set_store_up(true) {
            let waiting = self.waiting;
            tracing::info!(
                "{} takes segments again; {} wait to be shipped, {} bytes",
                store.place(),
                waiting.closed.segments + waiting.sealed.segments,
                waiting.closed.bytes + waiting.sealed.bytes
            );
        }
    }

    fn failed(&mut self, error: &Error) {
        let Shared { status, .. } = self.shared;
        status.retried();
        status.set_trouble(Work::Shipping, Some(error.to_string()), utc_ns());
        let is_passing = matches!(error, Error::Store(error) if error.is_passing());
        let is_of_store = match error {
            Error::Store(error) => error.fault != StoreFault::Local,
            error => matches!(error, Error::Damaged { .. }),
        };
        if is_of_store && status.set_store_up(false) && is_passing {
            tracing::warn!("{error}; segments wait in the spool until the store takes them");
        }
        if !is_passing && !std::mem::replace(&mut self.is_lasting_told, true) {
            tracing::error!("{error}; segments wait in the spool until that is mended");
        }
        self.backoff.failed(Instant::now(), random());
    }

    /// Waits before the next try; not for long when it is to end.
    async fn wait(&self) {
        let begun = Instant::now();
        loop {
            let now = Instant::now();
            let is_ending = self.shared.wakeup.deadline().is_some();
            let mut left = self.backoff.left(now);
            if is_ending {
                left = left.min((begun + LAST_WAIT).saturating_duration_since(now));
            }
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LOOK / 10)).await;
        }
    }
}

/// Brings a segment's objects to the store.
async fn upload(shared: &Shared, (name, record): &Ready) -> Result<(), Stop> {
    let Shared { spool, store, .. } = shared;
    let parts = [
        (Part::Data, &record.sha256, Step::DataStored),
        (Part::Index, &record.index_sha256, Step::IndexStored),
    ];
    for (part, sha256, step) in parts {
        let file = spool.path(name, part, SpoolState::Sealed);
        store.put_file(&name.key(part), &file, &bytes_of(sha256)).await?;
        shared.step(step, name)?;
    }
    Ok(())
}

/// Marks a segment as stored.
fn mark(shared: &Shared, name: &SegmentName) -> Result<(), Stop> {
    let Shared { spool, budget, .. } = shared;
    let [sealed, uploaded] =
        [SpoolState::Sealed, SpoolState::Uploaded].map(|state| spool.path(name, Part::Data, state));
    let bytes = sealed.metadata().map_or(0, |of| of.len());
    Spool::rename(&sealed, &uploaded)?;
    budget.set(&sealed, 0);
    budget.set(&uploaded, bytes);
    shared.step(Step::Marked, name)
}

/// Whether a local file is the trouble.
fn is_local(error: &Error) -> bool {
    matches!(error, Error::Store(error) if error.fault == StoreFault::Local)
}

/// Reads 64 hexadecimal digits; what is none is a hash that nothing has.
fn bytes_of(sha256: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (n, byte) in bytes.iter_mut().enumerate() {
        let digits = sha256.get(2 * n..2 * n + 2);
        *byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).unwrap_or(0);
    }
    bytes
}
