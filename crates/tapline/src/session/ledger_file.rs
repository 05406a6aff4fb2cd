//! The file that `--stats-json` names.

use crate::cli::Report as ReportOptions;
use crate::failure::Failure;
use api::Stats;
use std::io::Write;
use std::path::Path;

/// Finds out at the start, not at the end, that the ledger cannot be written; to be called before
/// anything is opened that replaces a file.
pub fn check_stats_path(options: &ReportOptions) -> Result<(), Failure> {
    let Some(path) = &options.stats_json else {
        return Ok(());
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder.is_none_or(Path::is_dir) && !path.is_dir() {
        true => Ok(()),
        false => Err(Failure::CouldNot(format!(
            "--stats-json {}: write the name of a file in a folder that exists",
            path.display()
        ))),
    }
}

/// Replaces the file at once, so that a reader never finds half a ledger.
pub fn write_stats(options: &ReportOptions, stats: &Stats) -> Result<(), Failure> {
    let Some(path) = &options.stats_json else {
        return Ok(());
    };
    let failed = |e: std::io::Error| Failure::CouldNot(format!("write {}: {e}", path.display()));
    let mut json = serde_json::to_vec(stats).map_err(|e| failed(e.into()))?;
    json.push(b'\n');
    // By the process's own descriptors: opened anew, a file would be written to at another place.
    match path.to_str() {
        Some("/dev/stdout") => return std::io::stdout().write_all(&json).map_err(failed),
        Some("/dev/stderr") => return std::io::stderr().write_all(&json).map_err(failed),
        _ => {}
    }
    if path.exists() && (!path.is_file() || path.starts_with("/dev") || path.starts_with("/proc")) {
        // A pipe or a device has no second name to be renamed from.
        let mut file = std::fs::OpenOptions::new().append(true).open(path).map_err(failed)?;
        return file.write_all(&json).map_err(failed);
    }
    // A link stays a link: what it leads to is replaced.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
    let mut partial = path.clone().into_os_string();
    partial.push(".partial");
    let partial = Path::new(&partial);
    std::fs::write(partial, json).and_then(|()| std::fs::rename(partial, path)).map_err(failed)
}
