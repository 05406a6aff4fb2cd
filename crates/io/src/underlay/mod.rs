//! The way to a far end: interface, addresses, next hop and its MAC, and the path's MTU.
//!
//! Source: rtnetlink(7) for `RTM_GETROUTE`, `RTM_GETLINK` and `RTM_GETNEIGH`; ip(7) and ipv6(7) for
//! `IP_MTU` and `IPV6_MTU`; Linux `include/uapi/linux/xfrm.h`.
//!
//! A connected socket is the judge of the source address and of the MTU: the kernel has looked at
//! the route's metric, at what routers said (ICMP, RFC 1191 and RFC 8201) and at the interface. What
//! routers say is no news to anybody, so it is asked for again each second, and at once when the
//! kernel refuses a packet for its size.

mod answer;
mod sys;

use crate::clock::Now;
use crate::error::Error;
use crate::netlink::{Netlink, Question};
pub(crate) use answer::Interface;
use answer::{Hop, Neighbour};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

/// How often it is looked whether there is news.
const NEWS_NS: u64 = 50_000_000;
/// How often the way is asked for without news.
const ASK_NS: u64 = 1_000_000_000;

/// The flag of a neighbour that is about to be used.
const NTF_USE: u8 = 1;

/// The tables whose changes may change the way: links, neighbours, addresses, routes, rules of both
/// families, next hops.
const GROUPS: [u32; 9] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_NEIGH,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV4_RULE,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV6_ROUTE,
    libc::RTNLGRP_IPV6_RULE,
    libc::RTNLGRP_NEXTHOP,
];

/// The way to a far end, as it was when the kernel was last asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The address that packets come from.
    pub source: IpAddr,
    /// Bytes of the largest IP packet that arrives in one piece.
    pub mtu: usize,
    /// The interface that packets leave by.
    pub interface: i32,
    /// Whether the interface is up and has a carrier. Without one the kernel loses packets silently.
    pub is_up: bool,
    /// Whether a router is on the way, behind which links may take less.
    pub is_routed: bool,
    /// How an Ethernet frame gets there, if all of it is known.
    pub frame: Option<FrameAddresses>,
    /// The neighbour table has an address that was not confirmed lately: the kernel asks again once
    /// it sends a packet there itself.
    pub is_stale: bool,
}

/// The addresses of a frame to the next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameAddresses {
    /// The next hop's.
    pub destination: [u8; 6],
    /// The interface's own.
    pub source: [u8; 6],
}

/// What is known of the way to one far end, and how it is learnt. Belongs to the network namespace in
/// which it was opened.
#[derive(Debug)]
pub struct Underlay {
    remote: SocketAddr,
    /// The address that was asked for to send from.
    source: Option<IpAddr>,
    dscp: u8,
    /// A datagram socket that never sends.
    probe: OwnedFd,
    tables: Netlink,
    /// IPsec policies; absent in a kernel without IPsec.
    policies: Option<Netlink>,
    path: Option<Path>,
    /// The next hop and its interface, if frames go there.
    neighbour: Option<(IpAddr, i32)>,
    looked_ns: u64,
    asked_ns: u64,
}

impl Underlay {
    /// Looks up the way to a far end for packets of a DSCP (0 to 63), sent from an address of this host if
    /// one is given. The scope of a link-local address counts, the port does not.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel gives no sockets, or the address is not of this host. That there is no route is no error: one may come.
    pub fn open(
        remote: SocketAddr,
        source: Option<IpAddr>,
        dscp: u8,
        now: Now,
    ) -> Result<Underlay, Error> {
        let from = source.map_or(String::new(), |source| format!(" from {source}"));
        let failed = |e| Error::system(format!("ask for the way to {}{from}", remote.ip()), e);
        let tables = Netlink::open(libc::NETLINK_ROUTE).map_err(failed)?;
        for group in GROUPS {
            match tables.follow(group, true) {
                Ok(()) => {}
                // A kernel that does not have this group. It is asked each second anyway.
                Err(error) => tracing::debug!("no news of rtnetlink group {group}: {error}"),
            }
        }
        let mut underlay = Underlay {
            remote,
            source,
            dscp,
            probe: sys::open(remote, source, dscp).map_err(failed)?,
            tables,
            policies: Netlink::open(libc::NETLINK_XFRM).ok(),
            path: None,
            neighbour: None,
            looked_ns: now.monotonic_ns,
            asked_ns: now.monotonic_ns,
        };
        underlay.ask(now);
        Ok(underlay)
    }

    /// The way, if there is one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_ref()
    }

    /// Looks for news when it is time; returns whether the way has been asked for again.
    #[inline]
    pub fn look(&mut self, now: Now) -> bool {
        let now_ns = now.monotonic_ns;
        if now_ns < self.looked_ns.saturating_add(NEWS_NS) {
            return false;
        }
        self.looked_ns = now_ns;
        let is_due = now_ns >= self.asked_ns.saturating_add(ASK_NS);
        if !self.tables.take_news() && !is_due {
            return false;
        }
        self.ask(now);
        true
    }

    /// Asks for the way at once, as a packet did not go as was thought.
    pub fn ask(&mut self, now: Now) {
        self.asked_ns = now.monotonic_ns;
        let before = self.path;
        self.path = self.find().inspect_err(|e| tracing::debug!("{}: {e}", self.remote)).ok();
        if self.path != before {
            tracing::debug!("{}: the way is now {:?}", self.remote, self.path);
        }
    }

    /// Whether all is known but the MAC of the next hop.
    pub(crate) fn awaits_neighbour(&self) -> bool {
        self.neighbour.is_some() && self.path.is_some_and(|path| path.frame.is_none())
    }

    /// Has the kernel ask the next hop for its MAC, or confirm it (CAP_NET_ADMIN), as it does when it
    /// sends a packet there itself. The answer is news.
    pub(crate) fn confirm_neighbour(&mut self) {
        let Some((ip, interface)) = self.neighbour else {
            return;
        };
        let mut body = ndmsg(ip, interface);
        body[10] = NTF_USE;
        let question = Question::new(libc::RTM_NEWNEIGH, &body).with(libc::NDA_DST, &octets(ip));
        let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        if let Err(error) = self.tables.change(question, flags) {
            tracing::debug!("have neighbour {ip} confirmed: {error}");
        }
    }

    fn find(&mut self) -> io::Result<Path> {
        self.neighbour = None;
        let source = sys::connect(&self.probe, self.remote)?;
        let mtu = sys::mtu(&self.probe, self.remote)?;
        let hop = self.hop()?;
        let interface = self.interface(hop.interface)?;
        let mut path = Path {
            source,
            // A route may promise more than its interface takes.
            mtu: mtu.min(interface.mtu),
            interface: hop.interface,
            is_up: interface.is_up,
            is_routed: hop.gateway.is_some(),
            frame: None,
            is_stale: false,
        };
        if !interface.is_ethernet || hop.is_special || self.is_subject_to_ipsec() {
            return Ok(path);
        }
        let next = hop.gateway.unwrap_or(self.remote.ip());
        self.neighbour = Some((next, hop.interface));
        if let Some(neighbour) = self.neighbour(next, hop.interface) {
            path.is_stale = neighbour.is_stale;
            path.frame = Some(FrameAddresses { destination: neighbour.mac, source: interface.mac });
        }
        Ok(path)
    }

    fn hop(&mut self) -> io::Result<Hop> {
        let ip = self.remote.ip();
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        // rtmsg: family, length of the destination, length of the source, type of service, …
        let mut body = [0; 12];
        (body[0], body[1], body[3]) = (sys::family(ip), bits, self.dscp << 2);
        body[2] = self.source.map_or(0, |_| bits);
        let mut question = Question::new(libc::RTM_GETROUTE, &body);
        question = question.with(libc::RTA_DST, &octets(ip));
        if let Some(source) = self.source {
            question = question.with(libc::RTA_SRC, &octets(source));
        }
        if let SocketAddr::V6(v6) = self.remote
            && v6.scope_id() != 0
        {
            question = question.with(libc::RTA_OIF, &v6.scope_id().to_ne_bytes());
        }
        let (_, body) = self.tables.ask(question)?;
        Hop::parse(&body).ok_or_else(|| unclear("a route"))
    }

    fn interface(&mut self, index: i32) -> io::Result<Interface> {
        // ifinfomsg: family, padding, hardware type 2, index 4, …
        let mut body = [0; 16];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        let (_, body) = self.tables.ask(Question::new(libc::RTM_GETLINK, &body))?;
        Interface::parse(&body).ok_or_else(|| unclear("an interface"))
    }

    /// The neighbour, if its MAC is known. Before Linux 5.0 none is: one cannot be asked for.
    fn neighbour(&mut self, ip: IpAddr, interface: i32) -> Option<Neighbour> {
        let question = Question::new(libc::RTM_GETNEIGH, &ndmsg(ip, interface));
        let (_, body) = self.tables.ask(question.with(libc::NDA_DST, &octets(ip))).ok()?;
        Neighbour::parse(&body)
    }

    /// Whether packets that this host sends may have to be encrypted: a frame that we made ourselves
    /// would pass by that. Who must not ask (CAP_NET_ADMIN) takes it for true.
    fn is_subject_to_ipsec(&mut self) -> bool {
        let Some(policies) = &mut self.policies else {
            return false;
        };
        match policies.ask(Question::new(answer::XFRM_MSG_GETSPDINFO, &[0; 4])) {
            Ok((_, body)) => answer::ipsec_policies(&body).is_none_or(|(_, outgoing)| outgoing > 0),
            Err(_) => true,
        }
    }
}

/// Whether IPsec has a say in what the calling thread's network namespace receives, as far as may be
/// asked (CAP_NET_ADMIN). What it decrypts in transport mode goes from there to the sockets, past any
/// ring; and what it rejects, a ring has got already.
pub fn receives_by_ipsec() -> bool {
    let question = Question::new(answer::XFRM_MSG_GETSPDINFO, &[0; 4]);
    let answer = Netlink::open(libc::NETLINK_XFRM).and_then(|mut xfrm| xfrm.ask(question));
    let policies = answer.ok().and_then(|(_, body)| answer::ipsec_policies(&body));
    policies.is_some_and(|(incoming, _)| incoming > 0)
}

/// `ndmsg`: family, padding 3, index 4, state 2, flags, type.
fn ndmsg(ip: IpAddr, interface: i32) -> [u8; 12] {
    let mut body = [0; 12];
    body[0] = sys::family(ip);
    body[4..8].copy_from_slice(&interface.to_ne_bytes());
    body
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn unclear(what: &str) -> io::Error {
    io::Error::other(format!("the kernel's answer about {what} is cut short"))
}

#[cfg(test)]
mod tests;
