//! Rules in the kernel: the same verdicts as the interpreter's and a plain reading's, the same
//! hits, and lists so long that the kernel's limits matter.

use filter::ebpf::{Scope, SocketFilter, SocketFilterOptions, Verdicts, socket_filter};
use filter::{Action, Direction, Instruction, Program, Rules, op};
use io::bpf::{LoadedFilter, TestPacket};
use rig::rules::{Random, Tally, apart, frame_for, verdict};
use std::time::{Duration, Instant};
use wire::LinkType;

/// A filter that takes packets of a test run, which are received, for ones of a direction.
fn code(rules: &Rules, program: &Program, link_type: LinkType) -> SocketFilter {
    socket_filter(&SocketFilterOptions {
        link_type,
        received: program,
        sent: program,
        verdicts: Verdicts::Rules(rules),
        scope: Scope::Everything,
    })
    .expect("programs of rules are converted")
}

fn compiled(rules: &Rules, link_type: LinkType, direction: Direction) -> Program {
    rules.compile(link_type, direction).expect("they compile")
}

fn packet(frame: &[u8]) -> TestPacket<'_> {
    TestPacket { frame, gso_size: 0, gso_segs: 0 }
}

#[test]
fn a_hundred_thousand_pairs() {
    if !rig::root_or_skip() {
        return;
    }
    let mut random = Random::new(0x6b65_726e_656c);
    let mut tally = Tally::default();
    for list in 0..500 {
        let count = random.pick(&[1, 2, 5, 10, 20, 40, 100]);
        let rules = random.rules(count);
        let link_type = if list % 8 == 7 { LinkType::RAW } else { LinkType::ETHERNET };
        let direction = if list % 2 == 0 { Direction::In } else { Direction::Out };
        let program = compiled(&rules, link_type, direction);
        let filter = LoadedFilter::load(&code(&rules, &program, link_type)).unwrap();
        let mut hits = vec![0; count];
        for _ in 0..200 {
            let mut frame = random.frame(link_type);
            while frame.is_empty() {
                frame = random.frame(link_type); // the kernel has no such packet
            }
            frame.truncate(3500); // a test run takes no more
            let rule = verdict(&rules, link_type, direction, &frame);
            assert_eq!(program.run(&frame, frame.len() as u32), rule, "{frame:02x?}\n{rules:?}");
            let passes = filter.test_run(&packet(&frame)).unwrap();
            let action = rules.action(rule);
            assert_eq!(passes, action == Some(Action::Include), "{frame:02x?}\n{rules:?}");
            tally.count(action);
            if rule > 0 {
                hits[rule as usize - 1] += 1;
            }
        }
        assert_eq!(filter.rule_hits().unwrap(), hits, "{rules:?}");
    }
    eprintln!("kernel = interpreter = reference: {tally:?}");
    assert_eq!(tally.all(), 100_000);
    assert!(tally.least() > 5000, "{tally:?}");
}

#[test]
fn long_lists_load() {
    if !rig::root_or_skip() {
        return;
    }
    for count in [1000, 10_000] {
        let rules = apart(count);
        let program = compiled(&rules, LinkType::ETHERNET, Direction::In);
        let code = code(&rules, &program, LinkType::ETHERNET);
        let started = Instant::now();
        let filter = LoadedFilter::load(&code).unwrap();
        let took = started.elapsed();
        // One second with nothing else to do; minutes with a look-up of the map for each rule.
        assert!(took < Duration::from_secs(15), "{count} rules took {took:?}");
        let mut hits = vec![0; count];
        // 497 is the first rule whose counter is not in the first element.
        for number in [0, 1, 495, 496, 497, count / 2, count - 1] {
            let passes = filter.test_run(&packet(&frame_for(number))).unwrap();
            assert_eq!(passes, !number.is_multiple_of(3), "rule {}", number + 1);
            hits[number] += 1;
        }
        assert!(!filter.test_run(&packet(&frame_for(count))).unwrap());
        assert_eq!(filter.rule_hits().unwrap(), hits);
        let counted = filter.counters().unwrap();
        assert_eq!(counted.matched + counted.filtered, 8);
    }
}

/// The verifier looks at the additions once for each of two values of A, as the last comparison
/// depends on it.
#[test]
fn a_program_beyond_the_limits_is_refused_with_a_reason() {
    if !rig::root_or_skip() {
        return;
    }
    let mut program = vec![
        Instruction::new(op::LD | op::B | op::ABS, 0, 0, 0),
        Instruction::new(op::JMP | op::JEQ | op::K, 0, 1, 0),
        Instruction::new(op::LD | op::IMM, 0, 0, 5),
    ];
    program.resize(600_000, Instruction::new(op::ALU | op::ADD | op::K, 0, 0, 1));
    program.push(Instruction::new(op::JMP | op::JEQ | op::K, 1, 0, 600_002));
    program.push(Instruction::new(op::RET | op::K, 0, 0, 0));
    program.push(Instruction::new(op::RET | op::K, 0, 0, 1));
    let program = Program::new(program).unwrap();
    let code = socket_filter(&SocketFilterOptions {
        link_type: LinkType::ETHERNET,
        received: &program,
        sent: &program,
        verdicts: Verdicts::Expression,
        scope: Scope::Everything,
    });
    let refused = LoadedFilter::load(&code.unwrap()).unwrap_err().to_string();
    assert!(refused.contains("beyond the kernel's limits"), "{refused}");
}
