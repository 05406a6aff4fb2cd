//! Tunnel packets as they arrive at this host, from a ring: the outer packets.
//!
//! A socket costs a wake-up, a queue and a copy for each packet; a ring does not. It stands before the
//! firewall and the routes, so it sees what these would drop. What is taken is what IP would hand to
//! a socket: sent to this host's MAC, and to an address that is local now; both are looked up in the
//! kernel, by an eBPF program (`filter::ebpf::listen_filter`) before the ring. A frame is taken once,
//! however many devices it passes (`ring::listen`).

mod claims;
mod locals;
mod quiet;
mod sys;

use crate::batch::Batch;
use crate::bpf::{Prefix, PrefixMap};
use crate::device::{Arrival, Source};
use crate::error::Error;
use crate::interface::Interfaces;
use crate::ring::{Handover, ListenRing, RingSize, RingSource};
use api::Drops;
use claims::Claims;
use filter::ebpf::{IpVersion, listen_claim, listen_filter};
use locals::Locals;
use quiet::Quiet;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};
use wire::tunnel::Carrier;

/// How often a busy receiver looks whether the host's addresses have changed.
const LOOK_WHILE_BUSY: Duration = Duration::from_millis(100);

/// An end of tunnels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenPoint {
    /// The local address; unspecified: all, of both versions of IP if it is `::` and over UDP.
    pub address: IpAddr,
    /// UDP port or IP protocol; port 0: one that is free.
    pub carrier: Carrier,
}

impl fmt::Display for ListenPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.carrier {
            Carrier::Udp { port } => write!(f, "udp {}", SocketAddr::from((self.address, port))),
            Carrier::Ip { protocol } => write!(f, "ip protocol {protocol} at {}", self.address),
        }
    }
}

/// How tunnel packets are received from a ring.
#[derive(Debug, Clone)]
pub struct RingListenOptions {
    /// Where; the same place may be named more than once.
    pub points: Vec<ListenPoint>,
    /// Memory of the rings, of which there is one for each version of IP.
    pub ring_size: RingSize,
    /// When a block that is not full is handed over.
    pub handover: Handover,
    /// Interfaces from which nothing is taken, by their indices: what the process itself lets
    /// packets arrive at.
    pub except: Vec<i32>,
}

/// The outer packets that arrive for some ends of tunnels, by one version of IP.
///
/// The link layer's header is in front; a fragment is a packet.
pub struct RingListener {
    ring: RingSource,
    version: IpVersion,
    points: Vec<ListenPoint>,
    carriers: Vec<Carrier>,
    locals: Locals,
    prefixes: PrefixMap,
    looked: Instant,
    /// `None` where the kernel cannot, or where nothing comes over UDP.
    claims: Option<Claims>,
    /// For as long as this is there.
    _quiet: std::sync::Arc<Vec<Quiet>>,
}

impl RingListener {
    /// Opens a ring for each version of IP that is listened for; packets arrive from now on.
    ///
    /// # Errors
    /// [`Error::System`] if an address is not of this host, a port is taken, or where a right is
    /// missing: CAP_NET_RAW for the ring, CAP_BPF for the program before it.
    pub fn open(
        options: &RingListenOptions,
        interfaces: &Interfaces,
    ) -> Result<Vec<RingListener>, Error> {
        let mut points: Vec<ListenPoint> = Vec::new();
        let (mut of_v4, mut of_v6) = (Vec::new(), Vec::new());
        let mut quiet = Vec::new();
        for point in &options.points {
            if points.contains(point) {
                continue;
            }
            points.push(*point);
            let socket = Quiet::open(point)?;
            let failed = |error| Error::system(format!("listen on {point}"), error);
            let carrier = socket.carrier(point.carrier).map_err(failed)?;
            let bound = ListenPoint { carrier, ..*point };
            if point.address.is_ipv4() {
                of_v4.push(bound);
            } else {
                of_v6.push(bound);
                if socket.takes_v4().map_err(failed)? {
                    of_v4.push(bound);
                }
            }
            quiet.push(socket);
        }
        let quiet = std::sync::Arc::new(quiet);
        let versions = [(IpVersion::V4, of_v4), (IpVersion::V6, of_v6)];
        let versions: Vec<_> = versions.into_iter().filter(|(_, of)| !of.is_empty()).collect();
        let ring_size = match options.ring_size {
            RingSize::Auto => RingSize::Auto,
            RingSize::Bytes(bytes) => RingSize::Bytes(bytes / versions.len().max(1)),
        };
        let options = RingListenOptions { ring_size, ..options.clone() };
        let open = |(version, points)| {
            RingListener::open_version(version, points, &options, &quiet, interfaces)
        };
        versions.into_iter().map(open).collect()
    }

    fn open_version(
        version: IpVersion,
        points: Vec<ListenPoint>,
        options: &RingListenOptions,
        quiet: &std::sync::Arc<Vec<Quiet>>,
        interfaces: &Interfaces,
    ) -> Result<RingListener, Error> {
        let mut carriers: Vec<Carrier> = Vec::new();
        for point in &points {
            if !carriers.contains(&point.carrier) {
                carriers.push(point.carrier);
            }
        }
        let tag = tag();
        let unmade = |error| Error::System {
            what: "make a filter before the ring".into(),
            source: std::io::Error::other(error),
            mend: "",
        };
        let filter = listen_filter(version, &carriers, tag, &options.except).map_err(unmade)?;
        let unread = |error| Error::system("read the host's addresses", error);
        let mut locals = Locals::open().map_err(unread)?;
        let mut prefixes = PrefixMap::new(version)?;
        prefixes.set(&wanted(&points, &carriers, &locals.read().map_err(unread)?))?;
        let listen = ListenRing {
            version,
            filter: &filter,
            prefixes: &prefixes,
            ring_size: options.ring_size,
            handover: options.handover,
        };
        let ring = RingSource::listen(listen, interfaces)?;
        // Only now: what is claimed is lost for IP, so the ring has to be there.
        let is_over_udp = carriers.iter().any(|carrier| matches!(carrier, Carrier::Udp { .. }));
        let claims = match is_over_udp {
            false => None,
            true => {
                let code = listen_claim(version, &carriers, tag).map_err(unmade)?;
                let claims = Claims::make(&code, &prefixes);
                claims.map_err(|error| tracing::debug!("{error}; IP sees the packets, too")).ok()
            }
        };
        let quiet = std::sync::Arc::clone(quiet);
        let looked = Instant::now();
        Ok(RingListener {
            ring,
            version,
            points,
            carriers,
            locals,
            prefixes,
            looked,
            claims,
            _quiet: quiet,
        })
    }

    /// Where it listens, with the ports that it got.
    pub fn points(&self) -> &[ListenPoint] {
        &self.points
    }

    /// Whose packets.
    pub fn version(&self) -> IpVersion {
        self.version
    }

    /// Bytes of its ring.
    pub fn ring_bytes(&self) -> usize {
        self.ring.ring_bytes()
    }

    /// At how many interfaces packets are taken away from IP at once.
    pub fn claiming_interfaces(&self) -> usize {
        self.claims.as_ref().map_or(0, Claims::interfaces)
    }

    /// Tells the program before the ring which addresses are local now, if that has changed.
    fn follow_addresses(&mut self) {
        if !self.locals.take_news() {
            return;
        }
        let local = match self.locals.read() {
            Ok(local) => local,
            Err(error) => return tracing::warn!("the host's addresses cannot be read: {error}"),
        };
        if let Err(error) = self.prefixes.set(&wanted(&self.points, &self.carriers, &local)) {
            tracing::warn!("{error}; packets to it are not received");
        }
    }
}

/// A number that other programs on this machine are unlikely to give their packets; not 0.
fn tag() -> u16 {
    RandomState::new().build_hasher().finish() as u16 | 1
}

/// What the program before the ring is to know: a bit for each carrier, where it is listened for.
fn wanted(points: &[ListenPoint], carriers: &[Carrier], local: &[Prefix]) -> BTreeMap<Prefix, u64> {
    let bit = |point: &ListenPoint| {
        carriers.iter().position(|carrier| *carrier == point.carrier).map_or(0, |place| 1 << place)
    };
    let bits_of = |is_at: &dyn Fn(&ListenPoint) -> bool| {
        points.iter().filter(|point| is_at(point)).fold(0, |bits, point| bits | bit(point))
    };
    let everywhere = bits_of(&|point| point.address.is_unspecified());
    let mut wanted = BTreeMap::new();
    if everywhere != 0 {
        wanted.extend(local.iter().map(|prefix| (*prefix, everywhere)));
    }
    for point in points.iter().filter(|point| !point.address.is_unspecified()) {
        let is_local = local.iter().any(|prefix| prefix.contains(point.address));
        // A group is no address of the host's: who listens there is believed to have joined it.
        if is_local || point.address.is_multicast() {
            let here = bits_of(&|other| other.address == point.address);
            wanted.insert(Prefix::of(point.address), here | everywhere);
        }
    }
    wanted
}

impl Source for RingListener {
    fn receive(&mut self, batch: &mut Batch) -> Result<Arrival, Error> {
        let arrival = self.ring.receive(batch)?;
        if arrival == Arrival::Idle || self.looked.elapsed() >= LOOK_WHILE_BUSY {
            self.follow_addresses();
            self.claims.iter_mut().for_each(Claims::follow);
            self.looked = Instant::now();
        }
        Ok(arrival)
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.ring.readiness()
    }

    fn stop(&mut self) -> Result<(), Error> {
        self.ring.stop()
    }

    fn drops(&mut self) -> Drops {
        self.ring.drops()
    }

    fn missing(&self) -> u64 {
        self.ring.missing()
    }

    fn is_live(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VXLAN: Carrier = Carrier::Udp { port: 4789 };
    const GRE: Carrier = Carrier::Ip { protocol: 47 };

    fn point(address: &str, carrier: Carrier) -> ListenPoint {
        ListenPoint { address: address.parse().unwrap(), carrier }
    }

    fn prefix(address: &str, len: u8) -> Prefix {
        Prefix { address: address.parse().unwrap(), len }
    }

    #[test]
    fn addresses_have_the_bits_of_what_is_listened_for_there() {
        let local = [prefix("127.0.0.0", 8), prefix("10.0.0.1", 32), prefix("10.0.0.2", 32)];
        let of = |points: &[ListenPoint]| wanted(points, &[VXLAN, GRE], &local);
        assert_eq!(
            of(&[point("0.0.0.0", GRE)]),
            local.iter().map(|prefix| (*prefix, 0b10)).collect()
        );
        let mixed = of(&[
            point("10.0.0.1", VXLAN),
            point("0.0.0.0", GRE),
            point("127.0.0.1", VXLAN),
            point("10.9.9.9", VXLAN),
        ]);
        assert_eq!(mixed.len(), 4);
        assert_eq!(mixed[&prefix("10.0.0.1", 32)], 0b11);
        assert_eq!(mixed[&prefix("10.0.0.2", 32)], 0b10);
        assert_eq!(mixed[&prefix("127.0.0.1", 32)], 0b11);
        assert_eq!(mixed[&prefix("127.0.0.0", 8)], 0b10);
        assert_eq!(of(&[point("239.1.1.1", VXLAN)]), [(prefix("239.1.1.1", 32), 1)].into());
    }

    #[test]
    fn a_point_says_where_it_is() {
        assert_eq!(point("::1", VXLAN).to_string(), "udp [::1]:4789");
        assert_eq!(point("10.0.0.1", GRE).to_string(), "ip protocol 47 at 10.0.0.1");
    }
}
