//! ioctls of `/dev/net/tun`.
//!
//! Source: Linux `include/uapi/linux/if_tun.h`.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Makes a device of this name and kind (`IFF_…`).
pub(super) fn attach(file: &File, name: &str, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: an all-zero ifreq is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= libc::IFNAMSIZ {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (slot, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *slot = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags = flags as i16;
    // SAFETY: the request holds a name that ends in a NUL; the kernel writes inside it.
    match unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &mut request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets the hardware type of a device that is down.
pub(super) fn set_hardware(file: &File, hardware: u16) -> io::Result<()> {
    // SAFETY: the argument is a number.
    match unsafe {
        libc::ioctl(file.as_raw_fd(), libc::TUNSETLINK as _, libc::c_long::from(hardware))
    } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
