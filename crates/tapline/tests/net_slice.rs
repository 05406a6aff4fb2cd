//! A slice keeps the original length all the way to the file, so that analysers miss nothing.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

use rig::{
    Frame, Host, Running, Scratch, Topology, assert_same_packets, exchange, frames_in,
    root_or_skip, rows, stats, tool_or_skip, wait_until, wait_until_still,
};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
const SLICE_BYTES: usize = 200;
const BYTES_EACH_WAY: usize = 1 << 20;

#[test]
fn sliced_tcp_shows_no_lost_segment_and_every_frame_s_own_length() {
    if !root_or_skip("sliced_tcp_shows_no_lost_segment_and_every_frame_s_own_length")
        || !tool_or_skip("tshark")
    {
        return;
    }
    let net = Topology::line(["client", "tapped", "sink"]).build();
    let (client, tapped, sink) = (net.host("client"), net.host("tapped"), net.host("sink"));
    let scratch = Scratch::new("slice");
    for address in [IpAddr::from(tapped.v4("client")), tapped.v6("client").into()] {
        let (whole, sliced) = (scratch.path("whole.pcapng"), scratch.path("sliced.pcapng"));
        let (ledger, of_receive) = (scratch.path("mirror.json"), scratch.path("receive.json"));
        let receive = tapline(
            sink,
            &["receive", "--listen", "vxlan://0.0.0.0", "-w", text(&sliced)],
            &of_receive,
        );
        let mirror = ["mirror", "-i", "client", "-s", "200", "--to", "vxlan://10.71.1.2?vni=7"];
        let mirror = tapline(tapped, &[&mirror[..], &["tcp port 80"]].concat(), &ledger);
        let capture = ["capture", "-U", "-i", "client", "-w", text(&whole), "tcp port 80"];
        let capture = tapline(tapped, &capture, &scratch.path("capture.json"));

        exchange(&client.netns, &tapped.netns, (address, 80).into(), BYTES_EACH_WAY);

        wait_until_still(&whole);
        for running in [capture, mirror] {
            assert!(running.stop(SOON).status.success());
        }
        let sent = stats(&ledger);
        assert_eq!((sent.unaccounted, sent.drops.total()), (0, 0), "{sent}");
        wait_until("all that was sent is received", SOON, || {
            receive.ledger(&of_receive, SOON).received >= sent.sent
        });
        assert!(receive.stop(SOON).status.success());

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

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn tapline(host: &Host, words: &[&str], ledger: &Path) -> Running {
    let mut command = host.netns.command(env!("CARGO_BIN_EXE_tapline"));
    command.arg(words[0]).arg("--stats-json").arg(ledger).args(&words[1..]);
    let running = Running::start(&mut command);
    running.wait_for("listening on", SOON);
    running
}
