//! What must hold at the demo's end, judged by ledgers, files, and what the clients saw.

use super::balance::Balance;
use super::files::{Archive, Conversation};
use super::plan::{RULES, SINKS, VICTIM, client_name};
use super::report::tap_hits;
use super::scene::{Ledgers, Outage};
use super::traffic::Connection;
use api::DropReason;

/// What a killed process may have held back: what came in its last second.
const UNFLUSHED_NS: u64 = 1_000_000_000;

/// Everything that is known at the end.
pub struct Evidence<'a> {
    pub connections: &'a [Connection],
    pub ledgers: &'a Ledgers,
    pub outage: Option<&'a Outage>,
    pub archives: &'a [Archive],
    pub balances: &'a [Balance],
}

/// What became of the connections.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Connections that stand whole in the files of a sink, by sink.
    pub whole: Vec<u64>,
    /// The requests and the bytes of the answers in them.
    pub requests: u64,
    pub bytes: u64,
    /// Connections that a sink's outage cost packets.
    pub cut: u64,
    /// What is not as it should be.
    pub faults: Vec<String>,
}

impl Evidence<'_> {
    /// Judges everything.
    pub fn judge(&self) -> Verdict {
        let mut verdict = Verdict { whole: vec![0; self.archives.len()], ..Verdict::default() };
        for connection in self.connections {
            self.judge_connection(connection, &mut verdict);
        }
        let mut expect = |holds: bool, fault: String| {
            if !holds {
                verdict.faults.push(fault);
            }
        };
        expect(!self.connections.is_empty(), "the clients downloaded nothing".into());
        let ledgers = self.ledgers.taps.iter().chain(self.ledgers.sinks.iter().flatten());
        let unaccounted: u64 = ledgers.map(|ledger| ledger.unaccounted).sum();
        expect(unaccounted == 0, format!("the ledgers do not balance: {unaccounted} packets"));
        for tap in self.ledgers.taps.iter().flat_map(|tap| &tap.taps) {
            expect(tap.seen > Some(0), format!("the tap on {} saw nothing", tap.name));
        }
        for (client, tap) in self.ledgers.taps.iter().enumerate() {
            let of = |included: bool| {
                let rules = (1..).zip(&RULES).filter(move |(_, rule)| rule.includes() == included);
                rules.map(|(number, _)| tap_hits(tap, number)).sum::<u64>()
            };
            expect(
                of(true) == tap.matched,
                format!(
                    "{}: rules included {} packets, and {} matched",
                    client_name(client),
                    of(true),
                    tap.matched
                ),
            );
        }
        for (sink, plan) in SINKS.iter().enumerate() {
            let (archive, balance) = (&self.archives[sink], &self.balances[sink]);
            let written = self.ledgers.sinks[sink].as_ref().map_or(0, |ledger| ledger.written);
            let in_files = archive.packets() - balance.found;
            expect(
                in_files == written,
                format!("{} wrote {written} packets, its files hold {in_files}", plan.name),
            );
            expect(
                balance.lost >= 0 && balance.while_down >= 0,
                format!("more came to {} than was sent to it: {balance:?}", plan.name),
            );
            expect(
                archive.strangers == 0,
                format!(
                    "{} packets at {} are not the HTTP traffic of their source",
                    archive.strangers, plan.name
                ),
            );
            for segment in &archive.segments {
                // The end of what a killed process was writing may be missing.
                let whole = segment.fault.is_none() || segment.is_open;
                let fault = segment.fault.clone().unwrap_or_default();
                expect(whole, format!("{}: {fault}", segment.path.display()));
            }
        }
        if let Some(outage) = self.outage {
            let (written, found) = (outage.last.written, self.balances[VICTIM].found);
            let name = SINKS[VICTIM].name;
            let adopted = outage.restart.map_or(found, |restart| restart.adopted.packets);
            expect(
                found == adopted,
                format!("{name} adopted {adopted} packets, its files hold {found} from before"),
            );
            expect(
                found >= written,
                format!(
                    "{name} had written {written} packets when it was killed, {found} are left"
                ),
            );
        }
        verdict
    }

    fn judge_connection(&self, connection: &Connection, verdict: &mut Verdict) {
        let key = (connection.client, connection.port);
        let at = |archive: &Archive| archive.connections.contains_key(&key);
        let places: Vec<usize> =
            (0..self.archives.len()).filter(|&sink| at(&self.archives[sink])).collect();
        let name = || format!("{}, port {}", client_name(connection.client), connection.port);
        if let [one, another, ..] = places[..] {
            let (one, another) = (SINKS[one].name, SINKS[another].name);
            verdict.faults.push(format!("{}: packets on both {one} and {another}", name()));
            return;
        }
        let whole = places.first().filter(|&&sink| {
            let Conversation { up, down } = &self.archives[sink].connections[&key];
            up.whole() == Some(connection.up) && down.whole() == Some(connection.down)
        });
        match (whole, places.first()) {
            (Some(&sink), _) => {
                verdict.whole[sink] += 1;
                verdict.requests += connection.requests;
                verdict.bytes += connection.down.bytes;
            }
            (None, place) if self.is_excused(connection, place.copied()) => verdict.cut += 1,
            (None, Some(&sink)) => {
                let fault = format!("{}: not whole on {}", name(), SINKS[sink].name);
                verdict.faults.push(fault);
            }
            (None, None) => verdict.faults.push(format!("{}: on no sink", name())),
        }
    }

    /// Whether a connection that is not whole, on the sink where some of it is, has a reason: the
    /// outage of its sink, or a loss that has a name in a ledger.
    fn is_excused(&self, connection: &Connection, place: Option<usize>) -> bool {
        let outage = self.outage.filter(|_| place.is_none_or(|sink| sink == VICTIM));
        let in_outage = outage.is_some_and(|outage| {
            let from = outage.killed_ns.saturating_sub(UNFLUSHED_NS);
            let until = outage.restart.map_or(u64::MAX, |restart| restart.listening_ns);
            connection.begun_ns < until && connection.ended_ns > from
        });
        let mut balances = self.balances.iter().enumerate();
        let by_network = balances.any(|(sink, balance)| {
            balance.lost_while_up(self.outage.is_some() && sink == VICTIM) > 0
        });
        in_outage || by_network || self.dropped() > 0
    }

    /// Packets that taps and sinks dropped, apart from the taps' own tunnels.
    fn dropped(&self) -> u64 {
        let ledgers = self.ledgers.taps.iter().chain(self.ledgers.sinks.iter().flatten());
        ledgers.map(|l| l.drops.total() - l.drops.get(DropReason::OwnTunnel)).sum()
    }
}
