//! The grammar of pcap-filter expressions, as far as it is needed.
//!
//! `and` and `or` are equally strong and group to the left; `not` binds the next term alone. A bare
//! value behind `and` or `or` takes the qualifiers of the value before: `port 80 or 443`. libpcap has
//! accepted the expression before; what is not understood here gives up the whole of it, as what
//! follows may mean something else than it seems to.
//!
//! Behind `vlan` terms are looked for behind a tag: 4 bytes further on, also in frames that have none,
//! where the whole holds without it. So `vlan` is understood where all must have it, as in `vlan and tcp`.

use super::token::{Token, tokens};
use super::{AddressPlace, Leaf, Net, Tree, services};
use std::net::Ipv4Addr;
use wire::walk::{IpVersion, ethertype, protocol};

/// Brackets in brackets that are followed.
const DEPTH_MAX: u32 = 100;

/// Words that are no values.
const KEYWORDS: [&str; 93] = [
    "dst",
    "src",
    "link",
    "ether",
    "ppp",
    "slip",
    "fddi",
    "tr",
    "wlan",
    "arp",
    "rarp",
    "ip",
    "sctp",
    "tcp",
    "udp",
    "icmp",
    "igmp",
    "igrp",
    "pim",
    "vrrp",
    "carp",
    "radio",
    "ip6",
    "icmp6",
    "ah",
    "esp",
    "atalk",
    "aarp",
    "decnet",
    "lat",
    "moprc",
    "mopdl",
    "iso",
    "esis",
    "es-is",
    "isis",
    "is-is",
    "l1",
    "l2",
    "iih",
    "lsp",
    "snp",
    "csnp",
    "psnp",
    "clnp",
    "stp",
    "ipx",
    "netbeui",
    "host",
    "net",
    "mask",
    "port",
    "portrange",
    "proto",
    "protochain",
    "gateway",
    "type",
    "subtype",
    "direction",
    "dir",
    "address1",
    "address2",
    "address3",
    "address4",
    "addr1",
    "addr2",
    "addr3",
    "addr4",
    "ra",
    "ta",
    "less",
    "greater",
    "byte",
    "broadcast",
    "multicast",
    "and",
    "or",
    "not",
    "len",
    "length",
    "inbound",
    "outbound",
    "ifindex",
    "vlan",
    "mpls",
    "pppoed",
    "pppoes",
    "geneve",
    "vxlan",
    "llc",
    "on",
    "ifname",
    "action",
];

/// Protocols that may qualify what follows, or stand alone.
const PROTOCOLS: [&str; 48] = [
    "link", "ether", "ppp", "slip", "fddi", "tr", "wlan", "arp", "rarp", "ip", "sctp", "tcp",
    "udp", "icmp", "igmp", "igrp", "pim", "vrrp", "carp", "radio", "ip6", "icmp6", "ah", "esp",
    "atalk", "aarp", "decnet", "lat", "moprc", "mopdl", "iso", "esis", "es-is", "isis", "is-is",
    "l1", "l2", "iih", "lsp", "snp", "csnp", "psnp", "clnp", "stp", "ipx", "netbeui", "len",
    "length",
];

const SCTP: u8 = 132;
const RARP: u16 = 0x8035;

/// Reads an expression; `None` if it is not understood.
pub(super) fn parse(expression: &str) -> Option<Tree> {
    let tokens = tokens(expression)?;
    if tokens.is_empty() {
        return Some(Tree::Maybe);
    }
    let mut parser = Parser { tokens: &tokens, at: 0, depth: 0, last: None, tags: 0 };
    let tree = parser.expression()?;
    let is_whole = parser.at == tokens.len();
    (is_whole && parser.tags == required_tags(&tree)).then_some(tree)
}

/// How many `vlan` there are that must hold for the whole to hold.
fn required_tags(tree: &Tree) -> u32 {
    match tree {
        Tree::Leaf(Leaf::Tagged) => 1,
        Tree::And(a, b) => required_tags(a) + required_tags(b),
        Tree::Maybe | Tree::Leaf(_) | Tree::Or(..) => 0,
    }
}

/// What stands before a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Qualifiers<'a> {
    protocol: Option<&'a str>,
    kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `host`, `net`, or nothing.
    Address,
    Port,
    PortRange,
    Protocol,
    /// What is not understood.
    Other,
}

struct Parser<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
    depth: u32,
    /// The qualifiers of the value before.
    last: Option<Qualifiers<'a>>,
    /// How often `vlan` was there.
    tags: u32,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).copied()
    }

    fn next(&mut self) -> Option<Token<'a>> {
        let token = self.peek()?;
        self.at += 1;
        Some(token)
    }

    /// Steps over the next word if it is one of these.
    fn take(&mut self, words: &[&str]) -> Option<&'a str> {
        match self.peek()? {
            Token::Word(text) | Token::Sign(text) if words.contains(&text) => {
                self.at += 1;
                Some(text)
            }
            _ => None,
        }
    }

    fn is_value(&self) -> bool {
        match self.peek() {
            Some(Token::Word(word)) => !KEYWORDS.contains(&word),
            Some(Token::Escaped(_) | Token::V6(_) | Token::Mac) => true,
            Some(Token::Sign(_)) | None => false,
        }
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        self.depth += 1;
        let parsed = if self.depth > DEPTH_MAX { None } else { parse(self) };
        self.depth -= 1;
        parsed
    }

    fn expression(&mut self) -> Option<Tree> {
        let mut left = self.term()?;
        while let Some(is_or) = self.joint() {
            let right = self.operand()?;
            left = join(is_or, left, right);
        }
        Some(left)
    }

    /// Steps over `and` or `or`; gives whether it is `or`.
    fn joint(&mut self) -> Option<bool> {
        self.take(&["and", "&&", "or", "||"]).map(|word| matches!(word, "or" | "||"))
    }

    /// What stands behind `and` and `or`: a term, or values with the qualifiers of the one before.
    fn operand(&mut self) -> Option<Tree> {
        let start = self.at;
        let mut nots = 0;
        while self.take(&["not", "!"]).is_some() {
            nots += 1;
        }
        if let Some(values) = self.values_with(self.last) {
            return Some(if nots > 0 { Tree::Maybe } else { values });
        }
        self.at = start;
        self.term()
    }

    fn term(&mut self) -> Option<Tree> {
        if self.take(&["not", "!"]).is_some() {
            self.deeper(Self::term)?;
            return Some(Tree::Maybe);
        }
        let start = self.at;
        if self.relation().is_some() {
            self.last = None;
            return Some(Tree::Maybe);
        }
        self.at = start;
        if self.take(&["("]).is_some() {
            let tree = self.deeper(Self::expression)?;
            self.take(&[")"])?;
            return Some(tree);
        }
        self.primitive()
    }

    /// One value, or several in brackets, if that is what follows and it has qualifiers.
    fn values_with(&mut self, qualifiers: Option<Qualifiers<'a>>) -> Option<Tree> {
        let start = self.at;
        let relation = self.relation();
        self.at = start;
        let qualifiers = qualifiers.filter(|_| relation.is_none())?;
        if self.is_value() {
            return self.value(qualifiers);
        }
        let values = self.take(&["("]).and_then(|_| self.deeper(|p| p.values_in(qualifiers)));
        if values.is_none() {
            self.at = start;
        }
        values
    }

    /// Values up to a closing bracket.
    fn values_in(&mut self, qualifiers: Qualifiers<'a>) -> Option<Tree> {
        let mut left = self.one_of_values(qualifiers)?;
        while let Some(is_or) = self.joint() {
            let right = self.one_of_values(qualifiers)?;
            left = join(is_or, left, right);
        }
        self.take(&[")"])?;
        Some(left)
    }

    fn one_of_values(&mut self, qualifiers: Qualifiers<'a>) -> Option<Tree> {
        let mut nots = 0;
        while self.take(&["not", "!"]).is_some() {
            nots += 1;
        }
        let value = self.values_with(Some(qualifiers))?;
        Some(if nots > 0 { Tree::Maybe } else { value })
    }

    /// Qualifiers and a value, a protocol alone, or one of the other terms.
    fn primitive(&mut self) -> Option<Tree> {
        if self.take(&["broadcast", "multicast", "inbound", "outbound", "pppoed"]).is_some() {
            self.last = None;
            return Some(Tree::Maybe);
        }
        if self.take(&["less", "greater", "ifindex"]).is_some() {
            self.number()?;
            self.last = None;
            return Some(Tree::Maybe);
        }
        if self.take(&["vlan"]).is_some() {
            let start = self.at;
            if self.number().is_none() {
                self.at = start;
            }
            self.last = None;
            self.tags += 1;
            return Some(Tree::Leaf(Leaf::Tagged));
        }
        if self.take(&["gateway"]).is_some() {
            self.next()?;
            self.last = None;
            return Some(Tree::Maybe);
        }
        let protocol = self.take(&PROTOCOLS);
        if protocol.is_some() && self.take(&["broadcast", "multicast"]).is_some() {
            self.last = None;
            return Some(Tree::Maybe);
        }
        let has_direction = self.direction()?;
        let kind =
            self.take(&["host", "net", "port", "portrange", "proto", "protochain", "gateway"]);
        if kind.is_none() && !has_direction {
            // Without any qualifier, a value stands where libpcap takes none.
            let protocol = protocol?;
            if !self.is_value() {
                self.last = None;
                return Some(alone(protocol));
            }
        }
        let kind = match kind {
            None | Some("host" | "net") => Kind::Address,
            Some("port") => Kind::Port,
            Some("portrange") => Kind::PortRange,
            Some("proto") => Kind::Protocol,
            Some(_) => Kind::Other,
        };
        self.values_with(Some(Qualifiers { protocol, kind }))
    }

    /// Steps over `src`, `dst` and both of them joined; gives whether there was one.
    fn direction(&mut self) -> Option<bool> {
        if self.take(&["src", "dst"]).is_none() {
            return Some(false);
        }
        let start = self.at;
        if self.joint().is_some() && self.take(&["src", "dst"]).is_none() {
            self.at = start;
            // `src and host A` is nothing that libpcap takes.
            return None;
        }
        Some(true)
    }

    fn value(&mut self, qualifiers: Qualifiers<'a>) -> Option<Tree> {
        self.last = Some(qualifiers);
        let leaf = match (qualifiers.kind, self.next()?) {
            (Kind::Address, Token::V6(address)) => {
                let bits = if self.take(&["/"]).is_some() { self.number()? } else { 128 };
                self.address(qualifiers, Net::v6(address, bits), IpVersion::V6)
            }
            (Kind::Address, Token::Word(word)) => match dotted(word) {
                Some((address, bits)) => {
                    let bits = match self.take(&["/", "mask"]) {
                        None => bits,
                        Some("/") => self.number()?,
                        // Any address with the bits before the first 0 of the mask.
                        Some(_) => match self.next()? {
                            Token::Word(mask) => dotted(mask)?.0.to_bits().leading_ones(),
                            _ => return None,
                        },
                    };
                    self.address(qualifiers, Net::v4(address, bits), IpVersion::V4)
                }
                None => {
                    // A name, or a number without dots.
                    if self.take(&["/", "mask"]).is_some() {
                        self.next()?;
                    }
                    None
                }
            },
            (Kind::Port, Token::Word(word)) => {
                let port = number(word).or_else(|| services::port(qualifiers.protocol, word));
                port.and_then(|port| ports(qualifiers, port, port))
            }
            (Kind::PortRange, Token::Word(word)) => word.split_once('-').and_then(|(a, b)| {
                let (a, b) = (number(a)?, number(b)?);
                ports(qualifiers, a.min(b), a.max(b))
            }),
            (Kind::Protocol, Token::Word(word)) => {
                number(word).and_then(|n| numbered(qualifiers, n))
            }
            (Kind::Protocol, Token::Escaped(name)) => named(qualifiers, name),
            _ => None,
        };
        Some(leaf.map_or(Tree::Maybe, Tree::Leaf))
    }

    fn address(&self, qualifiers: Qualifiers<'_>, net: Net, version: IpVersion) -> Option<Leaf> {
        let place = match (qualifiers.protocol, version) {
            (None, IpVersion::V4) => AddressPlace::Any,
            (None | Some("ip6"), IpVersion::V6) | (Some("ip"), IpVersion::V4) => AddressPlace::Ip,
            (Some("arp" | "rarp"), IpVersion::V4) => AddressPlace::Arp,
            _ => return None,
        };
        Some(Leaf::Address { net, place })
    }

    fn number(&mut self) -> Option<u32> {
        match self.next()? {
            Token::Word(word) => number(word),
            _ => None,
        }
    }

    /// A comparison of two calculations.
    fn relation(&mut self) -> Option<()> {
        self.deeper(|parser| {
            parser.calculation()?;
            parser.take(&["=", "==", "!=", "<", ">", "<=", ">="])?;
            parser.calculation()
        })
    }

    fn calculation(&mut self) -> Option<()> {
        loop {
            while self.take(&["-"]).is_some() {}
            if self.take(&["("]).is_some() {
                self.deeper(Self::calculation)?;
                self.take(&[")"])?;
            } else if self.take(&["len", "length"]).is_some() {
            } else if self.take(&PROTOCOLS).is_some() {
                self.take(&["["])?;
                self.deeper(Self::calculation)?;
                if self.take(&[":"]).is_some() {
                    self.number()?;
                }
                self.take(&["]"])?;
            } else if self.is_value() {
                // A number, or the name of one, such as `tcp-syn`.
                match self.next()? {
                    Token::Word(_) => {}
                    _ => return None,
                }
            } else {
                return None;
            }
            if self.take(&["+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"]).is_none() {
                return Some(());
            }
        }
    }
}

fn join(is_or: bool, left: Tree, right: Tree) -> Tree {
    let (left, right) = (Box::new(left), Box::new(right));
    if is_or { Tree::Or(left, right) } else { Tree::And(left, right) }
}

/// One to four octets and how many bits they are.
fn dotted(word: &str) -> Option<(Ipv4Addr, u32)> {
    let mut octets = [0; 4];
    let parts: Vec<&str> = word.split('.').collect();
    if !(2..=4).contains(&parts.len()) {
        return None;
    }
    for (octet, part) in octets.iter_mut().zip(&parts) {
        // A leading 0 would make it octal to some.
        let is_plain =
            part.bytes().all(|b| b.is_ascii_digit()) && (*part == "0" || !part.starts_with('0'));
        *octet = part.parse().ok().filter(|_| is_plain)?;
    }
    Some((octets.into(), parts.len() as u32 * 8))
}

/// A decimal or hexadecimal number; an octal one is none here.
fn number(word: &str) -> Option<u32> {
    match word.strip_prefix("0x").or(word.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None if word.len() > 1 && word.starts_with('0') => None,
        None => word.parse().ok(),
    }
}

fn ports(qualifiers: Qualifiers<'_>, low: u32, high: u32) -> Option<Leaf> {
    let protocol = match qualifiers.protocol {
        None => None,
        Some("tcp") => Some(protocol::TCP),
        Some("udp") => Some(protocol::UDP),
        Some("sctp") => Some(SCTP),
        Some(_) => return None,
    };
    Some(Leaf::Port { low: low.try_into().ok()?, high: high.try_into().ok()?, protocol })
}

/// `proto N`.
fn numbered(qualifiers: Qualifiers<'_>, number: u32) -> Option<Leaf> {
    let version = match qualifiers.protocol {
        None => None,
        Some("ip") => Some(IpVersion::V4),
        Some("ip6") => Some(IpVersion::V6),
        Some("ether" | "link") => return Some(Leaf::EtherType(number.try_into().ok()?)),
        Some(_) => return None,
    };
    Some(Leaf::Protocol { version, number: number.try_into().ok()? })
}

/// `proto \NAME`.
fn named(qualifiers: Qualifiers<'_>, name: &str) -> Option<Leaf> {
    let number = match (qualifiers.protocol, name) {
        (Some("ether" | "link"), "ip") => ethertype::IPV4.into(),
        (Some("ether" | "link"), "ip6") => ethertype::IPV6.into(),
        (Some("ether" | "link"), "arp") => ethertype::ARP.into(),
        (Some("ether" | "link"), "rarp") => RARP.into(),
        (None | Some("ip" | "ip6"), "tcp") => protocol::TCP.into(),
        (None | Some("ip" | "ip6"), "udp") => protocol::UDP.into(),
        (None | Some("ip" | "ip6"), "icmp") => protocol::ICMP.into(),
        _ => return None,
    };
    numbered(qualifiers, number)
}

/// A protocol that stands alone.
fn alone(name: &str) -> Tree {
    let v4 = Some(IpVersion::V4);
    let (version, number) = match name {
        "ip" => return Tree::Leaf(Leaf::EtherType(ethertype::IPV4)),
        "ip6" => return Tree::Leaf(Leaf::EtherType(ethertype::IPV6)),
        "arp" => return Tree::Leaf(Leaf::EtherType(ethertype::ARP)),
        "rarp" => return Tree::Leaf(Leaf::EtherType(RARP)),
        "tcp" => (None, protocol::TCP),
        "udp" => (None, protocol::UDP),
        "sctp" => (None, SCTP),
        "icmp" => (v4, protocol::ICMP),
        "icmp6" => (Some(IpVersion::V6), protocol::ICMPV6),
        "igmp" => (v4, 2),
        "esp" => (None, protocol::ESP),
        "pim" => (None, 103),
        "vrrp" | "carp" => (v4, 112),
        _ => return Tree::Maybe,
    };
    Tree::Leaf(Leaf::Protocol { version, number })
}
