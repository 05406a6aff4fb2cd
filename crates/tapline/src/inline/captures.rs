//! Where the views of rules go: rules whose views go to the same places share a channel, a worker and
//! the files.

use crate::archiving::{Archiving, Shown};
use crate::failure::Failure;
use crate::targets::{Places, Targets, files, has_tunnels};
use api::{Group, InlineConfig, InlineRule, Sending};
use archive::{Recorder, RecorderOptions};
use capfile::Interface;
use io::forward::{Capture, ViewSender, views};
use io::{InterfaceId, Interfaces, Now};
use pipeline::{Crew, CrewReport, Input, Tap, Target, TargetGroup};
use std::path::Path;
use std::time::{Duration, Instant};
use wire::LinkType;

/// How long the writer of a file that is wanted again may take to end.
const DRY: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(2);

/// All that record.
pub struct Captures {
    interfaces: Interfaces,
    targets: Targets,
    /// How all views are recorded into an archive, if they are, and how far that has come.
    archive: Option<(RecorderOptions, Shown)>,
    sending: Sending,
    running: Vec<Running>,
    /// Those whose rules have gone, until they have run dry.
    leaving: Vec<Leaving>,
    gone: Vec<CrewReport>,
    results: Vec<Result<(), io::Error>>,
    opened: u16,
    asked: Vec<Vec<u64>>,
}

struct Running {
    to: Vec<Group>,
    sender: ViewSender,
    crew: Crew,
}

struct Leaving {
    to: Vec<Group>,
    crew: Crew,
}

/// Captures of a table, in the order of its rules, and the taps that are to be started for them.
pub struct Prepared {
    /// For each rule.
    pub captures: Vec<Option<Capture>>,
    /// What is to be started for them.
    pub new: Vec<NewTap>,
}

/// Where views go, through which channel, and what carries them there.
pub type NewTap = (Vec<Group>, ViewSender, Tap);

impl Captures {
    /// None runs yet. `sending` is how views go into tunnels.
    pub fn new(sending: Sending) -> Captures {
        let interfaces = Interfaces::default();
        Captures {
            targets: Targets::new(&interfaces),
            interfaces,
            archive: None,
            sending,
            running: Vec::new(),
            leaving: Vec::new(),
            gone: Vec::new(),
            results: Vec::new(),
            opened: 0,
            asked: Vec::new(),
        }
    }

    /// Has all views be recorded into an archive, too.
    pub fn record_into(&mut self, archiving: Option<&Archiving>) {
        self.archive = archiving.map(|of| (of.recorder(false), of.shown.clone()));
    }

    /// How far an archive has come.
    pub fn archived(&self) -> Option<&Shown> {
        self.archive.as_ref().map(|(_, shown)| shown)
    }

    /// Opens what a table needs beside what runs. Files are replaced as the last thing that may fail.
    pub fn prepare(&mut self, config: &InlineConfig) -> Result<Prepared, Failure> {
        must_stand_apart(config)?;
        let mut new: Vec<NewTap> = Vec::new();
        let mut captures = Vec::with_capacity(config.rules.len());
        for rule in &config.rules {
            if rule.views.is_empty() {
                captures.push(None);
                continue;
            }
            let known = self.running.iter().find(|running| running.to == rule.to);
            let known = known.map(|running| running.sender.clone());
            let begun = new.iter().find(|(to, ..)| *to == rule.to);
            let sender = match known.or_else(|| begun.map(|(_, sender, _)| sender.clone())) {
                Some(sender) => sender,
                None => {
                    let (sender, tap) = self.open(rule)?;
                    new.push((rule.to.clone(), sender.clone(), tap));
                    sender
                }
            };
            captures.push(Some(Capture { sender, interfaces: self.interfaces_of(rule) }));
        }
        Ok(Prepared { captures, new })
    }

    fn open(&mut self, rule: &InlineRule) -> Result<(ViewSender, Tap), Failure> {
        self.wait_for_files_of(rule)?;
        let (sender, source) = views()?;
        self.opened = self.opened.wrapping_add(1);
        let mut opening = self.targets.open(&rule.to, self.sending, self.opened, 1)?;
        let mut groups = opening.groups(0, None, true)?;
        if let Some((options, _)) = &self.archive {
            let recorder = Recorder::new(options.clone(), &self.interfaces, Now::read())?;
            let target = Target::new("recorder".into(), Box::new(recorder));
            groups.push(TargetGroup::new(vec![target], &[1]));
        }
        let name = format!("views of {}", rule.name);
        let input = Input { name: name.clone(), source: Box::new(source) };
        let mut tap = Tap::new(name, vec![input], groups);
        tap.needs_flow_hash = has_tunnels(&rule.to);
        Ok((sender, tap))
    }

    /// Waits until nobody writes the files of a rule any more that has gone and comes back.
    fn wait_for_files_of(&self, rule: &InlineRule) -> Result<(), Failure> {
        let begun = Instant::now();
        let is_written = |leaving: &&Leaving| {
            !leaving.crew.is_finished()
                && files(&leaving.to).any(|path| files(&rule.to).any(|wanted| wanted == path))
        };
        while let Some(Leaving { to, .. }) = self.leaving.iter().find(is_written) {
            if begun.elapsed() > DRY {
                let path = files(to).next().unwrap_or(Path::new("-")).display();
                return Err(Failure::CouldNot(format!(
                    "rule {}: {path} is still being written for a rule that is gone; try again later, or \
                     name another file",
                    rule.name
                )));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// The interface of each view that is wanted.
    fn interfaces_of(&self, rule: &InlineRule) -> [Option<InterfaceId>; 3] {
        let mut all = [None; 3];
        for view in &rule.views {
            let interface = Interface {
                name: Some(format!("{} {}", rule.name, view.name())),
                description: Some(rule.to_string()),
                snaplen: rule.snapshot_length,
                ..Interface::new(LinkType::ETHERNET.0)
            };
            all[*view as usize] = self.interfaces.find_or_add(interface, usize::MAX);
        }
        all
    }

    /// Starts what was prepared, and stops what no rule of a table needs any more.
    pub fn start(&mut self, new: Vec<NewTap>, config: &InlineConfig) -> Result<(), Failure> {
        for (to, sender, tap) in new {
            let crew = Crew::start(vec![tap])
                .map_err(|e| Failure::CouldNot(format!("start a worker: {e}")))?;
            self.running.push(Running { to, sender, crew });
        }
        let is_wanted = |running: &Running| {
            config.rules.iter().any(|rule| !rule.views.is_empty() && rule.to == running.to)
        };
        let (kept, leaving): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.running).into_iter().partition(is_wanted);
        self.running = kept;
        for Running { to, crew, .. } in leaving {
            crew.stop();
            self.leaving.push(Leaving { to, crew });
        }
        Ok(())
    }

    fn crews(&self) -> impl Iterator<Item = &Crew> {
        let leaving = self.leaving.iter().map(|leaving| &leaving.crew);
        self.running.iter().map(|running| &running.crew).chain(leaving)
    }

    /// Keeps the lines of what has run dry.
    fn bury(&mut self) {
        let (dry, leaving) = std::mem::take(&mut self.leaving)
            .into_iter()
            .partition(|leaving: &Leaving| leaving.crew.is_finished());
        let dry: Vec<Leaving> = dry;
        self.leaving = leaving;
        for Leaving { crew, .. } in dry {
            let (reports, result) = crew.join();
            self.gone.push(reports);
            self.results.push(result);
        }
    }

    /// Lets nothing more in; what waits is brought out.
    pub fn stop(&mut self) {
        self.crews().for_each(Crew::stop);
    }

    /// Whether all have ended.
    pub fn is_finished(&self) -> bool {
        self.crews().filter(|crew| !crew.is_finished()).count() == 0
    }

    /// Asks all for their ledger.
    pub fn ask(&mut self) {
        self.bury();
        self.asked = self.crews().map(|crew| crew.published().0).collect();
        self.crews().for_each(Crew::ask);
    }

    /// Their ledgers, once all have answered since [`Self::ask`].
    pub fn answered(&self) -> Option<Vec<CrewReport>> {
        let mut reports = self.gone.clone();
        for (crew, then) in self.crews().zip(&self.asked) {
            let is_finished = crew.is_finished();
            let (now, report) = crew.published();
            if !is_finished && now.iter().zip(then).any(|(now, then)| now <= then) {
                return None;
            }
            reports.push(report);
        }
        Some(reports)
    }

    /// Their ledgers between two batches of each.
    pub fn snapshot(&mut self) -> Option<Vec<CrewReport>> {
        self.bury();
        let running: Option<Vec<CrewReport>> = self.crews().map(Crew::snapshot).collect();
        Some(self.gone.iter().cloned().chain(running?).collect())
    }

    /// Waits for the end of all.
    pub fn join(self) -> (Vec<CrewReport>, Vec<Result<(), io::Error>>) {
        let Captures { running, leaving, mut gone, mut results, .. } = self;
        let leaving = leaving.into_iter().map(|leaving| leaving.crew);
        for crew in running.into_iter().map(|running| running.crew).chain(leaving) {
            let (reports, result) = crew.join();
            gone.push(reports);
            results.push(result);
        }
        (gone, results)
    }
}

/// Refuses two places of views that write one file. Rules whose views go to the same places are one.
fn must_stand_apart(config: &InlineConfig) -> Result<(), Failure> {
    let mut places = Places::default();
    let mut seen: Vec<&Vec<Group>> = Vec::new();
    for rule in config.rules.iter().filter(|rule| !rule.views.is_empty()) {
        if seen.contains(&&rule.to) {
            continue;
        }
        seen.push(&rule.to);
        files(&rule.to).try_for_each(|path| {
            places.claim(path).map_err(|failure| failure.of(&format!("rule {}", rule.name)))
        })?;
    }
    Ok(())
}
