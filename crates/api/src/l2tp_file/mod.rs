//! The file of `tapline l2tp`: a tunnel a line, in one of two forms.
//!
//! ```text
//! # transmit: receiving-side-ip transmit-side-ip mirror-if mirror-ports [id]
//! 10.10.10.10   10.10.10.11    ens3  i80,o443
//! # receive: receiving-ip transmit-ip - -|id
//! 10.10.10.10   10.10.10.11    -     -
//! 10.10.10.10   192.168.1.11   -     10.10.10.11
//! ```
//!
//! Columns stand apart by any white space. A line may be empty, `#` begins a comment, and `–` (an
//! en dash, as word processors make of it) is a `-`. A tunnel is known by its id alone, so that address
//! translation on the way does no harm; unless one is given it is the transmitter's own IPv4
//! address as a number. The `id` behind a transmitting line is ours, for what the four columns
//! cannot say: IPv6, and two tunnels between the same hosts.

mod edit;
mod ports;
mod reader;

pub use edit::{add_l2tp_lines, remove_l2tp_tunnel};
pub use ports::{MirrorPort, MirrorPorts};

use crate::FileError;
use crate::file::{self, Fault};
use filter::TrafficDirection;
use reader::{Column, Line, lines};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::path::Path;
use std::str::FromStr;

/// Bytes that such a file may have.
const BYTES_MAX: u64 = 16 << 20;

/// The session id by which a receiver knows a tunnel. Never 0, which marks control messages
/// (RFC 3931 section 4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct L2tpId(NonZeroU32);

impl L2tpId {
    /// An id; `None` for 0.
    pub const fn new(id: u32) -> Option<L2tpId> {
        match NonZeroU32::new(id) {
            Some(id) => Some(L2tpId(id)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// The number read as an IPv4 address, which it is unless someone chose it.
    pub const fn address(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.get())
    }

    /// Whether there is address translation between here and a transmitter whose packets come from an
    /// address: it differs from the id. `None` if that says nothing: the id is no address of a host
    /// (1.0.0.0 to 223.255.255.255, loopback left out), or the packets are IPv6's.
    pub fn tells_nat(self, source: IpAddr) -> Option<bool> {
        let address = self.address();
        let may_be = matches!(address.octets()[0], 1..=126 | 128..=223) && source.is_ipv4();
        may_be.then(|| source != address)
    }
}

impl FromStr for L2tpId {
    type Err = &'static str;

    /// Reads a number, or its four bytes as a dotted quad.
    fn from_str(text: &str) -> Result<L2tpId, &'static str> {
        let quad = || text.parse::<Ipv4Addr>().ok().map(u32::from);
        match text.parse().ok().or_else(quad) {
            Some(0) => Err("0 is the id of control messages; write another one"),
            Some(id) => L2tpId::new(id).ok_or("write an id other than 0"),
            None => Err("write a number from 1 to 4294967295, or such a number as a dotted quad"),
        }
    }
}

impl fmt::Display for L2tpId {
    /// As an address and as a number: `10.10.10.11(168430091)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.address(), self.get())
    }
}

/// A tunnel that this host transmits into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct L2tpTransmit {
    /// Its line in the file, from 1.
    pub line: usize,
    /// The far end.
    pub receiver: IpAddr,
    /// This host's end, of the same version of IP.
    pub transmitter: IpAddr,
    /// The interface whose packets are mirrored.
    pub interface: String,
    /// Which of its packets.
    pub ports: MirrorPorts,
    /// By what the receiver knows it.
    pub id: L2tpId,
}

/// A tunnel that this host receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct L2tpReceive {
    /// Its line in the file, from 1.
    pub line: usize,
    /// This host's end.
    pub receiver: IpAddr,
    /// The far end; behind address translation the address that it has here.
    pub transmitter: IpAddr,
    /// By what it is known.
    pub id: L2tpId,
}

/// Reads the tunnels that a file has this host transmit into.
///
/// # Errors
/// The file cannot be read, or the first mistake in it, with its place.
pub fn read_l2tp_transmit(path: &Path) -> Result<Vec<L2tpTransmit>, FileError> {
    parse_l2tp_transmit(path, &read(path)?)
}

/// The same of a file's content; `path` is what messages call it.
///
/// # Errors
/// As [`read_l2tp_transmit`].
pub fn parse_l2tp_transmit(path: &Path, content: &[u8]) -> Result<Vec<L2tpTransmit>, FileError> {
    let key = |tunnel: &L2tpTransmit| (tunnel.id, Some(tunnel.receiver), tunnel.line);
    parse(path, content, transmit, key)
}

/// Reads the tunnels that a file has this host receive.
///
/// # Errors
/// As [`read_l2tp_transmit`].
pub fn read_l2tp_receive(path: &Path) -> Result<Vec<L2tpReceive>, FileError> {
    parse_l2tp_receive(path, &read(path)?)
}

/// The same of a file's content; `path` is what messages call it.
///
/// # Errors
/// As [`read_l2tp_transmit`].
pub fn parse_l2tp_receive(path: &Path, content: &[u8]) -> Result<Vec<L2tpReceive>, FileError> {
    parse(path, content, receive, |tunnel| (tunnel.id, None, tunnel.line))
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    file::read(path, BYTES_MAX, "write fewer tunnels")
}

/// Reads each line by `read`; no two may be alike in the first two parts of their `key`, whose last
/// part is the line.
fn parse<T>(
    path: &Path,
    content: &[u8],
    read: impl Fn(&Line<'_>) -> Result<T, Fault>,
    key: impl Fn(&T) -> (L2tpId, Option<IpAddr>, usize),
) -> Result<Vec<T>, FileError> {
    let failed = |fault: Fault| fault.of(&path.display().to_string(), content);
    let text = text(content).map_err(failed)?;
    let mut tunnels: Vec<T> = Vec::new();
    for line in lines(text) {
        let tunnel = read(&line).map_err(failed)?;
        let (id, to, _) = key(&tunnel);
        let same = tunnels.iter().map(&key).find(|(other, there, _)| (*other, *there) == (id, to));
        if let Some((.., earlier)) = same {
            let at = line.columns.last().map_or(line.at, |column| column.at);
            let reason = format!(
                "this tunnel has id {id}, as that of line {earlier}: a receiver could not tell \
                 them apart; give one of them an id of its own in its last column"
            );
            return Err(failed(Fault::new(at, reason)));
        }
        tunnels.push(tunnel);
    }
    Ok(tunnels)
}

fn text(content: &[u8]) -> Result<&str, Fault> {
    file::text(content, "write a tunnel a line")
}

/// What the columns of each form are.
const TRANSMIT: &str = "`receiving-ip transmit-ip interface ports`, such as \
                        `10.10.10.10 10.10.10.11 ens3 i80,o443`";
const RECEIVE: &str = "`receiving-ip transmit-ip - id`, such as `10.10.10.10 10.10.10.11 - -`";

fn transmit(line: &Line<'_>) -> Result<L2tpTransmit, Fault> {
    let [receiver, transmitter, interface, ports] = line.four(TRANSMIT)?;
    if interface.is_dash() {
        return Err(interface.fault(format!(
            "is what a receiver's line has here: it is read by `tapline l2tp receive`; a \
             transmitter's is {TRANSMIT}"
        )));
    }
    let (receiver, transmitter) = ends(receiver, transmitter)?;
    let interface = interface.interface()?;
    let ports = ports.parse("mirror-ports")?;
    let id = match line.columns.get(4) {
        Some(id) => id.parse("id")?,
        None => default_id(transmitter, "add an id as a fifth column")
            .map_err(|why| line.columns[1].fault(why))?,
    };
    line.ends_after(5, TRANSMIT)?;
    Ok(L2tpTransmit { line: line.number, receiver, transmitter, interface, ports, id })
}

fn receive(line: &Line<'_>) -> Result<L2tpReceive, Fault> {
    let [receiver, transmitter, dash, id] = line.four(RECEIVE)?;
    if !dash.is_dash() {
        return Err(dash.fault(format!(
            "stands where a receiver's line has `-`: a transmitter's line is read by `tapline l2tp \
             transmit`; a receiver's is {RECEIVE}"
        )));
    }
    let (receiver, transmitter) = ends(receiver, transmitter)?;
    let id = match id.is_dash() {
        false => id.parse("id")?,
        true => default_id(transmitter, "write one instead of `-`").map_err(|why| id.fault(why))?,
    };
    line.ends_after(4, RECEIVE)?;
    Ok(L2tpReceive { line: line.number, receiver, transmitter, id })
}

/// The addresses of both ends.
fn ends(receiver: &Column<'_>, transmitter: &Column<'_>) -> Result<(IpAddr, IpAddr), Fault> {
    let (to, from) = (receiver.address("receiving")?, transmitter.address("transmit")?);
    match to.is_ipv4() == from.is_ipv4() {
        true => Ok((to, from)),
        false => Err(transmitter.fault(format!(
            "is not of the version of IP of `{to}`; write two IPv4 or two IPv6 addresses"
        ))),
    }
}

/// The id that a tunnel has unless its line says so.
fn default_id(transmitter: IpAddr, mend: &str) -> Result<L2tpId, String> {
    let id = match transmitter {
        IpAddr::V4(address) => L2tpId::new(address.to_bits()),
        IpAddr::V6(_) => None,
    };
    id.ok_or_else(|| format!("is too long for an id, so the tunnel has none: {mend}"))
}

impl MirrorPort {
    /// Which way a direction's letter means.
    pub(crate) const LETTERS: [(char, TrafficDirection); 2] =
        [('i', TrafficDirection::Ingress), ('o', TrafficDirection::Egress)];
}

#[cfg(test)]
mod tests;
