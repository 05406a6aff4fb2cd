//! What must hold at the demo's end, judged by reading the files again.

use super::traffic::Done;
use crate::failure::Failure;
use api::Stats;
use capfile::Reader;
use std::path::{Path, PathBuf};
use wire::LinkType;
use wire::walk::Walk;

/// One segment, read again.
pub struct SegmentFile {
    pub path: PathBuf,
    pub packets: u64,
    /// What the reader said of a file that is not whole.
    fault: Option<String>,
}

/// All segments, read again.
pub struct ReadBack {
    pub files: Vec<SegmentFile>,
    /// HTTP requests in them.
    requests: u64,
    /// Packets that the filter should have kept out.
    strangers: u64,
}

/// Reads every segment of an archive.
pub fn read_back(archive: &Path) -> Result<ReadBack, Failure> {
    let mut read = ReadBack { files: Vec::new(), requests: 0, strangers: 0 };
    let mut paths = Vec::new();
    find(archive, &mut paths)
        .map_err(|e| Failure::CouldNot(format!("read {}: {e}", archive.display())))?;
    paths.sort();
    for path in paths {
        let (packets, fault) = match read_segment(&path, &mut read) {
            Ok((packets, warning)) => (packets, warning),
            Err(error) => (0, Some(error.to_string())),
        };
        read.files.push(SegmentFile { path, packets, fault });
    }
    Ok(read)
}

fn find(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

fn read_segment(
    path: &Path,
    read: &mut ReadBack,
) -> Result<(u64, Option<String>), Box<dyn std::error::Error>> {
    let mut reader = Reader::new(std::fs::File::open(path)?)?;
    let mut packets = 0;
    while let Some(record) = reader.next()? {
        packets += 1;
        let walk = Walk::new(LinkType::ETHERNET, record.data);
        let ports = walk.ports(record.data);
        read.strangers += u64::from(!ports.is_some_and(|(src, dst)| src == 80 || dst == 80));
        read.requests += u64::from(walk.payload(record.data).starts_with(b"GET /"));
    }
    Ok((packets, reader.warning().map(ToString::to_string)))
}

/// What is not as it should be; empty if all is well.
pub fn faults(done: &Done, mirror: &Stats, sink: &Stats, read: &ReadBack) -> Vec<String> {
    let mut faults = Vec::new();
    let mut expect = |holds: bool, fault: String| {
        if !holds {
            faults.push(fault);
        }
    };
    expect(done.requests > 0, "the client downloaded nothing".into());
    let unaccounted = mirror.unaccounted + sink.unaccounted;
    expect(unaccounted == 0, format!("the ledger does not balance: {unaccounted} packets"));
    let in_files: u64 = read.files.iter().map(|file| file.packets).sum();
    expect(
        in_files == sink.written,
        format!("the sink wrote {} packets, the files hold {in_files}", sink.written),
    );
    for file in &read.files {
        let fault = file.fault.clone().unwrap_or_default();
        expect(file.fault.is_none(), format!("{}: {fault}", file.path.display()));
    }
    expect(read.strangers == 0, format!("{} packets are not HTTP traffic", read.strangers));
    // A lost packet may have been a request: it then has a name in the ledger.
    let lost =
        mirror.drops.total() + sink.drops.total() + mirror.sent.saturating_sub(sink.received);
    expect(
        lost > 0 || read.requests == done.requests,
        format!("the client made {} requests, the files hold {}", done.requests, read.requests),
    );
    faults
}
