//! The namespaces of the demo, and the two tapline processes in them.

use crate::failure::Failure;
use api::Stats;
use io::netns::Netns;
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

pub const SERVER: &str = "10.71.1.2";
const SINK: &str = "10.71.2.2";

/// How long a process may take to begin, to answer, and to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Three hosts, a tap and a sink.
pub struct Scene {
    pub client: Netns,
    pub server: Netns,
    /// Holds the sink's namespace open.
    _sink: Netns,
    mirror: Tapline,
    receive: Tapline,
    archive: PathBuf,
}

impl Scene {
    /// Makes the hosts and starts sink and tap, in this order.
    pub fn set_up(folder: &Path) -> Result<Scene, Failure> {
        let (client, server, sink) = (Netns::new()?, Netns::new()?, Netns::new()?);
        client.join("eth0", &server, "eth0")?;
        client.join("mir0", &sink, "eth0")?;
        client.ip("address add 10.71.1.1/24 dev eth0")?;
        server.ip(&format!("address add {SERVER}/24 dev eth0"))?;
        client.ip("address add 10.71.2.1/24 dev mir0")?;
        sink.ip(&format!("address add {SINK}/24 dev eth0"))?;

        let archive = folder.join("archive");
        let archive_text = archive.display().to_string();
        let words = ["receive", "--listen", "vxlan://0.0.0.0", "--archive", &archive_text];
        let receive = Tapline::start(&sink, &words, folder)?;
        let to = format!("vxlan://{SINK}?vni=71");
        let filter = format!("tcp port 80 and host {SERVER}");
        let mirror =
            Tapline::start(&client, &["mirror", "-i", "eth0", "--to", &to, &filter], folder)?;
        Ok(Scene { client, server, _sink: sink, mirror, receive, archive })
    }

    /// The folder that the sink writes its segments to.
    pub fn archive(&self) -> PathBuf {
        self.archive.clone()
    }

    /// The ledgers of tap and sink while they run.
    pub fn ledgers(&mut self) -> Result<(Stats, Stats), Failure> {
        Ok((self.mirror.ledger()?, self.receive.ledger()?))
    }

    /// Stops the tap, then the sink; gives their last ledgers.
    pub fn stop(&mut self) -> Result<(Stats, Stats), Failure> {
        let mirror = self.mirror.stop()?;
        // What the tap has sent last is still on its way.
        std::thread::sleep(Duration::from_millis(200));
        Ok((mirror, self.receive.stop()?))
    }
}

/// A tapline process. It ends with this one.
struct Tapline {
    name: String,
    child: Child,
    stats: PathBuf,
    log: PathBuf,
}

impl Tapline {
    fn start(host: &Netns, words: &[&str], folder: &Path) -> Result<Tapline, Failure> {
        let name = words[0].to_string();
        let failed = |what: &str, e: std::io::Error| {
            Failure::CouldNot(format!("{what} tapline {name}: {e}"))
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
            // Ctrl-C is for the demo, which stops the tap before the sink.
            .process_group(0)
            .stdin(Stdio::null())
            .stderr(log_file)
            .spawn()
            .map_err(|e| failed("start", e))?;
        let mut tapline = Tapline { name, child, stats, log };
        tapline.wait_for("listen", |tapline| tapline.said("listening on"))?;
        Ok(tapline)
    }

    fn said(&self, words: &str) -> bool {
        std::fs::read_to_string(&self.log).is_ok_and(|text| text.contains(words))
    }

    /// Asks for a ledger and waits for it.
    fn ledger(&mut self) -> Result<Stats, Failure> {
        let _ = std::fs::remove_file(&self.stats);
        self.signal(Signal::USR1)?;
        self.wait_for("write its ledger", |tapline| tapline.stats.exists())?;
        self.read_ledger()
    }

    fn stop(&mut self) -> Result<Stats, Failure> {
        self.signal(Signal::INT)?;
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let ended = self.child.try_wait().map_err(|e| self.failed(&e.to_string()))?;
            match ended {
                Some(status) if status.success() => return self.read_ledger(),
                Some(status) => return Err(self.failed(&format!("ended with {status}"))),
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        Err(self.failed("did not stop"))
    }

    fn read_ledger(&self) -> Result<Stats, Failure> {
        let text = std::fs::read(&self.stats).map_err(|e| self.failed(&e.to_string()))?;
        serde_json::from_slice(&text).map_err(|e| self.failed(&e.to_string()))
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| self.failed("has no process id"))?;
        kill_process(pid, signal).map_err(|e| self.failed(&e.to_string()))
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
