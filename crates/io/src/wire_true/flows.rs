//! The segment sizes that the hosts of a capture agreed on, as their SYNs tell: a bounded table.

use std::collections::HashMap;
use wire::segment::Flow;

/// Directions of connections in each of the two halves: some 8 MiB in all when both are full.
const HALF_FLOWS: usize = 32_768;

/// MSS by direction of a connection. When a half is full, the older half is forgotten, so that what
/// began longest ago goes first.
pub(super) struct Flows {
    young: HashMap<Flow, u16>,
    old: HashMap<Flow, u16>,
    half_flows: usize,
}

impl Flows {
    pub fn new() -> Flows {
        Flows::of(HALF_FLOWS)
    }

    fn of(half_flows: usize) -> Flows {
        Flows { young: HashMap::new(), old: HashMap::new(), half_flows }
    }

    /// Keeps what a host announced in the SYN that it sent.
    pub fn announced(&mut self, flow: Flow, mss: u16) {
        if self.young.len() >= self.half_flows {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(flow, mss);
    }

    /// The MSS with which a flow's sender sends: no more than its peer announced, and no more than
    /// its own link holds, which is what it announced itself. `None` if neither SYN is known.
    pub fn mss(&self, flow: Flow) -> Option<u16> {
        let of = |flow| self.young.get(&flow).or_else(|| self.old.get(&flow)).copied();
        match (of(flow.reversed()), of(flow)) {
            (Some(peer), Some(own)) => Some(peer.min(own)),
            (one, other) => one.or(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(port: u16) -> Flow {
        Flow { src: ([10, 0, 0, 1], port).into(), dst: ([10, 0, 0, 2], 80).into(), vni: 0 }
    }

    #[test]
    fn the_smaller_announcement_holds() {
        let mut flows = Flows::of(9);
        assert_eq!(flows.mss(flow(1)), None);
        flows.announced(flow(1), 8960);
        assert_eq!(flows.mss(flow(1)), Some(8960));
        assert_eq!(flows.mss(flow(1).reversed()), Some(8960));
        flows.announced(flow(1).reversed(), 1460);
        assert_eq!(flows.mss(flow(1)), Some(1460));
        assert_eq!(flows.mss(flow(1).reversed()), Some(1460));
        flows.announced(flow(1).reversed(), 1400);
        assert_eq!(flows.mss(flow(1)), Some(1400), "the port is used again");
        assert_eq!(flows.mss(Flow { vni: 7, ..flow(1) }), None, "another network's");
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut flows = Flows::of(10);
        for port in 0..25 {
            flows.announced(flow(port), 1000 + port);
            assert!(flows.young.len() + flows.old.len() <= 20);
        }
        assert_eq!(flows.mss(flow(5)), None);
        for port in 10..25 {
            assert_eq!(flows.mss(flow(port)), Some(1000 + port));
        }
    }
}
