//! The filter in the kernel counts as many wire packets as the ring cuts a super-packet into.

mod super_packet;

use filter::Program;
use filter::ebpf::{Scope, SocketFilterOptions, Verdicts, socket_filter};
use io::bpf::{FilterCounters, LoadedFilter, TestPacket};
use rig::rules::Random;
use wire::LinkType;
use wire::segment::Plan;
use wire::walk::Walk;

fn load(program: &Program, link_type: LinkType, scope: Scope) -> LoadedFilter {
    let code = socket_filter(&SocketFilterOptions {
        link_type,
        received: program,
        sent: program,
        verdicts: Verdicts::Expression,
        scope,
    });
    LoadedFilter::load(&code.expect("it is converted")).unwrap_or_else(|e| panic!("{e}"))
}

/// Frames whose first byte is not ff; no constant, so that undecided is a possible outcome.
fn any() -> Program {
    use filter::{Instruction, op};
    Program::new(vec![
        Instruction::new(op::LD | op::B | op::ABS, 0, 0, 0),
        Instruction::new(op::JMP | op::JEQ | op::K, 0, 1, 0xff),
        Instruction::new(op::RET | op::K, 0, 0, 0),
        Instruction::new(op::RET | op::K, 0, 0, 1),
    ])
    .expect("it is a program")
}

#[test]
fn super_packets_without_a_number_of_segments() {
    if !rig::root_or_skip() {
        return;
    }
    let filter = load(&any(), LinkType::ETHERNET, Scope::Everything);
    let raw = load(&any(), LinkType::RAW, Scope::Everything);
    let mut random = Random::new(0x6773_6f5f_7369_7a65);
    let (mut wire_packets, mut raw_packets, mut frames) = (0, 0, 0);
    for _ in 0..3000 {
        let packet = super_packet::random(&mut random, 2);
        let plan = Plan::new(LinkType::ETHERNET, &packet.frame, &packet.gso).expect("it is sound");
        let gso_size = u32::from(packet.gso.size);
        let test = TestPacket { frame: &packet.frame, gso_size, gso_segs: 0 };
        assert!(filter.test_run(&test).unwrap());
        frames += 1;
        wire_packets += plan.count() as u64;
        let counted = filter.counters().unwrap();
        assert_eq!(counted.matched, wire_packets, "gso_size {gso_size}: {:02x?}", packet.frame);
        assert_eq!(counted.matched_frames, frames);
        let Some(ip_at) = Walk::new(LinkType::ETHERNET, &packet.frame).network.map(|n| n.at) else {
            panic!("no IP: {:02x?}", packet.frame);
        };
        let frame = &packet.frame[ip_at as usize..];
        assert!(raw.test_run(&TestPacket { frame, gso_size, gso_segs: 0 }).unwrap());
        raw_packets += plan.count() as u64;
        assert_eq!(raw.counters().unwrap().matched, raw_packets, "{frame:02x?}");
    }
    assert!(wire_packets > 2 * frames, "{wire_packets} wire packets in {frames} frames");
}

#[test]
fn what_is_not_understood_is_estimated_from_the_whole_length() {
    if !rig::root_or_skip() {
        return;
    }
    let filter = load(&any(), LinkType::ETHERNET, Scope::Everything);
    let mut counted = 0;
    // MPLS; an IPv4 header of 16 bytes; three tags; a TCP header of 16 bytes.
    let mut frames = vec![vec![0u8; 250]; 4];
    frames[0][12..14].copy_from_slice(&[0x88, 0x47]);
    frames[1][12..15].copy_from_slice(&[8, 0, 0x44]);
    for at in [12, 16, 20] {
        frames[2][at..at + 2].copy_from_slice(&[0x81, 0]);
    }
    frames[3][12..15].copy_from_slice(&[8, 0, 0x45]);
    frames[3][23] = 6;
    frames[3][46] = 0x40;
    for frame in &frames {
        filter.test_run(&TestPacket { frame, gso_size: 100, gso_segs: 0 }).unwrap();
        counted += 3;
        assert_eq!(filter.counters().unwrap().matched, counted, "{frame:02x?}");
    }
}

#[test]
fn a_number_of_segments_is_believed_and_what_is_left_to_user_space_is_counted_too() {
    if !rig::root_or_skip() {
        return;
    }
    let packet = super_packet::random(&mut Random::new(1), 0);
    let test = TestPacket { frame: &packet.frame, gso_size: 100, gso_segs: 17 };
    let plain = TestPacket { frame: &packet.frame, gso_size: 0, gso_segs: 0 };
    let expected = FilterCounters::default();

    let filter = load(&any(), LinkType::ETHERNET, Scope::WholeFrames);
    assert!(filter.test_run(&test).unwrap() && filter.test_run(&plain).unwrap());
    let expected_here = FilterCounters {
        undecided: 17,
        undecided_frames: 1,
        matched: 1,
        matched_frames: 1,
        ..expected
    };
    assert_eq!(filter.counters().unwrap(), expected_here);

    // A program of one return decides super-packets, whatever the scope.
    let filter = load(&Program::constant(0), LinkType::ETHERNET, Scope::WholeFrames);
    assert!(!filter.test_run(&test).unwrap() && !filter.test_run(&plain).unwrap());
    let expected_here = FilterCounters { filtered: 18, filtered_frames: 2, ..expected };
    assert_eq!(filter.counters().unwrap(), expected_here);
}
