//! Network namespaces of others: containers, `ip netns`.
//!
//! Source: ip-netns(8) for where names stand, network_namespaces(7), ioctl_ns(2).

use super::Netns;
use crate::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Where `ip netns` keeps the names.
const NAMES: &str = "/run/netns";

impl Netns {
    /// Opens the namespace that is meant by a name of `ip netns`, by the id of a process in it, or by a
    /// path such as `/proc/PID/ns/net`. It lives as long as this value.
    ///
    /// # Errors
    /// [`Error::System`] if there is none, or the right to enter it is missing (CAP_SYS_ADMIN).
    pub fn find(text: &str) -> Result<Netns, Error> {
        let path = place(text);
        let failed = |source: std::io::Error| Error::System {
            what: format!("network namespace `{text}`: open {}", path.display()),
            mend: match source.raw_os_error() {
                Some(libc::ENOENT) => {
                    "; write a name that `ip netns` lists, the id of a process in it, or a path"
                }
                Some(libc::EACCES | libc::EPERM) => "; only root may (CAP_SYS_ADMIN)",
                Some(libc::EINVAL) => "; it is no network namespace",
                _ => "",
            },
            source,
        };
        let netns = Netns { file: File::open(&path).map_err(failed)? };
        match netns.run(|| ()) {
            Ok(()) => Ok(netns),
            Err(Error::System { source, .. }) => Err(failed(source)),
            Err(error) => Err(error),
        }
    }
}

fn place(text: &str) -> PathBuf {
    match text {
        _ if text.contains('/') => text.into(),
        _ if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Path::new("/proc").join(text).join("ns/net")
        }
        _ => Path::new(NAMES).join(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_an_id_and_a_path_have_their_places() {
        assert_eq!(place("web"), Path::new("/run/netns/web"));
        assert_eq!(place("4711"), Path::new("/proc/4711/ns/net"));
        assert_eq!(place("/proc/1/ns/net"), Path::new("/proc/1/ns/net"));
        assert_eq!(place("./x"), Path::new("./x"));
    }

    #[test]
    fn what_is_no_namespace_is_told() {
        for (text, part) in
            [("no-such-name", "`ip netns` lists"), ("/proc/self/stat", "no network namespace")]
        {
            let error = Netns::find(text).err().unwrap().to_string();
            // Who is not root may not try whether it is one.
            assert!(error.contains(part) || error.contains("only root"), "{error}");
        }
    }

    #[test]
    fn a_process_leads_to_its_namespace() {
        if !rig::root_or_skip() {
            return;
        }
        let other = Netns::new().unwrap();
        let mut child = other.command("sleep").arg("60").spawn().unwrap();
        let found = Netns::find(&child.id().to_string()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.is(&other) && !found.is(&Netns::current().unwrap()));
    }
}
