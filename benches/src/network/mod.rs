//! What needs root: real packets through namespaces of our own.

mod broker;
mod capture;
mod contest;
mod filtered;
mod generator;
mod harm;
mod inline;
mod lossless;
mod meter;
mod mirror;
mod process;
mod receive;
mod record;
mod source;
mod tcp;
mod trial;

pub use process::{pin, tapline};

use crate::row::Row;
use rig::Host;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The core of the generator, and of who sends into a stream.
const GENERATOR_CORE: usize = 0;
/// The core of all else.
pub const CORE: usize = 1;

/// How much is measured.
#[derive(Debug, Clone)]
pub struct Effort {
    /// Frame sizes, bytes without the frame check sequence.
    pub sizes: Vec<usize>,
    /// Packets of one run of `capture`; the others, which are slower, send half as many.
    pub packets: u64,
    /// Runs of each subject in each case.
    pub runs: usize,
    /// Paces of `capture`, packets a second; `None`: unpaced.
    pub paces: Vec<Option<u64>>,
    /// Pace of the others.
    pub pace: u64,
    /// Of trials, only subjects and cases that contain one of these; none: all.
    pub subjects: Vec<String>,
    pub cases: Vec<String>,
}

impl Effort {
    /// Whether a case is wanted.
    fn wants_case(&self, case: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|wanted| case.contains(wanted))
    }

    /// Whether a subject is wanted.
    fn wants_subject(&self, name: &str) -> bool {
        self.subjects.is_empty() || self.subjects.iter().any(|wanted| name.contains(wanted))
    }
}

/// What the benchmarks stand on.
pub struct Stage<'a> {
    /// The binary that is measured.
    pub tapline: &'a Path,
    /// Where files are written.
    pub folder: &'a Path,
    /// A file system in memory, if there is one.
    pub memory: Option<PathBuf>,
    pub effort: &'a Effort,
}

/// Runs a benchmark.
type Run = fn(&Stage<'_>) -> anyhow::Result<Vec<Row>>;

/// The benchmarks by name.
pub const ALL: [(&str, Run); 12] = [
    (broker::BENCH, broker::run),
    (capture::BENCH, capture::run),
    (filtered::BENCH, filtered::run),
    (harm::BENCH, harm::run),
    (inline::BENCH, inline::run),
    (lossless::BENCH, lossless::run),
    (mirror::BENCH, mirror::run),
    (record::BENCH, record::run),
    (record::BENCH_RATE, record::rates),
    (receive::BENCH, receive::run),
    (receive::BENCH_GRETAP, receive::run_gretap),
    (source::BENCH, source::run),
];

/// Has packets to an address go to a neighbour that is not there. They cross the link, and the far
/// host, whose MAC it is not, drops them without an answer.
fn to_nobody(host: &Host, interface: &str, address: &str, port: u16) -> anyhow::Result<SocketAddr> {
    let mac = "02:71:00:00:ff:09";
    host.ip(&format!("neigh replace {address} lladdr {mac} dev {interface} nud permanent"));
    Ok(SocketAddr::new(address.parse()?, port))
}

/// The words of a command.
fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(String::from).collect()
}

/// tcpdump as a peer: a ring of 64 MiB, whole packets, into a file.
fn tcpdump(host: &Host, interface: &str, file: &Path) -> Command {
    let mut command = host.netns.command("tcpdump");
    command.args(["-i", interface, "-B", "65536", "-s", "262144", "-n", "-Z", "root", "-w"]);
    command.arg(file);
    command
}

/// dumpcap as a peer, likewise.
fn dumpcap(host: &Host, interface: &str, file: &Path, filter: &str) -> Command {
    let mut command = host.netns.command("dumpcap");
    command.args(["-q", "-i", interface, "-B", "64", "-f", filter, "-w"]).arg(file);
    command
}

/// netsniff-ng as a peer, likewise. It talks on standard output.
fn netsniff_ng(host: &Host, interface: &str, file: &Path, filter: &str) -> Command {
    let mut command = host.netns.command("sh");
    command.args([
        "-c",
        r#"exec netsniff-ng "$@" >&2"#,
        "netsniff-ng",
        "--silent",
        "--no-hwtimestamp",
    ]);
    command.args(["--in", interface, "--ring-size", "64MiB", "-f", filter, "--out"]).arg(file);
    command
}

/// Why a program cannot be a peer, if it cannot.
fn why_not(program: &str) -> Option<String> {
    let is_there = process::is_installed(program, "--version");
    (!is_there).then(|| format!("{program} is not installed"))
}
