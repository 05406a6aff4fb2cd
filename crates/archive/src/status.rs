//! What others may look at while a recorder works: whether it can write.

use api::DropReason;
use std::sync::atomic::{AtomicU8, Ordering};

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
    /// The spool is at its bound: packets are dropped as `spool_full`.
    SpoolFull = 3,
}

impl DiskState {
    /// The name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            DiskState::Ok => "ok",
            DiskState::Full => "full",
            DiskState::Failing => "failing",
            DiskState::SpoolFull => "spool_full",
        }
    }
}

/// What a recorder shows to other threads.
#[derive(Debug, Default)]
pub struct RecorderStatus {
    disk: AtomicU8,
}

impl RecorderStatus {
    /// Whether packets can be written.
    pub fn disk(&self) -> DiskState {
        match self.disk.load(Ordering::Relaxed) {
            0 => DiskState::Ok,
            1 => DiskState::Full,
            3 => DiskState::SpoolFull,
            _ => DiskState::Failing,
        }
    }

    /// Notes why packets are being lost, if they are.
    pub(crate) fn set_trouble(&self, reason: Option<DropReason>) {
        let state = match reason {
            None => DiskState::Ok,
            Some(DropReason::DiskFull) => DiskState::Full,
            Some(DropReason::SpoolFull) => DiskState::SpoolFull,
            Some(_) => DiskState::Failing,
        };
        self.disk.store(state as u8, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_seen() {
        let status = RecorderStatus::default();
        assert_eq!(status.disk(), DiskState::Ok);
        for (reason, state) in [
            (Some(DropReason::DiskFull), DiskState::Full),
            (Some(DropReason::WriteError), DiskState::Failing),
            (Some(DropReason::SpoolFull), DiskState::SpoolFull),
            (None, DiskState::Ok),
        ] {
            status.set_trouble(reason);
            assert_eq!(status.disk(), state);
        }
    }
}
