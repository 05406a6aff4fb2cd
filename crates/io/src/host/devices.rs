//! What kind of device an interface is, and which names there are in a BPF file system.

use crate::link::{IFINFOMSG_LEN, Links};
use crate::netlink::attributes;
use std::fs;
use std::path::{Path, PathBuf};

/// `IFLA_LINKINFO`, and in it `IFLA_INFO_KIND`.
const LINK_INFO: u16 = 18;
const INFO_KIND: u16 = 1;
/// Names in a folder that are looked at.
const ENTRIES_MAX: usize = 4096;

/// The kind of a device that is no hardware, such as `veth`, `vxlan`, `bridge`; `None` if it is
/// hardware, or gone.
pub fn device_kind(interface: &str) -> Option<String> {
    let mut links = Links::open().ok()?;
    let index = links.find(interface).ok()?.index;
    let described = links.describe(index).ok()?;
    let mut of = attributes(described.get(IFINFOMSG_LEN..)?);
    let (_, info) = of.find(|(kind, _)| *kind == LINK_INFO)?;
    let (_, kind) = attributes(info).find(|(number, _)| *number == INFO_KIND)?;
    let kind = kind.strip_suffix(&[0]).unwrap_or(kind);
    Some(String::from_utf8_lossy(kind).into_owned())
}

/// The folders in a folder, and the files in each, in the order of names; none if it is not there.
pub fn folders_in(folder: &Path) -> Vec<(String, Vec<PathBuf>)> {
    let entries = |of: &Path| fs::read_dir(of).into_iter().flatten().flatten().take(ENTRIES_MAX);
    let mut found: Vec<(String, Vec<PathBuf>)> = entries(folder)
        .filter(|entry| entry.path().is_dir())
        .map(|entry| {
            let mut files: Vec<PathBuf> = entries(&entry.path()).map(|file| file.path()).collect();
            files.sort();
            (entry.file_name().to_string_lossy().into_owned(), files)
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_the_kernel_s() {
        assert_eq!((device_kind("lo"), device_kind("no-such-link")), (None, None));
        if !rig::root_or_skip() {
            return;
        }
        let netns = crate::netns::Netns::new().unwrap();
        netns.ip("link add left type veth peer name right").unwrap();
        let kind = netns.run(|| device_kind("left")).unwrap();
        assert_eq!(kind.as_deref(), Some("veth"));
    }

    #[test]
    fn folders_are_told_with_their_files() {
        let scratch = rig::Scratch::new("pins");
        for folder in ["pins/two", "pins/one"] {
            fs::create_dir_all(scratch.path(folder)).unwrap();
        }
        for file in ["pins/two/rules", "pins/two/ingress", "pins/alone"] {
            fs::write(scratch.path(file), "").unwrap();
        }
        let files = ["pins/two/ingress", "pins/two/rules"].map(|file| scratch.path(file));
        let wanted = [("one".to_owned(), vec![]), ("two".to_owned(), files.to_vec())];
        assert_eq!(folders_in(&scratch.path("pins")), wanted);
        assert!(folders_in(&scratch.path("none")).is_empty());
    }
}
