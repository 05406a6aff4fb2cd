//! `tapline diag offload`: which offloads are on, what is done about each, and what fits the way to a
//! far end. Nothing is changed.

use super::known::{BIG_TCP_BYTES, Effect, KNOWN, longest};
use crate::cli::{DiagOffload, Format};
use crate::completions::print;
use crate::failure::Failure;
use crate::fit::{ETHERNET_LEN, Way};
use api::{Oversize, TunnelEndpoint};
use io::offloads::{Offloads, interface_name, interfaces};
use serde::Serialize;
use std::fmt::Write as _;

/// What is found at an interface.
#[derive(Serialize)]
struct InterfaceFinding {
    interface: String,
    mtu: u32,
    up: bool,
    /// Bytes of the largest super-packet that the kernel makes; null: it does not tell.
    super_packet_bytes_max: Option<u32>,
    offloads: Vec<OffloadFinding>,
}

#[derive(Serialize)]
struct OffloadFinding {
    name: &'static str,
    #[serde(skip)]
    title: &'static str,
    /// null: the interface does not know it.
    on: Option<bool>,
    /// What is done where it is on.
    effect: Effect,
    note: &'static str,
}

/// What is found on the way to a tunnel's far end.
#[derive(Serialize)]
struct TargetFinding {
    target: String,
    /// null: there is no route.
    route: Option<Route>,
    overhead_bytes: usize,
    #[serde(skip)]
    header_lens: [usize; 3],
    /// Bytes of the longest frame that arrives in one outer packet.
    frame_bytes_max: Option<usize>,
    /// What `--oversize auto` does with longer ones: `cut` or `fragment`.
    oversize_auto: &'static str,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Route {
    interface: String,
    source: String,
    mtu: usize,
    up: bool,
}

pub fn run(options: &DiagOffload) -> Result<(), Failure> {
    let named = !options.interface.is_empty();
    let names = if named { options.interface.clone() } else { interfaces() };
    let mut found = Vec::new();
    for name in &names {
        match Offloads::read(name) {
            Ok(offloads) => found.push(offloads),
            // One that was listed may be gone by now.
            Err(io::Error::NoInterface { .. }) if !named => {}
            Err(error) => return Err(error.into()),
        }
    }
    let targets = options.to.iter().filter_map(|endpoint| endpoint.tunnel());
    let targets = targets
        .map(|tunnel| TargetFinding::of(tunnel, &found, named))
        .collect::<Result<Vec<_>, Failure>>()?;
    let interfaces: Vec<InterfaceFinding> = found.iter().map(InterfaceFinding::of).collect();
    let text = match options.format {
        Format::Json => {
            let lines = interfaces.iter().map(serde_json::to_string);
            let lines = lines.chain(targets.iter().map(serde_json::to_string));
            let lines = lines.collect::<Result<Vec<String>, _>>();
            lines.map_err(|e| Failure::CouldNot(format!("write JSON: {e}")))?.join("\n") + "\n"
        }
        Format::Text => {
            let interfaces = interfaces.iter().map(InterfaceFinding::to_text);
            interfaces
                .chain(targets.iter().map(TargetFinding::to_text))
                .collect::<Vec<_>>()
                .join("\n")
        }
    };
    print(text.as_bytes())
}

impl InterfaceFinding {
    fn of(found: &Offloads) -> InterfaceFinding {
        let mut offloads: Vec<OffloadFinding> = KNOWN
            .iter()
            .map(|known| OffloadFinding {
                name: known.name,
                title: known.title,
                on: known.is_on(found),
                effect: known.effect,
                note: known.note,
            })
            .collect();
        let super_packet_bytes_max = longest(found);
        offloads.push(OffloadFinding {
            name: "big_tcp",
            title: "super-packets above 64 KiB (BIG TCP)",
            on: super_packet_bytes_max.map(|bytes| bytes > BIG_TCP_BYTES),
            effect: Effect::Cut,
            note: "cut, lengths of 0 filled in, jumbo headers taken out",
        });
        InterfaceFinding {
            interface: found.interface.clone(),
            mtu: found.mtu,
            up: found.is_up,
            super_packet_bytes_max,
            offloads,
        }
    }

    fn to_text(&self) -> String {
        let state = if self.up { "up" } else { "down" };
        let mut text = format!("{}: MTU {}, {state}", self.interface, self.mtu);
        if let Some(bytes) = self.super_packet_bytes_max {
            let _ = write!(text, ", super-packets of up to {bytes} bytes");
        }
        text += "\n";
        let width = self.offloads.iter().map(|offload| offload.title.len()).max().unwrap_or(0);
        for OffloadFinding { title, on, note, .. } in &self.offloads {
            let (state, note) = match on {
                Some(true) => ("on ", *note),
                Some(false) => ("off", ""),
                None => ("n/a", ""),
            };
            let _ = writeln!(text, "{}", format!("  {title:width$}  {state}  {note}").trim_end());
        }
        text
    }
}

impl TargetFinding {
    /// Looks at the way to a far end; what is said of interfaces that were not named is said only of
    /// those whose frames may go there.
    fn of(
        tunnel: &TunnelEndpoint,
        tapped: &[Offloads],
        named: bool,
    ) -> Result<TargetFinding, Failure> {
        let target = tunnel.to_string();
        let encap = tunnel
            .encap()
            .ok_or_else(|| Failure::Usage(format!("{target}: the tunnel id is missing")))?;
        let way = Way::of(tunnel, &encap, 0)?;
        let route = way.path.map(|path| Route {
            interface: interface_name(path.interface).unwrap_or_else(|| path.interface.to_string()),
            source: path.source.to_string(),
            mtu: path.mtu,
            up: path.is_up,
        });
        let mut warnings = Vec::new();
        match &route {
            None => warnings.push(format!("there is no route to {}", way.remote.ip())),
            Some(route) if !route.up => {
                warnings.push(format!("{} is down: what is sent is lost", route.interface));
            }
            Some(route) if way.frame_bytes_max().is_none() => {
                warnings.push(format!("an MTU of {} has no room for the headers", route.mtu));
            }
            Some(_) => {}
        }
        for of in tapped.iter().filter(|of| of.is_ethernet && (named || of.is_up)) {
            // A device of the tunnel's own way is seldom what is tapped.
            let is_way = route.as_ref().is_some_and(|route| route.interface == of.interface);
            if is_way && !named {
                continue;
            }
            let misfit = way.misfit(of.mtu as usize + ETHERNET_LEN);
            let auto = way.becomes(Oversize::Auto);
            warnings.extend(
                misfit.map(|why| format!("{}: {why}; --oversize auto: {auto}", of.interface)),
            );
        }
        Ok(TargetFinding {
            target,
            route,
            overhead_bytes: way.overhead(),
            header_lens: way.header_lens,
            frame_bytes_max: way.frame_bytes_max(),
            oversize_auto: way.becomes(Oversize::Auto),
            warnings,
        })
    }

    fn to_text(&self) -> String {
        let [ip, udp, tunnel] = self.header_lens;
        let mut text = format!("{}\n", self.target);
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "  {name:14}  {value}");
        };
        match &self.route {
            Some(Route { interface, source, mtu, up }) => {
                let state = if *up { "" } else { ", down" };
                line("route", format!("by {interface}{state}, from {source}"));
                line("path MTU", mtu.to_string());
            }
            None => line("route", "none".into()),
        }
        let udp = if udp > 0 { format!("UDP {udp}, ") } else { String::new() };
        line("headers", format!("{} (IP {ip}, {udp}tunnel {tunnel})", self.overhead_bytes));
        if let Some(bytes) = self.frame_bytes_max {
            line("longest frame", format!("{bytes} (Ethernet header and tags included)"));
        }
        line("longer ones", format!("--oversize auto: {}", self.oversize_auto));
        for warning in &self.warnings {
            line("warning", warning.clone());
        }
        text
    }
}
