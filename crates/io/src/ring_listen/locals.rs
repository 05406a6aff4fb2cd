//! The addresses of a network namespace: what the kernel takes for its own, and word of changes.
//!
//! The kernel's own list of them is asked, its local routing table, rather than the addresses of the
//! interfaces: all of 127.0.0.0/8 is local, and so is a prefix that someone routes to `lo`.
//!
//! Source: rtnetlink(7), `RTM_GETROUTE`; Linux `net/ipv4/fib_frontend.c`.
//!
//! ```text
//! struct rtmsg: family, bits of the destination, 0, tos, table, protocol, scope, type 1 B each,
//!               flags 4 B | attributes, of which RTA_DST is the destination
//! ```

use crate::bpf::Prefix;
use crate::netlink::{Netlink, Question, attributes};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const RTMSG_LEN: usize = 12;
/// Where the table stands in it.
const TABLE: usize = 4;
/// A list that changed while it was read is read again.
const READS: usize = 4;

/// The namespace in which it was opened.
#[derive(Debug)]
pub(super) struct Locals {
    questions: Netlink,
    news: Netlink,
}

impl Locals {
    /// Opens the sockets in the calling thread's network namespace.
    pub fn open() -> io::Result<Locals> {
        let open = || Netlink::open(libc::NETLINK_ROUTE);
        let (questions, news) = (open()?, open()?);
        // Without it all tables come, which costs more, and is sorted out here.
        if let Err(error) = questions.ask_strictly() {
            tracing::debug!("routes of all tables are read: {error}");
        }
        for group in [libc::RTNLGRP_IPV4_ROUTE, libc::RTNLGRP_IPV6_ROUTE] {
            news.follow(group, true)?;
        }
        Ok(Locals { questions, news })
    }

    /// The local prefixes of both versions of IP, broadcast and anycast addresses included.
    pub fn read(&mut self) -> io::Result<Vec<Prefix>> {
        let mut prefixes = self.read_family(libc::AF_INET as u8)?;
        match self.read_family(libc::AF_INET6 as u8) {
            Ok(of_v6) => prefixes.extend(of_v6),
            Err(error) => tracing::debug!("no local addresses of IPv6: {error}"),
        }
        Ok(prefixes)
    }

    fn read_family(&mut self, family: u8) -> io::Result<Vec<Prefix>> {
        let mut prefixes = Vec::new();
        for _ in 0..READS {
            prefixes.clear();
            let mut body = [0; RTMSG_LEN];
            (body[0], body[TABLE]) = (family, libc::RT_TABLE_LOCAL);
            let question = Question::new(libc::RTM_GETROUTE, &body);
            let add = |route: &[u8]| prefixes.extend(local_prefix(route, family));
            if self.questions.list(question, add)? {
                break;
            }
        }
        Ok(prefixes)
    }

    /// Takes the news that wait; whether a local prefix may have come or gone.
    pub fn take_news(&mut self) -> bool {
        self.news.take_news_of(|route| route.get(TABLE) == Some(&libc::RT_TABLE_LOCAL))
    }
}

/// The prefix of a route, if packets to it are for this host.
fn local_prefix(route: &[u8], family: u8) -> Option<Prefix> {
    let &[of, len, _, _, table, _, _, kind, ..] = route.first_chunk::<RTMSG_LEN>()?;
    let is_local = matches!(kind, libc::RTN_LOCAL | libc::RTN_BROADCAST | libc::RTN_ANYCAST);
    if of != family || table != libc::RT_TABLE_LOCAL || !is_local {
        return None;
    }
    let is_v4 = i32::from(family) == libc::AF_INET;
    let destination = attributes(&route[RTMSG_LEN..]).find(|(kind, _)| *kind == libc::RTA_DST);
    let address = match destination {
        Some((_, value)) if is_v4 => IpAddr::from(*value.first_chunk::<4>()?),
        Some((_, value)) => IpAddr::from(*value.first_chunk::<16>()?),
        // Everything is local.
        None if len > 0 => return None,
        None if is_v4 => Ipv4Addr::UNSPECIFIED.into(),
        None => Ipv6Addr::UNSPECIFIED.into(),
    };
    Some(Prefix { address, len })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(prefixes: &[Prefix], address: &str) -> bool {
        prefixes.iter().any(|prefix| prefix.contains(address.parse().unwrap()))
    }

    #[test]
    fn local_addresses_are_found_and_followed() {
        if !rig::root_or_skip() {
            return;
        }
        let netns = crate::netns::Netns::new().unwrap();
        let mut locals = netns.run(|| Locals::open().unwrap()).unwrap();
        let before = locals.read().unwrap();
        assert!(has(&before, "127.0.0.1") && has(&before, "127.9.9.9"), "{before:?}");
        assert!(!has(&before, "10.9.0.1") && !has(&before, "8.8.8.8"), "{before:?}");
        locals.take_news();
        netns.ip("address add 10.9.0.1/24 dev lo").unwrap();
        netns.ip("-6 address add fd09::1/64 dev lo nodad").unwrap();
        netns.ip("route add local 10.10.0.0/16 dev lo").unwrap();
        netns.ip("route add 10.11.0.0/16 dev lo").unwrap();
        assert!(locals.take_news());
        // IPv6 addresses are completed by a thread of the kernel's, a moment later.
        let patience = std::time::Duration::from_secs(5);
        rig::wait_until("fd09::1", patience, || has(&locals.read().unwrap(), "fd09::1"));
        std::thread::sleep(std::time::Duration::from_millis(100));
        locals.take_news();
        assert!(!locals.take_news());
        let after = locals.read().unwrap();
        // Of an address on loopback, the whole net is local.
        for address in ["10.9.0.1", "10.9.0.2", "fd09::1", "::1", "10.10.3.4"] {
            assert!(has(&after, address), "{address} in {after:?}");
        }
        for address in ["10.8.0.1", "fd09::2", "10.11.0.1"] {
            assert!(!has(&after, address), "{address} in {after:?}");
        }
        // Another table is no news.
        netns.ip("route add 10.12.0.0/16 dev lo").unwrap();
        assert!(!locals.take_news());
        netns.ip("address del 10.9.0.1/24 dev lo").unwrap();
        assert!(locals.take_news());
        assert!(!has(&locals.read().unwrap(), "10.9.0.1"));
    }

    #[test]
    fn a_route_cut_short_is_none() {
        let mut route = vec![libc::AF_INET as u8, 32, 0, 0, libc::RT_TABLE_LOCAL, 0, 0];
        route.extend([libc::RTN_LOCAL, 0, 0, 0, 0, 8, 0, 1, 0, 10, 9, 0, 1]);
        let found = local_prefix(&route, libc::AF_INET as u8);
        assert_eq!(found, Some(Prefix::of("10.9.0.1".parse().unwrap())));
        for len in 0..route.len() {
            assert_eq!(local_prefix(&route[..len], libc::AF_INET as u8), None, "{len} bytes");
        }
        (route[1], route[14]) = (0, 9);
        assert_eq!(local_prefix(&route, libc::AF_INET as u8).map(|all| all.len), Some(0));
    }
}
