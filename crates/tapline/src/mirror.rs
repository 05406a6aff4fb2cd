//! `tapline mirror`: packets of an interface or a file, to tunnels and files.

use crate::capture::ledger;
use crate::cli::{Datapath, FilterPlace, Mirror, Verbosity};
use crate::failure::Failure;
use crate::opened::{Opened, filter_config, must_differ};
use crate::session;
use crate::workers::{count, file_of, say_files};
use api::{Endpoint, Group, TapConfig, TapSource};
use archive::{Layout, Recorder, RecorderOptions, Rotation};
use io::file::FileWriter;
use io::memory::NullSink;
use io::ring::{Handover, KernelFilter, RingOptions};
use io::tunnel::{SendOptions, TunnelSink};
use io::{InterfaceId, Interfaces, Sink};
use pipeline::{FarEnd, OwnTunnels, Tap, Target, TargetGroup};
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use wire::LinkType;
use wire::metadata::Lane;

pub fn run(options: Mirror, verbosity: &Verbosity) -> Result<(), Failure> {
    session::check_stats_path(&options.report)?;
    if options.datapath == Datapath::Kernel {
        return Err(Failure::CouldNot(
            "the kernel datapath is not there yet; use --datapath ring or auto".into(),
        ));
    }
    let configs = match &options.config {
        Some(path) => api::read_mirror_file(path)?,
        None => of_options(&options)?,
    };
    let (taps, begun) = open(&configs, options.filter_place)?;
    session::run(taps, &begun, ledger, &options.report, verbosity)
}

/// The taps that the options say: one for each interface, or one for the file.
fn of_options(options: &Mirror) -> Result<Vec<TapConfig>, Failure> {
    if options.interface.len() > 1 && files(&options.to).next().is_some() {
        return Err(Failure::Usage(
            "two interfaces cannot write one file; run one mirror for each, or use a tunnel".into(),
        ));
    }
    let filter = filter_config(options.rules.as_deref(), &options.expression)?;
    let tap = |name: String, source: TapSource| TapConfig {
        name,
        source,
        to: options.to.clone(),
        direction: options.direction,
        snapshot_length: options.snapshot_length,
        oversize: options.oversize,
        promiscuous: options.promiscuous,
        buffer_size: options.buffer_size,
        workers: options.workers,
        filter: filter.clone(),
    };
    let interfaces = options.interface.iter();
    let interfaces = interfaces.map(|name| tap(name.clone(), TapSource::Interface(name.clone())));
    let file = options.read.as_ref();
    let file = file.map(|path| tap(path.display().to_string(), TapSource::File(path.clone())));
    Ok(interfaces.chain(file).collect())
}

/// Opens taps, for each of their workers, and says of each how it begins.
fn open(
    configs: &[TapConfig],
    filter_place: FilterPlace,
) -> Result<(Vec<Vec<Tap>>, Vec<String>), Failure> {
    must_stand_apart(configs)?;
    let mut said_of_files = Vec::new();
    for config in configs.iter().filter(|config| workers_of(config) > 1) {
        for path in files(&config.to) {
            said_of_files.push(say_files(path, workers_of(config))?);
        }
    }
    let interfaces = Interfaces::default();
    // Whatever may fail comes before any file is replaced.
    let mut ready = Vec::new();
    // A tap that sends into tunnels leaves those of all of them out.
    let mut far_ends: Vec<FarEnd> = Vec::new();
    // Random, so that what begins anew is not taken for a loss.
    let epoch = RandomState::new().hash_one(std::process::id()) as u32;
    for (number, config) in (1..).zip(configs) {
        // Of one tap it is clear what is meant.
        let told = |failure: Failure| match configs.len() {
            1 => failure,
            _ => failure.of(&format!("tap {}", config.name)),
        };
        let opened = source(config, filter_place, &interfaces).map_err(told)?;
        must_fit(config, &opened.link_types)?;
        let of_tap = Lane { epoch, tap: number, target: 0, lane: 0 };
        let tunnel_sinks =
            open_tunnels(config, of_tap, opened.shares.len(), &mut far_ends).map_err(told)?;
        ready.push((config, opened, tunnel_sinks));
    }
    let (mut taps, mut own, mut begun) = (Vec::new(), Vec::new(), Vec::new());
    for (config, opened, tunnel_sinks) in ready {
        begun.push(match config.name == opened.name {
            true => opened.announcement,
            false => format!("tap {}: {}", config.name, opened.announcement),
        });
        let workers = opened.shares.len();
        let mut shares = Vec::with_capacity(workers);
        let mut tunnel_sinks = tunnel_sinks.into_iter();
        for (worker, (input, filter)) in opened.shares.into_iter().enumerate() {
            let place = Place { worker, workers, first: opened.first };
            let open = |group| open_group(group, &interfaces, &place, &mut tunnel_sinks);
            let groups = config.to.iter().map(open).collect::<Result<Vec<_>, Failure>>()?;
            let mut tap = Tap::new(config.name.clone(), vec![input], groups);
            tap.filter = filter;
            tap.snaplen = (config.snapshot_length > 0).then_some(config.snapshot_length as usize);
            tap.needs_flow_hash = tunnels(config);
            shares.push(tap);
        }
        own.push(tunnels(config).then_some(opened.sees_loopback));
        taps.push(shares);
    }
    for (shares, sees_loopback) in taps.iter_mut().zip(own) {
        if let Some(sees_loopback) = sees_loopback {
            for tap in shares {
                tap.own = OwnTunnels::new(far_ends.clone(), sees_loopback);
            }
        }
    }
    begun.extend(said_of_files);
    Ok((taps, begun))
}

/// Whose targets are opened.
struct Place {
    /// Which of how many workers.
    worker: usize,
    workers: usize,
    /// The interface that files name first.
    first: Option<InterfaceId>,
}

/// How many workers a tap has: a file is read by one.
fn workers_of(config: &TapConfig) -> usize {
    match config.source {
        TapSource::File(_) => 1,
        TapSource::Interface(_) => count(config.workers),
    }
}

fn source(
    config: &TapConfig,
    filter_place: FilterPlace,
    interfaces: &Interfaces,
) -> Result<Opened, Failure> {
    let TapConfig { direction, filter, .. } = config;
    match &config.source {
        TapSource::File(path) => Opened::file(path, *direction, filter, interfaces),
        TapSource::Interface(name) => {
            let ring = RingOptions {
                interface: name.clone(),
                promiscuous: config.promiscuous,
                ring_size: config.buffer_size,
                handover: Handover::Prompt,
                snaplen: config.snapshot_length,
                filter: KernelFilter::Absent,
            };
            Opened::interface(
                ring,
                workers_of(config),
                *direction,
                filter,
                filter_place,
                interfaces,
            )
        }
    }
}

fn tunnels(config: &TapConfig) -> bool {
    members(config).any(|member| member.tunnel().is_some())
}

fn members(config: &TapConfig) -> impl Iterator<Item = &Endpoint> {
    config.to.iter().flat_map(|Group(members)| members)
}

/// Refuses tunnels that can carry none of a source's packets; where they can carry some, the others
/// are counted.
fn must_fit(config: &TapConfig, link_types: &[LinkType]) -> Result<(), Failure> {
    for tunnel in members(config).filter_map(Endpoint::tunnel) {
        let carries = |link_type: &LinkType| tunnel.encap().is_none_or(|e| e.carries(*link_type));
        if !link_types.is_empty() && !link_types.iter().any(carries) {
            return Err(Failure::CouldNot(format!(
                "{}: its packets have no Ethernet header, which {tunnel} carries; use gre:// or \
                 geneve://, or record them with --to pcap:PATH",
                config.name
            )));
        }
    }
    Ok(())
}

/// The files that are written.
fn files(groups: &[Group]) -> impl Iterator<Item = &Path> {
    groups.iter().flat_map(|Group(members)| members).filter_map(|member| match member {
        Endpoint::Pcap { path } => Some(path.as_path()),
        _ => None,
    })
}

/// Refuses two targets that write one file: each would write over the other's packets; and two taps
/// that read standard input, of which each would get a part.
fn must_stand_apart(configs: &[TapConfig]) -> Result<(), Failure> {
    let is_stdin = |config: &&TapConfig| config.source == TapSource::File("-".into());
    if configs.iter().filter(is_stdin).count() > 1 {
        return Err(Failure::Usage(
            "two taps cannot read standard input: give each its own".into(),
        ));
    }
    let mut places = BTreeSet::new();
    for config in configs {
        let workers = workers_of(config);
        for (path, worker) in
            files(&config.to).flat_map(|path| (0..workers).map(move |n| (path, n)))
        {
            // Standard output, which workers cannot share, is refused here.
            let path = file_of(path, worker, workers)?;
            if place(&path).is_some_and(|place| !places.insert(place)) {
                return Err(Failure::Usage(format!(
                    "pcap:{} is the file of another target too: give each its own",
                    path.display()
                )));
            }
            for reader in configs {
                if let TapSource::File(read) = &reader.source {
                    must_differ(Some(read), &path, false)?;
                }
            }
        }
    }
    Ok(())
}

/// Where a file stands, or will once it is made; `None` for devices, and for folders that are not
/// there.
fn place(path: &Path) -> Option<PathBuf> {
    if path == Path::new("-") {
        return Some(path.into());
    }
    if path.exists() {
        return path.canonicalize().ok().filter(|path| path.is_file());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    Some(folder.unwrap_or(Path::new(".")).canonicalize().ok()?.join(path.file_name()?))
}

/// Opens the tunnels of a tap, for one worker after the other and in their order, and makes sure of its
/// files; the far ends of the tunnels are added to `far_ends`.
fn open_tunnels(
    config: &TapConfig,
    of_tap: Lane,
    workers: usize,
    far_ends: &mut Vec<FarEnd>,
) -> Result<Vec<TunnelSink>, Failure> {
    let mut sinks = Vec::new();
    for worker in 0..workers {
        for (target, member) in members(config).enumerate() {
            match member {
                Endpoint::Tunnel(tunnel) => {
                    let missing = || Failure::Usage(format!("{member}: the tunnel id is missing"));
                    let (remote, carrier) = (tunnel.resolve()?, tunnel.carrier);
                    let far_end = FarEnd { address: remote.ip(), carrier };
                    if !far_ends.contains(&far_end) {
                        far_ends.push(far_end);
                    }
                    sinks.push(TunnelSink::open(&SendOptions {
                        remote,
                        carrier,
                        encap: tunnel.encap().ok_or_else(missing)?,
                        oversize: config.oversize,
                        lane: Lane { target: target as u8, lane: worker as u8, ..of_tap },
                    })?);
                }
                Endpoint::Nic { .. } | Endpoint::Tap { .. } => {
                    return Err(Failure::Usage(format!("{member}: cannot be sent to")));
                }
                Endpoint::Pcap { path } => FileWriter::check(&file_of(path, worker, workers)?)?,
                Endpoint::Null => {}
            }
        }
    }
    Ok(sinks)
}

/// Opens the targets of a group, whose tunnels come next of those that are open.
fn open_group(
    Group(members): &Group,
    interfaces: &Interfaces,
    place: &Place,
    tunnels: &mut impl Iterator<Item = TunnelSink>,
) -> Result<TargetGroup, Failure> {
    let mut targets = Vec::new();
    for member in members {
        let sink: Box<dyn Sink> = match member {
            Endpoint::Tunnel(_) | Endpoint::Nic { .. } | Endpoint::Tap { .. } => {
                Box::new(tunnels.next().expect("each tunnel was opened"))
            }
            Endpoint::Pcap { path } => {
                let path = file_of(path, place.worker, place.workers)?;
                Box::new(file(&path, interfaces, place.first)?)
            }
            Endpoint::Null => Box::new(NullSink::default()),
        };
        targets.push(Target::new(member.canonical(), sink));
    }
    let weights: Vec<u16> = members.iter().map(Endpoint::weight).collect();
    Ok(TargetGroup::new(targets, &weights))
}

fn file(
    path: &Path,
    interfaces: &Interfaces,
    first: Option<InterfaceId>,
) -> Result<Recorder, Failure> {
    let options = RecorderOptions {
        layout: Layout::File(path.into()),
        rotation: Rotation::default(),
        unbuffered: false,
        first,
        bytes_max: None,
    };
    Ok(Recorder::new(options, interfaces, io::Now::read())?)
}
