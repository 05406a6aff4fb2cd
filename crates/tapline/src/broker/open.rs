//! The parts of a broker, opened: what its sources, maps and targets say, as the engine takes it.

use crate::cli::{FilterIn, FilterPlace, ReceiveDatapath};
use crate::failure::Failure;
use crate::listeners::{Listeners, Listening, Tunnels};
use crate::opened::{Opened, compile};
use crate::targets::{Opening, Targets, has_tunnels};
use api::{
    DirectionChoice, FilterConfig, MapConfig, Origin, Pace, QueueSize, SourceConfig, StageConfig,
    TargetConfig,
};
use io::Interfaces;
use io::paced::PacedSource;
use io::ring::{Handover, KernelFilter, RingOptions};
use pipeline::stage::{Step, build};
use pipeline::{
    CaptureFilter, FarEnd, History, Inlet, Input, Map, NewSteps, Outlet, OwnTunnels, Part, Renewal,
    check_queue_memory,
};
use std::slice;
use wire::LinkType;

/// Sources are filtered by their maps; in the kernel packets are only counted, where it can.
const COUNTED: FilterPlace = FilterPlace { filter_in: FilterIn::Auto, prefilter: false };

/// What the sources and targets of a broker share, as long as it runs.
pub struct Opener {
    interfaces: Interfaces,
    pub targets: Targets,
    /// What comes out of tunnels.
    pub tunnels: Tunnels,
    /// Targets opened so far, which tells their packets apart.
    opened: u16,
}

/// A source that is ready.
pub struct Source {
    /// One for each of its rings and sockets.
    pub inlets: Vec<Inlet>,
    pub echo: Echo,
    pub begun: Vec<String>,
}

/// A target of which all but its files is open.
pub struct ReadyTarget<'c> {
    config: &'c TargetConfig,
    filter: CaptureFilter,
    opening: Opening<'c>,
}

impl ReadyTarget<'_> {
    /// Where its tunnels lead.
    pub fn far_ends(&self) -> &[FarEnd] {
        &self.opening.far_ends
    }
}

/// Which of this process's own tunnel packets a source may show again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Echo {
    /// None: a file.
    None,
    /// Those that leave through its interface; on loopback they come in, too.
    Sent { sees_loopback: bool },
    /// Those that come out of another tunnel.
    Relayed,
}

/// A file at its pace.
fn played(Input { name, source }: Input, pace: Pace) -> Result<Input, Failure> {
    let source = match pace {
        Pace::Max => source,
        Pace::Times(speed) => Box::new(PacedSource::new(source, speed)?),
    };
    Ok(Input { name, source })
}

impl Opener {
    pub fn new() -> Opener {
        let interfaces = Interfaces::default();
        let targets = Targets::new(&interfaces);
        Opener { interfaces, targets, tunnels: Tunnels::default(), opened: 0 }
    }

    /// Opens a source.
    pub fn source(&mut self, config: &SourceConfig) -> Result<Source, Failure> {
        let named = |failure: Failure| failure.of(&format!("source {}", config.name));
        let (inputs, echo, begun) = match &config.origin {
            Origin::Interface { interface, direction, promiscuous, buffer_size } => {
                let ring = RingOptions {
                    interface: interface.clone(),
                    netns: None,
                    promiscuous: *promiscuous,
                    ring_size: *buffer_size,
                    handover: Handover::Immediate,
                    snaplen: 0,
                    filter: KernelFilter::Absent,
                };
                let all = &FilterConfig::All;
                let opened = Opened::interface(ring, 1, *direction, all, COUNTED, &self.interfaces)
                    .map_err(named)?;
                let echo = Echo::Sent { sees_loopback: opened.sees_loopback };
                (opened.shares, echo, vec![opened.announcement])
            }
            Origin::Tunnels { listen, layers, buffer_bytes } => {
                let listening = Listening {
                    endpoints: listen.clone(),
                    datapath: ReceiveDatapath::Auto,
                    layers: *layers,
                    buffer_bytes: *buffer_bytes,
                    handover: Handover::Immediate,
                };
                let Listeners { inputs, begun, tunnels } =
                    Listeners::open(&listening, &self.targets.fed(), &self.interfaces)
                        .map_err(named)?;
                self.tunnels.add(tunnels);
                let whole = |input| (input, CaptureFilter::all(DirectionChoice::Both));
                (inputs.into_iter().map(whole).collect(), Echo::Relayed, begun)
            }
            Origin::File { path, pace } => {
                let (both, all) = (DirectionChoice::Both, &FilterConfig::All);
                let opened = Opened::file(path, both, all, &self.interfaces).map_err(named)?;
                let shares = opened.shares.into_iter();
                let shares = shares.map(|(input, filter)| Ok((played(input, *pace)?, filter)));
                let shares = shares.collect::<Result<_, Failure>>().map_err(named)?;
                (shares, Echo::None, vec![opened.announcement])
            }
        };
        let begun = begun.into_iter().map(|line| format!("source {}: {line}", config.name));
        let begun = begun.collect();
        let mut inlets = Vec::with_capacity(inputs.len());
        for (steps_back, (Input { source, .. }, filter)) in inputs.into_iter().enumerate() {
            // All that a source takes is one line of the ledger.
            let input = Input { name: config.name.clone(), source };
            let steps = if steps_back == 0 { self.steps(&config.stages) } else { Vec::new() };
            inlets.push(Inlet { filter, steps, steps_back, ..Inlet::new(input) });
        }
        Ok(Source { inlets, echo, begun })
    }

    /// Makes a map.
    pub fn map(&self, config: &MapConfig) -> Result<Map, Failure> {
        let mut map = Map::new(config.name.clone());
        map.filter = filter_of_map(config)?;
        map.steps = self.steps(&config.stages);
        if config.history > 0 {
            must_have_memory(QueueSize::Bytes(config.history))
                .map_err(|failure| failure.of(&format!("map {}: history", config.name)))?;
            map.history = Some(History::new(config.history));
        }
        Ok(map)
    }

    /// What is new in front of a map or a target that stays.
    pub fn renew_map(&self, old: &MapConfig, new: &MapConfig) -> Result<Renewal, Failure> {
        let filter = (old.filter != new.filter).then(|| filter_of_map(new)).transpose()?;
        Ok(Renewal { filter, steps: self.new_steps(&old.stages, &new.stages) })
    }

    pub fn renew_target(&self, old: &TargetConfig, new: &TargetConfig) -> Result<Renewal, Failure> {
        let filter = (old.filter != new.filter).then(|| filter_of_target(new)).transpose()?;
        Ok(Renewal { filter, steps: self.new_steps(&old.stages, &new.stages) })
    }

    /// Makes stages, with states of their own.
    fn steps(&self, stages: &[StageConfig]) -> Vec<Step> {
        stages.iter().map(|config| self.step(config)).collect()
    }

    fn step(&self, config: &StageConfig) -> Step {
        Step::new(config.name.clone(), build(&config.kind, &self.interfaces))
    }

    /// The stages of what stays: one that was there before keeps its state.
    pub fn new_steps(&self, old: &[StageConfig], new: &[StageConfig]) -> NewSteps {
        let mut taken = vec![false; old.len()];
        let step = |config: &StageConfig| {
            let same = |(place, before): (usize, &StageConfig)| !taken[place] && before == config;
            let Some(place) = old.iter().enumerate().position(same) else {
                return Part::New(self.step(config));
            };
            taken[place] = true;
            Part::Kept(place)
        };
        new.iter().map(step).collect()
    }

    /// Opens targets, all but their files.
    pub fn targets<'c>(
        &mut self,
        configs: impl Iterator<Item = &'c TargetConfig>,
    ) -> Result<Vec<ReadyTarget<'c>>, Failure> {
        let mut ready = Vec::new();
        for config in configs {
            let filter = filter_of_target(config)?;
            must_have_memory(config.queue.size)
                .map_err(|failure| of(config, failure.of("queue")))?;
            self.opened = self.opened.wrapping_add(1);
            let to = slice::from_ref(&config.to);
            let opening = self.targets.open(to, config.sending, self.opened, 1);
            let opening = opening.map_err(|failure| of(config, failure))?;
            let opening = opening.of_broker(config.queue, config.balance);
            ready.push(ReadyTarget { config, filter, opening });
        }
        Ok(ready)
    }

    /// Replaces the files of targets, which are open then: to be done last of all.
    pub fn outlets(&self, ready: Vec<ReadyTarget<'_>>) -> Result<Vec<Outlet>, Failure> {
        let mut outlets = Vec::with_capacity(ready.len());
        for ReadyTarget { config, filter, mut opening } in ready {
            let groups = opening.groups(0, None, true).map_err(|failure| of(config, failure))?;
            let needs_flow_hash = has_tunnels(slice::from_ref(&config.to));
            outlets.extend(groups.into_iter().zip([filter]).map(|(group, filter)| Outlet {
                filter,
                steps: self.steps(&config.stages),
                needs_flow_hash,
                start: config.start,
                ..Outlet::new(Some(config.name.clone()), group)
            }));
        }
        Ok(outlets)
    }
}

impl Echo {
    /// What a source must leave out of the packets to some far ends.
    pub fn own(self, far_ends: &[FarEnd]) -> OwnTunnels {
        match self {
            Echo::None => OwnTunnels::default(),
            Echo::Sent { sees_loopback } => OwnTunnels::new(far_ends.to_vec(), sees_loopback),
            Echo::Relayed => OwnTunnels::of_relay(far_ends.to_vec()),
        }
    }
}

/// A failure with the target's name.
fn of(target: &TargetConfig, failure: Failure) -> Failure {
    failure.of(&format!("target {}", target.name))
}

/// Refuses what would end the process when it is opened, and with it a broker that runs.
fn must_have_memory(size: QueueSize) -> Result<(), Failure> {
    check_queue_memory(size).map_err(|_| {
        Failure::CouldNot(format!("this host has no memory for {size}; write a smaller size"))
    })
}

fn filter_of_map(config: &MapConfig) -> Result<CaptureFilter, Failure> {
    filter(&config.filter).map_err(|failure| failure.of(&format!("map {}", config.name)))
}

fn filter_of_target(config: &TargetConfig) -> Result<CaptureFilter, Failure> {
    filter(&config.filter).map_err(|failure| of(config, failure))
}

/// What comes may have any link type; Ethernet shows mistakes at once.
fn filter(wanted: &FilterConfig) -> Result<CaptureFilter, Failure> {
    compile(wanted, DirectionChoice::Both, &[LinkType::ETHERNET])
}
