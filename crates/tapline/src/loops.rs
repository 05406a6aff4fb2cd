//! Ways by which what is sent comes in again, to be sent again, without end; and targets and sources
//! that are one on this host. All commands refuse them here.
//!
//! A tap's own tunnel packets are known by their look and left out; frames that are sent bare, through
//! an interface or into a TAP device, are not.

use crate::failure::Failure;
use crate::opened::must_differ;
use crate::targets::{Places, members};
use api::{
    BrokerConfig, BrokerMistake, Endpoint, Group, MapConfig, Origin, Part, SourceConfig, TapConfig,
    TapSource, TunnelEndpoint,
};
use io::nic::Ways;
use io::ring::ANY;
use std::net::{IpAddr, UdpSocket};

/// Refuses targets whose packets a tap of this process would take again.
pub fn of_taps(configs: &[TapConfig]) -> Result<(), Failure> {
    let mut ways = Ways::read()?;
    for config in configs {
        for member in members(&config.to) {
            for other in configs {
                let TapSource::Interface(tapped) = &other.source else {
                    continue;
                };
                if other.netns.is_some() {
                    // What is sent here leaves by interfaces of ours.
                    continue;
                }
                if let Some(way) = way_back(&mut ways, member, tapped) {
                    return Err(Failure::Usage(format!(
                        "tap {} → {way} → tap {}: it would take what is sent there again, without \
                         end; tap other interfaces than that",
                        config.name, other.name
                    )));
                }
            }
        }
    }
    Ok(())
}

/// Refuses to send into a tunnel that ends at one of the own listeners.
pub fn of_receiver(listen: &[Endpoint], to: &[Group]) -> Result<(), Failure> {
    for target in members(to).filter_map(Endpoint::tunnel) {
        for listener in listen.iter().filter_map(Endpoint::tunnel) {
            if ends_at(target, listener)? {
                return Err(Failure::Usage(format!(
                    "{target}: this receiver listens there itself (--listen {listener}), so that \
                     each packet would come back, without end; name another host"
                )));
            }
        }
    }
    Ok(())
}

/// Refuses what only this host shows of a broker: targets that feed sources, interfaces and files that
/// two of its parts call by different names.
pub fn of_broker(broker: &BrokerConfig) -> Result<(), BrokerMistake> {
    let mut ways = Ways::read().ok();
    for (n, target) in broker.targets.iter().enumerate() {
        let Group(group) = &target.to;
        let wrong =
            |item, reason| BrokerMistake::new(broker, Part::Target(n), "to", reason).at(item);
        for (item, member) in group.iter().enumerate() {
            for source in &broker.sources {
                if let Some(back) = back(ways.as_mut(), member, source) {
                    return Err(wrong(item, loop_of(broker, &target.name, source, &back)));
                }
            }
        }
    }
    if let Some(ways) = &mut ways {
        interfaces_stand_apart(broker, ways)?;
    }
    files_stand_apart(broker)
}

/// How what is sent to an endpoint comes in again at a source, if it does.
fn back(ways: Option<&mut Ways>, member: &Endpoint, source: &SourceConfig) -> Option<String> {
    match (member, &source.origin) {
        (_, Origin::Interface { interface, .. }) => way_back(ways?, member, interface),
        (Endpoint::Tunnel(target), Origin::Tunnels { listen, .. }) => {
            // A name that is unknown is told when it is opened.
            let listener = listen.iter().find(|at| ends_at(target, at).unwrap_or(false))?;
            Some(format!("{target} → {listener}"))
        }
        _ => None,
    }
}

/// The way in words, from the source on if it is a circle.
fn loop_of(broker: &BrokerConfig, target: &str, fed: &SourceConfig, back: &str) -> String {
    let leads = |map: &&MapConfig| map.to.iter().any(|to| to == target);
    let maps = || broker.maps.iter().filter(leads);
    let circle = maps().find(|map| map.from.contains(&fed.name));
    match (circle, maps().next()) {
        (Some(map), _) => format!(
            "source {0} → map {1} → target {target} → {back} → source {0}: its packets would come \
             in again, without end; send them elsewhere",
            fed.name, map.name
        ),
        (None, map) => format!(
            "map {} → target {target} → {back} → source {}: packets that have been through would \
             come in again; send them elsewhere",
            map.map_or("", |map| &map.name),
            fed.name
        ),
    }
}

/// The interfaces by which what is sent to an endpoint is seen at one that is tapped.
fn way_back(ways: &mut Ways, member: &Endpoint, tapped: &str) -> Option<String> {
    let way = match member {
        Endpoint::Nic { .. } | Endpoint::Tap { .. } if tapped == ANY => vec![ANY.to_owned()],
        Endpoint::Nic { interface, .. } => ways.sent(interface, tapped)?.split_off(1),
        Endpoint::Tap { name, .. } => ways.received(name, tapped)?.split_off(1),
        _ => return None,
    };
    let way = way.iter().map(|name| format!(" → {name}"));
    Some(format!("{member}{}", way.collect::<String>()))
}

/// Whether a tunnel's packets arrive at a listener of this host.
fn ends_at(target: &TunnelEndpoint, listener: &TunnelEndpoint) -> Result<bool, Failure> {
    let is_taken = listener.scheme.kind == target.scheme.kind
        && listener.carrier == target.carrier
        && (listener.id.is_none() || listener.id == target.id);
    if !is_taken {
        return Ok(false);
    }
    let (address, local) = (target.resolve()?.ip(), listener.resolve()?.ip());
    Ok(local == address || (local.is_unspecified() && is_of_this_host(address)))
}

/// Whether an address is one of this host.
pub fn is_of_this_host(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// Refuses two sources, or two targets, that are one interface by different names.
fn interfaces_stand_apart(broker: &BrokerConfig, ways: &mut Ways) -> Result<(), BrokerMistake> {
    let mut are_one = |one: &str, other: &str| {
        one != other && ways.sent(one, other).is_some_and(|way| way.len() == 1)
    };
    for (n, source) in broker.sources.iter().enumerate() {
        let Origin::Interface { interface, .. } = &source.origin else {
            continue;
        };
        for earlier in &broker.sources[..n] {
            if let Origin::Interface { interface: other, .. } = &earlier.origin
                && are_one(interface, other)
            {
                let reason = format!(
                    "{interface} is {other}, whose packets source {} takes already, so that they \
                     would come twice; use two maps from one source",
                    earlier.name
                );
                return Err(BrokerMistake::new(broker, Part::Source(n), "interface", reason));
            }
        }
    }
    let mut taken: Vec<(&str, &str)> = Vec::new();
    for (n, target) in broker.targets.iter().enumerate() {
        let Group(group) = &target.to;
        for (item, member) in group.iter().enumerate() {
            let Endpoint::Nic { interface, .. } = member else {
                continue;
            };
            if let Some((other, name)) = taken.iter().find(|(other, _)| are_one(interface, other)) {
                let reason = format!(
                    "{interface} is {other}, through which target {name} sends too; let maps lead \
                     to that one"
                );
                return Err(BrokerMistake::new(broker, Part::Target(n), "to", reason).at(item));
            }
            taken.push((interface, &target.name));
        }
    }
    Ok(())
}

/// Refuses two targets that write one file, and one that writes what a source reads.
fn files_stand_apart(broker: &BrokerConfig) -> Result<(), BrokerMistake> {
    let mut places = Places::default();
    for (n, target) in broker.targets.iter().enumerate() {
        let Group(group) = &target.to;
        for (item, member) in group.iter().enumerate() {
            let Endpoint::Pcap { path } = member else {
                continue;
            };
            let told = |failure: Failure| {
                let reason = failure.message().unwrap_or_default();
                BrokerMistake::new(broker, Part::Target(n), "to", reason).at(item)
            };
            places.claim(path).map_err(told)?;
            for source in &broker.sources {
                if let Origin::File { path: read, .. } = &source.origin {
                    must_differ(Some(read), path, false).map_err(told)?;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::BrokerFile;
    use std::path::Path;

    /// Checks a broker of a file in a namespace of its own with veths.
    fn checked(text: &str) -> Option<(Option<(usize, usize)>, String)> {
        let netns = io::netns::Netns::new().unwrap();
        netns.ip("link add eth1 type veth peer name eth2").unwrap();
        netns.ip("link property add dev eth1 altname uplink").unwrap();
        netns.ip("link add eth3 type veth peer name eth4").unwrap();
        netns.ip("link set lo up").unwrap();
        let file = BrokerFile::parse(Path::new("b.toml"), text.as_bytes()).unwrap();
        let mistake = netns.run(|| of_broker(&file.config)).unwrap().err()?;
        let told = file.told(&mistake);
        Some((told.place, told.reason))
    }

    fn broker(source: &str, to: &str) -> String {
        format!(
            "[[source]]\nname = \"left\"\n{source}\n[[target]]\nname = \"x\"\nto = \"{to}\"\n\
             [[map]]\nname = \"all\"\nfrom = \"left\"\nto = \"x\"\n"
        )
    }

    #[test]
    fn targets_that_feed_a_source_are_refused_with_the_way() {
        if !rig::root_or_skip() {
            return;
        }
        for (source, to, way) in [
            ("interface = \"eth1\"", "nic:eth1", "nic:eth1"),
            ("interface = \"eth1\"", "nic:uplink", "nic:uplink"),
            ("interface = \"eth1\"", "nic:eth2", "nic:eth2 → eth1"),
            ("interface = \"any\"", "nic:eth3", "nic:eth3 → any"),
            ("interface = \"tap7\"", "tap:tap7", "tap:tap7"),
            (
                "listen = \"vxlan://0.0.0.0?vni=5\"",
                "vxlan://127.0.0.1?vni=5",
                "vxlan://127.0.0.1:4789?vni=5 → vxlan://0.0.0.0:4789?vni=5",
            ),
        ] {
            let (place, reason) = checked(&broker(source, to)).unwrap();
            assert_eq!(place, Some((6, 6)), "{reason}");
            let wanted = format!("source left → map all → target x → {way} → source left: its");
            assert!(reason.contains(&wanted), "{wanted} is not in {reason}");
        }
        for (source, to) in [
            ("interface = \"eth1\"", "nic:eth3"),
            ("interface = \"eth1\"", "tap:tap7"),
            ("interface = \"any\"", "vxlan://127.0.0.1?vni=5"),
            ("listen = \"vxlan://0.0.0.0?vni=5\"", "vxlan://127.0.0.1?vni=6"),
            ("listen = \"vxlan://0.0.0.0?vni=5\"", "vxlan://192.0.2.9?vni=5"),
        ] {
            assert_eq!(checked(&broker(source, to)), None, "{source} {to}");
        }
    }

    #[test]
    fn what_feeds_another_source_is_refused_too() {
        if !rig::root_or_skip() {
            return;
        }
        let text = "[[source]]\ninterface = \"eth2\"\n[[source]]\ninterface = \"eth3\"\n\
                    [[target]]\nname = \"x\"\nto = [\"null:\", \"nic:eth1\"]\n\
                    [[target]]\nname = \"y\"\nto = \"vxlan://192.0.2.1?vni=1\"\n\
                    [[map]]\nname = \"m\"\nfrom = \"eth3\"\nto = \"x\"\n\
                    [[map]]\nfrom = \"eth2\"\nto = \"y\"\n";
        let (place, reason) = checked(text).unwrap();
        assert_eq!(place, Some((7, 16)));
        assert!(reason.contains("map m → target x → nic:eth1 → eth2 → source eth2"), "{reason}");
    }

    #[test]
    fn one_interface_or_file_by_two_names_is_refused() {
        if !rig::root_or_skip() {
            return;
        }
        let folder = rig::Scratch::new("loops-one-file");
        let file = folder.path("in.pcap");
        std::fs::write(&file, b"").unwrap();
        let link = folder.path("link.pcap");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let map = "[[map]]\nfrom = [\"eth1\", \"uplink\"]\nto = [\"x\"]\n";
        let sources = "[[source]]\ninterface = \"eth1\"\n[[source]]\ninterface = \"uplink\"\n";
        let target = "[[target]]\nname = \"x\"\nto = \"null:\"\n";
        let (place, reason) = checked(&format!("{sources}{target}{map}")).unwrap();
        assert_eq!(place, Some((4, 13)));
        assert!(reason.contains("uplink is eth1"), "{reason}");
        let text = "[[source]]\ninterface = \"eth4\"\n[[target]]\nto = [\"nic:eth1\"]\n\
                    [[target]]\nto = \"nic:uplink\"\n[[map]]\nfrom = \"eth4\"\nto = [\"nic:eth1\", \
                    \"nic:uplink\"]\n";
        let (place, reason) = checked(text).unwrap();
        assert_eq!(place, Some((6, 6)));
        assert!(reason.contains("through which target nic:eth1 sends too"), "{reason}");
        let (file, link) = (file.display(), link.display());
        let text = broker(&format!("read = \"{file}\""), &format!("pcap:{link}"));
        let (place, reason) = checked(&text).unwrap();
        assert_eq!(place, Some((6, 6)));
        assert!(reason.contains("written over"), "{reason}");
    }
}
