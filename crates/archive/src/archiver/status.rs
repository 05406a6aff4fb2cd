//! What others may look at while an archiver works.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Segments and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub segments: u64,
    /// Lengths of their files.
    pub bytes: u64,
}

impl Tally {
    /// Counts one more.
    pub(super) fn add(&mut self, bytes: u64) {
        self.segments += 1;
        self.bytes += bytes;
    }
}

/// What went wrong last, and still does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What was tried on what, the answer, and the mend.
    pub text: String,
    /// When it began, nanoseconds since 1970.
    pub since_ns: u64,
}

/// What there is in a spool, and how far shipping has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Segments that wait to be sealed.
    pub closed: Tally,
    /// Segments that wait to be shipped; their indexes count as bytes of theirs.
    pub sealed: Tally,
    /// Local copies of segments that the store has.
    pub uploaded: Tally,
    /// Segments that this process brought to the store, with the bytes of their indexes.
    pub shipped: Tally,
    /// Packets in them.
    pub shipped_packets: u64,
    /// Age of the oldest segment that the store does not have, since it was begun, nanoseconds.
    pub backlog_ns: u64,
    /// Tries that failed and were, or will be, repeated.
    pub retries: u64,
    /// Segments that cannot be read, moved aside by this process.
    pub damaged: u64,
    /// Whether the store took what it was given last.
    pub is_store_up: bool,
    /// Whether this is the archiver of its spool; another process may be.
    pub is_in_charge: bool,
    /// What went wrong last, until it goes right.
    pub trouble: Option<Trouble>,
}

/// What an archiver shows to other threads.
#[derive(Debug, Default)]
pub struct ArchiverStatus {
    listed: Mutex<Listed>,
    shipped_segments: AtomicU64,
    shipped_bytes: AtomicU64,
    shipped_packets: AtomicU64,
    retries: AtomicU64,
    damaged: AtomicU64,
    is_store_down: AtomicBool,
    is_in_charge: AtomicBool,
    /// Of sealing, and of shipping.
    trouble: Mutex<[Option<Trouble>; 2]>,
}

/// Which work went wrong.
#[derive(Debug, Clone, Copy)]
pub(super) enum Work {
    Sealing,
    Shipping,
}

/// What the last look at the spool found.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Listed {
    pub closed: Tally,
    pub sealed: Tally,
    pub uploaded: Tally,
    /// When the oldest segment that is not stored was begun, nanoseconds since 1970.
    pub oldest_ns: Option<u64>,
}

impl ArchiverStatus {
    /// All of it, at the time `utc_ns`, nanoseconds since 1970. Of the spool it is what the last look
    /// found, a second ago at most unless the spool is very large.
    pub fn progress(&self, utc_ns: u64) -> Progress {
        let Listed { closed, sealed, uploaded, oldest_ns } = *hold(&self.listed);
        Progress {
            closed,
            sealed,
            uploaded,
            shipped: Tally {
                segments: self.shipped_segments.load(Relaxed),
                bytes: self.shipped_bytes.load(Relaxed),
            },
            shipped_packets: self.shipped_packets.load(Relaxed),
            backlog_ns: oldest_ns.map_or(0, |oldest_ns| utc_ns.saturating_sub(oldest_ns)),
            retries: self.retries.load(Relaxed),
            damaged: self.damaged.load(Relaxed),
            is_store_up: !self.is_store_down.load(Relaxed),
            is_in_charge: self.is_in_charge.load(Relaxed),
            trouble: hold(&self.trouble).iter().flatten().next_back().cloned(),
        }
    }

    pub(super) fn listed(&self, listed: Listed) {
        *hold(&self.listed) = listed;
    }

    pub(super) fn took_charge(&self) {
        self.is_in_charge.store(true, Relaxed);
    }

    pub(super) fn shipped(&self, bytes: u64, packets: u64) {
        self.shipped_segments.fetch_add(1, Relaxed);
        self.shipped_bytes.fetch_add(bytes, Relaxed);
        self.shipped_packets.fetch_add(packets, Relaxed);
    }

    pub(super) fn retried(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    pub(super) fn found_damaged(&self) {
        self.damaged.fetch_add(1, Relaxed);
    }

    /// Notes whether the store answers; gives whether that is news.
    pub(super) fn set_store_up(&self, is_up: bool) -> bool {
        self.is_store_down.swap(!is_up, Relaxed) == is_up
    }

    pub(super) fn set_trouble(&self, work: Work, text: Option<String>, utc_ns: u64) {
        let trouble = &mut hold(&self.trouble)[work as usize];
        let since_ns = trouble.as_ref().map_or(utc_ns, |trouble| trouble.since_ns);
        *trouble = text.map(|text| Trouble { text, since_ns });
    }
}

/// What a mutex guards is whole after each change, so a thread that died holding it harms nobody.
pub(super) fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_as_old_as_its_beginning() {
        let status = ArchiverStatus::default();
        assert!(status.progress(0).is_store_up);
        status.set_trouble(Work::Shipping, Some("a".into()), 5);
        status.set_trouble(Work::Shipping, Some("b".into()), 9);
        let trouble = status.progress(9).trouble;
        assert_eq!(trouble, Some(Trouble { text: "b".into(), since_ns: 5 }));
        status.set_trouble(Work::Shipping, None, 10);
        assert_eq!(status.progress(10).trouble, None);
    }

    #[test]
    fn only_a_change_of_the_store_is_news() {
        let status = ArchiverStatus::default();
        let news = [true, false, false, true].map(|is_up| status.set_store_up(is_up));
        assert_eq!(news, [false, true, false, true]);
    }

    #[test]
    fn a_backlog_has_the_age_of_its_oldest() {
        let status = ArchiverStatus::default();
        status.listed(Listed { oldest_ns: Some(5), ..Listed::default() });
        assert_eq!((status.progress(9).backlog_ns, status.progress(4).backlog_ns), (4, 0));
    }
}
