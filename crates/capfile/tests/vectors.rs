//! Files built byte by byte: both byte orders, every resolution and every kind of block.

mod reading;

use capfile::{Direction, Endian, Error, Format, RawOption, Reader, TsResolution};
use reading::by_hand::{File, every_block};
use reading::{Packet, read_all};

const BOTH: [Endian; 2] = [Endian::Little, Endian::Big];

fn packet(interface: u32, ts_ns: u64, origlen: u32, data: &[u8]) -> Packet {
    Packet {
        interface,
        ts_ns,
        origlen,
        direction: Direction::Unknown,
        data: data.to_vec(),
        comment: None,
    }
}

#[test]
fn pcap_literal() {
    let file = b"\xd4\xc3\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\xff\xff\0\0\x01\0\0\0\
        \x01\0\0\0\x02\0\0\0\x03\0\0\0\x3c\0\0\0abc";
    let mut reader = Reader::new(&file[..]).unwrap();
    assert_eq!(read_all(&mut reader).unwrap(), [packet(0, 1_000_002_000, 60, b"abc")]);
}

#[test]
fn pcapng_literal() {
    let file = b"\x0a\x0d\x0d\x0a\0\0\0\x1c\x1a\x2b\x3c\x4d\0\x01\0\0\
        \xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\x1c\
        \0\0\0\x01\0\0\0\x14\0\x01\0\0\0\0\xff\xff\0\0\0\x14\
        \0\0\0\x06\0\0\0\x24\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x03\0\0\0\x3cabc\0\0\0\0\x24";
    let mut reader = Reader::new(&file[..]).unwrap();
    assert_eq!(read_all(&mut reader).unwrap(), [packet(0, (1 << 32) * 1000, 60, b"abc")]);
}

#[test]
fn pcap_in_both_orders_and_resolutions() {
    for endian in BOTH {
        for (magic, format, ns) in
            [(0xa1b2_c3d4, Format::PcapMicro, 1000), (0xa1b2_3c4d, Format::PcapNano, 1)]
        {
            // FCS length and its flag in the upper half of the link type.
            let mut file = File::pcap(endian, magic, 0x1400_0071);
            file.record(u32::MAX, 999, 1500, b"first").record(7, u32::MAX, 1, b"caplen > origlen");
            file.record(0, 0, 0, b"");
            let mut reader = Reader::new(&file.bytes[..]).unwrap();
            assert_eq!(reader.format(), format);
            assert_eq!(reader.interfaces()[0].link_type, 113);
            assert_eq!(reader.interfaces()[0].snaplen, 65535);
            let seconds = u64::from(u32::MAX) * 1_000_000_000;
            let want = [
                packet(0, seconds + 999 * ns, 1500, b"first"),
                packet(0, 7_000_000_000 + u64::from(u32::MAX) * ns, 1, b"caplen > origlen"),
                packet(0, 0, 0, b""),
            ];
            assert_eq!(read_all(&mut reader).unwrap(), want);
            assert_eq!(reader.good_offset(), file.bytes.len() as u64);
            assert_eq!(reader.warning(), None);
        }
    }
}

#[test]
fn every_block_of_pcapng() {
    let file = every_block();
    let mut reader = Reader::new(&file.bytes[..]).unwrap();
    assert_eq!(reader.section().unwrap().application.as_deref(), Some("hand"));
    assert!(reader.interfaces().is_empty());
    let want = [
        packet(0, 1_000_001_000, 5, b"hello"),
        Packet { direction: Direction::In, ..packet(1, 3_500_000_000, 1500, b"four") },
        packet(0, 0, 3, b"abc"),
        Packet {
            direction: Direction::Out,
            comment: Some("né".to_owned()),
            ..packet(2, 1 << 40, 2, b"longer than origlen")
        },
        Packet { direction: Direction::In, ..packet(3, 5000, 3, b"old") },
        packet(3, 0, 3, b"ab"), // snap length 2
    ];
    assert_eq!(read_all(&mut reader).unwrap(), want);
    let link_types: Vec<u16> = reader.interfaces().iter().map(|i| i.link_type).collect();
    assert_eq!(link_types, [1, 113, 101, 1]);
    assert_eq!(reader.interfaces()[1].ts_resolution, TsResolution(0x8a));
    assert_eq!(reader.interfaces()[1].ts_offset_s, 2);
    assert_eq!(reader.statistics(0).unwrap().received, Some(7));
    assert_eq!(reader.statistics(3), None);
    assert_eq!(reader.section().unwrap().application, None);
    assert_eq!(reader.warning(), None);
}

#[test]
fn interface_options_are_told_apart_in_both_orders() {
    for endian in BOTH {
        let mut f = File::new(endian);
        f.section(endian, u64::MAX, &[]);
        let options = [
            f.option(2, b"eth0\0"),
            f.option(3, b"uplink"),
            f.option(11, b"\0tcp"),
            f.option(11, b"\x01code"),
            f.option(12, b"Linux"),
            f.option(8, &f.u64(10_000_000_000)),
            f.option(13, &[4]),
            f.option(2988, &[f.u32(32473), b"x".to_vec()].concat()),
            f.option(9, b"wrong length"),
        ];
        f.interface(1, 0, &options.concat());
        let mut reader = Reader::new(&f.bytes[..]).unwrap();
        assert!(reader.next().unwrap().is_none());
        let interface = &reader.interfaces()[0];
        assert_eq!(interface.name.as_deref(), Some("eth0"));
        assert_eq!(interface.description.as_deref(), Some("uplink"));
        assert_eq!(interface.filter.as_deref(), Some("tcp"));
        assert_eq!(interface.os.as_deref(), Some("Linux"));
        assert_eq!(interface.ts_resolution, TsResolution::MICRO);
        let custom = [&32473_u32.to_le_bytes()[..], b"x"].concat();
        let want = [
            (11, b"\x01code".to_vec()),
            (8, 10_000_000_000_u64.to_le_bytes().to_vec()),
            (13, vec![4]),
            (2988, custom),
            (9, b"wrong length".to_vec()),
        ];
        assert_eq!(interface.other, want.map(|(code, value)| RawOption { code, value }));
    }
}

#[test]
fn simple_packets_take_the_least_of_block_snaplen_and_origlen() {
    for (snaplen, origlen, caplen) in [(0, 3, 3), (0, 9, 8), (5, 9, 5), (5, 4, 4), (0, 0, 0)] {
        let mut f = File::new(Endian::Little);
        f.section(Endian::Little, u64::MAX, &[]).interface(1, snaplen, &[]);
        let head = f.u32(origlen);
        f.block(3, &[&head, b"12345678"]);
        let packets = read_all(&mut Reader::new(&f.bytes[..]).unwrap()).unwrap();
        assert_eq!(packets, [packet(0, 0, origlen, &b"12345678"[..caplen])]);
    }
}

#[test]
fn record_options_are_there_undecoded() {
    let mut f = File::new(Endian::Big);
    f.section(Endian::Big, u64::MAX, &[]).interface(1, 0, &[]);
    let options = [f.option(1, b"a"), f.option(4, &f.u64(9)), f.option(1, b"b")].concat();
    f.packet(0, 0, 0, b"", &options);
    let mut reader = Reader::new(&f.bytes[..]).unwrap();
    let record = reader.next().unwrap().unwrap();
    assert_eq!(record.comments().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(record.options.get(4), Some(&9_u64.to_be_bytes()[..]));
    assert_eq!(record.options.endian(), Endian::Big);
}

#[test]
fn the_record_read_last_stays_beside_the_interfaces() {
    let file = every_block();
    let mut reader = Reader::new(&file.bytes[..]).unwrap();
    assert_eq!(reader.record(), None);
    let mut link_types = Vec::new();
    while reader.advance().unwrap() {
        let record = reader.record().unwrap();
        link_types.push(reader.interfaces()[record.interface as usize].link_type);
    }
    assert_eq!(link_types, [1, 113, 1, 101, 1, 1]);
    assert_eq!(reader.record(), None);
}

#[test]
fn directions_are_the_low_bits_of_the_flags() {
    for (flags, want) in [
        (0, Direction::Unknown),
        (1, Direction::In),
        (2, Direction::Out),
        (3, Direction::Unknown),
        (0xffff_fffe, Direction::Out),
    ] {
        let mut f = File::new(Endian::Little);
        f.section(Endian::Little, u64::MAX, &[]).interface(1, 0, &[]);
        let option = f.option(2, &f.u32(flags));
        f.packet(0, 0, 0, b"", &option);
        let mut reader = Reader::new(&f.bytes[..]).unwrap();
        assert_eq!(reader.next().unwrap().unwrap().direction, want);
    }
}

#[test]
fn statistics_of_an_unknown_interface_are_stepped_over() {
    let mut f = File::new(Endian::Little);
    f.section(Endian::Little, u64::MAX, &[]).block(5, &[&[0xff; 12]]);
    let mut reader = Reader::new(&f.bytes[..]).unwrap();
    assert!(reader.next().unwrap().is_none());
    assert_eq!(reader.statistics(u32::MAX), None);
}

#[test]
fn a_stream_that_fails_can_be_read_on() {
    struct Hiccup<'a>(&'a [u8], usize);
    impl std::io::Read for Hiccup<'_> {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            self.1 += 1;
            if self.1.is_multiple_of(2) {
                return Err(std::io::ErrorKind::TimedOut.into());
            }
            let n = self.0.len().min(buf.len()).min(50);
            buf[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }
    let file = every_block();
    let whole = read_all(&mut Reader::new(&file.bytes[..]).unwrap()).unwrap();
    let mut reader = Reader::new(Hiccup(&file.bytes, 0)).unwrap();
    let (mut packets, mut errors) = (Vec::new(), 0);
    loop {
        match reader.next() {
            Ok(Some(record)) => packets.push(Packet::from(record)),
            Ok(None) => break,
            Err(Error::Io { .. }) => errors += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(packets, whole);
    assert!(errors > 5, "{errors}");
}
