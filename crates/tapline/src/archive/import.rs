//! `tapline archive import` and `reindex`: captures that come in, and indexes that are made anew.

use super::progress::Progress;
use super::{Opened, chosen, now_ns, print_json, text};
use crate::cli::{ArchiveImport, ArchiveReindex, Format, Verbosity};
use crate::completions::print;
use crate::failure::Failure;
use crate::session::say;
use ::archive::Part;
use ::archive::catalog::State;
use ::archive::import::{Imported, Importer, Options};
use ::archive::{manifest, repair};
use serde::Serialize;
use std::path::Path;

/// What became of a file, as JSON.
#[derive(Serialize)]
struct File<'a> {
    kind: &'static str,
    file: String,
    read: u64,
    written: u64,
    /// Packets that an earlier import of the file has written.
    already: u64,
    dropped: u64,
    unaccounted: u64,
    segments: u64,
    segments_already: u64,
    cut: Option<&'a str>,
    damaged: Option<&'a str>,
    error: Option<&'a str>,
}

pub fn run(options: &ArchiveImport, verbosity: &Verbosity) -> Result<(), Failure> {
    for path in &options.files {
        std::fs::metadata(path)
            .map_err(|e| Failure::CouldNot(format!("open {}: {e}", path.display())))?;
    }
    let archive = Opened::or_made(&options.place)?;
    let work = archive.spool.clone().unwrap_or_else(std::env::temp_dir);
    let wanted = Options { source: options.source.clone(), ..Options::new(&work) };
    let mut importer = archive.runtime.run(Importer::new(&archive.store, wanted))?;
    let mut is_good = true;
    for path in &options.files {
        let shown = path.display().to_string();
        let bar = Progress::of_bytes(verbosity);
        let all = std::fs::metadata(path).map_or(0, |of| of.len()) * 2;
        let mut imported = Imported::default();
        let show = |done| bar.show(done, all, &shown);
        let import = importer.import(path, &mut imported, now_ns, show);
        let result = archive.runtime.run(import);
        drop(bar);
        let error = result.as_ref().err().and_then(|failure| failure.message());
        tell(path, &imported, error, options.place.format, verbosity)?;
        is_good &= result.is_ok() && imported.damaged.is_none();
        if let Err(failure @ Failure::Usage(_)) = result {
            return Err(failure);
        }
    }
    if is_good { Ok(()) } else { Err(Failure::Told) }
}

/// Says what became of a file's packets.
fn tell(
    path: &Path,
    imported: &Imported,
    error: Option<&str>,
    format: Format,
    verbosity: &Verbosity,
) -> Result<(), Failure> {
    let shown = path.display().to_string();
    if let Some(cut) = &imported.cut {
        tracing::warn!("{shown}: {cut}");
    }
    if let Some(damaged) = &imported.damaged {
        tracing::error!("{shown}: {damaged}; what stands before is in the archive");
    }
    if let Some(error) = error {
        tracing::error!("{error}");
    }
    let Imported { read, written, already, segments, segments_already, .. } = *imported;
    let dropped = imported.dropped();
    if format == Format::Json {
        return print_json(&[File {
            kind: "file",
            file: shown,
            read,
            written,
            already,
            dropped,
            unaccounted: read.abs_diff(written + already + dropped),
            segments,
            segments_already,
            cut: imported.cut.as_deref(),
            damaged: imported.damaged.as_deref(),
            error,
        }]);
    }
    if !verbosity.quiet {
        let why = if dropped > 0 { " (write_error)" } else { "" };
        say(&format!(
            "source {shown}: read {read}, written {written} into {}, {already} there already, \
             dropped {dropped}{why}, {} unaccounted\n",
            text::count(segments, "segment"),
            read.abs_diff(written + already + dropped)
        ));
    }
    Ok(())
}

/// What became of an index, as JSON.
#[derive(Serialize)]
struct Index {
    kind: &'static str,
    object: String,
    /// Whether it is another one now.
    changed: bool,
}

pub fn reindex(options: &ArchiveReindex, verbosity: &Verbosity) -> Result<(), Failure> {
    let archive = Opened::new(&options.place)?;
    let mut segments = archive.segments(options.scope.window())?;
    segments.retain(|of| of.state == State::Stored);
    let mut segments = chosen(segments, &options.segments)?;
    segments.retain(|of| options.scope.has_source(&of.name.source));
    let manifest = archive.runtime.run(manifest::read(&archive.store))?;
    let records = manifest.segments();
    let mut chain = None;
    let (mut changed, mut failed) = (0, 0);
    let mut lines = Vec::new();
    let bar = Progress::of_objects(verbosity);
    for (segment, done) in segments.iter().zip(0..) {
        let key = segment.name.key(Part::Data);
        bar.show(done, segments.len() as u64, &key);
        let Some(record) = records.get(key.as_str()) else {
            tracing::error!(
                "{key}: the manifest does not know it; `tapline archive repair` enters it"
            );
            failed += 1;
            continue;
        };
        let scratch = std::env::temp_dir();
        let made = repair::reindex(&archive.store, &mut chain, record, &scratch, now_ns());
        match archive.runtime.run(made) {
            Ok(is_new) => {
                changed += u64::from(is_new);
                let object = segment.name.key(Part::Index);
                lines.push(Index { kind: "index", object, changed: is_new });
            }
            Err(failure) => {
                tracing::error!("{}", failure.message().unwrap_or_default());
                failed += 1;
            }
        }
    }
    drop(bar);
    match options.place.format {
        Format::Json => print_json(&lines)?,
        Format::Text => {
            let all = text::count(segments.len() as u64, "segment");
            print(format!("{all}: {changed} indexes are new, {failed} failed\n").as_bytes())?;
        }
    }
    if failed == 0 { Ok(()) } else { Err(Failure::Told) }
}
