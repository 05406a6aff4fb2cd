//! The tunnels that a receiver knows, by their ids: looked up by the thread that receives, changed and
//! read by the main thread.
//!
//! The receiving side has a copy of the table, and looks before each batch whether there is a newer one: an
//! atomic load, no lock. Counters outlive a change of the table; a tunnel that stays is not touched by
//! it.

use api::{L2tpId, L2tpReceive, TunnelEnd, TunnelStats, TunnelStatus};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What came through one tunnel.
#[derive(Debug, Default)]
pub struct Counters {
    packets: AtomicU64,
    bytes: AtomicU64,
    errors: AtomicU64,
    keep_alives: AtomicU64,
    /// When the last packet came, or else when the tunnel was added; monotonic ns.
    heard_ns: AtomicU64,
    /// The outer source of the last packet.
    source: Mutex<Option<IpAddr>>,
}

/// What one batch brought through one tunnel.
#[derive(Debug, Clone, Copy, Default)]
pub struct Share {
    pub packets: u64,
    pub bytes: u64,
    pub errors: u64,
    pub keep_alives: u64,
}

impl Counters {
    /// Adds what came at a time.
    pub fn add(&self, share: Share, now_ns: u64) {
        self.packets.fetch_add(share.packets, Ordering::Relaxed);
        self.bytes.fetch_add(share.bytes, Ordering::Relaxed);
        self.errors.fetch_add(share.errors, Ordering::Relaxed);
        self.keep_alives.fetch_add(share.keep_alives, Ordering::Relaxed);
        self.heard_ns.store(now_ns, Ordering::Relaxed);
    }

    /// Takes note of another outer source than before. Takes a lock: only when it has changed.
    pub fn set_source(&self, source: IpAddr) {
        *lock(&self.source) = Some(source);
    }
}

/// The tunnels that are known.
#[derive(Debug)]
pub struct Tunnels {
    /// What the tunnels' names begin with.
    device: String,
    /// From when on a tunnel without packets is silent.
    silent_after: Duration,
    /// How often the table was changed.
    version: AtomicU64,
    table: Mutex<Vec<Tunnel>>,
}

#[derive(Debug)]
struct Tunnel {
    of: L2tpReceive,
    /// Its number among those of the device; a new tunnel gets the least that is free.
    number: usize,
    counters: Arc<Counters>,
}

impl Tunnels {
    /// Of a device; there are none yet.
    pub fn new(device: &str, silent_after: Duration) -> Tunnels {
        Tunnels {
            device: device.into(),
            silent_after,
            version: AtomicU64::new(0),
            table: Mutex::default(),
        }
    }

    /// Knows these tunnels from now on, and no others; says what has changed, a line for each. One that
    /// was known by its id goes on counting.
    pub fn set(&self, wanted: &[L2tpReceive], now_ns: u64) -> Vec<String> {
        let mut changes = Vec::new();
        let mut table = lock(&self.table);
        let mut before: HashMap<L2tpId, Tunnel> =
            table.drain(..).map(|tunnel| (tunnel.of.id, tunnel)).collect();
        let mut numbers: Vec<usize> = before
            .values()
            .filter(|tunnel| wanted.iter().any(|of| of.id == tunnel.of.id))
            .map(|tunnel| tunnel.number)
            .collect();
        for of in wanted {
            let ends = |of: &L2tpReceive| (of.receiver, of.transmitter);
            let tunnel = match before.remove(&of.id) {
                Some(tunnel) => {
                    if ends(&tunnel.of) != ends(of) {
                        changes.push(format!("tunnel {}: now {}", of.id, said(of)));
                    }
                    Tunnel { of: *of, ..tunnel }
                }
                None => {
                    let number = (0..).find(|number| !numbers.contains(number)).unwrap_or_default();
                    numbers.push(number);
                    let counters = Arc::new(Counters::default());
                    counters.heard_ns.store(now_ns, Ordering::Relaxed);
                    changes.push(format!(
                        "tunnel {}: added as {}, {}",
                        of.id,
                        self.name(number),
                        said(of)
                    ));
                    Tunnel { of: *of, number, counters }
                }
            };
            table.push(tunnel);
        }
        let mut gone: Vec<Tunnel> = before.into_values().collect();
        gone.sort_by_key(|tunnel| tunnel.number);
        for tunnel in &gone {
            let packets = tunnel.counters.packets.load(Ordering::Relaxed);
            let name = self.name(tunnel.number);
            changes.push(format!("tunnel {}: removed, {name}: {packets} packets", tunnel.of.id));
        }
        self.version.fetch_add(1, Ordering::Release);
        changes
    }

    /// The counters of each tunnel by its id, if the table is another than that of a version; takes a
    /// lock only then.
    #[inline]
    pub fn newer(
        &self,
        version: &mut u64,
    ) -> Option<impl Iterator<Item = (u32, Arc<Counters>)> + use<>> {
        let now = self.version.load(Ordering::Acquire);
        if now == *version {
            return None;
        }
        *version = now;
        let table = lock(&self.table);
        let by_id = table.iter().map(|t| (t.of.id.get(), Arc::clone(&t.counters)));
        Some(by_id.collect::<Vec<_>>().into_iter())
    }

    /// How each tunnel goes, in the order of the file.
    pub fn stats(&self, now_ns: u64) -> Vec<TunnelStats> {
        let stats = |tunnel: &Tunnel| {
            let L2tpReceive { receiver, transmitter, id, .. } = tunnel.of;
            let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let counters = &tunnel.counters;
            let source = *lock(&counters.source);
            let quiet = Duration::from_nanos(now_ns.saturating_sub(count(&counters.heard_ns)));
            let errors = count(&counters.errors);
            TunnelStats {
                interface: self.name(tunnel.number),
                end: TunnelEnd::Receive,
                local: receiver,
                remote: transmitter,
                id: id.get(),
                packets: count(&counters.packets),
                bytes: count(&counters.bytes),
                errors,
                keep_alives: Some(count(&counters.keep_alives)),
                source,
                nat: source.and_then(|source| id.tells_nat(source)),
                quiet_ms: Some(u64::try_from(quiet.as_millis()).unwrap_or(u64::MAX)),
                status: TunnelStatus::of(errors, quiet >= self.silent_after),
            }
        };
        lock(&self.table).iter().map(stats).collect()
    }

    fn name(&self, number: usize) -> String {
        format!("{}-{number:05}", self.device)
    }
}

fn said(of: &L2tpReceive) -> String {
    format!("from {} to {}", of.transmitter, of.receiver)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn tunnels(text: &str) -> Vec<L2tpReceive> {
        api::parse_l2tp_receive(Path::new("x"), text.as_bytes()).unwrap()
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_tunnel_that_stays_goes_on_counting_under_its_name() {
        let known = Tunnels::new("mtun", Duration::from_secs(60));
        let three = "10.0.0.1 10.0.0.2 - -\n10.0.0.1 10.0.0.3 - -\n10.0.0.1 10.0.0.4 - -";
        assert_eq!(known.set(&tunnels(three), SECOND).len(), 3);
        let mut version = 0;
        let by_id: HashMap<_, _> = known.newer(&mut version).unwrap().collect();
        assert!(known.newer(&mut version).is_none());
        by_id[&0x0a00_0003].add(Share { packets: 2, bytes: 200, ..Share::default() }, 2 * SECOND);

        let changes =
            known.set(&tunnels("10.0.0.1 10.0.0.3 - -\n10.0.0.1 9.9.9.9 - 7"), 5 * SECOND);
        assert_eq!(
            changes,
            [
                "tunnel 0.0.0.7(7): added as mtun-00000, from 9.9.9.9 to 10.0.0.1",
                "tunnel 10.0.0.2(167772162): removed, mtun-00000: 0 packets",
                "tunnel 10.0.0.4(167772164): removed, mtun-00002: 0 packets",
            ]
        );
        let by_id: HashMap<_, _> = known.newer(&mut version).unwrap().collect();
        by_id[&0x0a00_0003].add(Share { packets: 1, bytes: 60, ..Share::default() }, 6 * SECOND);
        assert!(!by_id.contains_key(&0x0a00_0002));
        let stats = known.stats(6 * SECOND);
        let shown: Vec<_> = stats.iter().map(|t| (&*t.interface, t.packets, t.bytes)).collect();
        assert_eq!(shown, [("mtun-00001", 3, 260), ("mtun-00000", 0, 0)]);
        // The same again changes nothing.
        let same = tunnels("10.0.0.1 10.0.0.3 - -\n10.0.0.1 9.9.9.9 - 7");
        assert_eq!(known.set(&same, 7 * SECOND), [""; 0]);
        let moved = tunnels("10.0.0.1 10.0.0.9 - 10.0.0.3\n10.0.0.1 9.9.9.9 - 7");
        let changes = known.set(&moved, 7 * SECOND);
        assert_eq!(changes, ["tunnel 10.0.0.3(167772163): now from 10.0.0.9 to 10.0.0.1"]);
        assert_eq!(known.stats(7 * SECOND)[0].packets, 3);
    }

    #[test]
    fn a_tunnel_is_silent_after_a_while_and_failed_with_an_error() {
        let known = Tunnels::new("mtun", Duration::from_secs(60));
        known.set(&tunnels("10.0.0.1 10.0.0.2 - -"), SECOND);
        let one = |at: u64| known.stats(at * SECOND).remove(0);
        assert_eq!((one(60).status, one(61).status), (TunnelStatus::Ok, TunnelStatus::Silent));
        assert_eq!((one(61).source, one(61).nat, one(61).quiet_ms), (None, None, Some(60_000)));
        let (_, counters) = known.newer(&mut 0).unwrap().next().unwrap();
        counters.set_source("10.0.0.2".parse().unwrap());
        counters.add(Share { keep_alives: 1, ..Share::default() }, 100 * SECOND);
        assert_eq!((one(159).status, one(159).nat), (TunnelStatus::Ok, Some(false)));
        assert_eq!((one(159).keep_alives, one(159).packets), (Some(1), 0));
        counters.set_source("192.168.0.1".parse().unwrap());
        assert_eq!((one(160).status, one(160).nat), (TunnelStatus::Silent, Some(true)));
        counters.add(Share { errors: 1, ..Share::default() }, 100 * SECOND);
        assert_eq!(one(160).status, TunnelStatus::Fail);
    }
}
