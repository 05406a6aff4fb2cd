//! Several ways to do the same with the same packets: taken in turn, run by run.

use super::generator::{Load, Tunnel};
use super::process::{cpu_ns, cpu_ns_at_rest, pin};
use super::{GENERATOR_CORE, Stage};
use crate::row::{Row, Traffic, Unit, compare, median_count};
use crate::timing::median;
use anyhow::Context;
use rig::{Host, Running};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Until a program that says that it listens has nothing more to prepare.
const SETTLE: Duration = Duration::from_millis(200);
/// How long a program may take to begin, and to end.
const BEGIN: Duration = Duration::from_secs(10);
const END: Duration = Duration::from_secs(60);

/// Where a contestant's packets are counted. Neither place asks the contestant.
pub enum Counted<'a> {
    /// By their numbers, in the file that it wrote.
    File,
    /// All that came in at an interface of a host.
    Interface(&'a Host, &'a str),
    /// Nowhere: it only shows what sending costs.
    No,
}

/// Makes the command of a program that writes to a file.
pub type Start<'a> = Box<dyn Fn(&Path) -> Command + 'a>;

/// One way to do it.
pub struct Contestant<'a> {
    /// Its name in the table.
    pub subject: &'a str,
    /// The program; `None`: there is none, the kernel does it.
    pub command: Option<Start<'a>>,
    /// What it says on standard error when it is ready.
    pub ready: &'a str,
    /// `ip` and `tc` commands on a host that set it up, and that remove it.
    pub set_up: Vec<(&'a Host, Vec<String>)>,
    pub take_down: Vec<(&'a Host, Vec<String>)>,
    /// Where the generator sends to.
    pub to: SocketAddr,
    /// Where its packets are counted.
    pub counted: Counted<'a>,
}

impl<'a> Contestant<'a> {
    /// One that needs no set-up and runs no program.
    pub fn new(subject: &'a str, to: SocketAddr, counted: Counted<'a>) -> Contestant<'a> {
        let (set_up, take_down) = (Vec::new(), Vec::new());
        let ready = "listening on";
        Contestant { subject, command: None, ready, set_up, take_down, to, counted }
    }

    /// Lets it run a program.
    pub fn running(self, start: impl Fn(&Path) -> Command + 'a) -> Contestant<'a> {
        Contestant { command: Some(Box::new(start)), ..self }
    }

    /// One that says something of its own when it is ready.
    pub fn ready_when_it_says(self, ready: &'a str) -> Contestant<'a> {
        Contestant { ready, ..self }
    }
}

/// A case, with all that take part in it; the first two are compared.
pub struct Contest<'a> {
    pub bench: &'a str,
    pub case: String,
    pub load: Load,
    pub runs: usize,
    /// Sends the packets, by this interface.
    pub sender: (&'a Host, &'a str),
    pub contestants: &'a [Contestant<'a>],
    /// Add what the sender's system calls cost more than with the last contestant, which does
    /// nothing, to the program's own time.
    pub with_sender: bool,
    /// Where files are written.
    pub folder: &'a Path,
}

/// What one run gave.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Packets offered that were to be captured.
    pub offered: u64,
    /// Those that were.
    pub captured: u64,
    /// ns a packet, of all that were sent: of the sender's system calls, and of the program.
    sender_ns: f64,
    program_ns: f64,
    /// Packets a second that the sender reached.
    pub pps: u64,
}

impl Contest<'_> {
    /// Runs everyone in turn, as often as asked for.
    ///
    /// # Errors
    /// If something cannot be set up or measured; a program that misbehaves panics in the rig.
    pub fn run(&self) -> anyhow::Result<Vec<Row>> {
        let mut runs: Vec<Vec<Run>> = vec![Vec::new(); self.contestants.len()];
        for _ in 0..self.runs {
            for (contestant, runs) in self.contestants.iter().zip(&mut runs) {
                let what = || format!("{}, {}: {}", self.bench, self.case, contestant.subject);
                runs.push(self.run_one(contestant).with_context(what)?);
            }
        }
        let baseline = runs.last().filter(|_| self.with_sender);
        let baseline_ns = baseline.and_then(|runs| median_of(runs, |run| run.sender_ns));
        let mut rows: Vec<Row> = self
            .contestants
            .iter()
            .zip(&runs)
            .map(|(contestant, runs)| self.row(contestant, runs, baseline_ns))
            .collect();
        compare(&mut rows);
        Ok(rows)
    }

    fn row(&self, contestant: &Contestant<'_>, runs: &[Run], baseline_ns: Option<f64>) -> Row {
        let cost = |run: &Run| {
            run.program_ns + baseline_ns.map_or(0.0, |baseline| run.sender_ns - baseline)
        };
        let dropped = |run: &Run| match contestant.counted {
            Counted::No => 0,
            _ => run.offered.saturating_sub(run.captured),
        };
        let is_baseline = matches!(contestant.counted, Counted::No);
        let least = runs.iter().map(cost).reduce(f64::min);
        let duplicates = runs.iter().any(|run| run.captured > run.offered);
        let note = match (is_baseline, baseline_ns.is_some()) {
            (true, _) => Some("what sending alone costs stands under sender ns".into()),
            (false, true) => Some(format!(
                "{:.0} of it in the program",
                median_of(runs, |run| run.program_ns).unwrap_or(0.0)
            )),
            _ if duplicates => Some("more packets than were sent".into()),
            _ if self.load.pps.is_none() => Some(format!(
                "sender reached {} kpps",
                median_count(runs.iter().map(|run| run.pps)) / 1000
            )),
            _ => None,
        };
        Row {
            median: median_of(runs, cost).filter(|_| !is_baseline),
            best: least.filter(|_| !is_baseline),
            each: runs.iter().filter(|_| !is_baseline).map(cost).collect(),
            traffic: Some(Traffic {
                offered: median_count(runs.iter().map(|run| run.offered)),
                captured: median_count(runs.iter().map(|run| run.captured)),
                dropped: median_count(runs.iter().map(dropped)),
                dropped_worst: runs.iter().map(dropped).max().unwrap_or(0),
                sender_ns: median_of(runs, |run| run.sender_ns).unwrap_or(0.0),
                pps: median_count(runs.iter().map(|run| run.pps)),
            }),
            note,
            ..Row::skipped(self.bench, &self.case, contestant.subject, Unit::NsPerPacket, None)
        }
    }

    /// Runs one of the contestants once.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_one(&self, contestant: &Contestant<'_>) -> anyhow::Result<Run> {
        run_all(&contestant.set_up)?;
        let run = self.measure(contestant);
        run_all(&contestant.take_down)?;
        run
    }

    fn measure(&self, contestant: &Contestant<'_>) -> anyhow::Result<Run> {
        let file = self.folder.join("packets");
        let program = contestant.command.as_ref().map(|command| {
            let program = Running::start(&mut command(&file));
            program.wait_for(contestant.ready, BEGIN);
            std::thread::sleep(SETTLE);
            program
        });
        let cpu_before = program.as_ref().map(|p| cpu_ns(p.id())).transpose()?;
        let far_before = far_packets(&contestant.counted);
        let (host, interface) = self.sender;
        let lost_before = host.counter(interface, "tx", "dropped");
        let (load, to) = (self.load, contestant.to);
        let sent = host.netns.run(|| {
            pin(GENERATOR_CORE);
            load.send(to)
        })??;
        let lost = host.counter(interface, "tx", "dropped") - lost_before;
        let mut cpu = 0;
        if let (Some(program), Some(before)) = (&program, cpu_before) {
            cpu = cpu_ns_at_rest(program.id())? - before;
        }
        let far = far_packets(&contestant.counted) - far_before;
        if let Some(program) = program {
            let finished = program.stop(END);
            anyhow::ensure!(finished.status.success(), "it failed:\n{}", finished.stderr);
        }
        let captured = match contestant.counted {
            Counted::File => {
                let captured = distinct(rig::numbers_in(&file));
                std::fs::remove_file(&file).with_context(|| file.display().to_string())?;
                captured
            }
            Counted::Interface(..) => far,
            Counted::No => 0,
        };
        let each = |ns: u64, packets: u64| ns as f64 / packets.max(1) as f64;
        let ports = u64::from(load.ports);
        Ok(Run {
            offered: if ports == 1 { sent.accepted - lost } else { load.to_first_port() },
            captured,
            sender_ns: each(sent.send_ns, sent.accepted),
            program_ns: each(cpu, captured * ports),
            pps: (sent.accepted as f64 / sent.elapsed.as_secs_f64().max(1e-9)) as u64,
        })
    }
}

fn median_of(runs: &[Run], value: impl Fn(&Run) -> f64) -> Option<f64> {
    median(&runs.iter().map(value).collect::<Vec<_>>())
}

fn distinct(mut numbers: Vec<u64>) -> u64 {
    numbers.sort_unstable();
    numbers.dedup();
    numbers.len() as u64
}

fn far_packets(counted: &Counted<'_>) -> u64 {
    match counted {
        Counted::Interface(host, interface) => host.counter(interface, "rx", "packets"),
        Counted::File | Counted::No => 0,
    }
}

/// Runs a contest of each frame size at one pace, for the CPU time that is added to what sending
/// alone costs, which the last contestant shows. `absent` is a peer that cannot take part, and why.
///
/// # Errors
/// As [`Contest::run`].
pub fn added_cpu(
    stage: &Stage<'_>,
    bench: &str,
    sender: (&Host, &str),
    tunnel: Option<Tunnel>,
    contestants: &[Contestant<'_>],
    absent: Option<(&str, String)>,
) -> anyhow::Result<Vec<Row>> {
    let (pace, count) = (stage.effort.pace, stage.effort.packets / 2);
    let mut rows = Vec::new();
    for &frame_bytes in &stage.effort.sizes {
        let case = format!("{frame_bytes} B, {} kpps, added CPU", pace / 1000);
        let contest = Contest {
            bench,
            case: case.clone(),
            load: Load {
                frame_bytes,
                pps: Some(pace),
                count,
                tunnel,
                ports: 1,
                in_segments: false,
            },
            runs: stage.effort.runs,
            sender,
            contestants,
            with_sender: true,
            folder: stage.folder,
        };
        rows.extend(contest.run()?);
        if let Some((subject, why)) = &absent {
            let why = Some(why.clone());
            rows.push(Row::skipped(bench, &case, subject, Unit::NsPerPacket, why));
        }
    }
    Ok(rows)
}

/// Runs commands on hosts, one after the other, until one fails.
pub fn run_all(commands: &[(&Host, Vec<String>)]) -> anyhow::Result<()> {
    for (host, words) in commands {
        let (program, arguments) = words.split_first().context("a command has a name")?;
        let output = host.netns.command(program).args(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let what = if program == "sh" { program.clone() } else { words.join(" ") };
        anyhow::ensure!(output.status.success(), "{what}: {}", said.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_counts_once() {
        assert_eq!(distinct(vec![3, 1, 3, 2]), 3);
    }
}
