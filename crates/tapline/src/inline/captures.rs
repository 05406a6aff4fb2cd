//! Where the views of rules go: rules whose views go to the same places share a channel, a worker and
//! the files. Where those of all rules go is one such channel, beside what a rule has of its own.
//!
//! A change comes in two steps, as whatever may be refused comes before any file is replaced: all that has
//! a far end is opened first, and the channels, which the forwarder then fills. Once it has taken them, what
//! is no longer wanted runs dry, and only then are files opened, which may be the ones it wrote.

use crate::archiving::{Archiving, Shown};
use crate::failure::Failure;
use crate::targets::{Opening, Places, Targets, devices, files, has_tunnels};
use api::{Group, InlineConfig, InlineRule, Sending};
use archive::{Recorder, RecorderOptions};
use capfile::Interface;
use io::forward::{Capture, ViewSender, ViewSource, views};
use io::{InterfaceId, Interfaces, Now};
use pipeline::{Crew, CrewReport, Input, Tap, Target, TargetGroup};
use std::collections::BTreeSet;
use std::path::Path;
use std::slice;
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
    /// Where the views of all rules go, too.
    shared: Option<Group>,
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

/// Captures of a table, in the order of its rules, and what they need beside what runs.
pub struct Prepared<'a> {
    /// For each rule.
    pub captures: Vec<Option<Capture>>,
    /// What is to be started for them.
    pub new: Vec<Channel<'a>>,
}

/// A channel for views, and where it leads: all is open but the files.
pub struct Channel<'a> {
    name: String,
    to: &'a [Group],
    sender: ViewSender,
    source: ViewSource,
    opening: Opening<'a>,
}

/// What carries views, with its files.
pub struct NewTap {
    to: Vec<Group>,
    sender: ViewSender,
    tap: Tap,
}

impl Captures {
    /// None runs yet. `sending` is how views go into tunnels; `shared` is what each rule's places end with,
    /// if there is such a place.
    pub fn new(sending: Sending, shared: Option<Group>) -> Captures {
        let interfaces = Interfaces::default();
        Captures {
            targets: Targets::new(&interfaces),
            interfaces,
            archive: None,
            sending,
            shared,
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

    /// Opens what a table needs beside what runs, but for the files.
    ///
    /// # Errors
    /// If something cannot be had: then all is as before.
    pub fn prepare<'a>(&mut self, config: &'a InlineConfig) -> Result<Prepared<'a>, Failure> {
        let prepared = self.channels(config);
        if prepared.is_err() {
            self.forget_devices();
        }
        prepared
    }

    fn channels<'a>(&mut self, config: &'a InlineConfig) -> Result<Prepared<'a>, Failure> {
        self.must_stand_apart(config)?;
        let mut new: Vec<Channel<'a>> = Vec::new();
        let mut captures = Vec::with_capacity(config.rules.len());
        for rule in &config.rules {
            let mut all: Option<ViewSender> = None;
            for (to, name) in self.places(rule) {
                let known = self.running.iter().find(|running| running.to == to);
                let known = known.map(|running| running.sender.clone());
                let begun = new.iter().find(|channel| channel.to == to);
                let sender = match known.or_else(|| begun.map(|channel| channel.sender.clone())) {
                    Some(sender) => sender,
                    None => {
                        let channel = self.channel(name, to)?;
                        let sender = channel.sender.clone();
                        new.push(channel);
                        sender
                    }
                };
                all = Some(match all {
                    Some(own) => own.beside(sender),
                    None => sender,
                });
            }
            let interfaces = self.interfaces_of(rule);
            captures.push(all.map(|sender| Capture { sender, interfaces }));
        }
        Ok(Prepared { captures, new })
    }

    /// Where the views of a rule go, if it has some: a channel for what is its own, and one for what is all
    /// rules'; with their names.
    fn places<'a>(&self, rule: &'a InlineRule) -> Vec<(&'a [Group], String)> {
        let name = format!("views of {}", rule.name);
        match (rule.to.split_last(), &self.shared) {
            _ if rule.views.is_empty() => Vec::new(),
            // What has one file twice is no other channel's, and is refused.
            (Some((last, own)), Some(shared))
                if last == shared && !own.is_empty() && !own.contains(shared) =>
            {
                let for_all = format!("{name} for -w");
                vec![(own, name), (slice::from_ref(last), for_all)]
            }
            _ => vec![(&rule.to, name)],
        }
    }

    /// Refuses two places of views that write one file. Rules whose views go to the same places are one.
    fn must_stand_apart(&self, config: &InlineConfig) -> Result<(), Failure> {
        let mut places = Places::default();
        let mut seen: Vec<&[Group]> = Vec::new();
        for rule in &config.rules {
            for (to, _) in self.places(rule) {
                if seen.contains(&to) {
                    continue;
                }
                seen.push(to);
                files(to).try_for_each(|path| {
                    places.claim(path).map_err(|failure| failure.of(&format!("rule {}", rule.name)))
                })?;
            }
        }
        Ok(())
    }

    fn channel<'a>(&mut self, name: String, to: &'a [Group]) -> Result<Channel<'a>, Failure> {
        self.wait_for_files(&name, to)?;
        let (sender, source) = views()?;
        self.opened = self.opened.wrapping_add(1);
        let opening = self.targets.open(to, self.sending, self.opened, 1)?;
        Ok(Channel { name, to, sender, source, opening })
    }

    /// Replaces the files of channels.
    ///
    /// # Errors
    /// If one cannot be written.
    pub fn finish(&self, new: Vec<Channel<'_>>) -> Result<Vec<NewTap>, Failure> {
        new.into_iter().map(|channel| self.tap(channel)).collect()
    }

    fn tap(&self, channel: Channel<'_>) -> Result<NewTap, Failure> {
        let Channel { name, to, sender, source, mut opening } = channel;
        let mut groups = opening.groups(0, None, true)?;
        // Once only: what is all rules' is where each rule's views are.
        let is_for_all = self.shared.as_ref().is_none_or(|shared| *to == [shared.clone()]);
        if let Some((options, _)) = self.archive.as_ref().filter(|_| is_for_all) {
            let recorder = Recorder::new(options.clone(), &self.interfaces, Now::read())?;
            let target = Target::new("recorder".into(), Box::new(recorder));
            groups.push(TargetGroup::new(vec![target], &[1]));
        }
        let input = Input { name: name.clone(), source: Box::new(source) };
        let mut tap = Tap::new(name, vec![input], groups);
        tap.needs_flow_hash = has_tunnels(to);
        Ok(NewTap { to: to.to_vec(), sender, tap })
    }

    /// Waits until nobody writes files any more that were another's and are wanted again.
    fn wait_for_files(&self, name: &str, to: &[Group]) -> Result<(), Failure> {
        let begun = Instant::now();
        let wanted = Places::of(to);
        let written = |leaving: &Leaving| {
            let is_over = leaving.crew.is_finished();
            // A pipe has no place.
            let is_wanted = |path: &&Path| wanted.has(path) || files(to).any(|file| file == *path);
            files(&leaving.to).filter(|_| !is_over).find(is_wanted).map(Path::to_owned)
        };
        while let Some(path) = self.leaving.iter().find_map(written) {
            if begun.elapsed() > DRY {
                let path = path.display();
                return Err(Failure::CouldNot(format!(
                    "{name}: {path} is still being written for a rule that is gone or has changed; try \
                     again later, or name another file"
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

    /// Starts what is ready.
    pub fn start(&mut self, new: Vec<NewTap>) -> Result<(), Failure> {
        for NewTap { to, sender, tap } in new {
            let crew = Crew::start(vec![tap])
                .map_err(|e| Failure::CouldNot(format!("start a worker: {e}")))?;
            self.running.push(Running { to, sender, crew });
        }
        Ok(())
    }

    /// Stops what no rule of a table needs any more, and starts what is new; the forwarder has both by now.
    /// A line for each channel that leads nowhere, as its files could not be had in the end: the rules
    /// are in force all the same, and the next change tries again.
    pub fn turn_into(&mut self, new: Vec<Channel<'_>>, config: &InlineConfig) -> Vec<String> {
        let running = std::mem::take(&mut self.running);
        let is_wanted = |running: &Running| {
            config.rules.iter().flat_map(|rule| self.places(rule)).any(|(to, _)| running.to == to)
        };
        let (kept, leaving): (Vec<_>, Vec<_>) = running.into_iter().partition(is_wanted);
        self.running = kept;
        for Running { to, crew, .. } in leaving {
            crew.stop();
            self.leaving.push(Leaving { to, crew });
        }
        let mut lines = Vec::new();
        for channel in new {
            let name = channel.name.clone();
            let tap = self.wait_for_files(&name, channel.to).and_then(|()| self.tap(channel));
            if let Err(failure) = tap.and_then(|tap| self.start(vec![tap])) {
                let why = failure.message().unwrap_or_default();
                lines.push(format!("{name}: they go nowhere until the next change: {why}"));
            }
        }
        self.forget_devices();
        // What was asked for before is another list of workers.
        self.ask();
        lines
    }

    /// Gives up the TAP devices that nothing running feeds.
    pub fn forget_devices(&mut self) {
        let fed: BTreeSet<String> = self.running.iter().flat_map(|of| devices(&of.to)).collect();
        self.targets.keep_devices(|name| fed.contains(name));
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
