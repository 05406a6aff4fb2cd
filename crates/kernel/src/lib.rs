//! Programs that run in the kernel: the mirror and the bump in the wire.
//!
//! Everything here is pure: it makes [`Code`](filter::ebpf::Code), and writes and reads the values of
//! the maps that programs and user space share. Loading and attaching is `io`'s work.
//!
//! - [`mirror`]: packets of an interface, through the filters of its taps, into tunnels.
//! - [`flow_hash`]: the hash that chooses a member of a group and a source port.
//! - [`inline`]: the bump in the wire.
//! - [`handup`]: what a program puts in front of a packet that it hands up to user space.

pub mod flow_hash;
pub mod handup;
pub mod inline;
pub mod mirror;
mod shorthand;
