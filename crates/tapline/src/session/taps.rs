//! Taps that run until they end: the activity of `mirror`, `receive` and `capture`.

use super::Activity;
use crate::failure::Failure;
use api::Stats;
use pipeline::{Crew, CrewReport, Tap};

/// Makes a command's ledger of its taps' reports.
type Ledger<'a> = Box<dyn Fn(&[CrewReport]) -> Stats + 'a>;

/// Running taps, and how a ledger is made of their reports.
pub struct Taps<'a> {
    crews: Vec<Crew>,
    ledger: Ledger<'a>,
    interfaces: Vec<String>,
    /// Ledgers that each worker had published when it was asked.
    asked: Vec<Vec<u64>>,
}

impl<'a> Taps<'a> {
    /// Starts taps, each given as the shares of its workers; `ledger` makes the command's ledger of
    /// their reports.
    pub fn start(
        taps: Vec<Vec<Tap>>,
        ledger: impl Fn(&[CrewReport]) -> Stats + 'a,
        interfaces: Vec<String>,
    ) -> Result<Taps<'a>, Failure> {
        let crews = taps.into_iter().map(Crew::start).collect::<Result<Vec<_>, _>>();
        let crews = crews.map_err(|e| Failure::CouldNot(format!("start a worker: {e}")))?;
        Ok(Taps { crews, ledger: Box::new(ledger), interfaces, asked: Vec::new() })
    }
}

impl Activity for Taps<'_> {
    fn is_finished(&self) -> bool {
        // Each is asked: a crew of which one worker has ended ends as one.
        self.crews.iter().filter(|crew| !crew.is_finished()).count() == 0
    }

    fn stop(&mut self) {
        self.crews.iter().for_each(Crew::stop);
    }

    fn ask(&mut self) {
        self.asked = self.crews.iter().map(|crew| crew.published().0).collect();
        self.crews.iter().for_each(Crew::ask);
    }

    fn answered(&mut self) -> Option<Stats> {
        let mut reports = Vec::with_capacity(self.crews.len());
        for (crew, then) in self.crews.iter().zip(&self.asked) {
            let is_finished = crew.is_finished();
            let (now, report) = crew.published();
            if !is_finished && now.iter().zip(then).any(|(now, then)| now <= then) {
                return None;
            }
            reports.push(report);
        }
        Some((self.ledger)(&reports))
    }

    fn snapshot(&mut self) -> Option<Stats> {
        let reports = self.crews.iter().map(Crew::snapshot).collect::<Option<Vec<_>>>()?;
        Some((self.ledger)(&reports))
    }

    fn interfaces(&self) -> Vec<String> {
        self.interfaces.clone()
    }

    fn join(self: Box<Self>) -> (Stats, Vec<Result<(), io::Error>>) {
        let (reports, results): (Vec<CrewReport>, Vec<_>) =
            self.crews.into_iter().map(Crew::join).unzip();
        ((self.ledger)(&reports), results)
    }
}
