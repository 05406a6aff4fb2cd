//! A socket for whole IP packets of our own, and a BPF file system.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{FromRawFd, OwnedFd};

/// Sends IP packets with their headers (raw(7), `IPPROTO_RAW`); takes none in.
#[derive(Debug)]
pub(super) struct RawSocket(UdpSocket);

impl RawSocket {
    /// Opens one for a version of IP.
    pub(super) fn open(is_v6: bool) -> io::Result<RawSocket> {
        let family = if is_v6 { libc::AF_INET6 } else { libc::AF_INET };
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointer is passed.
        let socket = unsafe { libc::socket(family, kind, libc::IPPROTO_RAW) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor, and nothing else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        // What it sends to is an address, as of a UDP socket.
        Ok(RawSocket(socket.into()))
    }

    /// Sends a packet on its way to an address.
    pub(super) fn send(&self, packet: &[u8], to: IpAddr) -> io::Result<()> {
        self.0.send_to(packet, SocketAddr::new(to, 0)).map(|_| ())
    }
}

/// Whether a folder is of a BPF file system.
pub(super) fn is_bpf_fs(folder: &CStr) -> io::Result<bool> {
    // SAFETY: an all-zero statfs is valid.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends in a NUL; the kernel writes inside `found`.
    match unsafe { libc::statfs(folder.as_ptr(), &mut found) } {
        0 => Ok(found.f_type == libc::BPF_FS_MAGIC),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Mounts one on a folder, for root alone.
pub(super) fn mount_bpf_fs(folder: &CStr) -> io::Result<()> {
    let (name, options) = (c"bpf".as_ptr(), c"mode=0700".as_ptr());
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    // SAFETY: all four are texts that end in a NUL, and the kernel only reads them.
    match unsafe { libc::mount(name, folder.as_ptr(), name, flags, options.cast()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
