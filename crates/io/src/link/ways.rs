//! Where frames that leave through an interface are seen again on the same host.
//!
//! Source: Linux `include/uapi/linux/if_link.h` (`IFLA_LINK`, `IFLA_MASTER`, `IFLA_INFO_KIND`,
//! `IFLA_VXLAN_LINK`, `IFLA_LINK_NETNSID`), packet(7): a packet socket sees frames that an interface sends, too.
//!
//! ```text
//! sent through      veth      received by its peer, if that is in the same namespace
//!                   bridge, bond, team     sent through their members
//!                   VLAN, macvlan, a tunnel over a named interface … sent through the one below
//! received by       a member  received by its bridge, bond or team; a bridge sends it on to the others
//!                   the one below a VLAN or macvlan      received by that
//! ```

use super::{IFINFOMSG_LEN, Links};
use crate::error::Error;
use crate::netlink::{Question, attributes, word};
use std::collections::VecDeque;

/// `IFLA_…` of `linux/if_link.h`.
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
/// A VXLAN device tells what it stands on among its own attributes only.
const IFLA_VXLAN_LINK: u16 = 3;

/// The interfaces of a network namespace, and how frames go from one to the other.
#[derive(Debug)]
pub struct Ways {
    links: Links,
    devices: Vec<Device>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Device {
    index: u32,
    name: String,
    kind: String,
    /// The interface that it stands on, or a veth's peer; of the same namespace.
    below: Option<u32>,
    master: Option<u32>,
}

/// Which way a frame passes an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passage {
    Sent,
    Received,
}

impl Ways {
    /// Reads the interfaces of the calling thread's network namespace.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel does not answer.
    pub fn read() -> Result<Ways, Error> {
        let failed = |e| Error::system("list the interfaces", e);
        let mut links = Links::open().map_err(failed)?;
        let mut devices = Vec::new();
        let question = Question::new(libc::RTM_GETLINK, &[0; IFINFOMSG_LEN]);
        links.netlink.list(question, |body| devices.extend(device(body))).map_err(failed)?;
        Ok(Ways { links, devices })
    }

    /// The interfaces that a frame passes from the one through which it is sent to another one at which
    /// it is seen; both included, and once if they are one. `None` if it is not seen there. Either may
    /// be called by an alternative name; one that is not there is only itself.
    pub fn sent(&mut self, through: &str, seen_at: &str) -> Option<Vec<String>> {
        self.find(through, Passage::Sent, seen_at)
    }

    /// The same for a frame that comes in through the first one, as what is written to a TAP device
    /// does.
    pub fn received(&mut self, through: &str, seen_at: &str) -> Option<Vec<String>> {
        self.find(through, Passage::Received, seen_at)
    }

    fn find(&mut self, from: &str, passage: Passage, to: &str) -> Option<Vec<String>> {
        let mut index = |name| self.links.find(name).ok().map(|link| link.index.cast_unsigned());
        let (Some(first), Some(last)) = (index(from), index(to)) else {
            return (from == to).then(|| vec![from.to_owned()]);
        };
        let names = |way: &[u32]| way.iter().map(|&index| self.name(index)).collect();
        path(&self.devices, (first, passage), last).map(|way| names(&way))
    }

    fn name(&self, index: u32) -> String {
        let device = self.devices.iter().find(|device| device.index == index);
        device.map_or_else(|| index.to_string(), |device| device.name.clone())
    }
}

/// The shortest way of a frame.
fn path(devices: &[Device], first: (u32, Passage), last: u32) -> Option<Vec<u32>> {
    // Each with the place of the one before.
    let mut seen: Vec<((u32, Passage), Option<usize>)> = vec![(first, None)];
    let mut queue = VecDeque::from([0]);
    while let Some(place) = queue.pop_front() {
        let (at, _) = seen[place];
        if at.0 == last {
            let mut way = vec![at.0];
            let mut before = seen[place].1;
            while let Some(place) = before {
                let ((index, _), earlier) = seen[place];
                if way.last() != Some(&index) {
                    way.push(index);
                }
                before = earlier;
            }
            way.reverse();
            return Some(way);
        }
        for next in onward(devices, at) {
            if !seen.iter().any(|(known, _)| *known == next) {
                queue.push_back(seen.len());
                seen.push((next, Some(place)));
            }
        }
    }
    None
}

/// Where a frame goes next.
fn onward(devices: &[Device], (index, passage): (u32, Passage)) -> Vec<(u32, Passage)> {
    let find = |index| devices.iter().find(|device| device.index == index);
    let Some(device) = find(index) else {
        return Vec::new();
    };
    let members = |of: u32| {
        let members = devices.iter().filter(move |other| other.master == Some(of));
        members.map(|member| member.index)
    };
    match passage {
        Passage::Sent => {
            let below = device.below.map(|below| match device.kind.as_str() {
                "veth" => (below, Passage::Received),
                _ => (below, Passage::Sent),
            });
            below.into_iter().chain(members(index).map(|index| (index, Passage::Sent))).collect()
        }
        Passage::Received => {
            let is_above = |other: &&Device| other.below == Some(index) && other.kind != "veth";
            let above = devices.iter().filter(is_above).map(|other| (other.index, passage));
            let master = device.master.and_then(find);
            let others = master.filter(|master| master.kind == "bridge").into_iter();
            let others = others.flat_map(|master| members(master.index));
            let others = others.filter(|&other| other != index).map(|i| (i, Passage::Sent));
            let master = master.map(|master| (master.index, passage));
            above.chain(master).chain(others).collect()
        }
    }
}

/// An interface of a list.
fn device(body: &[u8]) -> Option<Device> {
    let mut device = Device { index: word(body, 4)?, ..Device::default() };
    let mut is_elsewhere = false;
    for (kind, value) in attributes(body.get(IFINFOMSG_LEN..)?) {
        let text = |bytes: &[u8]| {
            let bytes = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(bytes).into_owned()
        };
        match kind {
            libc::IFLA_IFNAME => device.name = text(value),
            IFLA_LINK => device.below = word(value, 0),
            IFLA_MASTER => device.master = word(value, 0),
            IFLA_LINK_NETNSID => is_elsewhere = true,
            IFLA_LINKINFO => {
                let find = |of, wanted| attributes(of).find(|(kind, _)| *kind == wanted);
                let kind = find(value, IFLA_INFO_KIND);
                device.kind = kind.map(|(_, value)| text(value)).unwrap_or_default();
                if device.kind == "vxlan"
                    && let Some((_, data)) = find(value, IFLA_INFO_DATA)
                    && let Some((_, link)) = find(data, IFLA_VXLAN_LINK)
                {
                    device.below = word(link, 0);
                }
            }
            _ => {}
        }
    }
    device.below =
        device.below.filter(|&below| below != 0 && below != device.index && !is_elsewhere);
    Some(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(index: u32, kind: &str, below: u32, master: u32) -> Device {
        let some = |index| Some(index).filter(|&index| index > 0);
        let (below, master) = (some(below), some(master));
        Device { index, name: format!("d{index}"), kind: kind.into(), below, master }
    }

    #[test]
    fn frames_go_down_where_they_are_sent_and_up_where_they_are_received() {
        let devices = [
            device(1, "veth", 2, 0),
            device(2, "veth", 1, 5),
            device(3, "", 0, 5),
            device(4, "vlan", 3, 0),
            device(5, "bridge", 0, 0),
            device(6, "vlan", 2, 0),
            device(7, "bond", 0, 0),
            device(8, "", 0, 7),
            device(9, "vxlan", 8, 0),
        ];
        let sent = |from, to| path(&devices, (from, Passage::Sent), to);
        let received = |from, to| path(&devices, (from, Passage::Received), to);
        for (way, wanted) in [
            (sent(1, 1), Some(vec![1])),
            (sent(1, 2), Some(vec![1, 2])),
            (sent(1, 5), Some(vec![1, 2, 5])),
            (sent(1, 3), Some(vec![1, 2, 3])),
            (sent(1, 6), Some(vec![1, 2, 6])),
            (sent(4, 3), Some(vec![4, 3])),
            (sent(5, 1), Some(vec![5, 2, 1])),
            (sent(7, 8), Some(vec![7, 8])),
            (sent(9, 8), Some(vec![9, 8])),
            // What a NIC sends, the bridge over it and the VLANs on it do not see.
            (sent(3, 5), None),
            (sent(3, 4), None),
            (sent(8, 7), None),
            (received(3, 4), Some(vec![3, 4])),
            (received(3, 1), Some(vec![3, 2, 1])),
            (received(8, 7), Some(vec![8, 7])),
            (received(8, 1), None),
            (sent(99, 1), None),
        ] {
            assert_eq!(way, wanted);
        }
    }

    #[test]
    fn the_kernel_s_devices_are_understood() {
        if !rig::root_or_skip() {
            return;
        }
        let netns = crate::netns::Netns::new().unwrap();
        let other = crate::netns::Netns::new().unwrap();
        netns.ip("link add left type veth peer name right").unwrap();
        netns.ip("link property add dev left altname alias").unwrap();
        netns.join("out", &other, "far").unwrap();
        let ways =
            |from: &str, to: &str| netns.run(|| Ways::read().unwrap().sent(from, to)).unwrap();
        let named = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect());
        assert_eq!(ways("left", "right"), named(&["left", "right"]));
        assert_eq!(ways("alias", "right"), named(&["left", "right"]));
        assert_eq!(ways("left", "alias"), named(&["left"]));
        assert_eq!(ways("left", "lo"), None);
        assert_eq!(ways("out", "left"), None);
        assert_eq!(ways("absent", "left"), None);
        if rig::link_or_skip("type vxlan id 1 dstport 4789") {
            netns.ip("link add vx type vxlan id 1 remote 192.0.2.1 dstport 4790 dev out").unwrap();
            assert_eq!(ways("vx", "out"), named(&["vx", "out"]));
            assert_eq!(ways("vx", "left"), None);
        }
        assert_eq!(ways("absent", "absent"), named(&["absent"]));
        if rig::link_or_skip("type bridge") {
            netns.ip("link add name br type bridge").unwrap();
            netns.ip("link set right master br").unwrap();
            netns.ip("link set out master br").unwrap();
            assert_eq!(ways("left", "br"), named(&["left", "right", "br"]));
            assert_eq!(ways("left", "out"), named(&["left", "right", "out"]));
            assert_eq!(ways("br", "left"), named(&["br", "right", "left"]));
            let received = netns.run(|| Ways::read().unwrap().received("right", "out")).unwrap();
            assert_eq!(received, named(&["right", "out"]));
        }
    }
}
