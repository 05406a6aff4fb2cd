//! Tunnels over IP: a source that takes packets out of them, a sink that puts packets into them.

mod batched;
mod listen;
mod outlet;
mod send;
mod streams;
mod sys;
mod wanted;

pub use listen::{ListenOptions, TunnelSource};
pub use send::{SendOptions, TunnelSink};
pub use streams::Streams;
pub use wanted::Wanted;
