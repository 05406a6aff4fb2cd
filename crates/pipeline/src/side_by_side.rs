//! Work that may block, done side by side: what is stuck holds up nothing else.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// Threads at once, the caller's among them.
const THREADS_MAX: usize = 64;

/// Does the same with each item, each on a thread of its own as far as there are threads; gives the
/// results in the order of the items. Blocks until all is done.
pub(crate) fn side_by_side<T: Send, R: Send>(
    items: Vec<T>,
    each: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let threads = items.len().min(THREADS_MAX);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    let left = Mutex::new(items.into_iter().enumerate());
    let work = || {
        loop {
            let next = lock(&left).next();
            let Some((place, item)) = next else { return };
            let result = each(item);
            lock(&done).push((place, result));
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // One that cannot be started leaves its part to the others.
            let _ = thread::Builder::new().name("finish".into()).spawn_scoped(scope, work);
        }
        work();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, result)| result).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn each_is_done_beside_the_others_and_results_stand_in_order() {
        // Nobody passes before all are there.
        let all = Barrier::new(5);
        let doubled = side_by_side((0..5).collect(), |n| {
            all.wait();
            n * 2
        });
        assert_eq!(doubled, [0, 2, 4, 6, 8]);
        assert!(side_by_side(Vec::<u8>::new(), |n| n).is_empty());
        let many: Vec<usize> = (0..1000).collect();
        assert_eq!(side_by_side(many.clone(), |n| n), many);
    }
}
