//! Every file of `examples/` is understood, is listed in its README, and means what it says.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

use api::{
    BrokerFile, FilterConfig, Group, Origin, Pace, RuleFile, SourceConfig, StageConfig, StageKind,
    TapSource, read_inline_file, read_mirror_file,
};
use filter::{Action, Direction, Rules};
use std::fs;
use std::path::{Path, PathBuf};
use wire::LinkType;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.is_file()).collect();
    files.sort();
    files
}

fn rules(name: &str) -> Rules {
    RuleFile::open(&examples().join("rules").join(name)).unwrap_or_else(|e| panic!("{e}")).rules
}

#[test]
fn every_rule_file_becomes_a_program() {
    let readme = fs::read_to_string(examples().join("README.md")).unwrap();
    let files = files(&examples().join("rules"));
    assert!(files.len() >= 6, "{files:?}");
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(readme.contains(&format!("rules/{name}")), "{name} is not in examples/README.md");
        for direction in [Direction::In, Direction::Out, Direction::Unknown] {
            rules(name).compile(LinkType::ETHERNET, direction).unwrap();
        }
    }
}

/// The configuration files whose names begin so. Every one is of some command.
fn configurations(command: &str) -> Vec<PathBuf> {
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let files = files(&examples()).into_iter().filter(|path| path.extension().unwrap() == "toml");
    let (wanted, others): (Vec<PathBuf>, Vec<PathBuf>) =
        files.partition(|path| name(path).starts_with(command));
    for other in others {
        let known = ["mirror-", "broker-", "inline-"];
        assert!(known.iter().any(|known| name(&other).starts_with(known)), "{other:?}");
    }
    wanted
}

#[test]
fn every_broker_file_has_ways() {
    let readme = fs::read_to_string(examples().join("README.md")).unwrap();
    let files = configurations("broker-");
    assert!(files.len() >= 7, "{files:?}");
    let mut brokers = std::collections::BTreeMap::new();
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(readme.contains(&format!("({name})")), "{name} is not in examples/README.md");
        let file = BrokerFile::open(&path).unwrap_or_else(|e| panic!("{e}"));
        assert!(BrokerFile::is_meant(&fs::read(&path).unwrap()));
        brokers.insert(name.to_owned(), file.config);
    }
    let counts = |name: &str| {
        let broker = &brokers[&format!("broker-{name}.toml")];
        (broker.sources.len(), broker.maps.len(), broker.targets.len())
    };
    assert_eq!(counts("replicate"), (1, 1, 2));
    assert_eq!(counts("aggregate"), (3, 1, 1));
    let tags = brokers["broker-aggregate.toml"].sources.iter().map(|source| source.stages.last());
    let is_tag = |stage: Option<&StageConfig>| {
        stage.is_some_and(|stage| matches!(stage.kind, StageKind::VlanPush { .. }))
    };
    assert!(tags.into_iter().all(is_tag));
    let filters = &brokers["broker-filter.toml"].targets;
    assert!(filters.iter().all(|target| target.filter != FilterConfig::All));
    assert_eq!(filters[2].filter, FilterConfig::Rules(rules("not-management.toml")));
    let Group(sensors) = &brokers["broker-balance.toml"].targets[0].to;
    assert!(sensors.len() == 4 && sensors.iter().all(|s| s.membership().health.is_some()));
    let pace = |source: &SourceConfig| match source.origin {
        Origin::File { pace, .. } => pace,
        _ => panic!("{source:?}"),
    };
    let paces: Vec<Pace> = brokers["broker-replay.toml"].sources.iter().map(pace).collect();
    assert_eq!(paces, [Pace::Times(1.0), Pace::Times(10.0), Pace::Max]);
}

#[test]
fn every_mirror_file_has_taps() {
    let readme = fs::read_to_string(examples().join("README.md")).unwrap();
    let mut taps = 0;
    for path in configurations("mirror-") {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(readme.contains(&format!("({name})")), "{name} is not in examples/README.md");
        for tap in read_mirror_file(&path).unwrap_or_else(|e| panic!("{e}")) {
            assert!(matches!(tap.source, TapSource::Interface(_)), "{}", tap.name);
            taps += 1;
        }
    }
    assert!(taps >= 5, "{taps}");
    let host = read_mirror_file(&examples().join("mirror-host.toml")).unwrap();
    assert_eq!(host[0].filter, FilterConfig::Rules(rules("not-management.toml")));
}

#[test]
fn every_inline_file_has_rules_with_views() {
    let readme = fs::read_to_string(examples().join("README.md")).unwrap();
    for path in configurations("inline-") {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(readme.contains(&format!("({name})")), "{name} is not in examples/README.md");
        let table = read_inline_file(&path).unwrap_or_else(|e| panic!("{e}"));
        assert!(table.rules.iter().all(|rule| !rule.to.is_empty()), "{name}");
    }
    let web = read_inline_file(&examples().join("inline-web.toml")).unwrap();
    let views: Vec<usize> = web.rules.iter().map(|rule| rule.views.len()).collect();
    assert_eq!(views, [3, 1]);
}

/// An Ethernet frame with a TCP header, in which only addresses and ports are filled in.
fn tcp(source: ([u8; 4], u16), destination: ([u8; 4], u16)) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
    frame.extend(source.0.into_iter().chain(destination.0));
    frame.extend(source.1.to_be_bytes().into_iter().chain(destination.1.to_be_bytes()));
    frame.resize(60, 0);
    frame
}

/// What becomes of a frame: the action of the first rule that matches.
fn action(rules: &Rules, direction: Direction, frame: &[u8]) -> Option<Action> {
    let program = rules.compile(LinkType::ETHERNET, direction).unwrap();
    rules.action(program.run(frame, frame.len() as u32))
}

#[test]
fn they_keep_what_they_say() {
    const SERVER: ([u8; 4], u16) = ([10, 0, 1, 10], 80);
    const CLIENT: ([u8; 4], u16) = ([192, 0, 2, 7], 50_000);
    const BALANCER: ([u8; 4], u16) = ([10, 0, 1, 2], 50_000);
    const ADMINISTRATOR: ([u8; 4], u16) = ([10, 9, 0, 3], 50_000);
    const SSH: ([u8; 4], u16) = ([10, 0, 1, 10], 22);
    let arp = [vec![0xff; 12], vec![0x08, 0x06], vec![0; 46]].concat();
    let (include, exclude) = (Some(Action::Include), Some(Action::Exclude));
    let web = rules("web-server.toml");
    assert_eq!(action(&web, Direction::In, &tcp(CLIENT, SERVER)), include);
    assert_eq!(action(&web, Direction::Out, &tcp(SERVER, CLIENT)), include);
    assert_eq!(action(&web, Direction::In, &tcp(BALANCER, SERVER)), exclude);
    assert_eq!(action(&web, Direction::Out, &tcp(SERVER, BALANCER)), exclude);
    assert_eq!(action(&web, Direction::In, &tcp(CLIENT, SSH)), None);
    let host = rules("not-management.toml");
    assert_eq!(action(&host, Direction::In, &tcp(ADMINISTRATOR, SSH)), exclude);
    assert_eq!(action(&host, Direction::Out, &tcp(SSH, ADMINISTRATOR)), exclude);
    assert_eq!(action(&host, Direction::In, &tcp(CLIENT, SSH)), include);
    assert_eq!(action(&host, Direction::In, &arp), include);
    let backup = rules("not-backup.toml");
    assert_eq!(action(&backup, Direction::In, &tcp(([10, 20, 3, 4], 1), SSH)), exclude);
    assert_eq!(action(&backup, Direction::In, &tcp(CLIENT, SSH)), include);
    let cloud = rules("oci-cli.json");
    assert_eq!(action(&cloud, Direction::In, &tcp(CLIENT, SERVER)), include);
    assert_eq!(action(&cloud, Direction::In, &tcp(([10, 0, 9, 1], 1), SERVER)), exclude);
    assert_eq!(action(&rules("dns.toml"), Direction::In, &tcp(CLIENT, SERVER)), None);
    assert_eq!(action(&rules("icmp-errors.toml"), Direction::In, &arp), None);
}
