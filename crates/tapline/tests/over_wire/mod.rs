//! A link that carries what a cable would, between two hosts with all offloads on.
//!
//! ```text
//! client ─────────── west ═══════════ east ─────────── server
//!        offloads on      offloads off     offloads on
//! ```
//! `west` and `east` are bridges, so that frames pass unchanged; the link between them has no
//! offloads, so that what tcpdump sees there is what a cable would carry. A sink behind each end is
//! there on demand: `near ─── client`, `server ─── far`.

#![allow(dead_code, reason = "each test uses its part")]

use rig::{Host, Line, Scratch, Topology, link_or_skip, root_or_skip, tool_or_skip, wait_until};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// The longest frame of a link with an MTU of 1500.
pub const FRAME_BYTES_MAX: usize = 1514;

/// Says whether such a link can be made here.
pub fn can_run() -> bool {
    root_or_skip()
        && tool_or_skip("tcpdump")
        && tool_or_skip("ethtool")
        && link_or_skip("type bridge")
}

/// Has a veth of a host queue all that it receives for one CPU. It would else be the CPU that has sent
/// it, and what a flow sends from two of them could come in another order than it left: no NIC does that.
fn receive_in_order(host: &Host, port: &str) {
    let script = "mount -t sysfs none /sys && echo 1 > /sys/class/net/$0/queues/rx-0/rps_cpus";
    let mut command = host.netns.command("unshare");
    let status = command.args(["--mount", "sh", "-c", script, port]).status().expect("unshare");
    assert!(status.success(), "{port}: {status}");
}

/// The hosts, and a folder for files.
pub struct Scene {
    net: Topology,
    pub scratch: Scratch,
    /// Of the links to the sinks, bytes.
    pub underlay_mtu: u32,
}

impl Scene {
    pub fn new(name: &str) -> Scene {
        Scene::over(name, Topology::line(["client", "west", "east", "server"]))
    }

    /// A scene with a host behind each end, `near` and `far`, over links of some MTU.
    pub fn with_sinks(name: &str, underlay_mtu: u32) -> Scene {
        let line = ["near", "client", "west", "east", "server", "far"];
        let mut scene = Scene::over(name, Topology::line(line));
        scene.underlay_mtu = underlay_mtu;
        for (host, port) in
            [("near", "client"), ("client", "near"), ("server", "far"), ("far", "server")]
        {
            scene.host(host).ip(&format!("link set {port} mtu {underlay_mtu}"));
        }
        for (sink, port) in [("near", "client"), ("far", "server")] {
            receive_in_order(scene.host(sink), port);
        }
        scene
    }

    fn over(name: &str, mut line: Line) -> Scene {
        // A veth joins packets (GRO) only if the other end cuts them itself: those of the bridges do.
        for (bridge, port) in
            [("west", "east"), ("east", "west"), ("west", "client"), ("east", "server")]
        {
            line = line.offloads_off(bridge, port);
        }
        let scratch = Scratch::new(&format!("wire-{name}"));
        let scene = Scene { net: line.build(), scratch, underlay_mtu: 1500 };
        for (host, ports) in [("west", ["client", "east"]), ("east", ["west", "server"])] {
            let host = scene.host(host);
            host.ip("link add bridge type bridge forward_delay 0 mcast_snooping 0");
            for port in ports {
                host.ip(&format!("addr flush dev {port}"));
                host.ip(&format!("link set {port} master bridge"));
            }
            host.ip("link set bridge up");
        }
        let ends = [("client", "west", 1), ("server", "east", 2)];
        for ((host, port, place), (other, other_port, other_place)) in
            [(ends[0], ends[1]), (ends[1], ends[0])]
        {
            let mac = scene.host(other).mac(other_port);
            let host = scene.host(host);
            host.ip(&format!("addr flush dev {port}"));
            for (own, prefix, peer) in
                [(v4(place), 24, v4(other_place)), (v6(place), 64, v6(other_place))]
            {
                let nodad = if own.is_ipv6() { "nodad" } else { "" };
                host.ip(&format!("addr add {own}/{prefix} dev {port} {nodad}"));
                host.ip(&format!("neigh replace {peer} lladdr {mac} dev {port} nud permanent"));
            }
            scene.join_received_packets(host, port);
            limit_window(host, 131_072);
        }
        scene
    }

    pub fn host(&self, name: &str) -> &Host {
        self.net.host(name)
    }

    /// Waits until the kernel's own first packets on new interfaces have passed.
    pub fn settle(&self) {
        let passed = || {
            let ports = [("client", "west"), ("west", "east"), ("server", "east")];
            ports.map(|(host, port)| {
                ["rx", "tx"].map(|way| self.host(host).counter(port, way, "packets"))
            })
        };
        let mut last = passed();
        let mut is_still = || {
            std::thread::sleep(Duration::from_millis(300));
            let before = std::mem::replace(&mut last, passed());
            before == last
        };
        wait_until("no more packets pass", Duration::from_secs(10), &mut is_still);
    }

    pub fn server_addresses(&self) -> [IpAddr; 2] {
        [v4(2), v6(2)]
    }

    /// The same of the client.
    pub fn client_addresses(&self) -> [IpAddr; 2] {
        [v4(1), v6(1)]
    }

    /// Has the host join received packets (GRO), which a veth does not by itself.
    fn join_received_packets(&self, host: &Host, port: &str) {
        let output = host.netns.command("ethtool").args(["-K", port, "gro", "on"]).output();
        assert!(output.expect("the host stands").status.success(), "ethtool -K {port} gro on");
    }
}

fn v4(place: u8) -> IpAddr {
    Ipv4Addr::new(10, 72, 0, place).into()
}

fn v6(place: u8) -> IpAddr {
    Ipv6Addr::new(0xfd72, 0, 0, 0, 0, 0, 0, place.into()).into()
}

/// Fewer bytes on their way than the queue of a veth holds, so that none is lost behind the judge.
pub fn limit_window(host: &Host, bytes: u32) {
    let sizes = format!("4096 {} {bytes}", bytes / 2);
    let set = || {
        for key in ["tcp_rmem", "tcp_wmem"] {
            std::fs::write(format!("/proc/sys/net/ipv4/{key}"), &sizes).expect("the host stands");
        }
    };
    host.netns.run(set).expect("the host stands");
}
