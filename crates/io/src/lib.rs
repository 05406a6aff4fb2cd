//! Packets, sources and sinks: rings, sockets, files, memory.
//!
//! A [`Source`] fills a [`Batch`] with [`Packet`]s, a [`Sink`] takes a [`Selection`] of them. Both
//! count what they lose by reason and never wait for each other. All that is unsafe, and all that
//! calls the kernel, is here, in files named `sys.rs`.

pub mod apart;
mod batch;
pub mod bpf;
mod clock;
pub mod decap;
mod device;
mod error;
mod fault;
pub mod file;
pub mod forward;
pub mod host;
pub mod inline;
mod interface;
pub mod libpcap;
mod link;
pub mod memory;
pub mod mirror;
mod netlink;
pub mod netns;
pub mod nic;
pub mod offloads;
pub mod paced;
mod packet;
mod pool;
pub mod probe;
pub mod ring;
pub mod ring_listen;
mod sys;
mod trouble;
pub mod tun;
pub mod tunnel;
pub mod underlay;
mod waker;
pub mod wire_true;

pub use batch::{BATCH_PACKETS, Batch, Selection};
pub use clock::{Now, now_ns};
pub use device::{Arrival, Screened, Screening, Sink, SinkCounters, Source, Upstream, wait};
pub use error::Error;
pub use fault::{Faults, Faulty};
pub use interface::{Interface, Interfaces, Relinked};
pub use link::{interface_counters, wire_speed};
pub use packet::{Direction, InterfaceId, Meta, Outer, Packet};
pub use pool::{Data, HEADROOM, Pool};
pub use waker::{Waker, Wakeup, waker};
