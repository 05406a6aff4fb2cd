//! How fast a real interface is.
//!
//! Source: `IFLA_PARENT_DEV_NAME` of `linux/if_link.h` (Linux 5.14), which an interface has that stands
//! for a device on a bus.

use super::{IFINFOMSG_LEN, Links};
use crate::netlink::attributes;

const PARENT_DEV_NAME: u16 = 56;

/// Bits per second of an interface of the calling thread's network namespace; `None` if it is no device
/// with a wire, or its driver does not know. What virtual interfaces tell means nothing.
pub fn wire_speed(index: i32) -> Option<u64> {
    let mut links = Links::open().ok()?;
    let body = links.describe(index).ok()?;
    let mut attributes = attributes(body.get(IFINFOMSG_LEN..)?);
    attributes.find(|&(kind, _)| kind == PARENT_DEV_NAME)?;
    let name = links.name(index)?;
    Some(u64::from(links.speed_mbps(&name)?) * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_veth_has_no_speed_whatever_it_tells() {
        if !rig::root_or_skip() {
            return;
        }
        rig::in_netns(|netns| {
            netns.ip("link add eth1 type veth peer name eth2").unwrap();
            let mut links = Links::open().unwrap();
            assert!(links.speed_mbps("eth1").is_some(), "a veth tells 10 Gbit/s");
            assert_eq!(wire_speed(links.find("eth1").unwrap().index), None);
            assert_eq!(wire_speed(1), None);
        });
    }
}
