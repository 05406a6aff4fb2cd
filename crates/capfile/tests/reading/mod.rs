//! What the integration tests share: packets that own their bytes.

#![allow(dead_code, reason = "each test uses its part")]

pub mod by_hand;

use capfile::{Direction, Error, Reader, Record};
use std::io::Read;

/// A record that outlives the reader's buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub interface: u32,
    pub ts_ns: u64,
    pub origlen: u32,
    pub direction: Direction,
    pub data: Vec<u8>,
    pub comment: Option<String>,
}

impl From<Record<'_>> for Packet {
    fn from(record: Record<'_>) -> Self {
        Packet {
            interface: record.interface,
            ts_ns: record.ts_ns,
            origlen: record.origlen,
            direction: record.direction,
            data: record.data.to_vec(),
            comment: record.comments().next().map(str::to_owned),
        }
    }
}

/// All packets that are left.
pub fn read_all<R: Read>(reader: &mut Reader<R>) -> Result<Vec<Packet>, Error> {
    let mut packets = Vec::new();
    while let Some(record) = reader.next()? {
        packets.push(record.into());
    }
    Ok(packets)
}
