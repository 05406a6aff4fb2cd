//! `--explain`: what would run where, and why, without starting it.

use super::ceiling::Ceilings;
use super::live::Places;
use super::place::netns_of;
use super::plan::{self, Wanted};
use super::workers_of;
use crate::check::words;
use crate::failure::Failure;
use crate::fit::Way;
use api::{Datapath, Endpoint, FilterConfig, Group, TapConfig, TapSource};
use io::mirror::{AttachBy, KernelMirror, MirrorOptions};
use pipeline::Late;
use std::fmt::Write;

/// Prints what would run where.
pub fn explain(configs: &[TapConfig], places: Places) -> Result<(), Failure> {
    let ceilings = Ceilings::of(configs);
    let mut kernel = Kernel::default();
    let mut text = String::new();
    for config in configs {
        tap(config, places, &ceilings, &mut kernel, &mut text).map_err(
            |failure| match configs {
                [_] => failure,
                _ => failure.of(&format!("tap {}", config.name)),
            },
        )?;
    }
    print!("{text}");
    Ok(())
}

/// What this kernel can do, asked once.
#[derive(Default)]
struct Kernel(Option<Result<AttachBy, String>>);

impl Kernel {
    fn attach_by(&mut self) -> Result<AttachBy, String> {
        let ask = || match KernelMirror::open(MirrorOptions::default()) {
            Ok(mirror) => Ok(mirror.attach_by()),
            Err(error) => Err(error.to_string()),
        };
        self.0.get_or_insert_with(ask).clone()
    }
}

fn tap(
    config: &TapConfig,
    places: Places,
    ceilings: &Ceilings,
    kernel: &mut Kernel,
    text: &mut String,
) -> Result<(), Failure> {
    let netns = netns_of(config)?;
    let asked = plan::asked(config, places.datapath);
    let choice = match asked {
        Datapath::Ring => Err(vec!["--datapath ring".to_owned()]),
        _ => match plan::in_kernel(config, netns.as_deref(), places.filter, asked)? {
            Ok(wanted) => match kernel.attach_by() {
                Ok(by) => Ok((wanted, by)),
                Err(why) => Err(vec![why]),
            },
            Err(why) => Err(why),
        },
    };
    let from = match &config.source {
        TapSource::Interface(name) => name.clone(),
        TapSource::File(path) => path.display().to_string(),
    };
    let inside = config.netns.as_ref().map_or(String::new(), |netns| format!(" of netns {netns}"));
    let keeps = words::filter(&config.filter);
    match choice {
        Ok((wanted, by)) => {
            line(text, format_args!("tap {}: in the kernel", config.name));
            in_kernel(config, &from, &inside, &keeps, &wanted, by, text);
        }
        Err(why) if asked == Datapath::Kernel => {
            line(text, format_args!("tap {}: nowhere, as only the kernel may", config.name));
            for why in &why {
                line(text, format_args!("  the kernel cannot: {why}"));
            }
            return Ok(());
        }
        Err(why) => {
            let is_file = matches!(config.source, TapSource::File(_));
            let what = if is_file { "read by this process" } else { "by a ring of this process" };
            line(text, format_args!("tap {}: {what}", config.name));
            for why in &why {
                line(text, format_args!("  not in the kernel: {why}"));
            }
            let workers = match workers_of(config) {
                1 => "1 worker".to_owned(),
                workers => format!("{workers} workers"),
            };
            line(text, format_args!("  from {from}{inside}: {workers}; keeps {keeps}"));
        }
    }
    for group in &config.to {
        target(config, group, text);
    }
    line(text, format_args!("  ceiling: {}", ceilings.get(config)));
    Ok(())
}

fn in_kernel(
    config: &TapConfig,
    from: &str,
    inside: &str,
    keeps: &str,
    wanted: &Wanted,
    by: AttachBy,
    text: &mut String,
) {
    let by = match by {
        AttachBy::Clsact => "clsact, as the kernel has no tcx",
        AttachBy::Auto | AttachBy::Tcx => "tcx",
    };
    line(
        text,
        format_args!(
            "  from {from}{inside}: a program each on ingress and egress ({by}); keeps {keeps}"
        ),
    );
    let late = match wanted.filter.late {
        Late::None => "every packet is judged at the interface",
        Late::SuperPackets => {
            "super-packets are judged once they have been cut, by private interfaces"
        }
        Late::All => {
            "packets are judged once they are cut and complete, by private interfaces: the filter reads \
             what the NIC completes"
        }
    };
    line(text, format_args!("  filter: {late}"));
    if let FilterConfig::Rules(rules) = &config.filter {
        line(text, format_args!("  rules: {}, each with a counter", rules.as_slice().len()));
    }
    if config.snapshot_length > 0 {
        line(text, format_args!("  slice: {} bytes", config.snapshot_length));
    }
}

fn target(config: &TapConfig, Group(members): &Group, text: &mut String) {
    if members.len() > 1 {
        line(text, format_args!("  one of {} endpoints, by flow:", members.len()));
    }
    for member in members {
        line(text, format_args!("  to {member}: {}", way(config, member)));
    }
}

/// How packets get to an endpoint, and what becomes of large ones.
fn way(config: &TapConfig, member: &Endpoint) -> String {
    let Some(tunnel) = member.tunnel() else { return "by this process".into() };
    let Some(encap) = tunnel.encap() else { return "the tunnel id is missing".into() };
    let way = match Way::of(tunnel, &encap, config.sending.dscp) {
        Ok(way) => way,
        Err(error) => return error.to_string(),
    };
    let becomes = match way.becomes(config.sending.oversize) {
        "fragment" => "sent in fragments by this process (hand-up)",
        "cut" => "cut",
        _ => "dropped (oversize)",
    };
    match way.path {
        None => "there is no route now; packets count as unreachable".into(),
        Some(path) => {
            let frame = match path.frame {
                Some(_) => "",
                None => "; the next hop is not known yet, or no Ethernet neighbour",
            };
            let takes = way.frame_bytes_max().unwrap_or(0);
            format!(
                "path MTU {}, frames of up to {takes} bytes; longer ones are {becomes}{frame}",
                path.mtu
            )
        }
    }
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    // A string takes all that is written.
    let _ = writeln!(text, "{what}");
}
