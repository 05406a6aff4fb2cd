//! Packets of a network interface, from an AF_PACKET ring (TPACKET_V3).
//!
//! The ring shows what the host's stack hands to the NIC or gets from it, which is not what is on
//! the wire: super-packets that the NIC is to cut (TSO) or has joined (GRO), checksums that it is
//! to complete, VLAN tags that it keeps beside the frame. All three are undone here, so that what
//! leaves this source are the wire's packets; the host's offloads stay as they are.

mod fanout;
mod listen;
mod offload;
mod place;
mod presence;
mod screen;
mod size;
mod sys;

use crate::batch::Batch;
use crate::device::{Arrival, Screening, Source};
use crate::error::Error;
use crate::interface::Interfaces;
use crate::link::{self, Link, Links};
use crate::netns::Netns;
use crate::packet::{Direction, InterfaceId, Meta};
use api::{DropReason, Drops};
use fanout::Fanout;
use offload::{Offloads, Undone};
use place::{Place, Places};
use presence::Presence;
use screen::Screen;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use sys::{Cursor, Frame, Geometry, Ring};
use wire::LinkType;

pub use api::RingSize;
pub(crate) use listen::ListenRing;
pub use screen::KernelFilter;

/// The name that stands for all interfaces of the network namespace.
pub const ANY: &str = "any";

/// Frames of every EtherType, sent ones too.
const ALL_PROTOCOLS: u16 = libc::ETH_P_ALL as u16;

/// The smallest block: holds any frame of up to 64 kB with room to spare.
const BLOCK_BYTES_MIN: usize = 256 << 10;
const BLOCK_BYTES_MAX: usize = 1 << 20;

/// One block is filled while the other is read.
const BLOCKS_MIN: u32 = 2;

/// How long after the stop a frame that another core was counting then is surely in the ring.
const SETTLE: Duration = Duration::from_millis(10);

/// How long a block that is not full waits to be handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// 1 ms: for packets whose delay somebody sees. Linux 6.18 and later keep to it; before that the
    /// kernel counts this time in ticks, so that it is 1 or 2 of them (4 to 8 ms at 250 Hz).
    Immediate,
    /// 4 ms: for packets that go on to somebody.
    Prompt,
    /// 60 ms: for packets that are put away, with fewer interruptions.
    Relaxed,
}

impl Handover {
    const fn retire_ms(self) -> u32 {
        match self {
            Handover::Immediate => 1,
            Handover::Prompt => 4,
            Handover::Relaxed => 60,
        }
    }

    /// A ring has at least so many blocks, if its size allows: at low rates a block is handed over
    /// nearly empty, and their number times the hand-over's time is what bridges a pause of the
    /// reader.
    const fn blocks(self) -> usize {
        match self {
            Handover::Immediate => 256,
            Handover::Prompt | Handover::Relaxed => 64,
        }
    }
}

/// How an interface is tapped.
#[derive(Debug, Clone)]
pub struct RingOptions {
    /// The interface, or [`ANY`].
    pub interface: String,
    /// The network namespace that it is in; `None`: the caller's.
    pub netns: Option<Arc<Netns>>,
    /// Have the NIC take frames for other hosts too, for as long as the tap runs; not with [`ANY`].
    pub promiscuous: bool,
    /// How much memory the ring takes.
    pub ring_size: RingSize,
    /// When a block that is not full is handed over.
    pub handover: Handover,
    /// Bytes that will be kept of each packet, for the interface's description; 0: all.
    pub snaplen: u32,
    /// The capture filter before the ring, for frames of the interface's link type; not with [`ANY`].
    pub filter: KernelFilter,
}

/// What is known of an interface before it is tapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Description {
    /// What its frames begin with.
    pub link_type: LinkType,
    /// Whether each packet passes it twice: sent, then received.
    pub is_loopback: bool,
}

/// Describes an interface of the caller's network namespace.
///
/// # Errors
/// [`Error::NoInterface`], [`Error::HardwareType`], [`Error::System`].
pub fn describe(name: &str) -> Result<Description, Error> {
    let mut links = Links::open().map_err(|e| Error::system("open a netlink socket", e))?;
    let link = find(name, &mut links)?;
    let link_type = place::link_type(link.hardware);
    Ok(Description {
        link_type: link_type.expect("found only if it has one"),
        is_loopback: link.hardware == libc::ARPHRD_LOOPBACK,
    })
}

/// A tap on one network interface, or on all.
///
/// An interface that is deleted is waited for: when one of its name is there again, the tap goes on.
pub struct RingSource {
    options: RingOptions,
    /// The EtherType whose frames come, or `ETH_P_ALL`.
    protocol: u16,
    ring: Ring,
    /// The rings of the other workers, which share the frames with this one.
    fanout: Option<Arc<Fanout>>,
    /// Whether this is the ring of the worker that speaks for all.
    speaks: bool,
    cursor: Option<Cursor>,
    offloads: Offloads,
    screen: Screen,
    /// The link type that the filter before the ring was made for.
    screened: Option<LinkType>,
    links: Links,
    places: Places,
    /// Where the frames come from, for one interface.
    place: Option<Place>,
    presence: Presence,
    drops: Drops,
    /// Frames that the kernel counted, those lost left out, and frames taken from the ring.
    frames_in: u64,
    frames_out: u64,
    /// Frames that the ring had no room for.
    frames_lost: u64,
    /// Since when nothing more is let in.
    stopped: Option<Instant>,
}

/// Which of the rings of a tap's workers one is.
struct RingShare {
    fanout: Option<Arc<Fanout>>,
    worker: usize,
    workers: usize,
}

impl RingSource {
    /// Opens the ring; packets arrive from now on.
    ///
    /// # Errors
    /// [`Error::NoInterface`], [`Error::HardwareType`], [`Error::KernelFilter`], and
    /// [`Error::System`] where the right (CAP_NET_RAW) or the memory is missing.
    pub fn open(options: &RingOptions, interfaces: &Interfaces) -> Result<RingSource, Error> {
        let mut sources = RingSource::open_all(options, 1, interfaces)?;
        Ok(sources.pop().expect("one was asked for"))
    }

    /// Opens a ring for each of some workers, which share the frames out by flow, and the memory
    /// evenly. Packets arrive from now on.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_all(
        options: &RingOptions,
        workers: usize,
        interfaces: &Interfaces,
    ) -> Result<Vec<RingSource>, Error> {
        match &options.netns {
            Some(netns) => netns.run(|| RingSource::open_here(options, workers, interfaces))?,
            None => RingSource::open_here(options, workers, interfaces),
        }
    }

    fn open_here(
        options: &RingOptions,
        workers: usize,
        interfaces: &Interfaces,
    ) -> Result<Vec<RingSource>, Error> {
        let fanout = (workers > 1).then(|| Arc::new(Fanout::default()));
        let mut sources = Vec::with_capacity(workers);
        for worker in 0..workers {
            let share = RingShare { fanout: fanout.clone(), worker, workers };
            let load = || Screen::load(&options.filter);
            sources.push(RingSource::make(options, ALL_PROTOCOLS, share, load, interfaces)?);
        }
        // Not before all are in the group, which decides by their number where a flow goes.
        sources.iter().try_for_each(RingSource::let_frames_in)?;
        Ok(sources)
    }

    /// Makes a ring and binds it; nothing comes in yet.
    fn make(
        options: &RingOptions,
        protocol: u16,
        share: RingShare,
        load: impl FnOnce() -> Result<Screen, Error>,
        interfaces: &Interfaces,
    ) -> Result<RingSource, Error> {
        let name = options.interface.clone();
        let mut links = Links::open().map_err(|e| Error::system("open a netlink socket", e))?;
        let only = (name != ANY).then(|| name.clone());
        let mut places = Places::new(only.clone(), options.snaplen, interfaces);
        let (link, place) = match &only {
            Some(name) => {
                let link = find(name, &mut links)?;
                let place = places.find(link.index, link.hardware, &links);
                (Some(link), place)
            }
            None => (None, None),
        };
        let ring = options.make_ring(&links, share.workers)?;
        let screen = load()
            .map_err(|source| Error::KernelFilter { name: name.clone(), source: source.into() })?;
        let mut source = RingSource {
            options: options.clone(),
            protocol,
            ring,
            fanout: share.fanout,
            speaks: share.worker == 0,
            cursor: None,
            offloads: Offloads::new(),
            screen,
            screened: place.map(|place| place.link_type),
            links,
            places,
            place,
            presence: Presence::Any,
            drops: Drops::default(),
            frames_in: 0,
            frames_out: 0,
            frames_lost: 0,
            stopped: None,
        };
        source.tap(link.map_or(0, |link| link.index))?;
        if let Some(link) = link {
            source.presence = Presence::up(link.index);
        }
        Ok(source)
    }

    /// Whether what this host sends to itself comes in again: on loopback, each packet passes twice.
    pub fn sees_loopback(&self) -> bool {
        self.place.is_none_or(|place| place.is_loopback)
    }

    /// Bytes of the ring: what was asked for in whole blocks.
    pub fn ring_bytes(&self) -> usize {
        self.ring.bytes()
    }

    /// The place of the one interface in the table of interfaces; `None` if all are tapped.
    pub fn interface_id(&self) -> Option<InterfaceId> {
        self.place.map(|place| place.interface)
    }

    /// What the frames begin with; `None` if all interfaces are tapped, each with its own.
    pub fn link_type(&self) -> Option<LinkType> {
        self.place.map(|place| place.link_type)
    }

    /// Binds the ring to an interface, or to all, and lets no frame in yet.
    fn tap(&mut self, index: i32) -> Result<(), Error> {
        let name = &self.options.interface;
        let failed = |what| move |error| failed(name, what, error);
        crate::sys::reject_all(self.ring.socket()).map_err(failed("hold frames back"))?;
        self.ring.bind(index, self.protocol).map_err(failed("bind to the interface"))?;
        if let Some(fanout) = &self.fanout {
            fanout.join(&self.ring, index).map_err(failed("share it out among workers"))?;
        }
        if self.options.promiscuous && index != 0 {
            self.ring.set_promiscuous(index).map_err(failed("promiscuous mode"))?;
        }
        Ok(())
    }

    /// Puts the filter into the place of what holds frames back.
    fn let_frames_in(&self) -> Result<(), Error> {
        self.screen.attach(&self.ring).map_err(|source| {
            let name = self.options.interface.clone();
            Error::KernelFilter { name, source: source.into() }
        })
    }

    /// Turns a frame of the ring into the packets that the wire carries.
    fn deliver(&mut self, mut frame: Frame, batch: &mut Batch) {
        if self.protocol != ALL_PROTOCOLS && place::link_type(frame.hardware).is_none() {
            // Of one EtherType the network's header is known, whatever stands in front of it.
            frame.leave_link();
            frame.hardware = libc::ARPHRD_NONE;
        }
        let place = self.places.find(frame.interface, frame.hardware, &self.links);
        let is_decided = self.screen.has_decided(&frame);
        let Some(place) = place else {
            // A filter before the ring has counted it all the same.
            self.screen.count(is_decided, Undone::left_whole(&frame));
            return self.drops.add(DropReason::HardwareType);
        };
        let is_sent = frame.packet_type == libc::PACKET_OUTGOING;
        // Among all interfaces, what loopback sends is left to come in again, as tcpdump does.
        if is_sent && place.is_loopback && self.place.is_none() {
            return;
        }
        let meta = Meta {
            ts_ns: frame.ts_ns,
            origlen: frame.len,
            link_type: place.link_type,
            interface: place.interface,
            direction: if is_sent { Direction::Out } else { Direction::In },
            outer: None,
            packet_id: None,
            gso: None,
            decided: is_decided,
            flow_hash: None,
        };
        let undone = self.offloads.undo(frame, meta, &mut self.drops, batch);
        self.screen.count(is_decided, undone);
    }

    /// Takes over the ring's counters, which reading clears (read nowhere else), and the filter's.
    fn read_statistics(&mut self) {
        // The filter's first: then a ring that is dry by its own counters holds none of these.
        self.screen.read();
        if let Ok((frames, lost)) = self.ring.statistics() {
            self.frames_in += u64::from(frames.saturating_sub(lost));
            self.frames_lost += u64::from(lost);
        }
        self.screen.settle(self.frames_lost, self.frames_out >= self.frames_in);
    }

    /// Whether every frame that the kernel counted has been taken, so that the source is at its end.
    /// The last block is handed over when its time is up.
    fn is_dry(&mut self) -> bool {
        self.read_statistics();
        self.frames_out >= self.frames_in
    }
}

impl RingOptions {
    /// Makes the ring; one of automatic size is halved until the kernel has the memory.
    fn make_ring(&self, links: &Links, workers: usize) -> Result<Ring, Error> {
        let bytes = match self.ring_size {
            RingSize::Auto => size::bytes_for(links.speed_mbps(&self.interface)),
            RingSize::Bytes(bytes) => bytes,
        };
        self.fit(bytes / workers, Ring::new)
    }

    fn fit<R>(
        &self,
        mut bytes: usize,
        make: impl Fn(Geometry) -> Result<R, (&'static str, std::io::Error)>,
    ) -> Result<R, Error> {
        let name = &self.interface;
        loop {
            let geometry = self.geometry(bytes);
            let (what, error) = match make(geometry) {
                Ok(ring) => return Ok(ring),
                Err(refused) => refused,
            };
            if error.raw_os_error() != Some(libc::ENOMEM) {
                return Err(failed(name, what, error));
            }
            let kib = geometry.bytes() >> 10;
            if self.ring_size != RingSize::Auto || geometry.blocks <= BLOCKS_MIN {
                return Err(Error::RingMemory { name: name.clone(), kib, source: error });
            }
            tracing::warn!("{name}: no memory for a ring of {kib} KiB; trying half of it");
            bytes = geometry.bytes() / 2;
        }
    }

    fn geometry(&self, bytes: usize) -> Geometry {
        let block_bytes = (bytes / self.handover.blocks()).next_power_of_two();
        let block_bytes = block_bytes.clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX);
        Geometry {
            block_bytes: block_bytes as u32,
            blocks: bytes.div_ceil(block_bytes).clamp(BLOCKS_MIN as usize, 1 << 14) as u32,
            retire_ms: self.handover.retire_ms(),
        }
    }
}

/// Finds an interface whose frames can be read.
fn find(name: &str, links: &mut Links) -> Result<Link, Error> {
    let link = link::find(name, links)?;
    match place::link_type(link.hardware) {
        Some(_) => Ok(link),
        None => Err(Error::HardwareType { name: name.into(), hardware: link.hardware }),
    }
}

fn failed(name: &str, what: &str, error: std::io::Error) -> Error {
    Error::system(format!("interface `{name}`: {what}"), error)
}

impl Source for RingSource {
    fn receive(&mut self, batch: &mut Batch) -> Result<Arrival, Error> {
        let (before, taken) = (batch.len(), self.frames_out);
        while batch.room() > 0 {
            let Some(cursor) = &mut self.cursor else {
                self.cursor = self.ring.next_block();
                if self.cursor.is_some() {
                    continue;
                }
                break;
            };
            match self.ring.next_frame(cursor) {
                Some(frame) => {
                    self.frames_out += 1;
                    self.deliver(frame, batch);
                }
                None => self.cursor = None,
            }
        }
        self.ring.release(self.cursor.as_ref());
        if let (&Presence::Down { index, .. }, true) = (&self.presence, self.frames_out > taken) {
            self.presence = Presence::up(index);
        }
        if batch.len() > before || batch.room() == 0 {
            return Ok(Arrival::Packets);
        }
        self.check_interface();
        let is_settled = self.stopped.is_some_and(|since| since.elapsed() >= SETTLE);
        match is_settled && self.is_dry() {
            true => Ok(Arrival::End),
            false => Ok(Arrival::Idle),
        }
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        match self.presence {
            // The ring is dry, or its last block comes within the tap's own time.
            Presence::Gone { .. } => Some(self.links.as_fd()),
            _ => Some(self.ring.socket()),
        }
    }

    fn stop(&mut self) -> Result<(), Error> {
        crate::sys::reject_all(self.ring.socket())
            .map_err(|e| failed(&self.options.interface, "stop the tap", e))?;
        self.stopped.get_or_insert_with(Instant::now);
        self.read_statistics();
        Ok(())
    }

    fn drops(&mut self) -> Drops {
        self.read_statistics();
        let mut drops = self.drops;
        drops.add_many(DropReason::KernelRing, self.screen.lost_undecided(self.frames_lost));
        drops
    }

    fn missing(&self) -> u64 {
        self.screen.missing(self.frames_in, self.frames_out)
    }

    fn screening(&mut self) -> Screening {
        self.screen.screening()
    }

    fn is_live(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(ring_size: RingSize) -> RingOptions {
        RingOptions {
            interface: "eth0".into(),
            netns: None,
            promiscuous: false,
            ring_size,
            handover: Handover::Prompt,
            snaplen: 0,
            filter: KernelFilter::Absent,
        }
    }

    /// A kernel that has no more memory than this.
    fn fit(ring_size: RingSize, bytes: usize, memory: usize) -> Result<usize, Error> {
        options(ring_size).fit(bytes, |geometry| match geometry.bytes() {
            bytes if bytes <= memory => Ok(bytes),
            _ => Err(("allocate the ring", std::io::Error::from_raw_os_error(libc::ENOMEM))),
        })
    }

    #[test]
    fn a_ring_of_automatic_size_is_halved_until_it_fits() {
        assert_eq!(fit(RingSize::Auto, 512 << 20, 512 << 20).unwrap(), 512 << 20);
        assert_eq!(fit(RingSize::Auto, 512 << 20, 100 << 20).unwrap(), 64 << 20);
        assert_eq!(fit(RingSize::Auto, 125_000_000, 1 << 20).unwrap(), 1 << 20);
        let error = fit(RingSize::Auto, 512 << 20, 100 << 10).unwrap_err().to_string();
        assert!(error.contains("no memory for a ring of 512 KiB"), "{error}");
    }

    #[test]
    fn a_ring_of_a_given_size_is_that_large_or_an_error() {
        let given = RingSize::Bytes(64 << 20);
        assert_eq!(fit(given, 64 << 20, 64 << 20).unwrap(), 64 << 20);
        let error = fit(given, 64 << 20, 32 << 20).unwrap_err().to_string();
        assert!(error.contains("65536 KiB") && error.contains("-B SIZE"), "{error}");
        // The smallest is still two blocks, and any size is whole blocks.
        assert_eq!(options(given).geometry(0).bytes(), 512 << 10);
        assert_eq!(options(given).geometry(100 << 20).bytes(), 100 << 20);
        assert_eq!(options(given).geometry((4 << 30) - 1).bytes(), 4 << 30);
    }

    #[test]
    fn the_sooner_blocks_are_handed_over_the_more_there_are() {
        let blocks = |handover, bytes| {
            let options = RingOptions { handover, ..options(RingSize::Auto) };
            options.geometry(bytes).blocks
        };
        assert_eq!(blocks(Handover::Immediate, 64 << 20), 256);
        assert_eq!(blocks(Handover::Prompt, 64 << 20), 64);
        assert_eq!(blocks(Handover::Relaxed, 512 << 20), 512);
        // Any frame of up to 64 kB fits a block.
        assert_eq!(blocks(Handover::Immediate, 16 << 20), 64);
    }
}
