//! What is attached to one interface.

use super::{Holder, People};
use crate::failure::Failure;
use io::bpf::list::attached;
use io::host::{PacketSocket, packet_sockets};
use io::offloads::{interface_name, interfaces};
use serde::Serialize;

/// Where a socket is that takes from all interfaces.
const ANY: &str = "any";

/// An interface, or all of them.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    pub interface: String,
    pub programs: Vec<Program>,
    pub sockets: Vec<Socket>,
}

/// A program or a filter at an interface.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Program {
    /// `ingress` or `egress`.
    pub way: &'static str,
    /// `xdp`, `tcx` or `clsact`.
    pub hook: &'static str,
    /// Its name, or the kind of a filter that is no program.
    pub name: String,
    /// Whether it is tapline's.
    pub ours: bool,
    /// null: it is no program.
    pub program: Option<u32>,
    /// null: it stays without one.
    pub link: Option<u32>,
    /// Those that hold it.
    pub processes: Vec<Holder>,
}

/// A packet socket that takes packets of an interface.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Socket {
    pub ours: bool,
    /// Its EtherType; 3: every packet.
    pub protocol: u16,
    /// Those that hold it.
    pub processes: Vec<Holder>,
}

/// The interfaces that are named; without names those that have something of ours.
pub fn all(named: &[String], people: &People) -> Result<Vec<Place>, Failure> {
    let sockets = packet_sockets()?;
    let names = if named.is_empty() { interfaces() } else { named.to_vec() };
    let mut places = Vec::new();
    for name in names {
        match Place::of(name, &sockets, people) {
            Ok(place) => places.push(place),
            // One that was listed may be gone by now.
            Err(io::Error::NoInterface { .. }) if named.is_empty() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let everywhere = taking(&sockets, 0, people);
    if !everywhere.is_empty() {
        places.push(Place { interface: ANY.into(), programs: Vec::new(), sockets: everywhere });
    }
    places.retain(|place| !named.is_empty() && place.interface != ANY || place.has_ours());
    Ok(places)
}

/// The programs and filters at an interface.
pub fn programs(interface: &str, people: &People) -> Result<Vec<Program>, io::Error> {
    let holders = &people.holders;
    let programs = attached(interface)?.into_iter().map(|attached| {
        let held = match (attached.link, attached.program) {
            (Some(link), _) => holders.of_link(link),
            (None, Some(program)) => holders.of_program(program),
            (None, None) => &[],
        };
        Program {
            way: attached.way.name(),
            hook: attached.hook.name(),
            ours: attached.is_ours(),
            program: attached.program,
            link: attached.link,
            processes: people.named(held),
            name: attached.name,
        }
    });
    Ok(programs.collect())
}

/// The sockets that take packets of an interface; 0: of all.
fn taking(sockets: &[PacketSocket], interface_index: i32, people: &People) -> Vec<Socket> {
    sockets
        .iter()
        .filter(|socket| socket.interface_index == interface_index && socket.protocol != 0)
        .map(|socket| {
            let processes = people.named(people.holders.of_socket(socket.inode));
            let ours = people.has_ours(&processes);
            Socket { ours, protocol: socket.protocol, processes }
        })
        .collect()
}

impl Place {
    fn of(
        interface: String,
        sockets: &[PacketSocket],
        people: &People,
    ) -> Result<Place, io::Error> {
        let programs = programs(&interface, people)?;
        let here = |socket: &&PacketSocket| {
            interface_name(socket.interface_index).is_some_and(|name| name == interface)
        };
        let index = sockets.iter().find(here).map(|socket| socket.interface_index);
        let sockets = index.map_or_else(Vec::new, |index| taking(sockets, index, people));
        Ok(Place { interface, programs, sockets })
    }

    fn has_ours(&self) -> bool {
        self.programs.iter().any(|program| program.ours)
            || self.sockets.iter().any(|socket| socket.ours)
    }
}
