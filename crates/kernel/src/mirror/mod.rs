//! The mirror: packets of an interface, through the filters of its taps, into tunnels.
//!
//! ```text
//!  tapped NIC                    private veth, offloads off
//! ┌─────────────────┐  clone   ┌──────────────────────────────┐     ┌─────────────────────────┐
//! │ dispatcher      ├─────────►│ tapline0, egress: `encap`    │ veth│ peer, ingress: `return` │
//! │ ingress, egress │ tc_index │  whole and complete: done ───┼──┐  │ in a namespace that     │
//! │ every tap's     │ = slot   │  to be cut or completed: ────┼──┼─►│ this process holds      │
//! │ filter          │          │                              │  │  └───────────┬─────────────┘
//! └────────┬────────┘          │ tapline0, ingress: `encap` ◄─┼──┼──────────────┘
//!          │ TCX_NEXT          └─────────────┬────────────────┘  │ redirect_peer
//!          ▼                                 ├───────────────────┘
//!  the host, untouched                       │ slice, headers, clone
//!                                            ▼
//!                                     underlay's NIC       what does not fit: handed up to a ring
//! ```
//!
//! A packet that the NIC would still cut (super-packets) or complete (checksums) crosses the private
//! veth, where the kernel does so; any other is encapsulated at once. What the parts tell each other
//! stands in [`layout`].

pub mod bucket;
mod ceiling;
mod dispatcher;
mod encap;
mod judge;
pub mod layout;
mod own;
mod peer;

pub use dispatcher::{DispatcherOptions, DispatcherTap, TAPS_MAX, dispatcher};
pub use encap::{EncapOptions, Entry, LateSlots, Outer, encap};
pub use judge::{LateTap, late_judge};
pub use peer::peer;
