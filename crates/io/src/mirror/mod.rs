//! The mirror in the kernel: taps whose packets go from the tapped interface into their tunnels without
//! passing user space.
//!
//! The programs are [`kernel::mirror`]'s; here they meet interfaces, maps, routes and neighbours. All
//! that a [`KernelMirror`] makes is gone with the process, however it ends: programs and maps are held
//! by descriptors, private interfaces by a network namespace that only the process holds (a filter of
//! [`AttachBy::Clsact`] apart).
//!
//! ```text
//! add_target ── endpoints, slice, table ──┐
//! add_tap ───── counters, ceiling ────────┼─► set_taps(interface) ─► tick … tick ─► stop ─► counters
//! hand_up ───── a Source for user space ──┘
//! ```
//!
//! One thread owns it and calls [`KernelMirror::tick`] at least every 100 ms.

mod counters;
mod encapsulator;
mod endpoint;
mod hand_up;
mod hold;
mod interface;
pub(crate) mod private;
mod tables;
mod taps;
mod targets;
mod ways;

pub use counters::{MemberCounters, TapCounters, TargetCounters};
pub use endpoint::{Unfit, shape};
pub use hand_up::HandUp;
pub use hold::AttachBy;
pub use taps::{Ceiling, Tap, TapId};
pub use targets::{TargetId, TargetOptions};

use crate::clock::Now;
use crate::error::Error;
use crate::link::Links;
use crate::netns::Netns;
use crate::packet::InterfaceId;
use api::RingSize;
use encapsulator::Encapsulator;
use interface::Interface;
use kernel::mirror::layout::{MirrorMap, far_end_keys};
use private::Private;
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use tables::Tables;
use taps::Taps;
use targets::{Targets, UNDER_WAY};
use wire::tunnel::Carrier;

/// How often the interfaces are looked for, should word of one that comes or goes be lost, ns.
const LOOK_NS: u64 = 500_000_000;
/// How often the programs are told of UTC, ns.
const CLOCK_NS: u64 = 1_000_000_000;
/// How a mirror is made.
#[derive(Debug, Default)]
pub struct MirrorOptions {
    /// The network namespace of the tapped interfaces, if it is another one than the caller's, in which
    /// the tunnels leave.
    pub taps_in: Option<Netns>,
    /// How programs are put on interfaces.
    pub attach_by: AttachBy,
}

/// Taps of a network namespace, and their targets.
#[derive(Debug)]
pub struct KernelMirror {
    // In the order in which they are to go: first what sends packets, then what they pass.
    interfaces: BTreeMap<String, Interface>,
    encapsulator: Encapsulator,
    taps: Taps,
    targets: Targets,
    tables: Tables,
    /// Where the tapped interfaces are, and news of them.
    taps_in: Netns,
    links: Links,
    /// Where the tunnels leave.
    underlay: Netns,
    private: Private,
    attach_by: AttachBy,
    /// Far ends of others, and all that the programs know.
    further_far_ends: HashSet<(IpAddr, Carrier)>,
    far_ends: HashSet<[u8; kernel::mirror::layout::FAR_END_BYTES]>,
    looked_ns: u64,
    /// Whether super-packets may come that are longer than an IP packet can say.
    has_jumbo: bool,
    clock_ns: u64,
}

impl KernelMirror {
    /// Makes the private interfaces and the maps. No packet is looked at yet.
    ///
    /// # Errors
    /// [`Error::System`] where a right is missing (CAP_BPF, CAP_NET_ADMIN, CAP_SYS_ADMIN), or the
    /// kernel has neither tcx nor clsact.
    pub fn open(options: MirrorOptions) -> Result<KernelMirror, Error> {
        let underlay = Netns::current()?;
        let taps_in = match options.taps_in {
            Some(netns) => netns,
            None => underlay.hold()?,
        };
        let links = taps_in.run(Links::open)?;
        let links = links.map_err(|e| Error::system("open a netlink socket", e))?;
        if let Err(error) = links.watch(true) {
            // They are still looked for, only less often.
            tracing::debug!("no news of interfaces: {error}");
        }
        let tables = Tables::new()?;
        let private = Private::new()?;
        let mut attach_by = options.attach_by;
        let encapsulator = Encapsulator::open(&private, &taps_in, &underlay, &mut attach_by)?;
        if attach_by == AttachBy::Clsact {
            taps_in.run(interface::remove_all_leftovers)?;
        }
        Ok(KernelMirror {
            interfaces: BTreeMap::new(),
            encapsulator,
            taps: Taps::default(),
            targets: Targets::default(),
            tables,
            taps_in,
            links,
            underlay,
            private,
            attach_by,
            further_far_ends: HashSet::new(),
            far_ends: HashSet::new(),
            looked_ns: 0,
            has_jumbo: false,
            clock_ns: 0,
        })
    }

    /// How programs are put on interfaces, now that the kernel has been asked.
    pub fn attach_by(&self) -> AttachBy {
        self.attach_by
    }

    /// Adds a target. Nothing is sent there until a tap has it.
    ///
    /// # Errors
    /// [`Error::System`] if there is no room for it, if the kernel refuses, or if an endpoint cannot
    /// be served in the kernel: [`shape`] tells before.
    ///
    /// # Panics
    /// Without an endpoint.
    pub fn add_target(&mut self, options: &TargetOptions) -> Result<TargetId, Error> {
        let KernelMirror { targets, tables, underlay, .. } = self;
        let id = targets.add(options, tables, underlay, Now::read())?;
        if let Err(error) = self.write_far_ends() {
            self.targets.remove(id, &self.tables, Now::read())?;
            return Err(error);
        }
        Ok(id)
    }

    /// Changes a target at once, from one packet to the next. Endpoints that are the same as before keep their
    /// counters; what the others have counted is returned, with the positions that they had.
    ///
    /// # Errors
    /// As [`Self::add_target`]; the target then stays as it was.
    ///
    /// # Panics
    /// As [`Self::add_target`], and if the table is none of these endpoints.
    pub fn set_target(
        &mut self,
        id: TargetId,
        options: &TargetOptions,
    ) -> Result<Vec<(usize, MemberCounters)>, Error> {
        let KernelMirror { targets, tables, underlay, .. } = self;
        let shapes = targets.shapes_with(options)?;
        self.encapsulator.provide(&shapes, &self.taps, tables)?;
        let gone = targets.set(id, options, tables, underlay, Now::read())?;
        self.write_far_ends()?;
        Ok(gone)
    }

    /// Writes the table of a group: for each of [`wire::flow::SLOTS`] slots the position of an
    /// endpoint. `None`: none is healthy, and all packets are dropped; each counts at the endpoint that
    /// [`TargetOptions::table`] gives it to.
    ///
    /// # Errors
    /// [`Error::System`] if there is no room for one more table.
    ///
    /// # Panics
    /// If there are not so many slots, or not so many endpoints.
    pub fn set_table(&mut self, id: TargetId, table: Option<&[u16]>) -> Result<(), Error> {
        self.targets.set_table(id, table, &self.tables, Now::read())
    }

    /// Removes a target that no tap has any more, and returns what it has counted in all. Waits for
    /// packets that are under way on other CPUs.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses.
    pub fn remove_target(&mut self, id: TargetId) -> Result<TargetCounters, Error> {
        std::thread::sleep(UNDER_WAY);
        let counters = self.targets.remove(id, &self.tables, Now::read())?;
        self.write_far_ends()?;
        Ok(counters)
    }

    /// Opens the way by which packets of a target come to user space: those that are too large for the path and
    /// are to be sent in fragments, and those for endpoints that are no neighbour's. Without it they
    /// are dropped. `interface` is where they will be said to come from. The ring's size is a power of two
    /// that is not less than what is asked for; [`RingSize::Auto`]: 16 MiB.
    ///
    /// # Errors
    /// [`Error::System`] if the target is gone, or where the memory is missing.
    pub fn hand_up(
        &mut self,
        id: TargetId,
        ring_size: RingSize,
        interface: InterfaceId,
    ) -> Result<HandUp, Error> {
        let ring = hand_up::ring(ring_size)?;
        self.targets.hand_up(id, &ring, &self.tables)?;
        Ok(HandUp::new(ring, interface))
    }

    /// Adds a tap: its counters, for so many rules (0: an expression), and its ceiling. It takes part once
    /// [`Self::set_taps`] has it.
    ///
    /// # Errors
    /// [`Error::System`] if there is no room for it.
    pub fn add_tap(&mut self, rules: usize, ceiling: Option<Ceiling>) -> Result<TapId, Error> {
        self.taps.add(rules, ceiling, &self.tables, Now::read())
    }

    /// Gives a tap a new ceiling, or none. One that had none gets one with the next
    /// [`Self::set_taps`].
    ///
    /// # Errors
    /// [`Error::System`] if there is no room for it.
    pub fn set_ceiling(&mut self, id: TapId, ceiling: Option<Ceiling>) -> Result<(), Error> {
        self.taps.set_ceiling(id, ceiling, &self.tables, Now::read())
    }

    /// Has a tap's rules counted anew, for so many rules, from the next [`Self::set_taps`] on. Its other
    /// counters go on.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses.
    pub fn renew_tap(&mut self, id: TapId, rules: usize) -> Result<(), Error> {
        self.taps.renew(id, rules)
    }

    /// Removes a tap that no interface has any more, and returns what it has counted in all.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses.
    pub fn remove_tap(&mut self, id: TapId) -> Result<TapCounters, Error> {
        self.encapsulator.forget(id);
        self.taps.remove(id, Now::read())
    }

    /// Says which taps an interface has from now on; without any it is left alone. The change is made
    /// between two packets, in each direction. An interface that goes is waited for.
    ///
    /// # Errors
    /// [`Error::NoInterface`], [`Error::HardwareType`]; [`Error::Program`] for filters that cannot
    /// run in the kernel; [`Error::System`] if the kernel refuses. What ran goes on then.
    pub fn set_taps(&mut self, name: &str, taps: Vec<Tap>) -> Result<(), Error> {
        self.look_for_jumbo();
        let has_jumbo = self.has_jumbo;
        // Judged by what is new, and no longer by what was, if both are of a tap: what it judges late
        // may be judged by the one or the other for a moment.
        let others = self.interfaces.values().flat_map(Interface::late);
        let others = others.filter(|tap| taps.iter().all(|new| new.id != tap.id));
        let late = taps.iter().filter(|tap| tap.has_late(has_jumbo)).chain(others).cloned();
        let (shapes, late) = (self.targets.shapes(), late.collect());
        self.encapsulator.judge(&shapes, late, &self.taps, &self.tables)?;
        let parts = interface::Parts {
            tables: &self.tables,
            taps: &self.taps,
            private: self.encapsulator.interfaces(),
            netns: &self.taps_in,
        };
        if taps.is_empty() {
            self.interfaces.remove(name);
        } else if let Some(interface) = self.interfaces.get_mut(name) {
            interface.set(taps, has_jumbo, &parts)?;
        } else {
            let (links, attach_by) = (&mut self.links, &mut self.attach_by);
            let interface = Interface::open(name, taps, has_jumbo, &parts, links, attach_by)?;
            self.interfaces.insert(name.into(), interface);
        }
        Ok(())
    }

    /// Says where tunnels of the process lead beside those of this mirror's targets, so that they are not
    /// mirrored.
    ///
    /// # Errors
    /// [`Error::System`] if there is no room for them.
    pub fn set_far_ends(&mut self, far_ends: &[(IpAddr, Carrier)]) -> Result<(), Error> {
        self.further_far_ends = far_ends.iter().copied().collect();
        self.write_far_ends()
    }

    /// Does what is due: follows routes, neighbours, interfaces and the clock. Trouble is told by log; what is
    /// lost by it is counted.
    pub fn tick(&mut self, now: Now) {
        let tell = |what: &str, result: Result<(), Error>| {
            if let Err(error) = result {
                tracing::warn!("{what}: {error}");
            }
        };
        tell("follow the way to the targets", self.targets.tick(&self.tables, now));
        tell("count", self.taps.tick(now));
        let is_due =
            |since_ns: u64, every_ns| now.monotonic_ns >= since_ns.saturating_add(every_ns);
        if is_due(self.clock_ns, CLOCK_NS) {
            self.clock_ns = now.monotonic_ns;
            tell("tell programs what UTC is", self.tables.set_clock());
        }
        if self.links.take_news() || is_due(self.looked_ns, LOOK_NS) {
            self.looked_ns = now.monotonic_ns;
            tell("look after the private interfaces", self.encapsulator.look(&self.private));
            for interface in self.interfaces.values_mut() {
                interface.look(&self.taps_in, &mut self.links, &mut self.attach_by);
            }
            self.look_for_jumbo();
            tell("judge long super-packets", self.expect_jumbo());
        }
    }

    /// Whether an interface that has taps is there.
    pub fn is_present(&self, interface: &str) -> bool {
        self.interfaces.get(interface).is_some_and(Interface::is_present)
    }

    /// What a tap has counted.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses.
    pub fn tap_counters(&self, id: TapId) -> Result<TapCounters, Error> {
        self.taps.counters(id)
    }

    /// What a target has counted. No packet shows at an endpoint before it shows as arrived.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses.
    pub fn target_counters(&self, id: TargetId) -> Result<TargetCounters, Error> {
        self.targets.counters(id, &self.tables)
    }

    /// The next number of each lane (CPU) of each endpoint, in the endpoints' order: `(lane, next)` of the
    /// lanes that have numbered something.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses.
    pub fn sequences(&self, id: TargetId) -> Result<Vec<Vec<(u8, u32)>>, Error> {
        self.targets.sequences(id, &self.tables)
    }

    /// Takes the programs off all interfaces and waits for packets that are under way on other CPUs. The
    /// counters are final then.
    pub fn stop(&mut self) {
        self.interfaces.clear();
        std::thread::sleep(UNDER_WAY);
    }

    /// Looks whether any interface has super-packets that are longer than an IP packet can say: what one
    /// receives, another sends. Once there were some, they are expected.
    fn look_for_jumbo(&mut self) {
        if self.has_jumbo {
            return;
        }
        match self.links.any_has_jumbo() {
            Ok(has_jumbo) => self.has_jumbo = has_jumbo,
            Err(error) => tracing::debug!("look for long super-packets: {error}"),
        }
    }

    /// Makes the programs anew of interfaces whose programs do not expect what may come.
    fn expect_jumbo(&mut self) -> Result<(), Error> {
        let behind = self.interfaces.iter().filter(|(_, of)| of.has_jumbo() != self.has_jumbo);
        let behind: Vec<(String, Vec<Tap>)> =
            behind.map(|(name, of)| (name.clone(), of.taps().to_vec())).collect();
        let mut all = Ok(());
        for (name, taps) in behind {
            if let Err(error) = self.set_taps(&name, taps) {
                all = Err(error);
            }
        }
        all
    }

    fn write_far_ends(&mut self) -> Result<(), Error> {
        let own = self.targets.far_ends();
        let wanted: HashSet<_> = own
            .chain(self.further_far_ends.iter().copied())
            .flat_map(|(address, carrier)| match carrier {
                Carrier::Udp { port } => far_end_keys(address, wire::udp::PROTOCOL, port),
                Carrier::Ip { protocol } => far_end_keys(address, protocol, 0),
            })
            .collect();
        let map = self.tables.map(MirrorMap::FarEnds);
        for key in wanted.difference(&self.far_ends) {
            map.put(key, &[0; 4])?;
        }
        for key in self.far_ends.difference(&wanted) {
            map.remove(key)?;
        }
        self.far_ends = wanted;
        Ok(())
    }
}
