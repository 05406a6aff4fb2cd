//! One flow: who speaks with whom, and what is said next.

use super::Mix;
use super::payload::{Filling, Payloads};
use super::random::Random;
use std::net::Ipv4Addr;

const HEADERS_TCP: usize = 14 + 20 + 32;
/// What a TCP segment of full size carries behind time stamps.
const MSS: u64 = 1448;
const ACK: u8 = 0x10;
const PUSH: u8 = 0x18;

/// What a flow does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Handshake, requests with long answers, end.
    Tcp(Filling),
    /// Question and answer.
    Dns,
    /// Packets of one size, one way or both.
    Call,
    /// One SYN, which nobody answers.
    Probe,
}

struct End {
    mac: [u8; 6],
    ip: Ipv4Addr,
    port: u16,
    /// The next byte that it sends.
    seq: u32,
    ip_id: u16,
}

pub struct Flow {
    manner: Manner,
    client: End,
    server: End,
    /// Packets sent so far, and those of the whole flow.
    sent: u64,
    packets: u64,
    /// Bytes of the answer that are to come before the next request.
    answer: u64,
    unacknowledged: u32,
    clock: u32,
}

impl Flow {
    pub fn new(mix: Mix, random: &mut Random) -> Flow {
        let (manner, server_port, packets) = match mix {
            Mix::Enterprise => match random.below(100) {
                0..35 => (Manner::Dns, 53, 2),
                35..72 => (Manner::Tcp(Filling::Encrypted), 443, random.long_tailed(14, 20_000)),
                72..86 => (Manner::Tcp(Filling::Text), 80, random.long_tailed(12, 5_000)),
                86..94 => (Manner::Tcp(Filling::Text), 445, random.long_tailed(40, 30_000)),
                94..96 => {
                    let port = 1024 + random.popular(30_000) as u16;
                    (Manner::Tcp(Filling::Text), port, random.long_tailed(10, 2_000))
                }
                _ => (
                    Manner::Call,
                    16_384 + random.below(8_192) as u16,
                    random.long_tailed(50, 3_000),
                ),
            },
            Mix::Web => {
                let (filling, port) = match random.below(2) {
                    0 => (Filling::Encrypted, 443),
                    _ => (Filling::Text, 80),
                };
                (Manner::Tcp(filling), port, 9 + random.below(8))
            }
            Mix::Flood => match random.below(2) {
                0 => (Manner::Dns, 53, 2),
                _ => (Manner::Probe, random.below(65_536) as u16, 1),
            },
        };
        let (client, server) = match (mix, manner) {
            (Mix::Enterprise, _) => {
                let client = 0x0a00_0000 | random.popular(6_000) as u32;
                (client, 0x0a64_0000 | random.popular(600) as u32)
            }
            (Mix::Web, _) => {
                let client = 0x2000_0000 + random.below(0x6000_0000) as u32;
                (client, 0xc612_0000 | random.popular(50) as u32)
            }
            (Mix::Flood, Manner::Dns) => {
                let client = 0x2000_0000 + random.below(0x6000_0000) as u32;
                (client, 0xc612_0035)
            }
            (Mix::Flood, _) => (0xcb00_7107, 0x0a00_0000 | random.below(1 << 16) as u32),
        };
        let mut end = |ip: u32, port: u16| End {
            mac: [2, 0, ip.to_be_bytes()[0], 0, ip.to_be_bytes()[2], ip.to_be_bytes()[3]],
            ip: ip.into(),
            port,
            seq: random.next() as u32,
            ip_id: random.next() as u16,
        };
        let server = end(server, server_port);
        let mut client = end(client, 0);
        client.port = 32_768 + random.below(28_000) as u16;
        let clock = random.next() as u32;
        Flow { manner, client, server, sent: 0, packets, answer: 0, unacknowledged: 0, clock }
    }

    /// Makes its next packet. Says whether there is another one.
    pub fn next(&mut self, random: &mut Random, payloads: &Payloads, frame: &mut Vec<u8>) -> bool {
        frame.clear();
        self.clock += 1;
        match self.manner {
            Manner::Tcp(filling) => self.tcp(random, payloads, filling, frame),
            Manner::Probe => self.segment(random, true, 0x02, frame),
            Manner::Dns => {
                let to_server = self.sent == 0;
                let bytes =
                    24 + random.below(16) + if to_server { 0 } else { 16 + random.below(100) };
                self.datagram(to_server, bytes as u16, frame);
                payloads.fill(random, Filling::Text, bytes as usize, frame);
            }
            Manner::Call => {
                let bytes = 172 + (self.packets % 7) * 140;
                self.datagram(random.below(2) == 0, bytes as u16, frame);
                payloads.fill(random, Filling::Encrypted, bytes as usize, frame);
            }
        }
        self.sent += 1;
        self.sent < self.packets
    }

    fn tcp(
        &mut self,
        random: &mut Random,
        payloads: &Payloads,
        filling: Filling,
        frame: &mut Vec<u8>,
    ) {
        match (self.sent, self.packets - self.sent) {
            (0, _) => self.segment(random, true, 0x02, frame),
            (1, _) => self.segment(random, false, 0x12, frame),
            (2, _) => self.segment(random, true, ACK, frame),
            (_, 2) => self.segment(random, true, 0x11, frame),
            (_, 1) => self.segment(random, false, 0x11, frame),
            _ if self.unacknowledged >= 3 => {
                self.unacknowledged = 0;
                self.segment(random, true, ACK, frame);
            }
            _ if self.answer == 0 => {
                self.answer = random.long_tailed(900, 500_000);
                let bytes = 80 + random.below(700) as usize;
                self.segment(random, true, PUSH, frame);
                self.carry(true, random, payloads, filling, bytes, frame);
            }
            _ => {
                let bytes = self.answer.min(MSS);
                self.answer -= bytes;
                self.unacknowledged += if self.answer == 0 { 3 } else { 1 };
                self.segment(random, false, if self.answer == 0 { PUSH } else { ACK }, frame);
                self.carry(false, random, payloads, filling, bytes as usize, frame);
            }
        }
    }

    /// A TCP segment without payload.
    fn segment(&mut self, random: &mut Random, to_server: bool, flags: u8, frame: &mut Vec<u8>) {
        self.ip(to_server, 6, 52, frame);
        let (from, to) = self.ends(to_server);
        frame.extend_from_slice(&from.port.to_be_bytes());
        frame.extend_from_slice(&to.port.to_be_bytes());
        frame.extend_from_slice(&from.seq.to_be_bytes());
        frame.extend_from_slice(&to.seq.to_be_bytes());
        frame.extend_from_slice(&[0x80, flags, 0x01, 0xf5]);
        frame.extend_from_slice(&(random.next() as u16).to_be_bytes());
        frame.extend_from_slice(&[0, 0, 1, 1, 8, 10]);
        frame.extend_from_slice(&self.clock.to_be_bytes());
        frame.extend_from_slice(&self.clock.wrapping_sub(3).to_be_bytes());
        // SYN and FIN count as a byte.
        let end = if to_server { &mut self.client } else { &mut self.server };
        end.seq = end.seq.wrapping_add(u32::from(flags & 3 != 0));
    }

    /// Puts a payload behind a segment.
    fn carry(
        &mut self,
        to_server: bool,
        random: &mut Random,
        payloads: &Payloads,
        filling: Filling,
        bytes: usize,
        frame: &mut Vec<u8>,
    ) {
        payloads.fill(random, filling, bytes, frame);
        let total = (frame.len() - 14) as u16;
        frame[16..18].copy_from_slice(&total.to_be_bytes());
        let end = if to_server { &mut self.client } else { &mut self.server };
        end.seq = end.seq.wrapping_add((frame.len() - HEADERS_TCP) as u32);
    }

    fn datagram(&mut self, to_server: bool, bytes: u16, frame: &mut Vec<u8>) {
        self.ip(to_server, 17, 28 + bytes, frame);
        let (from, to) = self.ends(to_server);
        frame.extend_from_slice(&from.port.to_be_bytes());
        frame.extend_from_slice(&to.port.to_be_bytes());
        frame.extend_from_slice(&(8 + bytes).to_be_bytes());
        frame.extend_from_slice(&(from.ip_id ^ bytes).to_be_bytes());
    }

    fn ip(&mut self, to_server: bool, protocol: u8, total: u16, frame: &mut Vec<u8>) {
        let (from, to) = self.ends(to_server);
        frame.extend_from_slice(&to.mac);
        frame.extend_from_slice(&from.mac);
        frame.extend_from_slice(&[8, 0, 0x45, 0]);
        frame.extend_from_slice(&total.to_be_bytes());
        frame.extend_from_slice(&from.ip_id.to_be_bytes());
        frame.extend_from_slice(&[0x40, 0, 64, protocol]);
        frame.extend_from_slice(&(!from.ip_id).to_be_bytes());
        frame.extend_from_slice(&from.ip.octets());
        frame.extend_from_slice(&to.ip.octets());
        let end = if to_server { &mut self.client } else { &mut self.server };
        end.ip_id = end.ip_id.wrapping_add(1);
    }

    fn ends(&self, to_server: bool) -> (&End, &End) {
        if to_server { (&self.client, &self.server) } else { (&self.server, &self.client) }
    }
}
