//! `tapline receive`: packets out of tunnels, into files and on to other targets.

use crate::archiving::{Opened, Shown, Wanted};
use crate::cli::{Receive, Verbosity};
use crate::failure::Failure;
use crate::health::{Claim, Health};
use crate::identity::{Becoming, Keeps};
use crate::listeners::{Listeners, Listening};
use crate::loops;
use crate::session::{self, Activity, Moment, Session, Taps};
use crate::targets::{Places, Targets, devices, files, has_tunnels, may_wait};
use crate::workers::of_tap;
use api::{Drops, Endpoint, Group, NetworkStats, SourceStats, Stats};
use archive::{Layout, Recorder, RecorderOptions, RecorderStatus};
use io::apart::Apart;
use io::ring::Handover;
use io::{Interfaces, Now, Sink};
use pipeline::{CrewReport, OwnTunnels, Report, Tap, Target, TargetGroup, target_lines};
use std::path::Path;
use std::sync::Arc;
use wire::sequence::Counts;

pub fn run(options: Receive, verbosity: &Verbosity) -> Result<(), Failure> {
    session::check_stats_path(&options.report)?;
    let becoming = Becoming::new(&options.identity)?;
    let interfaces = Interfaces::default();
    let files = files_of(&options)?;
    let rotation = options.rotation.to_archive();
    let location = options.archive.as_ref();
    let wanted = Wanted::new(location, rotation, options.max_bytes, &options.archiving)?;
    must_stand_apart(options.write.as_deref(), &options.to)?;
    loops::of_receiver(&options.listen, &options.to)?;
    wanted.iter().for_each(|wanted| wanted.make_folders(&becoming));
    becoming.become_it(Keeps::Capturing)?;
    // Before anything comes in: it may take a while.
    let opened = wanted.map(Wanted::open).transpose()?;
    let claim = options.health.map(Claim::new).transpose()?;
    let mut targets = Targets::new(&interfaces);
    let mut opening = targets.open(&options.to, options.sending.into(), 1, 1)?;
    let Listeners { inputs, begun, tunnels } =
        Listeners::open(&listening(&options), &targets.fed(), &interfaces)?;
    becoming.settle()?;
    // Only now: a receiver that cannot listen must not replace the file of one that does.
    let archiving = opened.map(Opened::start).transpose()?;
    let recorded = files.or_else(|| Some(archiving.as_ref()?.recorder(options.packet_buffered)));
    let recorder = recorded.map(|options| Recorder::new(options, &interfaces, Now::read()));
    let recorder = recorder.transpose()?;
    let shown = archiving.as_ref().map(|archiving| archiving.shown.clone());
    let status = recorder.as_ref().map_or_else(Arc::<RecorderStatus>::default, Recorder::status);
    let records = recorder.is_some();
    let mut groups = Vec::new();
    if let Some(recorder) = recorder {
        // Beside other targets, which must not wait for the reader of a pipe.
        let waits = options.write.as_deref().is_some_and(may_wait) && !options.to.is_empty();
        let sink: Box<dyn Sink> = match waits {
            true => Box::new(Apart::new(Box::new(recorder), "recorder", io::apart::BYTES)?),
            false => Box::new(recorder),
        };
        let target = Target::new("recorder".into(), sink);
        groups.push(TargetGroup::new(vec![target], &[1]));
    }
    groups.extend(opening.groups(0, None, true)?);
    let ledger = |reports: &[CrewReport]| {
        let mut stats = ledger(reports, records);
        stats.decap = tunnels.counters();
        let is_kept_within = options.max_bytes.or(options.archiving.spool_max).is_some();
        stats.removed = shown.as_ref().filter(|_| is_kept_within).map(Shown::removed);
        stats.archive = shown.as_ref().map(Shown::stats);
        stats
    };
    let health =
        claim.map(|claim| Health::start(claim, Arc::clone(&status), shown.clone())).transpose()?;
    let mut tap = Tap::new("receive".into(), inputs, groups);
    if has_tunnels(&options.to) {
        tap.needs_flow_hash = true;
        tap.own = OwnTunnels::of_relay(targets.far_ends().to_vec());
    }
    let fed = devices(&options.to).collect();
    let start = || -> Result<Box<dyn Activity + '_>, Failure> {
        let taps = Box::new(Taps::start(vec![vec![tap]], ledger, fed)?);
        Ok(match archiving {
            Some(archiving) => archiving.behind(taps, options.archiving.stop_within),
            None => taps,
        })
    };
    let session = Session::new("receive", &options.report, verbosity);
    let Some(health) = health else {
        return session.run(&begun, start);
    };
    let mut watch = |moment: Moment<'_>| match moment {
        Moment::Alive(stats) => health.pulse(stats),
        Moment::Stopping => health.stopping(),
    };
    session.watched(&mut watch).run(&begun, start)
}

/// What is listened for. Packets that somebody waits for come at once; for files they are gathered.
fn listening(options: &Receive) -> Listening {
    let is_pipe = options.write.as_deref() == Some(Path::new("-"));
    let is_waited_for = is_pipe || options.packet_buffered || !options.to.is_empty();
    Listening {
        endpoints: options.listen.iter().filter_map(Endpoint::tunnel).cloned().collect(),
        datapath: options.datapath,
        layers: options.decap,
        buffer_bytes: options.buffer_size,
        handover: if is_waited_for { Handover::Prompt } else { Handover::Relaxed },
    }
}

/// The files that packets are recorded into, if they are and there is no archive.
fn files_of(options: &Receive) -> Result<Option<RecorderOptions>, Failure> {
    let is_bounded = options.rotation.is_set() || options.max_bytes.is_some();
    match &options.write {
        None if is_bounded && options.archive.is_none() => Err(Failure::Usage(
            "files are bounded that are not written: add -w FILE or --archive DIR".into(),
        )),
        None => Ok(None),
        Some(path) => Ok(Some(RecorderOptions {
            layout: Layout::File(of_tap(path, "receive")),
            rotation: options.rotation.to_archive(),
            unbuffered: options.packet_buffered,
            first: None,
            budget: None,
            waker: None,
        })),
    }
}

/// Refuses two targets that write one file.
fn must_stand_apart(write: Option<&Path>, to: &[Group]) -> Result<(), Failure> {
    let mut places = Places::default();
    write.into_iter().chain(files(to)).try_for_each(|path| places.claim(path))
}

/// The ledger of a receiver: a line for each source that is recorded or numbers its packets; one for
/// each listener that lost something before it knew the source, whose packets have no other line, or
/// that nobody sent anything; and one for each target beside the recorder, which is the first.
pub fn ledger(reports: &[CrewReport], records: bool) -> Stats {
    let (mut sources, mut targets) = (Vec::new(), Vec::new());
    let (mut seen, mut matched) = (0, 0);
    for report in reports.iter().flatten() {
        let recorded = report.sources.first().filter(|_| records);
        let mut recorded = recorded.cloned().unwrap_or_default();
        let is_silent = recorded.is_empty();
        for input in &report.inputs {
            // What is not recorded is written to the targets.
            let mut written = if records { 0 } else { input.matched };
            for (outer, counts) in &input.streams {
                let line = line_of(&mut recorded, outer.to_string());
                line.network.get_or_insert_default().merge(&network(counts));
                if !records {
                    let of_source = counts.received.min(written);
                    line.received += of_source;
                    line.written += of_source;
                    written -= of_source;
                }
            }
            if input.drops.total() + written > 0 || (is_silent && input.streams.is_empty()) {
                let received = written + input.drops.total();
                let name = input.name.clone();
                sources.push(SourceStats::new(name, received, written, 0, input.drops));
            }
        }
        sources.extend(own_line(report, records));
        sources.extend(recorded);
        seen += report.seen();
        matched += report.matched;
    }
    for workers in reports {
        targets.extend(target_lines(workers).into_iter().skip(usize::from(records)));
    }
    let mut stats = Stats::new(Vec::new(), sources, targets);
    (stats.seen, stats.filtered, stats.matched) = (Some(seen), Some(0), matched);
    stats
}

/// The line of a source; a new one if there is none: of some sources nothing came but word of what
/// they have sent.
fn line_of(lines: &mut Vec<SourceStats>, name: String) -> &mut SourceStats {
    let place = lines.iter().position(|line| line.name == name).unwrap_or(lines.len());
    if place == lines.len() {
        lines.push(SourceStats::new(name, 0, 0, 0, Drops::default()));
    }
    &mut lines[place]
}

fn network(counts: &Counts) -> NetworkStats {
    let Counts { lost, duplicates, reordered, late, .. } = *counts;
    NetworkStats { lost, duplicates, reordered, late }
}

/// What the worker itself gave up, and what went astray between listeners and recorder.
fn own_line(report: &Report, records: bool) -> Option<SourceStats> {
    let lost = report.drops.total();
    let mut line = SourceStats::new(report.name.clone(), lost, 0, 0, report.drops);
    let recorder = report.targets.iter().take(usize::from(records));
    line.unaccounted =
        report.tap().unaccounted + recorder.map(|target| target.unaccounted).sum::<u64>();
    (line.received + line.unaccounted > 0).then_some(line)
}
