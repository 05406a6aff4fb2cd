//! One packet's way out of its tunnels.

use super::fragments::{Added, Fragments, Scope, Verdict};
use crate::batch::Batch;
use crate::interface::{Interfaces, Relinked};
use crate::packet::{Direction, Outer, Packet};
use crate::tunnel::{Streams, Wanted};
use api::{DecapStats, DropReason, Drops};
use wire::LinkType;
use wire::decap::{Content, Found, Inner, Rules};
use wire::walk::Walk;

/// As many layers as there are.
pub const EVERY_LAYER: u8 = u8::MAX;

/// How packets are taken out of tunnels.
#[derive(Debug, Clone)]
pub struct DecapOptions {
    /// How many layers are taken off at most.
    pub layers: u8,
    /// What is taken for a tunnel; for a receiver behind the first layer.
    pub rules: Rules,
    /// What becomes of all else.
    pub policy: Policy,
}

/// What becomes of what is not wanted or cannot be read.
#[derive(Debug, Clone)]
pub enum Policy {
    /// It goes on as it came.
    Capture,
    /// It is dropped, unless it is of these tunnels.
    Receive(Wanted),
}

/// The state of a source that takes packets out of tunnels.
pub(super) struct Layers {
    options: DecapOptions,
    /// Whether the direction that a frame has stands, whatever a tunnel tells of what is inside: it
    /// is what the capture is asked for.
    keeps_direction: bool,
    fragments: Fragments,
    relinked: Relinked,
    /// The latest time of a frame.
    latest_ns: u64,
    pub drops: Drops,
    /// The numbers of the packets of tunnels that end here.
    pub streams: Streams,
    counters: DecapStats,
}

/// What a frame is.
enum Look {
    /// Of a tunnel.
    Tunnel(Found),
    /// Of none.
    Nothing,
    /// Of none that can be read or is wanted.
    Bad(DropReason),
}

impl Layers {
    pub fn new(options: DecapOptions, is_live: bool, interfaces: &Interfaces) -> Layers {
        let is_capture = matches!(options.policy, Policy::Capture);
        Layers {
            options,
            keeps_direction: is_capture && is_live,
            fragments: Fragments::new(if is_capture { Scope::Sight } else { Scope::Host }),
            relinked: Relinked::new(interfaces),
            latest_ns: 0,
            drops: Drops::default(),
            streams: Streams::default(),
            counters: DecapStats::default(),
        }
    }

    pub fn counters(&self) -> DecapStats {
        DecapStats { fragments: self.fragments.counters(), ..self.counters }
    }

    /// Fragments that wait for others.
    pub fn held(&self) -> u64 {
        self.fragments.held()
    }

    /// Takes as many layers off a packet as there are and are asked for.
    pub fn take(&mut self, mut packet: Packet, batch: &mut Batch) {
        self.latest_ns = self.latest_ns.max(packet.meta.ts_ns);
        let mut layers = 0;
        while layers < self.options.layers {
            match self.look(layers, packet.meta.link_type, &packet.data) {
                Look::Tunnel(found) => {
                    if self.drops_at(layers) {
                        self.streams.note(Outer::of(&found), &found.content);
                    }
                    let Content::Packet(inner) = &found.content else {
                        return self.leave(layers, packet, &found, batch);
                    };
                    self.open(layers, &mut packet, Outer::of(&found), inner);
                    layers += 1;
                }
                Look::Nothing => {
                    let walk = Walk::new(packet.meta.link_type, &packet.data);
                    if !walk.is_fragment() {
                        return self.no_tunnel(layers, packet, batch);
                    }
                    match self.join(layers, &walk, packet, batch) {
                        Some(whole) => packet = whole,
                        None => return,
                    }
                }
                Look::Bad(reason) => return self.bad(layers, packet, reason, batch),
            }
        }
        self.deliver(layers, packet, batch);
    }

    /// Lets go what has been held for too long: by the times of frames, and by the clock.
    pub fn expire(&mut self, clock_ns: Option<u64>, batch: &mut Batch) {
        self.fragments.expire(self.latest_ns.max(clock_ns.unwrap_or(0)));
        self.release(batch);
    }

    /// Lets go all that is held.
    pub fn finish(&mut self, batch: &mut Batch) {
        self.fragments.finish();
        self.release(batch);
    }

    fn look(&self, layers: u8, link: LinkType, frame: &[u8]) -> Look {
        look(&self.options, layers, link, frame)
    }

    /// Takes a fragment; gives the whole packet with the last one.
    fn join(
        &mut self,
        layers: u8,
        walk: &Walk,
        packet: Packet,
        batch: &mut Batch,
    ) -> Option<Packet> {
        let options = &self.options;
        let added = self.fragments.add(layers, walk, packet, |link, frame| {
            !matches!(look(options, layers, link, frame), Look::Nothing)
        });
        self.release(batch);
        match added {
            Added::Held => None,
            Added::Whole(packet) => Some(packet),
            Added::Alone(packet, verdict) => {
                self.alone(layers, packet, verdict, batch);
                None
            }
        }
    }

    /// Moves a packet's ends inwards, and takes over what is told of it.
    fn open(&mut self, layers: u8, packet: &mut Packet, outer: Outer, inner: &Inner) {
        if self.drops_at(layers) {
            // That the tunnel packet was received tells nothing of what is inside.
            packet.meta.direction = Direction::Unknown;
        }
        packet.open(outer, inner, self.keeps_direction);
        self.counters.layers += 1;
    }

    /// A tunnel packet that holds no packet which could stand alone.
    fn leave(&mut self, layers: u8, mut packet: Packet, found: &Found, batch: &mut Batch) {
        let counter = match found.content {
            Content::Opaque(_) | Content::Packet(_) => &mut self.counters.left,
            Content::Control | Content::Progress { .. } => &mut self.counters.control,
        };
        *counter += 1;
        if self.drops_at(layers) {
            match found.content {
                Content::Control | Content::Progress { .. } => return,
                Content::Opaque(_) | Content::Packet(_) => {
                    packet.meta.outer = Some(Outer::of(found))
                }
            }
        }
        self.deliver(layers, packet, batch);
    }

    fn no_tunnel(&mut self, layers: u8, packet: Packet, batch: &mut Batch) {
        if self.drops_at(layers) {
            // It came for a tunnel: its own headers are cut off, or lie.
            return self.drops.add(DropReason::Malformed);
        }
        self.deliver(layers, packet, batch);
    }

    fn bad(&mut self, layers: u8, packet: Packet, reason: DropReason, batch: &mut Batch) {
        if self.drops_at(layers) {
            return self.drops.add(reason);
        }
        self.counters.malformed += 1;
        self.deliver(layers, packet, batch);
    }

    /// A fragment that stays one.
    fn alone(&mut self, layers: u8, packet: Packet, verdict: Verdict, batch: &mut Batch) {
        match verdict {
            Verdict::NoTunnel if self.drops_at(layers) => self.counters.strangers += 1,
            Verdict::GivenUp(_) if self.drops_at(layers) => self.drops.add(DropReason::Reassembly),
            _ => self.deliver(layers, packet, batch),
        }
    }

    fn release(&mut self, batch: &mut Batch) {
        while let Some((packet, verdict)) = self.fragments.released() {
            let layers = u8::from(packet.meta.outer.is_some());
            self.alone(layers, packet, verdict, batch);
        }
    }

    /// Whether what is no packet of a tunnel is dropped: not behind the first layer, where it is one.
    fn drops_at(&self, layers: u8) -> bool {
        layers == 0 && matches!(self.options.policy, Policy::Receive(_))
    }

    fn deliver(&mut self, layers: u8, mut packet: Packet, batch: &mut Batch) {
        if layers > 0 {
            self.counters.decapsulated += 1;
        }
        if packet.meta.outer.is_some() {
            let meta = &mut packet.meta;
            meta.interface = self.relinked.find(meta.interface, meta.link_type);
        }
        batch.push(packet);
    }
}

/// Finds the outermost tunnel of a frame that came out of so many.
fn look(options: &DecapOptions, layers: u8, link: LinkType, frame: &[u8]) -> Look {
    let found = match &options.policy {
        Policy::Receive(wanted) if layers == 0 => wanted.read(|rules| rules.in_frame(link, frame)),
        _ => options.rules.in_frame(link, frame).map_err(|_| DropReason::Malformed),
    };
    match found {
        Ok(Some(found)) => Look::Tunnel(found),
        Ok(None) => Look::Nothing,
        Err(reason) => Look::Bad(reason),
    }
}
