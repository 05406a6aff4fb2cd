//! Adoption: segments that a recorder left behind open are closed.
//!
//! A recorder that is killed leaves `.open` files in the spool. Each that no living writer holds is
//! cut behind its last whole block, gets the statistics that its writer could not add, and the name of
//! a closed one. One without a packet is removed. One that cannot
//! be read is moved aside, never deleted.

use crate::layout::{damaged, parse_open_segment};
use crate::lock;
use crate::name::{Part, SegmentName, SpoolState};
use capfile::{Format, Interface, PcapngWriter, Reader, SectionInfo, Statistics};
use io::Error;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Longest tail that is looked at for whether it is only zeros, bytes: what a file system may have
/// given to the file before the machine lost its power.
const ZEROS_MAX: u64 = 64 << 20;
/// A recorder's section header is shorter.
const HEADER_BYTES_MAX: u64 = 4096;

/// What was found in a spool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Segments that were closed.
    pub segments: u64,
    /// Packets in them.
    pub packets: u64,
    /// Files that cannot be read: where they are now.
    pub damaged: Vec<PathBuf>,
}

/// Adopts what was left behind open in a spool. What a living recorder writes is left alone, and
/// what cannot be renamed now stays for the next time; a warning names it.
///
/// # Errors
/// [`Error::System`] if there is a spool that cannot be listed.
pub fn adopt(spool: &Path) -> Result<Adopted, Error> {
    let mut adopted = Adopted::default();
    let entries = match fs::read_dir(spool) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(adopted);
        }
        entries => entries.and_then(Iterator::collect::<Result<Vec<_>, _>>),
    };
    let entries = entries.map_err(|source| Error::System {
        what: format!("list the open segments in {}", spool.display()),
        source,
        mend: "; choose a folder that you may read",
    })?;
    for path in entries.into_iter().map(|entry| entry.path()) {
        let is_open = path.extension().is_some_and(|extension| extension == "open");
        if is_open && let Err(error) = adopt_one(spool, &path, &mut adopted) {
            tracing::warn!("{}: {error}; it stays where it is", path.display());
        }
    }
    Ok(adopted)
}

fn adopt_one(spool: &Path, path: &Path, adopted: &mut Adopted) -> std::io::Result<()> {
    // A pipe would be read for ever.
    if path.symlink_metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return Err(std::io::Error::other("not a file"));
    }
    let file = match File::options().read(true).write(true).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()), // closed just now
        file => file?,
    };
    if !lock::take(&file, path)? {
        return Ok(());
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let (source, id) = parse_open_segment(name)
        .ok_or_else(|| std::io::Error::other("not the name of an open segment"))?;
    let Some(found) = survey(&file)? else {
        let place = move_aside(spool, path, name)?;
        tracing::warn!(
            "an open segment that was left behind cannot be read; it is now {}",
            place.display()
        );
        adopted.damaged.push(place);
        return Ok(());
    };
    let Some((first_ns, last_ns)) = found.span else {
        return fs::remove_file(path);
    };
    repair(&file, &found)?;
    let name = SegmentName { first_ns, last_ns, id, source: source.into() };
    let target = spool.join(name.spool_file(Part::Plain, SpoolState::Closed));
    if target.exists() {
        return Err(std::io::Error::other(format!("{} is there already", target.display())));
    }
    fs::rename(path, &target)?;
    adopted.segments += 1;
    adopted.packets += found.packets.iter().sum::<u64>();
    Ok(())
}

/// Mends a closed segment at whose end a loss of power has left zeros: it is cut behind its last whole
/// block, and renamed if it has fewer packets then. False if that is not what it lacks.
pub(crate) fn mend(spool: &Path, path: &Path, name: &SegmentName) -> std::io::Result<bool> {
    let file = File::options().read(true).write(true).open(path)?;
    let Some(found) = survey(&file)? else { return Ok(false) };
    let Some((first_ns, last_ns)) = found.span else { return Ok(false) };
    let is_within = name.first_ns <= first_ns && last_ns <= name.last_ns;
    if !is_within || file.metadata()?.len() == found.good_bytes {
        return Ok(false);
    }
    repair(&file, &found)?;
    let name = SegmentName { first_ns, last_ns, ..name.clone() };
    fs::rename(path, spool.join(name.spool_file(Part::Plain, SpoolState::Closed)))?;
    Ok(true)
}

/// What stands in a segment that was left behind.
struct Found {
    /// Offset behind the last whole block.
    good_bytes: u64,
    /// The times of the earliest and the latest packet, if there is any.
    span: Option<(u64, u64)>,
    /// Packets by interface.
    packets: Vec<u64>,
    /// The times of each interface's packets.
    spans: Vec<Option<(u64, u64)>>,
    interfaces: Vec<Interface>,
    /// Whether the statistics that end a segment are missing.
    unfinished: bool,
}

fn join(span: Option<(u64, u64)>, ts_ns: u64) -> Option<(u64, u64)> {
    Some(span.map_or((ts_ns, ts_ns), |(first, last)| (first.min(ts_ns), last.max(ts_ns))))
}

/// Reads a segment to its end; `None` if it is no capture, or is one no further than to a block that
/// makes no sense.
fn survey(file: &File) -> std::io::Result<Option<Found>> {
    let mut found = Found {
        good_bytes: 0,
        span: None,
        packets: Vec::new(),
        spans: Vec::new(),
        interfaces: Vec::new(),
        unfinished: false,
    };
    let mut reader = match Reader::new(file) {
        Ok(reader) => reader,
        Err(capfile::Error::Io { source, .. }) => return Err(source),
        // Killed before the header was in the file.
        Err(capfile::Error::Empty | capfile::Error::HeaderCut { .. })
            if file.metadata()?.len() < HEADER_BYTES_MAX =>
        {
            return Ok(Some(found));
        }
        Err(_) => return Ok(None),
    };
    loop {
        match reader.advance() {
            Ok(true) => {
                let record = reader.record().expect("advance says so");
                let interface = record.interface as usize;
                if found.packets.len() <= interface {
                    found.packets.resize(interface + 1, 0);
                    found.spans.resize(interface + 1, None);
                }
                found.packets[interface] += 1;
                found.spans[interface] = join(found.spans[interface], record.ts_ns);
                found.span = join(found.span, record.ts_ns);
            }
            Ok(false) => break,
            Err(capfile::Error::Io { source, .. }) => return Err(source),
            Err(_) if is_zero_from(file, reader.good_offset())? => break,
            Err(_) => return Ok(None),
        }
    }
    found.good_bytes = reader.good_offset();
    found.interfaces = reader.interfaces().to_vec();
    let told = (0..found.packets.len() as u32).all(|n| reader.statistics(n).is_some());
    found.unfinished = reader.format() == Format::Pcapng && !told;
    Ok(Some(found))
}

/// Whether only zeros follow.
fn is_zero_from(mut file: &File, offset: u64) -> std::io::Result<bool> {
    file.seek(SeekFrom::Start(offset))?;
    let mut buffer = vec![0; 64 << 10];
    let mut left = ZEROS_MAX;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(true),
            len if buffer[..len].iter().any(|&byte| byte != 0) => return Ok(false),
            len => left = left.saturating_sub(len as u64),
        }
        if left == 0 {
            return Ok(false);
        }
    }
}

/// Cuts the file behind its last whole block and adds the statistics of its interfaces.
fn repair(mut file: &File, found: &Found) -> std::io::Result<()> {
    if file.metadata()?.len() > found.good_bytes {
        file.set_len(found.good_bytes)?;
    }
    if found.unfinished
        && let Ok(blocks) = statistics(found)
    {
        file.seek(SeekFrom::Start(found.good_bytes))?;
        if let Err(error) = file.write_all(&blocks) {
            // Without them it is whole too.
            file.set_len(found.good_bytes)?;
            tracing::debug!("no statistics in an adopted segment: {error}");
        }
    }
    Ok(())
}

/// The statistics blocks of a file's interfaces: a writer that knows as many makes them.
fn statistics(found: &Found) -> Result<Vec<u8>, capfile::Error> {
    let mut writer = PcapngWriter::new(Vec::new(), &SectionInfo::default())?;
    for interface in &found.interfaces {
        writer.add_interface(&Interface::new(interface.link_type))?;
    }
    writer.get_mut().clear();
    for (interface, (&packets, span)) in (0..).zip(found.packets.iter().zip(&found.spans)) {
        let statistics = Statistics {
            start_ns: span.map(|(first, _)| first),
            end_ns: span.map(|(_, last)| last),
            delivered: Some(packets),
            comment: Some("its recorder ended before it was closed; counted again since".into()),
            ..Statistics::default()
        };
        writer.write_stats(interface, &statistics)?;
    }
    Ok(writer.into_inner())
}

/// Moves a file that cannot be read to a folder of such, under a name that is free.
fn move_aside(spool: &Path, path: &Path, name: &str) -> std::io::Result<PathBuf> {
    let folder = damaged(spool);
    fs::create_dir_all(&folder)?;
    let name = name.strip_suffix(".open").unwrap_or(name);
    let place = folder.join(name);
    if place.exists() {
        return Err(std::io::Error::other(format!("{} is there already", place.display())));
    }
    fs::rename(path, &place)?;
    Ok(place)
}
