//! What tests stand on: network namespaces, numbered packets, running programs, outside judges.
//!
//! A test that needs root or an outside program asks first, and returns where it cannot run:
//!
//! ```no_run
//! use rig::{Generator, Running, Topology};
//! use std::time::Duration;
//!
//! if !rig::root_or_skip() || !rig::tool_or_skip("tcpdump") {
//!     return;
//! }
//! let net = Topology::line(["client", "server"]).build();
//! let (client, server) = (net.host("client"), net.host("server"));
//! let mut tcpdump = server.netns.command("tcpdump");
//! let tcpdump = Running::start(tcpdump.args(["-i", "client", "-w", "/tmp/x.pcap"]));
//! tcpdump.wait_for("listening on", Duration::from_secs(5));
//!
//! let sent = Generator::new(50_000, 1000).run_in(&client.netns, (server.v4("client"), 9).into());
//!
//! tcpdump.stop(Duration::from_secs(5));
//! let numbers = rig::numbers_in("/tmp/x.pcap");
//! assert_eq!(rig::missing(&numbers, sent.accepted), [0; 0]);
//! ```
//!
//! Nothing here outlives the test: the namespaces have no name, and a program is killed when its
//! [`Running`] is dropped. Everything panics where a test should fail: no error comes back.

mod bpf_fs;
mod frames;
mod generator;
mod guest;
mod layers;
mod numbers;
mod pace;
pub mod rules;
mod running;
mod scratch;
mod skip;
mod tcpdump;
mod tmpfs;

mod topology;
mod transfer;
mod tshark;

pub use bpf_fs::BpfFs;
pub use frames::{Frame, assert_same_packets, frames_in, open_capture};
pub use generator::{Generator, MAGIC, PAYLOAD_BYTES_MIN, Sent};
pub use guest::{GUEST_LINK, Guest, guest_or_skip};
pub use layers::{Layer, Layers, tunnel_layers};
pub use numbers::{capture_files, duplicates, missing, numbers_in, reordered};
pub use pace::wait_for_turn;
pub use running::{Finished, Running, stats, wait_until};
pub use scratch::Scratch;
pub use skip::{link_or_skip, root_or_skip, skip, tool_or_skip};
pub use tcpdump::{Tcpdump, wait_until_still};
pub use tmpfs::Tmpfs;
pub use topology::{Host, Line, Topology, in_netns};
pub use transfer::{exchange, on_one_cpu};
pub use tshark::rows;
