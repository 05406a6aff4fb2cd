//! Programs on the packets that pass interfaces, where there is no tcx: filters of the `clsact` queueing
//! discipline (Linux 4.5 and later).
//!
//! Source: rtnetlink(7), tc-bpf(8); Linux `include/uapi/linux/pkt_sched.h`, `pkt_cls.h`.
//!
//! ```text
//! RTM_NEWQDISC    tcmsg (20 B): family, pad 3, index 4, handle 4, parent 4, info 4 | TCA_KIND "clsact"
//! RTM_NEWTFILTER  tcmsg, info = priority << 16 | EtherType | TCA_KIND "bpf"
//!                 | TCA_OPTIONS { TCA_BPF_FD, TCA_BPF_NAME, TCA_BPF_FLAGS }
//! ```
//!
//! A filter outlives the process that made it: after `kill -9` it stays, and what it hands on is
//! lost without harm, as the interface that it hands to is gone. Its name tells which process it was
//! of, so that the next one removes it. At the ingress ours comes first, at the egress last: next to
//! the wire.

use super::{Classifier, NEEDS_RIGHT, Way};
use crate::error::Error;
use crate::netlink::{Netlink, Question, attribute, attributes, word};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Names of our filters begin so; the process's id and the time of its start follow.
const PREFIX: &str = "tapline-";

const TCMSG_LEN: usize = 20;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;
/// `TC_H_CLSACT`, as the parent of the discipline, and the places at it.
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;
const NESTED: u16 = libc::NLA_F_NESTED as u16;

/// A program's hold on an interface. Dropped, it is gone, and the discipline with it if that was made
/// for it and has no other filter.
#[derive(Debug)]
pub struct ClsactFilter {
    netlink: Netlink,
    place: Place,
    made_discipline: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    interface: i32,
    parent: u32,
    handle: u32,
    priority: u16,
}

impl ClsactFilter {
    /// Has a program run on an interface of the calling thread's network namespace.
    ///
    /// # Errors
    /// [`Error::System`] if the interface is gone, or the kernel has no clsact.
    pub fn attach(program: &Classifier, interface: i32, way: Way) -> Result<ClsactFilter, Error> {
        let failed = |e| refused("attach an eBPF program to", interface, way, e);
        let mut netlink = Netlink::open(libc::NETLINK_ROUTE).map_err(failed)?;
        let made_discipline = add_discipline(&mut netlink, interface).map_err(failed)?;
        let mut filter =
            ClsactFilter { netlink, place: Place::of(interface, way), made_discipline };
        filter.put(program, libc::NLM_F_CREATE | libc::NLM_F_EXCL).map_err(failed)?;
        Ok(filter)
    }

    /// Puts another program in the place of the one that runs; no packet passes between.
    ///
    /// # Errors
    /// [`Error::System`] if the interface is gone.
    pub fn replace(&mut self, program: &Classifier) -> Result<(), Error> {
        let Place { interface, parent, .. } = self.place;
        let way = if parent == INGRESS { Way::Ingress } else { Way::Egress };
        self.put(program, libc::NLM_F_CREATE | libc::NLM_F_REPLACE)
            .map_err(|e| refused("replace an eBPF program at", interface, way, e))
    }

    fn put(&mut self, program: &Classifier, flags: i32) -> io::Result<()> {
        let name = [own_name().as_bytes(), &[0]].concat();
        let options = [
            attribute(TCA_BPF_FD, &program.as_fd().as_raw_fd().to_ne_bytes()),
            attribute(TCA_BPF_NAME, &name),
            attribute(TCA_BPF_FLAGS, &TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes()),
        ];
        let question = Question::new(libc::RTM_NEWTFILTER, &self.place.tcmsg())
            .with(TCA_KIND, b"bpf\0")
            .with(NESTED | TCA_OPTIONS, &options.concat());
        self.netlink.change(question, flags)
    }
}

impl Drop for ClsactFilter {
    fn drop(&mut self) {
        let interface = self.place.interface;
        let mut leave = || -> io::Result<()> {
            remove(&mut self.netlink, self.place)?;
            if self.made_discipline && filters(&mut self.netlink, interface)?.is_empty() {
                let discipline = tcmsg(interface, CLSACT_HANDLE, CLSACT, 0);
                self.netlink.change(Question::new(libc::RTM_DELQDISC, &discipline), 0)?;
            }
            Ok(())
        };
        // The interface may be gone, and its filters with it.
        if let Err(error) = leave() {
            tracing::debug!("take a filter off interface {interface}: {error}");
        }
    }
}

/// Removes the filters that processes of ours have left at an interface of the calling thread's network
/// namespace; returns how many.
///
/// # Errors
/// [`Error::System`] if the kernel refuses.
pub fn remove_leftovers(interface: i32) -> Result<usize, Error> {
    let failed = |e| Error::system(format!("look for filters at interface {interface}"), e);
    let mut netlink = Netlink::open(libc::NETLINK_ROUTE).map_err(failed)?;
    let mut removed = 0;
    for (place, name) in filters(&mut netlink, interface).map_err(failed)? {
        if name.as_deref().is_some_and(is_left_over) {
            remove(&mut netlink, place).map_err(failed)?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn refused(what: &str, interface: i32, way: Way, source: io::Error) -> Error {
    Error::System {
        what: format!("{what} the {} of interface {interface} (clsact)", way.name()),
        mend: match source.raw_os_error() {
            Some(libc::EPERM) => NEEDS_RIGHT,
            Some(libc::ENOENT | libc::EOPNOTSUPP) => {
                "; the kernel has no clsact (modules sch_ingress and cls_bpf)"
            }
            _ => "",
        },
        source,
    }
}

/// Makes the discipline; returns whether there was none.
fn add_discipline(netlink: &mut Netlink, interface: i32) -> io::Result<bool> {
    let discipline = tcmsg(interface, CLSACT_HANDLE, CLSACT, 0);
    let question = Question::new(libc::RTM_NEWQDISC, &discipline).with(TCA_KIND, b"clsact\0");
    match netlink.change(question, libc::NLM_F_CREATE | libc::NLM_F_EXCL) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

fn remove(netlink: &mut Netlink, place: Place) -> io::Result<()> {
    let question = Question::new(libc::RTM_DELTFILTER, &place.tcmsg()).with(TCA_KIND, b"bpf\0");
    netlink.change(question, 0)
}

/// The filters at an interface's discipline, both ways, and the names of those that are programs.
fn filters(netlink: &mut Netlink, interface: i32) -> io::Result<Vec<(Place, Option<String>)>> {
    let mut found = Vec::new();
    for parent in [INGRESS, EGRESS] {
        let question = Question::new(libc::RTM_GETTFILTER, &tcmsg(interface, 0, parent, 0));
        netlink.list(question, |body| found.extend(filter(body)))?;
    }
    Ok(found)
}

fn filter(body: &[u8]) -> Option<(Place, Option<String>)> {
    let place = Place {
        interface: word(body, 4)?.cast_signed(),
        handle: word(body, 8)?,
        parent: word(body, 12)?,
        priority: (word(body, 16)? >> 16) as u16,
    };
    let find = |of, wanted| attributes(of).find(|(kind, _)| *kind == wanted);
    let (_, kind) = find(body.get(TCMSG_LEN..)?, TCA_KIND)?;
    // Without a handle it is the list of a priority, not an entry of it.
    if place.handle == 0 {
        return None;
    }
    let options = find(&body[TCMSG_LEN..], TCA_OPTIONS).filter(|_| kind == b"bpf\0");
    let name = options.and_then(|(_, options)| find(options, TCA_BPF_NAME));
    let name = name.map(|(_, name)| {
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        String::from_utf8_lossy(&name[..end]).into_owned()
    });
    Some((place, name))
}

impl Place {
    /// This process's place at an interface.
    fn of(interface: i32, way: Way) -> Place {
        let (parent, priority) = match way {
            Way::Ingress => (INGRESS, 1),
            Way::Egress => (EGRESS, 0xfff0),
        };
        Place { interface, parent, handle: std::process::id(), priority }
    }

    fn tcmsg(self) -> [u8; TCMSG_LEN] {
        let all = u32::from((libc::ETH_P_ALL as u16).to_be());
        let info = u32::from(self.priority) << 16 | all;
        tcmsg(self.interface, self.handle, self.parent, info)
    }
}

fn tcmsg(interface: i32, handle: u32, parent: u32, info: u32) -> [u8; TCMSG_LEN] {
    let mut body = [0; TCMSG_LEN];
    body[4..8].copy_from_slice(&interface.to_ne_bytes());
    for (at, word) in [(8, handle), (12, parent), (16, info)] {
        body[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    body
}

/// The name of this process's filters.
fn own_name() -> String {
    let id = std::process::id();
    format!("{PREFIX}{id}-{}", started(id).unwrap_or_default())
}

/// Whether a name is that of a process of ours that is gone.
fn is_left_over(name: &str) -> bool {
    let Some((id, start)) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')) else {
        return false;
    };
    let (Ok(id), Ok(start)) = (id.parse(), start.parse::<u64>()) else {
        return false;
    };
    started(id) != Some(start)
}

/// When a process was started, in ticks since the host was: `/proc/PID/stat`, field 22.
fn started(id: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The second field is the program's name in parentheses, which may hold any character.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_dead_process_left_is_left_over() {
        assert!(!is_left_over(&own_name()));
        let other_start = format!("{PREFIX}{}-1", std::process::id());
        assert!(is_left_over(&other_start) && is_left_over("tapline-4194305-77"));
        for foreign in ["", "tapline", "tapline-", "tapline-x-1", "tapline-1-", "cil_from_netdev"] {
            assert!(!is_left_over(foreign), "{foreign}");
        }
    }
}
