//! `tapline mirror` as a service: its unit file, and the taps that it names.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

use rig::{Scratch, tool_or_skip};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const BINARY: &str = env!("CARGO_BIN_EXE_tapline");

fn unit() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(path.join("../../packaging/systemd/tapline-mirror.service")).unwrap()
}

/// The words of a setting, of all its lines.
fn words(unit: &str, key: &str) -> Vec<String> {
    let values = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

#[test]
fn the_unit_gives_what_a_tap_needs_and_no_more() {
    let unit = unit();
    let rights = ["CAP_NET_RAW", "CAP_BPF", "CAP_NET_ADMIN"];
    assert_eq!(words(&unit, "CapabilityBoundingSet"), rights);
    assert_eq!(words(&unit, "AmbientCapabilities"), rights);
    assert_eq!(words(&unit, "Type"), ["notify"]);
    assert_eq!(words(&unit, "NoNewPrivileges"), ["yes"]);
    let families = words(&unit, "RestrictAddressFamilies");
    for family in ["AF_PACKET", "AF_NETLINK", "AF_INET", "AF_INET6", "AF_UNIX"] {
        assert!(families.iter().any(|word| word == family), "{family}");
    }
    // Those that a filter in the kernel and a worker of its own core need come last.
    assert!(
        words(&unit, "SystemCallFilter").ends_with(&["bpf".into(), "sched_setaffinity".into()])
    );
    // What a tap reads to size its ring.
    assert!(words(&unit, "ProcSubset").is_empty());
}

#[test]
fn its_command_line_is_understood() {
    let scratch = Scratch::new("mirror-service");
    let taps = scratch.path("taps.toml");
    fs::write(&taps, "[[tap]]\nread = \"nonexistent\"\nto = [\"null:\"]\n").unwrap();
    let command = words(&unit(), "ExecStart");
    assert_eq!(command[0], "/usr/bin/tapline");
    let arguments = command[1..].iter().filter(|word| !word.starts_with('$'));
    let arguments = arguments.map(|word| match word.as_str() {
        "/etc/tapline/taps.toml" => taps.to_str().unwrap(),
        word => word,
    });
    let output = Command::new(BINARY).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // It gets as far as the source, which is relative to the file.
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(scratch.path("nonexistent").to_str().unwrap()), "{said}");
}

#[test]
fn the_unit_passes_systemd_s_own_check() {
    if !tool_or_skip("systemd-analyze") {
        return;
    }
    let scratch = Scratch::new("mirror-verify");
    // The program and the manual page that it names are not installed here.
    let unit = unit().replace("/usr/bin/tapline", BINARY);
    let lines = unit.lines().filter(|line| !line.starts_with("Documentation="));
    let path = scratch.path("tapline-mirror.service");
    fs::write(&path, lines.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let output = Command::new("systemd-analyze").arg("verify").arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
