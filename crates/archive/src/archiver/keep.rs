//! What is stored is kept as long as the rules say, and as long as there is room for it.

use super::{Shared, utc_ns};
use crate::catalog::{self, Segment};
use crate::error::Error;
use crate::expire::{self, Plan, Rules};
use crate::holds::Holds;
use crate::manifest::{self, Chain, Event};
use crate::window::Window;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// How often the rules are looked at.
const LOOK: Duration = Duration::from_secs(300);
/// How long a bound is left alone that holds keep from being reached, or a store that refuses to
/// remove; and how often the holds are read for those who remove closed segments.
const HELD: Duration = Duration::from_secs(10);

/// Removes what is not kept.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    /// When the rules are looked at again.
    rules_at: Option<Instant>,
    /// When room is looked for again.
    room_at: Option<Instant>,
    /// When the holds are read again.
    holds_at: Option<Instant>,
    /// The holds that were last found to be all that the manifest knows of, and when.
    checked: Option<(Holds, Instant)>,
    /// Segments whose removal is in the manifest and failed since.
    announced: BTreeSet<String>,
    /// It was said that something cannot be removed.
    is_told: bool,
    /// Packets of stored segments, by object, as far as the manifest told when it was read last.
    packets: HashMap<String, u64>,
}

impl Keeper {
    /// Removes what the rules do not keep, if it is time to look at them, and what is in the way of
    /// the archive's bound. What cannot be removed is tried again later: shipping does not wait for it.
    pub async fn pass(&mut self, shared: &Shared, chain: &mut Chain) {
        match self.try_pass(shared, chain).await {
            Ok(()) => self.is_told = false,
            Err(error) => {
                if !std::mem::replace(&mut self.is_told, true) {
                    tracing::warn!(
                        "what is not to be kept cannot be removed: {error}; it is tried again"
                    );
                }
                let later = Some(Instant::now() + HELD);
                (self.rules_at, self.room_at) = (later, later);
            }
        }
    }

    async fn try_pass(&mut self, shared: &Shared, chain: &mut Chain) -> Result<(), Error> {
        let now = Instant::now();
        let is_due = |at: Option<Instant>| at.is_none_or(|at| now >= at);
        let (rules, budget) = (&shared.rules, &shared.budget);
        if budget.is_archive_bounded() && is_due(self.holds_at) {
            self.holds_at = Some(now + HELD);
            let holds = self.holds(shared).await;
            budget.set_holds(holds.as_ref().ok().cloned());
            holds?;
        }
        if *rules != Rules::default() && is_due(self.rules_at) {
            let (segments, _) = list(shared).await?;
            self.remove(shared, chain, &segments, rules).await?;
            self.rules_at = Some(now + LOOK);
        }
        if !budget.is_archive_bounded() {
            return Ok(());
        }
        if budget.excess() > 0 && is_due(self.room_at) {
            let (segments, stored) = list(shared).await?;
            budget.set_stored(stored);
            let bytes_max = Some(stored.saturating_sub(budget.excess()));
            let rules = Rules { bytes_max, ..Rules::default() };
            let plan = self.remove(shared, chain, &segments, &rules).await?;
            let is_held = plan.excess_bytes > 0;
            self.room_at = is_held.then(|| now + HELD);
            if is_held {
                let held = plan.excess_bytes;
                tracing::debug!("{}: {held} bytes above the bound are held", shared.store.place());
            }
        }
        Ok(())
    }

    async fn remove(
        &mut self,
        shared: &Shared,
        chain: &mut Chain,
        segments: &[Segment],
        rules: &Rules,
    ) -> Result<Plan, Error> {
        let holds = self.holds(shared).await?;
        let mut plan = expire::plan(segments, &holds, rules, utc_ns());
        if plan.remove.iter().any(|of| !self.packets.contains_key(&of.object)) {
            self.packets = packets(shared).await?;
        }
        for of in &mut plan.remove {
            of.packets = self.packets.get(&of.object).copied();
        }
        expire::apply(&shared.store, chain, &plan, &mut self.announced, utc_ns(), |of| {
            tracing::debug!("removed the oldest segment, {}", of.object);
            self.packets.remove(&of.object);
            shared.budget.unstored(of.bytes, of.packets.unwrap_or(0));
        })
        .await?;
        Ok(plan)
    }

    /// The holds, if they are all that the manifest knows of. That is looked up when they have changed,
    /// and once in a while.
    async fn holds(&mut self, shared: &Shared) -> Result<Holds, Error> {
        let holds = Holds::load(&shared.store).await?;
        let is_checked =
            self.checked.as_ref().is_some_and(|(of, at)| *of == holds && at.elapsed() < LOOK);
        if !is_checked {
            let read = manifest::read(&shared.store).await?;
            // Those that were placed or released meanwhile are in what is loaded now.
            let holds = Holds::load(&shared.store).await?;
            holds.complete(&read)?;
            self.checked = Some((holds.clone(), Instant::now()));
            return Ok(holds);
        }
        Ok(holds)
    }
}

/// The segments that are stored, and their bytes.
async fn list(shared: &Shared) -> Result<(Vec<Segment>, u64), Error> {
    let segments = catalog::list(&shared.store, None, Window::ALL).await?;
    let bytes = |of: &Segment| of.data.1 + of.index.as_ref().map_or(0, |(_, bytes)| *bytes);
    let sum = segments.iter().map(bytes).sum();
    Ok((segments, sum))
}

/// The packets of the segments that the manifest tells of.
async fn packets(shared: &Shared) -> Result<HashMap<String, u64>, Error> {
    let read = manifest::read(&shared.store).await?;
    let told = read.entries.into_iter().filter_map(|entry| match entry.event {
        Event::Stored(record) | Event::Reindexed(record) => Some((record.object, record.packets)),
        _ => None,
    });
    Ok(told.collect())
}
