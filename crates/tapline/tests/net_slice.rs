//! A slice keeps the original length all the way to the file, so that analysers miss nothing.

mod over_links;

use over_links::*;
use rig::{
    Frame, assert_same_packets, exchange, frames_in, root_or_skip, rows, tool_or_skip,
    wait_until_still,
};
use std::net::IpAddr;

const SLICE_BYTES: usize = 200;
const BYTES_EACH_WAY: usize = 1 << 20;

#[test]
fn sliced_tcp_shows_no_lost_segment_and_every_frame_s_own_length() {
    if !root_or_skip() || !tool_or_skip("tshark") {
        return;
    }
    let scene = Scene::new("slice");
    let (client, tapped) = (scene.host("client"), scene.host("tapped"));
    for address in [IpAddr::from(tapped.v4("client")), tapped.v6("client").into()] {
        let (whole, sliced) = (scene.path("whole.pcapng"), scene.path("sliced.pcapng"));
        let words = ["receive", "--listen", "vxlan://0.0.0.0", "-w", text(&sliced)];
        let receive = scene.start("sink", &words);
        let words = ["mirror", "-i", "client", "-s", "200", "--to", "vxlan://10.71.1.2?vni=7"];
        let mirror = scene.start("tapped", &[&words[..], &["tcp port 80"]].concat());
        let words = ["capture", "-U", "-i", "client", "-w", text(&whole), "tcp port 80"];
        let capture = scene.start("tapped", &words);

        exchange(&client.netns, &tapped.netns, (address, 80).into(), BYTES_EACH_WAY);

        wait_until_still(&whole);
        capture.stop();
        let mirrored = mirror.stop();
        assert_eq!(mirrored.drops.total(), 0, "{mirrored}");
        receive.wait_for_received(mirrored.sent);
        receive.stop();

        check(&frames_in(&whole), &frames_in(&sliced));
        let lost = rows(&sliced, &["-Y", "tcp.analysis.lost_segment"], &["frame.number"]);
        assert_eq!(lost, [[""; 0]; 0], "tshark misses segments");
        let lengths = rows(&sliced, &[], &["frame.len", "frame.cap_len"]);
        let lengths = lengths.iter().map(|row| [&row[0], &row[1]].map(|n| n.parse().unwrap()));
        let lengths: Vec<[usize; 2]> = lengths.collect();
        assert!(lengths.iter().all(|[len, cap_len]| *cap_len == SLICE_BYTES.min(*len)));
        assert!(lengths.iter().filter(|row| **row == [1514, SLICE_BYTES]).count() > 1000);
    }
}

/// The sliced packets are the beginnings of the whole ones, with their lengths, each direction's in
/// order.
fn check(whole: &[Frame], sliced: &[Frame]) {
    assert!(whole.iter().all(|frame| frame.origlen as usize == frame.bytes.len()));
    let slice = |frame: &Frame| {
        let bytes = frame.bytes.iter().take(SLICE_BYTES).copied().collect();
        Frame { bytes, ..frame.clone() }
    };
    assert_same_packets(&whole.iter().map(slice).collect::<Vec<_>>(), sliced);
}
