//! Signals, taken on a thread of their own.

use crate::failure::Failure;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What signals ask for.
#[derive(Default)]
pub struct Asked {
    /// SIGINT, SIGTERM: the end.
    pub stop: AtomicBool,
    /// SIGHUP: to read the configuration again; the end where there is none.
    pub reload: AtomicBool,
    /// SIGUSR1: the ledger.
    pub snapshot: AtomicBool,
}

/// Takes signals from now on, on a thread of its own, which unparks the calling one.
pub fn take() -> Result<Arc<Asked>, Failure> {
    let failed = |e: std::io::Error| Failure::CouldNot(format!("take signals: {e}"));
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1]).map_err(failed)?;
    let asked = Arc::new(Asked::default());
    let (by, main) = (Arc::clone(&asked), std::thread::current());
    let take = move || {
        for signal in signals.forever() {
            let flag = match signal {
                SIGUSR1 => &by.snapshot,
                SIGHUP => &by.reload,
                _ => &by.stop,
            };
            flag.store(true, Ordering::Relaxed);
            main.unpark();
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(take).map_err(failed)?;
    Ok(asked)
}
