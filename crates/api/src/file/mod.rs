//! Files that users write, as a tree whose values know where they stand: so that every mistake is
//! shown in its place.

mod error;
mod node;
mod table;

pub use error::FileError;
pub(crate) use node::{Fault, Node, Spelling, Value, from_json, from_toml};
pub(crate) use table::{Table, flag, nearest, number, shown, word};

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Reads a file of at most `bytes_max`; `mend` is what to do about a longer one.
///
/// # Errors
/// It cannot be read, or is longer.
pub(crate) fn read(path: &Path, bytes_max: u64, mend: &str) -> Result<Vec<u8>, FileError> {
    let name = path.display().to_string();
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(bytes_max + 1).read_to_end(&mut content))
        .map_err(|error| FileError::unreadable(&name, &error))?;
    if content.len() as u64 > bytes_max {
        let reason = format!("more than {} MiB; {mend}", bytes_max >> 20);
        return Err(FileError::new(&name, b"", None, reason));
    }
    Ok(content)
}

/// The content as text, without a byte order mark; `wanted` says what it should be.
pub(crate) fn text<'a>(content: &'a [u8], wanted: &str) -> Result<&'a str, Fault> {
    const OTHER: [(&[u8], &str); 7] = [
        (&[0xd4, 0xc3, 0xb2, 0xa1], "a pcap capture file"),
        (&[0xa1, 0xb2, 0xc3, 0xd4], "a pcap capture file"),
        (&[0x4d, 0x3c, 0xb2, 0xa1], "a pcap capture file"),
        (&[0xa1, 0xb2, 0x3c, 0x4d], "a pcap capture file"),
        (&[0x0a, 0x0d, 0x0d, 0x0a], "a pcapng capture file"),
        (&[0x1f, 0x8b], "compressed by gzip"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "compressed by zstd"),
    ];
    if let Some((_, what)) = OTHER.iter().find(|(magic, _)| content.starts_with(magic)) {
        return Err(Fault { at: None, reason: format!("is {what}; {wanted}") });
    }
    let content = content.strip_prefix("\u{feff}".as_bytes()).unwrap_or(content);
    std::str::from_utf8(content).map_err(|error| {
        let at = error.valid_up_to();
        let byte = content.get(at).copied().unwrap_or_default();
        Fault::new(at, format!("byte {byte:#04x} is not UTF-8; {wanted} in UTF-8"))
    })
}
