//! A tap: where packets come from, which of them are kept, and where they go.

use crate::ceiling::Ceiling;
use crate::filter::CaptureFilter;
use crate::graph::{Graph, Inlet, Input, Map, Outlet, Way};
use crate::limit::Limit;
use crate::own::OwnTunnels;
use crate::steer::TargetGroup;
use api::DirectionChoice;

/// A tap, before it runs: the graph of one map.
pub struct Tap {
    /// Its name in the ledger.
    pub name: String,
    /// Its sources, served in turn.
    pub inputs: Vec<Input>,
    /// The tunnels whose packets are the tap's own.
    pub own: OwnTunnels,
    /// Which packets are kept.
    pub filter: CaptureFilter,
    /// Bytes kept of each packet; `None`: all.
    pub snaplen: Option<usize>,
    /// The tap ends after so many packets have matched.
    pub limit: Option<Limit>,
    /// What is more than so much is dropped before it matches.
    pub ceiling: Option<Ceiling>,
    /// Whether the sinks use the flow hash, beside groups of more than one.
    pub needs_flow_hash: bool,
    /// Each gets every matched packet; the members of a group share them.
    pub groups: Vec<TargetGroup>,
}

impl Tap {
    /// A tap that carries every packet whole from its sources to every group.
    pub fn new(name: String, inputs: Vec<Input>, groups: Vec<TargetGroup>) -> Tap {
        Tap {
            name,
            inputs,
            own: OwnTunnels::default(),
            filter: CaptureFilter::all(DirectionChoice::Both),
            snaplen: None,
            limit: None,
            ceiling: None,
            needs_flow_hash: false,
            groups,
        }
    }
}

impl From<Tap> for Graph {
    fn from(tap: Tap) -> Graph {
        let map = Map {
            filter: tap.filter,
            is_filtered_in_kernel: true,
            limit: tap.limit,
            ceiling: tap.ceiling,
            snaplen: tap.snaplen,
            ..Map::new(tap.name.clone())
        };
        let (from, to) = ((0..tap.inputs.len()).collect(), (0..tap.groups.len()).collect());
        let inlet = |input| Inlet { own: tap.own.clone(), ..Inlet::new(input) };
        let outlet =
            |group| Outlet { needs_flow_hash: tap.needs_flow_hash, ..Outlet::new(None, group) };
        Graph {
            inlets: tap.inputs.into_iter().map(inlet).collect(),
            ways: vec![Way { map, from, to }],
            outlets: tap.groups.into_iter().map(outlet).collect(),
        }
    }
}
