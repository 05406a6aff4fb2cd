//! Brokers without a file.

use super::*;
use crate::{EveryTarget, parse_source};

#[test]
fn sources_are_read_from_a_command_line() {
    let read = |text: &str| parse_source(text).unwrap_or_else(|error| panic!("{error}"));
    let source = read("nic:eth1,vlan=100,direction=in,promiscuous=off,buffer_size=1MiB,name=left");
    let kind = StageKind::VlanPush { vid: 100, pcp: None, dei: None, tpid: None };
    assert_eq!(source.name, "left");
    assert_eq!(source.stages, [StageConfig { name: "vlan 100".into(), kind }]);
    let origin = Origin::Interface {
        interface: "eth1".into(),
        direction: DirectionChoice::In,
        promiscuous: false,
        buffer_size: RingSize::Bytes(1 << 20),
    };
    assert_eq!(source.origin, origin);
    let file = read("pcap:a,b.pcap,speed=x2");
    assert_eq!(file.name, "a,b.pcap");
    let origin = Origin::File { path: "a,b.pcap".into(), pace: Pace::Times(2.0) };
    assert_eq!(file.origin, origin);
    assert_eq!(read("pcap:-").origin, Origin::File { path: "-".into(), pace: Pace::Times(1.0) });
    let Origin::Tunnels { listen, layers, .. } = read("vxlan://0.0.0.0?vni=5,decap=all").origin
    else {
        panic!("tunnels")
    };
    assert_eq!((listen[0].id, layers), (Some(5), u8::MAX));
    for (text, mend) in [
        ("eth1", "no known scheme"),
        ("tap:x", "no packets come from there"),
        ("null:", "no packets come from there"),
        ("nic:eth1,vlan=4095", "0 to 4094"),
        ("nic:eth1,vlan=x", "0 to 4094"),
        ("nic:eth1,vln=1", "did you mean `vlan`?"),
        ("nic:eth1,speed=x2", "it may have name, vlan"),
        ("nic:eth1,vlan=1,vlan=2", "given twice"),
        ("nic:eth1,name=", "a name is some text"),
        ("nic:eth1,direction=up", "both, in or out"),
        ("nic:eth1,promiscuous=maybe", "on or off"),
        ("nic:eth1,buffer_size=1", "64KiB"),
        ("pcap:x,speed=fast", "original, max"),
        ("vxlan://0.0.0.0,decap=256", "0 to 254"),
        ("nic:eth1,eth2", "one --in for each"),
    ] {
        let error = parse_source(text).unwrap_err().to_string();
        assert!(error.contains(mend) && error.contains(text.split(',').next().unwrap()), "{error}");
    }
}

#[test]
fn all_sources_go_to_all_targets_of_a_command_line() {
    let every = EveryTarget {
        queue: QueueConfig { size: QueueSize::Packets(9), ..QueueConfig::default() },
        sending: Sending { oversize: Oversize::Cut, dscp: 8 },
        snapshot_length: 96,
    };
    let broker = |sources: &[&str], targets: &[&str]| {
        let sources = sources.iter().map(|text| parse_source(text).unwrap()).collect();
        let targets = targets.iter().map(|text| group(text)).collect();
        BrokerConfig::of_all(sources, targets, &every, FilterConfig::expression("tcp"))
    };
    let to = ["nic:c,nic:d".to_owned(), "null:".to_owned(), "null: 2".to_owned()];
    let made = broker(&["nic:a", "nic:b"], &["nic:c,nic:d", "null:", "null:"]).unwrap();
    let [map] = &made.maps[..] else { panic!("one map") };
    assert_eq!((&map.from[..], &map.to[..]), (&["a".to_owned(), "b".to_owned()][..], &to[..]));
    assert_eq!(map.filter, FilterConfig::Expression("tcp".into()));
    // A tag is put on behind the filter, which is for packets as they come.
    let made = broker(&["nic:a", "nic:b,vlan=2"], &["nic:c,nic:d", "null:", "null:"]).unwrap();
    let [plain, tagged] = &made.maps[..] else { panic!("one map for each source") };
    assert_eq!((&plain.name[..], &plain.from[..]), ("a", &["a".to_owned()][..]));
    assert_eq!((&tagged.name[..], &tagged.from[..]), ("b", &["b".to_owned()][..]));
    assert!(plain.stages.is_empty() && made.sources.iter().all(|of| of.stages.is_empty()));
    assert!(matches!(tagged.stages[0].kind, StageKind::VlanPush { vid: 2, .. }));
    for map in [plain, tagged] {
        assert_eq!(map.filter, FilterConfig::Expression("tcp".into()));
        assert_eq!(map.to, to);
    }
    for target in &made.targets {
        assert_eq!((target.queue, target.sending), (every.queue, every.sending));
        assert_eq!(target.stages[0].kind, StageKind::Slice { bytes: 96, after: None });
    }
    let refused = |sources: &[&str], targets: &[&str]| broker(sources, targets).unwrap_err();
    let twice = refused(&["nic:a", "nic:a"], &["null:"]);
    assert!(twice.reason.contains("they would come twice"), "{twice}");
    let twice = refused(&["nic:a"], &["nic:b", "nic:b"]);
    assert!(twice.reason.contains("sends there too"), "{twice}");
    let twice = refused(&["nic:a,name=x", "nic:b,name=x"], &["null:"]);
    assert!(twice.reason.contains("called so too"), "{twice}");
}
