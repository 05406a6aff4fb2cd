//! What the kernel's programs and the sinks behind the hand-up have counted, as the lines that a ring's
//! tap has.
//!
//! ```text
//! tap: seen = filtered + matched + drops          each in the dispatcher, or where it is encapsulated (late)
//!   │ matched
//!   ▼ private interfaces ── lost: kernel_queue, of nobody knows which flow
//! endpoint: sent, dropped, or handed up ── lost: kernel_ring, counted where it happens
//!                              ▼
//!                        a sink of user space: sent, dropped, queued
//! ```
//! What is lost on its way counts at once. What the program of another CPU holds counts as queued, and as
//! lost once no program runs.

use crate::mirror::lines::Lines;
use api::{DropReason, Drops, RuleStats, TapStats, TargetStats};
use io::mirror::{MemberCounters, TapCounters, TargetCounters};
use pipeline::{CrewReport, GroupTable, target_lines};

/// A target of a tap, and what it has counted.
pub struct Counted<'a> {
    /// Its endpoints by their names in the ledger, in the order of the counters, and whether each is
    /// healthy.
    pub endpoints: Vec<(&'a str, Option<bool>)>,
    /// Who gets which flow if all are healthy.
    pub full: &'a GroupTable,
    /// What the kernel has counted.
    pub kernel: TargetCounters,
    /// What the sinks behind the hand-up have counted; none if there are none.
    pub handed_up: CrewReport,
}

/// The lines of a tap. `is_final`: nothing is under way any more.
pub fn lines(name: &str, tap: &TapCounters, targets: &[Counted<'_>], is_final: bool) -> Lines {
    let mut drops = Drops::default();
    drops.add_many(DropReason::OwnTunnel, tap.own_tunnel);
    drops.add_many(DropReason::RateLimited, tap.rate_limited);
    if let Some(first) = targets.first() {
        // Those that were to be judged where they are encapsulated, and were lost before, match nothing.
        drops.add_many(DropReason::KernelQueue, first.kernel.late_lost);
    }
    let seen = tap.filtered + tap.matched + drops.total();
    let mut line = TapStats::new(name.into(), seen, tap.filtered, tap.matched, drops);
    line.matched_bytes = tap.matched_bytes;
    line.rules =
        (1..).zip(&tap.rule_hits).map(|(index, &hits)| RuleStats { index, hits }).collect();
    let targets = targets.iter().flat_map(|of| of.lines(tap.matched, is_final)).collect();
    Lines { tap: line, targets, received: 0, written: 0 }
}

impl Counted<'_> {
    /// Packets that came to the endpoints.
    fn arrived(&self) -> u64 {
        self.kernel.members.iter().map(|member| member.matched).sum()
    }

    /// Packets that had matched and were lost on their way to the endpoints.
    fn lost(&self) -> u64 {
        let kernel = &self.kernel;
        (kernel.not_handed + kernel.missing).saturating_sub(kernel.late_lost)
    }

    fn lines(&self, matched: u64, is_final: bool) -> Vec<TargetStats> {
        let count = self.endpoints.len();
        // Of those that have not shown up nobody knows the flow.
        let unseen = matched.saturating_sub(self.arrived());
        let missing = self.full.share_out(unseen, count);
        let lost = self.full.share_out(unseen.min(self.lost()), count);
        let sinks = target_lines(&self.handed_up);
        let empty = |name: &str| TargetStats::new(name.into(), 0, 0, 0, Drops::default());
        let sink =
            |at: usize| sinks.get(at).cloned().unwrap_or_else(|| empty(self.endpoints[at].0));
        let handed_up = self.handed_up_rest(&sinks);
        let mut lines = Vec::with_capacity(count);
        for (at, &(name, healthy)) in self.endpoints.iter().enumerate() {
            let Some(&kernel) = self.kernel.members.get(at) else { continue };
            let sink = sink(at);
            let mut drops = of_kernel(&kernel);
            drops.merge(&sink.drops);
            drops.add_many(DropReason::KernelQueue, lost[at]);
            let settled = kernel.settled() - kernel.handed_up;
            // Between two of an endpoint's counters a packet may have come in.
            let under_way = kernel.matched.saturating_sub(kernel.settled());
            let unknown = missing[at] - lost[at];
            let rest = unknown + handed_up[at] + if is_final { 0 } else { under_way };
            let mut queued = sink.queued;
            if is_final {
                // A worker that has failed leaves its ring unread.
                drops.add_many(DropReason::KernelRing, handed_up[at]);
                drops.add_many(DropReason::KernelQueue, unknown);
            } else {
                queued += rest;
            }
            // What was handed up counts as the sinks and the way to them have it.
            let untold = if is_final { under_way } else { 0 };
            let matched = settled + sink.matched + lost[at] + rest + untold;
            let sent = kernel.sent + sink.sent;
            let line = TargetStats::new(name.into(), matched, sent, queued, drops);
            lines.push(TargetStats {
                healthy,
                cut: kernel.cut + sink.cut,
                fragmented: sink.fragmented,
                sent_bytes: kernel.sent_bytes + sink.sent_bytes,
                queue_bytes: sink.queue_bytes,
                queue_bytes_max: sink.queue_bytes_max,
                unaccounted: line.unaccounted + sink.unaccounted,
                ..line
            });
        }
        lines
    }

    /// Packets handed up that no sink has got, for each endpoint. While its health changes, a sink may
    /// get what the kernel meant for another: then by their shares.
    fn handed_up_rest(&self, sinks: &[TargetStats]) -> Vec<u64> {
        let got = |at: usize| sinks.get(at).map_or(0, |sink| sink.matched);
        let handed = |at: usize| self.kernel.members.get(at).map_or(0, |member| member.handed_up);
        let count = self.endpoints.len();
        let each: Option<Vec<u64>> = (0..count).map(|at| handed(at).checked_sub(got(at))).collect();
        each.unwrap_or_else(|| {
            let sum = |of: &dyn Fn(usize) -> u64| (0..count).map(of).sum::<u64>();
            self.full.share_out(sum(&handed).saturating_sub(sum(&got)), count)
        })
    }
}

fn of_kernel(counters: &MemberCounters) -> Drops {
    let mut drops = Drops::default();
    for (reason, packets) in [
        (DropReason::KernelRing, counters.hand_up_lost),
        (DropReason::Oversize, counters.oversize),
        (DropReason::DeviceQueue, counters.device_queue),
        (DropReason::Unreachable, counters.unreachable),
        (DropReason::SendError, counters.send_error),
        (DropReason::LinkType, counters.link_type),
        (DropReason::Unhealthy, counters.unhealthy),
    ] {
        drops.add_many(reason, packets);
    }
    drops
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipeline::{Member, Report};

    fn table() -> GroupTable {
        let member = |key: &str| Member { key: key.into(), weight: 1 };
        GroupTable::new(&[member("a"), member("b")])
    }

    fn counted<'a>(full: &'a GroupTable, members: [MemberCounters; 2]) -> Counted<'a> {
        let arrived = members.iter().map(|member| member.matched).sum();
        let kernel = TargetCounters {
            handed: 100,
            arrived,
            members: members.into(),
            ..TargetCounters::default()
        };
        let endpoints = vec![("a", None), ("b", Some(true))];
        Counted { endpoints, full, kernel, handed_up: Vec::new() }
    }

    fn member(matched: u64, sent: u64) -> MemberCounters {
        MemberCounters { matched, sent, ..MemberCounters::default() }
    }

    fn tap() -> TapCounters {
        TapCounters { filtered: 7, matched: 100, own_tunnel: 2, ..TapCounters::default() }
    }

    #[test]
    fn what_is_under_way_is_queued_and_at_the_end_lost() {
        let full = table();
        let target = || counted(&full, [member(60, 58), member(30, 30)]);
        let running = lines("t", &tap(), &[target()], false);
        assert_eq!(
            running.tap.to_string(),
            "tap t: seen 109, filtered 7, matched 100, dropped 2 (own_tunnel 2), 0 unaccounted"
        );
        let sum = |of: &Lines, f: fn(&TargetStats) -> u64| of.targets.iter().map(f).sum::<u64>();
        assert_eq!(sum(&running, |t| t.matched), 100);
        assert_eq!(sum(&running, |t| t.queued), 12);
        assert_eq!(sum(&running, |t| t.unaccounted), 0);
        assert_eq!(running.targets[1].healthy, Some(true));

        let ended = lines("t", &tap(), &[target()], true);
        assert_eq!(sum(&ended, |t| t.matched), 100);
        assert_eq!(sum(&ended, |t| t.drops.get(DropReason::KernelQueue)), 10);
        assert_eq!(
            sum(&ended, |t| t.unaccounted),
            2,
            "two came to an endpoint and nothing tells of them"
        );
    }

    #[test]
    fn what_is_lost_on_its_way_counts_at_once() {
        let full = table();
        let mut target = counted(&full, [member(40, 40), member(30, 30)]);
        // 100 matched early: 20 were lost, 10 are under way. 9 others were late.
        (target.kernel.not_handed, target.kernel.missing, target.kernel.late_lost) = (17, 12, 9);
        let running = lines("t", &tap(), &[target], false);
        assert_eq!(running.tap.drops.get(DropReason::KernelQueue), 9);
        let sum = |f: fn(&TargetStats) -> u64| running.targets.iter().map(f).sum::<u64>();
        assert_eq!(sum(|t| t.drops.get(DropReason::KernelQueue)), 20);
        assert_eq!((sum(|t| t.queued), sum(|t| t.matched), sum(|t| t.unaccounted)), (10, 100, 0));
    }

    #[test]
    fn what_is_handed_up_counts_as_the_sinks_have_it() {
        let full = table();
        let up = MemberCounters { handed_up: 17, hand_up_lost: 3, ..member(60, 40) };
        let mut target = counted(&full, [up, member(40, 40)]);
        let mut report = Report::default();
        let mut sink = TargetStats::new("a".into(), 15, 14, 0, Drops::default());
        sink.drops.add(DropReason::Oversize);
        sink.fragmented = 14;
        sink.unaccounted = 0;
        report.targets = vec![sink, TargetStats::new("b".into(), 0, 0, 0, Drops::default())];
        target.handed_up = vec![report];
        let lines = lines("t", &tap(), &[target], true);
        let a = &lines.targets[0];
        assert_eq!((a.matched, a.sent, a.fragmented, a.unaccounted), (60, 54, 14, 0));
        let drop = |reason| a.drops.get(reason);
        assert_eq!(drop(DropReason::KernelRing), 3 + 2, "no room, and unread");
        assert_eq!(drop(DropReason::KernelQueue), 0);
        assert_eq!(drop(DropReason::Oversize), 1);
    }

    #[test]
    fn what_is_lost_before_it_was_judged_has_not_matched() {
        let full = table();
        let mut target = counted(&full, [member(50, 50), member(40, 40)]);
        // 100 judged early and handed, of which 10 were lost; 30 late, 6 lost, 4 rejected, 20 matched.
        target.kernel.handed = 130;
        target.kernel.arrived = 114;
        (target.kernel.missing, target.kernel.late_lost) = (16, 6);
        target.kernel.members[0] = member(60, 60);
        target.kernel.members[1] = member(50, 50);
        let tap = TapCounters { matched: 120, late: 30, filtered: 4, ..TapCounters::default() };
        let lines = lines("t", &tap, &[target], true);
        assert_eq!(lines.tap.drops.get(DropReason::KernelQueue), 6);
        assert_eq!(lines.tap.seen, Some(130));
        assert_eq!(lines.targets.iter().map(|t| t.matched).sum::<u64>(), 120);
        assert_eq!(lines.targets.iter().map(|t| t.unaccounted).sum::<u64>(), 0);
    }
}
