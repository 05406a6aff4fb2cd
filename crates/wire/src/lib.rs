//! Packet headers: frame walk, flow hash, checksums, segmentation and tunnels.

mod link;

pub use link::LinkType;
