//! What rules ask of a packet: eleven numbers, and a range of each.
//!
//! A prefix of an address is a range of each of the address's words: exact in the words that it
//! covers, from–to in the word where it ends, anything in those behind. So a rule is a box: one
//! range a field, all of which must hold.

use super::{Rule, Transport};
use ipnet::IpNet;
use wire::walk::protocol;

/// A number that is read out of the headers once and kept in the scratch word of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Field(pub(super) u8);

impl Field {
    /// The IP protocol: 0 to 255, or [`NO_PROTOCOL`].
    pub(super) const PROTOCOL: Field = Field(0);
    /// The source port, or the ICMP type.
    pub(super) const SOURCE_PORT: Field = Field(1);
    /// The destination port, or the ICMP code.
    pub(super) const DESTINATION_PORT: Field = Field(2);
    /// The first word of the source address; IPv6 has three more behind it.
    pub(super) const SOURCE: Field = Field(3);
    /// The first word of the destination address.
    pub(super) const DESTINATION: Field = Field(7);

    /// The field `by` places behind this one.
    pub(super) const fn plus(self, by: u8) -> Field {
        Field(self.0 + by)
    }
}

/// Number of fields.
pub(super) const FIELDS: usize = 11;

/// A scratch word that no field uses.
pub(super) const SPARE: u32 = FIELDS as u32;

/// What stands for the protocol where the headers do not tell it.
pub(super) const NO_PROTOCOL: u32 = 256;

/// Numbers from `low` to `high`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Range {
    pub(super) low: u32,
    pub(super) high: u32,
}

impl Range {
    pub(super) const ALL: Range = Range { low: 0, high: u32::MAX };

    pub(super) const fn new(low: u32, high: u32) -> Range {
        Range { low, high }
    }

    const fn one(value: u32) -> Range {
        Range { low: value, high: value }
    }

    /// Whether it holds all of another range.
    pub(super) fn covers(&self, other: &Range) -> bool {
        self.low <= other.low && other.high <= self.high
    }

    fn meets(&self, other: &Range) -> bool {
        self.low <= other.high && other.low <= self.high
    }

    /// What lies in both.
    pub(super) fn intersection(&self, other: &Range) -> Option<Range> {
        self.meets(other).then(|| Range::new(self.low.max(other.low), self.high.min(other.high)))
    }

    /// The parts of this one below and above another.
    pub(super) fn outside(&self, other: &Range) -> impl Iterator<Item = Range> + use<> {
        let below = (self.low < other.low)
            .then(|| Range::new(self.low, self.high.min(other.low.saturating_sub(1))));
        let above = (self.high > other.high)
            .then(|| Range::new(self.low.max(other.high.saturating_add(1)), self.high));
        below.into_iter().chain(above)
    }
}

/// One range a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ranges(pub(super) [Range; FIELDS]);

impl Ranges {
    pub(super) const ALL: Ranges = Ranges([Range::ALL; FIELDS]);

    pub(super) fn get(&self, field: Field) -> Range {
        self.0[usize::from(field.0)]
    }

    pub(super) fn set(&mut self, field: Field, range: Range) {
        self.0[usize::from(field.0)] = range;
    }

    /// Whether every packet of another box lies in this one.
    pub(super) fn covers(&self, other: &Ranges) -> bool {
        self.0.iter().zip(&other.0).all(|(mine, theirs)| mine.covers(theirs))
    }

    /// Whether some packet may lie in both.
    pub(super) fn meets(&self, other: &Ranges) -> bool {
        self.0.iter().zip(&other.0).all(|(mine, theirs)| mine.meets(theirs))
    }

    /// What lies in both.
    pub(super) fn intersection(&self, other: &Ranges) -> Option<Ranges> {
        let mut common = *self;
        for (mine, theirs) in common.0.iter_mut().zip(&other.0) {
            *mine = mine.intersection(theirs)?;
        }
        Some(common)
    }

    /// The fields and their ranges.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Field, Range)> {
        self.0.iter().enumerate().map(|(index, range)| (Field(index as u8), *range))
    }
}

/// Packets that are alike in what can be read of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    /// Whether it is IPv4, else IPv6.
    pub(super) v4: bool,
    pub(super) upper: Upper,
}

/// The header behind IP, if it is there to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Upper {
    /// TCP with its ports.
    Tcp,
    /// UDP with its ports.
    Udp,
    /// ICMP in IPv4, ICMPv6 in IPv6, with type and code.
    Icmp,
    /// Another protocol, a later fragment, or a cut packet: the protocol alone.
    Rest,
}

impl Upper {
    /// Those that have a header to be read.
    pub(super) const READ: [Upper; 3] = [Upper::Tcp, Upper::Udp, Upper::Icmp];

    /// The protocol number, if it is one alone.
    pub(super) fn protocol(self, v4: bool) -> Option<u8> {
        match self {
            Upper::Tcp => Some(protocol::TCP),
            Upper::Udp => Some(protocol::UDP),
            Upper::Icmp if v4 => Some(protocol::ICMP),
            Upper::Icmp => Some(protocol::ICMPV6),
            Upper::Rest => None,
        }
    }
}

/// Which packets of a kind a rule matches; `None`: none of them.
pub(super) fn ranges(rule: &Rule, kind: Kind) -> Option<Ranges> {
    let mut ranges = Ranges::ALL;
    for (field, net) in [(Field::SOURCE, rule.source), (Field::DESTINATION, rule.destination)] {
        match net {
            None => {}
            Some(IpNet::V4(net)) if kind.v4 => {
                let (low, high) = (net.network().to_bits(), net.broadcast().to_bits());
                ranges.set(field, Range::new(low, high));
            }
            Some(IpNet::V6(net)) if !kind.v4 => {
                let (low, high) = (net.network().to_bits(), net.broadcast().to_bits());
                for word in 0..4 {
                    let part = |bits: u128| (bits >> (96 - 32 * word)) as u32;
                    ranges.set(field.plus(word), Range::new(part(low), part(high)));
                }
            }
            Some(_) => return None,
        }
    }
    match (kind.upper.protocol(kind.v4), rule.protocol) {
        (Some(number), Some(wanted)) if number != wanted => return None,
        (None, Some(wanted)) => ranges.set(Field::PROTOCOL, Range::one(wanted.into())),
        _ => {}
    }
    match (rule.transport, kind.upper) {
        (Transport::Any, _) => {}
        (Transport::Ports { source, destination }, Upper::Tcp | Upper::Udp) => {
            for (field, range) in
                [(Field::SOURCE_PORT, source), (Field::DESTINATION_PORT, destination)]
            {
                if let Some(range) = range {
                    ranges.set(field, Range::new(range.min.into(), range.max.into()));
                }
            }
        }
        (Transport::Icmp { kind, code }, Upper::Icmp) => {
            ranges.set(Field::SOURCE_PORT, Range::one(kind.into()));
            if let Some(code) = code {
                ranges.set(Field::DESTINATION_PORT, Range::one(code.into()));
            }
        }
        _ => return None,
    }
    Some(ranges)
}

/// The numbers that the fields of a kind can have at all.
pub(super) fn possible(kind: Kind) -> Ranges {
    let mut ranges = Ranges::ALL;
    ranges.set(Field::PROTOCOL, Range::new(0, NO_PROTOCOL));
    let port = match kind.upper {
        Upper::Icmp => Range::new(0, 0xff),
        _ => Range::new(0, 0xffff),
    };
    ranges.set(Field::SOURCE_PORT, port);
    ranges.set(Field::DESTINATION_PORT, port);
    ranges
}
