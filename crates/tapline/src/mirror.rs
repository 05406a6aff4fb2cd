//! `tapline mirror`: packets of an interface or a file, to tunnels and files.

use crate::capture::ledger;
use crate::cli::{Datapath, Mirror, Verbosity};
use crate::failure::Failure;
use crate::opened::{Opened, Wanted, must_differ};
use crate::session;
use api::{Endpoint, Group};
use archive::{Layout, Recorder, RecorderOptions, Rotation};
use io::memory::NullSink;
use io::ring::{Handover, KernelFilter, RingOptions};
use io::tunnel::TunnelSink;
use io::{InterfaceId, Interfaces, Sink};
use pipeline::{OwnTunnels, Tap, Target, TargetGroup};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use wire::LinkType;

pub fn run(options: Mirror, verbosity: &Verbosity) -> Result<(), Failure> {
    if options.datapath == Datapath::Kernel {
        return Err(Failure::CouldNot(
            "the kernel datapath is not there yet; use --datapath ring or auto".into(),
        ));
    }
    if options.interface.len() > 1 && writes_a_file(&options.to) {
        return Err(Failure::Usage(
            "two interfaces cannot write one file; run one mirror for each, or use a tunnel".into(),
        ));
    }
    must_stand_apart(&options.to)?;
    let wanted = Wanted::new(options.rules.as_deref(), &options.expression)?;
    let interfaces = Interfaces::default();
    let (mut taps, mut begun) = (Vec::new(), Vec::new());
    let tunnels = options.to.iter().flat_map(|Group(members)| members).any(is_tunnel);
    // Filters are compiled before the targets are opened, which replace files.
    for opened in sources(&options, &wanted, &interfaces)? {
        if tunnels && !may_be_ethernet(&opened.link_types) {
            return Err(Failure::CouldNot(format!(
                "{}: its packets have no Ethernet header, which a VXLAN tunnel carries; record them \
                 with --to pcap:PATH",
                opened.input.name
            )));
        }
        let mut remotes = Vec::new();
        let open = |group| open_group(group, &options, &interfaces, opened.first, &mut remotes);
        let groups = options.to.iter().map(open).collect::<Result<Vec<_>, Failure>>()?;
        let mut tap = Tap::new(opened.input.name.clone(), vec![opened.input], groups);
        tap.own = OwnTunnels::new(remotes, opened.sees_loopback);
        tap.filter = opened.filter;
        tap.snaplen = (options.snapshot_length > 0).then_some(options.snapshot_length as usize);
        tap.needs_flow_hash = tunnels;
        taps.push(tap);
        begun.push(opened.announcement);
    }
    session::run(taps, &begun, ledger, &options.report, verbosity)
}

fn sources(
    options: &Mirror,
    wanted: &Wanted,
    interfaces: &Interfaces,
) -> Result<Vec<Opened>, Failure> {
    if let Some(path) = &options.read {
        return Ok(vec![Opened::file(path, options.direction, wanted, interfaces)?]);
    }
    let open = |name: &String| {
        let ring = RingOptions {
            interface: name.clone(),
            promiscuous: options.promiscuous,
            ring_size: options.buffer_size,
            handover: Handover::Prompt,
            snaplen: options.snapshot_length,
            filter: KernelFilter::Absent,
        };
        Opened::interface(ring, options.direction, wanted, options.filter_place, interfaces)
    };
    options.interface.iter().map(open).collect()
}

/// Whether some packets may begin with an Ethernet header; those that do not are counted.
fn may_be_ethernet(link_types: &[LinkType]) -> bool {
    link_types.is_empty() || link_types.contains(&LinkType::ETHERNET)
}

fn writes_a_file(groups: &[Group]) -> bool {
    groups.iter().flat_map(|Group(members)| members).any(|m| matches!(m, Endpoint::Pcap { .. }))
}

/// Refuses two targets that write one file: each would write over the other's packets.
fn must_stand_apart(groups: &[Group]) -> Result<(), Failure> {
    let mut places = BTreeSet::new();
    for member in groups.iter().flat_map(|Group(members)| members) {
        let Endpoint::Pcap { path } = member else {
            continue;
        };
        if place(path).is_some_and(|place| !places.insert(place)) {
            return Err(Failure::Usage(format!(
                "{member} is the file of another target too: give each its own"
            )));
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

fn is_tunnel(endpoint: &Endpoint) -> bool {
    matches!(endpoint, Endpoint::Vxlan { .. })
}

/// Opens the targets of a group; the far ends of its tunnels are added to `remotes`.
fn open_group(
    Group(members): &Group,
    options: &Mirror,
    interfaces: &Interfaces,
    first: Option<InterfaceId>,
    remotes: &mut Vec<SocketAddr>,
) -> Result<TargetGroup, Failure> {
    let mut targets = Vec::new();
    for member in members {
        let sink: Box<dyn Sink> = match member {
            Endpoint::Vxlan { vni, .. } => {
                let vni = vni.ok_or_else(|| Failure::Usage(format!("{member}: add ?vni=N")))?;
                let remote = member.resolve()?;
                remotes.push(remote);
                Box::new(TunnelSink::open(remote, vni, options.oversize)?)
            }
            Endpoint::Pcap { path } => {
                must_differ(options.read.as_deref(), path, false)?;
                Box::new(file(path, interfaces, first)?)
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
