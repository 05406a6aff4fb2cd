//! `tapline check`: what a configuration would do, told without doing it.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

use io::netns::Netns;
use rig::{Scratch, root_or_skip};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// What the program says in a namespace with two veth pairs: exit code, standard output and error.
struct Said {
    code: i32,
    out: String,
    err: String,
}

fn namespace() -> Netns {
    let netns = Netns::new().unwrap();
    netns.ip("link add eth1 mtu 1500 type veth peer name eth2").unwrap();
    netns.ip("link add eth3 mtu 1400 type veth peer name eth4").unwrap();
    for name in ["eth1", "eth2", "lo"] {
        netns.ip(&format!("link set {name} up")).unwrap();
    }
    netns
}

fn check(netns: &Netns, folder: &Path, words: &[&str]) -> Said {
    let mut command = netns.command(env!("CARGO_BIN_EXE_tapline"));
    let output = command.current_dir(folder).arg("check").args(words).output().unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

const BROKER: &str = r#"
[[source]]
name = "left"
interface = "eth1"
vlan = 100
[[stage]]
name = "once"
type = "dedup"
ignore = ["ttl"]
[[target]]
name = "ids"
to = "nic:eth3"
expression = "tcp"
queue = "1000 packets"
[[map]]
name = "web"
from = "left"
to = "ids"
expression = "port 80"
stages = ["once"]
"#;

#[test]
fn ways_queues_and_nics_are_told() {
    if !root_or_skip() {
        return;
    }
    let (netns, scratch) = (namespace(), Scratch::new("check-ways"));
    fs::write(scratch.path("b.toml"), BROKER).unwrap();
    let said = check(&netns, scratch.folder(), &["-c", "b.toml"]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    for part in [
        "b.toml: broker, 1 source, 1 map, 1 target\n",
        "interface up, MTU 1500",
        "vlan 100: pushes a tag of VLAN 100",
        "once: drops packets that came within 10 ms before, whatever their TTL",
        "nic:eth3 (down, MTU 1400)",
        "1000 packets for each endpoint; when it is full, the oldest are dropped",
        "source left → vlan 100 → map web (port 80) → once → target ids (tcp) → nic:eth3\n",
        "warning: eth3 is down",
        "frames of up to 1518 bytes, of which eth3 takes 1414",
    ] {
        assert!(said.out.contains(part), "{part} is not in\n{}", said.out);
    }
    let said = check(&netns, scratch.folder(), &["-c", "b.toml", "--format", "json"]);
    let json: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&json["kind"], json["ways"][0].as_array().unwrap().len()), (&"broker".into(), 6));
    assert_eq!(json["warnings"].as_array().unwrap().len(), 2);
    assert_eq!(json["mistakes"].as_array().unwrap().len(), 0);
}

#[test]
fn what_the_host_lacks_is_told_with_its_line() {
    if !root_or_skip() {
        return;
    }
    let (netns, scratch) = (namespace(), Scratch::new("check-lacks"));
    let text = BROKER.replace("nic:eth3", "nic:eth9").replace("\"eth1\"", "\"eth7\"");
    fs::write(scratch.path("b.toml"), text).unwrap();
    let said = check(&netns, scratch.folder(), &["-c", "b.toml"]);
    assert_eq!((said.code, said.err.as_str()), (1, ""), "{}", said.out);
    for part in ["error: b.toml:4:13: source left: ", "eth7", "error: b.toml:12:6: target ids: "] {
        assert!(said.out.contains(part), "{part} is not in\n{}", said.out);
    }
    let said = check(&netns, scratch.folder(), &["-c", "b.toml", "--format", "json"]);
    let json: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(
        (&json["mistakes"][0]["line"], &json["mistakes"][1]["column"]),
        (&4.into(), &6.into())
    );
    // So does the broker itself.
    let mut broker = netns.command(env!("CARGO_BIN_EXE_tapline"));
    let output = broker.current_dir(scratch.folder()).args(["broker", "-c", "b.toml"]).output();
    let output = output.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(1) && said.contains("b.toml:4:13: source left: "),
        "{said}"
    );
    let said = check(&netns, scratch.folder(), &["-c", "absent.toml"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("absent.toml: cannot be read"), "{}", said.err);
}

#[test]
fn mistakes_are_told_with_their_line() {
    if !root_or_skip() {
        return;
    }
    let (netns, scratch) = (namespace(), Scratch::new("check-mistakes"));
    for (from, to, part) in [
        ("vlan = 100", "vlan = 5000", "b.toml:5:8: vlan 5000 is no VLAN"),
        ("queue =", "quue =", "did you mean `queue`?"),
        ("nic:eth3", "nic:eth2", "target ids → nic:eth2 → eth1 → source left"),
        ("nic:eth3", "nic:eth1", "source left → map web → target ids → nic:eth1 → source left"),
        ("\"port 80\"", "\"prot 80\"", "b.toml:19:14: map web: "),
        ("[[source]]", "[[sauce]]", "did you mean `source`?"),
    ] {
        fs::write(scratch.path("b.toml"), BROKER.replace(from, to)).unwrap();
        let said = check(&netns, scratch.folder(), &["-c", "b.toml"]);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{to}: {}", said.err);
        assert!(said.err.contains(part), "{part} is not in\n{}", said.err);
    }
    fs::write(scratch.path("b.toml"), "").unwrap();
    let said = check(&netns, scratch.folder(), &["-c", "b.toml"]);
    assert!(said.code == 2 && said.err.contains("begin with [[tap]]"), "{}", said.err);
}

#[test]
fn a_broker_without_a_file_and_a_file_of_taps_are_told_too() {
    if !root_or_skip() {
        return;
    }
    let (netns, scratch) = (namespace(), Scratch::new("check-short"));
    let words = ["--in", "nic:eth1,vlan=7", "--in", "nic:eth2,name=b", "--out", "null:", "tcp"];
    let said = check(&netns, scratch.folder(), &words);
    assert_eq!(said.code, 0, "{}", said.err);
    let way = "source b → map b (tcp) → target null: → null:\n";
    assert!(said.out.starts_with("the command line: broker, 2 sources, 2 maps, 1 target\n"));
    assert!(said.out.contains(way), "{}", said.out);
    let words = ["--in", "nic:eth1", "--out", "nic:eth2"];
    let said = check(&netns, scratch.folder(), &words);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("nic:eth2 → eth1 → source eth1"), "{}", said.err);
    let taps = "[[tap]]\ninterface = \"eth1\"\nto = [\"vxlan://127.0.0.1?vni=1,vxlan://127.0.0.1?vni=2\"]\n\
                [[tap]]\ninterface = \"eth9\"\nto = [\"pcap:none/x.pcap\"]\n";
    fs::write(scratch.path("t.toml"), taps).unwrap();
    let said = check(&netns, scratch.folder(), &["-c", "t.toml"]);
    assert_eq!(said.code, 1, "{}", said.err);
    for part in [
        "t.toml: mirror, 2 taps\n",
        "tap eth1 → one of vxlan://127.0.0.1:4789?vni=1, vxlan://127.0.0.1:4789?vni=2\n",
        "error: tap eth9: ",
        "there is no folder none; make it first",
    ] {
        assert!(said.out.contains(part), "{part} is not in\n{}", said.out);
    }
}

#[test]
fn files_of_l2tp_tunnels_are_told_too() {
    if !root_or_skip() {
        return;
    }
    let (netns, scratch) = (namespace(), Scratch::new("check-l2tp"));
    netns.ip("addr add 10.10.10.11/24 dev eth1").unwrap();
    let text =
        "# to the sink\n10.10.10.10 10.10.10.11 eth2 i80,o443\n10.10.10.9 10.10.10.11 eth9 all 7\n";
    fs::write(scratch.path("t.conf"), text).unwrap();
    let said = check(&netns, scratch.folder(), &["-c", "t.conf"]);
    assert_eq!(said.code, 1, "{}{}", said.out, said.err);
    for part in [
        "t.conf: l2tp transmit, 2 tunnels\n",
        "interface eth2 → i80,o443 → l2tp://10.10.10.10?id=10.10.10.11\n",
        "error: t.conf:3: ",
    ] {
        assert!(said.out.contains(part), "{part} is not in\n{}", said.out);
    }
    fs::write(scratch.path("r.conf"), "10.10.10.11 10.10.10.10 - 5\n10.9.9.9 10.10.10.8 – -\n")
        .unwrap();
    let said = check(&netns, scratch.folder(), &["-c", "r.conf", "--format", "json"]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    let json: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(json["kind"], "l2tp receive");
    assert_eq!(json["ways"][0][0], "l2tp://10.10.10.11?id=0.0.0.5");
    assert!(json["warnings"][0].as_str().unwrap().starts_with("r.conf:2: 10.9.9.9 is no address"));
    fs::write(scratch.path("r.conf"), "10.10.10.11 10.10.10.10 - 0\n").unwrap();
    let said = check(&netns, scratch.folder(), &["-c", "r.conf"]);
    assert!(said.code == 2 && said.err.contains("r.conf:1:"), "{}", said.err);
}
