//! `tapline search`: packets of an archive, by time, source, tunnel, flow and expression.

mod flows;
mod output;
mod progress;
mod words;

use crate::cli::{Search, Verbosity};
use crate::failure::Failure;
use crate::identity::{Becoming, Keeps};
use crate::print;
use crate::session::{say, signals};
use crate::stores;
use archive::Location;
use archive::search::{Expression, Outcome, Plan, Query, plan};
use archive::store::Store;
use output::Output;
use progress::{Bytes, Watch, shows_bar};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use words::{Words, hint};

/// Names of segments that are said one by one.
const NAMED_MAX: usize = 10;

pub fn run(options: Search, verbosity: &Verbosity) -> Result<(), Failure> {
    Becoming::new(&options.identity)?.become_it(Keeps::Nothing)?;
    let query = query(&options)?;
    let runtime = archive::runtime()
        .map_err(|e| Failure::CouldNot(format!("set up reading from stores: {e}")))?;
    let store = open(&options)?;
    let spool = options.spool.clone().or_else(|| own_spool(&store));
    let plan = runtime.block_on(plan(&store, spool.as_deref(), query))?;
    if !verbosity.quiet {
        say(&announcement(&options, &plan));
    }
    warn_of(&plan);
    // Up to here a signal ends the process: there is nothing to be completed.
    let asked = signals::take()?;
    let output = Arc::new(Mutex::new(Output::open(&options, &description(&options))?));
    let prints = options.write.as_deref().is_none_or(|path| path == Path::new("-"));
    let shows = !verbosity.quiet && shows_bar(prints);
    let missing = plan.missing.segments + plan.manifest_troubles.len() as u64;
    let watch = Watch::start(plan.progress(), Arc::clone(&output), shows)?;
    let mut left = options.count.unwrap_or(u64::MAX);
    let mut bytes = 0;
    let each = |packet: &archive::search::Packet<'_>| {
        left -= 1;
        bytes += u64::from(packet.origlen);
        let is_open = output.lock().unwrap_or_else(PoisonError::into_inner).put(packet);
        if is_open && left > 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let outcome = runtime.block_on(plan.run(&asked.stop, each));
    drop(watch);
    // Reads that are under way when a search ends early are of no more interest.
    runtime.shutdown_background();
    let outcome = outcome?;
    let finished = output.lock().unwrap_or_else(PoisonError::into_inner).finish();
    for trouble in &outcome.troubles {
        tracing::warn!("not searched: {}: {}", trouble.segment, trouble.what);
    }
    let was_asked = asked.stop.load(Relaxed);
    if !verbosity.quiet {
        say(&summary(&outcome, bytes, was_asked, missing));
    }
    finished?;
    if outcome.troubles_count > 0 || missing > 0 { Err(Failure::Told) } else { Ok(()) }
}

fn query(options: &Search) -> Result<Query, Failure> {
    let Words { sources, tunnel_ids, community_ids, expression } =
        Words::read(&options.query).map_err(Failure::Usage)?;
    let window = options.window();
    if window.before_ns.is_some_and(|before_ns| before_ns <= window.after_ns) {
        return Err(Failure::Usage(format!(
            "there is no time from --after {} on and before --before {}; exchange them",
            print::time(window.after_ns),
            print::time(window.before_ns.unwrap_or_default())
        )));
    }
    let compiled = Expression::new(&expression)
        .map_err(|error| Failure::Usage(format!("{error}{}", hint(&expression))))?;
    Ok(Query { window, sources, tunnel_ids, community_ids, expression: compiled })
}

/// Opens the store of an archive, which must be there.
fn open(options: &Search) -> Result<Store, Failure> {
    if let Location::Directory(path) = &options.archive
        && !path.is_dir()
    {
        let path = path.display();
        return Err(Failure::CouldNot(format!("there is no archive at {path}: it is no folder")));
    }
    let reached = stores::options(options.store_config.as_deref())?;
    let store = Store::open(&options.archive, &reached);
    store.map_err(|error| Failure::CouldNot(error.to_string()))
}

/// The spool inside of an archive that is a folder.
fn own_spool(store: &Store) -> Option<PathBuf> {
    store.root().map(|root| root.join(".spool"))
}

/// What is looked for, in a line.
fn description(options: &Search) -> String {
    let mut text = format!("tapline search --archive {}", options.archive);
    for (name, ns) in [("after", options.after), ("before", options.before)] {
        if let Some(ns) = ns {
            text += &format!(" --{name} {}", print::time(ns));
        }
    }
    if let Some(count) = options.count {
        text += &format!(" -c {count}");
    }
    let words = options.query.join(" ");
    if words.is_empty() { text } else { format!("{text} {words}") }
}

fn announcement(options: &Search, plan: &Plan) -> String {
    format!(
        "tapline: searching {}: {} of {} segments, at most {} of data and {} of indexes\n",
        options.archive,
        plan.segments,
        plan.segments_listed,
        Bytes(plan.data_bytes),
        Bytes(plan.index_bytes)
    )
}

/// Says what cannot be searched any more, or should be there.
fn warn_of(plan: &Plan) {
    let span = |span_ns: Option<(u64, u64)>| {
        let (first_ns, last_ns) = span_ns.unwrap_or_default();
        format!("{} to {}", print::time(first_ns), print::time(last_ns))
    };
    if plan.expired.segments > 0 {
        let (gone, span) = (plan.expired.segments, span(plan.expired.span_ns));
        tracing::warn!("part of the range has expired: {gone} segments, {span}");
    }
    if plan.missing.segments > 0 {
        let (gone, span) = (plan.missing.segments, span(plan.missing.span_ns));
        tracing::warn!("missing, by what the manifest says: {gone} segments, {span}");
        for object in plan.missing.objects.iter().take(NAMED_MAX) {
            tracing::warn!("missing: {object}");
        }
    }
    for trouble in &plan.manifest_troubles {
        tracing::warn!("what is missing may not be known: {trouble}");
    }
}

fn summary(outcome: &Outcome, bytes: u64, was_asked: bool, missing: u64) -> String {
    let mut text = format!(
        "tapline: found {} packets, {bytes} bytes, in {} segments; read {} in {} range reads",
        outcome.packets,
        outcome.segments_read,
        Bytes(outcome.bytes),
        outcome.range_reads
    );
    if was_asked && outcome.is_stopped {
        text += "; incomplete: it was stopped";
    }
    if outcome.troubles_count + missing > 0 {
        text += &format!("; incomplete: {} troubles", outcome.troubles_count + missing);
    }
    text + "\n"
}
