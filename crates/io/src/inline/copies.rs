//! What the programs show and hand up: a ring on a private interface.
//!
//! ```text
//!  clone ─► tapline0: program: tag ─► cut and completed ─► ring
//!                                                        └► ends
//! ```
//! All of it happens where the packet is forwarded: a copy waits in no queue in which the host's own
//! packets wait. The interface has a queueing discipline (`net.core.default_qdisc`), which is empty but
//! where several CPUs send at once; what it drops has not come, and is counted so.

use crate::batch::Batch;
use crate::bpf::{Classifier, Link, Way};
use crate::device::{Arrival, Screening, Source};
use crate::error::Error;
use crate::interface::Interfaces;
use crate::mirror::private::PREFIX;
use crate::packet::{Direction, InterfaceId, Packet};
use crate::ring::{Handover, KernelFilter, RingOptions, RingSource};
use crate::tun::Drain;
use api::{Drops, RingSize};
use kernel::inline::layout::{Leg, View, copy_of};
use kernel::inline::{TAG, tag_program};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// Where the tag stands, and where it ends.
const TAG_AT: usize = 12;
const TAG_LEN: usize = 4;

/// Copies of a table's packets, and packets that the kernel left to user space, those of one flow in the
/// order in which they passed. [`Self::origin`] says which is which. Their direction is [`wire::Direction::In`] if they
/// go from a client to a next host, and `Out` on the way back.
pub struct InlineCopies {
    ring: RingSource,
    _program: Link,
    /// Gone with the ring: the table then knows that nobody listens.
    _drain: Arc<Drain>,
    arrived: u64,
}

impl InlineCopies {
    /// Makes the private interface in the calling thread's network namespace, and the ring.
    pub(super) fn open(ring_size: RingSize) -> Result<(InlineCopies, Arc<Drain>), Error> {
        let drain = Arc::new(Drain::new(&format!("{PREFIX}%d"))?);
        let code = tag_program().expect("it has as many instructions as it always has");
        let program = Classifier::load("that tags copies", &code, &[])?;
        let link = program.attach(drain.index(), Way::Egress)?;
        let options = RingOptions {
            interface: drain.name().into(),
            netns: None,
            promiscuous: false,
            ring_size,
            handover: Handover::Prompt,
            snaplen: 0,
            filter: KernelFilter::Absent,
        };
        let ring = RingSource::open(&options, &Interfaces::default())?;
        let copies = InlineCopies { ring, _program: link, _drain: Arc::clone(&drain), arrived: 0 };
        Ok((copies, drain))
    }

    /// The rule's number, and the view, of a packet that [`Source::receive`] gave.
    pub fn origin(packet: &Packet) -> Option<(u32, View)> {
        let (rule, view, _) = copy_of(u16::try_from(packet.meta.interface.0).ok()?)?;
        Some((rule, view))
    }

    /// Copies for views that have arrived. Unit: packets.
    pub fn arrived(&self) -> u64 {
        self.arrived
    }
}

/// Takes the tag out of a frame; gives what it says.
fn untag(packet: &mut Packet) -> Option<u16> {
    let data = &mut packet.data;
    let tag = data.get(TAG_AT..)?.first_chunk::<TAG_LEN>()?;
    let (kind, index) = (u16::from_be_bytes([tag[0], tag[1]]), [tag[2], tag[3]]);
    if kind != TAG {
        return None;
    }
    data.copy_within(..TAG_AT, TAG_LEN);
    data.trim_front(TAG_LEN);
    packet.meta.origlen = packet.meta.origlen.saturating_sub(TAG_LEN as u32);
    Some(u16::from_be_bytes(index))
}

impl Source for InlineCopies {
    fn receive(&mut self, batch: &mut Batch) -> Result<Arrival, Error> {
        let before = batch.len();
        let arrival = self.ring.receive(batch)?;
        for packet in &mut batch.packets_mut()[before..] {
            // 0 is of no rule.
            let index = untag(packet).unwrap_or(0);
            let meta = &mut packet.meta;
            (meta.interface, meta.flow_hash) = (InterfaceId(index.into()), None);
            if let Some((_, view, leg)) = copy_of(index) {
                meta.direction = match leg {
                    Leg::Forward => Direction::In,
                    Leg::Reply => Direction::Out,
                };
                self.arrived += u64::from(view != View::Exception);
            }
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

    fn screening(&mut self) -> Screening {
        self.ring.screening()
    }

    fn is_live(&self) -> bool {
        true
    }
}
