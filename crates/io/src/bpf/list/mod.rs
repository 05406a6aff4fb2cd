//! What programs there are on interfaces, and who has put them there. Nothing is changed.
//!
//! ```text
//! struct bpf_link_info   type 4 | id 4 | program id 4 | 4 | of tcx: interface index 4, hook 4 | …
//! struct bpf_prog_info   type 4 | id 4 | 56                                | name 16 | …
//! ```

mod filters;
mod sys;

use super::sys::{TCX_EGRESS, TCX_INGRESS};
use super::{NAME, Way, pinned};
use crate::error::Error;
use crate::link::{IFINFOMSG_LEN, Links, find, names};
use crate::netlink::{attributes, word};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

const LINK_INFO_BYTES: usize = 64;
const PROGRAM_INFO_BYTES: usize = 80;
const PROGRAM_NAME_AT: usize = 64;
/// `BPF_LINK_TYPE_TCX`.
const LINK_TYPE_TCX: u32 = 11;
/// Links that are looked at: more than any host has.
const LINKS_MAX: usize = 65_536;
/// `IFLA_XDP`, and in it `IFLA_XDP_PROG_ID`.
const XDP: u16 = 43;
const XDP_PROGRAM: u16 = 4;
const NEEDS: &str = "; it needs root, or CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN";

/// By what a program is at an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before the kernel makes a packet of what came in (XDP).
    Xdp,
    /// tcx, since Linux 6.6.
    Tcx,
    /// A filter of traffic control at a clsact or ingress qdisc.
    Clsact,
}

/// A program at an interface, or a filter of traffic control that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// By what it is there.
    pub hook: Hook,
    /// Which packets it sees.
    pub way: Way,
    /// The program's id; `None` for filters that are no programs.
    pub program: Option<u32>,
    /// The link that holds it there; `None` if it stays there by itself.
    pub link: Option<u32>,
    /// The program's name, or the kind of a filter that is no program; empty where it is not told.
    pub name: String,
}

/// A tcx link of this host, in whatever network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcxLink {
    /// Its id.
    pub id: u32,
    /// The program that it holds.
    pub program: u32,
    /// The program's name.
    pub name: String,
    /// The interface, by the index that it has in its own namespace; 0 once it is gone.
    pub interface_index: i32,
    /// Which packets it sees.
    pub way: Way,
}

/// Something of bpf(2) by the id that the host has given it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Object {
    /// A program.
    Program(u32),
    /// A map.
    Map(u32),
    /// A link.
    Link(u32),
}

impl Object {
    /// Whether it is still there, whoever holds it.
    ///
    /// # Errors
    /// [`Error::System`] if the right is missing.
    pub fn is_there(self) -> Result<bool, Error> {
        let opened = match self {
            Object::Program(id) => sys::open_program(id),
            Object::Map(id) => sys::open_map(id),
            Object::Link(id) => sys::open_link(id),
        };
        match opened {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(failed(format!("look up {self:?}"), error)),
        }
    }
}

impl Attached {
    /// Whether it bears tapline's name.
    pub fn is_ours(&self) -> bool {
        self.name == NAME
    }
}

impl TcxLink {
    /// Whether its program bears tapline's name.
    pub fn is_ours(&self) -> bool {
        self.name == NAME
    }
}

impl Hook {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Hook::Xdp => "xdp",
            Hook::Tcx => "tcx",
            Hook::Clsact => "clsact",
        }
    }
}

/// The programs and filters at an interface of the calling thread's network namespace: those that see
/// a packet first stand first in each direction.
///
/// # Errors
/// [`Error::NoInterface`]; [`Error::System`] if the right is missing.
pub fn attached(interface: &str) -> Result<Vec<Attached>, Error> {
    let failed = |e: io::Error| match e.raw_os_error() {
        // It has gone since it was found.
        Some(libc::ENODEV) => Error::NoInterface { name: interface.into(), present: names() },
        _ => failed(format!("list the programs at `{interface}`"), e),
    };
    let mut links = Links::open().map_err(failed)?;
    let index = find(interface, &mut links)?.index;
    let mut found = Vec::new();
    if let Some(program) = xdp_program(&links.describe(index).map_err(failed)?) {
        let name = program_name(program);
        let (hook, way) = (Hook::Xdp, Way::Ingress);
        found.push(Attached { hook, way, program: Some(program), link: None, name });
    }
    for way in [Way::Ingress, Way::Egress] {
        let programs = match sys::tcx_programs(index, way) {
            // A kernel before 6.6 has no such hook.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Vec::new(),
            // A hook without programs.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Vec::new(),
            programs => programs.map_err(failed)?,
        };
        found.extend(programs.into_iter().map(|(program, link)| Attached {
            hook: Hook::Tcx,
            way,
            program: Some(program),
            link: (link != 0).then_some(link),
            name: program_name(program),
        }));
        found.extend(filters::at(index, way).map_err(failed)?);
    }
    Ok(found)
}

/// The tcx links of the host.
///
/// # Errors
/// [`Error::System`] if the right is missing.
pub fn tcx_links() -> Result<Vec<TcxLink>, Error> {
    let failed = |e| failed("list the host's BPF links".into(), e);
    let (mut found, mut last) = (Vec::new(), 0);
    for _ in 0..LINKS_MAX {
        let Some(id) = sys::next_link(last).map_err(failed)? else { break };
        last = id;
        let mut info = [0; LINK_INFO_BYTES];
        let told = sys::open_link(id).and_then(|link| sys::describe(link.as_fd(), &mut info));
        match told {
            Ok(()) => found.extend(tcx_link(&info)),
            // It has gone meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(found)
}

/// The id of a link that is pinned; `None` if there is nothing of this name, or it is no link.
pub fn pinned_link(path: &Path) -> Option<u32> {
    let object = pinned(path).ok()??;
    // What is told of a map or a program begins otherwise.
    let told = fs::read_link(format!("/proc/self/fd/{}", object.as_raw_fd())).ok()?;
    let mut info = [0; LINK_INFO_BYTES];
    sys::describe(object.as_fd(), &mut info).ok()?;
    told.to_string_lossy().contains("bpf_link").then(|| word(&info, 4))?
}

fn tcx_link(info: &[u8]) -> Option<TcxLink> {
    if word(info, 0)? != LINK_TYPE_TCX {
        return None;
    }
    let way = match word(info, 20)? {
        TCX_INGRESS => Way::Ingress,
        TCX_EGRESS => Way::Egress,
        _ => return None,
    };
    let (id, program) = (word(info, 4)?, word(info, 8)?);
    let interface_index = word(info, 16)?.cast_signed();
    Some(TcxLink { id, program, name: program_name(program), interface_index, way })
}

/// The name of a program; empty if it is gone, or has none.
fn program_name(id: u32) -> String {
    let mut info = [0; PROGRAM_INFO_BYTES];
    match sys::open_program(id).and_then(|program| sys::describe(program.as_fd(), &mut info)) {
        Ok(()) => text(&info[PROGRAM_NAME_AT..]),
        Err(_) => String::new(),
    }
}

/// What stands in front of the first NUL.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// The XDP program in what the kernel tells of an interface.
fn xdp_program(described: &[u8]) -> Option<u32> {
    let mut of = attributes(described.get(IFINFOMSG_LEN..)?);
    let (_, xdp) = of.find(|(kind, _)| *kind == XDP)?;
    let (_, id) = attributes(xdp).find(|(kind, _)| *kind == XDP_PROGRAM)?;
    word(id, 0).filter(|id| *id != 0)
}

fn attach_type(way: Way) -> u32 {
    match way {
        Way::Ingress => TCX_INGRESS,
        Way::Egress => TCX_EGRESS,
    }
}

fn failed(what: String, source: io::Error) -> Error {
    let mend = match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => NEEDS,
        _ => "",
    };
    Error::System { what, source, mend }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::Classifier;
    use crate::netns::Netns;
    use filter::ebpf::{Assembler, Register};

    fn pass() -> Classifier {
        let mut asm = Assembler::new();
        asm.copy(Register::R0, -1);
        asm.exit();
        Classifier::load("pass", &asm.finish().unwrap(), &[]).unwrap()
    }

    #[test]
    fn programs_are_listed_while_they_are_there() {
        if !rig::root_or_skip() {
            return;
        }
        let netns = Netns::new().unwrap();
        let inside = || {
            assert_eq!(attached("lo").unwrap(), []);
            let (one, other) = (pass(), pass());
            let _first = one.attach(1, Way::Ingress).unwrap();
            let second = other.attach(1, Way::Ingress).unwrap();
            let third = other.attach(1, Way::Egress).unwrap();
            let found = attached("lo").unwrap();
            assert!(found.iter().all(|a| a.is_ours() && a.hook == Hook::Tcx), "{found:?}");
            let ways: Vec<Way> = found.iter().map(|a| a.way).collect();
            assert_eq!(ways, [Way::Ingress, Way::Ingress, Way::Egress]);
            // In the order in which they run.
            assert_eq!(found[1].program, found[2].program);
            assert_ne!(found[0].program, found[1].program);
            let links = tcx_links().unwrap();
            for of in &found {
                let link = links.iter().find(|link| Some(link.id) == of.link).unwrap();
                assert_eq!((Some(link.program), link.way), (of.program, of.way));
                assert_eq!(link.interface_index, 1);
                assert!(link.is_ours());
            }
            let link = Object::Link(found[1].link.unwrap());
            let program = Object::Program(found[1].program.unwrap());
            assert!(link.is_there().unwrap() && program.is_there().unwrap());
            drop((second, third, other));
            assert_eq!(attached("lo").unwrap(), found[..1]);
            // A program is freed a little later.
            let gone = || !link.is_there().unwrap() && !program.is_there().unwrap();
            rig::wait_until("both are gone", std::time::Duration::from_secs(5), gone);
        };
        netns.run(inside).unwrap();
    }

    #[test]
    fn filters_of_others_are_listed_by_their_kind() {
        if !rig::root_or_skip() || !rig::tool_or_skip("tc") {
            return;
        }
        let netns = Netns::new().unwrap();
        for words in [
            "qdisc add dev lo clsact",
            "filter add dev lo ingress bpf da bytecode 1,6\u{a0}0\u{a0}0\u{a0}0",
            "filter add dev lo egress pref 7 bpf da bytecode 1,6\u{a0}0\u{a0}0\u{a0}0",
        ] {
            let words = words.split(' ').map(|word| word.replace('\u{a0}', " "));
            let output = netns.command("tc").args(words).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
        let found = netns.run(|| attached("lo").unwrap()).unwrap();
        let told: Vec<(Hook, Way, &str)> =
            found.iter().map(|a| (a.hook, a.way, a.name.as_str())).collect();
        let wanted = [(Hook::Clsact, Way::Ingress, "bpf"), (Hook::Clsact, Way::Egress, "bpf")];
        assert_eq!(told, wanted);
        assert!(found.iter().all(|a| !a.is_ours() && a.link.is_none()));
    }

    #[test]
    fn what_is_cut_short_or_of_another_kind_is_no_link() {
        let mut info = [0; LINK_INFO_BYTES];
        info[..4].copy_from_slice(&LINK_TYPE_TCX.to_ne_bytes());
        info[20..24].copy_from_slice(&TCX_EGRESS.to_ne_bytes());
        assert_eq!(tcx_link(&info).map(|link| link.way), Some(Way::Egress));
        for len in 0..24 {
            assert_eq!(tcx_link(&info[..len]), None, "{len} bytes");
        }
        info[20] = 1;
        assert_eq!(tcx_link(&info), None);
        info[0] = 1;
        assert_eq!(tcx_link(&info), None);
        assert_eq!((text(b"ab\0cd"), text(b"ab")), ("ab".into(), "ab".into()));
    }
}
