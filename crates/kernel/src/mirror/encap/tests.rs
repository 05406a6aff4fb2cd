use super::super::layout::Shape;
use super::*;

#[test]
fn programs_are_made_of_all_shapes_and_of_none() {
    let all: Vec<Shape> = Shape::all().collect();
    for shapes in [&all[..], &all[..1], &[]] {
        for finish_by in [None, Some(7)] {
            let code = encap(&EncapOptions { shapes, late: &[], finish_by }).unwrap();
            let listing = code.to_string();
            let pops = listing.contains("bpf_skb_vlan_pop");
            assert_eq!(pops, !shapes.is_empty(), "{listing}");
            // Only where packets come that are not, it looks whether checksums are complete.
            assert_eq!(listing.contains("bpf_l4_csum_replace"), finish_by.is_some());
            let redirects = listing.lines().filter(|line| line.ends_with("bpf_redirect#23"));
            assert_eq!(redirects.count(), usize::from(finish_by.is_some()), "{listing}");
        }
    }
}
