//! Rates: the differences of two ledgers by the time between them.

use crate::local::Instance;
use api::{Drops, Stats, Status};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::ErrorKind;

/// A running command, and what went through it in the last interval.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Process {
    /// What it does: `mirror`, `broker`, and so on.
    pub command: String,
    /// Its process id.
    pub pid: u32,
    /// The name that the user gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its configuration file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// How long it runs, milliseconds.
    pub uptime_ms: u64,
    /// Time between the two ledgers, milliseconds; `None` if this is the first one.
    pub elapsed_ms: Option<u64>,
    /// Packets whose fate is not known: 0 unless a counter lies.
    pub unaccounted: u64,
    /// Why it was not asked with success; then there are no rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Its sources, taps, maps, stages, targets and interfaces.
    pub rows: Vec<Row>,
}

/// What a row of the table is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A source: received, and written or passed on.
    Source,
    /// A tap or a map, or the filter and the stages of a target: seen and matched.
    Tap,
    /// A stage: received and passed.
    Stage,
    /// A target: matched and sent.
    Target,
    /// An interface, as the kernel counts: received and sent.
    Interface,
}

/// A row of the table. Rates are `None` in the first interval, and where nobody counts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What it is about.
    pub kind: Kind,
    /// The name in the ledger.
    pub name: String,
    /// Packets in, in all and a second.
    pub packets_in: Option<u64>,
    /// The same a second.
    pub pps_in: Option<f64>,
    /// Bits in, a second.
    pub bps_in: Option<f64>,
    /// Packets out, in all.
    pub packets_out: Option<u64>,
    /// The same a second.
    pub pps_out: Option<f64>,
    /// Bits out, a second.
    pub bps_out: Option<f64>,
    /// Packets dropped in all, by reason.
    pub drops: BTreeMap<String, u64>,
    /// Packets dropped a second, by reason.
    pub drops_per_second: BTreeMap<String, f64>,
    /// Packets that wait in its queue.
    pub queued: u64,
    /// Bytes that its queue takes now.
    pub queue_bytes: u64,
    /// Bytes that its queue may take; 0 if it has none or its bound is not known.
    pub queue_bytes_max: u64,
    /// Whether its health check, or the link, says that it is alive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
}

/// Counters of a row at one moment.
#[derive(Debug, Clone, Default)]
struct Counters {
    packets_in: Option<u64>,
    bytes_in: Option<u64>,
    packets_out: Option<u64>,
    bytes_out: Option<u64>,
    drops: BTreeMap<String, u64>,
    queued: u64,
    queue_bytes: u64,
    queue_bytes_max: u64,
    healthy: Option<bool>,
}

/// What tells a row from the others: two targets of different taps may have one name.
type Key = (Kind, String, usize);

/// Remembers what the processes had counted when they were last asked.
#[derive(Default)]
pub struct Sampler {
    before: BTreeMap<(u32, u64), (u64, BTreeMap<Key, Counters>)>,
}

impl Process {
    /// Whether it is meant by a process id or a name.
    pub fn is_called(&self, of: &str) -> bool {
        self.name.as_deref() == Some(of) || self.pid.to_string() == of
    }

    fn of(status: &Status) -> Process {
        Process {
            command: status.command.clone(),
            pid: status.pid,
            name: status.name.clone(),
            config: status.config.clone(),
            uptime_ms: status.uptime_ms,
            elapsed_ms: None,
            unaccounted: status.stats.unaccounted,
            error: None,
            rows: Vec::new(),
        }
    }

    fn silent(instance: Instance, why: String) -> Process {
        Process {
            command: instance.command,
            pid: instance.pid,
            name: None,
            config: None,
            uptime_ms: 0,
            elapsed_ms: None,
            unaccounted: 0,
            error: Some(why),
            rows: Vec::new(),
        }
    }
}

impl Sampler {
    /// What went through since the last call.
    pub fn sample(&mut self, asked: Vec<(Instance, std::io::Result<Status>)>) -> Vec<Process> {
        let before = std::mem::take(&mut self.before);
        let mut processes = Vec::with_capacity(asked.len());
        for (instance, answer) in asked {
            match answer {
                Ok(status) => {
                    let id = (status.pid, status.since);
                    let now = counters(&status);
                    processes.push(process(&status, &now, before.get(&id)));
                    self.before.insert(id, (status.uptime_ms, now.into_iter().collect()));
                }
                // It has ended meanwhile.
                Err(error) if is_end(error.kind()) => {}
                Err(error) => {
                    // It is compared with what it said last once it answers again.
                    let of = before.iter().filter(|((pid, _), _)| *pid == instance.pid);
                    self.before.extend(of.map(|(id, then)| (*id, then.clone())));
                    let why = match error.kind() {
                        ErrorKind::PermissionDenied => "its socket is not for this user".into(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut => "it does not answer".into(),
                        _ => error.to_string(),
                    };
                    processes.push(Process::silent(instance, why));
                }
            }
        }
        processes
    }
}

fn is_end(kind: ErrorKind) -> bool {
    let ends = [
        ErrorKind::ConnectionRefused,
        ErrorKind::NotFound,
        ErrorKind::UnexpectedEof,
        ErrorKind::ConnectionReset,
        ErrorKind::BrokenPipe,
    ];
    ends.contains(&kind)
}

fn process(
    status: &Status,
    now: &[(Key, Counters)],
    before: Option<&(u64, BTreeMap<Key, Counters>)>,
) -> Process {
    let mut process = Process::of(status);
    process.elapsed_ms = before.map(|(then_ms, _)| status.uptime_ms.saturating_sub(*then_ms));
    let seconds = process.elapsed_ms.filter(|ms| *ms > 0).map(|ms| ms as f64 / 1e3);
    for (key, now) in now {
        let then = before.and_then(|(_, then)| then.get(key)).zip(seconds);
        process.rows.push(row(key, now, then));
    }
    process
}

fn row((kind, name, _): &Key, now: &Counters, then: Option<(&Counters, f64)>) -> Row {
    let rate = |of: fn(&Counters) -> Option<u64>, unit: f64| {
        let (then, seconds) = then?;
        // One that has begun anew has no rate.
        let difference = of(now)?.checked_sub(of(then)?)?;
        Some(difference as f64 * unit / seconds)
    };
    let drops_per_second = now.drops.iter().filter_map(|(reason, packets)| {
        let (then, seconds) = then?;
        let before = then.drops.get(reason).copied().unwrap_or(0);
        let rate = packets.checked_sub(before)? as f64 / seconds;
        (rate > 0.0).then(|| (reason.clone(), rate))
    });
    Row {
        kind: *kind,
        name: name.clone(),
        packets_in: now.packets_in,
        pps_in: rate(|c| c.packets_in, 1.0),
        bps_in: rate(|c| c.bytes_in, 8.0),
        packets_out: now.packets_out,
        pps_out: rate(|c| c.packets_out, 1.0),
        bps_out: rate(|c| c.bytes_out, 8.0),
        drops: now.drops.clone(),
        drops_per_second: drops_per_second.collect(),
        queued: now.queued,
        queue_bytes: now.queue_bytes,
        queue_bytes_max: now.queue_bytes_max,
        healthy: now.healthy,
    }
}

/// The counters of all rows, in the order of the table.
fn counters(status: &Status) -> Vec<(Key, Counters)> {
    let mut rows: Vec<(Kind, String, Counters)> = Vec::new();
    of_ledger(&status.stats, &mut rows);
    for interface in &status.interfaces {
        let mut drops = BTreeMap::new();
        for (what, packets) in
            [("rx_dropped", interface.rx_dropped), ("tx_dropped", interface.tx_dropped)]
        {
            if packets > 0 {
                drops.insert(what.into(), packets);
            }
        }
        let counters = Counters {
            packets_in: Some(interface.rx_packets),
            bytes_in: Some(interface.rx_bytes),
            packets_out: Some(interface.tx_packets),
            bytes_out: Some(interface.tx_bytes),
            drops,
            healthy: Some(interface.is_up),
            ..Counters::default()
        };
        rows.push((Kind::Interface, interface.name.clone(), counters));
    }
    let mut seen: BTreeMap<(Kind, String), usize> = BTreeMap::new();
    let number = |(kind, name, counters): (Kind, String, Counters)| {
        let number = seen.entry((kind, name.clone())).or_default();
        *number += 1;
        ((kind, name, *number), counters)
    };
    rows.into_iter().map(number).collect()
}

fn of_ledger(stats: &Stats, rows: &mut Vec<(Kind, String, Counters)>) {
    for source in &stats.sources {
        let counters = Counters {
            packets_in: Some(source.received),
            bytes_in: known(source.received_bytes, source.received),
            packets_out: Some(source.written),
            drops: by_name(&source.drops),
            queued: source.queued,
            ..Counters::default()
        };
        rows.push((Kind::Source, source.name.clone(), counters));
    }
    for tap in &stats.taps {
        let counters = Counters {
            packets_in: tap.seen,
            packets_out: Some(tap.matched),
            bytes_out: known(tap.matched_bytes, tap.matched),
            drops: by_name(&tap.drops),
            ..Counters::default()
        };
        rows.push((Kind::Tap, tap.name.clone(), counters));
    }
    for stage in &stats.stages {
        let counters = Counters {
            packets_in: Some(stage.received),
            packets_out: Some(stage.passed),
            drops: by_name(&stage.drops),
            ..Counters::default()
        };
        rows.push((Kind::Stage, format!("{} {}", stage.of, stage.name), counters));
    }
    for target in &stats.targets {
        let name = match &target.name {
            Some(name) => format!("{name} {}", target.endpoint),
            None => target.endpoint.clone(),
        };
        let counters = Counters {
            packets_in: Some(target.matched),
            packets_out: Some(target.sent),
            bytes_out: known(target.sent_bytes, target.sent),
            drops: by_name(&target.drops),
            queued: target.queued,
            queue_bytes: target.queue_bytes,
            queue_bytes_max: target.queue_bytes_max,
            healthy: target.healthy,
            ..Counters::default()
        };
        rows.push((Kind::Target, name, counters));
    }
}

/// Bytes, unless nobody counts them.
fn known(bytes: u64, packets: u64) -> Option<u64> {
    (bytes > 0 || packets == 0).then_some(bytes)
}

fn by_name(drops: &Drops) -> BTreeMap<String, u64> {
    drops.iter().map(|(reason, packets)| (reason.name().to_owned(), packets)).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use api::{DropReason, InterfaceStats, SourceStats, StageStats, TapStats, TargetStats};

    /// A broker that has run so many seconds at 1,000 packets of 1,000 bytes a second, of which one
    /// target loses a half.
    pub fn status(seconds: u64) -> Status {
        let packets = 1000 * seconds;
        let mut lost = Drops::default();
        lost.add_many(DropReason::QueueFull, packets / 2);
        let mut source = SourceStats::new("left".into(), packets, packets, 0, Drops::default());
        source.received_bytes = 1000 * packets;
        let tap = TapStats::new("map web".into(), packets, 0, packets, Drops::default());
        let mut slow = TargetStats::new("nic:eth3".into(), packets, packets / 2, 0, lost);
        (slow.name, slow.healthy) = (Some("ids".into()), Some(true));
        (slow.queue_bytes, slow.queue_bytes_max) = (12 << 20, 16 << 20);
        let other = TargetStats::new("null:".into(), packets, packets, 0, Drops::default());
        let mut stats = Stats::new(vec![tap], vec![source], vec![slow, other.clone(), other]);
        stats.stages.push(StageStats {
            of: "map web".into(),
            name: "tag".into(),
            received: packets,
            passed: packets,
            drops: Drops::default(),
            touched: packets,
            forgotten: 0,
        });
        let interface = InterfaceStats {
            name: "eth1".into(),
            is_up: false,
            rx_packets: packets,
            rx_bytes: 1014 * packets,
            rx_dropped: 7,
            ..Default::default()
        };
        Status {
            version: "0.1.0".into(),
            command: "broker".into(),
            name: Some("east".into()),
            pid: 4711,
            since: 1_700_000_000,
            uptime_ms: 1000 * seconds,
            config: Some("/etc/tapline/broker.toml".into()),
            interfaces: vec![interface],
            stats,
        }
    }

    /// What a sampler makes of two looks.
    pub fn sampled(then: Status, now: Status) -> Vec<Process> {
        let mut sampler = Sampler::default();
        let instance = || Instance::named("broker", 4711);
        sampler.sample(vec![(instance(), Ok(then))]);
        sampler.sample(vec![(instance(), Ok(now))])
    }

    #[test]
    fn rates_are_differences_by_the_time_between() {
        let processes = sampled(status(10), status(12));
        let [process] = &processes[..] else { panic!("{processes:?}") };
        assert_eq!((process.elapsed_ms, process.rows.len()), (Some(2000), 7));
        let rates = |row: &Row| (row.pps_in, row.bps_in, row.pps_out, row.bps_out);
        assert_eq!(rates(&process.rows[0]), (Some(1000.0), Some(8e6), Some(1000.0), None));
        assert_eq!(rates(&process.rows[1]), (Some(1000.0), None, Some(1000.0), None));
        let slow = &process.rows[3];
        assert_eq!((slow.kind, slow.name.as_str()), (Kind::Target, "ids nic:eth3"));
        assert_eq!((slow.pps_out, slow.drops["queue_full"]), (Some(500.0), 6000));
        assert_eq!(slow.drops_per_second["queue_full"], 500.0);
        let interface = &process.rows[6];
        assert_eq!((interface.bps_in, interface.healthy), (Some(8.0 * 1_014_000.0), Some(false)));
        assert!(interface.drops_per_second.is_empty() && interface.drops["rx_dropped"] == 7);
    }

    #[test]
    fn what_begins_anew_has_no_rate() {
        // Another process of the same number.
        let mut again = status(1);
        again.since += 100;
        let processes = sampled(status(10), again);
        assert_eq!((processes[0].elapsed_ms, processes[0].rows[0].pps_in), (None, None));
        // A counter that went back, as after a line's name was used again.
        let mut back = status(12);
        back.stats.sources[0].received = 3;
        let processes = sampled(status(10), back);
        assert_eq!(processes[0].rows[0].pps_in, None);
        assert_eq!(processes[0].rows[1].pps_in, Some(1000.0));
    }

    #[test]
    fn one_that_does_not_answer_is_shown_and_compared_later() {
        let mut sampler = Sampler::default();
        let instance = || Instance::named("broker", 4711);
        sampler.sample(vec![(instance(), Ok(status(10)))]);
        let silent = sampler.sample(vec![(instance(), Err(ErrorKind::WouldBlock.into()))]);
        assert_eq!(silent[0].error.as_deref(), Some("it does not answer"));
        let later = sampler.sample(vec![(instance(), Ok(status(14)))]);
        assert_eq!((later[0].elapsed_ms, later[0].rows[0].pps_in), (Some(4000), Some(1000.0)));
        let gone = sampler.sample(vec![(instance(), Err(ErrorKind::ConnectionRefused.into()))]);
        assert!(gone.is_empty());
    }
}
