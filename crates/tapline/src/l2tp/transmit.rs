//! `tapline l2tp transmit`: ports of interfaces into tunnels, by the engine of the broker.
//!
//! Each interface that a line names is a source, tapped once; each line a map with the filter of its
//! ports, and a target of the same name. So a reload is that of a broker: what did not change goes on.

use crate::broker::Broker;
use crate::cli::{L2tpTransmit as Options, Verbosity};
use crate::failure::Failure;
use crate::loops::is_of_this_host;
use crate::session::{Activity, Reloaded, Session, check_stats_path};
use api::{
    Balance, BrokerConfig, DirectionChoice, DropReason, Endpoint, FilterConfig, Group,
    L2tpTransmit, MapConfig, Origin, QueueConfig, SourceConfig, Start, Stats, TargetConfig,
    TargetStats, TunnelEnd, TunnelStats, TunnelStatus,
};
use std::cell::RefCell;
use std::net::IpAddr;

pub fn run(options: &Options, verbosity: &Verbosity) -> Result<(), Failure> {
    check_stats_path(&options.report)?;
    let read = RefCell::default();
    let wanted = || read_config(options, &read);
    let broker = Broker::open(wanted()?, Some(Box::new(wanted)))?;
    let mut begun = broker.begun().to_vec();
    let tunnels = read.borrow().clone();
    begun.extend(tunnels.iter().map(|tunnel| {
        let L2tpTransmit { interface, ports, .. } = tunnel;
        format!("{ports} of {interface} into {}", name(tunnel))
    }));
    let shown = std::path::absolute(&options.config).unwrap_or_else(|_| options.config.clone());
    Session::new("l2tp-transmit", &options.report, verbosity)
        .config(Some(&shown))
        .run(&begun, || {
            Ok(Box::new(Transmitting { broker: broker.start()?, read: &read, tunnels }))
        })
}

/// Reads the file; `read` keeps what was read last.
fn read_config(
    options: &Options,
    read: &RefCell<Vec<L2tpTransmit>>,
) -> Result<BrokerConfig, Failure> {
    let tunnels = api::read_l2tp_transmit(&options.config)?;
    let config = config(&tunnels, options, &is_of_this_host)?;
    *read.borrow_mut() = tunnels;
    Ok(config)
}

/// What a tunnel is called: the same wherever its line stands, and whatever becomes of others.
fn name(tunnel: &L2tpTransmit) -> String {
    format!("tun-{}-{}", tunnel.receiver, tunnel.id.address())
}

/// The broker that does what the lines say.
fn config(
    tunnels: &[L2tpTransmit],
    options: &Options,
    is_local: &dyn Fn(IpAddr) -> bool,
) -> Result<BrokerConfig, Failure> {
    if tunnels.is_empty() {
        return Err(Failure::Usage(format!(
            "{}: no tunnel is left to transmit into; add a line, such as `10.10.10.10 10.10.10.11 \
             ens3 i80,o443`, or stop the transmitter",
            options.config.display()
        )));
    }
    let mut broker = BrokerConfig::default();
    for tunnel in tunnels {
        let L2tpTransmit { interface, ports, .. } = tunnel;
        if !broker.sources.iter().any(|source| source.name == *interface) {
            broker.sources.push(source(interface, options));
        }
        broker.maps.push(MapConfig {
            name: name(tunnel),
            from: vec![interface.clone()],
            filter: ports.filter(),
            stages: Vec::new(),
            to: vec![name(tunnel)],
            history: 0,
        });
        broker.targets.push(TargetConfig {
            name: name(tunnel),
            to: Group(vec![endpoint(tunnel, options, is_local)?]),
            filter: FilterConfig::All,
            stages: Vec::new(),
            queue: QueueConfig::default(),
            sending: options.sending.into(),
            balance: Balance::default(),
            start: Start::Now,
        });
    }
    Ok(broker)
}

fn source(interface: &str, options: &Options) -> SourceConfig {
    SourceConfig {
        name: interface.into(),
        origin: Origin::Interface {
            interface: interface.into(),
            direction: DirectionChoice::Both,
            promiscuous: options.promiscuous,
            buffer_size: options.buffer_size,
        },
        stages: Vec::new(),
    }
}

/// Where a tunnel leads. It begins at the transmit-side address if this host has that: behind address
/// translation a file may have another one.
fn endpoint(
    tunnel: &L2tpTransmit,
    options: &Options,
    is_local: &dyn Fn(IpAddr) -> bool,
) -> Result<Endpoint, Failure> {
    let L2tpTransmit { receiver, transmitter, id, line, .. } = tunnel;
    let host = match receiver {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let mut endpoint = Endpoint::target(&format!("l2tp://{host}?id={}", id.get()))?;
    let source = is_local(*transmitter).then_some(*transmitter);
    if source.is_none() {
        let file = options.config.display();
        tracing::info!(
            "{file}:{line}: {transmitter} is not of this host: the route says from where"
        );
    }
    if let Endpoint::Tunnel(tunnel) = &mut endpoint {
        (tunnel.source, tunnel.keep_alive) = (source, Some(options.keep_alive));
    }
    Ok(endpoint)
}

/// A transmitter at work.
struct Transmitting<'a> {
    broker: Broker<'a>,
    /// What was read last.
    read: &'a RefCell<Vec<L2tpTransmit>>,
    /// What there is.
    tunnels: Vec<L2tpTransmit>,
}

impl Transmitting<'_> {
    fn tell(tunnels: &[L2tpTransmit], mut stats: Stats) -> Stats {
        let told = tunnels.iter().map(|tunnel| {
            let name = name(tunnel);
            let line = stats.targets.iter().find(|line| line.name.as_deref() == Some(&*name));
            tunnel_stats(tunnel, name, line)
        });
        stats.tunnels = told.collect();
        stats
    }
}

/// How a tunnel goes, by its target's line.
fn tunnel_stats(tunnel: &L2tpTransmit, name: String, line: Option<&TargetStats>) -> TunnelStats {
    // What still waited at the end is no error of the tunnel.
    let lost = |line: &TargetStats| line.drops.total() - line.drops.get(DropReason::Stopped);
    let errors = line.map_or(0, lost);
    TunnelStats {
        interface: name,
        end: TunnelEnd::Transmit,
        local: tunnel.transmitter,
        remote: tunnel.receiver,
        id: tunnel.id.get(),
        packets: line.map_or(0, |line| line.sent),
        bytes: line.map_or(0, |line| line.sent_bytes),
        errors,
        keep_alives: None,
        source: None,
        nat: None,
        quiet_ms: None,
        status: TunnelStatus::of(errors, false),
    }
}

impl Activity for Transmitting<'_> {
    fn is_finished(&self) -> bool {
        self.broker.is_finished()
    }

    fn stop(&mut self) {
        self.broker.stop();
    }

    fn ask(&mut self) {
        self.broker.ask();
    }

    fn answered(&mut self) -> Option<Stats> {
        self.broker.answered().map(|stats| Transmitting::tell(&self.tunnels, stats))
    }

    fn snapshot(&mut self) -> Option<Stats> {
        self.broker.snapshot().map(|stats| Transmitting::tell(&self.tunnels, stats))
    }

    fn can_reload(&self) -> bool {
        self.broker.can_reload()
    }

    fn reload(&mut self) -> Result<Reloaded, Failure> {
        let reloaded = self.broker.reload()?;
        self.tunnels.clone_from(&self.read.borrow());
        Ok(reloaded)
    }

    fn show(&mut self) -> Result<serde_json::Value, Failure> {
        self.broker.show()
    }

    fn interfaces(&self) -> Vec<String> {
        self.broker.interfaces()
    }

    fn join(self: Box<Self>) -> (Stats, Vec<Result<(), io::Error>>) {
        let Transmitting { broker, tunnels, .. } = *self;
        let (stats, results) = Box::new(broker).join();
        (Transmitting::tell(&tunnels, stats), results)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command, L2tpCommand};
    use clap::Parser;
    use std::path::Path;

    fn options() -> Options {
        let words = ["tapline", "l2tp", "transmit", "-c", "mirror.conf", "--keep-alive", "5s"];
        match Cli::try_parse_from(words).unwrap().command {
            Command::L2tp(L2tpCommand::Transmit(options)) => options,
            other => panic!("{other:?}"),
        }
    }

    fn broker(text: &str) -> Result<BrokerConfig, Failure> {
        let tunnels = api::parse_l2tp_transmit(Path::new("x"), text.as_bytes()).unwrap();
        config(&tunnels, &options(), &|address| address != IpAddr::from([9, 9, 9, 9]))
    }

    #[test]
    fn an_interface_is_tapped_once_however_many_lines_name_it() {
        let broker = broker(
            "10.0.0.1 10.0.0.2 ens3 i80,o443\n\
             10.0.0.9 10.0.0.2 ens3 all\n\
             fd00::1 fd00::2 ens4 i53 7\n\
             10.0.0.1 9.9.9.9 ens3 o25",
        )
        .unwrap();
        let sources: Vec<&str> = broker.sources.iter().map(|source| &*source.name).collect();
        assert_eq!(sources, ["ens3", "ens4"]);
        let ways: Vec<_> = broker.maps.iter().map(|map| (&*map.from[0], &*map.to[0])).collect();
        assert_eq!(
            ways,
            [
                ("ens3", "tun-10.0.0.1-10.0.0.2"),
                ("ens3", "tun-10.0.0.9-10.0.0.2"),
                ("ens4", "tun-fd00::1-0.0.0.7"),
                ("ens3", "tun-10.0.0.1-9.9.9.9"),
            ]
        );
        assert_eq!(broker.maps[1].filter, FilterConfig::All);
        let ends: Vec<_> = broker.targets.iter().map(|target| &target.to.0[0]).collect();
        let said: Vec<String> = ends.iter().map(ToString::to_string).collect();
        assert_eq!(said[2], "l2tp://[fd00::1]?id=7");
        assert_eq!(said[3], "l2tp://10.0.0.1?id=151587081");
        let sources: Vec<_> = ends.iter().map(|end| end.tunnel().unwrap().source).collect();
        assert_eq!(sources[0], "10.0.0.2".parse().ok());
        assert_eq!(sources[3], None, "this host has no such address");
        let keep_alive = ends[0].tunnel().unwrap().keep_alive;
        assert_eq!(keep_alive, Some(std::time::Duration::from_secs(5)));
    }

    #[test]
    fn a_transmitter_has_something_to_transmit() {
        let error = broker("# nothing\n").unwrap_err();
        assert!(error.message().unwrap().starts_with("mirror.conf: no tunnel is left"));
    }
}
