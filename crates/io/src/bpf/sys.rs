//! The bpf(2) system call, and the socket option that attaches a program.
//!
//! Source: bpf(2); Linux `include/uapi/linux/bpf.h`, `union bpf_attr`; socket(7).

#![allow(unsafe_code)]

use filter::ebpf::Encoded;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const MAP_CREATE: i32 = 0;
const MAP_LOOKUP_ELEM: i32 = 1;
const MAP_UPDATE_ELEM: i32 = 2;
const MAP_DELETE_ELEM: i32 = 3;
const MAP_GET_NEXT_KEY: i32 = 4;
const PROG_LOAD: i32 = 5;
const OBJ_PIN: i32 = 6;
const OBJ_GET: i32 = 7;
const PROG_TEST_RUN: i32 = 10;
const OBJ_GET_INFO: i32 = 15;
const LINK_CREATE: i32 = 28;
const LINK_UPDATE: i32 = 29;

/// Where a program is to run (`enum bpf_prog_type`).
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub(super) enum ProgramType {
    /// Before a socket.
    SocketFilter = 1,
    /// On packets that pass an interface.
    Classifier = 3,
}

/// `BPF_TCX_INGRESS` and `BPF_TCX_EGRESS` of `enum bpf_attach_type`.
pub(super) const TCX_INGRESS: u32 = 46;
pub(super) const TCX_EGRESS: u32 = 47;
/// `BPF_F_BEFORE`: without another program named, in front of all.
const BEFORE: u32 = 1 << 3;
const NAME_BYTES: usize = 16;

/// What a map holds.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub(super) enum MapType {
    /// Values by a key, at first none.
    Hash = 1,
    /// Values by their place; at first all are 0.
    Array = 2,
    /// Programs, to be called by their place.
    Programs = 3,
    /// Values, of which each CPU has its own; at first all are 0.
    PerCpuArray = 6,
    /// Values by a key, of which the one that was used longest ago makes room for a new one.
    LruHash = 9,
    /// Values by the longest prefix of a key; at first none.
    PrefixTrie = 11,
    /// Maps, by their place; at first none.
    Maps = 12,
    /// Records in order, from programs to a process.
    Records = 27,
}

/// Entries are allocated when they come (`BPF_F_NO_PREALLOC`), which a trie asks for.
const NO_PREALLOC: u32 = 1;

/// Makes a map whose keys are the places of its elements.
pub(super) fn create_map(
    map_type: MapType,
    name: &str,
    value_bytes: u32,
    elements: u32,
) -> io::Result<OwnedFd> {
    create(&mut MapCreate {
        map_type: map_type as u32,
        key_size: size_of::<u32>() as u32,
        value_size: value_bytes,
        max_entries: elements,
        map_flags: 0,
        inner_map_fd: 0,
        numa_node: 0,
        map_name: object_name(name),
    })
}

/// Makes a map of any kind whose keys and values are plain bytes.
pub(super) fn create_any_map(
    map_type: MapType,
    name: &str,
    key_bytes: u32,
    value_bytes: u32,
    elements: u32,
) -> io::Result<OwnedFd> {
    create(&mut MapCreate {
        map_type: map_type as u32,
        key_size: key_bytes,
        value_size: value_bytes,
        max_entries: elements,
        map_flags: 0,
        inner_map_fd: 0,
        numa_node: 0,
        map_name: object_name(name),
    })
}

/// Makes a map from prefixes to words of 64 bits.
pub(super) fn create_prefix_map(name: &str, key_bytes: u32, elements: u32) -> io::Result<OwnedFd> {
    create(&mut MapCreate {
        map_type: MapType::PrefixTrie as u32,
        key_size: key_bytes,
        value_size: size_of::<u64>() as u32,
        max_entries: elements,
        map_flags: NO_PREALLOC,
        inner_map_fd: 0,
        numa_node: 0,
        map_name: object_name(name),
    })
}

/// Makes a map of maps that are made as `sample` is.
pub(super) fn create_map_of_maps(
    name: &str,
    sample: BorrowedFd<'_>,
    elements: u32,
) -> io::Result<OwnedFd> {
    create(&mut MapCreate {
        map_type: MapType::Maps as u32,
        key_size: size_of::<u32>() as u32,
        value_size: size_of::<u32>() as u32,
        max_entries: elements,
        map_flags: 0,
        inner_map_fd: sample.as_raw_fd() as u32,
        numa_node: 0,
        map_name: object_name(name),
    })
}

#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; NAME_BYTES],
}

fn create(attributes: &mut MapCreate) -> io::Result<OwnedFd> {
    // SAFETY: the attributes are laid out as `union bpf_attr` and hold no pointer.
    descriptor(unsafe { bpf(MAP_CREATE, attributes) })
}

/// Where an element of a map stands, and where its value.
#[repr(C)]
struct MapElement {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Puts a program into a map of programs.
pub(super) fn put_program(
    map: BorrowedFd<'_>,
    element: u32,
    program: BorrowedFd<'_>,
) -> io::Result<()> {
    let descriptor = program.as_raw_fd() as u32;
    let mut attributes = MapElement {
        map_fd: map.as_raw_fd() as u32,
        padding: 0,
        key: address(&raw const element),
        value: address(&raw const descriptor),
        flags: 0,
    };
    // SAFETY: key and value are the four bytes each that a map of programs has, and are only read.
    unsafe { bpf(MAP_UPDATE_ELEM, &mut attributes) }.map(|_| ())
}

/// Puts a word into a map of prefixes, whose keys have no more bytes than this.
pub(super) fn put_bits(map: BorrowedFd<'_>, key: &[u8; 20], bits: u64) -> io::Result<()> {
    let mut attributes = MapElement {
        map_fd: map.as_raw_fd() as u32,
        padding: 0,
        key: address(key.as_ptr()),
        value: address(&raw const bits),
        flags: 0,
    };
    // SAFETY: key and value have at least the bytes that a map of prefixes has, and are only read.
    unsafe { bpf(MAP_UPDATE_ELEM, &mut attributes) }.map(|_| ())
}

/// Takes a prefix out of a map.
pub(super) fn remove(map: BorrowedFd<'_>, key: &[u8; 20]) -> io::Result<()> {
    let mut attributes = MapElement {
        map_fd: map.as_raw_fd() as u32,
        padding: 0,
        key: address(key.as_ptr()),
        value: 0,
        flags: 0,
    };
    // SAFETY: the key has at least the bytes that a map of prefixes has, and is only read.
    unsafe { bpf(MAP_DELETE_ELEM, &mut attributes) }.map(|_| ())
}

/// Reads a per-CPU element: for each possible CPU as many words as the value has.
///
/// # Panics
/// If `words` is shorter than `words_needed`, which the caller computes from the map's value and
/// the number of possible CPUs.
pub(super) fn look_up(
    map: BorrowedFd<'_>,
    element: u32,
    words: &mut [u64],
    words_needed: usize,
) -> io::Result<()> {
    assert!(words.len() >= words_needed, "{} words of {words_needed}", words.len());
    let mut attributes = MapElement {
        map_fd: map.as_raw_fd() as u32,
        padding: 0,
        key: address(&raw const element),
        value: words.as_mut_ptr() as u64,
        flags: 0,
    };
    // SAFETY: the key is the four bytes that the map's keys have, and the kernel writes the value
    // once for each possible CPU, which is what `words` was seen to hold.
    unsafe { bpf(MAP_LOOKUP_ELEM, &mut attributes) }.map(|_| ())
}

/// Reads an element into `value`. Returns whether there is one.
///
/// `key` has the bytes of the map's keys. `value` has those of its values, or for a per-CPU map, for
/// each possible CPU those of its values, which are multiples of 8. [`Map`](super::Map) sees to both.
pub(super) fn get_of(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
    let mut attributes = MapElement {
        map_fd: map.as_raw_fd() as u32,
        padding: 0,
        key: address(key.as_ptr()),
        value: value.as_mut_ptr() as u64,
        flags: 0,
    };
    // SAFETY: both buffers are as long as the map's keys and values, as `Map` has checked.
    match unsafe { bpf(MAP_LOOKUP_ELEM, &mut attributes) } {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes an element. Key and value are as for [`get_of`].
pub(super) fn put_of(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    let mut attributes = MapElement {
        map_fd: map.as_raw_fd() as u32,
        padding: 0,
        key: address(key.as_ptr()),
        value: address(value.as_ptr()),
        flags: 0,
    };
    // SAFETY: both buffers are as long as the map's keys and values, as `Map` has checked.
    unsafe { bpf(MAP_UPDATE_ELEM, &mut attributes) }.map(|_| ())
}

/// Removes an element. Returns whether there was one. The key is as for [`get_of`].
pub(super) fn delete_of(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<bool> {
    let mut attributes = MapElement {
        map_fd: map.as_raw_fd() as u32,
        padding: 0,
        key: address(key.as_ptr()),
        value: 0,
        flags: 0,
    };
    // SAFETY: the key is as long as the map's keys, as `Map` has checked.
    match unsafe { bpf(MAP_DELETE_ELEM, &mut attributes) } {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes the key behind `key` in the map's order to `next`; the first one if there is no `key`.
/// Returns whether there is one. Both have the bytes of the map's keys.
pub(super) fn next_key_of(
    map: BorrowedFd<'_>,
    key: Option<&[u8]>,
    next: &mut [u8],
) -> io::Result<bool> {
    let mut attributes = MapElement {
        map_fd: map.as_raw_fd() as u32,
        padding: 0,
        key: key.map_or(0, |key| address(key.as_ptr())),
        value: next.as_mut_ptr() as u64,
        flags: 0,
    };
    // SAFETY: both buffers are as long as the map's keys and values, as `Map` has checked.
    match unsafe { bpf(MAP_GET_NEXT_KEY, &mut attributes) } {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Gives a program, map or link a name in a BPF file system, where it lives on without a descriptor.
pub(super) fn pin(object: BorrowedFd<'_>, path: &CStr) -> io::Result<()> {
    let mut attributes =
        Pinned { path: path.as_ptr() as u64, fd: object.as_raw_fd() as u32, flags: 0 };
    // SAFETY: the path ends in a NUL and is only read.
    unsafe { bpf(OBJ_PIN, &mut attributes) }.map(|_| ())
}

/// Opens what has a name in a BPF file system.
pub(super) fn pinned(path: &CStr) -> io::Result<OwnedFd> {
    let mut attributes = Pinned { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: the path ends in a NUL and is only read.
    descriptor(unsafe { bpf(OBJ_GET, &mut attributes) })
}

/// What a map is: its type, bytes of its keys and values, and how many it has room for.
pub(super) fn describe_map(map: BorrowedFd<'_>) -> io::Result<[u32; 4]> {
    #[repr(C)]
    struct Info {
        bpf_fd: u32,
        info_len: u32,
        info: u64,
    }
    // The first fields of `struct bpf_map_info`: type, id, key_size, value_size, max_entries.
    let mut info = [0u32; 5];
    let mut attributes = Info {
        bpf_fd: map.as_raw_fd() as u32,
        info_len: size_of_val(&info) as u32,
        info: info.as_mut_ptr() as u64,
    };
    // SAFETY: the kernel writes at most `info_len` bytes of the object's description, in words.
    unsafe { bpf(OBJ_GET_INFO, &mut attributes) }?;
    let [map_type, _, key, value, entries] = info;
    Ok([map_type, key, value, entries])
}

#[repr(C)]
struct Pinned {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Loads a program. A log buffer that is not empty gets the verifier's words.
pub(super) fn load_program(
    program_type: ProgramType,
    name: &str,
    code: &[Encoded],
    log: &mut [u8],
) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct ProgramLoad {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
        kern_version: u32,
        prog_flags: u32,
        prog_name: [u8; NAME_BYTES],
    }
    let license = c"Apache-2.0";
    let mut attributes = ProgramLoad {
        prog_type: program_type as u32,
        insn_cnt: u32::try_from(code.len()).unwrap_or(u32::MAX),
        insns: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: log.len() as u32,
        log_buf: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
        kern_version: 0,
        prog_flags: 0,
        prog_name: object_name(name),
    };
    // SAFETY: `Encoded` is laid out as `struct bpf_insn`, and `insn_cnt` of them are read; the
    // licence ends in a NUL; the kernel writes at most `log_size` bytes of the log. All outlive
    // the call, which keeps none of them.
    descriptor(unsafe { bpf(PROG_LOAD, &mut attributes) })
}

/// What a test run passes in the packet's `struct __sk_buff`; the other fields must be 0.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Context {
    pub gso_segs: u32,
    pub gso_size: u32,
    /// The interface that the packet seems to have come by; 0: loopback.
    pub ifindex: u32,
}

/// A test run's outcome: the program's return value, and the mean time of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ran {
    pub value: u32,
    pub mean_ns: u32,
    /// Bytes of the packet afterwards; 0 unless there was room for them.
    pub out_bytes: usize,
}

/// Runs a program over a packet, several times; what it makes of the packet is written to `out`.
pub(super) fn test_run(
    program: BorrowedFd<'_>,
    packet: &[u8],
    context: Context,
    repeat: u32,
    out: &mut [u8],
) -> io::Result<Ran> {
    /// `struct __sk_buff`, whose fields are mostly refused here.
    #[repr(C)]
    struct SkBuff {
        before: [u32; 10],
        ifindex: u32,
        between: [u32; 30],
        gso_segs: u32,
        socket: u64,
        gso_size: u32,
        padding: u32,
        hwtstamp: u64,
    }
    const _: () = assert!(std::mem::offset_of!(SkBuff, ifindex) == 40);
    const _: () = assert!(std::mem::offset_of!(SkBuff, gso_segs) == 164);
    const _: () = assert!(std::mem::offset_of!(SkBuff, gso_size) == 176);
    #[repr(C)]
    struct TestRun {
        prog_fd: u32,
        retval: u32,
        data_size_in: u32,
        data_size_out: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
        ctx_size_in: u32,
        ctx_size_out: u32,
        ctx_in: u64,
        ctx_out: u64,
    }
    let context = SkBuff {
        before: [0; 10],
        ifindex: context.ifindex,
        between: [0; 30],
        gso_segs: context.gso_segs,
        socket: 0,
        gso_size: context.gso_size,
        padding: 0,
        hwtstamp: 0,
    };
    let mut attributes = TestRun {
        prog_fd: program.as_raw_fd() as u32,
        retval: 0,
        data_size_in: packet.len() as u32,
        data_size_out: out.len() as u32,
        data_in: packet.as_ptr() as u64,
        data_out: if out.is_empty() { 0 } else { out.as_mut_ptr() as u64 },
        repeat,
        duration: 0,
        ctx_size_in: size_of::<SkBuff>() as u32,
        ctx_size_out: 0,
        ctx_in: address(&raw const context),
        ctx_out: 0,
    };
    // SAFETY: the packet and the context are read as far as their sizes say; beside the attributes
    // only `out` is written, as far as its size says.
    unsafe { bpf(PROG_TEST_RUN, &mut attributes) }?;
    let out_bytes = if out.is_empty() { 0 } else { attributes.data_size_out as usize };
    Ok(Ran { value: attributes.retval, mean_ns: attributes.duration, out_bytes })
}

/// Where a classifier runs among those that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    First,
    Last,
}

/// Has a classifier run at the ingress or egress of an interface, for as long as the link's descriptor
/// is open. Kernels before 6.6 cannot.
pub(super) fn attach_tcx(
    program: BorrowedFd<'_>,
    interface_index: i32,
    is_egress: bool,
    place: Place,
) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct LinkCreate {
        prog_fd: u32,
        target_ifindex: i32,
        attach_type: u32,
        flags: u32,
        relative: u32,
        _padding: u32,
        expected_revision: u64,
    }
    let mut attributes = LinkCreate {
        prog_fd: program.as_raw_fd() as u32,
        target_ifindex: interface_index,
        attach_type: if is_egress { TCX_EGRESS } else { TCX_INGRESS },
        flags: if place == Place::First { BEFORE } else { 0 },
        relative: 0,
        _padding: 0,
        expected_revision: 0,
    };
    // SAFETY: the attributes are laid out as `union bpf_attr` and hold no pointer.
    descriptor(unsafe { bpf(LINK_CREATE, &mut attributes) })
}

/// Puts another program in the place of a link's, between two packets.
pub(super) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    struct LinkUpdate {
        link_fd: u32,
        new_prog_fd: u32,
        flags: u32,
        old_prog_fd: u32,
    }
    let mut attributes = LinkUpdate {
        link_fd: link.as_raw_fd() as u32,
        new_prog_fd: program.as_raw_fd() as u32,
        flags: 0,
        old_prog_fd: 0,
    };
    // SAFETY: the attributes are laid out as `union bpf_attr` and hold no pointer.
    unsafe { bpf(LINK_UPDATE, &mut attributes) }.map(|_| ())
}

/// Attaches a program to a socket; it takes the place of one that was there.
pub(super) fn attach(socket: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let descriptor = program.as_raw_fd();
    crate::sys::set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_BPF, &descriptor)
}

fn address<T>(pointer: *const T) -> u64 {
    pointer as u64
}

/// An object's name, for bpftool; cut to what fits.
fn object_name(name: &str) -> [u8; NAME_BYTES] {
    let mut out = [0; NAME_BYTES];
    for (to, from) in out[..NAME_BYTES - 1].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    out
}

/// Takes over a descriptor that the kernel has just made.
pub(super) fn descriptor(result: io::Result<i32>) -> io::Result<OwnedFd> {
    // SAFETY: the kernel has just made this descriptor, and nothing else owns it.
    result.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The system call; the kernel takes the bytes that are missing in `attributes` as 0.
///
/// # Safety
/// `T` is laid out as the command's part of `union bpf_attr`, and the pointers in it are valid for
/// what the command does with them.
pub(super) unsafe fn bpf<T>(command: i32, attributes: &mut T) -> io::Result<i32> {
    let size = size_of::<T>();
    // SAFETY: the caller's promise; `attributes` itself is read and written in its size.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as libc::c_long, std::ptr::from_mut(attributes), size)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
