//! A range of time.

/// A range of time, half-open: from `after_ns` on and before `before_ns`, nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first nanosecond in it.
    pub after_ns: u64,
    /// The first one behind it; `None` is never.
    pub before_ns: Option<u64>,
}

impl Window {
    /// All times.
    pub const ALL: Window = Window { after_ns: 0, before_ns: None };

    /// Whether a time is in it.
    pub fn contains(&self, ts_ns: u64) -> bool {
        ts_ns >= self.after_ns && self.before_ns.is_none_or(|before_ns| ts_ns < before_ns)
    }

    /// Whether any time of a span, whose ends are in it, is in the range.
    pub fn overlaps(&self, (first_ns, last_ns): (u64, u64)) -> bool {
        last_ns >= self.after_ns && self.before_ns.is_none_or(|before_ns| first_ns < before_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_half_open() {
        let window = Window { after_ns: 10, before_ns: Some(20) };
        assert_eq!([9, 10, 19, 20].map(|t| window.contains(t)), [false, true, true, false]);
        assert!(window.overlaps((0, 10)) && window.overlaps((19, 30)) && window.overlaps((0, 99)));
        assert!(!window.overlaps((0, 9)) && !window.overlaps((20, 30)));
        assert!(Window::ALL.contains(0) && Window::ALL.contains(u64::MAX));
    }
}
