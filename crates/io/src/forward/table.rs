//! The rules as the forwarder looks them up, and where their views go.

use super::sessions::Session;
use super::views::ViewSender;
use crate::packet::InterfaceId;
use api::{InlineConfig, InlineRule, InlineView};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use wire::translate::End;

/// Where the views of a rule go.
#[derive(Debug, Clone)]
pub struct Capture {
    /// Who records them.
    pub sender: ViewSender,
    /// The interface of each view in the table of interfaces, by the view's number; `None`: it is not
    /// wanted.
    pub interfaces: [Option<InterfaceId>; 3],
}

impl Capture {
    /// The interface of a view.
    pub(super) fn interface(&self, view: InlineView) -> Option<InterfaceId> {
        self.interfaces[view as usize]
    }
}

/// A forwarding table that is ready.
#[derive(Debug)]
pub struct Table {
    /// What it was made of.
    pub config: InlineConfig,
    /// For each rule, in their order, where its views go.
    pub captures: Vec<Option<Capture>>,
    by_key: HashMap<(IpAddr, Option<u8>, Option<u16>), u32>,
    ours: HashSet<IpAddr>,
    sources: HashSet<IpAddr>,
}

impl Table {
    /// Of a table, whose rules all have a `source`.
    pub fn new(config: InlineConfig, captures: Vec<Option<Capture>>) -> Table {
        let key = |rule: &InlineRule| {
            let is_ipv6 = rule.address.is_ipv6();
            (rule.address, rule.protocol.map(|protocol| protocol.number(is_ipv6)), rule.port)
        };
        let rules = config.rules.iter();
        Table {
            by_key: (0..).zip(rules.clone()).map(|(place, rule)| (key(rule), place)).collect(),
            ours: rules.clone().map(|rule| rule.address).collect(),
            sources: rules.filter_map(|rule| rule.source).collect(),
            config,
            captures,
        }
    }

    /// Whether clients speak to an address.
    pub(super) fn is_ours(&self, address: IpAddr) -> bool {
        self.ours.contains(&address)
    }

    /// Whether next hosts see an address.
    pub(super) fn is_source(&self, address: IpAddr) -> bool {
        self.sources.contains(&address)
    }

    /// The rule at a place.
    pub(super) fn rule(&self, place: u32) -> &InlineRule {
        &self.config.rules[place as usize]
    }

    /// The rule that decides about packets of a protocol to one of our ends.
    pub(super) fn find(&self, protocol: u8, ours: End) -> Option<u32> {
        let End { address, port } = ours;
        let keys = [
            (address, Some(protocol), Some(port)),
            (address, Some(protocol), None),
            (address, None, None),
        ];
        keys.iter().find_map(|key| self.by_key.get(key)).copied()
    }

    /// The place of a session's rule, if it still leads where the session does.
    pub(super) fn place_of(&self, session: &Session) -> Option<u32> {
        let place = self.find(session.protocol, session.ours)?;
        let rule = self.rule(place);
        let port = match session.protocol {
            1 | 58 => session.next.port,
            _ => rule.next_port.unwrap_or(session.ours.port),
        };
        let leads_there = session.next == End { address: rule.next_host, port }
            && rule.source == Some(session.source.address);
        leads_there.then_some(place)
    }
}
