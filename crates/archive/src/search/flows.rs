//! The flows of packets that were found.

use super::found::Packet;
use crate::index::{FlowKey, Frames, Row, Seen, Tally, carrier, row};
use std::collections::HashMap;
use std::sync::Arc;
use wire::LinkType;
use wire::tunnel::Tunnel;

/// Flows that are kept at a time. Each takes some 300 bytes.
pub const FLOWS_MAX: usize = 1 << 18;

/// Gathers packets into flows: rows as an index has them, over all segments of a source. They name no
/// frames.
///
/// At most [`FLOWS_MAX`] are kept; one more, and those that have been silent for longest, a half of
/// all, are given out. A flow that speaks again then is another row.
#[derive(Default)]
pub struct Flows {
    frames: Frames,
    /// For each interface of the search its source, and the tunnel that its name or the source's tells of.
    origins: Vec<Option<(Arc<str>, Option<Tunnel>)>>,
    flows: HashMap<(Arc<str>, FlowKey), Tally>,
}

impl Flows {
    /// None yet.
    pub fn new() -> Flows {
        Flows::default()
    }

    /// Adds a packet. Gives the flows that had to make room, the earliest first.
    pub fn add(&mut self, packet: &Packet<'_>) -> Vec<Row> {
        let (source, carrier) = self.origin(packet);
        let link_type = LinkType(packet.interface.link_type);
        let Seen { key, forward, tcp_flags } = self.frames.see(link_type, packet.data, carrier);
        let key = (source, key);
        let full = self.flows.len() >= FLOWS_MAX && !self.flows.contains_key(&key);
        let rows = if full { self.make_room() } else { Vec::new() };
        let tally = self.flows.entry(key).or_default();
        let (first_ns, last_ns) = tally.span_ns;
        tally.span_ns = (first_ns.min(packet.ts_ns), last_ns.max(packet.ts_ns));
        let way =
            |(forth, back): &mut (u64, u64), count| *if forward { forth } else { back } += count;
        way(&mut tally.packets, 1);
        way(&mut tally.bytes, packet.origlen.into());
        if let Some(flags) = tcp_flags {
            *tally.tcp_flags.get_or_insert(0) |= flags;
        }
        tally.truncated |= packet.data.len() < packet.origlen as usize;
        rows
    }

    /// Gives the rest, the earliest first.
    pub fn finish(&mut self) -> Vec<Row> {
        rows(std::mem::take(&mut self.flows).into_iter())
    }

    fn origin(&mut self, packet: &Packet<'_>) -> (Arc<str>, Option<Tunnel>) {
        let number = packet.origin as usize;
        if number >= self.origins.len() {
            self.origins.resize(number + 1, None);
        }
        let origin = self.origins[number].get_or_insert_with(|| {
            let named = packet.interface.name.as_deref().and_then(carrier);
            (packet.source.into(), named.or_else(|| carrier(packet.source)))
        });
        origin.clone()
    }

    /// Takes out the half that has been silent for longest.
    fn make_room(&mut self) -> Vec<Row> {
        let mut ends: Vec<u64> = self.flows.values().map(|tally| tally.span_ns.1).collect();
        let middle = ends.len() / 2;
        let (_, &mut last_ns, _) = ends.select_nth_unstable(middle);
        rows(self.flows.extract_if(|_, tally| tally.span_ns.1 <= last_ns))
    }
}

fn rows(flows: impl Iterator<Item = ((Arc<str>, FlowKey), Tally)>) -> Vec<Row> {
    let mut flows: Vec<_> = flows.collect();
    flows.sort_unstable_by(|(a, of_a), (b, of_b)| (of_a.span_ns, a).cmp(&(of_b.span_ns, b)));
    flows.into_iter().map(|((source, key), tally)| row(&source, &key, tally)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use capfile::{Interface, Marks};

    /// A UDP packet from 10.0.0.1 to 10.0.0.2.
    fn frame(port: u16) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 28];
        frame.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend(port.to_be_bytes());
        frame.extend([0, 53, 0, 8, 0, 0]);
        frame
    }

    fn add(flows: &mut Flows, ts_ns: u64, port: u16, origin: u32) -> Vec<Row> {
        let interface = Interface::new(capfile::LINKTYPE_ETHERNET);
        let source = ["a", "vxlan-7-10.0.0.9"][origin as usize];
        flows.add(&Packet {
            ts_ns,
            origlen: 100,
            marks: Marks::default(),
            comment: None,
            data: &frame(port),
            source,
            origin,
            interface: &interface,
        })
    }

    #[test]
    fn packets_of_a_source_and_a_flow_are_a_row() {
        let mut flows = Flows::new();
        for (ts_ns, port, origin) in [(5, 1000, 0), (7, 1000, 1), (9, 1000, 0), (9, 1001, 0)] {
            assert!(add(&mut flows, ts_ns, port, origin).is_empty());
        }
        let rows = flows.finish();
        let told =
            |row: &Row| (row.span_ns, row.packets, row.bytes, row.tunnel.clone().map(|t| t.id));
        assert_eq!(
            rows.iter().map(told).collect::<Vec<_>>(),
            [
                ((5, 9), (2, 0), (200, 0), None),
                ((7, 7), (1, 0), (100, 0), Some(Some(7))),
                ((9, 9), (1, 0), (100, 0), None),
            ]
        );
        assert!(rows.iter().all(|row| row.truncated && row.frames.is_empty()));
        assert!(flows.finish().is_empty());
    }

    #[test]
    fn those_that_are_silent_make_room() {
        let mut flows = Flows::new();
        let (mut given, mut ts_ns) = (Vec::new(), 0);
        // More flows than there is room for: ports by both sources, four rounds of hosts.
        for round in 0..u8::try_from(FLOWS_MAX >> 16).unwrap() + 1 {
            for port in 0..=u16::MAX {
                ts_ns += 1;
                let mut frame = frame(port);
                frame[29] = round;
                let interface = Interface::new(capfile::LINKTYPE_ETHERNET);
                let marks = Marks::default();
                let packet = Packet {
                    ts_ns,
                    origlen: 42,
                    marks,
                    comment: None,
                    data: &frame,
                    source: "a",
                    origin: 0,
                    interface: &interface,
                };
                given.append(&mut flows.add(&packet));
            }
        }
        assert_eq!(given.len(), FLOWS_MAX / 2 + 1);
        given.append(&mut flows.finish());
        assert_eq!(given.len() as u64, ts_ns);
        assert!(given.is_sorted_by_key(|row| row.span_ns));
    }
}
