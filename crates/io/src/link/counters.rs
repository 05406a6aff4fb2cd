//! What the kernel has counted at an interface.
//!
//! Source: `IFLA_STATS64`, `struct rtnl_link_stats64` in include/uapi/linux/if_link.h: words of 64 bits,
//! of which these are read. `/sys/class/net/IF/statistics` shows the same.
//!
//! ```text
//!  0 rx_packets   8 tx_packets   16 rx_bytes   24 tx_bytes   48 rx_dropped   56 tx_dropped
//! ```

use super::{IFINFOMSG_LEN, Links};
use crate::netlink::{attributes, word};
use api::InterfaceStats;

/// Reads the counters of those of some interfaces of the calling thread's network namespace that are
/// there.
pub fn interface_counters(names: &[String]) -> Vec<InterfaceStats> {
    let Ok(mut links) = Links::open() else { return Vec::new() };
    names.iter().filter_map(|name| counters(&mut links, name)).collect()
}

fn counters(links: &mut Links, name: &str) -> Option<InterfaceStats> {
    let index = links.find(name).ok()?.index;
    let body = links.describe(index).ok()?;
    let flags = word(&body, 8)?;
    let mut attributes = attributes(body.get(IFINFOMSG_LEN..)?);
    let (_, words) = attributes.find(|&(kind, _)| kind == libc::IFLA_STATS64)?;
    let at = |at: usize| Some(u64::from_ne_bytes(*words.get(at..)?.first_chunk()?));
    Some(InterfaceStats {
        name: name.into(),
        is_up: flags & (libc::IFF_UP | libc::IFF_RUNNING) as u32
            == (libc::IFF_UP | libc::IFF_RUNNING) as u32,
        rx_packets: at(0)?,
        rx_bytes: at(16)?,
        rx_dropped: at(48)?,
        tx_packets: at(8)?,
        tx_bytes: at(24)?,
        tx_dropped: at(56)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn what_is_sent_is_counted() {
        if !rig::root_or_skip() {
            return;
        }
        rig::in_netns(|_| {
            let names = ["lo".to_string(), "no-such-link".into()];
            let before = interface_counters(&names);
            assert_eq!(before.len(), 1);
            assert!(before[0].is_up);
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            for _ in 0..10 {
                socket.send_to(&[0; 72], socket.local_addr().unwrap()).unwrap();
            }
            let after = interface_counters(&names);
            // 72 bytes of payload, 8 of UDP, 20 of IPv4; loopback counts no Ethernet header.
            assert_eq!(after[0].tx_packets - before[0].tx_packets, 10);
            assert_eq!(after[0].tx_bytes - before[0].tx_bytes, 1000);
            assert_eq!(after[0].rx_packets, after[0].tx_packets);
        });
    }
}
