//! Values of a broker's file.

use crate::file::{Fault, Node, Value, number, shown};
use crate::keys::Keys;
use crate::parse_duration;
use std::time::Duration;

impl<'a> Keys<'a> {
    /// A time with its unit, in quotes.
    pub(super) fn duration(&self, name: &str) -> Result<Option<Duration>, Fault> {
        let mend = "write a time in quotes such as \"10ms\" or \"60s\"";
        let Some(node) = self.get(name) else {
            return Ok(None);
        };
        match &node.value {
            Value::Text(text) => match parse_duration(text) {
                Ok(time) => Ok(Some(time)),
                Err(error) => Err(Fault::new(node.at, format!("{name}: {error}"))),
            },
            value => Err(Fault::new(node.at, format!("{name} is {}; {mend}", value.kind()))),
        }
    }

    /// A size with its unit, in quotes, or bytes.
    pub(super) fn size(&self, name: &str) -> Result<Option<u64>, Fault> {
        let mend = "write a size in quotes such as \"16MB\"";
        let Some(node) = self.get(name) else {
            return Ok(None);
        };
        match &node.value {
            Value::Text(text) => match crate::parse_size(text) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) => Err(Fault::new(node.at, format!("{name}: {error}"))),
            },
            Value::Number(bytes) if *bytes >= 0 => Ok(Some(bytes.unsigned_abs())),
            value => Err(Fault::new(node.at, format!("{name} is {}; {mend}", value.kind()))),
        }
    }

    /// A rate: a number, or one with k, M or G for powers of 1000.
    pub(super) fn rate(&self, name: &str, unit: &str) -> Result<Option<u64>, Fault> {
        let Some(node) = self.get(name) else {
            return Ok(None);
        };
        let mend = format!("write {unit}: a number, or one with k, M or G such as \"10M\"");
        let rate = match &node.value {
            Value::Number(rate) => u64::try_from(*rate).ok(),
            Value::Text(text) => {
                let (digits, factor) = match text.char_indices().next_back() {
                    Some((at, 'k')) => (&text[..at], 1_000),
                    Some((at, 'M')) => (&text[..at], 1_000_000),
                    Some((at, 'G')) => (&text[..at], 1_000_000_000),
                    _ => (text.as_str(), 1),
                };
                let rate = digits.parse().ok();
                rate.and_then(|rate: u64| rate.checked_mul(factor)).filter(|_| is_digits(digits))
            }
            value => {
                return Err(Fault::new(node.at, format!("{name} is {}; {mend}", value.kind())));
            }
        };
        match rate {
            None => Err(Fault::new(node.at, format!("{name} is no rate; {mend}"))),
            Some(0) => {
                let reason = format!("{name} 0 lets nothing through; {mend}, or leave it out");
                Err(Fault::new(node.at, reason))
            }
            Some(rate) => Ok(Some(rate)),
        }
    }

    /// A whole number in a range.
    pub(super) fn integer<T>(&self, name: &str, min: T, max: T) -> Result<Option<T>, Fault>
    where
        T: TryFrom<i64> + Into<u64> + Copy + PartialOrd,
    {
        let Some(node) = self.get(name) else {
            return Ok(None);
        };
        match number(node, name, max)? {
            value if (min..=max).contains(&value) => Ok(Some(value)),
            value => {
                let (value, min, max): (u64, u64, u64) = (value.into(), min.into(), max.into());
                Err(Fault::new(node.at, format!("{name} {value} is not from {min} to {max}")))
            }
        }
    }

    /// Texts in a list; one alone may stand without it. Empty if there is none.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<(&'a Node, &'a str)>, Fault> {
        let text = |node: &'a Node| match &node.value {
            Value::Text(text) => Ok((node, text.as_str())),
            value => {
                let reason = format!("{name} has {}; write strings", value.kind());
                Err(Fault::new(node.at, reason))
            }
        };
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Node { value: Value::Array(items), .. }) => items.iter().map(text).collect(),
            Some(node @ Node { value: Value::Text(_), .. }) => Ok(vec![text(node)?]),
            Some(Node { at, value }) => {
                Err(Fault::new(*at, format!("{name} is {}; write a list of strings", value.kind())))
            }
        }
    }

    /// The first of some keys that is there but has no meaning here.
    pub(super) fn refuse(&self, names: &[&str], why: &str) -> Result<(), Fault> {
        match names.iter().find(|name| self.get(name).is_some()) {
            None => Ok(()),
            Some(name) => Err(Fault::new(
                self.place_of(name),
                format!("{why} no `{}`; leave it out", shown(name)),
            )),
        }
    }
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}
