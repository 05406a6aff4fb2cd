//! Tunnel sockets: many datagrams a call.
//!
//! Source: socket(7), udp(7), raw(7), ip(7), ipv6(7), recvmmsg(2), sendmmsg(2);
//! `include/uapi/linux/sock_diag.h` for the counters of `SO_MEMINFO`.

#![allow(unsafe_code)]

use crate::pool::Data;
use crate::sys::{connect, from_raw, get_words, netns_cookie, set_option};
use api::{Oversize, Sending};
use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use wire::tunnel::Carrier;

/// Datagrams of one system call.
pub(super) const MESSAGES: usize = 64;
/// Counters of `SO_MEMINFO`, and the place of the drops among them.
const MEMINFO_WORDS: usize = 9;
const MEMINFO_DROPS: usize = 8;
/// Room for one control message with a timestamp.
const CONTROL_BYTES: usize = 64;

/// A socket that receives tunnel packets: UDP, or raw for tunnels with an IP protocol of their own.
/// A raw IPv4 socket delivers the IP header too.
pub(super) struct ListenSocket {
    socket: OwnedFd,
    is_raw: bool,
}

/// One received datagram.
#[derive(Debug, Clone, Copy)]
pub(super) struct Datagram {
    pub len: usize,
    pub source: IpAddr,
    /// The kernel's time of arrival.
    pub ts_ns: u64,
}

impl ListenSocket {
    pub(super) fn bind(local: SocketAddr, carrier: Carrier) -> io::Result<ListenSocket> {
        let (is_raw, socket) = match carrier {
            Carrier::Udp { .. } => (false, open(local, libc::SOCK_DGRAM, 0)?),
            Carrier::Ip { protocol } => (true, open(local, libc::SOCK_RAW, protocol.into())?),
        };
        let fd = socket.as_fd();
        set_option(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &1i32)?;
        if local.is_ipv6() && !is_raw {
            // Senders of tunnels may leave the UDP checksum out over IPv6 too (RFC 6935).
            set_option(fd, libc::SOL_UDP, libc::UDP_NO_CHECK6_RX, &1i32)?;
        }
        crate::sys::bind(fd, local)?;
        Ok(ListenSocket { socket, is_raw })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn local(&self) -> io::Result<SocketAddr> {
        // SAFETY: an all-zero sockaddr_storage is valid.
        let mut address: libc::sockaddr_storage = unsafe { zeroed() };
        let mut len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        // SAFETY: the pointers describe `address` and its length.
        let result = unsafe {
            libc::getsockname(
                self.socket.as_raw_fd(),
                std::ptr::from_mut(&mut address).cast(),
                &mut len,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        from_raw(&address).ok_or_else(|| io::Error::other("the socket has no IP address"))
    }

    /// Sets the receive buffer; returns the bytes that the kernel granted.
    pub(super) fn set_buffer(&self, bytes: usize) -> io::Result<usize> {
        buffer(self.fd(), libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, bytes)
    }

    /// Lets nothing more in: the socket then takes packets of one peer only, and there is none. What
    /// a filter rejects counts as dropped at a UDP socket, but not at a raw one.
    pub(super) fn shut(&self) -> io::Result<()> {
        if self.is_raw {
            return crate::sys::reject_all(self.fd());
        }
        let nobody = match self.local()? {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 9)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::LOCALHOST, 9)),
        };
        // Without a route to this host itself only the filter is left; the kernel then counts what
        // comes later as dropped at this socket, and so do we.
        connect(self.fd(), nobody).or_else(|_| crate::sys::reject_all(self.fd()))
    }

    /// Packets that the kernel dropped at this socket, modulo 2³².
    pub(super) fn dropped(&self) -> io::Result<u32> {
        let mut words = [0u32; MEMINFO_WORDS];
        match get_words(self.fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, &mut words)? {
            n if n > MEMINFO_DROPS => Ok(words[MEMINFO_DROPS]),
            n => Err(io::Error::other(format!("SO_MEMINFO gave {n} words"))),
        }
    }

    /// Receives datagrams that are ready, one into each buffer, without waiting.
    ///
    /// Returns how many, with what is known of each in `datagrams`; 0 if none is ready.
    pub(super) fn receive(
        &self,
        buffers: &mut [Data],
        datagrams: &mut [Datagram; MESSAGES],
    ) -> io::Result<usize> {
        let count = buffers.len().min(MESSAGES);
        // SAFETY: all-zero addresses, messages and vectors are valid.
        let mut addresses: [libc::sockaddr_storage; MESSAGES] = unsafe { zeroed() };
        let mut controls = [MaybeUninit::<ControlBuffer>::uninit(); MESSAGES];
        // SAFETY: as above.
        let mut vectors: [libc::iovec; MESSAGES] = unsafe { zeroed() };
        // SAFETY: as above.
        let mut messages: [libc::mmsghdr; MESSAGES] = unsafe { zeroed() };
        for i in 0..count {
            vectors[i].iov_base = buffers[i].as_mut_ptr().cast();
            vectors[i].iov_len = buffers[i].len();
            let header = &mut messages[i].msg_hdr;
            header.msg_name = std::ptr::from_mut(&mut addresses[i]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_iov = &mut vectors[i];
            header.msg_iovlen = 1;
            header.msg_control = controls[i].as_mut_ptr().cast();
            header.msg_controllen = CONTROL_BYTES;
        }
        // SAFETY: every pointer of the first `count` messages is to live memory of the stated length.
        let received = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                messages.as_mut_ptr(),
                count as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        if received < 0 {
            return match io::Error::last_os_error() {
                error if would_wait(&error) => Ok(0),
                error => Err(error),
            };
        }
        let received = received as usize;
        for (i, datagram) in datagrams.iter_mut().enumerate().take(received) {
            let source = from_raw(&addresses[i]).map_or(Ipv4Addr::UNSPECIFIED.into(), |a| a.ip());
            *datagram = Datagram {
                len: messages[i].msg_len as usize,
                source: source.to_canonical(),
                // SAFETY: the kernel has filled in this message's control buffer.
                ts_ns: unsafe { timestamp(&messages[i].msg_hdr) }.unwrap_or_else(crate::now_ns),
            };
        }
        Ok(received)
    }
}

impl Datagram {
    pub(super) const EMPTY: Datagram =
        Datagram { len: 0, source: IpAddr::V4(Ipv4Addr::UNSPECIFIED), ts_ns: 0 };
}

#[derive(Clone, Copy)]
#[repr(align(8))]
struct ControlBuffer(
    #[expect(dead_code, reason = "written and read by pointer")] [u8; CONTROL_BYTES],
);

/// Finds the `SCM_TIMESTAMPNS` control message.
///
/// # Safety
/// The header's control pointer and length must be as recvmmsg left them.
unsafe fn timestamp(header: &libc::msghdr) -> Option<u64> {
    // SAFETY: promised by the caller; CMSG_NXTHDR stays inside msg_controllen.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            if (*message).cmsg_level == libc::SOL_SOCKET
                && (*message).cmsg_type == libc::SCM_TIMESTAMPNS
            {
                let time = libc::CMSG_DATA(message).cast::<libc::timespec>().read_unaligned();
                let ns = i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
                return u64::try_from(ns).ok();
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    None
}

/// A raw socket that sends what follows the IP header: whole UDP datagrams, so that each has a source
/// port of its own, or the packets of a tunnel with an IP protocol of its own.
pub(super) struct SendSocket {
    socket: OwnedFd,
}

/// What the kernel says of an earlier packet (`struct sock_extended_err`).
#[derive(Debug, Clone, Copy)]
pub(super) struct LateError {
    /// The error number.
    pub errno: i32,
    /// An ICMP message told of it, from this host or from another; else the call itself did.
    pub by_icmp: bool,
}

impl SendSocket {
    /// Opens the socket for one far end, so that it hears of no other's errors; from an address of this
    /// host if one is given.
    pub(super) fn open(
        remote: SocketAddr,
        source: Option<IpAddr>,
        carrier: Carrier,
        sending: Sending,
    ) -> io::Result<SendSocket> {
        let protocol = match carrier {
            Carrier::Udp { .. } => libc::IPPROTO_UDP,
            Carrier::Ip { protocol } => protocol.into(),
        };
        let socket = open(remote, libc::SOCK_RAW, protocol)?;
        let fd = socket.as_fd();
        // It would otherwise get a copy of every UDP packet of the host.
        crate::sys::reject_all(fd)?;
        // Without it the kernel does not tell of packets that the device's queue refused.
        let (level, name) = match remote {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_RECVERR),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
        };
        set_option(fd, level, name, &1i32)?;
        let discover = match sending.oversize {
            Oversize::Auto | Oversize::Fragment => libc::IP_PMTUDISC_DONT,
            Oversize::Cut | Oversize::Drop => libc::IP_PMTUDISC_DO,
        };
        let class = i32::from(sending.dscp) << 2;
        match remote {
            SocketAddr::V4(_) => {
                set_option(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, &discover)?;
                set_option(fd, libc::IPPROTO_IP, libc::IP_TOS, &class)?;
            }
            SocketAddr::V6(_) => {
                set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, &discover)?;
                set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &class)?;
                if protocol == libc::IPPROTO_UDP {
                    // The UDP checksum, which IPv6 needs, stands 6 bytes into the datagram.
                    set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_CHECKSUM, &6i32)?;
                }
            }
        }
        if let Some(source) = source {
            crate::sys::bind(fd, (source, 0).into())?;
        }
        // The port of a raw socket's peer means a protocol to the kernel: it must be 0.
        let peer = match remote {
            SocketAddr::V4(v4) => SocketAddr::from((*v4.ip(), 0)),
            SocketAddr::V6(v6) => SocketAddrV6::new(*v6.ip(), 0, 0, v6.scope_id()).into(),
        };
        connect(fd, peer)?;
        Ok(SendSocket { socket })
    }

    /// Whether another socket is of the same network namespace; `true` where nobody knows.
    pub(super) fn is_at_home_with(&self, other: &SendSocket) -> bool {
        netns_cookie(self.socket.as_fd()) == netns_cookie(other.socket.as_fd())
    }

    /// Sets the send buffer; returns the bytes that the kernel granted.
    pub(super) fn set_buffer(&self, bytes: usize) -> io::Result<usize> {
        buffer(self.socket.as_fd(), libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, bytes)
    }

    /// Sends header and payload of each pair as one datagram, without waiting.
    ///
    /// Returns how many from the front went out. An error is about the first one that did not.
    pub(super) fn send(&self, datagrams: &[(&[u8], &[u8])]) -> io::Result<usize> {
        let count = datagrams.len().min(MESSAGES);
        // SAFETY: all-zero messages and vectors are valid.
        let mut vectors: [[libc::iovec; 2]; MESSAGES] = unsafe { zeroed() };
        // SAFETY: as above.
        let mut messages: [libc::mmsghdr; MESSAGES] = unsafe { zeroed() };
        for (i, (header, payload)) in datagrams.iter().enumerate().take(count) {
            for (vector, bytes) in vectors[i].iter_mut().zip([header, payload]) {
                vector.iov_base = bytes.as_ptr().cast_mut().cast();
                vector.iov_len = bytes.len();
            }
            let message = &mut messages[i].msg_hdr;
            message.msg_iov = vectors[i].as_mut_ptr();
            message.msg_iovlen = 2;
        }
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

    /// Whether the send buffer has room: a raw socket whose buffer is full says `ENOBUFS`, as it
    /// does when the device's queue is full (`__ip_append_data` in `net/ipv4/ip_output.c`).
    pub(super) fn has_room(&self) -> bool {
        let mut set =
            libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
        // SAFETY: one valid entry; the call does not wait.
        unsafe { libc::poll(&mut set, 1, 0) > 0 && set.revents & libc::POLLOUT != 0 }
    }

    /// Takes the next entry of the socket's error queue, if there is one.
    pub(super) fn late_error(&self) -> Option<LateError> {
        let mut control = MaybeUninit::<ErrorBuffer>::uninit();
        // SAFETY: an all-zero message is valid.
        let mut header: libc::msghdr = unsafe { zeroed() };
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of::<ErrorBuffer>();
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: the control pointer is to live memory of the stated length; no data is asked for.
        if unsafe { libc::recvmsg(self.socket.as_raw_fd(), &mut header, flags) } < 0 {
            return None;
        }
        let kinds = [(libc::SOL_IP, libc::IP_RECVERR), (libc::SOL_IPV6, libc::IPV6_RECVERR)];
        // SAFETY: the kernel has filled in the control buffer; CMSG_NXTHDR stays inside it.
        unsafe {
            let mut message = libc::CMSG_FIRSTHDR(&header);
            while !message.is_null() {
                if kinds.contains(&((*message).cmsg_level, (*message).cmsg_type)) {
                    let data = libc::CMSG_DATA(message).cast::<libc::sock_extended_err>();
                    let error = data.read_unaligned();
                    let icmp = [libc::SO_EE_ORIGIN_ICMP, libc::SO_EE_ORIGIN_ICMP6];
                    let by_icmp = icmp.contains(&error.ee_origin);
                    return Some(LateError { errno: error.ee_errno as i32, by_icmp });
                }
                message = libc::CMSG_NXTHDR(&header, message);
            }
        }
        Some(LateError { errno: 0, by_icmp: false })
    }
}

/// Room for the extended error and the offender's address.
#[derive(Clone, Copy)]
#[repr(align(8))]
struct ErrorBuffer(#[expect(dead_code, reason = "written and read by pointer")] [u8; 512]);

/// Whether the call would have had to wait.
pub(super) fn would_wait(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn open(of_family: SocketAddr, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    let family = if of_family.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: plain call; the result is checked.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets a buffer's size: beyond the host's limit where that is allowed, else up to it.
pub(super) fn buffer(
    socket: BorrowedFd<'_>,
    force: i32,
    plain: i32,
    bytes: usize,
) -> io::Result<usize> {
    let wanted = i32::try_from(bytes / 2).unwrap_or(i32::MAX / 2); // the kernel doubles it
    if set_option(socket, libc::SOL_SOCKET, force, &wanted).is_err() {
        set_option(socket, libc::SOL_SOCKET, plain, &wanted)?;
    }
    let mut granted = [0u32; 1];
    get_words(socket, libc::SOL_SOCKET, plain, &mut granted)?;
    Ok(granted[0] as usize)
}
