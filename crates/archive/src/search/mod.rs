//! Search: the packets of a range of time, source, tunnel or flow that an expression matches.
//!
//! ```text
//! list the segments of the range ─► manifest: addresses ─► index: rows ─► frames ─► each packet
//!         Plan                                                    Plan::run
//! ```
//! Each step leaves out what cannot hold a packet that is looked for, and only that; the last one is
//! exact. So the packets found are those that `tcpdump -r` finds in all segments together.
//!
//! **Order.** Packets come in the order of their times over all sources. Equal times keep the order of
//! the segments' names (first time, last time, id), and in a segment that of its packets.
//!
//! **Memory** does not grow with the archive but for a few hundred bytes for each segment of the range.
//! Beside that it is at most [`WAITING_BYTES_MAX`] of packets that wait for earlier ones (above it they
//! wait in a file without a name, in the folder for temporary files); [`JOBS_MAX`] reads at a time, each of
//! up to [`GROUP_FRAMES_MAX`] frames; and half a MiB for each segment that is not sealed and is being read.

mod choose;
mod expression;
mod flows;
mod found;
mod implied;
mod judge;
mod merge;
mod opened;
mod plan;
mod run;
#[cfg(test)]
mod soundness;
mod waiting;

pub use expression::Expression;
pub use flows::{FLOWS_MAX, Flows};
pub use found::Packet;
pub use plan::{Plan, plan};
pub use run::{Outcome, Progress, Trouble};

use crate::index::{AddressSet, Flow, Row, Wanted};
use crate::window::Window;
use implied::{AddressFacts, RowFacts};

/// Bytes of packets that wait in memory for packets before them.
pub const WAITING_BYTES_MAX: usize = 64 << 20;
/// Segments and groups of frames that are read at a time.
pub const JOBS_MAX: usize = 8;
/// Frames of usual length that are read in one range; of longer ones there are fewer.
pub const GROUP_FRAMES_MAX: usize = 8;

/// What is looked for: packets for which all that is said here holds.
#[derive(Debug, Clone)]
pub struct Query {
    /// When they were captured.
    pub window: Window,
    /// Sources of which one is theirs, where `*` stands for any characters; none: any source.
    pub sources: Vec<String>,
    /// VNIs, keys or sessions of which one is that of a tunnel which they came in: the one that was
    /// taken off before they were recorded (the source tells it), or one inside of the frame. None: any.
    pub tunnel_ids: Vec<u64>,
    /// Community ids, version 1 with seed 0, of which one is that of their innermost or their outermost
    /// flow; none: any.
    pub community_ids: Vec<String>,
    /// What holds for their bytes.
    pub expression: Expression,
}

impl Query {
    /// All packets of a range of time.
    pub fn all(window: Window) -> Query {
        Query {
            window,
            sources: Vec::new(),
            tunnel_ids: Vec::new(),
            community_ids: Vec::new(),
            expression: Expression::default(),
        }
    }

    /// Whether a segment may hold packets that are looked for, by the addresses in it.
    fn wants_addresses(&self, addresses: &AddressSet) -> bool {
        self.expression.implied().may(&AddressFacts(addresses))
    }

    /// Whether a row may stand for packets that are looked for; `source_tunnel_id` is that of its
    /// segment's source.
    fn wants_row(&self, row: &Row, source_tunnel_id: Option<u64>) -> bool {
        // Of several tunnels in a frame a row has the innermost one.
        let has_tunnel = |id| self.tunnel_ids.contains(&id);
        let in_tunnel = self.tunnel_ids.is_empty()
            || row.outer.is_some()
            || row.flows > 1
            || row.tunnel.as_ref().and_then(|tunnel| tunnel.id).is_some_and(has_tunnel)
            || source_tunnel_id.is_some_and(has_tunnel);
        let has_id = |flow: &Flow| {
            flow.community_id.as_ref().is_none_or(|id| self.community_ids.contains(id))
        };
        let in_flow = self.community_ids.is_empty()
            || [&row.flow, &row.outer].into_iter().flatten().any(has_id)
            || row.flows > 1;
        in_tunnel
            && in_flow
            && self.window.overlaps(row.span_ns)
            && self.expression.implied().may(&RowFacts(row))
    }

    /// What an index is asked for: no less than [`Self::wants_row`] takes.
    fn wanted(&self) -> Wanted {
        let community_id = match &self.community_ids[..] {
            [id] => Some(id.clone()),
            _ => None,
        };
        let addresses = self.expression.implied().addresses();
        Wanted { addresses, community_id, window: self.window }
    }

    /// Whether packets of a source may be among those looked for, by the name of the source alone.
    pub fn wants_source(&self, source: &str) -> bool {
        self.sources.is_empty() || self.sources.iter().any(|pattern| matches(pattern, source))
    }
}

/// Whether a text is what a pattern says, in which `*` stands for any characters.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return text.ends_with(part);
        }
        // The leftmost place leaves most to what follows.
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_characters() {
        for (pattern, text, expected) in [
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("eth*", "eth0", true),
            ("*", "", true),
            ("vxlan-71-*", "vxlan-71-10.71.2.2", true),
            ("vxlan-71-*", "vxlan-7-10.71.2.2", false),
            ("*-10.71.2.2", "vxlan-71-10.71.2.2", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("ab*ba", "aba", false),
            ("ab*ba", "abba", true),
            ("a*b*a", "aba", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
