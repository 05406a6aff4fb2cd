//! What is written is read back equal, by our reader and by an independent one.

mod reading;

use capfile::{
    Direction, Format, Interface, PcapResolution, PcapWriter, PcapngWriter, RawOption, Reader,
    SectionInfo, Statistics, TsResolution,
};
use pcap_parser::Block;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use reading::{Packet, read_all};

fn text() -> impl Strategy<Value = String> {
    // Zeros at the end are dropped on reading, so none here.
    "[ -~äλ→]{0,40}"
}

fn interface() -> impl Strategy<Value = Interface> {
    let raw = (prop_oneof![Just(1_u16), 4..9_u16, 15..20_u16], vec(any::<u8>(), 0..20))
        .prop_map(|(code, value)| RawOption { code, value });
    (
        any::<u16>(),
        any::<u32>(),
        (option::of(text()), option::of(text()), option::of(text()), option::of(text())),
        vec(raw, 0..4),
    )
        .prop_map(|(link_type, snaplen, (name, description, filter, os), other)| Interface {
            snaplen,
            name,
            description,
            filter,
            os,
            ts_resolution: TsResolution::NANO,
            other,
            ..Interface::new(link_type)
        })
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::Unknown), Just(Direction::In), Just(Direction::Out)]
}

/// A packet of any interface number; the test takes it modulo the number of interfaces.
fn packet() -> impl Strategy<Value = Packet> {
    (any::<u32>(), any::<u64>(), any::<u32>(), direction(), vec(any::<u8>(), 0..300), {
        option::of(text())
    })
        .prop_map(|(interface, ts_ns, origlen, direction, data, comment)| Packet {
            interface,
            ts_ns,
            origlen,
            direction,
            data,
            comment,
        })
}

fn statistics() -> impl Strategy<Value = Statistics> {
    let n = || option::of(any::<u64>());
    (n(), n(), n(), n(), (n(), n(), n()), option::of(text())).prop_map(
        |(start_ns, end_ns, received, dropped, (filter_accepted, os_drop, delivered), comment)| {
            Statistics {
                start_ns,
                end_ns,
                received,
                dropped,
                filter_accepted,
                os_drop,
                delivered,
                comment,
            }
        },
    )
}

fn section() -> impl Strategy<Value = SectionInfo> {
    (option::of(text()), option::of(text()), option::of(text()), option::of(text())).prop_map(
        |(hardware, os, application, comment)| SectionInfo { hardware, os, application, comment },
    )
}

proptest! {
    #[test]
    fn pcapng(
        section in section(),
        interfaces in vec(interface(), 1..5),
        mut packets in vec(packet(), 0..40),
        statistics in statistics(),
    ) {
        let mut writer = PcapngWriter::new(Vec::new(), &section).unwrap();
        for (i, interface) in interfaces.iter().enumerate() {
            prop_assert_eq!(writer.add_interface(interface).unwrap() as usize, i);
        }
        for p in &mut packets {
            p.interface %= interfaces.len() as u32;
            let comment = p.comment.as_deref();
            writer.write(p.interface, p.ts_ns, p.origlen, p.direction, &p.data, comment).unwrap();
        }
        writer.write_stats(0, &statistics).unwrap();
        let bytes_written = writer.bytes_written();
        let file = writer.into_inner();
        prop_assert_eq!(bytes_written, file.len() as u64);

        let mut reader = Reader::new(&file[..]).unwrap();
        prop_assert_eq!(reader.format(), Format::Pcapng);
        prop_assert_eq!(reader.section(), Some(&section));
        prop_assert_eq!(&read_all(&mut reader).unwrap(), &packets);
        prop_assert_eq!(reader.interfaces(), &interfaces[..]);
        prop_assert_eq!(reader.statistics(0), Some(&statistics));
        prop_assert_eq!(reader.good_offset(), bytes_written);
        prop_assert_eq!(reader.warning(), None);

        judge_pcapng(&file, &interfaces, &packets)?;
    }

    #[test]
    fn pcap(
        link_type in any::<u16>(),
        snaplen in any::<u32>(),
        micro in any::<bool>(),
        mut packets in vec(packet(), 0..40),
    ) {
        let resolution = if micro { PcapResolution::Micro } else { PcapResolution::Nano };
        let mut writer = PcapWriter::new(Vec::new(), link_type, snaplen, resolution).unwrap();
        for p in &mut packets {
            p.ts_ns %= 1_000_000_000 << 32;
            writer.write(p.ts_ns, p.origlen, &p.data).unwrap();
            let tick_ns = if micro { 1000 } else { 1 };
            *p = Packet {
                interface: 0,
                ts_ns: p.ts_ns / tick_ns * tick_ns,
                direction: Direction::Unknown,
                comment: None,
                ..p.clone()
            };
        }
        let bytes_written = writer.bytes_written();
        let file = writer.into_inner();
        prop_assert_eq!(bytes_written, file.len() as u64);

        let mut reader = Reader::new(&file[..]).unwrap();
        let format = if micro { Format::PcapMicro } else { Format::PcapNano };
        prop_assert_eq!(reader.format(), format);
        prop_assert_eq!(&read_all(&mut reader).unwrap(), &packets);
        let interface = &reader.interfaces()[0];
        prop_assert_eq!((interface.link_type, interface.snaplen), (link_type, snaplen));
        prop_assert_eq!(reader.warning(), None);

        judge_pcap(&file, micro, &packets)?;
    }
}

/// pcap-parser finds the same interfaces and packets.
fn judge_pcapng(
    file: &[u8],
    interfaces: &[Interface],
    packets: &[Packet],
) -> Result<(), TestCaseError> {
    let (rest, blocks) = pcap_parser::parse_pcapng(file)
        .map(|(rest, capture)| (rest, capture.sections.into_iter().flat_map(|s| s.blocks)))
        .map_err(|e| TestCaseError::fail(format!("pcap-parser: {e}")))?;
    prop_assert!(rest.is_empty());
    let (mut interfaces, mut packets) = (interfaces.iter(), packets.iter());
    for block in blocks {
        match block {
            Block::InterfaceDescription(idb) => {
                let ours = interfaces.next().expect("no more interfaces than were written");
                prop_assert_eq!(idb.linktype.0, i32::from(ours.link_type));
                prop_assert_eq!(idb.snaplen, ours.snaplen);
                prop_assert_eq!(idb.if_tsresol, 9);
            }
            Block::EnhancedPacket(epb) => {
                let ours = packets.next().expect("no more packets than were written");
                let ts_ns = u64::from(epb.ts_high) << 32 | u64::from(epb.ts_low);
                prop_assert_eq!(epb.if_id, ours.interface);
                prop_assert_eq!(ts_ns, ours.ts_ns);
                prop_assert_eq!(epb.caplen as usize, ours.data.len());
                prop_assert_eq!(epb.origlen, ours.origlen);
                prop_assert_eq!(&epb.data[..ours.data.len()], &ours.data[..]);
            }
            Block::SectionHeader(_) | Block::InterfaceStatistics(_) => {}
            other => return Err(TestCaseError::fail(format!("not written: {other:?}"))),
        }
    }
    prop_assert_eq!((interfaces.next(), packets.next()), (None, None));
    Ok(())
}

/// pcap-parser finds the same packets.
fn judge_pcap(file: &[u8], micro: bool, packets: &[Packet]) -> Result<(), TestCaseError> {
    let (rest, capture) = pcap_parser::parse_pcap(file)
        .map_err(|e| TestCaseError::fail(format!("pcap-parser: {e}")))?;
    prop_assert!(rest.is_empty());
    prop_assert_eq!(capture.blocks.len(), packets.len());
    for (block, ours) in capture.blocks.iter().zip(packets) {
        let tick_ns = if micro { 1000 } else { 1 };
        let ts_ns = u64::from(block.ts_sec) * 1_000_000_000 + u64::from(block.ts_usec) * tick_ns;
        prop_assert_eq!(ts_ns, ours.ts_ns);
        prop_assert_eq!((block.caplen as usize, block.origlen), (ours.data.len(), ours.origlen));
        prop_assert_eq!(block.data, &ours.data[..]);
    }
    Ok(())
}
