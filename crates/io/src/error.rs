//! What can go wrong between tapline and the kernel, a file or a peer.

/// An operation that the system refused, and how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a call.
    #[error("{what}: {source}{mend}")]
    System {
        /// What was tried, on what.
        what: String,
        /// The kernel's answer.
        source: std::io::Error,
        /// "; " and the mend, or empty.
        mend: &'static str,
    },
    /// No interface has this name.
    #[error("there is no interface `{name}`; there are: {}", .present.join(", "))]
    NoInterface {
        /// The name that was asked for.
        name: String,
        /// The interfaces of this network namespace.
        present: Vec<String>,
    },
    /// The interface's frames are of a kind that tapline does not read.
    #[error(
        "interface `{name}` has hardware type {hardware} (ARPHRD), which cannot be tapped yet; Ethernet, loopback, TUN and IP tunnels can"
    )]
    HardwareType {
        /// The interface.
        name: String,
        /// Its ARPHRD number.
        hardware: u16,
    },
    /// The interface takes no Ethernet frames.
    #[error(
        "interface `{name}` has hardware type {hardware} (ARPHRD): no Ethernet frames can be sent through it; name an Ethernet interface, or write tap:NAME for a new one"
    )]
    NotEthernet {
        /// The interface.
        name: String,
        /// Its ARPHRD number.
        hardware: u16,
    },
    /// The kernel had no memory for a ring.
    #[error(
        "interface `{name}`: no memory for a ring of {kib} KiB: {source}; give a smaller one (-B SIZE), or leave -B out to take what there is"
    )]
    RingMemory {
        /// The interface.
        name: String,
        /// The size that was refused.
        kib: usize,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The kernel refused the capture filter of a ring, which could run in user space as well.
    #[error("interface `{name}`: {source}")]
    KernelFilter {
        /// The interface.
        name: String,
        /// What was refused.
        source: Box<Error>,
    },
    /// No program for the kernel could be made.
    #[error("{what}: {source}")]
    Program {
        /// What it was to do.
        what: String,
        /// What stands in the way.
        source: Box<filter::ebpf::Error>,
    },
    /// What ran has ended by itself; it was logged when it happened.
    #[error("{what}: {why}")]
    Ended {
        /// What ran.
        what: String,
        /// Why it ended.
        why: String,
    },
    /// A capture file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: Box<capfile::Error>,
    },
}

impl Error {
    /// Wraps the kernel's answer, with the mend if it is a missing right.
    pub(crate) fn system(what: impl Into<String>, source: std::io::Error) -> Error {
        let mend = match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                "; run it as root, or give it the rights: setcap cap_net_raw,cap_net_admin+ep $(command -v tapline)"
            }
            _ => "",
        };
        Error::System { what: what.into(), source, mend }
    }
}
