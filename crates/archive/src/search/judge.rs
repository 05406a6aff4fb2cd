//! The exact test of each packet.

use super::Query;
use super::found::{Found, Origins, Place};
use crate::index::{Frames, carrier};
use capfile::{Interface, Record};
use filter::Program;
use std::sync::{Arc, Mutex, PoisonError};
use wire::LinkType;
use wire::decap::{Content, Rules};

/// What all segments of a search are judged by.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) query: Query,
    pub(super) origins: Mutex<Origins>,
}

/// Judges the packets of one segment.
#[derive(Debug, Clone)]
pub(super) struct Judge {
    shared: Arc<Shared>,
    source: String,
    /// The source says that all packets came in a tunnel that is looked for.
    is_tunnel_known: bool,
    tunnels: Rules,
    frames: Frames,
    interfaces: Vec<Option<Judged>>,
    /// Why packets of some interfaces could not be judged.
    unjudged: Vec<String>,
}

/// An interface with packets.
#[derive(Debug, Clone)]
struct Judged {
    link_type: LinkType,
    program: Arc<Program>,
    origin: u32,
}

impl Judge {
    pub(super) fn new(shared: &Arc<Shared>, source: &str) -> Judge {
        let wanted = &shared.query.tunnel_ids;
        let id = source_tunnel_id(source);
        Judge {
            shared: Arc::clone(shared),
            source: source.into(),
            is_tunnel_known: wanted.is_empty() || id.is_some_and(|id| wanted.contains(&id)),
            tunnels: Rules::default(),
            frames: Frames::default(),
            interfaces: Vec::new(),
            unjudged: Vec::new(),
        }
    }

    /// The id of the tunnel that the source tells.
    pub(super) fn source_tunnel_id(&self) -> Option<u64> {
        source_tunnel_id(&self.source)
    }

    pub(super) fn query(&self) -> &Query {
        &self.shared.query
    }

    /// The packet, if it is one that is looked for. `place` says where it stands, but for its time.
    pub(super) fn found(
        &mut self,
        record: &Record<'_>,
        interface: &Interface,
        place: Place,
    ) -> Option<Found> {
        if !self.shared.query.window.contains(record.ts_ns) {
            return None;
        }
        let judged = self.interface(record.interface as usize, interface)?;
        let (link_type, origin) = (judged.link_type, judged.origin);
        if !judged.program.matches(record.data, record.origlen) {
            return None;
        }
        if !self.is_tunnel_known && !self.is_in_tunnel(link_type, record.data) {
            return None;
        }
        if !self.is_in_flow(link_type, record.data) {
            return None;
        }
        Some(Found::new(Place { ts_ns: record.ts_ns, ..place }, origin, record))
    }

    /// Why packets could not be judged, once for each reason.
    pub(super) fn take_unjudged(&mut self) -> Vec<String> {
        std::mem::take(&mut self.unjudged)
    }

    fn interface(&mut self, number: usize, interface: &Interface) -> Option<&Judged> {
        if number >= self.interfaces.len() {
            self.interfaces.resize(number + 1, None);
        }
        if self.interfaces[number].is_none() {
            let link_type = LinkType(interface.link_type);
            let (program, why) = match self.shared.query.expression.program(link_type) {
                Ok(program) => (program, None),
                Err(why) => (Arc::new(Program::constant(0)), Some(why)),
            };
            if let Some(why) = why {
                let why = format!("its packets of link type {link_type} were left out: {why}");
                if !self.unjudged.contains(&why) {
                    self.unjudged.push(why);
                }
            }
            let mut origins = self.shared.origins.lock().unwrap_or_else(PoisonError::into_inner);
            let origin = origins.number(&self.source, interface);
            self.interfaces[number] = Some(Judged { link_type, program, origin });
        }
        self.interfaces[number].as_ref()
    }

    fn is_in_flow(&self, link_type: LinkType, frame: &[u8]) -> bool {
        let wanted = &self.shared.query.community_ids;
        wanted.is_empty() || {
            let ids = self.frames.community_ids(link_type, frame);
            ids.into_iter().flatten().any(|id| wanted.contains(&id))
        }
    }

    fn is_in_tunnel(&self, mut link_type: LinkType, mut frame: &[u8]) -> bool {
        while let Ok(Some(found)) = self.tunnels.in_frame(link_type, frame) {
            let id = found.tunnel.id.map(u64::from);
            if id.is_some_and(|id| self.shared.query.tunnel_ids.contains(&id)) {
                return true;
            }
            let Content::Packet(inner) = found.content else { return false };
            let Some(packet) = frame.get(inner.at as usize..inner.end as usize) else {
                return false;
            };
            (link_type, frame) = (inner.link_type, packet);
        }
        false
    }
}

/// The id of the tunnel that a source's packets came in: `71` of `vxlan-71-10.71.2.2`.
fn source_tunnel_id(source: &str) -> Option<u64> {
    carrier(source)?.id.map(u64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_tell_their_tunnel() {
        assert_eq!(source_tunnel_id("vxlan-71-10.71.2.2"), Some(71));
        assert_eq!(source_tunnel_id("gre-none-10.71.2.2"), None);
        for other in ["eth0", "eth-71-10.71.2.2", "vxlan", "vxlan-71"] {
            assert_eq!(source_tunnel_id(other), None, "{other}");
        }
    }
}
