//! The taps of a mirror while they run: stopped, changed by name, asked for their ledger.

use super::carrier::{Carrier, Startable};
use super::ceiling::Ceilings;
use super::kernel::{self, KernelSide, KernelTap};
use super::lines::Lines;
use super::place::netns_of;
use super::prepare::Ready;
use super::{FilterPlace, interfaces_of, must_stand_apart, workers_of};
use crate::failure::Failure;
use crate::loops;
use crate::session::{Activity, Reloaded};
use crate::targets::{Targets, devices, files, has_tunnels};
use crate::workers::say_files;
use api::{Datapath, Stats, TapConfig, TapSource};
use io::Interfaces;
use pipeline::{Crew, CrewReport, FarEnd, OwnTunnels};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a tap that has been taken out of the file may take to run dry.
const DRY: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(2);
/// The lane of packets that the kernel hands up: its own CPUs have those from 0 on.
pub(super) const HAND_UP_LANE: u8 = u8::MAX;

/// Where taps run unless they say so themselves.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    pub datapath: Datapath,
    pub filter: FilterPlace,
}

/// Running taps.
pub struct Live {
    /// The file that says which; `None` if the options did.
    file: Option<PathBuf>,
    pub(super) places: Places,
    pub(super) interfaces: Interfaces,
    pub(super) targets: Targets,
    /// Taps opened so far, which tells their packets apart.
    pub(super) opened: u16,
    pub(super) taps: Vec<Running>,
    /// Those taken out of the file that have not run dry yet, with their names.
    leaving: Vec<(String, Crew)>,
    /// What those counted that are gone.
    pub(super) gone: Vec<Lines>,
    results: Vec<Result<(), io::Error>>,
    /// Ledgers that each worker had published when it was asked.
    asked: Vec<Vec<u64>>,
    // Behind the taps, which it carries.
    pub(super) kernel: KernelSide,
}

pub(super) struct Running {
    pub(super) config: TapConfig,
    pub(super) carrier: Carrier,
    pub(super) far_ends: Vec<FarEnd>,
}

impl Live {
    /// No tap runs yet.
    pub fn new(file: Option<PathBuf>, places: Places) -> Live {
        let interfaces = Interfaces::default();
        Live {
            file,
            places,
            targets: Targets::new(&interfaces),
            interfaces,
            opened: 0,
            taps: Vec::new(),
            leaving: Vec::new(),
            gone: Vec::new(),
            results: Vec::new(),
            asked: Vec::new(),
            kernel: KernelSide::default(),
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
        let ceilings = Ceilings::of(configs);
        let ready = self.prepare(configs, &ceilings, configs.len(), |_| true)?;
        let begun = ready.iter().map(Ready::announcement);
        let begun = begun.chain(said_of_files).collect();
        Ok((self.finish(ready)?, begun))
    }

    /// Starts taps that were opened.
    pub fn start(&mut self, taps: Vec<Startable>) -> Result<(), Failure> {
        let failed = |e: std::io::Error| Failure::CouldNot(format!("start a worker: {e}"));
        for Startable { config, carrier, far_ends } in taps {
            let carrier = carrier.start().map_err(failed)?;
            self.taps.push(Running { config, carrier, far_ends });
        }
        self.recognise(&[]);
        Ok(())
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
        self.taps.iter().any(|tap| tap.config == *wanted && tap.goes_on())
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
        let (mut kept, mut in_kernel) = (Vec::new(), Vec::new());
        for tap in std::mem::take(&mut self.taps) {
            if wanted.contains(&tap.config) && tap.goes_on() {
                kept.push(tap);
                continue;
            }
            match tap.carrier {
                Carrier::Ring { crew, .. } => {
                    crew.stop();
                    self.leaving.push((tap.config.name, crew));
                }
                Carrier::Kernel(tap) => in_kernel.push(*tap),
            }
        }
        self.end_kernel_taps(in_kernel);
        self.taps = kept;
        let end = Instant::now() + DRY;
        while self.leaving.iter().any(|(_, crew)| !crew.is_finished()) && Instant::now() < end {
            std::thread::park_timeout(LOOK);
        }
        self.kernel.keep_used();
        self.bury();
    }

    /// Ends taps that the kernel carries, and keeps their lines.
    pub(super) fn end_kernel_taps(&mut self, taps: impl IntoIterator<Item = KernelTap>) {
        let taps: Vec<KernelTap> = taps.into_iter().collect();
        let taken_off = kernel::take_off(&taps.iter().collect::<Vec<_>>());
        self.results.push(taken_off);
        for tap in taps {
            let (lines, results) = tap.end();
            lines.gone().add_to(&mut self.gone);
            self.results.extend(results);
        }
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
            let lines = Lines::of(&reports).map(Lines::gone);
            lines.into_iter().for_each(|lines| lines.add_to(&mut self.gone));
        }
    }

    /// Tells the taps that go on which tunnels are this process's from now on.
    fn recognise(&self, new: &[Ready<'_>]) {
        let running = self.taps.iter().flat_map(|tap| &tap.far_ends);
        let far_ends = running.chain(new.iter().flat_map(Ready::far_ends));
        let far_ends: Vec<FarEnd> = far_ends.copied().collect();
        self.kernel.recognise(&far_ends);
        for tap in self.taps.iter().filter(|tap| has_tunnels(&tap.config.to)) {
            let Carrier::Ring { crew, sees_loopback, .. } = &tap.carrier else { continue };
            let own = OwnTunnels::new(far_ends.clone(), *sees_loopback);
            if !crew.is_finished() && crew.recognise(&own).is_err() {
                tracing::warn!(
                    "tap {}: it does not come to the end of its batch, so that it may mirror what \
                     new taps send",
                    tap.config.name
                );
            }
        }
    }

    /// Gives taps that go on their part of the links, of which others have come or gone.
    fn share_links(&self, ceilings: &Ceilings) {
        for Running { config, carrier, .. } in &self.taps {
            if let Err(error) = carrier.set_ceiling(ceilings.rate(config)) {
                tracing::warn!("tap {}: its ceiling stays as it was: {error}", config.name);
            }
        }
    }

    fn crews(&self) -> impl Iterator<Item = &Crew> {
        let running = self.taps.iter().flat_map(|tap| tap.carrier.crews());
        running.chain(self.leaving.iter().map(|(_, crew)| crew))
    }

    /// The ledger by the reports of all crews.
    fn ledger(&self, reports: Vec<CrewReport>) -> Stats {
        let mut lines = Vec::new();
        let mut reports = reports.into_iter();
        for tap in &self.taps {
            let own = reports.by_ref().take(tap.carrier.crews().len()).collect();
            lines.extend(tap.carrier.lines(own));
        }
        lines.extend(reports.filter_map(|workers| Lines::of(&workers)));
        self.sum_up(lines)
    }

    fn sum_up(&self, mut lines: Vec<Lines>) -> Stats {
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

impl Running {
    /// Whether it has not come to its end by itself, nor what it taps. A file that is read may have.
    fn goes_on(&self) -> bool {
        match &self.carrier {
            Carrier::Ring { crew, .. } => {
                matches!(self.config.source, TapSource::File(_)) || !crew.is_finished()
            }
            // An interface that is gone is waited for, but not one of a namespace that is another one now.
            Carrier::Kernel(tap) => {
                netns_of(&self.config).is_ok_and(|netns| tap.is_in(netns.as_ref()))
            }
        }
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

impl Activity for Live {
    fn is_finished(&self) -> bool {
        // Each is asked: a crew of which one worker has ended ends as one.
        let running = self.taps.iter().filter(|tap| !tap.carrier.is_finished()).count();
        running + self.leaving.iter().filter(|(_, crew)| !crew.is_finished()).count() == 0
    }

    fn stop(&mut self) {
        self.leaving.iter().for_each(|(_, crew)| crew.stop());
        // What is under way in the kernel is waited for, so rings are stopped first.
        self.taps.iter_mut().for_each(|tap| tap.carrier.stop_ring());
        self.kernel.stop();
        self.taps.iter_mut().for_each(|tap| tap.carrier.stop_kernel());
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
        Some(self.ledger(reports))
    }

    fn snapshot(&mut self) -> Option<Stats> {
        let reports = self.crews().map(Crew::snapshot).collect::<Option<Vec<_>>>()?;
        Some(self.ledger(reports))
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
        let ceilings = Ceilings::of(&wanted);
        let is_new = |config: &TapConfig| new.contains(&config.name);
        let ready = self.prepare(&wanted, &ceilings, usize::MAX, is_new)?;
        self.stop_all_but(&wanted);
        self.recognise(&ready);
        let kept: BTreeSet<String> = wanted.iter().flat_map(|config| devices(&config.to)).collect();
        self.targets.keep_devices(|name| kept.contains(name));
        let startable = self.finish(ready)?;
        self.start(startable)?;
        self.share_links(&ceilings);
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
        let mut all = Vec::new();
        let mut results = std::mem::take(&mut self.results);
        let leaving = std::mem::take(&mut self.leaving).into_iter();
        let leaving =
            leaving.map(|(_, crew)| Carrier::Ring { crew, sees_loopback: false, ceiling: None });
        let running = std::mem::take(&mut self.taps).into_iter().map(|tap| tap.carrier);
        for carrier in running.chain(leaving) {
            let (lines, of_it) = carrier.end();
            all.extend(lines);
            results.extend(of_it);
        }
        (self.sum_up(all), results)
    }
}
