//! What this process may do.
//!
//! Source: capabilities(7), proc_pid_status(5), proc_pid_limits(5), user_namespaces(7).

use crate::error::Error;
use std::fs;

/// A right that taps need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Interfaces, qdiscs, programs on interfaces.
    NetAdmin = 12,
    /// Packet sockets and raw ones.
    NetRaw = 13,
    /// Network namespaces.
    SysAdmin = 21,
    /// Programs and maps, since Linux 5.8.
    Bpf = 39,
}

/// What the calling thread may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// A bit for each capability that is in force.
    effective: u64,
    /// Whether this process is in the host's own user namespace. In another one, as in containers
    /// without privileges, its capabilities are not enough for programs in the kernel.
    pub is_of_host: bool,
}

impl Rights {
    /// Reads them.
    ///
    /// # Errors
    /// [`Error::System`] if /proc does not tell them.
    pub fn read() -> Result<Rights, Error> {
        const STATUS: &str = "/proc/thread-self/status";
        const USERS: &str = "/proc/thread-self/uid_map";
        let read = |path: &str| fs::read_to_string(path).map_err(|e| Error::system(path, e));
        let effective = effective(&read(STATUS)?).ok_or_else(|| {
            Error::system(STATUS, std::io::Error::other("it names no capabilities"))
        })?;
        Ok(Rights { effective, is_of_host: is_of_host(&read(USERS)?) })
    }

    /// Whether one is in force.
    pub fn has(self, capability: Capability) -> bool {
        self.effective >> (capability as u32) & 1 != 0
    }
}

impl Capability {
    /// All of them.
    pub const ALL: [Capability; 4] =
        [Capability::NetRaw, Capability::NetAdmin, Capability::Bpf, Capability::SysAdmin];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Capability::NetAdmin => "CAP_NET_ADMIN",
            Capability::NetRaw => "CAP_NET_RAW",
            Capability::SysAdmin => "CAP_SYS_ADMIN",
            Capability::Bpf => "CAP_BPF",
        }
    }
}

/// A bound that the calling process has, such as `Max open files`; `None` if it is not told, and
/// `u64::MAX` if there is none.
pub fn limit(name: &str) -> Option<u64> {
    soft_limit(&fs::read_to_string("/proc/self/limits").ok()?, name)
}

fn soft_limit(limits: &str, name: &str) -> Option<u64> {
    let rest = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match rest.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

fn effective(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

/// Whether all users are themselves.
fn is_of_host(map: &str) -> bool {
    let words: Vec<&str> = map.split_ascii_whitespace().collect();
    words == ["0", "0", "4294967295"]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_and_limits_are_read() {
        let status = "Name:\tx\nCapPrm:\t0\nCapEff:\t0000008000003000\nCapBnd:\t0\n";
        let rights = Rights { effective: effective(status).unwrap(), is_of_host: true };
        let has = Capability::ALL.map(|capability| rights.has(capability));
        assert_eq!(has, [true, true, true, false]);
        assert_eq!(effective("CapEff:\tx"), None);
        assert!(is_of_host("         0          0 4294967295\n"));
        assert!(!is_of_host("         0     100000      65536\n"));
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 524288               files\n\
                      Max locked memory         unlimited            unlimited            bytes\n";
        assert_eq!(soft_limit(limits, "Max open files"), Some(1024));
        assert_eq!(soft_limit(limits, "Max locked memory"), Some(u64::MAX));
        assert_eq!(soft_limit(limits, "Max wishes"), None);
        assert!(Rights::read().is_ok() && limit("Max open files").is_some());
    }
}
