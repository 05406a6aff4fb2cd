//! A tapline process of the demo: started in a host, asked for its ledger, ended one way or another.

use crate::failure::Failure;
use api::Stats;
use io::netns::Netns;
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take to begin, to answer, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A tapline process. It ends with this one.
pub struct Tapline {
    name: String,
    child: Child,
    begun: Instant,
    stats: PathBuf,
    log: PathBuf,
}

/// What a process has used.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// How long it has run.
    pub lived: Duration,
    /// CPU time, in user space and in the kernel.
    pub cpu: Duration,
    /// The most memory it had at a time.
    pub memory_bytes_max: u64,
}

impl Tapline {
    /// Starts it in a host and waits until it takes packets. Ledger and log are files of its name.
    pub fn start(
        host: &Netns,
        name: &str,
        folder: &Path,
        words: &[&str],
        environment: &[(&str, String)],
    ) -> Result<Tapline, Failure> {
        let failed = |what: &str, e: std::io::Error| {
            Failure::CouldNot(format!("{what} the tapline {} of {name}: {e}", words[0]))
        };
        let stats = folder.join(format!("{name}.json"));
        let log = folder.join(format!("{name}.log"));
        let log_file = std::fs::File::create(&log).map_err(|e| failed("write the log of", e))?;
        let program = std::env::current_exe().map_err(|e| failed("find", e))?;
        let (command, rest) = words.split_at(1);
        let child = host
            .command(program)
            .args(command)
            .arg("--stats-json")
            .arg(&stats)
            .args(rest)
            .envs(environment.iter().map(|(key, value)| (key, value)))
            // Ctrl-C is for the demo, which stops the taps before the sinks.
            .process_group(0)
            .stdin(Stdio::null())
            .stderr(log_file)
            .spawn()
            .map_err(|e| failed("start", e))?;
        let name = format!("{} of {name}", words[0]);
        let mut tapline = Tapline { name, child, begun: Instant::now(), stats, log };
        tapline.wait_for("listen", |tapline| tapline.said("listening on"))?;
        Ok(tapline)
    }

    fn said(&self, words: &str) -> bool {
        std::fs::read_to_string(&self.log).is_ok_and(|text| text.contains(words))
    }

    /// The first line of its log that holds some words.
    pub fn log_line(&self, words: &str) -> Option<String> {
        let log = std::fs::read_to_string(&self.log).ok()?;
        log.lines().find(|line| line.contains(words)).map(String::from)
    }

    /// Asks for a ledger, which [`Self::ledger`] waits for: so several can be asked at once.
    pub fn ask(&self) -> Result<(), Failure> {
        let _ = std::fs::remove_file(&self.stats);
        self.signal(Signal::USR1)
    }

    /// The ledger that was asked for.
    pub fn ledger(&mut self) -> Result<Stats, Failure> {
        self.wait_for("write its ledger", |tapline| tapline.stats.exists())?;
        self.read_ledger()
    }

    /// Stops it; gives its last ledger, and what it has used.
    pub fn stop(mut self) -> Result<(Stats, Usage), Failure> {
        let usage = self.usage()?;
        self.signal(Signal::INT)?;
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let ended = self.child.try_wait().map_err(|e| self.failed(&e.to_string()))?;
            match ended {
                Some(status) if status.success() => return Ok((self.read_ledger()?, usage)),
                Some(status) => return Err(self.failed(&format!("ended with {status}"))),
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        Err(self.failed("did not stop"))
    }

    /// Ends it by SIGKILL, which leaves it no time for anything; gives what it has used.
    pub fn kill(mut self) -> Result<Usage, Failure> {
        let usage = self.usage()?;
        self.signal(Signal::KILL)?;
        self.child.wait().map_err(|e| self.failed(&e.to_string()))?;
        Ok(usage)
    }

    fn read_ledger(&self) -> Result<Stats, Failure> {
        let text = std::fs::read(&self.stats).map_err(|e| self.failed(&e.to_string()))?;
        serde_json::from_slice(&text).map_err(|e| self.failed(&e.to_string()))
    }

    /// Source: proc_pid_stat(5) and proc_pid_status(5).
    fn usage(&self) -> Result<Usage, Failure> {
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        let read = |name: &str| {
            std::fs::read_to_string(process.join(name)).map_err(|e| self.failed(&e.to_string()))
        };
        let (stat, status) = (read("stat")?, read("status")?);
        usage(&stat, &status, self.begun.elapsed())
            .ok_or_else(|| self.failed("has a /proc that cannot be understood"))
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        // Not yet waited for, so the id is still this process's.
        kill_process(Pid::from_child(&self.child), signal).map_err(|e| self.failed(&e.to_string()))
    }

    fn wait_for(&mut self, what: &str, done: impl Fn(&Tapline) -> bool) -> Result<(), Failure> {
        let begun = Instant::now();
        while !done(self) {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.failed(&format!("ended with {status}")));
            }
            if begun.elapsed() > PATIENCE {
                return Err(self.failed(&format!("did not {what}")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn failed(&self, why: &str) -> Failure {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        Failure::CouldNot(format!("tapline {} {why}\n{}", self.name, log.trim_end()))
    }
}

impl Drop for Tapline {
    fn drop(&mut self) {
        // Harmless if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn usage(stat: &str, status: &str, lived: Duration) -> Option<Usage> {
    // Behind the name, which may hold anything, stands the third field; utime is the 14th.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let cpu_ms = (ticks()? + ticks()?) * 1000 / rustix::param::clock_ticks_per_second().max(1);
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let peak_kib: u64 = peak.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(Usage { lived, cpu: Duration::from_millis(cpu_ms), memory_bytes_max: peak_kib << 10 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_used_is_read_from_proc() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 2 0 30 1000 20 0";
        let second = Duration::from_secs(1);
        let used = usage(stat, "Name:\tx\nVmHWM:\t    5120 kB\nVmRSS:\t 10 kB\n", second).unwrap();
        let ticks = rustix::param::clock_ticks_per_second();
        assert_eq!(used.cpu, Duration::from_millis(200_000 / ticks));
        assert_eq!(used.memory_bytes_max, 5 << 20);
        assert!(usage("7 (x) S 1", "VmHWM: 1 kB", second).is_none());
        assert!(usage(stat, "Name: x", second).is_none());
    }
}
