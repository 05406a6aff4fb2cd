//! `inline` beside the kernel's own ways to pass packets on: as a router, and with nft's NAT.
//!
//! ```text
//! client ─────────────────── us ─────────────────── server
//!           in: "client"          out: "server"       counted as they come in
//!      to U, 10.71.0.7  ──►  from us, to B
//! ```
//!
//! What is shown of datagrams is the cost above that of such as are dropped where they come in: the way through
//! the second link is in it. That of a stream is the cost above a bare wire in our place, which has no end: what
//! comes in by one interface goes out by the other, unread.

use super::contest::run_all;
use super::generator::Load;
use super::process::refuses_to_start;
use super::tcp::Stream;
use super::trial::{Passing, Subject, Trial, script};
use super::{Stage, to_nobody, words};
use crate::row::Row;
use api::{INLINE_SESSIONS, InlineConfig, InlineFail, InlineTimeouts};
use io::Now;
use io::inline::{KernelInline, PINS};
use rig::{Host, Topology};
use std::any::Any;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

pub const BENCH: &str = "inline";
const NFT: &str = "nft DNAT + SNAT";
const PROGRAMS: &str = "tapline's programs alone";
const DROPPED: &str = "(dropped where it comes in)";
const WIRE: &str = "(a bare wire)";
const PORT: u16 = 9;
/// Our ingress address, which no host has.
const U: Ipv4Addr = Ipv4Addr::new(10, 71, 0, 7);
/// What the next host sees of user space, for which it must be nobody's.
const UNUSED: Ipv4Addr = Ipv4Addr::new(10, 71, 1, 7);
/// Writes of the stream a second, some 145,000 segments.
const WRITES_PER_S: u64 = 3200;

pub fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let net = Topology::line(["client", "us", "server"]).build();
    let (client, us, server) = (net.host("client"), net.host("us"), net.host("server"));
    client.ip(&format!("neigh replace {U} lladdr {} dev us nud permanent", us.mac("client")));
    client.ip(&format!("route add 10.71.1.0/24 via {}", us.v4("client")));
    server.ip(&format!("route add 10.71.0.0/24 via {}", us.v4("server")));
    // As from a NIC: with whole checksums.
    run_all(&[(client, words("ethtool -K us tx off"))])?;
    let nobody = to_nobody(us, "server", "10.71.1.9", PORT)?;
    for &frame_bytes in &stage.effort.sizes {
        let load = Load {
            frame_bytes,
            pps: Some(stage.effort.pace),
            count: stage.effort.packets / 2,
            tunnel: None,
            ports: 1,
            in_segments: false,
        };
        let mut subjects = subjects(stage.tapline, &net, nobody.ip(), "02:71:00:00:ff:09");
        let dropped = Subject::nothing(to_nobody(client, "us", "10.71.0.9", PORT)?);
        subjects.push(Subject { name: DROPPED.into(), ..dropped });
        let case = format!("{frame_bytes} B");
        if stage.effort.wants_case(&case) {
            let passing = Passing::Datagrams(client, load);
            rows.extend(trial(stage, &net, case, passing, subjects).run()?);
        }
    }
    run_all(&[(client, words("ethtool -K us tx on tso on"))])?;
    let bytes = stage.effort.packets as usize / 2 * 1448;
    let stream = Stream { bytes, writes_per_s: WRITES_PER_S };
    let b = server.v4("us").into();
    let mut subjects = subjects(stage.tapline, &net, b, &server.mac("us"));
    // Super-packets are counted as one where they come in.
    subjects.iter_mut().for_each(|subject| subject.copies = 0);
    if stage.effort.wants_case("TCP") {
        let passing = Passing::Stream(client, server, stream);
        rows.extend(trial(stage, &net, "TCP".into(), passing, subjects).run()?);
    }
    Ok(rows)
}

fn trial<'a>(
    stage: &Stage<'_>,
    net: &'a Topology,
    case: String,
    passing: Passing<'a>,
    mut subjects: Vec<Subject<'a>>,
) -> Trial<'a> {
    subjects.retain(|s| s.name.starts_with('(') || stage.effort.wants_subject(&s.name));
    let (runs, sink) = (stage.effort.runs, (net.host("server"), "us"));
    Trial { bench: BENCH, case, passing, runs, peer: NFT, sink, subjects }
}

/// Those who pass packets on to a next host, which has a MAC.
fn subjects<'a>(tapline: &'a Path, net: &'a Topology, b: IpAddr, b_mac: &str) -> Vec<Subject<'a>> {
    let us = net.host("us");
    let (to_u, to_b) = (SocketAddr::new(U.into(), PORT), SocketAddr::new(b, PORT));
    let ours = |name, datapath: &'static str, rule: String| {
        let start = move || {
            let mut command = us.netns.command(tapline);
            command.args(["inline", "--datapath", datapath, "--in", "client", "--out", "server"]);
            command.args(["--forward", &rule]);
            command
        };
        let absent = refuses_to_start(&mut start());
        Subject { absent, ready: "table ", ..Subject::program(name, to_u, start) }
    };
    let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward\n";
    let no_forward = "echo 0 > /proc/sys/net/ipv4/ip_forward\n";
    let e = us.v4("server");
    let nat = |flowtable: &str, offload: &str| {
        format!(
            "{forward}nft -f - <<'END'\ntable ip bench {{\n{flowtable}\
             chain forward {{\ntype filter hook forward priority 0;\n{offload}}}\n\
             chain in {{\ntype nat hook prerouting priority -100;\nip daddr {U} dnat to {b}\n}}\n\
             chain out {{\ntype nat hook postrouting priority 100;\nip daddr {b} snat to {e}\n}}\n\
             }}\nEND\n"
        )
    };
    let no_nat = format!("{no_forward}nft delete table ip bench\n");
    let flowtable = "flowtable fast {\nhook ingress priority 0; devices = { client, server };\n}\n";
    let nat_fast = nat(flowtable, "ip protocol { tcp, udp } flow add @fast\n");
    let nft = |name, up: &str| Subject::kernel(name, to_u, us, up, &no_nat).needs("nft").tried();
    vec![
        ours("tapline, kernel", "kernel", format!("{U}={b}")),
        nft(NFT, &nat("", "")),
        nft("nft DNAT + SNAT, flowtable", &nat_fast),
        Subject::kernel("ip_forward", to_b, us, forward, no_forward),
        programs_alone(us, to_u, b),
        ours("tapline, ring", "ring", format!("{U}={b},source={UNUSED}")),
        wire(net, to_b, b_mac),
    ]
}

/// The programs of the kernel's data path, without the process that looks after them.
fn programs_alone<'a>(us: &'a Host, to: SocketAddr, b: IpAddr) -> Subject<'a> {
    let hold = move || {
        let config = InlineConfig {
            name: "bench".into(),
            ingress: "client".into(),
            egress: "server".into(),
            fail: InlineFail::Closed,
            sessions: INLINE_SESSIONS,
            timeouts: InlineTimeouts::default(),
            rules: vec![format!("{U}={b}").parse()?],
        };
        let open = || KernelInline::open(&config, Path::new(PINS), Now::read());
        let (table, _) = us.netns.run(open)??;
        anyhow::Ok(Box::new(table) as Box<dyn Any>)
    };
    let subject = Subject { name: PROGRAMS.into(), copies: 1, ..Subject::nothing(to) };
    match hold() {
        Ok(_) => Subject { hold: Some(Box::new(hold)), ..subject },
        Err(error) => Subject { absent: Some(error.to_string()), ..subject },
    }
}

/// What comes in on one side goes out on the other. The ends know each other's MACs.
fn wire<'a>(net: &'a Topology, to: SocketAddr, mac: &str) -> Subject<'a> {
    let (client, us, server) = (net.host("client"), net.host("us"), net.host("server"));
    let redirect = |from: &str, to: &str| {
        format!(
            "tc qdisc add dev {from} clsact\n\
             tc filter add dev {from} ingress bpf bytecode '1,6 0 0 4294967295' \
             action mirred egress redirect dev {to}\n"
        )
    };
    let way = |host: &'a Host, address: IpAddr, mac: &str| {
        let up = format!(
            "ip route add {address}/32 dev us\n\
             ip neigh replace {address} lladdr {mac} dev us nud permanent\n"
        );
        let down = format!("ip neigh del {address} dev us\nip route del {address}/32 dev us\n");
        (script(host, &up), script(host, &down))
    };
    let (mut up, mut down) = way(client, to.ip(), mac);
    let (back_up, back_down) = way(server, client.v4("us").into(), &client.mac("us"));
    up.extend(back_up);
    down.extend(back_down);
    up.extend(script(us, &(redirect("client", "server") + &redirect("server", "client"))));
    down.extend(script(us, "tc qdisc del dev client clsact\ntc qdisc del dev server clsact\n"));
    let nothing = Subject::nothing(to);
    Subject { name: WIRE.into(), set_up: up, take_down: down, copies: 1, ..nothing }
        .needs("tc")
        .tried()
}
