//! Lines and their columns, which know where they stand.

use crate::file::{Fault, shown};
use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

/// Longest interface name (`IFNAMSIZ` less the NUL).
const INTERFACE_NAME_BYTES_MAX: usize = 15;

/// A line that is no comment and not empty.
#[derive(Debug)]
pub(super) struct Line<'a> {
    /// From 1.
    pub number: usize,
    /// The byte where it begins, and where its last column ends.
    pub at: usize,
    pub end: usize,
    /// At least one.
    pub columns: Vec<Column<'a>>,
}

/// A column: its text, and the byte where it begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column<'a> {
    pub at: usize,
    pub text: &'a str,
}

/// The lines that say something.
pub(super) fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let mut at = 0;
    let lines = text.split_inclusive('\n').enumerate().map(move |(index, line)| {
        let begin = at;
        at += line.len();
        let columns = columns(begin, line);
        let end = columns.last().map_or(begin, |column| column.at + column.text.len());
        Line { number: index + 1, at: begin, end, columns }
    });
    lines.filter(|line| !line.columns.is_empty())
}

/// What stands in a line in front of its comment; `at` is the byte where it begins.
fn columns(at: usize, line: &str) -> Vec<Column<'_>> {
    let words = line.split_whitespace().take_while(|word| !word.starts_with('#'));
    let place = |text: &str| text.as_ptr() as usize - line.as_ptr() as usize;
    words.map(|text| Column { at: at + place(text), text }).collect()
}

impl<'a> Line<'a> {
    /// The first four columns; `form` is what they should be.
    pub fn four(&self, form: &str) -> Result<[&Column<'a>; 4], Fault> {
        match &self.columns[..] {
            [one, two, three, four, ..] => Ok([one, two, three, four]),
            columns => {
                let count = columns.len();
                let reason = format!("a line has four columns, this one {count}: write {form}");
                Err(Fault::new(self.end, reason))
            }
        }
    }

    /// Makes sure that no more columns follow.
    pub fn ends_after(&self, columns: usize, form: &str) -> Result<(), Fault> {
        match self.columns.get(columns) {
            None => Ok(()),
            Some(column) => Err(column.fault(format!(
                "is a column too many: write {form}; a list has no spaces, and `#` begins a comment"
            ))),
        }
    }
}

impl Column<'_> {
    /// A mistake in this column.
    pub fn fault(&self, reason: impl Display) -> Fault {
        Fault::new(self.at, format!("`{}` {reason}", shown(self.text)))
    }

    /// Whether it says nothing.
    pub fn is_dash(&self) -> bool {
        matches!(self.text, "-" | "–")
    }

    /// Reads it; `what` it is called.
    pub fn parse<T: FromStr<Err: Display>>(&self, what: &str) -> Result<T, Fault> {
        let shown = shown(self.text);
        self.text.parse().map_err(|why| Fault::new(self.at, format!("{what} `{shown}`: {why}")))
    }

    /// The address of an end.
    pub fn address(&self, side: &str) -> Result<IpAddr, Fault> {
        let bare = self.text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let Ok(address) = bare.unwrap_or(self.text).parse::<IpAddr>() else {
            let reason = format!("is not the address of the {side} side: write an IP address");
            return Err(self.fault(reason));
        };
        match address.is_unspecified() || address.is_multicast() {
            false => Ok(address),
            true => Err(self.fault("is no address of one host: write that of the tunnel's end")),
        }
    }

    /// The name of an interface.
    pub fn interface(&self) -> Result<String, Fault> {
        let is_name = self.text.len() <= INTERFACE_NAME_BYTES_MAX
            && !self.text.contains('/')
            && !matches!(self.text, "." | "..");
        match is_name {
            true => Ok(self.text.into()),
            false => Err(self.fault(format!(
                "is no name of an interface: write 1 to {INTERFACE_NAME_BYTES_MAX} bytes, no `/`"
            ))),
        }
    }
}
