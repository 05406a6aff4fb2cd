//! Lists of capture filter rules, in our interpreter and in the kernel.
//!
//! Each rule includes TCP to one address and a range of ports. A packet matches the last rule, or none;
//! so a list that is tried rule by rule shows its whole length.

use super::{Kind, SIZES};
use crate::row::{Row, Unit};
use crate::timing::time;
use filter::ebpf::{Scope, SocketFilterOptions, Verdicts, socket_filter};
use filter::{Action, Direction, PortRange, Program, Rule, Rules, Transport};
use io::bpf::{LoadedFilter, TestPacket};
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Duration;
use wire::LinkType;

pub const BENCH: &str = "filter of rules";
const COUNTS: [u32; 4] = [1, 10, 100, 1000];
const FRAMES: usize = 256;
/// Runs in the kernel that one figure is the mean of.
const KERNEL_RUNS: u32 = 200_000;

pub fn run(batch: Duration) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for count in COUNTS {
        for matches in [true, false] {
            let verdict = if matches { "the last matches" } else { "none matches" };
            let case = format!("{count} rules, {verdict}");
            let rules = Rules::new((1..=count).map(|number| rule(number, count)).collect())?;
            let program = rules.compile(LinkType::ETHERNET, Direction::In)?;
            // The addresses of a frame do not change, so the rules do: the last one is the frame's.
            let kind = if matches { Kind::TcpV4 } else { Kind::UdpV6 };
            let frames = kind.flows(SIZES[0], FRAMES)?;
            let wanted = if matches { count } else { 0 };
            let verdict = |frame: &Vec<u8>| program.run(frame, frame.len() as u32);
            anyhow::ensure!(frames.iter().all(|frame| verdict(frame) == wanted), "{case}");
            let timing = time(batch, || {
                for frame in &frames {
                    black_box(verdict(black_box(frame)));
                }
            });
            let timing = timing.each(FRAMES);
            let ours = Row::timed(BENCH, &case, "interpreter", Unit::NsPerPacket, timing, |ns| ns);
            rows.push(ours);
            rows.push(in_kernel(&case, &rules, &program, &frames[0])?);
        }
    }
    Ok(rows)
}

/// Rule `number` of `count`; the last one is the frames' own.
fn rule(number: u32, count: u32) -> Rule {
    let address = match number == count {
        true => Ipv4Addr::new(10, 0, 0, 2),
        false => Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 1, 0)) + number * 3),
    };
    let ports = PortRange { min: 80, max: 80 + (number % 7) as u16 };
    Rule {
        protocol: Some(6),
        destination: Some(ipnet::Ipv4Net::from(address).into()),
        transport: Transport::Ports { source: None, destination: Some(ports) },
        ..Rule::new(Action::Include)
    }
}

/// The whole socket filter, counting included, as the kernel times it.
fn in_kernel(case: &str, rules: &Rules, program: &Program, frame: &[u8]) -> anyhow::Result<Row> {
    let skipped =
        |why: String| Row::skipped(BENCH, case, "kernel (eBPF)", Unit::NsPerPacket, Some(why));
    if !rustix::process::geteuid().is_root() {
        return Ok(skipped("needs root".into()));
    }
    let filter = socket_filter(&SocketFilterOptions {
        link_type: LinkType::ETHERNET,
        received: program,
        sent: program,
        verdicts: Verdicts::Rules(rules),
        scope: Scope::Everything,
    })?;
    let loaded = match LoadedFilter::load(&filter) {
        Ok(loaded) => loaded,
        Err(error) => return Ok(skipped(error.to_string())),
    };
    let packet = TestPacket { frame, gso_size: 0, gso_segs: 0 };
    let mut runs = Vec::new();
    for _ in 0..5 {
        runs.push(loaded.time_run(&packet, KERNEL_RUNS)?.as_nanos() as f64);
    }
    let least = runs.iter().copied().reduce(f64::min);
    Ok(Row {
        median: crate::timing::median(&runs),
        best: least,
        note: Some("with its counting".into()),
        ..Row::skipped(BENCH, case, "kernel (eBPF)", Unit::NsPerPacket, None)
    })
}
