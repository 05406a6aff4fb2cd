//! Random classic programs, expressions, and frames that both tell apart.

#![allow(dead_code, reason = "not each test needs all of it")]

use filter::{Instruction, Program};

/// Numbers that look random and are the same in each run (xorshift64*).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    pub fn below(&mut self, end: u32) -> u32 {
        ((u64::from(self.next()) * u64::from(end)) >> 32) as u32
    }

    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u32) as usize]
    }

    /// A number that hits: near offsets, lengths, extremes.
    fn number(&mut self) -> u32 {
        match self.below(10) {
            0 => self.next(),
            1 => self.one(&[u32::MAX, i32::MAX as u32, 1 << 31, 0xffff_f004, 0]),
            2 => self.below(4000),
            3 => self.one(&[0x0800, 0x86dd, 0x0806, 6, 17, 80]),
            _ => self.below(110),
        }
    }

    /// A frame of few distinct bytes, so that comparisons are true now and then.
    pub fn frame(&mut self) -> Vec<u8> {
        let len = match self.below(8) {
            0 => 1 + self.below(60),
            1 => 15 + self.below(3486),
            _ => 60 + self.below(100),
        };
        (0..len)
            .map(|_| if self.below(3) == 0 { self.next() as u8 } else { self.below(9) as u8 })
            .collect()
    }

    /// A program without jumps back that is valid by construction.
    pub fn program(&mut self) -> Program {
        const CODES: [u16; 49] = [
            0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x00, 0x60, 0x80, 0x01, 0x61, 0x81, 0xb1, 0x02,
            0x03, 0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3c, 0x44, 0x4c, 0x54, 0x5c, 0x64,
            0x6c, 0x74, 0x7c, 0x84, 0x94, 0x9c, 0xa4, 0xac, 0x05, 0x15, 0x1d, 0x25, 0x2d, 0x35,
            0x3d, 0x45, 0x4d, 0x06, 0x16, 0x07, 0x87,
        ];
        let len = 1 + self.below(60);
        let mut program = Vec::new();
        for at in 0..len {
            let mut code = self.one(&CODES);
            if code & 7 == 6 && self.below(4) > 0 {
                code = 0x28;
            }
            let near = (len - at).min(9);
            let (jt, jf) = (self.below(near) as u8, self.below(near) as u8);
            let k = match code {
                0x60 | 0x61 | 0x02 | 0x03 => self.below(16),
                0x34 | 0x94 => self.number().max(1),
                0x64 | 0x74 => self.below(32),
                0x05 => self.below(near),
                // Loads that mostly succeed, so that programs get on.
                0x20 | 0x28 | 0x30 | 0xb1 if self.below(4) > 0 => self.below(60),
                0x40 | 0x48 | 0x50 if self.below(3) > 0 => self.below(20),
                _ => self.number(),
            };
            program.push(Instruction::new(code, jt, jf, k));
        }
        program.push(Instruction::new(0x16, 0, 0, 0));
        Program::new(program).expect("valid by construction")
    }
}

/// Expressions of all kinds.
pub const EXPRESSIONS: [&str; 34] = [
    "ip",
    "ip6",
    "arp",
    "tcp port 80",
    "udp portrange 1000-2000",
    "host 10.0.0.1",
    "ip6 host fd00::1",
    "net 10.0.0.0/8 and not port 22",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420",
    "icmp[icmptype] = icmp-echo",
    "icmp6",
    "vlan",
    "vlan 100 and tcp port 443",
    "vlan and vlan and ip",
    "ether host 02:00:00:00:00:01",
    "ether multicast",
    "less 100",
    "greater 200 and udp",
    "len > 64 and len < 300",
    "ip proto 47",
    "ip[8] < 5",
    "ip[6:2] & 0x1fff != 0",
    "ip broadcast",
    "stp",
    "udp[4:2] > 100",
    "ether[1400:4] != 0",
    "ip6 proto 17",
    "sctp port 9",
    "mpls",
    "ip6[6] = 0 or tcp",
    "port 53 or port 5353 or port 853",
    "geneve",
    "not (tcp or udp)",
];

/// A frame with headers, more or less.
pub fn headed(random: &mut Random) -> Vec<u8> {
    let mut frame = vec![random.one(&[2, 1, 255]), 0, 0, 0, 0, random.one(&[1, 2])];
    frame.extend([2, 0, 0, 0, 0, 1]);
    for _ in 0..random.one(&[0, 0, 0, 1, 2, 3]) {
        frame.extend(random.one(&[[0x81, 0], [0x88, 0xa8], [0x91, 0]]));
        frame.extend([0, random.one(&[100, 7])]);
    }
    let protocol = random.one(&[6, 6, 17, 17, 1, 58, 47, 132, 44]);
    match random.below(8) {
        0..4 => {
            let ihl = random.one(&[5, 5, 5, 6, 15, 4]);
            frame.extend([8, 0, 0x40 | ihl, 0, 0, 100, 0, 1]);
            frame.extend(random.one(&[[0x40, 0], [0, 0], [0x20, 0], [0, 9]]));
            frame.extend([random.one(&[64, 1]), protocol, 0, 0]);
            frame.extend([10, 0, 0, random.one(&[1, 2])]);
            frame.extend(random.one(&[[10, 0, 0, 1], [10, 9, 0, 1], [255; 4]]));
            frame.extend(vec![1; (usize::from(ihl) * 4).saturating_sub(20)]);
        }
        4..6 => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 100, protocol, 64]);
            for _ in 0..2 {
                frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, random.one(&[1, 2])]);
            }
        }
        6 => frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0]),
        _ => frame.extend(random.one(&[[0, 38, 0x42, 0x42, 3], [0x88, 0x47, 0, 1, 0x31]])),
    }
    let ports = [80, 443, 53, 1500, 22, 9, 6081, 5353, 2048];
    for _ in 0..2 {
        frame.extend((random.one(&ports) as u16).to_be_bytes());
    }
    frame.extend([0, random.one(&[8, 100, 200]), 0, 0, 0, 0, 0, 0, 0x50, random.one(&[2, 16, 17])]);
    frame.extend([0, 0, 0, 0, 0, 0]);
    frame.extend(random.one(&[*b"GET ", *b"HTTP"]));
    let rest = random.one(&[0, 10, 200, 1500, 3000]);
    frame.extend((0..rest).map(|n| n as u8));
    // Cut anywhere, now and then.
    if random.below(4) == 0 {
        frame.truncate(1 + random.below(frame.len() as u32) as usize);
    }
    frame
}
