//! The files of the source tree.

use std::fs;
use std::path::{Path, PathBuf};

/// What was built, fetched, or found by a fuzzer, whatever its place in the tree. In a second
/// working tree of one repository `.git` is a file.
const NOT_SOURCE: [&str; 4] = [".git", "target", "node_modules", "__fuzz__"];

/// Stands in every build folder that cargo made, whatever its name.
const BUILD_FOLDER_TAG: &str = "CACHEDIR.TAG";

/// Larger files are data, not text that somebody wrote.
const TEXT_BYTES_MAX: u64 = 4 << 20;

/// A text file of the tree.
pub struct TextFile {
    /// Its path from the root of the tree, with `/`.
    pub path: String,
    /// All of it.
    pub text: String,
}

/// The root of the source tree.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("this package stands two folders below the root").to_path_buf()
}

/// Every file of the tree that is UTF-8 text, sorted by path.
pub fn text_files() -> Vec<TextFile> {
    let root = root();
    let mut files = Vec::new();
    collect(&root, &root, &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(files.iter().any(|file| file.path == "Cargo.toml"), "{} is no tree", root.display());
    files
}

/// Every Rust source file of the tree, sorted by path.
pub fn rust_files() -> Vec<TextFile> {
    let mut files = text_files();
    files.retain(|file| file.path.ends_with(".rs"));
    files
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<TextFile>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries.map(|entry| entry.expect("a folder that opens can be read")) {
        if NOT_SOURCE.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        let path = entry.path();
        let kind = entry.file_type().expect("a folder that opens can be read");
        if kind.is_dir() {
            let is_built = path.join(BUILD_FOLDER_TAG).exists();
            if !is_built {
                collect(root, &path, files);
            }
        } else if kind.is_file() && entry.metadata().is_ok_and(|m| m.len() <= TEXT_BYTES_MAX) {
            // An editor's file may be gone again, and what is not UTF-8 is not text.
            if let Ok(text) = fs::read_to_string(&path) {
                let path = path.strip_prefix(root).expect("found below the root");
                files.push(TextFile { path: path.to_string_lossy().into_owned(), text });
            }
        }
    }
}
