//! Tags, labels and tunnels taken off.

mod shaped;

use api::{Layer, StageKind};
use io::{Direction, Interface, InterfaceId};
use shaped::{Shaper, cut, frame, packet, tunnelled};
use wire::LinkType;
use wire::tunnel::{Encap, Kind};

const ALL: [Layer; 6] =
    [Layer::Vlan, Layer::Mpls, Layer::Vxlan, Layer::Gre, Layer::Erspan, Layer::Geneve];

fn strip(layers: &[Layer]) -> Shaper {
    Shaper::new(StageKind::Strip { layers: layers.to_vec() })
}

fn udp() -> Vec<u8> {
    frame::ethernet(0x0800, &frame::ipv4(17, &frame::udp(1000, 53, &[7; 40])))
}

fn layer_of(encap: &Encap) -> Layer {
    match encap.tunnel().kind {
        Kind::Vxlan => Layer::Vxlan,
        Kind::Geneve => Layer::Geneve,
        Kind::Gre | Kind::Gretap => Layer::Gre,
        Kind::Erspan => Layer::Erspan,
        Kind::L2tp => panic!("no layer is named for it"),
    }
}

/// A frame with labels in front of something; the bottom of the stack is set in the last one.
fn labelled(labels: usize, behind: &[u8]) -> Vec<u8> {
    let stack: Vec<u8> =
        (1..=labels).flat_map(|n| [0, n as u8, u8::from(n == labels), 64]).collect();
    frame::ethernet(0x8847, &[&stack[..], behind].concat())
}

#[test]
fn a_listed_tunnel_is_taken_off_and_others_stay() {
    for encap in tunnelled::encaps() {
        for (outer, inner) in tunnelled::frames(&encap, &udp()) {
            let mut stage = strip(&[layer_of(&encap)]);
            let mut before = packet(LinkType::ETHERNET, &outer);
            before.meta.flow_hash = Some(1);
            let after = stage.one(before);
            assert_eq!(*after.data, *inner, "{encap:?}");
            assert_eq!(after.meta.origlen as usize, inner.len());
            assert_eq!(after.meta.flow_hash, None, "it is that of another packet");
            let found = tunnelled::found(&outer);
            let told = after.meta.outer.expect("the tunnel is told");
            assert_eq!((told.tunnel, Some(told.source)), (encap.tunnel(), found.source));
            let is_raw = matches!(encap, Encap::Gre(_));
            let link_type = if is_raw { LinkType::RAW } else { LinkType::ETHERNET };
            assert_eq!(after.meta.link_type, link_type);
            let interface = stage.interfaces.get(after.meta.interface);
            assert_eq!(interface.link_type, link_type.0, "its file says so");
            let tells = matches!(encap, Encap::Geneve { metadata: true, .. });
            if tells {
                let told = (after.meta.ts_ns, after.meta.direction);
                assert_eq!(told, (tunnelled::TOLD_NS, Direction::Out));
            }
            assert_eq!(stage.touched(), 1);

            let others: Vec<Layer> =
                ALL.into_iter().filter(|&layer| layer != layer_of(&encap)).collect();
            let mut stage = strip(&others);
            assert_eq!(stage.frame(&outer), outer, "{encap:?}");
            assert_eq!(stage.touched(), 0);
        }
    }
}

#[test]
fn only_what_stands_outermost_goes_again_and_again() {
    let encaps = tunnelled::encaps();
    let (vxlan, geneve) = (&encaps[0], &encaps[1]);
    let tagged = frame::tagged(&udp(), &[1, 2, 3, 4, 5, 6]);
    let (in_vxlan, _) = tunnelled::frames(vxlan, &tagged).remove(0);
    let (in_both, _) = tunnelled::frames(geneve, &in_vxlan).remove(0);
    let outer = frame::tagged(&in_both, &[7]);
    for (layers, left) in [
        (&ALL[..], &udp()),
        (&[Layer::Vxlan, Layer::Geneve], &tagged),
        (&[Layer::Geneve], &in_vxlan),
        (&[Layer::Vlan], &in_both),
        (&[Layer::Vxlan], &outer),
        (&[Layer::Vxlan, Layer::Vlan], &in_both),
        (&[], &outer),
    ] {
        assert_eq!(strip(layers).frame(&outer), *left, "{layers:?}");
    }
}

#[test]
fn tags_and_labels_leave_a_frame_with_the_right_ethertype() {
    let ipv6 = frame::ipv6(17, &frame::udp(1, 2, &[7; 40]));
    let mut stage = strip(&[Layer::Vlan, Layer::Mpls]);
    for (frame, left) in [
        (frame::tagged(&udp(), &[100]), udp()),
        (labelled(1, &udp()[14..]), udp()),
        (labelled(3, &ipv6), frame::ethernet(0x86dd, &ipv6)),
        (frame::tagged(&labelled(2, &udp()[14..]), &[1, 2]), udp()),
        (labelled(2, &udp()), udp()),
        (labelled(2, &[&[0, 0, 0, 9][..], &udp()].concat()), udp()),
        (labelled(1, &frame::tagged(&labelled(1, &ipv6), &[4])), frame::ethernet(0x86dd, &ipv6)),
    ] {
        let whole = frame.len();
        let after = stage.one(packet(LinkType::ETHERNET, &frame));
        assert_eq!(*after.data, *left);
        assert_eq!((after.meta.link_type, after.meta.outer), (LinkType::ETHERNET, None));
        assert_eq!(after.meta.origlen as usize, left.len());
        // What a capture has left out is missing afterwards, too.
        let after = stage.one(cut(&frame, 20));
        assert_eq!(after.meta.origlen as usize - after.caplen(), 20);
        assert_eq!(after.caplen() + 20, left.len(), "of {whole}");
    }
    assert_eq!(stage.touched(), 14);
    // Tags in front of labels stay if only labels are to go.
    let tagged = frame::tagged(&labelled(2, &udp()[14..]), &[1, 2]);
    assert_eq!(strip(&[Layer::Mpls]).frame(&tagged), frame::tagged(&udp(), &[1, 2]));
    assert_eq!(strip(&[Layer::Vlan]).frame(&tagged), labelled(2, &udp()[14..]));
}

#[test]
fn what_cannot_be_read_goes_on_as_it_is() {
    let mut bottomless = labelled(3, &[]);
    bottomless[24] = 0;
    let fragment = frame::ipv4_between([10, 0, 0, 1], [10, 0, 0, 2], 47, 0x2000, &[0; 40]);
    let mut stage = strip(&ALL);
    for frame in [
        bottomless,
        labelled(1, &[0x10, 0, 0, 0x21, 1, 2, 3, 4]),
        labelled(1, &[]),
        frame::ethernet(0x0800, &fragment),
        frame::ethernet(0x0800, &frame::ipv4(47, &[0x40, 0, 8, 0, 0, 0, 0, 0])),
        frame::ethernet(0x0800, &frame::ipv4(47, &[0, 0, 0x08, 0x06, 1, 2])),
        frame::arp(),
        vec![2; 13],
        vec![],
    ] {
        assert_eq!(stage.frame(&frame), frame);
    }
    assert_eq!(stage.touched(), 0);
}

#[test]
fn cooked_captures_lose_labels_too() {
    let cooked = |ethertype: u16, behind: &[u8]| {
        [&[0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0][..], &ethertype.to_be_bytes(), behind].concat()
    };
    let mut stage = strip(&[Layer::Mpls]);
    let interface = Interface::new(LinkType::LINUX_SLL.0);
    let id = stage.interfaces.add(interface);
    let labels = labelled(2, &udp()[14..]);
    let mut before = packet(LinkType::LINUX_SLL, &cooked(0x8847, &labels[14..]));
    before.meta.interface = id;
    let after = stage.one(before);
    assert_eq!(*after.data, *cooked(0x0800, &udp()[14..]));
    let whole = labelled(2, &udp());
    let mut before = packet(LinkType::LINUX_SLL, &cooked(0x8847, &whole[14..]));
    before.meta.interface = id;
    let after = stage.one(before);
    assert_eq!(*after.data, *udp());
    assert_eq!(after.meta.link_type, LinkType::ETHERNET);
    assert_eq!(after.meta.interface, InterfaceId(2), "a cooked interface with Ethernet frames");
}
