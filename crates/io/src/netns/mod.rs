//! Network namespaces that leave nothing behind.
//!
//! A [`Netns`] has no name in the file system: when its last descriptor and its last process are
//! gone, the kernel removes it with all its interfaces, even after `kill -9`.

mod find;
mod sys;

use crate::error::Error;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::process::{Command, Output};
use std::thread::JoinHandle;

/// A network namespace, alive as long as this value or a process inside.
#[derive(Debug)]
pub struct Netns {
    file: File,
}

impl Netns {
    /// Makes an empty namespace, with its loopback interface up.
    ///
    /// # Errors
    /// [`Error::System`] without CAP_SYS_ADMIN, or where `ip` (iproute2) is missing.
    pub fn new() -> Result<Netns, Error> {
        let namespace = Netns::empty()?;
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Makes a namespace in which nothing is up.
    ///
    /// # Errors
    /// [`Error::System`] without CAP_SYS_ADMIN.
    pub fn empty() -> Result<Netns, Error> {
        let open = || {
            sys::unshare()?;
            File::open("/proc/thread-self/ns/net")
        };
        let file = std::thread::scope(|scope| scope.spawn(open).join())
            .expect("the thread only makes system calls")
            .map_err(|source| Error::System {
                what: "make a network namespace".into(),
                source,
                mend: "; only root may (CAP_SYS_ADMIN)",
            })?;
        Ok(Netns { file })
    }

    /// The calling thread's namespace.
    ///
    /// # Errors
    /// [`Error::System`] if /proc is not there.
    pub fn current() -> Result<Netns, Error> {
        Netns::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// Opens the namespace that a file stands for, such as `/run/netns/NAME` or `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// [`Error::System`] if there is no such file. That it is none of a namespace shows when it is
    /// entered.
    pub fn open(path: &Path) -> Result<Netns, Error> {
        let file = File::open(path).map_err(|e| {
            Error::system(format!("open the network namespace {}", path.display()), e)
        })?;
        Ok(Netns { file })
    }

    /// Another hold on the same namespace.
    ///
    /// # Errors
    /// [`Error::System`] if the process has no descriptor left.
    pub fn hold(&self) -> Result<Netns, Error> {
        let file = self.file.try_clone();
        Ok(Netns { file: file.map_err(|e| Error::system("hold a network namespace", e))? })
    }

    /// Whether both are the same namespace.
    pub fn is(&self, other: &Netns) -> bool {
        use std::os::unix::fs::MetadataExt;
        let identity = |netns: &Netns| netns.file.metadata().map(|of| (of.dev(), of.ino())).ok();
        identity(self).is_some() && identity(self) == identity(other)
    }

    /// Runs a function on a thread of its own inside the namespace, and waits for it.
    ///
    /// Sockets that it makes stay in the namespace wherever they are used.
    ///
    /// # Errors
    /// [`Error::System`] if the namespace cannot be entered.
    ///
    /// # Panics
    /// If the function panics.
    pub fn run<R: Send>(&self, function: impl FnOnce() -> R + Send) -> Result<R, Error> {
        let inside = || sys::enter(&self.file).map(|()| function());
        let result = std::thread::scope(|scope| scope.spawn(inside).join());
        match result {
            Ok(result) => result.map_err(|source| Error::System {
                what: "enter a network namespace".into(),
                source,
                mend: "; only root may (CAP_SYS_ADMIN)",
            }),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Starts a thread of its own inside the namespace.
    ///
    /// # Errors
    /// [`Error::System`] if the system has no thread left. That the namespace cannot be entered
    /// shows as the thread's panic.
    ///
    /// # Panics
    /// The thread, if the namespace cannot be entered.
    pub fn spawn<R: Send + 'static>(
        &self,
        function: impl FnOnce() -> R + Send + 'static,
    ) -> Result<JoinHandle<R>, Error> {
        let what = "start a thread in a network namespace";
        let file = self.file.try_clone().map_err(|e| Error::system(what, e))?;
        std::thread::Builder::new()
            .spawn(move || {
                sys::enter(&file).expect("a namespace that was made can be entered");
                function()
            })
            .map_err(|e| Error::system(what, e))
    }

    /// A command that will run inside. It is killed when the thread that started it ends.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        sys::start_inside(&mut command, &self.file);
        command
    }

    /// Runs `ip` with these words inside; for example `link set eth0 up`.
    ///
    /// # Errors
    /// [`Error::System`] with what `ip` printed if it fails.
    pub fn ip(&self, words: &str) -> Result<String, Error> {
        let output = self.command("ip").args(words.split_whitespace()).output();
        succeeded(&format!("ip {words}"), output)
    }

    /// Joins two namespaces by a veth pair and brings both ends up.
    ///
    /// # Errors
    /// [`Error::System`] if a name is taken or `ip` is missing.
    pub fn join(&self, name: &str, other: &Netns, other_name: &str) -> Result<(), Error> {
        let path = format!("/proc/{}/fd/{}", std::process::id(), other.file.as_raw_fd());
        self.ip(&format!("link add name {name} type veth peer name {other_name} netns {path}"))?;
        self.ip(&format!("link set {name} up"))?;
        other.ip(&format!("link set {other_name} up"))?;
        Ok(())
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn succeeded(what: &str, output: std::io::Result<Output>) -> Result<String, Error> {
    let output = output.map_err(|source| Error::System {
        what: what.into(),
        source,
        mend: "; install iproute2",
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
    Err(Error::System { what: what.into(), source: std::io::Error::other(said), mend: "" })
}
