//! Ends a worker's wait from another thread.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// The end that wakes.
#[derive(Debug)]
pub struct Waker(UnixStream);

/// The end that is woken: a descriptor that [`crate::wait`] looks at beside the sources'.
#[derive(Debug)]
pub struct Wakeup(UnixStream);

/// Makes a pair of ends.
///
/// # Errors
/// If the process has no descriptor left.
pub fn waker() -> std::io::Result<(Waker, Wakeup)> {
    let (waker, wakeup) = UnixStream::pair()?;
    waker.set_nonblocking(true)?;
    wakeup.set_nonblocking(true)?;
    Ok((Waker(waker), Wakeup(wakeup)))
}

impl Waker {
    /// Ends the wait that is on, or else the next one. Never blocks.
    pub fn wake(&self) {
        // If it is full, enough was written to wake; if the other end is gone, nobody waits.
        let _ = (&self.0).write(&[0]);
    }
}

impl Wakeup {
    /// Forgets that it was woken, so that the next wait is one.
    pub(crate) fn clear(&self) {
        let mut bytes = [0; 64];
        loop {
            match (&self.0).read(&mut bytes) {
                Ok(64) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => return,
            }
        }
    }
}

impl AsFd for Wakeup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Source, wait};
    use std::time::{Duration, Instant};

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_wait_ends_when_it_is_woken_once_and_never_waits_for_the_reader() {
        let (waker, wakeup) = waker().unwrap();
        let none = || std::iter::empty::<&dyn Source>();
        let begun = Instant::now();
        // More than a socket holds.
        (0..1_000_000).for_each(|_| waker.wake());
        wait(none(), Some(&wakeup), LONG).unwrap();
        assert!(begun.elapsed() < LONG);
        let begun = Instant::now();
        wait(none(), Some(&wakeup), Duration::from_millis(30)).unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(30));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                waker.wake();
            });
            wait(none(), Some(&wakeup), LONG).unwrap();
        });
        assert!(begun.elapsed() < LONG);
    }
}
