//! A search finds what `tcpdump -r` finds in all segments together: random expressions in random
//! windows of time, over segments of every stage.
//!
//! `TAPLINE_SEARCH_PAIRS` sets how many pairs are tried. Expressions with `geneve` are left out:
//! libpcap 1.10.3 makes programs of it that read what they never wrote.

mod over_archive;
mod over_files;

use capfile::{PcapResolution, PcapWriter};
use over_archive::traffic::{Kept, packets};
use over_archive::{Archive, Stage, decompressed, expressions, kept};
use rig::rules::Random;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const PAIRS: usize = 1000;
const HOUR_NS: u64 = 3_600_000_000_000;
/// 2026-11-27T12:00:00Z.
const NOON_NS: u64 = 1_795_780_800_000_000_000;

const SOURCES: [&str; 4] = ["vxlan-71-10.71.2.2", "vxlan-72-10.71.2.2", "eth0", "gre-none-fd00--7"];

/// Adds segments of all sources and stages; gives the files of each source.
fn fill(archive: &mut Archive) -> Vec<(&'static str, PathBuf)> {
    let mut random = Random::new(6);
    let mut files = Vec::new();
    for hour in 0..3 {
        for source in SOURCES {
            // Two segments an hour, which overlap.
            for half in 0..2 {
                let start_ns = NOON_NS + hour * HOUR_NS + half * HOUR_NS / 3;
                let count = 40 + random.below(120);
                let of_segment = packets(&mut random, count, start_ns, HOUR_NS / 2);
                let stage = match (hour, half, source) {
                    (0, 0, "eth0") => Stage::Plain,
                    (2, 0, _) => Stage::Sealed,
                    (2, 1, "eth0" | "vxlan-71-10.71.2.2") => Stage::Open,
                    (2, 1, _) => Stage::Closed,
                    _ => Stage::Stored,
                };
                files.push((source, archive.add(source, &of_segment, stage)));
            }
        }
    }
    files
}

/// Writes packets, in the order of their times, into a file that tcpdump reads to the nanosecond.
fn write_pcap(packets: &[Kept], path: &Path) {
    let mut file = Vec::new();
    let mut writer =
        PcapWriter::new(&mut file, capfile::LINKTYPE_ETHERNET, 262_144, PcapResolution::Nano)
            .expect("it can be written");
    for Kept { ts_ns, origlen, bytes } in packets {
        writer.write(*ts_ns, *origlen, bytes).expect("it can be written");
    }
    fs::write(path, file).expect("it can be written");
}

/// What tcpdump selects; `None` if it refuses the expression.
fn tcpdump(from: &Path, expression: &str) -> Option<Vec<Kept>> {
    let mut command = Command::new("tcpdump");
    command.args(["--time-stamp-precision=nano", "-w", "-", "-r"]).arg(from);
    let output = command.arg("--").arg(expression).output().expect("tcpdump can be started");
    output.status.success().then(|| kept(&output.stdout))
}

/// One pair, and the source that is asked for beside it, if one is.
struct Pair {
    expression: String,
    after_ns: Option<u64>,
    before_ns: Option<u64>,
    source: Option<&'static str>,
}

impl Pair {
    fn random(random: &mut Random, times: &[u64]) -> Pair {
        // Edges are times of packets, or a nanosecond beside.
        let mut edge = || {
            let ts_ns = times[random.below(times.len())];
            random.pick(&[ts_ns, ts_ns, ts_ns - 1, ts_ns + 1])
        };
        let (a, b) = (edge(), edge());
        let (after_ns, before_ns) = match random.below(8) {
            0 => (None, None),
            1 => (Some(a), None),
            2 => (None, Some(a)),
            3 => (Some(a), Some(a + 1)),
            _ => (Some(a.min(b)), Some(a.max(b) + 1)),
        };
        let source = random.chance(20).then(|| random.pick(&SOURCES));
        Pair { expression: expressions::expression(random, 3), after_ns, before_ns, source }
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["-q".to_owned()];
        for (option, ns) in [("--after", self.after_ns), ("--before", self.before_ns)] {
            if let Some(ns) = ns {
                let (s, ns) = (ns / 1_000_000_000, ns % 1_000_000_000);
                arguments.extend([option.into(), format!("{s}.{ns:09}")]);
            }
        }
        arguments.push("--".into());
        if let Some(source) = self.source {
            arguments.extend(["source".into(), source.into()]);
        }
        arguments.push(self.expression.clone());
        arguments
    }

    fn contains(&self, ts_ns: u64) -> bool {
        self.after_ns.is_none_or(|after_ns| ts_ns >= after_ns)
            && self.before_ns.is_none_or(|before_ns| ts_ns < before_ns)
    }
}

#[test]
fn random_expressions_and_windows_find_what_tcpdump_finds() {
    if !rig::tool_or_skip("tcpdump") || !rig::tool_or_skip("zstd") {
        return;
    }
    let pairs = std::env::var("TAPLINE_SEARCH_PAIRS").map_or(PAIRS, |text| text.parse().unwrap());
    let mut archive = Archive::new("search-pairs");
    let files = fill(&mut archive);
    // The judge's files: of all sources, and of each.
    let judged = |source: Option<&str>| {
        let files = files.iter().filter(|(of, _)| source.is_none_or(|source| source == *of));
        let mut all: Vec<Kept> = files.flat_map(|(_, file)| decompressed(file)).collect();
        all.sort_by_key(|packet| packet.ts_ns);
        let path = archive.beside(&format!("{}.pcap", source.unwrap_or("all")));
        write_pcap(&all, &path);
        (all, path)
    };
    let (all, everything) = judged(None);
    assert!(all.len() > 1500, "{}", all.len());
    let of_source: Vec<_> = SOURCES.map(|source| (source, judged(Some(source)).1)).into();
    let times: Vec<u64> = all.iter().map(|packet| packet.ts_ns).collect();

    let (tried, telling) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let run = |seed: u64| {
        let mut random = Random::new(seed);
        while tried.load(Relaxed) < pairs {
            let pair = Pair::random(&mut random, &times);
            let place = |(_, path): &(&str, PathBuf)| path.clone();
            let file = pair.source.map_or(everything.clone(), |source| {
                place(of_source.iter().find(|(of, _)| *of == source).unwrap())
            });
            let arguments = pair.arguments();
            let Some(selected) = tcpdump(&file, &pair.expression) else {
                let refused = archive.search(&arguments);
                assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
                continue;
            };
            tried.fetch_add(1, Relaxed);
            let mut wanted: Vec<Kept> =
                selected.into_iter().filter(|packet| pair.contains(packet.ts_ns)).collect();
            let mut found = archive.find(&arguments);
            assert!(found.is_sorted_by_key(|packet| packet.ts_ns), "{arguments:?}");
            telling.fetch_add(usize::from(!wanted.is_empty()), Relaxed);
            // Packets of the same time have no order among files.
            wanted.sort();
            found.sort();
            let missing: Vec<_> = wanted.iter().filter(|packet| !found.contains(packet)).collect();
            assert!(
                found == wanted,
                "{arguments:?}: {} found, {} wanted; missing {missing:?}",
                found.len(),
                wanted.len()
            );
        }
    };
    std::thread::scope(|scope| {
        for seed in 0..2 {
            scope.spawn(move || run(seed));
        }
    });
    let telling = telling.into_inner();
    assert!(telling > pairs / 4, "{telling} of {pairs} find something");
    eprintln!("{pairs} pairs, of which {telling} find something, over {} packets", all.len());
}
