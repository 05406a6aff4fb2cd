//! What became of the packets that the taps sent to a sink: the ledgers of both ends, and the files.

use super::files::Archive;
use super::plan::SINKS;
use super::scene::{Ledgers, Outage};
use api::Drops;

/// One sink's side of the network between it and the taps.
#[derive(Debug, PartialEq, Eq)]
pub struct Balance {
    /// Packets that the taps handed to the network.
    pub sent: u64,
    /// Packets that the taps could not send to it, by reason.
    pub not_sent: Drops,
    /// Packets that the sink's ledger says came.
    pub received: u64,
    /// Packets of a killed process, whose ledger is gone: they stand in the files.
    pub found: u64,
    /// Packets sent that neither came nor were found; negative if there are more than were sent.
    pub lost: i64,
    /// How the loss is made up; all zero without an outage.
    pub unflushed: u64,
    pub while_down: i64,
    pub after_restart: u64,
}

impl Balance {
    /// Draws one up for each sink.
    pub fn of(
        sink: usize,
        ledgers: &Ledgers,
        outage: Option<&Outage>,
        archive: &Archive,
    ) -> Balance {
        let sent = ledgers.sent_to(sink);
        let mut not_sent = Drops::default();
        let targets = ledgers.taps.iter().flat_map(|tap| &tap.targets);
        let of_sink = targets.filter(|target| SINKS[sink].is_target(&target.endpoint));
        of_sink.for_each(|target| not_sent.merge(&target.drops));
        let received = ledgers.sinks[sink].as_ref().map_or(0, |ledger| ledger.received);
        let found = if outage.is_some() { archive.packets_before() } else { 0 };
        let lost = sent as i64 - (received + found) as i64;
        let mut balance = Balance {
            sent,
            not_sent,
            received,
            found,
            lost,
            unflushed: 0,
            while_down: 0,
            after_restart: 0,
        };
        if let Some(outage) = outage {
            // It said that it had got them, and they are not in its files.
            balance.unflushed = outage.last.received.saturating_sub(found);
            let sent_since = |restart: &super::scene::Restart| sent.saturating_sub(restart.sent);
            let after = outage.restart.as_ref().map_or(0, sent_since);
            balance.after_restart = after.saturating_sub(received);
            let named = (balance.unflushed + balance.after_restart) as i64;
            balance.while_down = lost - named;
        }
        balance
    }

    /// Packets lost although the sink was up.
    pub fn lost_while_up(&self, outage: bool) -> i64 {
        if outage { self.after_restart as i64 } else { self.lost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::scene::{Adopted, Restart};
    use api::{DropReason, SourceStats, Stats, TargetStats};

    fn taps(sent: u64, unreachable: u64) -> Vec<Stats> {
        let target = |endpoint: &str, sent, unreachable| {
            let mut drops = Drops::default();
            drops.add_many(DropReason::Unreachable, unreachable);
            TargetStats::new(endpoint.into(), sent + unreachable, sent, 0, drops)
        };
        let targets = vec![
            target("vxlan://10.71.2.11:4789?vni=71", 5, 0),
            target("vxlan://10.71.2.12:4789?vni=71", sent, unreachable),
        ];
        vec![Stats::new(vec![], vec![], targets)]
    }

    fn sink(received: u64) -> Stats {
        let source = SourceStats::new("x".into(), received, received, 0, Drops::default());
        Stats::new(vec![], vec![source], vec![])
    }

    fn archive(before: u64) -> Archive {
        let mut archive = Archive::default();
        archive.segments.push(crate::demo::files::Segment {
            path: "x".into(),
            source: "x".into(),
            is_open: false,
            is_left: false,
            packets: before + 1000,
            packets_before: before,
            bytes: 0,
            fault: None,
        });
        archive
    }

    #[test]
    fn without_an_outage_the_network_lost_the_difference() {
        let ledgers = Ledgers { taps: taps(100, 0), sinks: vec![Some(sink(5)), Some(sink(97))] };
        let balance = Balance::of(0, &ledgers, None, &archive(9));
        assert_eq!((balance.sent, balance.found, balance.lost), (5, 0, 0));
        let balance = Balance::of(1, &ledgers, None, &archive(9));
        assert_eq!((balance.sent, balance.lost, balance.lost_while_up(false)), (100, 3, 3));
    }

    #[test]
    fn the_loss_of_an_outage_is_made_up_of_three() {
        let restart =
            Some(Restart { begun_ns: 2, listening_ns: 3, sent: 70, adopted: Adopted::default() });
        let mut outage = Outage { last: sink(45), sent_before: 44, killed_ns: 1, restart };
        let ledgers = Ledgers { taps: taps(100, 7), sinks: vec![Some(sink(5)), Some(sink(28))] };
        let balance = Balance::of(1, &ledgers, Some(&outage), &archive(40));
        assert_eq!(balance.not_sent.get(DropReason::Unreachable), 7);
        let Balance { lost, unflushed, while_down, after_restart, .. } = balance;
        assert_eq!((lost, unflushed, while_down, after_restart), (32, 5, 25, 2));

        outage.restart = None;
        let ledgers = Ledgers { taps: taps(100, 0), sinks: vec![Some(sink(5)), None] };
        let balance = Balance::of(1, &ledgers, Some(&outage), &archive(50));
        let Balance { lost, unflushed, while_down, after_restart, .. } = balance;
        assert_eq!((lost, unflushed, while_down, after_restart), (50, 0, 50, 0));
    }
}
