//! Interfaces that stand on others: a bridge and its ports, and a macvlan, which hands each frame on to
//! the interface below it, even in another network namespace.
//!
//! Source: rtnetlink(7); Linux `include/uapi/linux/if_link.h`, `drivers/net/macvlan.c`, `net/bridge`.
//!
//! ```text
//! RTM_NEWLINK  ifinfomsg | IFLA_IFNAME, IFLA_MTU, IFLA_LINKINFO { IFLA_INFO_KIND "bridge",
//!                            IFLA_INFO_DATA { IFLA_BR_MCAST_SNOOPING } }
//! RTM_NEWLINK  ifinfomsg | IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_NET_NS_FD, IFLA_LINKINFO {
//!                            IFLA_INFO_KIND "macvlan", IFLA_INFO_DATA { IFLA_MACVLAN_MODE } }
//! RTM_SETLINK  ifinfomsg | IFLA_MASTER
//! ```
//!
//! They are made as [`pair`](super::pair)s are: for frames alone, and down.

use super::Links;
use super::pair::{IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINK, IFLA_LINKINFO, IFLA_NET_NS_FD};
use super::pair::{NESTED, about, no_arp};
use crate::netlink::{Question, attribute};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const IFLA_MASTER: u16 = 10;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const IFLA_MACVLAN_MODE: u16 = 1;
/// `MACVLAN_MODE_PRIVATE`: frames go down and nowhere else.
const MODE_PRIVATE: u32 = 1;
/// Interfaces that are looked at for a name that is free.
const NUMBERS_MAX: u32 = 10_000;

/// A macvlan to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewUpper<'a> {
    /// Its name; `%d` becomes the first number that is free where it stands.
    pub name: &'a str,
    /// Where it stands.
    pub netns: BorrowedFd<'a>,
    /// The interface below it, here.
    pub lower: i32,
    /// Its MTU, bytes.
    pub mtu: u32,
}

impl Links {
    /// Makes a bridge that floods what it does not know, multicast too.
    pub fn add_bridge(&mut self, name: &str, mtu: u32) -> io::Result<()> {
        let data = attribute(IFLA_BR_MCAST_SNOOPING, &[0]);
        let question = Question::new(libc::RTM_NEWLINK, &no_arp())
            .with(libc::IFLA_IFNAME, &[name.as_bytes(), &[0]].concat())
            .with(libc::IFLA_MTU, &mtu.to_ne_bytes())
            .with(NESTED | IFLA_LINKINFO, &info(b"bridge", &data));
        self.netlink.change(question, libc::NLM_F_CREATE | libc::NLM_F_EXCL)
    }

    /// Makes an interface a port of a bridge.
    pub fn set_master(&mut self, port: i32, bridge: i32) -> io::Result<()> {
        let question = Question::new(libc::RTM_SETLINK, &about(port, 0, 0));
        self.netlink.change(question.with(IFLA_MASTER, &bridge.to_ne_bytes()), 0)
    }

    /// Makes a macvlan; returns its name.
    pub fn add_upper(&mut self, upper: &NewUpper<'_>) -> io::Result<String> {
        let mut taken = io::Error::from_raw_os_error(libc::EEXIST);
        for number in 0..NUMBERS_MAX {
            let name = upper.name.replace("%d", &number.to_string());
            match self.add_named_upper(upper, &name) {
                Ok(()) => return Ok(name),
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) && name != upper.name => {
                    taken = error;
                }
                Err(error) => return Err(error),
            }
        }
        Err(taken)
    }

    fn add_named_upper(&mut self, upper: &NewUpper<'_>, name: &str) -> io::Result<()> {
        let data = attribute(IFLA_MACVLAN_MODE, &MODE_PRIVATE.to_ne_bytes());
        let question = Question::new(libc::RTM_NEWLINK, &no_arp())
            .with(libc::IFLA_IFNAME, &[name.as_bytes(), &[0]].concat())
            .with(libc::IFLA_MTU, &upper.mtu.to_ne_bytes())
            .with(IFLA_LINK, &upper.lower.to_ne_bytes())
            .with(IFLA_NET_NS_FD, &upper.netns.as_raw_fd().to_ne_bytes())
            .with(NESTED | IFLA_LINKINFO, &info(b"macvlan", &data));
        self.netlink.change(question, libc::NLM_F_CREATE | libc::NLM_F_EXCL)
    }
}

/// What `IFLA_LINKINFO` holds.
fn info(kind: &[u8], data: &[u8]) -> Vec<u8> {
    [attribute(IFLA_INFO_KIND, kind), attribute(NESTED | IFLA_INFO_DATA, data)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::NewPair;
    use crate::link::tests::WAIT;
    use crate::netns::Netns;
    use std::os::fd::AsFd;

    #[test]
    fn a_macvlan_stands_in_another_namespace_and_goes_with_what_is_below_it() {
        if !rig::root_or_skip() {
            return;
        }
        let (near, far) = (Netns::new().unwrap(), Netns::empty().unwrap());
        let mut links = near.run(|| Links::open().unwrap()).unwrap();
        let mut there = far.run(|| Links::open().unwrap()).unwrap();
        let pair = NewPair { name: "pair%d", peer: "far", peer_netns: far.as_fd(), mtu: 65_535 };
        links.add_pair(&pair).unwrap();
        there.add_bridge("bridge", 65_535).unwrap();
        let bridge = there.find("bridge").unwrap().index;
        there.switch_offloads_off(bridge).unwrap();
        let features = there.features("bridge").unwrap();
        let is_on = |name: &str| features.iter().any(|(feature, on)| feature == name && *on);
        for name in ["tx-tcp-segmentation", "tx-udp-segmentation", "tx-checksum-ip-generic"] {
            assert!(features.iter().any(|(feature, _)| feature == name) && !is_on(name), "{name}");
        }

        let lower = links.find("pair0").unwrap().index;
        let port = NewUpper { name: "port", netns: far.as_fd(), lower, mtu: 65_535 };
        assert_eq!(links.add_upper(&port).unwrap(), "port");
        assert!(links.add_upper(&port).is_err(), "the name is taken");
        let port = there.find("port").unwrap().index;
        there.set_master(port, bridge).unwrap();
        let entry = NewUpper { name: "up%d", netns: near.as_fd(), lower: bridge, mtu: 65_535 };
        assert_eq!(there.add_upper(&entry).unwrap(), "up0");
        assert_eq!(there.add_upper(&entry).unwrap(), "up1");
        let shown = near.ip("-d link show dev up1").unwrap();
        for word in ["NOARP", "mtu 65535", "macvlan mode private"] {
            assert!(shown.contains(word), "{word}: {shown}");
        }
        drop((far, there));
        rig::wait_until("all goes with the far end's namespace", WAIT, || {
            ["pair0", "up0", "up1"].iter().all(|name| links.find(name).is_err())
        });
    }
}
