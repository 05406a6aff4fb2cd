//! The most that a tap mirrors: what its owner says, else half of what the way to its sinks carries.

use crate::targets::members;
use api::{Endpoint, Rate, TapConfig, TrafficMode};
use io::Now;
use io::underlay::Underlay;

/// A ceiling, and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ceiling {
    /// None; why.
    None(&'static str),
    /// What the tap's owner says.
    Given(Rate),
    /// Half of the slowest real interface that its tunnels leave by.
    Half(Rate),
}

impl Ceiling {
    /// A tap's ceiling, as its tunnels leave now.
    pub fn of(config: &TapConfig) -> Ceiling {
        match (config.ceiling, config.traffic_mode) {
            (Some(rate), _) => Ceiling::Given(rate),
            (None, TrafficMode::Priority) => Ceiling::None("traffic mode priority"),
            (None, TrafficMode::Default) => {
                let speeds = members(&config.to).filter_map(|member| speed(config, member));
                match speeds.min().and_then(|bits| Rate::new(bits / 2)) {
                    Some(rate) => Ceiling::Half(rate),
                    None => Ceiling::None("no speed is known of where the tunnels leave"),
                }
            }
        }
    }

    /// The rate, if there is one.
    pub fn rate(self) -> Option<Rate> {
        match self {
            Ceiling::None(_) => None,
            Ceiling::Given(rate) | Ceiling::Half(rate) => Some(rate),
        }
    }
}

impl std::fmt::Display for Ceiling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ceiling::None(why) => write!(f, "none ({why})"),
            Ceiling::Given(rate) => write!(f, "{rate}"),
            Ceiling::Half(rate) => write!(f, "{rate}, half of the link to the sinks"),
        }
    }
}

/// Bits per second of the interface that a tunnel leaves by.
fn speed(config: &TapConfig, member: &Endpoint) -> Option<u64> {
    let tunnel = member.tunnel()?;
    let remote = tunnel.resolve().ok()?;
    let way = Underlay::open(remote, tunnel.source, config.sending.dscp, Now::read()).ok()?;
    io::wire_speed(way.path()?.interface)
}
