//! Running taps until they end or a signal comes, and telling what became of their packets.

use crate::cli::{Report as ReportOptions, Verbosity};
use crate::failure::Failure;
use api::{DropReason, Stats};
use pipeline::{Report, Tap, Worker};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often signals are looked for.
const PERIOD: Duration = Duration::from_millis(20);

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

/// Runs taps to their end; `ledger` makes the command's ledger of their reports.
///
/// `begun` is said on standard error as soon as signals are understood: who waits for it may send
/// one. The ledger is printed, and written to `--stats-json` also on SIGUSR1.
pub fn run(
    taps: Vec<Tap>,
    begun: &[String],
    ledger: impl Fn(&[Report]) -> Stats,
    options: &ReportOptions,
    verbosity: &Verbosity,
) -> Result<(), Failure> {
    let (stop, snapshot) = (flag(&[SIGINT, SIGTERM, SIGHUP])?, flag(&[SIGUSR1])?);
    if !verbosity.quiet {
        begun.iter().for_each(|what| eprintln!("tapline: {what}"));
    }
    let workers = taps.into_iter().map(Worker::start).collect::<Result<Vec<_>, _>>();
    let workers = workers.map_err(|e| Failure::CouldNot(format!("start a worker: {e}")))?;
    while !workers.iter().all(Worker::is_finished) {
        if stop.load(Ordering::Relaxed) {
            workers.iter().for_each(Worker::stop);
        }
        if snapshot.swap(false, Ordering::Relaxed) {
            let reports: Vec<Report> = workers.iter().map(Worker::snapshot).collect();
            // What cannot be written now is tried again, and reported, at the end.
            if let Err(failure) = write_stats(options, &ledger(&reports)) {
                tracing::warn!("{}", failure.message().unwrap_or_default());
            }
        }
        std::thread::sleep(PERIOD);
    }
    let (reports, results): (Vec<Report>, Vec<_>) = workers.into_iter().map(Worker::join).unzip();
    let stats = ledger(&reports);
    if !verbosity.quiet {
        eprint!("{stats}");
    }
    write_stats(options, &stats)?;
    results.into_iter().collect::<Result<(), io::Error>>()?;
    match options.fail_on_drop && lost(&stats) > 0 {
        true => Err(Failure::Lost),
        false => Ok(()),
    }
}

/// Packets lost: what came behind the end that was asked for is not.
fn lost(stats: &Stats) -> u64 {
    let behind = stats.taps.iter().map(|tap| tap.drops.get(DropReason::Stopped)).sum::<u64>();
    stats.drops.total() - behind
}

fn flag(signals: &[i32]) -> Result<Arc<AtomicBool>, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    for &signal in signals {
        signal_hook::flag::register(signal, Arc::clone(&flag))
            .map_err(|e| Failure::CouldNot(format!("take signal {signal}: {e}")))?;
    }
    Ok(flag)
}

/// Replaces the file at once, so that a reader never finds half a ledger.
fn write_stats(options: &ReportOptions, stats: &Stats) -> Result<(), Failure> {
    let Some(path) = &options.stats_json else {
        return Ok(());
    };
    let failed = |e: std::io::Error| Failure::CouldNot(format!("write {}: {e}", path.display()));
    let mut json = serde_json::to_vec(stats).map_err(|e| failed(e.into()))?;
    json.push(b'\n');
    if path.exists() && (!path.is_file() || path.starts_with("/dev") || path.starts_with("/proc")) {
        // A pipe or a device has no second name to be renamed from, and /dev/stdout must stay what
        // it is also while it leads to a file.
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
