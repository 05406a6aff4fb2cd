//! The bump in the wire: packets to an address of ours go on to a next host, and its answers back.
//!
//! ```text
//!            --in                                                       --out
//!  client A ──────► ingress: tuple ─► session ─► rewrite ─► redirect ─────────► next host B
//!                     │ none: rule ─► a new session, both directions
//!                     │ none: untouched, the host's own
//!           ◄────────────────────────── redirect ◄─ rewrite ◄─ session ◄─ tuple: ingress ◄──────
//!
//!  A → U (ours) becomes E (ours) → B; B → E becomes U → A
//! ```
//!
//! One program runs at the ingress of each of the two interfaces, or of the one that is both. It needs
//! nobody: next hops are written into a map by user space once a second, and where that is not done the
//! kernel's routes and neighbours decide for each packet. What it cannot do, an answer of ICMP or a
//! fragmentation, is handed up; without anybody there it is dropped and counted.
//!
//! Copies for views, and what is handed up, go as clones to a private interface, where a program tags
//! them. On their way out super-packets are cut and checksums completed, a ring takes them, and they end.
//!
//! - [`layout`]: what the programs and user space have in common.
//! - [`program`]: makes the program of an interface.
//! - [`tag_program`]: makes the program of the private interface.

mod create;
mod error;
pub mod layout;
mod parse;
mod pass;
mod program;
mod rewrite;
mod tag;
mod writer;

pub use program::{Roles, program};
pub use tag::{TAG, tag_program};
