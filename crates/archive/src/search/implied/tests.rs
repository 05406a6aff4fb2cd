use super::*;
use crate::index::{AddressSet, Flow, Row};

fn row(ethertype: u16, flow: Option<Flow>) -> Row {
    Row {
        source: "a".into(),
        tunnel: None,
        vlan: Vec::new(),
        ethertype,
        macs: flow.is_none().then_some(([2; 6], [4; 6])),
        flow,
        outer: None,
        span_ns: (0, 1),
        packets: (1, 0),
        bytes: (60, 0),
        tcp_flags: None,
        truncated: false,
        flows: 1,
        frames: vec![1],
    }
}

fn ip(lo: &str, hi: &str, proto: u8, ports: Option<(u16, u16)>) -> Row {
    let mapped = |text: &str| match text.parse().unwrap() {
        std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        std::net::IpAddr::V6(ip) => ip,
    };
    let flow = Flow {
        ip_lo: Some(mapped(lo)),
        ip_hi: Some(mapped(hi)),
        port_lo: ports.map(|ports| ports.0),
        port_hi: ports.map(|ports| ports.1),
        proto,
        community_id: None,
    };
    row(if lo.contains(':') { 0x86dd } else { 0x0800 }, Some(flow))
}

fn may(expression: &str, row: &Row) -> bool {
    // What libpcap takes and what this parser takes must agree about what is an expression.
    io::libpcap::compile(expression, wire::LinkType::ETHERNET, 0).unwrap();
    Tree::of(expression).may(&RowFacts(row))
}

#[test]
fn leaves_ask_what_they_say() {
    let web = ip("10.0.0.1", "10.0.0.2", 6, Some((40000, 80)));
    let dns = ip("fd00::1", "fd00::2", 17, Some((53, 5353)));
    let ping = ip("10.0.0.1", "192.0.2.1", 1, None);
    let fragment = ip("10.0.0.1", "10.0.0.2", 17, None);
    let arp = row(0x0806, None);
    let stp = row(0, None);
    let bad = row(0x0800, None);
    let rows = [&web, &dns, &ping, &fragment, &arp, &stp, &bad];
    for (expression, expected) in [
        ("", "wdpfasb"),
        ("tcp", "w-----b"),
        ("udp port 53", "-d-f--b"),
        ("port 80", "w--f--b"),
        ("port 80 or 53", "wd-f--b"),
        ("tcp port 80 and host 10.0.0.2", "w-----b"),
        ("host 10.0.0.1", "w-pfa-b"),
        ("ip host 10.0.0.1", "w-pf--b"),
        ("src host 10.0.0.9", "----a-b"),
        ("arp", "----a--"),
        ("arp host 10.0.0.9", "----a--"),
        ("ip6", "-d-----"),
        ("ip", "w-pf--b"),
        ("icmp", "--p---b"),
        ("net 192.0.2.0/24", "--p-a-b"),
        ("net 10.0", "w-pfa-b"),
        ("net 10.0.0.0 mask 255.255.0.0", "w-pfa-b"),
        ("net fd00::/16", "-d----b"),
        ("host fd00::1 and udp", "-d----b"),
        ("host (10.0.0.2 or 192.0.2.1) and ip", "w-pf--b"),
        ("portrange 5000-6000", "-d-f--b"),
        ("tcp portrange 80-90 and not port 80", "w-----b"),
        ("not tcp", "wdpfasb"),
        ("not (tcp port 80 or udp)", "wdpfasb"),
        ("ip and not tcp", "w-pf--b"),
        ("tcp and port 81", "------b"),
        ("port 81 or 82 and ip host 10.0.0.1", "---f--b"),
        ("host 10.0.0.2 and not 10.0.0.1 and ip", "w--f--b"),
        ("tcp[tcpflags] & (tcp-syn|tcp-fin) != 0 and port 81", "---f--b"),
        ("len > 100 and icmp", "--p---b"),
        ("(len > 100) and (icmp)", "--p---b"),
        ("((ip[0] & 0xf) * 4 - 20) > 0 or arp", "wdpfasb"),
        ("vlan 7 and tcp", "w-----b"),
        ("vlan and vlan and port 53", "-d-f--b"),
        ("vlan or tcp", "wdpfasb"),
        ("(arp or not vlan) and tcp", "wdpfasb"),
        ("mpls and tcp", "wdpfasb"),
        ("ether host 02:00:00:00:00:01 and udp", "-d-f--b"),
        ("ether broadcast and arp", "----a--"),
        ("proto 17", "-d-f--b"),
        ("ip proto \\icmp", "--p---b"),
        ("ip6 proto 17", "-d-----"),
        ("ether proto 0x0806", "----a--"),
        ("ether proto \\arp", "----a--"),
        ("sctp", "------b"),
        ("ip multicast and tcp", "w-----b"),
        ("less 100 and greater 50 and tcp", "w-----b"),
        ("src or dst port 80", "w--f--b"),
        ("src and dst net 10.0.0.0/8 and tcp", "w-----b"),
        ("dst 10.0.0.2 and tcp", "w-----b"),
        ("port 80 && (443 || 53)", "---f--b"),
    ] {
        let got: String = rows
            .iter()
            .zip("wdpfasb".chars())
            .map(|(row, name)| if may(expression, row) { name } else { '-' })
            .collect();
        assert_eq!(got, expected, "{expression}");
    }
}

#[test]
fn what_is_not_shared_or_not_seen_may_be_anything() {
    let mut scan = ip("10.0.0.1", "10.0.0.2", 6, None);
    scan.flows = 300;
    let flow = scan.flow.as_mut().unwrap();
    (flow.ip_hi, flow.port_hi) = (None, Some(22));
    assert!(may("host 10.9.9.9 and tcp", &scan) && may("port 99", &scan));
    assert!(!may("udp", &scan));
    // Behind a tunnel a filter does not look.
    let mut vxlan = ip("10.0.0.1", "10.0.0.2", 6, Some((1, 2)));
    vxlan.outer = ip("192.0.2.1", "192.0.2.2", 17, Some((9, 4789))).flow;
    assert!(may("udp port 4789 and host 192.0.2.1", &vxlan));
    assert!(!may("ip host 10.0.0.1", &vxlan) && !may("tcp", &vxlan));
    // IPv6 headers that are passed, or cut off behind the first byte.
    let hidden = ip("fd00::1", "fd00::2", 44, None);
    assert!(may("tcp", &hidden) && may("ip6 proto 44", &hidden) && may("port 80", &hidden));
    let behind = ip("fd00::1", "fd00::2", 6, Some((1, 80)));
    assert!(may("ip6 proto 0", &behind) && may("ah", &behind));
    // Of a link that is not known.
    let mut radio = row(0, None);
    radio.macs = None;
    assert!(may("tcp port 80", &radio) && may("arp", &radio) && may("arp host 10.0.0.9", &radio));
}

#[test]
fn addresses_that_must_be_there_are_found() {
    let mut set = AddressSet::default();
    for text in ["10.0.0.1", "10.0.0.2"] {
        set.insert(text.parse::<Ipv4Addr>().unwrap().to_ipv6_mapped());
    }
    let may = |expression| Tree::of(expression).may(&AddressFacts(&set));
    assert!(may("host 10.0.0.1 and port 80") && may("host 10.9.9.9 or 10.0.0.2"));
    assert!(may("not host 10.9.9.9") && may("net 10.9.0.0/16") && may("tcp"));
    assert!(!may("host 10.9.9.9") && !may("host 10.0.0.1 and 10.9.9.9"));
    let tree = Tree::of("tcp and host 10.0.0.1 and (port 80 or host 10.0.0.2) and not host ::1");
    assert_eq!(tree.addresses(), [Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped()]);
}

#[test]
fn what_is_not_understood_may_match() {
    for text in
        ["port no-such-name", "host example.org", "gateway x", "net 10", "type mgt", "port 010"]
    {
        assert!(Tree::of(text).may(&RowFacts(&row(0x0800, None))), "{text}");
    }
    let deep = format!("{}tcp{}", "(".repeat(5000), ")".repeat(5000));
    assert_eq!(Tree::of(&deep), Tree::Maybe);
    for text in ["tcp and", "(", "port", "and", "tcp )", "host 1.2.3.4 port 80", "not"] {
        assert_eq!(Tree::of(text), Tree::Maybe, "{text}");
    }
}
