//! Random pcap-filter expressions about the packets of `traffic`.

use rig::rules::Random;

const HOSTS: [&str; 8] = [
    "10.0.0.1",
    "10.0.0.9",
    "10.0.1.2",
    "172.16.3.4",
    "192.168.203.1",
    "fd00::2",
    "fd00::ff",
    "10.9.9.9",
];
const NETS: [&str; 10] = [
    "10.0.0.0/8",
    "10.0.0.0/30",
    "10.0.0.0/24",
    "fd00::/16",
    "fd00::8/125",
    "192.168.0.0/16",
    "0.0.0.0/1",
    "10.0.1",
    "172.16.0.0 mask 255.240.0.0",
    "::/0",
];
const PORTS: [&str; 9] = ["53", "80", "443", "1000", "4789", "8080", "50001", "65535", "7"];

/// An expression with at most `depth` levels of joining. Not each has a meaning.
pub fn expression(random: &mut Random, depth: usize) -> String {
    if depth == 0 || random.below(4) == 0 {
        return primitive(random);
    }
    let and = random.pick(&["and", "and", "&&"]);
    let or = random.pick(&["or", "or", "||"]);
    let part = |random: &mut Random| expression(random, depth - 1);
    match random.below(9) {
        0 => format!("{} ({})", random.pick(&["not", "!"]), part(random)),
        1 => format!("not {}", part(random)),
        2 => format!("({}) {and} ({})", part(random), part(random)),
        3 => format!("({}) {or} ({})", part(random), part(random)),
        // Without parentheses, joined from the left.
        4 => format!("{} {and} {}", part(random), part(random)),
        5 => format!("{} {or} {}", part(random), part(random)),
        6 => format!("{} {and} {} {or} {}", part(random), part(random), part(random)),
        7 => format!("{} {and} not {}", part(random), part(random)),
        // Qualifiers that are left out are those of the term before.
        _ => match random.below(3) {
            0 => format!("{} {or} {}", port(random), random.pick(&PORTS)),
            1 => format!("{}host {} {or} {}", side(random), host(random), host(random)),
            _ => format!(
                "{}net {} {or} {} {and} {}",
                side(random),
                net(random),
                net(random),
                part(random)
            ),
        },
    }
}

fn host(random: &mut Random) -> &'static str {
    random.pick(&HOSTS)
}

fn net(random: &mut Random) -> &'static str {
    random.pick(&NETS)
}

fn side(random: &mut Random) -> &'static str {
    random.pick(&["", "", "src ", "dst ", "src or dst ", "src and dst "])
}

fn port(random: &mut Random) -> String {
    format!(
        "{}{}port {}",
        random.pick(&["", "", "tcp ", "udp "]),
        side(random),
        random.pick(&PORTS)
    )
}

fn primitive(random: &mut Random) -> String {
    match random.below(24) {
        0..4 => format!(
            "{}{}host {}",
            random.pick(&["", "", "ip ", "ip6 ", "arp "]),
            side(random),
            host(random)
        ),
        4 | 5 => format!("{}net {}", side(random), net(random)),
        6..9 => port(random),
        9 => format!(
            "{}{}portrange {}",
            random.pick(&["", "tcp ", "udp "]),
            side(random),
            random.pick(&["1-100", "400-5000", "50000-65535", "443-443"])
        ),
        10..13 => random
            .pick(&[
                "ip", "ip6", "arp", "tcp", "udp", "icmp", "icmp6", "sctp", "esp", "igmp", "rarp",
            ])
            .into(),
        13 => random
            .pick(&[
                "ether broadcast",
                "ether multicast",
                "ip multicast",
                "ip6 multicast",
                "broadcast",
            ])
            .into(),
        14 => format!(
            "ether {}host 02:00:00:00:00:0{}",
            random.pick(&["src ", "dst ", ""]),
            random.below(3)
        ),
        15 => random
            .pick(&["vlan", "vlan 7", "vlan 200", "mpls", "mpls 20", "pppoes", "pppoes 7"])
            .into(),
        16 => format!("{} {}", random.pick(&["greater", "less"]), random.below(300)),
        17 => format!("len {} {}", comparison(random), random.below(300)),
        18 => format!(
            "{} proto {}",
            random.pick(&["ip", "ip6"]),
            random.pick(&["1", "6", "17", "47", "58", "50", "4", "44", "\\tcp"])
        ),
        19 => format!("proto {}", random.pick(&["6", "17", "\\udp", "1"])),
        20 => {
            format!("ether proto {}", random.pick(&["0x800", "0x806", "0x86dd", "0x88cc", "\\ip"]))
        }
        21 => random
            .pick(&["tcp[tcpflags] & tcp-syn != 0", "tcp[13] = 0x12", "icmp[icmptype] = icmp-echo"])
            .into(),
        22 => "ip[6:2] & 0x1fff != 0".into(),
        _ => format!(
            "{}[{}{}] {} {}",
            random.pick(&["ip", "tcp", "udp", "ip6", "ether", "arp"]),
            random.below(40),
            random.pick(&["", ":1", ":2", ":4"]),
            comparison(random),
            random.below(300)
        ),
    }
}

fn comparison(random: &mut Random) -> &'static str {
    random.pick(&["=", "!=", "<", "<=", ">", ">="])
}
