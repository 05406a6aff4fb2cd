//! The hosts of a broker, and those who can do its work.
//!
//! ```text
//! left                       tap                       far
//!   "tap" ──────────── "left"   "far" ──────────── "tap"      counted as they come in,
//!   "tap2" ─────────── "left2"  "far2" ─────────── "tap2"     or read out of rings
//! ```

use super::super::contest::run_all;
use super::super::process::{cpu_ns, pin};
use super::super::{GENERATOR_CORE, process, to_nobody, words};
use super::far::{Arrived, Far};
use super::stream::Stream;
use anyhow::Context;
use rig::{Host, Running, Topology};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const PORT: u16 = 9;
/// Size of each of tapline's rings where its speed is looked for: so small that a reader who is too slow
/// is found out in a run. One that is not is to bridge the pauses of a busy machine.
const RING: &str = ",buffer_size=16MiB";
const BEGIN: Duration = Duration::from_secs(10);
const SETTLE: Duration = Duration::from_millis(200);
const END: Duration = Duration::from_secs(60);
/// Far ends that count nothing more for so long have got all that they will get.
const STILL: Duration = Duration::from_secs(2);
const STILL_MAX: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);

/// How many sources and targets there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    pub sources: usize,
    pub targets: usize,
}

impl Way {
    pub const ALL: [Way; 3] = [
        Way { sources: 1, targets: 1 },
        Way { sources: 1, targets: 2 },
        Way { sources: 2, targets: 1 },
    ];

    /// Its name in the table.
    pub fn name(self) -> String {
        let what = if self.sources > 1 { "aggregate" } else { "replicate" };
        format!("{what} {}→{}", self.sources, self.targets)
    }

    fn sources(self) -> &'static [&'static str] {
        &["left", "left2"][..self.sources]
    }

    fn targets(self) -> &'static [&'static str] {
        &["far", "far2"][..self.targets]
    }
}

/// Who does a broker's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Tapline,
    /// The kernel: tc's mirred on what comes in.
    Kernel,
    /// Nobody: what sending alone costs.
    Nobody,
}

impl Subject {
    pub fn name(self) -> &'static str {
        match self {
            Subject::Tapline => "tapline",
            Subject::Kernel => "tc mirred",
            Subject::Nobody => "(nothing)",
        }
    }
}

/// The hosts, up.
pub struct Scene<'a> {
    tapline: &'a Path,
    net: Topology,
    /// Where the generator sends to, for each source.
    to: [SocketAddr; 2],
}

/// What one run gave.
#[derive(Debug)]
pub struct Run {
    /// Packets that were offered to the broker.
    pub offered: u64,
    /// Those that arrived at the far end that got fewest.
    pub arrived: u64,
    /// Packets a second that the generator reached.
    pub pps: u64,
    /// ns a packet: of the generator's system calls, and of the program.
    pub sender_ns: f64,
    pub program_ns: f64,
    /// What was read at each far end, if asked for.
    pub far: Vec<Arrived>,
}

impl<'a> Scene<'a> {
    /// Builds it.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn build(tapline: &'a Path) -> anyhow::Result<Scene<'a>> {
        let net = Topology::line(["left", "tap", "far"]).offloads_off("left", "tap").build();
        let (left, tap, far) = (net.host("left"), net.host("tap"), net.host("far"));
        left.netns.join("tap2", &tap.netns, "left2")?;
        tap.netns.join("far2", &far.netns, "tap2")?;
        left.ip("addr add 10.71.9.1/24 dev tap2");
        run_all(&[(left, words("ethtool -K tap2 tso off gso off gro off tx off rx off"))])?;
        let to = [
            to_nobody(left, "tap", "10.71.0.9", PORT)?,
            to_nobody(left, "tap2", "10.71.9.9", PORT)?,
        ];
        std::thread::sleep(SETTLE);
        Ok(Scene { tapline, net, to })
    }

    /// Why a subject cannot take part, if it cannot.
    pub fn why_not(&self, subject: Subject) -> Option<String> {
        if subject != Subject::Kernel {
            return None;
        }
        if !process::is_installed("tc", "-V") {
            return Some("tc is not installed (iproute2)".into());
        }
        let way = Way { sources: 2, targets: 2 };
        let tried = self.kernel(way).map_err(|why| why.to_string().replace('\n', " "));
        self.end_kernel(way);
        tried.err()
    }

    /// Has a subject carry a stream. With `reads` the far ends are read too, and the stream must fit
    /// into their rings.
    ///
    /// # Errors
    /// If something cannot be set up or measured.
    pub fn run(
        &self,
        (way, subject): (Way, Subject),
        stream: Stream,
        reads: bool,
    ) -> anyhow::Result<Run> {
        let far = self.net.host("far");
        let ends: &[&str] = &["tap", "tap2"][..way.targets];
        let program = match subject {
            Subject::Tapline => {
                let program = Running::start(&mut self.broker(way, if reads { "" } else { RING }));
                program.wait_for("listening on", BEGIN);
                std::thread::sleep(SETTLE);
                Some(program)
            }
            Subject::Kernel => self.kernel(way).map(|()| None)?,
            Subject::Nobody => None,
        };
        let rings = match reads {
            true => ends.iter().map(|end| Far::open(far, end)).collect::<Result<_, _>>()?,
            false => Vec::new(),
        };
        let cpu_before = program.as_ref().map(|p| cpu_ns(p.id())).transpose()?;
        let far_before = far_packets(far, ends);
        let lost_before = self.lost_in_front();
        let to = &self.to[..way.sources];
        let sent = self.net.host("left").netns.run(|| {
            pin(GENERATOR_CORE);
            stream.send(to)
        })??;
        let lost = self.lost_in_front() - lost_before;
        let offered = sent.accepted - lost;
        let enough: Vec<u64> = far_before.iter().map(|before| before + offered).collect();
        let far_after = wait_for(far, ends, &enough);
        let mut cpu = 0;
        if let (Some(program), Some(before)) = (&program, cpu_before) {
            cpu = cpu_ns(program.id())? - before;
        }
        let rings: Vec<Arrived> =
            rings.into_iter().map(|ring| ring.read(&stream, to.len())).collect::<Result<_, _>>()?;
        if let Some(program) = program {
            let finished = program.stop(END);
            anyhow::ensure!(finished.status.success(), "it failed:\n{}", finished.stderr);
        }
        if subject == Subject::Kernel {
            self.end_kernel(way);
        }
        let arrived = far_after.iter().zip(&far_before).map(|(after, before)| after - before).min();
        let each = |ns: u64| ns as f64 / sent.accepted.max(1) as f64;
        Ok(Run {
            offered,
            arrived: arrived.context("there is a far end")?,
            pps: (sent.accepted as f64 / sent.elapsed.as_secs_f64().max(1e-9)) as u64,
            sender_ns: each(sent.send_ns),
            program_ns: each(cpu),
            far: rings,
        })
    }

    /// Packets that did not even come to the broker: the generator's devices count what the other
    /// end does not take.
    fn lost_in_front(&self) -> u64 {
        let left = self.net.host("left");
        ["tap", "tap2"].iter().map(|device| left.counter(device, "tx", "dropped")).sum()
    }

    /// The command of tapline.
    fn broker(&self, way: Way, ring: &str) -> Command {
        let mut command = self.net.host("tap").netns.command(self.tapline);
        command.arg("broker");
        way.sources().iter().for_each(|source| {
            command.args(["--in", &format!("nic:{source},direction=in{ring}")]);
        });
        way.targets().iter().for_each(|target| {
            command.args(["--out", &format!("nic:{target}")]);
        });
        command
    }

    /// Has the kernel mirror what comes in.
    fn kernel(&self, way: Way) -> anyhow::Result<()> {
        let tap = self.net.host("tap");
        let mut commands = Vec::new();
        for source in way.sources() {
            commands.push((tap, words(&format!("tc qdisc add dev {source} clsact"))));
            // A classic BPF program of one instruction, `return all`: of the classifiers that take
            // every packet it is the one that most kernels have.
            let mut filter = words(&format!("tc filter add dev {source} ingress bpf bytecode"));
            filter.push("1,6 0 0 4294967295".into());
            for target in way.targets() {
                filter.extend(words(&format!("action mirred egress mirror dev {target}")));
            }
            commands.push((tap, filter));
        }
        run_all(&commands)
    }

    fn end_kernel(&self, way: Way) {
        for source in way.sources() {
            // Whatever of it was not made cannot be removed.
            let command = words(&format!("tc qdisc del dev {source} clsact"));
            let _ = run_all(&[(self.net.host("tap"), command)]);
        }
    }
}

fn far_packets(far: &Host, ends: &[&str]) -> Vec<u64> {
    ends.iter().map(|end| far.counter(end, "rx", "packets")).collect()
}

/// Waits until the far ends' counters are at `enough`, or nothing more arrives; gives them then.
fn wait_for(far: &Host, ends: &[&str], enough: &[u64]) -> Vec<u64> {
    let end = Instant::now() + STILL_MAX;
    let (mut last, mut since) = (far_packets(far, ends), Instant::now());
    let lacks = |counts: &[u64]| counts.iter().zip(enough).any(|(count, enough)| count < enough);
    while lacks(&last) && since.elapsed() < STILL && Instant::now() < end {
        std::thread::sleep(LOOK);
        let now = far_packets(far, ends);
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    last
}
