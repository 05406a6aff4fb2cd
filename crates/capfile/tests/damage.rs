//! Cut, lying and foreign files: clear errors, every whole packet before them, never a panic.

mod reading;

use capfile::{Endian, Error, Reader, Warning};
use proptest::collection::vec;
use proptest::prelude::*;
use reading::by_hand::{File, every_block};
use reading::{Packet, read_all};

fn error(bytes: &[u8]) -> Error {
    Reader::new(bytes).expect_err("not readable")
}

/// A pcap file of some records.
fn pcap() -> File {
    let mut file = File::pcap(Endian::Big, 0xa1b2_3c4d, 1);
    file.record(1, 2, 3, b"abc").record(4, 5, 6, b"").record(7, 8, 900, &[9; 100]);
    file
}

#[test]
fn a_cut_at_every_byte_leaves_what_was_whole() {
    for file in [pcap(), every_block()] {
        let all = read_all(&mut Reader::new(&file.bytes[..]).unwrap()).unwrap();
        let header_len = file.ends[0].0 as usize;
        for cut in header_len..=file.bytes.len() {
            let whole = file.ends.iter().take_while(|&&(end, _)| end <= cut as u64);
            let (good_offset, _) = *whole.clone().last().unwrap();
            let packets = whole.filter(|&&(_, is_packet)| is_packet).count();

            let mut reader = Reader::new(&file.bytes[..cut]).unwrap();
            assert_eq!(read_all(&mut reader).unwrap(), all[..packets], "cut at {cut}");
            assert_eq!(reader.good_offset(), good_offset, "cut at {cut}");
            if good_offset == cut as u64 {
                assert_eq!(reader.warning(), None, "cut at {cut}");
                continue;
            }
            let next_end = file.ends.iter().find(|&&(end, _)| end > cut as u64).unwrap().0;
            let warning = *reader.warning().expect("cut inside a block");
            assert_eq!((warning.cut_at, warning.good_offset), (cut as u64, good_offset));
            assert_eq!(warning.left, cut as u64 - good_offset);
            assert!(warning.left < warning.needed && warning.needed <= next_end - good_offset);
            if warning.left >= 16 {
                assert_eq!(warning.needed, next_end - good_offset, "cut at {cut}");
            }
        }
    }
}

#[test]
fn a_cut_in_the_first_header_is_an_error() {
    for file in [pcap(), every_block()] {
        assert!(matches!(error(&[]), Error::Empty));
        for cut in 1..file.ends[0].0 {
            match error(&file.bytes[..cut as usize]) {
                Error::HeaderCut { needed, got, .. } => {
                    assert_eq!(got, cut);
                    assert!(needed > cut && needed <= file.ends[0].0, "{needed} at {cut}");
                }
                other => panic!("{other} at {cut}"),
            }
        }
    }
}

#[test]
fn a_warning_says_what_to_do() {
    let warning = Warning { cut_at: 1200, good_offset: 1000, needed: 1500, left: 200 };
    assert_eq!(
        warning.to_string(),
        "the capture is cut at byte 1200: its last record needs 1500 bytes, 200 are left; every \
         packet before byte 1000 is whole, `head -c 1000` of the file keeps them"
    );
}

#[test]
fn foreign_files_are_named() {
    for (magic, format, mend) in [
        (&b"\x1f\x8b\x08\0"[..], "gzip", "gzip -d"),
        (b"\x28\xb5\x2f\xfd", "zstd", "zstd -d"),
        (b"\x5e\x2a\x4d\x18", "skippable", "zstd -d"),
        (b"\xfd7zX", "xz", "xz -d"),
        (b"BZh9", "bzip2", "bzip2 -d"),
        (b"\x04\x22\x4d\x18", "lz4", "lz4 -d"),
        (b"PK\x03\x04", "zip", "decompress"),
        (b"\x34\xcd\xb2\xa1", "Kuznetzov", "editcap"),
        (b"\xa1\xb2\xcd\x34", "Kuznetzov", "editcap"),
        (b"snoop\0\0\0", "snoop", "editcap"),
        (b"hello", "no format known", "68 65 6c 6c"),
    ] {
        let error = error(magic);
        assert!(matches!(error, Error::NotACapture { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains(format) && message.contains(mend), "{message}");
    }
}

#[test]
fn unknown_versions_are_refused() {
    let mut old = pcap().bytes;
    old[7] = 3;
    let old = error(&old);
    assert!(matches!(old, Error::Version { format: "pcap", major: 2, minor: 3, .. }), "{old}");

    let mut first = every_block().bytes;
    first[13] = 2;
    let first = error(&first);
    assert!(matches!(first, Error::Version { format: "pcapng", major: 2, .. }), "{first}");

    let mut file = every_block();
    let offset = file.bytes.len() as u64;
    file.section(Endian::Little, 0, &[]);
    file.bytes[offset as usize + 12] = 9;
    let mut reader = Reader::new(&file.bytes[..]).unwrap();
    let second = read_all(&mut reader).unwrap_err();
    assert!(matches!(second, Error::Version { offset: o, major: 9, .. } if o == offset));
    assert_eq!(reader.good_offset(), offset);
}

#[test]
fn a_wrong_byte_order_magic_is_damage() {
    let mut file = every_block().bytes;
    file[8] = 0;
    let message = error(&file).to_string();
    assert!(message.contains("byte-order magic 0x002b3c4d"), "{message}");
}

#[test]
fn a_pcap_record_longer_than_any_is_damage() {
    let mut file = pcap();
    let offset = file.bytes.len() as u64;
    file.record(0, 0, 0, b"");
    file.bytes[offset as usize + 8] = 0x7f;
    let mut reader = Reader::new(&file.bytes[..]).unwrap();
    for _ in 0..3 {
        assert!(reader.next().unwrap().is_some());
    }
    let error = reader.next().unwrap_err();
    assert!(matches!(error, Error::Malformed { offset: o, .. } if o == offset), "{error}");
    assert!(error.to_string().contains("claims 2130706432 bytes"), "{error}");
}

/// Each lie stands behind a good packet, which must be delivered first.
#[test]
fn blocks_that_contradict_themselves() {
    type Lie = fn(&mut File);
    let lies: [(&str, Lie); 13] = [
        ("packet claims 9 bytes present, its block has room for 8", |f| {
            let head = f.u32s(&[0, 0, 0, 9, 9]);
            f.block(6, &[&head, b"12345678"]);
        }),
        ("packet claims 4294967295 bytes present", |f| {
            let head = f.u32s(&[0, 0, 0, u32::MAX, 9]);
            f.block(6, &[&head, b"12345678"]);
        }),
        ("packet claims 5 bytes present, its block has room for 4", |f| {
            let head = f.u32s(&[0, 0, 0, 5, 9]);
            f.block(2, &[&head, b"1234"]);
        }),
        ("interface 1, its section has described 1", |f| {
            f.packet(1, 0, 0, b"", &[]);
        }),
        ("interface 4294967295, its section has described 1", |f| {
            f.packet(u32::MAX, 0, 0, b"", &[]);
        }),
        ("a packet block has 28 bytes, it needs at least 32", |f| {
            f.block(6, &[&[0; 16]]);
        }),
        ("a simple packet block has 12 bytes, it needs at least 16", |f| {
            f.block(3, &[]);
        }),
        ("an interface description block has 16 bytes, it needs at least 20", |f| {
            f.block(1, &[&[0; 4]]);
        }),
        ("option 9 claims 1 bytes, its block has 0 left", |f| {
            f.interface(1, 0, b"\x09\0\x01\0");
        }),
        ("option 1 claims 65535 bytes", |f| {
            f.block(5, &[&[0; 12], b"\x01\0\xff\xff"]);
        }),
        ("type 0x4 claims 16 bytes at its start, 20 at its end", |f| {
            f.block(4, &[&[0; 4]]);
            let at = f.bytes.len() - 4;
            f.bytes[at] = 20;
        }),
        ("type 0x6 claims 33 bytes", |f| {
            f.packet(0, 0, 0, b"", &[]);
            let at = f.bytes.len() - 28;
            f.bytes[at] = 33;
        }),
        ("type 0x0 claims 0 bytes", |f| f.bytes.extend([0; 64])),
    ];
    for (want, lie) in lies {
        let mut file = File::new(Endian::Little);
        file.section(Endian::Little, u64::MAX, &[]).interface(1, 0, &[]);
        file.packet(0, 0, 0, b"good", &[]);
        let offset = file.bytes.len() as u64;
        lie(&mut file);
        file.bytes.extend([0; 64]);
        let mut reader = Reader::new(&file.bytes[..]).unwrap();
        assert_eq!(reader.next().unwrap().unwrap().data, b"good");
        for _ in 0..2 {
            let error = reader.next().unwrap_err();
            let message = error.to_string();
            assert!(
                matches!(error, Error::Malformed { offset: o, .. } if o == offset),
                "{message}"
            );
            assert!(message.contains(want), "{message} for {want}");
        }
        assert_eq!(reader.good_offset(), offset);
    }
}

#[test]
fn a_length_above_the_bound_is_damage_and_one_below_it_costs_no_memory() {
    for (len, damage) in [(capfile::BLOCK_LEN_MAX as u32 + 4, true), (16 << 20, false)] {
        let mut file = File::new(Endian::Little);
        file.section(Endian::Little, u64::MAX, &[]).block(4, &[]);
        let at = file.bytes.len() - 8;
        file.bytes[at..at + 4].copy_from_slice(&len.to_le_bytes());
        let mut reader = Reader::new(&file.bytes[..]).unwrap();
        assert_eq!(reader.next().is_err(), damage);
        assert_eq!(reader.warning().is_some(), !damage);
    }
}

#[test]
fn interfaces_and_their_options_are_bounded() {
    let mut file = File::new(Endian::Little);
    file.section(Endian::Little, u64::MAX, &[]);
    for _ in 0..=capfile::INTERFACES_MAX {
        file.interface(1, 0, &[]);
    }
    let mut reader = Reader::new(&file.bytes[..]).unwrap();
    let message = reader.next().unwrap_err().to_string();
    assert!(message.contains("more than 262144 interfaces"), "{message}");
    assert_eq!(reader.interfaces().len(), capfile::INTERFACES_MAX);

    // A million options without value: 4 MiB in the file, many times that in memory.
    let mut file = File::new(Endian::Little);
    let options = file.option(5, b"").repeat((1 << 20) + 1);
    file.section(Endian::Little, u64::MAX, &[]).interface(1, 0, &options);
    let message = Reader::new(&file.bytes[..]).unwrap().next().unwrap_err().to_string();
    assert!(message.contains("options of interfaces need more than"), "{message}");
}

/// Reads to the end or the first error; checks that what came before can be kept.
#[expect(clippy::unwrap_used, reason = "a test's own function")]
fn read_damaged(bytes: &[u8]) {
    let Ok(mut reader) = Reader::new(bytes) else { return };
    let mut packets = Vec::new();
    let error = loop {
        match reader.next() {
            Ok(Some(record)) => packets.push(Packet::from(record)),
            Ok(None) => break None,
            Err(error) => break Some(error.to_string()),
        }
        // A record takes at least its 12 bytes, so the end comes in linear time.
        assert!(packets.len() <= bytes.len() / 12);
    };
    let good_offset = reader.good_offset();
    if let Some(error) = error {
        assert_eq!(reader.next().unwrap_err().to_string(), error);
    } else {
        assert_eq!(reader.next().unwrap(), None);
    }
    assert_eq!(reader.good_offset(), good_offset);
    let mut reader = Reader::new(&bytes[..good_offset as usize]).unwrap();
    assert_eq!(read_all(&mut reader).unwrap(), packets);
    assert_eq!(reader.warning(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn mutations_never_panic(
        ng in any::<bool>(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = if ng { every_block() } else { pcap() }.bytes;
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        read_damaged(&bytes);
        read_damaged(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn noise_behind_a_header_never_panics(
        ng in any::<bool>(),
        noise in vec(prop_oneof![Just(0_u8), 0..32_u8, any::<u8>()], 0..400),
    ) {
        let file = if ng { every_block() } else { pcap() };
        let header = &file.bytes[..file.ends[0].0 as usize];
        read_damaged(&[header, &noise].concat());
        read_damaged(&noise);
    }
}

/// Options that contradict themselves cost themselves, not the packet.
#[test]
fn a_packet_outlives_its_options() {
    let mut file = File::new(Endian::Little);
    file.section(Endian::Little, u64::MAX, &[]).interface(1, 0, &[]);
    file.packet(0, 7, 4, b"good", b"\x02\0\x09\0abcd");
    file.packet(0, 8, 4, b"next", &[]);
    let mut reader = Reader::new(&file.bytes[..]).unwrap();
    let record = reader.next().unwrap().unwrap();
    assert_eq!((record.data, record.options.is_empty()), (&b"good"[..], true));
    assert_eq!(reader.next().unwrap().unwrap().data, b"next");
}
