//! Random rules, of values that random packets have too.

use filter::{Action, PortRange, Rule, Rules, TrafficDirection, Transport};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Random values in an order that its seed fixes (SplitMix64; Steele, Lea and Flood, 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Values that another generator of this seed gives too.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// True `percent` times in a hundred.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of some values.
    pub fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    /// `count` rules. Many a one shadows another; few match everything.
    pub fn rules(&mut self, count: usize) -> Rules {
        let rules = (0..count).map(|_| self.rule(count)).collect();
        Rules::new(rules).expect("random rules are sound")
    }

    /// One sound rule; in a list of `count`, it matches everything the less often the more there are.
    fn rule(&mut self, count: usize) -> Rule {
        let mut rule = Rule::new(self.pick(&[Action::Include, Action::Exclude]));
        if self.chance(20) {
            rule.direction =
                Some(self.pick(&[TrafficDirection::Ingress, TrafficDirection::Egress]));
        }
        if self.below(2 * count + 2) == 0 {
            return rule;
        }
        let v4 = self.chance(60);
        match self.below(6) {
            0 => {
                rule.protocol = Some(self.pick(&[0, 1, 2, 6, 17, 44, 47, 50, 51, 58, 59, 89, 255]))
            }
            1 | 2 => {
                rule.protocol = Some(self.pick(&[6, 17]));
                rule.transport = self.ports();
            }
            3 => {
                rule.protocol = Some(if v4 { 1 } else { 58 });
                let code = self.chance(50).then(|| self.below(4) as u8);
                rule.transport = Transport::Icmp { kind: self.icmp_type(), code };
            }
            _ => {}
        }
        let sides = if rule.protocol.is_none() { 1 + self.below(3) } else { self.below(4) };
        rule.source = (sides & 1 != 0).then(|| self.net(v4));
        rule.destination = (sides & 2 != 0).then(|| self.net(v4));
        rule
    }

    fn ports(&mut self) -> Transport {
        let sides = self.below(4);
        Transport::Ports {
            source: (sides & 1 != 0).then(|| self.port_range()),
            destination: (sides & 2 != 0).then(|| self.port_range()),
        }
    }

    fn port_range(&mut self) -> PortRange {
        let (one, other) = (self.port(), self.port());
        match self.below(4) {
            0 => PortRange { min: one.min(other), max: one.max(other) },
            1 => PortRange { min: 0, max: one },
            2 => PortRange { min: one, max: u16::MAX },
            _ => PortRange::one(one),
        }
    }

    /// A prefix of an address that packets have.
    fn net(&mut self, v4: bool) -> IpNet {
        let address = self.bits();
        if v4 {
            let length = self.pick(&[0, 1, 7, 8, 9, 15, 16, 23, 24, 25, 30, 31, 32, 32]);
            let address = Ipv4Addr::from(self.v4_address(address));
            Ipv4Net::new(address, length).expect("a length of at most 32").trunc().into()
        } else {
            let length = self.pick(&[0, 3, 31, 32, 33, 48, 63, 64, 65, 95, 96, 97, 127, 128, 128]);
            let address = Ipv6Addr::from(self.v6_address(address));
            Ipv6Net::new(address, length).expect("a length of at most 128").trunc().into()
        }
    }

    /// An address out of a few hundred.
    pub(super) fn v4_address(&mut self, bits: u64) -> [u8; 4] {
        let part = |at: u32, end: u64| (bits >> at) as u8 % end as u8;
        match bits >> 60 {
            0 => (bits as u32).to_be_bytes(),
            _ => [10 + part(0, 3), part(8, 2), part(16, 3) * 100, part(24, 5)],
        }
    }

    /// An address out of a few hundred.
    pub(super) fn v6_address(&mut self, bits: u64) -> [u8; 16] {
        let mut address = [0; 16];
        address[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        address[4] = (bits & 1) as u8 * 0x80;
        address[7] = (bits >> 8) as u8 % 3;
        address[8] = (bits >> 16 & 1) as u8 * 0x80;
        address[12] = (bits >> 24 & 1) as u8 * 0x80;
        address[15] = (bits >> 32) as u8 % 4;
        if bits >> 60 == 0 {
            address[0] = 0xfe;
        }
        address
    }

    /// A port of those that rules name.
    pub(super) fn port(&mut self) -> u16 {
        match self.below(12) {
            0 => self.bits() as u16,
            _ => self.pick(&[0, 22, 53, 79, 80, 81, 443, 1023, 1024, 8080, 65_534, 65_535]),
        }
    }

    pub(super) fn icmp_type(&mut self) -> u8 {
        self.pick(&[0, 3, 8, 11, 128, 129, 135, 255])
    }
}
