//! One tap that the kernel carries, with the sinks of user space that get what it hands up.

use super::control::{Teller, Watch};
use super::ledger::{Counted, lines};
use super::{OneMirror, could_not, take_off};
use crate::failure::Failure;
use crate::mirror::lines::Lines;
use crate::mirror::plan::Wanted;
use crate::targets::Opening;
use api::{Group, Rate, RingSize, TapConfig};
use io::mirror::{Ceiling, TapCounters, TargetCounters, TargetId, TargetOptions};
use io::netns::Netns;
use io::tunnel::{SendOptions, TunnelSink};
use io::{Interface, Interfaces};
use kernel::mirror::layout::Leaving;
use pipeline::{Crew, CrewReport, GroupHealth, GroupTable, Input, Member, Tap};
use std::sync::Arc;
use std::time::Duration;
use wire::LinkType;
use wire::tunnel::Encap;

/// The ring of what is handed up where that is exceptions. Where it may be most of the traffic, it is what
/// the tap's `buffer_size` says.
const HAND_UP_BYTES: usize = 4 << 20;

/// For how long at most a packet is in a program that is an interface's no more.
pub(super) const UNDER_WAY: Duration = Duration::from_millis(2);

/// What a tap is made of.
pub struct NewTap<'a> {
    pub config: &'a TapConfig,
    pub interface: &'a str,
    pub wanted: Wanted,
    /// Whether the interface's longest frames are sent in fragments.
    pub is_fragmented: bool,
    /// Its rate, and what of a packet leaves.
    pub ceiling: Option<(Rate, Leaving)>,
    /// How to send to the members of each group.
    pub sending: Vec<Vec<SendOptions>>,
}

/// A tap that the kernel carries. Dropped, it is the kernel's no more, but nobody has its last lines.
pub struct KernelTap {
    pub(super) of: Arc<OneMirror>,
    name: String,
    pub(super) interface: String,
    pub(super) tap: io::mirror::Tap,
    groups: Vec<Served>,
    is_stopped: bool,
    is_given_back: bool,
}

/// A target.
struct Served {
    id: TargetId,
    endpoints: Vec<String>,
    full: GroupTable,
    health: Option<GroupHealth>,
    sinks: Sinks,
}

/// The sinks of what is handed up.
enum Sinks {
    Ready(Box<Tap>),
    Running(Crew),
    None,
}

impl KernelTap {
    /// Makes a tap, which no interface has yet. `opening` are its sinks in user space.
    ///
    /// # Errors
    /// Why the kernel refuses.
    pub fn new(
        of: Arc<OneMirror>,
        new: NewTap<'_>,
        opening: &mut Opening<'_>,
        interfaces: &Interfaces,
    ) -> Result<KernelTap, Failure> {
        let NewTap { config, interface, wanted, is_fragmented, ceiling, sending } = new;
        let ring = match is_fragmented {
            true => config.buffer_size,
            false => RingSize::Bytes(HAND_UP_BYTES),
        };
        let filter = wanted.filter;
        let rules = filter.rules.as_ref().map_or(0, |rules| rules.as_slice().len());
        let ceiling = ceiling.map(self::ceiling);
        let id = of.lock().mirror.add_tap(rules, ceiling).map_err(could_not)?;
        let mut tap = KernelTap {
            name: config.name.clone(),
            interface: interface.into(),
            tap: io::mirror::Tap {
                id,
                received: filter.received,
                sent: filter.sent,
                rules: filter.rules,
                targets: Vec::new(),
                skips_own_tunnels: true,
            },
            groups: Vec::new(),
            is_stopped: false,
            is_given_back: false,
            of,
        };
        match tap.add_groups(config, sending, ring, opening, interfaces) {
            Ok(()) => Ok(tap),
            Err(failure) => {
                tap.end();
                Err(failure)
            }
        }
    }

    fn add_groups(
        &mut self,
        config: &TapConfig,
        sending: Vec<Vec<SendOptions>>,
        ring: RingSize,
        opening: &mut Opening<'_>,
        interfaces: &Interfaces,
    ) -> Result<(), Failure> {
        let from = interfaces.add(Interface {
            name: Some(self.interface.clone()),
            ..Interface::new(LinkType::ETHERNET.0)
        });
        let in_user_space = opening.groups(0, None, true)?;
        for (place, (group, members)) in config.to.iter().zip(sending).enumerate() {
            let Group(endpoints) = group;
            let shares: Vec<Member> = endpoints
                .iter()
                .map(|of| Member { key: of.canonical(), weight: of.weight() })
                .collect();
            let full = GroupTable::new(&shares);
            let options = TargetOptions {
                snaplen: config.snapshot_length,
                members: members.clone(),
                table: Some(full.slots().to_vec()),
            };
            let inner = &mut *self.of.lock();
            let id = inner.mirror.add_target(&options).map_err(could_not)?;
            self.tap.targets.push(id);
            let health = opening.health(place);
            self.groups.push(Served {
                id,
                endpoints: shares.into_iter().map(|member| member.key).collect(),
                full,
                health: opening.health(place),
                sinks: Sinks::None,
            });
            let tellers = members.iter().map(teller).collect::<Result<_, _>>()?;
            inner.watch(Watch { target: id, health, news: None, tellers });
            let source = inner.mirror.hand_up(id, ring, from).map_err(could_not)?;
            if let Some(served) = self.groups.last_mut() {
                let input = Input { name: self.interface.clone(), source: Box::new(source) };
                served.sinks =
                    Sinks::Ready(Box::new(Tap::new(self.name.clone(), vec![input], Vec::new())));
            }
        }
        for (served, group) in self.groups.iter_mut().zip(in_user_space) {
            if let Sinks::Ready(tap) = &mut served.sinks {
                tap.groups.push(group);
                tap.needs_flow_hash = true;
                tap.snaplen =
                    (config.snapshot_length > 0).then_some(config.snapshot_length as usize);
            }
        }
        Ok(())
    }

    /// Whether it is of the interfaces of this namespace; `None`: the process's own.
    pub fn is_in(&self, netns: Option<&Arc<Netns>>) -> bool {
        self.of.is_of(netns)
    }

    /// Whether an interface has it.
    pub fn is_placed(&self) -> bool {
        self.of.has(&self.interface, self.tap.id)
    }

    /// Whether it is of the same interface, which has the other one.
    pub(super) fn is_beside(&self, other: &KernelTap) -> bool {
        Arc::ptr_eq(&self.of, &other.of) && self.interface == other.interface && self.is_placed()
    }

    /// Gives it another ceiling; one that had none has none until its interface's programs are made anew.
    ///
    /// # Errors
    /// Why the kernel refuses.
    pub fn set_ceiling(&self, rate: Option<(Rate, Leaving)>) -> Result<(), io::Error> {
        self.of.lock().mirror.set_ceiling(self.tap.id, rate.map(ceiling))
    }

    /// Starts the sinks of what is handed up.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn start(&mut self) -> std::io::Result<()> {
        for served in &mut self.groups {
            if let Sinks::Ready(tap) = std::mem::replace(&mut served.sinks, Sinks::None) {
                served.sinks = Sinks::Running(Crew::start(vec![*tap])?);
            }
        }
        Ok(())
    }

    /// Has what was handed up sent, and no more taken: nothing comes by the interface any more.
    pub fn stop(&mut self) {
        self.is_stopped = true;
        self.crews().for_each(Crew::stop);
    }

    /// Whether all that was handed up is sent after the stop.
    pub fn is_finished(&self) -> bool {
        self.is_stopped && self.crews().all(Crew::is_finished)
    }

    /// The workers of what is handed up.
    pub fn crews(&self) -> impl Iterator<Item = &Crew> {
        self.groups.iter().filter_map(|served| match &served.sinks {
            Sinks::Running(crew) => Some(crew),
            _ => None,
        })
    }

    /// The tap's lines; `reports` are those of [`Self::crews`], taken before.
    pub fn lines(&self, reports: Vec<CrewReport>) -> Option<Lines> {
        let read = || -> Result<_, io::Error> {
            let inner = self.of.lock();
            let targets = self.groups.iter().map(|served| inner.mirror.target_counters(served.id));
            let targets = targets.collect::<Result<Vec<_>, _>>()?;
            Ok((targets, inner.mirror.tap_counters(self.tap.id)?))
        };
        match read() {
            Ok((targets, tap)) => Some(self.lines_of(&tap, targets, reports, false)),
            Err(error) => {
                tracing::warn!("tap {}: {error}", self.name);
                None
            }
        }
    }

    fn lines_of(
        &self,
        tap: &TapCounters,
        targets: Vec<TargetCounters>,
        reports: Vec<CrewReport>,
        is_final: bool,
    ) -> Lines {
        let mut reports = reports.into_iter();
        let counted: Vec<Counted<'_>> = self
            .groups
            .iter()
            .zip(targets)
            .map(|(served, kernel)| {
                let health = |at| served.health.as_ref().and_then(|health| health.is_healthy(at));
                Counted {
                    endpoints: served
                        .endpoints
                        .iter()
                        .enumerate()
                        .map(|(at, name)| (name.as_str(), health(at)))
                        .collect(),
                    full: &served.full,
                    kernel,
                    handed_up: reports.next().unwrap_or_default(),
                }
            })
            .collect();
        lines(&self.name, tap, &counted, is_final)
    }

    /// Gives all of it back, and its last lines, once nothing comes by the interface any more.
    pub fn end(mut self) -> (Lines, Vec<Result<(), io::Error>>) {
        self.give_back()
    }

    fn give_back(&mut self) -> (Lines, Vec<Result<(), io::Error>>) {
        self.is_given_back = true;
        let mut results = vec![take_off(&[self])];
        // What an interface still has is not another tap's to have.
        let is_placed = self.is_placed();
        let mut targets = Vec::new();
        for served in &self.groups {
            let mut inner = self.of.lock();
            let counters = match is_placed {
                true => inner.mirror.target_counters(served.id),
                false => {
                    inner.leave(served.id);
                    inner.mirror.remove_target(served.id)
                }
            };
            targets.push(counters.unwrap_or_else(|error| {
                results.push(Err(error));
                TargetCounters::default()
            }));
        }
        let mut inner = self.of.lock();
        let tap = match is_placed {
            true => inner.mirror.tap_counters(self.tap.id),
            false => inner.mirror.remove_tap(self.tap.id),
        };
        drop(inner);
        let tap = tap.unwrap_or_else(|error| {
            results.push(Err(error));
            TapCounters::default()
        });
        self.crews().for_each(Crew::stop);
        let mut reports = Vec::new();
        for served in &mut self.groups {
            if let Sinks::Running(crew) = std::mem::replace(&mut served.sinks, Sinks::None) {
                let (report, result) = crew.join();
                reports.push(report);
                results.push(result);
            }
        }
        let lines = self.lines_of(&tap, targets, reports, true);
        (lines, results)
    }
}

impl Drop for KernelTap {
    fn drop(&mut self) {
        if self.is_given_back {
            return;
        }
        for error in self.give_back().1.into_iter().filter_map(Result::err) {
            tracing::warn!("tap {}: {error}", self.name);
        }
    }
}

fn ceiling((rate, leaving): (Rate, Leaving)) -> Ceiling {
    let burst_ns = pipeline::Ceiling::BURST.as_nanos() as u64;
    Ceiling { bits_per_second: rate.bits_per_second(), burst_ns, leaving }
}

/// What tells the far end of a tunnel whose packets are numbered.
fn teller(options: &SendOptions) -> Result<Option<Teller>, io::Error> {
    match options.encap {
        Encap::Geneve { metadata: true, .. } => Ok(Some(Teller::new(TunnelSink::open(options)?))),
        _ => Ok(None),
    }
}
