//! The maps of a forwarding table: made, or taken over from where they are pinned.

use crate::bpf::{Map, MapKind, pin, pinned};
use crate::error::Error;
use kernel::inline::layout::{FRAGMENTS_MAX, HOPS_MAX, InlineMap, Leg, RULES_MAX, counter_place};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// The maps, in the order of [`InlineMap::ALL`].
#[derive(Debug)]
pub(super) struct Maps {
    maps: Vec<Map>,
}

impl Maps {
    /// Makes them, empty.
    pub(super) fn new(sessions: u32) -> Result<Maps, Error> {
        let make = |map: InlineMap| {
            let (key, value) = map.sizes();
            Map::new(kind(map), key, value, entries(map, sessions))
        };
        Ok(Maps { maps: InlineMap::ALL.into_iter().map(make).collect::<Result<_, _>>()? })
    }

    /// Opens those that are pinned in a folder; why not, if they are not all there, or others.
    pub(super) fn pinned(folder: &Path, sessions: u32) -> Result<Result<Maps, String>, Error> {
        let mut maps = Vec::with_capacity(InlineMap::ALL.len());
        for map in InlineMap::ALL {
            let Some(opened) = pinned(&folder.join(map.name()))? else {
                return Ok(Err(format!("its map `{}` was missing", map.name())));
            };
            let (key, value) = map.sizes();
            match Map::of_pinned(opened, kind(map), key, value, entries(map, sessions))? {
                Some(map) => maps.push(map),
                None => {
                    let why = "was of another version of tapline, or of another size";
                    return Ok(Err(format!("its map `{}` {why}", map.name())));
                }
            }
        }
        Ok(Ok(Maps { maps }))
    }

    /// Pins them in a folder of a BPF file system.
    pub(super) fn pin(&self, folder: &Path) -> Result<(), Error> {
        InlineMap::ALL
            .into_iter()
            .try_for_each(|map| pin(self.of(map).as_fd(), &folder.join(map.name())))
    }

    /// One of them.
    pub(super) fn of(&self, map: InlineMap) -> &Map {
        &self.maps[map.map().0]
    }

    /// All of them, for programs.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.maps.iter().map(AsFd::as_fd).collect()
    }
}

fn kind(map: InlineMap) -> MapKind {
    match map {
        InlineMap::Sessions | InlineMap::Rules => MapKind::Hash,
        InlineMap::Hops | InlineMap::Views | InlineMap::Settings => MapKind::Array,
        InlineMap::Counters => MapKind::PerCpuArray,
        InlineMap::Fragments => MapKind::LruHash,
    }
}

fn entries(map: InlineMap, sessions: u32) -> u32 {
    match map {
        // One for each direction.
        InlineMap::Sessions => sessions.saturating_mul(2),
        InlineMap::Rules => RULES_MAX,
        InlineMap::Hops => HOPS_MAX + 2,
        InlineMap::Counters => counter_place(RULES_MAX, Leg::Reply) + 1,
        InlineMap::Views => RULES_MAX + 1,
        InlineMap::Settings => 1,
        InlineMap::Fragments => FRAGMENTS_MAX,
    }
}
