//! Calls of bpf(2) that tell of programs and links, whoever made them.
//!
//! Source: Linux `include/uapi/linux/bpf.h`: `struct bpf_prog_info`, `struct bpf_link_info`, and the
//! parts of `union bpf_attr` that `BPF_*_GET_NEXT_ID`, `BPF_*_GET_FD_BY_ID`, `BPF_OBJ_GET_INFO_BY_FD`
//! and `BPF_PROG_QUERY` take.

#![allow(unsafe_code)]

use super::super::Way;
use super::super::sys::{bpf, descriptor};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

const PROG_GET_FD_BY_ID: i32 = 13;
const MAP_GET_FD_BY_ID: i32 = 14;
const OBJ_GET_INFO_BY_FD: i32 = 15;
const PROG_QUERY: i32 = 16;
const LINK_GET_FD_BY_ID: i32 = 30;
const LINK_GET_NEXT_ID: i32 = 31;

/// Programs of one hook that are listed; the kernel has no room for more (`BPF_MPROG_MAX`).
const HOOK_PROGRAMS_MAX: usize = 64;

#[repr(C)]
struct ById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// The link whose id is the next above this one.
pub(super) fn next_link(id: u32) -> io::Result<Option<u32>> {
    let mut attributes = ById { id, next_id: 0, open_flags: 0 };
    // SAFETY: the attributes are laid out as `union bpf_attr` and hold no pointer.
    match unsafe { bpf(LINK_GET_NEXT_ID, &mut attributes) } {
        Ok(_) => Ok(Some(attributes.next_id)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a link by its id. It stays while the descriptor is open.
pub(super) fn open_link(id: u32) -> io::Result<OwnedFd> {
    open(LINK_GET_FD_BY_ID, id)
}

/// Opens a program by its id.
pub(super) fn open_program(id: u32) -> io::Result<OwnedFd> {
    open(PROG_GET_FD_BY_ID, id)
}

/// Opens a map by its id.
pub(super) fn open_map(id: u32) -> io::Result<OwnedFd> {
    open(MAP_GET_FD_BY_ID, id)
}

fn open(command: i32, id: u32) -> io::Result<OwnedFd> {
    let mut attributes = ById { id, next_id: 0, open_flags: 0 };
    // SAFETY: the attributes are laid out as `union bpf_attr` and hold no pointer.
    descriptor(unsafe { bpf(command, &mut attributes) })
}

/// Has the kernel write what it tells of an object: as much as fits, zeros behind it.
pub(super) fn describe(object: BorrowedFd<'_>, info: &mut [u8]) -> io::Result<()> {
    #[repr(C)]
    struct Info {
        bpf_fd: u32,
        info_len: u32,
        info: u64,
    }
    info.fill(0);
    let mut attributes = Info {
        bpf_fd: object.as_raw_fd() as u32,
        info_len: info.len() as u32,
        info: info.as_mut_ptr() as u64,
    };
    // SAFETY: the kernel writes at most `info_len` bytes to `info`. The lengths and pointers in it are
    // 0, so nothing is written through them.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attributes) }.map(|_| ())
}

/// The tcx programs of an interface of the calling thread's network namespace in the order in which
/// they run: the ids of the program and of its link, of which the latter is 0 if it has none.
pub(super) fn tcx_programs(interface_index: i32, way: Way) -> io::Result<Vec<(u32, u32)>> {
    #[repr(C)]
    struct Query {
        target_ifindex: i32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        prog_ids: u64,
        count: u32,
        padding: u32,
        prog_attach_flags: u64,
        link_ids: u64,
        link_attach_flags: u64,
        revision: u64,
    }
    let (mut programs, mut links) = ([0u32; HOOK_PROGRAMS_MAX], [0u32; HOOK_PROGRAMS_MAX]);
    let mut attributes = Query {
        target_ifindex: interface_index,
        attach_type: super::attach_type(way),
        query_flags: 0,
        attach_flags: 0,
        prog_ids: programs.as_mut_ptr() as u64,
        count: HOOK_PROGRAMS_MAX as u32,
        padding: 0,
        prog_attach_flags: 0,
        link_ids: links.as_mut_ptr() as u64,
        link_attach_flags: 0,
        revision: 0,
    };
    // SAFETY: the attributes are laid out as `union bpf_attr`; the kernel writes at most `count` ids
    // to each of the two lists, which have room for so many, and nothing through pointers that are 0.
    unsafe { bpf(PROG_QUERY, &mut attributes) }?;
    let count = (attributes.count as usize).min(HOOK_PROGRAMS_MAX);
    Ok(programs.into_iter().zip(links).take(count).collect())
}
