//! The ledger of a tap whose filter runs in the kernel: what that counted, and what was lost behind
//! it, stands in the balance.

mod taps;

use api::{DropReason, Drops};
use io::memory::{MemorySink, MemorySource};
use io::{Arrival, Batch, Error, Screened, Screening, Source};
use pipeline::{CaptureFilter, TargetGroup};
use taps::{input, only, packet, run, target, udp4};

/// Packets behind a filter in the kernel.
struct BehindFilter {
    packets: MemorySource,
    screening: Screening,
    drops: Drops,
}

impl Source for BehindFilter {
    fn receive(&mut self, batch: &mut Batch) -> Result<Arrival, Error> {
        self.packets.receive(batch)
    }

    fn stop(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn drops(&mut self) -> Drops {
        self.drops
    }

    fn screening(&mut self) -> Screening {
        self.screening.clone()
    }

    fn is_live(&self) -> bool {
        false
    }
}

/// 60 packets that the kernel kept, and 40 that it left undecided.
fn source(screening: Screening, lost_undecided: u64) -> BehindFilter {
    let frame = udp4(([10, 0, 0, 1], 1000), ([10, 0, 0, 2], 53), &[0; 20]);
    let packets = (0..100).map(|number| {
        let mut packet = packet(number, &frame);
        packet.meta.decided = number < 60;
        packet
    });
    let mut drops = Drops::default();
    drops.add_many(DropReason::KernelRing, lost_undecided);
    BehindFilter { packets: MemorySource::new(packets, false), screening, drops }
}

fn counted() -> Screening {
    Screening::Counted(Screened { filtered: 1000, lost: 7, rule_hits: vec![66, 0, 1] })
}

/// Rejects everything; so what the kernel has decided must not be asked again.
fn nothing() -> CaptureFilter {
    let none = Box::new(|_| Ok(filter::Program::constant(0)));
    CaptureFilter::expression(api::DirectionChoice::Both, &[], none)
        .expect("a constant program for every link type")
}

#[test]
fn what_the_kernel_counted_stands_in_the_tap_s_line_and_its_losses_at_the_target() {
    let sink = MemorySink::default();
    let mut tap = taps::tap(source(counted(), 5), vec![only("sink", sink.clone())]);
    tap.filter = nothing();
    let report = run(tap);
    assert_eq!(sink.take().len(), 60, "those that the kernel kept");
    let line = report.tap();
    assert_eq!(line.seen, Some(1000 + 7 + 100 + 5));
    assert_eq!(line.filtered, Some(1000 + 40));
    assert_eq!(line.matched, 67);
    assert_eq!(line.drops.total(), 5);
    let hits: Vec<(u32, u64)> = line.rules.iter().map(|rule| (rule.index, rule.hits)).collect();
    assert_eq!(hits, [(1, 66), (2, 0), (3, 1)]);
    let target = &report.targets[0];
    assert_eq!((target.matched, target.sent), (67, 60));
    assert_eq!(target.drops.get(DropReason::KernelRing), 7);
    assert!(line.to_string().contains("kernel_ring 5)"), "packets, not frames: {line}");
}

#[test]
fn the_members_of_a_group_bear_a_loss_by_their_share_and_each_group_bears_it_whole() {
    let members = ["a", "b", "c"].map(|name| target(name, MemorySink::default()));
    let group = TargetGroup::new(members.into(), &[1, 1, 2]);
    let mut lost_1001 = counted();
    if let Screening::Counted(screened) = &mut lost_1001 {
        screened.lost = 1001;
    }
    let report =
        run(taps::tap(source(lost_1001, 0), vec![group, only("whole", MemorySink::default())]));
    let lost: Vec<u64> =
        report.targets.iter().map(|target| target.drops.get(DropReason::KernelRing)).collect();
    assert_eq!(lost[..3].iter().sum::<u64>(), 1001);
    assert!(lost[0] > 220 && lost[1] > 220 && lost[2] > 470, "{lost:?}");
    assert_eq!(lost[3], 1001);
}

#[test]
fn a_filter_that_hides_what_it_rejects_makes_seen_and_filtered_unknown() {
    let report =
        run(taps::tap(source(Screening::Hidden, 2), vec![only("s", MemorySink::default())]));
    let line = report.tap();
    assert_eq!((line.seen, line.filtered, line.matched), (None, None, 100));
    assert_eq!(
        line.to_string(),
        "tap tap: seen n/a, filtered n/a, matched 100, dropped 2 (kernel_ring ≥ 2 frames), 0 unaccounted"
    );
}

#[test]
fn several_sources_add_up() {
    let inputs = vec![input("a", source(counted(), 0)), input("b", source(counted(), 0))];
    let sinks = vec![only("sink", MemorySink::default())];
    let report = run(pipeline::Tap::new("both".into(), inputs, sinks));
    assert_eq!(report.rule_hits, [132, 0, 2]);
    assert_eq!(report.targets[0].drops.get(DropReason::KernelRing), 14);
}
