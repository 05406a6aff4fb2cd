//! Capture filters: rules, the program form and its interpreter.
//!
//! A filter, in whatever language it was written, becomes a [`Program`]: classic BPF that was
//! verified, so that running it ends, and never panics or reads outside the frame. One program,
//! several places to run it: here over bytes in memory, later in the kernel.
//!
//! **The verdict** of a program over a frame is a number: 0 means no match, any other value a
//! match. A program compiled from an expression returns a snap length there, which says nothing
//! but "match" to us; a program compiled from ordered [`Rules`] returns the number of the rule.
//!
//! ```
//! use filter::{Instruction, Program, op};
//!
//! // Frames with EtherType 0x0800.
//! let ipv4 = Program::new(vec![
//!     Instruction::new(op::LD | op::H | op::ABS, 0, 0, 12),
//!     Instruction::new(op::JMP | op::JEQ | op::K, 0, 1, 0x0800),
//!     Instruction::new(op::RET | op::K, 0, 0, 1),
//!     Instruction::new(op::RET | op::K, 0, 0, 0),
//! ])?;
//! let mut frame = [0; 60];
//! frame[12] = 0x08;
//! assert_eq!(ipv4.run(&frame, 60), 1);
//! # Ok::<(), filter::Error>(())
//! ```

mod decode;
pub mod ebpf;
mod instruction;
mod interpret;
mod listing;
mod prefilter;
mod program;
mod rules;
mod syn;
mod verify;

pub use instruction::{Instruction, op};
pub use listing::Decimal;
pub use prefilter::prefilter;
pub use program::Program;
pub use rules::{
    Action, EXTENSION_HEADERS_MAX, LISTED_RULES, PortRange, Rule, RuleFault, Rules, RulesError,
    SHADOW_RULES_MAX, SUPPORTED_LINK_TYPES, Shadow, Side, TrafficDirection, Transport,
    VLAN_TAGS_MAX,
};
pub use syn::{SYN_VLAN_TAGS_MAX, tcp_syn};
pub use verify::{Error, INSTRUCTIONS_MAX, KERNEL_INSTRUCTIONS_MAX, SCRATCH_WORDS};
pub use wire::Direction;
