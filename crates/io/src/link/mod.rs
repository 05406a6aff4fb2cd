//! The interfaces of a network namespace: which there are, and word of it when one comes or goes.
//!
//! Source: rtnetlink(7); RFC 3549 section 3.1. The kernel answers a request inside the call that
//! sends it, and sends `RTM_NEWLINK` and `RTM_DELLINK` to who has joined the group `RTNLGRP_LINK`.
//!
//! ```text
//! request   nlmsghdr (16 B) | ifinfomsg (16 B) | rtattr IFLA_IFNAME (4 B) | name, NUL
//! answer    nlmsghdr (16 B) | ifinfomsg: family 1 B, pad 1 B, hardware type 2 B, index 4 B … | …
//! refusal   nlmsghdr (16 B) | negative errno 4 B | …
//! ```
//! Asking by netlink rather than by ioctl: for a name that is not there, the ioctl has the kernel
//! look for a module of that name, each time.

mod sys;

use crate::error::Error;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const HEADER_LEN: usize = 16;
const IFINFOMSG_LEN: usize = 16;
const ATTRIBUTE_LEN: usize = 4;
/// Longest interface name, without its NUL.
const NAME_BYTES_MAX: usize = libc::IFNAMSIZ - 1;
/// More than any news; the begin of an answer is enough.
const MESSAGE_BYTES_MAX: usize = 4096;
/// Messages that are looked through for an answer, and news taken at once.
const MESSAGES_MAX: usize = 256;

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
    socket: OwnedFd,
    sequence: u32,
}

impl Links {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> io::Result<Links> {
        Ok(Links { socket: sys::open()?, sequence: 0 })
    }

    /// Finds an interface by its name; `ENODEV` if there is none. News that wait are taken.
    pub fn find(&mut self, name: &str) -> io::Result<Link> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        self.take_news();
        self.sequence = self.sequence.wrapping_add(1);
        sys::send(self.socket.as_fd(), &request(self.sequence, name))?;
        for _ in 0..MESSAGES_MAX {
            let mut buffer = [0; MESSAGE_BYTES_MAX];
            let message = sys::receive(self.socket.as_fd(), &mut buffer)?;
            if let Some(answer) = answer(message, self.sequence) {
                return answer;
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// The name of an interface, if it is there.
    pub fn name(&self, index: i32) -> Option<String> {
        sys::name(self.socket.as_fd(), index).ok()
    }

    /// The speed of an interface in Mb/s, if its driver knows it.
    pub fn speed_mbps(&self, name: &str) -> Option<u32> {
        let speed = sys::speed_mbps(self.socket.as_fd(), name).ok()?;
        // SPEED_UNKNOWN is -1, in 16 bits for old drivers.
        (speed != 0 && speed != 0xffff && speed < i32::MAX as u32).then_some(speed)
    }

    /// The MTU of an interface, bytes.
    pub fn mtu(&self, name: &str) -> io::Result<u32> {
        sys::mtu(self.socket.as_fd(), name)
    }

    /// Sets the MTU of an interface, bytes.
    pub fn set_mtu(&self, name: &str, mtu: u32) -> io::Result<()> {
        sys::set_mtu(self.socket.as_fd(), name, mtu)
    }

    /// Sets flags (`IFF_…`) of an interface beside those that it has.
    pub fn add_flags(&self, name: &str, flags: i32) -> io::Result<()> {
        sys::add_flags(self.socket.as_fd(), name, flags)
    }

    /// Has the socket become readable when an interface changes, or no longer.
    pub fn watch(&self, wanted: bool) -> io::Result<()> {
        sys::subscribe(self.socket.as_fd(), wanted)
    }

    /// Takes the news that wait; returns whether there were any. They only say that it is time to
    /// look: what is there now is asked for.
    pub fn take_news(&self) -> bool {
        let mut buffer = [0; HEADER_LEN];
        for taken in 0..MESSAGES_MAX {
            match sys::receive(self.socket.as_fd(), &mut buffer) {
                Ok(_) => {}
                // There were more than the socket holds.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(_) => return taken > 0,
            }
        }
        true
    }
}

impl AsFd for Links {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
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

/// `RTM_GETLINK` by name.
fn request(sequence: u32, name: &str) -> Vec<u8> {
    let attribute_len = ATTRIBUTE_LEN + name.len() + 1;
    let len = HEADER_LEN + IFINFOMSG_LEN + attribute_len;
    let mut message = Vec::with_capacity(len);
    message.extend((len as u32).to_ne_bytes());
    message.extend(libc::RTM_GETLINK.to_ne_bytes());
    message.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend([0; 4 + IFINFOMSG_LEN]); // to the kernel; any interface
    message.extend((attribute_len as u16).to_ne_bytes());
    message.extend(libc::IFLA_IFNAME.to_ne_bytes());
    message.extend(name.as_bytes());
    message.push(0);
    message
}

/// What a message says in answer to a request; `None` if it answers another or none.
fn answer(message: &[u8], sequence: u32) -> Option<io::Result<Link>> {
    let word = |at: usize| Some(u32::from_ne_bytes(*message.get(at..at + 4)?.first_chunk()?));
    let half = |at: usize| Some(u16::from_ne_bytes(*message.get(at..at + 2)?.first_chunk()?));
    if word(8)? != sequence {
        return None;
    }
    match half(4)? {
        libc::RTM_NEWLINK => Some(Ok(Link {
            hardware: half(HEADER_LEN + 2)?,
            index: word(HEADER_LEN + 4)?.cast_signed(),
        })),
        kind if i32::from(kind) == libc::NLMSG_ERROR => {
            let errno = word(HEADER_LEN)?.cast_signed().wrapping_neg();
            Some(Err(io::Error::from_raw_os_error(errno)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn other_answers_and_short_ones_are_passed_over() {
        let mut links = Links::open().unwrap();
        sys::send(links.as_fd(), &request(77, "lo")).unwrap();
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        let message = sys::receive(links.as_fd(), &mut buffer).unwrap().to_vec();
        assert!(answer(&message, 76).is_none());
        assert_eq!(answer(&message, 77).unwrap().unwrap().index, 1);
        for len in 0..HEADER_LEN + 8 {
            assert!(answer(&message[..len], 77).is_none(), "{len} bytes");
        }
        // An answer that nobody took does not confuse the next question.
        sys::send(links.as_fd(), &request(78, "lo")).unwrap();
        assert!(links.find("no-such-link").is_err());
        assert!(!links.take_news());
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
}
