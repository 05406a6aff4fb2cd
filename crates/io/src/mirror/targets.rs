//! Targets: their endpoints, their slices and tables, written where the programs find them.
//!
//! What changes is written to places that nobody uses, and then the target's slot: so each packet goes
//! by what was before, or by what is now. Only the way to an endpoint is written over.

use super::counters::{MemberCounters, TargetCounters};
use super::endpoint::{member, shape, too_big};
use super::tables::{GROUPS, MEMBERS, Places, SLOTS, Tables};
use super::ways::{WayKey, Ways};
use crate::bpf::RecordRing;
use crate::clock::Now;
use crate::error::Error;
use crate::netns::Netns;
use crate::tunnel::SendOptions;
use kernel::mirror::layout::{
    GROUP_BYTES, MemberCounter, MirrorMap, Shape, Slot, SlotCounter, WayState,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;
use wire::flow;
use wire::tunnel::Carrier;

/// How long a program may still be at work on a packet that it took up before a change.
pub(super) const UNDER_WAY: Duration = Duration::from_millis(5);

/// A target of a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(u32);

/// What a target is.
#[derive(Debug, Clone)]
pub struct TargetOptions {
    /// Bytes kept of each packet; 0: all.
    pub snaplen: u32,
    /// Its endpoints, 1 or more. Of those with numbers the lane is that of the first CPU; each further
    /// CPU has the next one.
    pub members: Vec<SendOptions>,
    /// For each of [`wire::flow::SLOTS`] slots the position of an endpoint; `None`: none is healthy, and
    /// all packets are dropped, and count at the first one. What it holds is not looked at if there is one
    /// endpoint.
    pub table: Option<Vec<u16>>,
}

/// The targets of a mirror.
#[derive(Debug)]
pub(super) struct Targets {
    targets: BTreeMap<TargetId, Target>,
    ways: Ways,
    slots: Places,
    members: Places,
    groups: Places,
}

#[derive(Debug)]
struct Target {
    snaplen: u32,
    members: Vec<Served>,
    group: Option<u32>,
    /// The table that it came with: when none is healthy, packets count by it.
    table: Option<Vec<u16>>,
    is_unhealthy: bool,
    /// Whether the programs have a ring for what goes to user space.
    has_ring: bool,
}

/// An endpoint, and its place.
#[derive(Debug, Clone)]
struct Served {
    options: SendOptions,
    shape: Shape,
    place: u32,
}

impl TargetId {
    /// The slot of packets that a dispatcher has judged.
    pub(super) fn slot(self) -> u32 {
        self.0
    }

    /// The place of what its two slots have in common.
    fn place(self) -> u32 {
        self.0 / 2
    }

    /// The slot of packets that are judged behind the private interface.
    pub(super) fn late_slot(self) -> u32 {
        self.0 + 1
    }
}

impl Default for Targets {
    fn default() -> Targets {
        Targets {
            targets: BTreeMap::new(),
            ways: Ways::default(),
            slots: Places::new("targets", 1, SLOTS / 2),
            members: Places::new("endpoints", 0, MEMBERS),
            groups: Places::new("tables of groups", 0, GROUPS),
        }
    }
}

impl Targets {
    pub fn add(
        &mut self,
        options: &TargetOptions,
        tables: &Tables,
        underlay: &Netns,
        now: Now,
    ) -> Result<TargetId, Error> {
        let place = self.slots.take(now.monotonic_ns)?;
        let id = TargetId(2 * place);
        for slot in [id.slot(), id.late_slot()] {
            tables.clear(MirrorMap::SlotCounters, slot)?;
        }
        let target = Target {
            snaplen: 0,
            members: Vec::new(),
            group: None,
            table: None,
            is_unhealthy: false,
            has_ring: false,
        };
        self.targets.insert(id, target);
        if let Err(error) = self.set(id, options, tables, underlay, now) {
            self.targets.remove(&id);
            self.slots.give(place, now.monotonic_ns);
            return Err(error);
        }
        Ok(id)
    }

    pub fn set(
        &mut self,
        id: TargetId,
        options: &TargetOptions,
        tables: &Tables,
        underlay: &Netns,
        now: Now,
    ) -> Result<Vec<(usize, MemberCounters)>, Error> {
        assert!(!options.members.is_empty(), "a target has an endpoint");
        let before = self.target(id)?.members.clone();
        let mut members: Vec<Served> = Vec::with_capacity(options.members.len());
        for wanted in &options.members {
            let kept = before.iter().find(|served| is_same(&served.options, wanted));
            let served = match kept {
                Some(kept) => Ok(kept.clone()),
                None => self.serve(wanted, tables, underlay, now),
            };
            match served {
                Ok(served) => members.push(served),
                Err(error) => {
                    self.release(&members, &before, now);
                    return Err(error);
                }
            }
        }
        let is_new = |served: &&Served| before.iter().all(|kept| kept.place != served.place);
        let new: Vec<WayKey> =
            members.iter().filter(is_new).map(|served| WayKey::of(&served.options)).collect();
        self.ways.settle(&new, now);
        let written =
            members.iter().filter(is_new).try_for_each(|new| new.write(&self.ways, tables));
        let written = written
            .and_then(|()| self.write_table(&members, options.table.as_deref(), tables, now));
        let group = match written {
            Ok(group) => group,
            Err(error) => {
                self.release(&members, &before, now);
                return Err(error);
            }
        };
        let target = self.targets.get_mut(&id).expect("it was found above");
        let group_before = std::mem::replace(&mut target.group, group);
        target.snaplen = options.snaplen;
        target.members = members.clone();
        target.table.clone_from(&options.table);
        target.is_unhealthy = options.table.is_none();
        target.write(id, tables)?;
        if let Some(place) = group_before {
            self.groups.give(place, now.monotonic_ns);
        }
        let is_gone = |served: &Served| members.iter().all(|kept| kept.place != served.place);
        let mut gone = Vec::new();
        if before.iter().any(is_gone) {
            std::thread::sleep(UNDER_WAY);
        }
        for (position, served) in before.iter().enumerate().filter(|(_, served)| is_gone(served)) {
            let words = tables.words(MirrorMap::MemberCounters, served.place)?;
            gone.push((position, MemberCounters::of(&words)));
        }
        self.release(&before, &members, now);
        Ok(gone)
    }

    pub fn set_table(
        &mut self,
        id: TargetId,
        table: Option<&[u16]>,
        tables: &Tables,
        now: Now,
    ) -> Result<(), Error> {
        let before = self.target(id)?;
        let (members, usual) = (before.members.clone(), before.table.clone());
        let group = self.write_table(&members, table.or(usual.as_deref()), tables, now)?;
        let target = self.targets.get_mut(&id).expect("it was found above");
        target.is_unhealthy = table.is_none();
        let before = std::mem::replace(&mut target.group, group);
        target.write(id, tables)?;
        if let Some(place) = before {
            self.groups.give(place, now.monotonic_ns);
        }
        Ok(())
    }

    pub fn remove(
        &mut self,
        id: TargetId,
        tables: &Tables,
        now: Now,
    ) -> Result<TargetCounters, Error> {
        let counters = self.counters(id, tables)?;
        if let Some(target) = self.targets.remove(&id) {
            self.release(&target.members, &[], now);
            if let Some(place) = target.group {
                self.groups.give(place, now.monotonic_ns);
            }
            if target.has_ring {
                tables.rings().remove(id.place())?;
            }
            self.slots.give(id.place(), now.monotonic_ns);
        }
        Ok(counters)
    }

    /// Has packets that are handed up go into a ring.
    pub fn hand_up(
        &mut self,
        id: TargetId,
        ring: &RecordRing,
        tables: &Tables,
    ) -> Result<(), Error> {
        let target = self.targets.get_mut(&id).ok_or_else(gone)?;
        tables.rings().put(id.place(), ring)?;
        target.has_ring = true;
        Ok(())
    }

    /// Follows the ways.
    pub fn tick(&mut self, tables: &Tables, now: Now) -> Result<(), Error> {
        let changed = self.ways.look(now);
        if changed.is_empty() {
            return Ok(());
        }
        let members = self.targets.values().flat_map(|target| &target.members);
        // Each is written, whatever becomes of another; the last error is told.
        let mut all = Ok(());
        for served in members.filter(|served| changed.contains(&WayKey::of(&served.options))) {
            if let Err(error) = served.write(&self.ways, tables) {
                all = Err(error);
            }
        }
        all
    }

    pub fn counters(&self, id: TargetId, tables: &Tables) -> Result<TargetCounters, Error> {
        let target = self.target(id)?;
        let mut counters = TargetCounters::default();
        // Against the packets' way, so that none shows behind a place where it was not seen.
        for served in &target.members {
            let words = tables.words(MirrorMap::MemberCounters, served.place)?;
            counters.members.push(MemberCounters::of(&words));
        }
        counters.read(id, tables)?;
        Ok(counters)
    }

    pub fn sequences(&self, id: TargetId, tables: &Tables) -> Result<Vec<Vec<(u8, u32)>>, Error> {
        let map = tables.map(MirrorMap::MemberCounters);
        let mut all = Vec::new();
        for served in &self.target(id)?.members {
            let value = map.get(&served.place.to_ne_bytes())?.unwrap_or_default();
            let bytes = value.chunks_exact(8 * kernel::mirror::layout::COUNTER_WORDS);
            let next = bytes.map(|copy| {
                let word = copy[8 * MemberCounter::Sequence as usize..].first_chunk();
                word.map_or(0, |word| u64::from_ne_bytes(*word) as u32)
            });
            // A lane's number has 8 bits.
            let first = served.options.lane.lane;
            let lanes = next.enumerate().map(|(cpu, next)| (first.wrapping_add(cpu as u8), next));
            all.push(lanes.filter(|(_, next)| *next != 0).collect());
        }
        Ok(all)
    }

    /// The shapes of all endpoints.
    pub fn shapes(&self) -> BTreeSet<Shape> {
        let members = self.targets.values().flat_map(|target| &target.members);
        members.map(|served| served.shape).collect()
    }

    /// The same, with those of a target that is to be set.
    pub fn shapes_with(&self, options: &TargetOptions) -> Result<BTreeSet<Shape>, Error> {
        let mut shapes = self.shapes();
        for wanted in &options.members {
            shapes.insert(shape_of(wanted)?);
        }
        Ok(shapes)
    }

    /// Where the endpoints are.
    pub fn far_ends(&self) -> impl Iterator<Item = (IpAddr, Carrier)> {
        let members = self.targets.values().flat_map(|target| &target.members);
        members.map(|served| (served.options.remote.ip(), served.options.carrier))
    }

    /// Gives an endpoint a place, and has its way followed.
    fn serve(
        &mut self,
        wanted: &SendOptions,
        tables: &Tables,
        underlay: &Netns,
        now: Now,
    ) -> Result<Served, Error> {
        let shape = shape_of(wanted)?;
        let place = self.members.take(now.monotonic_ns)?;
        let key = WayKey::of(wanted);
        let served = Served { options: *wanted, shape, place };
        let ways = &mut self.ways;
        let cleared = tables.clear(MirrorMap::MemberCounters, place);
        let followed = cleared.and_then(|()| underlay.run(|| ways.follow(key, now))?);
        match followed {
            Ok(()) => Ok(served),
            Err(error) => {
                self.members.give(place, now.monotonic_ns);
                Err(error)
            }
        }
    }

    /// Gives the places of those endpoints back that are not among the others.
    fn release(&mut self, members: &[Served], kept: &[Served], now: Now) {
        let is_kept = |served: &Served| kept.iter().any(|other| other.place == served.place);
        for served in members.iter().filter(|served| !is_kept(served)) {
            self.ways.leave(WayKey::of(&served.options));
            self.members.give(served.place, now.monotonic_ns);
        }
    }

    /// Writes the table of a group into a place of its own.
    fn write_table(
        &mut self,
        members: &[Served],
        table: Option<&[u16]>,
        tables: &Tables,
        now: Now,
    ) -> Result<Option<u32>, Error> {
        let Some(table) = table.filter(|_| members.len() > 1) else {
            return Ok(None);
        };
        assert_eq!(table.len(), flow::SLOTS, "slots of a group's table");
        let mut bytes = Vec::with_capacity(GROUP_BYTES);
        for &position in table {
            bytes.extend((members[usize::from(position)].place as u16).to_ne_bytes());
        }
        let place = self.groups.take(now.monotonic_ns)?;
        tables
            .put(MirrorMap::Groups, place, &bytes)
            .inspect_err(|_| self.groups.give(place, now.monotonic_ns))?;
        Ok(Some(place))
    }

    fn target(&self, id: TargetId) -> Result<&Target, Error> {
        self.targets.get(&id).ok_or_else(gone)
    }
}

impl Target {
    /// Writes the slots: from here on packets go by what they say.
    fn write(&self, id: TargetId, tables: &Tables) -> Result<(), Error> {
        let members: Vec<SendOptions> = self.members.iter().map(|served| served.options).collect();
        let slot = Slot {
            snaplen: self.snaplen,
            group: self.group,
            member: self.members[0].place,
            too_big: too_big(&members),
            is_unhealthy: self.is_unhealthy,
        };
        tables.put(MirrorMap::Slots, id.slot(), &slot.bytes())?;
        tables.put(MirrorMap::Slots, id.late_slot(), &slot.bytes())
    }
}

impl Served {
    /// Writes the way as it is known now.
    fn write(&self, ways: &Ways, tables: &Tables) -> Result<(), Error> {
        let entry = member(&self.options, self.shape, ways.way(WayKey::of(&self.options)));
        if entry.state == WayState::Unreachable {
            tracing::warn!("tunnel to {}: there is no way to it", self.options.remote);
        }
        tables.put(MirrorMap::Members, self.place, &entry.bytes())
    }
}

impl TargetCounters {
    fn read(&mut self, id: TargetId, tables: &Tables) -> Result<(), Error> {
        for slot in [id.slot(), id.late_slot()] {
            // A packet counts as handed once it has arrived or was lost. So what was handed is read first: then
            // nothing that is under way shows as missing.
            let [handed, arrived] = [(); 2].map(|()| tables.words(MirrorMap::SlotCounters, slot));
            let (handed, arrived) = (handed?, arrived?);
            let not_handed = handed[SlotCounter::NotHanded as usize];
            let handed = handed[SlotCounter::Handed as usize];
            self.handed += handed;
            self.not_handed += not_handed;
            self.filtered += arrived[SlotCounter::Filtered as usize];
            let arrived = arrived[SlotCounter::Arrived as usize];
            self.arrived += arrived;
            let missing = handed.saturating_sub(arrived);
            self.missing += missing;
            if slot == id.late_slot() {
                self.late_lost += not_handed + missing;
            }
        }
        Ok(())
    }
}

/// Whether packets go to the same place in the same way.
fn is_same(one: &SendOptions, other: &SendOptions) -> bool {
    let key = |options: &SendOptions| {
        let SendOptions { remote, source, carrier, encap, sending, lane, keep_alive: _ } = *options;
        (remote, source, carrier, encap, sending, lane)
    };
    key(one) == key(other)
}

fn shape_of(options: &SendOptions) -> Result<Shape, Error> {
    shape(options).map_err(|unfit| Error::System {
        what: format!("mirror into the tunnel to {}", options.remote),
        source: std::io::Error::other(unfit),
        mend: "; mirror it in user space (--datapath ring)",
    })
}

fn gone() -> Error {
    Error::system("mirror: find a target", std::io::Error::from_raw_os_error(libc::ENOENT))
}
