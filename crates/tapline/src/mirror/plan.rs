//! Which datapath carries a tap, and why not the other one.

use super::paths::less_true;
use super::place::inside;
use crate::cli::{FilterIn, FilterPlace};
use crate::failure::Failure;
use crate::opened::compile;
use crate::targets::members;
use api::{
    Datapath, DirectionChoice, Endpoint, FlowKey, Group, TapConfig, TapSource, TunnelEndpoint,
};
use io::bpf::possible_cpus;
use io::netns::Netns;
use io::ring::{ANY, describe};
use pipeline::MirrorFilter;
use wire::LinkType;
use wire::gre;
use wire::tunnel::{Carrier, Encap, Gre};

/// Endpoints of a group that the kernel shares packets out among.
pub const MEMBERS_MAX: usize = 256;

/// CPUs that GENEVE's metadata can tell from each other; one number more is that of user space.
const LANES_MAX: usize = 255;

/// What the kernel needs of a tap.
pub struct Wanted {
    /// The filter as the kernel's programs take it.
    pub filter: MirrorFilter,
}

/// Whether the kernel carries a tap that is asked for by this datapath, not [`Datapath::Ring`]: what it
/// needs of it, or all that stands in the way.
pub fn in_kernel(
    config: &TapConfig,
    netns: Option<&Netns>,
    place: FilterPlace,
    asked: Datapath,
) -> Result<Result<Wanted, Vec<String>>, Failure> {
    let mut why = obstacles(config, place);
    let name = match &config.source {
        TapSource::Interface(name) if name != ANY => name,
        _ => return Ok(Err(why)),
    };
    if asked == Datapath::Auto
        && let Some(reason) = less_true(config, netns)
    {
        why.push(format!("{reason} (--datapath kernel takes that)"));
    }
    if numbers_lanes(config) && possible_cpus()? > LANES_MAX {
        why.push(format!("more than {LANES_MAX} CPUs number their packets in GENEVE"));
    }
    let described = inside(netns, || describe(name))??;
    if described.link_type != LinkType::ETHERNET {
        why.push(format!("its frames have no Ethernet header (link type {})", described.link_type));
        return Ok(Err(why));
    }
    // Each packet passes loopback twice, sent and then received; one of them is enough.
    let direction = match config.direction {
        DirectionChoice::Both if described.is_loopback => DirectionChoice::In,
        direction => direction,
    };
    let filter = compile(&config.filter, direction, &[described.link_type])?;
    match filter.for_mirror(described.link_type) {
        Ok(filter) if why.is_empty() => Ok(Ok(Wanted { filter })),
        Ok(_) => Ok(Err(why)),
        Err(reason) => {
            why.push(reason);
            Ok(Err(why))
        }
    }
}

/// Whether each CPU numbers the packets that it sends.
fn numbers_lanes(config: &TapConfig) -> bool {
    let tunnels = members(&config.to).filter_map(Endpoint::tunnel);
    let mut encaps = tunnels.filter_map(TunnelEndpoint::encap);
    encaps.any(|encap| matches!(encap, Encap::Geneve { metadata: true, .. }))
}

/// What the words of a tap alone rule out.
pub fn obstacles(config: &TapConfig, place: FilterPlace) -> Vec<String> {
    let mut why = Vec::new();
    match &config.source {
        TapSource::File(_) => why.push("it reads a file".into()),
        TapSource::Interface(name) if name == ANY => {
            why.push(format!("`{ANY}` is no interface: name each one"));
        }
        TapSource::Interface(_) => {}
    }
    if config.promiscuous {
        why.push("promiscuous mode is a ring's".into());
    }
    if place.prefilter {
        why.push("--prefilter is a ring's".into());
    } else if place.filter_in == FilterIn::User {
        why.push("--filter-in user".into());
    }
    for group in &config.to {
        let Group(members) = group;
        why.extend(members.iter().filter_map(misfit));
        if members.len() > MEMBERS_MAX {
            why.push(format!(
                "{} endpoints share a load, of which the kernel knows {MEMBERS_MAX} at most",
                members.len()
            ));
        }
        if members.len() > 1 && group.balance().key != FlowKey::FiveTuple {
            why.push("hash= makes flows of something else than five-tuples".into());
        }
    }
    why
}

/// Why the kernel does not send to an endpoint.
fn misfit(member: &Endpoint) -> Option<String> {
    let Some(tunnel) = member.tunnel() else {
        return Some(format!("{member} is no tunnel"));
    };
    let why = match tunnel.encap()? {
        Encap::Erspan(_) => "ERSPAN",
        Encap::L2tp(_) => "L2TPv3",
        Encap::Gre(Gre { sequence: true, .. }) | Encap::Gretap(Gre { sequence: true, .. }) => {
            "GRE with numbers"
        }
        Encap::Gre(Gre { checksum: true, .. }) | Encap::Gretap(Gre { checksum: true, .. }) => {
            "GRE with a checksum"
        }
        encap if !is_usual(&encap, tunnel) => "GRE over UDP",
        _ => return None,
    };
    Some(format!("{member} is {why}, which the kernel's programs do not write"))
}

/// Whether the tunnel stands on what its kind usually does.
fn is_usual(encap: &Encap, tunnel: &TunnelEndpoint) -> bool {
    match encap {
        Encap::Vxlan { .. } | Encap::Geneve { .. } => {
            matches!(tunnel.carrier, Carrier::Udp { .. })
        }
        _ => tunnel.carrier == Carrier::Ip { protocol: gre::IP_PROTOCOL },
    }
}

/// The datapath that is asked for.
pub fn asked(config: &TapConfig, default: Datapath) -> Datapath {
    config.datapath.unwrap_or(default)
}

/// All reasons in a line.
pub fn reasons(why: &[String]) -> String {
    why.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::parse_mirror_file;
    use std::path::Path;

    const ANYWHERE: FilterPlace = FilterPlace { filter_in: FilterIn::Auto, prefilter: false };

    fn why(lines: &str) -> String {
        let text = format!("[[tap]]\n{lines}\n");
        let taps = parse_mirror_file(Path::new("t"), text.as_bytes()).unwrap();
        reasons(&obstacles(&taps[0], ANYWHERE))
    }

    #[test]
    fn what_the_kernel_cannot_do_is_told_of_each_word() {
        let to = |endpoint: &str| format!("interface = \"eth0\"\nto = [\"{endpoint}\"]");
        for fits in [
            "vxlan://10.0.0.2?vni=1",
            "vxlan://[fd00::1]:4790?vni=1",
            "geneve://10.0.0.2?vni=1",
            "gre://10.0.0.2",
            "gretap://10.0.0.2?key=7",
            "vxlan://10.0.0.2?vni=1,vxlan://10.0.0.3?vni=1&weight=3",
        ] {
            assert_eq!(why(&to(fits)), "", "{fits}");
        }
        for (endpoint, part) in [
            ("null:", "null: is no tunnel"),
            ("pcap:x", "is no tunnel"),
            ("nic:eth1", "is no tunnel"),
            ("tap:x", "is no tunnel"),
            ("erspan://10.0.0.2?session=1", "ERSPAN"),
            ("l2tp://10.0.0.2?id=1", "L2TPv3"),
            ("gre://10.0.0.2?seq=on", "GRE with numbers"),
            ("gretap://10.0.0.2?csum=on", "GRE with a checksum"),
            ("vxlan://10.0.0.2?vni=1&hash=2-tuple,vxlan://10.0.0.3?vni=1", "hash="),
        ] {
            let said = why(&to(endpoint));
            assert!(said.contains(part), "{endpoint}: {said}");
        }
        let both = "interface = \"any\"\nto = [\"null:\"]\npromiscuous = true";
        assert_eq!(
            why(both),
            "`any` is no interface: name each one; promiscuous mode is a ring's; null: is no tunnel"
        );
        assert_eq!(why("read = \"x\"\nto = [\"gre://10.0.0.2\"]"), "it reads a file");
    }
}
