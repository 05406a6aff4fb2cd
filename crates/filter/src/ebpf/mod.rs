//! Extended BPF: an assembler, and filters for the kernel made with it.
//!
//! Everything here is pure: it makes [`Code`] and talks to no kernel. Loading is `io::bpf`'s work.
//!
//! - [`Assembler`] puts instructions, labels and maps together; the [`Code`] it gives prints as
//!   LLVM and bpftool print it.
//! - [`decides`] says which frames of a network interface a classic program can judge where the
//!   kernel sees them: before super-packets are cut and checksums are complete.
//! - [`socket_filter`] turns classic programs into one program for an AF_PACKET socket that counts
//!   what it lets through and what not, in wire packets.
//! - [`RestoredFrame`] and [`emit_restored`] are what filters at an interface are made of: parts of a
//!   program that judges a packet for many at once, and counts elsewhere.
//! - [`listen_filter`] makes one that lets through what arrives for the ends of tunnels.

mod assembler;
mod classic;
mod decides;
mod instruction;
mod listen_filter;
mod listing;
pub mod restored;
mod socket_filter;
mod wire_packets;

pub use assembler::{Assembler, Code, Label};
pub use classic::{Exits, constant, emit_restored};
pub use decides::{Decides, Obstacle, decides};
pub use instruction::{
    Alu, Bits, Condition, Encoded, Helper, Instruction, MapRef, Operand, Register, Width,
};
pub use listen_filter::{CARRIERS_MAX, IpVersion, listen_claim, listen_filter};
pub use restored::RestoredFrame;
pub use socket_filter::{
    COUNTERS_PER_ELEMENT, Counter, CounterLayout, FrameState, Reach, Scope, SocketFilter,
    SocketFilterOptions, Verdicts, socket_filter,
};

/// Instructions of a program that the kernel looks at (`BPF_COMPLEXITY_LIMIT_INSNS`).
pub const INSTRUCTIONS_MAX: usize = 1_000_000;

/// Why no program was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A label was jumped to and has no place.
    #[error("ebpf: label {label} is jumped to and was never bound; bind it where it belongs")]
    LabelUnbound {
        /// The label's number, in order of creation.
        label: usize,
    },
    /// A label has two places.
    #[error("ebpf: label {label} was bound twice; make a label for each place")]
    LabelBoundTwice {
        /// The label's number, in order of creation.
        label: usize,
    },
    /// More instructions than [`INSTRUCTIONS_MAX`].
    #[error(
        "ebpf: the program has {got} instructions, beyond the kernel's limit of {INSTRUCTIONS_MAX}; use fewer rules or a shorter expression"
    )]
    TooLong {
        /// Instructions needed.
        got: usize,
    },
    /// The classic program jumps back, as those of `protochain` do.
    #[error(
        "ebpf: instruction {at} of the filter jumps back (`protochain` does), and the kernel takes no such loop; it runs in user space"
    )]
    JumpsBack {
        /// Position in the classic program.
        at: usize,
    },
    /// A return of A where rules need their number in the program.
    #[error(
        "ebpf: instruction {at} of the filter returns A; a program of rules returns constant numbers of rules"
    )]
    ReturnsA {
        /// Position in the classic program.
        at: usize,
    },
    /// A verdict that is no rule's number.
    #[error("ebpf: the filter returns rule {rule}, there are {rules}; compile it from these rules")]
    NoSuchRule {
        /// The verdict.
        rule: u32,
        /// How many rules there are.
        rules: usize,
    },
    /// Frames of a link type that no ring delivers.
    #[error(
        "ebpf: no filter for {link_type} in the kernel, only for Ethernet and raw IP; it runs in user space"
    )]
    LinkType {
        /// The link type.
        link_type: wire::LinkType,
    },
    /// No carrier of tunnels to listen for, or too many for one program.
    #[error(
        "ebpf: {got} ports and protocols to listen for, one program has room for 1 to {CARRIERS_MAX}; listen on fewer, or on sockets (--datapath socket)"
    )]
    Carriers {
        /// How many there are.
        got: usize,
    },
    /// More taps on an interface than a program has room for.
    #[error(
        "ebpf: {got} taps on one interface, one program has room for {max}; the others run in user space (--datapath ring)"
    )]
    Taps {
        /// How many there are.
        got: usize,
        /// How many there may be.
        max: usize,
    },
    /// The program may not decide in the kernel; see [`Decides::Nothing`].
    #[error("ebpf: the kernel cannot decide this filter: {0}; it runs in user space")]
    Undecidable(Obstacle),
}
