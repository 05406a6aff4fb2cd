//! Tells of the same trouble once in a while, not for each packet.

use std::io::Error;
use std::time::{Duration, Instant};

/// How long the same error is not told again.
const AGAIN: Duration = Duration::from_secs(10);

/// What a sink has had trouble with.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    /// The error that was told last, and when.
    told: Option<(i32, Instant)>,
}

impl Trouble {
    /// Warns of an error at a place, and says what it leads to, unless that was told last and not
    /// long ago.
    pub fn tell(&mut self, place: &str, error: &Error, consequence: &str) {
        let errno = error.raw_os_error().unwrap_or(0);
        if self.told.is_none_or(|(last, at)| last != errno || at.elapsed() >= AGAIN) {
            tracing::warn!("{place}: {error}; {consequence}");
            self.told = Some((errno, Instant::now()));
        }
    }
}
