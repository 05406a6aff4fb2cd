//! `tapline broker`: many sources to many targets, through maps and stages, changed while it runs.
//!
//! Start and reload are one path: what is wanted is compared by name with what runs ([`plan`]), what is
//! new is opened ([`open`]), and between two batches the engine takes it over.

mod ask;
mod open;
mod plan;
mod wanted;

pub use wanted::WantedBroker;

use crate::cli::{Broker as Options, Verbosity};
use crate::failure::Failure;
use crate::session::{Activity, Reloaded, Session, check_stats_path};
use api::{BrokerConfig, Endpoint, MapConfig, Stats};
use open::{Echo, Opener};
use pipeline::{
    BrokerLedger, Change, FarEnd, Graph, Part, RemovedOutlet, Renewal, Report, Way, Worker,
};
use plan::{Fate, Plan};
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// Gives what is wanted, each time anew.
type Read<'a> = Box<dyn Fn() -> Result<BrokerConfig, Failure> + 'a>;

/// How long what was sent may take to be seen again at an interface.
const ECHO: Duration = Duration::from_millis(50);

/// A broker that runs.
pub struct Broker<'a> {
    worker: Worker,
    /// What it was asked to be; `None`: on the command line, where nothing changes.
    read: Option<Read<'a>>,
    /// What it is.
    config: BrokerConfig,
    opener: Opener,
    sources: Vec<Places>,
    /// Where the tunnels of each target lead.
    far_ends: Vec<Vec<FarEnd>>,
    /// The ledger of what it was.
    gone: BrokerLedger,
    /// Ledgers that the worker had published when it was asked.
    asked: u64,
}

/// The inlets of a source.
#[derive(Debug, Clone)]
struct Places {
    first: usize,
    count: usize,
    echo: Echo,
}

impl Places {
    fn all(&self) -> impl Iterator<Item = usize> + use<> {
        self.first..self.first + self.count
    }
}

/// What is opened for a change, before it is made.
struct Prepared {
    change: Change,
    sources: Vec<Places>,
    far_ends: Vec<Vec<FarEnd>>,
    begun: Vec<String>,
}

/// A broker of which all is open, and nothing moves yet.
pub struct Ready<'a> {
    prepared: Prepared,
    read: Option<Read<'a>>,
    config: BrokerConfig,
    opener: Opener,
}

impl<'a> Ready<'a> {
    /// What is to be said at its beginning.
    pub fn begun(&self) -> &[String] {
        &self.prepared.begun
    }

    /// Starts it.
    pub fn start(self) -> Result<Broker<'a>, Failure> {
        let Ready { prepared, read, config, opener } = self;
        let Prepared { change, sources, far_ends, .. } = prepared;
        let worker = Worker::start(graph(change))
            .map_err(|e| Failure::CouldNot(format!("start a worker: {e}")))?;
        Ok(Broker {
            worker,
            read,
            config,
            opener,
            sources,
            far_ends,
            gone: BrokerLedger::default(),
            asked: 0,
        })
    }
}

impl<'a> Broker<'a> {
    /// Opens everything; `read` gives what is wanted at a reload, if there is something to read.
    pub fn open(config: BrokerConfig, read: Option<Read<'a>>) -> Result<Ready<'a>, Failure> {
        let mut opener = Opener::new();
        let nothing = BrokerConfig::default();
        let plan = Plan::new(&nothing, &config);
        let prepared = prepare(&plan, (&nothing, &[], &[]), &config, &mut opener)?;
        Ok(Ready { prepared, read, config, opener })
    }

    fn ledger(&self, report: &Report) -> Stats {
        ledger(report, self.gone.clone(), &self.opener)
    }

    /// Becomes what is wanted.
    fn turn_into(&mut self, wanted: BrokerConfig) -> Result<Reloaded, Failure> {
        let plan = Plan::new(&self.config, &wanted);
        if plan.is_empty() {
            self.config = wanted;
            return Ok(Reloaded::default());
        }
        let old = (&self.config, &self.sources[..], &self.far_ends[..]);
        let Prepared { change, sources, far_ends, begun } =
            prepare(&plan, old, &wanted, &mut self.opener)?;
        let removed = self.worker.change(change).map_err(|refused| {
            Failure::CouldNot(format!("the broker stays what it is: {refused}"))
        })?;
        begun.iter().for_each(|line| tracing::info!("{line}"));
        self.gone.add(&removed.report);
        for (report, result) in RemovedOutlet::finish_all(removed.outlets) {
            if let Err(error) = result {
                tracing::warn!("{error}");
            }
            self.gone.add(&report);
        }
        self.opener.targets.keep_devices(|name| feeds(&wanted, name));
        let before = std::mem::replace(&mut self.far_ends, far_ends);
        (self.config, self.sources) = (wanted, sources);
        let stays = |end: &FarEnd| self.far_ends.iter().flatten().any(|other| other == end);
        if !before.iter().flatten().all(stays) {
            std::thread::sleep(ECHO);
            self.forget_tunnels();
        }
        Ok(Reloaded { changes: plan.changes })
    }

    /// No more leaves out what others send to the far ends of targets that are gone.
    fn forget_tunnels(&self) {
        let kept = (0..self.config.targets.len()).map(Part::Kept);
        let mut change = Change { outlets: kept.collect(), ..Change::default() };
        let far_ends: Vec<FarEnd> = self.far_ends.concat();
        for source in &self.sources {
            change.inlets.extend(source.all().map(Part::Kept));
            change.own.extend(source.all().map(|_| source.echo.own(&far_ends)));
        }
        for (place, map) in self.config.maps.iter().enumerate() {
            change.ways.push(way(map, Part::Kept(place), &self.config, &self.sources));
        }
        if self.worker.change(change).is_err() {
            // It is ending, or the next reload does it.
            tracing::debug!("tunnels that are gone are still taken for own ones");
        }
    }

    fn wanted(&self) -> Result<BrokerConfig, Failure> {
        match &self.read {
            Some(read) => read(),
            None => Err(Failure::Usage(
                "it was started without a configuration file, so that there is nothing to reload"
                    .into(),
            )),
        }
    }
}

/// The ledger of what runs, and of what is gone.
fn ledger(report: &Report, gone: BrokerLedger, opener: &Opener) -> Stats {
    let mut ledger = BrokerLedger::default();
    ledger.add(report);
    ledger.merge(gone);
    let mut stats = ledger.stats();
    stats.decap = opener.tunnels.counters();
    stats
}

/// Whether a broker has a TAP device as a target.
fn feeds(config: &BrokerConfig, device: &str) -> bool {
    let mut members = config.targets.iter().flat_map(|target| &target.to.0);
    members.any(|member| matches!(member, Endpoint::Tap { name, .. } if name == device))
}

/// Opens what is new. If anything cannot be opened, nothing of the old broker has changed.
fn prepare(
    plan: &Plan,
    (old, places, old_far_ends): (&BrokerConfig, &[Places], &[Vec<FarEnd>]),
    new: &BrokerConfig,
    opener: &mut Opener,
) -> Result<Prepared, Failure> {
    files_stand_apart(plan, old, new)?;
    let mut change = Change::default();
    let mut begun = Vec::new();
    // Targets first: a listener takes nothing from the TAP devices that they feed.
    let opened = new.targets.iter().zip(&plan.targets);
    let opened = opened.filter(|(_, fate)| **fate == Fate::Open).map(|(target, _)| target);
    let ready = opener.targets(opened)?;
    let mut opened = ready.iter();
    let far_ends: Vec<Vec<FarEnd>> = plan
        .targets
        .iter()
        .map(|fate| match *fate {
            Fate::Keep(place) | Fate::Renew(place) => old_far_ends[place].clone(),
            Fate::Open => opened.next().expect("each was opened").far_ends().to_vec(),
        })
        .collect();
    let mut sources: Vec<Places> = Vec::with_capacity(new.sources.len());
    for (source, fate) in new.sources.iter().zip(&plan.sources) {
        let first = change.inlets.len();
        let echo = match *fate {
            Fate::Keep(place) => {
                change.inlets.extend(places[place].all().map(Part::Kept));
                places[place].echo
            }
            Fate::Renew(place) => {
                let stages = &old.sources[place].stages;
                let mut inlets = places[place].all();
                let steps = opener.new_steps(stages, &source.stages);
                change.inlets.extend(inlets.next().map(|first| Part::Renewed(first, steps)));
                change.inlets.extend(inlets.map(Part::Kept));
                places[place].echo
            }
            Fate::Open => {
                let open::Source { inlets, echo, begun: lines } = opener.source(source)?;
                change.inlets.extend(inlets.into_iter().map(Part::New));
                begun.extend(lines);
                echo
            }
        };
        sources.push(Places { first, count: change.inlets.len() - first, echo });
    }
    // The tunnels of each target are left out by all sources; those of one that goes, too, as long as it
    // sends what waits.
    let all_far_ends = [far_ends.concat(), old_far_ends.concat()].concat();
    for source in &sources {
        change.own.extend(source.all().map(|_| source.echo.own(&all_far_ends)));
    }
    for (map, fate) in new.maps.iter().zip(&plan.maps) {
        let part = match *fate {
            Fate::Keep(place) => Part::Kept(place),
            Fate::Renew(place) => Part::Renewed(place, opener.renew_map(&old.maps[place], map)?),
            Fate::Open => Part::New(opener.map(map)?),
        };
        change.ways.push(way(map, part, new, &sources));
    }
    let renewals = new.targets.iter().zip(&plan.targets).map(|(target, fate)| match *fate {
        Fate::Renew(place) => opener.renew_target(&old.targets[place], target).map(Some),
        Fate::Keep(_) | Fate::Open => Ok(None),
    });
    let renewals: Vec<Option<Renewal>> = renewals.collect::<Result<_, _>>()?;
    // Last of all, as files are replaced: nothing else can fail any more.
    let mut opened = opener.outlets(ready)?.into_iter();
    for (renewal, fate) in renewals.into_iter().zip(&plan.targets) {
        change.outlets.push(match (*fate, renewal) {
            (Fate::Keep(place) | Fate::Renew(place), None) => Part::Kept(place),
            (Fate::Keep(place) | Fate::Renew(place), Some(new)) => Part::Renewed(place, new),
            (Fate::Open, _) => Part::New(opened.next().expect("each was opened")),
        });
    }
    Ok(Prepared { change, sources, far_ends, begun })
}

/// A map at its place: by the positions of its inlets and outlets.
fn way<M>(map: &MapConfig, part: M, broker: &BrokerConfig, sources: &[Places]) -> Way<M> {
    let named = |name: &String| broker.sources.iter().position(|source| source.name == *name);
    let from = map.from.iter().filter_map(named).flat_map(|n| sources[n].all()).collect();
    let named = |name: &String| broker.targets.iter().position(|target| target.name == *name);
    let to = map.to.iter().filter_map(named).collect();
    Way { map: part, from, to }
}

/// Refuses to begin a file anew that the running broker still writes: its packets would be lost.
fn files_stand_apart(plan: &Plan, old: &BrokerConfig, new: &BrokerConfig) -> Result<(), Failure> {
    let files = |target: &api::TargetConfig| -> Vec<std::path::PathBuf> {
        crate::targets::files(std::slice::from_ref(&target.to)).map(Path::to_path_buf).collect()
    };
    let open: Vec<_> = old.targets.iter().flat_map(files).collect();
    for (target, fate) in new.targets.iter().zip(&plan.targets) {
        if *fate == Fate::Open
            && let Some(path) = files(target).into_iter().find(|path| open.contains(path))
        {
            return Err(Failure::Usage(format!(
                "target {}: {} is being written by the running broker, and would begin anew; name \
                 another file, or stop the broker first",
                target.name,
                path.display()
            )));
        }
    }
    Ok(())
}

/// A line for each map: from where to where.
fn ways(config: &BrokerConfig) -> Vec<String> {
    let way = |map: &api::MapConfig| {
        let to = |name: &String| match config.targets.iter().find(|target| target.name == *name) {
            Some(target) => {
                let members: Vec<String> = target.to.0.iter().map(Endpoint::canonical).collect();
                format!("{name} ({})", members.join(", "))
            }
            None => name.clone(),
        };
        let to: Vec<String> = map.to.iter().map(to).collect();
        format!("{} -> map {} -> {}", map.from.join(", "), map.name, to.join(", "))
    };
    config.maps.iter().map(way).collect()
}

/// The graph of which all parts are new.
fn graph(change: Change) -> Graph {
    fn new<T, R>(part: Part<T, R>) -> Option<T> {
        match part {
            Part::New(part) => Some(part),
            Part::Kept(_) | Part::Renewed(..) => None,
        }
    }
    let mut inlets: Vec<_> = change.inlets.into_iter().filter_map(new).collect();
    for (inlet, own) in inlets.iter_mut().zip(change.own) {
        inlet.own = own;
    }
    let way = |Way { map, from, to }| Some(Way { map: new(map)?, from, to });
    Graph {
        inlets,
        ways: change.ways.into_iter().filter_map(way).collect(),
        outlets: change.outlets.into_iter().filter_map(new).collect(),
    }
}

impl Activity for Broker<'_> {
    fn is_finished(&self) -> bool {
        self.worker.is_finished()
    }

    fn stop(&mut self) {
        self.worker.stop();
    }

    fn ask(&mut self) {
        (self.asked, _) = self.worker.published();
        self.worker.ask();
    }

    fn answered(&mut self) -> Option<Stats> {
        let is_finished = self.worker.is_finished();
        let (published, report) = self.worker.published();
        (is_finished || published > self.asked).then(|| self.ledger(&report))
    }

    fn snapshot(&mut self) -> Option<Stats> {
        let report = self.worker.snapshot()?;
        Some(self.ledger(&report))
    }

    fn can_reload(&self) -> bool {
        self.read.is_some()
    }

    fn reload(&mut self) -> Result<Reloaded, Failure> {
        let wanted = self.wanted()?;
        self.turn_into(wanted)
    }

    fn show(&mut self) -> Result<serde_json::Value, Failure> {
        let stats = self.snapshot();
        let (wanted, plan) = match self.read {
            None => (None, Vec::new()),
            Some(_) => match self.wanted() {
                Ok(wanted) => {
                    let plan = Plan::new(&self.config, &wanted).changes;
                    (Some(json!({ "ways": ways(&wanted) })), plan)
                }
                Err(failure) => {
                    let why = failure.message().unwrap_or_default().to_owned();
                    (Some(json!({ "error": why })), Vec::new())
                }
            },
        };
        Ok(json!({
            "wanted": wanted,
            "observed": { "ways": ways(&self.config), "stats": stats },
            "plan": plan,
        }))
    }

    fn interfaces(&self) -> Vec<String> {
        let tapped = self.config.sources.iter().filter_map(|source| match &source.origin {
            api::Origin::Interface { interface, .. } => Some(interface.clone()),
            _ => None,
        });
        let groups: Vec<_> = self.config.targets.iter().map(|target| target.to.clone()).collect();
        let mut names: Vec<String> = tapped.chain(crate::targets::devices(&groups)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn join(self: Box<Self>) -> (Stats, Vec<Result<(), io::Error>>) {
        let Broker { worker, opener, gone, .. } = *self;
        let (report, result) = worker.join();
        (ledger(&report, gone, &opener), vec![result])
    }
}

pub fn run(options: Options, verbosity: &Verbosity) -> Result<(), Failure> {
    if let Some(command) = &options.command {
        return ask::run(command);
    }
    check_stats_path(&options.report)?;
    let read = |path| Ok(WantedBroker::read(path, &options.short)?.config);
    let wanted = WantedBroker::read(options.config.as_deref(), &options.short)?;
    wanted.interfaces_are_there()?;
    let reading =
        options.config.as_deref().map(|path| -> Read<'_> { Box::new(move || read(Some(path))) });
    let broker = Broker::open(wanted.config, reading)?;
    let begun = broker.begun().to_vec();
    Session::new("broker", &options.report, verbosity)
        .config(options.config.as_deref())
        .run(&begun, || Ok(Box::new(broker.start()?)))
}
