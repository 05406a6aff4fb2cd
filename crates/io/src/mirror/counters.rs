//! What a mirror counts, all CPUs together.

use kernel::mirror::layout::{MemberCounter, TapCounter};

/// What a tap has counted. Units: wire packets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TapCounters {
    /// Rejected by the filter or the choice of direction.
    pub filtered: u64,
    /// Kept by the filter.
    pub matched: u64,
    /// Own tunnels, which the filter had kept.
    pub own_tunnel: u64,
    /// Without room under the ceiling.
    pub rate_limited: u64,
    /// Cloned to be judged behind the private interface, where each counts again in one of the above
    /// or is lost on the way.
    pub late: u64,
    /// Bytes of those matched.
    pub matched_bytes: u64,
    /// How often each rule decided, rule 1 first; none for an expression.
    pub rule_hits: Vec<u64>,
}

/// What the way of a target's packets has counted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TargetCounters {
    /// Wire packets handed to the private interfaces.
    pub handed: u64,
    /// Wire packets for which there was no memory.
    pub not_handed: u64,
    /// Wire packets that were handed over and did not arrive.
    pub missing: u64,
    /// Of both, wire packets that nobody had judged yet.
    pub late_lost: u64,
    /// Packets that arrived where they are encapsulated.
    pub arrived: u64,
    /// Of those, packets that a filter judged there and rejected.
    pub filtered: u64,
    /// What each endpoint has counted, in the order of [`TargetOptions::members`](super::TargetOptions::members).
    pub members: Vec<MemberCounters>,
}

/// What an endpoint has counted. Units: packets, or bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemberCounters {
    /// Given to it by the group's table.
    pub matched: u64,
    /// Taken by the underlay's interface.
    pub sent: u64,
    /// Their bytes as carried, without outer headers.
    pub sent_bytes: u64,
    /// Of those sent, cut to fit the path.
    pub cut: u64,
    /// Handed up to user space, which counts them again.
    pub handed_up: u64,
    /// Lost between here and the ring of user space.
    pub hand_up_lost: u64,
    /// Larger than the path takes.
    pub oversize: u64,
    /// The device's queue was full.
    pub device_queue: u64,
    /// No way to the endpoint.
    pub unreachable: u64,
    /// Refused by the kernel for another reason.
    pub send_error: u64,
    /// Not what the tunnel carries.
    pub link_type: u64,
    /// No member of the group was healthy.
    pub unhealthy: u64,
}

impl TapCounters {
    /// Takes element 0 of a tap's map.
    pub(super) fn add(&mut self, words: &[u64]) {
        let of = |counter: TapCounter| words[counter as usize];
        self.filtered += of(TapCounter::Filtered);
        self.matched += of(TapCounter::Matched);
        self.own_tunnel += of(TapCounter::OwnTunnel);
        self.rate_limited += of(TapCounter::RateLimited);
        self.late += of(TapCounter::Late);
        self.matched_bytes += of(TapCounter::MatchedBytes);
    }
}

impl MemberCounters {
    /// Reads an entry of the endpoints' counters.
    pub(super) fn of(words: &[u64]) -> MemberCounters {
        let of = |counter: MemberCounter| words[counter as usize];
        MemberCounters {
            matched: of(MemberCounter::Matched),
            sent: of(MemberCounter::Sent),
            sent_bytes: of(MemberCounter::SentBytes),
            cut: of(MemberCounter::Cut),
            handed_up: of(MemberCounter::HandedUp),
            hand_up_lost: of(MemberCounter::HandUpLost),
            oversize: of(MemberCounter::Oversize),
            device_queue: of(MemberCounter::DeviceQueue),
            unreachable: of(MemberCounter::Unreachable),
            send_error: of(MemberCounter::SendError),
            link_type: of(MemberCounter::LinkType),
            unhealthy: of(MemberCounter::Unhealthy),
        }
    }

    /// Packets that came to an end here: sent, handed up or dropped.
    pub fn settled(&self) -> u64 {
        self.sent
            + self.handed_up
            + self.hand_up_lost
            + self.oversize
            + self.device_queue
            + self.unreachable
            + self.send_error
            + self.link_type
            + self.unhealthy
    }
}
