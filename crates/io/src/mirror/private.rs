//! The private interfaces of a mirror: pairs whose far ends stand in a network namespace that has no
//! name and that only this process holds.
//!
//! When the process ends, however it does, the kernel takes the namespace down, with it the far ends,
//! and with those the near ends. So do interfaces go that stand on what is in there.

use crate::error::Error;
use crate::link::{Links, NewPair, NewUpper};
use crate::netns::Netns;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The names of the near ends begin so; network managers are to leave them alone.
pub(crate) const PREFIX: &str = "tapline";
/// Any packet fits: what is too large is found out where it is encapsulated.
const MTU: u32 = 65_535;
const DISABLE: &str = "1";
/// How long a carrier is waited for at most, and how often it is asked for.
const CARRIER_MAX: Duration = Duration::from_secs(5);
const CARRIER_STEP: Duration = Duration::from_millis(1);

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

/// Interfaces that cut super-packets and complete checksums, and give the packets to the egress of a
/// pair's near end: in their order, with no queue between. Dropped, they are gone.
///
/// ```text
/// entry (macvlan) ──► bridge, without offloads ──► port (macvlan) ──► the near end
///  where taps are      the private namespace                           where tunnels leave
/// ```
///
/// A macvlan hands on what it gets as it is, and across namespaces. The bridge can do nothing for what
/// it sends, so the kernel cuts and completes it there, and the bridge passes it on at once:
/// <https://docs.kernel.org/networking/segmentation-offloads.html>.
#[derive(Debug)]
pub(crate) struct Finisher {
    /// The entry's index, in its namespace.
    pub entry: i32,
    bridge: i32,
    port: i32,
    /// The entry's namespace, and the private one.
    here: Mutex<Links>,
    there: Mutex<Links>,
}

impl Private {
    /// Makes the namespace.
    pub fn new() -> Result<Private, Error> {
        let netns = Netns::empty()?;
        let links = links_in(&netns)?;
        Ok(Private { netns, links: Mutex::new(links) })
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
        }
        drop(near_links);
        Ok(pair)
    }

    /// Makes the interfaces in front of a pair's near end, up, with the entry in a namespace of the
    /// caller's choice. The pair is up.
    pub fn finisher(&self, pair: &Pair, entry_netns: &Netns) -> Result<Finisher, Error> {
        let failed = |what: &'static str| {
            move |e| Error::System {
                what: format!("private interfaces that cut and complete packets: {what}"),
                source: e,
                mend: "; they take the kernel's modules `macvlan` and `bridge`: load them \
                       (`modprobe -a macvlan bridge`), or mirror in user space (--datapath ring)",
            }
        };
        let mut there = links_in(&self.netns)?;
        let port = NewUpper { name: "port", netns: self.netns.as_fd(), lower: pair.near, mtu: MTU };
        locked(&pair.links).add_upper(&port).map_err(failed("make the port"))?;
        there.add_bridge("bridge", MTU).map_err(failed("make the bridge"))?;
        let index = |there: &mut Links, name| there.find(name).map(|link| link.index);
        let port = index(&mut there, "port").map_err(failed("find the port"))?;
        let bridge = index(&mut there, "bridge").map_err(failed("find the bridge"))?;
        there.set_master(port, bridge).map_err(failed("make the port the bridge's"))?;
        there.switch_offloads_off(bridge).map_err(failed("switch the bridge's offloads off"))?;
        let name = format!("{PREFIX}%d");
        let entry = NewUpper { name: &name, netns: entry_netns.as_fd(), lower: bridge, mtu: MTU };
        let name = there.add_upper(&entry).map_err(failed("make the entry"))?;
        let mut here = links_in(entry_netns)?;
        let entry = here.find(&name).map_err(failed("find the entry"))?.index;
        let set_up = |netns: &Netns, links: &mut Links, index: i32| {
            links.leave_without_ipv6(index).map_err(failed("leave them without IPv6"))?;
            disable_ipv6(netns, links.name(index))?;
            links.set_up(index).map_err(failed("bring them up"))
        };
        set_up(&self.netns, &mut there, port)?;
        set_up(&self.netns, &mut there, bridge)?;
        set_up(entry_netns, &mut here, entry)?;
        wait_for_carrier(&mut here, entry).map_err(failed("wait for the entry's carrier"))?;
        Ok(Finisher { entry, bridge, port, here: Mutex::new(here), there: Mutex::new(there) })
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
        is_up(&self.links, self.near)
    }

    /// The near end's name now.
    pub fn name(&self) -> Option<String> {
        locked(&self.links).name(self.near)
    }
}

impl Finisher {
    /// Whether the entry is up; `None` if it is gone. What cannot be asked is taken for well.
    pub fn is_up(&self) -> Option<bool> {
        is_up(&self.here, self.entry)
    }

    /// Brings the entry up.
    pub fn set_up(&self) -> Result<(), Error> {
        let failed = |e| Error::system("private interface `entry`: bring it up", e);
        locked(&self.here).set_up(self.entry).map_err(failed)
    }

    /// The entry's name now.
    pub fn name(&self) -> Option<String> {
        locked(&self.here).name(self.entry)
    }
}

impl Drop for Finisher {
    fn drop(&mut self) {
        let mut there = locked(&self.there);
        // The entry goes with the bridge.
        for index in [self.bridge, self.port] {
            if let Err(error) = there.remove(index) {
                tracing::debug!("private interfaces that cut and complete packets: {error}");
            }
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if let Err(error) = locked(&self.links).remove(self.near) {
            tracing::debug!("private interface `{}`: {error}", self.far_name);
        }
    }
}

/// Waits until the entry has a carrier: the bridge has one once its port takes packets, which the kernel
/// may learn a second later.
fn wait_for_carrier(links: &mut Links, entry: i32) -> io::Result<()> {
    let since = Instant::now();
    while !links.has_carrier(entry)? {
        if since.elapsed() > CARRIER_MAX {
            return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
        }
        std::thread::sleep(CARRIER_STEP);
    }
    Ok(())
}

fn is_up(links: &Mutex<Links>, index: i32) -> Option<bool> {
    match locked(links).has_carrier(index) {
        Ok(is_up) => Some(is_up),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => None,
        Err(_) => Some(true),
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
