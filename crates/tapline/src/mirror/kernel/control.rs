//! The thread that looks after mirrors in the kernel: what is due by the clock, the health of groups,
//! and the far ends' knowledge of how many packets there were.

use super::{Inner, OneMirror};
use io::Now;
use io::mirror::TargetId;
use io::tunnel::TunnelSink;
use pipeline::{GroupHealth, GroupTable};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often it looks.
const PERIOD: Duration = Duration::from_millis(50);
/// How often far ends are told how many packets there were, ns.
const PROGRESS_NS: u64 = 1_000_000_000;
/// How often they are told so at the end, as no later word makes up for one that is lost; and the
/// pause between.
const LAST_WORDS: usize = 3;
const LAST_WORDS_APART: Duration = Duration::from_millis(1);

/// What is followed of a target.
pub struct Watch {
    pub target: TargetId,
    pub health: Option<GroupHealth>,
    /// What its programs are still to be told: the table, and whether nobody gets anything.
    pub news: Option<(Arc<GroupTable>, bool)>,
    /// For each endpoint that is told how many packets there were, what tells it.
    pub tellers: Vec<Option<Teller>>,
}

/// Tells the far end of a tunnel how many packets the kernel has sent by each lane.
pub struct Teller {
    sink: TunnelSink,
    told: Vec<(u8, u32)>,
}

/// The thread; dropped, it ends.
pub struct Control {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    mirrors: Mutex<Vec<Weak<OneMirror>>>,
}

impl Control {
    /// Starts it with a first mirror.
    pub fn start(mirror: &Arc<OneMirror>) -> Result<Control, io::Error> {
        let shared = Arc::new(Shared::default());
        let mut control = Control { shared: Arc::clone(&shared), thread: None };
        control.look_after(mirror);
        let thread = std::thread::Builder::new()
            .name("mirror".into())
            .spawn(move || shared.run())
            .map_err(|source| io::Error::System {
                what: "start the thread that looks after the mirror".into(),
                source,
                mend: "",
            })?;
        control.thread = Some(thread);
        Ok(control)
    }

    /// Has it look after one more.
    pub fn look_after(&self, mirror: &Arc<OneMirror>) {
        let mut mirrors = self.shared.mirrors();
        mirrors.retain(|mirror| mirror.strong_count() > 0);
        mirrors.push(Arc::downgrade(mirror));
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It does not panic but for a fault, which has been told.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn mirrors(&self) -> std::sync::MutexGuard<'_, Vec<Weak<OneMirror>>> {
        self.mirrors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut told_ns = Now::read().monotonic_ns;
        while !self.stop.load(Ordering::Relaxed) {
            let now = Now::read();
            let mirrors: Vec<_> = self.mirrors().iter().filter_map(Weak::upgrade).collect();
            let is_time = now.monotonic_ns.saturating_sub(told_ns) >= PROGRESS_NS;
            for mirror in mirrors {
                mirror.lock().look(now, is_time);
            }
            if is_time {
                told_ns = now.monotonic_ns;
            }
            std::thread::park_timeout(PERIOD);
        }
    }
}

impl Inner {
    fn look(&mut self, now: Now, is_time_to_tell: bool) {
        self.mirror.tick(now);
        let Inner { mirror, watches, .. } = self;
        for watch in watches {
            let news = watch.health.as_ref().and_then(GroupHealth::news);
            let is_first_try = news.is_some();
            watch.news = news.or(watch.news.take());
            if let Some((table, is_closed)) = &watch.news {
                match mirror.set_table(watch.target, (!is_closed).then(|| table.slots())) {
                    Ok(()) => watch.news = None,
                    Err(error) if is_first_try => tracing::warn!(
                        "the group's table in the kernel stays as it was, and is tried again: {error}"
                    ),
                    Err(_) => {}
                }
            }
            if is_time_to_tell {
                watch.tell(mirror, false, now);
            }
        }
    }

    /// Follows a target from now on.
    pub fn watch(&mut self, watch: Watch) {
        self.watches.push(watch);
    }

    /// Follows it no longer; tells its far ends for the last time.
    pub fn leave(&mut self, target: TargetId) {
        let Some(place) = self.watches.iter().position(|watch| watch.target == target) else {
            return;
        };
        let mut watch = self.watches.swap_remove(place);
        if watch.tellers.iter().any(Option::is_some) {
            for word in 0..LAST_WORDS {
                if word > 0 {
                    std::thread::sleep(LAST_WORDS_APART);
                }
                watch.tell(&self.mirror, true, Now::read());
            }
        }
    }
}

impl Watch {
    fn tell(&mut self, mirror: &io::mirror::KernelMirror, again: bool, now: Now) {
        if self.tellers.iter().all(Option::is_none) {
            return;
        }
        let lanes = match mirror.sequences(self.target) {
            Ok(lanes) => lanes,
            Err(error) => return tracing::debug!("numbers of packets: {error}"),
        };
        for (teller, lanes) in self.tellers.iter_mut().zip(lanes) {
            let Some(teller) = teller else { continue };
            for &(lane, next) in &lanes {
                if again || !teller.told.contains(&(lane, next)) {
                    teller.sink.tell_progress_of(lane, next, now.utc_ns);
                }
            }
            teller.told = lanes;
        }
    }
}

impl Teller {
    /// By a sink of the same tunnel.
    pub fn new(sink: TunnelSink) -> Teller {
        Teller { sink, told: Vec::new() }
    }
}
