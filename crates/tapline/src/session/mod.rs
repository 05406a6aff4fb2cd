//! Running what moves packets until it ends or a signal comes, and telling what became of the packets.

mod activity;
mod ledger_file;
mod signals;
mod taps;

pub use activity::{Activity, Reloaded};
pub use ledger_file::check_stats_path;
pub use taps::Taps;

use crate::cli::{Report as ReportOptions, Verbosity};
use crate::failure::Failure;
use crate::service;
use api::{DropReason, Stats, TapStats};
use ledger_file::write_stats;
use std::io::{IsTerminal, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long the main thread sleeps when no signal comes and no worker ends; and how long while the
/// session is watched.
const IDLE: Duration = Duration::from_secs(5);
const WATCHED: Duration = Duration::from_millis(50);

/// How often a watched session asks its workers whether they go on.
const PULSE: Duration = Duration::from_millis(500);

/// A signal so long after the first one ends the process at once. One that comes sooner does not:
/// some programs send each signal twice.
const INSIST: Duration = Duration::from_secs(1);

/// Messages about changes of state go to standard error.
pub fn log_to_stderr(verbosity: &Verbosity) {
    let level = match (verbosity.quiet, verbosity.verbose) {
        (true, _) => tracing::Level::ERROR,
        (false, 0) => tracing::Level::INFO,
        (false, 1) => tracing::Level::DEBUG,
        (false, _) => tracing::Level::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .init();
}

/// Writes to standard error. Where that is not possible (a full disk, a reader that has gone away)
/// nobody is told, and the packets go their way.
pub fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// What who watches a session is told.
pub enum Moment<'a> {
    /// All workers have answered; the ledger now.
    Alive(&'a Stats),
    /// The end was asked for.
    Stopping,
}

/// A command that moves packets until it ends or a signal comes.
pub struct Session<'a> {
    report: &'a ReportOptions,
    verbosity: &'a Verbosity,
    watch: Option<&'a mut dyn FnMut(Moment<'_>)>,
}

impl<'a> Session<'a> {
    /// Of a command's options.
    pub fn new(report: &'a ReportOptions, verbosity: &'a Verbosity) -> Session<'a> {
        Session { report, verbosity, watch: None }
    }

    /// Tells `watch` twice a second that all workers go on.
    pub fn watched(mut self, watch: &'a mut dyn FnMut(Moment<'_>)) -> Session<'a> {
        self.watch = Some(watch);
        self
    }

    /// Runs what `start` starts to its end.
    ///
    /// `begun` is said on standard error as soon as signals are understood: who waits for it may send
    /// one. The ledger is printed, and written to `--stats-json` also on SIGUSR1. SIGHUP has the
    /// activity reload where it can, and ends it elsewhere; one that failed is logged.
    pub fn run<'b>(
        mut self,
        begun: &[String],
        start: impl FnOnce() -> Result<Box<dyn Activity + 'b>, Failure>,
    ) -> Result<(), Failure> {
        let signals = signals::take()?;
        if !self.verbosity.quiet {
            begun.iter().for_each(|what| say(&format!("tapline: {what}\n")));
        }
        let mut activity = start()?;
        service::ready();
        let mut pulse = Pulse::default();
        let mut stopping: Option<Instant> = None;
        while !activity.is_finished() {
            let reload = signals.reload.swap(false, Ordering::Relaxed);
            let stop = signals.stop.swap(false, Ordering::Relaxed);
            if stop || (reload && !activity.can_reload()) {
                match stopping {
                    None => {
                        service::stopping();
                        if let Some(watch) = &mut self.watch {
                            watch(Moment::Stopping);
                        }
                        activity.stop();
                    }
                    // The reader of an output is stuck, and the user has seen that it does not end.
                    Some(since) if since.elapsed() >= INSIST => {
                        return Err(Failure::CouldNot(
                            "ended by a second signal, without a ledger".into(),
                        ));
                    }
                    Some(_) => {}
                }
                stopping.get_or_insert_with(Instant::now);
            } else if reload && stopping.is_none() {
                // What went wrong is logged, and the configuration of before stays.
                let _ = self::reload(&mut *activity);
            }
            if let Some(watch) = &mut self.watch
                && let Some(stats) = pulse.look(&mut *activity, PULSE)
            {
                watch(Moment::Alive(&stats));
            }
            if signals.snapshot.swap(false, Ordering::Relaxed) {
                match activity.snapshot() {
                    // What cannot be written now is tried again, and reported, at the end.
                    Some(stats) => write_stats(self.report, &stats).unwrap_or_else(|failure| {
                        tracing::warn!("{}", failure.message().unwrap_or_default());
                    }),
                    None => tracing::warn!(
                        "no ledger on SIGUSR1: a tap has not answered in time; is the reader of \
                         its output stuck?"
                    ),
                }
            }
            // A signal unparks, and so does a worker that ends.
            std::thread::park_timeout(if self.watch.is_some() { WATCHED } else { IDLE });
        }
        let (stats, results) = activity.join();
        self.conclude(&stats, &results, stopping.is_some())
    }

    /// Says the ledger, and what the command's end was.
    fn conclude(
        &self,
        stats: &Stats,
        results: &[Result<(), io::Error>],
        by_signal: bool,
    ) -> Result<(), Failure> {
        if !self.verbosity.quiet {
            say(&stats.to_string());
            if self.verbosity.verbose > 0 {
                stats.taps.iter().for_each(|tap| say(&hits(tap)));
                stats.decap.iter().for_each(|decap| say(&decap.to_string()));
            }
        }
        write_stats(self.report, stats)?;
        if results.iter().any(Result::is_err) {
            return Err(Failure::Told);
        }
        match self.report.fail_on_drop && lost(stats, by_signal) > 0 {
            true => Err(Failure::Lost),
            false => Ok(()),
        }
    }
}

/// Has an activity read its configuration again, and logs what became of it.
fn reload(activity: &mut dyn Activity) -> Result<Reloaded, Failure> {
    service::reloading();
    let result = activity.reload();
    service::ready();
    match &result {
        Ok(Reloaded { changes }) if changes.is_empty() => {
            tracing::info!("reloaded: nothing has changed");
        }
        Ok(Reloaded { changes }) => {
            changes.iter().for_each(|change| tracing::info!("reloaded: {change}"));
        }
        Err(failure) => tracing::error!(
            "not reloaded, all goes on as before: {}",
            failure.message().unwrap_or("it has said why")
        ),
    }
    result
}

/// What each rule of a tap decided, a line each; those that never did are one line.
fn hits(tap: &TapStats) -> String {
    let mut text = String::new();
    for rule in tap.rules.iter().filter(|rule| rule.hits > 0) {
        text += &format!("tap {}: rule {} decided for {}\n", tap.name, rule.index, rule.hits);
    }
    let idle = tap.rules.iter().filter(|rule| rule.hits == 0).count();
    if idle > 0 {
        text +=
            &format!("tap {}: {idle} of {} rules decided for none\n", tap.name, tap.rules.len());
    }
    text
}

/// Asks an activity for its ledger from time to time, without ever waiting for a worker.
#[derive(Default)]
struct Pulse {
    asked: Option<Instant>,
    is_outstanding: bool,
}

impl Pulse {
    /// The ledger, once all workers have answered; then they are asked again after `period`.
    fn look(&mut self, activity: &mut dyn Activity, period: Duration) -> Option<Stats> {
        let answered = self.is_outstanding.then(|| activity.answered()).flatten();
        self.is_outstanding &= answered.is_none();
        if !self.is_outstanding && self.asked.is_none_or(|at| at.elapsed() >= period) {
            activity.ask();
            (self.asked, self.is_outstanding) = (Some(Instant::now()), true);
        }
        answered
    }
}

/// Packets that were wanted and lost. Another tunnel's packets and the tap's own never were; and
/// where the end came as asked for (-c, -W, a reader that had enough) instead of by a signal, what
/// came behind it was not either.
fn lost(stats: &Stats, by_signal: bool) -> u64 {
    let mut unwanted = vec![DropReason::OwnTunnel, DropReason::ForeignId];
    if !by_signal {
        unwanted.push(DropReason::Stopped);
    }
    stats.drops.total() - unwanted.iter().map(|&reason| stats.drops.get(reason)).sum::<u64>()
}
