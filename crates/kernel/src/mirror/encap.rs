//! The encapsulation program, at the egress of the private interface.
//!
//! ```text
//! to be cut or completed? ────────┐ arrival: to the interfaces that do so, and from there here again
//!   a filter that judges late     │
//!   the slot, the frame's length  │
//!   the flow hash                 │ flow_hash
//!   the group's member, the way   │ choice
//!   what fits, the slice          │ fit
//!   headers, a clone to the NIC   │ headers, send
//!   the exceptions                │ hand_up
//! ```
//!
//! The packet ends here: what was sent is a clone, so that the kernel tells whether the device took it.
//! Nothing is written into the packet directly but by calls, since a program that does so begins with a
//! copy of the packet's head.
//!
//! **Is the checksum complete?** No field tells. `bpf_l4_csum_replace` leaves the bytes alone if it is
//! not ([`CHECKSUM_PARTIAL`](https://docs.kernel.org/networking/checksum-offloads.html)) and changes
//! them if it is; so a change by 1 of the frame's first two bytes shows it. They are put right with the
//! next bytes that are written.
//!
//! **A tag beside the frame** is put in band behind the MAC addresses. To take it off the metadata,
//! `bpf_skb_vlan_pop` must be called, which also takes a second tag out of the frame and to there, if
//! there is one: so it is called when the outer headers' room already stands in front, four bytes more
//! of it, which it takes for the second tag; and once more.

mod arrival;
mod choice;
mod fit;
mod hand_up;
mod headers;
mod payload_sum;
mod place;
mod send;
mod template;

use super::LateTap;
use super::layout::{MirrorMap, Shape, ShapeKind};
use crate::flow_hash::FlowHash;
use crate::shorthand::Shorthand;
use Register::{R0, R1, R2, R3, R4, R5, R6, R10};
use filter::ebpf::{Assembler, Code, Error, Helper, Label, Register, Width};

pub use template::Outer;

/// What an encapsulation program is made of.
#[derive(Debug, Clone, Copy)]
pub struct EncapOptions<'a> {
    /// Which headers its members have.
    pub shapes: &'a [Shape],
    /// Filters that judge here.
    pub late: &'a [LateSlots<'a>],
    /// The interface, of the same namespace, that cuts and completes packets and gives them back; `None`:
    /// all packets come by it.
    pub finish_by: Option<u32>,
}

/// A tap that judges late, and the slots of its packets that no dispatcher has judged.
#[derive(Debug, Clone)]
pub struct LateSlots<'a> {
    /// The tap.
    pub tap: LateTap<'a>,
    /// Its slots.
    pub slots: Vec<u32>,
}

/// `TCX_DROP`: the packet ends.
const DROP: i32 = 2;

/// Makes the program.
///
/// # Errors
/// As [`late_judge`](super::late_judge), and [`Error::TooLong`] with too many late filters.
pub fn encap(options: &EncapOptions<'_>) -> Result<Code, Error> {
    let mut asm = Assembler::new();
    let shapes = options.shapes;
    let carries_ip = shapes.iter().any(|shape| matches!(shape.kind, ShapeKind::Gre { .. }));
    let program = Program {
        hash: FlowHash { at: 0, stack_at: place::FLOW_HASH, finds_ip: carries_ip },
        hand_up: asm.label(),
        sent: asm.label(),
        failed: asm.label(),
        dropped: Dropped::new(&mut asm),
        end: asm.label(),
    };
    asm.copy(R6, R1);
    arrival::emit(&program, &mut asm, options)?;
    choice::emit(&program, &mut asm);
    for shape in shapes {
        headers::emit(&program, &mut asm, *shape);
    }
    send::emit(&program, &mut asm);
    hand_up::emit(&program, &mut asm);
    program.dropped.emit(&mut asm, program.end);
    asm.bind(program.end);
    asm.copy(R0, DROP);
    asm.exit();
    asm.finish()
}

/// What the parts of a program share: R6 is the packet, R7 the slot, R8 the member's counters, R9 the
/// member.
struct Program {
    hash: FlowHash,
    /// User space gets the packet; R9 need not be known.
    hand_up: Label,
    /// R0 is what the device said.
    sent: Label,
    /// There is no room in front of the packet.
    failed: Label,
    dropped: Dropped,
    end: Label,
}

/// Reasons to drop; R8 is the member's counters.
struct Dropped {
    oversize: Label,
    unreachable: Label,
    send_error: Label,
    link_type: Label,
    unhealthy: Label,
    hand_up_lost: Label,
}

impl Dropped {
    fn new(asm: &mut Assembler) -> Dropped {
        Dropped {
            oversize: asm.label(),
            unreachable: asm.label(),
            send_error: asm.label(),
            link_type: asm.label(),
            unhealthy: asm.label(),
            hand_up_lost: asm.label(),
        }
    }

    fn emit(&self, asm: &mut Assembler, end: Label) {
        use super::layout::MemberCounter as C;
        for (label, counter) in [
            (self.oversize, C::Oversize),
            (self.unreachable, C::Unreachable),
            (self.send_error, C::SendError),
            (self.link_type, C::LinkType),
            (self.unhealthy, C::Unhealthy),
            (self.hand_up_lost, C::HandUpLost),
        ] {
            if asm.is_used(label) {
                asm.bind(label);
                asm.count(Register::R8, counter as usize, 1);
                asm.jump(end);
            }
        }
    }
}

impl Program {
    /// Looks a map's value up by a key on the stack; `missing` without.
    fn look_up(&self, asm: &mut Assembler, map: MirrorMap, key_at: i16, missing: Label) {
        asm.look_up(map.map(), key_at);
        asm.if64(R0, filter::ebpf::Condition::Equal, 0, missing);
    }

    /// Puts the frame's first two bytes right, which the look for its checksum may have changed.
    fn restore(&self, asm: &mut Assembler) {
        asm.copy(R1, R6);
        asm.copy(R2, 0);
        asm.stack_address(R3, place::FIRST);
        asm.copy(R4, 2);
        asm.copy(R5, 0);
        asm.call(Helper::SKB_STORE_BYTES);
    }

    /// The time, ns since 1970 in UTC, in R0 and in network order; loses all but R6 to R9.
    fn time(&self, asm: &mut Assembler) {
        let without = asm.label();
        asm.call(Helper::KTIME_GET_TAI_NS);
        asm.store(Width::B8, R10, place::SPARE, R0);
        asm.store(Width::B4, R10, place::KEY, 0);
        asm.look_up(MirrorMap::Clock.map(), place::KEY);
        asm.load(Width::B8, R1, R10, place::SPARE);
        asm.if64(R0, filter::ebpf::Condition::Equal, 0, without);
        asm.load(Width::B8, R2, R0, 0);
        asm.do64(filter::ebpf::Alu::Sub, R1, R2);
        asm.bind(without);
        asm.copy(R0, R1);
    }
}

#[cfg(test)]
mod tests;
