//! Running taps until they end or a signal comes, and telling what became of their packets.

use crate::cli::{Report as ReportOptions, Verbosity};
use crate::failure::Failure;
use crate::service;
use api::{DropReason, Stats, TapStats};
use pipeline::{Crew, CrewReport, Tap};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// Runs taps to their end, each given as the shares of its workers; `ledger` makes the command's ledger of their reports.
///
/// `begun` is said on standard error as soon as signals are understood: who waits for it may send
/// one. The ledger is printed, and written to `--stats-json` also on SIGUSR1.
pub fn run(
    taps: Vec<Vec<Tap>>,
    begun: &[String],
    ledger: impl Fn(&[CrewReport]) -> Stats,
    options: &ReportOptions,
    verbosity: &Verbosity,
) -> Result<(), Failure> {
    run_watched(taps, begun, ledger, options, verbosity, None)
}

/// What who watches a session is told.
pub enum Moment<'a> {
    /// All workers have answered; the ledger now.
    Alive(&'a Stats),
    /// The end was asked for.
    Stopping,
}

/// Runs taps to their end, as [`run`] does, and tells `watch`, if there is one, twice a second that they
/// go on.
pub fn run_watched(
    taps: Vec<Vec<Tap>>,
    begun: &[String],
    ledger: impl Fn(&[CrewReport]) -> Stats,
    options: &ReportOptions,
    verbosity: &Verbosity,
    mut watch: Option<&mut dyn FnMut(Moment<'_>)>,
) -> Result<(), Failure> {
    let signals = take_signals()?;
    if !verbosity.quiet {
        begun.iter().for_each(|what| say(&format!("tapline: {what}\n")));
    }
    let crews = taps.into_iter().map(Crew::start).collect::<Result<Vec<_>, _>>();
    let crews = crews.map_err(|e| Failure::CouldNot(format!("start a worker: {e}")))?;
    service::ready();
    let mut pulse = Pulse::default();
    let mut stopping: Option<Instant> = None;
    // Each is asked: a crew of which one worker has ended ends as one.
    while crews.iter().filter(|crew| !crew.is_finished()).count() > 0 {
        if signals.stop.swap(false, Ordering::Relaxed) {
            match stopping {
                None => {
                    service::stopping();
                    if let Some(watch) = &mut watch {
                        watch(Moment::Stopping);
                    }
                    crews.iter().for_each(Crew::stop);
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
        }
        if let Some(watch) = &mut watch
            && let Some(reports) = pulse.look(&crews)
        {
            watch(Moment::Alive(&ledger(&reports)));
        }
        if signals.snapshot.swap(false, Ordering::Relaxed) {
            match crews.iter().map(Crew::snapshot).collect::<Option<Vec<CrewReport>>>() {
                // What cannot be written now is tried again, and reported, at the end.
                Some(reports) => {
                    write_stats(options, &ledger(&reports)).unwrap_or_else(|failure| {
                        tracing::warn!("{}", failure.message().unwrap_or_default());
                    })
                }
                None => tracing::warn!(
                    "no ledger on SIGUSR1: a tap has not answered in time; is the reader of its \
                     output stuck?"
                ),
            }
        }
        // A signal unparks, and so does a worker that ends.
        std::thread::park_timeout(if watch.is_some() { WATCHED } else { IDLE });
    }
    let (reports, results): (Vec<CrewReport>, Vec<_>) = crews.into_iter().map(Crew::join).unzip();
    let stats = ledger(&reports);
    if !verbosity.quiet {
        say(&stats.to_string());
        if verbosity.verbose > 0 {
            stats.taps.iter().for_each(|tap| say(&hits(tap)));
            stats.decap.iter().for_each(|decap| say(&decap.to_string()));
        }
    }
    write_stats(options, &stats)?;
    if results.iter().any(Result::is_err) {
        return Err(Failure::Told);
    }
    let lost = lost(&stats, stopping.is_some());
    match options.fail_on_drop && lost > 0 {
        true => Err(Failure::Lost),
        false => Ok(()),
    }
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

/// Asks workers for their ledgers without ever waiting for one.
#[derive(Default)]
struct Pulse {
    asked: Option<Instant>,
    /// Ledgers that each worker had published when it was asked; empty once all have answered.
    counts: Vec<Vec<u64>>,
}

impl Pulse {
    /// The ledgers, once all workers have answered; then they are asked again after a while.
    fn look(&mut self, crews: &[Crew]) -> Option<Vec<CrewReport>> {
        let published = || crews.iter().map(Crew::published);
        let mut answered = None;
        if !self.counts.is_empty() {
            let (counts, reports): (Vec<Vec<u64>>, Vec<CrewReport>) = published().unzip();
            let mut pairs = counts.iter().flatten().zip(self.counts.iter().flatten());
            if pairs.all(|(now, then)| now > then) {
                self.counts.clear();
                answered = Some(reports);
            }
        }
        let is_due = self.asked.is_none_or(|at| at.elapsed() >= PULSE);
        if self.counts.is_empty() && is_due {
            self.counts = published().map(|(count, _)| count).collect();
            crews.iter().for_each(Crew::ask);
            self.asked = Some(Instant::now());
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

/// What signals ask for.
#[derive(Default)]
struct Asked {
    stop: AtomicBool,
    snapshot: AtomicBool,
}

/// Takes signals from now on, on a thread of its own, which unparks the calling one.
fn take_signals() -> Result<Arc<Asked>, Failure> {
    let failed = |e: std::io::Error| Failure::CouldNot(format!("take signals: {e}"));
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1]).map_err(failed)?;
    let asked = Arc::new(Asked::default());
    let (by, main) = (Arc::clone(&asked), std::thread::current());
    let take = move || {
        for signal in signals.forever() {
            let flag = if signal == SIGUSR1 { &by.snapshot } else { &by.stop };
            flag.store(true, Ordering::Relaxed);
            main.unpark();
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(take).map_err(failed)?;
    Ok(asked)
}

/// Finds out at the start, not at the end, that the ledger cannot be written; to be called before
/// anything is opened that replaces a file.
pub fn check_stats_path(options: &ReportOptions) -> Result<(), Failure> {
    let Some(path) = &options.stats_json else {
        return Ok(());
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder.is_none_or(Path::is_dir) && !path.is_dir() {
        true => Ok(()),
        false => Err(Failure::CouldNot(format!(
            "--stats-json {}: write the name of a file in a folder that exists",
            path.display()
        ))),
    }
}

/// Replaces the file at once, so that a reader never finds half a ledger.
fn write_stats(options: &ReportOptions, stats: &Stats) -> Result<(), Failure> {
    let Some(path) = &options.stats_json else {
        return Ok(());
    };
    let failed = |e: std::io::Error| Failure::CouldNot(format!("write {}: {e}", path.display()));
    let mut json = serde_json::to_vec(stats).map_err(|e| failed(e.into()))?;
    json.push(b'\n');
    // By the process's own descriptors: opened anew, a file would be written to at another place.
    match path.to_str() {
        Some("/dev/stdout") => return std::io::stdout().write_all(&json).map_err(failed),
        Some("/dev/stderr") => return std::io::stderr().write_all(&json).map_err(failed),
        _ => {}
    }
    if path.exists() && (!path.is_file() || path.starts_with("/dev") || path.starts_with("/proc")) {
        // A pipe or a device has no second name to be renamed from.
        let mut file = std::fs::OpenOptions::new().append(true).open(path).map_err(failed)?;
        return file.write_all(&json).map_err(failed);
    }
    // A link stays a link: what it leads to is replaced.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
    let mut partial = path.clone().into_os_string();
    partial.push(".partial");
    let partial = Path::new(&partial);
    std::fs::write(partial, json).and_then(|()| std::fs::rename(partial, path)).map_err(failed)
}
