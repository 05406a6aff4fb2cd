//! An archive in a folder: what is there has been written whole and has reached the disk.
//!
//! ```text
//! <key>                     an object
//! <key>.<ulid>.part         one that is being written: it becomes the object by its last step
//! .spool/                   not of the archive, though it may stand in it
//! ```

use super::error::Told;
use super::hash::{Digest, hash_file};
use super::{Object, PART_BYTES};
use bytes::Bytes;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use ulid::Ulid;

/// Tries to write where a folder goes away under our hands, as others remove what is empty.
const TRIES: usize = 16;

/// How the name of a file that is being written ends.
const PART: &str = ".part";

/// A recorder's spool inside of an archive.
const SPOOL: &str = ".spool";

#[derive(Debug, Clone)]
pub(super) struct Folder {
    pub(super) root: PathBuf,
}

impl Folder {
    pub(super) fn open(root: &Path) -> io::Result<Folder> {
        fs::create_dir_all(root)?;
        Ok(Folder { root: root.into() })
    }

    pub(super) fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        self.place(key, |part| {
            let mut file = create(part)?;
            file.write_all(bytes)?;
            file.sync_all()
        })?;
        self.confirm(key, &Digest::of(bytes))
    }

    /// Puts a file in by a link to it, where that can be: then it is on disk once.
    pub(super) fn put_file(&self, key: &str, path: &Path, sha256: &[u8; 32]) -> Result<(), Told> {
        let local = |e| Told::local(path, &e);
        let known = hash_file(path, false).map_err(local)?;
        if known.sha256 != *sha256 {
            return Err(Told::altered(path));
        }
        let own = fs::metadata(path).map_err(local)?;
        if self.holds(key, &known)? {
            return Ok(());
        }
        let placed = self.place(key, |part| {
            if fs::hard_link(path, part).is_err() {
                let mut file = create(part)?;
                io::copy(&mut File::open(path)?, &mut file)?;
                return file.sync_all();
            }
            File::open(part)?.sync_all()
        });
        let there = placed.and_then(|()| fs::metadata(self.path(key)?))?;
        // A link to the file is the file.
        if (there.dev(), there.ino()) == (own.dev(), own.ino()) && there.len() == known.bytes {
            return Ok(());
        }
        Ok(self.confirm(key, &known)?)
    }

    /// Whether the object is there with this content.
    pub(super) fn holds(&self, key: &str, expected: &Digest) -> io::Result<bool> {
        let path = self.path(key)?;
        let length = match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            metadata => metadata?.len(),
        };
        if length != expected.bytes {
            return Ok(false);
        }
        Ok(hash_file(&path, false)?.sha256 == expected.sha256)
    }

    fn confirm(&self, key: &str, expected: &Digest) -> io::Result<()> {
        match self.holds(key, expected)? {
            true => Ok(()),
            false => {
                Err(io::Error::new(ErrorKind::InvalidData, "what is there is not what was written"))
            }
        }
    }

    /// Makes a file under another name, then gives it its own.
    fn place(&self, key: &str, make: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
        let path = self.path(key)?;
        let folder = path.parent().unwrap_or(&self.root);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let part = path.with_file_name(format!("{name}.{}{PART}", Ulid::new()));
        let mut tries = 0;
        loop {
            tries += 1;
            let made = make_folders(folder)
                .and_then(|()| make(&part))
                .and_then(|()| fs::rename(&part, &path))
                .and_then(|()| sync_folder(folder));
            match made {
                Ok(()) => return Ok(()),
                Err(error) => {
                    // What is left of it is taken away by `sweep`, if not by this.
                    let _ = fs::remove_file(&part);
                    if error.kind() != ErrorKind::NotFound || tries == TRIES {
                        return Err(error);
                    }
                }
            }
        }
    }

    pub(super) fn get(&self, key: &str) -> io::Result<Bytes> {
        fs::read(self.path(key)?).map(Bytes::from)
    }

    pub(super) fn get_range(&self, key: &str, range: Range<u64>) -> io::Result<Bytes> {
        let file = File::open(self.path(key)?)?;
        let length = file.metadata()?.len();
        if range.end > length || range.start > range.end {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, short(&range, length)));
        }
        let mut bytes = vec![0; (range.end - range.start) as usize];
        file.read_exact_at(&mut bytes, range.start)?;
        Ok(bytes.into())
    }

    pub(super) fn length(&self, key: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.path(key)?)?.len())
    }

    /// What is below these folders. Links to folders are not followed.
    pub(super) fn list(&self, folders: &str) -> io::Result<Vec<Object>> {
        let mut objects = Vec::new();
        self.walk(&self.path(folders)?, &mut |path, metadata| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !name.ends_with(PART)
                && let Ok(key) = path.strip_prefix(&self.root)
            {
                let key = key.to_string_lossy().into_owned();
                objects.push(Object { key, bytes: metadata.len() });
            }
        })?;
        Ok(objects)
    }

    /// The names of the folders right below these.
    pub(super) fn list_folders(&self, folders: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in read_folder(&self.path(folders)?)? {
            let entry = entry?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        Ok(names)
    }

    fn walk(&self, folder: &Path, found: &mut dyn FnMut(&Path, &fs::Metadata)) -> io::Result<()> {
        let mut left = vec![folder.to_path_buf()];
        while let Some(folder) = left.pop() {
            for entry in read_folder(&folder)? {
                let (entry, path) = entry.map(|entry| (entry.file_type(), entry.path()))?;
                // One that is gone by now is not there.
                let Ok(kind) = entry else { continue };
                if kind.is_dir() {
                    if folder != self.root || path.file_name().is_none_or(|name| name != SPOOL) {
                        left.push(path);
                    }
                } else if let Some(metadata) =
                    fs::metadata(&path).ok().filter(fs::Metadata::is_file)
                {
                    found(&path, &metadata);
                }
            }
        }
        Ok(())
    }

    /// Removes an object, and the folders that are empty then.
    pub(super) fn delete(&self, key: &str) -> io::Result<()> {
        let path = self.path(key)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            removed => removed?,
        }
        for folder in path.ancestors().skip(1).take_while(|folder| *folder != self.root) {
            sync_folder(folder)?;
            // One that holds something stays.
            if fs::remove_dir(folder).is_err() {
                return Ok(());
            }
        }
        sync_folder(&self.root)
    }

    /// Removes what unfinished writes left that are older than this. Gives their number.
    pub(super) fn sweep(&self, older_than: Duration) -> io::Result<u64> {
        let now = SystemTime::now();
        let mut old = Vec::new();
        self.walk(&self.root, &mut |path, metadata| {
            let is_part = path.to_string_lossy().ends_with(PART);
            let age = metadata.modified().ok().and_then(|at| now.duration_since(at).ok());
            if is_part && age.is_some_and(|age| age >= older_than) {
                old.push(path.to_path_buf());
            }
        })?;
        for path in &old {
            fs::remove_file(path)?;
        }
        Ok(old.len() as u64)
    }

    fn path(&self, key: &str) -> io::Result<PathBuf> {
        let mut path = self.root.clone();
        for part in key.split('/').filter(|part| !part.is_empty()) {
            if matches!(part, "." | "..") || part.contains('\0') {
                return Err(io::Error::new(ErrorKind::InvalidInput, "no key of an archive"));
            }
            path.push(part);
        }
        Ok(path)
    }
}

/// What to say of an object that is shorter than what is read of it.
pub(super) fn short(range: &Range<u64>, length: u64) -> String {
    format!("bytes {} to {} of an object of {length} bytes", range.start, range.end)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o640).open(path)
}

/// The entries of a folder; one that is not there has none.
fn read_folder(folder: &Path) -> io::Result<Vec<io::Result<fs::DirEntry>>> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(entries.collect()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// Makes folders so that they are still there after a power cut.
fn make_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    make_folders(parent)?;
    match DirBuilder::new().mode(0o750).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_folder(parent)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Reads the next part of a file: shorter only at its end.
pub(super) fn read_part(file: &mut File) -> io::Result<Bytes> {
    let mut part = Vec::new();
    file.take(PART_BYTES).read_to_end(&mut part)?;
    Ok(part.into())
}

#[cfg(test)]
mod tests {
    use super::super::StoreFault;
    use super::*;
    use rig::Scratch;

    #[test]
    fn files_are_linked_and_listed_without_the_spool_and_parts() {
        let scratch = Scratch::new("store-folder");
        let folder = Folder::open(&scratch.path("a b")).unwrap();
        let file = scratch.path("file");
        fs::write(&file, b"abc").unwrap();
        folder.put_file("date=x/é", &file, &Digest::of(b"abc").sha256).unwrap();
        folder.put("manifest/1", b"12").unwrap();
        fs::create_dir(folder.root.join(SPOOL)).unwrap();
        fs::write(folder.root.join(".spool/x"), b"").unwrap();
        fs::write(folder.root.join("manifest/1.x.part"), b"").unwrap();
        let mut keys: Vec<_> =
            folder.list("").unwrap().into_iter().map(|o| (o.key, o.bytes)).collect();
        keys.sort();
        assert_eq!(keys, [("date=x/é".to_owned(), 3), ("manifest/1".to_owned(), 2)]);
        assert_eq!(folder.list("none").unwrap(), []);
        assert_eq!(folder.sweep(Duration::from_secs(60)).unwrap(), 0);
        assert_eq!(folder.sweep(Duration::ZERO).unwrap(), 1);
        folder.delete("date=x/é").unwrap();
        assert!(!folder.root.join("date=x").exists() && file.exists());
    }

    #[test]
    fn keys_do_not_lead_out_of_the_folder() {
        let scratch = Scratch::new("store-keys");
        let folder = Folder::open(scratch.folder()).unwrap();
        for key in ["../x", "a/../../x", "a/./b"] {
            assert_eq!(folder.put(key, b"").unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        let put = folder.put_file("x", Path::new("/proc/none"), &[0; 32]);
        assert_eq!(put.unwrap_err().fault, StoreFault::Local);
        assert!(folder.list("").unwrap().is_empty());
    }

    #[test]
    fn a_file_that_is_another_one_is_not_confirmed() {
        let scratch = Scratch::new("store-other");
        let folder = Folder::open(&scratch.path("a")).unwrap();
        let file = scratch.path("file");
        fs::write(&file, b"abd").unwrap();
        let put = folder.put_file("k", &file, &Digest::of(b"abc").sha256);
        assert_eq!(put.unwrap_err().fault, StoreFault::Local);
        assert!(!folder.root.join("k").exists());
    }
}
