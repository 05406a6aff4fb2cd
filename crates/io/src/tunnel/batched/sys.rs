//! A packet socket that sends frames with virtio-net headers, many a call.
//!
//! Source: packet(7), sendmmsg(2).

#![allow(unsafe_code)]

use super::{FRONT_BYTES_MAX, Run};
use crate::sys::set_option;
use crate::tunnel::sys::{MESSAGES, buffer};
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use wire::udp;

/// Pieces of a call: the headers in front of each message, and two of each datagram.
const PIECES: usize = 3 * MESSAGES;

/// A socket that sends frames and receives none.
pub(super) struct FrameSocket {
    socket: OwnedFd,
}

impl FrameSocket {
    pub(super) fn open(buffer_bytes: usize) -> io::Result<FrameSocket> {
        // Of protocol 0 it is given no packet.
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: plain call; the result is checked.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nothing else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        set_option(socket.as_fd(), libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1i32)?;
        buffer(socket.as_fd(), libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, buffer_bytes)?;
        Ok(FrameSocket { socket })
    }

    /// Sends a message for each run: its front, then its datagrams without their UDP headers. Does
    /// not wait. Returns how many messages from the front went out; an error is about the first.
    pub(super) fn send(
        &self,
        interface: i32,
        ethertype: u16,
        fronts: &[[u8; FRONT_BYTES_MAX]],
        runs: &[Run],
        datagrams: &[(&[u8], &[u8])],
    ) -> io::Result<usize> {
        // SAFETY: an all-zero address is valid.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = ethertype.to_be();
        address.sll_ifindex = interface;
        // SAFETY: all-zero vectors and messages are valid.
        let mut vectors: [libc::iovec; PIECES] = unsafe { zeroed() };
        // SAFETY: as above.
        let mut messages: [libc::mmsghdr; MESSAGES] = unsafe { zeroed() };
        let mut pieces = 0;
        let mut add = |bytes: &[u8]| {
            vectors[pieces].iov_base = bytes.as_ptr().cast_mut().cast();
            vectors[pieces].iov_len = bytes.len();
            pieces += 1;
        };
        for (front, run) in fronts.iter().zip(runs) {
            add(&front[..run.front_len]);
            for (header, payload) in &datagrams[run.first..run.first + run.count] {
                add(&header[udp::HEADER_LEN..]);
                add(payload);
            }
        }
        let (mut left, address) = (&mut vectors[..], std::ptr::from_mut(&mut address));
        for (run, message) in runs.iter().zip(&mut messages) {
            let (own, others) = left.split_at_mut(1 + 2 * run.count);
            left = others;
            let header = &mut message.msg_hdr;
            header.msg_name = address.cast();
            header.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            header.msg_iov = own.as_mut_ptr();
            header.msg_iovlen = own.len();
        }
        let count = runs.len().min(fronts.len()).min(MESSAGES);
        // SAFETY: every pointer of the first `count` messages is to live memory of the stated
        // length, which sendmmsg only reads.
        let sent = unsafe {
            libc::sendmmsg(
                self.socket.as_raw_fd(),
                messages.as_mut_ptr(),
                count as u32,
                libc::MSG_DONTWAIT,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
    }
}
