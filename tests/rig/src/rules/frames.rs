//! Random packets: tagged, fragmented, with extension headers, cut, or not IP at all.

use super::Random;
use wire::LinkType;

/// Payload bytes behind the last header at most.
const PAYLOAD_BYTES_MAX: usize = 64;

impl Random {
    /// A random frame of a link type that rules read, whole or cut anywhere; empty now and then.
    pub fn frame(&mut self, link: LinkType) -> Vec<u8> {
        let mut frame = Vec::new();
        let kind = self.below(20);
        let v6 = match kind {
            0..=8 => false,
            9..=18 => true,
            _ => return self.noise(),
        };
        let version: u16 = if v6 { 0x86dd } else { 0x0800 };
        match link {
            LinkType::ETHERNET => {
                frame.extend((0..12).map(|_| self.bits() as u8));
                self.tags(&mut frame, version);
            }
            LinkType::LINUX_SLL => {
                frame.extend((0..14).map(|_| self.bits() as u8));
                self.tags(&mut frame, version);
            }
            LinkType::LINUX_SLL2 => {
                let mut tags = Vec::new();
                self.tags(&mut tags, version);
                frame.extend(&tags[..2]);
                frame.extend((0..18).map(|_| self.bits() as u8));
                frame.extend(&tags[2..]);
            }
            LinkType::NULL | LinkType::LOOP => {
                let family = if v6 { self.pick(&[10u32, 24, 28, 30]) } else { 2 };
                let family = if self.chance(5) { 7 } else { family };
                frame.extend(if self.chance(50) {
                    family.to_be_bytes()
                } else {
                    family.to_le_bytes()
                });
            }
            _ => {}
        }
        if v6 {
            self.ipv6(&mut frame)
        } else {
            self.ipv4(&mut frame)
        }
        if self.chance(20) {
            frame.truncate(self.below(frame.len() + 1));
        }
        frame
    }

    /// Bytes that are nothing in particular.
    fn noise(&mut self) -> Vec<u8> {
        let length = self.below(100);
        (0..length).map(|_| self.bits() as u8).collect()
    }

    /// Tags, few or too many, and the EtherType; sometimes another one.
    fn tags(&mut self, frame: &mut Vec<u8>, ethertype: u16) {
        let tags = match self.below(10) {
            0..=4 => 0,
            5 | 6 => 1,
            7 | 8 => 2,
            _ => self.below(7),
        };
        for _ in 0..tags {
            frame.extend(self.pick(&[0x8100u16, 0x88a8, 0x9100]).to_be_bytes());
            frame.extend([self.bits() as u8, self.bits() as u8]);
        }
        let ethertype = match self.below(20) {
            0 => self.pick(&[0x0806u16, 0x0026, 0x88cc, 0x8847, 0x0801, 0x86de]),
            _ => ethertype,
        };
        frame.extend(ethertype.to_be_bytes());
    }

    fn ipv4(&mut self, frame: &mut Vec<u8>) {
        let words = if self.chance(75) { 5 } else { self.pick(&[5, 6, 7, 10, 15, 4, 0]) };
        let version = if self.chance(97) { 4 } else { self.pick(&[0, 5, 6, 15]) };
        let fragment: u16 = match self.below(10) {
            0 => self.pick(&[1, 0x1fff, 0x2001, 0x0100, 0x0800]),
            1 => 0x2000,
            _ => self.pick(&[0, 0x4000, 0x8000]),
        };
        let protocol = self.upper_protocol(1);
        frame.extend([version << 4 | words, 0]);
        frame.extend((self.bits() as u16).to_be_bytes());
        frame.extend((self.bits() as u16).to_be_bytes());
        frame.extend(fragment.to_be_bytes());
        frame.extend([64, protocol, 0, 0]);
        for _ in 0..2 {
            let bits = self.bits();
            frame.extend(self.v4_address(bits));
        }
        for _ in 5..words {
            frame.extend(self.bits().to_be_bytes()[..4].iter());
        }
        self.upper(frame, protocol);
    }

    fn ipv6(&mut self, frame: &mut Vec<u8>) {
        let protocol = self.upper_protocol(58);
        let headers = match self.below(10) {
            0..=4 => 0,
            5..=8 => 1 + self.below(3),
            _ => self.below(11),
        };
        let numbers: Vec<u8> =
            (0..headers).map(|_| self.pick(&[0, 43, 44, 51, 60, 135, 139, 140])).collect();
        let next = |index: usize| numbers.get(index).copied().unwrap_or(protocol);
        let version = if self.chance(97) { 6 } else { self.pick(&[0, 4, 5, 15]) };
        frame.extend([version << 4, 0, 0, 0]);
        frame.extend((self.bits() as u16).to_be_bytes());
        frame.extend([next(0), 64]);
        for _ in 0..2 {
            let bits = self.bits();
            frame.extend(self.v6_address(bits));
        }
        for (index, &number) in numbers.iter().enumerate() {
            let longest = if self.chance(5) { 255 } else { 3 };
            let length = self.pick(&[0u8, 0, 1, 2, longest]);
            let (length, bytes) = match number {
                44 => (0, 8),
                51 => (length.max(1), (usize::from(length.max(1)) + 2) * 4),
                _ => (length, (usize::from(length) + 1) * 8),
            };
            let start = frame.len();
            frame.extend([next(index + 1), length]);
            frame.extend((2..bytes).map(|_| self.bits() as u8));
            if number == 44 {
                let offset: u16 = match self.chance(70) {
                    true => self.pick(&[0, 1, 6]),
                    false => self.pick(&[8, 9, 0xfff8]),
                };
                frame[start + 2..start + 4].copy_from_slice(&offset.to_be_bytes());
            }
        }
        self.upper(frame, protocol);
    }

    fn upper_protocol(&mut self, icmp: u8) -> u8 {
        match self.below(12) {
            0..=3 => 6,
            4..=7 => 17,
            8 | 9 => icmp,
            10 => self.pick(&[1, 58, 0, 51]),
            _ => self.pick(&[2, 47, 50, 59, 89, 132, 255]),
        }
    }

    /// The header behind IP, and a payload of any length.
    fn upper(&mut self, frame: &mut Vec<u8>, protocol: u8) {
        match protocol {
            6 | 17 => {
                frame.extend(self.port().to_be_bytes());
                frame.extend(self.port().to_be_bytes());
            }
            1 | 58 => frame.extend([self.icmp_type(), self.below(4) as u8]),
            _ => {}
        }
        let payload = self.below(PAYLOAD_BYTES_MAX);
        frame.extend((0..payload).map(|_| self.bits() as u8));
    }
}
