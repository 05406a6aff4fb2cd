//! The offloads of an interface, as they are set: what makes its frames differ from the wire's.
//!
//! Source: Linux `include/uapi/linux/ethtool.h` (`ETHTOOL_GFEATURES`), names as `ethtool -k` and the
//! kernel have them in `net/ethtool/common.c`; `include/uapi/linux/if_link.h` for the sizes of
//! super-packets. Only read, never changed.

use crate::error::Error;
use crate::link::{IFINFOMSG_LEN, Links, find, names};
use crate::netlink::{attributes, word};

/// `IFLA_…` of `linux/if_link.h`.
const GSO_MAX_SIZE: u16 = 41;
const GRO_MAX_SIZE: u16 = 58;
const GSO_IPV4_MAX_SIZE: u16 = 63;
const GRO_IPV4_MAX_SIZE: u16 = 64;

/// What an interface offloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offloads {
    /// The interface's name.
    pub interface: String,
    /// Bytes of its largest IP packet.
    pub mtu: u32,
    /// Whether it is up.
    pub is_up: bool,
    /// Whether its frames begin with an Ethernet header.
    pub is_ethernet: bool,
    /// Each feature by the kernel's name, and whether it is on; empty if the interface tells none.
    pub features: Vec<(String, bool)>,
    /// The largest super-packets that it sends.
    pub sent: Sizes,
    /// The largest super-packets that received packets are joined to.
    pub joined: Sizes,
}

/// Bytes of the largest super-packet; `None` where the kernel does not tell (before 5.19, for IPv4
/// before 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// Of IPv6 and, in kernels that do not tell them apart, of IPv4.
    pub v6: Option<u32>,
    /// Of IPv4.
    pub v4: Option<u32>,
}

impl Offloads {
    /// Reads an interface's offloads.
    ///
    /// # Errors
    /// [`Error::NoInterface`], which names those that are there; [`Error::System`] if the kernel does
    /// not answer.
    pub fn read(interface: &str) -> Result<Offloads, Error> {
        let failed = |e| Error::system(format!("interface `{interface}`: look it up"), e);
        let mut links = Links::open().map_err(failed)?;
        let link = find(interface, &mut links)?;
        let body = links.describe(link.index).map_err(failed)?;
        let flags = word(&body, 8).unwrap_or(0);
        let (mut mtu, mut sent, mut joined) = (0, Sizes::default(), Sizes::default());
        for (kind, value) in attributes(body.get(IFINFOMSG_LEN..).unwrap_or_default()) {
            let number = word(value, 0);
            match kind {
                libc::IFLA_MTU => mtu = number.unwrap_or(0),
                GSO_MAX_SIZE => sent.v6 = number,
                GRO_MAX_SIZE => joined.v6 = number,
                GSO_IPV4_MAX_SIZE => sent.v4 = number,
                GRO_IPV4_MAX_SIZE => joined.v4 = number,
                _ => {}
            }
        }
        // Some kinds of interface have no features to tell of.
        let features = links.features(interface).unwrap_or_default();
        Ok(Offloads {
            interface: interface.into(),
            mtu,
            is_up: flags & libc::IFF_UP as u32 != 0,
            is_ethernet: link.hardware == libc::ARPHRD_ETHER,
            features,
            sent,
            joined,
        })
    }

    /// Whether a feature is on; `None` if the interface or the kernel does not know it.
    pub fn is_on(&self, feature: &str) -> Option<bool> {
        self.features.iter().find(|(name, _)| name == feature).map(|&(_, on)| on)
    }
}

/// The names of the interfaces of the calling thread's network namespace.
pub fn interfaces() -> Vec<String> {
    names()
}

/// The name of an interface by its index, if it is there.
pub fn interface_name(index: i32) -> Option<String> {
    Links::open().ok()?.name(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// What ethtool says of the same interface.
    fn of_ethtool(netns: &crate::netns::Netns, interface: &str) -> BTreeMap<String, bool> {
        let output = netns.command("ethtool").args(["-k", interface]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().filter_map(|line| line.trim().split_once(": "));
        lines.map(|(name, state)| (name.into(), state.starts_with("on"))).collect()
    }

    #[test]
    fn features_are_those_that_ethtool_says() {
        if !rig::root_or_skip() || !rig::tool_or_skip("ethtool") {
            return;
        }
        let netns = crate::netns::Netns::new().unwrap();
        netns.ip("link add left mtu 1400 type veth peer name right").unwrap();
        netns.ip("link set left up gso_max_size 20000").unwrap();
        let read = || netns.run(|| Offloads::read("left")).unwrap().unwrap();
        let before = read();
        assert_eq!((before.mtu, before.is_up, before.is_ethernet), (1400, true, true));
        assert_eq!(before.sent.v6, Some(20_000));
        assert_eq!(before.is_on("tx-tcp-segmentation"), Some(true));
        assert_eq!(before.is_on("nobody-s-feature"), None);
        assert!(before.features.len() > 40, "{:?}", before.features);
        let words = ["-K", "left", "tso", "off", "gro", "on"];
        assert!(netns.command("ethtool").args(words).output().unwrap().status.success());
        let after = read();
        assert_eq!(after.is_on("tx-tcp-segmentation"), Some(false));
        assert_eq!(after.is_on("rx-gro"), Some(true));
        let judge = of_ethtool(&netns, "left");
        let known = after.features.iter().filter(|(name, _)| judge.contains_key(name));
        let mut compared = 0;
        for (name, on) in known {
            assert_eq!(judge[name], *on, "{name}");
            compared += 1;
        }
        assert!(compared > 30, "{compared} features compared");
    }

    #[test]
    fn loopback_has_some_and_what_is_not_there_is_an_error() {
        let lo = Offloads::read("lo").unwrap();
        assert!(!lo.is_ethernet && lo.mtu >= 1500, "{lo:?}");
        assert!(interfaces().contains(&"lo".into()));
        assert_eq!(interface_name(1).as_deref(), Some("lo"));
        let error = Offloads::read("no-such-link").unwrap_err().to_string();
        assert!(error.contains("lo"), "{error}");
    }
}
