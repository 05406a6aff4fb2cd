//! Programs on the packets that pass interfaces (tcx), and the links that hold them there.

use super::{NAME, NEEDS_RIGHT, refused, sys};
use crate::error::Error;
use filter::ebpf::Code;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// Which of an interface's packets a program sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// Those that come in.
    Ingress,
    /// Those that go out, before the interface's queue.
    Egress,
}

/// A program for packets that pass interfaces, loaded. It runs where it is attached.
#[derive(Debug)]
pub struct Classifier {
    program: OwnedFd,
}

/// A program's hold on an interface; without descriptor and pin it is gone.
#[derive(Debug)]
pub struct Link {
    link: OwnedFd,
}

/// A run over one packet, as the kernel would see it.
#[derive(Debug, Clone, Copy, Default)]
pub struct TestRunOptions {
    /// Payload bytes in a segment of a super-packet; 0: it is none.
    pub gso_size: u32,
    /// How many segments it has; 0: not said.
    pub gso_segs: u32,
    /// The interface that it came by; 0: loopback.
    pub ifindex: u32,
    /// How often to run; 0 is once.
    pub repeat: u32,
}

/// What a run gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestRun {
    /// The program's return value: -1 for the next program, 0 pass, 2 drop, 7 redirect.
    pub value: i32,
    /// The packet afterwards.
    pub packet: Vec<u8>,
    /// The mean time of a run.
    pub mean: Duration,
}

/// Room for a packet that a program has made longer.
const GROWTH: usize = 512;

impl Classifier {
    /// Loads a program; `maps` are what its [`MapRef`](filter::ebpf::MapRef)s number.
    ///
    /// # Errors
    /// [`Error::System`] where the right is missing, or where the kernel refuses the program; the
    /// message then ends in the verifier's last lines.
    ///
    /// # Panics
    /// If the program has more maps than these.
    pub fn load(what: &str, code: &Code, maps: &[BorrowedFd<'_>]) -> Result<Classifier, Error> {
        let code = code.encode(|map| maps[map.0].as_raw_fd());
        let kind = sys::ProgramType::Classifier;
        let program = sys::load_program(kind, NAME, &code, &mut [])
            .map_err(|e| refused(&format!("load the eBPF program {what}"), kind, &code, e))?;
        Ok(Classifier { program })
    }

    /// Has it run on an interface of the calling thread's network namespace, behind what runs there.
    ///
    /// # Errors
    /// [`Error::System`] if the interface is gone, or the kernel is older than 6.6.
    pub fn attach(&self, interface_index: i32, way: Way) -> Result<Link, Error> {
        self.attach_at(interface_index, way, sys::Place::Last)
    }

    /// The same nearest to the wire: in front of what runs there at the ingress, behind it at the egress.
    ///
    /// # Errors
    /// As of [`Self::attach`].
    pub fn attach_at_wire(&self, interface_index: i32, way: Way) -> Result<Link, Error> {
        let place = match way {
            Way::Ingress => sys::Place::First,
            Way::Egress => sys::Place::Last,
        };
        self.attach_at(interface_index, way, place)
    }

    fn attach_at(&self, interface_index: i32, way: Way, place: sys::Place) -> Result<Link, Error> {
        let is_egress = way == Way::Egress;
        let link = sys::attach_tcx(self.program.as_fd(), interface_index, is_egress, place);
        let link = link.map_err(|source| Error::System {
            what: format!(
                "attach an eBPF program to the {} of interface {interface_index}",
                way.name()
            ),
            mend: match source.raw_os_error() {
                Some(libc::EPERM) => NEEDS_RIGHT,
                Some(libc::EINVAL) => "; tcx needs Linux 6.6",
                _ => "",
            },
            source,
        })?;
        Ok(Link { link })
    }

    /// Runs it over a packet of 14 bytes or more, received by an interface
    /// (`BPF_PROG_TEST_RUN`).
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses.
    pub fn test_run(&self, packet: &[u8], options: &TestRunOptions) -> Result<TestRun, Error> {
        let mut out = vec![0; packet.len() + GROWTH];
        let TestRunOptions { gso_size, gso_segs, ifindex, repeat } = *options;
        let context = sys::Context { gso_segs, gso_size, ifindex };
        let ran = sys::test_run(self.program.as_fd(), packet, context, repeat.max(1), &mut out);
        let ran = ran.map_err(|e| {
            Error::system(format!("run an eBPF program over a packet of {} bytes", packet.len()), e)
        })?;
        out.truncate(ran.out_bytes);
        let mean = Duration::from_nanos(ran.mean_ns.into());
        Ok(TestRun { value: ran.value.cast_signed(), packet: out, mean })
    }
}

impl AsFd for Classifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}

impl Link {
    /// A link that exists, such as one that was pinned.
    pub fn of(link: OwnedFd) -> Link {
        Link { link }
    }

    /// Puts another program in the place of the one that runs; no packet passes between.
    ///
    /// # Errors
    /// [`Error::System`] if the interface is gone.
    pub fn replace(&self, program: &Classifier) -> Result<(), Error> {
        sys::update_link(self.link.as_fd(), program.as_fd())
            .map_err(|e| Error::system("replace an eBPF program on an interface", e))
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}

impl Way {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Way::Ingress => "ingress",
            Way::Egress => "egress",
        }
    }
}

/// Gives a program, map or link a name in a BPF file system, by which it outlives this process.
///
/// # Errors
/// [`Error::System`] if the name is taken, or the folder is not of a BPF file system.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> Result<(), Error> {
    let what = || format!("pin {}", path.display());
    let name = c_path(path).map_err(|e| Error::system(what(), e))?;
    sys::pin(object, &name).map_err(|source| Error::System {
        what: what(),
        mend: match source.raw_os_error() {
            Some(libc::EINVAL | libc::EPERM) => {
                "; it must be in a BPF file system: mount -t bpf bpf /sys/fs/bpf"
            }
            _ => "",
        },
        source,
    })
}

/// Opens what was pinned; `None` if there is nothing of this name.
///
/// # Errors
/// [`Error::System`] if the kernel refuses.
pub fn pinned(path: &Path) -> Result<Option<OwnedFd>, Error> {
    let opened = c_path(path).and_then(|name| sys::pinned(&name));
    match opened {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(Error::system(format!("open the pinned {}", path.display()), error)),
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}
