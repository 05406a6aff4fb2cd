//! `diag offload` says what ethtool says, what fits a tunnel, and changes nothing; `mirror` warns alike.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod over_links;

use over_links::{BINARY, Scene};
use rig::{root_or_skip, tool_or_skip};
use serde_json::Value;

/// Runs it at the tapped host; gives the lines of JSON.
fn diag(scene: &Scene, words: &[&str]) -> Vec<Value> {
    let mut command = scene.host("tapped").netns.command(BINARY);
    let output =
        command.args(["diag", "offload", "--format", "json"]).args(words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ethtool(scene: &Scene, words: &[&str]) -> String {
    let output = scene.host("tapped").netns.command("ethtool").args(words).output().unwrap();
    assert!(output.status.success(), "ethtool {words:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn is_on(interface: &Value, name: &str) -> Option<bool> {
    let offloads = interface["offloads"].as_array().unwrap();
    offloads.iter().find(|offload| offload["name"] == name).unwrap()["on"].as_bool()
}

#[test]
fn offloads_are_told_and_left_alone() {
    if !root_or_skip() || !tool_or_skip("ethtool") {
        return;
    }
    let scene = Scene::new("diag-offload");
    let before = ethtool(&scene, &["-k", "client"]);
    let found = diag(&scene, &["-i", "client"]);
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0]["interface"].as_str(), found[0]["mtu"].as_u64()),
        (Some("client"), Some(1500))
    );
    for (name, state) in [("tso", "tcp-segmentation-offload"), ("gro", "generic-receive-offload")] {
        let line = before.lines().find(|line| line.starts_with(&format!("{state}:"))).unwrap();
        assert_eq!(is_on(&found[0], name), Some(line.contains(": on")), "{line}");
    }
    assert_eq!(is_on(&found[0], "lro"), Some(false));
    assert_eq!(ethtool(&scene, &["-k", "client"]), before);

    ethtool(&scene, &["-K", "client", "tso", "off", "gro", "on"]);
    let found = diag(&scene, &["-i", "client"]);
    assert_eq!((is_on(&found[0], "tso"), is_on(&found[0], "gro")), (Some(false), Some(true)));
    let all: Vec<Value> = diag(&scene, &[]);
    let names: Vec<&str> = all.iter().map(|found| found["interface"].as_str().unwrap()).collect();
    assert!(["lo", "client", "sink"].iter().all(|name| names.contains(name)), "{names:?}");
}

#[test]
fn what_does_not_fit_is_told_beforehand() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::new("diag-fit");
    let sink = scene.host("sink");
    let targets = [
        (format!("vxlan://{}?vni=7", sink.v4("tapped")), 36),
        (format!("vxlan://[{}]?vni=7", sink.v6("tapped")), 56),
        (format!("gretap://{}?key=7", sink.v4("tapped")), 28),
    ];
    for (target, overhead) in &targets {
        for (mtu, fits) in [(1500, false), (1514 + overhead - 1, false), (1514 + overhead, true)] {
            scene.host("tapped").ip(&format!("link set sink mtu {mtu}"));
            let found = diag(&scene, &["-i", "client", "--to", target]);
            let found = &found[1];
            assert_eq!(found["route"]["interface"], "sink");
            assert_eq!(found["route"]["mtu"], mtu);
            assert_eq!(found["overhead_bytes"], *overhead);
            assert_eq!(found["frame_bytes_max"], mtu - overhead);
            let warnings = found["warnings"].as_array().unwrap();
            assert_eq!(warnings.is_empty(), fits, "{target}, MTU {mtu}: {warnings:?}");
            for warning in warnings {
                let warning = warning.as_str().unwrap();
                assert!(warning.contains(&format!("need {}", 1514 + overhead)), "{warning}");
            }
        }
    }
    scene.host("tapped").ip("link set sink mtu 1500");
    let target = &targets[0].0;
    let mirror = scene.start("tapped", &["mirror", "-i", "client", "--to", target]);
    mirror.signal(rustix::process::Signal::INT);
    let (_, said) = mirror.finish(0);
    assert!(said.contains("need 1550 in the tunnel, the path takes 1500"), "{said}");
    let mirror = scene.start("tapped", &["mirror", "-i", "client", "-s", "1464", "--to", target]);
    mirror.signal(rustix::process::Signal::INT);
    let (_, said) = mirror.finish(0);
    assert!(!said.contains("the path takes"), "{said}");

    scene.host("tapped").ip("link set sink down");
    let found = diag(&scene, &["-i", "client", "--to", target]);
    let warning = found[1]["warnings"][0].as_str().unwrap();
    assert!(warning.contains("no route"), "{warning}");
    assert_eq!(found[1]["route"], Value::Null);
}
