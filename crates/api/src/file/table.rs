//! Tables of a file whose names are all known, and values of them.

use super::node::{Fault, Node, Spelling, Value};
use std::borrow::Cow;

/// Characters of a name or a text that an error repeats.
const SHOWN_MAX: usize = 60;

/// A table all of whose names are known.
pub(crate) struct Table<'a> {
    entries: &'a [(usize, String, Node)],
    spelling: Spelling,
}

impl<'a> Table<'a> {
    /// `known` are the names that it may have, in snake_case; `what` it is called.
    pub(crate) fn new(
        node: &'a Node,
        what: &str,
        known: &[&str],
        spelling: Spelling,
    ) -> Result<Table<'a>, Fault> {
        let Value::Table(entries) = &node.value else {
            let known: Vec<String> = known.iter().map(|name| spelling.write(name)).collect();
            let kind = node.value.kind();
            return Err(Fault::new(
                node.at,
                format!("{what} is {kind}, not a table of {}", known.join(", ")),
            ));
        };
        for (index, (at, name, _)) in entries.iter().enumerate() {
            let mut names = known.iter().map(|name| spelling.write(name));
            if !names.any(|known| known == *name) {
                return Err(Fault::new(
                    *at,
                    format!("{what} has no `{}`; {}", shown(name), nearest(name, known, spelling)),
                ));
            }
            if entries[..index].iter().any(|(_, earlier, _)| earlier == name) {
                return Err(Fault::new(
                    *at,
                    format!("`{name}` stands here a second time; leave one"),
                ));
            }
        }
        Ok(Table { entries, spelling })
    }

    /// The place of a name, and its value, unless that is null.
    pub(crate) fn get(&self, name: &str) -> Option<(usize, &'a Node)> {
        let name = self.spelling.write(name);
        let entry = self.entries.iter().find(|(_, own, _)| *own == name);
        entry
            .filter(|(.., node)| !matches!(node.value, Value::Null))
            .map(|(at, _, node)| (*at, node))
    }

    /// A value that is text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Fault> {
        match self.get(name) {
            None => Ok(None),
            Some((_, Node { value: Value::Text(text), .. })) => Ok(Some(text.clone())),
            Some((_, Node { at, value })) => {
                let name = self.spelling.write(name);
                Err(Fault::new(*at, format!("{name} is {}; write a string", value.kind())))
            }
        }
    }
}

/// A name or a text of the file, as an error repeats it.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

/// The mend for an unknown name: the nearest one that is known, or all of them.
pub(crate) fn nearest(name: &str, known: &[&str], spelling: Spelling) -> String {
    let bare = |name: &str| name.to_ascii_lowercase().replace(['_', '-'], "");
    let distance = |known: &&&str| strsim::damerau_levenshtein(&bare(known), &bare(name));
    // None that is known is as long, and the work grows with the length.
    let nearest = known.iter().filter(|_| name.len() <= SHOWN_MAX).min_by_key(distance);
    match nearest.filter(|best| distance(best) <= bare(best).len() / 3) {
        Some(best) => format!("did you mean `{}`?", spelling.write(best)),
        None => {
            let known: Vec<String> = known.iter().map(|name| spelling.write(name)).collect();
            format!("it may have {}", known.join(", "))
        }
    }
}

/// A whole number of at most `max`.
pub(crate) fn number<T: TryFrom<i64> + Into<u64> + Copy>(
    node: &Node,
    name: &str,
    max: T,
) -> Result<T, Fault> {
    let max: u64 = max.into();
    match &node.value {
        Value::Number(number) => T::try_from(*number)
            .map_err(|_| Fault::new(node.at, format!("{name} {number} is not from 0 to {max}"))),
        value => Err(Fault::new(
            node.at,
            format!("{name} is {}; write a number from 0 to {max}", value.kind()),
        )),
    }
}

/// One of some words, in any case.
pub(crate) fn word<T: Copy>(
    node: &Node,
    name: &str,
    words: &[(&str, T)],
    mend: &str,
) -> Result<T, Fault> {
    let Value::Text(text) = &node.value else {
        return Err(Fault::new(node.at, format!("{name} is {}; {mend}", node.value.kind())));
    };
    match words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)) {
        Some((_, value)) => Ok(*value),
        None => Err(Fault::new(node.at, format!("{name} {:?} is unknown; {mend}", shown(text)))),
    }
}

/// True or false.
pub(crate) fn flag(node: &Node, name: &str) -> Result<bool, Fault> {
    match &node.value {
        Value::Flag(flag) => Ok(*flag),
        value => {
            let kind = value.kind();
            Err(Fault::new(
                node.at,
                format!("{name} is {kind}; write true or false, without quotes"),
            ))
        }
    }
}
