//! Packets out of a network interface: whole Ethernet frames, as they are, by AF_PACKET.
//!
//! VLAN tags stay in the frame, nothing is padded, cut or put in front. Frames go through the
//! interface's queueing discipline, so other taps of it see them as sent ones (`PACKET_OUTGOING`).
//!
//! Source: packet(7), Linux `net/packet/af_packet.c`.

mod sys;

use crate::batch::Selection;
use crate::clock::Now;
use crate::device::{Sink, SinkCounters};
use crate::error::Error;
use crate::link::{self, Links};
use crate::packet::Packet;
use crate::trouble::Trouble;
use api::DropReason;
use std::io::ErrorKind;
use std::time::{Duration, Instant};
use sys::{MESSAGES, Socket};
use wire::LinkType;

const ETHERNET_HEADER_LEN: usize = 14;

/// So much may wait for the device. Less than most devices' queues hold, so that a sender that can
/// wait does so, rather than that the queue drops.
const SEND_BUFFER_BYTES: i32 = 512 << 10;

/// How often an interface that is gone is looked for, should word of its return be lost.
const LOOK_WHILE_GONE: Duration = Duration::from_secs(1);

/// The sending side of a network interface.
///
/// An interface that is deleted is waited for: when one of its name is there again, it is used.
pub struct NicSink {
    name: String,
    socket: Socket,
    links: Links,
    /// Since when it is looked for; `None` while it is there.
    gone: Option<Instant>,
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
        let failed = |what: &str, e| Error::system(format!("send through `{name}`: {what}"), e);
        let mut links = Links::open().map_err(|e| failed("open a netlink socket", e))?;
        let socket = Socket::open(SEND_BUFFER_BYTES).map_err(|e| failed("packet socket", e))?;
        bind(&socket, name, &mut links)?;
        Ok(NicSink {
            name: name.into(),
            socket,
            links,
            gone: None,
            counters: SinkCounters::default(),
            trouble: Trouble::default(),
        })
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
                self.counters.sent += sent as u64;
                return Outcome::Taken(sent);
            }
            Err(error) => error,
        };
        match error.raw_os_error() {
            _ if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Outcome::Full
            }
            Some(libc::EMSGSIZE) => self.drop_one(DropReason::Oversize),
            Some(libc::ENOBUFS) => self.drop_one(DropReason::DeviceQueue),
            Some(libc::ENETDOWN) => {
                self.trouble.tell(&self.name, &error, "frames for it are counted");
                Outcome::Unreachable
            }
            Some(libc::ENXIO | libc::ENODEV) => {
                self.wait_for_return();
                Outcome::Unreachable
            }
            _ => {
                self.trouble.tell(&self.name, &error, "such frames are counted");
                self.drop_one(DropReason::SendError)
            }
        }
    }

    fn drop_one(&mut self, reason: DropReason) -> Outcome {
        self.counters.drops.add(reason);
        Outcome::Taken(1)
    }

    fn wait_for_return(&mut self) {
        tracing::warn!("{} is gone; waiting for it to return", self.name);
        if let Err(error) = self.links.watch(true) {
            // It is still looked for, only less often.
            tracing::debug!("no news of interfaces: {error}");
        }
        // It may be back already, which would be no news.
        let now = Instant::now();
        self.gone = Some(now.checked_sub(LOOK_WHILE_GONE).unwrap_or(now));
    }

    /// Whether the interface is there, as far as is known. One that is gone is looked for.
    fn is_there(&mut self) -> bool {
        let Some(looked_for) = self.gone else {
            return true;
        };
        if !self.links.take_news() && looked_for.elapsed() < LOOK_WHILE_GONE {
            return false;
        }
        self.gone = Some(Instant::now());
        match bind(&self.socket, &self.name, &mut self.links) {
            Ok(()) => {
                tracing::info!("{} is back", self.name);
                if let Err(error) = self.links.watch(false) {
                    tracing::debug!("news of interfaces cannot be ended: {error}");
                }
                self.gone = None;
                true
            }
            Err(Error::NoInterface { .. }) => false,
            Err(Error::System { source, .. }) => {
                self.trouble.tell(&self.name, &source, "waiting for it to change");
                false
            }
            Err(error) => {
                let error = std::io::Error::other(error.to_string());
                self.trouble.tell(&self.name, &error, "waiting for it to change");
                false
            }
        }
    }
}

/// Whether two names are those of one interface of the calling thread's network namespace: it may
/// have alternative ones.
pub fn are_one(name: &str, other: &str) -> bool {
    let index = |links: &mut Links, name| links.find(name).map(|link| link.index).ok();
    let found = Links::open()
        .ok()
        .and_then(|mut links| Some((index(&mut links, name)?, index(&mut links, other)?)));
    found.map_or(name == other, |(index, other)| index == other)
}

/// Has a socket send through the interface of a name.
fn bind(socket: &Socket, name: &str, links: &mut Links) -> Result<(), Error> {
    let link = link::find(name, links)?;
    if link.hardware != libc::ARPHRD_ETHER {
        return Err(Error::NotEthernet { name: name.into(), hardware: link.hardware });
    }
    socket.bind(link.index).map_err(|e| Error::system(format!("send through `{name}`: bind"), e))
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
            let outcome = match self.is_there() {
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
        self.is_there();
    }
}
