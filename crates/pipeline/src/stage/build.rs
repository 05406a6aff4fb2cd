//! From what a file says of a stage to the stage.

use super::anonymize::Anonymize;
use super::mask::Mask;
use super::slice::{Slice, Trim};
use super::strip::Strip;
use super::vlan::{Fields, VlanPop, VlanPush, VlanReplace};
use super::{Dedup, FLOWS_MAX, First, RateLimit, Sample, Stage};
use api::StageKind;
use io::Interfaces;

/// Makes a stage, with a state of its own. `interfaces` is the table that its packets refer to: a stage
/// that changes their link type looks there for an interface that has it, and adds one if there is none.
pub fn build(kind: &StageKind, interfaces: &Interfaces) -> Box<dyn Stage> {
    match *kind {
        StageKind::VlanPush { vid, pcp, dei, tpid } => {
            Box::new(VlanPush::new(Fields { vid: Some(vid), pcp, dei, tpid }))
        }
        StageKind::VlanReplace { vid, pcp, dei, tpid, or_push } => {
            Box::new(VlanReplace::new(Fields { vid, pcp, dei, tpid }, or_push))
        }
        StageKind::VlanPop { tags } => Box::new(VlanPop::new(tags)),
        StageKind::Slice { bytes, after } => Box::new(Slice::new(bytes, after)),
        StageKind::Trim { bytes } => Box::new(Trim::new(bytes)),
        StageKind::Mask { offset, bytes, from, value } => {
            Box::new(Mask::new(offset, bytes, from, value))
        }
        StageKind::Sample { n, by_flow: true } => Box::new(Sample::flows(n)),
        StageKind::Sample { n, by_flow: false } => Box::new(Sample::packets(n)),
        StageKind::RateLimit { pps, bps, burst } => Box::new(RateLimit::new(pps, bps, burst)),
        StageKind::Dedup { window, ignore, action } => Box::new(Dedup::new(window, ignore, action)),
        StageKind::First { packets, bytes, idle } => {
            Box::new(First::new(packets, bytes, idle, FLOWS_MAX))
        }
        StageKind::Strip { ref layers } => Box::new(Strip::new(layers, interfaces)),
        StageKind::Anonymize { ref key } => Box::new(Anonymize::new(key)),
    }
}
