//! What there is on this host, and what it lets a tap do. Nothing of it is changed: what has to be
//! tried is tried in a network namespace that is gone afterwards.

mod clock;
mod devices;
mod firewall;
mod holders;
mod packet_sockets;
mod rights;
mod settings;
mod sys;
mod trial;

pub use clock::ClockState;
pub use devices::{device_kind, folders_in};
pub use firewall::{Chain, Passing, filter_chains};
pub use holders::{Holders, Process, held_by};
pub use packet_sockets::{PacketSocket, packet_sockets};
pub use rights::{Capability, Rights, limit};
pub use settings::{kernel_release, mounts_of, setting, setting_number};
pub use trial::Trial;
