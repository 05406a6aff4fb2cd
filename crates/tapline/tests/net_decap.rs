//! `capture -i IF --decap`: the underlay of a mirror, seen as what it carries, fragments that the
//! kernel has made included.

mod over_links;

use capfile::Reader;
use over_links::*;
use rig::{Generator, duplicates, missing, numbers_in, root_or_skip};
use rustix::process::Signal;
use std::fs;

#[test]
fn what_passes_in_tunnels_is_captured_as_it_was() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("decap");
    let captures = ["tapped", "any"].map(|interface| {
        let file = scene.path(&format!("{interface}.pcapng"));
        let words = ["capture", "-Q", "in", "-i", interface, "--decap", "all", "-w"];
        (scene.start("sink", &[&words[..], &[text(&file), NUMBERED]].concat()), file)
    });
    let to = "vxlan://10.71.1.2?vni=71";
    let mirror = scene.start("tapped", &["mirror", "-i", "client", "--to", to, NUMBERED]);
    let small = scene.send(&Generator::new(5_000, 200));
    // With the tunnel's headers these are longer than the path takes.
    let large = scene.send(&Generator::new(5_000, 300).payload_bytes(1472));
    mirror.wait_for_matched(small + large);
    let mirrored = mirror.stop();
    assert_eq!(mirrored.sent, small + large, "{mirrored}");
    for (capture, file) in captures {
        capture.wait_for_matched(small + large);
        capture.signal(Signal::INT);
        let (ledger, said) = capture.finish(0);
        assert!(said.contains(", filter in user space, out of every tunnel"), "{said}");
        assert_eq!((ledger.matched, ledger.drops.total()), (small + large, 0), "{ledger}");
        let decap = ledger.decap.expect("it was asked for");
        assert_eq!((decap.decapsulated, decap.fragments.whole), (small + large, large), "{decap}");
        assert_eq!((decap.fragments.joined, decap.fragments.given_up()), (2 * large, 0), "{decap}");
        check(&file, small, large);
    }
}

/// Each run of numbers is there once, and every packet out of the tunnel is whole.
fn check(file: &std::path::Path, small: u64, large: u64) {
    let numbers = numbers_in(file);
    let (first, last) = numbers.split_at(small as usize);
    for (numbers, sent) in [(first, small), (last, large)] {
        assert_eq!(missing(numbers, sent), [0; 0]);
        assert_eq!(duplicates(numbers), [0; 0]);
    }
    let bytes = fs::read(file).expect("it was written");
    let mut reader = Reader::new(&bytes[..]).expect("it is a capture");
    let mut lengths = Vec::new();
    while let Some(record) = reader.next().expect("whole blocks") {
        assert_eq!(record.origlen as usize, record.data.len());
        lengths.push(record.origlen);
    }
    assert_eq!(lengths.iter().filter(|&&len| len == 1514).count() as u64, large);
    let names = reader.interfaces().iter().filter_map(|interface| interface.name.as_deref());
    assert_eq!(names.collect::<Vec<_>>(), ["vxlan-71-10.71.1.1"]);
    assert_is_whole(file);
}
