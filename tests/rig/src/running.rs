//! A program that runs beside the test, and the ledger that a tapline writes.

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Reads the ledger that `--stats-json` wrote.
///
/// # Panics
/// If the file is missing or is not of that form.
pub fn stats(path: impl AsRef<Path>) -> api::Stats {
    let path = path.as_ref();
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}\n{text}", path.display()))
}

/// Waits until something holds, looking every 5 ms.
///
/// # Panics
/// If the time is over first.
pub fn wait_until(what: &str, timeout: Duration, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + timeout;
    while !holds() {
        assert!(Instant::now() < end, "not in {timeout:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A program that was started. Dropped, it is killed.
pub struct Running {
    name: String,
    child: Child,
    /// Lines of standard error that [`Self::wait_for`] has not taken yet.
    lines: Receiver<String>,
    /// What was taken, for messages and for the end.
    said: std::cell::RefCell<String>,
    stdout: Option<JoinHandle<Vec<u8>>>,
}

/// How a program ended, and all that it printed.
#[derive(Debug)]
pub struct Finished {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Running {
    /// Starts a program without input; what it prints is kept in memory. Without
    /// [`io::netns::Netns::command`] it runs in the calling thread's namespace; with it, it is also
    /// killed when the calling thread ends.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(command: &mut Command) -> Running {
        let name = command.get_program().to_string_lossy().into_owned();
        let pipes = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap_or_else(|e| panic!("{name} cannot be started: {e}"));
        let mut stdout = child.stdout.take().expect("piped above");
        let stdout = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // A pipe of a child that is gone ends; what came before is what there is.
            let _ = stdout.read_to_end(&mut bytes);
            bytes
        });
        let mut stderr = BufReader::new(child.stderr.take().expect("piped above"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut line = Vec::new();
            while stderr.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Running { name, child, lines, said: String::new().into(), stdout: Some(stdout) }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line on standard error that contains a text, and returns it. Lines before it
    /// are passed over; each line is looked at by one call.
    ///
    /// # Panics
    /// If the program ends first, or the time is over; with all that it said.
    pub fn wait_for(&self, text: &str, timeout: Duration) -> String {
        let end = Instant::now() + timeout;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let why = match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.said.borrow_mut().push_str(&line);
                    if line.contains(text) {
                        return line;
                    }
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => format!("in {timeout:?}"),
                Err(RecvTimeoutError::Disconnected) => "until it ended".into(),
            };
            panic!("{} did not say `{text}` {why}; it said:\n{}", self.name, self.said.borrow());
        }
    }

    /// Sends a signal, for example [`Signal::USR1`].
    ///
    /// # Panics
    /// If the program was already waited for.
    pub fn signal(&self, signal: Signal) {
        // Not yet waited for, so the id is still this program's, also if it has ended.
        kill_process(Pid::from_child(&self.child), signal)
            .unwrap_or_else(|e| panic!("{signal:?} to {}: {e}", self.name));
    }

    /// Asks a tapline for its ledger by SIGUSR1, and reads it from its `--stats-json` file.
    ///
    /// # Panics
    /// If the file does not come in time, or is not a ledger.
    pub fn ledger(&self, path: impl AsRef<Path>, timeout: Duration) -> api::Stats {
        // There may be none yet.
        let _ = std::fs::remove_file(&path);
        self.signal(Signal::USR1);
        let what = format!("{} writes its ledger", self.name);
        wait_until(&what, timeout, || path.as_ref().exists());
        stats(path)
    }

    /// Waits until the program ends.
    ///
    /// # Panics
    /// If it does not in time; it is then killed.
    pub fn finish(mut self, timeout: Duration) -> Finished {
        let end = Instant::now() + timeout;
        let status = loop {
            match self.child.try_wait().expect("a child that was not waited for") {
                Some(status) => break status,
                None if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
                None => {
                    let _ = self.child.kill();
                    let stderr = self.rest_of_stderr();
                    panic!("{} did not end in {timeout:?}; it said:\n{stderr}", self.name);
                }
            }
        };
        let stdout = self.stdout.take().expect("taken here only");
        let stdout = stdout.join().expect("reading does not panic");
        Finished { status, stdout, stderr: self.rest_of_stderr() }
    }

    /// Interrupts the program (SIGINT) and waits until it ends.
    ///
    /// # Panics
    /// If it does not in time; it is then killed.
    pub fn stop(self, timeout: Duration) -> Finished {
        self.signal(Signal::INT);
        self.finish(timeout)
    }

    fn rest_of_stderr(&self) -> String {
        let mut said = self.said.take();
        // A grandchild may hold the pipe open: what it says later is nobody's.
        while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(500)) {
            said.push_str(&line);
        }
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a program that has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scratch;

    const SOON: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Running {
        // A shell cannot trap a signal that was ignored when it began, as in a job in the background.
        Running::start(Command::new("env").args(["--default-signal=INT", "sh", "-c", script]))
    }

    #[test]
    fn a_program_is_waited_for_interrupted_and_heard_to_the_end() {
        let script = "trap 'echo caught >&2; echo out; exit 3' INT; echo one >&2; echo ready 7 >&2;
                      while :; do sleep 0.05; done";
        let running = shell(script);
        assert_eq!(running.wait_for("ready", SOON), "ready 7\n");
        let finished = running.stop(SOON);
        assert_eq!(finished.status.code(), Some(3));
        assert_eq!(finished.stdout, b"out\n");
        assert_eq!(finished.stderr, "one\nready 7\ncaught\n");
    }

    #[test]
    #[should_panic(expected = "did not say `ready` until it ended; it said:\nno such thing\n")]
    fn a_program_that_ends_early_is_quoted() {
        shell("echo no such thing >&2").wait_for("ready", SOON);
    }

    #[test]
    #[should_panic(expected = "did not say `ready` in 100ms; it said:\nslow\n")]
    fn a_program_that_says_nothing_is_given_up() {
        let running = shell("echo slow >&2; exec sleep 30");
        running.wait_for("slow", SOON);
        running.wait_for("ready", Duration::from_millis(100));
    }

    #[test]
    #[should_panic(expected = "did not end in 100ms")]
    fn a_program_that_does_not_end_is_killed() {
        shell("exec sleep 30").finish(Duration::from_millis(100));
    }

    #[test]
    fn a_dropped_program_is_gone() {
        let running = shell("exec sleep 30");
        let process = format!("/proc/{}", running.id());
        assert!(Path::new(&process).exists());
        drop(running);
        assert!(!Path::new(&process).exists());
    }

    #[test]
    fn a_ledger_is_read_back() {
        let scratch = Scratch::new("rig-stats");
        let path = scratch.path("stats.json");
        let written = api::Stats::new(vec![], vec![], vec![]);
        std::fs::write(&path, serde_json::to_string(&written).unwrap()).unwrap();
        assert_eq!(stats(&path), written);
    }
}
