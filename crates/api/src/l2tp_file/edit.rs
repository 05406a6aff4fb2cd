//! Tunnels added to a file's content, and taken out of it: all else stays as it stands, comments too.

use super::reader::{Column, Line, lines};
use super::{L2tpId, parse_l2tp_receive, parse_l2tp_transmit, text};
use crate::FileError;
use crate::file::Fault;
use std::path::Path;

/// Adds lines to a file's content; `path` is what messages call it. What results is one file of either
/// form.
///
/// # Errors
/// The first mistake in what would result, with its place there.
pub fn add_l2tp_lines(path: &Path, content: &[u8], added: &[String]) -> Result<Vec<u8>, FileError> {
    let mut result = content.to_vec();
    let end: &[u8] = if content.windows(2).any(|pair| pair == b"\r\n") { b"\r\n" } else { b"\n" };
    for line in added {
        if !result.is_empty() && !result.ends_with(b"\n") {
            result.extend_from_slice(end);
        }
        let line = line.trim();
        result.extend_from_slice(line.as_bytes());
        result.extend_from_slice(end);
        if line.contains('\n') || lines(line).next().is_none() {
            let reason = format!("`{}` is no line with a tunnel", line.escape_debug());
            return Err(FileError::new(&path.display().to_string(), b"", None, reason));
        }
    }
    check(path, &result)?;
    Ok(result)
}

/// Takes a tunnel out of a file's content: that of an id, or that of a whole line.
///
/// # Errors
/// There is no such tunnel, or the file has a mistake.
pub fn remove_l2tp_tunnel(path: &Path, content: &[u8], tunnel: &str) -> Result<Vec<u8>, FileError> {
    let failed = |fault: Fault| fault.of(&path.display().to_string(), content);
    let ids = check(path, content)?;
    let text = text(content).map_err(failed)?;
    let wanted: Option<L2tpId> = tunnel.trim().parse().ok();
    let words: Vec<Column<'_>> = lines(tunnel).flat_map(|line| line.columns).collect();
    let is_same = |line: &Line<'_>| {
        let pairs = || line.columns.iter().zip(&words);
        line.columns.len() == words.len() && pairs().all(|(one, other)| alike(one, other))
    };
    // The content may begin with a byte order mark, which stays.
    let mark = content.len() - text.len();
    let (mut result, mut kept) = (content[..mark].to_vec(), 0);
    for (line, id) in lines(text).zip(&ids) {
        if Some(*id) == wanted || is_same(&line) {
            result.extend_from_slice(&text.as_bytes()[kept..line.at]);
            let rest = &text[line.at..];
            kept = line.at + rest.find('\n').map_or(rest.len(), |end| end + 1);
        }
    }
    if kept == 0 {
        let known: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let known = match known.is_empty() {
            true => "it has none".into(),
            false => format!("it has {}", known.join(", ")),
        };
        let tunnel = crate::file::shown(tunnel);
        return Err(failed(Fault { at: None, reason: format!("no tunnel `{tunnel}`: {known}") }));
    }
    result.extend_from_slice(&text.as_bytes()[kept..]);
    Ok(result)
}

fn alike(one: &Column<'_>, other: &Column<'_>) -> bool {
    one.text == other.text || (one.is_dash() && other.is_dash())
}

/// The ids of a file's tunnels, in their order. Its first line says of which form it is.
fn check(path: &Path, content: &[u8]) -> Result<Vec<L2tpId>, FileError> {
    let text = text(content).map_err(|fault| fault.of(&path.display().to_string(), content))?;
    let first = lines(text).next();
    let is_receiver = first.and_then(|line| line.columns.get(2).copied());
    match is_receiver.is_some_and(|column| column.is_dash()) {
        true => Ok(parse_l2tp_receive(path, content)?.iter().map(|tunnel| tunnel.id).collect()),
        false => Ok(parse_l2tp_transmit(path, content)?.iter().map(|tunnel| tunnel.id).collect()),
    }
}
