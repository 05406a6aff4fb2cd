//! Generated traffic, the same for the same seed: what archives are measured with.
//!
//! | mix | packets | flows | bytes |
//! |---|---|---|---|
//! | enterprise | 700 B on average | long ones, few bytes short ones; DNS, HTTPS, web, file servers, calls | three in five encrypted, the rest text |
//! | web | 500 B on average | a dozen packets, from as many clients as there are flows | half encrypted, half text |
//! | flood | 90 B on average | one or two packets: DNS of random names, and scans of all ports and addresses | none |
//!
//! Flows overlap: some [`Mix::flows_at_a_time`] run, and a few packets of one come in a row. Encrypted bytes are
//! random; text is words of a small language, as logs, pages and records are. TCP has sequence numbers,
//! acknowledgements, time stamps and flags; its checksums, which depend on all bytes, are random numbers.

mod flow;
mod payload;
mod random;

use flow::Flow;
use payload::Payloads;
use random::Random;

/// A kind of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    Enterprise,
    Web,
    Flood,
}

impl Mix {
    pub const ALL: [Mix; 3] = [Mix::Enterprise, Mix::Web, Mix::Flood];

    pub fn name(self) -> &'static str {
        match self {
            Mix::Enterprise => "enterprise, 700 B",
            Mix::Web => "short web flows",
            Mix::Flood => "DNS and scan flood",
        }
    }

    /// Flows that run at the same time.
    pub const fn flows_at_a_time(self) -> usize {
        match self {
            Mix::Enterprise => 2_000,
            Mix::Web => 1_000,
            Mix::Flood => 64,
        }
    }
}

/// Packets of a mix, one after the other, without end.
pub struct Traffic {
    mix: Mix,
    random: Random,
    payloads: Payloads,
    flows: Vec<Flow>,
    /// The flow whose turn it is.
    turn: usize,
    ts_ns: u64,
    gap_ns: u64,
    frame: Vec<u8>,
}

impl Traffic {
    /// Begins at a time, with so much between two packets on average.
    pub fn new(mix: Mix, seed: u64, start_ns: u64, gap_ns: u64) -> Traffic {
        let mut random = Random::new(seed);
        let payloads = Payloads::new(&mut random);
        let flows = (0..mix.flows_at_a_time()).map(|_| Flow::new(mix, &mut random)).collect();
        Traffic {
            mix,
            random,
            payloads,
            flows,
            turn: 0,
            ts_ns: start_ns,
            gap_ns,
            frame: Vec::new(),
        }
    }

    /// The next packet: its time, later than the one before, and its Ethernet frame.
    pub fn next_packet(&mut self) -> (u64, &[u8]) {
        // Bursts: one packet in four is of another flow.
        if self.random.below(4) == 0 {
            self.turn = self.random.below(self.flows.len() as u64) as usize;
        }
        self.ts_ns += 1 + self.random.below(2 * self.gap_ns);
        let flow = &mut self.flows[self.turn];
        if !flow.next(&mut self.random, &self.payloads, &mut self.frame) {
            *flow = Flow::new(self.mix, &mut self.random);
            self.turn = self.random.below(self.flows.len() as u64) as usize;
        }
        (self.ts_ns, &self.frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use wire::LinkType;
    use wire::walk::Walk;

    const PACKETS: u64 = 100_000;

    #[test]
    fn mixes_are_as_described() {
        for (mix, bytes, flows) in [
            (Mix::Enterprise, 600..800, 3_000..20_000),
            (Mix::Web, 400..600, 5_000..20_000),
            (Mix::Flood, 80..100, 40_000..90_000),
        ] {
            let mut traffic = Traffic::new(mix, 1, 0, 1000);
            let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
            let (mut sum, mut last) = (0, 0);
            for _ in 0..PACKETS {
                let (ts_ns, frame) = traffic.next_packet();
                assert!(ts_ns > last);
                last = ts_ns;
                sum += frame.len() as u64;
                let walk = Walk::new(LinkType::ETHERNET, frame);
                let tuple = walk.five_tuple(frame).expect("all of it is IP");
                let mut ends =
                    [(tuple.src, tuple.ports.map(|p| p.0)), (tuple.dst, tuple.ports.map(|p| p.1))];
                ends.sort();
                *sizes.entry(format!("{} {ends:?}", tuple.protocol)).or_default() += 1;
            }
            assert!(bytes.contains(&(sum / PACKETS)), "{mix:?}: {} B", sum / PACKETS);
            assert!(flows.contains(&sizes.len()), "{mix:?}: {} flows", sizes.len());
        }
    }

    #[test]
    fn a_seed_gives_the_same_packets() {
        let packets = |seed| {
            let mut traffic = Traffic::new(Mix::Enterprise, seed, 0, 1000);
            (0..1000).map(|_| traffic.next_packet().1.to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(packets(7), packets(7));
        assert_ne!(packets(7), packets(8));
    }
}
