//! Whether a neighbour on an interface's link answers: ARP (RFC 826), neighbour discovery (RFC 4861).
//!
//! ```text
//! ARP request, as a probe (RFC 5227): the sender's address is 0.0.0.0, so that nobody learns from it
//!  0             6             12     14                22           28          32           38
//! +-------------+-------------+------+-----------------+------------+-----------+------------+--------+
//! | ff × 6      | own MAC     | 0806 | 1 0800 6 4 op=1 | own MAC    | 0.0.0.0   | 0 × 6      | target |
//! +-------------+-------------+------+-----------------+------------+-----------+------------+--------+
//! neighbour solicitation: to the target's group ff02::1:ff00:0 with its last 24 bits, hop limit 255
//!  0           14          54                         62       78
//! +-----------+-----------+--------------------------+--------+------------------+
//! | 33 33 ff… | IPv6      | 135 0 checksum, 0 × 4    | target | option 1: own MAC|
//! +-----------+-----------+--------------------------+--------+------------------+
//! ```
//!
//! The interface needs no IPv4 address. Over IPv6 it asks from one of its addresses, a link-local one
//! first; without any it asks from `::`, without the option, and the answer goes to all nodes.

use super::sys::Socket;
use super::{Probe, link, reason};
use crate::sys::poll_readable;
use filter::{Instruction, Program, op};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use wire::checksum::Sum;

const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const ARP_REPLY: u16 = 2;
/// Offsets in an Ethernet frame.
const ETHERTYPE_AT: u32 = 12;
const ARP_OPERATION_AT: u32 = 20;
const ARP_SENDER_AT: usize = 28;
const NEXT_HEADER_AT: u32 = 20;
const HOP_LIMIT_AT: usize = 21;
const ICMPV6_AT: usize = 54;
const TARGET_AT: usize = 62;
/// Bytes of an answer that are read.
const ANSWER_BYTES: usize = 128;

pub(super) struct Neighbour {
    pub interface: String,
    pub address: IpAddr,
}

impl Probe for Neighbour {
    fn attempt(&mut self, timeout: Duration) -> Result<(), String> {
        let deadline = Instant::now() + timeout;
        let (index, interface) = link::find(&self.interface)?;
        if !interface.is_ethernet {
            return Err("it has no Ethernet frames".into());
        }
        let (ethertype, question) = match self.address {
            IpAddr::V4(address) => (ARP, request(interface.mac, address)),
            IpAddr::V6(address) => {
                (IPV6, solicitation(interface.mac, own_address(&self.interface), address))
            }
        };
        let ask = || {
            let socket = Socket::open(index, ethertype, &answers(ethertype))?;
            socket.send(&question)?;
            Ok(socket)
        };
        let socket = ask().map_err(|error: std::io::Error| reason(&error))?;
        let mut frame = [0; ANSWER_BYTES];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // In whole milliseconds, and none would be a turn of its own.
            let left = left.max(Duration::from_millis(1));
            if poll_readable([socket.as_fd()].into_iter(), left).map_err(|e| reason(&e))? {
                let len = socket.receive(&mut frame).map_err(|error| reason(&error))?;
                if is_answer(&frame[..len], self.address) {
                    return Ok(());
                }
            }
            if Instant::now() >= deadline {
                return Err("nobody answered".into());
            }
        }
    }
}

/// An ARP probe.
fn request(mac: [u8; 6], target: Ipv4Addr) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    [&[0xff; 6], &mac[..], &ARP.to_be_bytes(), &head, &mac, &[0; 10], &target.octets()].concat()
}

/// A neighbour solicitation.
fn solicitation(mac: [u8; 6], source: Option<Ipv6Addr>, target: Ipv6Addr) -> Vec<u8> {
    let [.., x, y, z] = target.octets();
    let mut group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0).octets();
    group[13..].copy_from_slice(&[x, y, z]);
    let source_octets = source.unwrap_or(Ipv6Addr::UNSPECIFIED).octets();
    let mut icmp = [&[SOLICITATION, 0, 0, 0, 0, 0, 0, 0], &target.octets()[..]].concat();
    if source.is_some() {
        icmp.extend([1, 1]);
        icmp.extend(mac);
    }
    let len = icmp.len() as u16;
    let mut sum = Sum::pseudo_v6(source_octets, group, ICMPV6, len.into());
    sum.add_bytes(&icmp);
    icmp[2..4].copy_from_slice(&sum.finish().to_be_bytes());
    let [high, low] = len.to_be_bytes();
    let ip = [0x60, 0, 0, 0, high, low, ICMPV6, 255];
    let ethernet = [&[0x33, 0x33, 0xff, x, y, z], &mac[..], &IPV6.to_be_bytes()].concat();
    [&ethernet[..], &ip, &source_octets, &group, &icmp].concat()
}

/// The filter that lets answers of any neighbour through, and hardly anything else.
fn answers(ethertype: u16) -> Program {
    let load = |size: u16, at: u32| Instruction::new(op::LD | size | op::ABS, 0, 0, at);
    // If not equal, to the last instruction but `left` others.
    let is = |value: u32, left: u8| Instruction::new(op::JMP | op::JEQ | op::K, 0, left, value);
    let give = |bytes: u32| Instruction::new(op::RET | op::K, 0, 0, bytes);
    let mut program = vec![load(op::H, ETHERTYPE_AT)];
    program.extend(match ethertype {
        ARP => vec![is(ARP.into(), 3), load(op::H, ARP_OPERATION_AT), is(ARP_REPLY.into(), 1)],
        _ => vec![
            is(IPV6.into(), 5),
            load(op::B, NEXT_HEADER_AT),
            is(ICMPV6.into(), 3),
            load(op::B, ICMPV6_AT as u32),
            is(ADVERTISEMENT.into(), 1),
        ],
    });
    program.extend([give(u32::MAX), give(0)]);
    Program::new(program).expect("every path ends in a return")
}

/// Whether a frame is an answer for an address.
fn is_answer(frame: &[u8], address: IpAddr) -> bool {
    let at = |at: usize, len: usize| frame.get(at..at + len);
    match address {
        IpAddr::V4(address) => {
            at(ETHERTYPE_AT as usize, 2) == Some(&ARP.to_be_bytes())
                && at(ARP_OPERATION_AT as usize, 2) == Some(&ARP_REPLY.to_be_bytes())
                && at(ARP_SENDER_AT, 4) == Some(&address.octets())
        }
        IpAddr::V6(address) => {
            at(ETHERTYPE_AT as usize, 2) == Some(&IPV6.to_be_bytes())
                && at(NEXT_HEADER_AT as usize, 1) == Some(&[ICMPV6])
                // No router has passed it on.
                && at(HOP_LIMIT_AT, 1) == Some(&[255])
                && at(ICMPV6_AT, 2) == Some(&[ADVERTISEMENT, 0])
                && at(TARGET_AT, 16) == Some(&address.octets())
        }
    }
}

/// An IPv6 address of an interface that can be asked from: a link-local one before others.
fn own_address(interface: &str) -> Option<Ipv6Addr> {
    // Of the calling thread's network namespace.
    let table = std::fs::read_to_string("/proc/thread-self/net/if_inet6").ok()?;
    pick(&table, interface)
}

/// Each line: address, index, prefix length, scope, flags, name; numbers are hexadecimal.
fn pick(table: &str, interface: &str) -> Option<Ipv6Addr> {
    const UNUSABLE: u8 = (libc::IFA_F_TENTATIVE | libc::IFA_F_DADFAILED) as u8;
    let usable = table.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [address, _, _, _, flags, name] = words[..] else { return None };
        let is_usable = u8::from_str_radix(flags, 16).ok()? & UNUSABLE == 0;
        let address = Ipv6Addr::from(u128::from_str_radix(address, 16).ok()?);
        (is_usable && name == interface).then_some(address)
    });
    usable.max_by_key(Ipv6Addr::is_unicast_link_local)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    #[test]
    fn questions_are_the_protocols_own() {
        let frame = request(MAC, Ipv4Addr::new(10, 0, 0, 2));
        let wanted = "ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 00000000 000000000000 0a000002";
        assert_eq!(frame, bytes(wanted));
        // From a capture of Linux's own: fd71::1 asks for fd71::2.
        let frame = solicitation(MAC, Some("fd71::1".parse().unwrap()), "fd71::2".parse().unwrap());
        let wanted = "3333ff000002 020000000001 86dd 6000000000203aff fd710000000000000000000000000001 ff0200000000000000000001ff000002 8700 CCCC 00000000 fd710000000000000000000000000002 0101020000000001";
        let mut wanted = bytes(&wanted.replace("CCCC", "0000"));
        assert_eq!(frame[..ICMPV6_AT + 2], wanted[..ICMPV6_AT + 2]);
        wanted[ICMPV6_AT + 2..ICMPV6_AT + 4].copy_from_slice(&frame[ICMPV6_AT + 2..ICMPV6_AT + 4]);
        assert_eq!(frame, wanted);
        let unspecified = solicitation(MAC, None, "fd71::2".parse().unwrap());
        assert_eq!(unspecified.len(), frame.len() - 8);
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pair = |p: &[u8]| u8::from_str_radix(std::str::from_utf8(p).unwrap(), 16).unwrap();
        digits.chunks(2).map(pair).collect()
    }

    #[test]
    fn answers_are_told_from_all_else_by_filter_and_by_look() {
        let asked: IpAddr = "10.0.0.2".parse().unwrap();
        let mut reply = request(MAC, Ipv4Addr::new(10, 0, 0, 9));
        let arp = answers(ARP);
        assert!(!arp.matches(&reply, 42), "a request");
        reply[21] = 2;
        assert!(arp.matches(&reply, 42) && !is_answer(&reply, asked), "of another");
        reply[28..32].copy_from_slice(&[10, 0, 0, 2]);
        assert!(is_answer(&reply, asked) && !is_answer(&reply[..31], asked));

        let asked: IpAddr = "fd71::2".parse().unwrap();
        let mut advertisement = solicitation(MAC, None, "fd71::2".parse().unwrap());
        let neighbour = answers(IPV6);
        assert!(!neighbour.matches(&advertisement, 78), "a solicitation");
        advertisement[ICMPV6_AT] = ADVERTISEMENT;
        assert!(neighbour.matches(&advertisement, 78) && is_answer(&advertisement, asked));
        assert!(!is_answer(&advertisement, "fd71::3".parse().unwrap()));
        advertisement[HOP_LIMIT_AT] = 254;
        assert!(!is_answer(&advertisement, asked), "it came through a router");
        assert!(!neighbour.matches(&reply, 42) && !arp.matches(&advertisement, 78));
    }

    #[test]
    fn a_link_local_address_asks_first_and_a_tentative_one_never() {
        let table = "\
            fd710000000000000000000000000001 02 40 00 80 eth0\n\
            fe800000000000000000000000000001 02 40 20 80 eth0\n\
            fe800000000000000000000000000002 03 40 20 40 eth1\n\
            fd710000000000000000000000000003 03 40 00 80 eth1\n";
        assert_eq!(pick(table, "eth0"), Some("fe80::1".parse().unwrap()));
        assert_eq!(pick(table, "eth1"), Some("fd71::3".parse().unwrap()));
        assert_eq!(pick(table, "eth2"), None);
        assert_eq!(pick("junk\n\n", "eth0"), None);
    }
}
