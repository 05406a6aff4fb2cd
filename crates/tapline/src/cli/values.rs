//! How the values of options are read: each says what it takes instead of what it cannot take.

use crate::times;
use api::{DirectionChoice, Endpoint, Group, RingSize};
use io::decap::EVERY_LAYER;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use wire::LinkType;
use wire::tunnel::Kind;

/// Shortest time between two looks at what runs.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Lowest bound on an archive: a few packets of any size fit into each of its segments.
const ARCHIVE_BYTES_MIN: u64 = 100_000;

pub fn direction(text: &str) -> Result<DirectionChoice, String> {
    match text {
        "both" | "inout" => Ok(DirectionChoice::Both),
        "in" => Ok(DirectionChoice::In),
        "out" => Ok(DirectionChoice::Out),
        _ => Err("write both, in or out".into()),
    }
}

/// Time between two looks at what runs.
pub fn interval(text: &str) -> Result<Duration, String> {
    let time = api::parse_duration(text).map_err(|error| error.to_string())?;
    match time >= INTERVAL_MIN {
        true => Ok(time),
        false => Err("write 100ms or more".into()),
    }
}

/// A link type by its name, as tcpdump lists them, or by its number.
pub fn link_type(text: &str) -> Result<LinkType, String> {
    let named = filter::SUPPORTED_LINK_TYPES.into_iter();
    let named = named.chain([LinkType::ETHERNET]).find(|link_type| {
        let is_ethernet = *link_type == LinkType::ETHERNET && text.eq_ignore_ascii_case("ethernet");
        is_ethernet || link_type.to_string().eq_ignore_ascii_case(text)
    });
    named.or_else(|| text.parse().ok().map(LinkType)).ok_or_else(|| {
        "write EN10MB, RAW, LINUX_SLL, LINUX_SLL2, NULL, LOOP, IPV4, IPV6, or a number".into()
    })
}

/// How many layers of tunnels.
pub fn layers(text: &str) -> Result<u8, String> {
    layers_from(1, text)
}

/// How many layers of tunnels a receiver takes off.
pub fn receive_layers(text: &str) -> Result<u8, String> {
    layers_from(0, text)
}

fn layers_from(least: u8, text: &str) -> Result<u8, String> {
    match text {
        "all" => Ok(EVERY_LAYER),
        _ => text
            .parse()
            .ok()
            .filter(|layers| (least..EVERY_LAYER).contains(layers))
            .ok_or_else(|| format!("write a number of layers from {least} to 254, or all")),
    }
}

/// A kind of tunnel at a UDP port.
pub fn decap_port(text: &str) -> Result<(Kind, u16), String> {
    const KINDS: [Kind; 4] = [Kind::Vxlan, Kind::Geneve, Kind::Gre, Kind::L2tp];
    let mend = "write vxlan=PORT, geneve=PORT, gre=PORT or l2tp=PORT";
    let (kind, port) = text.split_once('=').ok_or(mend)?;
    let kind = KINDS.into_iter().find(|known| known.name() == kind).ok_or_else(|| match kind {
        "gretap" | "erspan" => format!("{kind} over UDP is GRE: write gre=PORT"),
        _ => mend.to_owned(),
    })?;
    let port = port.parse().ok().filter(|&port: &u16| port != 0);
    Ok((kind, port.ok_or("a UDP port is a number from 1 to 65535")?))
}

pub fn tunnel_target(text: &str) -> Result<Endpoint, String> {
    match Endpoint::target(text).map_err(|error| error.to_string())? {
        endpoint @ Endpoint::Tunnel(_) => Ok(endpoint),
        _ => Err("write a tunnel, such as `vxlan://HOST?vni=N`: nothing else has a far end".into()),
    }
}

/// Where another process is to send packets, as text: paths are those of this one's folder.
pub fn places_of_another(text: &str) -> Result<String, String> {
    let Group(members) = text.parse().map_err(|error: api::Error| error.to_string())?;
    let placed = text.split(',').zip(members).map(|(text, member)| match member {
        Endpoint::Pcap { path } if path == Path::new("-") => {
            Err("standard output is that of the process that runs; write pcap:FILE".into())
        }
        Endpoint::Pcap { path } => match std::path::absolute(&path) {
            Ok(path) => Ok(format!("pcap:{}", path.display())),
            Err(error) => Err(format!("{}: {error}", path.display())),
        },
        _ => Ok(text.to_owned()),
    });
    placed.collect::<Result<Vec<String>, String>>().map(|members| members.join(","))
}

/// A slice must leave the Ethernet header that the far end reads.
pub fn mirror_snapshot(text: &str) -> Result<u32, String> {
    let bytes = text.parse().map_err(|_| "write a number of bytes, 0 for all".to_owned())?;
    Ok(api::snapshot_length(bytes)?)
}

pub fn health_address(text: &str) -> Result<SocketAddr, String> {
    let address: Option<SocketAddr> = text.parse().ok();
    address.filter(|address| address.port() != 0).ok_or_else(|| {
        "write an address of this host and a port, such as 127.0.0.1:8080 or [::]:8080".into()
    })
}

/// A bound within which an archive is of use.
pub fn archive_bound(text: &str) -> Result<u64, api::Error> {
    match api::parse_size(text)? {
        bytes if bytes >= ARCHIVE_BYTES_MIN => Ok(bytes),
        _ => Err(api::Error::Unit {
            what: "size",
            text: text.into(),
            reason: "an archive needs 100kB at least".into(),
        }),
    }
}

/// How old something may become: as long as `times` reads it before `ago`.
pub fn age(text: &str) -> Result<Duration, String> {
    let since = times::parse_at(&format!("{text} ago"), u64::MAX);
    let since = since.map_err(|_| "write an age such as 90s, 15m, 36h, 30d or 8w".to_owned())?;
    Ok(Duration::from_nanos(u64::MAX - since))
}

/// The name of a TAP device.
pub fn tap_name(text: &str) -> Result<String, String> {
    match Endpoint::target(&format!("tap:{text}")) {
        Ok(Endpoint::Tap { name, .. }) if name == text => Ok(name),
        Ok(_) => Err("write the name of a device, and nothing else".into()),
        Err(error) => Err(error.to_string()),
    }
}

pub fn keep_alive(text: &str) -> Result<Duration, String> {
    api::parse_keep_alive(text).map_err(|wanted| format!("write {wanted}"))
}

pub fn ring_size(text: &str) -> Result<RingSize, api::Error> {
    match text {
        "auto" => Ok(RingSize::Auto),
        _ => kib(text).map(|bytes| RingSize::Bytes(bytes as usize)),
    }
}

/// tcpdump's `-B`: KiB, or a size with a unit.
pub fn kib(text: &str) -> Result<u64, api::Error> {
    match text.parse::<u64>() {
        Ok(_) => api::parse_buffer_size(&format!("{text}KiB")),
        Err(_) => api::parse_buffer_size(text),
    }
}
