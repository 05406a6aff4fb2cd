//! A short program that jumps to a long one, which no socket would take by itself.
//!
//! A program's size is charged to the socket that it is attached to, against
//! `net.core.optmem_max`: 20 kB in older kernels, enough for some 200 rules, and 128 kB since Linux
//! 6.8. What a program jumps to is charged to nobody.
//!
//! Source: Linux `net/core/filter.c` (`sk_filter_charge`), `kernel/bpf/arraymap.c`.

use super::{NAME, sys};
use filter::ebpf::{Alu, Assembler, Bits, Helper, MapRef, Register};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Slots of a program that any socket takes: 8 kB, the rest is room for what the kernel adds.
const SLOTS_DIRECT_MAX: usize = 1024;

/// A program that jumps to another.
#[derive(Debug)]
pub(super) struct Jump {
    program: OwnedFd,
    /// The kernel forgets what a map of programs holds when its last descriptor is closed.
    _target: OwnedFd,
}

impl Jump {
    /// Whether a program of so many slots should be attached by a jump.
    pub(super) const fn is_needed(slots: usize) -> bool {
        slots > SLOTS_DIRECT_MAX
    }

    /// Makes the jump.
    pub(super) fn to(program: BorrowedFd<'_>) -> io::Result<Jump> {
        let target = sys::create_map(sys::MapType::Programs, NAME, size_of::<u32>() as u32, 1)?;
        sys::put_program(target.as_fd(), 0, program)?;
        let mut asm = Assembler::new();
        asm.map_address(Register::R2, MapRef(0));
        asm.alu(Bits::B32, Alu::Move, Register::R3, 0);
        asm.call(Helper::TAIL_CALL);
        // Not reached. If it were, packets that nobody counted would show in the ledger.
        asm.alu(Bits::B32, Alu::Move, Register::R0, i32::MAX);
        asm.exit();
        let code = asm.finish().expect("it has no labels and five instructions");
        let code = code.encode(|_| target.as_raw_fd());
        let program = sys::load_program(sys::ProgramType::SocketFilter, NAME, &code, &mut [])?;
        Ok(Jump { program, _target: target })
    }

    /// The program to attach.
    pub(super) fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}
