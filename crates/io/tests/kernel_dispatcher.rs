//! Dispatchers judge as the interpreter does: rules and expressions, several taps at once, long lists.

mod dispatcher;

use dispatcher::Loaded;
use filter::ebpf::{Scope, Verdicts};
use filter::{Action, Direction, Program, Rules};
use io::bpf::TestRunOptions;
use kernel::mirror::layout::TapCounter;
use kernel::mirror::{DispatcherOptions, DispatcherTap, dispatcher};
use rig::rules::{Random, verdict};
use wire::LinkType;

const NEXT: i32 = -1;

fn tap<'a>(tap: usize, program: &'a Program, verdicts: Verdicts<'a>) -> DispatcherTap<'a> {
    DispatcherTap {
        program,
        verdicts,
        scope: Some(Scope::Everything),
        tap,
        slots: vec![],
        late_slots: vec![],
        bucket: None,
        skips_own_tunnels: true,
    }
}

fn received(taps: Vec<DispatcherTap<'_>>) -> DispatcherOptions<'_> {
    DispatcherOptions {
        link_type: LinkType::ETHERNET,
        direction: Direction::In,
        is_loopback: false,
        private_interface: 1,
        taps,
    }
}

/// A frame that a test run takes: one that says that it is IP has the header's fixed part.
fn frame(random: &mut Random) -> Vec<u8> {
    loop {
        let mut frame = random.frame(LinkType::ETHERNET);
        frame.truncate(3500);
        let needed = match frame.get(12..14) {
            Some([0x08, 0x00]) => 14 + 20,
            Some([0x86, 0xdd]) => 14 + 40,
            _ => 15,
        };
        if frame.len() >= needed {
            return frame;
        }
    }
}

#[test]
fn rules_of_several_taps() {
    if !rig::root_or_skip() {
        return;
    }
    let mut random = Random::new(0x6469_7370_6174);
    let (mut included, mut excluded, mut unmatched) = (0, 0, 0);
    for _ in 0..60 {
        let lists: Vec<Rules> = (0..random.pick(&[1, 2, 3, 5]))
            .map(|_| {
                let count = random.pick(&[1, 2, 5, 10, 40, 100]);
                random.rules(count)
            })
            .collect();
        let compile = |rules: &Rules| rules.compile(LinkType::ETHERNET, Direction::In).unwrap();
        let programs: Vec<Program> = lists.iter().map(compile).collect();
        let taps = (0..lists.len()).map(|n| tap(n, &programs[n], Verdicts::Rules(&lists[n])));
        let code = dispatcher(&received(taps.collect())).unwrap();
        let counts: Vec<usize> = lists.iter().map(|rules| rules.as_slice().len()).collect();
        let loaded = Loaded::new(&code, &counts);
        let mut hits: Vec<Vec<u64>> = counts.iter().map(|&count| vec![0; count]).collect();
        let (mut matched, mut filtered) = (vec![0; lists.len()], vec![0; lists.len()]);
        let mut bytes = vec![0; lists.len()];
        for _ in 0..200 {
            let frame = frame(&mut random);
            let run = loaded.program.test_run(&frame, &TestRunOptions::default()).unwrap();
            assert_eq!((run.value, &run.packet), (NEXT, &frame));
            for (n, rules) in lists.iter().enumerate() {
                let rule = verdict(rules, LinkType::ETHERNET, Direction::In, &frame);
                assert_eq!(programs[n].run(&frame, frame.len() as u32), rule);
                match rules.action(rule) {
                    Some(Action::Include) => included += 1,
                    Some(Action::Exclude) => excluded += 1,
                    None => unmatched += 1,
                }
                if rule > 0 {
                    hits[n][rule as usize - 1] += 1;
                }
                if rules.action(rule) == Some(Action::Include) {
                    matched[n] += 1;
                    bytes[n] += frame.len() as u64;
                } else {
                    filtered[n] += 1;
                }
            }
        }
        for n in 0..lists.len() {
            assert_eq!(loaded.rule_hits(n), hits[n], "{:?}", lists[n]);
            assert_eq!(loaded.decided(n), [filtered[n], matched[n], 0, 0, 0]);
            assert_eq!(loaded.counter(n, TapCounter::MatchedBytes), bytes[n]);
        }
    }
    let all = [included, excluded, unmatched];
    assert!(all.iter().all(|&n| n > 1000), "included, excluded, unmatched: {all:?}");
}
