//! Packets out of a network interface: whole Ethernet frames, as they are, by AF_PACKET.
//!
//! VLAN tags stay in the frame, nothing is padded, cut or put in front. Frames go through the
//! interface's queueing discipline, so other taps of it see them as sent ones (`PACKET_OUTGOING`).
//!
//! Source: packet(7), Linux `net/packet/af_packet.c`.

mod sys;
mod way;

pub use crate::link::Ways;

use crate::batch::Selection;
use crate::clock::Now;
use crate::device::{Sink, SinkCounters};
use crate::error::Error;
use crate::packet::Packet;
use crate::trouble::Trouble;
use api::DropReason;
use std::io::ErrorKind;
use sys::{MESSAGES, Socket};
use way::Way;
use wire::LinkType;

const ETHERNET_HEADER_LEN: usize = 14;

/// So much may wait for the device. Less than most devices' queues hold, so that a sender that can
/// wait does so, rather than that the queue drops.
const SEND_BUFFER_BYTES: i32 = 512 << 10;

/// The sending side of a network interface.
///
/// An interface that is down, or has no carrier, gets nothing until it is up again, and what was meant
/// for it meanwhile is counted as [`DropReason::Unreachable`]. One that is deleted is waited for: when one
/// of its name is there again, it is used. One that is renamed goes on under its new name.
pub struct NicSink {
    socket: Socket,
    way: Way,
    counters: SinkCounters,
    trouble: Trouble,
}

/// What became of the frames of one system call.
enum Outcome {
    /// So many were sent or counted.
    Taken(usize),
    /// The device takes no more now.
    Full,
    /// It takes none, and will not in a while.
    Unreachable,
}

impl NicSink {
    /// Opens a socket in the calling thread's network namespace. The interface may be down.
    ///
    /// # Errors
    /// [`Error::NoInterface`]; [`Error::NotEthernet`]; [`Error::System`] without the right to send
    /// raw frames (CAP_NET_RAW).
    pub fn open(name: &str) -> Result<NicSink, Error> {
        let failed = |e| Error::system(format!("send through `{name}`: packet socket"), e);
        let socket = Socket::open(SEND_BUFFER_BYTES).map_err(failed)?;
        let way = Way::open(name, &socket)?;
        Ok(NicSink { socket, way, counters: SinkCounters::default(), trouble: Trouble::default() })
    }

    /// Sends frames from the front, up to [`MESSAGES`].
    fn send_some(&mut self, packets: Selection<'_>) -> Outcome {
        let mut frames: [&[u8]; MESSAGES] = [&[]; MESSAGES];
        let mut count = 0;
        let mut refused = None;
        for (packet, slot) in packets.iter().zip(&mut frames) {
            refused = reason_to_refuse(packet);
            if refused.is_some() {
                break;
            }
            *slot = &packet.data;
            count += 1;
        }
        if count == 0 {
            // None is selected, or the first one is none for a NIC.
            return match refused {
                Some(reason) => self.drop_one(reason),
                None => Outcome::Taken(0),
            };
        }
        let error = match self.socket.send(&frames[..count]) {
            Ok(sent) => {
                self.counters.add_sent(packets.first(sent));
                return Outcome::Taken(sent);
            }
            Err(error) => error,
        };
        match error.raw_os_error() {
            _ if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Outcome::Full
            }
            Some(libc::EMSGSIZE) => self.drop_one(DropReason::Oversize),
            Some(libc::ENOBUFS) if self.way.is_refused() => Outcome::Unreachable,
            Some(libc::ENOBUFS) => self.drop_one(DropReason::DeviceQueue),
            Some(libc::ENETDOWN) => {
                self.way.is_down();
                Outcome::Unreachable
            }
            Some(libc::ENXIO | libc::ENODEV) => {
                self.way.is_gone();
                Outcome::Unreachable
            }
            _ => {
                self.trouble.tell(self.way.name(), &error, "such frames are counted");
                self.drop_one(DropReason::SendError)
            }
        }
    }

    fn drop_one(&mut self, reason: DropReason) -> Outcome {
        self.counters.drops.add(reason);
        Outcome::Taken(1)
    }
}

/// Why a packet is no frame for a NIC, if it is none.
fn reason_to_refuse(packet: &Packet) -> Option<DropReason> {
    let is_frame =
        packet.meta.link_type == LinkType::ETHERNET && packet.caplen() >= ETHERNET_HEADER_LEN;
    match packet.meta.gso {
        _ if !is_frame => Some(DropReason::LinkType),
        // What could not be cut is no packet of any wire.
        Some(_) => Some(DropReason::Oversize),
        None => None,
    }
}

impl Sink for NicSink {
    fn send(&mut self, packets: Selection<'_>) -> usize {
        let mut taken = 0;
        while taken < packets.len() {
            let outcome = match self.way.is_open(&self.socket) {
                true => self.send_some(packets.skip(taken)),
                false => Outcome::Unreachable,
            };
            match outcome {
                Outcome::Taken(some) => taken += some,
                Outcome::Full => break,
                Outcome::Unreachable => {
                    let rest = packets.len() - taken;
                    self.counters.drops.add_many(DropReason::Unreachable, rest as u64);
                    taken = packets.len();
                }
            }
        }
        taken
    }

    fn counters(&self) -> SinkCounters {
        self.counters
    }

    fn tick(&mut self, _now: Now) {
        self.way.tick(&self.socket);
    }
}
