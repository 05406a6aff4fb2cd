//! A capture file that is being written, with a count of what became of each packet.
//!
//! Packets are gathered in a buffer and counted as held until the buffer is in the file. When it
//! cannot be written, the file is cut back to where it is good (in pcapng behind the last whole packet
//! that had room), the other packets of the buffer are counted as dropped, and writing goes on when
//! there is room again.
//!
//! A pcapng file that has much to write is written directly: several buffers may then be on their way. When one of them cannot be written, this and those behind it take the way
//! through the page cache, as does the rest of the file.

use crate::device::Upstream;
use crate::error::Error;
use crate::file::direct::{DIRECT_BYTES, Direct, Lanes};
use crate::file::encoder::{Encoder, FileFormat};
use crate::file::gathered::{Gathered, reason};
use crate::file::origins::{LOADS, Origin, OriginCounters, Origins, Written};
use crate::interface::{Interface, Interfaces};
use crate::packet::{InterfaceId, Outer, Packet};
use api::DropReason;
use capfile::Statistics;
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;
use wire::LinkType;

/// Bytes gathered before they are written through the page cache.
const BUFFER_BYTES: usize = 256 << 10;
/// Flushes without a full buffer in between after which a file gives its direct writes up.
const QUIET_FLUSHES: u32 = 8;

/// A capture file that is being written.
pub struct FileWriter {
    output: Output,
    format: FileFormat,
    encoder: Encoder,
    interfaces: Interfaces,
    origins: Origins,
    /// Bytes at the buffer's front that are not the file's: they align the others.
    lead: usize,
    /// Where the buffer describes interfaces: that is kept when the packets are given up.
    descriptions: Vec<Range<usize>>,
    /// Under which load the buffer's packets are counted.
    load: usize,
    /// Length at which the buffer is written.
    full_bytes: usize,
    /// Bytes in the file.
    file_bytes: u64,
    lanes: Option<Lanes>,
    direct: Option<Direct>,
    /// A flush was asked for while a direct write was on its way.
    flush_due: bool,
    quiet_flushes: u32,
    closed: bool,
    /// Why the last write of the file failed, until one succeeds.
    trouble: Option<DropReason>,
    /// Whether it was said that some packets do not fit the format.
    refusal_told: bool,
}

enum Output {
    File(File),
    Stream(Box<dyn Write + Send>),
}

impl FileWriter {
    /// Creates a file, or replaces it. `first` is the interface that an empty file names.
    ///
    /// # Errors
    /// [`Error::System`] if the file cannot be created or has no room for its header.
    pub fn create(
        path: &Path,
        format: FileFormat,
        interfaces: &Interfaces,
        first: Option<InterfaceId>,
    ) -> Result<FileWriter, Error> {
        let file = File::create(path).map_err(|e| unwritable(path, e))?;
        FileWriter::over(file, path, format, interfaces, first)
    }

    /// Finds out whether a file can be replaced, or has a folder to be created in, and leaves all as it
    /// is: for who opens several, of which none is to be lost for the sake of another.
    ///
    /// # Errors
    /// [`Error::System`] if it is clear that it cannot.
    pub fn check(path: &Path) -> Result<(), Error> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let found = match path.metadata() {
            Ok(metadata) if metadata.is_file() || metadata.is_dir() => {
                File::options().write(true).open(path).map(drop)
            }
            // Opening a pipe would wait for its reader.
            Ok(_) => Ok(()),
            Err(_) => folder.unwrap_or(Path::new(".")).metadata().map(drop),
        };
        found.map_err(|error| unwritable(path, error))
    }

    /// Writes to an empty file that is open; `path` is where it stands. Without room for its header
    /// it is no capture and is removed.
    ///
    /// # Errors
    /// [`Error::System`] if the header cannot be written.
    pub fn over(
        file: File,
        path: &Path,
        format: FileFormat,
        interfaces: &Interfaces,
        first: Option<InterfaceId>,
    ) -> Result<FileWriter, Error> {
        // What cannot be cut back (a pipe, a device) is written like a stream.
        let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
        let output = match is_file {
            true => Output::File(file),
            false => Output::Stream(Box::new(file)),
        };
        FileWriter::new(output, format, interfaces, first).map_err(|error| {
            if is_file {
                let _ = std::fs::remove_file(path);
            }
            unwritable(path, error)
        })
    }

    /// Writes to standard output or another stream.
    ///
    /// # Errors
    /// [`Error::System`] if the header cannot be written.
    pub fn stream(
        stream: Box<dyn Write + Send>,
        format: FileFormat,
        interfaces: &Interfaces,
        first: Option<InterfaceId>,
    ) -> Result<FileWriter, Error> {
        FileWriter::new(Output::Stream(stream), format, interfaces, first)
            .map_err(|e| Error::system("write the capture's header", e))
    }

    fn new(
        output: Output,
        format: FileFormat,
        interfaces: &Interfaces,
        first: Option<InterfaceId>,
    ) -> io::Result<FileWriter> {
        let encoder = Encoder::new(format, Vec::with_capacity(2 * BUFFER_BYTES))?;
        let mut writer = FileWriter {
            output,
            format,
            encoder,
            interfaces: interfaces.clone(),
            origins: Origins::default(),
            lead: 0,
            descriptions: Vec::new(),
            load: 0,
            full_bytes: BUFFER_BYTES,
            file_bytes: 0,
            lanes: None,
            direct: None,
            flush_due: false,
            quiet_flushes: 0,
            closed: false,
            trouble: None,
            refusal_told: false,
        };
        if let Some(first) = first {
            writer.describe((first, None));
        }
        writer.write_buffer()?;
        Ok(writer)
    }

    /// Takes a packet. It is held until the buffer is written; what fails is counted.
    #[inline]
    pub fn write(&mut self, packet: &Packet) {
        let origin = (packet.meta.interface, packet.meta.outer);
        let place = self.origins.find(origin).unwrap_or_else(|| self.describe(origin));
        self.origins.received(place);
        if self.closed {
            return self.origins.dropped(place, DropReason::Stopped);
        }
        match self.encoder.encode(place, packet) {
            Ok(()) => self.origins.held(place, self.load, packet.meta.ts_ns, packet.caplen()),
            Err((reason, error)) => {
                if !std::mem::replace(&mut self.refusal_told, true) {
                    tracing::error!("capture file: {error}; such packets are dropped and counted");
                }
                self.origins.dropped(place, reason);
            }
        }
        if self.encoder.buffer().len() >= self.full_bytes {
            self.write_full();
        }
    }

    /// Lets the file be written directly, when it has much to write and there is a lane for it.
    pub fn use_lanes(&mut self, lanes: &Lanes) {
        self.lanes = Some(lanes.clone());
    }

    /// Brings what is held into the file; behind a direct write that is on its way as soon as that has
    /// ended ([`Self::poll`]).
    pub fn flush(&mut self) {
        self.poll();
        if self.direct.is_none() {
            return self.flush_through_cache();
        }
        self.flush_due = !self.is_idle();
        if self.flush_due {
            return;
        }
        self.quiet_flushes += 1;
        match self.gathered_bytes() {
            0 => {}
            len if len as usize >= BUFFER_BYTES => self.write_directly(),
            _ => self.flush_through_cache(),
        }
        if self.quiet_flushes >= QUIET_FLUSHES && self.is_idle() {
            self.leave_lane();
        }
    }

    /// Looks what became of direct writes, and does what had to wait for them. To be called often; it
    /// costs no system call.
    pub fn poll(&mut self) {
        while self.look_at_direct_write(false) {}
        if self.flush_due && self.is_idle() {
            self.flush_due = false;
            self.flush();
        }
    }

    /// Brings the buffer into the file through the page cache.
    fn flush_through_cache(&mut self) {
        if self.gathered_bytes() == 0 && !self.closed {
            return; // that nothing can be written proves nothing
        }
        let result = self.write_buffer();
        self.settle(self.load, &result);
    }

    /// Counts what became of a buffer.
    fn settle(&mut self, load: usize, result: &io::Result<()>) {
        let lost = result.as_ref().err().map(reason);
        self.origins.settle(load, lost);
        match result {
            Ok(()) => self.recovered(),
            Err(error) => {
                self.report(error);
                self.trouble = lost;
            }
        }
    }

    /// Writes the buffer that is full.
    #[cold]
    fn write_full(&mut self) {
        self.quiet_flushes = 0;
        if self.direct.is_some() {
            return self.write_directly();
        }
        self.flush_through_cache();
        if self.trouble.is_none()
            && self.format == FileFormat::Pcapng
            && let (Some(lanes), Output::File(file)) = (&self.lanes, &self.output)
            && let Some(direct) = Direct::begin(file, lanes)
        {
            self.go_direct(direct);
        }
    }

    /// Takes up direct writes.
    fn go_direct(&mut self, mut direct: Direct) {
        let (buffer, lead) = direct.buffer();
        let mut gathered = Gathered { buffer, lead, load: self.load, ..Gathered::default() };
        gathered.prepend(&self.gathered());
        self.put_back(gathered);
        self.full_bytes = lead + DIRECT_BYTES;
        self.direct = Some(direct);
    }

    /// Gives the buffer to the kernel. Waits only if all other buffers wait, too.
    fn write_directly(&mut self) {
        while self.direct.as_ref().is_some_and(Direct::is_full) {
            self.look_at_direct_write(true);
        }
        let Some(mut direct) = self.direct.take() else {
            return self.flush_through_cache();
        };
        // Behind a write through the page cache the file ends anywhere.
        if direct.is_idle() {
            let missing = direct.missing(self.file_bytes);
            if missing > 0 && !self.align(&direct, missing) {
                self.direct = Some(direct);
                return self.leave_lane();
            }
        }
        self.encoder.pad(direct.missing(self.gathered_bytes()));
        let gathered = self.gathered();
        if !direct.takes(&gathered) {
            // A buffer that had to grow for one packet.
            self.put_back(gathered);
            self.direct = Some(direct);
            return self.leave_lane();
        }
        direct.push(gathered);
        let (buffer, lead) = direct.buffer();
        let load = (self.load + 1) % LOADS;
        self.put_back(Gathered { buffer, lead, descriptions: Vec::new(), load });
        self.full_bytes = lead + DIRECT_BYTES;
        let started = direct.start(self.file_bytes);
        self.direct = Some(direct);
        if let Err(error) = started {
            self.fall_back(None, &error);
        }
    }

    /// Pads the file to where a direct write may begin; false if that has no room.
    fn align(&mut self, direct: &Direct, missing: usize) -> bool {
        let mut padding = Encoder::padding(missing);
        let Output::File(file) = &self.output else { return false };
        let (grown, result) = padding.write(file, self.file_bytes, self.format, &mut self.origins);
        self.file_bytes += grown;
        debug_assert!(result.is_err() || direct.missing(self.file_bytes) == 0);
        result.is_ok()
    }

    /// Looks whether a direct write has ended, or waits for it; false if none has.
    fn look_at_direct_write(&mut self, wait: bool) -> bool {
        let Some(direct) = &mut self.direct else { return false };
        let Some(ended) = direct.ended(wait) else { return false };
        let load = ended.gathered.load;
        match ended.result {
            Ok(()) => {
                self.file_bytes += ended.gathered.bytes().len() as u64;
                direct.recycle(ended.gathered);
                let started = direct.start(self.file_bytes);
                self.settle(load, &Ok(()));
                if let Err(error) = started {
                    self.fall_back(None, &error);
                }
            }
            Err(error) => self.fall_back(Some(ended.gathered), &error),
        }
        true
    }

    /// Writes what the kernel did not take through the page cache: from now on the file's way.
    #[cold]
    fn fall_back(&mut self, failed: Option<Gathered>, error: &io::Error) {
        tracing::debug!(
            "a direct write failed: {error}; the file is written through the page cache"
        );
        let Some(mut direct) = self.direct.take() else { return };
        self.lanes = None;
        let mut left = Gathered::default();
        for mut gathered in failed.into_iter().chain(direct.take_waiting()) {
            gathered.prepend(&left);
            let result = match &self.output {
                Output::File(file) => {
                    let (grown, result) =
                        gathered.write(file, self.file_bytes, self.format, &mut self.origins);
                    self.file_bytes += grown;
                    result
                }
                Output::Stream(_) => Err(io::ErrorKind::Unsupported.into()),
            };
            self.settle(gathered.load, &result);
            left = gathered;
        }
        let mut gathered = self.gathered();
        gathered.prepend(&left);
        self.put_back(gathered);
        self.direct = Some(direct);
        self.leave_lane();
    }

    /// Ends direct writes once all of them have ended, and gives their buffers to other files.
    fn leave_lane(&mut self) {
        while self.look_at_direct_write(true) {}
        let Some(mut direct) = self.direct.take() else { return };
        self.flush_through_cache();
        let buffer = Vec::with_capacity(2 * BUFFER_BYTES);
        let mut new = Gathered { buffer, load: self.load, ..Gathered::default() };
        let old = self.gathered();
        new.prepend(&old);
        direct.recycle(old);
        self.put_back(new);
        self.full_bytes = BUFFER_BYTES;
        self.quiet_flushes = 0;
    }

    /// Whether no direct write is on its way.
    fn is_idle(&self) -> bool {
        self.direct.as_ref().is_none_or(Direct::is_idle)
    }

    /// Bytes in the buffer.
    fn gathered_bytes(&self) -> u64 {
        (self.encoder.buffer().len() - self.lead) as u64
    }

    /// Takes the buffer with what belongs to it.
    fn gathered(&mut self) -> Gathered {
        Gathered {
            buffer: std::mem::take(self.encoder.buffer_mut()),
            lead: self.lead,
            descriptions: std::mem::take(&mut self.descriptions),
            load: self.load,
        }
    }

    /// Puts a buffer to where packets are gathered.
    fn put_back(&mut self, gathered: Gathered) {
        *self.encoder.buffer_mut() = gathered.buffer;
        self.lead = gathered.lead;
        self.descriptions = gathered.descriptions;
        self.load = gathered.load;
    }

    /// Why packets are being lost, if the last write failed.
    pub fn trouble(&self) -> Option<DropReason> {
        self.trouble
    }

    /// Notes that the file can be written again, if it could not.
    pub fn recovered(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!("the capture file can be written again");
        }
    }

    /// Completes the file with its statistics: what came before the tap's end, and what of it was lost
    /// while the file was open. On a full disk it stays without them: it is whole
    /// all the same, and what it lost is counted.
    ///
    /// # Errors
    /// [`Error::System`] if the statistics could not be written for another reason.
    pub fn finish(&mut self, upstream: Option<&Upstream>) -> Result<(), Error> {
        self.complete(upstream, true)
    }

    /// Completes one of several files, after which the tap goes on: of `upstream` only the drops are told.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub fn finish_part(&mut self, upstream: Option<&Upstream>) -> Result<(), Error> {
        self.complete(upstream, false)
    }

    fn complete(&mut self, upstream: Option<&Upstream>, is_last: bool) -> Result<(), Error> {
        self.leave_lane();
        self.flush_through_cache();
        if self.closed {
            return Ok(());
        }
        if self.origins.iter().len() == 0 {
            // Readers ask for a link type of a file without packets too.
            self.encoder.add_interface(&Interface::new(LinkType::ETHERNET.0));
        }
        let alone = self.origins.iter().len() == 1;
        for (interface, written) in self.origins.iter().enumerate() {
            let statistics = statistics(written, upstream, alone, is_last);
            self.encoder
                .add_statistics(interface, &statistics)
                .map_err(|e| Error::system("write the statistics", io::Error::other(e)))?;
        }
        match self.write_buffer() {
            Err(error) if reason(&error) == DropReason::DiskFull => {
                tracing::warn!("no room for the statistics at the end of a capture file");
                Ok(())
            }
            result => result.map_err(|e| Error::system("complete the capture file", e)),
        }
    }

    /// Counts what was brought into the file as dropped: somebody has removed the file since.
    pub fn give_up(&mut self, reason: DropReason) {
        self.origins.give_up(reason);
    }

    /// What became of the packets, by origin.
    pub fn counters(&self) -> impl Iterator<Item = (Origin, &OriginCounters)> {
        self.origins.iter().map(|written| (written.origin, &written.packets))
    }

    /// The times of the earliest and of the latest packet in the file, nanoseconds since 1970.
    pub fn span_ns(&self) -> Option<(u64, u64)> {
        self.origins.span().pair()
    }

    /// Whether nothing more can be written: the reader of a stream is gone.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Bytes in the file and in buffers.
    #[inline]
    pub fn bytes(&self) -> u64 {
        let waiting = self.direct.as_ref().map_or(0, Direct::waiting_bytes);
        self.file_bytes + waiting + self.gathered_bytes()
    }

    /// Adds an interface to the file; its block reaches the file before any packet of it.
    fn describe(&mut self, origin: Origin) -> usize {
        let mut interface = Interface::clone(&self.interfaces.get(origin.0));
        if let Some(outer) = origin.1 {
            interface.description = Some(came_out_of(&interface, &outer));
            interface.name = Some(outer.to_string());
        }
        let start = self.encoder.buffer().len();
        self.encoder.add_interface(&interface);
        self.descriptions.push(start..self.encoder.buffer().len());
        self.origins.add(origin)
    }

    /// Writes the buffer, or cuts the file back to where it was and gives the packets up.
    fn write_buffer(&mut self) -> io::Result<()> {
        let mut gathered = self.gathered();
        let result = match &mut self.output {
            _ if self.closed => Err(io::ErrorKind::BrokenPipe.into()),
            Output::File(file) => {
                let (grown, result) =
                    gathered.write(file, self.file_bytes, self.format, &mut self.origins);
                self.file_bytes += grown;
                result
            }
            // Half a block may have gone out: nothing that follows could be read.
            Output::Stream(stream) => {
                let len = gathered.bytes().len() as u64;
                let result = stream.write_all(gathered.bytes()).and_then(|()| stream.flush());
                match result {
                    Ok(()) => {
                        self.file_bytes += len;
                        gathered.clear();
                    }
                    Err(_) => self.closed = true,
                }
                result
            }
        };
        if self.closed {
            gathered.keep_descriptions(0);
        }
        self.put_back(gathered);
        result
    }

    /// Reports the first of a run of failures.
    fn report(&mut self, error: &dyn std::fmt::Display) {
        if self.closed {
            tracing::debug!("nobody reads the capture any more: {error}");
        } else if self.trouble.is_none() {
            tracing::error!(
                "capture file: {error}; packets are dropped and counted until it can be written"
            );
        }
    }
}

fn unwritable(path: &Path, source: io::Error) -> Error {
    let mend = match reason(&source) {
        DropReason::DiskFull => "; make room on its disk, or choose another",
        _ => "; choose a folder that exists and that you may write to",
    };
    Error::System { what: format!("write {}", path.display()), source, mend }
}

/// What is said of an interface: the tunnel, its sender, and where it came in.
fn came_out_of(at: &Interface, outer: &Outer) -> String {
    let mut text = format!("{} from {}", outer.tunnel, outer.source);
    for (before, part) in [(", at ", &at.name), (": ", &at.description)] {
        if let Some(part) = part {
            text += before;
            text += part;
        }
    }
    text
}

/// `alone`: the file has one interface; `is_last`: the tap has ended.
fn statistics(
    written: &Written,
    upstream: Option<&Upstream>,
    alone: bool,
    is_last: bool,
) -> Statistics {
    let of_tap = upstream.filter(|_| alone && is_last);
    let own = written.packets.fate.drops.total();
    let before = upstream.filter(|_| alone).map(|u| u.drops.total());
    Statistics {
        start_ns: written.span.pair().map(|(first, _)| first),
        end_ns: written.span.pair().map(|(_, last)| last),
        received: of_tap.map(|u| u.seen),
        dropped: before.map(|before| before + own).or((own > 0).then_some(own)),
        filter_accepted: of_tap.map(|u| u.matched),
        os_drop: upstream
            .map(|u| u.drops.get(DropReason::KernelRing) + u.drops.get(DropReason::KernelSocket)),
        delivered: Some(written.packets.fate.sent),
        comment: (!alone && upstream.is_some()).then(|| {
            "the drops of the operating system are those of all interfaces together".into()
        }),
    }
}

#[cfg(test)]
mod tests;
