//! Answers for addresses that no host has: ARP and neighbour discovery.
//!
//! Sources: RFC 826; RFC 4861 sections 4.3, 4.4 and 7.2.4.
//!
//! ```text
//! ARP reply      ethernet 14 | 1 0800 6 4 op=2 | own MAC 6 | asked for 4 | asker's MAC 6 | asker 4
//! advertisement  ethernet 14 | IPv6 40, hop limit 255 | 136 0 checksum, flags 4 | target 16 | option 2 1 own MAC 6
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use wire::checksum::Sum;
use wire::walk::{ethertype, protocol};

const ETHERNET_LEN: usize = 14;
const ARP_LEN: usize = 28;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Solicited, and to take the place of what is known.
const SOLICITED_OVERRIDE: u8 = 0x60;
const OVERRIDE: u8 = 0x20;
const ADVERTISEMENT_LEN: usize = 32;
/// Bytes of the longest answer.
pub(super) const ANSWER_LEN_MAX: usize = ETHERNET_LEN + 40 + ADVERTISEMENT_LEN;

/// What is asked for in a frame, and by whom.
pub(super) enum Question {
    /// Who has an IPv4 address: the asker's MAC and address, and the address.
    Arp([u8; 6], Ipv4Addr, Ipv4Addr),
    /// The same for IPv6; the asker may not have an address yet (`::`).
    Neighbour([u8; 6], Ipv6Addr, Ipv6Addr),
}

impl Question {
    /// Reads one; `None` if the frame asks for no address.
    pub fn of(frame: &[u8]) -> Option<Question> {
        let kind = u16::from_be_bytes(*frame.get(12..)?.first_chunk()?);
        let body = frame.get(ETHERNET_LEN..)?;
        let mac = *frame.get(6..)?.first_chunk::<6>()?;
        match kind {
            ethertype::ARP => {
                let arp = body.first_chunk::<ARP_LEN>()?;
                (arp[..8] == [0, 1, 8, 0, 6, 4, 0, 1]).then_some(())?;
                let address =
                    |at: usize| Ipv4Addr::new(arp[at], arp[at + 1], arp[at + 2], arp[at + 3]);
                let asker = *arp[8..].first_chunk::<6>()?;
                Some(Question::Arp(asker, address(14), address(24)))
            }
            ethertype::IPV6 => {
                let ip = body.first_chunk::<64>()?;
                let is_one = ip[6] == protocol::ICMPV6 && ip[7] == 255 && ip[40] == SOLICITATION;
                is_one.then_some(())?;
                let address = |at: usize| ip[at..].first_chunk::<16>().copied().map(Ipv6Addr::from);
                Some(Question::Neighbour(mac, address(8)?, address(48)?))
            }
            _ => None,
        }
    }

    /// The address that is asked for.
    pub fn wanted(&self) -> IpAddr {
        match *self {
            Question::Arp(.., wanted) => wanted.into(),
            Question::Neighbour(.., wanted) => wanted.into(),
        }
    }

    /// Writes the answer, by which a MAC has it; returns its length.
    pub fn answer(&self, mac: [u8; 6], out: &mut [u8; ANSWER_LEN_MAX]) -> usize {
        match *self {
            Question::Arp(asker, asker_address, wanted) => {
                let ethernet = [&asker[..], &mac, &ethertype::ARP.to_be_bytes()].concat();
                let arp = [
                    &[0, 1, 8, 0, 6, 4, 0, 2],
                    &mac[..],
                    &wanted.octets(),
                    &asker,
                    &asker_address.octets(),
                ];
                put(out, &[&ethernet, &arp.concat()])
            }
            Question::Neighbour(asker, asker_address, wanted) => {
                let is_nobody = asker_address.is_unspecified();
                let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
                let (to, to_mac, flags) = match is_nobody {
                    true => (all_nodes, [0x33, 0x33, 0, 0, 0, 1], OVERRIDE),
                    false => (asker_address, asker, SOLICITED_OVERRIDE),
                };
                let ethernet = [&to_mac[..], &mac, &ethertype::IPV6.to_be_bytes()].concat();
                let head = [0x60, 0, 0, 0, 0, ADVERTISEMENT_LEN as u8, protocol::ICMPV6, 255];
                let mut icmp =
                    [&[ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0], &wanted.octets()[..]].concat();
                icmp.extend([2, 1]);
                icmp.extend(mac);
                let len = ADVERTISEMENT_LEN as u32;
                let mut sum = Sum::pseudo_v6(wanted.octets(), to.octets(), protocol::ICMPV6, len);
                sum.add_bytes(&icmp);
                icmp[2..4].copy_from_slice(&sum.finish().to_be_bytes());
                put(out, &[&ethernet, &head, &wanted.octets(), &to.octets(), &icmp])
            }
        }
    }
}

fn put(out: &mut [u8], parts: &[&[u8]]) -> usize {
    let mut len = 0;
    for part in parts {
        out[len..len + part.len()].copy_from_slice(part);
        len += part.len();
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: [u8; 6] = [2, 0, 0, 0, 0, 9];
    const THEM: [u8; 6] = [2, 0, 0, 0, 0, 1];

    #[test]
    fn who_has_is_answered() {
        let mut frame = [&[0xff; 6][..], &THEM, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &THEM].concat();
        frame.extend([10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 9]);
        let question = Question::of(&frame).unwrap();
        assert_eq!(question.wanted().to_string(), "10.0.0.9");
        let mut out = [0; ANSWER_LEN_MAX];
        let len = question.answer(US, &mut out);
        let wanted =
            [&THEM[..], &US, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &US, &[10, 0, 0, 9]].concat();
        assert_eq!(out[..len], [&wanted[..], &THEM, &[10, 0, 0, 1]].concat());
        frame[21] = 2;
        assert!(Question::of(&frame).is_none(), "an answer is no question");
    }

    #[test]
    fn a_neighbour_is_advertised() {
        let us: Ipv6Addr = "2001:db8::9".parse().unwrap();
        for asker in ["2001:db8::1", "::"] {
            let asker: Ipv6Addr = asker.parse().unwrap();
            let mut frame = [&[0x33, 0x33, 0xff, 0, 0, 9][..], &THEM, &[0x86, 0xdd]].concat();
            frame.extend([0x60, 0, 0, 0, 0, 24, 58, 255]);
            frame.extend(asker.octets());
            frame.extend([0; 16]);
            frame.extend([SOLICITATION, 0, 0, 0, 0, 0, 0, 0]);
            frame.extend(us.octets());
            let question = Question::of(&frame).unwrap();
            assert_eq!(question.wanted(), IpAddr::from(us));
            let mut out = [0; ANSWER_LEN_MAX];
            assert_eq!(question.answer(US, &mut out), ANSWER_LEN_MAX);
            let icmp = &out[54..];
            assert_eq!(icmp[0], ADVERTISEMENT);
            assert_eq!(
                (icmp[4], &out[..2]),
                match asker.is_unspecified() {
                    true => (OVERRIDE, &[0x33, 0x33][..]),
                    false => (SOLICITED_OVERRIDE, &THEM[..2]),
                }
            );
            let to: [u8; 16] = *out[38..].first_chunk().unwrap();
            let mut sum = Sum::pseudo_v6(us.octets(), to, 58, 32);
            sum.add_bytes(icmp);
            assert_eq!(sum.finish(), 0);
            frame[21] = 64;
            assert!(Question::of(&frame).is_none(), "it came from another link");
        }
    }

    #[test]
    fn short_frames_ask_nothing() {
        for len in 0..78 {
            let mut frame = vec![0; len];
            if len > 13 {
                frame[12..14].copy_from_slice(&[8, 6]);
            }
            assert!(Question::of(&frame).is_none());
        }
    }
}
