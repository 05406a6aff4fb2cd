//! Where a tunnel's packets leave this host: frames of our own making while the next hop is known,
//! else a raw socket, for which the kernel finds the way and fragments.
//!
//! The raw socket is also who hears of ICMP errors. Once in a while it sends some packets though
//! frames could: only then does the kernel confirm a neighbour's address that has become stale.

use super::batched::{BatchedSender, Refused};
use super::send::SendOptions;
use super::sys::{LateError, SendSocket, would_wait};
use crate::clock::Now;
use crate::error::Error;
use crate::underlay::{Path, Underlay};
use api::{Oversize, Sending};
use std::io;
use std::net::{IpAddr, SocketAddr};
use wire::tunnel::Carrier;

/// Size of each send buffer.
const SEND_BUFFER_BYTES: usize = 8 << 20;

/// For how long no frames are sent after the kernel refused one, ns.
const PAUSE_NS: u64 = 1_000_000_000;

const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;

/// Sends what follows the IP header, to one far end.
pub(super) struct Outlet {
    remote: SocketAddr,
    source: Option<IpAddr>,
    carrier: Carrier,
    sending: Sending,
    raw: SendSocket,
    /// The address that the raw socket sends from.
    raw_source: Option<IpAddr>,
    /// Only tunnels over UDP have it.
    frames: Option<BatchedSender>,
    underlay: Underlay,
    /// When frames may be sent again.
    paused_until_ns: u64,
    is_paused: bool,
    /// The next packets go by the raw socket, so that the kernel confirms the neighbour's address.
    confirms: bool,
}

impl Outlet {
    /// Opens the sockets. The policy of oversize is settled: not [`Oversize::Auto`].
    ///
    /// # Errors
    /// [`Error::System`] without the right to send raw packets (CAP_NET_RAW), without a route, or if the
    /// address to send from is not of this host.
    pub fn open(options: &SendOptions) -> Result<Outlet, Error> {
        let SendOptions { remote, source, carrier, sending, .. } = *options;
        let Sending { oversize, dscp } = sending;
        let what = || format!("tunnel to {remote}");
        let raw = open_raw(remote, source, carrier, sending).map_err(|e| match e.raw_os_error() {
            Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT) if source.is_some() => Error::System {
                what: what(),
                source: e,
                mend: "; `source` must be an address of this host, of the far end's version of IP",
            },
            Some(libc::ENETUNREACH | libc::EINVAL) => Error::System {
                what: what(),
                source: e,
                mend: "; there must be a route to it (`ip route get`), and a link-local IPv6 \
                       address needs its interface: fe80::1%eth0",
            },
            _ => Error::system(what() + ": raw socket", e),
        })?;
        let dont_fragment = oversize != Oversize::Fragment;
        let frames = match carrier {
            Carrier::Udp { .. } => {
                BatchedSender::open(remote, dscp, dont_fragment, SEND_BUFFER_BYTES)
                    .inspect_err(|e| tracing::debug!("{}: no packet socket: {e}", what()))
                    .ok()
            }
            Carrier::Ip { .. } => None,
        };
        let underlay = Underlay::open(remote, source, dscp, Now::read())?;
        let raw_source = underlay.path().map(|path| path.source);
        let mut outlet = Outlet {
            remote,
            source,
            carrier,
            sending,
            raw,
            raw_source,
            frames,
            underlay,
            paused_until_ns: 0,
            is_paused: false,
            confirms: false,
        };
        outlet.follow();
        Ok(outlet)
    }

    /// The largest datagram that goes in one piece, counted behind the IP header, bytes; `None` as
    /// long as there is no way.
    pub fn bytes_max(&self) -> Option<usize> {
        let ip_len = if self.remote.is_ipv4() { IPV4_LEN } else { IPV6_LEN };
        self.underlay.path().map(|path| path.mtu.saturating_sub(ip_len))
    }

    /// The address that packets come from, as long as there is a way.
    pub fn source(&self) -> Option<IpAddr> {
        self.underlay.path().map(|path| path.source)
    }

    /// Whether the interface on the way has no carrier: the kernel then loses packets silently.
    pub fn is_down(&self) -> bool {
        self.underlay.path().is_some_and(|path| !path.is_up)
    }

    /// Sends datagrams, each a pair of headers and payload. Returns how many from the front went
    /// out, 0 if it can take none now.
    ///
    /// # Errors
    /// The first one, or the first ones together, did not go out.
    pub fn send(&mut self, datagrams: &[(&[u8], &[u8])]) -> Result<usize, Refused> {
        let bytes_max = self.bytes_max().unwrap_or(0);
        let fits = |(header, payload): &&(&[u8], &[u8])| header.len() + payload.len() <= bytes_max;
        let fitting = datagrams.iter().take_while(fits).count();
        let result = match (&mut self.frames, self.underlay.path()) {
            (Some(frames), Some(path @ Path { frame: Some(addresses), .. }))
                if fitting > 0 && !self.is_paused && !self.confirms =>
            {
                frames.send(path, addresses, &datagrams[..fitting])
            }
            // What does not fit goes by the raw socket, but no more than that.
            (Some(_), Some(Path { frame: Some(_), .. })) if fitting == 0 => {
                let large = datagrams.iter().take_while(|datagram| !fits(datagram)).count();
                return self.send_raw(&datagrams[..large]);
            }
            _ => return self.send_raw(datagrams),
        };
        match result {
            Ok(sent) => Ok(sent),
            Err(refused) if would_wait(&refused.error) => Ok(0),
            Err(refused) if refused.error.raw_os_error() == Some(libc::ENOBUFS) => Err(refused),
            Err(refused) => {
                // The device is not what it was. The kernel knows better, and says so if it fails.
                tracing::debug!("{}: a frame was refused: {}", self.remote, refused.error);
                let now = Now::read();
                self.is_paused = true;
                self.paused_until_ns = now.monotonic_ns.saturating_add(PAUSE_NS);
                self.ask(now);
                self.send_raw(&datagrams[..fitting])
            }
        }
    }

    fn send_raw(&mut self, datagrams: &[(&[u8], &[u8])]) -> Result<usize, Refused> {
        self.confirms = false;
        let is_full = |error: &io::Error| {
            would_wait(error)
                || (error.raw_os_error() == Some(libc::ENOBUFS) && !self.raw.has_room())
        };
        // An ICMP answer to an earlier packet is reported by the next call, which then sends
        // nothing. Only the second error is about this packet.
        match self.raw.send(datagrams).or_else(|error| match is_full(&error) {
            true => Err(error),
            false => self.raw.send(datagrams),
        }) {
            Ok(sent) => Ok(sent),
            Err(error) if is_full(&error) => Ok(0),
            Err(error) => Err(Refused { error, datagrams: 1 }),
        }
    }

    /// Looks for news of the way when it is time.
    #[inline]
    pub fn tick(&mut self, now: Now) {
        if self.is_paused && now.monotonic_ns >= self.paused_until_ns {
            self.is_paused = false;
        }
        if self.underlay.look(now) {
            self.follow();
        }
    }

    /// Asks for the way at once, as a packet did not go as was thought.
    pub fn ask(&mut self, now: Now) {
        self.underlay.ask(now);
        self.follow();
    }

    /// Takes the next error that turned up after a packet was sent, if there is one.
    pub fn late_error(&self) -> Option<LateError> {
        self.raw.late_error()
    }

    /// Does what follows from a way that was asked for.
    fn follow(&mut self) {
        let Some(path) = self.underlay.path() else { return };
        self.confirms = path.is_stale;
        if self.raw_source != Some(path.source) {
            // A raw socket keeps the address that it once chose, so another one takes its place.
            match open_raw(self.remote, self.source, self.carrier, self.sending) {
                Ok(raw) if raw.is_at_home_with(&self.raw) => {
                    self.raw = raw;
                    self.raw_source = Some(path.source);
                }
                Ok(_) => {}
                Err(error) => tracing::debug!("{}: cannot connect anew: {error}", self.remote),
            }
        }
    }
}

fn open_raw(
    remote: SocketAddr,
    source: Option<IpAddr>,
    carrier: Carrier,
    sending: Sending,
) -> io::Result<SendSocket> {
    let raw = SendSocket::open(remote, source, carrier, sending)?;
    raw.set_buffer(SEND_BUFFER_BYTES)?;
    Ok(raw)
}
