//! A program on the bench: maps, a member, and packets that seem to be clones.

use filter::ebpf::{Assembler, Code, Register, Width};
use io::bpf::{Classifier, Map, MapKind, RecordRing, RecordRings, TestRun, TestRunOptions};
use kernel::mirror::layout::{
    COUNTER_WORDS, GROUP_BYTES, MEMBER_BYTES, Member, MirrorMap, SCRATCH_BYTES, SLOT_BYTES, Shape,
    Slot, TC_INDEX_FINISHED, TooBig, WayState,
};
use kernel::mirror::{EncapOptions, Outer, encap};
use std::os::fd::AsFd;
use wire::Vni;
use wire::metadata::Lane;
use wire::tunnel::{Carrier, Encap, Gre};

pub const LANE: Lane = Lane { epoch: 0x0102_0304, tap: 5, target: 6, lane: 0 };
/// The slot and the member that all is for.
pub const SLOT: u32 = 3;
pub const MEMBER: u32 = 2;
/// An interface that does not exist.
pub const NOWHERE: u32 = 0x7fff_ff00;

/// A tunnel, and what goes into it.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub outer: Outer,
    pub carrier: Carrier,
    pub encap: Encap,
    pub snaplen: u32,
}

impl Case {
    pub fn new(is_v6: bool, carrier: Carrier, encap: Encap, snaplen: u32) -> Case {
        let (source, destination) = if is_v6 {
            ("fd00:71::1".parse(), "fd00:72::2".parse())
        } else {
            ("10.71.0.1".parse(), "10.72.0.2".parse())
        };
        let outer = Outer {
            destination_mac: [2, 0, 0, 0, 9, 2],
            source_mac: [2, 0, 0, 0, 9, 1],
            source: source.expect("an address"),
            destination: destination.expect("an address"),
            dscp: 46,
            hop_limit: 64,
            dont_fragment: true,
        };
        Case { outer, carrier, encap, snaplen }
    }
}

/// Every tunnel that a program knows.
pub fn tunnels() -> Vec<(Carrier, Encap)> {
    let vni = Vni::new(0x00ab_cdef).expect("24 bits");
    let gre = |key| Gre { key, checksum: false, sequence: false };
    let (vxlan, geneve) = (Carrier::Udp { port: 4789 }, Carrier::Udp { port: 6081 });
    let ip = Carrier::Ip { protocol: 47 };
    vec![
        (vxlan, Encap::Vxlan { vni }),
        (geneve, Encap::Geneve { vni, metadata: false }),
        (geneve, Encap::Geneve { vni, metadata: true }),
        (ip, Encap::Gre(gre(None))),
        (ip, Encap::Gre(gre(Some(0x0102_0304)))),
        (ip, Encap::Gretap(gre(None))),
        (ip, Encap::Gretap(gre(Some(0x0102_0304)))),
    ]
}

/// Maps and a program.
pub struct Bench {
    pub classifier: Classifier,
    pub maps: Vec<Map>,
    rings: RecordRings,
}

/// The maps of a mirror, small, but for the rings.
pub fn maps() -> Vec<Map> {
    let map = |kind, key, value, entries| Map::new(kind, key, value, entries).expect("a map");
    let counters = 8 * COUNTER_WORDS;
    vec![
        map(MapKind::Array, 4, SLOT_BYTES, 16),
        map(MapKind::Array, 4, GROUP_BYTES, 2),
        map(MapKind::Array, 4, MEMBER_BYTES, 16),
        map(MapKind::PerCpuArray, 4, counters, 16),
        map(MapKind::PerCpuArray, 4, counters, 16),
        map(MapKind::PerCpuArray, 4, SCRATCH_BYTES, 1),
        map(MapKind::Array, 4, 8, 1),
        map(MapKind::Hash, 20, 4, 16),
        map(MapKind::Array, 4, 32, 1),
    ]
}

/// Puts in front of a program that the packet was sent and is a clone for [`SLOT`], and whether it has
/// been cut and completed.
fn as_clone(code: &Code, is_finished: bool) -> Code {
    let mut asm = Assembler::new();
    let finished = if is_finished { i32::from(TC_INDEX_FINISHED) } else { 0 };
    asm.copy(Register::R2, (SLOT << 1 | 1).cast_signed() | finished);
    asm.store(Width::B4, Register::R1, 44, Register::R2);
    code.instructions().iter().for_each(|instruction| asm.push(*instruction));
    asm.finish().expect("a program")
}

impl Bench {
    pub fn new(finish_by: Option<u32>) -> Bench {
        Bench::finished(finish_by, false)
    }

    /// As [`Self::new`], for packets that have been cut and completed, or have not.
    pub fn finished(finish_by: Option<u32>, is_finished: bool) -> Bench {
        let shapes: Vec<Shape> = Shape::all().collect();
        let code = encap(&EncapOptions { shapes: &shapes, late: &[], finish_by });
        Bench::load(&as_clone(&code.expect("a program"), is_finished), maps())
    }

    pub fn with(code: &Code, maps: Vec<Map>) -> Bench {
        Bench::load(&as_clone(code, false), maps)
    }

    fn load(code: &Code, maps: Vec<Map>) -> Bench {
        let rings = RecordRings::new(16).expect("rings");
        let (common, taps) = maps.split_at(MirrorMap::HandUp.map().0);
        let fds = common.iter().map(AsFd::as_fd).chain([rings.as_fd()]);
        let fds: Vec<_> = fds.chain(taps.iter().map(AsFd::as_fd)).collect();
        let classifier =
            Classifier::load("encap", code, &fds).unwrap_or_else(|e| panic!("{e}\n{code}"));
        drop(fds);
        Bench { classifier, maps, rings }
    }

    fn map(&self, map: MirrorMap) -> &Map {
        let rings = usize::from(map.map().0 > MirrorMap::HandUp.map().0);
        &self.maps[map.map().0 - rings]
    }

    /// A ring of what goes to user space.
    pub fn ring(&self, bytes: usize) -> RecordRing {
        let ring = RecordRing::new(bytes).expect("a ring");
        self.rings.put(SLOT / 2, &ring).expect("it is put");
        ring
    }

    pub fn slot_of(&self, case: &Case) -> Slot {
        Slot {
            snaplen: case.snaplen,
            group: None,
            member: MEMBER,
            too_big: TooBig::Drop,
            is_unhealthy: false,
        }
    }

    pub fn set_slot(&self, slot: &Slot) {
        self.map(MirrorMap::Slots).put(&SLOT.to_ne_bytes(), &slot.bytes()).expect("a slot");
    }

    /// Packets go into a case's tunnel, by an interface that does not exist.
    pub fn set(&self, case: &Case, mtu: u32) {
        self.set_slot(&self.slot_of(case));
        self.set_member(case, mtu, NOWHERE);
    }

    pub fn set_member(&self, case: &Case, mtu: u32, interface: u32) {
        let (shape, header) =
            case.outer.template(case.carrier, &case.encap, LANE).expect("a template");
        let member = Member { state: WayState::Known, interface, shape, mtu, header };
        self.map(MirrorMap::Members).put(&MEMBER.to_ne_bytes(), &member.bytes()).expect("a member");
    }

    pub fn run(&self, frame: &[u8]) -> Vec<u8> {
        let TestRun { value, packet, .. } =
            self.classifier.test_run(frame, &TestRunOptions::default()).expect("it runs");
        assert_eq!(value, 2, "the packet itself ends");
        packet
    }

    pub fn set_clock(&self, ns: u64) {
        let key = 0u32.to_ne_bytes();
        self.map(MirrorMap::Clock).put(&key, &ns.to_ne_bytes()).expect("a clock");
    }

    pub fn set_table(&self, group: u32, table: &[u16]) {
        let bytes: Vec<u8> = table.iter().flat_map(|member| member.to_ne_bytes()).collect();
        self.map(MirrorMap::Groups).put(&group.to_ne_bytes(), &bytes).expect("a table");
    }

    pub fn member(&self) -> Vec<u64> {
        self.words(MirrorMap::MemberCounters, MEMBER)
    }

    pub fn slot(&self) -> Vec<u64> {
        self.words(MirrorMap::SlotCounters, SLOT)
    }

    pub fn words(&self, map: MirrorMap, place: u32) -> Vec<u64> {
        self.map(map).words(place).expect("counters")
    }
}
