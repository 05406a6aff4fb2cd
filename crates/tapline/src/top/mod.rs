//! `tapline top`: what goes through every running tapline of this host, again and again.

mod rates;
mod screen;
mod text;

use crate::cli::{Format, Top};
use crate::failure::Failure;
use crate::local::{Instance, instances};
use rates::{Process, Sampler};
use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

pub fn run(options: &Top) -> Result<(), Failure> {
    let mut looks = Looks::new(options);
    if options.format == Format::Text && std::io::stdout().is_terminal() {
        return screen::run(looks);
    }
    let failed = |e| Failure::CouldNot(format!("write to standard output: {e}"));
    while let Some(processes) = looks.next()? {
        let printed = match options.format {
            Format::Json => json(&processes),
            Format::Text => Ok(text::plain(&processes)),
        };
        let mut out = std::io::stdout().lock();
        let text = printed.map_err(|e| failed(e.into()))?;
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => {}
            // The reader had enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

/// One line for each process.
fn json(processes: &[Process]) -> serde_json::Result<String> {
    let lines = processes.iter().map(|process| Ok(serde_json::to_string(process)? + "\n"));
    lines.collect()
}

/// Looks at the processes asked for, one interval after the other.
struct Looks {
    of: Vec<String>,
    interval: Duration,
    /// Intervals left.
    left: Option<u64>,
    sampler: Sampler,
    last: Option<Instant>,
}

impl Looks {
    fn new(options: &Top) -> Looks {
        let (of, interval) = (options.of.clone(), options.interval);
        Looks { of, interval, left: options.count, sampler: Sampler::default(), last: None }
    }

    /// Waits for the end of an interval; gives what went through in it. `None` behind the last one.
    ///
    /// # Errors
    /// If one that was asked for is not there at the start.
    fn next(&mut self) -> Result<Option<Vec<Process>>, Failure> {
        if self.left == Some(0) {
            return Ok(None);
        }
        self.left = self.left.map(|left| left - 1);
        let last = match self.last {
            Some(last) => last,
            None => {
                let first = self.look();
                self.must_be_there(&first)?;
                Instant::now()
            }
        };
        let due = last + self.interval;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // After a delay, such as one that did not answer, time begins anew.
        let is_late = due.elapsed() > self.interval;
        self.last = Some(if is_late { Instant::now() } else { due });
        Ok(Some(self.look()))
    }

    fn look(&mut self) -> Vec<Process> {
        let asked = ask(instances());
        let mut processes = self.sampler.sample(asked);
        if !self.of.is_empty() {
            processes.retain(|process| self.of.iter().any(|of| process.is_called(of)));
        }
        processes
    }

    fn must_be_there(&self, found: &[Process]) -> Result<(), Failure> {
        match self.of.iter().find(|of| !found.iter().any(|process| process.is_called(of))) {
            None => Ok(()),
            Some(missing) => Err(Failure::CouldNot(format!(
                "{missing}: no tapline of that process id or name runs on this host; `tapline top` \
                 shows all that do"
            ))),
        }
    }

    /// Sends each look to another thread until nobody takes it.
    fn send(mut self, to: &Sender<Result<Vec<Process>, Failure>>) {
        loop {
            let Some(look) = self.next().transpose() else { return };
            let is_last = look.is_err();
            if to.send(look).is_err() || is_last {
                return;
            }
        }
    }
}

/// Asks all at the same time, as one of them may take long to answer.
fn ask(instances: Vec<Instance>) -> Vec<(Instance, std::io::Result<api::Status>)> {
    std::thread::scope(|scope| {
        let asked: Vec<_> = instances
            .into_iter()
            .map(|instance| {
                let of_thread = instance.clone();
                (instance, scope.spawn(move || of_thread.status()))
            })
            .collect();
        let answer = |(instance, thread): (Instance, std::thread::ScopedJoinHandle<'_, _>)| {
            let failed = |_| Err(std::io::Error::other("it could not be asked"));
            (instance, thread.join().unwrap_or_else(failed))
        };
        asked.into_iter().map(answer).collect()
    })
}
