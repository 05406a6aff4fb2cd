//! `tapline receive`: packets out of tunnels, into files.

use crate::cli::{Receive, Verbosity};
use crate::failure::Failure;
use crate::health::{Claim, Health};
use crate::session::{self, Moment};
use api::{Endpoint, SourceStats, Stats, TunnelEndpoint};
use archive::{Adopted, Layout, Recorder, RecorderOptions};
use io::tunnel::{ListenOptions, TunnelSource};
use io::{Interfaces, Now};
use pipeline::{CrewReport, Input, Tap, Target, TargetGroup};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use wire::tunnel::Kind;

/// When an archive's segments are closed unless the user says otherwise.
const SEGMENT_BYTES: u64 = 100_000_000;
const SEGMENT_TIME: Duration = Duration::from_secs(60);
/// Into how many segments a bound on an archive is cut unless the user says how large they are.
const SEGMENTS: u64 = 8;

pub fn run(options: Receive, verbosity: &Verbosity) -> Result<(), Failure> {
    session::check_stats_path(&options.report)?;
    let interfaces = Interfaces::default();
    let recorder = recorder_options(&options)?;
    if let Some(archive) = &options.archive {
        // Before anything comes in: it may take a while.
        tell(&archive::adopt(archive)?);
    }
    let claim = options.health.map(Claim::new).transpose()?;
    let (mut inputs, mut begun) = (Vec::new(), Vec::new());
    for place in places(&options.listen)? {
        let name = place.name();
        let ListenPlace { local, endpoints } = place;
        let buffer_bytes = options.buffer_size as usize;
        let source =
            TunnelSource::open(&ListenOptions { local, endpoints, buffer_bytes }, &interfaces)?;
        begun.push(format!("listening on {name}"));
        inputs.push(Input { name, source: Box::new(source) });
    }
    // Only now: a receiver that cannot listen must not replace the file of one that does.
    let recorder = Recorder::new(recorder, &interfaces, Now::read())?;
    let status = recorder.status();
    let ledger = |reports: &[CrewReport]| {
        let mut stats = ledger(reports);
        stats.removed = options.max_bytes.map(|_| status.removed());
        stats
    };
    let health = claim.map(|claim| Health::start(claim, Arc::clone(&status))).transpose()?;
    let target = Target::new("recorder".into(), Box::new(recorder));
    let tap = Tap::new("receive".into(), inputs, vec![TargetGroup::new(vec![target], &[1])]);
    let Some(health) = health else {
        return session::run(vec![vec![tap]], &begun, ledger, &options.report, verbosity);
    };
    let mut watch = |moment: Moment<'_>| match moment {
        Moment::Alive(stats) => health.pulse(stats),
        Moment::Stopping => health.stopping(),
    };
    session::run_watched(
        vec![vec![tap]],
        &begun,
        ledger,
        &options.report,
        verbosity,
        Some(&mut watch),
    )
}

fn recorder_options(options: &Receive) -> Result<RecorderOptions, Failure> {
    let mut rotation = options.rotation.to_archive();
    let layout = match (&options.archive, &options.write) {
        (Some(archive), _) => {
            if rotation.files.is_some() {
                return Err(Failure::Usage("an archive keeps every segment: leave -W out".into()));
            }
            let of_bound = options.max_bytes.map_or(u64::MAX, |bytes| bytes / SEGMENTS);
            rotation.bytes.get_or_insert(SEGMENT_BYTES.min(of_bound));
            rotation.time.get_or_insert(SEGMENT_TIME);
            Layout::Archive(archive.clone())
        }
        (None, Some(path)) => Layout::File(path.clone()),
        (None, None) => Layout::File(PathBuf::from("-")),
    };
    Ok(RecorderOptions {
        layout,
        rotation,
        unbuffered: options.packet_buffered,
        first: None,
        bytes_max: options.max_bytes,
    })
}

/// Says what an earlier recording had left behind.
fn tell(adopted: &Adopted) {
    let Adopted { segments, packets, damaged } = adopted;
    if *segments > 0 {
        tracing::info!("adopted {segments} segments, {packets} packets, that were left open");
    }
    if !damaged.is_empty() {
        tracing::warn!("{} segments that were left open are damaged", damaged.len());
    }
}

/// The endpoints of a kind that listen at one place share a socket, or each would count the other's
/// packets as a stranger's.
fn places(listen: &[Endpoint]) -> Result<Vec<ListenPlace>, Failure> {
    let mut places: Vec<ListenPlace> = Vec::new();
    for tunnel in listen.iter().filter_map(Endpoint::tunnel) {
        let local = tunnel.resolve()?;
        let same = |place: &&mut ListenPlace| {
            place.local == local && place.endpoints[0].carrier == tunnel.carrier
        };
        let Some(place) = places.iter_mut().find(same) else {
            places.push(ListenPlace { local, endpoints: vec![tunnel.clone()] });
            continue;
        };
        let first = &place.endpoints[0];
        if family(first.scheme.kind) != family(tunnel.scheme.kind) {
            return Err(Failure::Usage(format!(
                "{first} and {tunnel} cannot share a port: packets do not say which tunnel they \
                 are; give one of them another port"
            )));
        }
        place.endpoints.push(tunnel.clone());
    }
    Ok(places)
}

/// The kind whose header tells the others of its family apart.
fn family(kind: Kind) -> Kind {
    match kind {
        Kind::Gretap | Kind::Erspan => Kind::Gre,
        kind => kind,
    }
}

/// Where one socket listens, and for what.
struct ListenPlace {
    local: SocketAddr,
    endpoints: Vec<TunnelEndpoint>,
}

impl ListenPlace {
    fn name(&self) -> String {
        let names: Vec<String> = self.endpoints.iter().map(ToString::to_string).collect();
        names.join(", ")
    }
}

/// The ledger of a receiver: a line for each source; and one for each listener that lost something
/// before it knew the source, or that nobody sent anything.
fn ledger(reports: &[CrewReport]) -> Stats {
    let mut sources = Vec::new();
    let (mut seen, mut matched) = (0, 0);
    for report in reports.iter().flatten() {
        for input in &report.inputs {
            if input.drops.total() > 0 || report.sources.is_empty() {
                let lost = input.drops.total();
                sources.push(SourceStats::new(input.name.clone(), lost, 0, 0, input.drops));
            }
        }
        // What the worker itself gave up, and what went astray between listeners and recorder.
        let lost = report.drops.total();
        let mut own = SourceStats::new(report.name.clone(), lost, 0, 0, report.drops);
        own.unaccounted = report.tap().unaccounted
            + report.targets.iter().map(|target| target.unaccounted).sum::<u64>();
        if own.received + own.unaccounted > 0 {
            sources.push(own);
        }
        sources.extend(report.sources.iter().cloned());
        seen += report.seen();
        matched += report.matched;
    }
    let mut stats = Stats::new(Vec::new(), sources, Vec::new());
    (stats.seen, stats.filtered, stats.matched) = (Some(seen), Some(0), matched);
    stats
}
