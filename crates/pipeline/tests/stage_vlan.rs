//! VLAN tags pushed, replaced and popped, with all their bits.

mod shaped;

use api::{StageKind, Tags, Tpid};
use io::Pool;
use proptest::prelude::*;
use shaped::{Shaper, assert_no_memory, cut, frame, packet};
use wire::LinkType;
use wire::segment::{Gso, GsoKind};
use wire::walk::VlanTag;

fn push(vid: u16) -> StageKind {
    StageKind::VlanPush { vid, pcp: None, dei: None, tpid: None }
}

fn plain() -> Vec<u8> {
    frame::ethernet(0x0800, &frame::ipv4(17, &frame::udp(1000, 53, &[7; 40])))
}

/// A frame with tags, outermost first.
fn tagged(tags: &[VlanTag]) -> Vec<u8> {
    let plain = plain();
    let tags: Vec<u8> = tags.iter().flat_map(|tag| tag.to_bytes()).collect();
    [&plain[..12], &tags, &plain[12..]].concat()
}

fn tag(tpid: u16, pcp: u8, dei: bool, vid: u16) -> VlanTag {
    VlanTag::new(tpid, pcp, dei, vid)
}

#[test]
fn a_pushed_tag_stands_outermost_and_takes_over_what_is_not_given() {
    let mut stage = Shaper::new(push(100));
    assert_eq!(stage.frame(&plain()), tagged(&[tag(0x8100, 0, false, 100)]));
    for inner in [tag(0x8100, 5, true, 0), tag(0x88a8, 7, false, 4095), tag(0x9100, 1, true, 1)] {
        let outer = tag(0x88a8, inner.pcp(), inner.dei(), 100);
        assert_eq!(stage.frame(&tagged(&[inner])), tagged(&[outer, inner]));
    }
    assert_eq!(stage.touched(), 4);

    let given =
        StageKind::VlanPush { vid: 0, pcp: Some(6), dei: Some(true), tpid: Some(Tpid::Dot1Q) };
    let inner = tag(0x88a8, 3, false, 9);
    assert_eq!(
        Shaper::new(given).frame(&tagged(&[inner])),
        tagged(&[tag(0x8100, 6, true, 0), inner])
    );
}

#[test]
fn a_replaced_tag_keeps_what_is_not_given() {
    let kind =
        |vid, pcp, dei, tpid, or_push| StageKind::VlanReplace { vid, pcp, dei, tpid, or_push };
    let old = tag(0x9100, 5, true, 300);
    let inner = tag(0x8100, 1, false, 2);
    for (kind, new) in [
        (kind(Some(0), None, None, None, false), tag(0x9100, 5, true, 0)),
        (kind(None, Some(2), None, None, false), tag(0x9100, 2, true, 300)),
        (kind(None, None, Some(false), None, false), tag(0x9100, 5, false, 300)),
        (kind(None, None, None, Some(Tpid::Dot1Ad), false), tag(0x88a8, 5, true, 300)),
    ] {
        let mut stage = Shaper::new(kind);
        assert_eq!(stage.frame(&tagged(&[old, inner])), tagged(&[new, inner]));
        assert_eq!(stage.frame(&plain()), plain(), "there is nothing to replace");
        assert_eq!(stage.touched(), 1);
    }
    let mut stage = Shaper::new(kind(Some(8), Some(4), None, None, true));
    assert_eq!(stage.frame(&plain()), tagged(&[tag(0x8100, 4, false, 8)]));
    assert_eq!(stage.frame(&tagged(&[old])), tagged(&[tag(0x9100, 4, true, 8)]));
    let half = cut(&tagged(&[old]), tagged(&[old]).len() - 15);
    assert_eq!(stage.one(half).caplen(), 15, "a tag that is cut off is no missing tag");
}

#[test]
fn tags_are_popped_from_the_outermost_on() {
    let tags = [tag(0x88a8, 7, true, 10), tag(0x9100, 0, false, 20), tag(0x8100, 3, true, 30)];
    for (pop, left) in [
        (Tags::Count(0), &tags[..]),
        (Tags::Count(1), &tags[1..]),
        (Tags::Count(2), &tags[2..]),
        (Tags::Count(9), &[]),
        (Tags::All, &[]),
    ] {
        let mut stage = Shaper::new(StageKind::VlanPop { tags: pop });
        assert_eq!(stage.frame(&tagged(&tags)), tagged(left), "{pop:?}");
        assert_eq!(stage.frame(&plain()), plain());
    }
}

#[test]
fn what_has_no_place_for_a_tag_goes_on_as_it_is() {
    let ip = frame::ipv4(17, &frame::udp(1, 2, &[]));
    let kinds = [
        push(5),
        StageKind::VlanReplace { vid: Some(5), pcp: None, dei: None, tpid: None, or_push: true },
        StageKind::VlanPop { tags: Tags::All },
    ];
    for kind in kinds {
        let mut stage = Shaper::new(kind);
        // Bytes that would be a tag if this were Ethernet.
        let mut sll = vec![0x81; 60];
        sll[12..16].copy_from_slice(&[0x81, 0, 0, 1]);
        for packet in [
            packet(LinkType::RAW, &ip),
            packet(LinkType::LINUX_SLL, &sll),
            packet(LinkType::ETHERNET, &[2; 13]),
            packet(LinkType::ETHERNET, &[]),
        ] {
            let before = packet.copy();
            let after = stage.one(packet);
            assert_eq!(*after.data, *before.data);
            assert_eq!(after.meta.origlen, before.meta.origlen);
        }
        assert_eq!(stage.touched(), 0);
    }
}

#[test]
fn the_offset_of_a_super_packet_s_checksum_moves_along() {
    let gso = Gso { kind: GsoKind::TcpV4, size: 1000, csum_start: 34, csum_offset: 16 };
    let mut super_packet = packet(LinkType::ETHERNET, &plain());
    super_packet.meta.gso = Some(gso);
    let pushed = Shaper::new(push(5)).one(super_packet);
    assert_eq!(pushed.meta.gso, Some(Gso { csum_start: 38, ..gso }));
    let popped = Shaper::new(StageKind::VlanPop { tags: Tags::All }).one(pushed);
    assert_eq!(popped.meta.gso, Some(gso));
}

#[test]
fn without_headroom_the_pool_s_memory_is_used_and_its_end_is_a_counted_loss() {
    // Each chunk has room for one packet.
    let mut stage = Shaper::with_pool(push(5), Pool::new(2, 128 + 100));
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(stage.one(packet(LinkType::ETHERNET, &plain())));
    }
    assert_no_memory(stage.batch(vec![packet(LinkType::ETHERNET, &plain())]));
    // One that has room in front needs no memory.
    let again = held.pop().map(|packet| stage.one(packet)).expect("two are held");
    assert_eq!(again.caplen(), plain().len() + 8);
    assert_eq!(*held[0].data, tagged(&[tag(0x8100, 0, false, 5)]));
    drop((held, again));
    assert_eq!(stage.one(packet(LinkType::ETHERNET, &plain())).caplen(), plain().len() + 4);
}

proptest! {
    #[test]
    fn a_pop_undoes_a_push(
        payload in proptest::collection::vec(any::<u8>(), 2..200), inner in 0..3usize,
        tci in any::<[u16; 3]>(), vid in 0..4096u16, pcp in proptest::option::of(0..8u8),
        dei: Option<bool>, qinq: Option<bool>, left_out in 0..40usize, roomy: bool
    ) {
        let tags: Vec<VlanTag> =
            tci[..inner].iter().map(|&tci| VlanTag { tpid: 0x8100, tci }).collect();
        let bytes: Vec<u8> = tags.iter().flat_map(|tag| tag.to_bytes()).collect();
        let frame = [&[2; 12][..], &bytes, &payload].concat();
        let tpid = qinq.map(|qinq| if qinq { Tpid::Dot1Ad } else { Tpid::Dot1Q });
        let mut pushing = Shaper::new(StageKind::VlanPush { vid, pcp, dei, tpid });
        let mut popping = Shaper::new(StageKind::VlanPop { tags: Tags::Count(1) });
        let mut before = cut(&frame, left_out.min(payload.len() - 2));
        if roomy {
            before = pushing.roomy(&before);
        }
        let copy = before.copy();
        let missing = |p: &io::Packet| p.meta.origlen as usize - p.caplen();
        let pushed = pushing.one(before);
        let new = wire::vlan::outermost(&pushed.data).expect("a tag");
        prop_assert_eq!(new.vid(), vid);
        prop_assert_eq!(pushed.caplen(), copy.caplen() + 4);
        prop_assert_eq!(missing(&pushed), missing(&copy));
        prop_assert_eq!(pushed.compute_flow_hash(), copy.compute_flow_hash());
        let popped = popping.one(pushed);
        prop_assert_eq!(&*popped.data, &*copy.data);
        prop_assert_eq!(popped.meta.origlen, copy.meta.origlen);
    }
}
