//! What the kernel can do, tried rather than told by its version: distributions carry features back,
//! and leave others out.

use super::finding::Finding;
use io::host::{Trial, kernel_release, setting_number};

/// The oldest kernel that is tested.
const OLDEST: (u32, u32) = (5, 4);

pub fn check() -> Vec<Finding> {
    let mut findings = vec![release()];
    findings.extend(Trial::ALL.map(tried));
    findings.push(compiler());
    findings
}

fn release() -> Finding {
    match kernel_release() {
        Some((release, numbers)) if numbers < OLDEST => Finding::warning(
            "kernel",
            format!("Linux {release}"),
            "it is older than any that is tested",
            format!("Linux {}.{} or newer", OLDEST.0, OLDEST.1),
        ),
        Some((release, _)) => Finding::ok("kernel", format!("Linux {release}")),
        None => Finding::warning("kernel", "no release is told", "", "mount /proc"),
    }
}

/// What stands or falls with a feature.
fn tried(trial: Trial) -> Finding {
    let name = trial.name();
    let error = match trial.run() {
        Ok(()) => return Finding::ok("kernel", format!("{name}: works")),
        Err(error) => error,
    };
    let what = format!("{name}: {error}");
    match trial {
        Trial::PacketRing => Finding::fault(
            "kernel",
            what,
            "no interface can be tapped",
            "CONFIG_PACKET=y, and root",
        ),
        Trial::SocketFilter => Finding::warning(
            "kernel",
            what,
            "filters run in user space, which sees every packet",
            "CONFIG_BPF_SYSCALL=y, and CAP_BPF",
        ),
        Trial::Classifier => Finding::warning(
            "kernel",
            what,
            "no path in the kernel: taps take the ring",
            "CONFIG_BPF_SYSCALL=y and CONFIG_NET_CLS_ACT=y, CAP_BPF and CAP_NET_ADMIN",
        ),
        Trial::Tcx => Finding::warning(
            "kernel",
            what,
            "programs are attached by clsact instead, which a killed process leaves behind until the \
             next start",
            "Linux 6.6",
        ),
        Trial::Clsact => Finding::warning(
            "kernel",
            what,
            "where there is no tcx, there is no path in the kernel either",
            "CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF",
        ),
        Trial::Veth => Finding::warning(
            "kernel",
            what,
            "no path in the kernel: its private devices are veth pairs",
            "CONFIG_VETH (modprobe veth)",
        ),
        Trial::Finisher => Finding::warning(
            "kernel",
            what,
            "no path in the kernel: super-packets are cut for a bridge, which macvlans lead to",
            "CONFIG_MACVLAN and CONFIG_BRIDGE (modprobe -a macvlan bridge)",
        ),
    }
}

fn compiler() -> Finding {
    match setting_number("net/core/bpf_jit_enable") {
        Some(0) => Finding::warning(
            "kernel",
            "BPF programs are interpreted (net.core.bpf_jit_enable = 0)",
            "each packet costs several times as much",
            "sysctl -w net.core.bpf_jit_enable=1",
        ),
        Some(_) => Finding::ok("kernel", "BPF programs are compiled"),
        None => Finding::ok("kernel", "no setting for the compiling of BPF programs"),
    }
}
