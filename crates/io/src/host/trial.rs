//! What the kernel can do, by doing it where nobody is disturbed: in a network namespace that has
//! nothing but its loopback interface, and is gone afterwards.

use crate::bpf::{Classifier, ClsactFilter, LoadedFilter, Way};
use crate::error::Error;
use crate::interface::Interfaces;
use crate::link::{Links, NewPair};
use crate::mirror::private::Private;
use crate::netns::Netns;
use crate::ring::{Handover, KernelFilter, RingOptions, RingSize, RingSource};
use filter::Program;
use filter::ebpf::{
    Assembler, Code, Register, Scope, SocketFilterOptions, Verdicts, socket_filter,
};
use std::os::fd::AsFd;
use wire::LinkType;

/// The loopback interface of a new namespace.
const LOOPBACK: i32 = 1;

/// A feature of the kernel that taps stand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// A packet socket with a ring (`TPACKET_V3`).
    PacketRing,
    /// A filter before a ring, as an eBPF program.
    SocketFilter,
    /// A program for packets that pass interfaces.
    Classifier,
    /// Attaching it by tcx.
    Tcx,
    /// Attaching it by a clsact qdisc.
    Clsact,
    /// A pair of virtual interfaces.
    Veth,
    /// Interfaces that cut and complete packets on their way: macvlan and bridge.
    Finisher,
}

impl Trial {
    /// All of them.
    pub const ALL: [Trial; 7] = [
        Trial::PacketRing,
        Trial::SocketFilter,
        Trial::Classifier,
        Trial::Tcx,
        Trial::Clsact,
        Trial::Veth,
        Trial::Finisher,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Trial::PacketRing => "packet ring (TPACKET_V3)",
            Trial::SocketFilter => "eBPF filter before a ring",
            Trial::Classifier => "eBPF program on packets",
            Trial::Tcx => "tcx",
            Trial::Clsact => "clsact",
            Trial::Veth => "veth",
            Trial::Finisher => "macvlan and bridge",
        }
    }

    /// Tries it.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel cannot do it, or this process may not.
    pub fn run(self) -> Result<(), Error> {
        match self {
            Trial::PacketRing => packet_ring(),
            Trial::SocketFilter => LoadedFilter::load(&all_packets()?).map(drop),
            Trial::Classifier => program().map(drop),
            Trial::Tcx => {
                let program = program()?;
                let attach = || program.attach(LOOPBACK, Way::Ingress).map(drop);
                Netns::empty()?.run(attach)?
            }
            Trial::Clsact => {
                let program = program()?;
                let attach = || ClsactFilter::attach(&program, LOOPBACK, Way::Ingress).map(drop);
                Netns::empty()?.run(attach)?
            }
            Trial::Veth => veth(),
            Trial::Finisher => finisher(),
        }
    }
}

/// In the calling thread's namespace: it takes no more than CAP_NET_RAW, and the loopback interface is
/// only listened to.
fn packet_ring() -> Result<(), Error> {
    let options = RingOptions {
        interface: "lo".into(),
        netns: None,
        promiscuous: false,
        ring_size: RingSize::Auto,
        handover: Handover::Prompt,
        snaplen: 0,
        filter: KernelFilter::Hiding(Program::constant(0)),
    };
    RingSource::open(&options, &Interfaces::default()).map(drop)
}

fn all_packets() -> Result<filter::ebpf::SocketFilter, Error> {
    let all = Program::constant(1);
    let options = SocketFilterOptions {
        link_type: LinkType::ETHERNET,
        received: &all,
        sent: &all,
        verdicts: Verdicts::Expression,
        scope: Scope::Everything,
    };
    socket_filter(&options).map_err(unmade)
}

/// A program that leaves each packet to the next one.
fn program() -> Result<Classifier, Error> {
    let code = || -> Result<Code, filter::ebpf::Error> {
        let mut asm = Assembler::new();
        asm.copy(Register::R0, -1);
        asm.exit();
        asm.finish()
    };
    Classifier::load("that leaves each packet alone", &code().map_err(unmade)?, &[])
}

fn unmade(error: filter::ebpf::Error) -> Error {
    Error::system("make an eBPF program", std::io::Error::other(error))
}

fn veth() -> Result<(), Error> {
    let failed = |e| Error::system("make a pair of veth devices", e);
    let (near, far) = (Netns::empty()?, Netns::empty()?);
    let pair = NewPair { name: "near", peer: "far", peer_netns: far.as_fd(), mtu: 1500 };
    near.run(|| Links::open().and_then(|mut links| links.add_pair(&pair)))?.map_err(failed)
}

fn finisher() -> Result<(), Error> {
    let (private, near) = (Private::new()?, Netns::empty()?);
    let pair = private.pair(&near, "far")?;
    private.set_up(&pair)?;
    private.finisher(&pair, &near).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_can_do_all_and_nothing_stays() {
        if !rig::root_or_skip() {
            return;
        }
        let before = crate::offloads::interfaces();
        for trial in Trial::ALL {
            trial.run().unwrap_or_else(|e| panic!("{}: {e}", trial.name()));
        }
        let after = crate::offloads::interfaces();
        assert_eq!(before, after);
        let ours = crate::bpf::list::attached("lo").unwrap();
        assert!(ours.is_empty(), "{ours:?}");
    }
}
