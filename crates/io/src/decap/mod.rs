//! Packets out of tunnels: reassembly.

mod fragments;
mod part;
mod settled;

pub use fragments::{Added, Fault, FragmentCounters, Fragments, Scope, Verdict};
