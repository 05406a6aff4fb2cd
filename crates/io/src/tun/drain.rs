//! An interface that exists to be looked at: what is sent through it passes rings as it would go onto a
//! wire, cut and with its checksums, and ends.
//!
//! It is a TAP device without offloads whose filter lets nothing through to its file. All of that
//! happens in the context of who sends: nothing waits in a queue that is the host's, too, but in the
//! interface's own where several CPUs send at once.
//!
//! Source: Linux `drivers/net/tun.c` (`tun_net_xmit`), `net/core/dev.c` (`validate_xmit_skb`, `xmit_one`).

use super::sink::leave_alone;
use super::{attach, sys};
use crate::error::Error;
use crate::link::Links;
use api::TAP_MTU_MAX;
use std::fs::File;
use std::io::ErrorKind;

/// The interface, which is there for as long as this value.
#[derive(Debug)]
pub(crate) struct Drain {
    _file: File,
    name: String,
    index: i32,
}

impl Drain {
    /// Makes one in the calling thread's network namespace, and brings it up. In a name that ends in
    /// `%d` that becomes a free number.
    ///
    /// # Errors
    /// [`Error::System`] without CAP_NET_ADMIN, or without `/dev/net/tun`.
    pub fn new(name: &str) -> Result<Drain, Error> {
        let made = attach(name, libc::IFF_TAP | libc::IFF_NO_PI);
        let (file, name) = made.map_err(|source| Error::System {
            what: format!("make the private interface `{name}`"),
            mend: match source.kind() {
                ErrorKind::NotFound => {
                    "; there is no /dev/net/tun: load the module tun (`modprobe tun`)"
                }
                ErrorKind::PermissionDenied => {
                    "; it takes CAP_NET_ADMIN, and access to /dev/net/tun"
                }
                _ => "",
            },
            source,
        })?;
        let failed = |what: &'static str| {
            let name = name.clone();
            move |e| Error::system(format!("private interface `{name}`: {what}"), e)
        };
        sys::refuse_all(&file).map_err(failed("have it let nothing through"))?;
        leave_alone(&name);
        let mut links = Links::open().map_err(failed("open a netlink socket"))?;
        links.set_mtu(&name, TAP_MTU_MAX).map_err(failed("set its MTU"))?;
        links.add_flags(&name, libc::IFF_NOARP | libc::IFF_UP).map_err(failed("bring it up"))?;
        let index = links.find(&name).map_err(failed("ask for its index"))?.index;
        Ok(Drain { _file: file, name, index })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its index.
    pub fn index(&self) -> i32 {
        self.index
    }
}
