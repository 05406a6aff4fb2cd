//! A packet's way from sources to targets, and its ledger.
//!
//! ```text
//! source ─ steps ─┬─ map: filter, own tunnels, slice, steps ─┬─ outlet: filter, steps, steer ─ target
//!                 │    counted as filtered, dropped …        │      each with its own bounded queue
//!                 └─ map …                                   └─ outlet …
//! ```
//! One [`Worker`] carries a [`Graph`] on a thread of its own, a batch at a time, from the sources to
//! the sinks without a hand-over: a ring block goes back to the kernel when its batch is through.
//! What a sink cannot take at once is copied into its target's queue, so that a slow target costs
//! no other target anything. A [`Tap`] is the graph of one map; a broker's graph is changed while it
//! runs ([`Worker::change`]).

mod ceiling;
mod crew;
mod engine;
mod filter;
mod graph;
mod group;
mod health;
mod history;
mod limit;
mod own;
mod queue;
mod report;
mod side_by_side;
pub mod stage;
mod steer;
mod tap;
mod target;
mod worker;

pub use ceiling::Ceiling;
pub use crew::{Crew, CrewReport, cores, tap_line, target_lines};
pub use engine::{Removed, RemovedOutlet};
pub use filter::{CaptureFilter, Late, MirrorFilter};
pub use graph::{Change, Graph, Inlet, Input, Map, NewSteps, Outlet, Part, Renewal, Way};
pub use group::{GroupTable, Member};
pub use health::{CHECKS_MAX, GroupHealth, HealthChecks, HealthError};
pub use history::History;
pub use limit::Limit;
pub use own::{FarEnd, OwnTunnels};
pub use queue::check_queue_memory;
pub use report::{BrokerLedger, InputReport, MapReport, OutletReport, Report};
pub use steer::TargetGroup;
pub use tap::Tap;
pub use target::Target;
pub use worker::{ChangeRefused, Worker};
