//! A graph: which packets go from which sources to which targets, and what happens to them on the
//! way. A tap is the graph of one map.
//!
//! ```text
//! inlet: source, filter, steps ─┬─ map: filter, own tunnels, slice, steps ─┬─ outlet: filter, steps, group
//! inlet ────────────────────────┘                                          └─ outlet
//! ```

use crate::ceiling::Ceiling;
use crate::filter::CaptureFilter;
use crate::history::History;
use crate::limit::Limit;
use crate::own::OwnTunnels;
use crate::stage::Step;
use crate::steer::TargetGroup;
use api::{DirectionChoice, Start};
use io::Source;
use std::convert::Infallible;

/// A named source.
pub struct Input {
    /// The interface, file or listening endpoint.
    pub name: String,
    /// Where its packets come from.
    pub source: Box<dyn Source>,
}

/// A source, and what is done with each of its packets before any map.
pub struct Inlet {
    /// The source.
    pub input: Input,
    /// Which of its packets are taken, as far as the kernel has not decided it.
    pub filter: CaptureFilter,
    /// What is done with them.
    pub steps: Vec<Step>,
    /// How many places before it the inlet stands whose steps are done instead, with one state for
    /// both; 0: its own are. A change that keeps one keeps the other, at the same distance.
    pub steps_back: usize,
    /// Tunnel packets of this process that it may show again.
    pub own: OwnTunnels,
}

impl Inlet {
    /// A source of which every packet is taken as it is.
    pub fn new(input: Input) -> Inlet {
        Inlet {
            input,
            filter: CaptureFilter::all(DirectionChoice::Both),
            steps: Vec::new(),
            steps_back: 0,
            own: OwnTunnels::default(),
        }
    }
}

/// Which packets go on from some inlets to some outlets.
pub struct Map {
    /// Its name in the ledger.
    pub name: String,
    /// Which packets.
    pub filter: CaptureFilter,
    /// Whether the inlets' filter in the kernel, if there is one, is this map's: it has decided then,
    /// and what was lost behind it was meant for the outlets.
    pub is_filtered_in_kernel: bool,
    /// So many packets may match; then the graph ends.
    pub limit: Option<Limit>,
    /// What is more than so much is dropped before it matches.
    pub ceiling: Option<Ceiling>,
    /// Bytes kept of each; `None`: all.
    pub snaplen: Option<usize>,
    /// What is done with them.
    pub steps: Vec<Step>,
    /// What is kept for outlets that begin with the oldest packets.
    pub history: Option<History>,
}

impl Map {
    /// A map that every packet takes as it is.
    pub fn new(name: String) -> Map {
        Map {
            name,
            filter: CaptureFilter::all(DirectionChoice::Both),
            is_filtered_in_kernel: false,
            limit: None,
            ceiling: None,
            snaplen: None,
            steps: Vec::new(),
            history: None,
        }
    }
}

/// Targets that get the packets of some maps.
pub struct Outlet {
    /// Its name in the ledger; `None` for those of a tap.
    pub name: Option<String>,
    /// Which packets it wants.
    pub filter: CaptureFilter,
    /// What is done with them.
    pub steps: Vec<Step>,
    /// Where they go: one of the members.
    pub group: TargetGroup,
    /// Whether its sinks use the flow hash, beside groups of more than one.
    pub needs_flow_hash: bool,
    /// With which packet it begins when it comes to a running graph.
    pub start: Start,
}

impl Outlet {
    /// An outlet that takes every packet as it is.
    pub fn new(name: Option<String>, group: TargetGroup) -> Outlet {
        let (filter, steps) = (CaptureFilter::all(DirectionChoice::Both), Vec::new());
        Outlet { name, filter, steps, group, needs_flow_hash: false, start: Start::Now }
    }
}

/// A map at its place: by the positions of inlets and outlets.
pub struct Way<M = Map> {
    /// The map.
    pub map: M,
    /// Inlets whose packets it takes.
    pub from: Vec<usize>,
    /// Outlets that get what is left of them, each all of it.
    pub to: Vec<usize>,
}

/// What a worker carries.
#[derive(Default)]
pub struct Graph {
    /// Where packets come from, served in turn.
    pub inlets: Vec<Inlet>,
    /// Which of them go where.
    pub ways: Vec<Way>,
    /// Where they go to.
    pub outlets: Vec<Outlet>,
}

/// A part of a graph after a change of it; `R` is what of it can be renewed.
pub enum Part<T, R> {
    /// The one that stood at this position, with all that it knows.
    Kept(usize),
    /// The one that stood at this position, with something new.
    Renewed(usize, R),
    /// A new one.
    New(T),
}

/// The steps of what is kept: those that stay keep their state.
pub type NewSteps = Vec<Part<Step, Infallible>>;

/// What a change renews of a map or an outlet.
pub struct Renewal {
    /// Which packets; `None`: as before.
    pub filter: Option<CaptureFilter>,
    /// What is done with them.
    pub steps: NewSteps,
}

/// The graph that a running one becomes. What it does not keep is removed: a source is stopped, and
/// what it still has goes its old way first; then everything changes between two batches.
#[derive(Default)]
pub struct Change {
    /// The inlets; their steps are what can be renewed.
    pub inlets: Vec<Part<Inlet, NewSteps>>,
    /// The ways. One that is kept may lead from and to others.
    pub ways: Vec<Way<Part<Map, Renewal>>>,
    /// The outlets.
    pub outlets: Vec<Part<Outlet, Renewal>>,
    /// The tunnels whose packets inlets may show again, for each of those kept; none: as before.
    pub own: Vec<OwnTunnels>,
}

impl<T, R> Part<T, R> {
    /// The position of the part that is kept, or renewed.
    pub(crate) fn kept(&self) -> Option<usize> {
        match self {
            Part::Kept(place) | Part::Renewed(place, _) => Some(*place),
            Part::New(_) => None,
        }
    }
}
