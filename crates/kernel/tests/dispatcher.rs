//! Golden listings of dispatchers.
//!
//! A listing that changed on purpose is written anew by `LISTINGS=write cargo test -p kernel`.

use filter::ebpf::{Assembler, Code, Register, Scope, Verdicts};
use filter::{Action, Direction, Instruction, Program, Rule, Rules, op};
use kernel::mirror::{DispatcherOptions, DispatcherTap, LateTap, Private, dispatcher, late_judge};
use wire::LinkType;

/// IPv4 whose byte behind its header is 7.
fn indexed() -> Program {
    Program::new(vec![
        Instruction::new(op::LD | op::H | op::ABS, 0, 0, 12),
        Instruction::new(op::JMP | op::JEQ | op::K, 0, 4, 0x0800),
        Instruction::new(op::LDX | op::B | op::MSH, 0, 0, 14),
        Instruction::new(op::LD | op::B | op::IND, 0, 0, 14),
        Instruction::new(op::JMP | op::JEQ | op::K, 0, 1, 7),
        Instruction::new(op::RET | op::K, 0, 0, 262_144),
        Instruction::new(op::RET | op::K, 0, 0, 0),
    ])
    .expect("it is a program")
}

fn tap<'a>(program: &'a Program, verdicts: Verdicts<'a>) -> DispatcherTap<'a> {
    DispatcherTap {
        program,
        verdicts,
        scope: Some(Scope::WholeFrames),
        tap: 0,
        slots: vec![1],
        late_slots: vec![8],
        bucket: None,
        skips_own_tunnels: true,
    }
}

fn assert_listing(name: &str, code: &Code) {
    let path = format!("{}/tests/listings/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let listing = code.to_string();
    if std::env::var_os("LISTINGS").is_some_and(|v| v == "write") {
        std::fs::write(&path, &listing).unwrap_or_else(|e| panic!("{path}: {e}"));
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    for (number, (got, expected)) in (1..).zip(listing.lines().zip(golden.lines())) {
        assert_eq!(got, expected, "{path}:{number}");
    }
    assert_eq!(listing.lines().count(), golden.lines().count(), "lines of {path}");
}

#[test]
fn an_expression_on_received_packets() {
    let program = indexed();
    let code = dispatcher(&DispatcherOptions {
        link_type: LinkType::ETHERNET,
        direction: Direction::In,
        is_loopback: false,
        private: Private { entry: 8, near: Some(7) },
        taps: vec![tap(&program, Verdicts::Expression)],
    });
    assert_listing("dispatcher_in", &code.unwrap());
}

#[test]
fn rules_and_a_ceiling_on_sent_packets() {
    let rules = Rules::new(vec![
        Rule { protocol: Some(17), ..Rule::new(Action::Exclude) },
        Rule::new(Action::Include),
    ]);
    let rules = rules.unwrap();
    // The rules' own program looks at all headers; this one stands for it.
    let program = Program::new(vec![
        Instruction::new(op::LD | op::B | op::ABS, 0, 0, 23),
        Instruction::new(op::JMP | op::JEQ | op::K, 0, 1, 17),
        Instruction::new(op::RET | op::K, 0, 0, 1),
        Instruction::new(op::RET | op::K, 0, 0, 2),
    ]);
    let (program, nothing) = (program.unwrap(), Program::constant(0));
    let ruled = DispatcherTap {
        scope: Some(Scope::Everything),
        bucket: Some(2),
        slots: vec![1, 2],
        ..tap(&program, Verdicts::Rules(&rules))
    };
    let of_the_other_direction = DispatcherTap { tap: 1, ..tap(&nothing, Verdicts::Expression) };
    let code = dispatcher(&DispatcherOptions {
        link_type: LinkType::ETHERNET,
        direction: Direction::Out,
        is_loopback: false,
        private: Private { entry: 8, near: Some(7) },
        taps: vec![ruled, of_the_other_direction],
    });
    assert_listing("dispatcher_out", &code.unwrap());
}

#[test]
fn a_late_judge() {
    let program = indexed();
    let late = LateTap {
        received: &program,
        sent: &program,
        verdicts: Verdicts::Expression,
        tap: 3,
        first_slot: 9,
    };
    let mut asm = Assembler::new();
    let (keep, reject) = (asm.label(), asm.label());
    asm.copy(Register::R6, Register::R1);
    late_judge(&mut asm, &late, keep, reject).unwrap();
    asm.bind(keep);
    asm.bind(reject);
    asm.exit();
    assert_listing("late_judge", &asm.finish().unwrap());
}
