//! The mirror: packets of an interface, through the filters of its taps, into tunnels.
//!
//! ```text
//!  tapped NIC                                          private interfaces
//! ┌─────────────────┐ clone, tc_index = slot  ┌────────────────────────────────────┐
//! │ dispatcher      ├────────────────────────►│ near end, egress: `encap`          │
//! │ ingress, egress │                         │  complete: slice, headers, clone ──┼──► underlay's NIC
//! │ every tap's     │                         │  a checksum is missing ──┐       ▲ │
//! │ filter          │ super-packets           │                          ▼       │ │    what does not fit:
//! │                 ├────────────────────────►│ entry ─► bridge without ─► port ─┘ │    handed up to a ring
//! └────────┬────────┘                         │          offloads                  │
//!          │ TCX_NEXT                         └────────────────────────────────────┘
//!          ▼
//!  the host, untouched
//! ```
//!
//! A packet that a NIC would still cut (super-packets) or complete (checksums) goes through a bridge that can
//! do neither for its ports, so that the kernel does it there. The packet passes no queue: it comes out
//! in its order, in the time of who has sent it. What the parts tell each other stands in [`layout`].

pub mod bucket;
mod ceiling;
mod dispatcher;
mod encap;
mod judge;
pub mod layout;
mod own;

pub use dispatcher::{DispatcherOptions, DispatcherTap, Private, TAPS_MAX, dispatcher};
pub use encap::{EncapOptions, LateSlots, Outer, encap};
pub use judge::{LateTap, late_judge};
