//! What else of the host matters: libpcap, the clock, where programs can be pinned, and what no tap
//! sees.

use super::finding::Finding;
use io::host::{ClockState, mounts_of};
use wire::LinkType;

/// Beyond this the times of two hosts cannot be compared to the packet.
const CLOCK_ERROR_US: u64 = 100_000;

pub fn check() -> Vec<Finding> {
    vec![expressions(), clock(), pins(), unseen()]
}

fn expressions() -> Finding {
    match io::libpcap::compile("tcp", LinkType::ETHERNET, 0) {
        Ok(_) => Finding::ok("host", "libpcap compiles expressions"),
        Err(error) => Finding::warning(
            "host",
            error.reason,
            "no filter can be an expression; rules do without",
            error.mend,
        ),
    }
}

fn clock() -> Finding {
    let Some(ClockState { is_synchronized, error_us_max, tai_offset_s }) = ClockState::read()
    else {
        return Finding::ok("host", "clock: the kernel tells nothing of it");
    };
    let ahead = match tai_offset_s {
        0 => "no offset of TAI told".to_owned(),
        seconds => format!("TAI is {seconds} s ahead"),
    };
    if is_synchronized && error_us_max <= CLOCK_ERROR_US {
        return Finding::ok("host", format!("clock: right within {error_us_max} µs, {ahead}"));
    }
    let what = match is_synchronized {
        true => format!("clock: it may be wrong by {error_us_max} µs, {ahead}"),
        false => format!("clock: nothing keeps it right, {ahead}"),
    };
    Finding::warning(
        "host",
        what,
        "packets' times cannot be compared with those of other hosts; searches by time miss",
        "run chrony, ntpd or systemd-timesyncd on the host",
    )
}

fn pins() -> Finding {
    match mounts_of("bpf").first() {
        Some(place) => Finding::ok("host", format!("BPF file system at {place}")),
        None => Finding::warning(
            "host",
            "no BPF file system is mounted",
            "`tapline inline` cannot go on when its process ends",
            "mount -t bpf bpf /sys/fs/bpf",
        ),
    }
}

/// What holds on every host.
fn unseen() -> Finding {
    Finding::ok(
        "host",
        "not seen by any tap in the kernel: what local programs send around the queueing layer \
         (PACKET_QDISC_BYPASS, AF_XDP), and what the NIC forwards by itself",
    )
}
