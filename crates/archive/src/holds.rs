//! Holds: what nobody removes, whatever the rules of retention say.
//!
//! ```text
//! holds/<name>.json     one object a hold; the manifest has its SHA-256
//! ```

use crate::error::Error;
use crate::manifest::{Event, Manifest};
use crate::name::{SegmentName, timestamp};
use crate::store::Store;
use crate::window::Window;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use ulid::Ulid;

/// The folder of all holds.
pub const FOLDER: &str = "holds";

/// Longest name of a hold, bytes.
const NAME_LEN_MAX: usize = 100;
/// Version of the form.
const VERSION: u32 = 1;
const MEND: &str = "; nothing is removed until the hold is as it was, or released and placed again";

/// A hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Version of this form: 1.
    pub version: u32,
    /// What it is called: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Segments of this source only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Segments with a packet from this time on only, nanoseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_ns: Option<u64>,
    /// Segments with a packet before this time only, nanoseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_ns: Option<u64>,
    /// These segments, by the keys of their data. If there is neither a source nor a time, only
    /// these; else these too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When it was made, RFC 3339 in UTC.
    pub time: String,
}

impl Hold {
    /// A hold of everything, to be narrowed.
    ///
    /// # Errors
    /// [`Error::Usage`] if the name cannot be one of an object.
    pub fn new(name: &str, now_ns: u64) -> Result<Hold, Error> {
        check_name(name)?;
        Ok(Hold {
            version: VERSION,
            name: name.into(),
            source: None,
            after_ns: None,
            before_ns: None,
            objects: Vec::new(),
            note: None,
            time: timestamp(now_ns).to_string(),
        })
    }

    /// Whether it keeps a segment from being removed.
    pub fn covers(&self, name: &SegmentName) -> bool {
        if self.objects.iter().any(|key| id_of(key) == Some(name.id)) {
            return true;
        }
        let is_narrowed =
            self.source.is_some() || self.after_ns.is_some() || self.before_ns.is_some();
        if !is_narrowed && !self.objects.is_empty() {
            return false;
        }
        let window = Window { after_ns: self.after_ns.unwrap_or(0), before_ns: self.before_ns };
        self.source.as_ref().is_none_or(|source| *source == name.source)
            && window.overlaps((name.first_ns, name.last_ns))
    }

    /// Key of its object.
    pub fn key(&self) -> String {
        key(&self.name)
    }
}

/// Key of the object of a hold.
pub fn key(name: &str) -> String {
    format!("{FOLDER}/{name}.json")
}

/// The id in the key of a segment's object.
fn id_of(key: &str) -> Option<Ulid> {
    SegmentName::parse_key(key).map(|(name, _)| name.id)
}

/// All holds of an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holds {
    holds: Vec<Hold>,
    /// SHA-256 of the object of each, in hexadecimal digits; none for those that were not loaded.
    hashes: Vec<String>,
}

impl Holds {
    /// Reads the holds of an archive.
    ///
    /// # Errors
    /// [`Error`] if one cannot be read: then nothing may be removed, as nobody knows what it covers.
    pub async fn load(store: &Store) -> Result<Holds, Error> {
        let mut holds = Holds::default();
        for object in store.list(FOLDER).await? {
            if name_of(&object.key).is_some() {
                let bytes = store.get(&object.key).await?;
                holds.holds.push(parse(&object.key, &bytes)?);
                holds.hashes.push(sha256(&bytes));
            }
        }
        Ok(holds)
    }

    /// Checks that all holds that the manifest knows of were loaded, as they were placed.
    ///
    /// # Errors
    /// [`Error::Damaged`] of the first one that is missing or was altered: then nothing may be removed.
    pub fn complete(&self, manifest: &Manifest) -> Result<(), Error> {
        for (name, sha256) in in_force(manifest) {
            let at = self.holds.iter().position(|hold| hold.name == name);
            let what = match at.and_then(|at| self.hashes.get(at)) {
                Some(hash) if hash == sha256 => continue,
                Some(_) => "the hold was altered after it was placed",
                None => "the hold is missing, and was not released",
            };
            return Err(Error::Damaged { object: key(name), what: what.into(), mend: MEND });
        }
        Ok(())
    }

    /// Whether any hold covers a segment.
    pub fn covers(&self, name: &SegmentName) -> bool {
        self.holds.iter().any(|hold| hold.covers(name))
    }

    /// The names of the holds that cover a segment.
    pub fn covering<'a>(&'a self, name: &'a SegmentName) -> impl Iterator<Item = &'a str> + 'a {
        self.holds.iter().filter(|hold| hold.covers(name)).map(|hold| hold.name.as_str())
    }

    /// All of them, by name.
    pub fn all(&self) -> &[Hold] {
        &self.holds
    }
}

impl FromIterator<Hold> for Holds {
    fn from_iter<I: IntoIterator<Item = Hold>>(holds: I) -> Holds {
        Holds { holds: holds.into_iter().collect(), hashes: Vec::new() }
    }
}

/// The holds that were placed and not released, by name, with the SHA-256 of their objects.
pub fn in_force(manifest: &Manifest) -> BTreeMap<&str, &str> {
    let mut holds = BTreeMap::new();
    for entry in &manifest.entries {
        match &entry.event {
            Event::Held { hold, sha256 } => drop(holds.insert(hold.as_str(), sha256.as_str())),
            Event::Released { hold } => drop(holds.remove(hold.as_str())),
            _ => {}
        }
    }
    holds
}

/// Puts a hold in place. Once this has returned, who loads the holds sees it; the event is what the
/// manifest is to say next.
///
/// # Errors
/// [`Error::Usage`] if there is another one of the name; [`Error::Store`] if the store refuses.
pub async fn place(store: &Store, hold: &Hold) -> Result<Event, Error> {
    let key = hold.key();
    match store.get(&key).await {
        Ok(_) => {
            return Err(Error::Usage(format!(
                "there is a hold `{}` already; release it first, or choose another name",
                hold.name
            )));
        }
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    let mut text = serde_json::to_vec_pretty(hold)
        .map_err(|error| Error::Usage(format!("a hold that is no JSON: {error}")))?;
    text.push(b'\n');
    let sha256 = sha256(&text);
    store.put(&key, Bytes::from(text)).await?;
    Ok(Event::Held { hold: hold.name.clone(), sha256 })
}

/// Checks that there is a hold of a name: an object, or an entry of the manifest.
///
/// # Errors
/// [`Error::Usage`] if no hold can have the name, or none has it.
pub async fn exists(store: &Store, manifest: &Manifest, name: &str) -> Result<(), Error> {
    check_name(name)?;
    match store.get(&key(name)).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() && in_force(manifest).contains_key(name) => Ok(()),
        Err(error) if error.is_not_found() => Err(Error::Usage(format!(
            "there is no hold `{name}` in {}; `tapline archive ls` names those that there are",
            store.place()
        ))),
        Err(error) => Err(error.into()),
    }
}

/// The hold that an object of the folder of holds says.
pub(crate) fn parse(key: &str, bytes: &[u8]) -> Result<Hold, Error> {
    let damaged = |what: String| Error::Damaged { object: key.into(), what, mend: MEND };
    let hold: Hold = serde_json::from_slice(bytes)
        .map_err(|error| damaged(format!("the hold cannot be read: {error}")))?;
    match hold.version == VERSION && hold.key() == key {
        true => Ok(hold),
        false => Err(damaged(format!(
            "it says version {} of hold `{}`; version {VERSION} of the hold that the key names is \
             wanted",
            hold.version, hold.name
        ))),
    }
}

/// The hold that a key names; `None` if it is no hold's.
pub(crate) fn name_of(key: &str) -> Option<&str> {
    let name = key.strip_prefix(FOLDER)?.strip_prefix('/')?.strip_suffix(".json")?;
    check_name(name).is_ok().then_some(name)
}

fn check_name(name: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_good = !name.is_empty() && name.len() <= NAME_LEN_MAX && !name.starts_with('.');
    match is_good && name.chars().all(plain) {
        true => Ok(()),
        false => Err(Error::Usage(format!(
            "`{}` is no name for a hold; write up to {NAME_LEN_MAX} letters, digits, `.`, `_` and \
             `-`, and no dot first",
            name.escape_debug()
        ))),
    }
}

/// SHA-256 in hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Hexadecimal digits of a hash.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{self, Chain};
    use crate::name::Part;

    const HOUR: u64 = 3_600_000_000_000;

    fn segment(source: &str, first_ns: u64, last_ns: u64) -> SegmentName {
        SegmentName { first_ns, last_ns, id: Ulid::from_parts(first_ns, 1), source: source.into() }
    }

    fn hold(name: &str) -> Hold {
        Hold::new(name, HOUR).unwrap()
    }

    #[test]
    fn a_hold_covers_what_its_conditions_say_together() {
        let name = segment("eth0", 10, 20);
        assert!(hold("all").covers(&name));
        let of_source = Hold { source: Some("eth1".into()), ..hold("a") };
        assert!(!of_source.covers(&name) && of_source.covers(&segment("eth1", 0, 1)));
        let window = |after_ns, before_ns| Hold { after_ns, before_ns, ..hold("a") }.covers(&name);
        assert!(window(Some(20), None) && window(None, Some(11)) && window(Some(12), Some(13)));
        assert!(!window(Some(21), None) && !window(None, Some(10)));
    }

    #[test]
    fn named_objects_are_covered_whatever_form_they_take() {
        let (name, other) = (segment("eth0", 10, 20), segment("eth0", 11, 20));
        for part in Part::ALL {
            let only = Hold { objects: vec![name.key(part)], ..hold("a") };
            assert!(only.covers(&name) && !only.covers(&other));
            let more = Hold { source: Some("eth0".into()), ..only };
            assert!(more.covers(&name) && more.covers(&other));
        }
    }

    #[tokio::test]
    async fn holds_are_placed_once_and_read_back() {
        let store = Store::memory();
        let wanted = Hold { note: Some("case 7, \"é\"".into()), ..hold("case-7") };
        let event = place(&store, &wanted).await.unwrap();
        assert!(
            matches!(event, Event::Held { hold, sha256 } if hold == "case-7" && sha256.len() == 64)
        );
        store.put("holds/README", Bytes::from_static(b"not a hold")).await.unwrap();
        let holds = Holds::load(&store).await.unwrap();
        assert_eq!(holds.all(), std::slice::from_ref(&wanted));
        let name = segment("eth0", 1, 2);
        assert_eq!(holds.covering(&name).collect::<Vec<_>>(), ["case-7"]);
        assert!(place(&store, &wanted).await.unwrap_err().to_string().contains("already"));
        let none = Manifest::default();
        assert!(exists(&store, &none, "case-7").await.is_ok());
        let error = exists(&store, &none, "case-8").await.unwrap_err().to_string();
        assert!(error.contains("no hold"), "{error}");
    }

    #[tokio::test]
    async fn a_hold_that_was_altered_or_removed_keeps_everything() {
        let store = Store::memory();
        let mut chain = Chain::open(&store, Ulid::new()).await.unwrap();
        chain.append(place(&store, &hold("a")).await.unwrap(), HOUR).await.unwrap();
        let manifest = manifest::read(&store).await.unwrap();
        let complete = async || Holds::load(&store).await.unwrap().complete(&manifest);
        assert!(complete().await.is_ok());
        let other = Hold { source: Some("none".into()), ..hold("a") };
        store.put("holds/a.json", serde_json::to_vec(&other).unwrap().into()).await.unwrap();
        assert!(complete().await.unwrap_err().to_string().contains("altered"));
        store.delete("holds/a.json").await.unwrap();
        assert!(complete().await.unwrap_err().to_string().contains("missing"));
        assert!(exists(&store, &manifest, "a").await.is_ok(), "it can be released");
        chain.append(Event::Released { hold: "a".into() }, HOUR).await.unwrap();
        let manifest = manifest::read(&store).await.unwrap();
        assert!(Holds::load(&store).await.unwrap().complete(&manifest).is_ok());
    }

    #[tokio::test]
    async fn a_hold_that_cannot_be_read_is_an_error() {
        for bad in ["", "{}", r#"{"version":1,"name":"b","time":""}"#, "\u{1}"] {
            let store = Store::memory();
            store.put("holds/a.json", Bytes::copy_from_slice(bad.as_bytes())).await.unwrap();
            let error = Holds::load(&store).await.unwrap_err().to_string();
            assert!(
                error.contains("holds/a.json") && error.contains("nothing is removed"),
                "{error}"
            );
        }
    }

    #[test]
    fn names_that_are_no_keys_are_refused() {
        for bad in ["", ".", ".x", "a/b", "a b", "é", "a\n", &"x".repeat(101)] {
            assert!(Hold::new(bad, 0).is_err(), "{bad}");
        }
        assert_eq!(name_of("holds/a.json"), Some("a"));
        assert_eq!([name_of("holds/a"), name_of("x/a.json"), name_of("holds/.json")], [None; 3]);
    }
}
