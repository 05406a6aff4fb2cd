//! ioctls about interfaces.
//!
//! Source: netdevice(7), Linux `include/uapi/linux/ethtool.h`.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `ETHTOOL_GSET` of `linux/ethtool.h`.
const ETHTOOL_GSET: u32 = 1;

/// `ETHTOOL_GSTRINGS`, `ETHTOOL_GSSET_INFO`, `ETHTOOL_GFEATURES`, and the set of the features' names.
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETH_SS_FEATURES: u32 = 4;
/// `ETHTOOL_SFEATURES`.
const ETHTOOL_SFEATURES: u32 = 0x3b;
/// `ETH_GSTRING_LEN`.
const STRING_LEN: usize = 32;
/// More than any kernel has (64 in Linux 6.18).
const FEATURES_MAX: usize = 1024;

/// `struct ethtool_cmd`.
#[repr(C)]
#[derive(Default)]
struct EthtoolCommand {
    cmd: u32,
    supported: u32,
    advertising: u32,
    speed: u16,
    /// Duplex, port, PHY, transceiver, negotiation, MDIO.
    kinds: [u8; 6],
    packets: [u32; 2],
    speed_high: u16,
    crossover: [u8; 2],
    partner: u32,
    reserved: [u32; 2],
}

/// The name of an interface by its index.
pub(super) fn name(socket: BorrowedFd<'_>, index: i32) -> io::Result<String> {
    // SAFETY: an all-zero ifreq is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_ifru.ifru_ifindex = index;
    // SAFETY: the kernel reads the index and writes a name that ends in a NUL, inside the request.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFNAME as _, &mut request) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let bytes: Vec<u8> =
        request.ifr_name.iter().take_while(|&&c| c != 0).map(|&c| c.cast_unsigned()).collect();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The speed of an interface in Mb/s as the driver says it; 65535 or more words of it mean unknown.
pub(super) fn speed_mbps(socket: BorrowedFd<'_>, name: &str) -> io::Result<u32> {
    let mut command = EthtoolCommand { cmd: ETHTOOL_GSET, ..EthtoolCommand::default() };
    let mut request = request(name)?;
    request.ifr_ifru.ifru_data = std::ptr::from_mut(&mut command).cast();
    // SAFETY: the request holds a name that ends in a NUL, and points to a command that outlives the
    // call and has the layout that its first word asks for.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &mut request) };
    match result {
        0 => Ok(u32::from(command.speed_high) << 16 | u32::from(command.speed)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The names of an interface's features (offloads), and whether each is on.
pub(super) fn features(socket: BorrowedFd<'_>, name: &str) -> io::Result<Vec<(String, bool)>> {
    let names = feature_names(socket, name)?;
    // struct ethtool_gfeatures: command, number of blocks; for each 32 features a block: available,
    // requested, active, never changed.
    let blocks = names.len().div_ceil(32);
    let mut states = vec![0u32; 2 + 4 * blocks];
    states[..2].copy_from_slice(&[ETHTOOL_GFEATURES, blocks as u32]);
    ethtool(socket, name, &mut states)?;
    let is_on = |bit: usize| states[2 + 4 * (bit / 32) + 2] >> (bit % 32) & 1 != 0;
    let features = names.into_iter().enumerate().map(|(bit, name)| (name, is_on(bit)));
    Ok(features.filter(|(name, _)| !name.is_empty()).collect())
}

/// The names of an interface's features, by their bits; those that have none are empty.
fn feature_names(socket: BorrowedFd<'_>, name: &str) -> io::Result<Vec<String>> {
    // struct ethtool_sset_info: command, reserved, mask of sets (64 bits), a number for each set.
    let mask = (1u64 << ETH_SS_FEATURES).to_ne_bytes();
    let half = |at: usize| u32::from_ne_bytes([mask[at], mask[at + 1], mask[at + 2], mask[at + 3]]);
    let mut info = [ETHTOOL_GSSET_INFO, 0, half(0), half(4), 0, 0];
    ethtool(socket, name, &mut info)?;
    let count = info[4] as usize;
    if count == 0 || count > FEATURES_MAX {
        return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
    }
    // struct ethtool_gstrings: command, set, number of strings, the strings. The kernel writes as
    // many as it has just said: they are fixed when it is built.
    let mut strings = vec![0u32; 3 + count * STRING_LEN / 4];
    strings[..3].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count as u32]);
    ethtool(socket, name, &mut strings)?;
    let bytes: Vec<u8> = strings[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let names = bytes.chunks(STRING_LEN).map(|string| {
        let end = string.iter().position(|&byte| byte == 0).unwrap_or(STRING_LEN);
        String::from_utf8_lossy(&string[..end]).into_owned()
    });
    Ok(names.collect())
}

/// Switches those features of an interface off whose names are wanted.
pub(super) fn switch_off(
    socket: BorrowedFd<'_>,
    name: &str,
    mut is_wanted: impl FnMut(&str) -> bool,
) -> io::Result<()> {
    let names = feature_names(socket, name)?;
    // struct ethtool_sfeatures: command, number of blocks; for each 32 features a block: which are
    // set, to what.
    let blocks = names.len().div_ceil(32);
    let mut states = vec![0u32; 2 + 2 * blocks];
    states[..2].copy_from_slice(&[ETHTOOL_SFEATURES, blocks as u32]);
    for (bit, _) in names.iter().enumerate().filter(|(_, name)| is_wanted(name)) {
        states[2 + 2 * (bit / 32)] |= 1 << (bit % 32);
    }
    ethtool(socket, name, &mut states)
}

/// Has ethtool do a command, and writes its answer over it.
fn ethtool(socket: BorrowedFd<'_>, name: &str, command: &mut [u32]) -> io::Result<()> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_data = command.as_mut_ptr().cast();
    // SAFETY: the request holds a name that ends in a NUL, and points to a command that outlives the
    // call; the callers made it as long as its first words say that the answer is.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &mut request) };
    // Where features are set, it is positive if not all of them could be.
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The MTU of an interface, bytes.
pub(super) fn mtu(socket: BorrowedFd<'_>, name: &str) -> io::Result<u32> {
    let mut request = request(name)?;
    // SAFETY: the request holds a name that ends in a NUL; the kernel writes the MTU inside it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU as _, &mut request) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has written this field; any bits are a number.
    Ok(unsafe { request.ifr_ifru.ifru_mtu }.cast_unsigned())
}

/// Sets the MTU of an interface, bytes.
pub(super) fn set_mtu(socket: BorrowedFd<'_>, name: &str, mtu: u32) -> io::Result<()> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_mtu = mtu.cast_signed();
    // SAFETY: the request holds a name that ends in a NUL; the kernel only reads it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFMTU as _, &request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The lower 16 of the flags (`IFF_…`) of an interface.
pub(super) fn flags(socket: BorrowedFd<'_>, name: &str) -> io::Result<i16> {
    let mut request = request(name)?;
    // SAFETY: the request holds a name that ends in a NUL; the kernel writes the flags inside it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &mut request) };
    match result {
        // SAFETY: the kernel has written this field; any bits are flags.
        0 => Ok(unsafe { request.ifr_ifru.ifru_flags }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets flags (`IFF_…`) of an interface beside those that it has.
pub(super) fn add_flags(socket: BorrowedFd<'_>, name: &str, added: i32) -> io::Result<()> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_flags = flags(socket, name)? | added as i16;
    // SAFETY: as for the MTU.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A request about an interface.
fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: an all-zero ifreq is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= libc::IFNAMSIZ {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (slot, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *slot = byte.cast_signed();
    }
    Ok(request)
}

/// The names of this network namespace's interfaces.
pub(super) fn names() -> Vec<String> {
    let mut names = Vec::new();
    // SAFETY: the list is freed below; it ends with an entry of index 0 and a null name.
    unsafe {
        let list = libc::if_nameindex();
        let mut entry = list;
        while !entry.is_null() && (*entry).if_index != 0 {
            names.push(std::ffi::CStr::from_ptr((*entry).if_name).to_string_lossy().into_owned());
            entry = entry.add(1);
        }
        if !list.is_null() {
            libc::if_freenameindex(list);
        }
    }
    names
}
