//! Captures that are made up, and their sealed segments.

use archive::index::{self, Row};
use archive::seal::{SealOptions, Sealed, seal};
use archive::{Error, SegmentName};
use capfile::seekable::{self, FOOTER_LEN, SeekTable};
use capfile::{Direction, Interface, PcapngWriter, SectionInfo, Statistics};
use sha2::{Digest, Sha256};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// 2026-11-27 13:14:15.123456789 UTC.
pub const T: u64 = 1_795_785_255_123_456_789;

/// A packet of a capture.
#[derive(Debug, Clone)]
pub struct Made {
    pub interface: u32,
    pub ts_ns: u64,
    pub origlen: u32,
    pub data: Vec<u8>,
    /// Addresses by which it is to be found: of its outermost and of its innermost header, or of ARP.
    pub addresses: Vec<Ipv6Addr>,
}

impl Made {
    pub fn new(ts_ns: u64, data: Vec<u8>, addresses: impl IntoIterator<Item = IpAddr>) -> Made {
        let addresses = addresses.into_iter().map(mapped).collect();
        Made { interface: 0, ts_ns, origlen: data.len() as u32, data, addresses }
    }
}

pub fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

pub fn name(source: &str, packets: &[Made]) -> SegmentName {
    let times = packets.iter().map(|packet| packet.ts_ns);
    SegmentName {
        first_ns: times.clone().min().unwrap_or(T),
        last_ns: times.max().unwrap_or(T),
        id: ulid::Ulid::from_parts(1_795_785_255_123, 7),
        source: source.into(),
    }
}

/// A pcapng file whose interfaces are described right before their first packets, if `late`.
pub fn capture(interfaces: &[&str], packets: &[Made], late: bool) -> Vec<u8> {
    let mut writer = PcapngWriter::new(Vec::new(), &SectionInfo::default()).unwrap();
    let mut described = 0;
    let mut describe = |writer: &mut PcapngWriter<Vec<u8>>, up_to: usize| {
        while described < up_to {
            let name = Some(interfaces[described].into());
            writer.add_interface(&Interface { name, ..Interface::new(1) }).unwrap();
            described += 1;
        }
    };
    if !late {
        describe(&mut writer, interfaces.len());
    }
    for Made { interface, ts_ns, origlen, data, .. } in packets {
        describe(&mut writer, *interface as usize + 1);
        writer.write(*interface, *ts_ns, *origlen, Direction::In, data, None).unwrap();
    }
    describe(&mut writer, interfaces.len());
    for interface in 0..interfaces.len() as u32 {
        let statistics = Statistics { os_drop: Some(3), ..Statistics::default() };
        writer.write_stats(interface, &statistics).unwrap();
    }
    writer.into_inner()
}

pub fn sealed(folder: &Path, closed: &[u8], name: &SegmentName) -> Result<Sealed, Error> {
    let path = folder.join("closed");
    std::fs::write(&path, closed).unwrap();
    seal(&path, name, folder, &SealOptions::default())
}

/// What each zstd frame of sealed data holds.
pub fn frames_of(data: &Path) -> Vec<Vec<u8>> {
    let data = std::fs::read(data).unwrap();
    let len = SeekTable::len_in_file(&data[data.len() - FOOTER_LEN..]).unwrap();
    let table = SeekTable::parse(&data[data.len() - len..]).unwrap();
    let frame = |frame: &seekable::Frame| {
        let start = frame.offset as usize;
        seekable::decompress(&data[start..start + frame.len as usize], frame).unwrap()
    };
    table.frames().iter().map(frame).collect()
}

pub fn rows_of(sealed: &Sealed) -> Vec<Row> {
    index::rows_of(std::fs::read(&sealed.index).unwrap().into()).unwrap()
}

pub fn sha256(path: &Path) -> String {
    let hash = Sha256::digest(std::fs::read(path).unwrap());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An Ethernet frame.
pub fn ethernet(vlans: &[u16], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for vlan in vlans {
        frame.extend([0x81, 0]);
        frame.extend(vlan.to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// An IP packet with its EtherType; `fragment` is IPv4's flags and offset.
pub fn ip(src: IpAddr, dst: IpAddr, proto: u8, fragment: u16, payload: &[u8]) -> (u16, Vec<u8>) {
    let len = payload.len() as u16;
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut packet = vec![0x45, 0];
            packet.extend((20 + len).to_be_bytes());
            packet.extend([0, 7]);
            packet.extend(fragment.to_be_bytes());
            packet.extend([64, proto, 0, 0]);
            packet.extend(src.octets().into_iter().chain(dst.octets()));
            packet.extend(payload);
            (0x0800, packet)
        }
        _ => {
            let mut packet = vec![0x60, 0, 0, 0];
            packet.extend(len.to_be_bytes());
            packet.extend([proto, 64]);
            packet.extend(mapped(src).octets().into_iter().chain(mapped(dst).octets()));
            packet.extend(payload);
            (0x86dd, packet)
        }
    }
}

pub fn udp(src: u16, dst: u16, payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len()) as u16;
    let mut datagram: Vec<u8> = [src, dst, len, 0].into_iter().flat_map(u16::to_be_bytes).collect();
    datagram.extend(payload);
    datagram
}

pub fn tcp(src: u16, dst: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment: Vec<u8> = [src, dst].into_iter().flat_map(u16::to_be_bytes).collect();
    segment.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(payload);
    segment
}

pub fn arp(sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1];
    packet.extend(sender.octets());
    packet.extend([0; 6]);
    packet.extend(target.octets());
    packet
}

/// A VXLAN header and the frame in it.
pub fn vxlan(vni: u32, frame: &[u8]) -> Vec<u8> {
    let mut packet = vec![8, 0, 0, 0];
    packet.extend((vni << 8).to_be_bytes());
    packet.extend(frame);
    packet
}

/// A UDP packet from a host of 10.0.0.0/8 to 192.0.2.1.
pub fn question(n: u32, ts_ns: u64, payload: &[u8]) -> Made {
    let (src, dst) = (IpAddr::from((0x0a00_0000 + n).to_be_bytes()), IpAddr::from([192, 0, 2, 1]));
    let (ethertype, packet) = ip(src, dst, 17, 0, &udp(1024 + n as u16 % 50_000, 53, payload));
    Made::new(ts_ns, ethernet(&[], ethertype, &packet), [src, dst])
}
