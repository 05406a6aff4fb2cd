use super::super::layout::Shape;
use super::*;

#[test]
fn programs_are_made_of_all_shapes_and_of_none() {
    let all: Vec<Shape> = Shape::all().collect();
    for shapes in [&all[..], &all[..1], &[]] {
        for entry in [Entry::Egress, Entry::Ingress] {
            let code =
                encap(&EncapOptions { entry, shapes, late: &[], crosses_always: false }).unwrap();
            let listing = code.to_string();
            let pops = listing.contains("bpf_skb_vlan_pop");
            assert!(pops, "{listing}");
            // Only the egress looks whether checksums are complete.
            assert_eq!(listing.contains("bpf_l4_csum_replace"), entry == Entry::Egress);
        }
    }
}

#[test]
fn where_all_cross_nothing_else_is_done() {
    let options =
        EncapOptions { entry: Entry::Egress, shapes: &[], late: &[], crosses_always: true };
    assert!(encap(&options).unwrap().slots() < 50);
}
