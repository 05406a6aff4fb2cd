//! The capture filter in the kernel: which of its frames are decided, and what became of the rest.
//!
//! The filter counts frames and their wire packets before the ring; the source counts both behind it.
//! What is missing between the two is in the ring, or lost by it. How many frames the ring lost, the
//! kernel says; so once as many frames are missing as were lost, all that is missing was lost, and
//! is known to the packet. Before that, a frame counts as lost only if it cannot be one of those in
//! the ring, and as one packet: the count never falls, and never exceeds the truth.

use super::offload::{Tally, Undone};
use super::sys::{Frame, Ring};
use crate::bpf::{FilterCounters, LoadedFilter};
use crate::device::{Screened, Screening};
use crate::error::Error;
use filter::Program;
use filter::ebpf::{FrameState, Reach, SocketFilter};
use std::os::fd::BorrowedFd;

/// A capture filter for the kernel.
#[derive(Debug, Clone, Default)]
pub enum KernelFilter {
    /// None: every frame comes to user space.
    #[default]
    Absent,
    /// Extended BPF: decides what can be decided there, and counts for itself.
    Counting(Box<SocketFilter>),
    /// Classic BPF: hides what it rejects. What it lets through is still to be decided.
    Hiding(Program),
}

/// A filter at work in front of a ring.
pub(super) enum Screen {
    Absent,
    Counting(Box<Counting>),
    Hiding(Program),
    /// One that counted and was taken away: what it had counted, and how many frames the ring had
    /// lost by then.
    Past {
        screened: Screened,
        losses: Losses,
        frames_lost: u64,
    },
}

/// What a filter that counts has let through, and what of that was taken.
pub(super) struct Counting {
    reach: Reach,
    loaded: LoadedFilter,
    taken: Passed,
    /// The least exact that was taken.
    tally: Tally,
    /// The filter's counters as read before the ring's, and after them.
    before: FilterCounters,
    counters: FilterCounters,
    losses: Losses,
}

/// Frames and their wire packets, those that the filter had decided apart from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Passed {
    decided: Amount,
    undecided: Amount,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Amount {
    frames: u64,
    packets: u64,
}

/// Wire packets that the filter counted and nobody took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Losses {
    /// Lost by the ring, of those that the filter had decided.
    pub decided: u64,
    /// Lost by the ring, of the others.
    pub undecided: u64,
    /// Still in the ring; or, once that is dry, a fault. So is what was taken and not counted.
    pub missing: u64,
}

impl Screen {
    /// Loads a filter into the kernel.
    pub fn load(filter: &KernelFilter) -> Result<Screen, Error> {
        match filter {
            KernelFilter::Absent => Ok(Screen::Absent),
            KernelFilter::Counting(filter) => {
                Ok(Screen::counting(filter.reach, LoadedFilter::load(filter)?))
            }
            KernelFilter::Hiding(program) => Ok(Screen::Hiding(program.clone())),
        }
    }

    /// A filter that is loaded, and decides these frames.
    pub fn counting(reach: Reach, loaded: LoadedFilter) -> Screen {
        Screen::Counting(Box::new(Counting {
            reach,
            loaded,
            taken: Passed::default(),
            tally: Tally::Exact,
            before: FilterCounters::default(),
            counters: FilterCounters::default(),
            losses: Losses::default(),
        }))
    }

    /// Puts the filter in front of a ring, into the place of the one that lets nothing in. Its
    /// counters go on, whatever ring it stood before.
    pub fn attach(&self, ring: &Ring) -> Result<(), Error> {
        match self {
            Screen::Counting(counting) => counting.loaded.attach(ring.socket()),
            Screen::Hiding(program) => attach_classic(ring.socket(), program),
            Screen::Absent | Screen::Past { .. } => crate::sys::detach_filter(ring.socket())
                .map_err(|e| Error::system("take the filter before the ring away", e)),
        }
    }

    /// Whether the filter has decided a frame that came out of the ring.
    #[inline]
    pub fn has_decided(&self, frame: &Frame) -> bool {
        let Screen::Counting(counting) = self else {
            return false;
        };
        counting.reach.contains(&FrameState {
            is_sent: frame.packet_type == libc::PACKET_OUTGOING,
            has_tag_in_metadata: frame.status & libc::TP_STATUS_VLAN_VALID != 0,
            gso_size: frame.vnet.gso_size,
            len: frame.len,
        })
    }

    /// Counts a frame that was taken, and its wire packets.
    #[inline]
    pub fn count(&mut self, is_decided: bool, undone: Undone) {
        if let Screen::Counting(counting) = self {
            let amount = match is_decided {
                true => &mut counting.taken.decided,
                false => &mut counting.taken.undecided,
            };
            amount.frames += 1;
            amount.packets += undone.packets;
            counting.tally = counting.tally.max(undone.tally);
        }
    }

    /// Gives the filter up, for frames of another kind. The ring is dry, and lets nothing in.
    /// Returns whether there was one.
    pub fn retire(&mut self, frames_lost: u64) -> bool {
        let everything = || Program::constant(u32::MAX);
        *self = match (&*self, self.screening()) {
            (Screen::Counting(counting), Screening::Counted(screened)) => {
                Screen::Past { screened, losses: counting.losses, frames_lost }
            }
            // What it hid stays unknown.
            (Screen::Hiding(program), _) if *program != everything() => {
                Screen::Hiding(everything())
            }
            _ => return false,
        };
        true
    }

    /// Reads the filter's counters. To be called *before* the ring's own are read: what is counted
    /// here is then in the ring, or lost by it, or just on its way there.
    pub fn read(&mut self) {
        if let Screen::Counting(counting) = self {
            counting.read();
            counting.before = counting.counters;
        }
    }

    /// Compares what the filter has let through with what was taken. `frames_lost` is the kernel's
    /// count of frames that the ring had no room for, just read; `is_dry`: all others that it
    /// counted were taken.
    pub fn settle(&mut self, frames_lost: u64, is_dry: bool) {
        if let Screen::Counting(counting) = self {
            counting.read();
            let passed = Passed::from(&counting.counters);
            // If something passed the filter meanwhile, the counts are not of one moment.
            let is_still = passed == Passed::from(&counting.before);
            let is_exact = is_dry && is_still;
            counting.losses = counting.losses.update(
                passed,
                counting.taken,
                frames_lost,
                is_exact.then_some(counting.tally),
            );
        }
    }

    /// What the ring has lost of what no filter had decided: wire packets where one counts, else
    /// `frames_lost`, which the kernel counted.
    pub fn lost_undecided(&self, frames_lost: u64) -> u64 {
        match self {
            Screen::Absent | Screen::Hiding(_) => frames_lost,
            Screen::Counting(counting) => counting.losses.undecided,
            Screen::Past { losses, frames_lost: past, .. } => losses.undecided + frames_lost - past,
        }
    }

    /// Wire packets that were counted, not taken, and not lost: in the ring, or a fault. The kernel
    /// and the source counted so many frames in and out of the ring.
    pub fn missing(&self, frames_in: u64, frames_out: u64) -> u64 {
        match self {
            // Those that did not come out show in the filter's counters.
            Screen::Counting(counting) => {
                counting.losses.missing + frames_out.saturating_sub(frames_in)
            }
            Screen::Past { losses, .. } => losses.missing + frames_in.abs_diff(frames_out),
            Screen::Absent | Screen::Hiding(_) => frames_in.abs_diff(frames_out),
        }
    }

    /// What to tell of it, by the counters as they were last read.
    pub fn screening(&self) -> Screening {
        match self {
            Screen::Absent => Screening::Absent,
            Screen::Hiding(_) => Screening::Hidden,
            Screen::Past { screened, .. } => Screening::Counted(screened.clone()),
            Screen::Counting(counting) => {
                let rule_hits = counting.loaded.rule_hits().unwrap_or_else(|error| {
                    tracing::debug!("{error}");
                    Vec::new()
                });
                Screening::Counted(Screened {
                    filtered: counting.counters.filtered,
                    lost: counting.losses.decided,
                    rule_hits,
                })
            }
        }
    }
}

impl Counting {
    fn read(&mut self) {
        match self.loaded.counters() {
            Ok(counters) => self.counters = counters,
            Err(error) => tracing::debug!("{error}"),
        }
    }
}

impl From<&FilterCounters> for Passed {
    fn from(counters: &FilterCounters) -> Passed {
        Passed {
            decided: Amount { frames: counters.matched_frames, packets: counters.matched },
            undecided: Amount { frames: counters.undecided_frames, packets: counters.undecided },
        }
    }
}

impl Losses {
    /// Splits what nobody took into what was lost and what is still to come. With a tally nothing is
    /// in the ring, and the counts are of one moment.
    fn update(
        self,
        passed: Passed,
        taken: Passed,
        frames_lost: u64,
        tally: Option<Tally>,
    ) -> Losses {
        let left = |passed: u64, taken: u64| passed.saturating_sub(taken);
        let frames = left(passed.decided.frames, taken.decided.frames);
        let undecided_frames = left(passed.undecided.frames, taken.undecided.frames);
        let packets = left(passed.decided.packets, taken.decided.packets);
        let undecided_packets = left(passed.undecided.packets, taken.undecided.packets);
        let tally = tally.filter(|_| frames + undecided_frames == frames_lost);
        let (decided, undecided) = match tally {
            // Every frame came through whole: what the filter counted more, it had estimated.
            Some(Tally::Estimated) if frames_lost == 0 => return Losses::default(),
            Some(tally) if frames_lost > 0 || tally == Tally::CutShort => {
                (packets, undecided_packets)
            }
            _ => (
                self.decided.max(left(frames_lost, undecided_frames)),
                self.undecided.max(left(frames_lost, frames)),
            ),
        };
        let uncounted = left(taken.decided.packets, passed.decided.packets)
            + left(taken.undecided.packets, passed.undecided.packets);
        let missing = left(packets + undecided_packets, decided + undecided) + uncounted;
        Losses { decided, undecided, missing }
    }
}

fn attach_classic(socket: BorrowedFd<'_>, program: &Program) -> Result<(), Error> {
    crate::sys::attach_classic(socket, program).map_err(|source| Error::System {
        what: "attach the filter before the ring".into(),
        source,
        mend: "; leave --prefilter out, and it runs in user space",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(decided: (u64, u64), undecided: (u64, u64)) -> Passed {
        let amount = |(frames, packets)| Amount { frames, packets };
        Passed { decided: amount(decided), undecided: amount(undecided) }
    }

    fn losses(decided: u64, undecided: u64, missing: u64) -> Losses {
        Losses { decided, undecided, missing }
    }

    #[test]
    fn what_nobody_took_is_lost_missing_or_on_its_way() {
        let none = Losses::default();
        let taken = passed((10, 10), (10, 20));
        // Nothing lost: what is in the ring is on its way, and nothing may be left when it is dry.
        let more = passed((12, 15), (11, 22));
        assert_eq!(none.update(more, taken, 0, None), losses(0, 0, 7));
        assert_eq!(none.update(taken, taken, 0, Some(Tally::Exact)), none);
        assert_eq!(none.update(more, taken, 0, Some(Tally::Exact)), losses(0, 0, 7));
        // As many frames are missing as were lost: so these were, whatever they held.
        let more = passed((12, 100), (11, 65));
        assert_eq!(none.update(more, taken, 3, Some(Tally::Exact)), losses(90, 45, 0));
        // Some of the four that are missing may be in the ring: of one packet each.
        let more = passed((13, 100), (11, 65));
        assert_eq!(none.update(more, taken, 3, Some(Tally::Exact)), losses(2, 0, 133));
        // No frame was lost, so no packet was, unless the ring had no room for a whole super-packet,
        // or the filter had estimated what is in one.
        let same = passed((10, 14), (10, 25));
        assert_eq!(none.update(same, taken, 0, Some(Tally::Exact)), losses(0, 0, 9));
        assert_eq!(none.update(same, taken, 0, Some(Tally::CutShort)), losses(4, 5, 0));
        assert_eq!(none.update(same, taken, 0, Some(Tally::Estimated)), none);
        // What was taken, and not counted, is a fault that no loss makes up for.
        let less = passed((9, 9), (13, 26));
        assert_eq!(none.update(less, taken, 3, Some(Tally::Exact)), losses(0, 6, 1));
    }

    #[test]
    fn what_is_lost_before_the_ring_is_dry_is_never_more_than_turns_out() {
        let none = Losses::default();
        let taken = passed((10, 10), (10, 10));
        // 50 frames lost: none of those that the filter had decided, 50 of the others.
        let early = none.update(passed((110, 110), (60, 500)), taken, 50, None);
        assert_eq!(early, losses(0, 0, 590));
        let later =
            early.update(passed((110, 110), (60, 500)), passed((100, 100), (10, 10)), 50, None);
        assert_eq!(later, losses(0, 40, 460));
        let last = later.update(
            passed((110, 110), (60, 500)),
            passed((110, 110), (10, 10)),
            50,
            Some(Tally::Exact),
        );
        assert_eq!(last, losses(0, 490, 0));
        // More in the ring tells less of what was lost; what was known stays known.
        let next =
            last.update(passed((140, 140), (90, 590)), passed((110, 110), (10, 10)), 51, None);
        assert_eq!(next, losses(0, 490, 120));
    }
}
