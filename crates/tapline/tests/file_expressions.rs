//! Random expressions select what `tcpdump -r` selects.
//!
//! `geneve` is left out: libpcap 1.10.3 makes programs of it that read what they never wrote, and
//! tcpdump's verdict then depends on the packet before (see crate `io`, module `libpcap`).

mod over_files;

use io::libpcap;
use over_files::frame::*;
use over_files::*;
use rig::Scratch;
use std::fs;
use std::path::Path;
use std::process::Command;
use wire::LinkType;

const EXPRESSIONS: usize = 1000;

/// SplitMix64 (Steele, Lea, Flood, 2014): the same expressions on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }

    /// An expression with at most `depth` levels of joining.
    fn expression(&mut self, depth: usize) -> String {
        if depth == 0 || self.below(4) == 0 {
            return self.primitive();
        }
        match self.below(5) {
            0 => format!("{} ({})", self.of(&["not", "!"]), self.expression(depth - 1)),
            1 | 2 => {
                let word = self.of(&["and", "&&"]);
                format!("({}) {word} {}", self.expression(depth - 1), self.expression(depth - 1))
            }
            _ => {
                let word = self.of(&["or", "||"]);
                format!("{} {word} ({})", self.expression(depth - 1), self.expression(depth - 1))
            }
        }
    }

    fn primitive(&mut self) -> String {
        let side = self.of(&["", "src ", "dst ", "src or dst ", "src and dst "]);
        match self.below(16) {
            0 | 1 => self
                .of(&["ip", "ip6", "arp", "tcp", "udp", "icmp", "icmp6", "sctp", "esp", "rarp"])
                .into(),
            2 => format!(
                "{side}host {}",
                self.of(&["10.0.0.1", "10.0.0.9", "fd00::2", "192.168.203.1"])
            ),
            3 => format!(
                "{side}net {}",
                self.of(&["10.0.0.0/8", "10.0.0.0/30", "fd00::/16", "192.168.0.0/16", "0.0.0.0/1"])
            ),
            4 => format!(
                "{}{side}port {}",
                self.of(&["", "tcp ", "udp "]),
                self.of(&["53", "80", "443", "4789", "1000"])
            ),
            5 => format!("{side}portrange {}", self.of(&["1-100", "400-5000", "50000-65535"])),
            6 => self
                .of(&["ether broadcast", "ether multicast", "ip broadcast", "ip multicast"])
                .into(),
            7 => format!(
                "ether {}host 02:00:00:00:00:0{}",
                self.of(&["src ", "dst ", ""]),
                self.below(3)
            ),
            8 => self
                .of(&["vlan", "vlan 7", "vlan 200 and vlan 2001", "mpls", "ip6 multicast"])
                .into(),
            9 => format!("{} {}", self.of(&["greater", "less"]), self.below(200)),
            10 => format!("len {} {}", self.comparison(), self.below(1600)),
            11 => format!(
                "{} proto {}",
                self.of(&["ip", "ip6"]),
                self.of(&["1", "6", "17", "47", "58", "50"])
            ),
            12 => {
                format!("ether proto {}", self.of(&["0x800", "0x806", "0x86dd", "0x88cc", "\\ip"]))
            }
            13 => format!("ip6 protochain {}", self.of(&["6", "17", "58"])),
            _ => format!("{} {} {}", self.sum(2), self.comparison(), self.sum(1)),
        }
    }

    fn comparison(&mut self) -> &'static str {
        self.of(&["=", "==", "!=", "<", "<=", ">", ">="])
    }

    /// Byte arithmetic.
    fn sum(&mut self, depth: usize) -> String {
        if depth > 0 && self.below(2) == 0 {
            let operator = self.of(&["+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"]);
            // A constant that is 0 is refused behind / and %, and one above 31 behind << and >>.
            return format!("({} {operator} {})", self.sum(depth - 1), 1 + self.below(31));
        }
        let offset = self.below(40);
        match self.below(8) {
            0 => self.below(300).to_string(),
            1 => "len".into(),
            2 => self.of(&["tcp[tcpflags]", "icmp[icmptype]", "tcp[13]", "ip[6:2]"]).into(),
            3 => format!("ip[{offset} + (ip[0] & 0xf)]"),
            _ => format!(
                "{}[{offset}{}]",
                self.of(&["ip", "ip", "tcp", "udp", "ip6", "icmp", "ether", "arp"]),
                self.of(&["", ":1", ":2", ":4"])
            ),
        }
    }
}

/// IP packets of many kinds, whole and cut.
fn ip_packets() -> Vec<Vec<u8>> {
    let mut random = Random(7);
    let mut all = Vec::new();
    for _ in 0..150 {
        let ports = ["53", "80", "443", "4789", "1000", "50001"];
        let mut port = || ports[random.below(ports.len())].parse().expect("a number");
        let (src, dst) = (port(), port());
        let flags = random.below(64) as u8;
        let payload = vec![random.below(256) as u8; random.below(120)];
        let last = [1, 2, 9, 255][random.below(4)];
        let hosts = ([10, 0, 0, 1 + random.below(3) as u8], [10, 0, [0, 1][random.below(2)], last]);
        let (protocol, body) = match random.below(6) {
            0 | 1 => (6, tcp(src, dst, flags, &payload)),
            2 | 3 => (17, udp(src, dst, &payload)),
            4 => (1, [&[random.below(12) as u8, 0, 0, 0][..], &payload].concat()),
            _ => ([47, 50, 132, 2][random.below(4)], payload),
        };
        let fragment = [0, 0, 0, 0, 0x2000, 0x00b9][random.below(6)];
        let mut packet = match random.below(3) {
            0 => ipv6(if protocol == 1 { 58 } else { protocol }, &body),
            1 => ipv6(0, &[&[protocol, 0, 5, 2, 0, 0, 1, 0][..], &body].concat()),
            _ => ipv4_between(hosts.0, hosts.1, protocol, fragment, &body),
        };
        if random.below(8) == 0 {
            let len = random.below(packet.len());
            packet.truncate(len);
        }
        all.push(packet);
    }
    all
}

/// Ethernet frames: those packets, some of them tagged, and others; and of the captures in the
/// folder that TAPLINE_CAPTURES names.
fn ethernet_frames() -> Vec<Vec<u8>> {
    let mut frames =
        vec![arp(), ethernet(0x88cc, &[2; 50]), ethernet(0x8847, &[0; 60]), Vec::new()];
    for (number, packet) in ip_packets().iter().enumerate() {
        let is_ipv6 = packet.first().is_some_and(|byte| byte >> 4 == 6);
        let mut frame = ethernet(if is_ipv6 { 0x86dd } else { 0x0800 }, packet);
        if number % 10 == 0 {
            frame[..6].fill(0xff);
        }
        frames.push(match number % 6 {
            0 => tagged(&frame, &[7]),
            1 => tagged(&frame, &[200, 2001]),
            _ => frame,
        });
    }
    if let Some(folder) = std::env::var_os("TAPLINE_CAPTURES") {
        for path in rig::capture_files(Path::new(&folder)) {
            let of_file = packets(&fs::read(path).expect("the file is there"));
            let of_ethernet = of_file.into_iter().filter(|p| p.interface.link_type == 1);
            frames.extend(of_ethernet.map(|packet| packet.bytes));
        }
    }
    frames
}

/// The times of the packets that tcpdump selects; `None` if it refuses the expression.
fn tcpdump(from: &Path, to: &Path, expression: &str) -> Option<Vec<u64>> {
    let mut command = Command::new("tcpdump");
    command.arg("-r").arg(from).arg("-w").arg(to).arg("--").arg(expression);
    let output = command.output().expect("tcpdump can be started");
    let times = |path: &Path| packets_in(path).iter().map(|packet| packet.ts_ns).collect();
    output.status.success().then(|| times(to))
}

/// Compares `EXPRESSIONS` random expressions over a file; gives how many of them have a meaning,
/// and how many select some packets but not all.
fn compare(link_type: LinkType, frames: &[Vec<u8>], seed: u64) -> (usize, usize) {
    let scratch = Scratch::new("expressions");
    let (from, to) = (scratch.path("x.pcap"), scratch.path("judge.pcap"));
    let bytes = pcap(u32::from(link_type.0), frames);
    fs::write(&from, &bytes).expect("the folder can be written to");
    let all = packets(&bytes);
    let mut random = Random(seed);
    let (mut understood, mut telling) = (0, 0);
    for number in 0..EXPRESSIONS {
        let expression = random.expression(3);
        let wanted = tcpdump(&from, &to, &expression);
        let program = libpcap::compile(&expression, link_type, 65_535);
        assert_eq!(program.is_ok(), wanted.is_some(), "{expression}: {:?}", program.err());
        let (Ok(program), Some(wanted)) = (program, wanted) else { continue };
        understood += 1;
        telling += usize::from(!wanted.is_empty() && wanted.len() < all.len());
        let got: Vec<u64> = all
            .iter()
            .filter(|packet| program.matches(&packet.bytes, packet.origlen))
            .map(|packet| packet.ts_ns)
            .collect();
        assert_eq!(got, wanted, "{expression}");
        // The binary takes the same way for all: some of them show that it is this one.
        if number % (EXPRESSIONS / 5) == 0 {
            assert_eq!(by_the_binary(&scratch, &from, &expression), wanted, "{expression}");
        }
    }
    (understood, telling)
}

fn by_the_binary(scratch: &Scratch, from: &Path, expression: &str) -> Vec<u64> {
    let to = scratch.path("ours.pcapng");
    let output = tapline([
        "capture".as_ref(),
        "-r".as_ref(),
        from.as_os_str(),
        "-w".as_ref(),
        to.as_os_str(),
        "--".as_ref(),
        expression.as_ref(),
    ]);
    assert_done(&output);
    packets_in(&to).iter().map(|packet| packet.ts_ns).collect()
}

#[test]
fn over_ethernet_they_select_what_tcpdump_selects() {
    if !rig::tool_or_skip("tcpdump") {
        return;
    }
    let (understood, telling) = compare(LinkType::ETHERNET, &ethernet_frames(), 1);
    assert!(understood > EXPRESSIONS * 3 / 4, "{understood} have a meaning");
    assert!(telling > EXPRESSIONS / 2, "{telling} tell packets apart");
}

#[test]
fn over_raw_ip_they_select_what_tcpdump_selects() {
    if !rig::tool_or_skip("tcpdump") {
        return;
    }
    let (understood, telling) = compare(LinkType::RAW, &ip_packets(), 2);
    assert!(understood > EXPRESSIONS / 3, "{understood} have a meaning");
    assert!(telling > EXPRESSIONS / 5, "{telling} tell packets apart");
}
