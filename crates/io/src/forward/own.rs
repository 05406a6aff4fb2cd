//! Which addresses this host has itself, as its local routes say.
//!
//! Source: rtnetlink(7) for `RTM_GETROUTE` and `RTN_LOCAL`; Linux `net/ipv4/route.c`, `net/ipv6/route.c`.
//! Whether an address can be bound to says less: under `net.ipv4.ip_nonlocal_bind` any can.

use crate::error::Error;
use crate::netlink::{Netlink, Question};
use std::io;
use std::net::IpAddr;

/// `struct rtmsg` up to its kind, and behind it.
const RTMSG_LEN: usize = 12;
const KIND_AT: usize = 7;

/// Asks the kernel, in the network namespace of the thread that opened it.
pub struct OwnAddresses(Netlink);

impl OwnAddresses {
    /// Opens a netlink socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`Error::System`] if there is none to be had.
    pub fn open() -> Result<OwnAddresses, Error> {
        let netlink = Netlink::open(libc::NETLINK_ROUTE);
        netlink.map(OwnAddresses).map_err(|e| Error::system("open a netlink socket", e))
    }

    /// Whether the kernel takes packets to an address for its own. One without a route is not.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel does not answer.
    pub fn has(&mut self, address: IpAddr) -> Result<bool, Error> {
        let (family, octets) = match address {
            IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
            IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
        };
        let mut body = [0; RTMSG_LEN];
        (body[0], body[1]) = (family as u8, octets.len() as u8 * 8);
        let question = Question::new(libc::RTM_GETROUTE, &body).with(libc::RTA_DST, &octets);
        match self.0.ask(question) {
            Ok((_, answer)) => Ok(answer.get(KIND_AT) == Some(&libc::RTN_LOCAL)),
            Err(error) if leads_nowhere(&error) => Ok(false),
            Err(error) => Err(Error::system(format!("ask whose address {address} is"), error)),
        }
    }
}

/// Whether the kernel has no route, one that refuses, or no such version of IP.
fn leads_nowhere(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ENETUNREACH
                | libc::EHOSTUNREACH
                | libc::EACCES
                | libc::EINVAL
                | libc::EAFNOSUPPORT
                | libc::EOPNOTSUPP
                | libc::ENETDOWN
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_its_loopback_address_and_no_stranger_s() {
        let mut own = OwnAddresses::open().unwrap();
        assert!(own.has("127.0.0.1".parse().unwrap()).unwrap());
        assert!(own.has("127.9.9.9".parse().unwrap()).unwrap());
        for stranger in ["192.0.2.77", "2001:db8:77::1"] {
            assert!(!own.has(stranger.parse().unwrap()).unwrap(), "{stranger}");
        }
    }
}
