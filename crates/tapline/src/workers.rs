//! How many workers share a tap, and what the files of each are called.

use crate::failure::Failure;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Workers that a tap may have.
const WORKERS_MAX: usize = 64;

/// How many workers share a tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// One for each core that the process may use.
    Auto,
    Count(usize),
}

impl Workers {
    pub fn count(self) -> usize {
        match self {
            Workers::Auto => pipeline::cores().len().min(WORKERS_MAX),
            Workers::Count(count) => count,
        }
    }
}

impl Default for Workers {
    fn default() -> Workers {
        Workers::Count(1)
    }
}

impl FromStr for Workers {
    type Err = String;

    fn from_str(text: &str) -> Result<Workers, String> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Workers::Auto),
            (_, Ok(count @ 1..=WORKERS_MAX)) => Ok(Workers::Count(count)),
            _ => Err(format!("write 1 to {WORKERS_MAX}, or auto: one for each core")),
        }
    }
}

impl fmt::Display for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Workers::Auto => f.write_str("auto"),
            Workers::Count(count) => write!(f, "{count}"),
        }
    }
}

/// The file of one of some workers: its number stands before the extension, if there is more than
/// one. All numbers have the same length, so that names sort.
///
/// # Errors
/// Standard output cannot be shared.
pub fn file_of(path: &Path, worker: usize, workers: usize) -> Result<PathBuf, Failure> {
    if workers == 1 {
        return Ok(path.into());
    }
    if path == Path::new("-") {
        return Err(Failure::Usage(format!(
            "{workers} workers cannot write to one standard output: name a file, of which each \
             worker gets one, or leave --workers out"
        )));
    }
    let digits = (workers - 1).to_string().len();
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{worker:0digits$}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    Ok(path.with_file_name(name))
}

/// What to say of the files of some workers.
pub fn say_files(path: &Path, workers: usize) -> Result<String, Failure> {
    let (first, last) = (file_of(path, 0, workers)?, file_of(path, workers - 1, workers)?);
    Ok(format!(
        "each worker writes a file of its own, {} to {}; mergecap joins them by time",
        first.display(),
        last.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_worker_s_number() {
        let name = |path: &str, worker, workers| {
            file_of(Path::new(path), worker, workers).unwrap().display().to_string()
        };
        assert_eq!(name("d.x/web.pcapng", 0, 1), "d.x/web.pcapng");
        assert_eq!(name("d.x/web.pcapng", 1, 2), "d.x/web-1.pcapng");
        assert_eq!(name("/d.x/web", 3, 12), "/d.x/web-03");
        assert_eq!(name("web.2026.pcap", 0, 4), "web.2026-0.pcap");
        assert_eq!(name("web-%H%M.pcapng", 0, 4), "web-%H%M-0.pcapng");
        assert_eq!(name("-", 0, 1), "-");
        assert!(file_of(Path::new("-"), 0, 2).is_err());
        let said = say_files(Path::new("a.pcap"), 2).unwrap();
        assert!(said.contains("a-0.pcap to a-1.pcap; mergecap"), "{said}");
    }

    #[test]
    fn counts_are_understood() {
        assert_eq!("auto".parse(), Ok(Workers::Auto));
        assert_eq!("4".parse(), Ok(Workers::Count(4)));
        for text in ["0", "65", "-1", "many", ""] {
            let said = text.parse::<Workers>().unwrap_err();
            assert!(said.contains("1 to 64, or auto"), "{said}");
        }
        assert!(Workers::Auto.count() >= 1);
    }
}
