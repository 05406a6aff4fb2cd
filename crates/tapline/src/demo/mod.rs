//! `tapline demo`: the whole scene in network namespaces of its own, on real traffic.
//!
//! Three clients download from an HTTP server while other traffic runs beside. A tap on each
//! client's NIC mirrors the HTTP traffic to a group of two sinks, of which one is killed and started
//! again; both ship what they record to an S3 server. At the end the ledgers are compared with each
//! other, with the files, and with what the clients got; what was lost has a name. Then one connection
//! is looked for in the archive. `plan` holds the picture.
//!
//! The namespaces have no names: they are gone with this process and its children, however it ends.

mod balance;
mod check;
mod files;
mod finding;
mod http;
mod plan;
mod process;
mod report;
mod scene;
mod store;
mod stream;
mod traffic;

use crate::failure::Failure;
use balance::Balance;
use check::Evidence;
use files::Archive;
use plan::{SINKS, VICTIM};
use report::grouped;
use scene::{Adopted, Scene};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use traffic::{Connection, Traffic};

/// How long it runs unless `DEMO_SECONDS` says otherwise.
const SECONDS: u64 = 20;

/// How often a line of the table is printed.
const PERIOD: Duration = Duration::from_secs(1);
/// How often the clock and Ctrl-C are looked at.
const TICK: Duration = Duration::from_millis(20);
/// How long the killed sink stays down, unless the demo is short.
const DOWN: Duration = Duration::from_millis(2500);

pub fn run() -> Result<(), Failure> {
    let seconds = seconds()?;
    let folder = folder()?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .map_err(|e| Failure::CouldNot(format!("take signal {signal}: {e}")))?;
    }
    let interrupted = || interrupted.load(Ordering::Relaxed);

    report::scene(&mut std::io::stdout(), &folder).map_err(unwritten)?;
    let mut scene = Scene::set_up(&folder)?;
    let traffic = Traffic::start(&scene)?;
    play(&mut scene, &traffic, Duration::from_secs(seconds), &interrupted)?;
    let connections = traffic.stop()?;
    conclude(&mut scene, &folder, &connections, interrupted())
}

/// Lets the traffic run, prints the table, kills a sink on the way and starts it again.
fn play(
    scene: &mut Scene,
    traffic: &Traffic,
    wanted: Duration,
    interrupted: &impl Fn() -> bool,
) -> Result<(), Failure> {
    let out = &mut std::io::stdout();
    writeln!(out, "{}", report::TABLE_HEAD).map_err(unwritten)?;
    let begun = Instant::now();
    let kill_at = wanted * 2 / 5;
    let restart_at = kill_at + DOWN.min(wanted / 5);
    let mut next_row = PERIOD.min(wanted);
    let name = SINKS[VICTIM].name;
    let say = |what: String| {
        let at = begun.elapsed().as_secs_f64();
        writeln!(std::io::stdout(), "{at:6.1} s │ {what}").map_err(unwritten)
    };
    while begun.elapsed() < wanted && !interrupted() {
        std::thread::sleep(TICK);
        if scene.outage().is_none() && begun.elapsed() >= kill_at {
            scene.kill()?;
            say(format!("{name} is killed (kill -9); it keeps its place in the group"))?;
        }
        let is_down = scene.outage().is_some_and(|outage| outage.restart.is_none());
        if is_down && begun.elapsed() >= restart_at {
            let Adopted { segments, packets } = scene.restart()?;
            say(format!(
                "{name} is started again; it adopts {segments} segments left open, {} packets",
                grouped(packets)
            ))?;
        }
        if begun.elapsed() >= next_row {
            let ledgers = scene.ledgers()?;
            let before = scene.outage().map_or(0, |outage| outage.last.received);
            report::row(out, begun.elapsed(), traffic.so_far(), &ledgers, before)
                .map_err(unwritten)?;
            next_row += PERIOD;
        }
    }
    Ok(())
}

/// Stops everything, reads the files, prints the account and judges it.
fn conclude(
    scene: &mut Scene,
    folder: &Path,
    connections: &[Connection],
    interrupted: bool,
) -> Result<(), Failure> {
    // The last packets of the last connection are still on their way through the taps.
    std::thread::sleep(Duration::from_millis(100));
    let ledgers = scene.stop()?;
    let outage = scene.outage();
    // Without a restart all that stands in the killed sink's files came before.
    let before_ns = outage.map_or(0, |o| o.restart.map_or(u64::MAX, |restart| restart.begun_ns));
    let objects = scene.store().objects();
    let read = |(sink, spool): (usize, PathBuf)| {
        Archive::read(objects, &spool, if sink == VICTIM { before_ns } else { 0 })
    };
    let archives =
        scene.spools().into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
    let balance = |(sink, archive): (usize, &Archive)| {
        Balance::of(sink, &ledgers, outage.filter(|_| sink == VICTIM), archive)
    };
    let balances: Vec<Balance> = archives.iter().enumerate().map(balance).collect();
    let evidence = Evidence {
        connections,
        ledgers: &ledgers,
        outage,
        archives: &archives,
        balances: &balances,
    };
    let mut verdict = evidence.judge();
    let finding = verdict.example.map(|place| finding::find(scene, folder, &connections[place]));
    let finding = finding.transpose()?;
    if let Some(found) = finding.as_ref().filter(|finding| !finding.is_whole) {
        let what = format!("`{}` did not find one connection whole: {}", found.command, found.said);
        verdict.faults.push(what);
    }

    let account = |out: &mut std::io::Stdout| {
        report::ledgers(out, &ledgers, outage)?;
        report::rules(out, &ledgers)?;
        report::balances(out, &balances, outage)?;
        report::files(out, folder, &archives)?;
        report::verdict(out, &verdict, connections.len())?;
        report::usages(out, scene.usages())?;
        finding.iter().try_for_each(|finding| report::finding(out, finding))?;
        match () {
            () if connections.is_empty() && interrupted => report::nothing(out),
            () if !verdict.faults.is_empty() => Ok(()),
            () => report::success(out, folder, scene.store(), &archives, &verdict),
        }
    };
    account(&mut std::io::stdout()).map_err(unwritten)?;
    if verdict.faults.is_empty() || (connections.is_empty() && interrupted) {
        return Ok(());
    }
    Err(Failure::CouldNot(verdict.faults.join("\n         ")))
}

fn unwritten(error: std::io::Error) -> Failure {
    Failure::CouldNot(format!("write to standard output: {error}"))
}

/// `DEMO_SECONDS`, or [`SECONDS`].
fn seconds() -> Result<u64, Failure> {
    let Some(text) = std::env::var_os("DEMO_SECONDS").filter(|text| !text.is_empty()) else {
        return Ok(SECONDS);
    };
    let seconds = text.to_str().and_then(|text| text.parse().ok());
    seconds.filter(|seconds| (1..=3600).contains(seconds)).ok_or_else(|| {
        Failure::Usage(format!("DEMO_SECONDS is {text:?}; write a whole number from 1 to 3600"))
    })
}

/// A new folder below `DEMO_DIR` for this run, so that no earlier one is touched.
fn folder() -> Result<PathBuf, Failure> {
    let set = std::env::var_os("DEMO_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let base = set.unwrap_or_else(|| std::env::temp_dir().join("tapline-demo"));
    let base = std::path::absolute(&base).unwrap_or(base);
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let folder = base.join(format!("{now}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|e| {
        Failure::CouldNot(format!(
            "make the folder {}: {e}; set DEMO_DIR to one that you may write to",
            folder.display()
        ))
    })?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_help_says_how_long_it_runs() {
        let cli = crate::cli::Cli::command();
        let help = cli.find_subcommand("demo").unwrap().get_about().unwrap().to_string();
        assert!(help.contains(&format!("DEMO_SECONDS ({SECONDS})")), "{help}");
    }
}
