//! `tapline archive import`, `verify`, `repair` and `reindex`: captures come in whole and once, and what
//! happens to them afterwards shows.

mod over_archives;

use over_archives::*;
use rig::Scratch;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Two sources, packets over three hours, in no order.
fn mixed() -> Vec<(&'static str, u64, u64)> {
    let names = ["vxlan-71-10.71.0.1", "eth0"];
    let packet = |n: u64| (names[(n % 2) as usize], T + (n * 7919 % 600) * 18 * S, n);
    (0..600).map(packet).collect()
}

fn written(scratch: &Scratch, name: &str, bytes: &[u8]) -> PathBuf {
    let path = scratch.path(name);
    fs::write(&path, bytes).expect("the file is written");
    path
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("a path of ours is text")
}

/// An archive with the mixed packets, and its capture.
fn imported(scratch: &Scratch) -> (PathBuf, Vec<(&'static str, u64, u64)>) {
    let place = scratch.path("archive");
    let packets = mixed();
    let file = written(scratch, "mixed.pcapng", &capture(&packets));
    let (_, said) = on(&place, 0, &["import", path_text(&file)]);
    assert!(said.contains("read 600, written 600"), "{said}");
    assert!(said.contains("dropped 0, 0 unaccounted"), "{said}");
    (place, packets)
}

/// Times and numbers of all packets of an archive, by its own hand.
fn all_packets(scratch: &Scratch, place: &Path) -> Vec<(u64, u64)> {
    let out = scratch.path("all.pcapng");
    on(place, 0, &["cat", "-w", path_text(&out)]);
    let mut packets = packets_in(&fs::read(&out).expect("it was written"));
    packets.sort_unstable();
    packets
}

fn findings(place: &Path, code: i32, words: &[&str]) -> Vec<(String, String)> {
    let (text, _) = on(place, code, &[words, &["--format", "json"]].concat());
    let text_of = |of: &Value, key: &str| of[key].as_str().expect("a text").to_owned();
    let found = lines(&text, "finding");
    found.iter().map(|of| (text_of(of, "finding"), text_of(of, "object"))).collect()
}

fn objects(place: &Path, ending: &str) -> Vec<String> {
    files(place).into_keys().filter(|key| key.ends_with(ending)).collect()
}

#[test]
fn captures_come_in_whole_by_source_and_hour() {
    let scratch = Scratch::new("import");
    let (place, packets) = imported(&scratch);
    let mut wanted: Vec<_> = packets.iter().map(|&(_, ts_ns, n)| (ts_ns, n)).collect();
    wanted.sort_unstable();
    assert_eq!(all_packets(&scratch, &place), wanted);
    let data = objects(&place, ".pcapng.zst");
    let mut places: BTreeMap<(&str, u64), u64> = BTreeMap::new();
    for (name, ts_ns, _) in &packets {
        *places.entry((*name, *ts_ns / HOUR)).or_default() += 1;
    }
    assert_eq!(data.len(), places.len(), "one segment for each source and hour");
    assert_eq!(objects(&place, ".index.parquet").len(), data.len());
    assert!(fs::read_dir(place.join(".spool")).unwrap().next().is_none(), "nothing is left over");
    on(&place, 0, &["verify"]);
    let (text, _) = on(&place, 0, &["verify", "--deep", "--format", "json"]);
    let total = &lines(&text, "total")[0];
    assert_eq!((&total["packets"], &total["faults"]), (&600.into(), &0.into()));

    // Once more, and from another folder: nothing is there twice.
    let before = files(&place);
    let again = scratch.path("again.pcapng");
    fs::copy(scratch.path("mixed.pcapng"), &again).unwrap();
    for _ in 0..2 {
        let words = ["import", again.to_str().unwrap(), "--format", "json"];
        let file = &lines(&on(&place, 0, &words).0, "file")[0];
        assert_eq!((&file["written"], &file["already"]), (&0.into(), &600.into()));
    }
    assert_eq!(files(&place), before);
}

#[test]
fn a_file_that_comes_again_by_another_name_is_there_once() {
    let scratch = Scratch::new("import-renamed");
    let place = scratch.path("archive");
    let plain = capture(&[("", T, 1), ("", T + 1, 2)]);
    for (name, already) in [("one.pcapng", 0), ("two.pcapng", 2)] {
        let file = written(&scratch, name, &plain);
        let words = ["import", file.to_str().unwrap(), "--format", "json"];
        let told = &lines(&on(&place, 0, &words).0, "file")[0];
        assert_eq!(told["already"], already, "{name}");
    }
    assert_eq!(objects(&place, ".pcapng.zst").len(), 1);
    on(&place, 0, &["verify", "--deep"]);
}

#[test]
fn pcap_gzip_and_zstd_come_in_under_their_names() {
    let scratch = Scratch::new("import-kinds");
    let place = scratch.path("archive");
    let plain = capture(&[("", T, 1), ("", T + 1, 2)]);
    let file = written(&scratch, "my host.pcapng", &plain);
    on(&place, 0, &["import", file.to_str().unwrap()]);
    let mut gzip = std::process::Command::new("gzip");
    let packed = gzip.arg("-c").arg(&file).output().unwrap().stdout;
    let packed = written(&scratch, "b.pcap.gz", &packed);
    on(&place, 0, &["import", packed.to_str().unwrap(), "--source", "c/d"]);
    let pcap = scratch.path("e.pcap");
    let copy = ["capture", "-r", file.to_str().unwrap(), "-w", pcap.to_str().unwrap()];
    let mut tapline = std::process::Command::new(env!("CARGO_BIN_EXE_tapline"));
    assert!(tapline.args(copy).output().unwrap().status.success());
    on(&place, 0, &["import", pcap.to_str().unwrap()]);
    let (text, _) = on(&place, 0, &["ls", "--format", "json"]);
    let sources: Vec<_> = lines(&text, "segment").iter().map(|of| of["source"].clone()).collect();
    assert_eq!(sources.len(), 3, "{text}");
    for source in ["my-host", "c-d", "e"] {
        assert!(sources.contains(&source.into()), "{source} of {sources:?}");
    }
}

#[test]
fn cut_captures_give_their_whole_packets_and_damaged_ones_those_before() {
    let scratch = Scratch::new("import-cut");
    let place = scratch.path("archive");
    let packets: Vec<_> = (0..100).map(|n| ("eth0", T + n, n)).collect();
    let whole = capture(&packets);
    let cut = written(&scratch, "cut.pcapng", &whole[..whole.len() - 7]);
    let (_, said) = on(&place, 0, &["import", cut.to_str().unwrap()]);
    assert!(said.contains("is cut at byte") && said.contains("read 99, written 99"), "{said}");
    assert_eq!(all_packets(&scratch, &place), (0..99).map(|n| (T + n, n)).collect::<Vec<_>>());

    let mut bytes = whole.clone();
    let packet = whole.len() / 100;
    let at = whole.len() - 30 * packet;
    // The length of a block there is no longer one.
    let block = (0..at).rev().find(|&at| bytes[at..at + 4] == [6, 0, 0, 0]).unwrap();
    bytes[block + 4] = 3;
    let damaged = written(&scratch, "damaged.pcapng", &bytes);
    let other = scratch.path("other");
    let (_, said) = on(&other, 1, &["import", damaged.to_str().unwrap(), cut.to_str().unwrap()]);
    assert!(said.contains("damaged at byte") && said.contains("there already"), "{said}");
    on(&other, 0, &["verify", "--deep"]);
    assert!(all_packets(&scratch, &other).len() > 99 + 50, "both are in");

    let foreign = written(&scratch, "foreign", b"not a capture at all");
    let (_, said) = on(&other, 1, &["import", foreign.to_str().unwrap()]);
    assert!(said.contains("not a pcap or pcapng file"), "{said}");
    on(&other, 1, &["import", scratch.path("none").to_str().unwrap()]);
    on(&other, 2, &["import", scratch.folder().to_str().unwrap()]);
}

#[test]
fn an_import_that_is_killed_anywhere_is_complete_after_the_next() {
    let scratch = Scratch::new("import-kill");
    let place = scratch.path("archive");
    // Many hours, so that many segments are stored one after the other.
    let packets: Vec<_> = (0..2000).map(|n| ("eth0", T + n / 20 * HOUR + n, n)).collect();
    let file = written(&scratch, "long.pcapng", &capture(&packets));
    let words = ["import", file.to_str().unwrap(), "--archive", place.to_str().unwrap()];
    let mut stored = 0;
    for _ in 0..4 {
        let mut child = command(words).stderr(std::process::Stdio::null()).spawn().unwrap();
        let id = child.id();
        let more = || place.is_dir() && objects(&place, ".pcapng.zst").len() > stored + 3;
        rig::wait_until("segments are stored", std::time::Duration::from_secs(60), || {
            more()
                || std::fs::read_to_string(format!("/proc/{id}/stat"))
                    .is_ok_and(|s| s.contains(") Z"))
        });
        child.kill().unwrap();
        child.wait().unwrap();
        stored = objects(&place, ".pcapng.zst").len();
    }
    assert!(stored < 100, "it was killed before the end");
    on(&place, 0, &["import", file.to_str().unwrap()]);
    assert_eq!(objects(&place, ".pcapng.zst").len(), 100);
    let mut wanted: Vec<_> = packets.iter().map(|&(_, ts_ns, n)| (ts_ns, n)).collect();
    wanted.sort_unstable();
    assert_eq!(all_packets(&scratch, &place), wanted);
    on(&place, 0, &["verify", "--deep"]);
    assert!(fs::read_dir(place.join(".spool")).unwrap().next().is_none(), "nothing is left over");
}

#[test]
fn one_byte_of_any_object_and_any_object_that_is_gone_show_by_name() {
    let scratch = Scratch::new("verify");
    let (place, _) = imported(&scratch);
    on(&place, 0, &["hold", "case", "--source", "eth0"]);
    let good = files(&place);
    assert!(good.len() >= 10);
    for (key, bytes) in &good {
        let path = place.join(key);
        let at = [0, bytes.len() / 2, bytes.len() - 1];
        for at in at {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            fs::write(&path, bad).unwrap();
            let found = findings(&place, 1, &["verify", "--deep"]);
            assert!(found.iter().any(|(_, object)| object == key), "byte {at} of {key}: {found:?}");
        }
        fs::remove_file(&path).unwrap();
        let found = findings(&place, 1, &["verify"]);
        let is_chain = key.starts_with("manifest/");
        assert!(is_chain || found.iter().any(|(_, object)| object == key), "{key}: {found:?}");
        assert!(!found.is_empty(), "{key}");
        fs::write(&path, bytes).unwrap();
    }
    on(&place, 0, &["verify", "--deep"]);
    assert_eq!(files(&place), good, "looking changes nothing");
}

#[test]
fn foreign_files_are_named_and_are_no_fault() {
    let scratch = Scratch::new("verify-foreign");
    let (place, _) = imported(&scratch);
    fs::write(place.join("README"), b"x").unwrap();
    fs::write(place.join("manifest/notes"), b"x").unwrap();
    fs::write(place.join(".spool/odd \n name"), b"x").unwrap();
    let found = findings(&place, 0, &["verify", "--deep"]);
    let kinds: Vec<_> = found.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["foreign"; 3], "{found:?}");
    let (text, _) = on(&place, 0, &["verify"]);
    assert!(text.contains("note: README") && text.contains("odd \\n name"), "{text}");
    fs::create_dir(place.join(".spool/damaged")).unwrap();
    fs::write(place.join(".spool/damaged/x.pcapng"), b"x").unwrap();
    let found = findings(&place, 1, &["verify"]);
    assert!(found.iter().any(|(kind, object)| kind == "damaged" && object.ends_with("x.pcapng")));
}

#[test]
fn what_can_be_mended_is_and_nothing_is_lost() {
    let scratch = Scratch::new("repair");
    let (place, packets) = imported(&scratch);
    let good = files(&place);
    let data = objects(&place, ".pcapng.zst");
    let index = |data: &str| place.join(data.replace(".pcapng.zst", ".index.parquet"));
    // An index that is gone, one that is damaged, a plain segment, an unknown hold.
    fs::remove_file(index(&data[0])).unwrap();
    fs::write(index(&data[1]), b"PAR1").unwrap();
    let plain = put_plain(&place, "eth5", T, 10, 5000);
    fs::create_dir_all(place.join("holds")).unwrap();
    let hold = r#"{"version":1,"name":"old","source":"none","time":"2026-11-27T00:00:00Z"}"#;
    fs::write(place.join("holds/old.json"), hold).unwrap();
    let broken = files(&place);
    on(&place, 1, &["verify"]);
    let (text, _) = on(&place, 0, &["repair", "--dry-run", "--format", "json"]);
    let actions: Vec<_> = lines(&text, "mended").iter().map(|of| of["action"].clone()).collect();
    assert_eq!(actions.len(), 4, "{text}");
    assert_eq!(files(&place), broken, "a dry run changes nothing");

    let (text, _) = on(&place, 0, &["repair"]);
    assert!(text.contains("4 mended, no fault left"), "{text}");
    on(&place, 0, &["verify", "--deep"]);
    let after = files(&place);
    assert!(!after.contains_key(&plain), "the plain segment is sealed");
    for (key, bytes) in &good {
        assert!(after.get(key) == Some(bytes), "{key} is as it was");
    }
    let mut wanted: Vec<_> = packets.iter().map(|&(_, ts_ns, n)| (ts_ns, n)).collect();
    wanted.extend((0..10).map(|n| (T + n * S, 5000 + n)));
    wanted.sort_unstable();
    assert_eq!(all_packets(&scratch, &place), wanted);
    on(&place, 0, &["repair"]);
    assert_eq!(files(&place), after, "a second run changes nothing");
}

#[test]
fn damaged_data_is_named_and_stays() {
    let scratch = Scratch::new("repair-damaged");
    let (place, _) = imported(&scratch);
    let data = objects(&place, ".pcapng.zst");
    let path = place.join(&data[0]);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let index = place.join(data[0].replace(".pcapng.zst", ".index.parquet"));
    fs::remove_file(&index).unwrap();
    let (text, _) = on(&place, 1, &["repair"]);
    assert!(text.contains("altered") && text.contains("1 fault left"), "{text}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert!(!index.exists());
    let (_, said) = on(&place, 1, &["reindex", &data[0]]);
    assert!(said.contains("was altered"), "{said}");
    let (text, _) = on(&place, 0, &["reindex", "--source", "none"]);
    assert!(text.contains("0 segments"), "{text}");
    let (text, _) = on(&place, 0, &["reindex", &data[1]]);
    assert!(text.contains("0 indexes are new"), "{text}");
}

#[test]
fn orphans_are_entered_and_interrupted_removals_finished() {
    let scratch = Scratch::new("repair-orphans");
    let (place, packets) = imported(&scratch);
    let good = files(&place);
    // All entries are lost, as if every writer had been killed before its last step.
    fs::remove_dir_all(place.join("manifest")).unwrap();
    let found = findings(&place, 1, &["verify"]);
    assert!(found.iter().all(|(kind, _)| kind == "orphan"), "{found:?}");
    on(&place, 0, &["repair"]);
    on(&place, 0, &["verify", "--deep"]);
    let (text, _) = on(&place, 0, &["ls", "--format", "json"]);
    assert_eq!(lines(&text, "total")[0]["packets"], packets.len());

    // Removed by the manifest, and back again: as if a removal had been killed half-way.
    on(&place, 0, &["expire", "--max-bytes", "0"]);
    assert!(objects(&place, ".zst").is_empty());
    for (key, bytes) in good.iter().filter(|(key, _)| key.starts_with("date=")) {
        fs::create_dir_all(place.join(key).parent().unwrap()).unwrap();
        fs::File::create(place.join(key)).unwrap().write_all(bytes).unwrap();
    }
    let found = findings(&place, 1, &["verify"]);
    assert!(found.iter().all(|(kind, _)| kind == "leftover"), "{found:?}");
    on(&place, 0, &["repair"]);
    on(&place, 0, &["verify"]);
    assert!(objects(&place, ".zst").is_empty() && objects(&place, ".parquet").is_empty());
    // A segment that was removed may come in again.
    on(&place, 0, &["import", scratch.path("mixed.pcapng").to_str().unwrap()]);
    on(&place, 0, &["verify", "--deep"]);
    assert_eq!(all_packets(&scratch, &place).len(), packets.len());
}

#[test]
fn a_bucket_is_kept_as_a_folder_is() {
    let scratch = Scratch::new("archive-bucket");
    let root = scratch.path("s3");
    fs::create_dir_all(root.join("bucket")).unwrap();
    let server = s3_server::Server::start(&root, "127.0.0.1:0").unwrap();
    let file = written(&scratch, "mixed.pcapng", &capture(&mixed()));
    let url = Path::new("s3://bucket/prefix");
    let run = |code: i32, secret: &str, words: &[&str]| {
        let mut command = command(words);
        command.arg("--archive").arg(url);
        command.env("AWS_ENDPOINT_URL", format!("http://{}", server.address()));
        command.env("AWS_ALLOW_HTTP", "true").env("AWS_REGION", "us-east-1");
        command.env("AWS_ACCESS_KEY_ID", s3_server::ACCESS_KEY);
        command.env("AWS_SECRET_ACCESS_KEY", secret);
        said(&command.output().unwrap(), code, words)
    };
    let secret = s3_server::SECRET_KEY;
    let (_, said) = run(0, secret, &["import", file.to_str().unwrap()]);
    assert!(said.contains("written 600"), "{said}");
    run(0, secret, &["verify", "--deep"]);
    run(0, secret, &["hold", "case", "--source", "eth0"]);
    let (text, _) = run(0, secret, &["expire", "--max-bytes", "0", "--format", "json"]);
    assert!(!lines(&text, "segment").is_empty() && !lines(&text, "held").is_empty());
    let bucket = root.join("bucket/prefix");
    let data = objects(&bucket, ".pcapng.zst");
    assert!(data.iter().all(|key| key.contains("source=eth0")), "{data:?}");
    let index = bucket.join(data[0].replace(".pcapng.zst", ".index.parquet"));
    let good = fs::read(&index).unwrap();
    fs::remove_file(&index).unwrap();
    run(1, secret, &["verify"]);
    run(0, secret, &["repair"]);
    assert_eq!(fs::read(&index).unwrap(), good);
    let out = scratch.path("out.pcapng");
    run(0, secret, &["cat", &data[0], "-w", out.to_str().unwrap()]);
    assert!(!packets_in(&fs::read(&out).unwrap()).is_empty());
    run(0, secret, &["verify", "--deep"]);
    let (_, said) = run(1, "wrong-secret", &["ls"]);
    assert!(said.contains("s3://bucket/prefix") && !said.contains("wrong-secret"), "{said}");
}
