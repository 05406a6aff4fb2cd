//! The programs that filters become in the kernel: golden listings, and what is refused.
//!
//! A listing that changed on purpose is written anew by `LISTINGS=write cargo test -p filter`.

use filter::ebpf::{Error, Scope, SocketFilter, SocketFilterOptions, Verdicts, socket_filter};
use filter::{Action, Instruction, Program, Rule, Rules, op};
use wire::LinkType;

/// What tcpdump makes of `tcp port 80`, but for IPv4 alone.
fn tcp_port_80() -> Program {
    let instructions = [
        (0x28, 0, 0, 12),
        (0x15, 0, 10, 0x0800),
        (0x30, 0, 0, 23),
        (0x15, 0, 8, 6),
        (0x28, 0, 0, 20),
        (0x45, 6, 0, 0x1fff),
        (0xb1, 0, 0, 14),
        (0x48, 0, 0, 14),
        (0x15, 2, 0, 80),
        (0x48, 0, 0, 16),
        (0x15, 0, 1, 80),
        (0x06, 0, 0, 262_144),
        (0x06, 0, 0, 0),
    ];
    let instructions = instructions.map(|(code, jt, jf, k)| Instruction::new(code, jt, jf, k));
    Program::new(instructions.into()).expect("tcpdump's programs are programs")
}

fn converted(
    link_type: LinkType,
    received: &Program,
    sent: &Program,
    verdicts: Verdicts<'_>,
    scope: Scope,
) -> Result<SocketFilter, Error> {
    socket_filter(&SocketFilterOptions { link_type, received, sent, verdicts, scope })
}

fn assert_listing(name: &str, filter: &SocketFilter) {
    let path = format!("{}/tests/listings/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let listing = filter.code.to_string();
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
fn an_expression_that_judges_all_it_sees() {
    let program = tcp_port_80();
    let filter =
        converted(LinkType::ETHERNET, &program, &program, Verdicts::Expression, Scope::Everything);
    assert_listing("tcp_port_80", &filter.unwrap());
}

#[test]
fn rules_that_differ_by_direction() {
    let rules = vec![Rule::new(Action::Exclude), Rule::new(Action::Include)];
    let rules = Rules::new(rules).unwrap();
    // Received packets are all included, and no byte of them is looked at.
    let received = Program::constant(2);
    let sent = Program::new(vec![
        Instruction::new(op::LD | op::B | op::ABS, 0, 0, 9),
        Instruction::new(op::JMP | op::JEQ | op::K, 0, 1, 6),
        Instruction::new(op::RET | op::K, 0, 0, 1),
        Instruction::new(op::RET | op::K, 0, 0, 0),
    ]);
    let filter = converted(
        LinkType::RAW,
        &received,
        &sent.unwrap(),
        Verdicts::Rules(&rules),
        Scope::WholeFrames,
    );
    let filter = filter.unwrap();
    assert_eq!((filter.counters.rules, filter.counters.elements()), (2, 1));
    assert_listing("rules_by_direction", &filter);
}

#[test]
fn counters_have_a_place_each() {
    let layout = |rules| filter::ebpf::CounterLayout { rules };
    for (rules, elements) in [(0, 1), (496, 1), (497, 2), (1008, 2), (1009, 3)] {
        assert_eq!(layout(rules).elements(), elements, "{rules} rules");
    }
    for (rule, place) in [(1, (0, 16)), (496, (0, 511)), (497, (1, 0)), (1009, (2, 0))] {
        assert_eq!(layout(2000).rule(rule), place, "rule {rule}");
    }
}

#[test]
fn what_cannot_be_converted_says_why() {
    let (ethernet, everything) = (LinkType::ETHERNET, Scope::Everything);
    let one = Program::constant(1);
    let got = converted(LinkType::LINUX_SLL, &one, &one, Verdicts::Expression, everything);
    assert_eq!(got, Err(Error::LinkType { link_type: LinkType::LINUX_SLL }));

    let rules = Rules::new(vec![Rule::new(Action::Include)]).unwrap();
    let two = Program::constant(2);
    let got = converted(ethernet, &one, &two, Verdicts::Rules(&rules), everything);
    assert_eq!(got, Err(Error::NoSuchRule { rule: 2, rules: 1 }));

    let len = Instruction::new(op::LD | op::LEN, 0, 0, 0);
    let a = Program::new(vec![len, Instruction::new(op::RET | op::A, 0, 0, 0)]).unwrap();
    let got = converted(ethernet, &a, &one, Verdicts::Rules(&rules), everything);
    assert_eq!(got, Err(Error::ReturnsA { at: 1 }));
    assert!(converted(ethernet, &a, &one, Verdicts::Expression, everything).is_ok());

    let turning = Program::new(vec![
        len,
        Instruction::new(op::JMP | op::JEQ | op::K, 1, 0, 5),
        Instruction::new(op::JMP | op::JA, 0, 0, u32::MAX - 1),
        Instruction::new(op::RET | op::K, 0, 0, 1),
    ]);
    let turning = turning.unwrap();
    let got = converted(ethernet, &turning, &one, Verdicts::Expression, everything);
    assert_eq!(got, Err(Error::JumpsBack { at: 2 }));
}
