//! Capture files with random damage: what can be read of them is copied, whatever it says.

#[path = "../../capfile/tests/reading/by_hand.rs"]
#[allow(dead_code, reason = "it builds more than is damaged here")]
mod by_hand;
mod recording;

use archive::{Layout, Recorder, RecorderOptions, Rotation};
use capfile::{Direction, Reader};
use io::file::FileSource;
use io::{Arrival, Batch, Interfaces, Now, Selection, Sink, Source, Upstream};
use proptest::prelude::*;
use recording::Folder;
use std::io::Cursor;

/// What a copy keeps of a packet.
type Kept = (u64, u32, Direction, Vec<u8>, u16);

/// The packets before the damage; `None` if there is nothing that can be read.
fn readable(bytes: &[u8]) -> Option<Vec<Kept>> {
    let mut reader = Reader::new(bytes).ok()?;
    let mut packets = Vec::new();
    while let Ok(true) = reader.advance() {
        let record = reader.record().expect("advance says so");
        let link_type = reader.interfaces()[record.interface as usize].link_type;
        let data = record.data.to_vec();
        packets.push((record.ts_ns, record.origlen, record.direction, data, link_type));
    }
    Some(packets)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn what_can_be_read_of_a_damaged_file_is_copied(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = by_hand::every_block().bytes;
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let wanted = readable(&bytes);
        let interfaces = Interfaces::default();
        let Ok(mut source) = FileSource::new("X", Box::new(Cursor::new(bytes)), &interfaces) else {
            prop_assert_eq!(wanted, None);
            return Ok(());
        };

        let folder = Folder::new();
        let path = folder.0.join("copy.pcapng");
        let first = source.interface_ids().first().copied();
        let (layout, rotation) = (Layout::File(path.clone()), Rotation::default());
        let options = RecorderOptions { layout, rotation, unbuffered: false, first, budget: None, waker: None };
        let mut recorder = Recorder::new(options, &interfaces, Now::read()).expect("the folder can be written to");
        let mut batch = Batch::new();
        while let Ok(arrival) = source.receive(&mut batch) {
            if arrival == Arrival::End {
                break;
            }
        }
        let all: Vec<u32> = (0..batch.len() as u32).collect();
        recorder.send(Selection::new(batch.packets(), &all));
        recorder.finish(&Upstream::default()).expect("there is room");
        let counters = recorder.counters();
        prop_assert_eq!((counters.sent, counters.drops.total()), (all.len() as u64, 0));
        let copy = std::fs::read(&path).expect("the copy is there");
        prop_assert_eq!(readable(&copy), wanted);
    }
}
