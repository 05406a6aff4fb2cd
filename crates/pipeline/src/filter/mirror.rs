//! A capture filter in the form that the kernel's mirror takes.

use super::{CaptureFilter, Language};
use ::filter::ebpf::{Decides, Obstacle};
use ::filter::{Program, Rules};
use std::sync::Arc;
use wire::LinkType;

/// A capture filter for the programs of a mirror.
#[derive(Debug, Clone)]
pub struct MirrorFilter {
    /// For received packets; a constant 0 where they are not wanted.
    pub received: Program,
    /// For sent packets.
    pub sent: Program,
    /// What their verdicts are the numbers of; `None`: an expression.
    pub rules: Option<Arc<Rules>>,
    /// Which packets it can only judge once they have been cut and completed.
    pub late: Late,
}

/// Packets that are judged once they have been cut and completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// None.
    None,
    /// Super-packets, as its verdict is not the same on each of their segments.
    SuperPackets,
    /// All, as it reads what the NIC has yet to complete.
    All,
}

impl CaptureFilter {
    /// The filter for a mirror in the kernel.
    ///
    /// # Errors
    /// Why no program of the kernel can be made of it.
    pub fn for_mirror(&self, link_type: LinkType) -> Result<MirrorFilter, String> {
        let (received, sent) = self.programs(link_type)?;
        let late = match self.verdicts().decides(&received, &sent, link_type) {
            Decides::Everything => Late::None,
            Decides::WholeFrames => Late::SuperPackets,
            Decides::Nothing(Obstacle::JumpsBack { .. }) => {
                return Err("its expression jumps back (`protochain`), and the kernel takes no \
                            such loop"
                    .into());
            }
            Decides::Nothing(_) => Late::All,
        };
        let rules = match &self.language {
            Language::Rules(rules) => Some(Arc::new(rules.clone())),
            Language::All | Language::Expression(_) => None,
        };
        Ok(MirrorFilter { received, sent, rules, late })
    }
}
