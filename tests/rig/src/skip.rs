//! Whether a test can run here, and the line that says why not: `skipped: <test>: <why>`. The test's
//! name is that of the calling thread.

use io::netns::Netns;
use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;

/// Says whether network namespaces can be made; if not, prints why the test is skipped.
///
/// # Panics
/// In CI (`CI=true`) as root: there they must be possible, and no test is skipped unseen.
pub fn root_or_skip() -> bool {
    static REFUSAL: OnceLock<Option<String>> = OnceLock::new();
    let refusal = REFUSAL.get_or_init(|| Netns::new().err().map(|e| e.to_string()));
    let Some(why) = refusal else { return true };
    if !rustix::process::geteuid().is_root() {
        return skip("needs root, to make a network namespace");
    }
    assert!(!in_ci(), "no network namespace in CI, although it runs as root: {why}");
    skip(why)
}

/// Says whether a program is installed; if not, prints why the test is skipped.
///
/// # Panics
/// In CI (`CI=true`): it installs all that the tests use.
pub fn tool_or_skip(program: &str) -> bool {
    if is_installed(program) {
        return true;
    }
    let why = format!("{program} is not installed (`make prerequisites` installs it)");
    assert!(!in_ci(), "{why}, and CI installs everything: see scripts/prerequisites");
    skip(&why)
}

/// Says whether the kernel can make a kind of network interface, in the words of `ip link add`, for
/// example `type bridge`; if not, prints why the test is skipped. Needs root, so ask
/// [`root_or_skip`] first. Small kernels lack some, in CI too.
pub fn link_or_skip(words: &str) -> bool {
    let made = Netns::new().and_then(|netns| netns.ip(&format!("link add probe {words}")));
    let Err(why) = made else { return true };
    skip(&why.to_string())
}

fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

fn is_installed(program: &str) -> bool {
    // Administrators' programs are not on every user's PATH.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(program)).any(|file| Path::is_file(&file))
}

/// Writes past the test runner's capture, so that the line is seen though the test passes; in one
/// piece, as other tests write too. Gives `false`: it cannot run.
pub fn skip(why: &str) -> bool {
    let thread = std::thread::current();
    let line = format!("skipped: {}: {why}\n", thread.name().unwrap_or("a test"));
    let _ = std::io::stderr().write_all(line.as_bytes());
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_interfaces_are_probed() {
        if !root_or_skip() {
            return;
        }
        assert!(link_or_skip("type veth peer name other"));
        assert!(!link_or_skip("type nobody-s-kind"));
    }

    #[test]
    fn programs_are_found_by_name() {
        assert!(is_installed("sh"));
        assert!(!is_installed("a-program-that-nobody-has"));
    }
}
