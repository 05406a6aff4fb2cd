use super::*;
use crate::ebpf::Scope;

const RET: Instruction = Instruction::new(op::RET | op::K, 0, 0, 1);
const LDH: u16 = op::LD | op::H | op::ABS;
const JEQ: u16 = op::JMP | op::JEQ | op::K;

fn judged(instructions: &[(u16, u8, u8, u32)]) -> Decides {
    let instructions =
        instructions.iter().map(|&(code, jt, jf, k)| Instruction::new(code, jt, jf, k));
    let program = Program::new(instructions.chain([RET, RET]).collect()).unwrap();
    decides(&program, LinkType::ETHERNET)
}

fn stands_at(decides: &Decides) -> usize {
    match decides {
        Decides::Nothing(Obstacle::Load { at, .. }) => *at,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_byte_of_an_ipv4_header_has_its_class() {
    let (shared, whole) = ([0, 1, 6, 7, 8, 9], [2, 3, 4, 5, 10, 11]);
    for n in 0..30 {
        let got = judged(&[(LDH, 0, 0, 12), (JEQ, 0, 1, 0x0800), (0x30, 0, 0, 14 + n)]);
        match n {
            n if shared.contains(&n) || (12..20).contains(&n) => {
                assert_eq!(got, Decides::Everything, "byte {n}");
            }
            n if whole.contains(&n) => assert_eq!(got, Decides::WholeFrames, "byte {n}"),
            _ => assert_eq!(stands_at(&got), 2, "byte {n}"),
        }
    }
}

#[test]
fn an_ethertype_is_known_on_the_way_where_it_was_compared_alone() {
    // ldh [12]; jeq ip jt, jf; ldb [23] on either way.
    assert_eq!(
        judged(&[(LDH, 0, 0, 12), (JEQ, 0, 1, 0x0800), (0x30, 0, 0, 23)]),
        Decides::Everything
    );
    let false_way = [(LDH, 0, 0, 12), (JEQ, 1, 0, 0x0800), (0x30, 0, 0, 23)];
    assert_eq!(stands_at(&judged(&false_way)), 2);
    // Both ways meet at the load.
    let both = [(LDH, 0, 0, 12), (JEQ, 0, 0, 0x0800), (0x30, 0, 0, 23)];
    assert_eq!(stands_at(&judged(&both)), 2);
    // A was changed before it was compared.
    let changed = [(LDH, 0, 0, 12), (0x54, 0, 0, 0xfff), (JEQ, 0, 1, 0x0800), (0x30, 0, 0, 23)];
    assert_eq!(stands_at(&judged(&changed)), 3);
    // A word that ends in the EtherType is none.
    let word = [(0x20, 0, 0, 10), (JEQ, 0, 1, 0x0800), (0x30, 0, 0, 23)];
    assert_eq!(stands_at(&judged(&word)), 2);
}

#[test]
fn an_indexed_load_needs_the_header_s_length_in_x() {
    let v4 = [(LDH, 0, 0, 12), (JEQ, 0, 3, 0x0800)];
    let with = |load: [(u16, u8, u8, u32); 2]| judged(&[v4[0], v4[1], load[0], load[1]]);
    assert_eq!(with([(0xb1, 0, 0, 14), (0x48, 0, 0, 16)]), Decides::Everything);
    assert_eq!(with([(0xb1, 0, 0, 14), (0x48, 0, 0, 18)]), Decides::WholeFrames);
    assert_eq!(with([(0xb1, 0, 0, 14), (0x48, 0, 0, 20)]), {
        Decides::Nothing(Obstacle::Load { at: 3, line: "ldh [x + 20]".into() })
    });
    assert_eq!(stands_at(&with([(0xb1, 0, 0, 14), (0x48, 0, 0, 12)])), 3);
    assert_eq!(stands_at(&with([(0xb1, 0, 0, 15), (0x48, 0, 0, 14)])), 3);
    assert_eq!(stands_at(&with([(0x01, 0, 0, 20), (0x48, 0, 0, 14)])), 3);
    assert_eq!(stands_at(&with([(0x07, 0, 0, 0), (0x48, 0, 0, 14)])), 3);
}

#[test]
fn tags_move_what_follows_and_protocols_that_are_never_offloaded_are_free() {
    let tagged = |more: &[(u16, u8, u8, u32)]| {
        let mut program = vec![(LDH, 0, 0, 12), (JEQ, 0, 3, 0x8100), (LDH, 0, 0, 16)];
        program.extend(more);
        judged(&program)
    };
    assert_eq!(tagged(&[(JEQ, 0, 1, 0x0800), (0x30, 0, 0, 27)]), Decides::Everything);
    assert_eq!(stands_at(&tagged(&[(0x30, 0, 0, 27)])), 3);
    for (ethertype, free) in [(0x0806, true), (0x88cc, true), (0x05dc, true), (0x8847, false)] {
        let got = judged(&[(LDH, 0, 0, 12), (JEQ, 0, 1, ethertype), (0x20, 0, 0, 1000)]);
        assert_eq!(got == Decides::Everything, free, "{ethertype:#x}: {got:?}");
    }
    // An 802.3 length: at most 1500, below 1536; above it anything may stand there.
    let below = |code, k| judged(&[(LDH, 0, 0, 12), (code, 1, 0, k), (0x30, 0, 0, 99)]);
    assert_eq!(below(0x25, 0x5dc), Decides::Everything);
    assert_eq!(below(0x35, 0x600), Decides::Everything);
    assert_eq!(stands_at(&below(0x35, 0x601)), 2);
    assert_eq!(stands_at(&below(0x25, u32::MAX)), 2);
}

#[test]
fn lengths_jumps_back_and_link_types() {
    assert_eq!(judged(&[(0x80, 0, 0, 0)]), Decides::WholeFrames);
    assert_eq!(judged(&[(0x81, 0, 0, 0)]), Decides::WholeFrames);
    let back = judged(&[(0x00, 0, 0, 1), (JEQ, 1, 0, 1), (0x05, 0, 0, u32::MAX - 1)]);
    assert_eq!(back, Decides::Nothing(Obstacle::JumpsBack { at: 2 }));
    let sll = LinkType::LINUX_SLL;
    assert_eq!(decides(&Program::constant(0), sll), Decides::Everything);
    let program = Program::new(vec![Instruction::new(0x80, 0, 0, 0), RET]).unwrap();
    let error = decides(&program, sll).scope().unwrap_err().to_string();
    assert!(error.contains("are not known to it; it runs in user space"), "{error}");
}

#[test]
fn two_directions_decide_what_both_do() {
    let nothing = Decides::Nothing(Obstacle::JumpsBack { at: 1 });
    assert_eq!(Decides::Everything.and(Decides::WholeFrames).scope(), Ok(Scope::WholeFrames));
    assert_eq!(Decides::Everything.and(Decides::Everything).scope(), Ok(Scope::Everything));
    assert_eq!(Decides::Everything.and(nothing.clone()), nothing);
    assert_eq!(nothing.clone().and(Decides::WholeFrames), nothing);
}
