//! The packet sockets of a network namespace: taps by ring, tcpdump and others.
//!
//! Source: packet(7), proc_net(5); Linux `net/packet/af_packet.c`, `packet_seq_show`.
//!
//! ```text
//! sk               RefCnt Type Proto  Iface R Rmem   User   Inode
//! 00000000c0ffee00 3      3    0003   2     1 0      0      71234
//! ```

use crate::error::Error;

/// A packet socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketSocket {
    /// The interface that it is bound to; 0: to all, or to none.
    pub interface_index: i32,
    /// The EtherType that it takes: 3 is all of them, 0 none, as with one that only sends.
    pub protocol: u16,
    /// What tells it from others.
    pub inode: u64,
}

/// The packet sockets of the calling thread's network namespace.
///
/// # Errors
/// [`Error::System`] if the list cannot be read.
pub fn packet_sockets() -> Result<Vec<PacketSocket>, Error> {
    const PATH: &str = "/proc/thread-self/net/packet";
    let text = std::fs::read_to_string(PATH).map_err(|e| Error::system(PATH, e))?;
    Ok(text.lines().skip(1).filter_map(socket).collect())
}

fn socket(line: &str) -> Option<PacketSocket> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    Some(PacketSocket {
        interface_index: words.get(4)?.parse().ok()?,
        protocol: u16::from_str_radix(words.get(3)?, 16).ok()?,
        inode: words.get(8)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let line = "ffff9b80c0ffee00 3      3    0003   2     1 0      0      71234";
        let wanted = PacketSocket { interface_index: 2, protocol: 3, inode: 71_234 };
        assert_eq!(socket(line), Some(wanted));
        for bad in ["", "ffff 3 3 0003 2 1 0 0", "ffff 3 3 0003 x 1 0 0 71234"] {
            assert_eq!(socket(bad), None, "{bad}");
        }
        assert!(packet_sockets().is_ok());
    }
}
