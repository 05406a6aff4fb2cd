//! The taps of a mirror while they run: stopped, changed by name, asked for their ledger.

use super::{FilterPlace, interfaces_of, must_fit, must_stand_apart, source};
use super::{warn_of_long_frames, workers_of};
use crate::failure::Failure;
use crate::loops;
use crate::opened::Opened;
use crate::session::{Activity, Reloaded};
use crate::targets::{Opening, Targets, devices, files, has_tunnels};
use crate::workers::say_files;
use api::{Stats, TapConfig, TapSource, TapStats, TargetStats};
use io::Interfaces;
use pipeline::{Crew, CrewReport, FarEnd, OwnTunnels, Tap, tap_line, target_lines};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a tap that has been taken out of the file may take to run dry.
const DRY: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(2);

/// Running taps.
pub struct Live {
    /// The file that says which; `None` if the options did.
    file: Option<PathBuf>,
    filter_place: FilterPlace,
    interfaces: Interfaces,
    targets: Targets,
    /// Taps opened so far, which tells their packets apart.
    opened: u16,
    taps: Vec<Running>,
    /// Those taken out of the file that have not run dry yet, with their names.
    leaving: Vec<(String, Crew)>,
    /// What those counted that are gone.
    gone: Vec<Lines>,
    results: Vec<Result<(), io::Error>>,
    /// Ledgers that each worker had published when it was asked.
    asked: Vec<Vec<u64>>,
}

struct Running {
    config: TapConfig,
    crew: Crew,
    far_ends: Vec<FarEnd>,
    sees_loopback: bool,
}

/// A tap of which all but the files is open.
struct Ready<'a> {
    config: &'a TapConfig,
    opened: Opened,
    opening: Opening<'a>,
}

/// A tap that can be started.
pub struct Startable {
    config: TapConfig,
    shares: Vec<Tap>,
    far_ends: Vec<FarEnd>,
    sees_loopback: bool,
}

impl Live {
    /// No tap runs yet.
    pub fn new(file: Option<PathBuf>, filter_place: FilterPlace) -> Live {
        let interfaces = Interfaces::default();
        Live {
            file,
            filter_place,
            targets: Targets::new(&interfaces),
            interfaces,
            opened: 0,
            taps: Vec::new(),
            leaving: Vec::new(),
            gone: Vec::new(),
            results: Vec::new(),
            asked: Vec::new(),
        }
    }

    /// Opens the first taps, and says of each how it begins.
    pub fn open(
        &mut self,
        configs: &[TapConfig],
    ) -> Result<(Vec<Startable>, Vec<String>), Failure> {
        must_stand_apart(configs)?;
        loops::of_taps(configs)?;
        let said_of_files = say_of_files(configs)?;
        let ready = self.prepare(configs, configs.len(), |_| true)?;
        let begun = ready.iter().map(|ready| match ready.config.name == ready.opened.name {
            true => ready.opened.announcement.clone(),
            false => format!("tap {}: {}", ready.config.name, ready.opened.announcement),
        });
        let begun = begun.chain(said_of_files).collect();
        Ok((self.finish(ready)?, begun))
    }

    /// Starts taps that were opened.
    pub fn start(&mut self, taps: Vec<Startable>) -> Result<(), Failure> {
        for Startable { config, shares, far_ends, sees_loopback } in taps {
            let crew = Crew::start(shares)
                .map_err(|e| Failure::CouldNot(format!("start a worker: {e}")))?;
            self.taps.push(Running { config, crew, far_ends, sees_loopback });
        }
        Ok(())
    }

    /// Opens those taps that are to be opened. Whatever may fail comes before any file is replaced.
    fn prepare<'a>(
        &mut self,
        configs: &'a [TapConfig],
        all: usize,
        is_new: impl Fn(&TapConfig) -> bool,
    ) -> Result<Vec<Ready<'a>>, Failure> {
        let mut ready = Vec::new();
        for config in configs.iter().filter(|config| is_new(config)) {
            // Of one tap it is clear what is meant.
            let told = |failure: Failure| match all {
                1 => failure,
                _ => failure.of(&format!("tap {}", config.name)),
            };
            let opened = source(config, self.filter_place, &self.interfaces).map_err(told)?;
            must_fit(config, &opened.link_types)?;
            warn_of_long_frames(config);
            self.opened = self.opened.wrapping_add(1);
            let workers = opened.shares.len();
            let opening = self.targets.open(&config.to, config.sending, self.opened, workers);
            ready.push(Ready { config, opened, opening: opening.map_err(told)? });
        }
        Ok(ready)
    }

    /// Replaces the files of taps, which are then ready to run.
    fn finish(&self, ready: Vec<Ready<'_>>) -> Result<Vec<Startable>, Failure> {
        let running = self.taps.iter().flat_map(|tap| &tap.far_ends);
        let far_ends = running.chain(ready.iter().flat_map(|ready| &ready.opening.far_ends));
        let far_ends: Vec<FarEnd> = far_ends.copied().collect();
        let mut taps = Vec::new();
        for Ready { config, opened, mut opening } in ready {
            let mut shares = Vec::with_capacity(opened.shares.len());
            for (worker, (input, filter)) in opened.shares.into_iter().enumerate() {
                let is_live = input.source.is_live();
                let groups = opening.groups(worker, opened.first, is_live)?;
                let mut tap = Tap::new(config.name.clone(), vec![input], groups);
                tap.filter = filter;
                tap.snaplen =
                    (config.snapshot_length > 0).then_some(config.snapshot_length as usize);
                if has_tunnels(&config.to) {
                    tap.needs_flow_hash = true;
                    // Those of all taps are left out.
                    tap.own = OwnTunnels::new(far_ends.clone(), opened.sees_loopback);
                }
                shares.push(tap);
            }
            let (config, far_ends) = (config.clone(), opening.far_ends);
            let sees_loopback = opened.sees_loopback;
            taps.push(Startable { config, shares, far_ends, sees_loopback });
        }
        Ok(taps)
    }

    /// What the file says now.
    fn wanted(&self) -> Result<Vec<TapConfig>, Failure> {
        match &self.file {
            Some(path) => Ok(api::read_mirror_file(path)?),
            None => Err(Failure::Usage(
                "it was started without a configuration file, so that there is nothing to reload"
                    .into(),
            )),
        }
    }

    /// Whether a tap goes on as it is. One whose interface has failed it is opened anew.
    fn keeps(&self, wanted: &TapConfig) -> bool {
        self.taps.iter().any(|tap| {
            let is_file = matches!(tap.config.source, TapSource::File(_));
            tap.config == *wanted && (is_file || !tap.crew.is_finished())
        })
    }

    /// A line for each tap that is added, changed or removed.
    fn plan(&self, wanted: &[TapConfig]) -> Vec<String> {
        let change = |config: &TapConfig| {
            let is_known = self.taps.iter().any(|tap| tap.config.name == config.name);
            let what = if is_known { "opened anew" } else { "added" };
            (!self.keeps(config)).then(|| format!("tap {}: {what}", config.name))
        };
        let gone = |tap: &&Running| !wanted.iter().any(|config| config.name == tap.config.name);
        let removed = self.taps.iter().filter(gone);
        let removed = removed.map(|tap| format!("tap {}: removed", tap.config.name));
        wanted.iter().filter_map(change).chain(removed).collect()
    }

    /// Stops those taps that are not kept, and waits until they have run dry.
    fn stop_all_but(&mut self, wanted: &[TapConfig]) {
        let mut kept = Vec::new();
        for tap in std::mem::take(&mut self.taps) {
            let is_wanted = wanted.contains(&tap.config);
            let is_file = matches!(tap.config.source, TapSource::File(_));
            if is_wanted && (is_file || !tap.crew.is_finished()) {
                kept.push(tap);
            } else {
                tap.crew.stop();
                self.leaving.push((tap.config.name, tap.crew));
            }
        }
        self.taps = kept;
        let end = Instant::now() + DRY;
        while self.leaving.iter().any(|(_, crew)| !crew.is_finished()) && Instant::now() < end {
            std::thread::park_timeout(LOOK);
        }
        self.bury();
    }

    /// Keeps the lines of those that have run dry.
    fn bury(&mut self) {
        let (dry, leaving) = std::mem::take(&mut self.leaving)
            .into_iter()
            .partition(|(_, crew): &(String, Crew)| crew.is_finished());
        self.leaving = leaving;
        for (name, _) in &self.leaving {
            tracing::warn!("tap {name}: it still has packets for a reader that does not take them");
        }
        for (_, crew) in dry {
            let (reports, result) = crew.join();
            self.results.push(result);
            Lines::of(&reports, true).into_iter().for_each(|lines| lines.add_to(&mut self.gone));
        }
    }

    /// Tells the taps that go on which tunnels are this process's from now on.
    fn recognise(&self, new: &[Ready<'_>]) {
        let running = self.taps.iter().flat_map(|tap| &tap.far_ends);
        let far_ends = running.chain(new.iter().flat_map(|ready| &ready.opening.far_ends));
        let far_ends: Vec<FarEnd> = far_ends.copied().collect();
        for tap in self.taps.iter().filter(|tap| has_tunnels(&tap.config.to)) {
            let own = OwnTunnels::new(far_ends.clone(), tap.sees_loopback);
            if !tap.crew.is_finished() && tap.crew.recognise(&own).is_err() {
                tracing::warn!(
                    "tap {}: it does not come to the end of its batch, so that it may mirror what \
                     new taps send",
                    tap.config.name
                );
            }
        }
    }

    fn crews(&self) -> impl Iterator<Item = &Crew> {
        let running = self.taps.iter().map(|tap| &tap.crew);
        running.chain(self.leaving.iter().map(|(_, crew)| crew))
    }

    fn ledger(&self, reports: &[CrewReport]) -> Stats {
        let mut lines = Vec::new();
        reports.iter().filter_map(|workers| Lines::of(workers, false)).for_each(|l| lines.push(l));
        self.gone.iter().cloned().for_each(|gone| gone.add_to(&mut lines));
        let (received, written) =
            lines.iter().fold((0, 0), |(r, w), lines| (r + lines.received, w + lines.written));
        let (taps, targets): (Vec<_>, Vec<_>) =
            lines.into_iter().map(|lines| (lines.tap, lines.targets)).unzip();
        let mut stats = Stats::new(taps, Vec::new(), targets.into_iter().flatten().collect());
        // What a target recorded counts as received and written too, without a second line for it.
        (stats.received, stats.written) = (received, written);
        stats
    }
}

/// What is said of files that several workers write.
fn say_of_files(configs: &[TapConfig]) -> Result<Vec<String>, Failure> {
    let mut said = Vec::new();
    for config in configs.iter().filter(|config| workers_of(config) > 1) {
        for path in files(&config.to) {
            said.push(say_files(path, workers_of(config))?);
        }
    }
    Ok(said)
}

/// The lines of a tap in the ledger.
#[derive(Debug, Clone)]
struct Lines {
    tap: TapStats,
    targets: Vec<TargetStats>,
    received: u64,
    written: u64,
}

impl Lines {
    fn of(workers: &CrewReport, is_gone: bool) -> Option<Lines> {
        let mut tap = tap_line(workers)?;
        let mut targets = target_lines(workers);
        if is_gone {
            // The tap of this name may have other rules now, and queues of its own.
            tap.rules.clear();
            for line in &mut targets {
                (line.queue_bytes, line.queue_bytes_max, line.healthy) = (0, 0, None);
            }
        }
        let mut lines = Lines { tap, targets, received: 0, written: 0 };
        for source in workers.iter().flat_map(|report| report.sources.iter().flatten()) {
            lines.received += source.received;
            lines.written += source.written;
        }
        Some(lines)
    }

    /// Adds what is gone to the lines of the tap of the same name; as new ones if there is none.
    fn add_to(self, all: &mut Vec<Lines>) {
        let Some(same) = all.iter_mut().find(|lines| lines.tap.name == self.tap.name) else {
            return all.push(self);
        };
        same.tap.merge(&self.tap);
        same.received += self.received;
        same.written += self.written;
        for target in self.targets {
            match same.targets.iter_mut().find(|known| known.endpoint == target.endpoint) {
                Some(known) => known.merge(&target),
                None => same.targets.push(target),
            }
        }
    }
}

impl Activity for Live {
    fn is_finished(&self) -> bool {
        // Each is asked: a crew of which one worker has ended ends as one.
        self.crews().filter(|crew| !crew.is_finished()).count() == 0
    }

    fn stop(&mut self) {
        self.crews().for_each(Crew::stop);
    }

    fn ask(&mut self) {
        self.asked = self.crews().map(|crew| crew.published().0).collect();
        self.crews().for_each(Crew::ask);
    }

    fn answered(&mut self) -> Option<Stats> {
        let mut reports = Vec::new();
        for (crew, then) in self.crews().zip(&self.asked) {
            let is_finished = crew.is_finished();
            let (now, report) = crew.published();
            if !is_finished && now.iter().zip(then).any(|(now, then)| now <= then) {
                return None;
            }
            reports.push(report);
        }
        Some(self.ledger(&reports))
    }

    fn snapshot(&mut self) -> Option<Stats> {
        let reports = self.crews().map(Crew::snapshot).collect::<Option<Vec<_>>>()?;
        Some(self.ledger(&reports))
    }

    fn can_reload(&self) -> bool {
        self.file.is_some()
    }

    fn reload(&mut self) -> Result<Reloaded, Failure> {
        let wanted = self.wanted()?;
        must_stand_apart(&wanted)?;
        loops::of_taps(&wanted)?;
        let changes = self.plan(&wanted);
        let new: BTreeSet<String> = wanted
            .iter()
            .filter(|config| !self.keeps(config))
            .map(|config| config.name.clone())
            .collect();
        say_of_files(&wanted)?;
        // From here on nothing fails but for want of memory, or of a file's folder.
        let ready = self.prepare(&wanted, usize::MAX, |config| new.contains(&config.name))?;
        self.stop_all_but(&wanted);
        self.recognise(&ready);
        let kept: BTreeSet<String> = wanted.iter().flat_map(|config| devices(&config.to)).collect();
        self.targets.keep_devices(|name| kept.contains(name));
        let startable = self.finish(ready)?;
        self.start(startable)?;
        let place = |tap: &Running| wanted.iter().position(|config| config.name == tap.config.name);
        self.taps.sort_by_key(place);
        // What was asked for before is another list of workers, in another order.
        self.ask();
        Ok(Reloaded { changes })
    }

    fn show(&mut self) -> Result<serde_json::Value, Failure> {
        let stats = self.snapshot();
        let names = |configs: &mut dyn Iterator<Item = &TapConfig>| -> Vec<String> {
            configs.map(|config| config.name.clone()).collect()
        };
        let observed = names(&mut self.taps.iter().map(|tap| &tap.config));
        let (wanted, plan) = match self.wanted() {
            Ok(wanted) => (json!({ "taps": names(&mut wanted.iter()) }), self.plan(&wanted)),
            Err(failure) => (json!({ "error": failure.message() }), Vec::new()),
        };
        let observed = json!({ "taps": observed, "stats": stats });
        Ok(json!({ "wanted": wanted, "observed": observed, "plan": plan }))
    }

    fn interfaces(&self) -> Vec<String> {
        interfaces_of(self.taps.iter().map(|tap| &tap.config))
    }

    fn join(mut self: Box<Self>) -> (Stats, Vec<Result<(), io::Error>>) {
        let running = std::mem::take(&mut self.taps).into_iter().map(|tap| tap.crew);
        let leaving = std::mem::take(&mut self.leaving).into_iter().map(|(_, crew)| crew);
        let (reports, results): (Vec<CrewReport>, Vec<_>) =
            running.chain(leaving).map(Crew::join).unzip();
        let stats = self.ledger(&reports);
        (stats, self.results.into_iter().chain(results).collect())
    }
}
