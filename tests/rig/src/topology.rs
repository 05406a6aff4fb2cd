//! Hosts in a line, each a network namespace, joined by veth pairs.
//!
//! ```text
//! client ──────────── tapped ──────────── sink        Topology::line(["client", "tapped", "sink"])
//!   "tapped"   "client"     "sink"   "tapped"         interfaces: each has its neighbour's name
//! 10.71.0.1   10.71.0.2   10.71.1.1  10.71.1.2        link n: 10.71.n.0/24 and fd71:0:0:n::/64
//! ```
//!
//! The links are quiet: addresses, MACs and neighbours are fixed and there is no router, so that
//! nothing passes but what a test sends. Offloads stay as a veth has them (segmentation and checksums
//! on, GRO off), unless switched off for an interface.

use io::netns::Netns;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

/// What must not pass by itself, set before the first interface is made, which inherits it.
///
/// No link-local address (3rd line), so no router is asked for; a group is joined with two reports
/// (RFC 3810 section 6.1), here at once instead of a second apart.
const QUIET: [(&str, &str); 4] = [
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/addr_gen_mode", "1"),
    ("ipv6/conf/default/mldv2_unsolicited_report_interval", "1"),
];

/// Time within which the reports of joined groups have passed.
const SETTLE: Duration = Duration::from_millis(50);

/// IPv6 is switched off by the kernel on links of a smaller MTU (RFC 8200 section 5).
const IPV6_MTU_MIN: u32 = 1280;

/// Runs a function inside a network namespace of its own, with loopback up.
///
/// Programs that it starts by [`Netns::command`] are killed when it ends, and with it the namespace.
///
/// # Panics
/// If no namespace can be made (ask [`crate::root_or_skip`] first), or if the function panics.
pub fn in_netns<R: Send>(function: impl FnOnce(&Netns) -> R + Send) -> R {
    let netns = Netns::new().unwrap_or_else(|e| panic!("{e}"));
    netns.run(|| function(&netns)).unwrap_or_else(|e| panic!("{e}"))
}

/// A line of hosts that is up. Dropped, it is gone, with all that runs in it.
pub struct Topology {
    hosts: Vec<Host>,
}

/// One host of a [`Topology`].
pub struct Host {
    /// The host's network.
    pub netns: Netns,
    name: String,
    /// Its neighbours, the link to each, and its place on it: 1 on the left end, 2 on the right.
    ports: Vec<(String, u8, u8)>,
}

/// A line of hosts that is not built yet.
#[derive(Debug, Clone)]
pub struct Line {
    names: Vec<String>,
    mtu: u32,
    offloads_off: Vec<(String, String)>,
}

impl Topology {
    /// Begins a line of 2 to 9 hosts. Names are interface names, so at most 15 bytes.
    pub fn line<const N: usize>(names: [&str; N]) -> Line {
        assert!((2..=9).contains(&N), "a line of {N} hosts: 2 to 9 can be joined");
        let names = names.map(String::from).to_vec();
        Line { names, mtu: 1500, offloads_off: Vec::new() }
    }

    /// A host by its name.
    ///
    /// # Panics
    /// If there is none of this name.
    pub fn host(&self, name: &str) -> &Host {
        let host = self.hosts.iter().find(|host| host.name == name);
        host.unwrap_or_else(|| panic!("no host `{name}` in this topology"))
    }
}

impl Line {
    /// Sets the MTU of every link, bytes (default 1500). Below 1280 there is no IPv6.
    pub fn mtu(mut self, mtu: u32) -> Line {
        self.mtu = mtu;
        self
    }

    /// Switches the offloads of a host's interface towards a neighbour off: segmentation, GRO, and
    /// checksums both ways. Needs ethtool: ask [`crate::tool_or_skip`] first.
    pub fn offloads_off(mut self, host: &str, neighbour: &str) -> Line {
        self.offloads_off.push((host.into(), neighbour.into()));
        self
    }

    /// Makes the namespaces and joins them. Takes some 0.2 s.
    ///
    /// # Panics
    /// If the kernel or `ip` refuses: ask [`crate::root_or_skip`] first.
    pub fn build(&self) -> Topology {
        let hosts = self.names.iter().map(|name| Self::host(name)).collect();
        let mut topology = Topology { hosts };
        for link in 0..self.names.len() - 1 {
            self.join(&mut topology.hosts, link);
        }
        for (host, neighbour) in &self.offloads_off {
            topology.host(host).switch_offloads_off(neighbour);
        }
        std::thread::sleep(SETTLE);
        topology
    }

    fn host(name: &str) -> Host {
        let netns = Netns::new().unwrap_or_else(|e| panic!("{e}"));
        if has_ipv6() {
            let quieten = || QUIET.iter().for_each(|(key, value)| set(key, value));
            netns.run(quieten).unwrap_or_else(|e| panic!("{e}"));
        }
        Host { netns, name: name.into(), ports: Vec::new() }
    }

    fn join(&self, hosts: &mut [Host], link: usize) {
        let number = u8::try_from(link).expect("fewer than 9 links");
        let (left, right) = (self.names[link].clone(), self.names[link + 1].clone());
        let joined = hosts[link].netns.join(&right, &hosts[link + 1].netns, &left);
        joined.unwrap_or_else(|e| panic!("{left} to {right}: {e}"));
        hosts[link].ports.push((right, number, 1));
        hosts[link + 1].ports.push((left, number, 2));
        for (place, host) in (1..).zip(&hosts[link..=link + 1]) {
            let (interface, other) = (&host.ports.last().expect("just joined").0, 3 - place);
            let ip = |words: String| host.ip(&words);
            ip(format!("link set {interface} mtu {} address {}", self.mtu, mac(number, place)));
            ip(format!("addr add {}/24 dev {interface}", v4(number, place)));
            let peer = format!("lladdr {} dev {interface} nud permanent", mac(number, other));
            ip(format!("neigh replace {} {peer}", v4(number, other)));
            if self.mtu >= IPV6_MTU_MIN && has_ipv6() {
                ip(format!("addr add {}/64 dev {interface} nodad", v6(number, place)));
                ip(format!("neigh replace {} {peer}", v6(number, other)));
            }
        }
    }
}

impl Host {
    /// Its address on the link to a neighbour.
    ///
    /// # Panics
    /// If there is no such neighbour.
    pub fn v4(&self, neighbour: &str) -> Ipv4Addr {
        let (link, place) = self.port(neighbour);
        v4(link, place)
    }

    /// Its IPv6 address on the link to a neighbour.
    ///
    /// # Panics
    /// If there is no such neighbour.
    pub fn v6(&self, neighbour: &str) -> Ipv6Addr {
        let (link, place) = self.port(neighbour);
        v6(link, place)
    }

    /// Its MAC on the link to a neighbour, as text.
    ///
    /// # Panics
    /// If there is no such neighbour.
    pub fn mac(&self, neighbour: &str) -> String {
        let (link, place) = self.port(neighbour);
        mac(link, place)
    }

    /// Runs `ip` inside, and gives what it printed.
    ///
    /// # Panics
    /// If it fails.
    pub fn ip(&self, words: &str) -> String {
        self.netns.ip(words).unwrap_or_else(|e| panic!("on {}: {e}", self.name))
    }

    /// One of the kernel's counters of an interface: `way` is `rx` or `tx`, `name` for example
    /// `packets`, `bytes`, `errors`, `dropped`. A veth counts as sent what the other end took, and
    /// as `dropped` what it did not.
    ///
    /// # Panics
    /// If there is no such interface or counter.
    pub fn counter(&self, interface: &str, way: &str, name: &str) -> u64 {
        let text = self.ip(&format!("-s -j link show dev {interface}"));
        let links: serde_json::Value =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("ip -j link: {e}\n{text}"));
        let counter = links[0]["stats64"][way][name].as_u64();
        counter.unwrap_or_else(|| panic!("no counter {way} {name} in {text}"))
    }

    fn port(&self, neighbour: &str) -> (u8, u8) {
        let port = self.ports.iter().find(|(name, ..)| name == neighbour);
        let (_, link, place) =
            port.unwrap_or_else(|| panic!("`{}` has no neighbour `{neighbour}`", self.name));
        (*link, *place)
    }

    fn switch_offloads_off(&self, neighbour: &str) {
        self.port(neighbour);
        let mut ethtool = self.netns.command("ethtool");
        ethtool.args(["-K", neighbour]);
        for offload in ["tso", "gso", "gro", "tx", "rx"] {
            ethtool.args([offload, "off"]);
        }
        let output = ethtool.output().unwrap_or_else(|e| panic!("ethtool cannot be run: {e}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ethtool on {}: {said}", self.name);
    }
}

fn v4(link: u8, place: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 71, link, place)
}

fn v6(link: u8, place: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd71, 0, 0, link.into(), 0, 0, 0, place.into())
}

fn mac(link: u8, place: u8) -> String {
    format!("02:71:00:00:{link:02x}:{place:02x}")
}

fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").is_dir()
}

/// Sets a kernel parameter of the calling thread's network namespace.
fn set(key: &str, value: &str) {
    let path = format!("/proc/sys/net/{key}");
    fs::write(&path, value).unwrap_or_else(|e| panic!("{path}: {e}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Running, root_or_skip, tool_or_skip};
    use std::net::{IpAddr, UdpSocket};

    /// Whether a datagram from one host arrives at an address of another.
    fn arrives(from: &Host, to: &Host, address: IpAddr) -> bool {
        let socket = to.netns.run(|| UdpSocket::bind((address, 0)).unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let to = socket.local_addr().unwrap();
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let send = || UdpSocket::bind(any).unwrap().send_to(b"x", to);
        from.netns.run(send).unwrap().is_ok() && socket.recv_from(&mut [0; 9]).is_ok()
    }

    fn offloads(host: &Host, interface: &str) -> Vec<(String, bool)> {
        let output = host.netns.command("ethtool").args(["-k", interface]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let wanted = ["tcp-segmentation-offload", "rx-checksumming", "tx-checksumming"];
        let lines = text.lines().filter_map(|line| line.split_once(": "));
        let lines = lines.filter(|(name, _)| wanted.contains(name));
        lines.map(|(name, value)| (name.into(), value.starts_with("on"))).collect()
    }

    #[test]
    fn a_namespace_of_one_s_own_has_only_loopback() {
        if !root_or_skip() {
            return;
        }
        let links = in_netns(|netns| netns.ip("-o link").unwrap());
        assert!(links.lines().any(|line| line.contains("lo: <LOOPBACK,UP")), "{links}");
        assert!(!links.contains("link/ether"), "{links}");
    }

    #[test]
    fn hosts_reach_their_neighbours_and_no_others() {
        if !root_or_skip() {
            return;
        }
        let net = Topology::line(["west", "mid", "east"]).build();
        for (from, to, is_reached) in [
            ("west", "mid", true),
            ("east", "mid", true),
            ("west", "east", false),
            ("east", "west", false),
        ] {
            let host = net.host(to);
            let neighbour = if to == "mid" { from } else { "mid" };
            let addresses: [IpAddr; 2] = [host.v4(neighbour).into(), host.v6(neighbour).into()];
            for address in addresses {
                assert_eq!(arrives(net.host(from), host, address), is_reached, "{from} {address}");
            }
        }
    }

    #[test]
    fn nothing_passes_a_link_by_itself() {
        if !root_or_skip() || !tool_or_skip("tcpdump") {
            return;
        }
        let net = Topology::line(["left", "right"]).mtu(9000).build();
        let mut tcpdump = net.host("right").netns.command("tcpdump");
        let tcpdump = Running::start(tcpdump.args(["-n", "-l", "-i", "left"]));
        tcpdump.wait_for("listening on", Duration::from_secs(5));
        let right = net.host("right");
        assert!(arrives(net.host("left"), right, right.v4("left").into()));
        assert!(arrives(net.host("left"), right, right.v6("left").into()));
        // Longer than the kernel would wait before it asks for a router or reports a group.
        std::thread::sleep(Duration::from_millis(2500));
        let seen = String::from_utf8(tcpdump.stop(Duration::from_secs(5)).stdout).unwrap();
        let packets: Vec<&str> = seen.lines().filter(|line| !line.is_empty()).collect();
        assert!(packets.len() == 2 && packets.iter().all(|p| p.contains("UDP")), "{seen}");
    }

    #[test]
    fn interfaces_are_as_asked_for() {
        if !root_or_skip() || !tool_or_skip("ethtool") {
            return;
        }
        let line = Topology::line(["left", "right"]).mtu(900).offloads_off("right", "left");
        let net = line.build();
        let (left, right) = (net.host("left"), net.host("right"));
        let link = left.ip("link show right");
        assert!(link.contains("mtu 900 ") && link.contains(&left.mac("right")), "{link}");
        assert!(!left.ip("addr").contains("fd71"), "IPv6 needs 1280 bytes");
        assert!(offloads(left, "right").iter().all(|(_, on)| *on), "{:?}", offloads(left, "right"));
        assert!(offloads(right, "left").iter().all(|(_, on)| !on), "{:?}", offloads(right, "left"));
        assert_eq!(offloads(right, "left").len(), 3);
    }
}
