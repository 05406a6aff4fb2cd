//! The ledger: what came in, what went out, what was dropped and why, and whether it balances.
//!
//! Unit: wire packets. Per tap `seen = filtered + matched + drops`; per target
//! `matched = sent + queued + drops`; per source `received = written + queued + drops`. What does not
//! balance is "unaccounted": the sum of the absolute differences, 0 unless a counter lies.

use crate::{ArchiveStats, DecapStats, DropReason, Drops, TunnelStats};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The ledger of one process, as `--stats-json` writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Version of this form: 1.
    pub version: u32,
    /// Packets seen by all taps; `None` where a kernel filter hides what it rejects.
    pub seen: Option<u64>,
    /// Packets that the capture filters rejected.
    pub filtered: Option<u64>,
    /// Packets that the capture filters kept.
    pub matched: u64,
    /// Packets sent, summed over the targets.
    pub sent: u64,
    /// Packets that reached the recorder.
    pub received: u64,
    /// Packets that the recorder wrote.
    pub written: u64,
    /// Packets dropped anywhere, by reason.
    pub drops: Drops,
    /// Sum of the absolute differences of every line below.
    pub unaccounted: u64,
    /// One entry per tap.
    pub taps: Vec<TapStats>,
    /// One entry per series that the recorder writes, and per listener that dropped something.
    pub sources: Vec<SourceStats>,
    /// One entry per target.
    pub targets: Vec<TargetStats>,
    /// One entry per stage of a broker. What they drop is in the line of the source, map or target
    /// that they belong to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageStats>,
    /// One entry per tunnel of an L2TP tap. What they count is in the lines above, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tunnels: Vec<TunnelStats>,
    /// What a bounded archive gave up of what it held; `None` where nothing bounds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<Removed>,
    /// How far the segments of an archive have come; `None` where none is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchiveStats>,
    /// What `--wire-true` made of a file's super-packets; `None` without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wire_true: Option<WireTrue>,
    /// What was taken out of tunnels; `None` where nothing looks into them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decap: Option<DecapStats>,
}

/// What became of the super-packets of a file, which host offloads had made of the wire's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WireTrue {
    /// Super-packets that were cut.
    pub super_packets: u64,
    /// Packets that they were cut into; these are what the other lines count.
    pub segments: u64,
    /// Those of them whose size is an estimate, as the file does not hold their connection's begin.
    pub estimated: u64,
    /// Packets longer than the MTU that were left whole: no TCP, or headers that cannot be followed.
    pub left: u64,
}

/// Closed segments that were removed so that an archive stays within its bound. They were written
/// and are counted so, by the process that wrote them: they are no drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Removed {
    /// Segments removed.
    pub segments: u64,
    /// Packets in them.
    pub packets: u64,
    /// Bytes of their files.
    pub bytes: u64,
}

impl Stats {
    /// Sums up the lines of a ledger.
    pub fn new(taps: Vec<TapStats>, sources: Vec<SourceStats>, targets: Vec<TargetStats>) -> Self {
        let mut drops = Drops::default();
        taps.iter().for_each(|tap| drops.merge(&tap.drops));
        sources.iter().for_each(|source| drops.merge(&source.drops));
        targets.iter().for_each(|target| drops.merge(&target.drops));
        Stats {
            version: 1,
            seen: taps.iter().map(|tap| tap.seen).sum(),
            filtered: taps.iter().map(|tap| tap.filtered).sum(),
            matched: taps.iter().map(|tap| tap.matched).sum(),
            sent: targets.iter().map(|target| target.sent).sum(),
            received: sources.iter().map(|source| source.received).sum(),
            written: sources.iter().map(|source| source.written).sum(),
            drops,
            unaccounted: taps.iter().map(|tap| tap.unaccounted).sum::<u64>()
                + sources.iter().map(|source| source.unaccounted).sum::<u64>()
                + targets.iter().map(|target| target.unaccounted).sum::<u64>(),
            taps,
            sources,
            targets,
            stages: Vec::new(),
            tunnels: Vec::new(),
            removed: None,
            archive: None,
            wire_true: None,
            decap: None,
        }
    }
}

impl fmt::Display for Stats {
    /// One line per tap, target and source; each ends in ", N unaccounted". Further ones tell what
    /// was done about super-packets, and what was removed from a bounded archive, if anything was.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for tap in &self.taps {
            writeln!(f, "{tap}")?;
        }
        for target in &self.targets {
            writeln!(f, "{target}")?;
        }
        for source in &self.sources {
            writeln!(f, "{source}")?;
        }
        for stage in &self.stages {
            writeln!(f, "{stage}")?;
        }
        if let Some(WireTrue { super_packets, segments, estimated, left }) = self.wire_true {
            writeln!(
                f,
                "wire-true: cut {super_packets} super-packets into {segments} packets \
                 ({estimated} of estimated size), left {left} long ones whole"
            )?;
        }
        if let Some(Removed { segments, packets, bytes }) = self.removed
            && segments > 0
        {
            writeln!(
                f,
                "archive: removed the oldest {segments} segments ({packets} packets, {bytes} bytes) \
                 to stay within its bound"
            )?;
        }
        self.archive.iter().try_for_each(|archive| writeln!(f, "{archive}"))
    }
}

/// What one tap saw and kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapStats {
    /// The tap's name: by default its interface or file.
    pub name: String,
    /// Packets that passed the tap; `None` where a kernel filter hides what it rejects.
    pub seen: Option<u64>,
    /// Packets that the capture filter or the choice of direction rejected.
    pub filtered: Option<u64>,
    /// Packets that the capture filter kept.
    pub matched: u64,
    /// Bytes of those that came to this process, as they were on the wire.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub matched_bytes: u64,
    /// Packets dropped before the match.
    pub drops: Drops,
    /// Hits per capture filter rule; empty for an expression.
    pub rules: Vec<RuleStats>,
    /// `|seen − filtered − matched − drops|`.
    pub unaccounted: u64,
    /// Whether `kernel_ring` counts frames here, each of which may hold many wire packets: a lower
    /// bound. With the capture filter in the kernel it counts wire packets.
    #[serde(default, skip_serializing_if = "is_false")]
    pub losses_in_frames: bool,
}

/// How often one rule decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleStats {
    /// Position in the rule list, from 1.
    pub index: u32,
    /// Packets that it matched first.
    pub hits: u64,
}

impl TapStats {
    /// A tap's line, with its balance.
    pub fn new(name: String, seen: u64, filtered: u64, matched: u64, drops: Drops) -> Self {
        let unaccounted = seen.abs_diff(filtered + matched + drops.total());
        let (seen, filtered) = (Some(seen), Some(filtered));
        TapStats {
            name,
            seen,
            filtered,
            matched,
            matched_bytes: 0,
            drops,
            rules: Vec::new(),
            unaccounted,
            losses_in_frames: false,
        }
    }

    /// Adds the line of another worker of the same tap. Differences add up, and never cancel.
    pub fn merge(&mut self, other: &TapStats) {
        let sum = |one: Option<u64>, other: Option<u64>| Some(one? + other?);
        self.seen = sum(self.seen, other.seen);
        self.filtered = sum(self.filtered, other.filtered);
        self.matched += other.matched;
        self.matched_bytes += other.matched_bytes;
        self.drops.merge(&other.drops);
        // Both list the same rules in one order, from the first; one may not know the last of them.
        for (place, rule) in other.rules.iter().enumerate() {
            match self.rules.get_mut(place) {
                Some(known) => known.hits += rule.hits,
                None => self.rules.push(rule.clone()),
            }
        }
        self.unaccounted += other.unaccounted;
        self.losses_in_frames |= other.losses_in_frames;
    }
}

impl fmt::Display for TapStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |n: Option<u64>| n.map_or("n/a".into(), |n| n.to_string());
        write!(
            f,
            "tap {}: seen {}, filtered {}, matched {}, {}, {} unaccounted",
            self.name,
            count(self.seen),
            count(self.filtered),
            self.matched,
            Dropped { drops: &self.drops, in_frames: self.losses_in_frames },
            self.unaccounted
        )
    }
}

/// What one target was given and sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetStats {
    /// The name of the broker's target that it is a member of; `None` in a tap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The endpoint in its canonical form.
    pub endpoint: String,
    /// Whether its health check says that it is alive; `None` without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
    /// Packets meant for this target.
    pub matched: u64,
    /// Packets handed to the network or the file.
    pub sent: u64,
    /// Packets waiting in the target's queue; 0 after the end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub queued: u64,
    /// Packets dropped at this target.
    pub drops: Drops,
    /// Of those sent, packets that were cut to fit the path.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cut: u64,
    /// Of those sent, packets that were larger than the path takes and left in fragments.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fragmented: u64,
    /// Bytes of the packets sent, as they were captured, without tunnel headers.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sent_bytes: u64,
    /// Memory that the queue takes now, of at most `queue_bytes_max`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub queue_bytes: u64,
    /// The bound of the queue.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub queue_bytes_max: u64,
    /// `|matched − sent − queued − drops|`.
    pub unaccounted: u64,
}

impl TargetStats {
    /// A target's line, with its balance.
    pub fn new(endpoint: String, matched: u64, sent: u64, queued: u64, drops: Drops) -> Self {
        let unaccounted = matched.abs_diff(sent + queued + drops.total());
        TargetStats {
            name: None,
            endpoint,
            healthy: None,
            matched,
            sent,
            queued,
            drops,
            cut: 0,
            fragmented: 0,
            sent_bytes: 0,
            queue_bytes: 0,
            queue_bytes_max: 0,
            unaccounted,
        }
    }

    /// Adds the line of the same target of another worker. Differences add up, and never cancel.
    pub fn merge(&mut self, other: &TargetStats) {
        self.matched += other.matched;
        self.sent += other.sent;
        self.queued += other.queued;
        self.drops.merge(&other.drops);
        self.cut += other.cut;
        self.fragmented += other.fragmented;
        self.sent_bytes += other.sent_bytes;
        self.queue_bytes += other.queue_bytes;
        self.queue_bytes_max += other.queue_bytes_max;
        self.unaccounted += other.unaccounted;
    }
}

impl fmt::Display for TargetStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("target ")?;
        if let Some(name) = &self.name {
            write!(f, "{name}, ")?;
        }
        write!(f, "{}: matched {}, sent {}, ", self.endpoint, self.matched, self.sent)?;
        for (what, packets) in
            [("cut", self.cut), ("fragmented", self.fragmented), ("queued", self.queued)]
        {
            if packets > 0 {
                write!(f, "{what} {packets}, ")?;
            }
        }
        let dropped = Dropped { drops: &self.drops, in_frames: false };
        write!(f, "{dropped}, {} unaccounted", self.unaccounted)
    }
}

/// What one stage of a broker did. No part of a balance of its own: what it dropped is counted where
/// it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageStats {
    /// The source, map or target that it belongs to: `source left`, `map web`, `target ids`.
    pub of: String,
    /// Its name.
    pub name: String,
    /// Packets that came to it.
    pub received: u64,
    /// Those of them that went on.
    pub passed: u64,
    /// Packets that it dropped.
    pub drops: Drops,
    /// Packets that it found to be what it looks for, or changed: duplicates, tagged, cut.
    pub touched: u64,
    /// Packets or flows that it had to forget too early, as its memory is bounded. No packet is lost
    /// by that; one may have gone on that a larger memory had dropped.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub forgotten: u64,
}

impl StageStats {
    /// Adds what the same stage counted before it was replaced, or in another worker.
    pub fn merge(&mut self, other: &StageStats) {
        self.received += other.received;
        self.passed += other.passed;
        self.drops.merge(&other.drops);
        self.touched += other.touched;
        self.forgotten += other.forgotten;
    }
}

impl fmt::Display for StageStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StageStats { of, name, received, passed, drops, touched, forgotten } = self;
        let dropped = Dropped { drops, in_frames: false };
        write!(
            f,
            "stage {name} of {of}: received {received}, passed {passed}, touched {touched}, {dropped}"
        )?;
        if *forgotten > 0 {
            write!(f, ", {forgotten} forgotten too early")?;
        }
        Ok(())
    }
}

/// What the recorder received from one source and wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStats {
    /// `<kind>-<id>-<outer source>`, an interface, or a listening endpoint.
    pub name: String,
    /// Packets that arrived from it.
    pub received: u64,
    /// Bytes of those that came to this process, as they were on the wire.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub received_bytes: u64,
    /// What became of its packets before that; `None` where it does not number them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkStats>,
    /// Packets written to files.
    pub written: u64,
    /// Packets in a buffer on the way to the file; 0 after the end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub queued: u64,
    /// Packets dropped on the way to the file.
    pub drops: Drops,
    /// `|received − written − queued − drops|`.
    pub unaccounted: u64,
}

/// What became of packets between their sender and here, by the numbers that the sender gave them.
/// They are no part of a balance: what did not come was not received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkStats {
    /// Packets that did not come. What this host's own sockets dropped is among them.
    pub lost: u64,
    /// Packets that had come before.
    pub duplicates: u64,
    /// Packets that came behind later ones.
    pub reordered: u64,
    /// Packets that came so late that they have been counted as lost, or come twice: nobody knows.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub late: u64,
}

impl NetworkStats {
    /// Adds what another listener counted of the same source.
    pub fn merge(&mut self, other: &NetworkStats) {
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.reordered += other.reordered;
        self.late += other.late;
    }
}

impl fmt::Display for NetworkStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NetworkStats { lost, duplicates, reordered, late } = self;
        write!(f, "lost on the network {lost}, duplicated {duplicates}, reordered {reordered}")?;
        if *late > 0 { write!(f, ", late {late}") } else { Ok(()) }
    }
}

impl SourceStats {
    /// A source's line, with its balance.
    pub fn new(name: String, received: u64, written: u64, queued: u64, drops: Drops) -> Self {
        let unaccounted = received.abs_diff(written + queued + drops.total());
        SourceStats {
            name,
            received,
            received_bytes: 0,
            network: None,
            written,
            queued,
            drops,
            unaccounted,
        }
    }

    /// Adds the line of the same source before it was replaced. Differences add up, and never cancel.
    pub fn merge(&mut self, other: &SourceStats) {
        self.received += other.received;
        self.received_bytes += other.received_bytes;
        if let Some(network) = &other.network {
            self.network.get_or_insert_default().merge(network);
        }
        self.written += other.written;
        self.queued += other.queued;
        self.drops.merge(&other.drops);
        self.unaccounted += other.unaccounted;
    }
}

impl fmt::Display for SourceStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "source {}: received {}, ", self.name, self.received)?;
        if let Some(network) = self.network {
            write!(f, "{network}, ")?;
        }
        write!(f, "written {}, ", self.written)?;
        if self.queued > 0 {
            write!(f, "queued {}, ", self.queued)?;
        }
        let dropped = Dropped { drops: &self.drops, in_frames: false };
        write!(f, "{dropped}, {} unaccounted", self.unaccounted)
    }
}

/// "dropped 12 (kernel_ring ≥ 10 frames, oversize 2)".
struct Dropped<'a> {
    drops: &'a Drops,
    /// Whether what the ring lost is known in frames only.
    in_frames: bool,
}

impl fmt::Display for Dropped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dropped {}", self.drops.total())?;
        let mut separator = " (";
        for (reason, packets) in self.drops.iter() {
            match reason {
                // A frame may hold many wire packets.
                DropReason::KernelRing if self.in_frames => {
                    write!(f, "{separator}{reason} ≥ {packets} frames")?
                }
                _ => write!(f, "{separator}{reason} {packets}")?,
            }
            separator = ", ";
        }
        f.write_str(if self.drops.total() > 0 { ")" } else { "" })
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drops(reason: DropReason, packets: u64) -> Drops {
        let mut drops = Drops::default();
        drops.add_many(reason, packets);
        drops
    }

    #[test]
    fn lines_balance_and_end_alike() {
        let mut tap = TapStats::new("eth0".into(), 10, 3, 5, drops(DropReason::KernelRing, 2));
        tap.losses_in_frames = true;
        let target = TargetStats::new("null:".into(), 5, 4, 0, Drops::default());
        let source = SourceStats::new("eth0".into(), 7, 6, 0, drops(DropReason::DiskFull, 1));
        let stats = Stats::new(vec![tap], vec![source], vec![target]);
        assert_eq!(stats.unaccounted, 1);
        assert_eq!(
            stats.to_string(),
            "tap eth0: seen 10, filtered 3, matched 5, dropped 2 (kernel_ring ≥ 2 frames), 0 unaccounted\n\
             target null:: matched 5, sent 4, dropped 0, 1 unaccounted\n\
             source eth0: received 7, written 6, dropped 1 (disk_full 1), 0 unaccounted\n"
        );
    }

    #[test]
    fn what_a_bound_removed_is_said_and_is_no_drop() {
        let source = SourceStats::new("eth0".into(), 7, 7, 0, Drops::default());
        let mut stats = Stats::new(vec![], vec![source], vec![]);
        stats.removed = Some(Removed { segments: 2, packets: 5, bytes: 700 });
        assert_eq!((stats.drops.total(), stats.unaccounted), (0, 0));
        let said = "archive: removed the oldest 2 segments (5 packets, 700 bytes) to stay within";
        assert!(stats.to_string().contains(said), "{stats}");
        let json = serde_json::to_string(&stats).unwrap();
        assert!(json.contains(r#""removed":{"segments":2,"packets":5,"bytes":700}"#), "{json}");
        assert_eq!(serde_json::from_str::<Stats>(&json).unwrap(), stats);
    }

    #[test]
    fn what_was_cut_is_said() {
        let mut stats = Stats::new(vec![], vec![], vec![]);
        let json = serde_json::to_string(&stats).unwrap();
        assert!(!json.contains("wire_true"), "{json}");
        stats.wire_true = Some(WireTrue { super_packets: 2, segments: 9, estimated: 4, left: 1 });
        let said = "wire-true: cut 2 super-packets into 9 packets (4 of estimated size), \
                    left 1 long ones whole\n";
        assert_eq!(stats.to_string(), said);
        let json = serde_json::to_string(&stats).unwrap();
        assert_eq!(serde_json::from_str::<Stats>(&json).unwrap(), stats);
    }

    #[test]
    fn what_the_network_lost_is_said_and_is_no_part_of_the_balance() {
        let mut source = SourceStats::new("geneve-7-h".into(), 990, 990, 0, Drops::default());
        let network = NetworkStats { lost: 10, ..NetworkStats::default() };
        source.network = Some(network);
        let stats = Stats::new(vec![], vec![source], vec![]);
        assert_eq!(
            stats.to_string(),
            "source geneve-7-h: received 990, lost on the network 10, duplicated 0, reordered 0, \
             written 990, dropped 0, 0 unaccounted\n"
        );
        let json = serde_json::to_string(&stats).unwrap();
        let said = r#""network":{"lost":10,"duplicates":0,"reordered":0}"#;
        assert!(json.contains(said), "{json}");
        assert_eq!(serde_json::from_str::<Stats>(&json).unwrap(), stats);
        let late = NetworkStats { late: 3, ..network };
        assert!(late.to_string().ends_with("reordered 0, late 3"), "{late}");
    }

    #[test]
    fn differences_never_cancel() {
        let over = TapStats::new("a".into(), 10, 0, 12, Drops::default());
        let under = TapStats::new("b".into(), 10, 0, 8, Drops::default());
        assert_eq!(Stats::new(vec![over, under], vec![], vec![]).unaccounted, 4);
    }

    #[test]
    fn lines_of_workers_add_up_and_their_differences_too() {
        let mut tap = TapStats::new("eth0".into(), 10, 0, 12, drops(DropReason::KernelRing, 0));
        let mut other = TapStats::new("eth0".into(), 10, 1, 6, drops(DropReason::KernelRing, 1));
        tap.rules = vec![RuleStats { index: 1, hits: 12 }];
        other.rules = vec![RuleStats { index: 1, hits: 5 }, RuleStats { index: 2, hits: 1 }];
        other.losses_in_frames = true;
        tap.merge(&other);
        assert_eq!((tap.seen, tap.filtered, tap.matched), (Some(20), Some(1), 18));
        assert_eq!((tap.drops.total(), tap.unaccounted, tap.losses_in_frames), (1, 4, true));
        let hits = [RuleStats { index: 1, hits: 17 }, RuleStats { index: 2, hits: 1 }];
        assert_eq!(tap.rules, hits);
        other.seen = None;
        tap.merge(&other);
        assert_eq!(tap.seen, None);

        let mut target = TargetStats::new("null:".into(), 5, 4, 1, Drops::default());
        let other = drops(DropReason::Oversize, 2);
        target.merge(&TargetStats::new("null:".into(), 5, 2, 0, other));
        assert_eq!((target.matched, target.sent, target.queued), (10, 6, 1));
        assert_eq!((target.drops.total(), target.unaccounted), (2, 1));
    }

    #[test]
    fn what_did_not_fit_is_said_and_is_no_drop() {
        let mut target = TargetStats::new("null:".into(), 9, 9, 0, Drops::default());
        (target.cut, target.fragmented) = (2, 3);
        assert_eq!(
            target.to_string(),
            "target null:: matched 9, sent 9, cut 2, fragmented 3, dropped 0, 0 unaccounted"
        );
        target.merge(&target.clone());
        assert_eq!((target.sent, target.cut, target.fragmented), (18, 4, 6));
        let json = serde_json::to_string(&target).unwrap();
        assert!(json.contains(r#""cut":4,"fragmented":6"#), "{json}");
        assert_eq!(serde_json::from_str::<TargetStats>(&json).unwrap(), target);
    }

    #[test]
    fn json_has_the_contract_s_names() {
        let stats = Stats::new(
            vec![TapStats::new("eth0".into(), 1, 0, 1, Drops::default())],
            vec![SourceStats::new("eth0".into(), 1, 1, 0, Drops::default())],
            vec![TargetStats::new("null:".into(), 1, 1, 0, Drops::default())],
        );
        assert_eq!(
            serde_json::to_string(&stats).unwrap(),
            r#"{"version":1,"seen":1,"filtered":0,"matched":1,"sent":1,"received":1,"written":1,"drops":{},"unaccounted":0,"#
                .to_string()
                + r#""taps":[{"name":"eth0","seen":1,"filtered":0,"matched":1,"drops":{},"rules":[],"unaccounted":0}],"#
                + r#""sources":[{"name":"eth0","received":1,"written":1,"drops":{},"unaccounted":0}],"#
                + r#""targets":[{"endpoint":"null:","matched":1,"sent":1,"drops":{},"unaccounted":0}]}"#
        );
    }
}
