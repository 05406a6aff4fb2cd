//! `tapline l2tp receive`: many tunnels into one TAP device.
//!
//! All ids are listened for at all addresses, so that what the file says is a table and nothing more:
//! to add a tunnel changes the table, and no socket, ring or device.

use super::sessions::Sessions;
use super::tunnels::Tunnels;
use crate::cli::{L2tpReceive, Verbosity};
use crate::failure::Failure;
use crate::listeners::{Listeners, Listening};
use crate::session::{self, Activity, Reloaded, Session, Taps};
use crate::targets::Targets;
use api::{Endpoint, Group, Sending, Stats};
use io::ring::Handover;
use io::{Interfaces, Now};
use pipeline::{CrewReport, Input, Tap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where it listens: every address of the host.
const ANYWHERE: [&str; 2] = ["l2tp://0.0.0.0", "l2tp://[::]"];
/// There is no such file in a kernel without IPv6.
const IPV6: &str = "/proc/sys/net/ipv6";

pub fn run(options: &L2tpReceive, verbosity: &Verbosity) -> Result<(), Failure> {
    session::check_stats_path(&options.report)?;
    let wanted = api::read_l2tp_receive(&options.config)?;
    let tunnels = Arc::new(Tunnels::new(&options.device, options.silent_after));
    let added = tunnels.set(&wanted, Now::read().monotonic_ns);

    let interfaces = Interfaces::default();
    let mut targets = Targets::new(&interfaces);
    let to = [Group(vec![Endpoint::target(&format!("tap:{}", options.device))?])];
    let mut opening = targets.open(&to, Sending::default(), 1, 1)?;
    let endpoints = ANYWHERE.iter().filter(|of| !of.contains('[') || Path::new(IPV6).is_dir());
    let endpoints = endpoints.map(|endpoint| Endpoint::listener(endpoint));
    let endpoints: Vec<Endpoint> = endpoints.collect::<Result<_, _>>()?;
    let listening = Listening {
        endpoints: endpoints.iter().filter_map(Endpoint::tunnel).cloned().collect(),
        datapath: options.datapath,
        layers: 1,
        buffer_bytes: options.buffer_size,
        handover: Handover::Prompt,
    };
    let Listeners { inputs, mut begun, tunnels: decap } =
        Listeners::open(&listening, &targets.fed(), &interfaces)?;
    begun.push(format!("{} tunnels into {}", wanted.len(), options.device));
    if verbosity.verbose > 0 {
        begun.extend(added);
    }
    let inputs = inputs.into_iter().map(|Input { name, source }| {
        let source = Box::new(Sessions::new(source, Arc::clone(&tunnels)));
        Input { name, source }
    });
    let tap = Tap::new(options.device.clone(), inputs.collect(), opening.groups(0, None, true)?);
    let of_tunnels = Arc::clone(&tunnels);
    let ledger = move |reports: &[CrewReport]| {
        let mut stats = crate::receive::ledger(reports, false);
        stats.decap = decap.counters();
        stats.tunnels = of_tunnels.stats(Now::read().monotonic_ns);
        stats
    };
    let (device, path) = (options.device.clone(), options.config.clone());
    let shown = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
    let session = Session::new("l2tp-receive", &options.report, verbosity).config(Some(&shown));
    session.run(&begun, || {
        let taps = Taps::start(vec![vec![tap]], ledger, vec![device])?;
        Ok(Box::new(Receiving { taps, tunnels, path }))
    })
}

/// A receiver at work.
struct Receiving<'a> {
    taps: Taps<'a>,
    tunnels: Arc<Tunnels>,
    path: PathBuf,
}

impl Activity for Receiving<'_> {
    fn is_finished(&self) -> bool {
        self.taps.is_finished()
    }

    fn stop(&mut self) {
        self.taps.stop();
    }

    fn ask(&mut self) {
        self.taps.ask();
    }

    fn answered(&mut self) -> Option<Stats> {
        self.taps.answered()
    }

    fn snapshot(&mut self) -> Option<Stats> {
        self.taps.snapshot()
    }

    fn can_reload(&self) -> bool {
        true
    }

    fn reload(&mut self) -> Result<Reloaded, Failure> {
        let wanted = api::read_l2tp_receive(&self.path)?;
        Ok(Reloaded { changes: self.tunnels.set(&wanted, Now::read().monotonic_ns) })
    }

    fn interfaces(&self) -> Vec<String> {
        self.taps.interfaces()
    }

    fn join(self: Box<Self>) -> (Stats, Vec<Result<(), io::Error>>) {
        Box::new(self.taps).join()
    }
}
