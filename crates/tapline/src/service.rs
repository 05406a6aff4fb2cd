//! Telling the service manager how far the process is (sd_notify(3)), if one asked to be told.

use sd_notify::NotifyState;

/// Packets are taken from now on.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// The end was asked for, and what has come in is brought to its end.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

fn tell(state: NotifyState) {
    // Without NOTIFY_SOCKET nobody asked, and that is no error.
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("the service manager cannot be told of the state: {error}");
    }
}
