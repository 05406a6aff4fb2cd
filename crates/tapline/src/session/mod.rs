//! Running what moves packets until it ends or a signal comes, and telling what became of the packets.

mod activity;
mod ledger_file;
pub mod signals;
mod taps;

pub use activity::{Activity, Reloaded};
pub use ledger_file::check_stats_path;
pub use taps::Taps;

use crate::cli::{Report as ReportOptions, Verbosity};
use crate::failure::Failure;
use crate::local::{Inbox, Job, Local, Outcome, Request};
use crate::service;
use api::{DropReason, Stats, Status, TapStats};
use ledger_file::write_stats;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

/// How long the main thread sleeps when no signal comes and no worker ends; and how long while the
/// session is watched.
const IDLE: Duration = Duration::from_secs(5);
const WATCHED: Duration = Duration::from_millis(50);

/// The same while a client waits for the ledger, and how long one waits at most.
const WANTED: Duration = Duration::from_millis(2);
const STATUS: Duration = Duration::from_secs(2);

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
    command: &'static str,
    config: Option<&'a Path>,
    report: &'a ReportOptions,
    verbosity: &'a Verbosity,
    watch: Option<&'a mut dyn FnMut(Moment<'_>)>,
}

impl<'a> Session<'a> {
    /// Of a command, such as `mirror`, and its options.
    pub fn new(
        command: &'static str,
        report: &'a ReportOptions,
        verbosity: &'a Verbosity,
    ) -> Session<'a> {
        Session { command, config: None, report, verbosity, watch: None }
    }

    /// Has it tell which configuration file it runs.
    pub fn config(mut self, path: Option<&'a Path>) -> Session<'a> {
        self.config = path;
        self
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
        let begin = Begin { at: Instant::now(), wall: SystemTime::now() };
        let inbox = Inbox::new();
        let _local = Local::serve(self.command, &inbox);
        if !self.verbosity.quiet {
            begun.iter().for_each(|what| say(&format!("tapline: {what}\n")));
        }
        let mut activity = start()?;
        service::ready();
        let mut pulse = Pulse::new(service::watchdog(), self.watch.is_some());
        let mut curious: Vec<Job> = Vec::new();
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
                let _ = self.reload(&mut *activity);
            }
            while let Some(job) = inbox.take() {
                match (&job.request, stopping) {
                    (Request::Status, _) => curious.push(job),
                    (Request::Reload, None) => job.answer(told(
                        self.reload(&mut *activity),
                        |done| serde_json::json!({ "changes": done.changes }),
                    )),
                    (Request::Show, None) => {
                        let may = match activity.shows_its_file() {
                            true => self.config_is_a_file(),
                            false => Ok(()),
                        };
                        job.answer(told(may.and_then(|()| activity.show()), |shown| shown));
                    }
                    (Request::Add(rule), None) => {
                        job.answer(told(edited(activity.add(rule)), |done| done));
                    }
                    (Request::Remove { rules }, None) => {
                        job.answer(told(edited(activity.remove(rules)), |done| done));
                    }
                    (_, Some(_)) => job.answer(Outcome::Error("it is ending".into())),
                }
            }
            curious.retain(|job| job.since.elapsed() < STATUS);
            if let Some(stats) = pulse.look(&mut *activity, !curious.is_empty()) {
                service::alive();
                if let Some(watch) = &mut self.watch {
                    watch(Moment::Alive(&stats));
                }
                for job in curious.drain(..) {
                    let status = Box::new(self.status(&begin, stats.clone()));
                    job.answer(Outcome::Status(status, activity.interfaces()));
                }
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
            // A signal unparks, and so do a request and a worker that ends.
            std::thread::park_timeout(pulse.pause(!curious.is_empty()));
        }
        let (stats, results) = activity.join();
        self.conclude(&stats, &results, stopping.is_some())
    }

    fn status(&self, begin: &Begin, stats: Stats) -> Status {
        let since = begin.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            command: self.command.into(),
            name: self.report.name.clone(),
            pid: std::process::id(),
            since: since.as_secs(),
            uptime_ms: u64::try_from(begin.at.elapsed().as_millis()).unwrap_or(u64::MAX),
            config: self.config.map(|path| path.display().to_string()),
            interfaces: Vec::new(),
            stats,
        }
    }

    /// Has an activity read its configuration again, and logs what became of it.
    fn reload(&self, activity: &mut dyn Activity) -> Result<Reloaded, Failure> {
        service::reloading();
        let result = self.config_is_a_file().and_then(|()| activity.reload());
        service::ready();
        match &result {
            Ok(Reloaded { changes }) if changes.is_empty() => {
                tracing::info!("reloaded: nothing has changed");
            }
            Ok(Reloaded { changes }) => {
                changes.iter().for_each(|change| tracing::info!("reloaded: {change}"));
            }
            Err(failure) => {
                tracing::error!("not reloaded, all goes on as before: {}", reason(failure));
            }
        }
        result
    }

    /// Refuses to read a pipe again: to open it would wait for a writer, and no signal would be heard.
    fn config_is_a_file(&self) -> Result<(), Failure> {
        let Some(path) = self.config else {
            return Ok(());
        };
        // What cannot be read at all is told by who reads it.
        match std::fs::metadata(path) {
            Ok(of) if !of.is_file() && !of.is_dir() => Err(Failure::CouldNot(format!(
                "{}: it is no file, such as a pipe, and cannot be read again; write its content to a \
                 file, and start with that",
                path.display()
            ))),
            _ => Ok(()),
        }
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

/// When a session began.
struct Begin {
    at: Instant,
    wall: SystemTime,
}

/// Logs what became of an edit.
fn edited(result: Result<serde_json::Value, Failure>) -> Result<serde_json::Value, Failure> {
    match &result {
        Ok(done) => {
            let changes = done["changes"].as_array().into_iter().flatten();
            changes
                .filter_map(|change| change.as_str())
                .for_each(|c| tracing::info!("edited: {c}"));
        }
        Err(failure) => {
            tracing::warn!("not edited, all goes on as before: {}", reason(failure));
        }
    }
    result
}

/// What a client is told of an attempt.
fn told<T>(result: Result<T, Failure>, value: impl FnOnce(T) -> serde_json::Value) -> Outcome {
    match result {
        Ok(done) => Outcome::Value(value(done)),
        Err(failure) => Outcome::Error(reason(&failure).into()),
    }
}

fn reason(failure: &Failure) -> &str {
    failure.message().unwrap_or("it has said why in its log")
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
struct Pulse {
    /// How often, without being asked to; `None`: never.
    period: Option<Duration>,
    asked: Option<Instant>,
    is_outstanding: bool,
}

impl Pulse {
    /// As often as a watchdog and who watches the session want it.
    fn new(watchdog: Option<Duration>, is_watched: bool) -> Pulse {
        let watchdog = watchdog.map(|limit| (limit / 4).min(PULSE));
        let period = watchdog.or(is_watched.then_some(PULSE));
        Pulse { period, asked: None, is_outstanding: false }
    }

    /// The ledger, once all workers have answered; then they are asked again when it is time, or at
    /// once if somebody wants it.
    fn look(&mut self, activity: &mut dyn Activity, is_wanted: bool) -> Option<Stats> {
        let answered = self.is_outstanding.then(|| activity.answered()).flatten();
        self.is_outstanding &= answered.is_none();
        let is_due = |period| self.asked.is_none_or(|at| at.elapsed() >= period);
        if !self.is_outstanding
            && ((is_wanted && answered.is_none()) || self.period.is_some_and(is_due))
        {
            activity.ask();
            (self.asked, self.is_outstanding) = (Some(Instant::now()), true);
        }
        answered
    }

    /// How long the main thread may sleep now.
    fn pause(&self, is_wanted: bool) -> Duration {
        match self.period {
            _ if is_wanted => WANTED,
            Some(period) => period.min(WATCHED),
            None => IDLE,
        }
    }
}

/// Packets that were wanted and lost. Another tunnel's packets and the tap's own never were, nor those
/// that a stage was asked to take out; and where the end came as asked for (-c, -W, a reader that
/// had enough) instead of by a signal, what came behind it was not either.
fn lost(stats: &Stats, by_signal: bool) -> u64 {
    let mut unwanted = vec![
        DropReason::OwnTunnel,
        DropReason::ForeignId,
        DropReason::Duplicate,
        DropReason::Sampled,
        DropReason::RateLimited,
        DropReason::FlowLimit,
    ];
    if !by_signal {
        unwanted.push(DropReason::Stopped);
    }
    stats.drops.total() - unwanted.iter().map(|&reason| stats.drops.get(reason)).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An activity whose workers answer or are stuck.
    #[derive(Default)]
    struct Fake {
        is_stuck: bool,
        asked: u32,
    }

    impl Activity for Fake {
        fn is_finished(&self) -> bool {
            false
        }

        fn stop(&mut self) {}

        fn ask(&mut self) {
            self.asked += 1;
        }

        fn answered(&mut self) -> Option<Stats> {
            (!self.is_stuck).then(|| Stats::new(Vec::new(), Vec::new(), Vec::new()))
        }

        fn snapshot(&mut self) -> Option<Stats> {
            self.answered()
        }

        fn join(self: Box<Self>) -> (Stats, Vec<Result<(), io::Error>>) {
            (Stats::new(Vec::new(), Vec::new(), Vec::new()), Vec::new())
        }
    }

    #[test]
    fn a_stuck_worker_is_asked_once_and_gives_no_sign_of_life() {
        let mut fake = Fake { is_stuck: true, ..Fake::default() };
        let mut pulse = Pulse::new(Some(Duration::from_nanos(4)), false);
        assert!((0..10).all(|_| pulse.look(&mut fake, true).is_none()));
        assert_eq!(fake.asked, 1);
        fake.is_stuck = false;
        assert!(pulse.look(&mut fake, false).is_some());
        assert_eq!(fake.asked, 2);
    }

    #[test]
    fn workers_are_asked_where_somebody_wants_to_know() {
        let mut fake = Fake::default();
        let mut pulse = Pulse::new(None, false);
        assert!((0..3).all(|_| pulse.look(&mut fake, false).is_none()));
        assert_eq!((fake.asked, pulse.pause(false)), (0, IDLE));
        assert!(pulse.look(&mut fake, true).is_none());
        assert!(pulse.look(&mut fake, true).is_some());
        assert!(pulse.look(&mut fake, false).is_none());
        assert_eq!(fake.asked, 1);
        // A watchdog is fed four times in its limit, but no more often than twice a second.
        let quarter = |limit| Pulse::new(Some(Duration::from_millis(limit)), true).period;
        assert_eq!(quarter(400), Some(Duration::from_millis(100)));
        assert_eq!(quarter(60_000), Some(PULSE));
    }
}
