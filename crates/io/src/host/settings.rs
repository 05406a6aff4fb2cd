//! The kernel's settings, and what is mounted.
//!
//! Source: proc_sys(5), proc_pid_mounts(5).

use std::fs;
use std::path::Path;

/// A setting below /proc/sys, such as `net/core/optmem_max`; `None` if this kernel has none of the
/// name, or it may not be read. Those of the network are the calling thread's namespace's.
pub fn setting(name: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
    Some(text.trim().to_owned())
}

/// A setting that is a number.
pub fn setting_number(name: &str) -> Option<u64> {
    setting(name)?.parse().ok()
}

/// The kernel's release, such as `6.6.31-amd64`, and the two numbers in front of it.
pub fn kernel_release() -> Option<(String, (u32, u32))> {
    let release = setting("kernel/osrelease")?;
    let numbers = release_numbers(&release)?;
    Some((release, numbers))
}

/// Where a file system of a kind is mounted, in the order of mounting.
pub fn mounts_of(kind: &str) -> Vec<String> {
    let text = fs::read_to_string("/proc/thread-self/mounts").unwrap_or_default();
    mounted(&text, kind)
}

fn mounted(mounts: &str, kind: &str) -> Vec<String> {
    let place = |line: &str| {
        let mut words = line.split(' ');
        let (_, place, of) = (words.next()?, words.next()?, words.next()?);
        (of == kind).then(|| place.to_owned())
    };
    mounts.lines().filter_map(place).collect()
}

fn release_numbers(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_and_mounts_are_read() {
        assert_eq!(release_numbers("6.6.31-amd64"), Some((6, 6)));
        assert_eq!(release_numbers("6.18.0"), Some((6, 18)));
        assert_eq!(release_numbers("next"), None);
        let mounts = "proc /proc proc rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\nx /y\n";
        assert_eq!(mounted(mounts, "bpf"), ["/sys/fs/bpf"]);
        assert!(mounts_of("proc").contains(&"/proc".into()));
        assert!(kernel_release().is_some());
        assert_eq!(setting("net/core/no-such-setting"), None);
        assert!(setting_number("net/core/rmem_max").is_some());
    }
}
