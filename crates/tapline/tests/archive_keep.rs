//! `tapline archive ls`, `hold`, `release`, `expire` and `cat`: what there is, and how long it is kept.

mod over_archives;

use over_archives::*;
use rig::Scratch;
use std::fs;
use std::path::Path;

/// Three hours of two sources, ten packets in each segment.
fn six_segments(place: &Path) -> Vec<String> {
    let segments = (0..6).map(|n| {
        let source = if n % 2 == 0 { "vxlan-71-10.0.0.1" } else { "eth0" };
        put_plain(place, source, T + n / 2 * HOUR, 10, n * 10)
    });
    segments.collect()
}

fn objects(text: &str) -> Vec<String> {
    lines(text, "segment")
        .iter()
        .map(|of| of["object"].as_str().expect("a key").to_owned())
        .collect()
}

#[test]
fn segments_are_listed_by_source_and_time() {
    let scratch = Scratch::new("archive-ls");
    let place = scratch.path("archive");
    let keys = six_segments(&place);
    let before = files(&place);
    let list =
        |words: &[&str]| objects(&on(&place, 0, &[&["ls", "--format", "json"], words].concat()).0);
    assert_eq!(list(&[]).len(), 6);
    assert_eq!(list(&["--source", "eth0"]), [&keys[1], &keys[3], &keys[5]].map(String::clone));
    // Half-open, to the nanosecond: the last packet of the first hour's segments is 9 s after T.
    let seconds = T / S;
    assert_eq!(list(&["--before", &seconds.to_string()]).len(), 0);
    assert_eq!(list(&["--before", &format!("{seconds}.000000001")]).len(), 2);
    assert_eq!(list(&["--after", &(seconds + 9).to_string()]).len(), 6);
    assert_eq!(list(&["--after", &format!("{}.000000001", seconds + 9)]).len(), 4);
    let (text, _) = on(&place, 0, &["ls"]);
    assert!(text.contains("plain") && text.contains("6 segments of 2 sources"), "{text}");
    let (text, _) = on(&place, 0, &["ls", "--format", "json"]);
    let total = &lines(&text, "total")[0];
    assert_eq!((&total["segments"], &total["sources"]), (&6.into(), &2.into()));
    assert_eq!(files(&place), before, "looking changes nothing");
}

#[test]
fn what_is_held_is_not_expired_by_anybody() {
    let scratch = Scratch::new("archive-hold");
    let place = scratch.path("archive");
    let keys = six_segments(&place);
    let words = ["hold", "case-7", "--source", "eth0", "--note", "asked for by Ada"];
    let (_, said) = on(&place, 0, &words);
    assert!(said.contains("3 segments held"), "{said}");
    on(&place, 0, &["hold", "one", "--object", &keys[0]]);
    let (_, said) = on(&place, 2, &["hold", "one"]);
    assert!(said.contains("already"), "{said}");
    let (_, said) = on(&place, 2, &["hold", "two", "--object", "date=2026/x"]);
    assert!(said.contains("no segment `date=2026/x`"), "{said}");
    let (_, said) = on(&place, 0, &["hold", "later", "--source", "eth9"]);
    assert!(said.contains("no segment of source eth9 yet"), "{said}");

    let (text, _) = on(&place, 0, &["ls"]);
    assert!(text.contains("held by case-7") && text.contains("(asked for by Ada): 3 segments"));
    // Nothing is left of what may go.
    let (text, _) = on(&place, 0, &["expire", "--max-bytes", "0", "--format", "json"]);
    assert_eq!(objects(&text), [&keys[2], &keys[4]].map(String::clone));
    assert_eq!(lines(&text, "held").len(), 4);
    assert!(lines(&text, "total")[0]["excess_bytes"].as_u64().unwrap() > 0);
    let (text, _) = on(&place, 0, &["ls"]);
    assert!(text.contains("expired by size: 2 segments"), "{text}");

    on(&place, 0, &["release", "case-7"]);
    let (_, said) = on(&place, 2, &["release", "case-7"]);
    assert!(said.contains("no hold `case-7`"), "{said}");
    on(&place, 0, &["expire", "--older-than", "1s", "--max-bytes", "0"]);
    let left = files(&place);
    let left: Vec<_> = left.keys().filter(|key| key.starts_with("date=")).collect();
    assert_eq!(left, [&keys[0]]);
}

#[test]
fn a_hold_that_is_not_as_it_was_keeps_everything() {
    let scratch = Scratch::new("archive-hold-altered");
    let place = scratch.path("archive");
    six_segments(&place);
    on(&place, 0, &["hold", "a", "--source", "none"]);
    let path = place.join("holds/a.json");
    let good = fs::read_to_string(&path).unwrap();
    let expire = ["expire", "--max-bytes", "0"];
    for bad in [good.replace("none", "gone"), String::new(), "{}".into()] {
        fs::write(&path, bad).unwrap();
        let (_, said) = on(&place, 1, &expire);
        assert!(said.contains("holds/a.json") && said.contains("nothing is removed"), "{said}");
    }
    fs::remove_file(&path).unwrap();
    assert!(on(&place, 1, &expire).1.contains("missing"));
    on(&place, 0, &["release", "a"]);
    on(&place, 0, &expire);
    assert!(!files(&place).keys().any(|key| key.starts_with("date=")));
}

#[test]
fn the_oldest_go_and_a_dry_run_takes_nothing() {
    let scratch = Scratch::new("archive-expire");
    let place = scratch.path("archive");
    let keys = six_segments(&place);
    let bytes = fs::metadata(place.join(&keys[0])).unwrap().len();
    let before = files(&place);
    let room = (3 * bytes).to_string();
    let (text, _) = on(&place, 0, &["expire", "--max-bytes", &room, "--dry-run"]);
    assert!(text.contains("would remove 3 segments"), "{text}");
    assert_eq!(files(&place), before);
    let per_source = (2 * bytes).to_string();
    let words = ["expire", "--keep-per-source", &per_source, "--source", "eth0"];
    let (text, _) = on(&place, 0, &words);
    assert!(text.contains(&keys[1]) && text.contains("removed 1 segment"), "{text}");
    let (text, _) = on(&place, 0, &["expire", "--max-bytes", &room]);
    assert!(text.contains(&keys[0]) && text.contains(&keys[2]), "{text}");
    assert!(!place.join("date=2026-11-27/hour=13").exists(), "empty folders go");
    let (_, said) = on(&place, 2, &["expire"]);
    assert!(said.contains("--older-than"), "{said}");
}

#[test]
fn cat_gives_whole_segments_as_one_capture() {
    let scratch = Scratch::new("archive-cat");
    let place = scratch.path("archive");
    let keys = six_segments(&place);
    let out = scratch.path("out.pcapng");
    let name = out.to_str().unwrap();
    let (_, said) = on(&place, 0, &["cat", "--source", "eth0", "-w", name]);
    assert!(said.contains("3 segments"), "{said}");
    let packets = packets_in(&fs::read(&out).unwrap());
    let numbers: Vec<u64> = packets.iter().map(|&(_, number)| number).collect();
    assert_eq!(numbers, (10..20).chain(30..40).chain(50..60).collect::<Vec<_>>());
    if rig::tool_or_skip("tshark") {
        assert_eq!(rig::rows(&out, &[], &["frame.time_epoch"]).len(), 30);
    }
    on(&place, 0, &["cat", &keys[4], "-w", name]);
    assert_eq!(packets_in(&fs::read(&out).unwrap()).len(), 10);
    let (_, said) = on(&place, 2, &["cat", "nothing", "-w", name]);
    assert!(said.contains("no segment `nothing`"), "{said}");
    on(&place, 1, &["cat", "--source", "nobody", "-w", name]);

    // A segment that is being written is given up to its last whole packet.
    let spool = place.join(".spool");
    fs::create_dir(&spool).unwrap();
    let open = capture(&[("eth7", T, 900), ("eth7", T + 1, 901)]);
    let path = spool.join(format!("eth7-{}.pcapng.open", ulid::Ulid::new()));
    fs::write(&path, &open[..open.len() - 5]).unwrap();
    on(&place, 0, &["cat", "--source", "eth7", "-w", name]);
    assert_eq!(packets_in(&fs::read(&out).unwrap()), [(T, 900)]);
}

#[test]
fn an_archive_that_is_not_there_is_said_and_not_made() {
    let scratch = Scratch::new("archive-none");
    let place = scratch.path("none");
    for words in [&["ls"][..], &["hold", "x"], &["release", "x"], &["cat"]] {
        let (_, said) = on(&place, 1, words);
        assert!(said.contains("there is no such folder"), "{words:?}: {said}");
        assert!(!place.exists(), "{words:?}");
    }
    let file = scratch.path("file");
    fs::write(&file, b"").unwrap();
    assert!(on(&file, 1, &["ls"]).1.contains("no such folder"));
    on(Path::new("ftp://x"), 2, &["ls"]);
}
