//! How large a ring is, where nobody says so: by the speed of the link and the memory there is.
//!
//! ```text
//! 100 ms of the link at its full rate (64 MiB if the speed is not known)
//! 16 MiB ≤ … ≤ 512 MiB, and at most 1/8 of the memory that is available
//! ```
//! Available is `MemAvailable` of `/proc/meminfo`, and what the limits of the process's control groups
//! leave. Source: proc_meminfo(5), Linux `Documentation/admin-guide/cgroup-v2.rst`, cgroups(7).

use std::path::{Path, PathBuf};

/// Bytes that a link of 1 Mb/s carries in 100 ms.
const BYTES_PER_MBPS: u64 = 1_000_000 / 8 / 10;
/// For a link whose speed nobody knows, as virtual NICs' often: half a second of 64-byte packets at a
/// million a second.
const BYTES_UNKNOWN: u64 = 64 << 20;
const BYTES_MIN: u64 = 16 << 20;
const BYTES_MAX: u64 = 512 << 20;
/// The part of the memory that a tap's rings may take.
const MEMORY_PART: u64 = 8;

/// Bytes of a ring for a link of this speed, if it is known.
pub(super) fn bytes_for(speed_mbps: Option<u32>) -> usize {
    choose(speed_mbps, memory_available(Path::new("/"))) as usize
}

fn choose(speed_mbps: Option<u32>, available: Option<u64>) -> u64 {
    let wanted = speed_mbps.map_or(BYTES_UNKNOWN, |speed| u64::from(speed) * BYTES_PER_MBPS);
    let memory = available.map_or(u64::MAX, |available| available / MEMORY_PART);
    wanted.clamp(BYTES_MIN, BYTES_MAX).min(memory)
}

/// Bytes that this process may still take, as far as the files below `root` say so.
fn memory_available(root: &Path) -> Option<u64> {
    let meminfo = std::fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
    let of_system = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.parse::<u64>().ok())
        .map(|kib| kib << 10);
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let of_groups = groups.lines().filter_map(|group| of_group(root, group));
    of_system.into_iter().chain(of_groups).min()
}

/// What a control group, a line of `/proc/self/cgroup`, and those above it leave.
fn of_group(root: &Path, line: &str) -> Option<u64> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let (folder, [limit, used]) = match controllers {
        "" => ("sys/fs/cgroup", ["memory.max", "memory.current"]),
        _ if controllers.split(',').any(|controller| controller == "memory") => {
            ("sys/fs/cgroup/memory", ["memory.limit_in_bytes", "memory.usage_in_bytes"])
        }
        _ => return None,
    };
    // In a container the path may be the host's, where only its last part, or nothing, is there.
    let folder = root.join(folder);
    let path = folder.join(path.trim_start_matches('/'));
    let levels = path.ancestors().take_while(|level| level.starts_with(&folder));
    let left = levels.filter_map(|level| {
        let bytes = |file: &str| number_in(&level.join(file));
        Some(bytes(limit)?.saturating_sub(bytes(used).unwrap_or(0)))
    });
    left.min()
}

/// The number in a file; none if there is no file or the word `max` in it.
fn number_in(path: &PathBuf) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rig::Scratch;

    const MIB: u64 = 1 << 20;

    #[test]
    fn speed_and_memory_decide_within_bounds() {
        for (speed, available, mib) in [
            (None, None, 64),
            (Some(10), None, 16),
            (Some(1_000), None, 16),
            (Some(100_000), None, 512),
            (Some(u32::MAX), None, 512),
            (Some(100_000), Some(1024 * MIB), 128),
            (None, Some(80 * MIB), 10),
        ] {
            assert_eq!(choose(speed, available), mib * MIB, "{speed:?} {available:?}");
        }
        assert_eq!(choose(Some(10_000), None), 125_000_000);
    }

    #[test]
    fn the_lowest_limit_of_all_groups_counts() {
        let scratch = Scratch::new("ring-size");
        let root = scratch.folder();
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(memory_available(root), None);
        write("proc/meminfo", "MemTotal:       9000 kB\nMemAvailable:    8000 kB\nMemFree: 1 kB\n");
        assert_eq!(memory_available(root), Some(8000 << 10));
        write("proc/self/cgroup", "1:name=systemd:/x\n0::/pod/tapline\n");
        assert_eq!(memory_available(root), Some(8000 << 10));
        write("sys/fs/cgroup/pod/tapline/memory.max", "max\n");
        write("sys/fs/cgroup/pod/memory.max", "5000000\n");
        assert_eq!(memory_available(root), Some(5_000_000));
        write("sys/fs/cgroup/pod/memory.current", "2000000\n");
        assert_eq!(memory_available(root), Some(3_000_000));
        write("sys/fs/cgroup/memory.max", "1000000\n");
        assert_eq!(memory_available(root), Some(1_000_000));
        write("proc/self/cgroup", "9:cpu,memory:/docker/1\n2:cpu:/\nbad\n");
        write("sys/fs/cgroup/memory/memory.limit_in_bytes", "700000\n");
        write("sys/fs/cgroup/memory/memory.usage_in_bytes", "800000\n");
        assert_eq!(memory_available(root), Some(0));
    }

    #[test]
    fn this_machine_s_memory_is_found() {
        assert!(memory_available(Path::new("/")).is_some_and(|bytes| bytes > MIB));
        assert!(bytes_for(Some(1_000)) as u64 <= BYTES_MIN);
    }
}
