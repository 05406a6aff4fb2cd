//! The tunnels that are tried: what the guest's kernel is told, and what tapline is told.
//!
//! Where the two directions can differ, they do: other sessions, cookies, indices.

use std::fmt;

/// The addresses of the link between this host and the guest.
pub const HOST: [&str; 2] = ["10.71.0.1", "fd71::1"];
pub const GUEST: [&str; 2] = ["10.71.0.2", "fd71::2"];

const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const UDP_BYTES: usize = 8;
/// The next header behind which stand destination options.
const IPV6_OPTIONS: u8 = 60;

/// Behind 8 bytes of GRE: the class of service. Over IPv6 the kernel takes it from the inner packet
/// as if that were IPv6 too (`erspan_build_header` in include/net/erspan.h).
const ERSPAN_COS: (usize, u8) = (10, 0xe0);
/// Behind it and the session: the time of type III.
const ERSPAN_TIME: [(usize, u8); 4] = [(12, 0xff), (13, 0xff), (14, 0xff), (15, 0xff)];
/// The ports of both ends.
const L2TP_OVER_UDP: &str = "udp udp_sport 1701 udp_dport 1701";

/// One tunnel.
pub struct Case {
    /// What it is, in the words of the kernel's tools.
    pub name: String,
    /// What makes the device `t0` in the guest.
    pub make: String,
    /// Where the guest receives.
    pub to: String,
    /// Where this host receives.
    pub listen: String,
    /// The same form of packets as the guest sends, but to the guest.
    pub like_the_guest: String,
    /// The guest's address, which packets are sent to.
    pub guest: &'static str,
    /// Whether the tunnel stands in UDP.
    is_udp: bool,
    /// Whether frames with an Ethernet header pass, or IP packets.
    pub is_ethernet: bool,
    /// What of the tunnel's header is not compared: offsets, and the bits there.
    masked: &'static [(usize, u8)],
}

impl Case {
    /// The tunnel's header and the payload in a frame between the hosts; what is masked is 0.
    pub fn tunnel_in(&self, frame: &[u8]) -> Vec<u8> {
        let ip = &frame[ETHERNET_BYTES..];
        // The kernel says in a header of IPv6 options how often its packets may be put into tunnels.
        let ip_bytes = match (ip[0] >> 4, ip[6]) {
            (4, _) => IPV4_BYTES,
            (_, IPV6_OPTIONS) => IPV6_BYTES + 8,
            _ => IPV6_BYTES,
        };
        let udp_bytes = if self.is_udp { UDP_BYTES } else { 0 };
        let mut tunnel = ip[ip_bytes + udp_bytes..].to_vec();
        for &(at, bits) in self.masked {
            tunnel[at] &= !bits;
        }
        tunnel
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <-> {}", self.name, self.to)
    }
}

/// Every tunnel over IPv4, then over IPv6.
pub fn cases() -> Vec<Case> {
    [Outer::new(0), Outer::new(1)].iter().flat_map(Outer::cases).collect()
}

/// The IP that carries the tunnels.
struct Outer {
    is_v6: bool,
    host: &'static str,
    guest: &'static str,
}

impl Outer {
    fn new(family: usize) -> Outer {
        Outer { is_v6: family == 1, host: HOST[family], guest: GUEST[family] }
    }

    fn cases(&self) -> Vec<Case> {
        let mut cases = self.over_udp();
        cases.extend(self.gre());
        cases.extend(self.erspan());
        cases.extend(self.l2tp());
        cases
    }

    fn over_udp(&self) -> Vec<Case> {
        let geneve = format!("type geneve id 71 remote {}", self.host);
        vec![
            self.device("type vxlan id 71 dstport 4789", "vxlan", "vni=71", "vni=71"),
            self.link(geneve.clone(), "geneve", "vni=71", "vni=71&metadata=off"),
            self.link(geneve, "geneve", "vni=71&metadata=off", "vni=71&metadata=off"),
        ]
    }

    fn gre(&self) -> Vec<Case> {
        let kinds = if self.is_v6 { ["ip6gretap", "ip6gre"] } else { ["gretap", "gre"] };
        let mut cases = Vec::new();
        for (kind, scheme) in kinds.into_iter().zip(["gretap", "gre"]) {
            for (words, to, from) in [
                ("", "", ""),
                ("ikey 71 okey 4278190335", "key=71", "key=255.0.0.255"),
                ("key 71 icsum ocsum", "key=71&csum=on", "key=71&csum=on"),
                ("key 71 iseq oseq", "key=71&seq=on", "key=71&seq=on"),
            ] {
                cases.push(self.device(&format!("type {kind} {words}"), scheme, to, from));
            }
        }
        cases
    }

    fn erspan(&self) -> Vec<Case> {
        let kind = if self.is_v6 { "ip6erspan" } else { "erspan" };
        let mut cases = Vec::new();
        // The kernel has no type I over IPv6.
        if !self.is_v6 {
            let words = format!("type {kind} erspan_ver 0");
            cases.push(self.device(&words, "erspan", "type=1", "type=1"));
        }
        let mut second = self.device(
            &format!("type {kind} seq key 71 erspan_ver 1 erspan 123"),
            "erspan",
            "type=2&session=71&index=9",
            "type=2&session=71&index=123",
        );
        let mut third = self.device(
            &format!("type {kind} seq key 71 erspan_ver 2 erspan_dir ingress erspan_hwid 7"),
            "erspan",
            "type=3&session=71&hwid=5&time=coarse",
            "type=3&session=71&hwid=7&time=coarse",
        );
        if self.is_v6 {
            second.masked = &[ERSPAN_COS];
            third.masked =
                &[ERSPAN_TIME[0], ERSPAN_TIME[1], ERSPAN_TIME[2], ERSPAN_TIME[3], ERSPAN_COS];
        } else {
            third.masked = &ERSPAN_TIME;
        }
        cases.extend([second, third]);
        cases
    }

    fn l2tp(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for (words, to, from) in [
            ("", "", ""),
            ("cookie 11223344 peer_cookie 55667788", "&cookie=55667788", "&cookie=11223344"),
            (
                "cookie 0123456789abcdef peer_cookie fedcba9876543210 l2spec_type none",
                "&cookie=fedcba9876543210&sublayer=none",
                "&cookie=0123456789abcdef&sublayer=none",
            ),
            ("seq both", "&seq=on", "&seq=on"),
        ] {
            for (encap, scheme) in [("ip", "l2tp"), (L2TP_OVER_UDP, "l2tp+udp")] {
                let tunnel = format!(
                    "add tunnel tunnel_id 1 peer_tunnel_id 1 local {} remote {} encap {encap}",
                    self.guest, self.host
                );
                let session = format!(
                    "add session name t0 tunnel_id 1 session_id 100 peer_session_id 200 {words}"
                );
                let mut case = self.case(scheme, &format!("id=100{to}"), &format!("id=200{from}"));
                case.name = format!("l2tp encap {encap} {words}");
                case.make = format!("ip l2tp {tunnel} && ip l2tp {session}");
                cases.push(case);
            }
        }
        cases
    }

    /// A device between the two hosts.
    fn device(&self, words: &str, scheme: &str, to: &str, from: &str) -> Case {
        let words = format!("{words} local {} remote {}", self.guest, self.host);
        self.link(words, scheme, to, from)
    }

    fn link(&self, words: String, scheme: &str, to: &str, from: &str) -> Case {
        let mut case = self.case(scheme, to, from);
        case.make = format!("ip link add t0 {words}");
        case.name = words;
        case
    }

    /// A tunnel: how packets are sent to the guest, and how the guest sends them.
    fn case(&self, scheme: &str, to: &str, from: &str) -> Case {
        let endpoint = |address: &str, query: &str| match self.is_v6 {
            true => format!("{scheme}://[{address}]?{query}"),
            false => format!("{scheme}://{address}?{query}"),
        };
        Case {
            name: String::new(),
            make: String::new(),
            to: endpoint(self.guest, to),
            listen: endpoint(self.host, from),
            like_the_guest: endpoint(self.guest, from),
            guest: self.guest,
            is_udp: matches!(scheme, "vxlan" | "geneve" | "l2tp+udp"),
            is_ethernet: scheme != "gre",
            masked: &[],
        }
    }
}
