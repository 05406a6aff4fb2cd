//! Sends frames as they are.

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, bind, socket};
use std::fs::File;
use std::os::fd::AsRawFd;

/// A packet socket of the calling thread's namespace: what is written leaves on an interface.
pub fn sender(interface: &str) -> File {
    let mut links = getifaddrs().expect("interfaces are listed");
    let address = links.find_map(|link| {
        let address = link.address.filter(|_| link.interface_name == interface)?;
        address.as_link_addr().copied()
    });
    let address = address.unwrap_or_else(|| panic!("{interface} has no link address"));
    let opened = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None);
    let opened = opened.expect("root may");
    bind(opened.as_raw_fd(), &address).expect("the interface is there");
    File::from(opened)
}
