//! Every mistake has its place and its mend.

use super::*;

#[test]
fn each_mistake_in_a_stage_has_its_place_and_its_mend() {
    for (line, column, part) in [
        ("type = \"vlan_push\"", 1, "has no `vid`"),
        ("type = \"vlan_push\"\nvid = 4096", 7, "0 to 4094"),
        ("type = \"vlan_push\"\nvid = 4095", 7, "reserved by 802.1Q"),
        ("type = \"vlan_push\"\nvid = -1", 7, "not from 0"),
        ("type = \"vlan_push\"\nvid = 1\npcp = 8", 7, "not from 0 to 7"),
        ("type = \"vlan_push\"\nvid = 1\ntpid = 0x9100", 8, "0x8100"),
        ("type = \"vlan_push\"\nvid = 1\ndei = 1", 7, "true or false"),
        ("type = \"vlan_push\"\nvid = 1\ntags = 1", 1, "has no `tags`"),
        ("type = \"vlan_replace\"", 1, "replaces nothing"),
        ("type = \"vlan_replace\"\npcp = 1\nor_push = true", 1, "add `vid`"),
        ("type = \"vlan_pop\"\ntags = 0", 8, "not from 1"),
        ("type = \"vlan_pop\"\ntags = \"some\"", 8, "write \"all\""),
        ("type = \"slice\"", 1, "has no `bytes`"),
        ("type = \"slice\"\nbytes = 0", 9, "leaves nothing"),
        ("type = \"slice\"\nbytes = 13", 9, "14 or more"),
        ("type = \"slice\"\nbytes = 1\nafter = \"tcp\"", 9, "\"transport\""),
        ("type = \"trim\"\nbytes = 0", 9, "not from 1"),
        ("type = \"strip\"", 1, "strips nothing"),
        ("type = \"strip\"\nlayers = []", 1, "strips nothing"),
        ("type = \"strip\"\nlayers = [\"vxlam\"]", 11, "did you mean `vxlan`?"),
        ("type = \"strip\"\nlayers = [\"gre\", \"gre\"]", 18, "named twice"),
        ("type = \"sample\"\nn = 0", 5, "not from 1"),
        ("type = \"sample\"\nn = 2\nby = \"luck\"", 6, "\"packet\" or \"flow\""),
        ("type = \"rate_limit\"", 1, "add `pps`"),
        ("type = \"rate_limit\"\npps = 0", 7, "lets nothing through"),
        ("type = \"rate_limit\"\nbps = \"10Mb\"", 7, "such as \"10M\""),
        ("type = \"rate_limit\"\nbps = \"+1\"", 7, "such as \"10M\""),
        ("type = \"rate_limit\"\npps = 1\nburst = 5", 9, "in quotes"),
        ("type = \"dedup\"\nwindow = \"10us\"", 10, "with ms, s, m or h"),
        ("type = \"dedup\"\nwindow = \"0ms\"", 10, "longer than zero"),
        ("type = \"dedup\"\nignore = [\"tll\"]", 11, "did you mean `ttl`?"),
        ("type = \"dedup\"\naction = \"keep\"", 10, "\"drop\" or \"count\""),
        ("type = \"mask\"", 1, "has no `offset`"),
        ("type = \"mask\"\noffset = 0\nvalue = 256", 9, "not from 0 to 255"),
        ("type = \"mask\"\noffset = 0\nbytes = 0", 9, "not from 1"),
        ("type = \"anonymize\"", 1, "add `key_file"),
        ("type = \"anonymize\"\nkey = \"abc\"", 1, "digits instead of 64"),
        ("type = \"anonymize\"\nkey = \"a\"\nkey_file = \"b\"", 1, "one key"),
        ("type = \"first\"", 1, "has no bound"),
        ("type = \"first\"\npackets = 0", 11, "not from 1"),
        ("type = \"first\"\nbytes = 0", 9, "lets nothing through"),
        ("type = \"first\"\nbytes = \"1TB\"", 9, "KiB"),
        ("type = \"dedupe\"", 8, "did you mean `dedup`?"),
        ("type = \"magic\"", 8, "there are vlan_push"),
        ("type = 3", 8, "write a string"),
        ("", 1, "add `type"),
    ] {
        // What is missing is told where the stage begins.
        let last = 2 + lines(line);
        let is_whole = ["has no `vid`", "replaces nothing", "has no `bytes`", "has no bound"];
        let is_whole = is_whole.contains(&part)
            || part.starts_with("add `key_file")
            || part.starts_with("add `pps")
            || part.starts_with("add `type")
            || part == "has no `offset`"
            || part == "digits instead of 64"
            || line == "type = \"strip\"";
        let place = if is_whole { (1, 1) } else { (last, column) };
        assert_told(&with_stage(line), Some(place), part);
    }
    let error = parse(&with_stage("type = \"anonymize\"\nkey_file = \"nonexistent\"")).unwrap_err();
    assert_eq!(error.file, "etc/nonexistent");
    let nameless = format!("[[stage]]\ntype = \"trim\"\nbytes = 1\n{SOURCE}{TARGET}{MAP}");
    assert_told(&nameless, Some((1, 1)), "has no name");
}

#[test]
fn each_mistake_in_a_part_has_its_place_and_its_mend() {
    for (line, column, part) in [
        ("interfce = \"x\"", 1, "a source has no `interfce`; did you mean `interface`?"),
        ("read = \"x\"", 1, "leave `interface` or `read` out"),
        ("listen = \"vxlan://0.0.0.0\"", 1, "leave `interface` or `listen` out"),
        ("speed = \"x2\"", 1, "an interface has no `speed`"),
        ("decap = 1", 1, "an interface has no `decap`"),
        ("vlan = 4095", 8, "reserved"),
        ("vlan = 4096", 8, "0 to 4094"),
        ("vlan = \"100\"", 8, "write a number"),
        ("direction = \"up\"", 13, "\"both\", \"in\" or \"out\""),
        ("promiscuous = 1", 15, "true or false"),
        ("buffer_size = \"1kB\"", 15, "64KiB to 4GiB"),
        ("name = \"\"", 1, "leave it out"),
        ("name = \"a\\tb\"", 1, "control characters"),
        ("stages = [\"x\"]", 11, "there is none; begin one with [[stage]]"),
        ("stages = 3", 10, "list of strings"),
        ("stages = [3]", 11, "write strings"),
    ] {
        assert_told(&format!("{SOURCE}{line}\n{TARGET}{MAP}"), Some((3, column)), part);
    }
    for (line, column, part) in [
        ("quue = \"1MB\"", 1, "did you mean `queue`?"),
        ("queue = \"0MB\"", 9, "holds no packet"),
        ("queue = \"0 packets\"", 9, "holds no packet"),
        ("queue = \"64\"", 9, "no unit"),
        ("queue = 64", 9, "\"1000 packets\""),
        ("overflow = \"block\"", 12, "\"drop_oldest\" or \"drop_newest\""),
        ("oversize = \"split\"", 12, "\"fragment\""),
        ("dscp = 64", 8, "0 to 63"),
        ("snapshot_length = 13", 19, "14 or more"),
        ("balance = \"random\"", 11, "\"5-tuple\""),
        ("fail_open = \"yes\"", 13, "true or false"),
        ("fail_open = true", 1, "add `health`"),
        ("health = \"link\"", 10, "cannot be checked"),
        ("health = \"ping\"", 10, "write tcp:PORT"),
        ("from = \"yesterday\"", 8, "\"now\" or \"oldest\""),
        ("from = \"oldest\"", 8, "add `history"),
        ("expression = \"tcp\"\nrules = \"x\"", 1, "a target has one filter"),
    ] {
        let line_number = 3 + lines(line);
        let text = format!("{TARGET}{line}\n{SOURCE}{MAP}");
        assert_told(&text, Some((line_number, column)), part);
    }
    for (line, column, part) in [
        ("form = \"x\"", 1, "did you mean `from`?"),
        ("history = \"1 year\"", 11, "size"),
        ("history = \"65GiB\"", 11, "write 64GiB at most"),
        ("history = true", 11, "in quotes such as \"16MB\""),
        ("name = 3", 8, "write a string"),
        ("[[map.rule]]\nrule_action = \"ALLOW\"", 15, "rule 1: rule_action \"ALLOW\""),
    ] {
        let line_number = 3 + lines(line);
        let text = format!("{MAP}{line}\n{SOURCE}{TARGET}");
        assert_told(&text, Some((line_number, column)), part);
    }
    let source = |lines: &str| format!("[[source]]\n{lines}\n{TARGET}{MAP}");
    assert_told(&source(""), Some((1, 1)), "takes packets from nowhere");
    assert_told(&source("listen = []"), Some((2, 1)), "takes packets from nowhere");
    assert_told(&source("listen = [\"nic:eth1\"]"), Some((2, 11)), "cannot listen");
    assert_told(&source("listen = [\"vxlan://h?vni=x\"]"), Some((2, 11)), "0 to 16777215");
    let tunnel = "listen = \"vxlan://0.0.0.0\"\n";
    assert_told(&source(&format!("{tunnel}decap = 255")), Some((3, 9)), "not from 0 to 254");
    assert_told(&source(&format!("{tunnel}decap = \"each\"")), Some((3, 9)), "\"all\"");
    assert_told(&source(&format!("{tunnel}speed = 1")), Some((3, 1)), "tunnels have no `speed`");
    let read = "read = \"x\"\n";
    for speed in ["0", "-1", "\"fast\"", "nan", "inf", "1e9", "true"] {
        let text = source(&format!("{read}speed = {speed}"));
        assert_told(&text, Some((3, 9)), "write original, max, or how many times");
    }
    let text = source(&format!("{read}direction = \"in\""));
    assert_told(&text, Some((3, 1)), "a file that is read has no `direction`");
}

#[test]
fn mistakes_between_parts_have_place_and_mend() {
    assert_told("", None, "[[source]]");
    assert_told(SOURCE, None, "it has no target; begin one with [[target]]");
    assert_told(&format!("{SOURCE}{TARGET}"), None, "it has no map");
    assert_told("[source]\n", Some((1, 2)), "write [[source]]");
    assert_told("[[sources]]\n", Some((1, 3)), "did you mean `source`?");
    assert_told("sourc", Some((1, 6)), "not TOML");
    let twice = format!("{SOURCE}name = \"a\"\n[[source]]\nname = \"a\"\ninterface = \"eth2\"\n");
    assert_told(&format!("{twice}{TARGET}{MAP}"), Some((5, 8)), "source before is called so");
    let twice = format!("{TARGET}{TARGET}{SOURCE}{MAP}");
    assert_told(&twice, Some((5, 8)), "target before is called so");
    let twice = format!("{MAP}{MAP}{SOURCE}{TARGET}");
    assert_told(&twice, Some((4, 1)), "map before is called so");
    let stage = "[[stage]]\nname = \"s\"\ntype = \"vlan_pop\"\n";
    let twice = format!("{stage}{stage}{SOURCE}{TARGET}{MAP}");
    assert_told(&twice, Some((4, 1)), "a stage before is called `s`");
    let unused = format!("{SOURCE}{TARGET}{stage}{MAP}");
    assert_told(&unused, Some((6, 1)), "nothing uses stage `s`");
    let unknown = format!("{SOURCE}stages = [\"t\"]\n{stage}{TARGET}{MAP}");
    assert_told(&unknown, Some((3, 11)), "there is no stage `t`; there are s");
    let again = format!("{SOURCE}stages = [\"s\", \"s\"]\n{stage}{TARGET}{MAP}");
    assert_told(&again, Some((3, 16)), "named twice");
    let map = |from: &str, to: &str| {
        format!("{SOURCE}{TARGET}[[map]]\nname = \"m\"\nfrom = {from}\nto = {to}\n")
    };
    let nearest = "map m: there is no source `eth`; did you mean `eth1`?";
    assert_told(&map("[\"eth1\", \"eth\"]", "\"ids\""), Some((8, 17)), nearest);
    assert_told(&map("\"eth1\"", "\"idx\""), Some((9, 6)), "did you mean `ids`?");
    assert_told(&map("\"eth1\"", "\"tool\""), Some((9, 6)), "no target `tool`; there are ids");
    assert_told(&map("\"eth1\"", "[\"ids\", \"ids\"]"), Some((9, 14)), "named twice");
    assert_told(&map("[]", "\"ids\""), Some((8, 1)), "add `from");
    assert_told(&map("\"eth1\"", "[]"), Some((9, 1)), "add `to");
    let idle = format!("{SOURCE}[[source]]\nname = \"b\"\ninterface = \"eth2\"\n{TARGET}{MAP}");
    assert_told(&idle, Some((4, 8)), "no map takes its packets");
    let idle = format!("{SOURCE}{TARGET}[[target]]\nto = \"nic:b\"\n{MAP}");
    assert_told(&idle, Some((6, 1)), "no map leads to it");
    for name in ["eth1", "any"] {
        let text =
            format!("{SOURCE}[[source]]\nname = \"b\"\ninterface = \"{name}\"\n{TARGET}{MAP}");
        assert_told(&text, Some((5, 13)), "use two maps from one source");
    }
    let stdin = "[[source]]\nname = \"a\"\nread = \"-\"\n[[source]]\nread = \"-\"\n";
    assert_told(&format!("{stdin}{TARGET}{MAP}"), Some((5, 8)), "standard input already");
    let target = |to: &str| format!("[[target]]\nto = {to}\n");
    let same = [
        ("\"nic:a\"", "[\"nic:b\", \"nic:a\"]", 15),
        ("\"pcap:x\"", "\"pcap:x\"", 6),
        ("\"vxlan://h?vni=1\"", "\"vxlan://h:4789?vni=1\"", 6),
        ("\"tap:a\"", "\"tap:a?mtu=1500\"", 6),
    ];
    for (one, other, column) in same {
        let text = format!("{}{}{SOURCE}{MAP}", target(one), target(other));
        let column = if column == 15 { 16 } else { column };
        assert_told(&text, Some((4, column)), "sends there too");
    }
    assert_told(&target("[\"nic:a\", \"nic:a\"]"), Some((2, 16)), "named twice");
    assert_told(&target("[]"), Some((2, 6)), "leads nowhere");
    assert_told("[[target]]\n", Some((1, 1)), "leads nowhere");
    let group = target("[\"nic:a?hash=inner\", \"nic:b?health=link&fail_open=off\"]");
    assert_told(&format!("{group}balance = \"2-tuple\"\n"), Some((3, 1)), "says hash=inner");
    assert_told(&format!("{group}fail_open = true\n"), Some((3, 1)), "leave one");
    let group = target("[\"nic:a?hash=inner\", \"nic:b?hash=2-tuple\"]");
    assert_told(&group, Some((2, 6)), "let one of them say it");
    let over = format!("[[source]]\nread = \"x\"\n{}{MAP}", target("\"pcap:x\""));
    assert_told(&over, Some((4, 6)), "written over");
}

#[test]
fn tunnels_of_one_id_at_one_address_are_refused() {
    let text = |one: &str, other: &str| {
        format!(
            "[[source]]\nname = \"a\"\nlisten = \"{one}\"\n[[source]]\nname = \"b\"\nlisten = \
             [\"{other}\"]\n{TARGET}[[map]]\nfrom = [\"a\", \"b\"]\nto = \"ids\"\n"
        )
    };
    for (one, other) in [
        ("vxlan://0.0.0.0?vni=1", "vxlan://0.0.0.0?vni=1"),
        ("vxlan://0.0.0.0?vni=1", "vxlan://10.0.0.1?vni=1"),
        ("vxlan://0.0.0.0", "vxlan://0.0.0.0?vni=1"),
        ("gretap://[::]?key=1", "gretap://[fd00::1]?key=0.0.0.1"),
    ] {
        assert_told(&text(one, other), Some((6, 11)), "listens for the same packets");
    }
    for (one, other) in [
        ("vxlan://0.0.0.0?vni=1", "vxlan://0.0.0.0?vni=2"),
        ("vxlan://0.0.0.0?vni=1", "vxlan://0.0.0.0:4790?vni=1"),
        ("vxlan://10.0.0.1?vni=1", "vxlan://10.0.0.2?vni=1"),
        ("vxlan://0.0.0.0?vni=1", "vxlan://[::]?vni=1"),
        ("gre://0.0.0.0?key=1", "gretap://0.0.0.0?key=1"),
    ] {
        assert!(parse(&text(one, other)).is_ok(), "{one} {other}");
    }
    let both = "[\"l2tp://0.0.0.0?id=7\", \"l2tp://0.0.0.0?id=7\"]";
    let one = format!("[[source]]\nlisten = {both}\n{TARGET}{MAP}");
    assert_told(&one, Some((2, 34)), "give each its own `id`");
}
