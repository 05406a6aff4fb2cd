//! `tapline archive hold` and `release`: what nobody removes.

use super::{Opened, chosen, now_ns, text};
use crate::cli::{ArchiveHold, ArchiveRelease, Verbosity};
use crate::failure::Failure;
use crate::session::say;
use ::archive::catalog::State;
use ::archive::holds::{self, Hold};
use ::archive::manifest::{self, Chain, Event};
use ::archive::{Part, Window};
use ulid::Ulid;

pub fn place(options: &ArchiveHold, verbosity: &Verbosity) -> Result<(), Failure> {
    let mut hold = Hold::new(&options.name, now_ns())?;
    if let (Some(after), Some(before)) = (options.after, options.before)
        && after >= before
    {
        return Err(Failure::Usage("--after must be before --before: nothing is between".into()));
    }
    let archive = Opened::new(&options.place)?;
    let segments = archive.segments(Window::ALL)?;
    if !options.object.is_empty() {
        let named = chosen(segments.clone(), &options.object)?;
        if let Some(open) = named.iter().find(|of| of.state == State::Open) {
            return Err(Failure::Usage(format!(
                "{} is still being written; hold its source instead",
                open.name.id
            )));
        }
        hold.objects = named.iter().map(|of| of.name.key(Part::Data)).collect();
    }
    hold.source = options.source.clone();
    (hold.after_ns, hold.before_ns) = (options.after, options.before);
    hold.note = options.note.clone();
    let covered = segments.iter().filter(|of| hold.covers(&of.name)).count() as u64;
    let known = |source: &String| segments.iter().any(|of| of.name.source == *source);
    if let Some(source) = hold.source.as_ref().filter(|source| !known(source)) {
        tracing::warn!(
            "there is no segment of source {} yet; the hold covers those that come",
            source.escape_debug()
        );
    } else if covered == 0 {
        tracing::warn!("the hold covers no segment that there is; it covers those that come");
    }
    let event = archive.runtime.run(holds::place(&archive.store, &hold))?;
    note(&archive, event)?;
    if !verbosity.quiet {
        let covered = text::count(covered, "segment");
        say(&format!("tapline: hold {}: {covered} held; nobody removes them\n", hold.name));
    }
    Ok(())
}

pub fn release(options: &ArchiveRelease, verbosity: &Verbosity) -> Result<(), Failure> {
    let archive = Opened::new(&options.place)?;
    let manifest = archive.runtime.run(manifest::read(&archive.store))?;
    archive.runtime.run(holds::exists(&archive.store, &manifest, &options.name))?;
    // Said before it is done: what ends a hold is never unsaid.
    note(&archive, Event::Released { hold: options.name.clone() })?;
    archive.runtime.run(async { Ok(archive.store.delete(&holds::key(&options.name)).await?) })?;
    if !verbosity.quiet {
        say(&format!("tapline: hold {}: released\n", options.name));
    }
    Ok(())
}

/// Writes an event into a chain of its own.
fn note(archive: &Opened, event: Event) -> Result<(), Failure> {
    archive.runtime.run(async {
        let mut chain = Chain::open(&archive.store, Ulid::new()).await?;
        chain.append(event, now_ns()).await
    })
}
