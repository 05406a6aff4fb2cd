//! TOML and JSON as one tree whose values know where they stand.

use super::FileError;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use toml::de::{DeTable, DeValue};

/// Values within values at most.
const DEPTH_MAX: usize = 16;

/// A mistake and the byte where it stands.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) at: Option<usize>,
    pub(crate) reason: String,
}

impl Fault {
    pub(crate) fn new(at: usize, reason: impl Into<String>) -> Fault {
        Fault { at: Some(at), reason: reason.into() }
    }

    /// The mistake in the file `name`, whose content is this.
    pub(crate) fn of(self, name: &str, content: &[u8]) -> FileError {
        FileError::new(name, content, self.at, self.reason)
    }
}

/// How names of several words are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// `source_cidr`, in TOML.
    Snake,
    /// `sourceCidr`, in JSON.
    Camel,
    /// `source-cidr`, in what oci-cli prints.
    Kebab,
}

impl Spelling {
    /// Writes a name that is given in snake_case.
    pub(crate) fn write(self, name: &str) -> String {
        match self {
            Spelling::Snake => name.to_owned(),
            Spelling::Kebab => name.replace('_', "-"),
            Spelling::Camel => {
                let mut words = name.split('_');
                let mut written = words.next().unwrap_or_default().to_owned();
                for word in words {
                    written.extend(word.chars().take(1).map(|c| c.to_ascii_uppercase()));
                    written.extend(word.chars().skip(1));
                }
                written
            }
        }
    }
}

/// A value and the byte where it begins.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: usize,
    pub(crate) value: Value,
}

#[derive(Debug)]
pub(crate) enum Value {
    Null,
    Text(String),
    Number(i64),
    /// Of TOML only: no file in JSON has any.
    Fraction(f64),
    Flag(bool),
    Array(Vec<Node>),
    /// Names with their places, in the order of the file.
    Table(Vec<(usize, String, Node)>),
    /// What no file of ours holds, and what it is called.
    Other(&'static str),
}

impl Value {
    /// What to call it in an error.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Text(_) => "a string",
            Value::Number(_) => "a number",
            Value::Fraction(_) => "a fraction",
            Value::Flag(_) => "true or false",
            Value::Array(_) => "an array",
            Value::Table(_) => "a table",
            Value::Other(kind) => kind,
        }
    }
}

/// Reads TOML.
pub(crate) fn from_toml(text: &str) -> Result<Node, Fault> {
    let table = DeTable::parse(text).map_err(|error| Fault {
        at: Some(error.span().map_or(0, |span| span.start)),
        reason: format!("not TOML: {}", error.message().trim_end()),
    })?;
    Ok(Node { at: table.span().start, value: toml_table(table.get_ref()) })
}

fn toml_table(table: &DeTable<'_>) -> Value {
    let entry = |(name, value): (
        &toml::Spanned<std::borrow::Cow<'_, str>>,
        &toml::Spanned<DeValue<'_>>,
    )| {
        let node = Node { at: value.span().start, value: toml_value(value.get_ref()) };
        (name.span().start, name.get_ref().to_string(), node)
    };
    let mut entries: Vec<_> = table.iter().map(entry).collect();
    entries.sort_by_key(|(at, ..)| *at);
    Value::Table(entries)
}

// The parser bounds how deep values nest.
fn toml_value(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => {
            let digits = i64::from_str_radix(number.as_str(), number.radix());
            digits.map_or(Value::Other("a number that is too large"), Value::Number)
        }
        DeValue::Float(number) => number
            .as_str()
            .parse()
            .map_or(Value::Other("a number that is too large"), Value::Fraction),
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(items) => {
            let node = |item: &toml::Spanned<DeValue<'_>>| Node {
                at: item.span().start,
                value: toml_value(item.get_ref()),
            };
            Value::Array(items.iter().map(node).collect())
        }
        DeValue::Table(table) => toml_table(table),
    }
}

/// Reads JSON.
pub(crate) fn from_json(text: &str) -> Result<Node, Fault> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| {
        let line_at: usize =
            text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
        let at = (line_at + error.column().saturating_sub(1)).min(text.len());
        // Its own words end in line and column, which the place says.
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default();
        Fault::new(at, format!("not JSON: {message}"))
    })?;
    json(text, raw, 0)
}

/// Where a part of a text begins.
fn offset(text: &str, part: &str) -> usize {
    part.as_ptr() as usize - text.as_ptr() as usize
}

fn json(text: &str, raw: &RawValue, depth: usize) -> Result<Node, Fault> {
    let part = raw.get();
    let at = offset(text, part);
    if depth > DEPTH_MAX {
        return Err(Fault::new(at, format!("more than {DEPTH_MAX} values within each other")));
    }
    let fault = |error: serde_json::Error| {
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default();
        Fault::new(at, format!("not JSON: {message}"))
    };
    let mut deserializer = serde_json::Deserializer::from_str(part);
    let value = match part.as_bytes().first() {
        Some(b'{') => {
            let entries = deserializer.deserialize_map(Entries).map_err(fault)?;
            let mut table = Vec::with_capacity(entries.len());
            for (name, value) in entries {
                let name_at = offset(text, name.get());
                let name: String = serde_json::from_str(name.get()).map_err(fault)?;
                table.push((name_at, name, json(text, value, depth + 1)?));
            }
            Value::Table(table)
        }
        Some(b'[') => {
            let items = deserializer.deserialize_seq(Items).map_err(fault)?;
            let items = items.into_iter().map(|item| json(text, item, depth + 1));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        Some(b'"') => Value::Text(serde_json::from_str(part).map_err(fault)?),
        Some(b'n') => Value::Null,
        Some(b't' | b'f') => Value::Flag(serde_json::from_str(part).map_err(fault)?),
        _ => match serde_json::from_str(part) {
            Ok(number) => Value::Number(number),
            Err(_) => Value::Other("no whole number"),
        },
    };
    Ok(Node { at, value })
}

/// Names and values of an object, as they stand in the text.
struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<(&'de RawValue, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(entries)
    }
}

/// Items of an array, as they stand in the text.
struct Items;

impl<'de> Visitor<'de> for Items {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(items)
    }
}
