//! The first packets or bytes of each flow: what most tools look at, at a fraction of the load.
//!
//! A flow is what [`wire::flow::FlowKey`] says, both directions together. A TCP SYN with another
//! sequence number than the one before it begins the flow anew, as does a packet after a long
//! silence; a SYN that is merely sent again does not. Fragments have no ports: those of two hosts
//! and one protocol are one flow.
//!
//! Time is the packets' own, so that a file is judged as it was recorded, whatever the pace at
//! which it is played. A step of the clock that is longer than the silence, back or ahead, begins
//! the flow anew.

use super::recent::Recent;
use super::{Stage, Work};
use api::DropReason;
use io::Packet;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;
use wire::flow::FlowKey;
use wire::walk::{TransportKind, Walk};

/// Flows that a stage keeps apart; about 35 MB if so many come. Beyond, the one that was silent
/// longest is forgotten, and begins anew.
pub const FLOWS_MAX: usize = 1 << 18;

/// Lets the begin of each flow go on, and drops what comes behind it as `flow_limit`.
pub struct First {
    packets: u64,
    bytes: u64,
    idle_ns: u64,
    flows: Recent<FlowKey, Flow>,
    // Keyed anew at each start, so that nobody can make flows that share a chain.
    hasher: RandomState,
    forgotten: u64,
}

#[derive(Clone, Copy)]
struct Flow {
    // Both of the packets that came so far, whatever became of them.
    packets: u64,
    bytes: u64,
    last_ns: u64,
    // Sequence number of the last SYN.
    syn: Option<u32>,
}

impl First {
    /// Of each flow the first `packets`, and of those the ones that begin within its first `bytes`
    /// (original lengths); `None`: no bound. A flow that was silent for longer than `idle` begins
    /// anew. Keeps at most `flows_max` flows apart ([`FLOWS_MAX`]), with memory taken now.
    pub fn new(
        packets: Option<u64>,
        bytes: Option<u64>,
        idle: Duration,
        flows_max: usize,
    ) -> First {
        First {
            packets: packets.unwrap_or(u64::MAX),
            bytes: bytes.unwrap_or(u64::MAX),
            idle_ns: u64::try_from(idle.as_nanos()).unwrap_or(u64::MAX),
            flows: Recent::new(flows_max),
            hasher: RandomState::new(),
            forgotten: 0,
        }
    }

    fn judge(&mut self, packet: &Packet) -> Result<(), DropReason> {
        let walk = Walk::new(packet.meta.link_type, &packet.data);
        let key = FlowKey::new(&walk, &packet.data);
        let syn = opening(&walk, &packet.data);
        let ts_ns = packet.meta.ts_ns;
        let new = Flow { packets: 0, bytes: 0, last_ns: ts_ns, syn };
        let hash = self.hasher.hash_one(key);
        let place = self.flows.find(hash, &key);
        let mut flow = match place.map(|place| *self.flows.value(place)) {
            Some(known) if !self.begins_anew(&known, &new) => known,
            _ => new,
        };
        let wanted = flow.packets < self.packets && flow.bytes < self.bytes;
        flow.packets = flow.packets.saturating_add(1);
        flow.bytes = flow.bytes.saturating_add(packet.meta.origlen.into());
        flow.last_ns = ts_ns;
        if let Some(place) = place {
            *self.flows.value(place) = flow;
            self.flows.renew(place);
        } else if let Some(oldest) = self.flows.add(hash, key, flow)
            && !self.silent(&oldest, ts_ns)
        {
            self.forgotten += 1;
        }
        if wanted { Ok(()) } else { Err(DropReason::FlowLimit) }
    }

    fn begins_anew(&self, known: &Flow, new: &Flow) -> bool {
        self.silent(known, new.last_ns) || (new.syn.is_some() && new.syn != known.syn)
    }

    fn silent(&self, flow: &Flow, ts_ns: u64) -> bool {
        flow.last_ns.abs_diff(ts_ns) > self.idle_ns
    }
}

impl Stage for First {
    fn apply(&mut self, work: &mut Work<'_>) {
        work.each(|packet, _| self.judge(packet));
    }

    fn changes(&self) -> bool {
        false
    }

    fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

/// The sequence number of a TCP SYN that opens a connection (RFC 9293 section 3.1: SYN without
/// ACK).
fn opening(walk: &Walk, frame: &[u8]) -> Option<u32> {
    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;
    let transport = walk.transport.filter(|transport| transport.kind == TransportKind::Tcp)?;
    let header = frame.get(transport.at as usize..walk.end as usize)?.first_chunk::<14>()?;
    let opens = header[13] & (SYN | ACK) == SYN && !walk.is_fragment();
    opens.then(|| u32::from_be_bytes([header[4], header[5], header[6], header[7]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::trial::{Trial, frame, packet, udp4};
    use proptest::prelude::*;
    use std::collections::HashMap;
    use wire::LinkType;

    const S: u64 = 1_000_000_000;
    const IDLE: Duration = Duration::from_secs(30);

    fn there(port: u16, bytes: usize) -> Vec<u8> {
        udp4(([10, 0, 0, 1], port), ([10, 0, 0, 2], 53), &vec![1; bytes])
    }

    fn back(port: u16, bytes: usize) -> Vec<u8> {
        udp4(([10, 0, 0, 2], 53), ([10, 0, 0, 1], port), &vec![2; bytes])
    }

    fn tcp(flags: u8, sequence: u32) -> Vec<u8> {
        let mut tcp = frame::tcp(1000, 80, flags, b"");
        tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
        frame::ethernet(0x0800, &frame::ipv4(6, &tcp))
    }

    #[test]
    fn both_directions_are_one_flow_and_others_are_others() {
        let mut trial = Trial::new(First::new(Some(3), None, IDLE, 100));
        let frames = [there(1, 9), back(1, 9), there(2, 9), there(1, 9), back(1, 9), back(2, 9)];
        let packets = frames.iter().enumerate().map(|(i, frame)| packet(i as u64, frame));
        assert_eq!(trial.run(packets), [0, 1, 2, 3, 5]);
        assert_eq!(trial.drops().get(DropReason::FlowLimit), 1);
        assert_eq!(trial.stats().forgotten, 0);
    }

    #[test]
    fn a_packet_that_begins_within_the_bytes_goes_on() {
        // 42 bytes of headers.
        let mut trial = Trial::new(First::new(None, Some(200), IDLE, 100));
        let mut frames = [58, 57, 58, 1].map(|bytes| there(1, bytes)); // begins at 0, 100, 199, 299
        assert_eq!(trial.run((0..4).map(|i| packet(i, &frames[i as usize]))), [0, 1, 2]);
        // What was cut off counts.
        let mut trial = Trial::new(First::new(Some(9), Some(200), IDLE, 100));
        frames[0].truncate(50);
        let mut cut = packet(0, &frames[0]);
        cut.meta.origlen = 200;
        assert_eq!(trial.run([cut, packet(1, &frames[3])]), [0]);
    }

    #[test]
    fn silence_begins_a_flow_anew_and_a_clock_that_steps_back_is_no_end() {
        let mut trial = Trial::new(First::new(Some(1), None, IDLE, 100));
        let at = |seconds: u64| packet(seconds * S, &there(1, 9));
        assert_eq!(trial.run([100, 130, 160, 150].map(at)).len(), 1, "never silent for over 30 s");
        assert_eq!(trial.run([181].map(at)).len(), 1, "silent for 31 s");
        assert_eq!(trial.run([170, 199, 190].map(at)).len(), 0, "steps within the silence");
        assert_eq!(trial.run([5, 6].map(at)), [5 * S], "a new time, a new flow");
    }

    #[test]
    fn a_new_connection_begins_anew_and_a_syn_sent_again_does_not() {
        const SYN: u8 = 2;
        const ACK: u8 = 16;
        let mut trial = Trial::new(First::new(Some(2), None, IDLE, 100));
        let frames = [
            tcp(SYN, 7),
            tcp(SYN, 7), // sent again
            tcp(SYN, 7), // and again: over the bound
            tcp(ACK, 8),
            tcp(SYN | ACK, 9), // an answer opens nothing
            tcp(SYN, 70),      // the next connection
            tcp(ACK, 71),
            tcp(ACK, 72),
        ];
        let packets = frames.iter().enumerate().map(|(i, frame)| packet(i as u64, frame));
        assert_eq!(trial.run(packets), [0, 1, 5, 6]);
    }

    #[test]
    fn beyond_its_memory_it_forgets_who_was_silent_longest_and_says_so() {
        let mut trial = Trial::new(First::new(Some(1), None, IDLE, 2));
        let at = |time: u64, port| packet(time, &there(port, 9));
        assert_eq!(trial.run([at(0, 1), at(1, 2), at(2, 1), at(3, 3)]), [0, 1, 3]);
        assert_eq!(trial.stats().forgotten, 1);
        assert_eq!(trial.run([at(4, 1)]), [] as [u64; 0], "1 spoke after 2");
        assert_eq!(trial.run([at(5, 2)]), [5], "2 was forgotten");
        assert_eq!(trial.run([at(100 * S, 4), at(100 * S, 5)]).len(), 2);
        assert_eq!(trial.stats().forgotten, 2, "the last two were over anyway");
    }

    proptest! {
        #[test]
        fn does_what_a_list_of_each_flow_s_packets_says(
            packets_max in proptest::option::of(0u64..6),
            bytes_max in proptest::option::of(0u64..600),
            arrivals in proptest::collection::vec(
                (0u64..40 * S, 1u16..6, any::<bool>(), 0usize..200), 0..200),
        ) {
            let mut trial = Trial::new(First::new(packets_max, bytes_max, IDLE, 100));
            let mut flows: HashMap<u16, Vec<(u64, u64)>> = HashMap::new();
            let mut now = 0;
            for (gap, port, turned, bytes) in arrivals {
                now += gap / 8;
                let frame = if turned { back(port, bytes) } else { there(port, bytes) };
                let flow = flows.entry(port).or_default();
                if flow.last().is_some_and(|last| now - last.0 > 30 * S) {
                    flow.clear();
                }
                let before: u64 = flow.iter().map(|packet| packet.1).sum();
                let wanted = packets_max.is_none_or(|max| (flow.len() as u64) < max)
                    && bytes_max.is_none_or(|max| before < max);
                flow.push((now, frame.len() as u64));
                prop_assert_eq!(trial.run([packet(now, &frame)]).len(), usize::from(wanted));
            }
        }

        #[test]
        fn noise_does_no_harm(
            frames in proptest::collection::vec(
                (any::<u64>(), proptest::collection::vec(any::<u8>(), 0..80)), 0..20),
            link in prop_oneof![Just(1u16), Just(101), Just(113), Just(276), Just(0), any::<u16>()],
        ) {
            let mut trial = Trial::new(First::new(Some(1), Some(100), IDLE, 3));
            trial.run(frames.iter().map(|(ts_ns, frame)| {
                let mut packet = packet(*ts_ns, frame);
                packet.meta.link_type = LinkType(link);
                packet
            }));
        }
    }
}
