//! The ledger of a table: a tap line for each rule, one for what is of no rule, and a target line for
//! each interface; behind them those of the views.

use api::{DropReason, Stats, TapStats, TargetStats};
use io::forward::{Counts, ForwardReport, RuleReport, SideReport};
use pipeline::{CrewReport, tap_line, target_lines};
use serde_json::{Value, json};

/// Makes the ledger of all that was counted.
pub fn ledger(table: &str, forwarded: &ForwardReport, views: &[CrewReport]) -> Stats {
    let mut taps: Vec<TapStats> =
        forwarded.rules.iter().chain(&forwarded.gone).map(rule_line).collect();
    taps.push(other_line(table, forwarded));
    let mut targets = side_lines(forwarded);
    taps.extend(views.iter().filter_map(|workers| tap_line(workers)));
    targets.extend(views.iter().flat_map(|workers| target_lines(workers)));
    let mut stats = Stats::new(taps, Vec::new(), targets);
    for source in views.iter().flatten().flat_map(|report| report.sources.iter().flatten()) {
        stats.received += source.received;
        stats.written += source.written;
    }
    stats
}

fn rule_line(rule: &RuleReport) -> TapStats {
    let mut sum = rule.there;
    sum.merge(&rule.back);
    let Counts { seen, forwarded, bytes, drops } = sum;
    let mut line = TapStats::new(rule.name.clone(), seen, 0, forwarded, drops);
    line.matched_bytes = bytes;
    line
}

fn other_line(table: &str, forwarded: &ForwardReport) -> TapStats {
    let other = &forwarded.other;
    let seen = other.seen + other.missing;
    let mut line = TapStats::new(format!("table {table}"), seen, other.filtered, 0, other.drops);
    line.losses_in_frames = other.drops.get(DropReason::KernelRing) > 0;
    line
}

fn side_lines(forwarded: &ForwardReport) -> Vec<TargetStats> {
    let lines = forwarded.rules.iter().chain(&forwarded.gone);
    let sums = lines.fold([0, 0], |[there, back], line| {
        [there + line.there.forwarded, back + line.back.forwarded]
    });
    let wanted = match (sums, forwarded.sides.len()) {
        ([there, back], 1) => vec![there + back],
        // Clients' packets leave by the second one.
        ([there, back], _) => vec![back, there],
    };
    forwarded.sides.iter().zip(wanted).map(|(side, wanted)| side_line(side, wanted)).collect()
}

fn side_line(side: &SideReport, wanted: u64) -> TargetStats {
    let sink = &side.sink;
    let endpoint = format!("nic:{}", side.name);
    let mut line = TargetStats::new(endpoint, side.offered, sink.sent, sink.held, sink.drops);
    (line.fragmented, line.sent_bytes) = (side.fragmented, sink.sent_bytes);
    // Each packet was handed over, in one piece or in several.
    line.unaccounted +=
        (wanted - side.fragmented.min(wanted) + side.fragments).abs_diff(side.offered);
    line
}

/// What `inline show` tells: of each rule beside what is said of it, what it has counted.
pub fn shown(
    config: &api::InlineConfig,
    rules: Vec<Value>,
    datapath: &str,
    forwarded: &ForwardReport,
) -> Value {
    let counts = |counts: &Counts| {
        json!({
            "seen": counts.seen,
            "forwarded": counts.forwarded,
            "bytes": counts.bytes,
            "drops": counts.drops,
        })
    };
    let rules = rules.into_iter().zip(&forwarded.rules).map(|(mut rule, line)| {
        rule["sessions"] = line.sessions.into();
        rule["there"] = counts(&line.there);
        rule["back"] = counts(&line.back);
        rule
    });
    let end = |end: &wire::translate::End| match end.port {
        0 => end.address.to_string(),
        port => std::net::SocketAddr::new(end.address, port).to_string(),
    };
    let sessions = forwarded.shown.iter().map(|session| {
        // Programs in the kernel do not count them for each session.
        let packets = |side: usize| (datapath == "ring").then_some(session.packets[side]);
        json!({
            "rule": config.rules.get(session.rule as usize).map(|rule| &rule.name),
            "protocol": session.protocol,
            "client": end(&session.client),
            "address": end(&session.ours),
            "source": end(&session.source),
            "next_host": end(&session.next),
            "state": format!("{:?}", session.state).to_lowercase(),
            "packets_there": packets(0),
            "packets_back": packets(1),
        })
    });
    json!({
        "table": config.name,
        "in": config.ingress,
        "out": config.egress,
        "datapath": datapath,
        "rules": rules.collect::<Vec<_>>(),
        "sessions": forwarded.sessions,
        "sessions_max": config.sessions,
        "shown": sessions.collect::<Vec<_>>(),
    })
}
