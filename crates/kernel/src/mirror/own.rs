//! Own tunnels as a piece of a program: what this process, or another of this host, sends to its sinks.
//!
//! - the `tc_index` of a clone under way to its sink;
//! - a packet to a far end ([`far_end_keys`](super::layout::far_end_keys)): over IP by its protocol, over
//!   UDP by its port if it comes from a port that the flow hash gives; of a later fragment only the
//!   address is known, which stands in the map with port 0;
//! - GENEVE from such a port whose first option is tapline's metadata;
//! - VXLAN whose source port is the one that the inner flow's hash gives.
//!
//! It looks behind two tags, and in IPv6 behind a fragment header; for VXLAN's look, at packets without
//! either in band, which is how tunnels leave.

use super::judge::KEY_AT;
use super::layout::{MirrorMap, SKB_TC_INDEX, TC_INDEX_SENT};
use crate::flow_hash::{FlowHash, STACK_BYTES};
use crate::shorthand::skb::LEN as SKB_LEN;
use Register::{R0, R1, R2, R6, R7, R8, R9, R10};
use filter::ebpf::restored::{FRAME_AT, LENGTH_AT};
use filter::ebpf::{Alu, Assembler, Bits, Condition, Helper, Label, Register, Width};
use wire::{flow, metadata, udp};

/// Bytes of a frame that it looks at: two tags, IPv6 with a fragment header, UDP, GENEVE and the class
/// of an option.
pub(super) const BYTES_NEEDED: u32 = 14 + 2 * 4 + 40 + 8 + 8 + 8 + 2;

const ETHERNET_LEN: i32 = 14;
const TAGS_MAX: usize = 2;
const TAGS: [i32; 3] = [0x8100, 0x88a8, 0x9100];
const IPV4: i32 = 0x0800;
const IPV6: i32 = 0x86dd;
const UDP: i32 = udp::PROTOCOL as i32;
const FRAGMENT: i32 = 44;
const TCP: i32 = 6;
const GENEVE_OPTIONS: i32 = 0x3f;
/// Where a far end's key stands, from R10.
const KEY: i16 = -32;
/// Where R9 stands while a flow is hashed.
const SAVED: i16 = KEY - 8;
/// Where a VXLAN header ends if it is the whole of a UDP packet over either IP.
const INNER_AT: [i32; 2] = [14 + 20 + 8 + 8, 14 + 40 + 8 + 8];

/// Appends it: goes to `own`, or on. The packet is in R6, its frame in R9's memory; loses the others.
pub(super) fn emit(asm: &mut Assembler, own: Label) {
    let ways = Ways {
        v4: asm.label(),
        v6: asm.label(),
        udp: asm.label(),
        by_protocol: asm.label(),
        own,
        other: asm.label(),
    };
    emit_marked(asm, own);
    ways.link(asm);
    ways.ipv4(asm);
    ways.ipv6(asm);
    ways.udp(asm);
    asm.bind(ways.other);
}

/// Appends the look at the mark alone: goes to `own` for a clone under way to its sink, or on. The packet is
/// in R6; R1 is lost.
pub(super) fn emit_marked(asm: &mut Assembler, own: Label) {
    asm.load(Width::B4, R1, R6, SKB_TC_INDEX);
    asm.jump_if(Bits::B32, Condition::Equal, R1, i32::from(TC_INDEX_SENT), own);
}

/// The walk: R8 is where it stands, R7 how many bytes are there, R2 the upper protocol.
struct Ways {
    v4: Label,
    v6: Label,
    udp: Label,
    /// The far end is known by R2 and no port.
    by_protocol: Label,
    own: Label,
    other: Label,
}

impl Ways {
    fn link(&self, asm: &mut Assembler) {
        // The verifier follows R8 for each number of tags.
        asm.copy(R8, R9);
        asm.alu(Bits::B64, Alu::Add, R8, i32::from(FRAME_AT) + ETHERNET_LEN);
        asm.load(Width::B8, R7, R9, LENGTH_AT);
        asm.alu(Bits::B64, Alu::Sub, R7, ETHERNET_LEN);
        for tags in 0..=TAGS_MAX {
            asm.load(Width::B2, R1, R8, -2);
            asm.big_endian(Width::B2, R1);
            asm.jump_if(Bits::B32, Condition::Equal, R1, IPV4, self.v4);
            asm.jump_if(Bits::B32, Condition::Equal, R1, IPV6, self.v6);
            if tags < TAGS_MAX {
                let tagged = asm.label();
                for value in TAGS {
                    asm.jump_if(Bits::B32, Condition::Equal, R1, value, tagged);
                }
                asm.jump(self.other);
                asm.bind(tagged);
                walk_on(asm, 4);
            }
        }
        asm.jump(self.other);
    }

    fn ipv4(&self, asm: &mut Assembler) {
        asm.bind(self.v4);
        self.needs(asm, 20);
        asm.store(Width::B8, R10, KEY, 0);
        asm.store(Width::B4, R10, KEY + 8, u32::from_ne_bytes([0, 0, 0xff, 0xff]).cast_signed());
        asm.load(Width::B4, R1, R8, 16);
        asm.store(Width::B4, R10, KEY + 12, R1);
        asm.load(Width::B1, R2, R8, 9);
        asm.jump_if(Bits::B32, Condition::NotEqual, R2, UDP, self.by_protocol);
        // In a later fragment there is no port.
        asm.load(Width::B2, R1, R8, 6);
        asm.big_endian(Width::B2, R1);
        asm.jump_if(Bits::B32, Condition::SharesBit, R1, 0x1fff, self.by_protocol);
        // Tunnels have no options.
        asm.load(Width::B1, R1, R8, 0);
        asm.jump_if(Bits::B32, Condition::NotEqual, R1, 0x45, self.other);
        walk_on(asm, 20);
        asm.jump(self.udp);
    }

    fn ipv6(&self, asm: &mut Assembler) {
        let whole = asm.label();
        asm.bind(self.v6);
        self.needs(asm, 40);
        for word in (0..16).step_by(4) {
            asm.load(Width::B4, R1, R8, 24 + word);
            asm.store(Width::B4, R10, KEY + word, R1);
        }
        asm.load(Width::B1, R2, R8, 6);
        walk_on(asm, 40);
        asm.jump_if(Bits::B32, Condition::NotEqual, R2, FRAGMENT, whole);
        self.needs(asm, 8);
        asm.load(Width::B1, R2, R8, 0);
        asm.load(Width::B2, R1, R8, 2);
        asm.big_endian(Width::B2, R1);
        asm.jump_if(Bits::B32, Condition::SharesBit, R1, 0xfff8, self.by_protocol);
        walk_on(asm, 8);
        asm.bind(whole);
        asm.jump_if(Bits::B32, Condition::Equal, R2, UDP, self.udp);

        asm.bind(self.by_protocol);
        asm.jump_if(Bits::B32, Condition::Equal, R2, TCP, self.other);
        asm.store(Width::B2, R10, KEY + 16, 0);
        asm.store(Width::B1, R10, KEY + 16, R2);
        asm.store(Width::B2, R10, KEY + 18, 0);
        self.look_up(asm);
        asm.jump(self.other);
    }

    fn udp(&self, asm: &mut Assembler) {
        asm.bind(self.udp);
        self.needs(asm, 8);
        asm.load(Width::B2, R1, R8, 0);
        asm.big_endian(Width::B2, R1);
        let lowest = i32::from(flow::source_port(0));
        asm.jump_if(Bits::B32, Condition::Below, R1, lowest, self.other);
        asm.store(Width::B2, R10, KEY + 16, 0);
        asm.store(Width::B1, R10, KEY + 16, UDP);
        asm.load(Width::B2, R1, R8, 2);
        asm.store(Width::B2, R10, KEY + 18, R1);
        self.look_up(asm);
        self.needs(asm, 8 + 8 + 4);
        let vxlan = asm.label();
        asm.load(Width::B4, R1, R8, 8);
        let header = u32::from_ne_bytes([0x08, 0, 0, 0]).cast_signed();
        asm.jump_if(Bits::B32, Condition::Equal, R1, header, vxlan);
        asm.load(Width::B1, R1, R8, 8);
        asm.jump_if(Bits::B32, Condition::Equal, R1, 0, self.other);
        asm.jump_if(Bits::B32, Condition::Above, R1, GENEVE_OPTIONS, self.other);
        self.geneve(asm);
        asm.jump(self.other);
        asm.bind(vxlan);
        // GENEVE with eight words of options looks alike, for an inner protocol of 0.
        self.geneve(asm);
        self.vxlan(asm);
    }

    fn geneve(&self, asm: &mut Assembler) {
        asm.load(Width::B2, R1, R8, 8 + 8);
        asm.big_endian(Width::B2, R1);
        asm.jump_if(Bits::B32, Condition::Equal, R1, i32::from(metadata::CLASS), self.own);
    }

    fn vxlan(&self, asm: &mut Assembler) {
        asm.load(Width::B1, R1, R8, 8 + 7);
        asm.jump_if(Bits::B32, Condition::NotEqual, R1, 0, self.other);
        asm.load(Width::B4, R2, R6, SKB_LEN);
        asm.alu(Bits::B64, Alu::Sub, R2, R7);
        asm.alu(Bits::B64, Alu::Add, R2, 8 + 8);
        asm.load(Width::B2, R7, R8, 0);
        asm.big_endian(Width::B2, R7);
        asm.store(Width::B8, R10, SAVED, R9);
        // What stands there depends on the way that led here, by which the verifier would tell walks apart.
        asm.store(Width::B4, R10, KEY_AT, 0);
        let [hashed, beyond, walk] = std::array::from_fn(|_| asm.label());
        let hashes = INNER_AT.map(|at| {
            let hash = FlowHash { at, stack_at: SAVED - STACK_BYTES, finds_ip: false };
            let elsewhere = asm.label();
            asm.jump_if(Bits::B64, Condition::NotEqual, R2, at, elsewhere);
            let rare = hash.emit_hot(asm, hashed);
            asm.bind(rare);
            hash.emit_begin(asm);
            asm.jump(walk);
            asm.bind(elsewhere);
            hash
        });
        asm.jump(self.other);
        asm.bind(walk);
        hashes[0].emit_walk(asm, hashed, beyond);
        asm.bind(beyond);
        asm.load(Width::B8, R9, R10, SAVED);
        asm.jump(self.other);
        asm.bind(hashed);
        asm.load(Width::B8, R9, R10, SAVED);
        asm.alu(Bits::B32, Alu::ShiftRight, R0, 32 - 14);
        asm.alu(Bits::B32, Alu::Or, R0, i32::from(flow::source_port(0)));
        asm.jump_if(Bits::B32, Condition::Equal, R0, R7, self.own);
    }

    /// Goes to `own` if the key is that of a far end.
    fn look_up(&self, asm: &mut Assembler) {
        asm.map_address(R1, MirrorMap::FarEnds.map());
        asm.copy(R2, R10);
        asm.alu(Bits::B64, Alu::Add, R2, i32::from(KEY));
        asm.call(Helper::MAP_LOOKUP);
        asm.jump_if(Bits::B64, Condition::NotEqual, R0, 0, self.own);
    }

    /// Goes to `other` unless so many bytes are there.
    fn needs(&self, asm: &mut Assembler, bytes: i32) {
        asm.jump_if(Bits::B64, Condition::BelowSigned, R7, bytes, self.other);
    }
}

fn walk_on(asm: &mut Assembler, bytes: i32) {
    asm.alu(Bits::B64, Alu::Add, R8, bytes);
    asm.alu(Bits::B64, Alu::Sub, R7, bytes);
}
