//! Sampling: one of n packets, or all packets of one of n flows.

use super::{Stage, Work};
use api::DropReason;
use io::Packet;

/// Lets one of `n` packets go on, and drops the others as `sampled`.
pub struct Sample {
    n: u32,
    by: By,
}

enum By {
    // Packets to come before the next one that goes on.
    Packet { until: u32 },
    Flow,
}

impl Sample {
    /// Every `n`th packet, from the first on: n = 3 lets the 1st, 4th, 7th … go on. An n of 0 is
    /// taken for 1. The count goes over all packets, so traffic of a strict rhythm of its own, such
    /// as request and answer in turn, is better sampled by flow.
    pub fn packets(n: u32) -> Sample {
        Sample { n: n.max(1), by: By::Packet { until: 0 } }
    }

    /// All packets of every `n`th flow, both directions. Which flows those are
    /// depends on nothing but the flow and n: on every host and at every start they are the same,
    /// and those of 1:2n are some of those of 1:n.
    pub fn flows(n: u32) -> Sample {
        Sample { n: n.max(1), by: By::Flow }
    }
}

impl Stage for Sample {
    fn apply(&mut self, work: &mut Work<'_>) {
        let n = self.n;
        match &mut self.by {
            By::Packet { until } => work.each(|_, _| {
                if *until == 0 {
                    *until = n - 1;
                    return Ok(());
                }
                *until -= 1;
                Err(DropReason::Sampled)
            }),
            By::Flow => work.each(|packet, _| {
                if chosen(flow_hash(packet), n) { Ok(()) } else { Err(DropReason::Sampled) }
            }),
        }
    }

    fn changes(&self) -> bool {
        false
    }
}

#[inline]
fn flow_hash(packet: &mut Packet) -> u32 {
    match packet.meta.flow_hash {
        Some(hash) => hash,
        None => *packet.meta.flow_hash.insert(packet.compute_flow_hash()),
    }
}

/// Whether a flow is one of every `n`. The low and the top bits of the hash choose a group's member
/// and a tunnel's source port: it is mixed anew here, so that the chosen flows are shared out there
/// as evenly as all are.
#[inline]
fn chosen(flow_hash: u32, n: u32) -> bool {
    // The finaliser of SplitMix64, from a start of our own.
    let mut z = (u64::from_be_bytes(*b"sampling") ^ u64::from(flow_hash))
        .wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    // The top 32 bits, taken as a fraction, are below 1/n.
    (z >> 32) * u64::from(n) < 1 << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::trial::{Trial, packet, udp4};
    use wire::flow::{slot, source_port};

    #[test]
    fn every_nth_packet_goes_on_across_batches() {
        for n in [0, 1, 2, 3, 7, 100] {
            let mut trial = Trial::new(Sample::packets(n));
            let mut passed = Vec::new();
            for batch in 0..10u64 {
                passed.extend(trial.run((0..33).map(|i| packet(batch * 33 + i, &[0; 60]))));
            }
            let wanted: Vec<u64> = (0..330).step_by(n.max(1) as usize).collect();
            assert_eq!(passed, wanted, "n = {n}");
            assert_eq!(trial.drops().get(DropReason::Sampled), 330 - wanted.len() as u64);
            assert_eq!(trial.drops().total(), 330 - wanted.len() as u64);
        }
    }

    #[test]
    fn a_flow_goes_on_as_a_whole_in_both_directions() {
        let mut trial = Trial::new(Sample::flows(4));
        let mut chosen = 0;
        for port in 1000..5000 {
            let there = udp4(([10, 0, 0, 1], port), ([10, 0, 0, 2], 53), b"a");
            let back = udp4(([10, 0, 0, 2], 53), ([10, 0, 0, 1], port), b"bc");
            let passed = trial.run([&there, &back, &there].map(|frame| packet(0, frame)));
            assert!(passed.len() == 3 || passed.is_empty(), "port {port}: {passed:?}");
            chosen += u32::from(!passed.is_empty());
        }
        assert!((900..1100).contains(&chosen), "{chosen} of 4,000 flows at 1:4");
    }

    #[test]
    fn the_same_flows_are_chosen_on_every_host() {
        let flows: Vec<u32> = (0..40).filter(|&hash| chosen(hash, 4)).collect();
        assert_eq!(flows, PINNED);
        assert!((0..1000).all(|hash| chosen(hash, 2) || !chosen(hash, 4)));
        assert!((0..1000).all(|hash| chosen(hash, 1)));
    }

    // What is balanced, or sent by several ports, behind a sample is shared out evenly still.
    #[test]
    fn chosen_flows_are_independent_of_group_slots_and_source_ports() {
        let mut state = 1u64;
        let mut slots = [0u32; 4];
        let mut ports = [0u32; 4];
        for _ in 0..40_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let hash = (state >> 32) as u32;
            if chosen(hash, 4) {
                slots[slot(hash) * 4 / wire::flow::SLOTS] += 1;
                ports[usize::from(source_port(hash) - 0xc000) / (1 << 12)] += 1;
            }
        }
        let even = |quarters: [u32; 4]| quarters.iter().all(|n| (2300..2700).contains(n));
        assert!(even(slots) && even(ports), "{slots:?} {ports:?}");
    }

    const PINNED: [u32; 11] = [1, 11, 14, 19, 20, 21, 23, 29, 30, 31, 34];
}
