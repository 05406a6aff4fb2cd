//! A table while it runs: stopped, changed between two batches, asked for its ledger.

use super::captures::{Captures, NewTap, Prepared};
use super::edit::{self, Added};
use super::only::Only;
use super::{ledger, must_be_nobodys, must_be_ours, must_lead_away, pcap, unanswered};
use crate::archiving::{Archiving, Opened, Shown, Wanted};
use crate::cli::Inline;
use crate::failure::Failure;
use crate::local::NewRule;
use crate::session::{Activity, Reloaded};
use api::{Datapath, InlineConfig, InlineFail, Removed, Stats};
use archive::Rotation;
use io::forward::{Capture, ForwardReport, Forwarder, ReadyForwarder, Table};
use io::inline::{InlineStart, PINS};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the forwarder may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// How long what its ring holds at the end may take.
const DRY: Duration = Duration::from_secs(12);
const LOOK: Duration = Duration::from_millis(2);

/// A running table.
pub struct Live<'a> {
    options: &'a Inline,
    /// `None` until it is opened.
    config: Option<InlineConfig>,
    ready: Option<Ready>,
    forwarder: Option<Forwarder>,
    captures: Captures,
    /// Until it runs.
    archiving: Option<Archiving>,
    /// What was added to the table since.
    added: Added,
    /// What is to be known of the last change.
    notes: Vec<String>,
    is_in_kernel: bool,
    is_stopping: bool,
    /// Held from the start to the end.
    only: Option<Only>,
    /// Reports that there had been when one was asked for.
    asked: u64,
}

/// What is open, and does not move yet.
struct Ready {
    forwarder: ReadyForwarder,
    new: Vec<NewTap>,
}

impl<'a> Live<'a> {
    /// Of a command.
    pub fn new(options: &'a Inline) -> Live<'a> {
        Live {
            options,
            config: None,
            ready: None,
            forwarder: None,
            captures: Captures::new(options.sending.into(), options.write.as_deref().map(pcap)),
            archiving: None,
            added: Added::default(),
            notes: Vec::new(),
            is_in_kernel: false,
            is_stopping: false,
            only: None,
            asked: 0,
        }
    }

    /// Opens the interfaces, and what the table's views go to; says how it begins.
    pub fn open(&mut self, config: InlineConfig) -> Result<Vec<String>, Failure> {
        self.only = Some(Only::one(&config.name)?);
        // Before any file is replaced.
        io::ring::describe(&config.ingress)?;
        io::ring::describe(&config.egress)?;
        self.archiving = self.open_archive()?;
        self.captures.record_into(self.archiving.as_ref());
        let Prepared { captures, new } = self.captures.prepare(&config)?;
        let new = self.captures.finish(new)?;
        let (forwarder, how) = self.forwarder_of(&config, captures)?;
        self.ready = Some(Ready { forwarder, new });
        let begun = format!(
            "table {}: {} rules from {} to {}, {how}",
            config.name,
            config.rules.len(),
            config.ingress,
            config.egress
        );
        let mut lines = vec![begun];
        if self.is_in_kernel {
            lines.extend(unanswered(&config, None)?);
        }
        self.config = Some(config);
        Ok(lines)
    }

    /// What all views are recorded into, if there is such a place.
    fn open_archive(&self) -> Result<Option<Archiving>, Failure> {
        let Inline { archive, max_bytes, archiving, .. } = self.options;
        let wanted = Wanted::new(archive.as_ref(), Rotation::default(), *max_bytes, archiving)?;
        let opened = wanted.map(Wanted::open).transpose()?;
        opened.map(Opened::start).transpose()
    }

    /// The same as what runs: its end brings what was recorded into the archive.
    pub fn with_its_archive(mut self) -> Box<dyn Activity + 'a> {
        let within = self.options.archiving.stop_within;
        match self.archiving.take() {
            Some(archiving) => archiving.behind(Box::new(self), within),
            None => Box::new(self),
        }
    }

    /// What forwards, and how to say so: the kernel if it can, unless the user wants otherwise.
    fn forwarder_of(
        &mut self,
        config: &InlineConfig,
        captures: Vec<Option<Capture>>,
    ) -> Result<(ReadyForwarder, String), Failure> {
        let size = self.options.buffer_size;
        let mut why = String::new();
        if self.options.datapath != Datapath::Ring {
            let table = Table::new(config.clone(), captures.clone());
            match ReadyForwarder::open_in_kernel(table, size) {
                Ok((forwarder, start)) => {
                    self.is_in_kernel = true;
                    return Ok((forwarder, in_kernel(config, &start)));
                }
                Err(error) if self.options.datapath == Datapath::Kernel => return Err(error.into()),
                Err(error) => why = format!(", as the kernel cannot: {error}"),
            }
        }
        if io::inline::is_pinned(Path::new(PINS), &config.name) {
            return Err(Failure::CouldNot(format!(
                "table {name}: an earlier process left it in the kernel, where it goes on{why}; end it first: \
                 tapline inline stop --table {name}",
                name = config.name
            )));
        }
        must_be_nobodys(config).map_err(|failure| match why.is_empty() {
            true => failure,
            false => failure.of(&format!("in user space{why}")),
        })?;
        let table = Table::new(config.clone(), captures);
        Ok((ReadyForwarder::open(table, size)?, format!("in user space{why}")))
    }

    /// Forwards from now on.
    pub fn start(&mut self) -> Result<(), Failure> {
        if let Some(Ready { forwarder, new }) = self.ready.take() {
            self.captures.start(new)?;
            self.forwarder = Some(Forwarder::start(forwarder)?);
        }
        Ok(())
    }

    /// The last report that was published since [`Activity::ask`]; `None` if it is still to come.
    fn report(&self) -> Option<ForwardReport> {
        let forwarder = self.forwarder.as_ref()?;
        let (published, report) = forwarder.published();
        // One that was under way when it was asked for does not count.
        (published > self.asked || forwarder.is_finished()).then_some(report)
    }

    fn ask_and_wait(&mut self) -> Option<ForwardReport> {
        self.asked = self.forwarder.as_ref()?.ask();
        let end = Instant::now() + ANSWER;
        loop {
            match self.report() {
                Some(report) => return Some(report),
                None if Instant::now() >= end => return None,
                None => std::thread::park_timeout(LOOK),
            }
        }
    }

    fn config(&self) -> Result<&InlineConfig, Failure> {
        self.config.as_ref().ok_or_else(|| Failure::CouldNot("it has not begun".into()))
    }

    /// Where rules come from that nobody has added.
    fn origin(&self) -> String {
        let path = self.options.config.as_ref();
        path.map_or_else(|| "command line".into(), |path| path.display().to_string())
    }

    /// Puts another table into the place of the one at hand; gives a line for each thing that is
    /// different.
    ///
    /// # Errors
    /// If it cannot be had: then all goes on as before.
    fn change_to(&mut self, wanted: InlineConfig) -> Result<Vec<String>, Failure> {
        must_lead_away(&wanted)?;
        match self.is_in_kernel {
            true => must_be_ours(&wanted)?,
            false => must_be_nobodys(&wanted)?,
        }
        let mut notes = match self.is_in_kernel {
            true => unanswered(&wanted, self.config.as_ref())?,
            false => Vec::new(),
        };
        let Some(forwarder) = &self.forwarder else {
            return Err(Failure::CouldNot("it has not begun".into()));
        };
        let Prepared { captures, new } = self.captures.prepare(&wanted)?;
        if let Err(error) = forwarder.replace(Table::new(wanted.clone(), captures)) {
            drop(new);
            self.captures.forget_devices();
            return Err(error.into());
        }
        notes.extend(self.captures.turn_into(new, &wanted));
        notes.iter().for_each(|note| tracing::warn!("{note}"));
        self.notes = notes;
        let old = self.config.replace(wanted.clone());
        Ok(old.map_or_else(Vec::new, |old| edit::changes(&old, &wanted)))
    }

    /// What is told after an edit.
    fn in_force(&self, changes: Vec<String>) -> Result<Value, Failure> {
        let config = self.config()?;
        Ok(json!({
            "table": config.name,
            "changes": changes,
            "notes": self.notes,
            "rules": edit::in_force(config, &self.added, &self.origin()),
        }))
    }

    /// A ledger with what the archive has come to.
    fn with_archive(&self, mut stats: Stats) -> Stats {
        stats.removed = self.removed();
        stats.archive = self.captures.archived().map(Shown::stats);
        stats
    }

    /// What was removed for the archive's bound, if it has one.
    fn removed(&self) -> Option<Removed> {
        let Inline { max_bytes, archiving, .. } = self.options;
        let is_kept_within = max_bytes.or(archiving.spool_max).is_some();
        self.captures.archived().filter(|_| is_kept_within).map(Shown::removed)
    }

    fn table_name(&self) -> &str {
        self.config.as_ref().map_or("", |config| &config.name)
    }
}

/// How a table in the kernel began, and what becomes of it.
fn in_kernel(config: &InlineConfig, start: &InlineStart) -> String {
    let begun = match start {
        InlineStart::New => "in the kernel".to_owned(),
        InlineStart::Adopted => "in the kernel, which went on with its sessions".to_owned(),
        InlineStart::Rebuilt(why) => format!("in the kernel, anew: {why}"),
    };
    match config.fail {
        InlineFail::Open => format!("{begun}; it goes on until `inline stop`"),
        InlineFail::Closed => format!("{begun}; it ends with this process"),
    }
}

impl Activity for Live<'_> {
    fn is_finished(&self) -> bool {
        let is_over = self.forwarder.as_ref().is_none_or(Forwarder::is_finished);
        is_over && (!self.is_stopping || self.captures.is_finished())
    }

    fn stop(&mut self) {
        self.is_stopping = true;
        if let Some(forwarder) = &self.forwarder {
            forwarder.stop();
        }
        // What is still forwarded is recorded: its channel ends with the forwarder.
        let end = Instant::now() + DRY;
        while self.forwarder.as_ref().is_some_and(|f| !f.is_finished()) && Instant::now() < end {
            std::thread::park_timeout(LOOK);
        }
        self.captures.stop();
    }

    fn ask(&mut self) {
        self.asked = self.forwarder.as_ref().map_or(0, Forwarder::ask);
        self.captures.ask();
    }

    fn answered(&mut self) -> Option<Stats> {
        let views = self.captures.answered()?;
        Some(self.with_archive(ledger::ledger(self.table_name(), &self.report()?, &views)))
    }

    fn snapshot(&mut self) -> Option<Stats> {
        let views = self.captures.snapshot()?;
        let report = self.ask_and_wait()?;
        Some(self.with_archive(ledger::ledger(self.table_name(), &report, &views)))
    }

    fn can_reload(&self) -> bool {
        self.options.config.is_some()
    }

    fn reload(&mut self) -> Result<Reloaded, Failure> {
        if self.options.config.is_none() {
            return Err(Failure::Usage(
                "it was started without a configuration file, so that there is nothing to reload"
                    .into(),
            ));
        }
        let (wanted, beside) = self.added.beside(super::wanted(self.options)?)?;
        let old = self.config()?;
        let stays = |config: &InlineConfig| {
            let InlineConfig { name, ingress, egress, sessions, fail, .. } = config;
            (name.clone(), ingress.clone(), egress.clone(), *sessions, *fail)
        };
        if stays(old) != stays(&wanted) {
            return Err(Failure::Usage(
                "in, out, name, sessions and fail are those of the start; stop the table and start it \
                 again to change them"
                    .into(),
            ));
        }
        let changes = self.change_to(wanted)?;
        self.added = beside;
        Ok(Reloaded { changes })
    }

    fn add(&mut self, rule: &NewRule) -> Result<Value, Failure> {
        let rule = edit::rule_of(rule, self.options)?;
        let wanted = edit::with(self.config()?, rule.clone())?;
        let changes = self.change_to(wanted)?;
        self.added.note(rule);
        self.in_force(changes)
    }

    fn remove(&mut self, rules: &[String]) -> Result<Value, Failure> {
        let wanted = edit::without(self.config()?, rules)?;
        let changes = self.change_to(wanted)?;
        self.added.keep(self.config.as_ref().expect("it has been changed"));
        self.in_force(changes)
    }

    fn shows_its_file(&self) -> bool {
        false
    }

    fn show(&mut self) -> Result<Value, Failure> {
        let report = self.ask_and_wait().ok_or_else(|| {
            Failure::CouldNot("the forwarder has not answered in time; ask again".into())
        })?;
        let datapath = if self.is_in_kernel { "kernel" } else { "ring" };
        let config = self.config()?;
        let rules = edit::in_force(config, &self.added, &self.origin());
        Ok(ledger::shown(config, rules, datapath, &report))
    }

    fn interfaces(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.config.iter().flat_map(|of| [of.ingress.clone(), of.egress.clone()]).collect();
        names.dedup();
        names
    }

    fn join(mut self: Box<Self>) -> (Stats, Vec<Result<(), io::Error>>) {
        let report = self.forwarder.take().map_or_else(ForwardReport::default, Forwarder::join);
        // No packet comes any more, whoever ended it.
        self.captures.stop();
        let name = self.table_name().to_owned();
        // What has been shipped in the end is told by who ships.
        let removed = self.removed();
        let (views, mut results) = self.captures.join();
        if let Some(why) = &report.failure {
            results.push(Err(io::Error::Ended { what: name.clone(), why: why.clone() }));
        }
        let mut stats = ledger::ledger(&name, &report, &views);
        stats.removed = removed;
        (stats, results)
    }
}
