mod mistakes;
mod mutated;
mod short;

use super::*;
use crate::broker::*;
use crate::{DirectionChoice, Endpoint, FilterConfig, Group, Oversize, RingSize, Sending};
use std::time::Duration;

fn parse(text: &str) -> Result<BrokerFile, FileError> {
    BrokerFile::parse(Path::new("etc/broker.toml"), text.as_bytes())
}

fn group(text: &str) -> Group {
    text.parse().unwrap()
}

/// Asserts where a mistake is said to be, and that its reason has a part.
fn assert_told(text: &str, place: Option<(usize, usize)>, part: &str) {
    let error = parse(text).map(|file| file.config).unwrap_err();
    assert!(error.reason.contains(part), "{part} is not in\n{error}");
    assert_eq!(error.place, place, "{error}");
    assert!(error.to_string().starts_with("etc/broker.toml:"), "{error}");
}

const SOURCE: &str = "[[source]]\ninterface = \"eth1\"\n";
const TARGET: &str = "[[target]]\nname = \"ids\"\nto = \"null:\"\n";
const MAP: &str = "[[map]]\nfrom = \"eth1\"\nto = \"ids\"\n";

/// A broker with a stage that its source uses; mistakes are in the stage.
fn with_stage(lines: &str) -> String {
    format!("[[stage]]\nname = \"x\"\n{lines}\n{SOURCE}stages = [\"x\"]\n{TARGET}{MAP}")
}

#[test]
fn every_key_is_read() {
    let file = parse(
        r#"
        [[source]]
        name = "left"
        interface = "eth1"
        direction = "in"
        promiscuous = false
        buffer_size = "16MiB"
        vlan = 100
        stages = ["once"]

        [[source]]
        listen = ["vxlan://0.0.0.0?vni=71", "gretap://0.0.0.0?key=5"]
        decap = "all"
        buffer_size = "8MiB"

        [[source]]
        read = "in.pcapng"
        speed = 2.5

        [[stage]]
        name = "once"
        type = "dedup"
        window = "20ms"
        ignore = ["ttl", "vlan"]
        action = "count"

        [[target]]
        name = "ids"
        to = ["nic:eth3?health=neighbour:10.0.0.9,nic:eth4", "nic:eth5?weight=2"]
        health = "link"
        expression = "tcp"
        stages = ["once"]
        snapshot_length = 128
        queue = "1000 packets"
        overflow = "drop_newest"
        oversize = "drop"
        dscp = 46
        balance = "2-tuple"
        fail_open = false
        from = "oldest"

        [[map]]
        name = "web"
        from = ["left", "in.pcapng"]
        to = ["ids"]
        expression = "port 80"
        stages = ["once"]
        history = "16MB"

        [[map]]
        from = "vxlan://0.0.0.0?vni=71,gretap://0.0.0.0?key=5"
        to = "ids"
        "#,
    );
    let once = StageConfig {
        name: "once".into(),
        kind: StageKind::Dedup {
            window: Duration::from_millis(20),
            ignore: DedupIgnore { ttl: true, vlan: true, ..DedupIgnore::default() },
            action: Action::Count,
        },
    };
    let kind = StageKind::VlanPush { vid: 100, pcp: None, dei: None, tpid: None };
    let vlan = StageConfig { name: "vlan 100".into(), kind };
    let cut = StageKind::Slice { bytes: 128, after: None };
    let cut = StageConfig { name: "slice 128".into(), kind: cut };
    let tunnel = |text: &str| Endpoint::listener(text).unwrap().tunnel().unwrap().clone();
    let listening = "vxlan://0.0.0.0?vni=71,gretap://0.0.0.0?key=5";
    let wanted = BrokerConfig {
        sources: vec![
            SourceConfig {
                name: "left".into(),
                origin: Origin::Interface {
                    interface: "eth1".into(),
                    direction: DirectionChoice::In,
                    promiscuous: false,
                    buffer_size: RingSize::Bytes(16 << 20),
                },
                stages: vec![once.clone(), vlan],
            },
            SourceConfig {
                name: listening.into(),
                origin: Origin::Tunnels {
                    listen: vec![
                        tunnel("vxlan://0.0.0.0?vni=71"),
                        tunnel("gretap://0.0.0.0?key=5"),
                    ],
                    layers: u8::MAX,
                    buffer_bytes: 8 << 20,
                },
                stages: Vec::new(),
            },
            SourceConfig {
                name: "in.pcapng".into(),
                origin: Origin::File { path: "etc/in.pcapng".into(), pace: Pace::Times(2.5) },
                stages: Vec::new(),
            },
        ],
        maps: vec![
            MapConfig {
                name: "web".into(),
                from: vec!["left".into(), "in.pcapng".into()],
                filter: FilterConfig::Expression("port 80".into()),
                stages: vec![once.clone()],
                to: vec!["ids".into()],
                history: 16_000_000,
            },
            MapConfig {
                name: format!("{listening} to ids"),
                from: vec![listening.into()],
                filter: FilterConfig::All,
                stages: Vec::new(),
                to: vec!["ids".into()],
                history: 0,
            },
        ],
        targets: vec![TargetConfig {
            name: "ids".into(),
            to: group(
                "nic:eth3?health=neighbour:10.0.0.9,nic:eth4?health=link,nic:eth5?weight=2&health=link",
            ),
            filter: FilterConfig::Expression("tcp".into()),
            stages: vec![once, cut],
            queue: QueueConfig { size: QueueSize::Packets(1000), overflow: Overflow::DropNewest },
            sending: Sending { oversize: Oversize::Drop, dscp: 46 },
            balance: Balance { key: FlowKey::TwoTuple, fail_open: false },
            start: Start::Oldest,
        }],
    };
    assert_eq!(file.unwrap().config, wanted);
}

#[test]
fn little_must_be_said() {
    let file = parse(&format!("{SOURCE}{TARGET}{MAP}")).unwrap();
    let BrokerConfig { sources, maps, targets } = file.config;
    let origin = Origin::Interface {
        interface: "eth1".into(),
        direction: DirectionChoice::Both,
        promiscuous: true,
        buffer_size: RingSize::Auto,
    };
    assert_eq!(sources, [SourceConfig { name: "eth1".into(), origin, stages: Vec::new() }]);
    assert_eq!((maps[0].name.as_str(), &maps[0].filter), ("eth1 to ids", &FilterConfig::All));
    assert_eq!(targets[0].queue, QueueConfig::default());
    assert_eq!((targets[0].start, targets[0].balance), (Start::Now, Balance::default()));
}

#[test]
fn every_stage_is_read() {
    let key = "00ff".repeat(16);
    let mut bytes = [0; 32];
    bytes.iter_mut().skip(1).step_by(2).for_each(|byte| *byte = 0xff);
    let ms = Duration::from_millis;
    for (lines, kind) in [
        (
            "type = \"vlan_push\"\nvid = 7\npcp = 3\ndei = true\ntpid = 0x88a8",
            StageKind::VlanPush { vid: 7, pcp: Some(3), dei: Some(true), tpid: Some(Tpid::Dot1Ad) },
        ),
        (
            "type = \"vlan_replace\"\nvid = 0\ntpid = \"802.1Q\"\nor_push = true",
            StageKind::VlanReplace {
                vid: Some(0),
                pcp: None,
                dei: None,
                tpid: Some(Tpid::Dot1Q),
                or_push: true,
            },
        ),
        ("type = \"vlan_pop\"", StageKind::VlanPop { tags: Tags::Count(1) }),
        ("type = \"vlan_pop\"\ntags = \"all\"", StageKind::VlanPop { tags: Tags::All }),
        ("type = \"slice\"\nbytes = 64", StageKind::Slice { bytes: 64, after: None }),
        (
            "type = \"slice\"\nbytes = 0\nafter = \"inner_transport\"",
            StageKind::Slice { bytes: 0, after: Some(Anchor::InnerTransport) },
        ),
        ("type = \"trim\"\nbytes = 4", StageKind::Trim { bytes: 4 }),
        (
            "type = \"strip\"\nlayers = [\"vlan\", \"mpls\", \"erspan\"]",
            StageKind::Strip { layers: vec![Layer::Vlan, Layer::Mpls, Layer::Erspan] },
        ),
        ("type = \"sample\"\nn = 10", StageKind::Sample { n: 10, by_flow: false }),
        ("type = \"sample\"\nn = 10\nby = \"flow\"", StageKind::Sample { n: 10, by_flow: true }),
        (
            "type = \"rate_limit\"\npps = 1000\nbps = \"10M\"\nburst = \"50ms\"",
            StageKind::RateLimit { pps: Some(1000), bps: Some(10_000_000), burst: ms(50) },
        ),
        (
            "type = \"dedup\"",
            StageKind::Dedup {
                window: ms(10),
                ignore: DedupIgnore::default(),
                action: Action::Drop,
            },
        ),
        (
            "type = \"mask\"\noffset = 4\nbytes = 8\nfrom = \"transport\"\nvalue = 0xff",
            StageKind::Mask {
                offset: 4,
                bytes: Some(8),
                from: Some(Anchor::Transport),
                value: 0xff,
            },
        ),
        (
            "type = \"mask\"\noffset = 54",
            StageKind::Mask { offset: 54, bytes: None, from: None, value: 0 },
        ),
        (
            &format!("type = \"anonymize\"\nkey = \"{key}\""),
            StageKind::Anonymize { key: AnonymizeKey(bytes) },
        ),
        (
            "type = \"first\"\npackets = 20\nbytes = \"64KiB\"\nidle = \"30s\"",
            StageKind::First { packets: Some(20), bytes: Some(65_536), idle: ms(30_000) },
        ),
    ] {
        let file = parse(&with_stage(lines)).unwrap_or_else(|error| panic!("{error}"));
        let wanted = StageConfig { name: "x".into(), kind };
        assert_eq!(file.config.sources[0].stages, [wanted], "{lines}");
    }
}

fn lines(text: &str) -> usize {
    text.lines().count()
}

#[test]
fn a_mistake_that_the_host_shows_has_its_place_too() {
    let file = parse(&format!("{SOURCE}{TARGET}{MAP}")).unwrap();
    let mistake = BrokerMistake::new(&file.config, Part::Source(0), "interface", "is not there");
    assert_eq!(mistake.to_string(), "source eth1: is not there");
    let told = file.told(&mistake).to_string();
    assert!(told.starts_with("etc/broker.toml:2:13: source eth1: is not there\n"), "{told}");
    // What is not written stands where its part does.
    let mistake = BrokerMistake::new(&file.config, Part::Target(0), "queue", "x");
    assert_eq!(file.told(&mistake).place, Some((3, 1)));
    let mistake = BrokerMistake::new(&file.config, Part::Map(9), "to", "x").at(3);
    assert_eq!(file.told(&mistake).place, None);
}

#[test]
fn what_cannot_be_read_is_told() {
    let error = BrokerFile::open(Path::new("/nonexistent/broker.toml")).unwrap_err();
    assert!(error.is_unreadable, "{error}");
    assert!(BrokerFile::is_meant(b"[[source]]\n") && BrokerFile::is_meant(b"[[map]]\nx = 1\n"));
    assert!(!BrokerFile::is_meant(b"[[tap]]\n") && !BrokerFile::is_meant(b"10.0.0.1 eth0 - -\n"));
}
