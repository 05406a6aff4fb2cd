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
    /// The place in the list of connections of one that stands whole in what was shipped.
    pub example: Option<usize>,
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
        for (place, connection) in self.connections.iter().enumerate() {
            let before = verdict.whole.clone();
            self.judge_connection(connection, &mut verdict);
            let is_shipped = |sink| sink != VICTIM || !self.is_down_at_the_end();
            let whole = verdict.whole.iter().zip(&before).enumerate();
            if whole.into_iter().any(|(sink, (now, before))| now > before && is_shipped(sink)) {
                verdict.example.get_or_insert(place);
            }
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
                expect(
                    !segment.is_left,
                    format!("{} was not shipped to the store", segment.path.display()),
                );
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

    /// Whether a killed sink was not started again: what it left is not in the store.
    fn is_down_at_the_end(&self) -> bool {
        self.outage.is_some_and(|outage| outage.restart.is_none())
    }

    /// Packets that taps and sinks dropped, apart from the taps' own tunnels.
    fn dropped(&self) -> u64 {
        let ledgers = self.ledgers.taps.iter().chain(self.ledgers.sinks.iter().flatten());
        ledgers.map(|l| l.drops.total() - l.drops.get(DropReason::OwnTunnel)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::scene::{Adopted, Restart};
    use crate::demo::stream::{Digest, Piece};
    use api::{Drops, RuleStats, SourceStats, Stats, TapStats, TargetStats};

    const SECOND_NS: u64 = 1_000_000_000;
    /// Killed in the tenth second, up again in the twelfth.
    const KILLED_NS: u64 = 10 * SECOND_NS;
    const UP_NS: u64 = 12 * SECOND_NS;

    fn digest() -> Digest {
        let mut digest = Digest::default();
        digest.add(b"x");
        digest
    }

    fn connection(port: u16, begun_s: u64) -> Connection {
        let begun_ns = begun_s * SECOND_NS;
        let (ended_ns, requests) = (begun_ns + SECOND_NS / 10, 1);
        let (up, down) = (digest(), digest());
        Connection { client: 0, port, begun_ns, ended_ns, requests, up, down }
    }

    fn conversation(up: &[u8], down: &[u8]) -> Conversation {
        let mut both = Conversation::default();
        for (stream, payload) in [(&mut both.up, up), (&mut both.down, down)] {
            stream.add(&Piece { sequence: 0, syn: true, fin: false, payload: b"" });
            stream.add(&Piece { sequence: 1, syn: false, fin: true, payload });
        }
        both
    }

    /// Two sinks that have got one packet each, and a tap whose third rule decided both.
    fn ledgers() -> Ledgers {
        let mut tap = TapStats::new("eth0".into(), 3, 1, 2, Drops::default());
        tap.rules = vec![RuleStats { index: 1, hits: 1 }, RuleStats { index: 3, hits: 2 }];
        let target = |sink: usize| {
            let endpoint = format!("vxlan://{}:4789?vni=71", SINKS[sink].address);
            TargetStats::new(endpoint, 1, 1, 0, Drops::default())
        };
        let source = || SourceStats::new("vxlan-71".into(), 1, 1, 0, Drops::default());
        let sink = || Some(Stats::new(vec![], vec![source()], vec![]));
        let taps = vec![Stats::new(vec![tap], vec![], vec![target(0), target(1)])];
        Ledgers { taps, sinks: vec![sink(), sink()] }
    }

    fn archive() -> Archive {
        let mut archive = Archive::default();
        archive.segments.push(crate::demo::files::Segment {
            path: "x".into(),
            source: "vxlan-71".into(),
            is_open: false,
            is_left: false,
            packets: 1,
            packets_before: 0,
            bytes: 0,
            fault: None,
        });
        archive
    }

    fn outage() -> Outage {
        let adopted = Adopted::default();
        let restart = Restart { begun_ns: UP_NS - 1, listening_ns: UP_NS, sent: 0, adopted };
        let last = Stats::new(vec![], vec![], vec![]);
        Outage { last, sent_before: 0, killed_ns: KILLED_NS, restart: Some(restart) }
    }

    /// Judges connections of which `found` stand on sinks, after changes to what else is known.
    fn judge(
        connections: &[Connection],
        found: Vec<(usize, u16, Conversation)>,
        change: impl FnOnce(&mut Ledgers, &mut [Archive; 2]),
    ) -> Verdict {
        let (mut ledgers, mut archives) = (ledgers(), [archive(), archive()]);
        for (sink, port, conversation) in found {
            archives[sink].connections.insert((0, port), conversation);
        }
        change(&mut ledgers, &mut archives);
        let outage = Some(&outage());
        let balance =
            |sink| Balance::of(sink, &ledgers, outage.filter(|_| sink == VICTIM), &archives[sink]);
        let balances = [0, 1].map(balance);
        let (ledgers, archives, balances) = (&ledgers, &archives[..], &balances[..]);
        Evidence { connections, ledgers, outage, archives, balances }.judge()
    }

    #[test]
    fn whole_connections_and_those_of_the_outage_are_well() {
        let connections = [connection(1, 5), connection(2, 5), connection(3, 11), connection(4, 9)];
        let found = vec![
            (0, 1, conversation(b"x", b"x")),
            (1, 2, conversation(b"x", b"x")),
            // The third is on no sink, the end of the fourth was not written.
            (1, 4, conversation(b"x", b"")),
        ];
        let verdict = judge(&connections, found, |_, _| {});
        assert_eq!(verdict.faults, [""; 0]);
        assert_eq!((verdict.whole, verdict.requests, verdict.cut), (vec![1, 1], 2, 2));
    }

    #[test]
    fn each_fault_of_a_connection_is_found() {
        let whole = || conversation(b"x", b"x");
        for (begun_s, found, fault) in [
            (5, vec![(0, 1, whole()), (1, 1, whole())], "packets on both sink-a and sink-b"),
            (5, vec![], "on no sink"),
            (5, vec![(1, 1, conversation(b"x", b""))], "not whole on sink-b"),
            (5, vec![(1, 1, conversation(b"x", b"y"))], "not whole on sink-b"),
            // The other sink's outage is no excuse, nor is one that was over.
            (11, vec![(0, 1, conversation(b"", b"x"))], "not whole on sink-a"),
            (12, vec![], "on no sink"),
        ] {
            let verdict = judge(&[connection(1, begun_s)], found, |_, _| {});
            assert_eq!(verdict.faults, [format!("client-1, port 1: {fault}")]);
        }
    }

    #[test]
    fn each_fault_of_ledgers_and_files_is_found() {
        type Change = fn(&mut Ledgers, &mut [Archive; 2]);
        let changes: [(Change, &str); 8] = [
            (|l, _| l.taps[0].unaccounted = 2, "the ledgers do not balance: 2 packets"),
            (|l, _| l.taps[0].taps[0].rules[1].hits = 1, "rules included 1 packets, and 2 matched"),
            (|l, _| l.taps[0].taps[0].seen = Some(0), "saw nothing"),
            (|_, a| a[0].segments[0].packets = 3, "sink-a wrote 1 packets, its files hold 3"),
            (|l, _| l.taps[0].targets[0].sent = 0, "more came to sink-a than was sent to it"),
            (|_, a| a[0].strangers = 1, "are not the HTTP traffic of their source"),
            (|_, a| a[1].segments[0].fault = Some("cut".into()), "x: cut"),
            (|_, a| a[1].segments[0].is_left = true, "x was not shipped to the store"),
        ];
        for (change, fault) in changes {
            let found = vec![(0, 1, conversation(b"x", b"x"))];
            let verdict = judge(&[connection(1, 5)], found, change);
            assert!(matches!(&verdict.faults[..], [one] if one.contains(fault)), "{verdict:?}");
        }
        let verdict = judge(&[], vec![], |_, archives| {
            // Two packets from before the kill, of which the next process knew nothing.
            (archives[1].segments[0].packets, archives[1].segments[0].packets_before) = (3, 2);
        });
        let faults = verdict.faults.join("\n");
        assert!(faults.contains("downloaded nothing"), "{faults}");
        assert!(faults.contains("sink-b adopted 0 packets, its files hold 2"), "{faults}");
    }
}
