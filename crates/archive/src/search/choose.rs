//! Which frames of a sealed segment to read: what its index says.

use super::judge::Judge;
use crate::catalog::Segment;
use crate::fetch::{Fetch, in_thread};
use crate::index::each_row_in;
use std::collections::BTreeMap;

/// Longest index that is read. A longer one is none that sealing makes.
const INDEX_BYTES_MAX: u64 = 64 << 20;

/// The frames that may hold packets that are looked for, each with a time before which it holds none of
/// them; `None` for all frames, if there is no index that can be read: nothing is left out for that.
pub(super) async fn choose(
    fetch: &Fetch,
    segment: &Segment,
    judge: &Judge,
) -> Option<BTreeMap<u32, u64>> {
    let (place, bytes) = segment.index.as_ref().filter(|(_, bytes)| *bytes <= INDEX_BYTES_MAX)?;
    let index = fetch.range(place, 0..*bytes).await.ok()?;
    let judge = judge.clone();
    let chosen = in_thread(move || {
        let query = judge.query();
        let tunnel_id = judge.source_tunnel_id();
        let mut frames: BTreeMap<u32, u64> = BTreeMap::new();
        each_row_in(index, &query.wanted(), |row| {
            if query.wants_row(&row, tunnel_id) {
                for &frame in &row.frames {
                    let first_ns = frames.entry(frame).or_insert(row.span_ns.0);
                    *first_ns = row.span_ns.0.min(*first_ns);
                }
            }
        })?;
        Ok(frames)
    });
    chosen.await.ok()
}
