//! `tapline capture`: packets of an interface or a file, printed or written to a file.

use crate::cli::{Capture, FilterIn, FilterPlace, Rotation, Verbosity};
use crate::failure::Failure;
use crate::identity::{Becoming, Keeps};
use crate::opened::{Opened, filter_config, must_differ};
use crate::print::Printer;
use crate::session::{self, Session, Taps};
use crate::workers::{count, file_of, of_tap, say_files};
use api::{DecapStats, FilterConfig, Stats};
use archive::{Layout, Recorder, RecorderOptions};
use io::decap::{DecapOptions, Policy};
use io::ring::{ANY, Handover, KernelFilter, RingOptions};
use io::wire_true::{WireTrueCounters, WireTrueSource};
use io::{InterfaceId, Interfaces, Now, Sink};
use pipeline::{CrewReport, Input, Limit, Tap, Target, TargetGroup, tap_line, target_lines};
use wire::decap::Rules;

pub fn run(options: Capture, verbosity: &Verbosity) -> Result<(), Failure> {
    session::check_stats_path(&options.report)?;
    let becoming = Becoming::new(&options.identity)?;
    if options.write.is_some() || options.identity.user.is_some() {
        becoming.become_it(Keeps::Capturing)?;
    }
    let mut begun = Vec::new();
    match (count(options.workers), &options.write) {
        (1, _) => {}
        (workers, Some(path)) => begun.push(say_files(path, workers)?),
        (workers, None) => {
            return Err(Failure::Usage(format!(
                "{workers} workers cannot print in one order: write to files (-w FILE), or leave \
                 --workers out"
            )));
        }
    }
    let wanted = filter_config(options.rules.as_deref(), &options.expression)?;
    let interfaces = match &wanted {
        FilterConfig::Expression(text) if options.interface.is_some() => Interfaces::filtered(text),
        _ => Interfaces::default(),
    };
    let decap = decap_options(&options)?;
    let mut opened = match (&options.interface, &options.read) {
        (Some(name), _) => Opened::interface(
            RingOptions {
                interface: name.clone(),
                netns: None,
                promiscuous: !options.no_promiscuous_mode && name != ANY,
                ring_size: options.buffer_size,
                handover: match options.write.is_some() && !options.packet_buffered {
                    true => Handover::Relaxed,
                    false => Handover::Prompt,
                },
                // What is inside of a tunnel is cut when it has come out.
                snaplen: if decap.is_some() { 0 } else { options.snapshot_length },
                filter: KernelFilter::Absent,
            },
            count(options.workers),
            options.direction,
            &wanted,
            match decap {
                Some(_) if !matches!(wanted, FilterConfig::All) => {
                    FilterPlace { filter_in: FilterIn::User, prefilter: false }
                }
                _ => options.filter_place,
            },
            &interfaces,
        )?,
        (None, Some(path)) => Opened::file(path, options.direction, &wanted, &interfaces)?,
        (None, None) => return Err(Failure::Usage("name an interface or a file".into())),
    };
    // An interface's ring has the kernel's word on its super-packets, and cuts them by itself.
    let cut = (options.wire_true && options.read.is_some())
        .then(|| cut_super_packets(&mut opened, options.mtu, &interfaces));
    let statuses = decap.map(|decap| opened.decapsulate(&decap, &interfaces));
    becoming.settle()?;
    begun.insert(0, opened.announcement);
    let limit = options.count.map(Limit::new);
    let workers = opened.shares.len();
    let mut taps = Vec::with_capacity(workers);
    for (worker, (input, filter)) in opened.shares.into_iter().enumerate() {
        let target = target(&options, &opened.name, (worker, workers), opened.first, &interfaces)?;
        let groups = vec![TargetGroup::new(vec![target], &[1])];
        let mut tap = Tap::new(opened.name.clone(), vec![input], groups);
        tap.filter = filter;
        tap.snaplen = (options.snapshot_length > 0).then_some(options.snapshot_length as usize);
        tap.limit = limit.clone();
        taps.push(tap);
    }
    let ledger = |reports: &[CrewReport]| {
        let mut stats = ledger(reports);
        stats.wire_true = cut.as_ref().map(WireTrueCounters::read);
        stats.decap = statuses.as_ref().map(|statuses| {
            let mut sum = DecapStats::default();
            statuses.iter().for_each(|status| sum.merge(&status.get()));
            sum
        });
        stats
    };
    let captured = options.interface.iter().filter(|name| *name != ANY).cloned().collect();
    Session::new("capture", &options.report, verbosity)
        .run(&begun, || Ok(Box::new(Taps::start(vec![taps], ledger, captured)?)))
}

/// Has a file's super-packets cut before anything else looks at them; gives what counts them.
fn cut_super_packets(opened: &mut Opened, mtu: u16, interfaces: &Interfaces) -> WireTrueCounters {
    let counters = WireTrueCounters::default();
    let shares = std::mem::take(&mut opened.shares).into_iter();
    let cut = |(input, filter)| {
        let Input { name, source } = input;
        let source = Box::new(WireTrueSource::new(source, mtu, interfaces, &counters));
        (Input { name, source }, filter)
    };
    opened.shares = shares.map(cut).collect();
    counters
}

/// How packets are taken out of tunnels, if they are.
fn decap_options(options: &Capture) -> Result<Option<DecapOptions>, Failure> {
    let Some(layers) = options.decap else {
        return Ok(None);
    };
    for (is_given, option) in [
        (options.filter_place.prefilter, "--prefilter"),
        (options.filter_place.filter_in == FilterIn::Kernel, "--filter-in kernel"),
    ] {
        if is_given {
            return Err(Failure::Usage(format!(
                "a filter in the kernel does not see what is inside of tunnels: leave {option} or \
                 --decap out"
            )));
        }
    }
    let ports = options.decap_port.iter();
    let rules = ports.fold(Rules::default(), |rules, &(kind, port)| rules.with_port(kind, port));
    Ok(Some(DecapOptions { layers, rules, policy: Policy::Capture }))
}

/// The file or the printer of one of some workers.
fn target(
    options: &Capture,
    tap: &str,
    (worker, workers): (usize, usize),
    first: Option<InterfaceId>,
    interfaces: &Interfaces,
) -> Result<Target, Failure> {
    let (endpoint, sink): (String, Box<dyn Sink>) = match &options.write {
        Some(path) => {
            must_differ(options.read.as_deref(), path, options.rotation.is_set())?;
            let recorder = RecorderOptions {
                layout: Layout::File(file_of(&of_tap(path, tap), worker, workers)?),
                rotation: options.rotation.to_archive(),
                unbuffered: options.packet_buffered,
                first,
                budget: None,
                waker: None,
            };
            let recorder = Recorder::new(recorder, interfaces, Now::read())?;
            (format!("pcap:{}", path.display()), Box::new(recorder))
        }
        None => ("text:-".into(), Box::new(Printer::new(options.format, interfaces))),
    };
    Ok(Target::new(endpoint, sink))
}

/// The ledger of taps: a line each, and a line for each of their targets.
pub fn ledger(reports: &[CrewReport]) -> Stats {
    let taps = reports.iter().filter_map(|workers| tap_line(workers)).collect();
    let targets = reports.iter().flat_map(|workers| target_lines(workers)).collect();
    let mut stats = Stats::new(taps, Vec::new(), targets);
    // What a target recorded counts as received and written too, without a second line for it.
    for source in reports.iter().flatten().flat_map(|report| report.sources.iter().flatten()) {
        stats.received += source.received;
        stats.written += source.written;
    }
    stats
}

impl Rotation {
    /// Whether there will be more than one file.
    pub fn is_set(&self) -> bool {
        self.file_size.is_some() || self.rotate_seconds.is_some()
    }

    /// The recorder's form.
    pub fn to_archive(&self) -> archive::Rotation {
        archive::Rotation {
            bytes: self.file_size,
            time: self.rotate_seconds,
            aligned: self.align,
            files: self.file_count,
        }
    }
}
