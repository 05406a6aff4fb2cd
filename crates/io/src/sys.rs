//! System calls that more than one back end needs.

#![allow(unsafe_code)]

use std::io;
use std::mem::zeroed;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Descriptors that are waited for at once; a worker looks at all its sources in turn anyway.
const DESCRIPTORS: usize = 64;

/// Waits until one of the descriptors is readable or in error, or the time is over, or a signal
/// came. Returns whether the first one is.
pub(crate) fn poll_readable<'a>(
    descriptors: impl Iterator<Item = BorrowedFd<'a>>,
    timeout: Duration,
) -> io::Result<bool> {
    let mut set = [libc::pollfd { fd: -1, events: libc::POLLIN, revents: 0 }; DESCRIPTORS];
    let mut count: libc::nfds_t = 0;
    for (slot, descriptor) in set.iter_mut().zip(descriptors) {
        slot.fd = descriptor.as_raw_fd();
        count += 1;
    }
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the array holds at least `count` valid entries, and the descriptors are borrowed.
    let ready = unsafe { libc::poll(set.as_mut_ptr(), count, timeout_ms) };
    match ready {
        -1 => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            error => Err(error),
        },
        ready => Ok(ready > 0 && set[0].revents != 0),
    }
}

/// Nanoseconds by the clock that never steps (`CLOCK_MONOTONIC`).
pub(crate) fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec, which the call fills; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// How far `CLOCK_TAI` is ahead of UTC: whole seconds, ns.
pub(crate) fn tai_offset_ns() -> u64 {
    let read = |clock| {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is to a timespec, which the call fills; both clocks always exist.
        unsafe { libc::clock_gettime(clock, &mut time) };
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    };
    let (tai, utc) = (read(libc::CLOCK_TAI), read(libc::CLOCK_REALTIME));
    // Some time passes between the two; more than half a second of it would be seen a second later.
    let seconds = (tai.saturating_sub(utc) + 500_000_000) / 1_000_000_000;
    seconds * 1_000_000_000
}

/// A timer by `CLOCK_MONOTONIC`: a descriptor that is readable once its time has come.
#[derive(Debug)]
pub(crate) struct Timer(OwnedFd);

impl Timer {
    /// Makes a timer that is not set.
    pub fn new() -> io::Result<Timer> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: plain call; the result is checked.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nothing else owns.
        Ok(Timer(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Sets the timer to a moment, and forgets the one before. One that has passed is due at once.
    pub fn set(&self, at_monotonic_ns: u64) -> io::Result<()> {
        let at_ns = at_monotonic_ns.max(1); // 0 would switch it off
        let once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let value = libc::timespec {
            tv_sec: (at_ns / 1_000_000_000) as libc::time_t,
            tv_nsec: (at_ns % 1_000_000_000) as _,
        };
        let time = libc::itimerspec { it_interval: once, it_value: value };
        // SAFETY: the pointer is to an itimerspec, which is only read; the old value is not asked for.
        let result = unsafe {
            libc::timerfd_settime(
                self.0.as_raw_fd(),
                libc::TFD_TIMER_ABSTIME,
                &time,
                std::ptr::null_mut(),
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether somebody has the reading end of a pipe open, of which this is the writing one.
pub(crate) fn has_reader(pipe: BorrowedFd<'_>) -> bool {
    let mut one = libc::pollfd { fd: pipe.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: the pointer is to one valid entry, and the descriptor is borrowed.
    let ready = unsafe { libc::poll(&mut one, 1, 0) };
    ready <= 0 || one.revents & libc::POLLERR == 0
}

/// Has writes wait for room from now on (no `O_NONBLOCK`).
pub(crate) fn set_blocking(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: plain calls; the results are checked.
    let result = unsafe {
        match libc::fcntl(file.as_raw_fd(), libc::F_GETFL) {
            -1 => -1,
            flags => libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags & !libc::O_NONBLOCK),
        }
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets a socket option of a plain-data type.
pub(crate) fn set_option<T: Copy>(
    socket: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: &T,
) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which is plain data and only read.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads a socket option made of 32-bit words, as many as the kernel has and `words` holds.
pub(crate) fn get_words(
    socket: BorrowedFd<'_>,
    level: i32,
    name: i32,
    words: &mut [u32],
) -> io::Result<usize> {
    let mut len = size_of_val(words) as libc::socklen_t;
    // SAFETY: the pointer and the length describe `words`; any bit pattern is a valid u32.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, words.as_mut_ptr().cast(), &mut len)
    };
    if result == 0 { Ok(len as usize / size_of::<u32>()) } else { Err(io::Error::last_os_error()) }
}

/// Attaches a classic filter.
pub(crate) fn attach_classic(socket: BorrowedFd<'_>, program: &filter::Program) -> io::Result<()> {
    let each =
        |i: &filter::Instruction| libc::sock_filter { code: i.code, jt: i.jt, jf: i.jf, k: i.k };
    let mut program: Vec<libc::sock_filter> = program.instructions().iter().map(each).collect();
    let len = program.len().try_into().map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    // The kernel copies the instructions, which live until the call has returned.
    let filter = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter)
}

/// Takes a socket's filter away.
pub(crate) fn detach_filter(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &0)
}

/// Attaches a classic filter that rejects every packet.
pub(crate) fn reject_all(socket: BorrowedFd<'_>) -> io::Result<()> {
    attach_classic(socket, &filter::Program::constant(0))
}

/// Connects a socket. One that is connected already keeps the address that it sends from.
pub(crate) fn connect(socket: BorrowedFd<'_>, remote: SocketAddr) -> io::Result<()> {
    let (address, len) = to_raw(remote);
    // SAFETY: the pointer and the length describe `address`.
    let result =
        unsafe { libc::connect(socket.as_raw_fd(), std::ptr::from_ref(&address).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives a socket a local address.
pub(crate) fn bind(socket: BorrowedFd<'_>, local: SocketAddr) -> io::Result<()> {
    let (address, len) = to_raw(local);
    // SAFETY: the pointer and the length describe `address`.
    let result =
        unsafe { libc::bind(socket.as_raw_fd(), std::ptr::from_ref(&address).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Dissolves the connection of a datagram socket, so that the next one begins anew. A raw socket would
/// hear of no error any more (`__udp_disconnect` in `net/ipv4/udp.c` unhashes it).
pub(crate) fn disconnect(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: an all-zero address is valid; its family is 0 (AF_UNSPEC).
    let nobody: libc::sockaddr = unsafe { zeroed() };
    let len = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: the pointer and the length describe `nobody`.
    let result = unsafe { libc::connect(socket.as_raw_fd(), &nobody, len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A number that the socket's network namespace has and no other; `None` before Linux 5.14.
pub(crate) fn netns_cookie(socket: BorrowedFd<'_>) -> Option<[u32; 2]> {
    let mut words = [0; 2];
    let got = get_words(socket, libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, &mut words);
    got.is_ok_and(|words| words == 2).then_some(words)
}

/// An address as the kernel takes it, and its length.
pub(crate) fn to_raw(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: an all-zero sockaddr_storage is valid.
    let mut storage: libc::sockaddr_storage = unsafe { zeroed() };
    let len = match address {
        SocketAddr::V4(v4) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as u16,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: a sockaddr_storage is large enough and aligned for every address.
            unsafe { std::ptr::from_mut(&mut storage).cast::<libc::sockaddr_in>().write(raw) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as u16,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { std::ptr::from_mut(&mut storage).cast::<libc::sockaddr_in6>().write(raw) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, len as libc::socklen_t)
}

/// An address that the kernel gave; `None` if it is of another family.
pub(crate) fn from_raw(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that it is a sockaddr_in, for which the storage is aligned.
            let raw = unsafe { std::ptr::from_ref(storage).cast::<libc::sockaddr_in>().read() };
            let ip = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddr::from((ip, u16::from_be(raw.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: as above, for a sockaddr_in6.
            let raw = unsafe { std::ptr::from_ref(storage).cast::<libc::sockaddr_in6>().read() };
            let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
            let port = u16::from_be(raw.sin6_port);
            Some(SocketAddrV6::new(ip, port, raw.sin6_flowinfo, raw.sin6_scope_id).into())
        }
        _ => None,
    }
}
