//! An interface of a capture, and how the ticks of its timestamps become nanoseconds.

use crate::RawOption;

/// Contents of an Interface Description Block, or of a pcap file's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// LINKTYPE_ number.
    pub link_type: u16,
    /// Most bytes kept of a packet; 0 is "no limit".
    pub snaplen: u32,
    /// `if_name`, such as `eth0`.
    pub name: Option<String>,
    /// `if_description`.
    pub description: Option<String>,
    /// `if_filter` in its text form; one in byte code stands in [`Self::other`].
    pub filter: Option<String>,
    /// `if_os`: the operating system of the machine with the interface.
    pub os: Option<String>,
    /// `if_tsresol`: length of a tick in the file that was read. Writers do not look at it.
    pub ts_resolution: TsResolution,
    /// `if_tsoffset`: seconds to add, in the file that was read. Writers do not look at it.
    pub ts_offset_s: i64,
    /// All other options in file order, comments included. Numbers in `if_speed`, `if_tzone`,
    /// `if_txspeed`, `if_rxspeed` and the enterprise number of custom options are little-endian
    /// whatever the section was; other values are as in the file.
    pub other: Vec<RawOption>,
}

impl Interface {
    /// An interface of which only the link type is known.
    pub fn new(link_type: u16) -> Self {
        Interface {
            link_type,
            snaplen: 0,
            name: None,
            description: None,
            filter: None,
            os: None,
            ts_resolution: TsResolution::default(),
            ts_offset_s: 0,
            other: Vec::new(),
        }
    }

    /// Nanoseconds since 1970 of a timestamp in this interface's ticks, clamped to the range.
    #[inline]
    pub(crate) fn ns(&self, ticks: u64) -> u64 {
        // Nearly every file has one of these two, and 128-bit arithmetic is slow.
        match (self.ts_resolution, self.ts_offset_s) {
            (TsResolution::NANO, 0) => ticks,
            (TsResolution::MICRO, 0) => ticks.saturating_mul(1000),
            (resolution, offset_s) => resolution.ns(ticks, offset_s),
        }
    }
}

/// `if_tsresol` as it stands in the file: bit 7 clear, ticks of 10^-n s; set, of 2^-n s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TsResolution(pub u8);

impl TsResolution {
    /// Microseconds: what holds where the option is absent.
    pub const MICRO: TsResolution = TsResolution(6);
    /// Nanoseconds.
    pub const NANO: TsResolution = TsResolution(9);

    const NS_PER_S: i128 = 1_000_000_000;

    /// Nanoseconds of `ticks` plus `offset_s` seconds, rounded down, clamped to `0..=u64::MAX`.
    pub fn ns(self, ticks: u64, offset_s: i64) -> u64 {
        let exponent = u32::from(self.0 & 0x7f);
        // 2^64 ticks of at most 10^9 ns each stay below 2^94.
        let ns = if self.0 & 0x80 != 0 {
            (i128::from(ticks) * Self::NS_PER_S) >> exponent
        } else if exponent <= 9 {
            i128::from(ticks) * 10_i128.pow(9 - exponent)
        } else {
            // Where 10^n leaves the type, a tick is so short that 2^64 of them are no nanosecond.
            10_i128.checked_pow(exponent - 9).map_or(0, |divisor| i128::from(ticks) / divisor)
        };
        let ns = ns + i128::from(offset_s) * Self::NS_PER_S;
        ns.clamp(0, i128::from(u64::MAX)) as u64
    }
}

impl Default for TsResolution {
    fn default() -> Self {
        Self::MICRO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_ten() {
        assert_eq!(TsResolution(0).ns(3, 0), 3_000_000_000);
        assert_eq!(TsResolution(3).ns(1_500, 0), 1_500_000_000);
        assert_eq!(TsResolution::MICRO.ns(1_000_001, 0), 1_000_001_000);
        assert_eq!(TsResolution::NANO.ns(u64::MAX, 0), u64::MAX);
        assert_eq!(TsResolution(12).ns(1_999, 0), 1);
        assert_eq!(TsResolution(28).ns(u64::MAX, 0), 1);
    }

    #[test]
    fn powers_of_two() {
        assert_eq!(TsResolution(0x80).ns(2, 0), 2_000_000_000);
        assert_eq!(TsResolution(0x80 | 10).ns(1536, 0), 1_500_000_000);
        assert_eq!(TsResolution(0x80 | 32).ns(1 << 31, 0), 500_000_000);
        assert_eq!(TsResolution(0x80 | 64).ns(u64::MAX, 0), 999_999_999);
    }

    #[test]
    fn offsets_shift_and_clamp() {
        assert_eq!(TsResolution::NANO.ns(5, 2), 2_000_000_005);
        assert_eq!(TsResolution::NANO.ns(2_000_000_005, -2), 5);
        assert_eq!(TsResolution::NANO.ns(5, -1), 0);
        assert_eq!(TsResolution::NANO.ns(5, i64::MAX), u64::MAX);
    }

    #[test]
    fn the_fast_ways_give_the_same() {
        for raw in [6, 9] {
            let interface = Interface { ts_resolution: TsResolution(raw), ..Interface::new(1) };
            for ticks in [0, 1, 1_700_000_000_123_456, u64::MAX / 1000 + 1, u64::MAX] {
                assert_eq!(interface.ns(ticks), TsResolution(raw).ns(ticks, 0), "{raw} {ticks}");
            }
        }
    }

    #[test]
    fn no_resolution_overflows() {
        for raw in 0..=u8::MAX {
            for ticks in [0, 1, u64::MAX] {
                let plain = TsResolution(raw).ns(ticks, 0);
                assert!(TsResolution(raw).ns(ticks, i64::MIN) <= plain, "{raw} {ticks}");
                assert_eq!(TsResolution(raw).ns(ticks, i64::MAX), u64::MAX, "{raw} {ticks}");
            }
        }
        assert_eq!(TsResolution(0).ns(u64::MAX, 0), u64::MAX);
        assert_eq!(TsResolution(127).ns(u64::MAX, 0), 0);
        assert_eq!(TsResolution(0xff).ns(u64::MAX, 7), 7_000_000_000);
    }
}
