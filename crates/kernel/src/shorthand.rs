//! Short names for what programs here write down often.

use Register::{R1, R2, R3, R4, R6, R10};
use filter::ebpf::{
    Alu, Assembler, Bits, Condition, Helper, Instruction, Label, MapRef, Register, Width,
};

/// Offsets in `struct __sk_buff` of Linux `include/uapi/linux/bpf.h`.
pub(crate) mod skb {
    pub const LEN: i16 = 0;
    pub const PROTOCOL: i16 = 16;
    pub const VLAN_PRESENT: i16 = 20;
    pub const VLAN_TCI: i16 = 24;
    pub const VLAN_PROTO: i16 = 28;
    pub const TC_INDEX: i16 = 44;
    pub const DATA: i16 = 76;
    pub const DATA_END: i16 = 80;
    pub const GSO_SIZE: i16 = 176;
}

/// What assemblers here can say in one word. The packet is in R6.
pub(crate) trait Shorthand {
    /// `to = to alu by`, 64 bits.
    fn do64(&mut self, alu: Alu, to: Register, by: impl Into<filter::ebpf::Operand>);
    /// `to = to alu by`, 32 bits.
    fn do32(&mut self, alu: Alu, to: Register, by: impl Into<filter::ebpf::Operand>);
    /// Jumps if two numbers of 64 bits compare.
    fn if64(
        &mut self,
        left: Register,
        condition: Condition,
        right: impl Into<filter::ebpf::Operand>,
        to: Label,
    );
    /// Jumps if two numbers of 32 bits compare.
    fn if32(
        &mut self,
        left: Register,
        condition: Condition,
        right: impl Into<filter::ebpf::Operand>,
        to: Label,
    );
    /// Loads a number that stands in network order.
    fn load_be(&mut self, width: Width, to: Register, base: Register, at: i16);
    /// Puts the address of a place on the stack into a register.
    fn stack_address(&mut self, to: Register, at: i16);
    /// Copies bytes of the packet from the offset in R2 to the stack; R0 is negative where it ends
    /// before.
    fn load_packet(&mut self, to: i16, len: i32);
    /// Looks up the value of the key that stands on the stack; its address, or 0, is in R0.
    fn look_up(&mut self, map: MapRef, key_at: i16);
    /// Loads a 64-bit constant.
    fn wide(&mut self, to: Register, value: u64);
    /// Adds 1, or what is in a register, to a counter of this CPU; R1 is lost.
    fn count(&mut self, base: Register, word: usize, by: impl Into<filter::ebpf::Operand>);
}

impl Shorthand for Assembler {
    fn do64(&mut self, alu: Alu, to: Register, by: impl Into<filter::ebpf::Operand>) {
        self.alu(Bits::B64, alu, to, by);
    }

    fn do32(&mut self, alu: Alu, to: Register, by: impl Into<filter::ebpf::Operand>) {
        self.alu(Bits::B32, alu, to, by);
    }

    fn if64(
        &mut self,
        left: Register,
        condition: Condition,
        right: impl Into<filter::ebpf::Operand>,
        to: Label,
    ) {
        self.jump_if(Bits::B64, condition, left, right, to);
    }

    fn if32(
        &mut self,
        left: Register,
        condition: Condition,
        right: impl Into<filter::ebpf::Operand>,
        to: Label,
    ) {
        self.jump_if(Bits::B32, condition, left, right, to);
    }

    fn load_be(&mut self, width: Width, to: Register, base: Register, at: i16) {
        self.load(width, to, base, at);
        if width != Width::B1 {
            self.big_endian(width, to);
        }
    }

    fn stack_address(&mut self, to: Register, at: i16) {
        self.copy(to, R10);
        self.do64(Alu::Add, to, i32::from(at));
    }

    fn load_packet(&mut self, to: i16, len: i32) {
        self.copy(R1, R6);
        self.stack_address(R3, to);
        self.do32(Alu::Move, R4, len);
        self.call(Helper::SKB_LOAD_BYTES);
    }

    fn look_up(&mut self, map: MapRef, key_at: i16) {
        self.map_address(R1, map);
        self.stack_address(R2, key_at);
        self.call(Helper::MAP_LOOKUP);
    }

    fn wide(&mut self, to: Register, value: u64) {
        self.push(Instruction::Wide { to, value });
    }

    fn count(&mut self, base: Register, word: usize, by: impl Into<filter::ebpf::Operand>) {
        let at = 8 * word as i16;
        self.load(Width::B8, R1, base, at);
        self.do64(Alu::Add, R1, by);
        self.store(Width::B8, base, at, R1);
    }
}
