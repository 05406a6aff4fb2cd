//! Packets into a TAP device, from which any analyser of this host takes them.
//!
//! The device is there for the analyser only: it answers to no ARP, has no IPv6, and takes no packet
//! for the host whose way back is not through it (strict `rp_filter`).
//!
//! Source: Linux `Documentation/networking/tuntap.rst`, `drivers/net/tun.c` (`tun_get_user`).

use super::attach;
use crate::batch::Selection;
use crate::device::{Sink, SinkCounters};
use crate::error::Error;
use crate::link::Links;
use crate::packet::Packet;
use crate::trouble::Trouble;
use api::{DropReason, TAP_MTU_MAX};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::sync::Arc;
use wire::LinkType;

const ETHERNET_HEADER_LEN: usize = 14;
/// Behind the MACs.
const TAGS_AT: usize = 12;
const VLAN_TAG_LEN: usize = 4;

/// Parameters of a new device, below `/proc/sys/net`, by which the host leaves its packets alone.
const ALONE: [(&str, &str); 2] = [("ipv6", "disable_ipv6"), ("ipv4", "rp_filter")];

/// The sending side of a TAP device, which is there for as long as this value and its clones. One
/// that was there before stays.
///
/// Clones write to the same device, and count for themselves.
pub struct TapSink {
    name: String,
    device: Arc<File>,
    index: i32,
    mtu: u32,
    counters: SinkCounters,
    trouble: Trouble,
}

impl TapSink {
    /// Makes a device in the calling thread's network namespace and brings it up, with the MTU of
    /// that many bytes, else of [`TAP_MTU_MAX`]. If there is a TAP device of the name it is taken, with the
    /// MTU that it has unless one is given.
    ///
    /// # Errors
    /// [`Error::System`] without CAP_NET_ADMIN, if another program has the device, if an interface of
    /// the name is no TAP device, or if the kernel refuses the MTU.
    pub fn open(name: &str, mtu: Option<u32>) -> Result<TapSink, Error> {
        let failed = |what: &str, e| Error::system(format!("TAP device `{name}`: {what}"), e);
        let mut links = Links::open().map_err(|e| failed("open a netlink socket", e))?;
        let is_new = links.find(name).is_err();
        let (device, _) = attach(name, libc::IFF_TAP | libc::IFF_NO_PI).map_err(|source| {
            let mend = match source.raw_os_error() {
                Some(libc::EBUSY) => "; another program has it: give another name",
                Some(libc::EINVAL) if !is_new => {
                    "; an interface of this name is no TAP device of one queue: give another name, or \
                     write nic:NAME to send through it"
                }
                Some(libc::EINVAL | libc::ENODEV) => "; a name has 1 to 15 bytes, no space and no /",
                Some(libc::ENOENT) => "; there is no /dev/net/tun: load the module tun (`modprobe tun`)",
                _ => return failed("make it", source),
            };
            Error::System { what: format!("TAP device `{name}`: make it"), source, mend }
        })?;
        if is_new {
            leave_alone(name);
            links.add_flags(name, libc::IFF_NOARP).map_err(|e| failed("switch ARP off", e))?;
        }
        if let Some(mtu) = mtu.or(is_new.then_some(TAP_MTU_MAX)) {
            links.set_mtu(name, mtu).map_err(|e| failed(&format!("set its MTU to {mtu}"), e))?;
        }
        links.add_flags(name, libc::IFF_UP).map_err(|e| failed("bring it up", e))?;
        let mtu = links.mtu(name).map_err(|e| failed("ask for its MTU", e))?;
        let index = links.find(name).map_err(|e| failed("ask for its index", e))?.index;
        Ok(TapSink {
            name: name.into(),
            device: Arc::new(device),
            index,
            mtu,
            counters: SinkCounters::default(),
            trouble: Trouble::default(),
        })
    }

    /// The device's index among the interfaces.
    pub fn index(&self) -> i32 {
        self.index
    }

    /// Writes a frame to the device. The kernel gives it to who captures there within the call.
    fn write(&mut self, frame: &[u8]) -> Result<(), DropReason> {
        let Err(error) = (&*self.device).write(frame) else {
            return Ok(());
        };
        self.trouble.tell(&self.name, &error, "frames for it are counted; is it up (`ip link`)?");
        Err(match error.raw_os_error() {
            // Down, or deleted under our hands.
            Some(libc::EIO | libc::EBADFD) => DropReason::Unreachable,
            Some(libc::ENOBUFS | libc::ENOMEM) => DropReason::DeviceQueue,
            _ => DropReason::SendError,
        })
    }
}

impl Clone for TapSink {
    fn clone(&self) -> TapSink {
        TapSink {
            name: self.name.clone(),
            device: Arc::clone(&self.device),
            index: self.index,
            mtu: self.mtu,
            counters: SinkCounters::default(),
            trouble: Trouble::default(),
        }
    }
}

/// Has the host take no packets of a new device. Where the parameters cannot be written, as in some
/// containers, it may take some; one without IPv6 has none for that.
pub(super) fn leave_alone(name: &str) {
    for (family, key) in ALONE {
        let path = format!("/proc/sys/net/{family}/conf/{name}/{key}");
        match std::fs::write(&path, "1") {
            Err(error) if error.kind() != ErrorKind::NotFound => tracing::warn!(
                "{path}: {error}; this host may take packets that are shown on {name} for its own"
            ),
            _ => {}
        }
    }
}

/// Whether a packet is a frame for a device of an MTU, or why not.
fn may_be_sent(packet: &Packet, mtu: u32) -> Result<(), DropReason> {
    let frame = &*packet.data;
    if packet.meta.link_type != LinkType::ETHERNET || frame.len() < ETHERNET_HEADER_LEN {
        return Err(DropReason::LinkType);
    }
    let is_tag = |tag: &&[u8]| matches!(tag[..2], [0x81, 0x00] | [0x88, 0xa8] | [0x91, 0x00]);
    let tags = frame[TAGS_AT..].chunks_exact(VLAN_TAG_LEN).take_while(is_tag);
    let bytes_max = mtu as usize + ETHERNET_HEADER_LEN + tags.count() * VLAN_TAG_LEN;
    // What could not be cut is no packet of any wire.
    match frame.len() > bytes_max || packet.meta.gso.is_some() {
        true => Err(DropReason::Oversize),
        false => Ok(()),
    }
}

impl Sink for TapSink {
    fn send(&mut self, packets: Selection<'_>) -> usize {
        for packet in packets.iter() {
            match may_be_sent(packet, self.mtu).and_then(|()| self.write(&packet.data)) {
                Ok(()) => {
                    self.counters.sent += 1;
                    self.counters.sent_bytes += packet.data.len() as u64;
                }
                Err(reason) => self.counters.drops.add(reason),
            }
        }
        packets.len()
    }

    fn counters(&self) -> SinkCounters {
        self.counters
    }
}
