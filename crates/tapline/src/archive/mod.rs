//! `tapline archive`: what is in an archive, whether it is whole, how long it is kept, and how captures
//! come into it.

mod cat;
mod expire;
mod hold;
mod import;
mod ls;
mod progress;
mod text;
mod verify;

use crate::cli::{ArchiveCommand, ArchivePlace, Verbosity};
use crate::completions::print;
use crate::failure::Failure;
use crate::stores;
use crate::times;
use ::archive::catalog::{self, Segment};
use ::archive::store::Store;
use ::archive::{Location, SegmentName, Window};
use serde::Serialize;
use std::path::PathBuf;
use ulid::Ulid;

pub fn run(command: ArchiveCommand, verbosity: &Verbosity) -> Result<(), Failure> {
    match command {
        ArchiveCommand::Ls(options) => ls::run(&options),
        ArchiveCommand::Verify(options) => verify::run(&options, verbosity),
        ArchiveCommand::Repair(options) => verify::mend(&options, verbosity),
        ArchiveCommand::Hold(options) => hold::place(&options, verbosity),
        ArchiveCommand::Release(options) => hold::release(&options, verbosity),
        ArchiveCommand::Expire(options) => expire::run(&options),
        ArchiveCommand::Cat(options) => cat::run(&options, verbosity),
        ArchiveCommand::Import(options) => import::run(&options, verbosity),
        ArchiveCommand::Reindex(options) => import::reindex(&options, verbosity),
    }
}

/// An archive that is open, and what its asynchronous functions run on.
struct Opened {
    store: Store,
    spool: Option<PathBuf>,
    runtime: Runtime,
}

/// Runs asynchronous functions to their end.
struct Runtime(tokio::runtime::Runtime);

impl Runtime {
    fn new() -> Result<Runtime, Failure> {
        let runtime = ::archive::runtime();
        runtime.map(Runtime).map_err(|e| Failure::CouldNot(format!("begin a runtime: {e}")))
    }

    fn run<T>(
        &self,
        future: impl Future<Output = Result<T, ::archive::Error>>,
    ) -> Result<T, Failure> {
        Ok(self.0.block_on(future)?)
    }
}

impl Opened {
    /// Opens an archive that there is. Nothing is made in it.
    fn new(place: &ArchivePlace) -> Result<Opened, Failure> {
        if let Location::Directory(path) = &place.archive
            && !path.is_dir()
        {
            return Err(Failure::CouldNot(format!(
                "{}: there is no such folder; check the path, or begin an archive with `tapline \
                 receive` or `tapline archive import`",
                path.display()
            )));
        }
        Opened::or_made(place)
    }

    /// Opens an archive; one in a folder is made if it is not there.
    fn or_made(place: &ArchivePlace) -> Result<Opened, Failure> {
        let options = stores::options(place.store_config.as_deref())?;
        let store = Store::open(&place.archive, &options).map_err(::archive::Error::from)?;
        let spool = place.spool.clone().or_else(|| match &place.archive {
            Location::Directory(path) => Some(path.join(".spool")),
            Location::Url(_) => None,
        });
        Ok(Opened { store, spool, runtime: Runtime::new()? })
    }

    /// The segments that overlap a range of time, in the store and in the spool.
    fn segments(&self, window: Window) -> Result<Vec<Segment>, Failure> {
        self.runtime.run(catalog::list(&self.store, self.spool.as_deref(), window))
    }
}

/// Nanoseconds since 1970 by the host's clock.
fn now_ns() -> u64 {
    times::parse("now").unwrap_or(0)
}

/// Chooses the segments that a user named, by key or by id; all, if none was.
///
/// # Errors
/// [`Failure::Usage`] if one that was named is not among them.
fn chosen(mut segments: Vec<Segment>, named: &[String]) -> Result<Vec<Segment>, Failure> {
    if named.is_empty() {
        return Ok(segments);
    }
    let mut ids = Vec::with_capacity(named.len());
    for text in named {
        let id = id(text).filter(|id| segments.iter().any(|of| of.name.id == *id));
        ids.push(id.ok_or_else(|| {
            Failure::Usage(format!("there is no segment `{text}`; `tapline archive ls` lists them"))
        })?);
    }
    segments.retain(|of| ids.contains(&of.name.id));
    Ok(segments)
}

/// The id of a segment: by itself, or in a key or a path.
fn id(text: &str) -> Option<Ulid> {
    let file = text.rsplit('/').next().unwrap_or(text);
    let key = text.find("date=").and_then(|at| SegmentName::parse_key(&text[at..]));
    let spool = || SegmentName::parse_spool_file(file).map(|(name, _, _)| name.id);
    key.map(|(name, _)| name.id).or_else(spool).or_else(|| Ulid::from_string(file).ok())
}

/// Prints lines of JSON.
fn print_json<T: Serialize>(lines: &[T]) -> Result<(), Failure> {
    let mut text = String::new();
    for line in lines {
        text += &serde_json::to_string(line)
            .map_err(|error| Failure::CouldNot(format!("write JSON: {error}")))?;
        text.push('\n');
    }
    print(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_named_by_key_path_spool_file_or_id() {
        let stem =
            "20261127T131415.123456789Z-20261127T131415.123456790Z-00000000000000000000000007";
        let wanted = Some(Ulid::from_parts(0, 7));
        for text in [
            format!("date=2026-11-27/hour=13/source=a/{stem}.pcapng.zst"),
            format!("/srv/tap/date=2026-11-27/hour=13/source=a/{stem}.index.parquet"),
            format!("/srv/tap/.spool/a-{stem}.pcapng.closed"),
            "00000000000000000000000007".into(),
        ] {
            assert_eq!(id(&text), wanted, "{text}");
        }
        assert_eq!([id(""), id("x"), id("date=2026/x.pcapng")], [None; 3]);
    }
}
