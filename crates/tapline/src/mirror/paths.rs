//! What of the paths of a tap's tunnels matters beforehand: frames that do not fit, routers, and veths.

use super::place::inside;
use crate::fit::{ETHERNET_LEN, Way};
use crate::targets::members;
use api::{Endpoint, TapConfig, TapSource, TunnelEndpoint};
use io::host::device_kind;
use io::netns::Netns;
use io::offloads::{Offloads, interface_name};

/// A tunnel that does not take the longest frames of a tap's interface.
struct LongFrames<'a> {
    tunnel: &'a TunnelEndpoint,
    why: String,
    /// What becomes of them.
    becomes: &'static str,
}

impl LongFrames<'_> {
    /// Whether user space sends them, in fragments.
    fn are_fragmented(&self) -> bool {
        self.becomes == "fragment"
    }
}

/// A tunnel of a tap, its way, and why that is not known.
type TunnelWay<'a> = (&'a TunnelEndpoint, Way, Option<io::Error>);

/// The tunnels of a tap.
fn ways(config: &TapConfig) -> Vec<TunnelWay<'_>> {
    let tunnels = members(&config.to).filter_map(Endpoint::tunnel);
    let way =
        |tunnel: &TunnelEndpoint| Way::look_up(tunnel, &tunnel.encap()?, config.sending.dscp).ok();
    tunnels.filter_map(|tunnel| way(tunnel).map(|(way, trouble)| (tunnel, way, trouble))).collect()
}

/// Those that do not take the longest frames of the tap's interface, as far as their ways are known.
fn long_frames<'a>(
    config: &TapConfig,
    netns: Option<&Netns>,
    ways: &[TunnelWay<'a>],
) -> Vec<LongFrames<'a>> {
    let TapSource::Interface(name) = &config.source else { return Vec::new() };
    let Ok(Ok(of)) = inside(netns, || Offloads::read(name)) else { return Vec::new() };
    if !of.is_ethernet {
        return Vec::new();
    }
    let longest = of.mtu as usize + ETHERNET_LEN;
    let frame_bytes = match config.snapshot_length as usize {
        0 => longest,
        kept => longest.min(kept),
    };
    let misfit = |(tunnel, way, _): &TunnelWay<'a>| {
        let why = way.misfit(frame_bytes)?;
        Some(LongFrames { tunnel, why, becomes: way.becomes(config.sending.oversize) })
    };
    ways.iter().filter_map(misfit).collect()
}

/// Warns of them, and of ways that are not known; returns whether any are sent in fragments.
pub fn warn_of_long_frames(config: &TapConfig, netns: Option<&Netns>) -> bool {
    let TapSource::Interface(name) = &config.source else { return false };
    let ways = ways(config);
    for trouble in ways.iter().filter_map(|(_, _, trouble)| trouble.as_ref()) {
        tracing::warn!("{trouble}");
    }
    let found = long_frames(config, netns, &ways);
    for LongFrames { tunnel, why, becomes } in &found {
        tracing::warn!("{name} to {tunnel}: {why}; --oversize: {becomes}");
    }
    found.iter().any(LongFrames::are_fragmented)
}

/// Why packets would not arrive as truly from the kernel as from a ring, if so.
pub fn less_true(config: &TapConfig, netns: Option<&Netns>) -> Option<String> {
    let ways = ways(config);
    for (tunnel, way, _) in &ways {
        let Some(path) = way.path else { continue };
        if path.is_routed {
            return Some(format!(
                "a router is on the way to {tunnel}, and what it says of its links' MTU is heard by \
                 user space only"
            ));
        }
        let name = interface_name(path.interface).unwrap_or_default();
        if device_kind(&name).as_deref() == Some("veth") {
            return Some(format!(
                "the way to {tunnel} is a veth ({name}), which queues what each CPU sends by itself: a \
                 packet of one CPU would arrive before an earlier one of another"
            ));
        }
    }
    let long = long_frames(config, netns, &ways);
    let long = long.iter().find(|long| long.are_fragmented())?;
    Some(format!(
        "what does not fit the path to {} is sent in fragments by user space, behind packets that came \
         later (--oversize cut or drop has none)",
        long.tunnel
    ))
}
