//! tcpdump as a judge: what passes an interface, as the kernel shows it.

use crate::{Finished, Frame, Host, Running, frames_in};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);
/// A file that did not grow for so long has all that tapline captured.
const STILL: Duration = Duration::from_millis(300);
/// The same for tcpdump, which takes a block of its ring that is not full after a second.
const STILL_TCPDUMP: Duration = Duration::from_millis(1200);

/// A tcpdump that runs and writes a file.
pub struct Tcpdump {
    running: Running,
    path: PathBuf,
}

impl Tcpdump {
    /// Starts it on an interface of a host and waits until it captures.
    ///
    /// # Panics
    /// If it does not: ask [`crate::tool_or_skip`] first.
    pub fn start(host: &Host, interface: &str, path: &Path, expression: &str) -> Tcpdump {
        let mut command = host.netns.command("tcpdump");
        // The folder is root's (-Z). Not in immediate mode: its ring has room for 128 packets.
        command.args(["-n", "-U", "-s", "0", "-B", "32768", "-Z", "root"]);
        command.args(["-i", interface, "-w"]).arg(path).arg(expression);
        let running = Running::start(&mut command);
        running.wait_for("listening on", PATIENCE);
        Tcpdump { running, path: path.into() }
    }

    /// Waits until nothing more comes, ends it, and gives what it wrote.
    ///
    /// # Panics
    /// If it lost packets, or the file is not whole.
    pub fn stop(self) -> Vec<Frame> {
        still(&self.path, STILL_TCPDUMP);
        let Finished { stderr, .. } = self.running.stop(PATIENCE);
        assert!(stderr.contains("\n0 packets dropped by kernel"), "{stderr}");
        frames_in(&self.path)
    }
}

/// Waits until a file has not grown for 0.3 s.
///
/// # Panics
/// If it grows for longer than 10 s, or is not there then.
pub fn wait_until_still(path: &Path) {
    still(path, STILL);
}

fn still(path: &Path, time: Duration) {
    let begun = Instant::now();
    let (mut len, mut since) = (u64::MAX, begun);
    while since.elapsed() < time {
        assert!(begun.elapsed() < PATIENCE, "{} still grows", path.display());
        let now = std::fs::metadata(path).map_or(u64::MAX, |file| file.len());
        if now != len || now == u64::MAX {
            (len, since) = (now, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
