//! An outlet at work.

use super::way::copy;
use super::{exchange, stages};
use crate::graph::{Outlet, Renewal};
use crate::report::{OutletReport, Report};
use crate::stage::{Step, Work};
use crate::steer::TargetGroup;
use crate::target::Target;
use api::{DropReason, Drops, Start, TargetStats};
use io::Batch;

/// An outlet, and what it counts.
pub(super) struct Open {
    outlet: Outlet,
    seen: u64,
    filtered: u64,
    matched: u64,
    drops: Drops,
}

impl Open {
    pub fn new(outlet: Outlet) -> Open {
        Open { outlet, seen: 0, filtered: 0, matched: 0, drops: Drops::default() }
    }

    /// Gives it another filter and other steps; what the steps did that go is the rest of a ledger.
    pub fn renew(&mut self, renewal: Renewal) -> OutletReport {
        let Renewal { filter, steps } = renewal;
        if let Some(filter) = filter {
            self.outlet.filter = filter;
        }
        let gone = exchange(&mut self.outlet.steps, steps);
        let stages = stages(&gone, &self.of());
        OutletReport { name: self.outlet.name.clone(), stages, ..OutletReport::default() }
    }

    pub fn steps(&self) -> &[Step] {
        &self.outlet.steps
    }

    /// What its steps belong to.
    fn of(&self) -> String {
        format!("target {}", self.outlet.name.as_deref().unwrap_or_default())
    }

    /// Whether the flow hash of its packets is needed.
    pub fn needs_flow_hash(&self) -> bool {
        self.outlet.needs_flow_hash || self.outlet.group.balances()
    }

    pub fn start(&self) -> Start {
        self.outlet.start
    }

    pub fn targets(&self) -> &[Target] {
        self.outlet.group.targets()
    }

    pub fn group_mut(&mut self) -> &mut TargetGroup {
        &mut self.outlet.group
    }

    /// Lets the queues run dry; returns whether they are.
    pub fn drain(&mut self) -> bool {
        let mut empty = true;
        for target in self.group_mut().targets_mut() {
            empty &= target.drain();
        }
        empty
    }

    /// Filter, steps, steer. `given` are the packets that a map gives; `is_last`: nobody else sees
    /// them afterwards.
    pub fn give(&mut self, work: Work<'_>, given: &[u32], is_last: bool, changed: &mut Batch) {
        let needs_flow_hash = self.needs_flow_hash();
        let Outlet { filter, steps, group, .. } = &mut self.outlet;
        let Work { mut packets, chosen, pool, now, .. } = work;
        self.seen += given.len() as u64;
        chosen.clear();
        if filter.takes_all() {
            chosen.extend_from_slice(given);
        } else {
            let keeps = |position: &&u32| filter.keeps(&packets[**position as usize]);
            chosen.extend(given.iter().filter(keeps));
        }
        self.filtered += (given.len() - chosen.len()) as u64;
        let drops = &mut self.drops;
        if !is_last && steps.iter().any(Step::changes) {
            copy(packets, chosen, changed, pool, drops);
            packets = changed.packets_mut();
        }
        for step in steps {
            step.apply(&mut Work { packets, chosen, pool, drops, now });
        }
        self.matched += chosen.len() as u64;
        if needs_flow_hash {
            for &position in chosen.iter() {
                let packet = &mut packets[position as usize];
                if packet.meta.flow_hash.is_none() {
                    packet.meta.flow_hash = Some(packet.compute_flow_hash());
                }
            }
        }
        group.steer(packets, chosen);
        changed.clear();
    }

    /// Drops packets that were meant for it before they come to its filter.
    pub fn refuse(&mut self, packets: u64, reason: DropReason) {
        self.seen += packets;
        self.drops.add_many(reason, packets);
    }

    /// Adds its ledger to a report; `lost` packets that were meant for it never left the kernel's
    /// ring.
    pub fn report(&self, lost: u64, report: &mut Report) {
        let Outlet { name, group, filter, steps, .. } = &self.outlet;
        let named = |line| TargetStats { name: name.clone(), ..line };
        report.targets.extend(group.stats(lost).map(named));
        report.sources.extend(group.targets().iter().map(|target| target.sink().sources()));
        report.outlets.push(OutletReport {
            name: name.clone(),
            chooses: !filter.takes_all() || !steps.is_empty(),
            seen: self.seen + lost,
            filtered: self.filtered,
            matched: self.matched + lost,
            drops: self.drops,
            targets: group.targets().len(),
            stages: stages(steps, &self.of()),
        });
    }
}
