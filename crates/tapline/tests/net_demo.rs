//! The demo shows what it says: its ledger balances, its files open elsewhere, and nothing of it is
//! left when it ends.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod over_links;

use over_links::{BINARY, alone, assert_is_whole};
use rig::{
    Finished, Running, Scratch, capture_files, root_or_skip, rows, tool_or_skip, wait_until,
};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(15);

#[test]
fn its_ledger_balances_and_its_files_open_elsewhere() {
    if !root_or_skip() || !tool_or_skip("tshark") || !tool_or_skip("capinfos") {
        return;
    }
    let _alone = alone();
    let scratch = Scratch::new("demo");
    let demo = demo(&scratch, "3");
    wait_until("demo, mirror and receive run", SOON, || processes_of(scratch.folder()).len() == 3);
    let Finished { status, stdout, stderr } = demo.finish(SOON);
    let said = String::from_utf8(stdout).unwrap();
    assert!(status.success(), "{said}{stderr}");

    let (_, ledger) = said.split_once("\nLedger\n").expect("the demo prints its ledger");
    let lines = ["tap ", "target ", "source "].map(|kind| {
        let of_kind = || ledger.lines().filter(move |line| line.starts_with(kind));
        assert!(of_kind().all(|line| line.ends_with(", 0 unaccounted")), "{ledger}");
        of_kind().count()
    });
    assert_eq!(lines, [1, 1, 1], "{ledger}");
    // The word stands on these lines and nowhere else.
    assert_eq!(said.matches("unaccounted").count(), 3, "{said}");

    let files = capture_files(scratch.folder());
    assert!(!files.is_empty(), "{said}");
    let mut requests = 0;
    for file in &files {
        assert!(!file.to_string_lossy().contains(".spool"), "left open: {files:?}");
        assert_is_whole(file);
        requests += rows(file, &["-Y", "http.request"], &["frame.number"]).len();
        assert_eq!(rows(file, &["-Y", "tcp.analysis.lost_segment"], &["frame.number"]).len(), 0);
        let tshark = Command::new("tshark").args(["-n", "-r"]).arg(file).output().unwrap();
        let complaints = String::from_utf8_lossy(&tshark.stderr);
        let complaints = complaints.lines().filter(|line| !line.contains("as user \"root\""));
        assert_eq!(complaints.collect::<Vec<_>>(), [""; 0]);
    }
    let wanted = format!("All {requests} requests ");
    assert!(requests > 0 && said.contains(&wanted), "tshark counts {requests}: {said}");
    assert_eq!(processes_of(scratch.folder()), [0; 0]);
}

#[test]
fn interrupted_at_any_moment_it_leaves_no_process_and_no_namespace() {
    if !root_or_skip() {
        return;
    }
    let _alone = alone();
    // Before it takes the signal, while it makes hosts, starts processes, and at work.
    for (number, after_ms) in [0, 5, 20, 60, 120, 250, 500, 900].into_iter().enumerate() {
        let scratch = Scratch::new("demo-interrupted");
        let demo = demo(&scratch, "60");
        std::thread::sleep(Duration::from_millis(after_ms));
        // The terminal sends SIGINT; a service manager SIGTERM; and the worst is SIGKILL.
        demo.signal([Signal::INT, Signal::TERM, Signal::KILL][number % 3]);
        let Finished { status, stdout, stderr } = demo.finish(SOON);
        let said =
            format!("after {after_ms} ms: {status}\n{}{stderr}", String::from_utf8_lossy(&stdout));
        assert!(!said.contains("panicked"), "{said}");
        // A signal that came before it was taken, or SIGKILL, ends it as such.
        assert!(status.success() || status.code().is_none(), "{said}");
        let what = format!("its processes end, {said}");
        wait_until(&what, SOON, || processes_of(scratch.folder()).is_empty());
    }
}

fn demo(scratch: &Scratch, seconds: &str) -> Running {
    let mut command = Command::new(BINARY);
    Running::start(
        command.arg("demo").env("DEMO_SECONDS", seconds).env("DEMO_DIR", scratch.folder()),
    )
}

/// The processes whose environment names a folder: the demo and all that it started. A namespace
/// without a name lives no longer than they do.
fn processes_of(folder: &Path) -> Vec<u32> {
    let wanted = format!("DEMO_DIR={}\0", folder.display());
    let is_of = |process: &PathBuf| {
        let environment = std::fs::read(process.join("environ")).unwrap_or_default();
        environment.windows(wanted.len()).any(|window| window == wanted.as_bytes())
    };
    let processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let processes = processes.filter(is_of);
    processes.filter_map(|path| path.file_name()?.to_str()?.parse().ok()).collect()
}
