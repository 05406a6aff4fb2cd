//! The flows of a segment while it is read.
//!
//! An index has at most [`ROWS_MIN`] rows and one more for each [`BYTES_PER_ROW`] of the segment, and
//! never more than [`ROWS_MAX`]. Beyond that the flows of the fewest packets collapse.

use super::address_set::AddressSet;
use super::collapse::Groups;
use super::packet::{FlowKey, Frames, Seen, carrier};
use super::row::{Row, Tunnelled};
use capfile::{Interface, Record};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;
use wire::LinkType;
use wire::tunnel::Tunnel;

/// Rows that an index of a small segment may have.
pub const ROWS_MIN: usize = 1024;
/// Bytes of a segment, before it is compressed, that allow one row more.
pub const BYTES_PER_ROW: u64 = 4096;
/// Most rows of any index.
pub const ROWS_MAX: usize = 1 << 16;

/// Flows that are held while a segment is read; beyond it half of them collapse.
const FLOWS_MAX: usize = 7 << 14;
/// Numbers of frames that are held for all flows, likewise.
const NUMBERS_MAX: usize = 1 << 23;

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
    /// Flows that collapsed.
    groups: Groups,
    /// Numbers of frames that `flows` hold.
    numbers: usize,
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
            groups: Groups::default(),
            numbers: 0,
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
        self.numbers += usize::from(tally.add(record, forward, tcp_flags, number));
        self.packets += 1;
        let (first_ns, last_ns) = self.span_ns.unwrap_or((u64::MAX, 0));
        self.span_ns = Some((first_ns.min(record.ts_ns), last_ns.max(record.ts_ns)));
        if self.flows.len() > FLOWS_MAX || self.numbers > NUMBERS_MAX {
            self.collapse();
        }
    }

    /// Gives the rows, whose number `raw_bytes` bounds: the length of the segment.
    pub(crate) fn finish(mut self, raw_bytes: u64) -> Gathered {
        let max = rows_max(raw_bytes);
        loop {
            let rows = self.flows.len() + self.groups.len();
            match rows.saturating_sub(max) {
                0 => break,
                _ if self.flows.is_empty() => self.groups.shrink(max),
                // Some more than that, as the new rows count too.
                over => self.groups.take_smallest(&mut self.flows, over + over / 8 + 1),
            }
        }
        let (flows, source) = (self.flows.into_iter(), &self.source);
        let mut rows: Vec<Row> = flows.map(|(key, tally)| row(source, &key, tally)).collect();
        rows.extend(self.groups.into_rows(source));
        rows.sort_unstable_by(order);
        Gathered { rows, addresses: self.addresses, packets: self.packets, span_ns: self.span_ns }
    }

    // Makes room while the segment is read.
    fn collapse(&mut self) {
        while self.flows.len() > FLOWS_MAX / 2 || self.numbers > NUMBERS_MAX / 2 {
            let count = self.flows.len().div_ceil(2);
            self.groups.take_smallest(&mut self.flows, count);
            self.numbers = self.flows.values().map(|tally| tally.frames.len()).sum();
        }
        self.groups.shrink(ROWS_MAX);
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
    // True if the number of the frame is new.
    fn add(&mut self, record: &Record, forward: bool, tcp_flags: Option<u8>, number: u32) -> bool {
        self.span_ns = (self.span_ns.0.min(record.ts_ns), self.span_ns.1.max(record.ts_ns));
        let way =
            |both: &mut (u64, u64), n| *(if forward { &mut both.0 } else { &mut both.1 }) += n;
        way(&mut self.packets, 1);
        way(&mut self.bytes, record.origlen.into());
        if let Some(flags) = tcp_flags {
            *self.tcp_flags.get_or_insert(0) |= flags;
        }
        self.truncated |= record.caplen() < record.origlen;
        let is_new = self.frames.last() != Some(&number);
        if is_new {
            self.frames.push(number);
        }
        is_new
    }

    /// Exchanges the two ways.
    pub(crate) fn swap(&mut self) {
        self.packets = (self.packets.1, self.packets.0);
        self.bytes = (self.bytes.1, self.bytes.0);
    }

    /// Adds what another flow did. The numbers of frames are in order again.
    pub(crate) fn merge(&mut self, other: Tally) {
        self.span_ns = (self.span_ns.0.min(other.span_ns.0), self.span_ns.1.max(other.span_ns.1));
        self.packets = (self.packets.0 + other.packets.0, self.packets.1 + other.packets.1);
        self.bytes = (self.bytes.0 + other.bytes.0, self.bytes.1 + other.bytes.1);
        if let Some(flags) = other.tcp_flags {
            *self.tcp_flags.get_or_insert(0) |= flags;
        }
        self.truncated |= other.truncated;
        merge_numbers(&mut self.frames, &other.frames);
    }
}

// Both are ascending, and often the same.
fn merge_numbers(into: &mut Vec<u32>, other: &[u32]) {
    for &number in other {
        if into.last().is_none_or(|&last| last < number) {
            into.push(number);
        } else if let Err(at) = into.binary_search(&number) {
            into.insert(at, number);
        }
    }
}

fn rows_max(raw_bytes: u64) -> usize {
    (ROWS_MIN as u64 + raw_bytes / BYTES_PER_ROW).min(ROWS_MAX as u64) as usize
}

/// The order of an index: by the higher address, then by the lower one, what has none first; then by
/// the rest, so that there is only one.
fn order(a: &Row, b: &Row) -> Ordering {
    let addresses = |row: &Row| {
        let flow = row.flow.as_ref();
        (flow.and_then(|flow| flow.ip_hi), flow.and_then(|flow| flow.ip_lo))
    };
    addresses(a).cmp(&addresses(b)).then_with(|| a.cmp(b))
}

/// The row of one flow.
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

pub(crate) fn tunnelled(tunnel: Tunnel) -> Tunnelled {
    Tunnelled { kind: tunnel.kind.name().into(), id: tunnel.id.map(u64::from) }
}
