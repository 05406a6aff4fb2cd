//! `broker -c FILE` over capture files, with stages that choose among packets.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod over_files;

use api::Stats;
use over_files::frame::*;
use over_files::*;
use rig::Scratch;
use std::fs;

/// A packet of RTP: the payload apart, all of them are alike.
fn rtp(payload: u32) -> Vec<u8> {
    let header = [0x80, 0, 0, 1, 0, 0, 0, 160, 0xde, 0xad, 0xbe, 0xef];
    let rtp = [&header[..], &payload.to_be_bytes().repeat(40)].concat();
    ethernet(0x0800, &ipv4(17, &udp(4000, 4002, &rtp)))
}

/// A packet of another flow, numbered in IP's identification.
fn numbered(number: u16) -> Vec<u8> {
    let mut frame = ethernet(0x0800, &ipv4(17, &udp(5000 + number % 100, 53, b"question")));
    frame[18..20].copy_from_slice(&number.to_be_bytes());
    frame
}

/// The same packet behind a router: other MACs, one hop less with its checksum, a tag.
fn behind_a_router(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[..12].copy_from_slice(&[4; 12]);
    frame[22] -= 1;
    frame[24] ^= 1;
    tagged(&frame, &[100])
}

/// Runs a broker on capture files, by name, to its end; its ledger, and what came out.
fn broker(captures: &[(&str, &[Vec<u8>])], config: &str) -> (Stats, Vec<Vec<u8>>) {
    let scratch = Scratch::new("broker-choose");
    for (name, frames) in captures {
        fs::write(scratch.path(name), pcap(1, *frames)).unwrap();
    }
    let (file, stats) = (scratch.path("broker.toml"), scratch.path("stats.json"));
    fs::write(&file, config).unwrap();
    let words = ["broker".as_ref(), "-c".as_ref(), file.as_os_str()];
    // What stages are asked to drop is no loss.
    let report = ["--fail-on-drop".as_ref(), "--stats-json".as_ref(), stats.as_os_str()];
    let output = tapline(words.into_iter().chain(report));
    assert_done(&output);
    let ledger = rig::stats(&stats);
    assert_eq!(ledger.unaccounted, 0, "{}", stderr(&output));
    let frames = rig::frames_in(scratch.path("out.pcapng"));
    (ledger, frames.into_iter().map(|frame| frame.bytes).collect())
}

/// A broker of one file, one stage and one target.
fn with_stage(frames: &[Vec<u8>], stage: &str) -> (Stats, Vec<Vec<u8>>) {
    let config = format!(
        "[[source]]\nname = \"in\"\nread = \"in.pcap\"\n[[stage]]\nname = \"it\"\n{stage}\n\
         [[target]]\nname = \"out\"\nto = [\"pcap:out.pcapng\"]\n\
         [[map]]\nname = \"all\"\nfrom = [\"in\"]\nto = [\"out\"]\nstages = [\"it\"]\n",
    );
    broker(&[("in.pcap", frames)], &config)
}

#[test]
fn of_1000_pairs_and_500_rtp_packets_with_equal_headers_exactly_1000_are_dropped() {
    let (mut frames, mut wanted) = (Vec::new(), Vec::new());
    for number in 0..1000 {
        frames.push(numbered(number));
        wanted.push(numbered(number));
        if number % 2 == 0 {
            frames.push(rtp(number.into()));
            wanted.push(rtp(number.into()));
        }
        frames.push(numbered(number));
    }
    let dedup =
        "type = \"dedup\"\nwindow = \"10ms\"\nignore = [\"ttl\", \"mac\", \"vlan\", \"checksum\"]";
    let (ledger, out) = with_stage(&frames, dedup);
    assert_eq!(out, wanted);
    assert_eq!(ledger.taps[0].drops.get(api::DropReason::Duplicate), 1000);
    assert_eq!(ledger.drops.total(), 1000);
    let stage = &ledger.stages[0];
    assert_eq!(
        (stage.received, stage.passed, stage.touched, stage.forgotten),
        (2500, 1500, 1000, 0)
    );

    let (ledger, out) = with_stage(&frames, "type = \"dedup\"\naction = \"count\"");
    assert_eq!(out, frames);
    assert_eq!((ledger.stages[0].touched, ledger.drops.total()), (1000, 0));
}

#[test]
fn a_path_that_is_tapped_at_both_ends_gives_each_packet_once() {
    let inside: Vec<_> = (0..2000).map(numbered).collect();
    let outside: Vec<_> = inside.iter().map(|frame| behind_a_router(frame)).collect();
    let config = |ignore: &str| {
        format!(
            "[[source]]\nname = \"inside\"\nread = \"inside.pcap\"\n\
             [[source]]\nname = \"outside\"\nread = \"outside.pcap\"\n\
             [[stage]]\nname = \"once\"\ntype = \"dedup\"\nignore = [{ignore}]\n\
             [[target]]\nname = \"out\"\nto = [\"pcap:out.pcapng\"]\n\
             [[map]]\nname = \"all\"\nfrom = [\"inside\", \"outside\"]\nto = [\"out\"]\nstages = [\"once\"]\n"
        )
    };
    let captures = [("inside.pcap", &inside[..]), ("outside.pcap", &outside[..])];
    let (ledger, out) = broker(&captures, &config(r#""ttl", "mac", "vlan""#));
    assert_eq!(ledger.stages[0].touched, 2000);
    let number = |frame: &Vec<u8>| {
        let at = if frame[12..14] == [0x81, 0] { 22 } else { 18 };
        u16::from_be_bytes([frame[at], frame[at + 1]])
    };
    let mut numbers: Vec<u16> = out.iter().map(number).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..2000), "each of them once");
    for less in [r#""mac", "vlan""#, r#""ttl", "vlan""#, r#""ttl", "mac""#] {
        assert_eq!(broker(&captures, &config(less)).1.len(), 4000, "{less}");
    }
}

#[test]
fn samples_limits_and_first_packets_drop_under_their_own_reasons() {
    let frames: Vec<_> = (0..1000).map(numbered).collect();
    for (stage, passed, reason) in [
        ("type = \"sample\"\nn = 10", 100, "sampled"),
        ("type = \"first\"\npackets = 3", 300, "flow_limit"),
        // 50 bytes each: the second begins within the first 51.
        ("type = \"first\"\nbytes = 51", 200, "flow_limit"),
        // As fast as possible: far less than a second's worth comes through, a burst at least.
        ("type = \"rate_limit\"\npps = 1\nburst = \"20s\"", 20, "rate_limited"),
    ] {
        let (ledger, out) = with_stage(&frames, stage);
        let dropped: Vec<_> = ledger.drops.iter().map(|(reason, n)| (reason.name(), n)).collect();
        assert_eq!(dropped, [(reason, 1000 - out.len() as u64)], "{stage}");
        let slack = if reason == "rate_limited" { 15 } else { 0 };
        assert!((passed..=passed + slack).contains(&out.len()), "{stage}: {}", out.len());
    }
    // All packets of some of the 100 flows.
    let (_, out) = with_stage(&frames, "type = \"sample\"\nn = 4\nby = \"flow\"");
    let mut ports: Vec<_> = out.iter().map(|frame| frame[34..36].to_vec()).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(out.len(), ports.len() * 10);
    assert!((10..45).contains(&ports.len()), "{} of 100 flows at 1:4", ports.len());
}

#[test]
fn a_broker_that_cannot_begin_leaves_the_files_of_its_targets_as_they_are() {
    let scratch = Scratch::new("broker-begin");
    fs::write(scratch.path("in.pcap"), pcap(1, &[rtp(1)])).unwrap();
    let kept = scratch.path("kept.pcapng");
    let config = |source: &str, expression: &str| {
        format!(
            "[[source]]\nname = \"a\"\nread = \"in.pcap\"\n[[source]]\nname = \"b\"\n\
             read = \"{source}\"\n[[target]]\nname = \"t\"\nto = \"pcap:{}\"\n[[map]]\n\
             from = [\"a\", \"b\"]\nto = [\"t\"]\nexpression = \"{expression}\"\n",
            kept.display()
        )
    };
    fs::write(scratch.path("junk.pcap"), b"no capture").unwrap();
    let file = scratch.path("broker.toml");
    for (source, expression) in [("absent.pcap", "udp"), ("junk.pcap", "udp"), ("in.pcap", "udpp")]
    {
        fs::write(&kept, b"from before").unwrap();
        fs::write(&file, config(source, expression)).unwrap();
        let output = tapline(["broker".as_ref(), "-c".as_ref(), file.as_os_str()]);
        assert!(!output.status.success());
        assert_eq!(fs::read(&kept).unwrap(), b"from before", "{}", stderr(&output));
    }
}
