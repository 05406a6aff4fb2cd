//! The numbers of a [`crate::Generator`]'s packets, found again in capture files.

use crate::frames::for_each_record;
use crate::generator::MAGIC;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Bytes at a packet's front within which the magic must begin: all headers and a tunnel's.
const HEADERS_BYTES_MAX: usize = 256;

/// How the names of capture files end.
const ENDINGS: [&str; 5] =
    [".pcap", ".pcapng", ".pcapng.closed", ".pcapng.zst.sealed", ".pcapng.zst"];

/// Reads the sequence numbers out of a capture file, pcap or pcapng, in the file's order, whatever
/// headers stand before them. Packets without a number, or cut before its end, are passed over.
///
/// # Panics
/// If the file cannot be read, or ends inside a record.
pub fn numbers_in(path: impl AsRef<Path>) -> Vec<u64> {
    let mut numbers = Vec::new();
    for_each_record(path.as_ref(), |record| numbers.extend(number_of(record.data)));
    numbers
}

/// The capture files below a folder (`.pcap`, `.pcapng`, an archive's closed and sealed segments), at
/// any depth, sorted by path: in an archive that is each source's order of time.
///
/// # Panics
/// If a folder cannot be read.
pub fn capture_files(folder: impl AsRef<Path>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.as_ref().to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        for entry in entries.map(|entry| entry.expect("a folder that opens can be read")) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if ENDINGS.iter().any(|ending| path.to_string_lossy().ends_with(ending)) {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The numbers of `0..sent` that are not there, ascending.
pub fn missing(numbers: &[u64], sent: u64) -> Vec<u64> {
    let counts = counts(numbers);
    (0..sent).filter(|number| !counts.contains_key(number)).collect()
}

/// The numbers that are there more than once, ascending, each once.
pub fn duplicates(numbers: &[u64]) -> Vec<u64> {
    counts(numbers).into_iter().filter(|&(_, count)| count > 1).map(|(number, _)| number).collect()
}

/// The numbers that stand behind a greater one, in file order.
pub fn reordered(numbers: &[u64]) -> Vec<u64> {
    let mut greatest = 0;
    let late = numbers.iter().copied().filter(|&number| {
        let is_late = number < greatest;
        greatest = greatest.max(number);
        is_late
    });
    late.collect()
}

fn counts(numbers: &[u64]) -> BTreeMap<u64, usize> {
    let mut counts = BTreeMap::new();
    for &number in numbers {
        *counts.entry(number).or_default() += 1;
    }
    counts
}

fn number_of(packet: &[u8]) -> Option<u64> {
    let front = &packet[..packet.len().min(HEADERS_BYTES_MAX + MAGIC.len())];
    let at = front.windows(MAGIC.len()).position(|window| window == MAGIC)?;
    let number = packet.get(at + MAGIC.len()..)?.first_chunk()?;
    Some(u64::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scratch;
    use crate::generator::payload;
    use std::fs::File;

    #[test]
    fn what_is_wrong_with_a_sequence_is_named() {
        let numbers = [0, 2, 1, 2, 5, 4];
        assert_eq!(missing(&numbers, 7), [3, 6]);
        assert_eq!(duplicates(&numbers), [2]);
        assert_eq!(reordered(&numbers), [1, 4]);
        assert_eq!((missing(&[], 0), duplicates(&[]), reordered(&[])), (vec![], vec![], vec![]));
    }

    #[test]
    fn a_number_is_found_behind_any_headers_and_not_if_it_is_cut() {
        for headers in [0, 42, 92, HEADERS_BYTES_MAX] {
            let mut packet = vec![0x45; headers];
            packet.extend(payload(1 << 40, 60));
            assert_eq!(number_of(&packet), Some(1 << 40), "{headers}");
            assert_eq!(number_of(&packet[..headers + 15]), None, "{headers}");
        }
        assert_eq!(number_of(&[0; 100]), None);
    }

    #[test]
    fn both_formats_are_read_in_the_file_s_order() {
        let scratch = Scratch::new("rig-numbers");
        let folder = scratch.folder();
        fs::create_dir(folder.join("deep")).unwrap();
        let packets: Vec<_> = [3, 1, 2].map(|n| payload(n, 64)).into();

        let pcapng = File::create(folder.join("deep/b.pcapng")).unwrap();
        let mut pcapng =
            capfile::PcapngWriter::new(pcapng, &capfile::SectionInfo::default()).unwrap();
        let interface = capfile::Interface::new(capfile::LINKTYPE_ETHERNET);
        let interface = pcapng.add_interface(&interface).unwrap();
        for packet in &packets {
            pcapng.write(interface, 1, 64, capfile::Direction::In, packet, None).unwrap();
        }
        drop(pcapng);
        fs::write(folder.join("a.txt"), "no capture").unwrap();

        let files = capture_files(folder);
        assert_eq!(files, [folder.join("deep/b.pcapng")]);
        assert_eq!(numbers_in(&files[0]), [3, 1, 2]);
    }
}
