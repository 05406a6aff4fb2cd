//! Dispatchers judge as the interpreter does: rules, expressions and random programs, several taps at
//! once; and their limits.

mod dispatcher;
mod programs;
mod super_packet;

use dispatcher::{Loaded, expression, ruled, taps_of};
use filter::ebpf::{Assembler, Bits, Condition, Register, Scope, Verdicts, Width};
use filter::{Action, Direction, Instruction, Program, Rules, op};
use io::bpf::{Classifier, TestRunOptions};
use kernel::mirror::bucket::place;
use kernel::mirror::layout::{Bucket, Leaving, MirrorMap, SKB_TC_INDEX, SlotCounter, TapCounter};
use kernel::mirror::{DispatcherTap, LateTap, TAPS_MAX, dispatcher, late_judge};
use rig::rules::{Random, Tally, apart, frame_for, verdict};
use std::time::{Duration, Instant};
use wire::LinkType;
use wire::segment::Plan;

const NEXT: i32 = -1;

/// A test run takes a frame that says that it is IP only with the header's fixed part.
fn runs(frame: &[u8]) -> bool {
    let needed = match frame.get(12..14) {
        Some([0x08, 0x00]) => 14 + 20,
        Some([0x86, 0xdd]) => 14 + 40,
        _ => 15,
    };
    (needed..=3500).contains(&frame.len())
}

fn run(loaded: &Loaded, frame: &[u8]) {
    let run = loaded.program.test_run(frame, &TestRunOptions::default()).expect("it runs");
    assert_eq!((run.value, &*run.packet), (NEXT, frame));
}

#[test]
fn rules_of_several_taps() {
    if !rig::root_or_skip() {
        return;
    }
    let mut random = Random::new(0x6469_7370_6174);
    let mut tally = Tally::default();
    for _ in 0..60 {
        let mut lists = Vec::new();
        for _ in 0..random.pick(&[1, 2, 3, 5]) {
            let count = random.pick(&[1, 2, 5, 10, 40, 100]);
            lists.push(random.rules(count));
        }
        let compile = |rules: &Rules| rules.compile(LinkType::ETHERNET, Direction::In).unwrap();
        let programs: Vec<Program> = lists.iter().map(compile).collect();
        let taps = lists.iter().zip(&programs).map(|(rules, program)| ruled(program, rules));
        let code = dispatcher(&taps_of(Direction::In, taps.collect())).unwrap();
        let counts: Vec<usize> = lists.iter().map(|rules| rules.as_slice().len()).collect();
        let loaded = Loaded::new(&code, &counts);
        let mut hits: Vec<Vec<u64>> = counts.iter().map(|&count| vec![0; count]).collect();
        let (mut decided, mut bytes) = (vec![[0; 5]; lists.len()], vec![0; lists.len()]);
        for _ in 0..200 {
            let mut frame = random.frame(LinkType::ETHERNET);
            frame.truncate(3500);
            if !runs(&frame) {
                continue;
            }
            run(&loaded, &frame);
            for (n, rules) in lists.iter().enumerate() {
                let rule = verdict(rules, LinkType::ETHERNET, Direction::In, &frame);
                assert_eq!(programs[n].run(&frame, frame.len() as u32), rule);
                let action = rules.action(rule);
                tally.count(action);
                if rule > 0 {
                    hits[n][rule as usize - 1] += 1;
                }
                let is_kept = action == Some(Action::Include);
                decided[n][usize::from(is_kept)] += 1;
                bytes[n] += if is_kept { frame.len() as u64 } else { 0 };
            }
        }
        for n in 0..lists.len() {
            assert_eq!(loaded.rule_hits(n), hits[n], "{:?}", lists[n]);
            assert_eq!(loaded.decided(n), decided[n], "{:?}", lists[n]);
            assert_eq!(loaded.counter(n, TapCounter::MatchedBytes), bytes[n]);
        }
    }
    assert!(tally.least() > 1000, "{tally:?}");
}

/// Runs frames through a dispatcher and the interpreter; returns how many matched each program.
fn compare(programs: &[Program], frames: &[Vec<u8>]) -> Vec<u64> {
    let code = dispatcher(&taps_of(Direction::In, programs.iter().map(expression).collect()));
    let code = code.expect("programs without jumps back are converted");
    let loaded = Loaded::new(&code, &vec![0; programs.len()]);
    let mut matched = vec![0; programs.len()];
    for frame in frames {
        run(&loaded, frame);
        for (n, program) in programs.iter().enumerate() {
            matched[n] += u64::from(program.matches(frame, frame.len() as u32));
            let got = loaded.counter(n, TapCounter::Matched);
            assert_eq!(got, matched[n], "{} bytes {frame:02x?}\n{program}\n{code}", frame.len());
        }
    }
    for (n, &matched) in matched.iter().enumerate() {
        assert_eq!(loaded.decided(n), [frames.len() as u64 - matched, matched, 0, 0, 0]);
    }
    matched
}

#[test]
fn random_programs() {
    if !rig::root_or_skip() {
        return;
    }
    let mut random = programs::Random::new(0x7463_7800_7461_7000);
    let (mut matched, mut apart) = (0, 0);
    for _ in 0..300 {
        let programs: Vec<Program> =
            (0..random.one(&[1, 2, 6])).map(|_| random.program()).collect();
        let mut frames: Vec<_> = (0..24).map(|_| random.frame()).collect();
        frames.retain(|frame| runs(frame));
        for here in compare(&programs, &frames) {
            matched += here;
            apart += usize::from(here > 0 && here < frames.len() as u64);
        }
    }
    // The generator must make programs that tell frames apart.
    assert!(matched > 1000 && apart > 50, "{matched} matched, {apart} tell apart");
}

#[test]
fn expressions() {
    let is_there = io::libpcap::version().is_ok() || rig::tool_or_skip("libpcap");
    if !rig::root_or_skip() || !is_there {
        return;
    }
    let mut random = programs::Random::new(0x6578_7072_6573_7369);
    let compile = |expression| io::libpcap::compile(expression, LinkType::ETHERNET, 0);
    let programs: Result<Vec<Program>, _> =
        programs::EXPRESSIONS.map(compile).into_iter().collect();
    let mut frames: Vec<_> = (0..1000).map(|_| programs::headed(&mut random)).collect();
    frames.retain(|frame| runs(frame));
    let mut apart = 0;
    for (n, matched) in compare(&programs.unwrap(), &frames).into_iter().enumerate() {
        assert!(matched > 0, "`{}` matched none", programs::EXPRESSIONS[n]);
        apart += usize::from(matched < frames.len() as u64);
    }
    assert!(apart > 30, "{apart} expressions tell frames apart");
}

/// Frames whose first byte is not ff; no constant, so that late is a possible outcome.
fn any() -> Program {
    Program::new(vec![
        Instruction::new(op::LD | op::B | op::ABS, 0, 0, 0),
        Instruction::new(op::JMP | op::JEQ | op::K, 0, 1, 0xff),
        Instruction::new(op::RET | op::K, 0, 0, 0),
        Instruction::new(op::RET | op::K, 0, 0, 1),
    ])
    .expect("it is a program")
}

#[test]
fn super_packets_count_as_what_they_become() {
    if !rig::root_or_skip() {
        return;
    }
    let (any, all) = (any(), Program::constant(1));
    let taps = vec![
        expression(&any),
        DispatcherTap { scope: Some(Scope::WholeFrames), ..expression(&any) },
        DispatcherTap { scope: None, ..expression(&any) },
        DispatcherTap { scope: None, ..expression(&all) },
    ];
    let loaded = Loaded::new(&dispatcher(&taps_of(Direction::In, taps)).unwrap(), &[0; 4]);
    let mut random = Random::new(0x6773_6f5f_7369_7a65);
    let (mut packets, mut bytes) = (0, 0);
    for n in 0..2000 {
        let packet = super_packet::random(&mut random, 2);
        let plan = Plan::new(LinkType::ETHERNET, &packet.frame, &packet.gso).expect("it is sound");
        let gso_size = u32::from(packet.gso.size);
        // The number of segments is told, or left out as by virtual machines.
        let gso_segs = if n % 2 == 0 { plan.count() as u32 } else { 0 };
        let options = TestRunOptions { gso_size, gso_segs, ..TestRunOptions::default() };
        loaded.program.test_run(&packet.frame, &options).unwrap();
        packets += plan.count() as u64;
        bytes += (0..plan.count()).map(|n| plan.segment_len(n) as u64).sum::<u64>();
        assert_eq!(loaded.counter(0, TapCounter::MatchedBytes), bytes, "{:02x?}", packet.frame);
    }
    assert_eq!(loaded.decided(0), [0, packets, 0, 0, 0]);
    assert_eq!(loaded.decided(1), [0, 0, 0, 0, packets]);
    assert_eq!(loaded.decided(2), [0, 0, 0, 0, packets]);
    assert_eq!(loaded.decided(3), [0, packets, 0, 0, 0]);
    // What is whole, or need not be, is judged.
    run(&loaded, &[0; 60]);
    run(&loaded, &[0xff; 60]);
    assert_eq!(loaded.decided(1), [1, 1, 0, 0, packets]);
    assert_eq!(loaded.decided(2), [0, 0, 0, 0, packets + 2]);
    assert_eq!(loaded.decided(3), [0, packets + 2, 0, 0, 0]);
}

/// A program that judges late for a slot: 1 keeps, 0 rejects.
fn late(tap: &LateTap<'_>, slot: u32, is_sent: bool) -> filter::ebpf::Code {
    let mut asm = Assembler::new();
    let (keep, reject) = (asm.label(), asm.label());
    asm.copy(Register::R6, Register::R1);
    asm.copy(Register::R1, (slot << 1 | u32::from(is_sent)) as i32);
    asm.store(Width::B4, Register::R6, SKB_TC_INDEX, Register::R1);
    late_judge(&mut asm, tap, keep, reject).expect("its programs are converted");
    for (label, value) in [(keep, 1), (reject, 0)] {
        asm.bind(label);
        asm.copy(Register::R0, value);
        asm.exit();
    }
    asm.finish().expect("it is sound")
}

#[test]
fn what_is_judged_late_is_counted_once() {
    if !rig::root_or_skip() {
        return;
    }
    let mut random = Random::new(0x6c61_7465);
    let rules = random.rules(20);
    let compile = |direction| rules.compile(LinkType::ETHERNET, direction).unwrap();
    let (received, sent) = (compile(Direction::In), compile(Direction::Out));
    let verdicts = Verdicts::Rules(&rules);
    let tap = LateTap { received: &received, sent: &sent, verdicts, tap: 0, first_slot: 5 };
    let loaded = Loaded::new(&late(&tap, 5, false), &[20]);
    let again = loaded.also(&late(&tap, 6, false));
    let outwards = loaded.also(&late(&tap, 5, true));
    let (mut hits, mut decided, mut bytes) = (vec![0; 20], [0; 5], 0);
    let judges = |program: &Classifier, frame: &[u8]| {
        program.test_run(frame, &TestRunOptions::default()).expect("it runs").value == 1
    };
    for _ in 0..300 {
        let mut frame = random.frame(LinkType::ETHERNET);
        frame.truncate(3500);
        if !runs(&frame) {
            continue;
        }
        for (direction, program) in [(Direction::In, &loaded.program), (Direction::Out, &outwards)]
        {
            let rule = verdict(&rules, LinkType::ETHERNET, direction, &frame);
            let is_kept = rules.action(rule) == Some(Action::Include);
            assert_eq!(judges(program, &frame), is_kept, "{frame:02x?}");
            if direction == Direction::In {
                assert_eq!(judges(&again, &frame), is_kept);
            }
            if rule > 0 {
                hits[rule as usize - 1] += 1;
            }
            decided[usize::from(is_kept)] += 1;
            bytes += if is_kept { frame.len() as u64 } else { 0 };
        }
    }
    assert_eq!(loaded.decided(0), decided);
    assert!(decided[0] > 20 && decided[1] > 20, "{decided:?}");
    assert_eq!(loaded.rule_hits(0), hits);
    assert_eq!(loaded.counter(0, TapCounter::MatchedBytes), bytes);
    let filtered = [5, 6].map(|slot| loaded.slot(slot, SlotCounter::Filtered));
    assert_eq!(filtered[0], decided[0]);
    assert!(filtered[1] > 0 && filtered[1] < filtered[0], "{filtered:?}");
}

#[test]
fn a_ceiling_lets_its_rate_through() {
    if !rig::root_or_skip() {
        return;
    }
    const BITS_PER_SECOND: u64 = 2_000_000_000;
    const BURST: Duration = Duration::from_millis(50);
    let all = Program::constant(1);
    let tap = || DispatcherTap { bucket: Some(3), ..expression(&all) };
    let unlimited = DispatcherTap { bucket: Some(4), ..expression(&all) };
    let taps = taps_of(Direction::In, vec![tap(), unlimited]);
    let loaded = Loaded::new(&dispatcher(&taps).unwrap(), &[0, 0]);
    let bucket = Bucket::new(BITS_PER_SECOND, BURST.as_nanos() as u64, Leaving::AS_IT_IS);
    loaded.map(MirrorMap::Buckets).put(&3u32.to_ne_bytes(), &bucket.bytes()).unwrap();

    // More than the rate, from two CPUs at once.
    let frame = [0; 1500];
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while started.elapsed() < Duration::from_millis(500) {
                    let options = TestRunOptions { repeat: 10_000, ..TestRunOptions::default() };
                    loaded.program.test_run(&frame, &options).unwrap();
                }
            });
        }
    });
    let wanted = BITS_PER_SECOND as f64 / 8.0 * (started.elapsed() + BURST).as_secs_f64();
    let passed = loaded.counter(0, TapCounter::MatchedBytes) as f64;
    assert!((0.9..1.1).contains(&(passed / wanted)), "{passed} bytes of {wanted}");
    let [filtered, matched, own, limited, late] = loaded.decided(0);
    assert_eq!((filtered, own, late), (0, 0, 0));
    assert!(limited > matched, "{matched} matched, {limited} limited");
    assert_eq!(loaded.decided(1), [0, matched + limited, 0, 0, 0]);
}

#[test]
fn a_ceiling_is_paid_for_what_leaves() {
    if !rig::root_or_skip() {
        return;
    }
    let all = Program::constant(1);
    let tap = DispatcherTap { bucket: Some(3), ..expression(&all) };
    let loaded = Loaded::new(&dispatcher(&taps_of(Direction::In, vec![tap])).unwrap(), &[0]);
    let buckets = loaded.map(MirrorMap::Buckets);
    // So far ahead that the clock has no say, and all passes.
    const AHEAD_NS: u64 = 1 << 61;
    let mut random = Random::new(0x7072_6963_6573);
    let (mut super_packets, mut cut) = (0, 0);
    for n in 0..600u32 {
        let leaving = Leaving {
            targets: random.pick(&[1, 2, 3, 50]),
            headers: random.pick(&[0, 36, 94]),
            snaplen: random.pick(&[0, 0, 64, 128, 1400, u32::MAX]),
        };
        let rate = random.pick(&[1_000_000, 500_000_000, 100_000_000_000]);
        let bucket = Bucket::new(rate, 1 << 62, leaving);
        let mut entry = bucket.bytes();
        entry[place::FULL_AT..][..8].copy_from_slice(&AHEAD_NS.to_ne_bytes());
        buckets.put(&3u32.to_ne_bytes(), &entry).unwrap();
        let (frame, options, packets, bytes) = if n % 2 == 0 {
            let packet = super_packet::random(&mut random, 2);
            let plan = Plan::new(LinkType::ETHERNET, &packet.frame, &packet.gso).unwrap();
            let (gso_size, gso_segs) = (u32::from(packet.gso.size), plan.count() as u32);
            let options = TestRunOptions { gso_size, gso_segs, ..TestRunOptions::default() };
            let bytes: usize = (0..plan.count()).map(|n| plan.segment_len(n)).sum();
            super_packets += u32::from(plan.count() > 1);
            (packet.frame, options, plan.count(), bytes)
        } else {
            let bytes = random.pick(&[60, 128, 1500, 3000]);
            (vec![0; bytes], TestRunOptions::default(), 1, bytes)
        };
        cut += u32::from(leaving.snaplen > 0 && bytes > packets * leaving.snaplen as usize);
        loaded.program.test_run(&frame, &options).unwrap();
        let entry = buckets.get(&3u32.to_ne_bytes()).unwrap().expect("it is an array");
        let word: [u8; 8] = entry[place::FULL_AT..][..8].try_into().unwrap();
        let paid = u64::from_ne_bytes(word) - AHEAD_NS;
        assert_eq!(paid, bucket.price_ns(packets as u32, bytes as u32), "{packets} × {leaving:?}");
    }
    assert!(super_packets > 100 && cut > 50, "{super_packets}, {cut}");
    assert_eq!(loaded.decided(0)[3], 0, "none was limited");
}

#[test]
fn long_lists_and_many_taps_load() {
    if !rig::root_or_skip() {
        return;
    }
    for (taps, count) in [(1, 10_000), (50, 10), (TAPS_MAX, 1)] {
        let rules = apart(count);
        let program = rules.compile(LinkType::ETHERNET, Direction::In).unwrap();
        let all = vec![ruled(&program, &rules); taps];
        let code = dispatcher(&taps_of(Direction::In, all)).unwrap();
        let started = Instant::now();
        let loaded = Loaded::new(&code, &vec![count; taps]);
        let took = started.elapsed();
        // Some two seconds with nothing else to do.
        assert!(took < Duration::from_secs(30), "{taps} × {count} rules took {took:?}");
        let mut hits = vec![0; count];
        // 497 is the first rule whose counter is not in the first element.
        for number in [0, 1, 495, 496, 497, count / 2, count - 1] {
            run(&loaded, &frame_for(number));
            if number < count {
                hits[number] += 1;
            }
        }
        for tap in 0..taps {
            assert_eq!(loaded.rule_hits(tap), hits);
            assert_eq!(loaded.decided(tap)[..2].iter().sum::<u64>(), 7);
        }
    }
}

#[test]
fn what_is_too_much_is_refused_with_a_reason() {
    let program = Program::constant(1);
    let taps = vec![expression(&program); TAPS_MAX + 1];
    let refused = dispatcher(&taps_of(Direction::In, taps)).unwrap_err().to_string();
    assert!(refused.contains("56 taps on one interface, one program has room for 55"), "{refused}");

    let rules = apart(10_000);
    let program = rules.compile(LinkType::ETHERNET, Direction::In).unwrap();
    let taps = vec![ruled(&program, &rules); 50];
    let refused = dispatcher(&taps_of(Direction::In, taps)).unwrap_err().to_string();
    assert!(refused.contains("beyond the kernel's limit of 1000000"), "{refused}");

    let mut options = taps_of(Direction::In, vec![]);
    options.link_type = LinkType::RAW;
    assert!(dispatcher(&options).is_err());
}

#[test]
fn what_the_verifier_refuses_ends_in_its_reason() {
    if !rig::root_or_skip() {
        return;
    }
    let mut asm = Assembler::new();
    let end = asm.label();
    asm.jump_if(Bits::B64, Condition::Equal, Register::R7, 0, end);
    asm.bind(end);
    asm.exit();
    let refused = Classifier::load("of a test", &asm.finish().unwrap(), &[]).unwrap_err();
    let refused = refused.to_string();
    assert!(refused.starts_with("load the eBPF program of a test of 2 instructions"), "{refused}");
    assert!(refused.ends_with("R7 !read_ok"), "{refused}");
}
