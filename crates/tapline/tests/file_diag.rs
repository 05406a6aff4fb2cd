//! `diag traffic -r` and `diag monitor -r`: the same answers out of a capture file.

mod over_files;

use over_files::frame::{ethernet, ipv4, ipv4_between, ipv6, tagged, tcp, udp};
use over_files::{assert_done, pcap, stderr, stdout, tapline};
use rig::Scratch;
use std::path::Path;

const ETHERNET: u32 = 1;
const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;

fn diag(file: &Path, words: &[&str]) -> std::process::Output {
    let file = file.to_str().expect("paths of tests are ASCII");
    tapline([&["diag"][..], words, &["-r", file]].concat())
}

#[test]
fn servers_are_found_by_the_segments_that_are_there() {
    let scratch = Scratch::new("diag-traffic-file");
    let file = scratch.path("syns.pcap");
    let back = |payload: &[u8]| ipv4_between([10, 0, 0, 2], [10, 0, 0, 1], 6, 0, payload);
    let mut frames = vec![
        ethernet(0x0800, &ipv4(6, &tcp(1024, 80, SYN, &[]))),
        ethernet(0x0800, &ipv4(6, &tcp(1024, 80, SYN, &[]))),
        ethernet(0x0800, &ipv4(6, &tcp(1024, 80, 0x10, b"data"))),
        // Of this connection the answer alone is there.
        ethernet(0x0800, &back(&tcp(80, 1025, SYN_ACK, &[]))),
        ethernet(0x86dd, &ipv6(6, &tcp(1026, 443, SYN, &[]))),
        ethernet(0x0800, &ipv4(17, &udp(1, 2, &[0; 20]))),
    ];
    // Its acknowledgement is that of sequence number 1, as in the SYN of the same ports.
    frames.push(tagged(&ethernet(0x0800, &back(&tcp(80, 1024, SYN_ACK, &[]))), &[7]));
    std::fs::write(&file, pcap(ETHERNET, &frames)).expect("the folder is there");

    let output = diag(&file, &["traffic"]);
    assert_done(&output);
    let head = format!(
        "[info] Detecting server IPs and ports in file '{}', max packets: 1000000\n",
        file.display()
    );
    let list = "[info] Server-IP Port Connections\n[info] 10.0.0.2 80 2\n[info] fd00::2 443 1\n";
    assert_eq!(stdout(&output), head + list);
    assert!(stderr(&output).contains("seen 7, filtered 2, matched 5"), "{}", stderr(&output));

    let output = diag(&file, &["traffic", "--packets", "1", "--format", "json"]);
    assert_done(&output);
    assert_eq!(stdout(&output), "{\"ip\":\"10.0.0.2\",\"port\":80,\"connections\":1}\n");
}

#[test]
fn tunnels_are_found_whichever_way_a_file_says_that_they_went() {
    let scratch = Scratch::new("diag-monitor-file");
    let file = scratch.path("tunnels.pcap");
    let inner = ethernet(0x0800, &ipv4(17, &udp(1, 2, &[0; 20])));
    let vxlan = [&[8, 0, 0, 0, 0, 0, 71, 0][..], &inner].concat();
    let l2tp = [&[192, 168, 1, 11][..], &[0; 4], &inner].concat();
    let frames = [
        ethernet(0x0800, &ipv4(17, &udp(50_000, 4789, &vxlan))),
        tagged(&ethernet(0x86dd, &ipv6(17, &udp(50_000, 4789, &vxlan))), &[5]),
        ethernet(0x0800, &ipv4(115, &l2tp)),
        ethernet(0x0800, &ipv4(115, &l2tp)),
        // The IP in IP that a tunnel is in: its ends are those next to it.
        ethernet(0x86dd, &ipv6(4, &ipv4(47, &[&[0, 0, 0x65, 0x58][..], &inner].concat()))),
        inner.clone(),
    ];
    std::fs::write(&file, pcap(ETHERNET, &frames)).expect("the folder is there");
    let output = diag(&file, &["monitor"]);
    assert_done(&output);
    let head = format!("[info] Detecting tunnels in file '{}'\n", file.display());
    let list = "[info] Type Dst-IP Src-IP Tunnel-ID NAT-Status\n\
                [info] VXLAN 10.0.0.2 10.0.0.1 71 -\n\
                [info] VXLAN fd00::2 fd00::1 71 -\n\
                [info] GRETAP 10.0.0.2 10.0.0.1 - -\n\
                [info] L2TP 10.0.0.2 10.0.0.1 192.168.1.11(3232235787) yes\n\
                [info] Detected tunnels: 4\n";
    assert_eq!(stdout(&output), head + list);

    let output = diag(&file, &["monitor", "--format", "json", "-q"]);
    assert_done(&output);
    let lines: Vec<serde_json::Value> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object a line"))
        .collect();
    let last = lines.last().expect("there are 4");
    // Two packets of 62 bytes; from the first tunnel's packet to the last one's it is 4 µs.
    assert_eq!((&last["packets"], &last["bytes"]), (&2.into(), &124.into()));
    assert_eq!(last["packets_per_second"], 500_000.0);
    assert_eq!((lines.len(), stderr(&output)), (4, ""));
}

#[test]
fn a_file_that_is_none_is_an_error() {
    let scratch = Scratch::new("diag-no-file");
    for command in ["traffic", "monitor"] {
        let output = diag(&scratch.path("absent.pcap"), &[command]);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains("absent.pcap"), "{}", stderr(&output));
    }
}
