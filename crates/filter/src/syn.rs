//! The program that keeps the segments which open TCP connections: those with SYN set, in SYN-ACK too.
//!
//! Written out rather than given to libpcap, so that it is there without it, reads past up to
//! [`SYN_VLAN_TAGS_MAX`] tags, and is one that the kernel can decide (see [`crate::ebpf::decides`]): the flags are
//! looked for where IPv4's header length says, and right behind IPv6's fixed header. A segment behind
//! IPv6 extension headers is not found.
//!
//! Source: RFC 9293 section 3.1 (byte 13 of the header), RFC 791, RFC 8200.

use crate::rules::assembler::{Assembler, Label};
use crate::{Program, op};
use wire::LinkType;
use wire::walk::{ethertype, protocol};

/// VLAN tags that [`tcp_syn`] looks past: as many as can be followed in the kernel.
pub const SYN_VLAN_TAGS_MAX: usize = 2;

const TPIDS: [u16; 3] = [ethertype::VLAN, ethertype::QINQ, ethertype::QINQ_OLD];
const FLAGS_AT: u32 = 13;
const SYN: u32 = 0x02;
const FRAGMENT_OFFSET: u32 = 0x1fff;
const IPV6_BYTES: u32 = 40;

/// Makes the program for frames of one link type; its verdict is 1 for a segment with SYN. `None` for link
/// types in which IP is not looked for (any but Ethernet, SLL, SLL2, RAW, IPV4 and IPV6).
pub fn tcp_syn(link_type: LinkType) -> Option<Program> {
    let mut writer = Writer::new();
    match link_type {
        LinkType::ETHERNET => writer.tagged(12, 14),
        LinkType::LINUX_SLL => writer.tagged(14, 16),
        LinkType::LINUX_SLL2 => writer.tagged(0, 20),
        LinkType::RAW | LinkType::IPV4 | LinkType::IPV6 => writer.raw(),
        _ => return None,
    }
    Some(writer.program())
}

struct Writer {
    asm: Assembler,
    yes: Label,
    no: Label,
}

impl Writer {
    fn new() -> Writer {
        let mut asm = Assembler::default();
        let [yes, no] = [(); 2].map(|()| asm.label());
        Writer { asm, yes, no }
    }

    /// An EtherType at `at`, what it announces at `base`; tags may stand between.
    fn tagged(&mut self, at: u32, base: u32) {
        let ways: [[Label; 2]; SYN_VLAN_TAGS_MAX + 1] =
            std::array::from_fn(|_| [(); 2].map(|()| self.asm.label()));
        let mut at = at;
        for (tags, [v4, v6]) in (0..).zip(ways) {
            self.asm.plain(op::LD | op::H | op::ABS, at);
            self.asm.leave_if(op::JEQ, ethertype::IPV4.into(), v4);
            self.asm.leave_if(op::JEQ, ethertype::IPV6.into(), v6);
            at = base + 4 * tags + 2;
            if tags as usize == SYN_VLAN_TAGS_MAX {
                break;
            }
            let tag = self.asm.label();
            TPIDS.iter().for_each(|&tpid| self.asm.leave_if(op::JEQ, tpid.into(), tag));
            self.asm.jump(self.no);
            self.asm.here(tag);
        }
        self.asm.jump(self.no);
        for (tags, [v4, v6]) in (0..).zip(ways) {
            self.asm.here(v4);
            self.v4(base + 4 * tags);
            self.asm.here(v6);
            self.v6(base + 4 * tags);
        }
    }

    /// The version is in the header itself.
    fn raw(&mut self) {
        let [v4, v6] = [(); 2].map(|()| self.asm.label());
        self.asm.plain(op::LD | op::B | op::ABS, 0);
        self.asm.plain(op::ALU | op::AND | op::K, 0xf0);
        self.asm.leave_if(op::JEQ, 0x40, v4);
        self.asm.compare(op::JEQ, 0x60, v6, self.no);
        self.asm.here(v4);
        self.v4(0);
        self.asm.here(v6);
        self.v6(0);
    }

    fn v4(&mut self, base: u32) {
        self.asm.plain(op::LD | op::B | op::ABS, base + 9);
        self.asm.expect(op::JEQ, protocol::TCP.into(), self.no);
        self.asm.plain(op::LD | op::H | op::ABS, base + 6);
        self.asm.leave_if(op::JSET, FRAGMENT_OFFSET, self.no);
        self.asm.plain(op::LDX | op::B | op::MSH, base);
        self.asm.plain(op::LD | op::B | op::IND, base + FLAGS_AT);
        self.asm.compare(op::JSET, SYN, self.yes, self.no);
    }

    fn v6(&mut self, base: u32) {
        self.asm.plain(op::LD | op::B | op::ABS, base + 6);
        self.asm.expect(op::JEQ, protocol::TCP.into(), self.no);
        self.asm.plain(op::LD | op::B | op::ABS, base + IPV6_BYTES + FLAGS_AT);
        self.asm.compare(op::JSET, SYN, self.yes, self.no);
    }

    fn program(mut self) -> Program {
        self.asm.here(self.yes);
        self.asm.ret(1);
        self.asm.here(self.no);
        self.asm.ret(0);
        Program::new(self.asm.assemble()).expect("jumps go ahead, and every way ends in a return")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ebpf::{Decides, decides};

    const SYN_ACK: u8 = 0x12;

    fn v4(protocol: u8, fragment: u16, options: usize, flags: u8) -> Vec<u8> {
        let mut packet = vec![0; 20 + options + 20];
        packet[0] = 0x45 + (options / 4) as u8;
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet[9] = protocol;
        packet[20 + options + 13] = flags;
        packet
    }

    fn v6(protocol: u8, flags: u8) -> Vec<u8> {
        let mut packet = vec![0; 60];
        (packet[0], packet[6], packet[40 + 13]) = (0x60, protocol, flags);
        packet
    }

    fn framed(tpids: &[u16], packet: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        for tpid in tpids {
            frame.extend([tpid.to_be_bytes(), [0x20, 7]].concat());
        }
        frame.extend(if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] });
        frame.extend(packet);
        frame
    }

    fn keeps(link_type: LinkType, frame: &[u8]) -> bool {
        tcp_syn(link_type).unwrap().matches(frame, frame.len() as u32)
    }

    #[test]
    fn segments_that_open_a_connection_are_kept_behind_tags_and_options() {
        let kept = [v4(6, 0x4000, 0, 2), v4(6, 0x2000, 40, SYN_ACK), v6(6, 2), v6(6, SYN_ACK)];
        let left = [v4(6, 0, 0, 0x10), v4(17, 0, 0, 2), v4(6, 1, 0, 2), v6(6, 0x18), v6(17, 2)];
        for (packets, is_kept) in [(&kept[..], true), (&left[..], false)] {
            for packet in packets {
                for tpids in [&[][..], &[0x8100], &[0x88a8, 0x8100], &[0x9100, 0x8100]] {
                    let frame = framed(tpids, packet);
                    assert_eq!(keeps(LinkType::ETHERNET, &frame), is_kept, "{frame:02x?}");
                    assert!(!keeps(LinkType::ETHERNET, &frame[..frame.len() - 7]), "cut");
                }
                assert_eq!(keeps(LinkType::RAW, packet), is_kept);
                let version = if packet[0] >> 4 == 4 { LinkType::IPV4 } else { LinkType::IPV6 };
                assert_eq!(keeps(version, packet), is_kept);
                let ethertype = &framed(&[], packet)[12..14];
                let sll = [&[0; 14][..], ethertype, packet].concat();
                assert_eq!(keeps(LinkType::LINUX_SLL, &sll), is_kept);
                let sll2 = [ethertype, &[0; 18], packet].concat();
                assert_eq!(keeps(LinkType::LINUX_SLL2, &sll2), is_kept);
            }
        }
        assert!(!keeps(LinkType::ETHERNET, &framed(&[0x8100; 3], &kept[0])));
        assert_eq!(tcp_syn(LinkType(147)), None);
    }

    #[test]
    fn the_kernel_decides_it_but_for_super_packets() {
        for link_type in [LinkType::ETHERNET, LinkType::RAW, LinkType::IPV4, LinkType::IPV6] {
            let program = tcp_syn(link_type).unwrap();
            assert_eq!(decides(&program, link_type), Decides::WholeFrames);
            assert!(program.fits_kernel());
        }
    }
}
