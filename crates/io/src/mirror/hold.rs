//! Programs on interfaces: by tcx, or by clsact where the kernel has no tcx.

use crate::bpf::{Classifier, ClsactFilter, Link, Way};
use crate::error::Error;
use crate::netns::Netns;

/// How programs are put on interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AttachBy {
    /// By tcx if the kernel has it (Linux 6.6), else by clsact.
    #[default]
    Auto,
    /// By tcx: gone with the process.
    Tcx,
    /// By filters of the clsact queueing discipline, which a killed process leaves behind.
    Clsact,
}

/// A program's hold on an interface; dropped, the program is gone from there.
#[derive(Debug)]
pub(super) enum Hold {
    Tcx(Link),
    Clsact(ClsactFilter),
}

impl AttachBy {
    /// Puts a program on an interface of a network namespace, nearest to the wire: what takes packets away
    /// there takes them from the host, not from us. `Auto` becomes what the kernel has.
    pub(super) fn attach(
        &mut self,
        program: &Classifier,
        netns: &Netns,
        interface: i32,
        way: Way,
    ) -> Result<Hold, Error> {
        netns.run(|| {
            if *self != AttachBy::Clsact {
                match program.attach_at_wire(interface, way) {
                    Err(Error::System { source, .. })
                        if *self == AttachBy::Auto
                            && source.raw_os_error() == Some(libc::EINVAL) =>
                    {
                        tracing::debug!("no tcx here: {source}");
                        *self = AttachBy::Clsact;
                    }
                    result => {
                        if result.is_ok() {
                            *self = AttachBy::Tcx;
                        }
                        return result.map(Hold::Tcx);
                    }
                }
            }
            ClsactFilter::attach(program, interface, way).map(Hold::Clsact)
        })?
    }
}

impl Hold {
    /// Puts another program in the place of the one that runs; no packet passes between.
    pub fn replace(&mut self, program: &Classifier) -> Result<(), Error> {
        match self {
            Hold::Tcx(link) => link.replace(program),
            Hold::Clsact(filter) => filter.replace(program),
        }
    }
}
