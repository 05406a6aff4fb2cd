//! What a broker is for, each once over real links: many sources into one tool with a tag for each, a
//! NIC into tunnels of every kind, and a tool that comes later.

mod over_links;

use over_links::*;
use rig::{
    Generator, Tcpdump, capture_files, duplicates, missing, numbers_in, reordered, root_or_skip,
    rows, tool_or_skip,
};
use rustix::process::Signal;
use std::net::SocketAddr;

/// Gives the tapped host a link of its own, from `out` to `in`.
fn link(scene: &Scene) {
    for words in ["link add out type veth peer name in", "link set out up", "link set in up"] {
        scene.host("tapped").ip(words);
    }
}

#[test]
fn two_sources_meet_in_one_nic_each_with_its_tag() {
    if !root_or_skip() || !tool_or_skip("tcpdump") || !tool_or_skip("tshark") {
        return;
    }
    let scene = Scene::new("broker-aggregate");
    link(&scene);
    let words = ["broker", "--in", "nic:client,vlan=100,direction=in"];
    let more = ["--in", "nic:sink,vlan=200,direction=in", "--out", "nic:out", NUMBERED];
    let broker = scene.start("tapped", &[&words[..], &more].concat());
    let seen = scene.path("seen.pcap");
    let tcpdump = Tcpdump::start(scene.host("tapped"), "in", &seen, "vlan and udp port 9");
    let from_client = scene.send(&Generator::new(5000, 2000));
    let to: SocketAddr = (scene.host("tapped").v4("sink"), PORT).into();
    let from_sink = Generator::new(5000, 1500).run_in(&scene.host("sink").netns, to).accepted;
    broker.wait_for_matched(from_client + from_sink);
    tcpdump.stop();
    let ledger = broker.stop();
    assert_eq!(ledger.targets[0].sent, from_client + from_sink, "{ledger}");
    let fields = rows(&seen, &[], &["vlan.id", "ip.src", "vlan.etype"]);
    let of = |vlan: &str, host: &str| {
        let source = scene.host(host).v4("tapped").to_string();
        let is_one = |row: &&Vec<String>| row[..2] == [vlan, &source];
        fields.iter().filter(is_one).count() as u64
    };
    assert_eq!((of("100", "client"), of("200", "sink")), (from_client, from_sink));
    assert_eq!(fields.len() as u64, from_client + from_sink);
}

#[test]
fn a_nic_goes_into_tunnels_of_every_kind() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::new("broker-tunnels-out");
    let hosts = ["10.71.1.2".to_owned(), format!("[{}]", scene.host("sink").v6("tapped"))];
    let kinds = [
        ("vxlan", "vni=7"),
        ("geneve", "vni=7"),
        ("gretap", "key=0.0.2.0"),
        ("erspan", "session=5"),
        ("l2tp", "id=10.10.10.11"),
        ("l2tp+udp", "id=77"),
    ];
    let each = kinds
        .iter()
        .flat_map(|(kind, id)| hosts.each_ref().map(|host| format!("{kind}://{host}?{id}")));
    let tunnels: Vec<String> = each.collect();
    let archive = scene.path("archive");
    let mut receive = vec!["receive".into(), "--archive".into(), text(&archive).into()];
    let mut broker: Vec<String> =
        ["broker", "--in", "nic:client,direction=in"].map(Into::into).into();
    for tunnel in &tunnels {
        receive.extend(["--listen".into(), tunnel.clone()]);
        broker.extend(["--out".into(), tunnel.clone()]);
    }
    broker.push(NUMBERED.into());
    fn words(of: &[String]) -> Vec<&str> {
        of.iter().map(String::as_str).collect()
    }
    let receive = scene.start("sink", &words(&receive));
    let broker = scene.start("tapped", &words(&broker));
    let sent = scene.send(&Generator::new(2000, 1000));
    broker.wait_for_matched(sent);
    let ledger = broker.stop();
    assert_eq!(ledger.sent, sent * tunnels.len() as u64, "{ledger}");
    receive.wait_for_received(ledger.sent);
    receive.stop();
    let mut series = 0;
    for folder in folders(&archive) {
        let files = capture_files(&folder);
        let numbers: Vec<u64> = files.iter().flat_map(numbers_in).collect();
        assert_eq!(missing(&numbers, sent), [0; 0], "{folder:?}");
        assert_eq!(duplicates(&numbers), [0; 0], "{folder:?}");
        series += 1;
    }
    assert_eq!(series, tunnels.len());
}

/// The folders of the series in an archive.
fn folders(archive: &std::path::Path) -> Vec<std::path::PathBuf> {
    let is_series = |path: &std::path::Path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("source="))
    };
    let (mut found, mut rest) = (Vec::new(), vec![archive.to_path_buf()]);
    while let Some(folder) = rest.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
            let path = entry.path();
            match path.is_dir() {
                true if is_series(&path) => found.push(path),
                true => rest.push(path),
                false => {}
            }
        }
    }
    found
}

#[test]
fn a_tool_that_comes_later_begins_now_or_with_what_is_kept() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::new("broker-later");
    let config = scene.path("broker.toml");
    let begin = "
        [[source]]
        interface = \"client\"
        direction = \"in\"
        [[map]]
        name = \"all\"
        from = \"client\"
        expression = \"udp port 9\"
        history = \"64MB\"
    ";
    let target = |name: &str, from: &str| {
        let file = scene.path(&format!("{name}.pcapng"));
        format!("[[target]]\nname = {name:?}\nto = \"pcap:{}\"\nfrom = {from:?}\n", text(&file))
    };
    let first = format!("{begin}to = \"first\"\n{}", target("first", "now"));
    std::fs::write(&config, first).expect("the folder is there");
    let broker = scene.start("tapped", &["broker", "-c", text(&config)]);
    let before = scene.send(&Generator::new(5000, 1000));
    broker.wait_for_matched(before);
    let all = ["first", "now", "oldest"].map(|name| target(name, &name.replace("first", "now")));
    let later = format!("{begin}to = [\"first\", \"now\", \"oldest\"]\n{}", all.concat());
    std::fs::write(&config, later).expect("the folder is there");
    broker.signal(Signal::HUP);
    broker.wait_for("reloaded");
    let after = scene.send(&Generator::new(5000, 500));
    broker.wait_for_matched(before + after);
    let ledger = broker.stop();
    let numbers = |name: &str| numbers_in(scene.path(&format!("{name}.pcapng")));
    let (second, both) = ((0..after).collect::<Vec<_>>(), (0..before).chain(0..after));
    assert_eq!(numbers("now"), second, "{ledger}");
    let both: Vec<u64> = both.collect();
    assert_eq!(numbers("oldest"), both, "{ledger}");
    assert_eq!(numbers("first"), both, "{ledger}");
    assert_eq!(reordered(&numbers("now")), [0; 0]);
}
