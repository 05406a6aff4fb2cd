//! A bar on a terminal, for what takes its time.

use crate::cli::Verbosity;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

/// A bar that stands on standard error while this value lives; none where that is no terminal, or with
/// `-q`.
pub struct Progress(ProgressBar);

impl Progress {
    /// Of things that are counted.
    pub fn of_objects(verbosity: &Verbosity) -> Progress {
        Progress::new("{bar:20} {pos}/{len} {wide_msg}", verbosity)
    }

    /// Of bytes.
    pub fn of_bytes(verbosity: &Verbosity) -> Progress {
        Progress::new("{bar:20} {bytes}/{total_bytes} {bytes_per_sec} {wide_msg}", verbosity)
    }

    fn new(template: &str, verbosity: &Verbosity) -> Progress {
        let is_shown = std::io::stderr().is_terminal() && !verbosity.quiet;
        let target = match is_shown {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let style = ProgressStyle::with_template(template);
        Progress(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    /// Shows how far it is, and with what.
    pub fn show(&self, done: u64, all: u64, what: &str) {
        self.0.set_length(all);
        self.0.set_position(done);
        if self.0.message() != what {
            self.0.set_message(what.to_owned());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
