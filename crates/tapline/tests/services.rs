//! The units of all services: what they have in common, and what the service manager is told of a
//! reload.

mod over_loopback;

use over_loopback::*;
use rig::{Running, Scratch, root_or_skip, tool_or_skip};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The exposure level above which `systemd-analyze security` is to fail, in tenths.
const EXPOSURE_MAX: &str = "25";

fn units() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/systemd");
    let units = files(&folder, ".service");
    let names: Vec<_> = units.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    let wanted = ["broker", "l2tp-receive", "l2tp-transmit", "mirror", "receive"];
    assert_eq!(names, wanted.map(|name| format!("tapline-{name}.service")));
    units
}

/// The words of a setting, of all its lines.
fn words(unit: &str, key: &str) -> Vec<String> {
    let values = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

#[test]
fn every_unit_is_watched_has_a_socket_and_no_more_rights_than_it_needs() {
    for path in units() {
        let (unit, name) = (fs::read_to_string(&path).unwrap(), path.display());
        for (key, value) in [
            ("Type", "notify"),
            ("NotifyAccess", "main"),
            ("WatchdogSec", "30"),
            ("Restart", "on-failure"),
            ("DynamicUser", "yes"),
            ("User", "tapline"),
            ("RuntimeDirectoryPreserve", "yes"),
            ("Environment", "TAPLINE_RUN_DIR=%t/tapline"),
            ("NoNewPrivileges", "yes"),
            ("ProtectSystem", "strict"),
            ("MemoryDenyWriteExecute", "yes"),
        ] {
            assert_eq!(words(&unit, key), [value], "{name}: {key}");
        }
        assert_eq!(words(&unit, "RuntimeDirectory")[0], "tapline", "{name}");
        let rights = ["CAP_NET_RAW", "CAP_BPF", "CAP_NET_ADMIN"];
        assert_eq!(words(&unit, "CapabilityBoundingSet"), rights, "{name}");
        // Only who makes a TAP device sees one of the host's devices.
        let devices: &[&str] = match name.to_string().contains("l2tp-receive") {
            true => &["/dev/net/tun", "rw"],
            false => &[],
        };
        assert_eq!(words(&unit, "DeviceAllow"), devices, "{name}");
        let has_file = words(&unit, "ExecStart").contains(&"-c".into());
        assert_eq!(
            words(&unit, "ExecReload").join(" "),
            match has_file {
                true => "kill -HUP $MAINPID",
                false => "",
            }
        );
    }
}

#[test]
fn their_command_lines_are_understood() {
    for path in units().into_iter().filter(|path| !path.ends_with("tapline-receive.service")) {
        let command = words(&fs::read_to_string(&path).unwrap(), "ExecStart");
        assert_eq!(command[0], "/usr/bin/tapline");
        let arguments = command[1..].iter().filter(|word| !word.starts_with('$'));
        let arguments = arguments.map(|word| word.replace("/etc/tapline/", "/dev/null/"));
        let output = Command::new(BINARY).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        // It gets as far as its file.
        assert_eq!(output.status.code(), Some(1), "{}: {said}", path.display());
        assert!(said.contains("/dev/null/"), "{}: {said}", path.display());
    }
}

#[test]
fn the_units_pass_systemd_s_own_checks() {
    if !tool_or_skip("systemd-analyze") {
        return;
    }
    let scratch = Scratch::new("services-verify");
    for path in units() {
        // The program and the manual page that it names are not installed here.
        let unit = fs::read_to_string(&path).unwrap().replace("/usr/bin/tapline", BINARY);
        let lines = unit.lines().filter(|line| !line.starts_with("Documentation="));
        let copy = scratch.path(path.file_name().unwrap().to_str().unwrap());
        fs::write(&copy, lines.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).unwrap();
        let output = Command::new("systemd-analyze").arg("verify").arg(&copy).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{}: {said}", path.display());
        let mut security = Command::new("systemd-analyze");
        security.args(["security", "--offline=yes", "--no-pager", "--threshold", EXPOSURE_MAX]);
        let output = security.arg(&copy).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}: {said}", path.display());
    }
}

#[test]
fn the_service_manager_is_told_of_a_reload_and_of_its_end() {
    if !root_or_skip() {
        return;
    }
    let scratch = Scratch::new("services-reload");
    let (socket, config) = (scratch.path("notify"), scratch.path("broker.toml"));
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(SOON)).unwrap();
    let told = || {
        let mut message = [0; 256];
        let len = manager.recv(&mut message).unwrap();
        String::from_utf8(message[..len].to_vec()).unwrap()
    };
    let file = format!(
        "[[source]]\nname = \"a\"\nlisten = \"vxlan://127.0.0.1:{}\"\n\
         [[target]]\nname = \"b\"\nto = \"null:\"\n\
         [[map]]\nname = \"c\"\nfrom = [\"a\"]\nto = [\"b\"]\n",
        free_port()
    );
    fs::write(&config, &file).unwrap();
    let mut command = Command::new(BINARY);
    command.env("NOTIFY_SOCKET", &socket).args(["broker", "-c", text(&config)]);
    let broker = Running::start(&mut command);
    assert_eq!(told().trim_end(), "READY=1");
    // Also where the file has a mistake: the service goes on with the old one.
    for content in [file.as_str(), "nonsense"] {
        fs::write(&config, content).unwrap();
        broker.signal(Signal::HUP);
        let reloading = told();
        let since = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&reloading);
        assert!(since.trim_end().parse::<u64>().is_ok(), "{reloading}");
        assert_eq!(told().trim_end(), "READY=1");
    }
    broker.signal(Signal::TERM);
    assert_eq!(told().trim_end(), "STOPPING=1");
    let ended = broker.finish(SOON);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
}
