//! One extended BPF instruction, typed, and its eight or sixteen bytes.
//!
//! Source: RFC 9669 (BPF Instruction Set Architecture); Linux `include/uapi/linux/bpf.h`.
//!
//! ```text
//! struct bpf_insn: 8 bytes, host byte order
//!  0        1          2          4                8
//! +--------+----------+----------+----------------+
//! | opcode | src, dst |  offset  |   immediate    |
//! +--------+----------+----------+----------------+
//!
//! opcode, arithmetic and jumps: operation (4 bits) | source (1) | class (3)
//! opcode, loads and stores:     mode (3) | size (2) | class (3)
//! ```
//!
//! A 64-bit constant takes two of them, the high half in the immediate of the second.

/// A register. R0 takes a call's result, R1 to R5 its arguments and are lost in it, R6 to R9
/// survive it, R10 is the frame pointer, which is only read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "named by their numbers")]
pub enum Register {
    R0 = 0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// How many bytes a load or store moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Width {
    /// One byte.
    B1,
    /// Two bytes.
    B2,
    /// Four bytes.
    B4,
    /// Eight bytes.
    B8,
}

impl Width {
    /// The number of bytes.
    pub const fn bytes(self) -> u32 {
        match self {
            Width::B1 => 1,
            Width::B2 => 2,
            Width::B4 => 4,
            Width::B8 => 8,
        }
    }

    const fn code(self) -> u8 {
        match self {
            Width::B1 => 0x10,
            Width::B2 => 0x08,
            Width::B4 => 0x00,
            Width::B8 => 0x18,
        }
    }
}

/// Whether an operation works on whole registers or on their low halves; the latter clears the
/// high half of the register it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named by their widths")]
pub enum Bits {
    B32,
    B64,
}

/// An arithmetic operation, `to = to op by`; a move takes `by` alone. Unsigned, but for the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "they are what they are called")]
pub enum Alu {
    Add = 0x00,
    Sub = 0x10,
    Mul = 0x20,
    Div = 0x30,
    Or = 0x40,
    And = 0x50,
    ShiftLeft = 0x60,
    ShiftRight = 0x70,
    Mod = 0x90,
    Xor = 0xa0,
    Move = 0xb0,
    ShiftRightSigned = 0xc0,
}

/// A comparison. Unsigned, but for those that say otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "they are what they are called")]
pub enum Condition {
    Equal = 0x10,
    Above = 0x20,
    AtLeast = 0x30,
    /// Both share a bit.
    SharesBit = 0x40,
    NotEqual = 0x50,
    AboveSigned = 0x60,
    AtLeastSigned = 0x70,
    Below = 0xa0,
    AtMost = 0xb0,
    BelowSigned = 0xc0,
    AtMostSigned = 0xd0,
}

impl Condition {
    /// The comparison that is true where this one is false, if there is one.
    pub const fn inverse(self) -> Option<Condition> {
        Some(match self {
            Condition::Equal => Condition::NotEqual,
            Condition::NotEqual => Condition::Equal,
            Condition::Above => Condition::AtMost,
            Condition::AtMost => Condition::Above,
            Condition::AtLeast => Condition::Below,
            Condition::Below => Condition::AtLeast,
            Condition::AboveSigned => Condition::AtMostSigned,
            Condition::AtMostSigned => Condition::AboveSigned,
            Condition::AtLeastSigned => Condition::BelowSigned,
            Condition::BelowSigned => Condition::AtLeastSigned,
            Condition::SharesBit => return None,
        })
    }
}

/// The second operand: a register, or a constant that is extended with its sign to 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are what they are called")]
pub enum Operand {
    Register(Register),
    Constant(i32),
}

impl From<Register> for Operand {
    fn from(register: Register) -> Operand {
        Operand::Register(register)
    }
}

impl From<i32> for Operand {
    fn from(constant: i32) -> Operand {
        Operand::Constant(constant)
    }
}

/// A map by its place in the list that the loader gets; it becomes a descriptor there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MapRef(pub usize);

/// A function of the kernel, by its number in `enum bpf_func_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Helper {
    /// The number.
    pub id: i32,
    /// Its name.
    pub name: &'static str,
}

impl Helper {
    /// `void *bpf_map_lookup_elem(map, const void *key)`: the value, or null.
    pub const MAP_LOOKUP: Helper = Helper { id: 1, name: "bpf_map_lookup_elem" };
    /// `long bpf_tail_call(context, map of programs, u32 index)`: does not return, unless there is no
    /// such program.
    pub const TAIL_CALL: Helper = Helper { id: 12, name: "bpf_tail_call" };
    /// `long bpf_map_update_elem(map, const void *key, const void *value, u64 flags)`: flags 0, 1 only
    /// where there is none, 2 only where there is one. 0, or negative.
    pub const MAP_UPDATE: Helper = Helper { id: 2, name: "bpf_map_update_elem" };
    /// `long bpf_map_delete_elem(map, const void *key)`: 0, or negative.
    pub const MAP_DELETE: Helper = Helper { id: 3, name: "bpf_map_delete_elem" };
    /// `u64 bpf_ktime_get_ns(void)`: `CLOCK_MONOTONIC`.
    pub const KTIME_GET_NS: Helper = Helper { id: 5, name: "bpf_ktime_get_ns" };
    /// `u32 bpf_get_smp_processor_id(void)`: this CPU.
    pub const GET_SMP_PROCESSOR_ID: Helper = Helper { id: 8, name: "bpf_get_smp_processor_id" };
    /// `long bpf_skb_store_bytes(skb, u32 offset, const void *from, u32 len, u64 flags)`: 0, or negative.
    pub const SKB_STORE_BYTES: Helper = Helper { id: 9, name: "bpf_skb_store_bytes" };
    /// `long bpf_l3_csum_replace(skb, u32 offset, u64 from, u64 to, u64 size)`: mends the checksum at
    /// an offset; 0, or negative.
    pub const L3_CSUM_REPLACE: Helper = Helper { id: 10, name: "bpf_l3_csum_replace" };
    /// `long bpf_l4_csum_replace(skb, u32 offset, u64 from, u64 to, u64 flags)`: the same for TCP and
    /// UDP; flags are the size, 0x10 if a pseudo header's field changed, 0x20 if a 0 stays 0.
    pub const L4_CSUM_REPLACE: Helper = Helper { id: 11, name: "bpf_l4_csum_replace" };
    /// `long bpf_clone_redirect(skb, u32 interface, u64 flags)`: sends a copy. 0; negative if there is
    /// none; positive if the interface or its queue may have dropped it.
    pub const CLONE_REDIRECT: Helper = Helper { id: 13, name: "bpf_clone_redirect" };
    /// `long bpf_skb_vlan_push(skb, __be16 protocol, u16 tci)`: 0, or negative.
    pub const SKB_VLAN_PUSH: Helper = Helper { id: 18, name: "bpf_skb_vlan_push" };
    /// `long bpf_skb_vlan_pop(skb)`: takes the outermost tag off, and moves the next one to the metadata.
    pub const SKB_VLAN_POP: Helper = Helper { id: 19, name: "bpf_skb_vlan_pop" };
    /// `long bpf_redirect(u32 interface, u64 flags)`: what to return so that the packet itself is sent
    /// (flags 0), or received (1), there.
    pub const REDIRECT: Helper = Helper { id: 23, name: "bpf_redirect" };
    /// `long bpf_skb_load_bytes(skb, u32 offset, void *to, u32 len)`: 0, or negative if the packet
    /// has not so many bytes.
    pub const SKB_LOAD_BYTES: Helper = Helper { id: 26, name: "bpf_skb_load_bytes" };
    /// `s64 bpf_csum_diff(const be32 *from, u32 from_len, const be32 *to, u32 to_len, u32 seed)`: the
    /// unfolded difference; lengths are multiples of 4, up to 512 together in older kernels.
    pub const CSUM_DIFF: Helper = Helper { id: 28, name: "bpf_csum_diff" };
    /// `long bpf_skb_change_type(skb, u32 type)`: sets `pkt_type`, to whom a received packet was sent.
    pub const SKB_CHANGE_TYPE: Helper = Helper { id: 32, name: "bpf_skb_change_type" };
    /// `long bpf_skb_change_tail(skb, u32 len, u64 flags)`: cuts or lengthens; 0, or negative.
    pub const SKB_CHANGE_TAIL: Helper = Helper { id: 38, name: "bpf_skb_change_tail" };
    /// `long bpf_skb_pull_data(skb, u32 len)`: makes so many bytes readable and writable directly.
    pub const SKB_PULL_DATA: Helper = Helper { id: 39, name: "bpf_skb_pull_data" };
    /// `long bpf_skb_change_head(skb, u32 len, u64 flags)`: puts zeros in front; 0, or negative.
    pub const SKB_CHANGE_HEAD: Helper = Helper { id: 43, name: "bpf_skb_change_head" };
    /// `long bpf_skb_adjust_room(skb, s32 len_diff, u32 mode, u64 flags)`: makes or takes room behind
    /// the MAC (mode 1) or network header (0); 0, or negative.
    pub const SKB_ADJUST_ROOM: Helper = Helper { id: 50, name: "bpf_skb_adjust_room" };
    /// `long bpf_skb_load_bytes_relative(skb, u32 offset, void *to, u32 len, u32 start)`: the same,
    /// from the MAC header (start 0) or the network header (1) on.
    pub const SKB_LOAD_BYTES_RELATIVE: Helper =
        Helper { id: 68, name: "bpf_skb_load_bytes_relative" };
    /// `void *bpf_ringbuf_reserve(map, u64 len, u64 flags)`: room for a record of so many bytes, which
    /// must be known to the verifier; or null. It must be submitted or discarded.
    pub const RINGBUF_RESERVE: Helper = Helper { id: 131, name: "bpf_ringbuf_reserve" };
    /// `void bpf_ringbuf_submit(void *record, u64 flags)`: shows it to the reader, who is woken, flags 0,
    /// if it has read all before.
    pub const RINGBUF_SUBMIT: Helper = Helper { id: 132, name: "bpf_ringbuf_submit" };
    /// `void bpf_ringbuf_discard(void *record, u64 flags)`: gives it up.
    pub const RINGBUF_DISCARD: Helper = Helper { id: 133, name: "bpf_ringbuf_discard" };
    /// `long bpf_redirect_neigh(u32 interface, struct bpf_redir_neigh *, int len, u64 flags)`: as
    /// `bpf_redirect`, by the kernel's routes and neighbours; the packet must be IP.
    pub const REDIRECT_NEIGH: Helper = Helper { id: 152, name: "bpf_redirect_neigh" };
    /// `long bpf_redirect_peer(u32 interface, u64 flags)`: as `bpf_redirect`; the packet is received by
    /// the peer of a veth, in the peer's network namespace.
    pub const REDIRECT_PEER: Helper = Helper { id: 155, name: "bpf_redirect_peer" };
    /// `u64 bpf_ktime_get_tai_ns(void)`: `CLOCK_TAI`.
    pub const KTIME_GET_TAI_NS: Helper = Helper { id: 208, name: "bpf_ktime_get_tai_ns" };
}

/// An instruction. Jumps say how many eight-byte slots they skip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Instruction {
    /// Arithmetic or a move.
    Arithmetic {
        /// Whole registers or low halves.
        bits: Bits,
        /// What to do.
        alu: Alu,
        /// First operand and result.
        to: Register,
        /// Second operand.
        by: Operand,
    },
    /// Two's complement.
    Negate {
        /// Whole register or low half.
        bits: Bits,
        /// Operand and result.
        to: Register,
    },
    /// Turns the low bytes of a register from or to big endian, and clears the others.
    BigEndian {
        /// How many bytes; not one.
        width: Width,
        /// Operand and result.
        to: Register,
    },
    /// Loads from memory, filled with zeros.
    Load {
        /// How many bytes.
        width: Width,
        /// Result.
        to: Register,
        /// Address …
        base: Register,
        /// … and what is added to it.
        at: i16,
    },
    /// Stores to memory.
    Store {
        /// How many bytes.
        width: Width,
        /// Address …
        base: Register,
        /// … and what is added to it.
        at: i16,
        /// What to store.
        value: Operand,
    },
    /// `*(base + at) += value` at once for all CPUs; the value before goes to `value` if it is fetched.
    AtomicAdd {
        /// Four or eight bytes.
        width: Width,
        /// Address …
        base: Register,
        /// … and what is added to it.
        at: i16,
        /// What to add.
        value: Register,
        /// Whether `value` becomes what was there before.
        fetch: bool,
    },
    /// `*(base + at) = value` if R0 is what is there, at once for all CPUs; R0 becomes what was there.
    CompareExchange {
        /// Four or eight bytes.
        width: Width,
        /// Address …
        base: Register,
        /// … and what is added to it.
        at: i16,
        /// What to store.
        value: Register,
    },
    /// Loads a 64-bit constant.
    Wide {
        /// Result.
        to: Register,
        /// The constant.
        value: u64,
    },
    /// Loads the address of a map.
    MapAddress {
        /// Result.
        to: Register,
        /// Which map.
        map: MapRef,
    },
    /// Jumps.
    Jump {
        /// Slots to skip.
        skip: i16,
    },
    /// Jumps farther; Linux 6.6 and newer.
    FarJump {
        /// Slots to skip.
        skip: i32,
    },
    /// Jumps if a comparison is true.
    JumpIf {
        /// Whole registers or low halves.
        bits: Bits,
        /// The comparison.
        condition: Condition,
        /// First operand.
        left: Register,
        /// Second operand.
        right: Operand,
        /// Slots to skip.
        skip: i16,
    },
    /// Calls a function of the kernel.
    Call {
        /// Which.
        helper: Helper,
    },
    /// Ends the program with R0.
    Exit,
}

/// An instruction's slot as the kernel takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Encoded {
    /// Class and operation.
    pub opcode: u8,
    /// Both registers, the destination's number in the low four bits on little-endian hosts.
    pub registers: u8,
    /// A jump's distance or what is added to an address.
    pub offset: i16,
    /// A constant.
    pub immediate: i32,
}

const CLASS_LD: u8 = 0x00;
const CLASS_LDX: u8 = 0x01;
const CLASS_ST: u8 = 0x02;
const CLASS_STX: u8 = 0x03;
const CLASS_ALU: u8 = 0x04;
const CLASS_JMP: u8 = 0x05;
const CLASS_JMP32: u8 = 0x06;
const CLASS_ALU64: u8 = 0x07;
const SOURCE_REGISTER: u8 = 0x08;
const MODE_MEM: u8 = 0x60;
const MODE_ATOMIC: u8 = 0xc0;
const ATOMIC_ADD: i32 = 0;
const ATOMIC_FETCH: i32 = 1;
const COMPARE_EXCHANGE: i32 = 0xf0 | ATOMIC_FETCH;
const NEGATE: u8 = 0x80;
const TO_BIG_ENDIAN: u8 = 0xd8;
const CALL: u8 = 0x80;
const EXIT: u8 = 0x90;
/// `BPF_PSEUDO_MAP_FD`, as the source register of a wide load.
const PSEUDO_MAP_FD: u8 = 1;

impl Instruction {
    /// How many slots it takes: 1, or 2 for a wide load.
    pub const fn slots(self) -> usize {
        match self {
            Instruction::Wide { .. } | Instruction::MapAddress { .. } => 2,
            _ => 1,
        }
    }

    /// Writes its slots; `descriptor` gives the descriptor of a map.
    pub fn encode(self, descriptor: impl Fn(MapRef) -> i32, out: &mut Vec<Encoded>) {
        let (first, second) = self.encoded(descriptor);
        out.push(first);
        out.extend(second);
    }

    fn encoded(self, descriptor: impl Fn(MapRef) -> i32) -> (Encoded, Option<Encoded>) {
        let one = match self {
            Instruction::Arithmetic { bits, alu, to, by } => {
                let (source, register, immediate) = split(by);
                slot(arithmetic(bits) | alu as u8 | source, to as u8, register, 0, immediate)
            }
            Instruction::Negate { bits, to } => slot(arithmetic(bits) | NEGATE, to as u8, 0, 0, 0),
            Instruction::BigEndian { width, to } => {
                slot(CLASS_ALU | TO_BIG_ENDIAN, to as u8, 0, 0, (width.bytes() * 8) as i32)
            }
            Instruction::Load { width, to, base, at } => {
                slot(CLASS_LDX | MODE_MEM | width.code(), to as u8, base as u8, at, 0)
            }
            Instruction::Store { width, base, at, value } => {
                let (source, register, immediate) = split(value);
                let class = if source == 0 { CLASS_ST } else { CLASS_STX };
                slot(class | MODE_MEM | width.code(), base as u8, register, at, immediate)
            }
            Instruction::AtomicAdd { width, base, at, value, fetch } => {
                let operation = ATOMIC_ADD | if fetch { ATOMIC_FETCH } else { 0 };
                let opcode = CLASS_STX | MODE_ATOMIC | width.code();
                slot(opcode, base as u8, value as u8, at, operation)
            }
            Instruction::CompareExchange { width, base, at, value } => {
                let opcode = CLASS_STX | MODE_ATOMIC | width.code();
                slot(opcode, base as u8, value as u8, at, COMPARE_EXCHANGE)
            }
            Instruction::Wide { to, value } => {
                return wide(to, 0, value as u32 as i32, (value >> 32) as i32);
            }
            Instruction::MapAddress { to, map } => {
                return wide(to, PSEUDO_MAP_FD, descriptor(map), 0);
            }
            Instruction::Jump { skip } => slot(CLASS_JMP, 0, 0, skip, 0),
            Instruction::FarJump { skip } => slot(CLASS_JMP32, 0, 0, 0, skip),
            Instruction::JumpIf { bits, condition, left, right, skip } => {
                let (source, register, immediate) = split(right);
                let class = if bits == Bits::B32 { CLASS_JMP32 } else { CLASS_JMP };
                slot(class | condition as u8 | source, left as u8, register, skip, immediate)
            }
            Instruction::Call { helper } => slot(CLASS_JMP | CALL, 0, 0, 0, helper.id),
            Instruction::Exit => slot(CLASS_JMP | EXIT, 0, 0, 0, 0),
        };
        (one, None)
    }
}

const fn arithmetic(bits: Bits) -> u8 {
    match bits {
        Bits::B32 => CLASS_ALU,
        Bits::B64 => CLASS_ALU64,
    }
}

const fn split(operand: Operand) -> (u8, u8, i32) {
    match operand {
        Operand::Register(register) => (SOURCE_REGISTER, register as u8, 0),
        Operand::Constant(constant) => (0, 0, constant),
    }
}

const fn slot(opcode: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Encoded {
    let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
    Encoded { opcode, registers, offset, immediate }
}

const fn wide(to: Register, from: u8, low: i32, high: i32) -> (Encoded, Option<Encoded>) {
    let first = slot(CLASS_LD | Width::B8.code(), to as u8, from, 0, low);
    (first, Some(slot(0, 0, 0, 0, high)))
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::Register::*;
    use super::*;

    #[test]
    fn instructions_encode_as_in_the_kernels_samples() {
        // Bytes as `llvm-objdump -d` shows them for the same instructions.
        let vectors: [(Instruction, &[u64]); 15] = [
            (
                Instruction::CompareExchange { width: Width::B8, base: R2, at: 8, value: R5 },
                &[0x0000_00f1_0008_52db],
            ),
            (alu(Bits::B64, Alu::Move, R6, R1.into()), &[0x0000_0000_0000_16bf]),
            (alu(Bits::B32, Alu::Move, R0, (-1).into()), &[0xffff_ffff_0000_00b4]),
            (alu(Bits::B64, Alu::Add, R2, (-8).into()), &[0xffff_fff8_0000_0207]),
            (alu(Bits::B32, Alu::ShiftLeft, R7, R8.into()), &[0x0000_0000_0000_876c]),
            (Instruction::Negate { bits: Bits::B32, to: R7 }, &[0x0000_0000_0000_0784]),
            (Instruction::BigEndian { width: Width::B2, to: R7 }, &[0x0000_0010_0000_07dc]),
            (Instruction::Load { width: Width::B4, to: R0, base: R6, at: 4 }, &[0x0004_6061]),
            (
                Instruction::Store { width: Width::B8, base: R10, at: -8, value: R1.into() },
                &[0xfff8_1a7b],
            ),
            (
                Instruction::Store { width: Width::B4, base: R10, at: -4, value: 0.into() },
                &[0xfffc_0a62],
            ),
            (
                Instruction::Wide { to: R1, value: 0x1122_3344_5566_7788 },
                &[0x5566_7788_0000_0118, 0x1122_3344_0000_0000],
            ),
            (Instruction::MapAddress { to: R1, map: MapRef(0) }, &[0x0000_0007_0000_1118, 0]),
            (Instruction::Jump { skip: -2 }, &[0xfffe_0005]),
            (Instruction::FarJump { skip: 70_000 }, &[0x0001_1170_0000_0006]),
            (
                Instruction::JumpIf {
                    bits: Bits::B32,
                    condition: Condition::NotEqual,
                    left: R7,
                    right: 2048.into(),
                    skip: 3,
                },
                &[0x0000_0800_0003_0756],
            ),
        ];
        for (instruction, bytes) in vectors {
            let mut out = Vec::new();
            instruction.encode(|_| 7, &mut out);
            let out: Vec<u64> = out.iter().map(as_number).collect();
            assert_eq!(out, bytes, "{instruction:?}");
            assert_eq!(out.len(), instruction.slots());
        }
        let mut out = Vec::new();
        Instruction::Call { helper: Helper::SKB_LOAD_BYTES }.encode(|_| 0, &mut out);
        Instruction::Exit.encode(|_| 0, &mut out);
        assert_eq!(out.iter().map(as_number).collect::<Vec<_>>(), [0x0000_001a_0000_0085, 0x95]);
    }

    #[test]
    fn an_inverse_s_inverse_is_the_comparison() {
        for condition in [Condition::Equal, Condition::Above, Condition::Below, Condition::AtMost] {
            assert_eq!(condition.inverse().and_then(Condition::inverse), Some(condition));
        }
        assert_eq!(Condition::SharesBit.inverse(), None);
    }

    fn alu(bits: Bits, alu: Alu, to: Register, by: Operand) -> Instruction {
        Instruction::Arithmetic { bits, alu, to, by }
    }

    fn as_number(e: &Encoded) -> u64 {
        u64::from(e.opcode)
            | u64::from(e.registers) << 8
            | u64::from(e.offset as u16) << 16
            | u64::from(e.immediate as u32) << 32
    }
}
