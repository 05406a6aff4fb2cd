//! What the programs of a forwarding table and user space have in common: maps, keys and values.
//!
//! Numbers are in the host's order; addresses and ports as they stand in packets, IPv4 addresses as
//! `::ffff:a.b.c.d`.
//!
//! | map | kind | entry |
//! |---|---|---|
//! | [`InlineMap::Sessions`] | hash, [`TUPLE_BYTES`] → [`SESSION_BYTES`] | what becomes of packets with this [`Tuple`]: [`Session`] |
//! | [`InlineMap::Rules`] | hash, [`MATCH_BYTES`] → [`RULE_BYTES`] | [`Match`] → [`Rule`] |
//! | [`InlineMap::Hops`] | array, 4 B → [`HOP_BYTES`] | the way to a next hop: [`Hop`] |
//! | [`InlineMap::Counters`] | per-CPU array, 4 B → [`COUNTER_WORDS`] × 8 B | [`Counter`], place [`counter_place`] |
//! | [`InlineMap::Views`] | array, 4 B → 8 B | what is shown of a rule's packets: bits of [`View`] |
//! | [`InlineMap::Settings`] | array, 4 B → [`SETTINGS_BYTES`] | [`Settings`] |
//! | [`InlineMap::Fragments`] | LRU hash, [`TUPLE_BYTES`] → [`TUPLE_BYTES`] | whose packet this is a fragment of |
//!
//! A session has two entries, one for each direction. The tuple of one is what the other makes of a
//! packet, with source and destination exchanged: either entry tells where the other one is.

use filter::ebpf::MapRef;
use std::net::IpAddr;

/// Grows when a map, a key or a value changes: what an older process has pinned is then not adopted.
pub const LAYOUT_VERSION: u32 = 2;

/// The maps of a table's programs, as their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InlineMap {
    /// Sessions, by the tuple of either direction.
    Sessions,
    /// What is forwarded.
    Rules,
    /// Ways to next hops.
    Hops,
    /// What was counted.
    Counters,
    /// What is shown of a rule's packets.
    Views,
    /// What holds for the table.
    Settings,
    /// Whose packet a fragment belongs to.
    Fragments,
}

impl InlineMap {
    /// All of them, in the order of their numbers.
    pub const ALL: [InlineMap; 7] = [
        InlineMap::Sessions,
        InlineMap::Rules,
        InlineMap::Hops,
        InlineMap::Counters,
        InlineMap::Views,
        InlineMap::Settings,
        InlineMap::Fragments,
    ];

    /// Its number in a program.
    pub const fn map(self) -> MapRef {
        MapRef(self as usize)
    }

    /// The name that it is pinned by.
    pub const fn name(self) -> &'static str {
        match self {
            InlineMap::Sessions => "sessions",
            InlineMap::Rules => "rules",
            InlineMap::Hops => "hops",
            InlineMap::Counters => "counters",
            InlineMap::Views => "views",
            InlineMap::Settings => "settings",
            InlineMap::Fragments => "fragments",
        }
    }

    /// Bytes of its keys and of its values.
    pub const fn sizes(self) -> (usize, usize) {
        match self {
            InlineMap::Sessions => (TUPLE_BYTES, SESSION_BYTES),
            InlineMap::Rules => (MATCH_BYTES, RULE_BYTES),
            InlineMap::Hops => (4, HOP_BYTES),
            InlineMap::Counters => (4, COUNTER_WORDS * 8),
            InlineMap::Views => (4, 8),
            InlineMap::Settings => (4, SETTINGS_BYTES),
            InlineMap::Fragments => (TUPLE_BYTES, TUPLE_BYTES),
        }
    }
}

/// Rules that a table has room for; their numbers begin at 1.
pub const RULES_MAX: u32 = 4096;
/// Ways to next hops that a table has room for.
pub const HOPS_MAX: u32 = 1022;
/// The ways of which only the interface is known: to clients, and to next hosts.
pub const HOP_BY_KERNEL: [u32; 2] = [0, 1];

/// A way as rules and sessions have it: where its entry is, in the low half, and whose it is, in the
/// high half. A session whose way has given its place to another one is left to the kernel.
///
/// # Panics
/// If there is no such place.
pub const fn hop(place: u32, whose: u16) -> u32 {
    assert!(place < HOPS_MAX);
    (whose as u32) << 16 | (place + HOP_BY_KERNEL.len() as u32)
}

/// The place in [`InlineMap::Hops`] of a way.
pub const fn hop_place(hop: u32) -> u32 {
    hop & 0xffff
}
/// Datagrams in fragments that are followed at once.
pub const FRAGMENTS_MAX: u32 = 4096;
/// Bytes of a key of [`InlineMap::Sessions`].
pub const TUPLE_BYTES: usize = 40;
/// Bytes of an entry of [`InlineMap::Sessions`].
pub const SESSION_BYTES: usize = 80;
/// Bytes of a key of [`InlineMap::Rules`].
pub const MATCH_BYTES: usize = 20;
/// Bytes of an entry of [`InlineMap::Rules`].
pub const RULE_BYTES: usize = 48;
/// Bytes of an entry of [`InlineMap::Hops`].
pub const HOP_BYTES: usize = 32;
/// Words in an entry of counters.
pub const COUNTER_WORDS: usize = 16;
/// Bytes of the entry of [`InlineMap::Settings`].
pub const SETTINGS_BYTES: usize = 40;
/// How long what user space says is believed: the way to a next hop, and that somebody takes what is
/// handed up.
pub const FRESH_NS: u32 = 3_000_000_000;
/// A session's time is written anew once it is older than this: packets of one flow on several CPUs
/// would otherwise fight for it.
pub const SEEN_NS: i32 = 250_000_000;

/// Offsets in a [`Tuple`].
pub mod tuple {
    #![expect(missing_docs, reason = "as the fields of `Tuple`")]
    pub const SOURCE: usize = 0;
    pub const DESTINATION: usize = 16;
    pub const PORTS: usize = 32;
    pub const PROTOCOL: usize = 36;
}

/// What tells the packets of a flow, one direction of it. An ICMP echo's identifier is the source port
/// of a request, and the destination port of a reply; the other port is 0, as are those of protocols
/// without ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes.
    pub destination: IpAddr,
    /// The source port.
    pub source_port: u16,
    /// The destination port.
    pub destination_port: u16,
    /// The IP protocol.
    pub protocol: u8,
}

impl Tuple {
    /// The key's bytes.
    pub fn bytes(&self) -> [u8; TUPLE_BYTES] {
        let mut out = [0; TUPLE_BYTES];
        out[tuple::SOURCE..][..16].copy_from_slice(&mapped(self.source));
        out[tuple::DESTINATION..][..16].copy_from_slice(&mapped(self.destination));
        out[tuple::PORTS..][..2].copy_from_slice(&self.source_port.to_be_bytes());
        out[tuple::PORTS + 2..][..2].copy_from_slice(&self.destination_port.to_be_bytes());
        out[tuple::PROTOCOL] = self.protocol;
        out
    }

    /// Reads a key; `None` if it is of another length.
    pub fn parse(bytes: &[u8]) -> Option<Tuple> {
        let bytes: &[u8; TUPLE_BYTES] = bytes.try_into().ok()?;
        Some(Tuple {
            source: address(bytes, tuple::SOURCE),
            destination: address(bytes, tuple::DESTINATION),
            source_port: port(bytes, tuple::PORTS),
            destination_port: port(bytes, tuple::PORTS + 2),
            protocol: bytes[tuple::PROTOCOL],
        })
    }

    /// The tuple of what is answered.
    pub fn reversed(&self) -> Tuple {
        Tuple {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
        }
    }
}

/// Offsets in an entry of [`InlineMap::Sessions`].
pub mod session {
    #![expect(missing_docs, reason = "as the fields of `Session`")]
    /// `CLOCK_MONOTONIC_COARSE` of the last packet, about [`SEEN_NS`](super::SEEN_NS) late.
    pub const SEEN_AT: usize = 0;
    pub const RULE: usize = 8;
    pub const HOP: usize = 12;
    pub const SOURCE: usize = 16;
    pub const DESTINATION: usize = 32;
    pub const PORTS: usize = 48;
    /// What checksums change by: both addresses, both ports, and of these the destination's; folded
    /// sums of the 16-bit words, as they stand in memory. 0: the ports do not change.
    pub const ADDRESSES_DIFF: usize = 52;
    pub const PORTS_DIFF: usize = 56;
    pub const DESTINATION_DIFF: usize = 60;
    pub const DESTINATION_PORT_DIFF: usize = 64;
    pub const SOURCE_DIFF: usize = 68;
    pub const SOURCE_PORT_DIFF: usize = 72;
    pub const WAY: usize = 76;
    pub const TCP_FLAGS: usize = 77;
}

/// Which way a session's entry goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Leg {
    /// From the client to the next host.
    Forward = 0,
    /// Back.
    Reply = 1,
}

/// One direction of a session: what its packets become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// When the last packet passed, ns of `CLOCK_MONOTONIC`; 0: none did.
    pub seen_ns: u64,
    /// The rule's number.
    pub rule: u32,
    /// The way: [`hop()`].
    pub hop: u32,
    /// What packets become.
    pub becomes: Tuple,
    /// The direction.
    pub leg: Leg,
    /// FIN (1) and RST (4), if they were seen since the last SYN.
    pub tcp_flags: u8,
}

impl Session {
    /// Reads an entry; `protocol` stands in its key. `None` if it is of another length.
    pub fn parse(bytes: &[u8], protocol: u8) -> Option<Session> {
        let bytes: &[u8; SESSION_BYTES] = bytes.try_into().ok()?;
        let word = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        Some(Session {
            seen_ns: u64::from_ne_bytes(*bytes.get(session::SEEN_AT..)?.first_chunk()?),
            rule: word(session::RULE)?,
            hop: word(session::HOP)?,
            becomes: Tuple {
                source: address(bytes, session::SOURCE),
                destination: address(bytes, session::DESTINATION),
                source_port: port(bytes, session::PORTS),
                destination_port: port(bytes, session::PORTS + 2),
                protocol,
            },
            leg: if bytes[session::WAY] == Leg::Forward as u8 { Leg::Forward } else { Leg::Reply },
            tcp_flags: bytes[session::TCP_FLAGS],
        })
    }
}

/// Offsets in a [`Match`].
pub mod match_at {
    #![expect(missing_docs, reason = "as the fields of `Match`")]
    pub const PROTOCOL: usize = 16;
    pub const PORT: usize = 18;
}

/// What a rule matches: an address, a protocol of it, or a port of that. The narrowest decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Match {
    /// The address that clients speak to.
    pub address: IpAddr,
    /// The IP protocol; `None`: all, and no port.
    pub protocol: Option<u8>,
    /// The port; `None`: all.
    pub port: Option<u16>,
}

impl Match {
    /// The key's bytes.
    ///
    /// ```text
    /// offset 0         16         17   18     20
    ///        │ address │ protocol │ 0  │ port │      0: all
    /// ```
    pub fn bytes(&self) -> [u8; MATCH_BYTES] {
        let mut out = [0; MATCH_BYTES];
        out[..16].copy_from_slice(&mapped(self.address));
        out[match_at::PROTOCOL] = self.protocol.unwrap_or(0);
        out[match_at::PORT..].copy_from_slice(&self.port.unwrap_or(0).to_be_bytes());
        out
    }

    /// Reads a key; `None` if it is of another length.
    pub fn parse(bytes: &[u8]) -> Option<Match> {
        let bytes: &[u8; MATCH_BYTES] = bytes.try_into().ok()?;
        let (protocol, port) = (bytes[match_at::PROTOCOL], port(bytes, match_at::PORT));
        Some(Match {
            address: address(bytes, 0),
            protocol: (protocol != 0).then_some(protocol),
            port: (port != 0).then_some(port),
        })
    }

    /// The bit of [`Settings::levels`] that has programs look for matches like this.
    pub fn level(&self) -> u32 {
        match (self.protocol, self.port) {
            (_, Some(_)) => LEVEL_PORT,
            (Some(_), None) => LEVEL_PROTOCOL,
            (None, None) => LEVEL_ADDRESS,
        }
    }
}

/// Some rule matches a port.
pub const LEVEL_PORT: u32 = 1;
/// Some rule matches a protocol.
pub const LEVEL_PROTOCOL: u32 = 2;
/// Some rule matches an address.
pub const LEVEL_ADDRESS: u32 = 4;

/// Offsets in an entry of [`InlineMap::Rules`].
pub mod rule {
    #![expect(missing_docs, reason = "as the fields of `Rule`")]
    pub const NUMBER: usize = 0;
    pub const HOP: usize = 4;
    pub const NEXT_HOST: usize = 8;
    pub const SOURCE: usize = 24;
    pub const NEXT_PORT: usize = 40;
}

/// What becomes of what a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Its number, from 1 to [`RULES_MAX`].
    pub number: u32,
    /// The way to the next host: [`hop()`].
    pub hop: u32,
    /// The next host.
    pub next_host: IpAddr,
    /// The address that the next host sees.
    pub source: IpAddr,
    /// The next host's port; `None`: the client's choice.
    pub next_port: Option<u16>,
}

impl Rule {
    /// The entry's bytes.
    pub fn bytes(&self) -> [u8; RULE_BYTES] {
        let mut out = [0; RULE_BYTES];
        out[rule::NUMBER..][..4].copy_from_slice(&self.number.to_ne_bytes());
        out[rule::HOP..][..4].copy_from_slice(&self.hop.to_ne_bytes());
        out[rule::NEXT_HOST..][..16].copy_from_slice(&mapped(self.next_host));
        out[rule::SOURCE..][..16].copy_from_slice(&mapped(self.source));
        out[rule::NEXT_PORT..][..2].copy_from_slice(&self.next_port.unwrap_or(0).to_be_bytes());
        out
    }
}

impl Rule {
    /// Reads an entry; `None` if it is of another length.
    pub fn parse(bytes: &[u8]) -> Option<Rule> {
        let bytes: &[u8; RULE_BYTES] = bytes.try_into().ok()?;
        let half = |at: usize| u32::from_ne_bytes(std::array::from_fn(|n| bytes[at + n]));
        let next_port = port(bytes, rule::NEXT_PORT);
        Some(Rule {
            number: half(rule::NUMBER),
            hop: half(rule::HOP),
            next_host: address(bytes, rule::NEXT_HOST),
            source: address(bytes, rule::SOURCE),
            next_port: (next_port != 0).then_some(next_port),
        })
    }
}

/// Offsets in an entry of [`InlineMap::Hops`].
pub mod hop {
    #![expect(missing_docs, reason = "as the fields of `Hop`")]
    pub const FRESH_AT: usize = 0;
    pub const MTU: usize = 8;
    pub const IS_LOST: usize = 12;
    pub const MACS: usize = 16;
    pub const WHOSE: usize = 28;
}

/// The way to a next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// The way, as rules and sessions have it.
    pub whose: u32,
    /// Until 3 s after this, ns of `CLOCK_MONOTONIC`, frames are sent by [`Self::macs`]; later the
    /// kernel finds the way for each packet. 0: it is not known.
    pub fresh_ns: u64,
    /// Bytes of the largest IP packet that the path takes; 0: not known.
    pub mtu: u32,
    /// There is no way: packets are handed up, while somebody takes them.
    pub is_lost: bool,
    /// The next hop's MAC, and our interface's.
    pub macs: [u8; 12],
}

impl Hop {
    /// The entry's bytes.
    pub fn bytes(&self) -> [u8; HOP_BYTES] {
        let mut out = [0; HOP_BYTES];
        out[hop::FRESH_AT..][..8].copy_from_slice(&self.fresh_ns.to_ne_bytes());
        out[hop::MTU..][..4].copy_from_slice(&self.mtu.to_ne_bytes());
        out[hop::IS_LOST..][..4].copy_from_slice(&u32::from(self.is_lost).to_ne_bytes());
        out[hop::MACS..][..12].copy_from_slice(&self.macs);
        out[hop::WHOSE..][..4].copy_from_slice(&self.whose.to_ne_bytes());
        out
    }
}

/// Offsets in the entry of [`InlineMap::Settings`].
pub mod settings {
    #![expect(missing_docs, reason = "as the fields of `Settings`")]
    pub const FRESH_AT: usize = 0;
    pub const LEVELS: usize = 8;
    pub const PRIVATE: usize = 12;
    pub const VERSION: usize = 16;
    pub const SESSIONS: usize = 20;
    pub const INTERFACES: usize = 24;
    pub const NETNS: usize = 32;
}

/// What holds for a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// Until 3 s after this, ns of `CLOCK_MONOTONIC`, somebody takes what is handed up.
    pub fresh_ns: u64,
    /// Which kinds of matches there are.
    pub levels: u32,
    /// The private interface; 0: none.
    pub private: u32,
    /// How many sessions there can be.
    pub sessions: u32,
    /// The interfaces: where clients are, and where next hosts are.
    pub interfaces: [u32; 2],
    /// The number of the network namespace that they are in.
    pub netns: u64,
}

impl Settings {
    /// The entry's bytes.
    pub fn bytes(&self) -> [u8; SETTINGS_BYTES] {
        let mut out = [0; SETTINGS_BYTES];
        let Settings { fresh_ns, levels, private, sessions, interfaces, netns } = *self;
        for (at, word) in [(settings::FRESH_AT, fresh_ns), (settings::NETNS, netns)] {
            out[at..][..8].copy_from_slice(&word.to_ne_bytes());
        }
        for (at, half) in [
            (settings::LEVELS, levels),
            (settings::PRIVATE, private),
            (settings::VERSION, LAYOUT_VERSION),
            (settings::SESSIONS, sessions),
            (settings::INTERFACES, interfaces[0]),
            (settings::INTERFACES + 4, interfaces[1]),
        ] {
            out[at..][..4].copy_from_slice(&half.to_ne_bytes());
        }
        out
    }

    /// Reads an entry; `None` if it is of another length or version.
    pub fn parse(bytes: &[u8]) -> Option<Settings> {
        let bytes: &[u8; SETTINGS_BYTES] = bytes.try_into().ok()?;
        let half = |at: usize| u32::from_ne_bytes(std::array::from_fn(|n| bytes[at + n]));
        let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|n| bytes[at + n]));
        (half(settings::VERSION) == LAYOUT_VERSION).then(|| Settings {
            fresh_ns: word(settings::FRESH_AT),
            levels: half(settings::LEVELS),
            private: half(settings::PRIVATE),
            sessions: half(settings::SESSIONS),
            interfaces: [half(settings::INTERFACES), half(settings::INTERFACES + 4)],
            netns: word(settings::NETNS),
        })
    }
}

/// What is shown of a packet that passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum View {
    /// As it was received.
    Ingress = 0,
    /// As it was sent.
    Egress = 1,
    /// From the client to the next host, or back.
    Inline = 2,
    /// It was not forwarded: user space is to answer, or to send it another way.
    Exception = 3,
}

impl View {
    /// Its bit in an entry of [`InlineMap::Views`].
    pub const fn bit(self) -> u32 {
        1 << self as u8
    }
}

/// `tc_index` of a copy: the rule's number, the view, and which way it goes, from the high bits down.
/// In the private interface's tag, too.
///
/// ```text
/// bit 15      3      1     0
///     │ rule  │ view │ leg │
/// ```
pub const fn copy_index(rule: u32, view: View, leg: Leg) -> u16 {
    (rule as u16) << 3 | (view as u16) << 1 | leg as u16
}

/// The rule, the view and the way of a copy; `None` if it is none.
pub const fn copy_of(index: u16) -> Option<(u32, View, Leg)> {
    let leg = if index & 1 == 0 { Leg::Forward } else { Leg::Reply };
    let view = match index >> 1 & 3 {
        0 => View::Ingress,
        1 => View::Egress,
        2 => View::Inline,
        _ => View::Exception,
    };
    match index >> 3 {
        0 => None,
        rule => Some((rule as u32, view, leg)),
    }
}

/// The place in [`InlineMap::Counters`] of one direction of a rule. Rule 0 is what belongs to none.
pub const fn counter_place(rule: u32, leg: Leg) -> u32 {
    rule << 1 | leg as u32
}

/// Places in an entry of [`InlineMap::Counters`]: wire packets, unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Forwarded.
    Forwarded = 0,
    /// Bytes of these, as the kernel has them: a super-packet's headers count once.
    ForwardedBytes = 1,
    /// Sessions that began.
    Sessions = 2,
    /// Handed up to user space: it answers, or sends them another way, and counts them again.
    HandedUp = 3,
    /// Copies that went to user space.
    Shown = 4,
    /// Copies that could not be made.
    NotShown = 5,
    /// Dropped: no room for another session.
    TableFull = 6,
    /// Dropped: no port was free.
    NoPort = 7,
    /// Dropped: the time to live was over, and nobody is there to say so.
    TimeToLive = 8,
    /// Dropped: larger than the path takes, and nobody is there to say so.
    Oversize = 9,
    /// Dropped: a fragment whose first one was not seen.
    Fragment = 10,
    /// Dropped: the kernel refused a change.
    Refused = 11,
    /// Dropped: no way to the next hop, and nobody is there to say so.
    Unreachable = 12,
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn address<const N: usize>(bytes: &[u8; N], at: usize) -> IpAddr {
    let octets: [u8; 16] = std::array::from_fn(|n| bytes[at + n]);
    IpAddr::from(octets).to_canonical()
}

fn port<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuples_come_back() {
        for (a, b) in [("192.0.2.1", "10.0.0.5"), ("2001:db8::1", "fd00::5")] {
            let tuple = Tuple {
                source: a.parse().unwrap(),
                destination: b.parse().unwrap(),
                source_port: 40_000,
                destination_port: 443,
                protocol: 6,
            };
            assert_eq!(Tuple::parse(&tuple.bytes()), Some(tuple));
            assert_eq!(Tuple::parse(&tuple.reversed().bytes()), Some(tuple.reversed()));
            assert_eq!(tuple.reversed().reversed(), tuple);
        }
    }

    #[test]
    fn a_copy_tells_where_it_comes_from() {
        for rule in [1, RULES_MAX] {
            for view in [View::Ingress, View::Egress, View::Inline, View::Exception] {
                let index = copy_index(rule, view, Leg::Reply);
                assert_eq!(copy_of(index), Some((rule, view, Leg::Reply)));
            }
        }
        assert_eq!(copy_of(copy_index(0, View::Inline, Leg::Forward)), None);
    }

    #[test]
    fn settings_come_back_unless_of_another_version() {
        let settings = Settings {
            fresh_ns: 1,
            levels: 3,
            private: 4,
            sessions: 5,
            interfaces: [6, 7],
            netns: 8,
        };
        let mut bytes = settings.bytes();
        assert_eq!(Settings::parse(&bytes), Some(settings));
        bytes[settings::VERSION] ^= 1;
        assert_eq!(Settings::parse(&bytes), None);
    }

    #[test]
    fn a_match_says_what_programs_look_for() {
        let address = "192.0.2.1".parse().unwrap();
        let of = |protocol, port| Match { address, protocol, port }.level();
        assert_eq!(of(Some(6), Some(80)), LEVEL_PORT);
        assert_eq!(of(Some(6), None), LEVEL_PROTOCOL);
        assert_eq!(of(None, None), LEVEL_ADDRESS);
    }
}
