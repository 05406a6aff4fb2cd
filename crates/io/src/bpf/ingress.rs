//! A program at the ingress of interfaces (tcx).

use super::{NAME, NEEDS_RIGHT, PrefixMap, sys};
use crate::error::Error;
use filter::ebpf::Code;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// A program that looks at what arrives at interfaces, and reads one map of prefixes.
#[derive(Debug)]
pub struct IngressProgram {
    program: OwnedFd,
}

impl IngressProgram {
    /// Loads it; it runs nowhere yet.
    ///
    /// # Errors
    /// [`Error::System`] where the right is missing, or where the kernel refuses the program.
    pub fn load(code: &Code, prefixes: &PrefixMap) -> Result<IngressProgram, Error> {
        let code = code.encode(|_| prefixes.as_fd().as_raw_fd());
        let program = sys::load_program(sys::ProgramType::Classifier, NAME, &code, &mut []);
        let program = program.map_err(|source| Error::System {
            what: "load an eBPF program for the ingress of interfaces".into(),
            mend: match source.raw_os_error() {
                Some(libc::EPERM) => NEEDS_RIGHT,
                _ => "",
            },
            source,
        })?;
        Ok(IngressProgram { program })
    }

    /// Has it run at an interface, behind what runs there, until the descriptor is closed.
    ///
    /// # Errors
    /// [`Error::System`] if the interface is gone, or the kernel is older than 6.6.
    pub fn attach(&self, interface_index: i32) -> Result<OwnedFd, Error> {
        sys::attach_tcx(self.program.as_fd(), interface_index, false, sys::Place::Last).map_err(
            |source| Error::System {
                what: format!(
                    "attach an eBPF program to the ingress of interface {interface_index}"
                ),
                mend: match source.raw_os_error() {
                    Some(libc::EPERM) => NEEDS_RIGHT,
                    _ => "",
                },
                source,
            },
        )
    }
}
