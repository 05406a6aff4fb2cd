//! The interfaces of a network namespace: which there are, and word of it when one comes or goes.
//!
//! Source: rtnetlink(7), `RTM_GETLINK` and `RTNLGRP_LINK`.
//!
//! Asking by netlink rather than by ioctl: for a name that is not there, the ioctl has the kernel
//! look for a module of that name, each time.

mod counters;
mod pair;
mod speed;
mod stacked;
mod sys;
mod ways;

use crate::error::Error;
use crate::netlink::{Netlink, Question, attributes, half, word};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

pub use counters::interface_counters;
pub(crate) use pair::NewPair;
pub use speed::wire_speed;
pub(crate) use stacked::NewUpper;
pub use ways::Ways;

pub(crate) const IFINFOMSG_LEN: usize = 16;
/// `IFLA_GSO_MAX_SIZE`, `IFLA_GRO_MAX_SIZE`, and those of IPv4: bytes of a super-packet.
const MAX_SIZES: [u16; 4] = [41, 58, 63, 64];
/// `RTEXT_FILTER_SKIP_STATS`.
const SKIP_STATS: u32 = 1 << 3;
const SUPER_PACKET_USUAL: u32 = 65_536;
/// Longest interface name, without its NUL.
const NAME_BYTES_MAX: usize = libc::IFNAMSIZ - 1;

/// An interface as the kernel knows it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub index: i32,
    /// `ARPHRD_…`.
    pub hardware: u16,
}

/// The interfaces of the network namespace in which this was opened.
#[derive(Debug)]
pub(crate) struct Links {
    netlink: Netlink,
}

impl Links {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> io::Result<Links> {
        Ok(Links { netlink: Netlink::open(libc::NETLINK_ROUTE)? })
    }

    /// Finds an interface by its name; `ENODEV` if there is none. News that wait are taken.
    pub fn find(&mut self, name: &str) -> io::Result<Link> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        self.take_news();
        let question = Question::new(libc::RTM_GETLINK, &[0; IFINFOMSG_LEN]);
        let name = [name.as_bytes(), &[0]].concat();
        let (_, body) = self.netlink.ask(question.with(libc::IFLA_IFNAME, &name))?;
        let link =
            || Some(Link { hardware: half(&body, 2)?, index: word(&body, 4)?.cast_signed() });
        link()
            .ok_or_else(|| io::Error::other("the kernel's answer about an interface is cut short"))
    }

    /// The name of an interface, if it is there.
    pub fn name(&self, index: i32) -> Option<String> {
        sys::name(self.as_fd(), index).ok()
    }

    /// The speed of an interface in Mb/s, if its driver knows it.
    pub fn speed_mbps(&self, name: &str) -> Option<u32> {
        let speed = sys::speed_mbps(self.as_fd(), name).ok()?;
        // SPEED_UNKNOWN is -1, in 16 bits for old drivers.
        (speed != 0 && speed != 0xffff && speed < i32::MAX as u32).then_some(speed)
    }

    /// The features (offloads) of an interface by the kernel's names, and whether each is on.
    pub fn features(&self, name: &str) -> io::Result<Vec<(String, bool)>> {
        sys::features(self.as_fd(), name)
    }

    /// What the kernel tells of an interface: `struct ifinfomsg` and attributes.
    pub fn describe(&mut self, index: i32) -> io::Result<Vec<u8>> {
        let mut body = [0; IFINFOMSG_LEN];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        Ok(self.netlink.ask(Question::new(libc::RTM_GETLINK, &body))?.1)
    }

    /// Whether any interface has super-packets that are longer than an IP packet can say (BIG TCP): sent ones,
    /// or received ones that it joins itself.
    pub fn any_has_jumbo(&mut self) -> io::Result<bool> {
        let question = Question::new(libc::RTM_GETLINK, &[0; IFINFOMSG_LEN])
            .with(libc::IFLA_EXT_MASK, &SKIP_STATS.to_ne_bytes());
        let mut has_jumbo = false;
        self.netlink.list(question, |body| has_jumbo |= tells_jumbo(body))?;
        Ok(has_jumbo)
    }

    /// The MTU of an interface, bytes.
    pub fn mtu(&self, name: &str) -> io::Result<u32> {
        sys::mtu(self.as_fd(), name)
    }

    /// Sets the MTU of an interface, bytes.
    pub fn set_mtu(&self, name: &str, mtu: u32) -> io::Result<()> {
        sys::set_mtu(self.as_fd(), name, mtu)
    }

    /// Whether an interface is up and its link works, as the kernel's link watch has noticed it so far
    /// (`IFF_RUNNING`).
    pub fn is_running(&self, name: &str) -> io::Result<bool> {
        let flags = sys::flags(self.as_fd(), name)?;
        Ok(i32::from(flags) & libc::IFF_RUNNING != 0)
    }

    /// Whether an interface is up and has a carrier, as its driver says now (`IFF_LOWER_UP`), however
    /// little else it says of its state.
    pub fn has_carrier(&mut self, index: i32) -> io::Result<bool> {
        let flags = word(&self.describe(index)?, 8).unwrap_or(0).cast_signed();
        Ok(flags & libc::IFF_UP != 0 && flags & libc::IFF_LOWER_UP != 0)
    }

    /// Sets flags (`IFF_…`) of an interface beside those that it has.
    pub fn add_flags(&self, name: &str, flags: i32) -> io::Result<()> {
        sys::add_flags(self.as_fd(), name, flags)
    }

    /// Has the socket become readable when an interface changes, or no longer.
    pub fn watch(&self, wanted: bool) -> io::Result<()> {
        self.netlink.follow(libc::RTNLGRP_LINK, wanted)
    }

    /// Takes the news that wait; returns whether there were any. They only say that it is time to
    /// look: what is there now is asked for.
    pub fn take_news(&mut self) -> bool {
        self.netlink.take_news()
    }
}

impl AsFd for Links {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.netlink.as_fd()
    }
}

/// Whether what the kernel tells of an interface says that it has them.
fn tells_jumbo(body: &[u8]) -> bool {
    let attributes = attributes(body.get(IFINFOMSG_LEN..).unwrap_or_default());
    let sizes = attributes.filter(|(kind, _)| MAX_SIZES.contains(kind));
    sizes.filter_map(|(_, value)| word(value, 0)).any(|size| size > SUPER_PACKET_USUAL)
}

/// The names of the calling thread's interfaces.
pub(crate) fn names() -> Vec<String> {
    sys::names()
}

/// Finds an interface, and says which there are if it is not there.
///
/// # Errors
/// [`Error::NoInterface`]; [`Error::System`] if the kernel does not answer.
pub(crate) fn find(name: &str, links: &mut Links) -> Result<Link, Error> {
    links.find(name).map_err(|error| match error.raw_os_error() {
        Some(libc::ENODEV) => Error::NoInterface { name: name.into(), present: sys::names() },
        _ => Error::system(format!("interface `{name}`: look it up"), error),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// For what the kernel does by itself.
    pub(crate) const WAIT: std::time::Duration = std::time::Duration::from_secs(5);

    #[test]
    fn loopback_is_found_and_what_is_not_there_is_not() {
        let mut links = Links::open().unwrap();
        let lo = links.find("lo").unwrap();
        assert_eq!(lo, Link { index: 1, hardware: libc::ARPHRD_LOOPBACK });
        assert_eq!(links.name(1).as_deref(), Some("lo"));
        assert_eq!(links.speed_mbps("lo"), None);
        for name in ["no-such-link", "", "a-name-of-more-than-15-bytes", "l\0o"] {
            let error = links.find(name).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENODEV), "{name:?}");
        }
        assert_eq!(links.name(i32::MAX), None);
        assert!(links.mtu("lo").unwrap() >= 1500);
        let error = find("no-such-link", &mut links).unwrap_err().to_string();
        assert!(error.ends_with("lo") || error.contains("lo, "), "{error}");
    }

    #[test]
    fn a_change_is_news() {
        if !rig::root_or_skip() {
            return;
        }
        let netns = crate::netns::Netns::new().unwrap();
        let mut links = netns.run(|| Links::open().unwrap()).unwrap();
        links.watch(true).unwrap();
        assert!(!links.take_news());
        netns.ip("link add left type veth peer name right").unwrap();
        let wait = std::time::Duration::from_secs(5);
        assert!(crate::sys::poll_readable([links.as_fd()].into_iter(), wait).unwrap());
        // Found in the namespace in which it was opened, whatever the thread's own.
        let left = links.find("left").unwrap();
        assert_eq!(links.name(left.index).as_deref(), Some("left"));
        assert_eq!((left.hardware, links.speed_mbps("left")), (libc::ARPHRD_ETHER, Some(10_000)));
        links.watch(false).unwrap();
        links.take_news();
        netns.ip("link del left").unwrap();
        assert!(!links.take_news());
        assert!(links.find("left").is_err());
    }

    #[test]
    fn an_interface_of_large_super_packets_is_known() {
        if !rig::root_or_skip() || !rig::link_or_skip("gso_max_size 500000 type veth") {
            return;
        }
        let netns = crate::netns::Netns::new().unwrap();
        let mut links = netns.run(|| Links::open().unwrap()).unwrap();
        netns.ip("link add left type veth peer name right").unwrap();
        assert!(!links.any_has_jumbo().unwrap());
        netns.ip("link set left gro_max_size 500000").unwrap();
        assert!(links.any_has_jumbo().unwrap());
    }
}
