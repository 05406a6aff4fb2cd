//! Times of small functions: the median of repeated batches.

use std::time::{Duration, Instant};

/// Repetitions of a batch; odd, so that one of them is the median.
const REPETITIONS: usize = 11;

/// Nanoseconds of one call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timing {
    /// Median of the repetitions.
    pub median_ns: f64,
    /// The fastest repetition.
    pub least_ns: f64,
}

impl Timing {
    /// The same time shared among so many things that one call did.
    pub fn each(self, things: usize) -> Timing {
        let things = things as f64;
        Timing { median_ns: self.median_ns / things, least_ns: self.least_ns / things }
    }
}

/// Times a function. A batch has as many calls as fill `batch`, found out first, which warms the
/// caches too.
pub fn time(batch: Duration, mut function: impl FnMut()) -> Timing {
    let mut calls = 1;
    while round(calls, &mut function) < batch && calls < 1 << 40 {
        calls *= 2;
    }
    let mut each: Vec<f64> = (0..REPETITIONS)
        .map(|_| round(calls, &mut function).as_nanos() as f64 / calls as f64)
        .collect();
    each.sort_by(f64::total_cmp);
    Timing { median_ns: each[REPETITIONS / 2], least_ns: each[0] }
}

fn round(calls: u64, function: &mut impl FnMut()) -> Duration {
    let start = Instant::now();
    (0..calls).for_each(|_| function());
    start.elapsed()
}

/// The middle value, or the mean of the two that are; `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 9.0]), Some(3.0));
        assert_eq!(median(&[4.0, 1.0, 9.0, 2.0]), Some(3.0));
    }

    #[test]
    fn a_call_that_waits_takes_its_time() {
        let wait = Duration::from_micros(500);
        let timing = time(Duration::from_millis(1), || std::thread::sleep(wait));
        assert!(timing.least_ns >= 500_000.0 && timing.median_ns >= timing.least_ns, "{timing:?}");
        assert_eq!(timing.each(2).least_ns, timing.least_ns / 2.0);
    }
}
