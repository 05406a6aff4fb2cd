//! System calls that tell of the host.
//!
//! Source: adjtimex(2).

#![allow(unsafe_code)]

use std::io;

/// The state of the host's clock; nothing of it is set.
pub(super) fn clock_state() -> io::Result<libc::timex> {
    // SAFETY: an all-zero `timex` is valid; its `modes` of 0 say that nothing is to be set.
    let mut time: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a `timex`, which the kernel fills.
    match unsafe { libc::adjtimex(&mut time) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(time),
    }
}
