//! How many packets of the wire a frame in the kernel stands for, as a piece of a program.
//!
//! ```text
//! no gso_size            1
//! gso_segs               what it says
//! gso_size alone         ceil(payload / gso_size), at least 1: super-packets of virtual machines
//! ```
//!
//! The payload is what follows the headers: Ethernet, up to two tags in band, IPv4 with options or
//! IPv6 with up to eight extension headers, TCP with options or UDP. That is the number of
//! segments that `wire::segment` cuts. Where they cannot be followed, as in a tunnel, the frame's
//! whole length stands for the payload: an estimate, never too low.
//!
//! Offsets are those of `struct __sk_buff` in Linux `include/uapi/linux/bpf.h`.

use super::classic::{SKB_LEN, WORD_AT, load_bytes};
use super::{Alu, Assembler, Bits, Condition, Label, Register, Width};
use Register::{R0, R1, R2, R6, R7, R8, R9, R10};

const SKB_GSO_SEGS: i16 = 164;
pub(super) const SKB_GSO_SIZE: i16 = 176;

const TAGS_MAX: usize = 2;
const EXTENSION_HEADERS_MAX: usize = 8;
const TAGS: [i32; 3] = [0x8100, 0x88a8, 0x9100];
const IPV4: i32 = 0x0800;
const IPV6: i32 = 0x86dd;
const TCP: i32 = 6;
const UDP: i32 = 17;
const FRAGMENT: i32 = 44;
const AUTHENTICATION: i32 = 51;
/// Hop-by-hop, routing, destination: a length in units of 8 bytes less the first 8.
const OPTIONS: [i32; 3] = [0, 43, 60];

/// What a program stands on to count; the rare part goes to its end.
pub(super) struct WirePackets {
    rare: Label,
    counted: Label,
}

impl WirePackets {
    /// Appends the count; it is kept at `at` from R9. Leaves gso_size in R7.
    pub(super) fn count(asm: &mut Assembler, at: i16) -> WirePackets {
        let labels = WirePackets { rare: asm.label(), counted: asm.label() };
        asm.load(Width::B4, R7, R6, SKB_GSO_SIZE);
        asm.alu(Bits::B32, Alu::Move, R1, 1);
        asm.jump_if(Bits::B32, Condition::NotEqual, R7, 0, labels.rare);
        asm.bind(labels.counted);
        asm.store(Width::B8, R9, at, R1);
        labels
    }

    /// Appends the rare part: super-packets. `ethernet`: the frame does not start at IP.
    pub(super) fn finish(self, asm: &mut Assembler, ethernet: bool) {
        asm.bind(self.rare);
        asm.load(Width::B4, R1, R6, SKB_GSO_SEGS);
        asm.jump_if(Bits::B32, Condition::NotEqual, R1, 0, self.counted);
        let walk = Walk::new(asm);
        walk.link(asm, ethernet);
        walk.ip(asm);
        walk.upper(asm);
        walk.payload(asm, self.counted);
    }
}

/// The count of a super-packet that is known to be one, with its headers' length.
pub(super) struct SuperPacket;

impl SuperPacket {
    /// Appends it for an Ethernet frame. R1 becomes the number of wire packets, R8 the length of the
    /// headers, 0 where they cannot be followed.
    pub(super) fn emit(asm: &mut Assembler) {
        let (measured, divide, done) = (asm.label(), asm.label(), asm.label());
        let walk = Walk::new(asm);
        walk.link(asm, true);
        walk.ip(asm);
        walk.upper(asm);
        asm.bind(walk.payload);
        asm.load(Width::B4, R2, R6, SKB_LEN);
        asm.jump_if(Bits::B64, Condition::AtLeast, R2, R8, measured);
        asm.bind(walk.estimate);
        asm.alu(Bits::B32, Alu::Move, R8, 0);
        asm.bind(measured);
        asm.load(Width::B4, R1, R6, SKB_GSO_SEGS);
        asm.jump_if(Bits::B32, Condition::Equal, R1, 0, divide);
        asm.jump(done);
        asm.bind(divide);
        asm.load(Width::B4, R1, R6, SKB_LEN);
        asm.alu(Bits::B64, Alu::Sub, R1, R8);
        asm.load(Width::B4, R7, R6, SKB_GSO_SIZE);
        asm.alu(Bits::B64, Alu::Add, R1, R7);
        asm.alu(Bits::B64, Alu::Sub, R1, 1);
        asm.alu(Bits::B64, Alu::Div, R1, R7);
        asm.jump_if(Bits::B64, Condition::NotEqual, R1, 0, done);
        asm.alu(Bits::B32, Alu::Move, R1, 1);
        asm.bind(done);
    }
}

/// The walk to the payload: R8 is where it stands, R7 the next header's number.
struct Walk {
    v4: Label,
    v6: Label,
    upper: Label,
    tcp: Label,
    udp: Label,
    payload: Label,
    estimate: Label,
}

impl Walk {
    fn new(asm: &mut Assembler) -> Walk {
        Walk {
            v4: asm.label(),
            v6: asm.label(),
            upper: asm.label(),
            tcp: asm.label(),
            udp: asm.label(),
            payload: asm.label(),
            estimate: asm.label(),
        }
    }

    fn link(&self, asm: &mut Assembler, ethernet: bool) {
        if !ethernet {
            asm.alu(Bits::B32, Alu::Move, R8, 0);
            self.read(asm, 0, Width::B1, R1);
            asm.alu(Bits::B32, Alu::ShiftRight, R1, 4);
            asm.jump_if(Bits::B32, Condition::Equal, R1, 4, self.v4);
            asm.jump_if(Bits::B32, Condition::Equal, R1, 6, self.v6);
            asm.jump(self.estimate);
            return;
        }
        asm.alu(Bits::B32, Alu::Move, R8, 12);
        for tag in 0..=TAGS_MAX {
            self.read(asm, 0, Width::B2, R1);
            asm.alu(Bits::B64, Alu::Add, R8, 2);
            asm.jump_if(Bits::B32, Condition::Equal, R1, IPV4, self.v4);
            asm.jump_if(Bits::B32, Condition::Equal, R1, IPV6, self.v6);
            if tag == TAGS_MAX {
                break;
            }
            let tagged = asm.label();
            for value in TAGS {
                asm.jump_if(Bits::B32, Condition::Equal, R1, value, tagged);
            }
            asm.jump(self.estimate);
            asm.bind(tagged);
            asm.alu(Bits::B64, Alu::Add, R8, 2);
        }
        asm.jump(self.estimate);
    }

    fn ip(&self, asm: &mut Assembler) {
        asm.bind(self.v4);
        self.read(asm, 9, Width::B1, R7);
        self.read(asm, 0, Width::B1, R1);
        asm.alu(Bits::B32, Alu::And, R1, 0x0f);
        asm.alu(Bits::B32, Alu::ShiftLeft, R1, 2);
        asm.jump_if(Bits::B32, Condition::Below, R1, 20, self.estimate);
        asm.alu(Bits::B64, Alu::Add, R8, R1);
        asm.jump(self.upper);

        asm.bind(self.v6);
        self.read(asm, 6, Width::B1, R7);
        asm.alu(Bits::B64, Alu::Add, R8, 40);
    }

    fn upper(&self, asm: &mut Assembler) {
        asm.bind(self.upper);
        for _ in 0..EXTENSION_HEADERS_MAX {
            asm.jump_if(Bits::B32, Condition::Equal, R7, TCP, self.tcp);
            asm.jump_if(Bits::B32, Condition::Equal, R7, UDP, self.udp);
            let (options, authentication) = (asm.label(), asm.label());
            let (fragment, next) = (asm.label(), asm.label());
            self.read(asm, 0, Width::B2, R1);
            // Next header in R0, length in R1.
            asm.copy(R0, R1);
            asm.alu(Bits::B32, Alu::ShiftRight, R0, 8);
            asm.alu(Bits::B32, Alu::And, R1, 0xff);
            for number in OPTIONS {
                asm.jump_if(Bits::B32, Condition::Equal, R7, number, options);
            }
            asm.jump_if(Bits::B32, Condition::Equal, R7, FRAGMENT, fragment);
            asm.jump_if(Bits::B32, Condition::Equal, R7, AUTHENTICATION, authentication);
            asm.jump(self.estimate);
            asm.bind(options);
            asm.alu(Bits::B32, Alu::Add, R1, 1);
            asm.alu(Bits::B32, Alu::ShiftLeft, R1, 3);
            asm.jump(next);
            asm.bind(authentication);
            asm.alu(Bits::B32, Alu::Add, R1, 2);
            asm.alu(Bits::B32, Alu::ShiftLeft, R1, 2);
            asm.jump(next);
            asm.bind(fragment);
            asm.alu(Bits::B32, Alu::Move, R1, 8);
            asm.bind(next);
            asm.alu(Bits::B64, Alu::Add, R8, R1);
            asm.copy(R7, R0);
        }
        asm.jump_if(Bits::B32, Condition::Equal, R7, TCP, self.tcp);
        asm.jump_if(Bits::B32, Condition::Equal, R7, UDP, self.udp);
        asm.jump(self.estimate);

        asm.bind(self.tcp);
        self.read(asm, 12, Width::B1, R1);
        asm.alu(Bits::B32, Alu::ShiftRight, R1, 4);
        asm.alu(Bits::B32, Alu::ShiftLeft, R1, 2);
        asm.jump_if(Bits::B32, Condition::Below, R1, 20, self.estimate);
        asm.alu(Bits::B64, Alu::Add, R8, R1);
        asm.jump(self.payload);

        asm.bind(self.udp);
        asm.alu(Bits::B64, Alu::Add, R8, 8);
    }

    fn payload(&self, asm: &mut Assembler, counted: Label) {
        let divide = asm.label();
        asm.bind(self.payload);
        asm.load(Width::B4, R1, R6, SKB_LEN);
        asm.jump_if(Bits::B64, Condition::Below, R1, R8, self.estimate);
        asm.alu(Bits::B64, Alu::Sub, R1, R8);
        asm.jump(divide);
        asm.bind(self.estimate);
        asm.load(Width::B4, R1, R6, SKB_LEN);
        asm.bind(divide);
        asm.load(Width::B4, R7, R6, SKB_GSO_SIZE);
        asm.alu(Bits::B64, Alu::Add, R1, R7);
        asm.alu(Bits::B64, Alu::Sub, R1, 1);
        asm.alu(Bits::B64, Alu::Div, R1, R7);
        asm.jump_if(Bits::B64, Condition::NotEqual, R1, 0, counted);
        asm.alu(Bits::B32, Alu::Move, R1, 1);
        asm.jump(counted);
    }

    /// Reads bytes that stand `plus` behind R8, in host byte order.
    fn read(&self, asm: &mut Assembler, plus: i32, width: Width, to: Register) {
        asm.copy(R2, R8);
        if plus != 0 {
            asm.alu(Bits::B64, Alu::Add, R2, plus);
        }
        load_bytes(asm, width, self.estimate);
        asm.load(width, to, R10, WORD_AT);
        if width != Width::B1 {
            asm.big_endian(width, to);
        }
    }
}
