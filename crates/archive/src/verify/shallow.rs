//! The first look: lists, chains and holds.

use super::{Finding, Kind, Report, is_own_spool_file};
use crate::error::Error;
use crate::holds;
use crate::layout::parse_open_segment;
use crate::manifest::{self, Manifest, SegmentRecord};
use crate::name::{Part, SegmentName, SpoolState};
use crate::store::{Object, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use ulid::Ulid;

/// What there is, and what is wrong with it so far.
pub(super) struct Look {
    pub report: Report,
    /// What the manifest says of each segment that must be there, by the key of its data.
    pub records: BTreeMap<String, SegmentRecord>,
    /// All objects by key, and their lengths.
    pub objects: BTreeMap<String, u64>,
    /// Segments that stand in the spool: who finds their objects finds them on their way.
    pub in_spool: BTreeSet<Ulid>,
}

/// Looks at everything once. The spool comes first and the manifest last: what is moved on between is
/// then known to be under way.
pub(super) async fn look(store: &Store, spool: Option<&Path>) -> Result<Look, Error> {
    let mut report = Report::default();
    let in_spool = match spool {
        Some(spool) => look_into(spool, &mut report)?,
        None => BTreeSet::new(),
    };
    report.in_spool = in_spool.len() as u64;
    let objects: Vec<Object> = store.list("").await?;
    report.objects += objects.len() as u64;
    let objects: BTreeMap<String, u64> =
        objects.into_iter().map(|object| (object.key, object.bytes)).collect();
    let manifest = manifest::read(store).await?;
    report.chains = manifest.chains as u64;
    report.entries = manifest.entries.len() as u64;
    for of in &manifest.breaks {
        report.findings.push(Finding::new(Kind::Chain, &of.object, &of.what));
    }
    check_holds(store, &manifest, &objects, &mut report).await?;
    let records: BTreeMap<String, SegmentRecord> =
        manifest.segments().into_iter().map(|(key, of)| (key.into(), of.clone())).collect();
    report.segments = records.len() as u64;
    report.packets = records.values().map(|of| of.packets).sum();
    report.removed = manifest.removed().len() as u64;
    let mut look = Look { report, records, objects, in_spool };
    look.segments_are_there();
    look.objects_are_known(&manifest);
    Ok(look)
}

impl Look {
    fn find(&mut self, kind: Kind, object: &str, what: impl Into<String>) {
        self.report.findings.push(Finding::new(kind, object, what));
    }

    /// What the manifest knows must be there.
    fn segments_are_there(&mut self) {
        for (key, record) in std::mem::take(&mut self.records) {
            let packets = record.packets;
            match (self.objects.get(&key), SegmentName::parse_key(&key)) {
                (_, None) => self.find(Kind::Chain, &key, "the manifest names what is no segment"),
                (None, _) => self.find(
                    Kind::Missing,
                    &key,
                    format!("it was stored with {packets} packets, and no entry says that it was removed"),
                ),
                (Some(&bytes), Some((name, _))) => {
                    if bytes != record.bytes {
                        let what = format!("it has {bytes} bytes, {} were stored", record.bytes);
                        self.find(Kind::Altered, &key, what);
                    }
                    let index = name.key(Part::Index);
                    match self.objects.get(&index) {
                        None => self.find(Kind::IndexMissing, &index, "the segment has no index"),
                        Some(&bytes) if bytes != record.index_bytes => {
                            let stored = record.index_bytes;
                            let what = format!("it has {bytes} bytes, {stored} were stored");
                            self.find(Kind::IndexAltered, &index, what);
                        }
                        Some(_) => {}
                    }
                }
            }
            self.records.insert(key, record);
        }
    }

    /// What is there must be known.
    fn objects_are_known(&mut self, manifest: &Manifest) {
        let removed = manifest.removed();
        let mut found = Vec::new();
        for key in self.objects.keys() {
            let folder = key.split('/').next().unwrap_or_default();
            let is_hold = holds::name_of(key).is_some();
            if is_hold || manifest::is_key(key) {
                continue;
            }
            let Some((name, part)) = SegmentName::parse_key(key) else {
                let what = match folder {
                    manifest::FOLDER | holds::FOLDER => "no object of this folder",
                    _ => "no object of an archive",
                };
                found.push(Finding::new(Kind::Foreign, key, what));
                continue;
            };
            let data = name.key(Part::Data);
            let is_stored = self.records.contains_key(&data);
            let is_removed =
                removed.contains_key(key.as_str()) || removed.contains_key(data.as_str());
            let is_under_way = self.in_spool.contains(&name.id);
            match part {
                Part::Plain if is_removed => {
                    found.push(Finding::new(
                        Kind::Leftover,
                        key,
                        "the manifest says it was removed",
                    ));
                }
                Part::Plain => found.push(Finding::new(
                    Kind::Plain,
                    key,
                    "from before segments were sealed; `tapline archive repair` seals it",
                )),
                Part::Data | Part::Index if is_stored || is_under_way => {}
                Part::Data | Part::Index if is_removed => {
                    found.push(Finding::new(
                        Kind::Leftover,
                        key,
                        "the manifest says it was removed",
                    ));
                }
                Part::Data => {
                    found.push(Finding::new(Kind::Orphan, key, "the manifest does not know it"));
                }
                Part::Index => found.push(Finding::new(
                    Kind::Orphan,
                    key,
                    "an index of a segment that the manifest does not know",
                )),
            }
        }
        self.report.findings.extend(found);
    }
}

/// Holds are as they were placed.
async fn check_holds(
    store: &Store,
    manifest: &Manifest,
    objects: &BTreeMap<String, u64>,
    report: &mut Report,
) -> Result<(), Error> {
    let in_force = holds::in_force(manifest);
    report.holds = in_force.len() as u64;
    for (name, sha256) in &in_force {
        let key = holds::key(name);
        if !objects.contains_key(&key) {
            let what = "the hold was placed and not released; nothing is removed until it is";
            report.findings.push(Finding::new(Kind::HoldMissing, &key, what));
            continue;
        }
        let bytes = match store.get(&key).await {
            Err(error) if error.is_not_found() => continue, // released just now
            bytes => bytes?,
        };
        if holds::sha256(&bytes) != *sha256 {
            let what = "the hold is not what was placed; nothing is removed until it is released";
            report.findings.push(Finding::new(Kind::HoldAltered, &key, what));
        }
    }
    for key in objects.keys() {
        let Some(name) = holds::name_of(key) else { continue };
        if in_force.contains_key(name) {
            continue;
        }
        let finding = match store.get(key).await {
            Err(error) if error.is_not_found() => continue,
            bytes => match holds::parse(key, &bytes?) {
                Ok(_) => {
                    Finding::new(Kind::HoldUnrecorded, key, "the manifest does not know the hold")
                }
                Err(error) => Finding::new(Kind::HoldAltered, key, error.to_string()),
            },
        };
        report.findings.push(finding);
    }
    Ok(())
}

/// Looks into a spool; gives the segments that are not in the store yet, or perhaps not.
fn look_into(spool: &Path, report: &mut Report) -> Result<BTreeSet<Ulid>, Error> {
    let mut ids = BTreeSet::new();
    for path in files(spool)? {
        report.objects += 1;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let shown = path.display().to_string();
        if let Some((_, id)) = parse_open_segment(name) {
            ids.insert(id);
        } else if let Some((name, _, state)) = SegmentName::parse_spool_file(name) {
            if state != SpoolState::Uploaded {
                ids.insert(name.id);
            }
        } else if name.ends_with(".part") {
            let what = "half written; the next start of its writer removes it";
            report.findings.push(Finding::new(Kind::HalfWritten, shown, what));
        } else if !is_own_spool_file(&path) {
            report.findings.push(Finding::new(Kind::Foreign, shown, "no file of a spool"));
        }
    }
    for path in files(&spool.join("damaged"))? {
        report.objects += 1;
        let what = "a segment that could not be read and was moved aside; `tapline capture -r` reads \
                    it up to the damage";
        report.findings.push(Finding::new(Kind::Damaged, path.display().to_string(), what));
    }
    Ok(ids)
}

/// The files in a folder; none if it is not there.
pub(super) fn files(folder: &Path) -> Result<Vec<std::path::PathBuf>, Error> {
    let failed = |e| Error::system(format!("list {}", folder.display()), e);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().is_ok_and(|of| of.is_file()) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}
