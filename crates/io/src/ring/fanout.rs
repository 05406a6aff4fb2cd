//! Sharing the frames of an interface out among the rings of several workers, by flow.
//!
//! The kernel asks a classic BPF program of ours which ring takes a frame (`PACKET_FANOUT_CBPF`), the
//! result modulo the number of rings. Its own symmetric hash will not do on every kernel: before 6.6 it
//! leaves the ports out of IPv6 packets that carry a flow label, and only out of those, so that the two
//! directions of a flow part where one end sets labels and the other does not.
//!
//! ```text
//! input         the two addresses, the protocol, the two ports
//! without ports fragments of IP, the first one too; other protocols than TCP, UDP, DCCP, SCTP, UDP-Lite
//! ring 0        what is not IP, and headers that do not lie in one piece
//! ```
//! Two values enter by their sum and their exclusive-or alone, which do not tell which is whose; so both
//! directions of a flow get one result. Up to two VLAN tags and one hop-by-hop header, which
//! super-packets of IPv6 carry, are stepped over.
//!
//! Source: packet(7), Linux `net/packet/af_packet.c` (`fanout_demux_bpf`, `fanout_add`) and
//! `Documentation/networking/filter.rst`.

use super::sys::Ring;
use filter::Instruction;
use filter::op::*;
use std::io;
use std::sync::{Mutex, PoisonError};

/// Words of the program's scratch memory.
const NETWORK: u32 = 0;
const SOURCE: u32 = 1;
const DESTINATION: u32 = 2;
const PROTOCOL: u32 = 3;
const SOURCE_PORT: u32 = 4;
const DESTINATION_PORT: u32 = 5;
const WORK: u32 = 6;
const WORDS: u32 = 7; // four of them

/// Odd numbers whose bits are spread evenly; any would do.
const FACTORS: [u32; 6] =
    [0x9e37_79b1, 0x85eb_ca77, 0xc2b2_ae3d, 0x27d4_eb2f, 0x1656_67b1, 0x2c1b_3c6d];

const ETHERTYPE_IPV4: u32 = 0x0800;
const ETHERTYPE_IPV6: u32 = 0x86dd;
const ETHERTYPES_VLAN: [u32; 2] = [0x8100, 0x88a8];
const HOP_BY_HOP: u32 = 0;
const FRAGMENT: u32 = 44;
/// TCP, UDP, DCCP, SCTP, UDP-Lite: all begin with the two ports.
const WITH_PORTS: [u32; 5] = [6, 17, 33, 132, 136];

/// Loads of the kernel's metadata stand at these addresses (`SKF_AD_OFF`).
const METADATA: u32 = libc::SKF_AD_OFF.cast_unsigned();

/// The rings of a tap, as far as they stand in a fan-out group of the kernel.
#[derive(Debug, Default)]
pub(super) struct Fanout {
    /// The interface of the group, and its id in the kernel. An interface that is gone takes its group
    /// along: the rings for the next one form another.
    group: Mutex<Option<(i32, u16)>>,
}

impl Fanout {
    /// Has a ring that is bound to an interface take a share of its frames only.
    pub fn join(&self, ring: &Ring, index: i32) -> io::Result<()> {
        let mut group = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        let known = group.filter(|(of, _)| *of == index);
        if known.is_none_or(|(_, id)| ring.join_group(id).is_err()) {
            *group = Some((index, ring.make_group()?));
        }
        ring.share_by(&program())
    }
}

/// A place in the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    Next,
    Sent,
    Received,
    Framed,
    Tag(u8),
    Untag(u8),
    Network,
    V4,
    V6,
    Options,
    Behind6,
    Fragment6,
    Whole6,
    Transport,
    Ports,
    NoPorts,
    Mix,
    NotIp,
}

use Label::*;

enum Line {
    Do(u16, u32),
    /// Jumps to the first place if the comparison is true, else to the second.
    If(u16, u32, Label, Label),
    Go(Label),
    Here(Label),
}

use Line::*;

/// Which ring takes a frame: a number, of which the kernel takes the rest by the number of rings.
fn program() -> Vec<Instruction> {
    let metadata = |offset: i32| METADATA + offset.cast_unsigned();
    let mut lines = vec![
        // A received frame is handed over at its network header, a sent one at its first byte.
        Do(LD | B | ABS, metadata(libc::SKF_AD_PKTTYPE)),
        If(JEQ, u32::from(libc::PACKET_OUTGOING), Sent, Received),
        Here(Sent),
        Do(LD | W | ABS, metadata(libc::SKF_AD_HATYPE)),
        If(JEQ, u32::from(libc::ARPHRD_ETHER), Framed, Next),
        If(JEQ, u32::from(libc::ARPHRD_LOOPBACK), Framed, Received),
        Here(Framed),
        Do(LDX | W | IMM, 14),
        Do(LD | H | ABS, 12),
        Go(Tag(0)),
        Here(Received),
        Do(LDX | W | IMM, 0),
        Do(LD | H | ABS, metadata(libc::SKF_AD_PROTOCOL)),
    ];
    // From here on X is where a header begins, and A the type of what begins there.
    for nth in 0..2 {
        lines.extend([
            Here(Tag(nth)),
            If(JEQ, ETHERTYPES_VLAN[0], Untag(nth), Next),
            If(JEQ, ETHERTYPES_VLAN[1], Untag(nth), Network),
            Here(Untag(nth)),
            Do(LD | H | IND, 2),
            Do(ST, WORK),
            Do(MISC | TXA, 0),
            Do(ALU | ADD | K, 4),
            Do(MISC | TAX, 0),
            Do(LD | MEM, WORK),
        ]);
    }
    lines.extend([
        Here(Network),
        Do(STX, NETWORK),
        If(JEQ, ETHERTYPE_IPV4, V4, Next),
        If(JEQ, ETHERTYPE_IPV6, V6, NotIp),
        Here(V4),
        Do(LD | W | IND, 12),
        Do(ST, SOURCE),
        Do(LD | W | IND, 16),
        Do(ST, DESTINATION),
        Do(LD | B | IND, 9),
        Do(ST, PROTOCOL),
        Do(LD | H | IND, 6),
        If(JSET, 0x3fff, NoPorts, Next),
        Do(LD | B | IND, 0),
        Do(ALU | AND | K, 0xf),
        Do(ALU | LSH | K, 2),
        Do(ALU | ADD | X, 0),
        Do(MISC | TAX, 0),
        Go(Transport),
        Here(V6),
    ]);
    fold_address(&mut lines, 8, SOURCE);
    fold_address(&mut lines, 24, DESTINATION);
    lines.extend([
        Do(LD | B | IND, 6),
        Do(ST, PROTOCOL),
        If(JEQ, HOP_BY_HOP, Options, Behind6),
        Here(Options),
        Do(LD | B | IND, 40),
        Do(ST, PROTOCOL),
        Do(LD | B | IND, 41),
        Do(ALU | ADD | K, 1),
        Do(ALU | LSH | K, 3),
        Do(ALU | ADD | X, 0),
        Do(MISC | TAX, 0),
        Here(Behind6),
        Do(LD | MEM, PROTOCOL),
        If(JEQ, FRAGMENT, Fragment6, Whole6),
        Here(Fragment6),
        Do(LD | B | IND, 40),
        Do(ST, PROTOCOL),
        Go(NoPorts),
        Here(Whole6),
        Do(MISC | TXA, 0),
        Do(ALU | ADD | K, 40),
        Do(MISC | TAX, 0),
        Here(Transport),
        Do(LD | MEM, PROTOCOL),
    ]);
    let last = WITH_PORTS.len() - 1;
    lines.extend(WITH_PORTS[..last].iter().map(|&protocol| If(JEQ, protocol, Ports, Next)));
    lines.extend([
        If(JEQ, WITH_PORTS[last], Ports, NoPorts),
        Here(Ports),
        Do(LD | H | IND, 0),
        Do(ST, SOURCE_PORT),
        Do(LD | H | IND, 2),
        Do(ST, DESTINATION_PORT),
        Go(Mix),
        Here(NoPorts),
        Do(LD | IMM, 0),
        Do(ST, SOURCE_PORT),
        Do(ST, DESTINATION_PORT),
        Here(Mix),
        Do(LD | MEM, PROTOCOL),
        Do(ST, WORK),
    ]);
    let pairs = [(SOURCE, DESTINATION), (SOURCE_PORT, DESTINATION_PORT)];
    let ways = pairs.iter().flat_map(|&(one, other)| [(one, other, ADD), (one, other, XOR)]);
    for ((one, other, way), factor) in ways.zip(FACTORS) {
        // work = (work + (one ± other)) × factor, and the high bits down.
        lines.extend([
            Do(LD | MEM, one),
            Do(LDX | MEM, other),
            Do(ALU | way | X, 0),
            Do(LDX | MEM, WORK),
            Do(ALU | ADD | X, 0),
            Do(ALU | MUL | K, factor),
            Do(ST, WORK),
            Do(ALU | RSH | K, 15),
            Do(LDX | MEM, WORK),
            Do(ALU | XOR | X, 0),
            Do(ST, WORK),
        ]);
    }
    lines.extend([
        Do(ALU | MUL | K, FACTORS[4]),
        Do(ST, WORK),
        Do(ALU | RSH | K, 16),
        Do(LDX | MEM, WORK),
        Do(ALU | XOR | X, 0),
        Do(RET | A, 0),
        Here(NotIp),
        Do(RET | K, 0),
    ]);
    assemble(&lines)
}

/// Folds an IPv6 address into a word.
fn fold_address(lines: &mut Vec<Line>, offset: u32, into: u32) {
    for word in 0..4 {
        lines.extend([Do(LD | W | IND, offset + 4 * word), Do(ST, WORDS + word)]);
    }
    lines.push(Do(LD | MEM, WORDS));
    for word in 1..4 {
        lines.extend([
            Do(ALU | MUL | K, FACTORS[5]),
            Do(LDX | MEM, WORDS + word),
            Do(ALU | ADD | X, 0),
        ]);
    }
    lines.extend([Do(ST, into), Do(LDX | MEM, NETWORK)]);
}

/// Puts the distances of jumps in.
fn assemble(lines: &[Line]) -> Vec<Instruction> {
    let mut places = Vec::new();
    let mut at = 0;
    for line in lines {
        match line {
            Here(label) => places.push((*label, at)),
            _ => at += 1,
        }
    }
    let distance = |label: Label, from: usize| match label {
        Next => 0,
        _ => {
            let (_, to) = places.iter().find(|(of, _)| *of == label).expect("every label stands");
            to - from - 1
        }
    };
    let near = |label, from| u8::try_from(distance(label, from)).expect("the program is short");
    let mut instructions = Vec::new();
    for line in lines {
        let from = instructions.len();
        instructions.push(match *line {
            Here(_) => continue,
            Do(code, k) => Instruction::new(code, 0, 0, k),
            Go(to) => Instruction::new(JMP | JA, 0, 0, distance(to, from) as u32),
            If(test, k, yes, no) => {
                Instruction::new(JMP | test | K, near(yes, from), near(no, from), k)
            }
        });
    }
    instructions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_a_valid_one() {
        let program = program();
        assert!(program.len() < 200, "{} instructions", program.len());
        filter::Program::new(program).unwrap();
    }
}
