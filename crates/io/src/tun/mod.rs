//! A TUN device: a network interface without an Ethernet header, whose other end is this process.
//!
//! Source: Linux `Documentation/networking/tuntap.rst`.

mod sys;

use crate::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};

/// A TUN device, which is there for as long as this value.
#[derive(Debug)]
pub struct Tun {
    file: File,
}

impl Tun {
    /// Makes a device in the calling thread's network namespace; it is down at first. `hardware`: the
    /// hardware type (`ARPHRD_…`) that it claims, instead of "none".
    ///
    /// # Errors
    /// [`Error::System`] without CAP_NET_ADMIN, or if the name is taken.
    pub fn new(name: &str, hardware: Option<u16>) -> Result<Tun, Error> {
        let failed = |e| Error::system(format!("make the TUN device `{name}`"), e);
        let open = OpenOptions::new().read(true).write(true).open("/dev/net/tun");
        let file = open.map_err(failed)?;
        sys::attach(&file, name).map_err(failed)?;
        if let Some(hardware) = hardware {
            sys::set_hardware(&file, hardware).map_err(failed)?;
        }
        Ok(Tun { file })
    }

    /// Has a packet come in through the device: what stands in `packet` begins with its IP header.
    ///
    /// # Errors
    /// [`Error::System`] if the device is down.
    pub fn send(&self, packet: &[u8]) -> Result<(), Error> {
        let written = (&self.file).write(packet);
        written.map(drop).map_err(|e| Error::system("send through a TUN device", e))
    }

    /// Takes the next packet that went out through the device, cut to the buffer. Blocks.
    ///
    /// # Errors
    /// [`Error::System`] if the device is gone.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        (&self.file).read(buffer).map_err(|e| Error::system("receive from a TUN device", e))
    }
}
