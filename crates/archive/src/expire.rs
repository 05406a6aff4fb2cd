//! Retention: which segments an archive keeps no longer, and how they are removed.
//!
//! A segment is gone in this order: the manifest says that it is removed, then its index goes, then
//! its data. Whoever is interrupted leaves what `repair` finishes, never data that the manifest does
//! not know of. Only what is in the store is looked at; a spool has a bound of its own.

use crate::catalog::{Place, Segment, State};
use crate::error::Error;
use crate::holds::Holds;
use crate::manifest::{Chain, Event, Removal};
use crate::name::{Part, SegmentName};
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// Folders that a segment stands in below its archive: date, hour, source.
const DEPTH: usize = 3;

/// What is kept. Each rule that is set holds for itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// Segments whose last packet is older than this are removed.
    pub older_than: Option<Duration>,
    /// The segments of all sources that the rules are about have no more bytes than this together.
    pub bytes_max: Option<u64>,
    /// The segments of each source have no more bytes than this.
    pub bytes_max_per_source: Option<u64>,
    /// The sources that the rules are about; all, if there are none.
    pub sources: Vec<String>,
}

/// A segment that is to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removing {
    /// Its name.
    pub name: SegmentName,
    /// Key of its data.
    pub object: String,
    /// Key of its index, if it has one.
    pub index: Option<String>,
    /// Bytes of its objects.
    pub bytes: u64,
    /// Its packets, if they are known.
    pub packets: Option<u64>,
    /// Why.
    pub reason: Removal,
}

/// What is to be removed, and what is not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The oldest first.
    pub remove: Vec<Removing>,
    /// Segments and bytes that stay, of the sources that the rules are about.
    pub kept: (u64, u64),
    /// Segments that are older than is kept, or would have to go for the bound, and are held.
    pub held: Vec<SegmentName>,
    /// Bytes above a bound that stay, because holds cover them.
    pub excess_bytes: u64,
}

/// Says which segments the rules remove. `now_ns` is nanoseconds since 1970.
///
/// By bytes the oldest go first, by the time of their last packet. Held segments count, and stay.
pub fn plan(segments: &[Segment], holds: &Holds, rules: &Rules, now_ns: u64) -> Plan {
    let mut kept: Vec<(&Segment, u64, bool)> = segments
        .iter()
        .filter(|of| matches!(of.state, State::Stored | State::Plain))
        .filter(|of| rules.sources.is_empty() || rules.sources.contains(&of.name.source))
        .map(|of| (of, bytes_of(of), holds.covers(&of.name)))
        .collect();
    kept.sort_by_key(|(of, _, _)| (of.name.last_ns, of.name.id));
    let mut plan = Plan::default();

    if let Some(age) = rules.older_than {
        let age_ns = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        let oldest_ns = now_ns.saturating_sub(age_ns);
        plan.take(&mut kept, Removal::Age, |of, _| of.name.last_ns < oldest_ns);
    }
    if let Some(bytes_max) = rules.bytes_max_per_source {
        let mut excess: BTreeMap<&str, u64> = BTreeMap::new();
        for (of, bytes, _) in &kept {
            *excess.entry(&of.name.source).or_default() += bytes;
        }
        excess.values_mut().for_each(|bytes| *bytes = bytes.saturating_sub(bytes_max));
        plan.take(&mut kept, Removal::Bytes, |of, going| {
            let excess = excess.entry(&of.name.source).or_default();
            let is_wanted = *excess > 0;
            *excess = excess.saturating_sub(going);
            is_wanted
        });
        plan.excess_bytes = excess.values().sum();
    }
    if let Some(bytes_max) = rules.bytes_max {
        let bytes: u64 = kept.iter().map(|(_, bytes, _)| bytes).sum();
        let mut excess = bytes.saturating_sub(bytes_max);
        plan.take(&mut kept, Removal::Bytes, |_, going| {
            let is_wanted = excess > 0;
            excess = excess.saturating_sub(going);
            is_wanted
        });
        plan.excess_bytes = plan.excess_bytes.max(excess);
    }
    plan.remove.sort_by_key(|of| (of.name.last_ns, of.name.id));
    plan.held.sort();
    plan.held.dedup();
    plan.kept = (kept.len() as u64, kept.iter().map(|(_, bytes, _)| bytes).sum());
    plan
}

impl Plan {
    /// Moves what is wanted out of `kept`, unless it is held. `wants` is told of each segment, the
    /// oldest first, and how many bytes go with it: none, if it is held.
    fn take<'a>(
        &mut self,
        kept: &mut Vec<(&'a Segment, u64, bool)>,
        reason: Removal,
        mut wants: impl FnMut(&'a Segment, u64) -> bool,
    ) {
        kept.retain(|&(of, bytes, is_held)| {
            let is_wanted = wants(of, if is_held { 0 } else { bytes });
            if is_wanted && is_held {
                self.held.push(of.name.clone());
            } else if is_wanted {
                self.remove.push(Removing::new(of, bytes, reason));
            }
            !is_wanted || is_held
        });
    }

    /// Bytes that are removed.
    pub fn bytes(&self) -> u64 {
        self.remove.iter().map(|of| of.bytes).sum()
    }
}

impl Removing {
    /// A stored segment, to be removed.
    fn new(segment: &Segment, bytes: u64, reason: Removal) -> Removing {
        let key = |place: &Place| match place {
            Place::Object(key) => Some(key.clone()),
            Place::File(_) => None,
        };
        let part = if segment.state == State::Plain { Part::Plain } else { Part::Data };
        Removing {
            name: segment.name.clone(),
            object: segment.name.key(part),
            index: segment.index.as_ref().and_then(|(place, _)| key(place)),
            bytes,
            packets: None,
            reason,
        }
    }
}

fn bytes_of(segment: &Segment) -> u64 {
    segment.data.1 + segment.index.as_ref().map_or(0, |(_, bytes)| *bytes)
}

/// Removes what a plan says, but for what is held by now, and tells `removed` of each segment that is
/// gone. `announced` are segments whose removal is in the manifest already, as it failed after that;
/// `utc_ns` is the time now, nanoseconds since 1970.
///
/// # Errors
/// [`Error`] of the first segment that cannot be removed; those before it are gone.
pub async fn apply(
    store: &Store,
    chain: &mut Chain,
    plan: &Plan,
    announced: &mut BTreeSet<String>,
    utc_ns: u64,
    mut removed: impl FnMut(&Removing),
) -> Result<(), Error> {
    for of in &plan.remove {
        // A hold may have been placed since the plan was made.
        let holds = Holds::load(store).await?;
        let name = SegmentName::parse_key(&of.object);
        if name.is_some_and(|(name, _)| holds.covers(&name)) {
            continue;
        }
        let event = Event::Removed {
            object: of.object.clone(),
            reason: of.reason,
            packets: of.packets,
            bytes: of.bytes,
        };
        if !announced.contains(&of.object) {
            chain.append(event, utc_ns).await?;
            announced.insert(of.object.clone());
        }
        delete(store, &of.object, of.index.as_deref()).await?;
        announced.remove(&of.object);
        removed(of);
    }
    Ok(())
}

/// Deletes the objects of a segment: the index, then the data, then the folders that have become
/// empty.
///
/// # Errors
/// [`Error::Store`] if one cannot be deleted.
pub(crate) async fn delete(store: &Store, data: &str, index: Option<&str>) -> Result<(), Error> {
    if let Some(index) = index {
        store.delete(index).await?;
    }
    store.delete(data).await?;
    if let Some(root) = store.root() {
        remove_empty_folders(&root.join(data));
    }
    Ok(())
}

/// Removes the folders that have become empty, up to the archive's own.
fn remove_empty_folders(path: &Path) {
    for folder in path.ancestors().skip(1).take(DEPTH) {
        // One that is not empty refuses, and so do those above it.
        if std::fs::remove_dir(folder).is_err() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holds::Hold;
    use proptest::prelude::*;
    use ulid::Ulid;

    const S: u64 = 1_000_000_000;

    fn segment(n: u64, source: &str, last_s: u64, bytes: u64) -> Segment {
        let name = SegmentName {
            first_ns: (last_s * S).saturating_sub(S / 2),
            last_ns: last_s * S,
            id: Ulid::from_parts(n, 7),
            source: source.into(),
        };
        let data = (Place::Object(name.key(Part::Data)), bytes);
        let index = Some((Place::Object(name.key(Part::Index)), 1));
        Segment { name, state: State::Stored, data, index }
    }

    fn seconds(plan: &Plan) -> Vec<u64> {
        plan.remove.iter().map(|of| of.name.last_ns / S).collect()
    }

    fn none() -> Holds {
        Holds::default()
    }

    #[test]
    fn without_rules_everything_stays() {
        let all = [segment(1, "a", 1, 9), segment(2, "a", 2, 9)];
        let plan = plan(&all, &none(), &Rules::default(), 100 * S);
        assert_eq!((plan.remove.len(), plan.kept), (0, (2, 20)));
    }

    #[test]
    fn age_is_that_of_the_last_packet() {
        let all: Vec<_> = (1..=4).map(|n| segment(n, "a", n * 10, 9)).collect();
        let rules = Rules { older_than: Some(Duration::from_secs(80)), ..Rules::default() };
        let plan = plan(&all, &none(), &rules, 100 * S);
        assert_eq!(seconds(&plan), [10]);
        assert_eq!((plan.remove[0].reason, plan.remove[0].bytes), (Removal::Age, 10));
        assert!(plan.remove[0].index.is_some());
    }

    #[test]
    fn bounds_hold_over_all_and_for_each_source() {
        let all: Vec<_> =
            (1..=6).map(|n| segment(n, if n % 2 == 0 { "a" } else { "b" }, n, 9)).collect();
        let bytes_max = Some(25);
        let by = |rules: Rules| seconds(&plan(&all, &none(), &rules, 100 * S));
        assert_eq!(by(Rules { bytes_max, ..Rules::default() }), [1, 2, 3, 4]);
        let per_source = Rules { bytes_max_per_source: bytes_max, ..Rules::default() };
        assert_eq!(by(per_source.clone()), [1, 2]);
        assert_eq!(by(Rules { sources: vec!["b".into()], ..per_source }), [1]);
        assert_eq!(by(Rules { bytes_max: Some(0), ..Rules::default() }).len(), 6);
    }

    #[test]
    fn what_is_in_a_spool_is_not_looked_at() {
        let mut open = segment(1, "a", 1, 9);
        open.state = State::Sealed;
        let rules = Rules { bytes_max: Some(0), ..Rules::default() };
        assert_eq!(plan(&[open], &none(), &rules, S), Plan::default());
    }

    #[test]
    fn a_bound_that_holds_make_impossible_is_said() {
        let all: Vec<_> = (1..=3).map(|n| segment(n, "a", n, 9)).collect();
        let hold = Hold { before_ns: Some(2 * S), ..Hold::new("x", 0).unwrap() };
        let rules = Rules { bytes_max: Some(5), ..Rules::default() };
        let plan = plan(&all, &[hold].into_iter().collect(), &rules, 9 * S);
        assert_eq!(seconds(&plan), [3]);
        assert_eq!((plan.held.len(), plan.kept, plan.excess_bytes), (2, (2, 20), 15));
    }

    prop_compose! {
        fn segments()(list in prop::collection::vec((0..3_usize, 0..50_u64, 0..100_u64), 0..30)) -> Vec<Segment> {
            (0..).zip(list).map(|(n, (source, last_s, bytes))| {
                segment(n, ["a", "b", "c"][source], last_s, bytes)
            }).collect()
        }
    }

    proptest! {
        #[test]
        fn the_bound_is_reached_and_only_the_oldest_go(
            all in segments(), bytes_max in 0..2000_u64, held_after in 0..60_u64,
            held_before in 0..60_u64, age in prop::option::of(0..60_u64),
        ) {
            let hold = Hold {
                source: Some("b".into()),
                after_ns: Some(held_after * S),
                before_ns: Some(held_before * S),
                ..Hold::new("x", 0).unwrap()
            };
            let holds: Holds = [hold].into_iter().collect();
            let rules = Rules {
                bytes_max: Some(bytes_max),
                older_than: age.map(Duration::from_secs),
                ..Rules::default()
            };
            let plan = plan(&all, &holds, &rules, 50 * S);
            prop_assert!(plan.remove.iter().all(|of| !holds.covers(&of.name)));
            prop_assert_eq!(plan.remove.len() as u64 + plan.kept.0, all.len() as u64);
            let total: u64 = all.iter().map(bytes_of).sum();
            prop_assert_eq!(plan.bytes() + plan.kept.1, total);
            let is_removed = |of: &Segment| plan.remove.iter().any(|gone| gone.name == of.name);
            let free: Vec<&Segment> =
                all.iter().filter(|of| !is_removed(of) && !holds.covers(&of.name)).collect();
            prop_assert!(plan.kept.1 <= bytes_max || free.is_empty());
            prop_assert_eq!(plan.excess_bytes, plan.kept.1.saturating_sub(bytes_max));
            if let Some(age) = age {
                prop_assert!(free.iter().all(|of| of.name.last_ns >= (50_u64.saturating_sub(age)) * S));
            }
            // Nothing that stays is older than what goes, and no more goes than must.
            let newest = plan.remove.iter().map(|of| (of.name.last_ns, of.name.id)).max();
            prop_assert!(free.iter().all(|of| Some((of.name.last_ns, of.name.id)) > newest));
            if let Some(last) = plan.remove.iter().rfind(|of| of.reason == Removal::Bytes) {
                prop_assert!(plan.kept.1 + last.bytes > bytes_max);
            }
        }
    }
}
