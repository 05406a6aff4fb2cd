//! `doctor` in a namespace that has what it warns of, and what it does not; and nothing is changed.

mod over_links;

use over_links::*;
use rig::{root_or_skip, tool_or_skip};
use serde_json::Value;

/// Its exit code, and its findings.
fn doctor(scene: &Scene, words: &[&str]) -> (i32, Vec<Value>) {
    let mut command = scene.host("tapped").netns.command(BINARY);
    let output = command.args(["doctor", "--format", "json"]).args(words).output();
    let output = output.expect("it can be started");
    let text = String::from_utf8(output.stdout).expect("it is UTF-8");
    let findings = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    (output.status.code().expect("it ends by itself"), findings)
}

/// The finding whose text contains this.
fn finding<'a>(findings: &'a [Value], what: &str) -> &'a Value {
    let of = |finding: &&Value| finding["what"].as_str().is_some_and(|text| text.contains(what));
    findings.iter().find(of).unwrap_or_else(|| panic!("nothing about `{what}`: {findings:#?}"))
}

#[test]
fn what_is_wrong_is_told_with_its_mend_and_nothing_is_changed() {
    if !root_or_skip() || !tool_or_skip("nft") {
        return;
    }
    let scene = Scene::new("doctor");
    let tapped = scene.host("tapped");
    let (code, findings) = doctor(&scene, &[]);
    assert_eq!(code, 0, "{findings:#?}");
    assert_eq!(finding(&findings, "CAP_NET_RAW")["state"], "ok");
    assert_eq!(finding(&findings, "packet ring (TPACKET_V3): works")["state"], "ok");
    assert_eq!(finding(&findings, "chain drops packets of this host")["state"], "ok");
    for finding in &findings {
        let is_ok = finding["state"] == "ok";
        assert_eq!(finding["why"].is_null(), is_ok, "{finding}");
    }

    let set = "echo 1 > /proc/sys/net/ipv4/conf/client/rp_filter";
    assert!(tapped.netns.command("sh").args(["-c", set]).status().expect("sh runs").success());
    let nft = "add table inet guard; \
               add chain inet guard way-in { type filter hook input priority 0 ; policy drop ; }";
    assert!(tapped.netns.command("nft").arg(nft).status().expect("nft runs").success());
    let links = tapped.ip("-d link");
    let sink = scene.host("sink").v4("tapped");
    let to = format!("vxlan://{sink}?vni=7");
    let (code, findings) = doctor(&scene, &["-i", "client", "--to", &to]);
    assert_eq!(code, 0, "{findings:#?}");
    let strict = finding(&findings, "rp_filter: strict on client");
    let mend = "sysctl -w net.ipv4.conf.client.rp_filter=2";
    assert_eq!((&strict["state"], &strict["mend"]), (&"warning".into(), &mend.into()));
    let chain = finding(&findings, "chain `way-in` of table `guard`");
    assert_eq!(chain["state"], "warning");
    assert!(chain["mend"].as_str().is_some_and(|mend| mend.contains("UDP 4789")), "{chain}");
    // 1500 bytes of IP in a frame do not fit a tunnel of the same MTU.
    let long = finding(&findings, "frames of client are too long");
    assert!(long["why"].as_str().is_some_and(|why| why.contains("need 1550")), "{long}");
    assert_eq!(long["mend"], "ip link set sink mtu 1550, and along the path");
    assert_eq!(finding(&findings, "client: up, MTU 1500")["state"], "ok");
    assert_eq!(tapped.ip("-d link"), links);
    let (_, after) = doctor(&scene, &["-i", "client", "--to", &to]);
    assert_eq!(after.len(), findings.len());
}

#[test]
fn what_makes_a_tap_impossible_is_a_fault() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::new("doctor-faults");
    let (code, findings) = doctor(&scene, &["-i", "nowhere"]);
    assert_eq!(code, 1);
    assert_eq!(finding(&findings, "`nowhere`")["state"], "fault");
    let (code, findings) = doctor(&scene, &["--to", "vxlan://192.0.2.1?vni=7"]);
    assert_eq!(code, 1);
    assert_eq!(finding(&findings, "no route to 192.0.2.1")["state"], "fault");
    scene.host("tapped").ip("link set client down");
    let (code, findings) = doctor(&scene, &["-i", "client"]);
    assert_eq!(code, 0, "it may come up: {findings:#?}");
    let down = finding(&findings, "client: down");
    assert_eq!(
        (&down["state"], &down["mend"]),
        (&"warning".into(), &"ip link set client up".into())
    );
}
