//! What of the paths of a tap's tunnels matters beforehand: frames that do not fit, and routers.

use super::place::inside;
use crate::fit::{ETHERNET_LEN, Way};
use crate::targets::members;
use api::{Endpoint, TapConfig, TapSource, TunnelEndpoint};
use io::host::device_kind;
use io::netns::Netns;
use io::offloads::{Offloads, interface_name};

/// A tunnel that does not take the longest frames of a tap's interface.
pub struct LongFrames<'a> {
    pub tunnel: &'a TunnelEndpoint,
    why: String,
    /// What becomes of them.
    becomes: &'static str,
}

impl LongFrames<'_> {
    /// Whether user space sends them, in fragments.
    pub fn are_fragmented(&self) -> bool {
        self.becomes == "fragment"
    }
}

/// The tunnels of a tap that do not take the longest frames of its interface, as far as their ways are known.
pub fn long_frames<'a>(config: &'a TapConfig, netns: Option<&Netns>) -> Vec<LongFrames<'a>> {
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
    let mut found = Vec::new();
    for tunnel in members(&config.to).filter_map(Endpoint::tunnel) {
        let of = |encap| Way::of(tunnel, &encap, config.sending.dscp).ok();
        let Some(way) = tunnel.encap().and_then(of) else { continue };
        if let Some(why) = way.misfit(frame_bytes) {
            let becomes = way.becomes(config.sending.oversize);
            found.push(LongFrames { tunnel, why, becomes });
        }
    }
    found
}

/// Warns of them; returns whether any are sent in fragments.
pub fn warn_of_long_frames(config: &TapConfig, netns: Option<&Netns>) -> bool {
    let TapSource::Interface(name) = &config.source else { return false };
    let found = long_frames(config, netns);
    for LongFrames { tunnel, why, becomes } in &found {
        tracing::warn!("{name} to {tunnel}: {why}; --oversize: {becomes}");
    }
    found.iter().any(LongFrames::are_fragmented)
}

/// Why packets would not arrive as truly from the kernel as from a ring, if so.
pub fn less_true(config: &TapConfig, netns: Option<&Netns>) -> Option<String> {
    for tunnel in members(&config.to).filter_map(Endpoint::tunnel) {
        let of = |encap| Way::of(tunnel, &encap, config.sending.dscp).ok();
        let Some(path) = tunnel.encap().and_then(of).and_then(|way| way.path) else { continue };
        if path.is_routed {
            return Some(format!(
                "a router is on the way to {tunnel}, and what it says of its links' MTU is heard by \
                 user space only"
            ));
        }
        let name = interface_name(path.interface)?;
        if device_kind(&name).as_deref() == Some("veth") {
            return Some(format!(
                "the way to {tunnel} is a veth ({name}), which queues what each CPU sends by itself: a \
                 packet of one CPU would arrive before an earlier one of another"
            ));
        }
    }
    let long = long_frames(config, netns);
    let long = long.iter().find(|long| long.are_fragmented())?;
    Some(format!(
        "what does not fit the path to {} is sent in fragments by user space, behind packets that came \
         later (--oversize cut or drop has none)",
        long.tunnel
    ))
}
