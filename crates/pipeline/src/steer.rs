//! Groups of targets: each packet goes to one of them, by its flow.

use crate::group::{GroupTable, Member};
use crate::health::{GroupHealth, Table};
use crate::target::Target;
use api::{Balance, DropReason, FlowKey, TargetStats};
use io::{Packet, Selection};
use std::sync::Arc;
use wire::decap::Rules;
use wire::flow::{self, inner_hash, tunnel_hash};
use wire::walk::Walk;

/// Targets of which each packet goes to one; a single target is a group of one.
pub struct TargetGroup {
    targets: Vec<Target>,
    hash: FlowHash,
    /// Who gets which flow now.
    table: Table,
    /// The same if all are healthy.
    full: Arc<GroupTable>,
    health: Option<GroupHealth>,
    /// Positions of the batch's packets, by target.
    chosen: Vec<Vec<u32>>,
}

impl TargetGroup {
    /// A group that is balanced by five-tuples, and whose members are not checked; `weights` are the
    /// targets' shares of the load, in their order.
    ///
    /// # Panics
    /// As [`Self::balanced`].
    pub fn new(targets: Vec<Target>, weights: &[u16]) -> TargetGroup {
        TargetGroup::balanced(targets, weights, Balance::default(), None)
    }

    /// A group; `weights` are the targets' shares of the load, in their order, and `health` is that of
    /// the same members in the same order.
    ///
    /// # Panics
    /// Without a target, if there is not one weight for each, or if the members of `health` are
    /// others.
    pub fn balanced(
        targets: Vec<Target>,
        weights: &[u16],
        balance: Balance,
        health: Option<GroupHealth>,
    ) -> TargetGroup {
        assert_eq!(targets.len(), weights.len(), "each target has a weight");
        if let Some(health) = &health {
            assert!(
                health.keys().eq(targets.iter().map(Target::endpoint)),
                "the members that are checked are the targets"
            );
            health.set_fail_open(balance.fail_open);
        }
        let members: Vec<Member> = targets
            .iter()
            .zip(weights)
            .map(|(target, &weight)| Member { key: target.endpoint().into(), weight })
            .collect();
        let full = Arc::new(GroupTable::new(&members));
        let chosen = vec![Vec::with_capacity(4 * io::BATCH_PACKETS); targets.len()];
        let hash = FlowHash { key: balance.key, tunnels: Rules::default() };
        let table = Table { slots: Arc::clone(&full), is_closed: false };
        TargetGroup { targets, hash, table, full, health, chosen }
    }

    /// Whether packets need the hash of their five-tuple to be steered.
    pub(crate) fn balances(&self) -> bool {
        // A tunnel without an id falls back to it. The others take no notice of it.
        let needs_hash = matches!(self.hash.key, FlowKey::FiveTuple | FlowKey::TunnelId);
        self.targets.len() > 1 && needs_hash
    }

    /// Takes over what the health of its members has changed. To be called between two batches;
    /// neither waits nor allocates.
    pub(crate) fn tick(&mut self) {
        if let Some(health) = &self.health {
            health.refresh(&mut self.table);
        }
    }

    /// Gives each packet to the target of its flow.
    pub(crate) fn steer(&mut self, packets: &[Packet], matched: &[u32]) {
        // The batch may be the first after a long sleep.
        self.tick();
        if let [only] = &mut self.targets[..] {
            return give(only, packets, matched, self.table.is_closed);
        }
        self.chosen.iter_mut().for_each(Vec::clear);
        for &position in matched {
            let hash = self.hash.of(&packets[position as usize]);
            self.chosen[self.table.slots.member(hash)].push(position);
        }
        for (target, chosen) in self.targets.iter_mut().zip(&self.chosen) {
            give(target, packets, chosen, self.table.is_closed);
        }
    }

    /// The lines of the ledger of the group's targets. Of `lost` packets nobody knows the flow:
    /// each target bears them by its share of the table of all members, healthy or not, so that no
    /// counter is ever taken back; and the sum is exact.
    pub(crate) fn stats(&self, lost: u64) -> impl Iterator<Item = TargetStats> {
        let borne = self.full.share_out(lost, self.targets.len());
        self.targets.iter().zip(borne).enumerate().map(|(position, (target, lost))| {
            let healthy = self.health.as_ref().and_then(|health| health.is_healthy(position));
            TargetStats { healthy, ..target.stats(lost) }
        })
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

/// Gives packets to the target that they are meant for, unless nobody is to get any.
fn give(target: &mut Target, packets: &[Packet], chosen: &[u32], is_closed: bool) {
    match is_closed {
        true => target.refuse(chosen.len() as u64, DropReason::Unhealthy),
        false => target.offer(Selection::new(packets, chosen)),
    }
}

/// What makes two packets ones of a flow, as 32 bits.
struct FlowHash {
    key: FlowKey,
    /// What is taken for a tunnel that was left on.
    tunnels: Rules,
}

impl FlowHash {
    fn of(&self, packet: &Packet) -> u32 {
        let (link, meta) = (packet.meta.link_type, &packet.meta);
        let five_tuple = || meta.flow_hash.unwrap_or_else(|| packet.compute_flow_hash());
        let key = || flow::FlowKey::new(&Walk::new(link, &packet.data), &packet.data);
        match self.key {
            FlowKey::FiveTuple => five_tuple(),
            FlowKey::ThreeTuple => key().three_tuple().hash(),
            FlowKey::TwoTuple => key().two_tuple().hash(),
            FlowKey::TunnelId => {
                let id = meta.outer.and_then(|outer| outer.tunnel.id);
                id.map_or_else(five_tuple, tunnel_hash)
            }
            FlowKey::Inner => inner_hash(&self.tunnels, link, &packet.data),
        }
    }
}
