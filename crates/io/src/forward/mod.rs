//! Forwarding between two interfaces by rules: by the kernel, or in user space from a ring through a
//! translation to another interface.
//!
//! ```text
//!                ┌─────────────── one thread ───────────────┐
//!  in   ring ───►│ rule ─ session ─ hops ─ size ─ translate │───► out  packet socket
//!  in   socket ◄─│                                          │◄─── out  ring
//!                └──────────────────┬───────────────────────┘
//!                                   └ views, copied: a bounded channel ─► who records
//! ```
//! Where the kernel forwards ([`crate::inline`]), the thread looks after its table, answers what it leaves
//! to user space, and hands on its copies for views.
//!
//! In user space the kernel takes no part: it must have neither the rules' addresses nor their sources, as it would
//! answer, too. ARP and neighbour discovery are answered here for both. The next host's link address is
//! the kernel's business ([`Underlay`]); a client's is that which brought its last packet.

mod fragments;
mod in_kernel;
mod neighbours;
mod own;
mod report;
mod running;
mod sessions;
mod side;
mod table;
mod views;

pub use own::OwnAddresses;
pub use report::{Counts, ForwardReport, OtherReport, RuleReport, SideReport};
pub use sessions::{Session, State};
pub use table::{Capture, Table};
pub use views::{ViewSender, ViewSource, views};

use crate::error::Error;
use crate::inline::InlineStart;
use crate::waker::{Waker, waker};
use api::{InlineConfig, RingSize};
use in_kernel::InKernel;
use running::Running;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

#[cfg(doc)]
use crate::underlay::Underlay;

/// How long a table may wait for its turn, and how often it is looked whether it waits in vain.
const TURN: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);

/// Sessions that a report shows at most.
pub const SESSIONS_SHOWN_MAX: usize = 1000;

/// A forwarder at work.
pub struct Forwarder {
    thread: Option<JoinHandle<ForwardReport>>,
    shared: Arc<Shared>,
    waker: Waker,
}

/// What the thread and its owner share. The thread looks at the flags once a batch.
#[derive(Default)]
pub(crate) struct Shared {
    stop: AtomicBool,
    /// A report is wanted, and how many have been published.
    asked: AtomicBool,
    published: AtomicU64,
    report: Mutex<ForwardReport>,
    /// A table that is to take the place of the one at hand.
    has_table: AtomicBool,
    change: Mutex<Option<Change>>,
}

/// A table that waits for its turn, and where what became of it is told.
struct Change {
    table: Table,
    told: SyncSender<Result<(), Error>>,
}

impl Shared {
    /// The table that waits, if one does.
    fn take_change(&self) -> Option<Change> {
        self.has_table.swap(false, Ordering::Acquire).then(|| lock(&self.change).take()).flatten()
    }
}

fn not_taken(why: &str) -> Error {
    Error::system("change the table of the forwarder", std::io::Error::other(why.to_owned()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A forwarder whose interfaces are open: packets wait for it.
pub struct ReadyForwarder {
    run: Box<dyn FnOnce() -> ForwardReport + Send>,
    shared: Arc<Shared>,
    waker: Waker,
}

impl ReadyForwarder {
    /// Has the kernel forward from now on, in the calling thread's network namespace; says how the table
    /// began.
    ///
    /// # Errors
    /// As [`crate::inline::KernelInline::open`].
    pub fn open_in_kernel(
        table: Table,
        ring_size: RingSize,
    ) -> Result<(ReadyForwarder, InlineStart), Error> {
        let shared = Arc::new(Shared::default());
        let (waker, wakeup) = waker().map_err(|e| Error::system("make a forwarder", e))?;
        let (kernel, start) = InKernel::open(table, ring_size, Arc::clone(&shared), wakeup)?;
        let run = Box::new(move || kernel.run());
        Ok((ReadyForwarder { run, shared, waker }, start))
    }

    /// Opens both interfaces in the calling thread's network namespace.
    ///
    /// # Errors
    /// An interface that is not there or no Ethernet; [`Error::System`] without the right to open
    /// rings.
    pub fn open(table: Table, ring_size: RingSize) -> Result<ReadyForwarder, Error> {
        let shared = Arc::new(Shared::default());
        let (waker, wakeup) = waker().map_err(|e| Error::system("make a forwarder", e))?;
        let running = Running::new(table, ring_size, Arc::clone(&shared), wakeup)?;
        let run = Box::new(move || running.run());
        Ok(ReadyForwarder { run, shared, waker })
    }
}

impl Forwarder {
    /// Forwards from now on. The calling thread is unparked when it ends.
    ///
    /// # Errors
    /// [`Error::System`] if there is no thread left.
    pub fn start(ready: ReadyForwarder) -> Result<Forwarder, Error> {
        let ReadyForwarder { run, shared, waker } = ready;
        let main = std::thread::current();
        let thread = std::thread::Builder::new()
            .name("inline".into())
            .spawn(move || {
                let _last = Unpark(main);
                run()
            })
            .map_err(|e| Error::system("start a thread", e))?;
        Ok(Forwarder { thread: Some(thread), shared, waker })
    }

    /// Puts another table into the place of the one at hand, between two batches, and waits until that is
    /// done: some milliseconds as a rule. Sessions whose rule leads where it did go on.
    ///
    /// # Errors
    /// If the kernel refuses, or the forwarder has ended or takes no table within 5 s: the rules are then
    /// as they were.
    pub fn replace(&self, table: Table) -> Result<(), Error> {
        let (told, outcome) = sync_channel(1);
        *lock(&self.shared.change) = Some(Change { table, told });
        self.shared.has_table.store(true, Ordering::Release);
        self.waker.wake();
        let begun = Instant::now();
        loop {
            match outcome.recv_timeout(LOOK) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Disconnected) => return Err(not_taken("it has ended")),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let is_over = self.is_finished() || begun.elapsed() > TURN;
            // One that is being put in place is waited for.
            if is_over && lock(&self.shared.change).take().is_some() {
                return Err(not_taken("it does not answer"));
            }
        }
    }

    /// Lets nothing more in; what has come in is still forwarded.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Asks for a report without waiting for it; returns how many there have been.
    pub fn ask(&self) -> u64 {
        let published = self.shared.published.load(Ordering::Acquire);
        self.shared.asked.store(true, Ordering::Release);
        self.waker.wake();
        published
    }

    /// The last report, and how many there have been.
    pub fn published(&self) -> (u64, ForwardReport) {
        let report = lock(&self.shared.report).clone();
        (self.shared.published.load(Ordering::Acquire), report)
    }

    /// Waits for its end; gives the last report.
    pub fn join(mut self) -> ForwardReport {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(report)) => report,
            _ => lock(&self.shared.report).clone(),
        }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // A panic has been told by its own message.
            let _ = thread.join();
        }
    }
}

/// Unparks a thread when it is dropped.
struct Unpark(Thread);

impl Drop for Unpark {
    fn drop(&mut self) {
        self.0.unpark();
    }
}

/// The addresses of a table that this host has itself, in the calling thread's network namespace: the
/// kernel would answer for them, too.
///
/// # Errors
/// As [`OwnAddresses`].
pub fn own_addresses(config: &InlineConfig) -> Result<Vec<IpAddr>, Error> {
    let rules = config.rules.iter();
    let wanted: BTreeSet<IpAddr> =
        rules.flat_map(|rule| std::iter::once(rule.address).chain(rule.source)).collect();
    let mut own = OwnAddresses::open()?;
    let mut found = Vec::new();
    for address in wanted {
        if own.has(address)? {
            found.push(address);
        }
    }
    Ok(found)
}
