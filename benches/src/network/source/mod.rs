//! `mirror` on its ways beside the kernel's own: tc's mirred and nft's dup into vxlan devices.
//!
//! ```text
//! left ──────────────────── tap ──────────────────── sink
//! traffic        tapped: "left"   tunnel out: "sink"      counted as they come in
//! ```
//!
//! Datagrams come with whole checksums and one by one, as from a NIC; the stream comes as its sender
//! made it: super-packets, with checksums that are left to a device.

mod peers;
mod rules;

pub use peers::{Ours, Scene, TC};
pub use rules::List;

use super::contest::run_all;
use super::generator::Load;
use super::tcp::Stream;
use super::trial::{Passing, Subject, Trial};
use super::{Stage, to_nobody, words};
use crate::row::Row;
use rig::{Host, Topology};
use std::net::SocketAddr;

pub const BENCH: &str = "source";
/// Takes a frame of 1500 B and the outer headers, so that nothing is cut into fragments.
const UNDERLAY_MTU: u32 = 1600;
const VXLAN_PORT: u16 = 4789;
const PORT: u16 = 9;
/// Rules of the lists.
const LISTS: [u8; 4] = [0, 1, 10, 100];
/// The list of the goal.
const LIST: u8 = 10;
/// Writes of the stream a second, some 145,000 segments.
const WRITES_PER_S: u64 = 3200;

/// Ours as it is compared first of all.
pub const KERNEL: Ours<'static> =
    Ours { name: "tapline, kernel", datapath: "kernel", snaplen: 0, metadata: false };
pub const RING: Ours<'static> =
    Ours { name: "tapline, ring", datapath: "ring", snaplen: 0, metadata: false };
const VARIANTS: [Ours<'static>; 4] = [
    Ours { name: "tapline, kernel, -s 128", snaplen: 128, ..KERNEL },
    Ours { name: "tapline, kernel, GENEVE metadata", metadata: true, ..KERNEL },
    Ours {
        name: "tapline, kernel, -s 128, GENEVE metadata",
        snaplen: 128,
        metadata: true,
        ..KERNEL
    },
    Ours { name: "tapline, ring, -s 128", snaplen: 128, ..RING },
];

pub fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let net = network()?;
    let (left, tap) = (net.host("left"), net.host("tap"));
    run_all(&[
        (left, words("ethtool -K tap tx off")),
        // Counted are datagrams, so that the kernel cuts super-packets of ours before they leave.
        (tap, words("ethtool -K sink tx-udp-segmentation off")),
    ])?;
    for &frame_bytes in &stage.effort.sizes {
        let load = Load {
            frame_bytes,
            pps: Some(stage.effort.pace),
            count: stage.effort.packets / 2,
            tunnel: None,
            ports: 1,
            in_segments: false,
        };
        let passing = Passing::Datagrams(left, load);
        let to = to_nobody(left, "tap", "10.71.0.9", PORT)?;
        for (list, taps) in LISTS.map(|list| (list, 1)).into_iter().chain([(LIST, 3)]) {
            let taps_text = if taps == 1 { String::new() } else { format!(", {taps} taps") };
            let case = format!("{frame_bytes} B, {list} rules{taps_text}");
            if stage.effort.wants_case(&case) {
                rows.extend(trial(stage, &net, case, passing, (to, list, taps), taps == 1)?.run()?);
            }
        }
    }
    rows.extend(streams(stage)?);
    Ok(rows)
}

/// A TCP stream with all offloads, out by an underlay that has none, and by one that has all.
fn streams(stage: &Stage<'_>) -> anyhow::Result<Vec<Row>> {
    let net = network()?;
    let (left, tap) = (net.host("left"), net.host("tap"));
    let mut rows = Vec::new();
    let bytes = stage.effort.packets as usize / 2 * 1448;
    let stream = Stream { bytes, writes_per_s: WRITES_PER_S };
    let to = SocketAddr::new(tap.v4("left").into(), PORT);
    let passing = Passing::Stream(left, tap, stream);
    for (offloads, what) in [("off", "cut and summed by the kernel"), ("on", "cut by the device")] {
        run_all(&[(tap, words(&format!("ethtool -K sink tx {offloads} tso {offloads}")))])?;
        let case = format!("TCP, {LIST} rules, {what}");
        if !stage.effort.wants_case(&case) {
            continue;
        }
        let mut trial = trial(stage, &net, case, passing, (to, LIST, 1), true)?;
        if offloads == "on" {
            // Super-packets are counted as one where they come in.
            trial.subjects.iter_mut().for_each(|subject| subject.copies = 0);
        }
        rows.extend(trial.run()?);
    }
    Ok(rows)
}

/// The hosts, up.
///
/// # Errors
/// If the kernel refuses.
pub fn network() -> anyhow::Result<Topology> {
    let net = Topology::line(["left", "tap", "sink"]).build();
    net.host("tap").ip(&format!("link set sink mtu {UNDERLAY_MTU}"));
    net.host("sink").ip(&format!("link set tap mtu {UNDERLAY_MTU}"));
    Ok(net)
}

/// The tap's place in the network.
///
/// # Errors
/// If the kernel refuses.
pub fn scene<'a>(
    stage: &'a Stage<'_>,
    tap: &'a Host,
    (to, list, taps): (SocketAddr, u8, usize),
) -> anyhow::Result<Scene<'a>> {
    Ok(Scene {
        tapline: stage.tapline,
        folder: stage.folder,
        host: tap,
        interface: "left",
        underlay: "sink",
        remote: to_nobody(tap, "sink", "10.71.1.9", VXLAN_PORT)?,
        to,
        list: List(list),
        taps,
    })
}

fn trial<'a>(
    stage: &'a Stage<'_>,
    net: &'a Topology,
    case: String,
    passing: Passing<'a>,
    (to, list, taps): (SocketAddr, u8, usize),
    with_variants: bool,
) -> anyhow::Result<Trial<'a>> {
    let scene = scene(stage, net.host("tap"), (to, list, taps))?;
    let mut subjects = vec![scene.ours(KERNEL)?, scene.tc()?];
    if list == LIST && with_variants {
        subjects.extend([scene.tc_tcpdump(), scene.tc_u32()]);
    }
    subjects.extend([scene.nft(), scene.ours(RING)?]);
    if list == LIST && with_variants {
        for ours in VARIANTS {
            subjects.push(scene.ours(ours)?);
        }
    }
    subjects.retain(|subject| stage.effort.wants_subject(&subject.name));
    subjects.push(Subject::nothing(to));
    Ok(Trial {
        bench: BENCH,
        case,
        passing,
        runs: stage.effort.runs,
        peer: TC,
        sink: (net.host("sink"), "tap"),
        subjects,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Effort;
    use rig::{Scratch, root_or_skip, tool_or_skip};
    use std::path::Path;

    #[test]
    fn the_kernel_s_ways_deliver_every_packet_by_any_list() {
        if !root_or_skip() || !tool_or_skip("tc") || !tool_or_skip("nft") {
            return;
        }
        let effort = Effort {
            sizes: vec![64],
            packets: 200,
            runs: 1,
            paces: vec![],
            pace: 10_000,
            subjects: vec![],
            cases: vec![],
        };
        let scratch = Scratch::new("source");
        let (tapline, folder) = (Path::new("/nonexistent"), scratch.folder());
        let stage = Stage { tapline, folder, memory: None, effort: &effort };
        let net = network().unwrap();
        let left = net.host("left");
        let to = to_nobody(left, "tap", "10.71.0.9", PORT).unwrap();
        let load = Load {
            frame_bytes: 64,
            pps: Some(effort.pace),
            count: 100,
            tunnel: None,
            ports: 1,
            in_segments: false,
        };
        for (list, taps) in [(0, 1), (1, 1), (10, 1), (100, 1), (10, 3)] {
            let scene = scene(&stage, net.host("tap"), (to, list, taps)).unwrap();
            let subjects = [
                scene.tc().unwrap(),
                scene.tc_tcpdump(),
                scene.tc_u32(),
                scene.nft(),
                Subject::nothing(to),
            ];
            let trial = Trial {
                bench: BENCH,
                case: String::new(),
                passing: Passing::Datagrams(left, load),
                runs: 1,
                peer: TC,
                sink: (net.host("sink"), "tap"),
                subjects: subjects.into(),
            };
            for row in &trial.run().unwrap()[..4] {
                let Some(traffic) = &row.traffic else {
                    eprintln!("{}: {:?}", row.subject, row.note);
                    assert_ne!(row.subject, TC, "this kernel mirrors");
                    continue;
                };
                assert_eq!(traffic.offered, 100 * taps as u64, "{row:?}");
                assert_eq!(traffic.captured, traffic.offered, "{row:?}");
            }
        }
    }
}
