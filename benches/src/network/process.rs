//! CPU time of running programs, and which core runs what.

use anyhow::Context;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How often one looks whether a program has come to rest.
const LOOK: Duration = Duration::from_millis(100);
/// Less CPU time than this within [`LOOK`] is rest: what timers take.
const REST_NS: u64 = 2_000_000;
/// So often in a row. tcpdump gets the ring's last block when 1 s is over, and must not be stopped
/// before that.
const LOOKS: u32 = 14;
/// How long a program may work on after the last packet was sent.
const REST_MAX: Duration = Duration::from_secs(20);
/// How long a program may take to refuse.
const START_MAX: Duration = Duration::from_secs(1);

/// Keeps the calling thread, and what it starts from now on, on one core. Nothing is done on a
/// machine with fewer cores.
pub fn pin(core: usize) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if core < cores.min(CpuSet::MAX_CPU) {
        let mut set = CpuSet::new();
        set.set(core);
        // A container may not own this core; then the scheduler chooses.
        let _ = sched_setaffinity(None, &set);
    }
}

/// CPU time, user and system, that all threads of a program have taken, ns.
///
/// # Errors
/// If it has ended, or the kernel keeps no `schedstat`.
pub fn cpu_ns(process: u32) -> anyhow::Result<u64> {
    let folder = format!("/proc/{process}/task");
    let mut sum = 0;
    for thread in std::fs::read_dir(&folder).with_context(|| folder.clone())? {
        let path = thread?.path().join("schedstat");
        let text = match std::fs::read_to_string(&path) {
            // Its thread has ended since.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound) => continue,
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => continue,
            text => text.with_context(|| path.display().to_string())?,
        };
        let ns = text.split(' ').next().unwrap_or_default().trim();
        sum += ns.parse::<u64>().with_context(|| format!("{}: `{text}`", path.display()))?;
    }
    Ok(sum)
}

/// Waits until a program has nothing more to do; gives its CPU time then.
///
/// # Errors
/// As [`cpu_ns`].
pub fn cpu_ns_at_rest(process: u32) -> anyhow::Result<u64> {
    cpu_ns_when_calm(process, LOOKS)
}

/// As [`cpu_ns_at_rest`], of a program that passes on what it has within [`LOOK`].
///
/// # Errors
/// As [`cpu_ns`].
pub fn cpu_ns_calm(process: u32) -> anyhow::Result<u64> {
    cpu_ns_when_calm(process, 2)
}

fn cpu_ns_when_calm(process: u32, looks: u32) -> anyhow::Result<u64> {
    let end = Instant::now() + REST_MAX;
    let mut before = cpu_ns(process)?;
    let mut calm = 0;
    while calm < looks && Instant::now() < end {
        std::thread::sleep(LOOK);
        let now = cpu_ns(process)?;
        calm = if now - before < REST_NS { calm + 1 } else { 0 };
        before = now;
    }
    Ok(before)
}

/// Whether a program can be started.
pub fn is_installed(program: &str, version: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Why a program of ours does not start, if it ends by itself within a second; else it is stopped.
pub fn refuses_to_start(command: &mut Command) -> Option<String> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return Some(error.to_string()),
    };
    let end = Instant::now() + START_MAX;
    while Instant::now() < end && matches!(child.try_wait(), Ok(None)) {
        std::thread::sleep(LOOK);
    }
    let has_started = matches!(child.try_wait(), Ok(None));
    if has_started {
        // It has not been waited for, so the id is its own.
        let _ = kill_process(Pid::from_child(&child), Signal::INT);
    }
    let output = child.wait_with_output().ok()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| !line.is_empty()).unwrap_or("it ends without a word");
    (!has_started).then(|| last.to_owned())
}

/// The binary to measure: `TAPLINE_BIN` if set, else a release build made now into the folder that
/// this program was built into.
///
/// # Errors
/// If it cannot be built.
pub fn tapline() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("TAPLINE_BIN") {
        return Ok(path.into());
    }
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(2).context("the bench stands in target/release")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--package", "tapline", "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .context("start cargo; or name a binary in TAPLINE_BIN")?;
    anyhow::ensure!(status.success(), "tapline cannot be built: see above");
    Ok(target.join("release/tapline"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted_and_rest_is_seen() {
        let own = std::process::id();
        let before = cpu_ns(own).unwrap();
        let end = Instant::now() + Duration::from_millis(60);
        while Instant::now() < end {
            std::hint::spin_loop();
        }
        assert!(cpu_ns(own).unwrap() > before, "60 ms of work");
        let mut sleeper = Command::new("sleep").arg("9").spawn().unwrap();
        let at_rest = cpu_ns_at_rest(sleeper.id());
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        assert!(at_rest.unwrap() < 1_000_000_000);
    }

    #[test]
    fn who_refuses_says_why() {
        let sh = |script: &str| refuses_to_start(Command::new("sh").args(["-c", script]));
        assert_eq!(sh("echo first >&2; echo no such way >&2; exit 1").unwrap(), "no such way");
        assert_eq!(sh("exec sleep 5"), None);
        assert!(refuses_to_start(&mut Command::new("no-such-program-anywhere")).is_some());
    }

    #[test]
    fn what_is_not_there_is_not_installed() {
        assert!(is_installed("true", ""));
        assert!(!is_installed("no-such-program-anywhere", ""));
    }
}
