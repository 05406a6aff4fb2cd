//! Scans and floods: flows of few packets that become rows of several flows.
//!
//! A flow joins those that share its busier address, tunnel, tags, EtherType and protocol. What the
//! flows of such a row do not share is null there. Which flows collapse, and into which row, depends on
//! the packets alone, so that an index made anew is the same.

use super::ends::Ends;
use super::packet::FlowKey;
use super::row::{Flow, Row};
use super::table::{Tally, row, tunnelled};
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv6Addr;
use std::sync::Arc;
use wire::tunnel::Tunnel;

/// What the flows of a row share for certain. `None` in all of it: nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Shared {
    address: Option<Ipv6Addr>,
    /// None: anything, last resort of those who vary all of it.
    kind: Option<Kind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    tunnel: Option<Tunnel>,
    vlans: [u16; wire::walk::VLANS_KEPT],
    vlan_count: usize,
    ethertype: u16,
    proto: Option<u8>,
    outer_proto: Option<u8>,
}

impl Kind {
    fn of(key: &FlowKey) -> Kind {
        let mut vlans = [0; wire::walk::VLANS_KEPT];
        vlans[..key.vlans().len()].copy_from_slice(key.vlans());
        Kind {
            tunnel: key.tunnel,
            vlans,
            vlan_count: key.vlans().len(),
            ethertype: key.ethertype,
            proto: key.flow.map(|ends| ends.proto),
            outer_proto: key.outer.map(|ends| ends.proto),
        }
    }
}

/// The rows of several flows.
#[derive(Debug, Default)]
pub(crate) struct Groups(BTreeMap<Shared, Group>);

impl Groups {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes the `count` flows of the fewest packets.
    pub(crate) fn take_smallest(&mut self, flows: &mut HashMap<FlowKey, Tally>, count: usize) {
        let mut order: Vec<(u64, FlowKey)> =
            flows.iter().map(|(key, tally)| (tally.packets.0 + tally.packets.1, *key)).collect();
        if count < order.len() {
            order.select_nth_unstable(count);
            order.truncate(count);
        }
        let mut popular: HashMap<Ipv6Addr, u32> = HashMap::new();
        for ends in order.iter().filter_map(|(_, key)| key.flow) {
            *popular.entry(ends.lo).or_default() += 1;
            *popular.entry(ends.hi).or_default() += 1;
        }
        // All choose before the first is added, so that their order does not matter.
        let choose = |key: &FlowKey| {
            let ends = key.flow?;
            let weight = |address: Ipv6Addr| {
                let shared = Shared { address: Some(address), kind: Some(Kind::of(key)) };
                (self.0.contains_key(&shared), popular.get(&address).copied(), address)
            };
            let (is_known, count, address) = weight(ends.lo).max(weight(ends.hi));
            (is_known || count > Some(1)).then_some(address)
        };
        let chosen: Vec<(FlowKey, Option<Ipv6Addr>)> =
            order.into_iter().map(|(_, key)| (key, choose(&key))).collect();
        for (key, address) in chosen {
            if let Some(tally) = flows.remove(&key) {
                let shared = Shared { address, kind: Some(Kind::of(&key)) };
                self.add(shared, Group::of(key, tally, address));
            }
        }
    }

    /// Merges those of the fewest packets until no more than `max` are left, `max` at least 1.
    pub(crate) fn shrink(&mut self, max: usize) {
        // First what shares an address only with few, then whatever is left.
        for to in [|kind| Shared { address: None, kind }, |_| Shared::default()] {
            if self.len() <= max {
                return;
            }
            let mut order: Vec<(u64, Shared)> =
                self.0.iter().map(|(shared, group)| (group.packets(), shared.clone())).collect();
            order.sort_unstable();
            for (_, shared) in order {
                if self.len() <= max {
                    return;
                }
                let target = to(shared.kind);
                if let Some(group) = self.0.remove(&shared) {
                    self.add(target, group);
                }
            }
        }
    }

    pub(crate) fn into_rows(self, source: &Arc<str>) -> impl Iterator<Item = Row> {
        self.0.into_iter().map(move |(shared, group)| group.into_row(&shared, source))
    }

    fn add(&mut self, shared: Shared, group: Group) {
        match self.0.get_mut(&shared) {
            Some(known) => known.merge(group),
            None => drop(self.0.insert(shared, group)),
        }
    }
}

/// Flows that became one row.
#[derive(Debug)]
struct Group {
    /// The flow, as long as it is only one.
    only: Option<FlowKey>,
    /// Whether its ends were exchanged, for `only`.
    is_swapped: bool,
    flow: Option<Loose>,
    outer: Option<Loose>,
    flows: u32,
    tally: Tally,
}

impl Group {
    // The shared address becomes the lower end.
    fn of(key: FlowKey, mut tally: Tally, shared: Option<Ipv6Addr>) -> Group {
        let is_swapped = key.flow.is_some_and(|ends| Some(ends.hi) == shared && ends.lo != ends.hi);
        let mut flow = key.flow.map(Loose::of);
        if is_swapped {
            tally.swap();
            flow = flow.map(Loose::swapped);
        }
        let outer = key.outer.map(Loose::of);
        Group { only: Some(key), is_swapped, flow, outer, flows: 1, tally }
    }

    fn packets(&self) -> u64 {
        self.tally.packets.0 + self.tally.packets.1
    }

    fn merge(&mut self, other: Group) {
        if self.only != other.only || self.only.is_none() {
            self.only = None;
            self.flows = self.flows.saturating_add(other.flows);
        }
        self.flow = self.flow.zip(other.flow).map(|(a, b)| a.merge(b));
        self.outer = self.outer.zip(other.outer).map(|(a, b)| a.merge(b));
        self.tally.merge(other.tally);
    }

    fn into_row(mut self, shared: &Shared, source: &Arc<str>) -> Row {
        if let Some(key) = self.only {
            if self.is_swapped {
                self.tally.swap();
            }
            return row(source, &key, self.tally);
        }
        let kind = shared.kind.as_ref();
        let flow = self.flow.zip(kind.and_then(|kind| kind.proto)).map(|(mut flow, proto)| {
            if flow.is_out_of_order() {
                self.tally.swap();
                flow = flow.swapped();
            }
            flow.flow(proto)
        });
        let outer = self.outer.zip(kind.and_then(|kind| kind.outer_proto));
        let tally = self.tally;
        Row {
            source: source.clone(),
            tunnel: kind.and_then(|kind| kind.tunnel).map(tunnelled),
            vlan: kind.map_or(Vec::new(), |kind| kind.vlans[..kind.vlan_count].to_vec()),
            ethertype: kind.map_or(0, |kind| kind.ethertype),
            macs: None,
            flow,
            outer: outer.map(|(outer, proto)| outer.flow(proto)),
            span_ns: tally.span_ns,
            packets: tally.packets,
            bytes: tally.bytes,
            tcp_flags: tally.tcp_flags,
            truncated: tally.truncated,
            flows: self.flows,
            frames: tally.frames,
        }
    }
}

/// What several flows share of addresses and ports; `None` where they differ, or have none.
#[derive(Debug, Clone, Copy)]
struct Loose {
    lo: Option<Ipv6Addr>,
    hi: Option<Ipv6Addr>,
    port_lo: Option<u16>,
    port_hi: Option<u16>,
}

impl Loose {
    fn of(ends: Ends) -> Loose {
        let Ends { lo, hi, port_lo, port_hi, .. } = ends;
        Loose { lo: Some(lo), hi: Some(hi), port_lo, port_hi }
    }

    fn swapped(self) -> Loose {
        let Loose { lo, hi, port_lo, port_hi } = self;
        Loose { lo: hi, hi: lo, port_lo: port_hi, port_hi: port_lo }
    }

    fn is_out_of_order(&self) -> bool {
        self.lo.zip(self.hi).is_some_and(|(lo, hi)| lo > hi)
    }

    fn merge(self, other: Loose) -> Loose {
        fn same<T: PartialEq>(a: Option<T>, b: Option<T>) -> Option<T> {
            a.filter(|a| b.as_ref() == Some(a))
        }
        Loose {
            lo: same(self.lo, other.lo),
            hi: same(self.hi, other.hi),
            port_lo: same(self.port_lo, other.port_lo),
            port_hi: same(self.port_hi, other.port_hi),
        }
    }

    fn flow(self, proto: u8) -> Flow {
        let Loose { lo: ip_lo, hi: ip_hi, port_lo, port_hi } = self;
        Flow { ip_lo, ip_hi, port_lo, port_hi, proto, community_id: None }
    }
}
