//! A packet socket for a question and its answers.
//!
//! Source: packet(7).

#![allow(unsafe_code)]

use crate::sys::attach_classic;
use filter::Program;
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A packet socket on one interface, of the calling thread's network namespace.
pub(super) struct Socket(File);

impl Socket {
    /// Opens a socket that gets the frames of an EtherType that a filter lets through.
    pub fn open(interface: i32, ethertype: u16, wanted: &Program) -> io::Result<Socket> {
        // Of protocol 0 it gets nothing before the filter is there.
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: plain call; the result is checked.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nothing else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        attach_classic(socket.as_fd(), wanted)?;
        // SAFETY: an all-zero sockaddr_ll is valid.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = ethertype.to_be();
        address.sll_ifindex = interface;
        let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the pointer and the length describe `address`.
        let result =
            unsafe { libc::bind(socket.as_raw_fd(), std::ptr::from_ref(&address).cast(), len) };
        if result == 0 { Ok(Socket(socket.into())) } else { Err(io::Error::last_os_error()) }
    }

    /// Sends a frame. Does not wait.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // A socket that is bound takes write(2) for send(2).
        (&self.0).write(frame).map(drop)
    }

    /// Takes a frame, as much of it as there is room for. Does not wait.
    pub fn receive(&self, frame: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(frame)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
