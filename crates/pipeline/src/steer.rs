//! Groups of targets: each packet goes to one of them, by its flow.

use crate::group::{GroupTable, Member};
use crate::target::Target;
use api::TargetStats;
use io::{Packet, Selection};

/// Targets of which each packet goes to one; a single target is a group of one.
pub struct TargetGroup {
    targets: Vec<Target>,
    table: GroupTable,
    /// Positions of the batch's packets, by target.
    chosen: Vec<Vec<u32>>,
}

impl TargetGroup {
    /// A group; `weights` are the targets' shares of the load, in their order.
    ///
    /// # Panics
    /// Without a target, or if there is not one weight for each.
    pub fn new(targets: Vec<Target>, weights: &[u16]) -> TargetGroup {
        assert_eq!(targets.len(), weights.len(), "each target has a weight");
        let members: Vec<Member> = targets
            .iter()
            .zip(weights)
            .map(|(target, &weight)| Member { key: target.endpoint().into(), weight })
            .collect();
        let chosen = vec![Vec::with_capacity(4 * io::BATCH_PACKETS); targets.len()];
        TargetGroup { table: GroupTable::new(&members), targets, chosen }
    }

    /// Whether packets need their flow hash to be steered.
    pub(crate) fn balances(&self) -> bool {
        self.targets.len() > 1
    }

    /// Does what is due between two batches.
    pub(crate) fn tick(&mut self) {}

    /// Gives each packet to the target of its flow.
    pub(crate) fn steer(&mut self, packets: &[Packet], matched: &[u32]) {
        if let [only] = &mut self.targets[..] {
            return only.offer(Selection::new(packets, matched));
        }
        self.chosen.iter_mut().for_each(Vec::clear);
        for &position in matched {
            let packet = &packets[position as usize];
            let hash = packet.meta.flow_hash.unwrap_or_else(|| packet.compute_flow_hash());
            self.chosen[self.table.member(hash)].push(position);
        }
        for (target, chosen) in self.targets.iter_mut().zip(&self.chosen) {
            target.offer(Selection::new(packets, chosen));
        }
    }

    /// The lines of the ledger of the group's targets. Of `lost` packets nobody knows the flow:
    /// each target bears them by its share of the table, and the sum is exact.
    pub(crate) fn stats(&self, lost: u64) -> impl Iterator<Item = TargetStats> {
        let borne = self.table.share_out(lost, self.targets.len());
        self.targets.iter().zip(borne).map(|(target, lost)| target.stats(lost))
    }

    /// The group's targets.
    pub(crate) fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// The group's targets.
    pub(crate) fn targets_mut(&mut self) -> &mut [Target] {
        &mut self.targets
    }
}
