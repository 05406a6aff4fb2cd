//! A ring for what arrives at this host for the ends of tunnels, on whatever interface.
//!
//! It is bound to one EtherType and no interface. Such a socket stands in the kernel beside IP itself
//! (`ptype_base` in Linux `net/core/dev.c`), behind what hands a frame from one device to the next: so
//! it gets a frame once, where IP gets it, also below a bridge, a bond, a VLAN or a MACVLAN. Sent
//! frames do not come at all, but what this host sends to itself arrives on `lo`. It stands before
//! netfilter and routing, and behind XDP and tc. Frames of a link that is not known, such as PPP, come
//! without its header, as IP packets.

use super::{ANY, Handover, KernelFilter, RingOptions, RingShare, RingSize, RingSource, Screen};
use crate::bpf::{LoadedFilter, PrefixMap};
use crate::error::Error;
use crate::interface::Interfaces;
use filter::ebpf::{IpVersion, SocketFilter};

/// How frames for the ends of tunnels are taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ListenRing<'a> {
    /// Whose frames.
    pub version: IpVersion,
    /// Made by [`filter::ebpf::listen_filter`].
    pub filter: &'a SocketFilter,
    /// Where it looks destinations up.
    pub prefixes: &'a PrefixMap,
    /// How much memory the ring takes.
    pub ring_size: RingSize,
    /// When a block that is not full is handed over.
    pub handover: Handover,
}

impl RingSource {
    /// Opens the ring; packets arrive from now on.
    ///
    /// # Errors
    /// As [`RingSource::open`].
    pub(crate) fn listen(
        listen: ListenRing<'_>,
        interfaces: &Interfaces,
    ) -> Result<RingSource, Error> {
        let options = RingOptions {
            interface: ANY.into(),
            netns: None,
            promiscuous: false,
            ring_size: listen.ring_size,
            handover: listen.handover,
            snaplen: 0,
            filter: KernelFilter::Absent,
        };
        let protocol = match listen.version {
            IpVersion::V4 => libc::ETH_P_IP,
            IpVersion::V6 => libc::ETH_P_IPV6,
        };
        let load = || {
            let loaded = LoadedFilter::load_with(listen.filter, &[listen.prefixes.as_fd()])?;
            Ok(Screen::counting(listen.filter.reach, loaded))
        };
        let share = RingShare { fanout: None, worker: 0, workers: 1 };
        let source = RingSource::make(&options, protocol as u16, share, load, interfaces)?;
        source.let_frames_in()?;
        Ok(source)
    }
}
