//! When a member is taken for dead, and when for alive again.

use api::Health;

/// The state of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judge {
    rise: u32,
    fall: u32,
    is_up: bool,
    /// Tries in a row that spoke for the other state.
    against: u32,
}

impl Judge {
    /// It begins as alive.
    pub fn new(health: &Health) -> Judge {
        Judge { rise: health.rise.max(1), fall: health.fall.max(1), is_up: true, against: 0 }
    }

    /// Takes the outcome of a try. If the state changes with it, gives how many tries it took.
    pub fn note(&mut self, is_good: bool) -> Option<u32> {
        if is_good == self.is_up {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let needed = if self.is_up { self.fall } else { self.rise };
        if self.against < needed {
            return None;
        }
        self.is_up = is_good;
        Some(std::mem::take(&mut self.against))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The states after each of some tries: `+` good, `-` bad.
    fn states(rise: u32, fall: u32, tries: &str) -> String {
        let health = Health { rise, fall, ..Health::of(api::Check::Link) };
        let mut judge = Judge::new(&health);
        let state = |c| {
            let before = judge.is_up;
            let changed = judge.note(c == '+');
            assert_eq!(changed.is_some(), before != judge.is_up);
            if judge.is_up { 'U' } else { 'd' }
        };
        tries.chars().map(state).collect()
    }

    #[test]
    fn thresholds_count_tries_in_a_row() {
        assert_eq!(states(2, 2, "+-+-+--+-+-++-+-+--"), "UUUUUUddddddUUUUUUd");
        assert_eq!(states(2, 2, "--++--"), "UddUUd");
        assert_eq!(states(1, 1, "-+-+"), "dUdU");
        assert_eq!(states(3, 1, "-++-+++"), "ddddddU");
        assert_eq!(states(1, 3, "--+---+"), "UUUUUdU");
    }

    #[test]
    fn the_tries_that_it_took_are_told() {
        let mut judge = Judge::new(&Health { fall: 3, rise: 2, ..Health::of(api::Check::Link) });
        let told: Vec<_> = [false; 4].map(|good| judge.note(good)).into();
        assert_eq!(told, [None, None, Some(3), None]);
        assert_eq!([judge.note(true), judge.note(true)], [None, Some(2)]);
    }
}
