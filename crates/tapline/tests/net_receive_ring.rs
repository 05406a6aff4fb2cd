//! `receive` from a ring: every tunnel, outer fragments, and when there are sockets instead.

mod over_links;

use over_links::*;
use rig::{Generator, Running, frames_in, missing, numbers_in, root_or_skip, tool_or_skip};

const PACKETS: u64 = 200;
/// With the headers of the numbered packet a frame of 1514 bytes: in a tunnel over a link with an MTU of
/// 1500 it comes in fragments.
const PAYLOAD_BYTES: usize = 1472;

/// Mirrors numbered packets into a tunnel to the sink, where `receive` gets them with these words.
/// Returns the ledger of the receiver and how many were sent.
fn carry(scene: &Scene, to: &str, receive: &[&str]) -> (api::Stats, u64) {
    let receive = scene.start("sink", &[&["receive"], receive].concat());
    let words = ["mirror", "-i", "client", "--to", to, "--oversize", "fragment", NUMBERED];
    let mirror = scene.start("tapped", &words);
    let sent = scene.send(&Generator::new(5_000, PACKETS).payload_bytes(PAYLOAD_BYTES));
    let mirrored = mirror.stop();
    assert_eq!((mirrored.sent, mirrored.drops.total()), (sent, 0), "{to}: {mirrored}");
    receive.wait_for_received(sent);
    (receive.stop(), sent)
}

#[test]
fn every_tunnel_comes_out_of_the_ring() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::new("receive-ring");
    let file = scene.path("inner.pcapng");
    for (listen, id) in [
        ("vxlan", "?vni=7"),
        ("geneve", "?vni=7"),
        ("gretap", "?key=7"),
        ("erspan", "?session=7"),
        ("l2tp", "?id=7"),
        ("l2tp+udp", "?id=7"),
        ("gretap+udp", "?key=7"),
    ] {
        for (any, address) in [("0.0.0.0", "10.71.1.2"), ("[::]", "[fd71:0:0:1::2]")] {
            let (to, listen) =
                (format!("{listen}://{address}{id}"), format!("{listen}://{any}{id}"));
            let words = ["--listen", &listen, "--datapath", "ring", "-w", text(&file)];
            let (received, sent) = carry(&scene, &to, &words);
            assert_eq!(
                (received.seen, received.drops.total()),
                (Some(sent), 0),
                "{to}: {received}"
            );
            let numbers = numbers_in(&file);
            assert_eq!((missing(&numbers, sent), numbers.len() as u64), (vec![], sent), "{to}");
            let whole = |frame: &rig::Frame| (frame.bytes.len(), frame.origlen) == (1514, 1514);
            assert!(frames_in(&file).iter().all(whole), "{to}");
        }
    }
}

#[test]
fn several_tunnels_share_a_ring_and_strangers_are_counted() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::new("receive-ring-shared");
    let file = scene.path("inner.pcapng");
    let words = ["--listen", "gretap://0.0.0.0?key=1", "--listen", "vxlan://10.71.1.2?vni=2"];
    let words = [&words[..], &["--listen", "vxlan://10.71.1.2?vni=3", "-w", text(&file)]].concat();
    for (to, is_wanted) in [
        ("gretap://10.71.1.2?key=1", true),
        ("vxlan://10.71.1.2?vni=3", true),
        ("vxlan://10.71.1.2?vni=4", false),
        ("gretap://10.71.1.2?key=2", false),
    ] {
        let (received, sent) = carry(&scene, to, &words);
        let foreign = received.drops.get(api::DropReason::ForeignId);
        let expected = if is_wanted { (sent, 0) } else { (0, sent) };
        assert_eq!((numbers_in(&file).len() as u64, foreign), expected, "{to}: {received}");
        assert_eq!(received.seen, Some(sent), "{to}: {received}");
    }
}

#[test]
fn without_decapsulation_the_tunnel_packets_are_recorded_as_they_came() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::new("receive-ring-outer");
    let file = scene.path("outer.pcapng");
    let words = ["--listen", "vxlan://0.0.0.0", "--decap", "0", "-w", text(&file)];
    let receive = scene.start("sink", &[&["receive"], &words[..]].concat());
    let words = ["mirror", "-i", "client", "--to", "vxlan://10.71.1.2?vni=7", NUMBERED];
    let mirror = scene.start("tapped", &words);
    let sent = scene.send(&Generator::new(5_000, PACKETS));
    mirror.stop();
    receive.wait_for_received(sent);
    assert_eq!(receive.stop().drops.total(), 0);
    let frames = frames_in(&file);
    assert_eq!(frames.len() as u64, sent);
    for frame in frames {
        // IPv4, UDP to port 4789, VXLAN with VNI 7.
        assert_eq!((&frame.bytes[12..15], frame.bytes[23]), (&[8, 0, 0x45][..], 17));
        assert_eq!(frame.bytes[36..38], 4789u16.to_be_bytes());
        assert_eq!(frame.bytes[42..50], [8, 0, 0, 0, 0, 0, 7, 0]);
    }
}

#[test]
fn without_rights_sockets_do_it_and_a_ring_says_what_it_needs() {
    if !root_or_skip() || !tool_or_skip("setpriv") {
        return;
    }
    let scene = Scene::new("receive-no-rights");
    let start = |datapath: &str, rights: &str| {
        let mut command = scene.host("sink").netns.command("setpriv");
        command.args(["--inh-caps=-all", &format!("--bounding-set=-all{rights}")]);
        command.arg(BINARY).args(["receive", "--datapath", datapath, "-w"]);
        command.arg(scene.path("x.pcapng")).args(["--listen", "vxlan://10.71.1.2"]);
        Running::start(&mut command)
    };
    let auto = start("auto", "");
    auto.wait_for("receiving from sockets, not from a ring", SOON);
    auto.wait_for("listening on vxlan://10.71.1.2:4789", SOON);
    assert!(auto.stop(SOON).status.success());
    let ring = start("ring", "").finish(SOON);
    assert_eq!(ring.status.code(), Some(1));
    assert!(ring.stderr.contains("CAP_BPF"), "{}", ring.stderr);
    assert!(!ring.stderr.contains("listening on vxlan"), "{}", ring.stderr);
    // What the unit of the service gives is enough.
    let ring = start("ring", ",+net_raw,+bpf,+net_admin");
    ring.wait_for("listening on vxlan://10.71.1.2:4789", SOON);
    assert!(ring.stop(SOON).status.success());
}

#[test]
fn a_host_with_ipsec_receives_from_sockets() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::new("receive-ipsec");
    let ends = "src 10.71.9.0/24 dst 10.71.1.2";
    let policy = format!("xfrm policy add {ends} dir in tmpl proto esp mode transport");
    if let Err(error) = scene.host("sink").netns.ip(&policy) {
        rig::skip(&format!("this kernel has no IPsec: {error}"));
        return;
    }
    let start = |datapath: &str| {
        let mut command = scene.host("sink").netns.command(BINARY);
        command.args(["receive", "--datapath", datapath, "--listen", "vxlan://10.71.1.2", "-w"]);
        command.arg(scene.path("x.pcapng"));
        Running::start(&mut command)
    };
    let auto = start("auto");
    auto.wait_for("receiving from sockets, not from a ring: this host has IPsec policies", SOON);
    auto.wait_for("listening on vxlan://10.71.1.2:4789", SOON);
    assert!(auto.stop(SOON).status.success());
    let ring = start("ring");
    ring.wait_for("ring of", SOON);
    assert!(ring.stop(SOON).status.success());
}
