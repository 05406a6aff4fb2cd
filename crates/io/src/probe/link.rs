//! Whether an interface is up and has a carrier.
//!
//! Source: rtnetlink(7), netdevice(7): `IFF_UP` is what was asked for, `IFF_LOWER_UP` what the driver
//! says.

use super::{Probe, reason};
use crate::link::Links;
use crate::underlay::Interface;
use std::time::Duration;

pub(super) struct Link(pub String);

impl Probe for Link {
    fn attempt(&mut self, _timeout: Duration) -> Result<(), String> {
        find(&self.0).map(drop)
    }
}

/// The index of an interface that is up, and what it is.
pub(crate) fn find(name: &str) -> Result<(i32, Interface), String> {
    let ask = || {
        let mut links = Links::open()?;
        let link = links.find(name)?;
        Ok((link.index, links.describe(link.index)?))
    };
    let (index, body) = ask().map_err(|error: std::io::Error| match error.raw_os_error() {
        Some(libc::ENODEV) => "it is gone".into(),
        _ => reason(&error),
    })?;
    match Interface::parse(&body) {
        Some(interface) if interface.is_up => Ok((index, interface)),
        Some(_) => Err("its link is down".into()),
        None => Err("the kernel's answer about it is cut short".into()),
    }
}
