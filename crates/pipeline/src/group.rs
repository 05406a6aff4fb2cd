//! The group table: which member of a group a flow goes to.
//!
//! 16,384 slots, looked up by the low 14 bits of the flow hash. Each slot belongs to the member
//! with the highest score in it: *weighted rendezvous hashing* (Thaler and Ravishankar 1998;
//! weights as in Schindelhauer and Schomaker 2005), score = −weight / ln u, where u in (0, 1) is
//! made from the member's key and the slot. When a member is lost only its slots move, and when it
//! returns the same ones go back. A member's key is its canonical endpoint, never its position, so that all hosts fill the same table.

use wire::flow::{SLOTS, slot};

/// A member of a group: what identifies it, and its share of the load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The canonical endpoint.
    pub key: String,
    /// Share relative to the other members; 0 gets nothing.
    pub weight: u16,
}

/// The table of a group: slot → position of the member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupTable {
    slots: Box<[u16]>,
}

impl GroupTable {
    /// Fills the table.
    ///
    /// # Panics
    /// Without a member, or with more than 65,536.
    pub fn new(members: &[Member]) -> GroupTable {
        GroupTable::among(members, &vec![true; members.len()]).expect("a group has a member")
    }

    /// Fills the table with those members that are wanted; `None` if there is none.
    ///
    /// # Panics
    /// With more than 65,536 members.
    pub fn among(members: &[Member], wanted: &[bool]) -> Option<GroupTable> {
        assert!(members.len() <= 1 << 16, "a group has 1 to 65,536 members");
        if !wanted.contains(&true) {
            return None;
        }
        let keys: Vec<u64> = members.iter().map(|member| key_hash(&member.key)).collect();
        let owner = |slot: usize| {
            let score = |(position, key): (usize, &u64)| {
                (score(mix(key ^ mix(slot as u64)), members[position].weight), position)
            };
            let scores = keys.iter().enumerate().filter(|(at, _)| wanted[*at]).map(score);
            let best = scores.max_by(|a, b| {
                a.0.total_cmp(&b.0).then_with(|| members[b.1].key.cmp(&members[a.1].key))
            });
            best.map_or(0, |(_, position)| position as u16)
        };
        Some(GroupTable { slots: (0..SLOTS).map(owner).collect() })
    }

    /// Shares packets of unknown flows out among so many members, by their shares of the table: each
    /// packet goes to the owner of the next slot. So with more packets no member gets fewer.
    pub fn share_out(&self, packets: u64, members: usize) -> Vec<u64> {
        let (rounds, rest) = (packets / SLOTS as u64, (packets % SLOTS as u64) as usize);
        let mut shares = vec![0; members];
        for (slot, &member) in self.slots.iter().enumerate() {
            shares[usize::from(member)] += rounds + u64::from(slot < rest);
        }
        shares
    }

    /// The member's position for each slot of the flow hash.
    pub fn slots(&self) -> &[u16] {
        &self.slots
    }

    /// The position of the member that a flow goes to.
    #[inline]
    pub fn member(&self, flow_hash: u32) -> usize {
        usize::from(self.slots[slot(flow_hash)])
    }
}

fn score(hash: u64, weight: u16) -> f64 {
    // 53 bits, moved off 0 and 1, where the logarithm has no use.
    let u = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(weight) / u.ln()
}

/// FNV-1a, 64 bits, then mixed.
fn key_hash(key: &str) -> u64 {
    mix(key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    }))
}

/// The finaliser of SplitMix64: every input bit moves every output bit.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(key: &str, weight: u16) -> Member {
        Member { key: key.into(), weight }
    }

    fn share(table: &GroupTable, position: u16) -> f64 {
        table.slots.iter().filter(|&&m| m == position).count() as f64 / SLOTS as f64
    }

    #[test]
    fn slots_are_shared_by_weight() {
        let table = GroupTable::new(&[member("a", 1), member("b", 1), member("c", 2)]);
        for (position, wanted) in [(0, 0.25), (1, 0.25), (2, 0.5)] {
            let share = share(&table, position);
            assert!((share - wanted).abs() < 0.02, "member {position} has {share}");
        }
    }

    #[test]
    fn packets_of_unknown_flows_are_shared_out_exactly_and_none_is_taken_back() {
        let members = [member("a", 2), member("b", 1), member("c", 0), member("d", 5)];
        let table = GroupTable::new(&members);
        let mut before = vec![0; 4];
        let round = SLOTS as u64;
        for packets in (0..200).chain(round - 50..round + 200) {
            let shares = table.share_out(packets, 4);
            assert_eq!(shares.iter().sum::<u64>(), packets);
            assert!(shares.iter().zip(&before).all(|(now, before)| now >= before), "{packets}");
            before = shares;
        }
        assert!(before[3] > before[0] && before[0] > before[1] && before[1] > 0, "{before:?}");
        assert_eq!(before[2], 0, "a member of no weight");
        assert_eq!(
            table.share_out(SLOTS as u64 * 9, 4)[0],
            table.share_out(SLOTS as u64, 4)[0] * 9
        );
    }

    #[test]
    fn only_a_lost_member_s_slots_move() {
        let all = [member("a", 1), member("b", 3), member("c", 1)];
        let before = GroupTable::new(&all);
        let after = GroupTable::new(&all[..2]);
        for (slot, (&was, &is)) in before.slots.iter().zip(&after.slots).enumerate() {
            assert!(was == is || was == 2, "slot {slot} moved from {was} to {is}");
        }
    }

    #[test]
    fn any_members_may_be_away_and_only_their_slots_move() {
        let all = [member("a", 1), member("b", 3), member("c", 1), member("d", 2)];
        let before = GroupTable::new(&all);
        for away in 1..15_u32 {
            let up: Vec<bool> = (0..4).map(|at| away & (1 << at) == 0).collect();
            let after = GroupTable::among(&all, &up).unwrap();
            for (&was, &is) in before.slots.iter().zip(&after.slots) {
                assert!(up[usize::from(is)], "an absent member has a slot");
                assert!(was == is || !up[usize::from(was)], "{was} to {is} without need");
            }
        }
        assert_eq!(GroupTable::among(&all, &[true; 4]), Some(before));
        assert_eq!(GroupTable::among(&all, &[false; 4]), None);
    }

    #[test]
    fn the_table_depends_on_keys_not_on_positions() {
        let one = GroupTable::new(&[member("a", 1), member("b", 2)]);
        let other = GroupTable::new(&[member("b", 2), member("a", 1)]);
        assert!(one.slots.iter().zip(&other.slots).all(|(&x, &y)| x == 1 - y));
    }

    #[test]
    fn the_table_is_the_same_on_every_host() {
        let table = GroupTable::new(&[
            member("vxlan://10.0.0.1:4789?vni=1", 1),
            member("vxlan://10.0.0.2:4789?vni=1", 1),
        ]);
        let first: Vec<u16> = table.slots[..16].to_vec();
        assert_eq!(first, PINNED);
        let sum: usize =
            table.slots.iter().enumerate().map(|(slot, &m)| slot * usize::from(m)).sum();
        assert_eq!(sum, PINNED_SUM);
    }

    const PINNED: [u16; 16] = [0, 1, 1, 1, 1, 1, 1, 0, 1, 0, 1, 1, 0, 1, 0, 1];
    const PINNED_SUM: usize = 67_148_198;
}
