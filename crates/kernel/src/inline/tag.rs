//! The program on the way out of the private interface: it puts into a tag, for the ring, what a copy is.
//!
//! ```text
//! offset 0      12       14                   16
//!        │ MACs │ 0x8100 │ rule │ view │ leg │ EtherType …     as the tag of a VLAN: see `copy_index`
//! ```
//! The tag goes with each segment of a super-packet. What has no rule, such as what the host sends by
//! itself, ends here.

use super::layout::copy_index;
use super::layout::{Leg, View};
use super::writer::SKB_TC_INDEX;
use Register::{R0, R1, R2, R3, R6, R7};
use filter::ebpf::{Assembler, Bits, Code, Condition, Error, Helper, Register, Width};

/// The EtherType of the tag.
pub const TAG: u16 = 0x8100;
/// The least that a rule's copies have.
const RULES_FROM: i32 = copy_index(1, View::Ingress, Leg::Forward) as i32;
/// The packet ends here (`TC_ACT_SHOT`).
const DROP: i32 = 2;
/// The packet goes on (`TC_ACT_OK`).
const OUT: i32 = 0;

/// Makes the program of the egress of the private interface. It has no maps.
///
/// # Errors
/// None that a table could bring about.
pub fn tag_program() -> Result<Code, Error> {
    let mut asm = Assembler::new();
    let end = asm.label();
    asm.copy(R6, R1);
    asm.load(Width::B4, R7, R6, SKB_TC_INDEX);
    asm.jump_if(Bits::B32, Condition::Below, R7, RULES_FROM, end);
    asm.copy(R1, R6);
    asm.copy(R2, i32::from(TAG.to_be()));
    asm.copy(R3, R7);
    asm.call(Helper::SKB_VLAN_PUSH);
    asm.jump_if(Bits::B64, Condition::NotEqual, R0, 0, end);
    asm.copy(R0, OUT);
    asm.exit();
    asm.bind(end);
    asm.copy(R0, DROP);
    asm.exit();
    asm.finish()
}
