//! The flow hash in the kernel is the one of user space, for any packet.

use Register::{R0, R1, R2, R6, R7, R8, R9, R10};
use filter::ebpf::{Alu, Assembler, Bits, Code, Condition, Helper, MapRef, Register, Width};
use io::bpf::{Classifier, Map, MapKind, TestRunOptions};
use kernel::flow_hash::{FlowHash, STACK_BYTES};
use std::os::fd::AsFd;
use wire::LinkType;
use wire::encap::Fit;
use wire::flow::flow_hash;
use wire::tunnel::{Encap, Gre};
use wire::walk::Walk;

const HASH: FlowHash = FlowHash { at: 0, stack_at: -8 - STACK_BYTES, finds_ip: true };

/// A program that leaves hash, what is found of IP, and how it ended (1 hot or walked, 2 beyond) in
/// a map.
fn program(hash: FlowHash) -> Code {
    let mut asm = Assembler::new();
    let (done, beyond, end) = (asm.label(), asm.label(), asm.label());
    asm.copy(R6, R1);
    asm.copy(R7, 0);
    let rare = hash.emit_hot(&mut asm, done);
    asm.bind(rare);
    hash.emit_rare(&mut asm, done, beyond);
    for (label, how) in [(done, 1), (beyond, 2)] {
        asm.bind(label);
        asm.copy(R8, R0);
        asm.copy(R9, how);
        asm.jump(end);
    }
    asm.bind(end);
    let out = asm.label();
    asm.store(Width::B4, R10, -4, 0);
    asm.map_address(R1, MapRef(0));
    asm.copy(R2, R10);
    asm.alu(Bits::B64, Alu::Add, R2, -4);
    asm.call(Helper::MAP_LOOKUP);
    asm.jump_if(Bits::B64, Condition::Equal, R0, 0, out);
    asm.store(Width::B8, R0, 0, R8);
    asm.store(Width::B8, R0, 8, R9);
    if hash.finds_ip {
        let places = [hash.ip_at(), hash.network_at(), hash.end_at()];
        for (place, to) in places.into_iter().zip([16, 24, 32]) {
            asm.load(Width::B4, R1, R10, place);
            asm.store(Width::B8, R0, to, R1);
        }
    }
    asm.bind(out);
    asm.copy(R0, 0);
    asm.exit();
    asm.finish().expect("a program")
}

struct Kernel {
    classifier: Classifier,
    map: Map,
    finds_ip: bool,
}

impl Kernel {
    fn new(hash: FlowHash) -> Kernel {
        let map = Map::new(MapKind::Array, 4, 40, 1).expect("a map");
        let code = program(hash);
        let classifier =
            Classifier::load("flow hash", &code, &[map.as_fd()]).unwrap_or_else(|e| panic!("{e}"));
        Kernel { classifier, map, finds_ip: hash.finds_ip }
    }

    fn run(&self, frame: &[u8]) -> [u64; 5] {
        self.classifier.test_run(frame, &TestRunOptions::default()).expect("it runs");
        let words = self.map.words(0).expect("the result");
        words.try_into().expect("five words")
    }
}

/// Numbers that look random and are the same in each run (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    fn below(&mut self, end: usize) -> usize {
        ((u64::from(self.next()) * end as u64) >> 32) as usize
    }

    fn chance(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// Few addresses, so that ends are equal now and then.
    fn address(&mut self, len: usize) -> Vec<u8> {
        let mut address = vec![0x20; len];
        for _ in 0..self.below(3) {
            let at = self.below(len);
            address[at] = self.next() as u8;
        }
        address
    }

    fn transport(&mut self, protocol: u8, depth: usize) -> Vec<u8> {
        let len = self.below(40);
        let mut rest = match protocol {
            6 => self.bytes(20),
            17 => {
                let mut udp = self.bytes(8);
                let udp_len = match self.below(4) {
                    0 => self.below(12),
                    1 => 8 + self.below(len + 1),
                    _ => 8 + len,
                };
                udp[4..6].copy_from_slice(&(udp_len as u16).to_be_bytes());
                udp
            }
            1 | 58 => {
                let kinds: &[u8] = &[0, 8, 3, 4, 5, 11, 12, 1, 2, 128, 129, 13];
                let mut icmp = self.bytes(8);
                icmp[0] = self.one(kinds);
                if depth > 0 {
                    let is_v6 = (protocol == 58) != self.chance(10);
                    icmp.extend(self.ip(is_v6, depth - 1));
                }
                icmp
            }
            _ => self.bytes(12),
        };
        rest.extend(self.bytes(len));
        rest
    }

    fn ip(&mut self, is_v6: bool, depth: usize) -> Vec<u8> {
        if is_v6 { self.ipv6(depth) } else { self.ipv4(depth) }
    }

    fn ipv4(&mut self, depth: usize) -> Vec<u8> {
        let mut protocol = self.one(&[6, 6, 17, 17, 1, 1, 51, 47, 50, 58, 0]);
        let mut header = vec![0x45, 0, 0, 0];
        let fragment: u16 = match self.below(8) {
            0 => 0x2000,
            1 => self.next() as u16,
            2 => 0x4000,
            _ => 0,
        };
        header.extend([1, 2]);
        header.extend(fragment.to_be_bytes());
        header.extend([64, protocol, 0, 0]);
        header.extend(self.address(4));
        header.extend(self.address(4));
        let options = if self.chance(5) { 4 * self.below(11) } else { 0 };
        header[0] += (options / 4) as u8;
        header.extend(self.bytes(options));
        let mut rest = Vec::new();
        while protocol == 51 && rest.len() < 60 {
            protocol = self.one(&[6, 17, 1, 51]);
            let units = self.below(5) as u8;
            rest.extend([protocol, units]);
            rest.extend(self.bytes(6 + 4 * usize::from(units)));
        }
        rest.extend(self.transport(protocol, depth));
        let mut total = header.len() + rest.len();
        match self.below(12) {
            0 => total = 0,
            1 => total = self.below(80),
            2 => total += self.below(80),
            _ => {}
        }
        header[2..4].copy_from_slice(&(total as u16).to_be_bytes());
        header.extend(rest);
        header
    }

    fn ipv6(&mut self, depth: usize) -> Vec<u8> {
        let mut next = self.one(&[6, 6, 17, 17, 58, 58, 0, 43, 44, 60, 51, 59, 50, 47]);
        let mut header = vec![0x60, 0, 0, 0, 0, 0, next, 64];
        header.extend(self.address(16));
        header.extend(self.address(16));
        let mut rest = Vec::new();
        while matches!(next, 0 | 43 | 44 | 60 | 51) && rest.len() < 220 {
            let number = next;
            next = self.one(&[6, 17, 58, 0, 43, 44, 60, 51, 6, 17]);
            let mut units = self.below(3) as u8;
            let mut body = self.bytes(6 + 8 * usize::from(units));
            match number {
                44 => {
                    body = self.bytes(6);
                    let bits: u16 = self.one(&[0, 0, 1, 8, 0x99, 6]);
                    body[..2].copy_from_slice(&bits.to_be_bytes());
                    units = self.next() as u8;
                }
                51 => body.truncate((2 + usize::from(units)) * 4 - 2),
                0 => {
                    let jumbo = self.below(200) as u32;
                    match self.below(4) {
                        0 => body[..2].copy_from_slice(&[0xc2, 4]),
                        1 => body[..3].copy_from_slice(&[0, 0xc2, self.below(6) as u8]),
                        2 => body.iter_mut().for_each(|byte| *byte %= 4),
                        _ => {}
                    }
                    body[2..6].copy_from_slice(&jumbo.to_be_bytes());
                }
                _ => {}
            }
            if number == 51 && body.len() < 6 {
                body.resize(6, 0);
            }
            rest.extend([next, units]);
            rest.extend(body);
        }
        rest.extend(self.transport(next, depth));
        let mut len = rest.len();
        match self.below(12) {
            0..3 => len = 0,
            3 => len = self.below(80),
            4 => len += self.below(80),
            _ => {}
        }
        header[4..6].copy_from_slice(&(len as u16).to_be_bytes());
        header.extend(rest);
        header
    }

    fn frame(&mut self) -> Vec<u8> {
        let mut frame = self.address(6);
        frame.extend(self.address(6));
        let tags = if self.chance(3) { self.below(5) } else { 0 };
        for _ in 0..tags {
            let tpid: u16 = self.one(&[0x8100, 0x88a8, 0x9100]);
            frame.extend(tpid.to_be_bytes());
            frame.extend(self.bytes(2));
        }
        match self.below(12) {
            0 => {
                let value: u16 = self.one(&[0x0806, 0x88cc, 38, 0x05ff, 0x0600, 0x8847, 0x0800]);
                frame.extend(value.to_be_bytes());
                let len = self.below(60);
                frame.extend(self.bytes(len));
            }
            1..6 => {
                frame.extend([0x86, 0xdd]);
                frame.extend(self.ipv6(2));
            }
            _ => {
                frame.extend([8, 0]);
                frame.extend(self.ipv4(2));
            }
        }
        // Noise, cuts, padding.
        if self.chance(4) {
            for _ in 0..1 + self.below(3) {
                let at = self.below(frame.len());
                frame[at] = self.one(&[0, 1, 4, 6, 17, 0x45, 0x46, 0x60, 0xff, 58, 44]);
            }
        }
        if self.chance(4) {
            let len = 14 + self.below(frame.len());
            frame.resize(len, 0xa5);
        }
        // A test run takes no frame that ends in an IP header right behind Ethernet's.
        let least = match frame.get(12..14) {
            Some([0x08, 0x00]) => 34,
            Some([0x86, 0xdd]) => 54,
            _ => 15,
        };
        frame.resize(frame.len().max(least), 0);
        frame
    }
}

/// Compares the hash of what stands behind `front`; how the program ended.
fn compare(kernel: &Kernel, front: &[u8], frame: &[u8]) -> u64 {
    let walk = Walk::new(LinkType::ETHERNET, frame);
    let [hash, how, ip, network, end] = kernel.run(&[front, frame].concat());
    if how == 2 {
        return how;
    }
    let hex: String = frame.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hash, u64::from(flow_hash(&walk, frame)), "{hex}\n{walk:?}");
    if !kernel.finds_ip {
        return how;
    }
    let gre = Encap::Gre(Gre { key: None, checksum: false, sequence: false });
    let found = (ip != 0).then(|| Fit {
        at: network as usize - front.len(),
        end: end as usize - front.len(),
        protocol: ip as u16,
    });
    assert_eq!(found, gre.fit(LinkType::ETHERNET, frame), "{hex}\n{walk:?}");
    how
}

#[test]
fn the_kernel_s_hash_is_that_of_user_space() {
    if !rig::root_or_skip() {
        return;
    }
    let kernel = Kernel::new(HASH);
    let mut random = Random(0x7461_706c_696e_6531);
    let mut beyond = 0;
    for _ in 0..60_000 {
        beyond += usize::from(compare(&kernel, &[], &random.frame()) == 2);
    }
    assert!(beyond < 60, "{beyond} packets were left to user space");
}

#[test]
fn the_hash_of_a_frame_inside_another_is_its_own() {
    if !rig::root_or_skip() {
        return;
    }
    let mut front = vec![0x88; 50];
    front[12..14].copy_from_slice(&[0x88, 0xb5]);
    let mut random = Random(0x7461_706c_696e_6532);
    for finds_ip in [false, true] {
        let kernel = Kernel::new(FlowHash { at: 50, finds_ip, ..HASH });
        for number in 0..5000 {
            let mut frame = random.frame();
            if number % 8 == 0 {
                frame.truncate(random.below(60));
            }
            compare(&kernel, &front, &frame);
        }
    }
}
