//! tcpdump as a judge: what passes an interface, as the kernel shows it.

use crate::{Finished, Frame, Host, Running, frames_in};
use io::netns::Netns;
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
    /// How long the file has to rest until all is in it.
    still: Duration,
}

impl Tcpdump {
    /// Starts it on an interface of a host and waits until it captures.
    ///
    /// # Panics
    /// If it does not: ask [`crate::tool_or_skip`] first.
    pub fn start(host: &Host, interface: &str, path: &Path, expression: &str) -> Tcpdump {
        // Not in immediate mode: with packets of any length its ring has room for 128.
        Tcpdump::run(
            &host.netns,
            interface,
            path,
            &["-s", "0", "-B", "32768", expression],
            STILL_TCPDUMP,
        )
    }

    /// Starts it for packets of at most 2 KiB, on an interface in a namespace: it takes less than
    /// half the time to end.
    ///
    /// # Panics
    /// If it does not: ask [`crate::tool_or_skip`] first.
    pub fn start_in(netns: &Netns, interface: &str, path: &Path, expression: &str) -> Tcpdump {
        let words = ["--immediate-mode", "-s", "2048", "-B", "16384", expression];
        Tcpdump::run(netns, interface, path, &words, STILL)
    }

    fn run(
        netns: &Netns,
        interface: &str,
        path: &Path,
        words: &[&str],
        still: Duration,
    ) -> Tcpdump {
        let mut command = netns.command("tcpdump");
        // The folder is root's (-Z).
        command.args(["-n", "-U", "-Z", "root", "-i", interface, "-w"]).arg(path).args(words);
        let running = Running::start(&mut command);
        running.wait_for("listening on", PATIENCE);
        Tcpdump { running, path: path.into(), still }
    }

    /// Waits until nothing more comes, ends it, and gives what it wrote.
    ///
    /// # Panics
    /// If it lost packets, or the file is not whole.
    pub fn stop(self) -> Vec<Frame> {
        still(&self.path, self.still);
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
