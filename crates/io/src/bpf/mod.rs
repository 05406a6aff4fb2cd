//! Filters as eBPF programs in the kernel: loading, attaching, counting.
//!
//! [`filter::ebpf`] makes the code; here it meets bpf(2). Nothing is pinned: a program and its
//! counters are gone with the last descriptor of theirs, a socket's included, also after `kill -9`.
//!
//! ```no_run
//! use filter::ebpf::{SocketFilterOptions, Verdicts, decides, socket_filter};
//! # fn run(socket: std::os::fd::BorrowedFd<'_>) -> Result<(), Box<dyn std::error::Error>> {
//! let link_type = wire::LinkType::ETHERNET;
//! let program = io::libpcap::compile("udp port 4789", link_type, 0)?;
//! let code = socket_filter(&SocketFilterOptions {
//!     link_type,
//!     received: &program,
//!     sent: &program,
//!     verdicts: Verdicts::Expression,
//!     scope: decides(&program, link_type).scope()?,
//! })?;
//! let filter = io::bpf::LoadedFilter::load(&code)?;
//! filter.attach(socket)?;
//! println!("{} wire packets were filtered", filter.counters()?.filtered);
//! # Ok(())
//! # }
//! ```

mod classifier;
mod clsact;
mod ingress;
mod jump;
pub mod list;
mod map;
mod prefixes;
mod records;
mod sys;

use crate::error::Error;
use filter::ebpf::{COUNTERS_PER_ELEMENT, Counter, CounterLayout, Encoded, SocketFilter};
use jump::Jump;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

pub use classifier::{Classifier, Link, TestRun, TestRunOptions, Way, pin, pinned};
pub use clsact::{ClsactFilter, remove_leftovers};
pub use ingress::IngressProgram;
pub use map::{Map, MapKind};
pub use prefixes::{PREFIXES_MAX, Prefix, PrefixMap};
pub use records::{RecordRing, RecordRings};

const NAME: &str = "tapline";
const LOAD: &str = "load an eBPF socket filter";
/// The end of what the verifier says is what matters; newer kernels keep the end by themselves.
const LOG_BYTES: usize = 1 << 20;
const LOG_LINES_SHOWN: usize = 3;
const NEEDS_RIGHT: &str = "; it needs CAP_BPF, or root: setcap cap_net_raw,cap_net_admin,cap_bpf+ep $(command -v tapline)";
const TOO_COMPLEX: &str = "; it is a program beyond the kernel's limits: use fewer rules or a shorter expression, or filter in user space";
const TOO_LARGE_FOR_SOCKET: &str = "; the socket has no room for it: raise net.core.optmem_max";
/// A test run takes the first 14 bytes for an Ethernet header and hides them from a socket filter.
const HIDDEN_BYTES: usize = 14;

/// A socket filter in the kernel, with its counters.
#[derive(Debug)]
pub struct LoadedFilter {
    program: OwnedFd,
    /// What is attached instead, if it is long.
    jump: Option<Jump>,
    counters: PerCpuArray,
    layout: CounterLayout,
}

/// What a filter has counted, all CPUs together. Each frame is in exactly one of three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FilterCounters {
    /// Wire packets that were stopped.
    pub filtered: u64,
    /// Wire packets that were decided and let through.
    pub matched: u64,
    /// Wire packets that were let through for user space to decide.
    pub undecided: u64,
    /// Frames of `filtered`.
    pub filtered_frames: u64,
    /// Frames of `matched`.
    pub matched_frames: u64,
    /// Frames of `undecided`.
    pub undecided_frames: u64,
}

/// A packet for [`LoadedFilter::test_run`], as the kernel would see it.
#[derive(Debug, Clone, Copy)]
pub struct TestPacket<'a> {
    /// Its bytes.
    pub frame: &'a [u8],
    /// Payload bytes in a segment of a super-packet; 0: it is none.
    pub gso_size: u32,
    /// How many segments it has; 0: not said.
    pub gso_segs: u32,
}

impl LoadedFilter {
    /// Loads a filter, and makes its counters.
    ///
    /// # Errors
    /// [`Error::System`] where the right is missing, or where the kernel refuses the program; the
    /// message then ends in the verifier's last lines.
    pub fn load(filter: &SocketFilter) -> Result<LoadedFilter, Error> {
        LoadedFilter::load_with(filter, &[])
    }

    /// Loads a filter that reads further maps, the first of which is its map 1.
    ///
    /// # Errors
    /// As [`Self::load`].
    ///
    /// # Panics
    /// If the filter has more maps than these.
    pub fn load_with(
        filter: &SocketFilter,
        maps: &[BorrowedFd<'_>],
    ) -> Result<LoadedFilter, Error> {
        let layout = filter.counters;
        let counters = PerCpuArray::new(COUNTERS_PER_ELEMENT, layout.elements())?;
        let code = filter.code.encode(|map| match map.0 {
            0 => counters.map.as_raw_fd(),
            further => maps[further - 1].as_raw_fd(),
        });
        let program = sys::load_program(sys::ProgramType::SocketFilter, NAME, &code, &mut []);
        let program =
            program.map_err(|e| refused(LOAD, sys::ProgramType::SocketFilter, &code, e))?;
        let jump = Jump::is_needed(code.len()).then(|| Jump::to(program.as_fd())).transpose();
        let jump = jump.map_err(|e| Error::system("load a jump to an eBPF socket filter", e))?;
        Ok(LoadedFilter { program, jump, counters, layout })
    }

    /// Attaches it to a packet socket, in the place of any filter that was there. It counts from
    /// now on, and for all sockets that it is attached to.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses, as it does where a filter was locked.
    pub fn attach(&self, socket: BorrowedFd<'_>) -> Result<(), Error> {
        let program = self.jump.as_ref().map_or(self.program.as_fd(), Jump::program);
        sys::attach(socket, program).map_err(|source| Error::System {
            what: "attach an eBPF socket filter".into(),
            mend: match source.raw_os_error() {
                Some(libc::ENOMEM) => TOO_LARGE_FOR_SOCKET,
                _ => "",
            },
            source,
        })
    }

    /// Reads the counters. A frame that is being counted may show in some of them only.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses.
    pub fn counters(&self) -> Result<FilterCounters, Error> {
        let sums = self.counters.sums(0)?;
        let of = |counter: Counter| sums[counter as usize];
        Ok(FilterCounters {
            filtered: of(Counter::Filtered),
            matched: of(Counter::Matched),
            undecided: of(Counter::Undecided),
            filtered_frames: of(Counter::FilteredFrames),
            matched_frames: of(Counter::MatchedFrames),
            undecided_frames: of(Counter::UndecidedFrames),
        })
    }

    /// Reads how many wire packets each rule decided, rule 1 first; none for an expression.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses.
    pub fn rule_hits(&self) -> Result<Vec<u64>, Error> {
        let mut hits = Vec::with_capacity(self.layout.rules);
        let mut sums = (usize::MAX, Vec::new());
        for number in 1..=self.layout.rules {
            let (element, place) = self.layout.rule(number);
            if sums.0 != element {
                sums = (element, self.counters.sums(element)?);
            }
            hits.push(sums.1[place]);
        }
        Ok(hits)
    }

    /// Runs it over a packet in the kernel (`BPF_PROG_TEST_RUN`), received and without a tag in
    /// metadata. Returns whether it lets the packet through; the run counts.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses: it does with an empty packet, and with one above
    /// some 3,500 bytes if it is old.
    pub fn test_run(&self, packet: &TestPacket<'_>) -> Result<bool, Error> {
        self.run(packet, 1).map(|ran| ran.value != 0)
    }

    /// The mean time that one of `runs` runs over a packet takes in the kernel, for measurements.
    ///
    /// # Errors
    /// As [`Self::test_run`].
    pub fn time_run(&self, packet: &TestPacket<'_>, runs: u32) -> Result<Duration, Error> {
        self.run(packet, runs).map(|ran| Duration::from_nanos(ran.mean_ns.into()))
    }

    fn run(&self, packet: &TestPacket<'_>, repeat: u32) -> Result<sys::Ran, Error> {
        let mut bytes = vec![0; HIDDEN_BYTES];
        bytes.extend_from_slice(packet.frame);
        let context =
            sys::Context { gso_size: packet.gso_size, gso_segs: packet.gso_segs, ifindex: 0 };
        let ran = sys::test_run(self.program.as_fd(), &bytes, context, repeat, &mut []);
        ran.map_err(|source| Error::System {
            what: format!("run an eBPF filter over a packet of {} bytes", packet.frame.len()),
            source,
            mend: "",
        })
    }
}

/// Asks the verifier again, for its reasons, and says what they were.
fn refused(load: &str, kind: sys::ProgramType, code: &[Encoded], error: io::Error) -> Error {
    let what = || format!("{load} of {} instructions", code.len());
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) if verifier_log(kind, code).is_empty() => {
            return Error::System { what: what(), source: error, mend: NEEDS_RIGHT };
        }
        Some(libc::E2BIG) => {
            return Error::System { what: what(), source: error, mend: TOO_COMPLEX };
        }
        _ => {}
    }
    let said = verifier_log(kind, code);
    let mend =
        if said.contains("too complex") || said.contains("too large") { TOO_COMPLEX } else { "" };
    let said = if said.is_empty() { String::new() } else { format!("; the verifier said: {said}") };
    let source = io::Error::new(error.kind(), format!("{error}{said}"));
    Error::System { what: what(), source, mend }
}

/// The last lines of what the verifier says to a program.
fn verifier_log(kind: sys::ProgramType, code: &[Encoded]) -> String {
    let mut log = vec![0; LOG_BYTES];
    let _ = sys::load_program(kind, NAME, code, &mut log);
    let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
    let log = String::from_utf8_lossy(&log[..end]);
    let lines = log.lines().filter(|line| !line.is_empty() && !is_statistic(line));
    let lines: Vec<&str> = lines.collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join(" | ")
}

fn is_statistic(line: &str) -> bool {
    line.starts_with("processed ")
        || line.starts_with("verification time ")
        || line.starts_with("stack depth ")
}

/// An array of blocks of u64, a copy of each for every CPU.
#[derive(Debug)]
struct PerCpuArray {
    map: OwnedFd,
    words: usize,
    cpus: usize,
}

impl PerCpuArray {
    fn new(words: usize, elements: usize) -> Result<PerCpuArray, Error> {
        let cpus = possible_cpus()?;
        let map =
            sys::create_map(sys::MapType::PerCpuArray, NAME, (words * 8) as u32, elements as u32);
        let map = map.map_err(|source| Error::System {
            what: format!("make an eBPF map of {elements} × {words} counters"),
            mend: match source.raw_os_error() {
                Some(libc::EPERM) => NEEDS_RIGHT,
                _ => "",
            },
            source,
        })?;
        Ok(PerCpuArray { map, words, cpus })
    }

    /// The sums over all CPUs of one element's words.
    fn sums(&self, element: usize) -> Result<Vec<u64>, Error> {
        let mut copies = vec![0; self.words * self.cpus];
        let needed = copies.len();
        sys::look_up(self.map.as_fd(), element as u32, &mut copies, needed)
            .map_err(|e| Error::system("read the counters of an eBPF filter", e))?;
        let (first, others) = copies.split_at(self.words);
        let mut sums = first.to_vec();
        for copy in others.chunks_exact(self.words) {
            for (sum, word) in sums.iter_mut().zip(copy) {
                *sum = sum.wrapping_add(*word);
            }
        }
        Ok(sums)
    }
}

/// How many CPUs there can ever be: the kernel keeps a copy for each.
///
/// # Errors
/// [`Error::System`] if the kernel does not say.
pub fn possible_cpus() -> Result<usize, Error> {
    const PATH: &str = "/sys/devices/system/cpu/possible";
    let text = std::fs::read_to_string(PATH).map_err(|e| Error::system(PATH, e))?;
    count_cpus(&text).ok_or_else(|| Error::System {
        what: PATH.into(),
        source: io::Error::other(format!("`{}` is no list of CPUs", text.trim())),
        mend: "",
    })
}

/// Counts a list of ranges, such as `0-3,8`.
fn count_cpus(list: &str) -> Option<usize> {
    let mut count = 0;
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        count += last.checked_sub(first)? + 1;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_counted() {
        for (list, count) in [("0\n", 1), ("0-1\n", 2), ("0-3,8", 5), ("0-3,8-9,64", 7)] {
            assert_eq!(count_cpus(list), Some(count), "{list}");
        }
        for list in ["", "3-1", "0-", "x"] {
            assert_eq!(count_cpus(list), None, "{list}");
        }
    }
}
