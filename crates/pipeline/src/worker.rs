//! A worker: the thread that carries one graph.

use crate::engine::{DRAIN, Removed, Running};
use crate::graph::{Change, Graph};
use crate::report::Report;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

/// How long a reader waits for a worker to come to the end of its batch.
const SNAPSHOT: Duration = Duration::from_secs(2);

/// A running graph.
pub struct Worker {
    shared: Arc<Shared>,
    waker: io::Waker,
    thread: JoinHandle<(Result<(), io::Error>, Running)>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    ended: AtomicBool,
    wanted: AtomicBool,
    report: Mutex<Published>,
    fresh: Condvar,
    /// Whether there is a change to be made.
    has_change: AtomicBool,
    change: Mutex<Option<(Change, Sender<Removed>)>>,
}

/// Why a graph was not changed: it is being stopped, changed already, or the change keeps parts that
/// there are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeRefused;

impl std::fmt::Display for ChangeRefused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("it is stopping, or does not come to the end of its batch")
    }
}

impl std::error::Error for ChangeRefused {}

#[derive(Default)]
struct Published {
    count: u64,
    report: Report,
}

impl Worker {
    /// Starts a tap or another graph on a thread of its own, which unparks the calling thread when it
    /// ends.
    ///
    /// # Errors
    /// If the system has no thread or no descriptor left.
    pub fn start(graph: impl Into<Graph>) -> std::io::Result<Worker> {
        Worker::start_on(graph.into(), None)
    }

    /// Starts a graph on a thread that is kept on a core.
    pub(crate) fn start_on(graph: Graph, core: Option<usize>) -> std::io::Result<Worker> {
        let shared = Arc::new(Shared::default());
        let (waker, wakeup) = io::waker()?;
        let mut running = Running::new(graph, wakeup);
        shared.publish(running.report());
        let end = End { shared: Arc::clone(&shared), starter: std::thread::current() };
        let name = core.map_or("tap".into(), |core| format!("tap-{core}"));
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            core.into_iter().for_each(keep_on);
            let result = carry(&mut running, &end.shared);
            (result, running)
        })?;
        Ok(Worker { shared, waker, thread })
    }

    /// Asks the tap to stop: nothing more comes in, what has come in is carried to its end.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.waker.wake();
    }

    /// Whether the tap has come to its end.
    pub fn is_finished(&self) -> bool {
        self.shared.ended.load(Ordering::Acquire)
    }

    /// The ledger between two batches. `None` if the tap does not come to the end of its batch in
    /// 2 s: a reader of its output may be stuck.
    pub fn snapshot(&self) -> Option<Report> {
        let (before, _) = self.published();
        self.ask();
        self.answer(before)
    }

    /// Waits for a ledger later than so many that were published, as [`Self::snapshot`].
    pub(crate) fn answer(&self, before: u64) -> Option<Report> {
        let published = self.shared.report.lock().expect("the worker does not panic");
        let same = |published: &mut Published| published.count == before && !self.is_finished();
        let waited = self.shared.fresh.wait_timeout_while(published, SNAPSHOT, same);
        let (published, timeout) = waited.expect("the worker does not panic");
        (!timeout.timed_out()).then(|| published.report.clone())
    }

    /// Asks for a ledger without waiting for it: [`Self::published`] has it once the batch is through.
    pub fn ask(&self) {
        self.shared.wanted.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// The ledger that was published last, and how many were published so far: one more since
    /// [`Self::ask`] says that the tap goes on.
    pub fn published(&self) -> (u64, Report) {
        let published = self.shared.report.lock().unwrap_or_else(PoisonError::into_inner);
        (published.count, published.report.clone())
    }

    /// Changes the graph between two batches, once the sources that go have run dry; waits for that, a
    /// few seconds if the worker comes to the end of its batches. Packets of what is kept are neither
    /// lost nor doubled.
    ///
    /// # Errors
    /// [`ChangeRefused`]: nothing has changed.
    pub fn change(&self, change: Change) -> Result<Removed, ChangeRefused> {
        if self.is_finished() {
            // Nobody takes it up any more.
            return Err(ChangeRefused);
        }
        let (sender, receiver) = mpsc::channel();
        *self.shared.change.lock().unwrap_or_else(PoisonError::into_inner) = Some((change, sender));
        self.shared.has_change.store(true, Ordering::Release);
        self.waker.wake();
        let timeout = 2 * DRAIN + SNAPSHOT;
        match receiver.recv_timeout(timeout) {
            Ok(removed) => Ok(removed),
            // It has been taken up: then it is made, or refused by who dropped the sender.
            Err(_) if self.shared.take_change().is_none() => {
                receiver.recv().map_err(|_| ChangeRefused)
            }
            Err(_) => Err(ChangeRefused),
        }
    }

    /// Waits for the tap's end; gives its last ledger, and what went wrong if anything did. That was
    /// logged when it happened.
    pub fn join(self) -> (Report, Result<(), io::Error>) {
        let Ended { report, result, .. } = self.end();
        (report, result)
    }

    /// As [`Self::join`], but the tap's sources and sinks are given up with the result.
    pub(crate) fn end(self) -> Ended {
        let (result, running) = match self.thread.join() {
            Ok((result, running)) => (result, Some(running)),
            Err(_) => {
                let source =
                    std::io::Error::other("its worker panicked, which is a fault of tapline");
                let what = "a tap ended early".into();
                (Err(io::Error::System { what, source, mend: "" }), None)
            }
        };
        let published = self.shared.report.lock().unwrap_or_else(PoisonError::into_inner);
        Ended { report: published.report.clone(), result, _running: running }
    }
}

/// What is left of a worker.
pub(crate) struct Ended {
    pub report: Report,
    pub result: Result<(), io::Error>,
    _running: Option<Running>,
}

impl Shared {
    /// The change to be made, which is then the caller's to make.
    fn take_change(&self) -> Option<(Change, Sender<Removed>)> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn publish(&self, report: Report) {
        let mut published = self.report.lock().expect("a reader does not panic");
        published.count += 1;
        published.report = report;
        self.fresh.notify_all();
    }
}

/// Tells of a worker's end, also if it panics.
struct End {
    shared: Arc<Shared>,
    starter: Thread,
}

impl Drop for End {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        self.shared.fresh.notify_all();
        self.starter.unpark();
    }
}

/// Keeps the calling thread on a core.
fn keep_on(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    if let Err(error) = sched_setaffinity(None, &set) {
        tracing::warn!("a worker cannot be kept on core {core}: {error}");
    }
}

fn carry(running: &mut Running, shared: &Shared) -> Result<(), io::Error> {
    let mut answer: Option<Sender<Removed>> = None;
    while running.turn(shared.stop.load(Ordering::Relaxed)) {
        if shared.has_change.swap(false, Ordering::Acquire)
            && let Some((change, sender)) = shared.take_change()
        {
            // Refused: the sender is dropped, which tells. A change that goes on keeps its own.
            if running.begin_to_change(change).is_ok() {
                answer = Some(sender);
            }
        }
        if answer.is_some()
            && let Some(removed) = running.changed()
            && let Some(sender) = answer.take()
        {
            // Who asked may have given up: then nobody completes what was removed but its destructors.
            let _ = sender.send(removed);
        }
        if shared.wanted.swap(false, Ordering::Acquire) {
            shared.publish(running.report());
        }
    }
    // Nobody is to wait for a change that does not come.
    drop((answer, shared.take_change()));
    let result = running.finish();
    shared.publish(running.report());
    result
}
