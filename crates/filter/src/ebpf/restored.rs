//! A packet where an interface's programs see it, as the frame that was on the wire.
//!
//! The kernel keeps the outermost VLAN tag of many packets beside them. The restored frame has it where
//! it stood: at offsets 12 to 15, with all later bytes moved by four. Its first bytes and what is known
//! of it are put into memory once, for all filters that will look at it.
//!
//! ```text
//! from R9     0  wire packets that it stands for
//!             8  bytes of these wire packets, their tags included
//!            16  bytes of the restored frame
//!            24  4 if the tag is beside the packet, else 0
//!            32  super-packet: 0 no, 1 yes, 2 larger than IP can say
//!            40  not used here
//!            64  the scratch words of classic BPF
//!           130  the first bytes
//!           226  end
//! ```
//!
//! The bytes of a super-packet's segments are its own and, for each segment but the first, the headers
//! once more. Where the headers cannot be followed, as in a tunnel, they are not counted again.

use super::classic::{BUFFERED_MAX, SCRATCH_AT, SCRATCH_BYTES, SKB_LEN, restored_bytes};
use super::wire_packets::{SKB_GSO_SIZE, SuperPacket};
use super::{Alu, Assembler, Bits, Condition, Error, Helper, Label, Register, Width};
use Register::{R0, R1, R2, R3, R4, R6, R7, R8, R9};

/// Where the wire packets stand, u64.
pub const PACKETS_AT: i16 = 0;
/// Where their bytes stand, u64.
pub const BYTES_AT: i16 = 8;
/// Where the length of the restored frame stands, u64.
pub const LENGTH_AT: i16 = 16;
/// Where it stands whether there is a tag beside the packet, u64: 4 or 0.
pub const TAG_AT: i16 = 24;
/// Where it stands whether it is a super-packet, u64: [`SUPER`], [`SUPER_JUMBO`] or 0.
pub const SUPER_AT: i16 = 32;
/// The first of 24 bytes that the restored frame has no use for.
pub const FREE_AT: i16 = 40;
/// Where the first bytes stand; words of an IP header behind 14 bytes are aligned.
pub const FRAME_AT: i16 = 130;
/// Bytes of memory that a restored frame and the programs that read it take.
pub const RESTORED_BYTES: usize = 256;
const _: () = assert!(FREE_AT + 24 <= SCRATCH_AT && SCRATCH_AT + SCRATCH_BYTES <= FRAME_AT);
const _: () = assert!(FRAME_AT as usize + BUFFERED_MAX as usize <= RESTORED_BYTES);

/// A super-packet.
pub const SUPER: i32 = 1;
/// A super-packet longer than an IP packet can say: it has a jumbo header that its segments lack.
pub const SUPER_JUMBO: i32 = 2;

/// Where the tag ends in a frame.
const TAG_END: u32 = 16;
const ADDRESSES_END: i32 = 12;
const ETHERNET_LEN: i32 = 14;
const SKB_VLAN_PRESENT: i16 = 20;
const SKB_VLAN_TCI: i16 = 24;
const SKB_VLAN_PROTO: i16 = 28;

/// A restored frame, as far as a program stands on it; the rare parts go to the program's end.
#[derive(Debug)]
pub struct RestoredFrame {
    bytes: u32,
    short: Label,
    copy: Label,
    tagged: Label,
    unread: Label,
    read: Label,
    super_packet: Label,
    counted: Label,
}

impl RestoredFrame {
    /// Most first bytes that there can be.
    pub const BYTES_MAX: u32 = BUFFERED_MAX;

    /// How many first bytes a program needs.
    ///
    /// # Errors
    /// [`Error::JumpsBack`].
    pub fn bytes_needed(program: &[crate::Instruction]) -> Result<u32, Error> {
        restored_bytes(program)
    }

    /// How many first bytes there are; of a shorter frame fewer.
    pub fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Appends what reads the first bytes of the Ethernet frame in R6 into R9's memory, and counts
    /// what it stands for. Loses all registers but these two.
    ///
    /// # Panics
    /// Above [`Self::BYTES_MAX`].
    pub fn read(asm: &mut Assembler, bytes: u32) -> RestoredFrame {
        assert!(bytes <= BUFFERED_MAX, "{bytes} bytes");
        let [short, copy, tagged, unread, read, super_packet, counted] =
            std::array::from_fn(|_| asm.label());
        // So that the tag, and any load that begins in it, is among them.
        let bytes = bytes.max(TAG_END + 4);
        let frame =
            RestoredFrame { bytes, short, copy, tagged, unread, read, super_packet, counted };
        asm.load(Width::B4, R4, R6, SKB_LEN);
        asm.load(Width::B4, R1, R6, SKB_VLAN_PRESENT);
        asm.jump_if(Bits::B32, Condition::NotEqual, R1, 0, tagged);
        asm.store(Width::B8, R9, LENGTH_AT, R4);
        asm.store(Width::B8, R9, BYTES_AT, R4);
        asm.store(Width::B8, R9, TAG_AT, 0);
        asm.jump_if(Bits::B32, Condition::Below, R4, bytes as i32, short);
        asm.alu(Bits::B32, Alu::Move, R4, bytes as i32);
        asm.bind(copy);
        asm.alu(Bits::B32, Alu::Move, R2, 0);
        load(asm, 0);
        asm.jump_if(Bits::B64, Condition::NotEqual, R0, 0, unread);
        asm.bind(read);
        asm.load(Width::B4, R7, R6, SKB_GSO_SIZE);
        asm.store(Width::B8, R9, PACKETS_AT, 1);
        asm.store(Width::B8, R9, SUPER_AT, 0);
        asm.jump_if(Bits::B32, Condition::NotEqual, R7, 0, super_packet);
        asm.bind(counted);
        frame
    }

    /// Appends the rare parts: short frames, tags, super-packets.
    pub fn finish(self, asm: &mut Assembler) {
        asm.bind(self.short);
        asm.jump_if(Bits::B32, Condition::NotEqual, R4, 0, self.copy);
        // There is nothing to read, or the kernel does not let it be read: no load succeeds.
        asm.bind(self.unread);
        asm.store(Width::B8, R9, LENGTH_AT, 0);
        asm.jump(self.read);
        self.tagged(asm);
        self.super_packet(asm);
    }

    fn tagged(&self, asm: &mut Assembler) {
        let cut = asm.label();
        asm.bind(self.tagged);
        asm.copy(R7, R4);
        asm.alu(Bits::B64, Alu::Add, R4, 4);
        asm.store(Width::B8, R9, LENGTH_AT, R4);
        asm.store(Width::B8, R9, BYTES_AT, R4);
        asm.store(Width::B8, R9, TAG_AT, 4);
        asm.alu(Bits::B32, Alu::Move, R4, ADDRESSES_END);
        asm.alu(Bits::B32, Alu::Move, R2, 0);
        load(asm, 0);
        asm.jump_if(Bits::B64, Condition::NotEqual, R0, 0, self.unread);
        // The protocol is in network order already.
        asm.load(Width::B4, R1, R6, SKB_VLAN_PROTO);
        asm.store(Width::B2, R9, FRAME_AT + 12, R1);
        asm.load(Width::B4, R1, R6, SKB_VLAN_TCI);
        asm.big_endian(Width::B2, R1);
        asm.store(Width::B2, R9, FRAME_AT + 14, R1);
        let rest = self.bytes as i32 - TAG_END as i32;
        asm.copy(R4, R7);
        asm.alu(Bits::B64, Alu::Sub, R4, ADDRESSES_END);
        asm.jump_if(Bits::B64, Condition::AtMostSigned, R4, 0, self.read);
        asm.jump_if(Bits::B64, Condition::AtMostSigned, R4, rest, cut);
        asm.alu(Bits::B32, Alu::Move, R4, rest);
        asm.bind(cut);
        asm.alu(Bits::B32, Alu::Move, R2, ADDRESSES_END);
        load(asm, TAG_END as i16);
        asm.jump_if(Bits::B64, Condition::NotEqual, R0, 0, self.unread);
        asm.jump(self.read);
    }

    /// R7 holds gso_size.
    fn super_packet(&self, asm: &mut Assembler) {
        let whole = asm.label();
        asm.bind(self.super_packet);
        asm.store(Width::B8, R9, SUPER_AT, SUPER);
        asm.load(Width::B4, R1, R6, SKB_LEN);
        let longest = i32::from(u16::MAX) + ETHERNET_LEN;
        asm.jump_if(Bits::B32, Condition::AtMost, R1, longest, whole);
        asm.store(Width::B8, R9, SUPER_AT, SUPER_JUMBO);
        asm.bind(whole);
        // R1 becomes the wire packets, R8 the headers' length in the packet.
        SuperPacket::emit(asm);
        asm.store(Width::B8, R9, PACKETS_AT, R1);
        asm.load(Width::B8, R2, R9, TAG_AT);
        asm.alu(Bits::B64, Alu::Add, R8, R2);
        asm.alu(Bits::B64, Alu::Sub, R1, 1);
        asm.alu(Bits::B64, Alu::Mul, R1, R8);
        asm.load(Width::B8, R2, R9, LENGTH_AT);
        asm.alu(Bits::B64, Alu::Add, R1, R2);
        asm.store(Width::B8, R9, BYTES_AT, R1);
        asm.jump(self.counted);
    }
}

/// Loads R4 bytes from the offset in R2 to the frame's place `at`.
fn load(asm: &mut Assembler, at: i16) {
    asm.copy(R1, R6);
    asm.copy(R3, R9);
    asm.alu(Bits::B64, Alu::Add, R3, i32::from(FRAME_AT + at));
    asm.call(Helper::SKB_LOAD_BYTES);
}
