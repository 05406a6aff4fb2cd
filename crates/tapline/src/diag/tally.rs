//! Listening for a while, and counting what came: what `diag traffic` and `diag monitor` share.

use crate::capture;
use crate::cli::{FilterIn, FilterPlace, Listening, Report, Verbosity};
use crate::failure::Failure;
use crate::opened::{Opened, Wanted};
use crate::session::{self, Session, Taps};
use api::{DirectionChoice, RingSize};
use io::ring::{ANY, Handover, KernelFilter, RingOptions};
use io::{Error, Interfaces, Now, Packet, Selection, Sink, SinkCounters, Upstream};
use pipeline::{Limit, Tap, Target, TargetGroup};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is made of packets.
pub trait Tally: Send + 'static {
    /// Looks at a packet.
    fn take(&mut self, packet: &Packet);
}

/// What is listened for.
pub struct Subject<'a> {
    /// Its target's name in the ledger.
    pub name: &'static str,
    pub wanted: Wanted<'a>,
    pub direction: DirectionChoice,
    /// Whether frames for other hosts are of interest too.
    pub promiscuous: bool,
    /// It ends after so many packets.
    pub packets_max: Option<u64>,
}

/// What came of it.
pub struct Heard<T> {
    pub tally: T,
    /// How long it took.
    pub elapsed: Duration,
    /// What the session ended with; what was heard is of use all the same.
    pub result: Result<(), Failure>,
}

/// Listens until the time is over, enough has come, a file ends or a signal comes.
///
/// # Errors
/// If it could not begin.
pub fn listen<T: Tally>(
    listening: &Listening,
    subject: &Subject<'_>,
    tally: T,
    report: &Report,
    verbosity: &Verbosity,
) -> Result<Heard<T>, Failure> {
    session::check_stats_path(report)?;
    let interfaces = Interfaces::default();
    let opened = open(listening, subject, &interfaces)?;
    let outcome = Arc::default();
    let time = listening.read.is_none().then_some(listening.time);
    let sink = Tallier::new(tally, time, &outcome);
    let target = Target::new(subject.name.into(), Box::new(sink));
    // One worker was asked for.
    let (input, filter) = opened.shares.into_iter().next().expect("a source has a worker");
    let mut tap = Tap::new(opened.name, vec![input], vec![TargetGroup::new(vec![target], &[1])]);
    tap.filter = filter;
    tap.limit = subject.packets_max.map(Limit::new);
    let begin = Instant::now();
    let tapped = Some(&listening.interface);
    let tapped = tapped.filter(|name| listening.read.is_none() && *name != ANY).cloned();
    let result = Session::new("diag", report, verbosity).run(&[opened.announcement], || {
        let tapped = tapped.into_iter().collect();
        Ok(Box::new(Taps::start(vec![vec![tap]], capture::ledger, tapped)?))
    });
    let elapsed = begin.elapsed();
    let tally = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (tally, result) {
        (Some(tally), result) => Ok(Heard { tally, elapsed, result }),
        (None, Err(failure)) => Err(failure),
        (None, Ok(())) => Err(Failure::CouldNot("the worker ended without an answer".into())),
    }
}

fn open(
    listening: &Listening,
    subject: &Subject<'_>,
    interfaces: &Interfaces,
) -> Result<Opened, Failure> {
    if let Some(path) = &listening.read {
        return Opened::file(path, subject.direction, subject.wanted, interfaces);
    }
    let options = RingOptions {
        interface: listening.interface.clone(),
        netns: None,
        promiscuous: subject.promiscuous && listening.interface != ANY,
        ring_size: RingSize::Auto,
        handover: Handover::Prompt,
        snaplen: 0,
        filter: KernelFilter::Absent,
    };
    let place = FilterPlace { filter_in: FilterIn::Auto, prefilter: false };
    Opened::interface(options, 1, subject.direction, subject.wanted, place, interfaces)
}

/// Where the answer is put.
type Outcome<T> = Arc<Mutex<Option<T>>>;

/// A sink that takes no packets anywhere, until its time is over.
struct Tallier<T> {
    tally: Option<T>,
    time: Option<Duration>,
    /// When that is, by the monotonic clock, ns; known from the first tick on.
    end_ns: Option<u64>,
    closed: bool,
    counters: SinkCounters,
    outcome: Outcome<T>,
}

impl<T> Tallier<T> {
    fn new(tally: T, time: Option<Duration>, outcome: &Outcome<T>) -> Tallier<T> {
        Tallier {
            tally: Some(tally),
            time,
            end_ns: None,
            closed: false,
            counters: SinkCounters::default(),
            outcome: Arc::clone(outcome),
        }
    }
}

impl<T: Tally> Sink for Tallier<T> {
    fn send(&mut self, packets: Selection<'_>) -> usize {
        if self.closed {
            return 0;
        }
        if let Some(tally) = &mut self.tally {
            packets.iter().for_each(|packet| tally.take(packet));
        }
        self.counters.sent += packets.len() as u64;
        packets.len()
    }

    fn counters(&self) -> SinkCounters {
        self.counters
    }

    fn is_closed(&self) -> bool {
        self.closed
    }

    fn tick(&mut self, now: Now) {
        let Some(time) = self.time else { return };
        let time_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let end = *self.end_ns.get_or_insert(now.monotonic_ns.saturating_add(time_ns));
        self.closed |= now.monotonic_ns >= end;
    }

    fn finish(&mut self, _upstream: &Upstream) -> Result<(), Error> {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = self.tally.take();
        Ok(())
    }
}

/// Where it is listened, in words: `on interface 'eth0', capture time: 30` (seconds), `in file 'x.pcap'`.
impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.read {
            Some(path) => write!(f, "in file '{}'", path.display()),
            None => {
                let seconds = self.time.as_secs_f64();
                write!(f, "on interface '{}', capture time: {seconds}", self.interface)
            }
        }
    }
}
