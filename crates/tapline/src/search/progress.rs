//! What a search says while it runs: a bar on a terminal.

use super::output::{FLUSH_AFTER, Output};
use crate::failure::Failure;
use archive::search::Progress;
use indicatif::{ProgressBar, ProgressStyle};
use std::fmt;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// A thread that hands on what waits in the output's buffers, and moves the bar.
pub struct Watch {
    is_done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins; there is a bar if it `shows` one.
    pub fn start(
        progress: Arc<Progress>,
        output: Arc<Mutex<Output>>,
        shows: bool,
    ) -> Result<Watch, Failure> {
        let is_done = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&is_done);
        let watch = move || {
            let bar = shows.then(|| bar(progress.segments));
            while !done.load(Relaxed) {
                std::thread::park_timeout(FLUSH_AFTER);
                output.lock().unwrap_or_else(PoisonError::into_inner).flush_if_due();
                if let Some(bar) = &bar {
                    bar.set_position(progress.segments_done());
                    bar.set_message(format!(
                        "{} read, {} packets found",
                        Bytes(progress.bytes()),
                        progress.packets()
                    ));
                }
            }
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
        };
        let thread = std::thread::Builder::new().name("progress".into()).spawn(watch);
        let thread = thread.map_err(|e| Failure::CouldNot(format!("start a thread: {e}")))?;
        Ok(Watch { is_done, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.is_done.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // If it has panicked, it has said so.
            let _ = thread.join();
        }
    }
}

/// Whether a bar would be seen, and disturb nothing.
pub fn shows_bar(prints: bool) -> bool {
    std::io::stderr().is_terminal() && !(prints && std::io::stdout().is_terminal())
}

fn bar(segments: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len} segments, {msg}, {elapsed}")
        .expect("the template is well-formed");
    ProgressBar::new(segments).with_style(style)
}

/// A number of bytes, for people.
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bytes(bytes) = *self;
        match bytes {
            0..1_000 => write!(f, "{bytes} B"),
            1_000..1_000_000 => write!(f, "{:.1} kB", bytes as f64 / 1e3),
            1_000_000..1_000_000_000 => write!(f, "{:.1} MB", bytes as f64 / 1e6),
            _ => write!(f, "{:.2} GB", bytes as f64 / 1e9),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_for_people() {
        let shown: Vec<_> =
            [999, 1_000, 2_540_000, 7_123_000_000].map(|n| Bytes(n).to_string()).into();
        assert_eq!(shown, ["999 B", "1.0 kB", "2.5 MB", "7.12 GB"]);
    }
}
