//! Which frames a classic program can judge where the kernel sees them.
//!
//! A program is written for packets as they are on the wire. In the kernel two things are not yet
//! as there: a super-packet stands for many segments, and a lone checksum may still be left to the
//! NIC, which no field of `struct __sk_buff` tells. So each load is looked at:
//!
//! | bytes | the same in all segments | whole before the NIC has it |
//! |---|---|---|
//! | MACs, tags, EtherType | all | all |
//! | behind the EtherType of a protocol that is never offloaded (ARP, LLDP, …), or an 802.3 length | all | all |
//! | IPv4 header | 0–1, 6–9, 12–19 | 0–19 |
//! | behind the IPv4 header, by its length | 0–3 | 0–5, 12–15, 18–19 |
//! | IPv6 header | 0–3, 6–39 | 0–39 |
//! | behind the IPv6 header | 0–3 | 0–5, 12–13 |
//! | the length of the frame | no | yes |
//!
//! The gaps are lengths, the identification, sequence numbers, flags, and the checksums of TCP
//! (16–17), UDP (6–7) and SCTP (8–11). Nothing else is allowed: a load that cannot be placed in
//! the table leaves the filter to user space.
//!
//! What stands where is known only on ways that have compared the EtherType, so a forward pass
//! follows the program: behind `jeq #0x800` true, with A the EtherType, the frame is IPv4. A tag's
//! EtherType moves the rest by four bytes. Where ways meet, only what they agree on stays known.

use super::Error;
use super::classic::successors;
use crate::{Instruction, Program, op};
use std::fmt;
use wire::LinkType;

/// What a filter can decide in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decides {
    /// Every frame, super-packets too; one with a tag in metadata only as a
    /// [`RestoredFrame`](super::RestoredFrame).
    Everything,
    /// The same, but for super-packets.
    WholeFrames,
    /// None; why.
    Nothing(Obstacle),
}

impl Decides {
    /// What two filters decide together, one for each direction.
    pub fn and(self, other: Decides) -> Decides {
        match (self, other) {
            (nothing @ Decides::Nothing(_), _) | (_, nothing @ Decides::Nothing(_)) => nothing,
            (Decides::Everything, Decides::Everything) => Decides::Everything,
            _ => Decides::WholeFrames,
        }
    }

    /// The scope for [`socket_filter`](super::socket_filter).
    ///
    /// # Errors
    /// [`Error::Undecidable`] if there is none.
    pub fn scope(self) -> Result<super::Scope, Error> {
        match self {
            Decides::Everything => Ok(super::Scope::Everything),
            Decides::WholeFrames => Ok(super::Scope::WholeFrames),
            Decides::Nothing(obstacle) => Err(Error::Undecidable(obstacle)),
        }
    }
}

/// Why a filter decides nothing in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// A load of bytes that may not be what they will be on the wire.
    Load {
        /// Position in the program.
        at: usize,
        /// The instruction, as in the program's listing.
        line: String,
    },
    /// A jump back.
    JumpsBack {
        /// Position in the program.
        at: usize,
    },
    /// A link type whose headers are not known here.
    LinkType(LinkType),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::Load { at, line } => write!(
                f,
                "instruction {at}, `{line}`, may read what the NIC has yet to cut or to complete"
            ),
            Obstacle::JumpsBack { at } => write!(f, "instruction {at} jumps back"),
            Obstacle::LinkType(link_type) => write!(f, "frames of {link_type} are not known to it"),
        }
    }
}

/// Looks a program for frames of one link type through.
pub fn decides(program: &Program, link_type: LinkType) -> Decides {
    let start = match link_type {
        _ if super::classic::constant(program.instructions()).is_some() => {
            return Decides::Everything;
        }
        LinkType::ETHERNET => State::at_link(14),
        LinkType::RAW | LinkType::IPV4 | LinkType::IPV6 => State::at_link(0),
        _ => return Decides::Nothing(Obstacle::LinkType(link_type)),
    };
    match follow(program.instructions(), start) {
        Ok(Class::Shared) => Decides::Everything,
        Ok(Class::Whole) => Decides::WholeFrames,
        Ok(Class::Open(at)) => {
            let line = program.to_string();
            let line = line.lines().nth(at).unwrap_or_default();
            let line = line.split_once(')').map_or(line, |(_, instruction)| instruction);
            let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
            Decides::Nothing(Obstacle::Load { at, line })
        }
        Err(at) => Decides::Nothing(Obstacle::JumpsBack { at }),
    }
}

/// How far a load's bytes are what they will be on the wire; the worst of a program counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// In all segments.
    Shared,
    /// In frames that are no super-packets.
    Whole,
    /// Perhaps not; the position of the load.
    Open(usize),
}

/// What is known in front of an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    /// Where the bytes behind the last EtherType known begin; in front of it all is known.
    at: u32,
    network: Network,
    a: Value,
    x: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    Unknown,
    V4,
    V6,
    /// A protocol that is neither cut nor completed by a NIC.
    Plain,
}

/// What a register holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Unknown,
    /// The EtherType in front of this offset.
    EtherType(u32),
    /// The first byte of the IP header.
    FirstByte,
    /// Its high half: the version.
    Version,
    /// The length of the IPv4 header that begins at this offset.
    HeaderLen(u32),
}

/// Where the bytes behind the second tag in band begin; a third is not followed.
const TAGS_END: u32 = 14 + 2 * 4;

/// EtherTypes of protocols that no NIC cuts or completes: ARP, reverse ARP, slow protocols (LACP),
/// EAPOL, LLDP, PTP, connectivity faults.
const PLAIN: [u32; 7] = [0x0806, 0x8035, 0x8809, 0x888e, 0x88cc, 0x88f7, 0x8902];

/// Below it the field is an 802.3 length.
const ETHERTYPE_MIN: u32 = 0x0600;

impl State {
    const fn at_link(at: u32) -> State {
        State { at, network: Network::Unknown, a: Value::Unknown, x: Value::Unknown }
    }

    fn join(self, other: State) -> State {
        let same = |one, two| if one == two { one } else { Value::Unknown };
        let (a, x) = (same(self.a, other.a), same(self.x, other.x));
        if (self.at, self.network) == (other.at, other.network) {
            State { a, x, ..self }
        } else {
            let at = self.at.min(other.at);
            // What the registers say of an offset that is no longer known is of no use.
            State { a, x, ..State::at_link(at) }
        }
    }

    /// With A compared equal to a constant.
    fn where_a_is(mut self, k: u32) -> State {
        match self.a {
            Value::EtherType(at) if at == self.at && self.network == Network::Unknown => match k {
                0x0800 => self.network = Network::V4,
                0x86dd => self.network = Network::V6,
                0x8100 | 0x88a8 | 0x9100 if at < TAGS_END => self.at += 4,
                k if k < ETHERTYPE_MIN || PLAIN.contains(&k) => self.network = Network::Plain,
                _ => {}
            },
            Value::Version if self.network == Network::Unknown => match k {
                0x40 => self.network = Network::V4,
                0x60 => self.network = Network::V6,
                _ => {}
            },
            _ => {}
        }
        self
    }

    /// With A compared to be below a number.
    fn where_a_is_below(mut self, k: u64) -> State {
        let is_ethertype = self.a == Value::EtherType(self.at) && self.network == Network::Unknown;
        if is_ethertype && k <= u64::from(ETHERTYPE_MIN) {
            self.network = Network::Plain;
        }
        self
    }

    /// The class of bytes at a fixed offset.
    fn fixed(&self, from: u32, bytes: u32, position: usize) -> Class {
        // In front of the first EtherType byte of a raw packet there is nothing but its version.
        let front = self.at.max(1);
        let class = |at: u64| match self.network {
            _ if at < u64::from(front) => Class::Shared,
            Network::Plain => Class::Shared,
            Network::Unknown => Class::Open(position),
            Network::V4 => match at - u64::from(self.at) {
                0..=1 | 6..=9 | 12..=19 => Class::Shared,
                0..=19 => Class::Whole,
                _ => Class::Open(position),
            },
            Network::V6 => match at - u64::from(self.at) {
                0..=3 | 6..=43 => Class::Shared,
                4..=5 | 44..=45 | 52..=53 => Class::Whole,
                _ => Class::Open(position),
            },
        };
        worst(from, bytes, class)
    }

    /// The class of bytes at X + k.
    fn indexed(&self, k: u32, bytes: u32, position: usize) -> Class {
        match self.network {
            Network::Plain => return Class::Shared,
            Network::V4 if self.x == Value::HeaderLen(self.at) && k >= self.at => {}
            _ => return Class::Open(position),
        }
        worst(k - self.at, bytes, |n| match n {
            0..=3 => Class::Shared,
            4..=5 | 12..=15 | 18..=19 => Class::Whole,
            _ => Class::Open(position),
        })
    }
}

fn worst(from: u32, bytes: u32, class: impl Fn(u64) -> Class) -> Class {
    let from = u64::from(from);
    (from..from + u64::from(bytes)).map(class).max().unwrap_or(Class::Shared)
}

/// Follows every way through a program; the position of a jump back is an error.
fn follow(program: &[Instruction], start: State) -> Result<Class, usize> {
    let mut states: Vec<Option<State>> = vec![None; program.len()];
    if let Some(first) = states.first_mut() {
        *first = Some(start);
    }
    let mut class = Class::Shared;
    for (at, i) in program.iter().enumerate() {
        let Some(state) = states[at] else { continue };
        let (after, read) = step(state, i, at);
        match read {
            Class::Open(_) => return Ok(read),
            _ => class = class.max(read),
        }
        let [one, two] = successors(program, at).map_err(|_| at)?;
        let (yes, no) = branches(after, i);
        for (to, state) in [(one, yes), (two, no)] {
            if let Some(to) = to {
                states[to] = Some(states[to].map_or(state, |before| before.join(state)));
            }
        }
    }
    Ok(class)
}

/// What is known behind an instruction, and the class of what it reads.
fn step(mut state: State, i: &Instruction, position: usize) -> (State, Class) {
    let bytes = match i.code & 0x18 {
        op::W => 4,
        op::H => 2,
        _ => 1,
    };
    let mut class = Class::Shared;
    match i.code & 0x07 {
        op::LD => {
            (state.a, class) = match i.code & 0xe0 {
                op::ABS => {
                    let class = state.fixed(i.k, bytes, position);
                    let is_type = state.at > 0 && bytes == 2 && i.k == state.at - 2;
                    let is_first = state.at == 0 && bytes == 1 && i.k == 0;
                    let value = match (is_type, is_first) {
                        (true, _) => Value::EtherType(state.at),
                        (_, true) => Value::FirstByte,
                        _ => Value::Unknown,
                    };
                    (value, class)
                }
                op::IND => (Value::Unknown, state.indexed(i.k, bytes, position)),
                op::LEN => (Value::Unknown, Class::Whole),
                _ => (Value::Unknown, Class::Shared),
            };
        }
        op::LDX => {
            (state.x, class) = match i.code & 0xe0 {
                op::MSH => {
                    let is_header = state.network == Network::V4 && i.k == state.at;
                    let value = if is_header { Value::HeaderLen(i.k) } else { Value::Unknown };
                    (value, state.fixed(i.k, 1, position))
                }
                op::LEN => (Value::Unknown, Class::Whole),
                _ => (Value::Unknown, Class::Shared),
            };
        }
        op::ALU => {
            let is_version =
                state.a == Value::FirstByte && i.code == op::ALU | op::AND | op::K && i.k == 0xf0;
            state.a = if is_version { Value::Version } else { Value::Unknown };
        }
        op::MISC if i.code & 0x80 == op::TXA => state.a = state.x,
        op::MISC => state.x = state.a,
        _ => {}
    }
    (state, class)
}

/// What is known where an instruction jumps, and where a comparison goes on if it is false.
fn branches(state: State, i: &Instruction) -> (State, State) {
    let k = u64::from(i.k);
    match i.code {
        code if code == op::JMP | op::JEQ | op::K => (state.where_a_is(i.k), state),
        code if code == op::JMP | op::JGT | op::K => (state, state.where_a_is_below(k + 1)),
        code if code == op::JMP | op::JGE | op::K => (state, state.where_a_is_below(k)),
        _ => (state, state),
    }
}

#[cfg(test)]
mod tests;
