//! A program for a packet socket that lets through what arrives for tunnels, and nothing else.
//!
//! ```text
//! for this host by its MAC, and from an interface that counts ── no: stop
//!   the IP header ── protocol, or UDP and port, or a fragment of a protocol: which carriers?
//!     the destination in the map of local prefixes ── at which carriers is it listened for?
//!       none of the two in common: stop
//!       else count the wire packets (wire_packets), let through
//! ```
//!
//! **Map 0** has the counters, as a [`super::socket_filter`] has them; what is let through counts as
//! undecided, what is stopped is not counted: it is the host's other traffic. **Map 1** is a prefix
//! trie, kept by the loader: `{ length u32, address }` → u64, a bit for each carrier that is listened
//! for at the addresses of the prefix, the first carrier's lowest.
//!
//! Later fragments have no port: those of UDP are let through where any port is listened for.
//!
//! **A claim** is a second program, for tcx at the ingress of interfaces. It finds the same UDP packets,
//! fragments left out, gives them a tag of ours, and calls them another host's. The ring comes later
//! and takes what has the tag; IP, later still, drops another host's packets first of all. That saves
//! the route, the firewall and the look for a socket, more than the ring costs. Its map 0 is the trie.
//! Packets of IP protocols are left to the kernel, which may have tunnels of its own; and frames of a
//! VLAN to its device, where they come by again without the tag. Without such a device they are
//! another host's anyway.
//!
//! Everything is read from the network header on, so the link type does not matter. Offsets are those
//! of `struct __sk_buff` in Linux `include/uapi/linux/bpf.h`; RFC 791, RFC 8200.

use super::classic::WORD_AT;
use super::socket_filter::{
    ALL_BYTES, COUNT_AT, Counter, CounterLayout, Reach, SKB_PKT_TYPE, SocketFilter, add,
    find_counters,
};
use super::wire_packets::WirePackets;
use super::{Alu, Assembler, Bits, Code, Condition, Error, Helper, Label, MapRef, Register, Width};
use Register::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};
use wire::tunnel::Carrier;

/// Carriers that one program tells apart: their bits are a constant of an instruction.
pub const CARRIERS_MAX: usize = 31;

/// Above it are frames for other hosts, and sent ones (`PACKET_HOST`, `_BROADCAST`, `_MULTICAST`).
const PACKET_MULTICAST: i32 = 2;
const PACKET_OTHERHOST: i32 = 3;
/// Goes on with the next program, or the packet (`TCX_NEXT`).
const NEXT: i32 = -1;
const SKB_PROTOCOL: i16 = 16;
const SKB_VLAN_TCI: i16 = 24;
/// The VLAN's number in it; 0: a priority only.
const VLAN_ID: i32 = 0x0fff;
const SKB_IFINDEX: i16 = 40;
/// Survives from tcx to a packet socket.
const SKB_TC_INDEX: i16 = 44;
/// Offsets count from the network header (`BPF_HDR_START_NET`).
const FROM_NETWORK_HEADER: i32 = 1;
/// The trie, for a filter and for a claim.
const PREFIXES: MapRef = MapRef(1);
const PREFIXES_OF_CLAIM: MapRef = MapRef(0);
const UDP: i32 = 17;
const FRAGMENT: i32 = 44;
const AUTHENTICATION: i32 = 51;
/// Hop-by-hop, routing, destination: a length in units of 8 bytes less the first 8.
const OPTIONS: [i32; 3] = [0, 43, 60];
const EXTENSION_HEADERS_MAX: usize = 6;
/// Where the key of the map stands, from R10, and its address.
const KEY_AT: i16 = -80;
const ADDRESS_AT: i16 = KEY_AT + 4;
/// More fragments, or an offset.
const IS_FRAGMENT: i32 = 0x3fff;
const IS_FRAGMENT_V6: i32 = 0xfff9;

/// A version of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IpVersion {
    /// RFC 791.
    V4,
    /// RFC 8200.
    V6,
}

impl core::fmt::Display for IpVersion {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            IpVersion::V4 => "IPv4",
            IpVersion::V6 => "IPv6",
        })
    }
}

impl IpVersion {
    /// Bytes of an address.
    pub const fn address_len(self) -> usize {
        match self {
            IpVersion::V4 => 4,
            IpVersion::V6 => 16,
        }
    }

    /// Bytes of the header without options, where its copy stands from R10, and where in it the
    /// destination.
    const fn header(self) -> (i32, i16, i16) {
        match self {
            IpVersion::V4 => (20, -32, 16),
            IpVersion::V6 => (40, -48, 24),
        }
    }
}

/// Makes the filter for one version of IP: a socket's frames are of one EtherType. Packets with this
/// tag were claimed. What comes from the interfaces `except`, by their indices, is stopped.
///
/// # Errors
/// [`Error::Carriers`] if there are none or more than [`CARRIERS_MAX`].
pub fn listen_filter(
    version: IpVersion,
    carriers: &[Carrier],
    tag: u16,
    except: &[i32],
) -> Result<SocketFilter, Error> {
    let mut asm = Assembler::new();
    let walk = Walk::new(&mut asm, carriers, PREFIXES)?;
    let is_ours = asm.label();
    asm.copy(R6, R1);
    asm.load(Width::B4, R1, R6, SKB_PKT_TYPE);
    asm.jump_if(Bits::B32, Condition::AtMost, R1, PACKET_MULTICAST, is_ours);
    asm.jump_if(Bits::B32, Condition::NotEqual, R1, PACKET_OTHERHOST, walk.stop);
    asm.load(Width::B4, R1, R6, SKB_TC_INDEX);
    asm.jump_if(Bits::B32, Condition::NotEqual, R1, i32::from(tag), walk.stop);
    asm.bind(is_ours);
    if !except.is_empty() {
        asm.load(Width::B4, R1, R6, SKB_IFINDEX);
    }
    for index in except {
        asm.jump_if(Bits::B32, Condition::Equal, R1, *index, walk.stop);
    }
    walk.find(&mut asm, version);
    find_counters(&mut asm, walk.stop);
    let wire_packets = WirePackets::count(&mut asm, COUNT_AT);
    asm.load(Width::B8, R1, R9, COUNT_AT);
    add(&mut asm, R9, Counter::Undecided as usize, R1);
    add(&mut asm, R9, Counter::UndecidedFrames as usize, 1);
    asm.alu(Bits::B32, Alu::Move, R0, ALL_BYTES);
    asm.exit();
    asm.bind(walk.stop);
    asm.alu(Bits::B32, Alu::Move, R0, 0);
    asm.exit();
    wire_packets.finish(&mut asm, true);
    let counters = CounterLayout { rules: 0 };
    Ok(SocketFilter { code: asm.finish()?, counters, reach: Reach::default() })
}

/// Makes the program that claims UDP packets of one version of IP for the ring; the carriers are
/// those of its filter.
///
/// # Errors
/// As [`listen_filter`].
pub fn listen_claim(version: IpVersion, carriers: &[Carrier], tag: u16) -> Result<Code, Error> {
    let ethertype: u16 = match version {
        IpVersion::V4 => 0x0800,
        IpVersion::V6 => 0x86dd,
    };
    let mut asm = Assembler::new();
    let walk = Walk { is_claim: true, ..Walk::new(&mut asm, carriers, PREFIXES_OF_CLAIM)? };
    asm.copy(R6, R1);
    asm.load(Width::B4, R1, R6, SKB_PROTOCOL);
    let ethertype = i32::from(ethertype.to_be());
    asm.jump_if(Bits::B32, Condition::NotEqual, R1, ethertype, walk.stop);
    asm.load(Width::B4, R1, R6, SKB_PKT_TYPE);
    asm.jump_if(Bits::B32, Condition::Above, R1, PACKET_MULTICAST, walk.stop);
    asm.load(Width::B4, R1, R6, SKB_VLAN_TCI);
    asm.alu(Bits::B32, Alu::And, R1, VLAN_ID);
    asm.jump_if(Bits::B32, Condition::NotEqual, R1, 0, walk.stop);
    walk.find(&mut asm, version);
    asm.alu(Bits::B32, Alu::Move, R1, i32::from(tag));
    asm.store(Width::B4, R6, SKB_TC_INDEX, R1);
    asm.copy(R1, R6);
    asm.alu(Bits::B32, Alu::Move, R2, PACKET_OTHERHOST);
    asm.call(Helper::SKB_CHANGE_TYPE);
    asm.bind(walk.stop);
    asm.alu(Bits::B32, Alu::Move, R0, NEXT);
    asm.exit();
    asm.finish()
}

/// The way to a carrier: R7 is the protocol, R9 where its header stands, R8 the bits of the carriers.
struct Walk<'a> {
    carriers: &'a [Carrier],
    /// The protocol's header is there.
    port: Label,
    /// It may not be.
    fragment: Label,
    wanted: Label,
    stop: Label,
    prefixes: MapRef,
    /// Fragments and packets of IP protocols are left alone.
    is_claim: bool,
}

impl<'a> Walk<'a> {
    fn new(
        asm: &mut Assembler,
        carriers: &'a [Carrier],
        prefixes: MapRef,
    ) -> Result<Walk<'a>, Error> {
        if carriers.is_empty() || carriers.len() > CARRIERS_MAX {
            return Err(Error::Carriers { got: carriers.len() });
        }
        let (port, fragment, wanted) = (asm.label(), asm.label(), asm.label());
        let stop = asm.label();
        Ok(Walk { carriers, port, fragment, wanted, stop, prefixes, is_claim: false })
    }

    /// Goes on if the packet is wanted.
    fn find(&self, asm: &mut Assembler, version: IpVersion) {
        match version {
            IpVersion::V4 => self.v4(asm),
            IpVersion::V6 => self.v6(asm),
        }
        self.find_carrier(asm);
        self.find_destination(asm, version);
    }

    fn v4(&self, asm: &mut Assembler) {
        let (len, at, _) = IpVersion::V4.header();
        asm.copy(R2, 0);
        self.read(asm, at, len);
        asm.load(Width::B1, R9, R10, at);
        asm.copy(R1, R9);
        asm.alu(Bits::B32, Alu::ShiftRight, R1, 4);
        asm.jump_if(Bits::B32, Condition::NotEqual, R1, 4, self.stop);
        asm.alu(Bits::B32, Alu::And, R9, 0x0f);
        asm.alu(Bits::B32, Alu::ShiftLeft, R9, 2);
        asm.load(Width::B1, R7, R10, at + 9);
        asm.load(Width::B2, R1, R10, at + 6);
        asm.big_endian(Width::B2, R1);
        asm.alu(Bits::B32, Alu::And, R1, IS_FRAGMENT);
        asm.jump_if(Bits::B32, Condition::NotEqual, R1, 0, self.fragment);
    }

    fn v6(&self, asm: &mut Assembler) {
        let (len, at, _) = IpVersion::V6.header();
        asm.copy(R2, 0);
        self.read(asm, at, len);
        asm.load(Width::B1, R7, R10, at + 6);
        asm.copy(R9, len);
        for _ in 0..EXTENSION_HEADERS_MAX {
            let (options, authentication) = (asm.label(), asm.label());
            let (fragment, next) = (asm.label(), asm.label());
            for number in OPTIONS {
                asm.jump_if(Bits::B32, Condition::Equal, R7, number, options);
            }
            asm.jump_if(Bits::B32, Condition::Equal, R7, FRAGMENT, fragment);
            asm.jump_if(Bits::B32, Condition::Equal, R7, AUTHENTICATION, authentication);
            asm.jump(self.port);
            asm.bind(fragment);
            asm.copy(R2, R9);
            self.read(asm, WORD_AT, 4);
            asm.load(Width::B1, R7, R10, WORD_AT);
            asm.alu(Bits::B64, Alu::Add, R9, 8);
            asm.load(Width::B2, R1, R10, WORD_AT + 2);
            asm.big_endian(Width::B2, R1);
            asm.alu(Bits::B32, Alu::And, R1, IS_FRAGMENT_V6);
            asm.jump_if(Bits::B32, Condition::NotEqual, R1, 0, self.fragment);
            asm.jump(next);
            asm.bind(options);
            self.read_option(asm);
            asm.alu(Bits::B32, Alu::Add, R1, 1);
            asm.alu(Bits::B32, Alu::ShiftLeft, R1, 3);
            asm.alu(Bits::B64, Alu::Add, R9, R1);
            asm.jump(next);
            asm.bind(authentication);
            self.read_option(asm);
            asm.alu(Bits::B32, Alu::Add, R1, 2);
            asm.alu(Bits::B32, Alu::ShiftLeft, R1, 2);
            asm.alu(Bits::B64, Alu::Add, R9, R1);
            asm.bind(next);
        }
    }

    /// Reads the begin of an extension header: the next one's number to R7, its length field to R1.
    fn read_option(&self, asm: &mut Assembler) {
        asm.copy(R2, R9);
        self.read(asm, WORD_AT, 2);
        asm.load(Width::B1, R7, R10, WORD_AT);
        asm.load(Width::B1, R1, R10, WORD_AT + 1);
    }

    /// Puts the bits of the carriers that the packet may belong to into R8.
    fn find_carrier(&self, asm: &mut Assembler) {
        let mut of_udp = 0;
        asm.bind(self.port);
        self.find_protocol(asm);
        asm.jump_if(Bits::B32, Condition::NotEqual, R7, UDP, self.stop);
        for (bit, carrier) in self.bits() {
            if let Carrier::Udp { port } = carrier {
                if of_udp == 0 {
                    asm.copy(R2, R9);
                    asm.alu(Bits::B64, Alu::Add, R2, 2);
                    self.read(asm, WORD_AT, 2);
                    asm.load(Width::B2, R1, R10, WORD_AT);
                    asm.big_endian(Width::B2, R1);
                }
                of_udp |= bit;
                asm.copy(R8, bit);
                asm.jump_if(Bits::B32, Condition::Equal, R1, i32::from(port), self.wanted);
            }
        }
        asm.jump(self.stop);
        asm.bind(self.fragment);
        if self.is_claim {
            asm.jump(self.stop);
        } else {
            self.find_protocol(asm);
            asm.copy(R8, of_udp);
            asm.jump_if(Bits::B32, Condition::NotEqual, R7, UDP, self.stop);
        }
        asm.bind(self.wanted);
    }

    fn find_protocol(&self, asm: &mut Assembler) {
        for (bit, carrier) in self.bits() {
            if let Carrier::Ip { protocol } = carrier
                && !self.is_claim
            {
                asm.copy(R8, bit);
                asm.jump_if(Bits::B32, Condition::Equal, R7, i32::from(protocol), self.wanted);
            }
        }
    }

    fn bits(&self) -> impl Iterator<Item = (i32, Carrier)> {
        self.carriers.iter().enumerate().map(|(place, carrier)| (1 << place, *carrier))
    }

    /// Goes on if one of the carriers in R8 is listened for at the destination.
    fn find_destination(&self, asm: &mut Assembler, version: IpVersion) {
        let (_, header_at, destination) = version.header();
        let len = version.address_len();
        asm.store(Width::B4, R10, KEY_AT, 8 * len as i32);
        for at in (0..len as i16).step_by(4) {
            asm.load(Width::B4, R1, R10, header_at + destination + at);
            asm.store(Width::B4, R10, ADDRESS_AT + at, R1);
        }
        asm.map_address(R1, self.prefixes);
        asm.copy(R2, R10);
        asm.alu(Bits::B64, Alu::Add, R2, i32::from(KEY_AT));
        asm.call(Helper::MAP_LOOKUP);
        asm.jump_if(Bits::B64, Condition::Equal, R0, 0, self.stop);
        asm.load(Width::B8, R1, R0, 0);
        asm.alu(Bits::B64, Alu::And, R1, R8);
        asm.jump_if(Bits::B64, Condition::Equal, R1, 0, self.stop);
    }

    /// Copies bytes at R2 behind the network header to the stack.
    fn read(&self, asm: &mut Assembler, to: i16, len: i32) {
        asm.copy(R1, R6);
        asm.copy(R3, R10);
        asm.alu(Bits::B64, Alu::Add, R3, i32::from(to));
        asm.alu(Bits::B32, Alu::Move, R4, len);
        asm.alu(Bits::B32, Alu::Move, R5, FROM_NETWORK_HEADER);
        asm.call(Helper::SKB_LOAD_BYTES_RELATIVE);
        asm.jump_if(Bits::B64, Condition::NotEqual, R0, 0, self.stop);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VXLAN: Carrier = Carrier::Udp { port: 4789 };
    const GRE: Carrier = Carrier::Ip { protocol: 47 };

    #[test]
    fn any_mix_of_carriers_makes_a_program() {
        for version in [IpVersion::V4, IpVersion::V6] {
            for carriers in [&[VXLAN][..], &[GRE], &[GRE, VXLAN], &[VXLAN; CARRIERS_MAX]] {
                let filter = listen_filter(version, carriers, 7, &[]).unwrap();
                let listing = filter.code.to_string();
                let ports = listing.matches("0x12b5").count();
                assert_eq!(ports, carriers.iter().filter(|of| **of == VXLAN).count(), "{listing}");
                assert!(listing.contains("bpf_skb_load_bytes_relative#68"), "{listing}");
                assert_eq!(filter.reach, Reach::default());
                assert!(!listing.contains("change_type"), "{listing}");
                let claim = listen_claim(version, carriers, 7).unwrap().to_string();
                assert_eq!(claim.matches("0x12b5").count(), ports, "{claim}");
                assert!(claim.contains("call bpf_skb_change_type#32"), "{claim}");
            }
        }
    }

    #[test]
    fn too_many_carriers_are_an_error() {
        for got in [0, CARRIERS_MAX + 1] {
            let carriers = vec![VXLAN; got];
            let error = listen_filter(IpVersion::V4, &carriers, 7, &[]).unwrap_err();
            assert_eq!(error, Error::Carriers { got });
            assert_eq!(listen_claim(IpVersion::V6, &carriers, 7).unwrap_err(), error);
        }
    }
}
