//! Capture filter rules: an ordered list, the first rule that matches decides.
//!
//! The semantics are those of Oracle Cloud's VTAP capture filters: each rule says INCLUDE or
//! EXCLUDE, what matches no rule is not mirrored, and a field that a rule leaves out matches
//! everything. What this means for tags, fragments, extension headers and cut packets is written in
//! `docs/filters.md`, and tested against a matcher that knows nothing of the compiler.
//!
//! [`Rules::compile`] makes a [`Program`] for one link type and one direction. Its verdict is the
//! number of the rule that matched first, from 1, INCLUDE or EXCLUDE alike; 0 if none did. Run it
//! with the bytes present (caplen) as the length: the program asks for `#pktlen` before it reads a
//! header, and in the kernel the two lengths are one.
//!
//! ```
//! use filter::{Action, Direction, PortRange, Rule, Rules, Transport};
//! use wire::LinkType;
//!
//! let web = Rule {
//!     protocol: Some(6),
//!     transport: Transport::Ports { source: None, destination: Some(PortRange::one(80)) },
//!     ..Rule::new(Action::Include)
//! };
//! let rules = Rules::new(vec![web])?;
//! let program = rules.compile(LinkType::ETHERNET, Direction::In)?;
//! let frame = [0; 60];
//! assert_eq!(program.run(&frame, frame.len() as u32), 0);
//! # Ok::<(), filter::RulesError>(())
//! ```

pub(crate) mod assembler;
mod compile;
mod error;
mod fields;
mod headers;
mod shadow;
mod tree;

pub use compile::{LISTED_RULES, SUPPORTED_LINK_TYPES};
pub use error::{RuleFault, RulesError};
pub use headers::{EXTENSION_HEADERS_MAX, VLAN_TAGS_MAX};
pub use shadow::{SHADOW_RULES_MAX, Shadow};

use crate::Program;
use core::fmt;
use ipnet::IpNet;
use wire::walk::protocol;
use wire::{Direction, LinkType};

/// What becomes of a packet that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// It is mirrored.
    Include,
    /// It is not.
    Exclude,
}

/// Which way a packet goes, seen from the tapped interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TrafficDirection {
    /// Received.
    Ingress,
    /// Sent.
    Egress,
}

/// Ports from `min` to `max`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortRange {
    /// The lowest port.
    pub min: u16,
    /// The highest port.
    pub max: u16,
}

impl PortRange {
    /// The range of a single port.
    pub const fn one(port: u16) -> PortRange {
        PortRange { min: port, max: port }
    }

    /// Whether a port lies in the range.
    pub fn contains(&self, port: u16) -> bool {
        (self.min..=self.max).contains(&port)
    }
}

/// What a rule asks of the header behind IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Transport {
    /// Nothing: it need not even be there.
    #[default]
    Any,
    /// TCP or UDP ports, as the rule's protocol says. A packet without that header does not match,
    /// even if both ranges are left out.
    Ports {
        /// Source ports; `None`: any.
        source: Option<PortRange>,
        /// Destination ports; `None`: any.
        destination: Option<PortRange>,
    },
    /// ICMP or ICMPv6 type and code, as the rule's protocol says.
    Icmp {
        /// The type.
        kind: u8,
        /// The code; `None`: any.
        code: Option<u8>,
    },
}

/// One rule. What is `None` matches everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Packets that go this way; `None`: both ways.
    pub direction: Option<TrafficDirection>,
    /// What becomes of them.
    pub action: Action,
    /// Source addresses.
    pub source: Option<IpNet>,
    /// Destination addresses.
    pub destination: Option<IpNet>,
    /// IP protocol number: IPv4's field, or that behind IPv6's extension headers.
    pub protocol: Option<u8>,
    /// Ports, or ICMP type and code.
    pub transport: Transport,
}

impl Rule {
    /// The rule that matches every frame.
    pub const fn new(action: Action) -> Rule {
        Rule {
            direction: None,
            action,
            source: None,
            destination: None,
            protocol: None,
            transport: Transport::Any,
        }
    }

    /// Whether the rule is tried on packets of a direction. An unknown direction may be either.
    pub fn applies(&self, direction: Direction) -> bool {
        match direction {
            Direction::Unknown => true,
            Direction::In => self.direction != Some(TrafficDirection::Egress),
            Direction::Out => self.direction != Some(TrafficDirection::Ingress),
        }
    }

    /// Checks that the rule's parts do not contradict each other.
    ///
    /// # Errors
    /// What does, without the rule's number.
    pub fn check(&self) -> Result<(), RuleFault> {
        let nets = [(Side::Source, self.source), (Side::Destination, self.destination)];
        for (side, net) in nets {
            if let Some(net) = net.filter(|net| net.trunc() != *net) {
                return Err(RuleFault::HostBits { side, net });
            }
        }
        if let (Some(source), Some(destination)) = (self.source, self.destination)
            && is_v4(&source) != is_v4(&destination)
        {
            return Err(RuleFault::MixedFamilies { from: source, to: destination });
        }
        match self.transport {
            Transport::Any => Ok(()),
            Transport::Ports { source, destination } => {
                if !matches!(self.protocol, Some(protocol::TCP | protocol::UDP)) {
                    return Err(RuleFault::PortsWithoutProtocol { protocol: self.protocol });
                }
                let ranges = [(Side::Source, source), (Side::Destination, destination)];
                for (side, range) in ranges {
                    if let Some(range) = range.filter(|range| range.min > range.max) {
                        return Err(RuleFault::RangeUpsideDown { side, range });
                    }
                }
                Ok(())
            }
            Transport::Icmp { .. } => {
                let v4 = match self.protocol {
                    Some(protocol::ICMP) => true,
                    Some(protocol::ICMPV6) => false,
                    protocol => return Err(RuleFault::IcmpWithoutProtocol { protocol }),
                };
                match self.source.or(self.destination).filter(|net| is_v4(net) != v4) {
                    Some(net) => Err(RuleFault::IcmpFamily { v4, net }),
                    None => Ok(()),
                }
            }
        }
    }
}

/// In a line: `INCLUDE received tcp from 10.0.0.0/8 to 10.1.2.3/32 port 80`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.action {
            Action::Include => "INCLUDE",
            Action::Exclude => "EXCLUDE",
        })?;
        match self.direction {
            Some(TrafficDirection::Ingress) => f.write_str(" received")?,
            Some(TrafficDirection::Egress) => f.write_str(" sent")?,
            None => {}
        }
        match self.protocol {
            Some(protocol::TCP) => f.write_str(" tcp")?,
            Some(protocol::UDP) => f.write_str(" udp")?,
            Some(protocol::ICMP) => f.write_str(" icmp")?,
            Some(protocol::ICMPV6) => f.write_str(" icmpv6")?,
            Some(number) => write!(f, " protocol {number}")?,
            None => {}
        }
        let (from, to) = match self.transport {
            Transport::Ports { source, destination } => (source, destination),
            _ => (None, None),
        };
        for (word, net, ports) in [("from", self.source, from), ("to", self.destination, to)] {
            if net.is_some() || ports.is_some() {
                write!(f, " {word}")?;
            }
            net.map_or(Ok(()), |net| write!(f, " {net}"))?;
            match ports {
                Some(PortRange { min, max }) if min == max => write!(f, " port {min}")?,
                Some(PortRange { min, max }) => write!(f, " ports {min}-{max}")?,
                None => {}
            }
        }
        if let Transport::Icmp { kind, code } = self.transport {
            write!(f, " type {kind}")?;
            code.map_or(Ok(()), |code| write!(f, " code {code}"))?;
        }
        let is_all = Rule { direction: None, ..*self } == Rule::new(self.action);
        f.write_str(if is_all { " everything" } else { "" })
    }
}

/// The source or the destination of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Source => "source",
            Side::Destination => "destination",
        })
    }
}

/// An ordered list of rules, each of which is sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// Checks a list.
    ///
    /// # Errors
    /// The list is empty, or a rule contradicts itself: which and how.
    pub fn new(rules: Vec<Rule>) -> Result<Rules, RulesError> {
        if rules.is_empty() {
            return Err(RulesError::Empty);
        }
        for (index, rule) in rules.iter().enumerate() {
            rule.check().map_err(|fault| RulesError::Rule { number: index + 1, fault })?;
        }
        Ok(Rules(rules))
    }

    /// The rules in their order.
    pub fn as_slice(&self) -> &[Rule] {
        &self.0
    }

    /// What the rule of a number (a program's verdict) says; `None` for 0 and beyond the list.
    #[inline]
    pub fn action(&self, number: u32) -> Option<Action> {
        self.0.get((number as usize).checked_sub(1)?).map(|rule| rule.action)
    }

    /// Compiles the rules for frames of one link type that go one way.
    ///
    /// # Errors
    /// [`RulesError::LinkType`] for a link type that rules cannot read, [`RulesError::Program`]
    /// if the program is longer than [`INSTRUCTIONS_MAX`](crate::INSTRUCTIONS_MAX).
    pub fn compile(
        &self,
        link_type: LinkType,
        direction: Direction,
    ) -> Result<Program, RulesError> {
        compile::compile(&self.0, link_type, direction)
    }
}

/// Whether a net is one of IPv4 addresses.
fn is_v4(net: &IpNet) -> bool {
    matches!(net, IpNet::V4(_))
}
