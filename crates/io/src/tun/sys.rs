//! ioctls of `/dev/net/tun`.
//!
//! Source: Linux `include/uapi/linux/if_tun.h`.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Makes a device of this name and kind (`IFF_…`); a name that ends in `%d` gets a free number. Gives
/// its name.
pub(super) fn attach(file: &File, name: &str, flags: libc::c_int) -> io::Result<String> {
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
        0 => {
            let name = request.ifr_name.iter().take_while(|byte| **byte != 0);
            let name = name.map(|byte| byte.cast_unsigned()).collect();
            Ok(String::from_utf8(name).expect("it is the name that was given, and a number"))
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has a TAP device let nothing through to its file.
pub(super) fn refuse_all(file: &File) -> io::Result<()> {
    // `ret #0`
    let mut code = [libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 }];
    let program = libc::sock_fprog { len: 1, filter: code.as_mut_ptr() };
    // SAFETY: the program and its one instruction outlive the call, which copies them.
    match unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNATTACHFILTER as _, &program) } {
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
