//! The capture filter in the kernel: which of its frames are decided, and what became of the rest.
//!
//! The filter counts wire packets before the ring; the source counts them behind it. What is missing
//! between the two is what the ring lost: known to the packet once the ring has run dry, and before
//! that in frames, as the kernel's own count of lost frames says.

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
    /// Wire packets taken from the ring: those that the filter had decided, and the others.
    taken: u64,
    taken_undecided: u64,
    counters: FilterCounters,
    losses: Losses,
}

/// Wire packets that the filter counted and nobody took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Losses {
    /// Lost by the ring, of those that the filter had decided.
    pub decided: u64,
    /// Lost by the ring, of the others.
    pub undecided: u64,
    /// Still in the ring; or, once that is dry, a fault.
    pub missing: u64,
}

impl Screen {
    /// Loads a filter into the kernel.
    pub fn load(filter: &KernelFilter) -> Result<Screen, Error> {
        match filter {
            KernelFilter::Absent => Ok(Screen::Absent),
            KernelFilter::Counting(filter) => Ok(Screen::Counting(Box::new(Counting {
                reach: filter.reach,
                loaded: LoadedFilter::load(filter)?,
                taken: 0,
                taken_undecided: 0,
                counters: FilterCounters::default(),
                losses: Losses::default(),
            }))),
            KernelFilter::Hiding(program) => Ok(Screen::Hiding(program.clone())),
        }
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

    /// Counts the wire packets of a frame.
    #[inline]
    pub fn count(&mut self, is_decided: bool, packets: u64) {
        if let Screen::Counting(counting) = self {
            match is_decided {
                true => counting.taken += packets,
                false => counting.taken_undecided += packets,
            }
        }
    }

    /// Gives the filter up, for frames of another kind. The ring is dry, and lets nothing in.
    pub fn retire(&mut self, frames_lost: u64) {
        match (&*self, self.screening()) {
            (Screen::Counting(counting), Screening::Counted(screened)) => {
                *self = Screen::Past { screened, losses: counting.losses, frames_lost };
            }
            // What it hid stays unknown.
            (Screen::Hiding(_), _) => *self = Screen::Hiding(Program::constant(u32::MAX)),
            _ => {}
        }
    }

    /// Reads the filter's counters. To be called *before* the ring's frames are counted, so that a
    /// ring that is dry by that count holds none of these packets.
    pub fn read(&mut self) {
        if let Screen::Counting(counting) = self {
            match counting.loaded.counters() {
                Ok(counters) => counting.counters = counters,
                Err(error) => tracing::debug!("{error}"),
            }
        }
    }

    /// Compares what the filter has let through with what was taken; `frames_lost` is the kernel's
    /// count of frames that the ring had no room for.
    pub fn settle(&mut self, frames_lost: u64, is_dry: bool) {
        if let Screen::Counting(counting) = self {
            let rest = counting.counters.matched.saturating_sub(counting.taken);
            let undecided = counting.counters.undecided.saturating_sub(counting.taken_undecided);
            counting.losses = Losses::of(rest, undecided, frames_lost, is_dry);
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

    /// Wire packets that were counted, not taken, and not lost; `None` if the filter has no counters.
    pub fn missing(&self) -> Option<u64> {
        match self {
            Screen::Counting(counting) => Some(counting.losses.missing),
            Screen::Absent | Screen::Hiding(_) | Screen::Past { .. } => None,
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

impl Losses {
    /// Splits what nobody took into what was lost and what is still to come.
    fn of(decided: u64, undecided: u64, frames_lost: u64, is_dry: bool) -> Losses {
        // Without a lost frame nothing can be missing but what is still in the ring; and of lost
        // frames one knows while others are in the ring only that each was a packet at least.
        let (lost, lost_undecided) = match is_dry && frames_lost > 0 {
            true => (decided, undecided),
            false => {
                let lost = decided.min(frames_lost);
                (lost, undecided.min(frames_lost - lost))
            }
        };
        Losses {
            decided: lost,
            undecided: lost_undecided,
            missing: decided + undecided - lost - lost_undecided,
        }
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

    #[test]
    fn what_nobody_took_is_lost_missing_or_on_its_way() {
        let losses = |decided, undecided, missing| Losses { decided, undecided, missing };
        // Nothing lost: what is in the ring is on its way, and nothing may be left when it is dry.
        assert_eq!(Losses::of(5, 2, 0, false), losses(0, 0, 7));
        assert_eq!(Losses::of(0, 0, 0, true), losses(0, 0, 0));
        assert_eq!(Losses::of(3, 0, 0, true), losses(0, 0, 3));
        // A dry ring: all that was not taken was lost, however few frames that were.
        assert_eq!(Losses::of(90, 45, 3, true), losses(90, 45, 0));
        // One that is not dry: at least the frames.
        assert_eq!(Losses::of(90, 45, 3, false), losses(3, 0, 132));
        assert_eq!(Losses::of(2, 45, 3, false), losses(2, 1, 44));
    }
}
