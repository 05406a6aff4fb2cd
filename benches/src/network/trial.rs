//! The CPU that a way of doing something adds to traffic: taken in turn, run by run.
//!
//! What is added is what a run takes above one in which nobody does anything: of the traffic's own
//! system calls, in which its way through the kernel runs; of the kernel's threads; and of the program.

use super::contest::run_all;
use super::generator::Load;
use super::meter::{cpus, idle_ns, put_off_ns};
use super::process::{cpu_ns, cpu_ns_calm, pin};
use super::tcp::Stream;
use super::{GENERATOR_CORE, why_not};
use crate::row::{Row, Traffic, Unit, median_count, table};
use crate::timing::median;
use anyhow::Context;
use rig::{Host, Running};
use std::any::Any;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

/// Until a program that says that it is ready has nothing more to prepare.
const SETTLE: Duration = Duration::from_millis(200);
const BEGIN: Duration = Duration::from_secs(40);
const END: Duration = Duration::from_secs(60);
/// A sink that counts nothing more for so long has got all that it will get.
const STILL: Duration = Duration::from_millis(150);
/// How often the traffic passes each time that a subject has been set up.
const PASSES: usize = 3;
/// The share of the machine's time that is idle while nothing is done, from which on what the whole
/// machine takes says something.
const IDLE_MIN: f64 = 0.4;

/// Commands, each on a host.
pub type Commands<'a> = Vec<(&'a Host, Vec<String>)>;

/// A shell's script on a host.
pub fn script<'a>(host: &'a Host, text: &str) -> Commands<'a> {
    vec![(host, ["sh", "-ec", text].map(String::from).into())]
}

/// What passes.
#[derive(Clone, Copy)]
pub enum Passing<'a> {
    /// Datagrams from a host.
    Datagrams(&'a Host, Load),
    /// A stream from a host to another.
    Stream(&'a Host, &'a Host, Stream),
}

/// What passed.
struct Passed {
    packets: u64,
    cpu_ns: u64,
    elapsed: Duration,
}

impl Passing<'_> {
    fn pass(&self, to: SocketAddr) -> anyhow::Result<Passed> {
        match *self {
            Passing::Datagrams(from, load) => {
                let send = || {
                    pin(GENERATOR_CORE);
                    load.send(to)
                };
                let sent = from.netns.run(send)??;
                Ok(Passed { packets: sent.accepted, cpu_ns: sent.send_ns, elapsed: sent.elapsed })
            }
            Passing::Stream(from, at, stream) => {
                let sent = stream.send(&from.netns, &at.netns, to)?;
                Ok(Passed { packets: sent.segments, cpu_ns: sent.cpu_ns, elapsed: sent.elapsed })
            }
        }
    }
}

/// Makes the command of a program.
pub type Start<'a> = Box<dyn Fn() -> Command + 'a>;
/// Makes what does something as long as it is held.
pub type Hold<'a> = Box<dyn Fn() -> anyhow::Result<Box<dyn Any>> + 'a>;

/// One way to do it.
pub struct Subject<'a> {
    /// Its name in the table.
    pub name: String,
    /// The program; `None`: there is none, the kernel does it.
    pub command: Option<Start<'a>>,
    /// What this program holds instead.
    pub hold: Option<Hold<'a>>,
    /// What it says on standard error when it is ready.
    pub ready: &'a str,
    /// What sets it up, and what removes it.
    pub set_up: Commands<'a>,
    pub take_down: Commands<'a>,
    /// Where the traffic goes to.
    pub to: SocketAddr,
    /// How often each packet is to arrive at the sink.
    pub copies: u64,
    /// Why it cannot take part, if it cannot.
    pub absent: Option<String>,
}

impl<'a> Subject<'a> {
    /// Nobody does anything.
    pub fn nothing(to: SocketAddr) -> Subject<'a> {
        Subject {
            name: "(nothing)".into(),
            command: None,
            hold: None,
            ready: "",
            set_up: Vec::new(),
            take_down: Vec::new(),
            to,
            copies: 0,
            absent: None,
        }
    }

    /// The kernel does it, told by scripts.
    pub fn kernel(name: &str, to: SocketAddr, host: &'a Host, up: &str, down: &str) -> Subject<'a> {
        let (set_up, take_down) = (script(host, up), script(host, down));
        Subject { name: name.into(), set_up, take_down, copies: 1, ..Subject::nothing(to) }
    }

    /// A program does it.
    pub fn program(name: &str, to: SocketAddr, start: impl Fn() -> Command + 'a) -> Subject<'a> {
        let command: Start<'a> = Box::new(start);
        let (name, ready) = (name.into(), "listening on");
        Subject { name, command: Some(command), ready, copies: 1, ..Subject::nothing(to) }
    }

    /// One whose packets arrive several times.
    pub fn copies(self, copies: u64) -> Subject<'a> {
        Subject { copies, ..self }
    }

    /// One that needs a program of the system.
    pub fn needs(self, program: &str) -> Subject<'a> {
        let absent = self.absent.clone().or_else(|| why_not(program));
        Subject { absent, ..self }
    }

    /// Tries its commands out: kernels differ in what they can do.
    pub fn tried(self) -> Subject<'a> {
        if self.absent.is_some() {
            return self;
        }
        let tried = run_all(&self.set_up);
        // What was not made cannot be removed.
        let _ = run_all(&self.take_down);
        let absent =
            tried.err().map(|why| why.to_string().lines().next().unwrap_or_default().to_owned());
        Subject { absent, ..self }
    }
}

impl Subject<'_> {
    /// Sets it up, has something measured, and removes it.
    ///
    /// # Errors
    /// If a command fails, or the program in the end, or the measuring.
    ///
    /// # Panics
    /// If the program does not get ready.
    pub fn while_it_runs<R>(
        &self,
        measure: impl FnOnce(Option<&Running>) -> anyhow::Result<R>,
    ) -> anyhow::Result<R> {
        run_all(&self.set_up)?;
        let program = self.command.as_ref().map(|command| {
            let program = Running::start(&mut command());
            program.wait_for(self.ready, BEGIN);
            std::thread::sleep(SETTLE);
            program
        });
        let held = self.hold.as_ref().map(|hold| hold()).transpose()?;
        let measured = measure(program.as_ref());
        drop(held);
        if let Some(program) = program {
            let finished = program.stop(END);
            anyhow::ensure!(finished.status.success(), "it failed:\n{}", finished.stderr);
        }
        run_all(&self.take_down)?;
        measured
    }
}

/// A case, with all that take part in it. The last one does nothing.
pub struct Trial<'a> {
    pub bench: &'a str,
    pub case: String,
    pub passing: Passing<'a>,
    pub runs: usize,
    /// Whom the others are compared with.
    pub peer: &'a str,
    /// Where what was made of the packets is counted.
    pub sink: (&'a Host, &'a str),
    pub subjects: Vec<Subject<'a>>,
}

/// What one run gave.
#[derive(Debug, Clone, Copy)]
struct Run {
    packets: u64,
    arrived: u64,
    /// ns a packet: of all, of the traffic's system calls, of the program, and of the whole machine.
    all_ns: f64,
    passing_ns: f64,
    program_ns: f64,
    machine_ns: f64,
    /// The share of the machine's time that was idle.
    idle: f64,
    pps: u64,
}

impl Trial<'_> {
    /// Runs everyone in turn, as often as asked for.
    ///
    /// # Errors
    /// If something cannot be set up or measured; a program that misbehaves panics in the rig.
    pub fn run(&self) -> anyhow::Result<Vec<Row>> {
        eprintln!("bench: {}, {}", self.bench, self.case);
        let mut runs: Vec<Vec<Run>> = vec![Vec::new(); self.subjects.len()];
        for _ in 0..self.runs {
            for (subject, runs) in self.subjects.iter().zip(&mut runs) {
                if subject.absent.is_none() {
                    let what = || format!("{}, {}: {}", self.bench, self.case, subject.name);
                    runs.extend(self.run_one(subject).with_context(what)?);
                }
            }
        }
        let nothing = runs.last().context("someone takes part")?;
        let mut rows: Vec<Row> = self
            .subjects
            .iter()
            .zip(&runs)
            .map(|(subject, runs)| self.row(subject, runs, nothing))
            .collect();
        let peer = rows.iter().find(|row| row.subject == self.peer).and_then(|row| row.median);
        for row in rows.iter_mut().filter(|row| row.subject != self.peer) {
            row.to_peer = row.median.zip(peer).map(|(own, peer)| own / peer);
        }
        // A case takes a minute, and all of them half an hour.
        eprint!("{}", table(&rows));
        Ok(rows)
    }

    fn row(&self, subject: &Subject<'_>, runs: &[Run], nothing: &[Run]) -> Row {
        let skipped =
            |why| Row::skipped(self.bench, &self.case, &subject.name, Unit::NsPerPacket, why);
        if let why @ Some(_) = subject.absent.clone() {
            return skipped(why);
        }
        let median_of = |runs: &[Run], value: fn(&Run) -> f64| {
            median(&runs.iter().map(value).collect::<Vec<_>>()).unwrap_or(0.0)
        };
        let least = |runs: &[Run]| runs.iter().map(|run| run.all_ns).reduce(f64::min);
        let base = median_of(nothing, |run| run.all_ns);
        let offered = |run: &Run| run.packets * subject.copies;
        let dropped = |run: &Run| offered(run).saturating_sub(run.arrived);
        let does_nothing = std::ptr::eq(runs, nothing);
        let machine = match median_of(nothing, |run| run.idle) > IDLE_MIN {
            true => format!(
                ", {:.0} by the idle time of the machine",
                median_of(runs, |run| run.machine_ns) - median_of(nothing, |run| run.machine_ns)
            ),
            false => String::new(),
        };
        let note = match does_nothing {
            true => format!("what the traffic costs by itself: {base:.0} ns"),
            false => {
                let program = median_of(runs, |run| run.program_ns);
                format!("{program:.0} of it in the program{machine}")
            }
        };
        Row {
            median: Some(median_of(runs, |run| run.all_ns) - base).filter(|_| !does_nothing),
            best: least(runs).zip(least(nothing)).map(|(a, b)| a - b).filter(|_| !does_nothing),
            each: runs.iter().filter(|_| !does_nothing).map(|run| run.all_ns - base).collect(),
            traffic: Some(Traffic {
                offered: median_count(runs.iter().map(offered)),
                captured: median_count(runs.iter().map(|run| run.arrived)),
                dropped: median_count(runs.iter().map(dropped)),
                dropped_worst: runs.iter().map(dropped).max().unwrap_or(0),
                sender_ns: median_of(runs, |run| run.passing_ns),
                pps: median_count(runs.iter().map(|run| run.pps)),
            }),
            note: Some(note),
            ..skipped(None)
        }
    }

    fn run_one(&self, subject: &Subject<'_>) -> anyhow::Result<Vec<Run>> {
        let measured = |program: Option<&Running>| {
            (0..PASSES).map(|_| self.measure(subject, program)).collect()
        };
        subject.while_it_runs(measured)
    }

    fn measure(&self, subject: &Subject<'_>, program: Option<&Running>) -> anyhow::Result<Run> {
        let (sink, interface) = self.sink;
        let arrived = || sink.counter(interface, "rx", "packets");
        let arrived_before = arrived();
        let program_before = program.map(|p| cpu_ns(p.id())).transpose()?;
        let (put_off_before, idle_before, start) = (put_off_ns()?, idle_ns()?, Instant::now());
        let passed = self.passing.pass(subject.to)?;
        let (idle, elapsed) = (idle_ns()? - idle_before, start.elapsed());
        let program_ns = match (program, program_before) {
            (Some(program), Some(before)) => cpu_ns_calm(program.id())? - before,
            _ => 0,
        };
        let mut arrived_after = arrived();
        loop {
            std::thread::sleep(STILL);
            let now = arrived();
            if now == std::mem::replace(&mut arrived_after, now) {
                break;
            }
        }
        let put_off = put_off_ns()? - put_off_before;
        let each = |ns: u64| ns as f64 / passed.packets.max(1) as f64;
        let machine = u64::try_from(elapsed.as_nanos())? * cpus()?;
        Ok(Run {
            packets: passed.packets,
            arrived: arrived_after - arrived_before,
            all_ns: each(passed.cpu_ns + put_off + program_ns),
            passing_ns: each(passed.cpu_ns),
            program_ns: each(program_ns),
            machine_ns: each(machine.saturating_sub(idle)),
            idle: idle as f64 / machine as f64,
            pps: (passed.packets as f64 / passed.elapsed.as_secs_f64().max(1e-9)) as u64,
        })
    }
}
