//! Pairs of virtual Ethernet devices (veth) whose far end stands in another network namespace.
//!
//! Source: veth(4), rtnetlink(7); Linux `include/uapi/linux/if_link.h`, `veth.h`.
//!
//! ```text
//! RTM_NEWLINK  ifinfomsg (16 B) | IFLA_IFNAME, IFLA_MTU
//!                               | IFLA_LINKINFO { IFLA_INFO_KIND "veth", IFLA_INFO_DATA {
//!                                   VETH_INFO_PEER { ifinfomsg | IFLA_IFNAME, IFLA_MTU, IFLA_NET_NS_FD } } }
//! ```
//!
//! The devices are for frames alone: no ARP, no address, and nothing of IPv6. They stay down, so that
//! nothing passes before all is set.

use super::{IFINFOMSG_LEN, Links};
use crate::netlink::{Question, attribute, attributes, word};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

pub(super) const IFLA_LINK: u16 = 5;
pub(super) const IFLA_LINKINFO: u16 = 18;
const IFLA_AF_SPEC: u16 = 26;
pub(super) const IFLA_NET_NS_FD: u16 = 28;
pub(super) const IFLA_INFO_KIND: u16 = 1;
pub(super) const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
/// `IN6_ADDR_GEN_MODE_NONE`.
const NO_ADDRESS: u8 = 1;
pub(super) const NESTED: u16 = libc::NLA_F_NESTED as u16;

/// A pair to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewPair<'a> {
    /// The near end's name; `%d` becomes the first number that is free.
    pub name: &'a str,
    /// The far end's name.
    pub peer: &'a str,
    /// Where the far end stands.
    pub peer_netns: BorrowedFd<'a>,
    /// The MTU of both, bytes.
    pub mtu: u32,
}

impl Links {
    /// Makes a pair, both ends down.
    pub fn add_pair(&mut self, pair: &NewPair<'_>) -> io::Result<()> {
        let name = |name: &str| attribute(libc::IFLA_IFNAME, &[name.as_bytes(), &[0]].concat());
        let mtu = attribute(libc::IFLA_MTU, &pair.mtu.to_ne_bytes());
        let netns = attribute(IFLA_NET_NS_FD, &pair.peer_netns.as_raw_fd().to_ne_bytes());
        let peer = [&no_arp()[..], &name(pair.peer), &mtu, &netns].concat();
        let data = attribute(NESTED | VETH_INFO_PEER, &peer);
        let info = [attribute(IFLA_INFO_KIND, b"veth"), attribute(NESTED | IFLA_INFO_DATA, &data)]
            .concat();
        let question = Question::new(libc::RTM_NEWLINK, &no_arp())
            .with(libc::IFLA_IFNAME, &[pair.name.as_bytes(), &[0]].concat())
            .with(libc::IFLA_MTU, &pair.mtu.to_ne_bytes())
            .with(NESTED | IFLA_LINKINFO, &info);
        self.netlink.change(question, libc::NLM_F_CREATE | libc::NLM_F_EXCL)
    }

    /// The index of the other end of a pair, in that end's network namespace.
    pub fn peer(&mut self, index: i32) -> io::Result<i32> {
        let body = self.describe(index)?;
        let mut attributes = attributes(body.get(IFINFOMSG_LEN..).unwrap_or_default());
        let link = attributes.find(|(kind, _)| *kind == IFLA_LINK);
        let peer = link.and_then(|(_, value)| word(value, 0));
        peer.map(u32::cast_signed).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    }

    /// Has IPv6 give an interface no address of its own accord. No error where there is no IPv6.
    pub fn leave_without_ipv6(&mut self, index: i32) -> io::Result<()> {
        let mode = attribute(IFLA_INET6_ADDR_GEN_MODE, &[NO_ADDRESS]);
        let family = attribute(NESTED | libc::AF_INET6 as u16, &mode);
        let question = Question::new(libc::RTM_SETLINK, &about(index, 0, 0));
        match self.netlink.change(question.with(NESTED | IFLA_AF_SPEC, &family), 0) {
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => Ok(()),
            result => result,
        }
    }

    /// Switches off all that would leave frames to be cut or completed by an interface. Chains of
    /// buffers stay: without them a joined packet would be copied before it is cut.
    pub fn switch_offloads_off(&mut self, index: i32) -> io::Result<()> {
        let name = self.name(index).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
        let is_offload = |feature: &str| {
            feature.ends_with("-segmentation")
                || feature.starts_with("tx-checksum-")
                || matches!(
                    feature,
                    "tx-scatter-gather" | "tx-gso-list" | "tx-gso-partial" | "tx-gso-robust"
                )
        };
        super::sys::switch_off(self.as_fd(), &name, is_offload)?;
        match self.features(&name)?.into_iter().find(|(name, is_on)| is_offload(name) && *is_on) {
            // What they cannot switch is no obstacle: a frame is cut and completed for the rest.
            Some((feature, _)) if feature != "tx-gso-robust" => {
                Err(io::Error::other(format!("{name}: `{feature}` cannot be switched off")))
            }
            _ => Ok(()),
        }
    }

    /// Brings an interface up.
    pub fn set_up(&mut self, index: i32) -> io::Result<()> {
        let up = libc::IFF_UP as u32;
        self.netlink.change(Question::new(libc::RTM_NEWLINK, &about(index, up, up)), 0)
    }

    /// Removes an interface, and with it the other end of a pair.
    pub fn remove(&mut self, index: i32) -> io::Result<()> {
        self.netlink.change(Question::new(libc::RTM_DELLINK, &about(index, 0, 0)), 0)
    }
}

/// `ifinfomsg` of a device that is to be made.
pub(super) fn no_arp() -> [u8; IFINFOMSG_LEN] {
    let flag = libc::IFF_NOARP as u32;
    about(0, flag, flag)
}

/// `ifinfomsg`: the index, flags, and which of them are to be changed.
pub(super) fn about(index: i32, flags: u32, change: u32) -> [u8; IFINFOMSG_LEN] {
    let mut body = [0; IFINFOMSG_LEN];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body[8..12].copy_from_slice(&flags.to_ne_bytes());
    body[12..].copy_from_slice(&change.to_ne_bytes());
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::Netns;

    #[test]
    fn a_pair_is_made_without_another_program_and_has_no_offloads() {
        if !rig::root_or_skip() {
            return;
        }
        let (near, far) = (Netns::new().unwrap(), Netns::empty().unwrap());
        let mut links = near.run(|| Links::open().unwrap()).unwrap();
        let mut there = far.run(|| Links::open().unwrap()).unwrap();
        let new = NewPair { name: "pair%d", peer: "far", peer_netns: far.as_fd(), mtu: 65_535 };
        links.add_pair(&new).unwrap();
        let peer = there.find("far").unwrap().index;
        let index = there.peer(peer).unwrap();
        assert_eq!(links.name(index).as_deref(), Some("pair0"));
        assert_eq!(links.peer(index).unwrap(), peer);
        links.leave_without_ipv6(index).unwrap();
        links.switch_offloads_off(index).unwrap();
        links.set_up(index).unwrap();
        there.set_up(peer).unwrap();
        let shown = near.ip("-d link show dev pair0").unwrap();
        for word in ["NOARP", "UP", "mtu 65535"] {
            assert!(shown.contains(word), "{word}: {shown}");
        }
        assert!(!shown.contains("addrgenmode") || shown.contains("addrgenmode none"), "{shown}");
        let addresses = near.ip("addr show dev pair0").unwrap();
        assert!(!addresses.contains("inet"), "{addresses}");
        let features = links.features("pair0").unwrap();
        let is_on = |name: &str| features.iter().any(|(feature, on)| feature == name && *on);
        for name in ["tx-tcp-segmentation", "tx-udp-segmentation", "tx-checksum-ip-generic"] {
            assert!(features.iter().any(|(feature, _)| feature == name) && !is_on(name), "{name}");
        }
        // Another one gets the next number; a name that is taken is refused.
        let next = NewPair { peer: "far2", ..new };
        links.add_pair(&next).unwrap();
        assert!(links.find("pair1").is_ok());
        assert!(links.add_pair(&NewPair { name: "pair1", peer: "far3", ..new }).is_err());
        links.remove(index).unwrap();
        assert!(links.find("pair0").is_err() && there.find("far").is_err());
        drop((far, there));
        rig::wait_until(
            "the far end's namespace takes its pair along",
            crate::link::tests::WAIT,
            || links.find("pair1").is_err(),
        );
    }
}
