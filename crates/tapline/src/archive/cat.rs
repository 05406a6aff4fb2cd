//! `tapline archive cat`: the packets of whole segments, decompressed, as one pcapng.
//!
//! pcapng may have several sections, so segments are written one behind the other, each as it is.

use super::{Opened, chosen, text};
use crate::cli::{ArchiveCat, Verbosity};
use crate::failure::Failure;
use crate::session::say;
use ::archive::LocalFile;
use ::archive::catalog::{Segment, State};
use std::fs::File;
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::path::Path;

pub fn run(options: &ArchiveCat, verbosity: &Verbosity) -> Result<(), Failure> {
    let to_stdout = options.write == Path::new("-");
    if to_stdout && std::io::stdout().is_terminal() {
        return Err(Failure::Usage(
            "pcapng is no text; write it to a file with -w, or into a pipe".into(),
        ));
    }
    let archive = Opened::new(&options.place)?;
    let mut segments = chosen(archive.segments(options.scope.window())?, &options.segments)?;
    segments.retain(|of| options.scope.has_source(&of.name.source));
    if segments.is_empty() {
        return Err(Failure::CouldNot(
            "there is no such segment; `tapline archive ls` lists those that there are".into(),
        ));
    }
    let name =
        if to_stdout { "standard output".into() } else { options.write.display().to_string() };
    let mut out: Box<dyn Write> = match to_stdout {
        true => Box::new(std::io::stdout().lock()),
        false => Box::new(
            File::create(&options.write)
                .map_err(|e| Failure::CouldNot(format!("create {name}: {e}")))?,
        ),
    };
    let mut bytes = 0;
    for segment in &segments {
        match copy(&archive, segment, &mut out) {
            Ok(copied) => bytes += copied,
            // A reader that has gone away has seen enough.
            Err(Copying::Write(e)) if to_stdout && e.kind() == ErrorKind::BrokenPipe => {
                return Ok(());
            }
            Err(Copying::Write(e)) => {
                return Err(Failure::CouldNot(format!("write to {name}: {e}")));
            }
            Err(Copying::Read(failure)) => return Err(failure.of(&segment.name.to_string())),
        }
    }
    out.flush().map_err(|e| Failure::CouldNot(format!("write to {name}: {e}")))?;
    if !verbosity.quiet {
        let segments = text::count(segments.len() as u64, "segment");
        say(&format!("tapline: {segments}, {}, to {name}\n", text::bytes(bytes)));
    }
    Ok(())
}

enum Copying {
    Read(Failure),
    Write(std::io::Error),
}

/// Writes a segment's blocks.
fn copy(archive: &Opened, segment: &Segment, out: &mut dyn Write) -> Result<u64, Copying> {
    let read = |what: String| Copying::Read(Failure::CouldNot(what));
    let (place, bytes) = &segment.data;
    let scratch = std::env::temp_dir();
    let local = LocalFile::get(&archive.store, place, *bytes, &scratch);
    let local = archive.runtime.run(local).map_err(Copying::Read)?;
    let shown = local.path().display().to_string();
    let file = File::open(local.path()).map_err(|e| read(format!("open {shown}: {e}")))?;
    // One that is still written may end in half a block.
    let whole = match segment.state {
        State::Open | State::Closed | State::Plain => whole_bytes(&file, &shown)?,
        State::Sealed | State::Stored => u64::MAX,
    };
    let file = File::open(local.path()).map_err(|e| read(format!("open {shown}: {e}")))?;
    let stream = io::file::decompressed(&shown, Box::new(file));
    let mut stream = stream.map_err(|e| read(format!("read {shown}: {e}")))?.take(whole);
    let mut buffer = vec![0; 256 << 10];
    let mut copied = 0;
    loop {
        let len = match stream.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(len) => len,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => {
                return Err(read(format!(
                    "{e}; `tapline archive verify --deep` says what is wrong"
                )));
            }
        };
        out.write_all(&buffer[..len]).map_err(Copying::Write)?;
        copied += len as u64;
    }
}

/// Bytes up to the end of the last whole block.
fn whole_bytes(file: &File, shown: &str) -> Result<u64, Copying> {
    let read = |e: capfile::Error| Copying::Read(Failure::CouldNot(format!("{shown}: {e}")));
    let mut reader = match capfile::Reader::new(file) {
        Err(capfile::Error::Empty | capfile::Error::HeaderCut { .. }) => return Ok(0),
        reader => reader.map_err(read)?,
    };
    while reader.advance().map_err(read)? {}
    Ok(reader.good_offset())
}
