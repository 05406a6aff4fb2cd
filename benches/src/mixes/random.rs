//! Random numbers: SplitMix64 (Steele, Lea, Flood, 2014), the same on every run.

pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below a bound, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A number from `least` on, mostly near it, and now and then up to `most`: the chance to exceed a number
    /// falls with its inverse (Pareto, α = 1).
    pub fn long_tailed(&mut self, least: u64, most: u64) -> u64 {
        let share = (self.below(1 << 20) + 1) as f64 / (1 << 20) as f64;
        ((least as f64 / share) as u64).min(most)
    }

    /// A number below a bound, low ones more often.
    pub fn popular(&mut self, bound: u64) -> u64 {
        let share = self.below(1 << 20) as f64 / (1 << 20) as f64;
        (share * share * share * bound as f64) as u64
    }
}
