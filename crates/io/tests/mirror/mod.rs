//! Mirrors between hosts of tests, and what comes out of their tunnels.

#![allow(dead_code, reason = "no test uses all of it")]

use api::{Oversize, Sending};
use filter::{Instruction, Program, op};
use io::Now;
use io::mirror::{KernelMirror, MirrorOptions, Tap, TapId, TargetId, TargetOptions};
use io::tunnel::SendOptions;
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use rig::Host;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use wire::Vni;
use wire::metadata::Lane;
use wire::tunnel::{Carrier, Encap};

pub const VXLAN_PORT: u16 = 4789;
const HEADER_LEN: usize = 8;
const QUIET: Duration = Duration::from_millis(200);
const RECEIVE_BYTES: usize = 64 << 20;

/// A filter that keeps every packet.
pub fn everything() -> Program {
    constant(u32::MAX)
}

/// A filter of one verdict.
pub fn constant(verdict: u32) -> Program {
    Program::new(vec![Instruction::new(op::RET | op::K, 0, 0, verdict)]).expect("a program")
}

/// A VXLAN tunnel.
pub fn vxlan(remote: IpAddr, vni: u32) -> SendOptions {
    SendOptions {
        remote: (remote, VXLAN_PORT).into(),
        source: None,
        carrier: Carrier::Udp { port: VXLAN_PORT },
        encap: Encap::Vxlan { vni: Vni::new(vni).expect("24 bits") },
        sending: Sending { oversize: Oversize::Drop, dscp: 0 },
        lane: Lane { epoch: 1, tap: 0, target: 0, lane: 0 },
        keep_alive: None,
    }
}

/// A target of one endpoint.
pub fn one(member: SendOptions) -> TargetOptions {
    TargetOptions { snaplen: 0, members: vec![member], table: Some(Vec::new()) }
}

/// A tap that keeps every packet.
pub fn tap(id: TapId, targets: &[TargetId]) -> Tap {
    Tap {
        id,
        received: everything(),
        sent: everything(),
        rules: None,
        targets: targets.to_vec(),
        skips_own_tunnels: true,
    }
}

/// Opens a mirror on a host.
pub fn open(host: &Host, options: MirrorOptions) -> KernelMirror {
    let open = || KernelMirror::open(options);
    host.netns.run(open).expect("the namespace is there").unwrap_or_else(|e| panic!("{e}"))
}

/// A mirror of an interface with one tap and one target, to which all packets go.
pub fn mirror(
    host: &Host,
    interface: &str,
    member: SendOptions,
) -> (KernelMirror, TapId, TargetId) {
    let mut mirror = open(host, MirrorOptions::default());
    let target = mirror.add_target(&one(member)).unwrap_or_else(|e| panic!("{e}"));
    let id = mirror.add_tap(0, None).unwrap_or_else(|e| panic!("{e}"));
    mirror.set_taps(interface, vec![tap(id, &[target])]).unwrap_or_else(|e| panic!("{e}"));
    mirror.tick(Now::read());
    (mirror, id, target)
}

/// What arrives at a host for a tunnel over UDP.
pub struct Collector {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(SocketAddr, Vec<u8>)>>,
}

impl Collector {
    /// Begins to take datagrams.
    pub fn start(host: &Host, port: u16, is_v6: bool) -> Collector {
        let any = if is_v6 { "::" } else { "0.0.0.0" };
        let address: IpAddr = any.parse().expect("an address");
        let socket = host.netns.run(|| UdpSocket::bind((address, port)));
        let socket = socket.expect("the namespace is there").expect("the port is free");
        socket.set_read_timeout(Some(QUIET)).expect("not 0");
        setsockopt(&socket, RcvBufForce, &RECEIVE_BYTES).expect("root may");
        let ends = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            let (mut all, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
            loop {
                match socket.recv_from(&mut buffer) {
                    Ok((len, from)) => all.push((from, buffer[..len].to_vec())),
                    Err(_) if is_over.load(Ordering::Relaxed) => return all,
                    Err(_) => {}
                }
            }
        });
        Collector { ends, thread }
    }

    /// All datagrams, once no more come.
    pub fn datagrams(self) -> Vec<(SocketAddr, Vec<u8>)> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().expect("it only receives")
    }

    /// The VNI and the frame of each datagram, which are all VXLAN.
    pub fn frames(self) -> Vec<(u32, Vec<u8>)> {
        let frame = |datagram: Vec<u8>| {
            assert_eq!(datagram[..4], [8, 0, 0, 0], "a VXLAN header: {datagram:02x?}");
            let vni = u32::from_be_bytes([0, datagram[4], datagram[5], datagram[6]]);
            (vni, datagram[HEADER_LEN..].to_vec())
        };
        self.datagrams().into_iter().map(|(_, datagram)| frame(datagram)).collect()
    }
}

/// The numbers in generated packets, in order of arrival: in UDP, as ICMP errors quote them.
pub fn numbers(frames: &[(u32, Vec<u8>)]) -> Vec<u64> {
    let number = |frame: &[u8]| {
        if frame.get(23) != Some(&wire::udp::PROTOCOL) {
            return None;
        }
        let at = frame.windows(rig::MAGIC.len()).position(|window| window == rig::MAGIC)?;
        let number = frame.get(at + rig::MAGIC.len()..)?.first_chunk()?;
        Some(u64::from_be_bytes(*number))
    };
    frames.iter().filter_map(|(_, frame)| number(frame)).collect()
}
