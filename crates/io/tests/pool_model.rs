//! The packet pool under random use, against a model: a list of byte strings.

use io::{Data, HEADROOM, Pool};
use proptest::prelude::*;

/// What a user of the pool may do. Positions are taken modulo what there is.
#[derive(Debug, Clone)]
enum Step {
    Take(usize),
    Drop(usize),
    Overwrite(usize, u8),
    Truncate(usize, usize),
    TrimFront(usize, usize),
    GrowFront(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let position = || any::<usize>();
    prop_oneof![
        8 => (0..700usize).prop_map(Step::Take),
        6 => position().prop_map(Step::Drop),
        2 => (position(), any::<u8>()).prop_map(|(at, byte)| Step::Overwrite(at, byte)),
        1 => (position(), 0..800usize).prop_map(|(at, len)| Step::Truncate(at, len)),
        1 => (position(), 0..200usize).prop_map(|(at, len)| Step::TrimFront(at, len)),
        2 => (position(), 0..200usize).prop_map(|(at, len)| Step::GrowFront(at, len)),
    ]
}

/// A packet of the pool beside what it must hold.
struct Live {
    data: Data,
    model: Vec<u8>,
    headroom: usize,
}

impl Live {
    fn fill(&mut self, byte: u8) {
        self.data.fill(byte);
        self.model.fill(byte);
    }
}

fn at(live: &mut [Live], place: usize) -> Option<&mut Live> {
    let place = place.checked_rem(live.len())?;
    live.get_mut(place)
}

const CHUNKS: usize = 3;
const CHUNK_BYTES: usize = 2048;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn packets_hold_what_was_put_in_until_they_are_dropped(
        steps in prop::collection::vec(step(), 0..200)
    ) {
        let mut pool = Pool::new(CHUNKS, CHUNK_BYTES);
        let mut live: Vec<Live> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Take(len) => match pool.take(len) {
                    Some(data) => {
                        prop_assert_eq!((data.len(), data.headroom()), (len, HEADROOM));
                        let mut taken = Live { data, model: vec![0; len], headroom: HEADROOM };
                        taken.fill(number as u8);
                        live.push(taken);
                    }
                    None => prop_assert!(!live.is_empty(), "an unused pool has room for {len}"),
                },
                Step::Drop(place) if !live.is_empty() => {
                    live.swap_remove(place % live.len());
                }
                Step::Drop(_) => {}
                Step::Overwrite(place, byte) => {
                    if let Some(packet) = at(&mut live, place) {
                        packet.fill(byte);
                    }
                }
                Step::Truncate(place, len) => {
                    if let Some(packet) = at(&mut live, place) {
                        packet.data.truncate(len);
                        packet.model.truncate(len);
                    }
                }
                Step::TrimFront(place, len) => {
                    if let Some(packet) = at(&mut live, place) {
                        let len = len.min(packet.model.len());
                        packet.data.trim_front(len);
                        packet.model.drain(..len);
                        packet.headroom += len;
                    }
                }
                Step::GrowFront(place, len) => {
                    if let Some(packet) = at(&mut live, place) {
                        let fits = packet.data.grow_front(len);
                        prop_assert_eq!(fits, len <= packet.headroom);
                        if fits {
                            packet.data[..len].fill(0xa5);
                            packet.model.splice(..0, vec![0xa5; len]);
                            packet.headroom -= len;
                        }
                    }
                }
            }
            for packet in &live {
                prop_assert_eq!(&*packet.data, &packet.model[..]);
                prop_assert_eq!(packet.data.headroom(), packet.headroom);
            }
            let bytes: usize = live.iter().map(|p| p.data.len() + p.data.headroom()).sum();
            prop_assert!(bytes <= CHUNKS * CHUNK_BYTES, "{bytes} bytes in a bounded pool");
        }
        live.clear();
        let largest = pool.packet_bytes_max();
        prop_assert_eq!(largest, CHUNK_BYTES - HEADROOM);
        for _ in 0..2 * CHUNKS {
            prop_assert!(pool.take(largest).is_some(), "all memory is there again");
        }
    }
}

#[test]
fn packets_may_be_dropped_by_another_thread() {
    let mut pool = Pool::new(4, 4096);
    let (sender, receiver) = std::sync::mpsc::sync_channel::<(u8, Data)>(8);
    let reader = std::thread::spawn(move || {
        let mut received = 0;
        for (byte, data) in receiver {
            assert!(data.iter().all(|&b| b == byte), "nobody writes into a live packet");
            received += 1;
        }
        received
    });
    let (mut sent, mut refused) = (0, 0);
    while sent < 20_000 {
        match pool.copy(&[sent as u8; 500]) {
            Some(data) => {
                sender.send((sent as u8, data)).expect("the reader reads to the end");
                sent += 1;
            }
            None => {
                refused += 1;
                std::thread::yield_now();
            }
        }
    }
    drop(sender);
    assert_eq!(reader.join().expect("the reader does not panic"), sent, "refused {refused}");
}
