//! A chain that is being written.

use super::{ENTRIES_MAX, Entry, Event, NO_HASH, hash, key, line, parse_key, reading};
use crate::error::Error;
use crate::name::timestamp;
use crate::store::Store;
use bytes::Bytes;
use std::collections::BTreeMap;
use ulid::Ulid;

/// The chain of one writer. Nobody else may write it meanwhile.
#[derive(Debug)]
pub struct Chain {
    store: Store,
    writer: Ulid,
    /// The object that takes the next entry, and what is in it.
    number: u64,
    lines: Vec<String>,
    /// The objects of segments that were stored by the entries in `lines` and in the object before.
    stored: Vec<String>,
    seq: u64,
    /// Hash of the last line.
    head: String,
    /// The last lines of other chains, for the first entry of this one.
    heads: BTreeMap<String, String>,
}

impl Chain {
    /// Goes on with a writer's chain where it ends, or begins it.
    ///
    /// # Errors
    /// [`Error::Store`] if the store cannot be read; [`Error::Damaged`] if the chain's end makes no
    /// sense: then a chain of another writer goes on, and reading the manifest tells what is broken.
    pub async fn open(store: &Store, writer: Ulid) -> Result<Chain, Error> {
        let mut chain = Chain {
            store: store.clone(),
            writer,
            number: 0,
            lines: Vec::new(),
            stored: Vec::new(),
            seq: 0,
            head: NO_HASH.into(),
            heads: BTreeMap::new(),
        };
        let objects = store.list(&format!("{}/{writer}", super::FOLDER)).await?;
        let numbers: Vec<u64> =
            objects.iter().filter_map(|object| Some(parse_key(&object.key)?.1)).collect();
        let Some(&last) = numbers.iter().max() else {
            chain.heads = reading::heads(store).await?;
            return Ok(chain);
        };
        for number in last.saturating_sub(1)..=last {
            chain.number = number;
            chain.lines.clear();
            chain.load().await?;
        }
        Ok(chain)
    }

    /// Reads the current object and takes over its entries.
    async fn load(&mut self) -> Result<(), Error> {
        let object = key(self.writer, self.number);
        let damaged = |what: String| Error::Damaged {
            object: object.clone(),
            what,
            mend: "; `tapline archive verify` tells what else is",
        };
        let bytes = self.store.get(&object).await?;
        let text = std::str::from_utf8(&bytes).map_err(|e| damaged(format!("not text: {e}")))?;
        for line in text.lines() {
            let entry: Entry =
                serde_json::from_str(line).map_err(|e| damaged(format!("not an entry: {e}")))?;
            if let Event::Stored(record) = &entry.event {
                self.stored.push(record.object.clone());
            }
            self.seq = entry.seq + 1;
            self.head = hash(line);
            self.lines.push(line.into());
        }
        if self.lines.is_empty() {
            return Err(damaged("it has no entries".into()));
        }
        Ok(())
    }

    /// Appends an entry; when this returns, the store holds it. `utc_ns` is the time now, nanoseconds
    /// since 1970.
    ///
    /// # Errors
    /// [`Error::Store`] if the store has not taken it, [`Error::Damaged`] if it gives back something
    /// else. The call may be repeated, with this event or another one.
    pub async fn append(&mut self, event: Event, utc_ns: u64) -> Result<(), Error> {
        self.append_all(vec![event], utc_ns).await.map(drop)
    }

    /// Appends entries, with as few objects written as can be. Gives how many: all, if the store does
    /// not refuse.
    ///
    /// # Errors
    /// As [`Self::append`], if not even the first one could be appended.
    pub async fn append_all(&mut self, events: Vec<Event>, utc_ns: u64) -> Result<usize, Error> {
        let mut appended = 0;
        let mut events = events.into_iter().peekable();
        while events.peek().is_some() {
            let taken = self.lines.len() % ENTRIES_MAX;
            let some: Vec<Event> = events.by_ref().take(ENTRIES_MAX - taken).collect();
            let count = some.len();
            match self.append_some(some, utc_ns).await {
                Ok(()) => appended += count,
                Err(error) if appended == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(appended)
    }

    /// Appends entries for which the current object, or if that is full the next one, has room.
    async fn append_some(&mut self, events: Vec<Event>, utc_ns: u64) -> Result<(), Error> {
        let is_full = self.lines.len() >= ENTRIES_MAX;
        let number = self.number + u64::from(is_full);
        let (mut seq, mut head) = (self.seq, self.head.clone());
        let (mut added, mut stored) = (Vec::new(), Vec::new());
        for event in events {
            if let Event::Stored(record) = &event {
                stored.push(record.object.clone());
            }
            let entry = Entry {
                version: 1,
                writer: self.writer.to_string(),
                seq,
                prev: head,
                time: format!("{:.9}", timestamp(utc_ns)),
                event,
                heads: if seq == 0 { self.heads.clone() } else { BTreeMap::new() },
            };
            let line = line(&serde_json::to_string(&entry).expect("an entry has only plain keys"));
            (seq, head) = (seq + 1, hash(&line));
            added.push(line);
        }
        let before = if is_full { &[][..] } else { &self.lines };
        let text: String =
            before.iter().chain(&added).flat_map(|line| [line.as_str(), "\n"]).collect();
        let object = key(self.writer, number);
        let bytes = Bytes::from(text);
        self.store.put(&object, bytes.clone()).await?;
        if self.store.get(&object).await? != bytes {
            return Err(Error::Damaged {
                object,
                what: "the store gives back something else than it was given".into(),
                mend: "",
            });
        }
        if is_full {
            self.lines.clear();
            self.number = number;
            self.stored.drain(..self.stored.len().saturating_sub(ENTRIES_MAX));
        }
        self.lines.extend(added);
        self.stored.extend(stored);
        (self.seq, self.head) = (seq, head);
        Ok(())
    }

    /// Whether one of the newest entries, [`ENTRIES_MAX`] at least if there are so many, says that a
    /// segment with this data was stored: for who died before it could note that.
    pub fn has_stored(&self, object: &str) -> bool {
        self.stored.iter().any(|stored| stored == object)
    }

    /// Who writes it.
    pub fn writer(&self) -> Ulid {
        self.writer
    }
}
