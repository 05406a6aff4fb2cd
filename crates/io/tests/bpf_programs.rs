//! Programs in the kernel decide as the interpreter does: random ones, and those of expressions.

mod programs;

use filter::Program;
use filter::ebpf::{
    Assembler, CounterLayout, Reach, Register, Scope, SocketFilter, SocketFilterOptions, Verdicts,
    socket_filter,
};
use io::bpf::{FilterCounters, LoadedFilter, TestPacket};
use programs::{EXPRESSIONS, Random, headed};
use std::time::Duration;
use wire::LinkType;

/// Loads a program for both directions that decides everything.
fn load(program: &Program) -> LoadedFilter {
    LoadedFilter::load(&code(program)).unwrap_or_else(|e| panic!("{e}\n{program}"))
}

fn code(program: &Program) -> SocketFilter {
    socket_filter(&SocketFilterOptions {
        link_type: LinkType::ETHERNET,
        received: program,
        sent: program,
        verdicts: Verdicts::Expression,
        scope: Scope::Everything,
    })
    .expect("a program without jumps back is converted")
}

fn packet(frame: &[u8]) -> TestPacket<'_> {
    TestPacket { frame, gso_size: 0, gso_segs: 0 }
}

/// Runs frames through both and compares verdicts, and the counters at the end. Returns how many
/// frames matched.
fn compare(program: &Program, frames: &[Vec<u8>]) -> usize {
    let filter = load(program);
    let mut matched = 0;
    for frame in frames {
        let expected = program.matches(frame, frame.len() as u32);
        let got = filter.test_run(&packet(frame)).expect("it runs");
        assert_eq!(got, expected, "{}\n{program}\n{}", hex(frame), code(program).code);
        matched += usize::from(expected);
    }
    let (matched_frames, frames) = (matched as u64, frames.len() as u64);
    let expected = FilterCounters {
        filtered: frames - matched_frames,
        matched: matched_frames,
        undecided: 0,
        filtered_frames: frames - matched_frames,
        matched_frames,
        undecided_frames: 0,
    };
    assert_eq!(filter.counters().expect("they are read"), expected);
    assert_eq!(filter.rule_hits().expect("they are read"), [0; 0]);
    matched
}

fn hex(frame: &[u8]) -> String {
    let shown: String = frame.iter().take(128).map(|b| format!("{b:02x}")).collect();
    format!("{} bytes: {shown}", frame.len())
}

#[test]
fn random_programs() {
    if !rig::root_or_skip() {
        return;
    }
    let mut random = Random::new(0x7461_706c_696e_6500);
    let (mut matched, mut programs) = (0, 0);
    for _ in 0..1500 {
        let program = random.program();
        let frames: Vec<_> = (0..16).map(|_| random.frame()).collect();
        let here = compare(&program, &frames);
        matched += here;
        programs += usize::from(here > 0 && here < frames.len());
    }
    // The generator must make programs that tell frames apart.
    assert!(matched > 1000 && programs > 100, "{matched} matched, {programs} tell apart");
}

#[test]
fn expressions() {
    if !rig::root_or_skip() || !libpcap_or_skip() {
        return;
    }
    let mut random = Random::new(0x6578_7072_6573_7369);
    for expression in EXPRESSIONS {
        let program = match io::libpcap::compile(expression, LinkType::ETHERNET, 0) {
            Ok(program) => program,
            Err(e) => panic!("{e}"),
        };
        let frames: Vec<_> = (0..1500).map(|_| headed(&mut random)).collect();
        let matched = compare(&program, &frames);
        assert!(matched > 0 && matched < frames.len(), "`{expression}`: {matched} matched");
    }
}

fn libpcap_or_skip() -> bool {
    io::libpcap::version().is_ok() || rig::tool_or_skip("libpcap")
}

#[test]
fn a_frame_of_one_byte_runs_and_a_constant_looks_at_none() {
    if !rig::root_or_skip() {
        return;
    }
    assert_eq!(compare(&Program::constant(1), &[vec![0]]), 1);
    assert_eq!(compare(&Program::constant(0), &[vec![0]]), 0);
}

#[test]
fn what_the_verifier_refuses_ends_in_its_reason() {
    if !rig::root_or_skip() {
        return;
    }
    let mut asm = Assembler::new();
    asm.copy(Register::R0, Register::R7);
    asm.exit();
    let filter = SocketFilter {
        code: asm.finish().unwrap(),
        counters: CounterLayout { rules: 0 },
        reach: Reach::default(),
    };
    let refused = LoadedFilter::load(&filter).unwrap_err().to_string();
    assert!(refused.starts_with("load an eBPF socket filter of 2 instructions: "), "{refused}");
    assert!(refused.ends_with("R7 !read_ok"), "{refused}");
}

#[test]
fn a_run_is_timed() {
    if !rig::root_or_skip() {
        return;
    }
    let filter = load(&Program::constant(1));
    let mean = filter.time_run(&packet(&[0; 60]), 10_000).unwrap();
    assert!(mean < Duration::from_micros(100), "{mean:?}");
    assert_eq!(filter.counters().unwrap().matched, 10_000);
}
