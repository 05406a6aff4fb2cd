//! What this process may do, and how much it may have.

use super::finding::Finding;
use io::host::{Capability, Rights, kernel_release, limit};

/// Descriptors below which many taps or a busy recorder do not fit.
const FILES_WANTED: u64 = 1024;
/// Kernels before this count maps and programs as locked memory.
const MEMLOCK_UNTIL: (u32, u32) = (5, 11);
const MEMLOCK_WANTED_BYTES: u64 = 64 << 20;
const GIVE: &str =
    "run it as root, or: setcap cap_net_raw,cap_net_admin,cap_bpf+ep $(command -v tapline)";

pub fn check() -> Vec<Finding> {
    let mut findings = match Rights::read() {
        Ok(rights) => Capability::ALL.map(|capability| of(rights, capability)).to_vec(),
        Err(error) => vec![Finding::warning("rights", error.to_string(), "", "mount /proc")],
    };
    if Rights::read().is_ok_and(|rights| !rights.is_of_host) {
        findings.push(Finding::warning(
            "rights",
            "this is a user namespace",
            "its root may not load programs into the kernel",
            "run tapline on the host, or in a privileged container; `--datapath ring` does without",
        ));
    }
    findings.push(files());
    findings.extend(locked_memory());
    findings
}

fn of(rights: Rights, capability: Capability) -> Finding {
    let name = capability.name();
    if rights.has(capability) {
        return Finding::ok("rights", name);
    }
    let missing = format!("{name} is missing");
    match capability {
        Capability::NetRaw => Finding::fault("rights", missing, "no interface can be tapped", GIVE),
        Capability::NetAdmin => Finding::warning(
            "rights",
            missing,
            "no path in the kernel, no promiscuous mode, no TAP devices, no large socket buffers",
            GIVE,
        ),
        Capability::Bpf => Finding::warning(
            "rights",
            missing,
            "filters run in user space, and there is no path in the kernel",
            GIVE,
        ),
        Capability::SysAdmin => Finding::warning(
            "rights",
            missing,
            "no path in the kernel (its private devices are in a network namespace), no `--netns`, and \
             `diag taps` cannot list the programs of others",
            "run it as root, or give it cap_sys_admin, too",
        ),
    }
}

fn files() -> Finding {
    match limit("Max open files") {
        Some(files) if files < FILES_WANTED => Finding::warning(
            "limits",
            format!("{files} open files"),
            "each tap, target and connection takes some",
            format!("ulimit -n {FILES_WANTED}, or LimitNOFILE= of the service"),
        ),
        Some(files) => Finding::ok("limits", format!("{files} open files")),
        None => Finding::warning("limits", "not told", "/proc is not readable", "mount /proc"),
    }
}

/// Only where the kernel bounds programs by it.
fn locked_memory() -> Option<Finding> {
    let (_, numbers) = kernel_release()?;
    let bytes = limit("Max locked memory").filter(|_| numbers < MEMLOCK_UNTIL)?;
    Some(match bytes < MEMLOCK_WANTED_BYTES {
        true => Finding::warning(
            "limits",
            format!("{bytes} bytes of locked memory"),
            "programs and maps count as locked memory before Linux 5.11",
            "ulimit -l unlimited, or LimitMEMLOCK=infinity of the service",
        ),
        false => Finding::ok("limits", format!("{bytes} bytes of locked memory")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;

    #[test]
    fn every_right_is_a_line() {
        let findings = check();
        let rights = findings.iter().filter(|finding| finding.check == "rights");
        assert!(rights.count() >= Capability::ALL.len());
        let missing = findings.iter().filter(|finding| finding.state != State::Ok);
        assert!(missing.into_iter().all(|finding| !finding.why.is_empty()), "{findings:?}");
    }
}
