//! tshark as a judge of what is inside of tunnels.

use std::path::Path;
use std::process::Command;
use wire::LinkType;

/// A packet inside a tunnel, as tshark sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Offset in the frame of its first byte.
    pub at: usize,
    /// Offset of the byte behind its last one.
    pub end: usize,
    /// What its first byte is.
    pub link_type: LinkType,
}

/// What tshark sees in one frame.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layers {
    /// The packets in the tunnels, from the outermost on.
    pub layers: Vec<Layer>,
    /// A UDP length of 0: a super-packet of more than 64 kB, in which tshark looks no further.
    pub is_super: bool,
}

/// Has tshark look into the tunnels of a capture, with further options; one entry per frame.
///
/// # Panics
/// If tshark cannot be started or does not take the file.
pub fn tunnel_layers(path: &Path, options: &[&str]) -> Vec<Layers> {
    let mut command = Command::new("tshark");
    let output = command.arg("-n").arg("-r").arg(path).args(options).args(["-T", "pdml"]).output();
    let output = output.expect("tshark can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    text.split("<packet>").skip(1).map(of_packet).collect()
}

fn of_packet(packet: &str) -> Layers {
    let mut found = Layers::default();
    let (mut in_tunnel, mut at, mut end) = (false, 0, 0);
    for line in packet.lines().map(str::trim) {
        let value = |name| attribute(line, name);
        let number = |name| value(name).and_then(|n| n.parse::<usize>().ok()).unwrap_or(0);
        let name = value("name").unwrap_or_default();
        match (line.starts_with("<proto "), name) {
            (true, "frame") => end = number("size"),
            (true, "icmp" | "icmpv6") => break, // what it quotes was not on this wire
            (true, "vxlan" | "geneve" | "gre" | "erspan" | "l2tp") => in_tunnel = true,
            (true, "eth" | "ip" | "ipv6") => {
                at = number("pos");
                if in_tunnel {
                    let link_type = if name == "eth" { LinkType::ETHERNET } else { LinkType::RAW };
                    found.layers.push(Layer { at, end, link_type });
                }
                in_tunnel = false;
            }
            (false, "udp.length") if number("show") == 0 => found.is_super = true,
            (false, "ip.len") => end = end.min(at + number("show")),
            (false, "ipv6.plen") => end = end.min(at + 40 + number("show")),
            _ => {}
        }
    }
    found
}

fn attribute<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!(" {name}=\""))?;
    rest.split('"').next()
}
