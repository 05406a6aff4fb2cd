//! Packets of a network interface, from an AF_PACKET ring (TPACKET_V3).
//!
//! The ring shows what the host's stack hands to the NIC or gets from it, which is not what is on
//! the wire: super-packets that the NIC is to cut (TSO) or has joined (GRO), checksums that it is
//! to complete, VLAN tags that it keeps beside the frame. All three are undone here, so that what
//! leaves this source are the wire's packets; the host's offloads stay as they are.

mod sys;

use crate::batch::Batch;
use crate::device::{Arrival, Source};
use crate::error::Error;
use crate::interface::{Interface, Interfaces};
use crate::packet::{Direction, InterfaceId, Meta, Packet};
use crate::pool::Pool;
use api::{DropReason, Drops};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};
use sys::{Cursor, Frame, Geometry, Ring};
use wire::LinkType;
use wire::segment::{Gso, GsoKind, Plan, complete_checksum};

/// The smallest block: holds any frame of up to 64 kB with room to spare.
const BLOCK_BYTES_MIN: usize = 256 << 10;
const BLOCK_BYTES_MAX: usize = 1 << 20;
/// A ring has at least so many blocks, if its size allows: at low rates a block is handed over
/// nearly empty, and their number times the hand-over's time is what bridges a pause of the reader.
const BLOCKS: usize = 64;

/// Memory for the packets that super-packets are cut into: some batches' worth.
const SEGMENT_CHUNKS: usize = 8;
const SEGMENT_CHUNK_BYTES: usize = 1 << 20;

/// How often an interface that has gone down is looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// `virtio_net_hdr` flag: the checksum is to be completed.
const NEEDS_CSUM: u8 = 1;
/// `virtio_net_hdr` GSO types (`include/uapi/linux/virtio_net.h`).
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
/// Set beside the type where a TCP super-packet carries CWR.
const GSO_ECN: u8 = 0x80;

const ETHERTYPE_VLAN: u16 = 0x8100;
const MACS_LEN: usize = 12;
const TAG_LEN: usize = 4;

/// How long a block that is not full waits to be handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// 4 ms: for packets that go on to somebody.
    Prompt,
    /// 60 ms: for packets that are put away, with fewer interruptions.
    Relaxed,
}

impl Handover {
    const fn retire_ms(self) -> u32 {
        match self {
            Handover::Prompt => 4,
            Handover::Relaxed => 60,
        }
    }
}

/// How an interface is tapped.
#[derive(Debug, Clone)]
pub struct RingOptions {
    /// The interface, in the caller's network namespace.
    pub interface: String,
    /// Have the NIC take frames for other hosts too, for as long as the tap runs.
    pub promiscuous: bool,
    /// Bytes of the ring; rounded up to whole blocks.
    pub ring_bytes: usize,
    /// When a block that is not full is handed over.
    pub handover: Handover,
    /// Bytes that will be kept of each packet, for the interface's description; 0: all.
    pub snaplen: u32,
}

/// A tap on one network interface.
pub struct RingSource {
    name: String,
    index: i32,
    ring: Ring,
    cursor: Option<Cursor>,
    segments: Pool,
    interface: InterfaceId,
    link_type: LinkType,
    loopback: bool,
    drops: Drops,
    /// Frames that the kernel counted, those lost left out, and frames taken from the ring.
    frames_in: u64,
    frames_out: u64,
    stopped: bool,
    /// Whether the interface was said to be down, and no frame has come since.
    down: bool,
    /// When the interface was last looked for; from when it first went down.
    looked_for: Option<Instant>,
    /// Why no more frames will come: the interface is gone.
    gone: Option<Error>,
}

impl RingSource {
    /// Opens the ring; packets arrive from now on.
    ///
    /// # Errors
    /// [`Error::NoInterface`], [`Error::HardwareType`], and [`Error::System`] where the right
    /// (CAP_NET_RAW) or the memory is missing.
    pub fn open(options: &RingOptions, interfaces: &Interfaces) -> Result<RingSource, Error> {
        let name = &options.interface;
        let (index, hardware) = sys::interface(name).map_err(|_| Error::NoInterface {
            name: name.clone(),
            present: sys::interface_names(),
        })?;
        let (link_type, loopback) = match hardware {
            libc::ARPHRD_ETHER => (LinkType::ETHERNET, false),
            libc::ARPHRD_LOOPBACK => (LinkType::ETHERNET, true),
            libc::ARPHRD_NONE | libc::ARPHRD_TUNNEL | libc::ARPHRD_TUNNEL6 | libc::ARPHRD_SIT => {
                (LinkType::RAW, false)
            }
            _ => return Err(Error::HardwareType { name: name.clone(), hardware }),
        };
        let block_bytes = (options.ring_bytes / BLOCKS)
            .next_power_of_two()
            .clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX);
        let geometry = Geometry {
            block_bytes: block_bytes as u32,
            blocks: options.ring_bytes.div_ceil(block_bytes).clamp(2, 1 << 14) as u32,
            retire_ms: options.handover.retire_ms(),
        };
        let ring = Ring::open(index, geometry)
            .map_err(|(what, e)| Error::system(format!("interface `{name}`: {what}"), e))?;
        if options.promiscuous {
            ring.set_promiscuous(index)
                .map_err(|e| Error::system(format!("interface `{name}`: promiscuous mode"), e))?;
        }
        let interface = interfaces.add(Interface {
            name: Some(name.clone()),
            snaplen: options.snaplen,
            ..Interface::new(link_type.0)
        });
        Ok(RingSource {
            name: name.clone(),
            index,
            ring,
            cursor: None,
            segments: Pool::new(SEGMENT_CHUNKS, SEGMENT_CHUNK_BYTES),
            interface,
            link_type,
            loopback,
            drops: Drops::default(),
            frames_in: 0,
            frames_out: 0,
            stopped: false,
            down: false,
            looked_for: None,
            gone: None,
        })
    }

    /// Whether it is the loopback interface, where each packet passes twice: sent, then received.
    pub fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// Bytes of the ring: what was asked for in whole blocks.
    pub fn ring_bytes(&self) -> usize {
        self.ring.bytes()
    }

    /// Its place in the table of interfaces.
    pub fn interface_id(&self) -> InterfaceId {
        self.interface
    }

    /// What the frames begin with.
    pub fn link_type(&self) -> LinkType {
        self.link_type
    }

    /// Turns a frame of the ring into the packets that the wire carries.
    fn deliver(&mut self, mut frame: Frame, batch: &mut Batch) {
        let whole = frame.data.len() as u64 == u64::from(frame.len);
        let tag_len = if self.restore_tag(&mut frame) { TAG_LEN } else { 0 };
        let mut meta = Meta {
            ts_ns: frame.ts_ns,
            origlen: frame.len + tag_len as u32,
            link_type: self.link_type,
            interface: self.interface,
            direction: match frame.packet_type {
                libc::PACKET_OUTGOING => Direction::Out,
                _ => Direction::In,
            },
            outer: None,
            gso: None,
            decided: false,
            flow_hash: None,
        };
        let csum_start = usize::from(frame.vnet.csum_start) + tag_len;
        if let Some(kind) = gso_kind(frame.vnet.gso_type) {
            let gso = Gso {
                kind,
                size: frame.vnet.gso_size,
                csum_start: csum_start as u16,
                csum_offset: frame.vnet.csum_offset,
            };
            // A frame that the ring cut short has lost segments: it stays as it is.
            match whole.then(|| Plan::new(self.link_type, &frame.data, &gso)) {
                Some(Ok(plan)) => return self.cut(&frame, &plan, &meta, batch),
                _ => meta.gso = Some(gso),
            }
        } else if whole && frame.vnet.flags & NEEDS_CSUM != 0 {
            // Fails only where the header's offsets lie beyond the frame: then the frame stays as
            // it is, as the NIC would have left it.
            let offset = usize::from(frame.vnet.csum_offset);
            let _ = complete_checksum(&mut frame.data, csum_start, offset);
        }
        batch.push(Packet { data: frame.data, meta });
    }

    /// Puts a tag that the kernel keeps beside the frame back between the MACs and the EtherType.
    fn restore_tag(&self, frame: &mut Frame) -> bool {
        if frame.status & libc::TP_STATUS_VLAN_VALID == 0
            || self.link_type != LinkType::ETHERNET
            || frame.data.len() < MACS_LEN
            || !frame.data.grow_front(TAG_LEN)
        {
            return false;
        }
        let tpid = match frame.status & libc::TP_STATUS_VLAN_TPID_VALID {
            0 => ETHERTYPE_VLAN,
            _ => frame.vlan_tpid,
        };
        frame.data.copy_within(TAG_LEN..TAG_LEN + MACS_LEN, 0);
        frame.data[MACS_LEN..MACS_LEN + 2].copy_from_slice(&tpid.to_be_bytes());
        frame.data[MACS_LEN + 2..MACS_LEN + 4].copy_from_slice(&frame.vlan_tci.to_be_bytes());
        true
    }

    /// Cuts a super-packet into the wire's packets.
    fn cut(&mut self, frame: &Frame, plan: &Plan, meta: &Meta, batch: &mut Batch) {
        for index in 0..plan.count() {
            let len = plan.segment_len(index);
            let Some(mut data) = self.segments.take(len) else {
                self.drops.add(DropReason::PoolExhausted);
                continue;
            };
            plan.emit(&frame.data, index, &mut data);
            batch.push(Packet { data, meta: Meta { origlen: len as u32, ..meta.clone() } });
        }
    }

    /// Takes over the kernel's counters, which reading clears: read nowhere else.
    fn read_statistics(&mut self) {
        if let Ok((frames, lost)) = self.ring.statistics() {
            self.frames_in += u64::from(frames.saturating_sub(lost));
            self.drops.add_many(DropReason::KernelRing, u64::from(lost));
        }
    }

    /// Says when the interface goes down, and finds out when it is gone for good: the kernel tells
    /// of the first error only.
    fn check_interface(&mut self) {
        match (self.ring.take_error(), self.looked_for) {
            (Ok(Some(error)), _) => {
                if !std::mem::replace(&mut self.down, true) {
                    tracing::warn!("interface {}: {error}; waiting for it to come up", self.name);
                }
            }
            (_, Some(last)) if last.elapsed() >= LOOK_AGAIN => {}
            _ => return,
        }
        self.looked_for = Some(Instant::now());
        if self.gone.is_none() && !sys::exists(self.index) {
            let error = std::io::Error::from_raw_os_error(libc::ENODEV);
            self.gone = Some(Error::system(format!("interface `{}` is gone", self.name), error));
        }
    }

    /// Whether every frame that the kernel counted has been taken, so that the source is at its end.
    /// The last block is handed over when its time is up.
    fn is_dry(&mut self) -> bool {
        self.read_statistics();
        self.frames_out >= self.frames_in
    }
}

fn gso_kind(gso_type: u8) -> Option<GsoKind> {
    match gso_type & !GSO_ECN {
        GSO_TCPV4 => Some(GsoKind::TcpV4),
        GSO_TCPV6 => Some(GsoKind::TcpV6),
        GSO_UDP_L4 => Some(GsoKind::UdpL4),
        _ => None,
    }
}

impl Source for RingSource {
    fn receive(&mut self, batch: &mut Batch) -> Result<Arrival, Error> {
        let before = batch.len();
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
        if batch.len() > before {
            self.down = false;
        }
        if batch.len() > before || batch.room() == 0 {
            return Ok(Arrival::Packets);
        }
        self.check_interface();
        if (self.stopped || self.gone.is_some()) && self.is_dry() {
            return self.gone.take().map_or(Ok(Arrival::End), Err);
        }
        Ok(Arrival::Idle)
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.ring.socket())
    }

    fn stop(&mut self) -> Result<(), Error> {
        crate::sys::reject_all(self.ring.socket())
            .map_err(|e| Error::system(format!("interface `{}`: stop the tap", self.name), e))?;
        self.stopped = true;
        self.read_statistics();
        Ok(())
    }

    fn drops(&mut self) -> Drops {
        self.read_statistics();
        self.drops
    }

    fn missing(&self) -> u64 {
        self.frames_in.abs_diff(self.frames_out)
    }

    fn is_live(&self) -> bool {
        true
    }
}
