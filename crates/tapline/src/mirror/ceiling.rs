//! The most that leaves by a tap: what its owner says, else its part of half of what the way to its
//! sinks carries. All taps of the process that leave by one link share that half.

use crate::fit::{ETHERNET_LEN, Way};
use crate::targets::devices;
use api::{Endpoint, Group, Rate, TapConfig, TrafficMode, TunnelEndpoint};
use kernel::mirror::layout::Leaving;
use std::collections::{BTreeMap, BTreeSet};

/// A ceiling, and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ceiling {
    /// None; why.
    None(&'static str),
    /// What the tap's owner says.
    Given(Rate),
    /// A part of half of a real interface that its tunnels leave by, of several the least.
    Half {
        /// The part.
        rate: Rate,
        /// How many taps share that half.
        taps: u64,
    },
}

/// The ceilings of taps that run together.
#[derive(Debug, Default)]
pub struct Ceilings(BTreeMap<String, (Ceiling, Leaving)>);

impl Ceilings {
    /// Those of all taps of a process, as their tunnels leave now.
    pub fn of(configs: &[TapConfig]) -> Ceilings {
        let ways: Vec<Ways> = configs.iter().map(Ways::of).collect();
        let mut speeds: BTreeMap<i32, Option<u64>> = BTreeMap::new();
        for &link in ways.iter().flat_map(|ways| &ways.links) {
            speeds.entry(link).or_insert_with(|| io::wire_speed(link));
        }
        let halves: Vec<&BTreeSet<i32>> = configs
            .iter()
            .zip(&ways)
            .filter(|(of, _)| is_half(of))
            .map(|(_, w)| &w.links)
            .collect();
        let of = |(config, ways): (&TapConfig, &Ways)| {
            let ceiling = match config.ceiling {
                Some(rate) => Ceiling::Given(rate),
                None if is_half(config) => ways.half(&speeds, &halves),
                None => Ceiling::None("traffic mode priority"),
            };
            (config.name.clone(), (ceiling, ways.leaving))
        };
        Ceilings(configs.iter().zip(&ways).map(of).collect())
    }

    /// A tap's.
    pub fn get(&self, config: &TapConfig) -> Ceiling {
        self.0.get(&config.name).map_or(Ceiling::None("it is not known"), |(ceiling, _)| *ceiling)
    }

    /// Its rate, if it has one, and what of its packets leaves.
    pub fn rate(&self, config: &TapConfig) -> Option<(Rate, Leaving)> {
        let (ceiling, leaving) = self.0.get(&config.name)?;
        match *ceiling {
            Ceiling::None(_) => None,
            Ceiling::Given(rate) | Ceiling::Half { rate, .. } => Some((rate, *leaving)),
        }
    }
}

fn is_half(config: &TapConfig) -> bool {
    config.ceiling.is_none() && config.traffic_mode == TrafficMode::Default
}

/// Where a tap's packets leave, and what of them.
struct Ways {
    /// The interfaces that its tunnels leave by.
    links: BTreeSet<i32>,
    leaving: Leaving,
}

impl Ways {
    fn of(config: &TapConfig) -> Ways {
        let dscp = config.sending.dscp;
        let way = |tunnel: &TunnelEndpoint| {
            let (way, _) = Way::look_up(tunnel, &tunnel.encap()?, dscp).ok()?;
            Some(way)
        };
        let mut links = BTreeSet::new();
        let (mut targets, mut headers) = (0, 0);
        for group in &config.to {
            let Group(endpoints) = group;
            let ways: Vec<Way> =
                endpoints.iter().filter_map(Endpoint::tunnel).filter_map(way).collect();
            links.extend(ways.iter().filter_map(|way| way.path).map(|path| path.interface));
            // One member of a group gets the packet; the one with the longest headers, for all that is known.
            let most = ways.iter().map(|way| ETHERNET_LEN + way.outer_bytes(ETHERNET_LEN)).max();
            let is_device = devices(std::slice::from_ref(group)).next().is_some();
            if most.is_some() || is_device {
                targets += 1;
                headers += most.map_or(0, |bytes| bytes - ETHERNET_LEN) as u32;
            }
        }
        let snaplen = config.snapshot_length;
        let leaving = match targets {
            0 => Leaving { snaplen, ..Leaving::AS_IT_IS },
            targets => Leaving { targets, headers: headers.div_ceil(targets), snaplen },
        };
        Ways { links, leaving }
    }

    /// The least of the parts that it has in the links whose speed is known.
    fn half(&self, speeds: &BTreeMap<i32, Option<u64>>, of_all: &[&BTreeSet<i32>]) -> Ceiling {
        let parts = self.links.iter().filter_map(|link| {
            let speed = speeds.get(link).copied().flatten()?;
            let taps = of_all.iter().filter(|links| links.contains(link)).count() as u64;
            Some((speed / 2 / taps.max(1), taps))
        });
        match parts.min().and_then(|(bits, taps)| Some((Rate::new(bits)?, taps))) {
            Some((rate, taps)) => Ceiling::Half { rate, taps },
            None => Ceiling::None("no speed is known of where the tunnels leave"),
        }
    }
}

impl std::fmt::Display for Ceiling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ceiling::None(why) => write!(f, "none ({why})"),
            Ceiling::Given(rate) => write!(f, "{rate}"),
            Ceiling::Half { rate, taps: 0 | 1 } => {
                write!(f, "{rate}, half of the link to the sinks")
            }
            Ceiling::Half { rate, taps } => {
                write!(
                    f,
                    "{rate}, its part of half of the link to the sinks, which {taps} taps share"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taps(text: &str) -> Vec<TapConfig> {
        let path = std::env::temp_dir().join(format!("ceilings-{}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let taps = api::read_mirror_file(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        taps
    }

    #[test]
    fn taps_of_one_link_share_its_half() {
        let speeds =
            BTreeMap::from([(1, Some(10_000_000_000)), (2, Some(1_000_000_000)), (3, None)]);
        let links: [BTreeSet<i32>; 4] = [[1].into(), [1, 2].into(), [1, 3].into(), [3].into()];
        let of_all: Vec<&BTreeSet<i32>> = links.iter().collect();
        let half = |links: &BTreeSet<i32>| {
            Ways { links: links.clone(), leaving: Leaving::AS_IT_IS }.half(&speeds, &of_all)
        };
        let part = |bits, taps| Ceiling::Half { rate: Rate::new(bits).unwrap(), taps };
        assert_eq!(half(&links[0]), part(1_666_666_666, 3));
        assert_eq!(half(&links[1]), part(500_000_000, 1), "the slower link");
        assert_eq!(half(&links[2]), part(1_666_666_666, 3));
        assert!(matches!(half(&links[3]), Ceiling::None(_)));
        assert_eq!(
            half(&links[0]).to_string(),
            "1666666666bit, its part of half of the link to the sinks, which 3 taps share"
        );
    }

    #[test]
    fn each_target_counts_with_its_headers() {
        let taps = taps(
            r#"
            [[tap]]
            name = "two"
            interface = "eth0"
            snapshot_length = 96
            to = ["vxlan://127.0.0.1?vni=1", "vxlan://127.0.0.1?vni=2,geneve://[::1]?vni=2&metadata=off"]
            ceiling = "5Mbit"
            [[tap]]
            name = "file"
            interface = "eth0"
            to = ["pcap:/tmp/nothing.pcapng"]
            "#,
        );
        let ceilings = Ceilings::of(&taps);
        // 14 + 20 + 8 + 8, and 14 + 40 + 8 + 8.
        let leaving = Leaving { targets: 2, headers: (50 + 70) / 2, snaplen: 96 };
        assert_eq!(ceilings.rate(&taps[0]), Some((Rate::new(5_000_000).unwrap(), leaving)));
        assert!(matches!(ceilings.get(&taps[1]), Ceiling::None(_)));
        assert_eq!(Ways::of(&taps[1]).leaving, Leaving::AS_IT_IS);
    }
}
