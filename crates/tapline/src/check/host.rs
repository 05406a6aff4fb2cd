//! What this host says of interfaces, files and ways.

use crate::fit::{ETHERNET_LEN, Way};
use api::{Endpoint, Sending};
use io::offloads::Offloads;
use io::ring::ANY;

/// An interface that is there.
pub struct Nic {
    pub mtu: u32,
    pub is_up: bool,
    pub is_ethernet: bool,
}

impl Nic {
    /// Looks at an interface; the error says which there are.
    pub fn read(name: &str) -> Result<Nic, String> {
        let of = Offloads::read(name).map_err(|error| error.to_string())?;
        Ok(Nic { mtu: of.mtu, is_up: of.is_up, is_ethernet: of.is_ethernet })
    }

    /// What is to be known of it.
    pub fn state(&self) -> String {
        let state = if self.is_up { "up" } else { "down" };
        format!("{state}, MTU {}", self.mtu)
    }

    /// Bytes of its longest frame, without VLAN tags.
    pub fn frame_bytes(&self) -> usize {
        self.mtu as usize + ETHERNET_LEN
    }
}

/// An interface that packets are taken from: what is to be known of it, and its longest frame.
pub fn tapped(name: &str, warnings: &mut Vec<String>) -> Result<(String, Option<usize>), String> {
    if name == ANY {
        return Ok(("all interfaces, none of them promiscuous".into(), None));
    }
    let nic = Nic::read(name)?;
    if !nic.is_up {
        warnings.push(format!("{name} is down: no packets come until it is up"));
    }
    Ok((nic.state(), nic.is_ethernet.then(|| nic.frame_bytes())))
}

/// An endpoint that packets are sent to: what is to be known of it. `frame_bytes` is the longest frame
/// that may come, and from where.
pub fn target(
    endpoint: &Endpoint,
    sending: Sending,
    frame_bytes: Option<(&str, usize)>,
    warnings: &mut Vec<String>,
) -> Result<String, String> {
    match endpoint {
        Endpoint::Nic { interface, .. } => {
            let nic = Nic::read(interface)?;
            if !nic.is_ethernet {
                return Err(format!(
                    "{interface} takes no Ethernet frames; send through another one"
                ));
            }
            if !nic.is_up {
                warnings.push(format!(
                    "{interface} is down: packets for it are dropped (unreachable) until it is up"
                ));
            }
            if let Some((source, bytes)) = frame_bytes
                && bytes > nic.frame_bytes()
            {
                warnings.push(format!(
                    "{source} to {endpoint}: frames of up to {bytes} bytes, of which {interface} takes \
                     {}; longer ones are dropped (oversize); raise its MTU",
                    nic.frame_bytes()
                ));
            }
            Ok(format!("{endpoint} ({})", nic.state()))
        }
        Endpoint::Tap { name, .. } => Ok(match Nic::read(name) {
            Ok(nic) => format!("{endpoint} ({})", nic.state()),
            Err(_) => format!("{endpoint} (will be made)"),
        }),
        Endpoint::Tunnel(tunnel) => {
            let Some(encap) = tunnel.encap() else {
                return Err(format!("{tunnel}: the tunnel id is missing"));
            };
            let way = Way::of(tunnel, &encap, sending.dscp).map_err(|error| error.to_string())?;
            let Some(path) = way.path else {
                warnings.push(format!("{tunnel}: there is no route to it now"));
                return Ok(format!("{endpoint} (no route)"));
            };
            if let Some((source, bytes)) = frame_bytes
                && let Some(why) = way.misfit(bytes)
            {
                let becomes = way.becomes(sending.oversize);
                warnings.push(format!("{source} to {tunnel}: {why}; oversize: {becomes}"));
            }
            let takes = way.frame_bytes_max().unwrap_or(0);
            Ok(format!("{endpoint} (path MTU {}, takes frames of {takes} bytes)", path.mtu))
        }
        Endpoint::Pcap { path } => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            match folder.filter(|folder| !folder.is_dir()) {
                Some(folder) => {
                    let folder = folder.display();
                    Err(format!("{endpoint}: there is no folder {folder}; make it first"))
                }
                None if path.is_file() => Ok(format!("{endpoint} (there; will be replaced)")),
                None => Ok(endpoint.to_string()),
            }
        }
        Endpoint::Null => Ok(format!("{endpoint} (counted and forgotten)")),
    }
}
