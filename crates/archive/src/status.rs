//! What others may look at while a recorder works: whether it can write, and what it removed.

use api::{DropReason, Removed};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Whether packets can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiskState {
    /// As far as is known.
    #[default]
    Ok = 0,
    /// There is no room: packets are dropped as `disk_full`.
    Full = 1,
    /// Writing fails for another reason: packets are dropped as `write_error`.
    Failing = 2,
}

impl DiskState {
    /// The name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            DiskState::Ok => "ok",
            DiskState::Full => "full",
            DiskState::Failing => "failing",
        }
    }
}

/// What a recorder shows to other threads. Each number is right by itself; together they may be of
/// two moments.
#[derive(Debug, Default)]
pub struct RecorderStatus {
    disk: AtomicU8,
    removed_segments: AtomicU64,
    removed_packets: AtomicU64,
    removed_bytes: AtomicU64,
}

impl RecorderStatus {
    /// Whether packets can be written.
    pub fn disk(&self) -> DiskState {
        match self.disk.load(Ordering::Relaxed) {
            0 => DiskState::Ok,
            1 => DiskState::Full,
            _ => DiskState::Failing,
        }
    }

    /// What was removed so that the archive stays within its bound.
    pub fn removed(&self) -> Removed {
        Removed {
            segments: self.removed_segments.load(Ordering::Relaxed),
            packets: self.removed_packets.load(Ordering::Relaxed),
            bytes: self.removed_bytes.load(Ordering::Relaxed),
        }
    }

    /// Notes why packets are being lost, if they are.
    pub(crate) fn set_trouble(&self, reason: Option<DropReason>) {
        let state = match reason {
            None => DiskState::Ok,
            Some(DropReason::DiskFull) => DiskState::Full,
            Some(_) => DiskState::Failing,
        };
        self.disk.store(state as u8, Ordering::Relaxed);
    }

    pub(crate) fn set_removed(&self, removed: Removed) {
        self.removed_segments.store(removed.segments, Ordering::Relaxed);
        self.removed_packets.store(removed.packets, Ordering::Relaxed);
        self.removed_bytes.store(removed.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_seen() {
        let status = RecorderStatus::default();
        assert_eq!((status.disk(), status.removed()), (DiskState::Ok, Removed::default()));
        for (reason, state) in [
            (Some(DropReason::DiskFull), DiskState::Full),
            (Some(DropReason::WriteError), DiskState::Failing),
            (None, DiskState::Ok),
        ] {
            status.set_trouble(reason);
            assert_eq!(status.disk(), state);
        }
        let removed = Removed { segments: 1, packets: 2, bytes: 3 };
        status.set_removed(removed);
        assert_eq!(status.removed(), removed);
    }
}
