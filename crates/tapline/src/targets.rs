//! The targets of taps, opened for `mirror` and `receive` alike.
//!
//! In two steps, as whatever may fail comes before any file is replaced: first what has a far end,
//! of all taps, then the groups of each worker, with their files.

use crate::failure::Failure;
use crate::workers::file_of;
use api::{Balance, Endpoint, Group, QueueConfig, Sending, TunnelEndpoint};
use archive::{Layout, Recorder, RecorderOptions, Rotation};
use io::apart::Apart;
use io::file::{FifoSink, FileWriter, is_fifo};
use io::memory::NullSink;
use io::nic::NicSink;
use io::tun::TapSink;
use io::tunnel::{SendOptions, TunnelSink};
use io::{InterfaceId, Interfaces, Sink};
use pipeline::{FarEnd, GroupHealth, HealthChecks, Target, TargetGroup};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use wire::LinkType;
use wire::metadata::Lane;
use wire::tunnel::Encap;

/// Targets of a tap that its packets can tell apart.
const TARGETS_MAX: usize = 1 << u8::BITS;

/// What the targets of all taps of this process share.
pub struct Targets {
    interfaces: Interfaces,
    /// Random, so that what begins anew is not taken for a loss.
    epoch: u32,
    far_ends: Vec<FarEnd>,
    devices: BTreeMap<String, TapSink>,
    checks: HealthChecks,
}

/// The targets of one tap, of which all but the files are open.
pub struct Opening<'a> {
    to: &'a [Group],
    interfaces: Interfaces,
    workers: usize,
    /// What those of a broker have.
    of_broker: Option<(QueueConfig, Balance)>,
    /// For one worker after the other the targets in their order, but for the files.
    sinks: std::vec::IntoIter<Box<dyn Sink>>,
    /// The health of each group's members, which all workers share.
    health: Vec<Option<GroupHealth>>,
    /// Where its tunnels lead.
    pub far_ends: Vec<FarEnd>,
}

impl Targets {
    /// None is open yet. `interfaces` are those of the packets that will come.
    pub fn new(interfaces: &Interfaces) -> Targets {
        Targets {
            interfaces: interfaces.clone(),
            epoch: RandomState::new().hash_one(std::process::id()) as u32,
            far_ends: Vec::new(),
            devices: BTreeMap::new(),
            checks: HealthChecks::default(),
        }
    }

    /// Opens the targets of a tap for each of its workers, and makes sure of its files. `tap` is its
    /// number among those of this process.
    pub fn open<'a>(
        &mut self,
        to: &'a [Group],
        sending: Sending,
        tap: u16,
        workers: usize,
    ) -> Result<Opening<'a>, Failure> {
        self.open_lanes(to, sending, tap, 0, workers)
    }

    /// The same beside others that number packets of the tap: those have the lanes below `first_lane`.
    pub fn open_lanes<'a>(
        &mut self,
        to: &'a [Group],
        sending: Sending,
        tap: u16,
        first_lane: u8,
        workers: usize,
    ) -> Result<Opening<'a>, Failure> {
        let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
        let mut far_ends = Vec::new();
        for worker in 0..workers {
            for (target, member) in members(to).enumerate() {
                match member {
                    Endpoint::Tunnel(tunnel) => {
                        let encap = tunnel.encap();
                        let is_numbered =
                            matches!(encap, Some(Encap::Geneve { metadata: true, .. }));
                        if is_numbered && target >= TARGETS_MAX {
                            return Err(Failure::Usage(format!(
                                "{tunnel} is target {} of its tap: packets have room for the \
                                 numbers of {TARGETS_MAX}; add ?metadata=off",
                                target + 1
                            )));
                        }
                        let (target, lane) = (target as u8, first_lane + worker as u8);
                        let lane = Lane { epoch: self.epoch, tap, target, lane };
                        let options = send_options(tunnel, sending, lane)?;
                        let far_end =
                            FarEnd { address: options.remote.ip(), carrier: options.carrier };
                        if !self.far_ends.contains(&far_end) {
                            self.far_ends.push(far_end);
                        }
                        sinks.push(Box::new(TunnelSink::open(&options)?));
                        far_ends.push(far_end);
                    }
                    Endpoint::Nic { interface, .. } => {
                        sinks.push(Box::new(NicSink::open(interface)?))
                    }
                    Endpoint::Tap { name, mtu, .. } => {
                        sinks.push(Box::new(self.device(name, *mtu)?))
                    }
                    Endpoint::Pcap { path } => FileWriter::check(&file_of(path, worker, workers)?)?,
                    Endpoint::Null => sinks.push(Box::new(NullSink::default())),
                }
            }
        }
        let interfaces = self.interfaces.clone();
        let health = to.iter().map(|group| self.checks.watch(group));
        let health = health.collect::<Result<_, _>>()?;
        let sinks = sinks.into_iter();
        Ok(Opening { to, interfaces, workers, of_broker: None, sinks, health, far_ends })
    }

    /// Where the tunnels lead that have been opened so far.
    pub fn far_ends(&self) -> &[FarEnd] {
        &self.far_ends
    }

    /// The TAP devices that are fed, by their indices: what is written there arrives at this host.
    pub fn fed(&self) -> Vec<i32> {
        self.devices.values().map(TapSink::index).collect()
    }

    /// Gives up the TAP devices that are not to be kept; each goes with its last sink.
    pub fn keep_devices(&mut self, keep: impl Fn(&str) -> bool) {
        self.devices.retain(|name, _| keep(name));
    }

    /// A TAP device, which all workers and taps share.
    fn device(&mut self, name: &str, mtu: Option<u32>) -> Result<TapSink, Failure> {
        if let Some(device) = self.devices.get(name) {
            return Ok(device.clone());
        }
        let device = TapSink::open(name, mtu)?;
        self.devices.insert(name.into(), device.clone());
        Ok(device)
    }

    /// How the kernel is to send to the members of each group of a tap, all of which are tunnels; its CPUs
    /// number packets by lanes from 0 on.
    pub fn in_kernel(
        &self,
        to: &[Group],
        sending: Sending,
        tap: u16,
    ) -> Result<Vec<Vec<SendOptions>>, Failure> {
        let mut target = 0u8;
        let mut options = |member: &Endpoint| {
            let lane = Lane { epoch: self.epoch, tap, target, lane: 0 };
            target = target.wrapping_add(1);
            let tunnel = member.tunnel().ok_or_else(|| {
                Failure::CouldNot(format!(
                    "{member} is no tunnel, and the kernel sends to no other"
                ))
            })?;
            send_options(tunnel, sending, lane)
        };
        to.iter().map(|Group(members)| members.iter().map(&mut options).collect()).collect()
    }
}

fn send_options(
    tunnel: &TunnelEndpoint,
    sending: Sending,
    lane: Lane,
) -> Result<SendOptions, Failure> {
    let missing = || Failure::Usage(format!("{tunnel}: the tunnel id is missing"));
    let encap = tunnel.encap().ok_or_else(missing)?;
    let (remote, carrier) = (tunnel.resolve()?, tunnel.carrier);
    let (source, keep_alive) = (tunnel.source, tunnel.keep_alive);
    Ok(SendOptions { remote, source, carrier, encap, sending, lane, keep_alive })
}

impl Opening<'_> {
    /// Gives each target a queue of its own, and each group a way to share.
    pub fn of_broker(self, queue: QueueConfig, balance: Balance) -> Self {
        Opening { of_broker: Some((queue, balance)), ..self }
    }

    /// The groups of a worker, which are to be asked for in the order of the workers. Its files are
    /// replaced; `first` is the interface that they name first. A broker's stand on threads of their
    /// own; behind any other source that is live, those do that may have to wait for a reader.
    pub fn groups(
        &mut self,
        worker: usize,
        first: Option<InterfaceId>,
        is_live: bool,
    ) -> Result<Vec<TargetGroup>, Failure> {
        let to = self.to;
        (0..to.len()).map(|number| self.group(number, worker, first, is_live)).collect()
    }

    /// The health of a group's members, for one more who follows it.
    pub fn health(&self, group: usize) -> Option<GroupHealth> {
        self.health[group].as_ref().map(GroupHealth::for_another_worker)
    }

    fn group(
        &mut self,
        number: usize,
        worker: usize,
        first: Option<InterfaceId>,
        is_live: bool,
    ) -> Result<TargetGroup, Failure> {
        let group = &self.to[number];
        let Group(members) = group;
        let mut targets = Vec::new();
        for member in members {
            let sink: Box<dyn Sink> = match member {
                Endpoint::Pcap { path } => {
                    let path = file_of(path, worker, self.workers)?;
                    match self.of_broker.is_some() || (is_live && may_wait(&path)) {
                        true => file_apart(&path, &self.interfaces, first)?,
                        false => Box::new(file(&path, &self.interfaces, first)?),
                    }
                }
                _ => self.sinks.next().expect("each was opened, for each worker"),
            };
            targets.push(match self.of_broker {
                Some((queue, _)) => Target::queued(member.canonical(), sink, queue),
                None => Target::new(member.canonical(), sink),
            });
        }
        let weights: Vec<u16> = members.iter().map(Endpoint::weight).collect();
        let health = self.health[number].as_ref().map(GroupHealth::for_another_worker);
        let balance = self.of_broker.map_or_else(|| group.balance(), |(_, balance)| balance);
        Ok(TargetGroup::balanced(targets, &weights, balance, health))
    }
}

/// The members of all groups.
pub fn members(groups: &[Group]) -> impl Iterator<Item = &Endpoint> {
    groups.iter().flat_map(|Group(members)| members)
}

/// Whether some of them are tunnels.
pub fn has_tunnels(groups: &[Group]) -> bool {
    members(groups).any(|member| member.tunnel().is_some())
}

/// The files that are written.
pub fn files(groups: &[Group]) -> impl Iterator<Item = &Path> {
    members(groups).filter_map(|member| match member {
        Endpoint::Pcap { path } => Some(path.as_path()),
        _ => None,
    })
}

/// The interfaces that get packets: NICs and TAP devices.
pub fn devices(groups: &[Group]) -> impl Iterator<Item = String> {
    members(groups).filter_map(|member| match member {
        Endpoint::Nic { interface: name, .. } | Endpoint::Tap { name, .. } => Some(name.clone()),
        _ => None,
    })
}

/// Whether packets of some link types may be sent to an endpoint; those of others are counted.
pub fn carries(endpoint: &Endpoint, link_types: &[LinkType]) -> bool {
    let carries = |link_type: &LinkType| match endpoint {
        Endpoint::Tunnel(tunnel) => tunnel.encap().is_none_or(|e| e.carries(*link_type)),
        Endpoint::Nic { .. } | Endpoint::Tap { .. } => *link_type == LinkType::ETHERNET,
        Endpoint::Pcap { .. } | Endpoint::Null => true,
    };
    link_types.is_empty() || link_types.iter().any(carries)
}

/// Files that are to be written: no two of them may be one, as each target would write over the
/// other's packets.
#[derive(Default)]
pub struct Places(BTreeSet<PathBuf>);

impl Places {
    /// Those of some groups.
    pub fn of(groups: &[Group]) -> Places {
        Places(files(groups).filter_map(place).collect())
    }

    /// Whether a file is one of them, by whatever name.
    pub fn has(&self, path: &Path) -> bool {
        place(path).is_some_and(|place| self.0.contains(&place))
    }

    /// Refuses a file that was claimed before.
    pub fn claim(&mut self, path: &Path) -> Result<(), Failure> {
        match place(path).is_none_or(|place| self.0.insert(place)) {
            true => Ok(()),
            false => Err(Failure::Usage(format!(
                "pcap:{} is the file of another target too: give each its own",
                path.display()
            ))),
        }
    }
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

/// Whether writing there may have to wait for a reader: of standard output, or of a pipe.
pub fn may_wait(path: &Path) -> bool {
    path == Path::new("-") || path.metadata().is_ok_and(|metadata| !metadata.is_file())
}

/// A capture file, or a pipe, on a thread of its own: a disk that hangs, or a reader that pauses, costs
/// its own packets only. A named pipe need not have a reader, and may get another one.
pub fn file_apart(
    path: &Path,
    interfaces: &Interfaces,
    first: Option<InterfaceId>,
) -> Result<Box<dyn Sink>, Failure> {
    let sink: Box<dyn Sink> = match is_fifo(path) {
        true => Box::new(FifoSink::open(path, interfaces, first)?),
        false => Box::new(file(path, interfaces, first)?),
    };
    Ok(Box::new(Apart::new(sink, "file", io::apart::BYTES)?))
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
        budget: None,
        waker: None,
    };
    Ok(Recorder::new(options, interfaces, io::Now::read())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_whose_packets_could_not_be_told_from_anothers_is_refused() {
        let group = |text: &str| Group(vec![Endpoint::target(text).unwrap()]);
        let mut to = vec![group("null:"); TARGETS_MAX];
        to.push(group("geneve://127.0.0.1?vni=1"));
        let mut targets = Targets::new(&Interfaces::default());
        let error = targets.open(&to, Sending::default(), 1, 1).err().unwrap();
        let error = error.message().unwrap_or_default();
        assert!(error.contains("target 257 of its tap"), "{error}");
        to.remove(0);
        if rig::root_or_skip() {
            assert!(targets.open(&to, Sending::default(), 1, 1).is_ok());
        }
    }
}
