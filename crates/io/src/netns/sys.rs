//! Network namespaces without a name: they live as long as a descriptor or a process of theirs.
//!
//! Source: network_namespaces(7), setns(2), unshare(2), prctl(2).

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Moves the calling thread into a network namespace of its own.
pub(super) fn unshare() -> io::Result<()> {
    // SAFETY: changes only which network namespace this thread sees.
    checked(unsafe { libc::unshare(libc::CLONE_NEWNET) })
}

/// Moves the calling thread into a network namespace.
pub(super) fn enter(namespace: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open; changes only which namespace this thread sees.
    checked(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })
}

/// Has a command start inside a namespace, and be killed when the thread that started it ends.
pub(super) fn start_inside(command: &mut Command, namespace: &File) {
    let fd = namespace.as_raw_fd();
    // SAFETY: between fork and exec only async-signal-safe calls are made; the descriptor is open
    // until the command has started, as the caller holds the namespace.
    unsafe {
        command.pre_exec(move || {
            checked(libc::setns(fd, libc::CLONE_NEWNET))?;
            checked(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))
        });
    }
}

fn checked(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
