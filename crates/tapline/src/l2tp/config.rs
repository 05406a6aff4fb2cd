//! `tapline l2tp config`: changes the file, and has who runs it take the change over.
//!
//! The file is replaced at once by a whole new one, under a lock that another `config` waits for. What a
//! running process refuses, such as an interface that is not there, is not left in the file.

use crate::cli::{L2tpConfig, Verbosity};
use crate::failure::Failure;
use crate::local::{Instance, Request, instances};
use crate::session::say;
use api::FileError;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What a file is made with: its owner changes it, and everybody may look.
const FILE_MODE: u32 = 0o644;

pub fn run(command: &L2tpConfig, verbosity: &Verbosity) -> Result<(), Failure> {
    let said = match command {
        L2tpConfig::Add(options) => edit(&options.config, true, |path, content| {
            api::add_l2tp_lines(path, content, &options.lines)
        }),
        L2tpConfig::Remove(options) => edit(&options.config, false, |path, content| {
            let mut content = content.to_vec();
            for tunnel in &options.tunnels {
                content = api::remove_l2tp_tunnel(path, &content, tunnel)?;
            }
            Ok(content)
        }),
    }?;
    if !verbosity.quiet {
        said.iter().for_each(|line| say(&format!("tapline: {line}\n")));
    }
    Ok(())
}

/// Changes a file, and tells who runs it; gives what there is to say.
fn edit(
    path: &Path,
    may_be_new: bool,
    change: impl Fn(&Path, &[u8]) -> Result<Vec<u8>, FileError>,
) -> Result<Vec<String>, Failure> {
    let failed = |e: io::Error| Failure::CouldNot(format!("change {}: {e}", path.display()));
    let locked = Locked::open(path, may_be_new).map_err(failed)?;
    let before = fs::read(&locked.path).map_err(failed)?;
    // Messages call the file what the user calls it.
    let after = change(path, &before)?;
    locked.replace(&after).map_err(failed)?;
    let mut said = Vec::new();
    for instance in running(&locked.path) {
        match reload(&instance) {
            Ok(changes) => said.extend(changes),
            Err(why) => {
                locked.replace(&before).map_err(failed)?;
                // Others have taken it over already.
                running(&locked.path).iter().filter_map(|other| reload(other).err()).for_each(drop);
                return Err(Failure::CouldNot(format!(
                    "{} is as it was: {} {} does not take the change over: {why}",
                    path.display(),
                    instance.command,
                    instance.pid
                )));
            }
        }
    }
    if said.is_empty() {
        said.push(format!(
            "{} is changed; nothing that runs here has read it before",
            path.display()
        ));
    }
    Ok(said)
}

/// The processes of this host that run a file.
fn running(path: &Path) -> Vec<Instance> {
    let runs = |instance: &Instance| {
        let config = instance.status().ok().and_then(|status| status.config);
        config.and_then(|config| fs::canonicalize(config).ok()).is_some_and(|config| config == path)
    };
    let found = instances().into_iter().filter(|instance| instance.command.starts_with("l2tp-"));
    found.filter(runs).collect()
}

/// Has a process read its file again; gives what it says it has changed.
fn reload(instance: &Instance) -> io::Result<Vec<String>> {
    let answer = instance.ask(&Request::Reload)?;
    let changes = answer["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let who = |what: &str| format!("{} {}: {what}", instance.command, instance.pid);
    let changes: Vec<String> = changes.iter().filter_map(|line| line.as_str()).map(who).collect();
    Ok(if changes.is_empty() { vec![who("nothing has changed")] } else { changes })
}

/// A file that no other `config` changes meanwhile.
struct Locked {
    /// Without links.
    path: PathBuf,
    file: File,
}

impl Locked {
    /// Waits until nobody else changes the file.
    fn open(path: &Path, may_be_new: bool) -> io::Result<Locked> {
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(may_be_new)
                .truncate(false)
                .mode(FILE_MODE)
                .open(path)?;
            file.lock()?;
            let path = fs::canonicalize(path)?;
            // Who had the lock before has put another file into its place.
            let (own, there) = (file.metadata()?, fs::metadata(&path)?);
            if (own.dev(), own.ino()) == (there.dev(), there.ino()) {
                return Ok(Locked { path, file });
            }
        }
    }

    /// Puts a new content into its place at once: a reader finds all of it or all of the old one.
    fn replace(&self, content: &[u8]) -> io::Result<()> {
        let mut partial = self.path.clone().into_os_string();
        partial.push(".partial");
        let partial = Path::new(&partial);
        let as_before = self.file.metadata()?;
        let mut file = File::create(partial)?;
        let write = || {
            file.set_permissions(Permissions::from_mode(as_before.mode() & 0o7777))?;
            // Only root may give a file away, and only root has others' files to change.
            let _ = std::os::unix::fs::fchown(&file, Some(as_before.uid()), Some(as_before.gid()));
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(partial, &self.path)
        };
        let mut write = write;
        write().inspect_err(|_| drop(fs::remove_file(partial)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rig::Scratch;

    fn message(result: Result<Vec<String>, Failure>) -> String {
        result.unwrap_err().message().unwrap_or_default().to_owned()
    }

    #[test]
    fn a_file_is_replaced_whole_and_keeps_its_mode() {
        let scratch = Scratch::new("l2tp-config");
        let (file, link) = (scratch.path("tunnels"), scratch.path("link"));
        fs::write(&file, "10.0.0.1 10.0.0.2 - -\n").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let add = |line: &str| {
            edit(&link, true, |path, content| api::add_l2tp_lines(path, content, &[line.into()]))
        };
        let said = add("10.0.0.1 10.0.0.3 - -").unwrap();
        assert!(said[0].contains("nothing that runs here has read it"), "{said:?}");
        let content = fs::read_to_string(&file).unwrap();
        assert_eq!(content, "10.0.0.1 10.0.0.2 - -\n10.0.0.1 10.0.0.3 - -\n");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
        assert!(message(add("10.0.0.1 10.0.0.3 - -")).contains("link:3:"), "named as it was given");
        assert_eq!(fs::read_to_string(&file).unwrap(), content);
        assert!(!scratch.path("tunnels.partial").exists());
    }

    #[test]
    fn a_new_file_is_made_for_the_first_line_and_for_nothing_else() {
        let scratch = Scratch::new("l2tp-config-new");
        let path = scratch.path("new");
        let remove =
            edit(&path, false, |path, content| api::remove_l2tp_tunnel(path, content, "1"));
        assert!(message(remove).contains("No such file"));
        edit(&path, true, |path, content| {
            api::add_l2tp_lines(path, content, &["10.0.0.1 10.0.0.2 eth0 all".into()])
        })
        .unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "10.0.0.1 10.0.0.2 eth0 all\n");
    }

    #[test]
    fn changes_at_the_same_time_all_stay() {
        let scratch = Scratch::new("l2tp-config-both");
        let path = scratch.path("tunnels");
        std::thread::scope(|scope| {
            for number in 1..=8 {
                let path = &path;
                scope.spawn(move || {
                    let line = format!("10.0.0.1 10.0.0.2 - {number}");
                    edit(path, true, |path, content| {
                        api::add_l2tp_lines(path, content, std::slice::from_ref(&line))
                    })
                    .unwrap();
                });
            }
        });
        assert_eq!(api::read_l2tp_receive(&path).unwrap().len(), 8);
    }
}
