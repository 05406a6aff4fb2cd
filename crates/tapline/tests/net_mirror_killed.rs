//! A mirror in the kernel that is killed at any moment under load leaves nothing behind, and the
//! host's own traffic does not notice. KILLS says how often it is killed, STRICT that
//! bounds in time hold to the millisecond.

mod over_kernel;
mod over_links;

use io::bpf::list::Object;
use io::host::held_by;
use over_kernel::{STALL_MAX, Stream, bound, traces};
use over_links::*;
use rig::rules::Random;
use rig::{Running, root_or_skip, tool_or_skip, wait_until};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const KILLS: usize = 20;
/// How soon all must be gone.
const GONE: Duration = Duration::from_secs(1);
/// How long a mirror lives at most, once it taps, or from its start.
const LIFE_MS: usize = 60;
const START_MS: usize = 150;

/// What a process had that outlives nobody.
#[derive(Debug)]
struct Held {
    objects: Vec<Object>,
    children: Vec<u32>,
}

impl Held {
    fn by(pid: u32) -> Held {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let children =
            tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        let children = children.collect::<Vec<_>>().join(" ");
        let children = children.split_ascii_whitespace().filter_map(|word| word.parse().ok());
        Held { objects: held_by(pid), children: children.collect() }
    }

    fn is_gone(&self) -> bool {
        let is_there = |object: &Object| object.is_there().expect("root may ask");
        let lives = |pid: &u32| PathBuf::from(format!("/proc/{pid}")).exists();
        !self.objects.iter().any(is_there) && !self.children.iter().any(lives)
    }
}

#[test]
fn nothing_is_left_and_the_host_does_not_notice() {
    if !root_or_skip() || !tool_or_skip("tc") {
        return;
    }
    let kills = std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    let scene = Scene::alone("mirror-killed");
    let tapped = scene.host("tapped");
    let sink = scene.host("sink").v4("tapped");
    let far_ends = [
        format!("vxlan://{sink}?vni=7"),
        format!("geneve://{sink}?vni=8,vxlan://[{}]?vni=9", scene.host("sink").v6("tapped")),
    ];
    let before = traces(tapped);
    let address = (tapped.v4("client"), 80).into();
    let stream = Stream::start(scene.host("client"), tapped, address);
    let mut random = Random::new(0x6b69_6c6c);
    let (mut while_starting, mut slowest, mut objects) = (0, Duration::ZERO, 0);
    for round in 0..kills {
        let mut command = tapped.netns.command(BINARY);
        command.env("TAPLINE_RUN_DIR", scene.path("run"));
        command.args(["mirror", "-i", "client", "--datapath", "kernel"]);
        command.args(["--to", &far_ends[0], "--to", &far_ends[1], "tcp or udp"]);
        let mirror = Running::start(&mut command);
        // Each third one does not live to tap.
        let is_early = round % 3 == 2;
        let life = match is_early {
            true => random.below(START_MS),
            false => {
                mirror.wait_for("listening on", STARTED);
                random.below(LIFE_MS)
            }
        };
        std::thread::sleep(Duration::from_millis(life as u64));
        let held = Held::by(mirror.id());
        if !is_early {
            let links = held.objects.iter().filter(|object| matches!(object, Object::Link(_)));
            assert!(links.count() >= 2, "it taps in the kernel: {held:?}");
            assert_ne!(traces(tapped), before);
        }
        while_starting += usize::from(is_early);
        objects += held.objects.len();
        let killed = Instant::now();
        drop(mirror);
        let what = format!("round {round}: all is gone\n{before}\n{}\n{held:?}", traces(tapped));
        wait_until(&what, bound(GONE), || held.is_gone() && traces(tapped) == before);
        slowest = slowest.max(killed.elapsed());
    }
    let begun = Instant::now();
    let bytes = stream.bytes();
    wait_until("the stream goes on", SOON, || stream.bytes() > bytes);
    let passed = stream.stop();
    eprintln!(
        "{kills} kills, {while_starting} of them while it starts; {objects} programs, maps and links, \
         gone within {slowest:?}; {} bytes of TCP, stalled for {:?} at most ({:?} by the clock), \
         {} timeouts, {} segments sent again; went on after {:?}",
        passed.bytes,
        passed.stalled,
        passed.stalled_by_clock,
        passed.timeouts,
        passed.sent_again,
        begun.elapsed()
    );
    assert!(passed.bytes > 1 << 20, "{passed:?}");
    assert!(passed.stalled <= bound(STALL_MAX), "{passed:?}");
}
