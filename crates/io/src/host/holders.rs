//! Which processes hold programs, links and sockets open, as /proc tells it.
//!
//! Source: proc_pid_fd(5), proc_pid_fdinfo(5); Linux `kernel/bpf/syscall.c`, `bpf_prog_show_fdinfo`
//! and `bpf_link_show_fdinfo`.

use crate::bpf::list::Object;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Processes that are looked at; a host has no more.
const PROCESSES_MAX: usize = 1 << 22;

/// A process that holds something open.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// The name of its program, of which the kernel keeps 15 bytes.
    pub name: String,
}

/// Who held what when this was made. Other users' processes are seen only by root.
#[derive(Debug, Default)]
pub struct Holders {
    programs: HashMap<u32, Vec<Process>>,
    links: HashMap<u32, Vec<Process>>,
    sockets: HashMap<u64, Vec<Process>>,
}

impl Holders {
    /// Looks at all processes. What cannot be read, or ends meanwhile, is passed over.
    pub fn look() -> Holders {
        let mut holders = Holders::default();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        for pid in pids.take(PROCESSES_MAX) {
            holders.look_at(pid);
        }
        holders
    }

    /// Who holds a program open, other than by a link.
    pub fn of_program(&self, id: u32) -> &[Process] {
        self.programs.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Who holds a link open.
    pub fn of_link(&self, id: u32) -> &[Process] {
        self.links.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Who holds a socket open, by its inode.
    pub fn of_socket(&self, inode: u64) -> &[Process] {
        self.sockets.get(&inode).map_or(&[], Vec::as_slice)
    }

    fn look_at(&mut self, pid: u32) {
        let process = || {
            let name = fs::read_to_string(folder(pid).join("comm")).unwrap_or_default();
            Process { pid, name: name.trim_end().into() }
        };
        for (descriptor, target) in descriptors(pid) {
            if let Some(inode) = socket_inode(&target) {
                add(&mut self.sockets, inode, process);
                continue;
            }
            match object(pid, &descriptor, &target) {
                Some(Object::Link(id)) => add(&mut self.links, id, process),
                Some(Object::Program(id)) => add(&mut self.programs, id, process),
                Some(Object::Map(_)) | None => {}
            }
        }
    }
}

/// What a process holds of bpf(2), each once.
pub fn held_by(pid: u32) -> Vec<Object> {
    let mut held = Vec::new();
    for (descriptor, target) in descriptors(pid) {
        held.extend(object(pid, &descriptor, &target).filter(|object| !held.contains(object)));
    }
    held
}

fn folder(pid: u32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

/// A process's descriptors, and what they stand for.
fn descriptors(pid: u32) -> impl Iterator<Item = (PathBuf, String)> {
    let entries = fs::read_dir(folder(pid).join("fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let target = fs::read_link(entry.path()).ok()?;
        Some((entry.file_name().into(), target.to_str()?.to_owned()))
    })
}

/// The object that a descriptor stands for.
fn object(pid: u32, descriptor: &Path, target: &str) -> Option<Object> {
    if !target.starts_with("anon_inode:bpf") && !target.starts_with("anon_inode:[bpf") {
        return None;
    }
    let info = fs::read_to_string(folder(pid).join("fdinfo").join(descriptor)).ok()?;
    // A link names its program, too.
    let link = number(&info, "link_id:").map(Object::Link);
    let program = || number(&info, "prog_id:").map(Object::Program);
    link.or_else(program).or_else(|| number(&info, "map_id:").map(Object::Map))
}

/// Adds a process once, however many descriptors it has of the same.
fn add<K: std::hash::Hash + Eq>(
    to: &mut HashMap<K, Vec<Process>>,
    key: K,
    process: impl FnOnce() -> Process,
) {
    let process = process();
    let known = to.entry(key).or_default();
    if !known.contains(&process) {
        known.push(process);
    }
}

/// The inode in `socket:[7]`.
fn socket_inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The number behind a key of an fdinfo file.
fn number(info: &str, key: &str) -> Option<u32> {
    info.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_socket_s_holder_is_this_process() {
        let (one, _other) = UnixStream::pair().unwrap();
        let file = fs::File::from(std::os::fd::OwnedFd::from(one.try_clone().unwrap()));
        let inode = file.metadata().unwrap().ino();
        let pids = |holders: &Holders| -> Vec<u32> {
            holders.of_socket(inode).iter().map(|process| process.pid).collect()
        };
        assert_eq!(pids(&Holders::look()), [std::process::id()]);
        drop((one, file));
        assert!(pids(&Holders::look()).is_empty());
    }

    #[test]
    fn a_link_s_holder_is_this_process() {
        if !rig::root_or_skip() {
            return;
        }
        let hold = || {
            let mut asm = filter::ebpf::Assembler::new();
            asm.copy(filter::ebpf::Register::R0, -1);
            asm.exit();
            let program =
                crate::bpf::Classifier::load("pass", &asm.finish().unwrap(), &[]).unwrap();
            let link = program.attach(1, crate::bpf::Way::Ingress).unwrap();
            let found = crate::bpf::list::attached("lo").unwrap();
            (program, link, found[0].clone())
        };
        let netns = crate::netns::Netns::new().unwrap();
        let (program, link, found) = netns.run(hold).unwrap();
        let pids =
            |processes: &[Process]| -> Vec<u32> { processes.iter().map(|p| p.pid).collect() };
        let holders = Holders::look();
        let me = [std::process::id()];
        let held = held_by(me[0]);
        assert!(held.contains(&Object::Link(found.link.unwrap())), "{held:?}");
        assert!(held.contains(&Object::Program(found.program.unwrap())), "{held:?}");
        assert_eq!(pids(holders.of_link(found.link.unwrap())), me);
        assert_eq!(pids(holders.of_program(found.program.unwrap())), me);
        drop((program, link));
        assert!(pids(Holders::look().of_link(found.link.unwrap())).is_empty());
    }

    #[test]
    fn lines_are_read_and_others_passed_over() {
        let info = "pos:\t0\nflags:\t02000000\nlink_type:\ttcx\nlink_id:\t12\nprog_id:\t71\n";
        assert_eq!((number(info, "link_id:"), number(info, "prog_id:")), (Some(12), Some(71)));
        assert_eq!((number(info, "map_id:"), number("prog_id:\tx", "prog_id:")), (None, None));
        assert_eq!((socket_inode("socket:[7]"), socket_inode("pipe:[7]")), (Some(7), None));
    }
}
