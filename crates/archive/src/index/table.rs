//! The flows of a segment while it is read.

use super::address_set::AddressSet;
use super::packet::{FlowKey, Frames, Seen, carrier};
use super::row::{Row, Tunnelled};
use capfile::{Interface, Record};
use std::collections::HashMap;
use std::sync::Arc;
use wire::LinkType;
use wire::tunnel::Tunnel;

/// What a flow did.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    pub span_ns: (u64, u64),
    pub packets: (u64, u64),
    pub bytes: (u64, u64),
    pub tcp_flags: Option<u8>,
    pub truncated: bool,
    pub frames: Vec<u32>,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            span_ns: (u64::MAX, 0),
            packets: (0, 0),
            bytes: (0, 0),
            tcp_flags: None,
            truncated: false,
            frames: Vec::new(),
        }
    }
}

/// Gathers the rows of a segment's index, packet by packet.
pub(crate) struct Table {
    frames: Frames,
    source: Arc<str>,
    /// The tunnel that the source's name tells of.
    carrier: Option<Tunnel>,
    /// Link type and tunnel of each interface, as far as they were asked for.
    interfaces: Vec<(LinkType, Option<Tunnel>)>,
    flows: HashMap<FlowKey, Tally>,
    addresses: AddressSet,
    packets: u64,
    span_ns: Option<(u64, u64)>,
}

/// What a [`Table`] gathered.
#[derive(Debug)]
pub(crate) struct Gathered {
    /// In the order of the index.
    pub rows: Vec<Row>,
    pub addresses: AddressSet,
    pub packets: u64,
    /// Times of the earliest and of the latest packet; none without packets.
    pub span_ns: Option<(u64, u64)>,
}

impl Table {
    pub(crate) fn new(source: &str) -> Table {
        Table {
            frames: Frames::default(),
            source: source.into(),
            carrier: carrier(source),
            interfaces: Vec::new(),
            flows: HashMap::new(),
            addresses: AddressSet::default(),
            packets: 0,
            span_ns: None,
        }
    }

    /// Adds a packet that stands in a zstd frame of this number; `interfaces` are those described
    /// before it.
    pub(crate) fn add(&mut self, record: &Record, interfaces: &[Interface], number: u32) {
        let (link, carrier) = self.interface(record.interface as usize, interfaces);
        let Seen { key, forward, tcp_flags } = self.frames.see(link, record.data, carrier);
        let tally = self.flows.entry(key).or_default();
        // Frames of one key may hold other addresses only where it does not name them all.
        if tally.frames.is_empty() || key.flow.is_none() || key.outer.is_some() {
            self.frames.addresses(link, record.data, &mut self.addresses);
        }
        tally.add(record, forward, tcp_flags, number);
        self.packets += 1;
        let (first_ns, last_ns) = self.span_ns.unwrap_or((u64::MAX, 0));
        self.span_ns = Some((first_ns.min(record.ts_ns), last_ns.max(record.ts_ns)));
    }

    /// Gives the rows, whose number `raw_bytes` bounds: the length of the segment.
    pub(crate) fn finish(self, _raw_bytes: u64) -> Gathered {
        let mut flows: Vec<(FlowKey, Tally)> = self.flows.into_iter().collect();
        flows.sort_unstable_by_key(|flow| flow.0);
        let source = &self.source;
        Gathered {
            rows: flows.into_iter().map(|(key, tally)| row(source, &key, tally)).collect(),
            addresses: self.addresses,
            packets: self.packets,
            span_ns: self.span_ns,
        }
    }

    fn interface(&mut self, index: usize, all: &[Interface]) -> (LinkType, Option<Tunnel>) {
        for interface in all.iter().take(index + 1).skip(self.interfaces.len()) {
            let named = interface.name.as_deref().and_then(carrier);
            self.interfaces.push((LinkType(interface.link_type), named.or(self.carrier)));
        }
        self.interfaces.get(index).copied().unwrap_or_default()
    }
}

impl Tally {
    fn add(&mut self, record: &Record, forward: bool, tcp_flags: Option<u8>, number: u32) {
        self.span_ns = (self.span_ns.0.min(record.ts_ns), self.span_ns.1.max(record.ts_ns));
        let way =
            |both: &mut (u64, u64), n| *(if forward { &mut both.0 } else { &mut both.1 }) += n;
        way(&mut self.packets, 1);
        way(&mut self.bytes, record.origlen.into());
        if let Some(flags) = tcp_flags {
            *self.tcp_flags.get_or_insert(0) |= flags;
        }
        self.truncated |= record.caplen() < record.origlen;
        if self.frames.last() != Some(&number) {
            self.frames.push(number);
        }
    }
}

pub(crate) fn row(source: &Arc<str>, key: &FlowKey, tally: Tally) -> Row {
    Row {
        source: source.clone(),
        tunnel: key.tunnel.map(tunnelled),
        vlan: key.vlans().to_vec(),
        ethertype: key.ethertype,
        macs: key.macs,
        flow: key.flow.map(|ends| ends.flow()),
        outer: key.outer.map(|ends| ends.flow()),
        span_ns: tally.span_ns,
        packets: tally.packets,
        bytes: tally.bytes,
        tcp_flags: tally.tcp_flags,
        truncated: tally.truncated,
        flows: 1,
        frames: tally.frames,
    }
}

fn tunnelled(tunnel: Tunnel) -> Tunnelled {
    Tunnelled { kind: tunnel.kind.name().into(), id: tunnel.id.map(u64::from) }
}
