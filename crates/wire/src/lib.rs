//! Packet headers: frame walk, flow hash, checksums, segmentation and tunnels.
//!
//! Everything here is a function from bytes to values or to other bytes: no I/O, no clock, no
//! unsafe code, no allocation (the list of ports in [`decap::Rules`] apart), and no panic on any
//! frame.
//!
//! | module | question it answers |
//! |---|---|
//! | [`walk`] | what is in this frame, and where does what we understand end? |
//! | [`flow`] | which flow does it belong to, alike in both directions? |
//! | [`checksum`] | what is the Internet checksum of these bytes? |
//! | [`segment`] | which frames stood on the wire for this super-packet? |
//! | [`tunnel`] | which kinds of tunnel are there, and what is told of one? |
//! | [`vxlan`], [`geneve`], [`gre`], [`erspan`], [`l2tp`], [`udp`] | how is a tunnel header read and written? |
//! | [`vlan`], [`mpls`] | which tags and labels stand in front, and what behind them? |
//! | [`encap`] | what stands in front of this packet in that tunnel? |
//! | [`decap`] | which tunnel is in this frame, and where is its packet? |
//! | [`metadata`] | what does a tap tell about a packet beside its bytes? |
//! | [`translate`] | which bytes change when a packet gets other addresses and ports? |
//! | [`sequence`] | what became of packets that are numbered? |

pub mod checksum;
pub mod crc32c;
pub mod decap;
mod direction;
pub mod encap;
mod error;
pub mod erspan;
pub mod flow;
pub mod geneve;
pub mod gre;
pub mod l2tp;
mod link;
pub mod metadata;
pub mod mpls;
pub mod segment;
pub mod sequence;
pub mod translate;
pub mod tunnel;
pub mod udp;
pub mod vlan;
mod vni;
pub mod vxlan;
pub mod walk;

pub use direction::Direction;
pub use error::{Error, Layer};
pub use link::LinkType;
pub use vni::{ParseVniError, Vni};
