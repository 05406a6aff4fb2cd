//! `mirror -c FILE` that is read again while packets pass: the tap that has not changed loses and
//! doubles nothing, and a file with a mistake changes nothing.

mod over_links;

use over_links::*;
use rig::{Generator, duplicates, missing, numbers_in, reordered, root_or_skip};
use rustix::process::Signal;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const RELOADS: usize = 30;

/// A tap that is always the same, and one that is there in two of three files, each time another one.
fn file(scene: &Scene, round: usize) -> String {
    let sink = scene.host("sink").v4("tapped");
    let always = format!(
        "[[tap]]\nname = \"always\"\ninterface = \"client\"\ndirection = \"in\"\n\
         to = [\"vxlan://{sink}?vni=71\"]\nexpression = \"{NUMBERED}\"\n"
    );
    let snapshot_length = 100 + round;
    let sometimes = format!(
        "[[tap]]\nname = \"sometimes\"\ninterface = \"client\"\ndirection = \"in\"\n\
         to = [\"pcap:heads-{round}.pcapng\"]\nsnapshot_length = {snapshot_length}\n\
         expression = \"{NUMBERED}\"\n"
    );
    // A tap of the way to the sink, whose tunnel is not to be mirrored by the other one either.
    let back = format!(
        "[[tap]]\nname = \"back\"\ninterface = \"sink\"\nto = [\"gre://{sink}?key=9\"]\n\
         expression = \"udp or ip proto 47\"\n"
    );
    match round % 3 {
        0 => always,
        1 => format!("{sometimes}{always}"),
        _ => format!("{always}{sometimes}{back}"),
    }
}

fn write(path: &Path, content: &str) {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, content).expect("the folder is there");
    std::fs::rename(&partial, path).expect("it is on the same file system");
}

#[test]
fn a_tap_that_stays_loses_and_doubles_nothing_while_others_come_and_go() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("mirror-reload");
    let (config, received) = (scene.path("taps.toml"), scene.path("received.pcapng"));
    write(&config, &file(&scene, 0));
    let listen = format!("vxlan://{}?vni=71", scene.host("sink").v4("tapped"));
    let sink = scene.start("sink", &["receive", "--listen", &listen, "-w", text(&received)]);
    let mirror = scene.start("tapped", &["mirror", "-c", text(&config)]);
    let is_done = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let load = scope.spawn(|| {
            let generator = Generator::new(3000, 600_000).flows(8);
            generator.run_while(&scene.host("client").netns, scene.numbered_to(), || {
                !is_done.load(Ordering::Relaxed)
            })
        });
        for round in 1..=RELOADS {
            write(&config, &file(&scene, round));
            mirror.signal(Signal::HUP);
            mirror.wait_for("reloaded: tap sometimes");
        }
        // What cannot be had, and what is not understood, changes nothing.
        for bad in [
            "[[tap]]\nname = \"always\"\ninterface = \"no-such-link\"\nto = [\"null:\"]\n",
            "[[tap]]\ninterfaze = \"client\"\n",
        ] {
            write(&config, bad);
            mirror.signal(Signal::HUP);
            let said = mirror.wait_for("not reloaded");
            assert!(said.contains("no-such-link") || said.contains("taps.toml:2"), "{said}");
        }
        is_done.store(true, Ordering::Relaxed);
        load.join().expect("it does not panic").accepted
    });
    sink.wait_for_received(sent);
    let ledger = mirror.stop();
    assert_eq!(sink.stop().written, sent);
    let numbers = numbers_in(&received);
    assert_eq!(missing(&numbers, sent), [0; 0]);
    assert_eq!(duplicates(&numbers), [0; 0]);
    assert_eq!(reordered(&numbers), [0; 0]);
    // Those that have gone still stand in the ledger, each tap in a line.
    let mut names: Vec<_> = ledger.taps.iter().map(|tap| tap.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["always", "back", "sometimes"], "{ledger}");
    let matched = |name| ledger.taps.iter().find(|tap| tap.name == name).map(|tap| tap.matched);
    assert_eq!(matched("always"), Some(sent), "{ledger}");
    // The tunnel packets of the one tap were no traffic to the other.
    assert_eq!(matched("back"), Some(0), "{ledger}");
    // What the other one recorded in all of its files is what it counted.
    let heads = rig::capture_files(scene.path("")).into_iter();
    let heads = heads.filter(|path| path.to_string_lossy().contains("heads-"));
    let recorded: usize = heads.map(|path| numbers_in(path).len()).sum();
    let of_heads = ledger.targets.iter().filter(|target| target.endpoint.contains("heads-"));
    let (sent, drops) =
        of_heads.fold((0, 0), |(s, d), target| (s + target.sent, d + target.drops.total()));
    assert_eq!(sent, recorded as u64, "{ledger}");
    // Its ring is there while the one before it is still being emptied, and may overflow meanwhile.
    assert_eq!(matched("sometimes"), Some(sent + drops), "{ledger}");
}
