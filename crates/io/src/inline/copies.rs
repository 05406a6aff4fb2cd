//! What the programs show and hand up: a ring behind a private veth.
//!
//! ```text
//!  clone ─► tapline0 │ far end in a namespace without a name
//!           cut and  │ program: prefix ─► received once more ─► ring
//!           completed│
//! ```

use super::maps::Maps;
use crate::batch::Batch;
use crate::bpf::{Classifier, Link, Way};
use crate::device::{Arrival, Screening, Source};
use crate::error::Error;
use crate::interface::Interfaces;
use crate::mirror::private::{Pair, Private};
use crate::netns::Netns;
use crate::packet::{InterfaceId, Packet};
use crate::ring::{Handover, KernelFilter, RingOptions, RingSource};
use api::{Drops, RingSize};
use filter::{Instruction, Program};
use kernel::handup::{ETHERTYPE, PREFIX_LEN, Prefix};
use kernel::inline::layout::{View, slot_of};
use kernel::inline::peer_program;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// The far end's name, in a namespace of its own.
const FAR: &str = "copies";
/// Where the EtherType stands.
const ETHERTYPE_AT: u32 = 12;

/// Copies of a table's packets, and packets that the kernel left to user space, in the order in which
/// they passed. [`Self::origin`] says which is which. Their direction is [`wire::Direction::In`] if they
/// go from a client to a next host, and `Out` on the way back.
pub struct InlineCopies {
    ring: RingSource,
    _program: Link,
    /// Gone with the last of both ends' holders: the table then knows that nobody listens.
    _pair: Arc<Pair>,
    _private: Private,
}

impl InlineCopies {
    /// Makes the private interface in the calling thread's network namespace, and the ring.
    pub(super) fn open(
        maps: &Maps,
        ring_size: RingSize,
    ) -> Result<(InlineCopies, Arc<Pair>), Error> {
        let private = Private::new()?;
        let pair = Arc::new(private.pair(&Netns::current()?, FAR)?);
        let code = peer_program().expect("it has as many instructions as it always has");
        let program = Classifier::load("that hands up copies", &code, &maps.descriptors())?;
        let options = RingOptions {
            interface: FAR.into(),
            netns: None,
            promiscuous: false,
            ring_size,
            handover: Handover::Prompt,
            snaplen: 0,
            filter: KernelFilter::Hiding(prefixed()),
        };
        let attached = private.netns().run(|| {
            let link = program.attach(pair.far, Way::Ingress)?;
            private.set_up(&pair)?;
            Ok::<_, Error>((link, RingSource::open(&options, &Interfaces::default())?))
        })?;
        let (link, ring) = attached?;
        let copies =
            InlineCopies { ring, _program: link, _pair: Arc::clone(&pair), _private: private };
        Ok((copies, pair))
    }

    /// The rule's number, and the view, of a packet that [`Source::receive`] gave.
    pub fn origin(packet: &Packet) -> Option<(u32, View)> {
        slot_of(u16::try_from(packet.meta.interface.0).ok()?)
    }
}

/// Lets through what has a prefix, whole.
fn prefixed() -> Program {
    Program::new(vec![
        Instruction::new(0x28, 0, 0, ETHERTYPE_AT),
        Instruction::new(0x15, 0, 1, ETHERTYPE.into()),
        Instruction::new(0x06, 0, 0, u32::MAX),
        Instruction::new(0x06, 0, 0, 0),
    ])
    .expect("a comparison and two verdicts")
}

impl Source for InlineCopies {
    fn receive(&mut self, batch: &mut Batch) -> Result<Arrival, Error> {
        let before = batch.len();
        let arrival = self.ring.receive(batch)?;
        for packet in &mut batch.packets_mut()[before..] {
            // Slot 0 is of no rule.
            packet.meta.interface = InterfaceId(0);
            let Some(prefix) = Prefix::parse(&packet.data) else { continue };
            packet.data.trim_front(PREFIX_LEN);
            let meta = &mut packet.meta;
            meta.interface = InterfaceId(prefix.slot.into());
            (meta.ts_ns, meta.origlen) = (prefix.ts_ns, prefix.origlen);
            (meta.direction, meta.flow_hash) = (prefix.direction, None);
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
