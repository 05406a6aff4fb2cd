//! The namespaces of the demo, the tapline processes in them, and what is done to one of them.

use super::plan::{
    self, CLIENTS, MIRROR_MTU, SERVER, SINKS, STATUS, STORE, SinkPlan, VICTIM, client_address,
    client_name, tap_address,
};
use super::process::{Tapline, Usage};
use super::store::Store;
use crate::failure::Failure;
use api::Stats;
use io::netns::Netns;
use io::now_ns;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Clients with their taps, a server, a group of sinks, and the store that these ship to.
pub struct Scene {
    pub server: Netns,
    clients: Vec<Client>,
    sinks: Vec<Sink>,
    store: Store,
    /// The network that is tapped, and the one that carries the tunnels: a bridge in each.
    _networks: [Netns; 2],
    folder: PathBuf,
    outage: Option<Outage>,
    usages: Vec<(String, Usage)>,
}

struct Client {
    host: Netns,
    tap: Option<Tapline>,
}

struct Sink {
    host: Netns,
    plan: &'static SinkPlan,
    /// Where its segments are until they are shipped.
    spool: PathBuf,
    process: Option<Tapline>,
    /// Its last ledger.
    ledger: Option<Stats>,
}

/// How one sink was killed, and what the ledgers said around it.
#[derive(Debug, Clone)]
pub struct Outage {
    /// The killed process's last ledger, taken just before.
    pub last: Stats,
    /// What the taps had sent to it just before that.
    pub sent_before: u64,
    /// When it was killed, nanoseconds since 1970.
    pub killed_ns: u64,
    pub restart: Option<Restart>,
}

/// The new process in the killed one's place.
#[derive(Debug, Clone, Copy)]
pub struct Restart {
    /// Just before it was started: it can have received nothing earlier.
    pub begun_ns: u64,
    /// When it was known to listen.
    pub listening_ns: u64,
    /// What the taps had sent to the sink just after that.
    pub sent: u64,
    /// What it said that it found of the killed one and took over.
    pub adopted: Adopted,
}

/// What a recorder finds left open, and closes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Adopted {
    pub segments: u64,
    pub packets: u64,
}

impl Adopted {
    /// Reads "… adopted 3 segments, 3546 packets, …".
    fn of(line: &str) -> Option<Adopted> {
        let (_, counts) = line.split_once("adopted ")?;
        let (segments, rest) = counts.split_once(" segments, ")?;
        let (packets, _) = rest.split_once(" packets")?;
        Some(Adopted { segments: segments.parse().ok()?, packets: packets.parse().ok()? })
    }
}

impl Outage {
    /// How long nobody listened, as far as the demo can tell.
    pub fn duration(&self) -> Option<Duration> {
        let restart = self.restart?;
        Some(Duration::from_nanos(restart.listening_ns.saturating_sub(self.killed_ns)))
    }
}

/// The ledgers at a moment: of each tap; and of each sink, where it runs, else its last one.
pub struct Ledgers {
    pub taps: Vec<Stats>,
    pub sinks: Vec<Option<Stats>>,
}

impl Ledgers {
    /// Packets that the taps have sent to a sink.
    pub fn sent_to(&self, sink: usize) -> u64 {
        let targets = self.taps.iter().flat_map(|tap| &tap.targets);
        targets.filter(|t| SINKS[sink].is_target(&t.endpoint)).map(|t| t.sent).sum()
    }
}

impl Scene {
    /// Makes the hosts and starts sinks and taps, in this order.
    pub fn set_up(folder: &Path) -> Result<Scene, Failure> {
        let rules = folder.join("rules.toml");
        std::fs::write(&rules, plan::rule_file())
            .map_err(|e| Failure::CouldNot(format!("write {}: {e}", rules.display())))?;
        let rules = rules.display().to_string();
        let tapped = network("the tapped network's", None)?;
        let mirror = network("the mirror network's", Some(MIRROR_MTU))?;
        let server = Netns::new()?;
        plug(&server, "eth0", &tapped, "server", None)?;
        for address in [SERVER, STATUS] {
            server.ip(&format!("address add {address}/24 dev eth0"))?;
        }
        let host = Netns::new()?;
        plug(&host, "eth0", &mirror, "store", Some(MIRROR_MTU))?;
        host.ip(&format!("address add {STORE}/24 dev eth0"))?;
        let store = Store::start(folder, host)?;
        let mut sinks = Vec::new();
        for plan in &SINKS {
            let host = Netns::new()?;
            plug(&host, "eth0", &mirror, plan.name, Some(MIRROR_MTU))?;
            host.ip(&format!("address add {}/24 dev eth0", plan.address))?;
            let spool = folder.join(plan.name);
            let process = receive(&host, plan.name, &store, &spool, folder)?;
            sinks.push(Sink { host, plan, spool, process: Some(process), ledger: None });
        }
        let mut clients = Vec::new();
        for client in 0..CLIENTS {
            let (host, name) = (Netns::new()?, client_name(client));
            plug(&host, "eth0", &tapped, &name, None)?;
            plug(&host, "mir0", &mirror, &name, Some(MIRROR_MTU))?;
            host.ip(&format!("address add {}/24 dev eth0", client_address(client)))?;
            host.ip(&format!("address add {}/24 dev mir0", tap_address(client)))?;
            let to = plan::group(client);
            let words = ["mirror", "-i", "eth0", "--rules", &rules, "--to", &to];
            let tap = Some(Tapline::start(&host, &name, folder, &words, &[])?);
            clients.push(Client { host, tap });
        }
        Ok(Scene {
            server,
            clients,
            sinks,
            store,
            _networks: [tapped, mirror],
            folder: folder.into(),
            outage: None,
            usages: Vec::new(),
        })
    }

    /// The clients' hosts.
    pub fn clients(&self) -> Vec<&Netns> {
        self.clients.iter().map(|client| &client.host).collect()
    }

    /// The folders in which the sinks' segments are until they are shipped.
    pub fn spools(&self) -> Vec<PathBuf> {
        self.sinks.iter().map(|sink| sink.spool.clone()).collect()
    }

    /// The store that the sinks ship to.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// A host from which the store can be reached.
    pub fn searcher(&self) -> &Netns {
        &self.sinks[0].host
    }

    /// The ledgers of all that runs: the sinks' first, so that none has received more than was sent.
    pub fn ledgers(&mut self) -> Result<Ledgers, Failure> {
        self.sinks.iter().filter_map(|sink| sink.process.as_ref()).try_for_each(Tapline::ask)?;
        for sink in &mut self.sinks {
            if let Some(process) = &mut sink.process {
                sink.ledger = Some(process.ledger()?);
            }
        }
        let sinks = self.sinks.iter().map(|sink| sink.ledger.clone()).collect();
        Ok(Ledgers { taps: self.tap_ledgers()?, sinks })
    }

    fn tap_ledgers(&mut self) -> Result<Vec<Stats>, Failure> {
        self.clients.iter().filter_map(|client| client.tap.as_ref()).try_for_each(Tapline::ask)?;
        let taps = self.clients.iter_mut().filter_map(|client| client.tap.as_mut());
        taps.map(Tapline::ledger).collect()
    }

    fn sent_to(&mut self, sink: usize) -> Result<u64, Failure> {
        Ok(Ledgers { taps: self.tap_ledgers()?, sinks: Vec::new() }.sent_to(sink))
    }

    /// Kills a sink. Its place in the group stays.
    pub fn kill(&mut self) -> Result<(), Failure> {
        let sent_before = self.sent_to(VICTIM)?;
        let sink = &mut self.sinks[VICTIM];
        let Some(mut process) = sink.process.take() else {
            return Ok(());
        };
        process.ask()?;
        let last = process.ledger()?;
        let killed_ns = now_ns();
        self.usages.push((format!("{}, until it was killed", sink.plan.name), process.kill()?));
        sink.ledger = None;
        self.outage = Some(Outage { last, sent_before, killed_ns, restart: None });
        Ok(())
    }

    /// Starts the killed sink again, on the same archive.
    pub fn restart(&mut self) -> Result<Adopted, Failure> {
        let sink = &mut self.sinks[VICTIM];
        let begun_ns = now_ns();
        let name = format!("{}-again", sink.plan.name);
        let process = receive(&sink.host, &name, &self.store, &sink.spool, &self.folder)?;
        let listening_ns = now_ns();
        // It says nothing where nothing was left.
        let line = process.log_line("adopted ");
        let adopted = line.and_then(|line| Adopted::of(&line)).unwrap_or_default();
        sink.process = Some(process);
        let sent = self.sent_to(VICTIM)?;
        if let Some(outage) = &mut self.outage {
            outage.restart = Some(Restart { begun_ns, listening_ns, sent, adopted });
        }
        Ok(adopted)
    }

    pub fn outage(&self) -> Option<&Outage> {
        self.outage.as_ref()
    }

    /// Stops the taps, then the sinks; gives their last ledgers.
    pub fn stop(&mut self) -> Result<Ledgers, Failure> {
        let mut taps = Vec::new();
        for (number, client) in self.clients.iter_mut().enumerate() {
            if let Some(tap) = client.tap.take() {
                let (ledger, usage) = tap.stop()?;
                self.usages.push((format!("tap on {}", client_name(number)), usage));
                taps.push(ledger);
            }
        }
        // What the taps have sent last is still on its way.
        std::thread::sleep(Duration::from_millis(200));
        for sink in &mut self.sinks {
            sink.ledger = None;
            if let Some(process) = sink.process.take() {
                let (ledger, usage) = process.stop()?;
                self.usages.push((sink.plan.name.into(), usage));
                sink.ledger = Some(ledger);
            }
        }
        Ok(Ledgers { taps, sinks: self.sinks.iter().map(|sink| sink.ledger.clone()).collect() })
    }

    /// What each process that has ended had used.
    pub fn usages(&self) -> &[(String, Usage)] {
        &self.usages
    }
}

fn receive(
    host: &Netns,
    name: &str,
    store: &Store,
    spool: &Path,
    folder: &Path,
) -> Result<Tapline, Failure> {
    let (archive, spool) = (store.archive(), spool.display().to_string());
    let words =
        ["receive", "--listen", "vxlan://0.0.0.0", "--archive", &archive, "--spool", &spool];
    Tapline::start(host, name, folder, &words, &store.environment())
}

/// A bridge in a namespace of its own.
fn network(whose: &str, mtu: Option<u16>) -> Result<Netns, Failure> {
    let network = Netns::new()?;
    network.ip("link add name bridge type bridge").map_err(|e| {
        Failure::CouldNot(format!("make {whose} bridge: {e}; try `modprobe bridge`"))
    })?;
    set_mtu(&network, "bridge", mtu)?;
    network.ip("link set bridge up")?;
    Ok(network)
}

/// Joins an interface of a host to a network.
fn plug(
    host: &Netns,
    interface: &str,
    network: &Netns,
    port: &str,
    mtu: Option<u16>,
) -> Result<(), Failure> {
    host.join(interface, network, port)?;
    set_mtu(host, interface, mtu)?;
    set_mtu(network, port, mtu)?;
    network.ip(&format!("link set {port} master bridge"))?;
    Ok(())
}

fn set_mtu(host: &Netns, interface: &str, mtu: Option<u16>) -> Result<(), Failure> {
    if let Some(mtu) = mtu {
        host.ip(&format!("link set {interface} mtu {mtu}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_adopted_is_read_from_the_log() {
        let line = " INFO adopted 3 segments, 3546 packets, that were left open";
        assert_eq!(Adopted::of(line), Some(Adopted { segments: 3, packets: 3546 }));
        assert_eq!(Adopted::of(" INFO adopted nothing"), None);
    }
}
