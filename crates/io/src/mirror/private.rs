//! The private interfaces of a mirror: pairs whose far ends stand in a network namespace that has no
//! name and that only this process holds.
//!
//! When the process ends, however it does, the kernel takes the namespace down, with it the far ends,
//! and with those the near ends.

use crate::error::Error;
use crate::link::{Links, NewPair};
use crate::netns::Netns;
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The names of the near ends begin so; network managers are to leave them alone.
pub(crate) const PREFIX: &str = "tapline";
/// Any packet fits: what is too large is found out where it is encapsulated.
const MTU: u32 = 65_535;
const DISABLE: &str = "1";

/// The namespace of the far ends.
#[derive(Debug)]
pub(crate) struct Private {
    netns: Netns,
    links: Mutex<Links>,
}

/// A pair. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Pair {
    /// The near end's index, in its namespace.
    pub near: i32,
    /// The far end's index, in the private namespace.
    pub far: i32,
    /// The far end's name.
    pub far_name: String,
    links: Mutex<Links>,
}

impl Private {
    /// Makes the namespace.
    pub fn new() -> Result<Private, Error> {
        let netns = Netns::empty()?;
        let links = links_in(&netns)?;
        Ok(Private { netns, links: Mutex::new(links) })
    }

    /// The namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Makes a pair between a namespace and this one, both ends down. The far end's name is of the
    /// caller's choice and stands once.
    pub fn pair(&self, near_netns: &Netns, far_name: &str) -> Result<Pair, Error> {
        let failed = |what: &'static str| {
            move |e| Error::system(format!("private interface `{far_name}`: {what}"), e)
        };
        let mut near_links = links_in(near_netns)?;
        let name = format!("{PREFIX}%d");
        let new = NewPair { name: &name, peer: far_name, peer_netns: self.netns.as_fd(), mtu: MTU };
        near_links.add_pair(&new).map_err(failed("make it"))?;
        let mut links = locked(&self.links);
        let far = links.find(far_name).map_err(failed("find it"))?.index;
        let near = match links.peer(far) {
            Ok(near) => near,
            Err(error) => {
                if let Err(error) = links.remove(far) {
                    tracing::debug!("private interface `{far_name}`: {error}");
                }
                return Err(failed("find its other end")(error));
            }
        };
        // From here on it goes with the value, whatever fails.
        let pair = Pair { near, far, far_name: far_name.into(), links: Mutex::new(near_links) };
        let mut near_links = locked(&pair.links);
        let ends = [(near_netns, &mut *near_links, near), (&self.netns, &mut *links, far)];
        for (netns, links, index) in ends {
            links.leave_without_ipv6(index).map_err(failed("leave it without IPv6"))?;
            disable_ipv6(netns, links.name(index))?;
            links.switch_offloads_off(index).map_err(failed("switch its offloads off"))?;
        }
        drop(near_links);
        Ok(pair)
    }

    /// Brings both ends up.
    pub fn set_up(&self, pair: &Pair) -> Result<(), Error> {
        let failed =
            |e| Error::system(format!("private interface `{}`: bring it up", pair.far_name), e);
        locked(&self.links).set_up(pair.far).map_err(failed)?;
        locked(&pair.links).set_up(pair.near).map_err(failed)
    }
}

impl Pair {
    /// Whether the near end is up; `None` if it is gone. What cannot be asked is taken for well.
    pub fn is_up(&self) -> Option<bool> {
        match locked(&self.links).has_carrier(self.near) {
            Ok(is_up) => Some(is_up),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => None,
            Err(_) => Some(true),
        }
    }

    /// The near end's name now.
    pub fn name(&self) -> Option<String> {
        locked(&self.links).name(self.near)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if let Err(error) = locked(&self.links).remove(self.near) {
            tracing::debug!("private interface `{}`: {error}", self.far_name);
        }
    }
}

/// The socket, whatever became of who held it before: each call of it is whole.
fn locked(links: &Mutex<Links>) -> MutexGuard<'_, Links> {
    links.lock().unwrap_or_else(PoisonError::into_inner)
}

fn links_in(netns: &Netns) -> Result<Links, Error> {
    netns.run(Links::open)?.map_err(|e| Error::system("open a netlink socket", e))
}

/// Has IPv6 take no part, as far as /proc/sys may be written: without an address it is silent already.
fn disable_ipv6(netns: &Netns, name: Option<String>) -> Result<(), Error> {
    let Some(name) = name else { return Ok(()) };
    let path = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
    if let Err(error) = netns.run(|| std::fs::write(&path, DISABLE))? {
        tracing::debug!("{path}: {error}");
    }
    Ok(())
}
