//! What a file of taps would do.

use super::{Findings, MistakeFinding, PartFinding, host, words};
use crate::failure::Failure;
use crate::loops;
use crate::mirror::Ceilings;
use crate::opened::compiles;
use crate::targets::members;
use api::{Datapath, FilterConfig, Group, TapConfig, TapSource};
use io::netns::Netns;

/// Looks at all taps.
///
/// # Errors
/// A target of one is taken by another, or by itself; an expression makes no sense.
pub fn check(taps: &[TapConfig]) -> Result<Findings, Failure> {
    loops::of_taps(taps)?;
    let mut findings = Findings { kind: "mirror", ..Findings::default() };
    let ceilings = Ceilings::of(taps);
    for tap in taps {
        let told = |reason| Failure::Usage(format!("tap {}: {reason}", tap.name));
        compiles(&tap.filter).map_err(told)?;
        for reason in self::tap(tap, &ceilings, &mut findings) {
            let message = format!("tap {}: {reason}", tap.name);
            findings.mistakes.push(MistakeFinding { line: None, column: None, message });
        }
        for Group(members) in &tap.to {
            let mut way = vec![format!("tap {}", tap.name)];
            if tap.filter != FilterConfig::All {
                way.push(words::filter(&tap.filter));
            }
            let members: Vec<String> = members.iter().map(ToString::to_string).collect();
            way.push(match members.len() {
                1 => members.concat(),
                _ => format!("one of {}", members.join(", ")),
            });
            findings.ways.push(way);
        }
    }
    Ok(findings)
}

/// What is to be known of the tapped interface, where it is.
fn tapped(
    tap: &TapConfig,
    name: &str,
    warnings: &mut Vec<String>,
) -> Result<(String, Option<usize>), String> {
    let Some(netns) = &tap.netns else { return host::tapped(name, warnings) };
    let netns = Netns::find(netns).map_err(|error| error.to_string())?;
    netns.run(|| host::tapped(name, warnings)).map_err(|error| error.to_string())?
}

/// Says what a tap is; returns what cannot be, and why.
fn tap(tap: &TapConfig, ceilings: &Ceilings, findings: &mut Findings) -> Vec<String> {
    let mut part = PartFinding::new("tap", &tap.name);
    let mut mistakes = Vec::new();
    let mut longest = None;
    match &tap.source {
        TapSource::Interface(name) => {
            let promiscuous = if tap.promiscuous { ", promiscuous" } else { "" };
            let netns =
                tap.netns.as_ref().map_or(String::new(), |netns| format!(" of netns {netns}"));
            let ring = words::ring(tap.buffer_size);
            part.set("from", format!("{name}{netns}{promiscuous}, ring {ring}"));
            if let Some(datapath) = tap.datapath {
                let name = Datapath::NAMES.iter().find(|(_, known)| *known == datapath);
                part.set("datapath", name.map_or("", |(name, _)| name));
            }
            match self::tapped(tap, name, &mut findings.warnings) {
                Ok((state, bytes)) => {
                    part.set("interface", state);
                    longest = bytes;
                }
                Err(reason) => mistakes.push(reason),
            }
            part.set("ceiling", ceilings.get(tap).to_string());
        }
        TapSource::File(path) => part.set("from", path.display().to_string()),
    }
    part.set("keeps", words::filter(&tap.filter));
    if tap.snapshot_length > 0 {
        part.set("cut", format!("the first {} bytes are kept", tap.snapshot_length));
        longest = longest.map(|bytes| bytes.min(tap.snapshot_length as usize));
    }
    let longest = longest.map(|bytes| (tap.name.as_str(), bytes));
    for member in members(&tap.to) {
        match host::target(member, tap.sending, longest, &mut findings.warnings) {
            Ok(state) => part.set("to", state),
            Err(reason) => {
                part.set("to", member.to_string());
                mistakes.push(reason);
            }
        }
    }
    if members(&tap.to).any(|member| member.tunnel().is_some()) {
        part.set("tunnels", words::sending(&tap.sending));
    }
    findings.parts.push(part);
    mistakes
}
