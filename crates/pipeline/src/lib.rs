//! A tap's way from source to targets, and its ledger.
//!
//! ```text
//! source → direction, own tunnel, filter → slice → steer → target: encap, send
//!            counted as filtered, dropped …          └─ each with its own bounded queue
//! ```
//! One [`Worker`] carries one [`Tap`] on a thread of its own, a batch at a time, from the source to
//! the sinks without a hand-over: a ring block goes back to the kernel when its batch is through.
//! What a sink cannot take at once is copied into its target's queue, so that a slow target costs
//! no other target anything.

mod crew;
mod filter;
mod group;
mod limit;
mod own;
mod report;
pub mod stage;
mod steer;
mod tap;
mod target;
mod worker;

pub use crew::{Crew, CrewReport, cores, tap_line, target_lines};
pub use filter::CaptureFilter;
pub use limit::Limit;
pub use own::{FarEnd, OwnTunnels};
pub use report::{InputReport, Report};
pub use steer::TargetGroup;
pub use tap::{Input, Tap};
pub use target::{QUEUE_BYTES, QUEUE_PACKETS, Target};
pub use worker::Worker;
