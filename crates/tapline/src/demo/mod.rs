//! `tapline demo`: the whole line in network namespaces of its own, on real traffic.
//!
//! ```text
//!   client ──────── 10.71.1.0/24 ──────── server     HTTP on port 80, other traffic beside it
//!     │ mirror: tap on the client's NIC, filter "tcp port 80 and host …"
//!     └──────────── 10.71.2.0/24 ──────── sink       receive: VXLAN in, archive
//! ```
//! The namespaces have no names: they are gone with this process and its children, however it ends.

mod check;
mod scene;
mod traffic;

use crate::failure::Failure;
use api::Stats;
use scene::Scene;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use traffic::Traffic;

/// How often a line of the table is printed.
const PERIOD: Duration = Duration::from_secs(1);
/// How often the clock and Ctrl-C are looked at.
const TICK: Duration = Duration::from_millis(20);

pub fn run() -> Result<(), Failure> {
    let seconds = seconds()?;
    let folder = folder()?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .map_err(|e| Failure::CouldNot(format!("take signal {signal}: {e}")))?;
    }

    println!("{}", SCENE_TEXT.trim_matches('\n'));
    let mut scene = Scene::set_up(&folder)?;
    let traffic = Traffic::start(&scene)?;
    println!("{}", TABLE_HEAD);
    let (begun, wanted) = (Instant::now(), Duration::from_secs(seconds));
    let mut next_row = PERIOD.min(wanted);
    while begun.elapsed() < wanted && !interrupted.load(Ordering::Relaxed) {
        std::thread::sleep(TICK);
        if begun.elapsed() >= next_row {
            let (mirror, sink) = scene.ledgers()?;
            print_row(begun.elapsed(), &traffic, &mirror, &sink);
            next_row += PERIOD;
        }
    }
    let done = traffic.stop()?;
    let (mirror, sink) = scene.stop()?;

    println!("\nLedger");
    print!("{mirror}{sink}");
    let lost = mirror.sent.saturating_sub(sink.received);
    println!("network between tap and sink: {lost} lost");
    let archive = scene.archive();
    let read = check::read_back(&archive)?;
    println!("\nFiles, below {}", archive.display());
    for file in &read.files {
        let name = file.path.strip_prefix(&archive).unwrap_or(&file.path);
        println!("  {} packets  {}", file.packets, name.display());
    }
    if let Some(file) = read.files.first() {
        println!("\nOpen one:  tshark -r '{}' -Y http.request", file.path.display());
    }
    let faults = check::faults(&done, &mirror, &sink, &read);
    if done.requests == 0 && interrupted.load(Ordering::Relaxed) {
        println!("\nInterrupted before the first download.");
        return Ok(());
    }
    if faults.is_empty() {
        println!(
            "\nAll {} requests and {:.1} MB of answers stand in the files; nothing is missing.",
            done.requests,
            done.bytes as f64 / 1e6
        );
        return Ok(());
    }
    Err(Failure::CouldNot(faults.join("\n         ")))
}

const SCENE_TEXT: &str = r#"
  client ──────── 10.71.1.0/24 ──────── server      HTTP on port 80, and other traffic
    │  tapline mirror -i eth0 --to vxlan://10.71.2.2?vni=71 'tcp port 80 and host 10.71.1.2'
    └──────────── 10.71.2.0/24 ──────── sink        tapline receive --listen vxlan://0.0.0.0 --archive …
"#;

const TABLE_HEAD: &str = concat!(
    "   time  requests     answers │   seen by tap   filtered    matched       sent ",
    "│   received    written │  dropped",
);

fn print_row(elapsed: Duration, traffic: &Traffic, mirror: &Stats, sink: &Stats) {
    let done = traffic.so_far();
    println!(
        "{:5.1} s {:9} {:7.1} MB │ {:13} {:10} {:10} {:10} │ {:10} {:10} │ {:8}",
        elapsed.as_secs_f64(),
        done.requests,
        done.bytes as f64 / 1e6,
        mirror.seen.unwrap_or(0),
        mirror.filtered.unwrap_or(0),
        mirror.matched,
        mirror.sent,
        sink.received,
        sink.written,
        mirror.drops.total() + sink.drops.total()
    );
}

/// `DEMO_SECONDS`, 15 unless set.
fn seconds() -> Result<u64, Failure> {
    let Some(text) = std::env::var_os("DEMO_SECONDS").filter(|text| !text.is_empty()) else {
        return Ok(15);
    };
    let seconds = text.to_str().and_then(|text| text.parse().ok());
    seconds.filter(|seconds| (1..=3600).contains(seconds)).ok_or_else(|| {
        Failure::Usage(format!("DEMO_SECONDS is {text:?}; write a whole number from 1 to 3600"))
    })
}

/// A new folder below `DEMO_DIR` for this run, so that no earlier one is touched.
fn folder() -> Result<PathBuf, Failure> {
    let set = std::env::var_os("DEMO_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let base = set.unwrap_or_else(|| std::env::temp_dir().join("tapline-demo"));
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let folder = base.join(format!("{now}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|e| {
        Failure::CouldNot(format!(
            "make the folder {}: {e}; set DEMO_DIR to one that you may write to",
            folder.display()
        ))
    })?;
    Ok(folder)
}
