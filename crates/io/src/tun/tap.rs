//! A TAP device that takes super-packets, as a virtual machine hands them to its host.
//!
//! ```text
//! struct virtio_net_hdr        flags | gso_type | hdr_len | gso_size | csum_start | csum_offset
//!   in front of each frame       1        1         2          2           2            2
//! ```
//! The host's byte order. The number of segments is not in it: the kernel leaves `gso_segs` at 0.
//!
//! Source: Linux `include/uapi/linux/virtio_net.h`, `include/linux/virtio_net.h`, `drivers/net/tun.c`.

use super::attach;
use crate::error::Error;
use std::fs::File;
use std::io::{Error as SystemError, IoSlice, Write};
use wire::segment::{Gso, GsoKind};

const NEEDS_CSUM: u8 = 1;
const HEADER_LEN: usize = 10;

/// A TAP device, which is there for as long as this value.
#[derive(Debug)]
pub struct Tap {
    file: File,
}

impl Tap {
    /// Makes a device in the calling thread's network namespace; it is down at first.
    ///
    /// # Errors
    /// [`Error::System`] without CAP_NET_ADMIN, or if the name is taken.
    pub fn new(name: &str) -> Result<Tap, Error> {
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        let failed = |e| Error::system(format!("make the TAP device `{name}`"), e);
        attach(name, flags).map(|(file, _)| Tap { file }).map_err(failed)
    }

    /// Has a frame come in through the device. With `gso` it is a super-packet whose checksum, of the
    /// pseudo-header so far, is left to be completed.
    ///
    /// # Errors
    /// [`Error::System`] if the device is down, or the frame is not what `gso` says.
    pub fn send(&self, frame: &[u8], gso: Option<&Gso>) -> Result<(), Error> {
        let header = gso.map_or([0; HEADER_LEN], header);
        let parts = [IoSlice::new(&header), IoSlice::new(frame)];
        let failed = |e| Error::system("send through a TAP device", e);
        match (&self.file).write_vectored(&parts).map_err(failed)? {
            written if written == HEADER_LEN + frame.len() => Ok(()),
            written => Err(failed(SystemError::other(format!(
                "it took {written} of {HEADER_LEN} + {} bytes",
                frame.len()
            )))),
        }
    }
}

fn header(gso: &Gso) -> [u8; HEADER_LEN] {
    let gso_type = match gso.kind {
        GsoKind::TcpV4 => 1,
        GsoKind::TcpV6 => 4,
        GsoKind::UdpL4 => 5,
    };
    let mut header = [0; HEADER_LEN];
    (header[0], header[1]) = (NEEDS_CSUM, gso_type);
    // How long the headers are, the kernel finds out.
    for (at, word) in [(4, gso.size), (6, gso.csum_start), (8, gso.csum_offset)] {
        header[at..at + 2].copy_from_slice(&word.to_ne_bytes());
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_stands_as_the_kernel_reads_it() {
        let gso = Gso { kind: GsoKind::UdpL4, size: 1000, csum_start: 34, csum_offset: 6 };
        let words = [0, 1000, 34, 6].map(u16::to_ne_bytes).concat();
        assert_eq!(header(&gso), [&[1, 5], &words[..]].concat()[..]);
    }
}
