//! Network interfaces whose other end is this process: a TUN device, without an Ethernet header, and
//! a TAP device, with one.
//!
//! Source: Linux `Documentation/networking/tuntap.rst`.

mod drain;
mod sink;
mod sys;
mod tap;

pub(crate) use drain::Drain;
pub use sink::TapSink;
pub use tap::Tap;

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
        let (file, _) = attach(name, libc::IFF_TUN | libc::IFF_NO_PI).map_err(failed)?;
        let tun = Tun { file };
        hardware.map_or(Ok(()), |hardware| tun.set_hardware(hardware))?;
        Ok(tun)
    }

    /// Has the device claim another hardware type (`ARPHRD_…`).
    ///
    /// # Errors
    /// [`Error::System`] while it is up.
    pub fn set_hardware(&self, hardware: u16) -> Result<(), Error> {
        let failed = |e| Error::system("set the hardware type of a TUN device", e);
        sys::set_hardware(&self.file, hardware).map_err(failed)
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

/// Makes a device of a kind (`IFF_…`); gives its name, too.
fn attach(name: &str, flags: libc::c_int) -> std::io::Result<(File, String)> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    let name = sys::attach(&file, name, flags)?;
    Ok((file, name))
}
