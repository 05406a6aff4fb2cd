//! CPU time that a run takes, wherever the kernel spends it.
//!
//! What hangs on an interface runs in the context of who sends into it, and is on that thread's clock.
//! What the kernel puts off runs in its own threads, `ksoftirqd`, one a CPU.

use super::process::cpu_ns;
use anyhow::Context;

/// A tick of `/proc/stat`, ns.
const TICK_NS: u64 = 10_000_000;

/// CPU time of the kernel's threads for what it has put off, ns.
///
/// # Errors
/// If the kernel shows none, or no `schedstat`.
pub fn put_off_ns() -> anyhow::Result<u64> {
    let threads = put_off_threads()?;
    threads.into_iter().map(cpu_ns).sum()
}

fn put_off_threads() -> anyhow::Result<Vec<u32>> {
    let mut threads = Vec::new();
    for entry in std::fs::read_dir("/proc").context("/proc")? {
        let entry = entry?;
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end between the two.
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if name.starts_with("ksoftirqd/") {
            threads.push(id);
        }
    }
    Ok(threads)
}

/// CPUs of the machine, whichever of them the calling thread may use.
///
/// # Errors
/// If `/proc/stat` cannot be read.
pub fn cpus() -> anyhow::Result<u64> {
    Ok(cpus_in(&std::fs::read_to_string("/proc/stat").context("/proc/stat")?))
}

/// A line for all of them together, then one for each.
fn cpus_in(text: &str) -> u64 {
    (text.lines().take_while(|line| line.starts_with("cpu")).count() as u64).saturating_sub(1)
}

/// Time that all CPUs together were idle since the start of the machine, ns, to 10 ms.
///
/// # Errors
/// If `/proc/stat` is not as the kernel writes it.
pub fn idle_ns() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/stat").context("/proc/stat")?;
    idle_ns_in(&text).with_context(|| format!("/proc/stat: {}", text.lines().next().unwrap_or("")))
}

/// The first line is `cpu`, then ticks: user, nice, system, idle, waiting for a disk, …
fn idle_ns_in(text: &str) -> Option<u64> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> =
        line.split_whitespace().take(5).map(str::parse).collect::<Result<_, _>>().ok()?;
    Some((ticks.get(3)? + ticks.get(4)?) * TICK_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_read() {
        let text = "cpu  10 2 30 400 5 6 7 8 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n";
        assert_eq!(idle_ns_in(text), Some(405 * TICK_NS));
        assert_eq!(idle_ns_in("cpu0 1 2 3 4 5"), None);
        assert_eq!(cpus_in(&format!("{text}cpu1 1 2 3 4 5\nintr 1 2 3\n")), 2);
        assert!(idle_ns().unwrap() > 0);
    }

    #[test]
    fn the_kernel_s_threads_are_found() {
        // A container may not see them; where it does, they have run.
        for thread in put_off_threads().unwrap() {
            assert!(cpu_ns(thread).is_ok(), "{thread}");
        }
    }
}
