//! What the sinks left, read again: packets, and the connections in them.
//!
//! Both sinks ship into one archive. Whose a segment is its manifest says, where each sink writes a
//! chain of its own.

use super::plan::{CLIENTS, SERVER, client_address, source_name};
use super::stream::{Piece, Stream};
use crate::failure::Failure;
use archive::SegmentName;
use archive::manifest::{Entry, Event};
use capfile::Reader;
use io::file::decompressed;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use wire::LinkType;
use wire::walk::{TransportKind, Walk, protocol};

/// All segments of one sink.
#[derive(Default)]
pub struct Archive {
    pub segments: Vec<Segment>,
    /// Connections between clients and server, by client and its port.
    pub connections: BTreeMap<(usize, u16), Conversation>,
    /// Packets that the taps should not have mirrored, or that stand in another source's segment.
    pub strangers: u64,
    /// HTTP requests.
    pub requests: u64,
}

/// One segment.
pub struct Segment {
    pub path: PathBuf,
    /// Whose it is: `vxlan-71-10.71.2.1`.
    pub source: String,
    /// Its process was killed before it could close it, and no other has done so.
    pub is_open: bool,
    /// It is closed, and not in the store.
    pub is_left: bool,
    pub packets: u64,
    /// Of them, those that came before the moment that was asked about.
    pub packets_before: u64,
    pub bytes: u64,
    /// What the reader said of a file that is not whole.
    pub fault: Option<String>,
}

/// Both directions of a connection.
#[derive(Default)]
pub struct Conversation {
    pub up: Stream,
    pub down: Stream,
}

impl Archive {
    /// Packets in its files.
    pub fn packets(&self) -> u64 {
        self.segments.iter().map(|segment| segment.packets).sum()
    }

    /// Packets that came before the moment that was asked about.
    pub fn packets_before(&self) -> u64 {
        self.segments.iter().map(|segment| segment.packets_before).sum()
    }

    /// Reads every segment that a sink has shipped to a store, whose objects are files, or has left in
    /// its spool; counts apart what came before a moment.
    pub fn read(objects: &Path, spool: &Path, before_ns: u64) -> Result<Archive, Failure> {
        let failed = |e: std::io::Error| {
            Failure::CouldNot(format!("read {} and {}: {e}", objects.display(), spool.display()))
        };
        let mut paths = left_in(spool).map_err(failed)?;
        paths.extend(shipped(objects, spool).map_err(failed)?);
        // By source, and by time: a connection may go on in the next segment.
        paths.sort_by_cached_key(|path| (source_of(path), id_of(path)));
        let mut read = Archive::default();
        for path in paths {
            let source = source_of(&path);
            let is_open = path.extension().is_some_and(|extension| extension == "open");
            let is_left = !is_open && path.starts_with(spool);
            let bytes = path.metadata().map_err(failed)?.len();
            let (packets, packets_before, fault) = (0, 0, None);
            let mut segment =
                Segment { path, source, is_open, is_left, packets, packets_before, bytes, fault };
            let client = (0..CLIENTS).find(|&client| source_name(client) == segment.source);
            if let Err(error) = read.segment(client, &mut segment, before_ns) {
                segment.fault = Some(error.to_string());
            }
            read.segments.push(segment);
        }
        Ok(read)
    }

    /// Reads a capture of one client's traffic.
    pub fn of_capture(path: &Path, client: usize) -> Result<Archive, Box<dyn std::error::Error>> {
        let mut segment = Segment {
            path: path.into(),
            source: source_name(client),
            is_open: false,
            is_left: false,
            packets: 0,
            packets_before: 0,
            bytes: path.metadata()?.len(),
            fault: None,
        };
        let mut read = Archive::default();
        read.segment(Some(client), &mut segment, 0)?;
        read.segments.push(segment);
        Ok(read)
    }

    fn segment(
        &mut self,
        client: Option<usize>,
        segment: &mut Segment,
        before_ns: u64,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let file = std::fs::File::open(&segment.path)?;
        let mut reader =
            Reader::new(decompressed(&segment.path.display().to_string(), Box::new(file))?)?;
        while let Some(record) = reader.next()? {
            segment.packets += 1;
            segment.packets_before += u64::from(record.ts_ns < before_ns);
            self.packet(client, record.data);
        }
        segment.fault = reader.warning().map(ToString::to_string);
        Ok(())
    }

    fn packet(&mut self, client: Option<usize>, frame: &[u8]) {
        let walk = Walk::new(LinkType::ETHERNET, frame);
        let Some((client, packet)) = client.zip(HttpPacket::of(&walk, frame)) else {
            self.strangers += 1;
            return;
        };
        if packet.client != IpAddr::V4(client_address(client)) {
            self.strangers += 1;
            return;
        }
        self.requests += u64::from(packet.piece.payload.starts_with(b"GET /"));
        let both = self.connections.entry((client, packet.port)).or_default();
        let one = if packet.up { &mut both.up } else { &mut both.down };
        one.add(&packet.piece);
    }
}

/// A packet between a client and the server's HTTP port.
struct HttpPacket<'a> {
    client: IpAddr,
    port: u16,
    /// From client to server.
    up: bool,
    piece: Piece<'a>,
}

impl<'a> HttpPacket<'a> {
    fn of(walk: &Walk, frame: &'a [u8]) -> Option<HttpPacket<'a>> {
        let tuple = walk.five_tuple(frame).filter(|tuple| tuple.protocol == protocol::TCP)?;
        let transport = walk.transport.filter(|t| t.kind == TransportKind::Tcp)?;
        let (from, to) = tuple.ports?;
        let server = IpAddr::V4(SERVER);
        let (client, port, up) = match () {
            () if (tuple.dst, to) == (server, 80) => (tuple.src, from, true),
            () if (tuple.src, from) == (server, 80) => (tuple.dst, to, false),
            () => return None,
        };
        // RFC 9293 section 3.1: sequence number at 4, flags at 13.
        let header = frame.get(transport.at as usize..)?.first_chunk::<14>()?;
        let sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let (fin, syn) = (header[13] & 0x01 != 0, header[13] & 0x02 != 0);
        let piece = Piece { sequence, syn, fin, payload: walk.payload(frame) };
        Some(HttpPacket { client, port, up, piece })
    }
}

/// The captures in a spool.
fn left_in(spool: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(spool) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.path())),
    };
    let is_capture = |path: &PathBuf| path.to_string_lossy().contains(".pcapng");
    entries.filter(|path| path.as_ref().map_or(true, is_capture)).collect()
}

/// The segments that the chain of a sink's archiver names.
fn shipped(objects: &Path, spool: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut shipped = Vec::new();
    let Ok(writer) = std::fs::read_to_string(spool.join("writer")) else { return Ok(shipped) };
    let chain = objects.join(archive::manifest::FOLDER).join(writer.trim());
    let entries = match std::fs::read_dir(&chain) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(shipped),
        entries => entries?,
    };
    for entry in entries {
        for line in std::fs::read_to_string(entry?.path())?.lines() {
            if let Event::Stored(record) = serde_json::from_str::<Entry>(line)?.event {
                shipped.push(objects.join(record.object));
            }
        }
    }
    Ok(shipped)
}

/// The source that a segment's folder names; or, in a spool, its own name.
fn source_of(path: &Path) -> String {
    let folder = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if let Some(source) = folder.strip_prefix("source=") {
        return source.into();
    }
    match (SegmentName::parse_spool_file(&name), name.rsplit_once('-')) {
        (Some((segment, ..)), _) => segment.source,
        // <source>-<ulid>.pcapng.open
        (None, Some((source, _))) => source.into(),
        (None, None) => name.into_owned(),
    }
}

/// The id that ends a segment's name, open or closed: a ULID, so in the order in which they were made.
fn id_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.rsplit('-').next().unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_source_and_order() {
        let stored = Path::new("d/hour=13/source=vxlan-71-10.71.2.1/2026Z-2026Z-01B.pcapng.zst");
        let open = Path::new("d/vxlan-71-10.71.2.1-01A.pcapng.open");
        let name = SegmentName {
            first_ns: 0,
            last_ns: 1,
            id: "01BX5ZZKBKACTAV9WEVGEMMVRZ".parse().unwrap(),
            source: "vxlan-71-10.71.2.1".into(),
        };
        let closed =
            Path::new("d").join(name.spool_file(archive::Part::Plain, archive::SpoolState::Closed));
        assert_eq!([stored, open, &closed].map(source_of), ["vxlan-71-10.71.2.1"; 3]);
        assert!(id_of(open) < id_of(stored));
    }
}
