//! A capture filter as a classic socket filter (`SO_ATTACH_FILTER`): for hosts that refuse eBPF.
//!
//! ```text
//! ld  #vlan_tag_present    a tag in metadata: user space decides
//! ld  #len                 longer than IP can say: a super-packet with a header that its segments lack
//! ldb #pkttype             sent or received: each direction has a program of its own
//! ```
//! What comes through is decided again in user space, so it may let too much through but must not
//! stop what would match: the caller gives only programs whose verdict all segments of a
//! super-packet share (`ebpf::Scope::Everything`). What it stops, nobody counts.

use crate::ebpf::Verdicts;
use crate::{Action, Error, Instruction, KERNEL_INSTRUCTIONS_MAX, Program, op};

/// `SKF_AD_OFF` + `SKF_AD_PKTTYPE` and `SKF_AD_VLAN_TAG_PRESENT` (`include/uapi/linux/filter.h`).
const PACKET_TYPE: u32 = 0xffff_f004;
const VLAN_TAG_PRESENT: u32 = 0xffff_f030;
const PACKET_OUTGOING: u32 = 4;
/// The longest frame without a jumbo header, which stands before IPv6 payloads above 65,535 bytes.
const LONGEST: u32 = u16::MAX as u32 + 14;
/// A socket filter's verdict is a snap length.
const ALL_BYTES: u32 = i32::MAX as u32;

/// Joins the programs of both directions into one that lets through what matches, every frame with a
/// tag in metadata, and super-packets that may have a jumbo header.
///
/// # Errors
/// [`Error::TooLongForKernel`], and [`Error::JumpsBack`] as the programs of `protochain` do.
pub fn prefilter(
    received: &Program,
    sent: &Program,
    verdicts: Verdicts<'_>,
) -> Result<Program, Error> {
    let (received, sent) = (lets_through(received, verdicts), lets_through(sent, verdicts));
    let mut joined = vec![
        Instruction::new(op::LD | op::W | op::ABS, 0, 0, VLAN_TAG_PRESENT),
        Instruction::new(op::JMP | op::JEQ | op::K, 0, 2, 0),
        Instruction::new(op::LD | op::LEN, 0, 0, 0),
        Instruction::new(op::JMP | op::JGT | op::K, 0, 1, LONGEST),
        Instruction::new(op::RET | op::K, 0, 0, ALL_BYTES),
        Instruction::new(op::LD | op::B | op::ABS, 0, 0, PACKET_TYPE),
        Instruction::new(op::JMP | op::JEQ | op::K, 0, 1, PACKET_OUTGOING),
        Instruction::new(op::JMP | op::JA, 0, 0, received.len() as u32),
    ];
    joined.extend(received);
    joined.extend(sent);
    let program = Program::new(joined)?;
    let len = program.instructions().len();
    match program.fits_kernel() {
        true => Ok(program),
        false if len > KERNEL_INSTRUCTIONS_MAX => Err(Error::TooLongForKernel { got: len }),
        false => Err(Error::JumpsBack),
    }
}

/// The program with snap lengths for verdicts.
fn lets_through(program: &Program, verdicts: Verdicts<'_>) -> Vec<Instruction> {
    let matches = |verdict: u32| match verdicts {
        Verdicts::Expression => verdict != 0,
        Verdicts::Rules(rules) => rules.action(verdict) == Some(Action::Include),
    };
    let each = |i: &Instruction| match i.code == op::RET | op::K {
        true => Instruction::new(i.code, 0, 0, if matches(i.k) { ALL_BYTES } else { 0 }),
        false => *i,
    };
    program.instructions().iter().map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Rule, Rules};

    fn ret(verdict: u32) -> Instruction {
        Instruction::new(op::RET | op::K, 0, 0, verdict)
    }

    #[test]
    fn the_listing_shows_both_directions() {
        let ethertype = Program::new(vec![
            Instruction::new(op::LD | op::H | op::ABS, 0, 0, 12),
            Instruction::new(op::JMP | op::JEQ | op::K, 0, 1, 0x0800),
            ret(1),
            ret(2),
        ])
        .unwrap();
        let none = Program::constant(0);
        let rules = [Action::Include, Action::Exclude].map(Rule::new);
        let rules = Rules::new(rules.to_vec()).unwrap();
        let joined = prefilter(&ethertype, &none, Verdicts::Rules(&rules)).unwrap();
        let listing = "\
(000) ld       [-4048]
(001) jeq      #0x0             jt 2\tjf 4
(002) ld       #pktlen
(003) jgt      #0x1000d         jt 4\tjf 5
(004) ret      #2147483647
(005) ldb      [-4092]
(006) jeq      #0x4             jt 7\tjf 8
(007) ja       12
(008) ldh      [12]
(009) jeq      #0x800           jt 10\tjf 11
(010) ret      #2147483647
(011) ret      #0
(012) ret      #0
";
        assert_eq!(joined.to_string(), listing);
    }

    #[test]
    fn an_expression_s_verdicts_are_all_matches() {
        let joined =
            prefilter(&Program::constant(96), &Program::constant(0), Verdicts::Expression).unwrap();
        assert_eq!(joined.instructions()[8], ret(ALL_BYTES));
        assert_eq!(joined.instructions()[9], ret(0));
    }

    #[test]
    fn what_the_kernel_refuses_is_refused() {
        let mut long = vec![Instruction::new(op::LD | op::IMM, 0, 0, 0); KERNEL_INSTRUCTIONS_MAX];
        long.push(ret(1));
        let long = Program::new(long).unwrap();
        let none = Program::constant(0);
        let error = prefilter(&long, &none, Verdicts::Expression).unwrap_err();
        assert_eq!(error, Error::TooLongForKernel { got: KERNEL_INSTRUCTIONS_MAX + 10 });
        let back = Instruction::new(op::JMP | op::JA, 0, 0, u32::MAX);
        let back = Program::new(vec![back, ret(1)]).unwrap();
        assert_eq!(prefilter(&none, &back, Verdicts::Expression).unwrap_err(), Error::JumpsBack);
    }
}
