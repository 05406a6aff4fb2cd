//! Telling the service manager how far the process is (sd_notify(3)), if one asked to be told.

use sd_notify::NotifyState;
use std::time::Duration;

/// Packets are taken from now on.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// The configuration is read again; [`ready`] says when that is over.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell_all(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!("the service manager cannot be told of a reload: {error}"),
    }
}

/// The end was asked for, and what has come in is brought to its end.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

/// How long the service manager waits for [`alive`] before it takes the process for stuck; `None` if it
/// does not.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero())
}

/// All workers have answered.
pub fn alive() {
    if watchdog().is_some() {
        tell(NotifyState::Watchdog);
    }
}

fn tell(state: NotifyState) {
    tell_all(&[state]);
}

fn tell_all(states: &[NotifyState]) {
    // Without NOTIFY_SOCKET nobody asked, and that is no error.
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("the service manager cannot be told of the state: {error}");
    }
}
