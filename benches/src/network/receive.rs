//! `receive -w` beside the kernel's vxlan device with tcpdump on it.

use super::contest::{Contest, Contestant, Counted};
use super::generator::Load;
use super::{Stage, process, to_nobody, words};
use crate::row::{Row, Unit};
use rig::Topology;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

const BENCH: &str = "receive -w";
const VNI: u32 = 7;
const PORT: u16 = 4789;
/// Takes a frame of 1500 B and the outer headers.
const MTU: u32 = 1600;

pub fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Row>> {
    let net = Topology::line(["left", "right"]).mtu(MTU).build();
    let (left, right) = (net.host("left"), net.host("right"));
    let nobody = to_nobody(left, "right", "10.71.0.9", PORT)?;
    let to = SocketAddr::new(right.v4("left").into(), PORT);
    let has_tcpdump = process::is_installed("tcpdump", "--version");

    let mut rows = Vec::new();
    for &size in &stage.effort.sizes {
        let contestant = |subject| Contestant {
            subject,
            command: None,
            set_up: Vec::new(),
            take_down: Vec::new(),
            to,
            counted: Counted::File,
        };
        let receive = |file: &Path| {
            let mut command: Command = right.netns.command(stage.tapline);
            command.args(["receive", "--listen", &format!("vxlan://{to}"), "-w"]).arg(file);
            command
        };
        let tcpdump = |file: &Path| {
            let mut command: Command = right.netns.command("tcpdump");
            command.args(["-i", "vx0", "-B", "65536", "-s", "262144", "-n", "-Z", "root", "-w"]);
            command.arg(file);
            command
        };
        let mut contestants =
            vec![Contestant { command: Some(Box::new(receive)), ..contestant("tapline") }];
        if has_tcpdump {
            let add =
                format!("ip link add vx0 type vxlan id {VNI} dstport {PORT} local {}", to.ip());
            contestants.push(Contestant {
                command: Some(Box::new(tcpdump)),
                set_up: vec![
                    (right, words(&add)),
                    (right, words("ip link set vx0 addrgenmode none up")),
                ],
                take_down: vec![(right, words("ip link del vx0"))],
                ..contestant("vxlan device + tcpdump")
            });
        }
        let baseline = Contestant { to: nobody, counted: Counted::No, ..contestant("(nothing)") };
        contestants.push(baseline);
        let (pace, count) = (stage.effort.pace, stage.effort.packets / 2);
        let case = format!("{size} B, {} kpps, added CPU", pace / 1000);
        let contest = Contest {
            bench: BENCH,
            case: case.clone(),
            load: Load { frame_bytes: size, pps: Some(pace), count, vni: Some(VNI) },
            runs: stage.effort.runs,
            sender: (left, "right"),
            contestants,
            with_sender: true,
            folder: stage.folder,
        };
        rows.extend(contest.run()?);
        if !has_tcpdump {
            let why = Some("tcpdump is not installed".into());
            let subject = "vxlan device + tcpdump";
            rows.push(Row::skipped(BENCH, &case, subject, Unit::NsPerPacket, why));
        }
    }
    Ok(rows)
}
