//! What a source and a sink are.

use crate::batch::{Batch, Selection};
use crate::clock::Now;
use crate::error::Error;
use crate::packet::Outer;
use crate::waker::Wakeup;
use api::{Drops, SourceStats};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;
use wire::sequence::Counts;

/// What a call of [`Source::receive`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Packets were added, and more may be ready.
    Packets,
    /// Nothing is ready now: wait for [`Source::readiness`].
    Idle,
    /// There will be no more.
    End,
}

/// What a capture filter in the kernel did before a source. Units: wire packets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Screening {
    /// None runs there.
    #[default]
    Absent,
    /// It counts for itself.
    Counted(Screened),
    /// One runs there that hides what it rejects: what was seen and what was filtered is unknown.
    Hidden,
}

/// What a filter in the kernel has counted since the start. What it left undecided is delivered and
/// dropped by the source like any other packet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Screened {
    /// Packets that it rejected.
    pub filtered: u64,
    /// Packets that it kept and that were lost on the way to the source.
    pub lost: u64,
    /// How often each rule decided, in the order of the rules; none for an expression.
    pub rule_hits: Vec<u64>,
}

/// Where packets come from.
pub trait Source: Send {
    /// Adds the packets that are ready, up to the batch's room. Never blocks if the source is live.
    ///
    /// # Errors
    /// If the source can deliver no more: what it delivered before stays good.
    fn receive(&mut self, batch: &mut Batch) -> Result<Arrival, Error>;

    /// The descriptor that becomes readable when packets are ready; `None` if they always are.
    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// How long it is worth to wait on once something is ready, so that more comes in one turn.
    fn gather(&self) -> Duration {
        Duration::ZERO
    }

    /// Lets nothing more in. What has come in before is still delivered, then [`Arrival::End`].
    ///
    /// # Errors
    /// If the kernel refuses; the source then still delivers.
    fn stop(&mut self) -> Result<(), Error>;

    /// Packets that came in and were not delivered, since the start, by reason.
    fn drops(&mut self) -> Drops {
        Drops::default()
    }

    /// Packets that the kernel says it delivered and that never came out of [`Source::receive`]:
    /// read after [`Arrival::End`]. Anything but 0 is a fault that the ledger shows.
    fn missing(&self) -> u64 {
        0
    }

    /// What a capture filter in the kernel did before this source, as of the last [`Self::drops`].
    fn screening(&mut self) -> Screening {
        Screening::Absent
    }

    /// What became, on the way here, of the packets that senders have numbered, by source.
    fn streams(&self) -> Vec<(Outer, Counts)> {
        Vec::new()
    }

    /// Whether packets come at their own pace. A source that is not live waits for slow targets.
    fn is_live(&self) -> bool;
}

/// What became of the packets that a sink took, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SinkCounters {
    /// Packets handed to the network, or brought into the file.
    pub sent: u64,
    /// Bytes of those as they were captured: without tunnel headers, and as many as were there.
    pub sent_bytes: u64,
    /// Packets taken that still stand in a buffer of the sink; 0 after [`Sink::finish`].
    pub held: u64,
    /// Packets given up.
    pub drops: Drops,
    /// Of those sent, packets that were cut to fit the path.
    pub cut: u64,
    /// Of those sent, packets that were larger than the path takes and left in fragments.
    pub fragmented: u64,
}

impl SinkCounters {
    /// Packets that the sink took.
    pub fn taken(&self) -> u64 {
        self.sent + self.held + self.drops.total()
    }

    /// Counts packets as sent.
    #[inline]
    pub fn add_sent(&mut self, packets: Selection<'_>) {
        self.sent += packets.len() as u64;
        self.sent_bytes += packets.iter().map(|packet| packet.caplen() as u64).sum::<u64>();
    }

    /// Adds another sink's counters.
    pub fn merge(&mut self, other: &SinkCounters) {
        self.sent += other.sent;
        self.sent_bytes += other.sent_bytes;
        self.held += other.held;
        self.drops.merge(&other.drops);
        self.cut += other.cut;
        self.fragmented += other.fragmented;
    }
}

/// What came before a sink, for the statistics that it leaves behind.
#[derive(Debug, Clone, Copy, Default)]
pub struct Upstream {
    /// Packets that passed the tap.
    pub seen: u64,
    /// Packets that the filter kept.
    pub matched: u64,
    /// Packets lost before the match.
    pub drops: Drops,
}

/// Where packets go to.
pub trait Sink: Send {
    /// Takes packets from the front, in order, as far as it can without waiting for a reader, and
    /// returns how many. Each packet taken is counted in [`Self::counters`]; the rest was not
    /// looked at: the caller offers it again.
    fn send(&mut self, packets: Selection<'_>) -> usize;

    /// What became of the packets taken.
    fn counters(&self) -> SinkCounters;

    /// Whether it can take no more, ever: its reader is gone.
    fn is_closed(&self) -> bool {
        false
    }

    /// Does what is due by the clock: flush, rotate. Called after each batch and when idle; spans of
    /// time go by [`Now::monotonic_ns`].
    fn tick(&mut self, _now: Now) {}

    /// Hears what came before it so far, about once a second.
    fn hear(&mut self, _upstream: &Upstream) {}

    /// Completes what was begun: files are closed and named. No packet comes after it.
    ///
    /// # Errors
    /// If what was counted as sent could not be brought to where it belongs.
    fn finish(&mut self, _upstream: &Upstream) -> Result<(), Error> {
        Ok(())
    }

    /// The sink's own ledger by source, if it keeps one.
    fn sources(&self) -> Vec<SourceStats> {
        Vec::new()
    }
}

/// Waits until one of the sources is ready, the wait is ended from elsewhere, or the time is over. A
/// source without a descriptor is always ready.
///
/// # Errors
/// If the kernel refuses to poll.
pub fn wait<'a>(
    sources: impl Iterator<Item = &'a dyn Source> + Clone,
    wakeup: Option<&'a Wakeup>,
    timeout: Duration,
) -> Result<(), Error> {
    if sources.clone().any(|source| source.readiness().is_none()) {
        return Ok(());
    }
    // First, as there may be more sources than are waited for.
    let first = wakeup.map(|wakeup| wakeup.as_fd());
    let descriptors = first.into_iter().chain(sources.filter_map(|source| source.readiness()));
    match crate::sys::poll_readable(descriptors, timeout) {
        Ok(is_first_ready) => {
            wakeup.filter(|_| is_first_ready).into_iter().for_each(Wakeup::clear);
            Ok(())
        }
        Err(source) => Err(Error::System { what: "poll".into(), source, mend: "" }),
    }
}
