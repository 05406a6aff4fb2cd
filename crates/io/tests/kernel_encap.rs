//! Programs encapsulate as user space does, byte for byte, in every shape.

#[path = "kernel_encap/bench.rs"]
mod bench;

use bench::{Bench, Case, LANE, MEMBER, NOWHERE, SLOT, maps, tunnels};
use filter::ebpf::Verdicts;
use filter::{Instruction, Program, op};
use io::bpf::{Map, MapKind, TestRunOptions};
use kernel::handup::{PREFIX_LEN, Prefix};
use kernel::mirror::layout::{MemberCounter, MirrorMap, Slot, SlotCounter, TapCounter, TooBig};
use kernel::mirror::{EncapOptions, LateSlots, LateTap, encap};
use wire::LinkType;
use wire::checksum::{self, Sum};
use wire::encap::{Fit, Told};
use wire::flow::{self, SLOTS, flow_hash, source_port};
use wire::tunnel::Carrier;
use wire::walk::Walk;
use wire::{Direction, metadata};

/// Where packets come that may be unfinished, and where they are not.
const WAYS: [Option<u32>; 2] = [Some(NOWHERE), None];
/// `TCX_REDIRECT`.
const REDIRECT: i32 = 7;

/// Frames of many kinds, 15 to 3500 bytes.
fn frames() -> Vec<Vec<u8>> {
    let macs = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    let mut frames = Vec::new();
    for len in [15, 60, 61, 64, 333, 1400, 1514, 3500] {
        for kind in 0..5 {
            let mut frame = macs.to_vec();
            match kind {
                0 | 1 => {
                    let total = (len.max(42) - 14) as u16;
                    frame.extend([8, 0, 0x45, 0]);
                    frame.extend(total.to_be_bytes());
                    frame.extend([0, 1, 0, 0, 64, [17, 6][kind], 0, 0, 10, 1, 1, 1, 10, 1, 1, 2]);
                    frame.extend([0x12, 0x34, 0, 53]);
                    frame.extend((total - 20).to_be_bytes());
                }
                2 => {
                    let payload = (len.max(62) - 54) as u16;
                    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                    frame.extend(payload.to_be_bytes());
                    frame.extend([6, 64]);
                    frame.extend([0x20; 16]);
                    frame.extend([0x30; 16]);
                    frame.extend([0xab, 0xcd, 1, 187]);
                }
                3 => frame.extend([0x88, 0xcc]),
                _ => {
                    frame.extend([0x81, 0, 0x20, 7, 8, 0, 0x45, 0, 0, 40, 0, 1, 0x20, 0, 64, 17]);
                    frame.extend([0, 0, 10, 1, 1, 3, 10, 1, 1, 2]);
                }
            }
            let least = frame.len().max(len).max(15);
            while frame.len() < least {
                frame.push((frame.len() * 31 + len) as u8);
            }
            frames.push(frame);
        }
    }
    frames
}

/// What user space would put in front of what, for a program's packet; IPv4's id is taken from it.
fn expected(case: &Case, frame: &[u8], got: &[u8]) -> Option<Vec<u8>> {
    let kept = match case.snaplen {
        0 => frame,
        snaplen => &frame[..frame.len().min(snaplen as usize)],
    };
    let Fit { at, end, protocol } = case.encap.fit(LinkType::ETHERNET, kept)?;
    let payload = &kept[at..end];
    let hash = flow_hash(&Walk::new(LinkType::ETHERNET, frame), frame);
    let (shape, mut header) = case.outer.template(case.carrier, &case.encap, LANE)?;
    let (front, tunnel) = header.split_at_mut(14 + shape.ip_len());
    let len = tunnel.len() + payload.len();
    let (udp, tunnel) = match case.carrier {
        Carrier::Udp { port } => {
            let (udp, tunnel) = tunnel.split_at_mut(8);
            udp[..2].copy_from_slice(&source_port(hash).to_be_bytes());
            udp[2..4].copy_from_slice(&port.to_be_bytes());
            udp[4..6].copy_from_slice(&(len as u16).to_be_bytes());
            (Some(udp), tunnel)
        }
        Carrier::Ip { .. } => (None, tunnel),
    };
    let told = told(got, 14 + shape.ip_len() + 16, frame.len());
    let fit = Fit { at, end, protocol };
    case.encap.emit(tunnel, case.carrier, &fit, payload, &told.0, told.1);
    let ip = &mut front[14..];
    if shape.is_v6 {
        ip[4..6].copy_from_slice(&(len as u16).to_be_bytes());
        if let Some(udp) = udp {
            let mut sum = Sum::pseudo_v6(
                ip[8..24].try_into().expect("16 bytes"),
                ip[24..40].try_into().expect("16 bytes"),
                17,
                len as u32,
            );
            let datagram = [&udp[..], &tunnel[..], payload].concat();
            sum.add_bytes(&datagram);
            udp[6..8].copy_from_slice(&sum.finish_nonzero().to_be_bytes());
        }
    } else {
        ip[2..4].copy_from_slice(&((20 + len) as u16).to_be_bytes());
        ip[4..6].copy_from_slice(&got[18..20]);
        let sum = checksum::of(ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    Some([&header[..], payload].concat())
}

/// What the metadata of a program's packet tells that only it can know.
fn told(got: &[u8], at: usize, len: usize) -> (Told, u32) {
    let (mut ts_ns, mut sequence, mut lane) = (0, 0, LANE);
    let view = got.get(at..at + metadata::OPTION_LEN).map(metadata::Packet::new_checked);
    if let Some(Ok(view)) = view
        && let Ok(repr) = metadata::Repr::parse(&view)
        && let metadata::Told::Packet { sequence: number, ts_ns: time, .. } = repr.told
    {
        (ts_ns, sequence, lane) = (time, number, repr.lane);
    }
    (Told { origlen: len as u32, ts_ns, direction: Direction::Out, lane }, sequence)
}

#[test]
fn every_shape_is_that_of_user_space() {
    if !rig::root_or_skip() {
        return;
    }
    for finish_by in WAYS {
        let bench = Bench::new(finish_by);
        for (number, (carrier, encap)) in tunnels().into_iter().enumerate() {
            for is_v6 in [false, true] {
                for snaplen in [0, 128, 34, 60] {
                    let case = Case::new(is_v6, carrier, encap, snaplen);
                    bench.set(&case, 65_535);
                    for frame in frames() {
                        let before = bench.member();
                        let got = bench.run(&frame);
                        let after = bench.member();
                        let what =
                            format!("{finish_by:?} {number} v6 {is_v6} {snaplen} {frame:02x?}");
                        let counted = |counter: MemberCounter| {
                            after[counter as usize] - before[counter as usize]
                        };
                        assert_eq!(counted(MemberCounter::Matched), 1, "{what}");
                        match expected(&case, &frame, &got) {
                            Some(bytes) => {
                                assert_eq!(got, bytes, "{what}");
                                // There is no such interface here.
                                assert_eq!(counted(MemberCounter::Unreachable), 1, "{what}");
                            }
                            None => assert_eq!(counted(MemberCounter::LinkType), 1, "{what}"),
                        }
                    }
                }
            }
        }
        assert!(bench.slot()[SlotCounter::Arrived as usize] > 1000);
    }
}

#[test]
fn what_does_not_fit_is_cut_dropped_or_handed_up() {
    if !rig::root_or_skip() {
        return;
    }
    let bench = Bench::new(None);
    for (carrier, encap) in tunnels() {
        for is_v6 in [false, true] {
            let case = Case::new(is_v6, carrier, encap, 0);
            bench.set(&case, 1000);
            let frame = frames().into_iter().find(|f| f.len() == 1400 && f[12] == 8).unwrap();
            for too_big in [TooBig::Drop, TooBig::Cut, TooBig::HandUp] {
                bench.set_slot(&Slot { too_big, ..bench.slot_of(&case) });
                let before = bench.member();
                let got = bench.run(&frame);
                let after = bench.member();
                let counted =
                    |counter: MemberCounter| after[counter as usize] - before[counter as usize];
                match too_big {
                    TooBig::Drop => assert_eq!(counted(MemberCounter::Oversize), 1),
                    TooBig::Cut => {
                        assert_eq!(got.len(), 14 + 1000, "{case:?}");
                        assert_eq!(counted(MemberCounter::Unreachable), 1);
                    }
                    TooBig::HandUp => assert_eq!(counted(MemberCounter::HandUpLost), 1),
                }
            }
        }
    }
}

/// Runs a frame; what came out, and what the member counted meanwhile.
fn run_counted(bench: &Bench, frame: &[u8]) -> (Vec<u8>, impl Fn(MemberCounter) -> u64 + use<>) {
    let before = bench.member();
    let got = bench.run(frame);
    let after = bench.member();
    (got, move |counter| after[counter as usize] - before[counter as usize])
}

#[test]
fn what_is_handed_up_has_a_prefix_and_is_whole() {
    if !rig::root_or_skip() {
        return;
    }
    let now = || std::time::SystemTime::UNIX_EPOCH.elapsed().expect("later").as_nanos() as u64;
    for finish_by in WAYS {
        let bench = Bench::new(finish_by);
        let tai = 37_000_000_000u64;
        bench.set_clock(tai);
        let mut ring = bench.ring(1 << 20);
        for (carrier, encap) in tunnels() {
            // Sliced by user space, not here.
            let case = Case::new(false, carrier, encap, 200);
            bench.set(&case, 100);
            bench.set_slot(&Slot { too_big: TooBig::HandUp, ..bench.slot_of(&case) });
            for frame in frames().into_iter().filter(|frame| frame.len() > 300) {
                let fit = encap.fit(LinkType::ETHERNET, &frame);
                if fit.is_none_or(|fit| fit.end - fit.at < 100) {
                    continue;
                }
                let (_, counted) = run_counted(&bench, &frame);
                assert_eq!(counted(MemberCounter::HandedUp), 1, "{encap:?}");
                assert_eq!(counted(MemberCounter::Matched), 1);
                let record = ring.receive().expect("a record");
                let prefix = Prefix::parse(record).expect("a prefix");
                assert_eq!(record[PREFIX_LEN..][..frame.len()], frame);
                // The bench's clock may be off by what CLOCK_TAI is ahead.
                assert!(prefix.ts_ns.abs_diff(now()) < 2 * tai, "{prefix:?}");
                let expected = Prefix {
                    slot: SLOT as u16,
                    direction: Direction::Out,
                    origlen: frame.len() as u32,
                    number: frame.len() as u32,
                    ts_ns: prefix.ts_ns,
                    flow_hash: flow_hash(&Walk::new(LinkType::ETHERNET, &frame), &frame),
                };
                assert_eq!(prefix, expected);
                assert!(ring.receive().is_none());
            }
        }
    }
}

#[test]
fn a_chain_of_headers_too_long_for_a_program_goes_to_user_space_without_a_hash() {
    if !rig::root_or_skip() {
        return;
    }
    for finish_by in WAYS {
        let bench = Bench::new(finish_by);
        let (carrier, encap) = tunnels()[0];
        let case = Case::new(true, carrier, encap, 0);
        bench.set(&case, 9000);
        let mut ring = bench.ring(1 << 20);
        let tagged = |tags: usize| {
            let mut frame = frames()[0][..12].to_vec();
            (0..tags).for_each(|_| frame.extend([0x81, 0, 0, 5]));
            frame.extend([0x88, 0xcc]);
            frame.resize(200, 9);
            frame
        };
        let most = kernel::flow_hash::TAGS_MAX as usize;
        let (_, sent) = run_counted(&bench, &tagged(most));
        assert_eq!(sent(MemberCounter::Unreachable), 1, "sent, had there been a way");
        let frame = tagged(most + 1);
        let (_, handed) = run_counted(&bench, &frame);
        assert_eq!(handed(MemberCounter::HandedUp), 1);
        let record = ring.receive().expect("a record");
        let prefix = Prefix::parse(record).expect("a prefix");
        assert_eq!((prefix.flow_hash, &record[PREFIX_LEN..][..frame.len()]), (0, &frame[..]));
    }
}

#[test]
fn what_a_full_ring_has_no_room_for_is_counted_and_the_rest_comes_in_order() {
    if !rig::root_or_skip() {
        return;
    }
    let bench = Bench::new(None);
    let (carrier, encap) = tunnels()[0];
    let case = Case::new(false, carrier, encap, 0);
    bench.set(&case, 100);
    bench.set_slot(&Slot { too_big: TooBig::HandUp, ..bench.slot_of(&case) });
    let mut ring = bench.ring(16 << 10);
    assert_eq!(ring.bytes(), 16 << 10);
    let mut frame = frames().into_iter().find(|f| f.len() == 1400 && f[12] == 8).unwrap();
    // 3 rounds, so that records lie across the ring's end.
    for round in 0..3u8 {
        let before = bench.member();
        for number in 0..20 {
            frame[1399] = 20 * round + number;
            bench.run(&frame);
        }
        let after = bench.member();
        let counted = |counter| after[counter as usize] - before[counter as usize];
        let got: Vec<u8> =
            std::iter::from_fn(|| ring.receive().map(|record| record[PREFIX_LEN + 1399])).collect();
        // A record of 1600 bytes, with 8 in front of it.
        let room = (16 << 10) / 1608;
        let expected: Vec<u8> = (20 * round..).take(room).collect();
        assert_eq!(got, expected);
        assert_eq!(counted(MemberCounter::HandedUp), room as u64);
        assert_eq!(counted(MemberCounter::HandUpLost), 20 - room as u64);
    }
}

#[test]
fn a_group_s_table_chooses_the_member_that_user_space_would() {
    if !rig::root_or_skip() {
        return;
    }
    let bench = Bench::new(None);
    let (carrier, encap) = tunnels()[0];
    let case = Case::new(false, carrier, encap, 0);
    bench.set(&case, 9000);
    let slot = Slot { group: Some(1), member: 7, ..bench.slot_of(&case) };
    bench.set_slot(&slot);
    for frame in frames() {
        let hash = flow_hash(&Walk::new(LinkType::ETHERNET, &frame), &frame);
        let mut table = vec![5u16; SLOTS];
        table[flow::slot(hash)] = MEMBER as u16;
        bench.set_table(1, &table);
        let (_, counted) = run_counted(&bench, &frame);
        assert_eq!(counted(MemberCounter::Matched), 1);
    }
    // Nobody is healthy: the packet counts at whose flow it is of, and comes no further.
    bench.set_slot(&Slot { is_unhealthy: true, ..slot });
    let frame = frames().pop().expect("a frame");
    let (_, counted) = run_counted(&bench, &frame);
    assert_eq!((counted(MemberCounter::Unhealthy), counted(MemberCounter::Matched)), (1, 1));
    assert_eq!(counted(MemberCounter::Unreachable), 0);
}

#[test]
fn a_number_that_was_not_sent_goes_to_the_next_packet() {
    if !rig::root_or_skip() {
        return;
    }
    let bench = Bench::new(WAYS[0]);
    let (carrier, encap) = tunnels()[2];
    bench.set(&Case::new(true, carrier, encap, 0), 9000);
    for frame in frames() {
        let got = bench.run(&frame);
        assert_eq!(told(&got, 14 + 40 + 16, 0).1, 0);
    }
    assert_eq!(bench.member()[MemberCounter::Sequence as usize], 0);
}

#[test]
fn a_super_packet_goes_to_be_cut_and_counts_when_it_comes_back() {
    if !rig::root_or_skip() {
        return;
    }
    let (carrier, encap) = tunnels()[0];
    let whole = TestRunOptions { gso_size: 100, gso_segs: 6, ..TestRunOptions::default() };
    for (is_finished, expected) in [(false, REDIRECT), (true, 2)] {
        let bench = Bench::finished(WAYS[0], is_finished);
        bench.set(&Case::new(false, carrier, encap, 0), 9000);
        let run = bench.classifier.test_run(&[0x5a; 600], &whole).expect("it runs");
        assert_eq!(run.value, expected);
        assert_eq!(bench.slot()[SlotCounter::Arrived as usize], u64::from(is_finished));
    }
}

#[test]
fn a_late_filter_judges_the_slots_that_it_is_for() {
    if !rig::root_or_skip() {
        return;
    }
    let step = |code, jt, jf, k| Instruction::new(code, jt, jf, k);
    let is_lldp = Program::new(vec![
        step(op::LD | op::H | op::ABS, 0, 0, 12),
        step(op::JMP | op::JEQ | op::K, 0, 1, 0x88cc),
        step(op::RET | op::K, 0, 0, 1),
        step(op::RET | op::K, 0, 0, 0),
    ]);
    let is_lldp = is_lldp.expect("a program");
    let tap = LateTap {
        received: &is_lldp,
        sent: &is_lldp,
        verdicts: Verdicts::Expression,
        tap: 0,
        first_slot: SLOT,
    };
    let shapes: Vec<_> = kernel::mirror::layout::Shape::all().collect();
    for (finish_by, slots) in [(WAYS[0], vec![SLOT]), (None, vec![9, SLOT]), (None, vec![9])] {
        let is_for = slots.contains(&SLOT);
        let late = [LateSlots { tap, slots }];
        let options = EncapOptions { shapes: &shapes, late: &late, finish_by };
        let mut maps = maps();
        maps.push(Map::new(MapKind::PerCpuArray, 4, 512 * 8, 1).expect("a map"));
        let bench = Bench::with(&encap(&options).expect("a program"), maps);
        let (carrier, encap) = tunnels()[0];
        bench.set(&Case::new(false, carrier, encap, 0), 9000);
        let (mut kept, mut all) = (0, 0);
        for frame in frames() {
            let expected = !is_for || frame[12..14] == [0x88, 0xcc];
            let (_, counted) = run_counted(&bench, &frame);
            assert_eq!(counted(MemberCounter::Matched), u64::from(expected));
            kept += u64::from(expected);
            all += 1;
        }
        let tap = bench.words(MirrorMap::Tap(0), 0);
        let slot = bench.slot();
        let (arrived, filtered) =
            (slot[SlotCounter::Arrived as usize], slot[SlotCounter::Filtered as usize]);
        assert_eq!((arrived, filtered), (all, all - kept));
        if is_for {
            let (matched, filtered) =
                (tap[TapCounter::Matched as usize], tap[TapCounter::Filtered as usize]);
            assert_eq!((matched, filtered), (kept, all - kept));
        }
    }
}
