//! How many workers share a tap, and what the files of each are called.

use crate::failure::Failure;
use api::Workers;
use std::path::{Path, PathBuf};

/// How many threads that is here.
pub fn count(workers: Workers) -> usize {
    match workers {
        Workers::Auto => pipeline::cores().len().clamp(1, Workers::MAX),
        Workers::Count(count) => count,
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
    if path.extension().is_some_and(|extension| extension == "gz") {
        let mut name = file_of(&path.with_extension(""), worker, workers)?.into_os_string();
        name.push(".gz");
        return Ok(name.into());
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

/// The name of a file with the tap's put in for `{tap}`.
pub fn of_tap(path: &Path, tap: &str) -> PathBuf {
    let tap = archive::source_name(tap.rsplit('/').next().unwrap_or(tap));
    path.to_string_lossy().replace("{tap}", &tap).into()
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
        assert_eq!(name("a/web.pcap.gz", 1, 2), "a/web-1.pcap.gz");
        assert_eq!(name("-", 0, 1), "-");
        assert!(file_of(Path::new("-"), 0, 2).is_err());
        let said = say_files(Path::new("a.pcap"), 2).unwrap();
        assert!(said.contains("a-0.pcap to a-1.pcap; mergecap"), "{said}");
    }

    #[test]
    fn a_tap_s_name_is_a_part_of_a_path_and_no_more() {
        let name = |path: &str, tap| of_tap(Path::new(path), tap).display().to_string();
        assert_eq!(name("d/{tap}-%H.pcapng", "eth0"), "d/eth0-%H.pcapng");
        assert_eq!(name("d/{tap}", "/tmp/in.pcapng"), "d/in.pcapng");
        assert_eq!(name("d/{tap}", "../.."), "d/source-..");
        assert_eq!(name("-", "eth0"), "-");
    }

    #[test]
    fn there_is_a_worker_for_each_core() {
        assert!(count(Workers::Auto) >= 1);
        assert_eq!(count(Workers::Count(3)), 3);
    }
}
