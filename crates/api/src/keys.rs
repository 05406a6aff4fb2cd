//! Keys that taps, and a broker's sources, maps and targets, have alike, and how each is read.

use crate::file::{Fault, FileError, Node, Spelling, Table, Value, flag, number, word};
use crate::rules::read_list;
use crate::{
    DSCP_MAX, DirectionChoice, Endpoint, FilterConfig, Group, Oversize, RingSize, Sending,
    parse_buffer_size, snapshot_length,
};
use std::path::{Path, PathBuf};

/// A mistake in a file, or in one that it names.
#[derive(Debug)]
pub(crate) enum Wrong {
    Here(Fault),
    Elsewhere(FileError),
}

impl Wrong {
    /// The mistake, if it is here in the file `name`, whose content is this.
    pub(crate) fn of(self, name: &str, content: &[u8]) -> FileError {
        match self {
            Wrong::Here(fault) => fault.of(name, content),
            Wrong::Elsewhere(error) => error,
        }
    }
}

impl From<Fault> for Wrong {
    fn from(fault: Fault) -> Wrong {
        Wrong::Here(fault)
    }
}

/// A table that stands for something that users name.
pub(crate) struct Keys<'a> {
    /// What it stands for: `tap`, `source` and so on.
    what: &'static str,
    /// Where it begins.
    pub(crate) at: usize,
    table: Table<'a>,
    folder: &'a Path,
}

impl<'a> Keys<'a> {
    /// `known` are the keys that it may have; paths are relative to the folder.
    pub(crate) fn new(
        node: &'a Node,
        what: &'static str,
        known: &[&str],
        folder: &'a Path,
    ) -> Result<Keys<'a>, Fault> {
        let table = Table::new(node, &format!("a {what}"), known, Spelling::Snake)?;
        Ok(Keys { what, at: node.at, table, folder })
    }

    /// The value of a key.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Node> {
        self.table.get(name).map(|(_, node)| node)
    }

    /// Where a key stands; else where the table does.
    pub(crate) fn place_of(&self, name: &str) -> usize {
        self.table.get(name).map_or(self.at, |(at, _)| at)
    }

    /// A value that is text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Fault> {
        self.table.text(name)
    }

    /// True or false.
    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool, Fault> {
        self.get(name).map_or(Ok(default), |node| flag(node, name))
    }

    /// One of some words.
    pub(crate) fn word<T: Copy>(
        &self,
        name: &str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, Fault> {
        let mut mend = "write ".to_owned();
        for (n, (word, _)) in words.iter().enumerate() {
            let joint = match words.len() - n {
                1 => "",
                2 => " or ",
                _ => ", ",
            };
            mend += &format!("\"{word}\"{joint}");
        }
        self.get(name).map(|node| word(node, name, words, &mend)).transpose()
    }

    /// What the ledger calls it.
    pub(crate) fn name(&self) -> Result<Option<String>, Fault> {
        let name = self.text("name")?;
        match name.as_deref().and_then(name_mistake) {
            None => Ok(name),
            Some(reason) => Err(Fault::new(self.place_of("name"), reason)),
        }
    }

    /// Endpoints joined by commas, that share the load.
    pub(crate) fn group(&self, node: &Node) -> Result<Group, Fault> {
        let group: Result<Group, crate::Error> = endpoints(node)?.parse();
        let Group(members) = group.map_err(|error| Fault::new(node.at, error.to_string()))?;
        Ok(Group(self.placed(members)))
    }

    /// The same, of which others stand elsewhere.
    pub(crate) fn members(&self, node: &Node) -> Result<Vec<Endpoint>, Fault> {
        let members = endpoints(node)?.split(',').map(Endpoint::target);
        let members: Result<Vec<Endpoint>, crate::Error> = members.collect();
        Ok(self.placed(members.map_err(|error| Fault::new(node.at, error.to_string()))?))
    }

    /// The same with files beside this one.
    fn placed(&self, mut members: Vec<Endpoint>) -> Vec<Endpoint> {
        for member in &mut members {
            if let Endpoint::Pcap { path } = member {
                *path = self.beside(std::mem::take(path));
            }
        }
        members
    }

    /// Which packets are kept: `expression`, `rules` or `rule`.
    pub(crate) fn filter(&self) -> Result<FilterConfig, Wrong> {
        let named = ["expression", "rules", "rule"];
        let mut named = named.iter().filter(|name| self.get(name).is_some());
        if let (Some(first), Some(second)) = (named.next(), named.next()) {
            let reason =
                format!("a {} has one filter; leave `{first}` or `{second}` out", self.what);
            return Err(Fault::new(self.place_of(second), reason).into());
        }
        if let Some(path) = self.text("rules")? {
            // A mistake in a file of rules has its place there.
            return FilterConfig::rules(&self.beside(path)).map_err(Wrong::Elsewhere);
        }
        if let Some(list) = self.get("rule") {
            return Ok(FilterConfig::Rules(read_list(list, Spelling::Snake)?));
        }
        Ok(FilterConfig::expression(&self.text("expression")?.unwrap_or_default()))
    }

    /// Which of an interface's packets: `direction`.
    pub(crate) fn direction(&self) -> Result<DirectionChoice, Fault> {
        let words = [
            ("both", DirectionChoice::Both),
            ("in", DirectionChoice::In),
            ("out", DirectionChoice::Out),
        ];
        Ok(self.word("direction", &words)?.unwrap_or_default())
    }

    /// How packets go into tunnels: `oversize` and `dscp`.
    pub(crate) fn sending(&self) -> Result<Sending, Fault> {
        let oversize = self.word("oversize", &Oversize::NAMES)?.unwrap_or_default();
        let Some(node) = self.get("dscp") else {
            return Ok(Sending { oversize, dscp: 0 });
        };
        match number(node, "dscp", DSCP_MAX)? {
            dscp if dscp > DSCP_MAX => {
                Err(Fault::new(node.at, format!("dscp {dscp} is not from 0 to {DSCP_MAX}")))
            }
            dscp => Ok(Sending { oversize, dscp }),
        }
    }

    /// Bytes kept of each packet, 0: all.
    pub(crate) fn snapshot_length(&self) -> Result<u32, Fault> {
        let Some(node) = self.get("snapshot_length") else {
            return Ok(0);
        };
        let bytes = number(node, "snapshot_length", u32::MAX)?;
        snapshot_length(bytes)
            .map_err(|mend| Fault::new(node.at, format!("snapshot_length {bytes}: {mend}")))
    }

    /// The kernel's ring: `buffer_size`.
    pub(crate) fn ring_size(&self) -> Result<RingSize, Fault> {
        let Some(node) = self.get("buffer_size") else {
            return Ok(RingSize::Auto);
        };
        let mend = "write \"auto\", or a size in quotes such as \"64MiB\"";
        match &node.value {
            Value::Text(text) if text == "auto" => Ok(RingSize::Auto),
            Value::Text(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                Err(Fault::new(node.at, format!("buffer_size {text:?} has no unit; {mend}")))
            }
            Value::Text(text) => match parse_buffer_size(text) {
                Ok(bytes) => Ok(RingSize::Bytes(bytes as usize)),
                Err(error) => Err(Fault::new(node.at, format!("buffer_size: {error}"))),
            },
            value => Err(Fault::new(node.at, format!("buffer_size is {}; {mend}", value.kind()))),
        }
    }

    /// A path is relative to the file's folder; `-` stays what it is.
    pub(crate) fn beside(&self, path: impl Into<PathBuf>) -> PathBuf {
        let path = path.into();
        if path == Path::new("-") { path } else { self.folder.join(path) }
    }
}

/// Why a tap or a rule cannot be called that.
pub(crate) fn name_mistake(name: &str) -> Option<&'static str> {
    if name.trim().is_empty() {
        return Some("the name is empty; leave it out");
    }
    let mend = "the name breaks the ledger's line; write it without control characters";
    name.contains(char::is_control).then_some(mend)
}

fn endpoints(node: &Node) -> Result<&str, Fault> {
    match &node.value {
        Value::Text(text) => Ok(text),
        value => {
            let kind = value.kind();
            Err(Fault::new(node.at, format!("an endpoint is {kind}; write it in quotes")))
        }
    }
}
