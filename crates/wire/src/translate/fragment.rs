//! Fragmentation of an IPv4 packet that is larger than the next link takes: RFC 791 section 3.2.
//!
//! ```text
//! packet       | link | IP, options | payload                            |
//! fragment 0   | link | IP, options | n × 8 bytes |                        MF
//! fragment 1   | link | IP, options |             | n × 8 bytes |          MF
//! fragment n-1 | link | IP, options |                           | rest |  MF as it was
//! ```
//! Options that are not to be copied are in the first fragment only; no-operations stand in their place.

use super::Reading;
use crate::checksum;
use crate::walk::IpVersion;

const MORE: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;
const COPIED: u8 = 0x80;
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;

/// How a packet is cut into fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragments {
    ip_at: usize,
    payload_at: usize,
    end: usize,
    /// Payload bytes in each but the last.
    size: usize,
}

impl Fragments {
    /// Of a packet for a link of an MTU, bytes. `None` if it fits, may not be cut, or the MTU leaves no
    /// room for eight bytes behind the header.
    pub fn new(reading: &Reading, frame: &[u8], mtu: usize) -> Option<Fragments> {
        let ip_at = reading.ip_at as usize;
        let header_len = usize::from(frame.get(ip_at)? & 0x0f) * 4;
        let size = mtu.checked_sub(header_len)? & !7;
        let is_wanted = reading.version == IpVersion::V4
            && reading.may_fragment
            && reading.ip_len() > mtu
            && size > 0
            && frame.len() >= reading.end as usize;
        let (payload_at, end) = (ip_at + header_len, reading.end as usize);
        is_wanted.then_some(Fragments { ip_at, payload_at, end, size })
    }

    /// How many there are: two or more.
    pub fn count(&self) -> usize {
        (self.end - self.payload_at).div_ceil(self.size)
    }

    /// Bytes of fragment `i`, link header included.
    pub fn len(&self, i: usize) -> usize {
        let from = self.payload_at + i * self.size;
        self.payload_at + (self.end - from).min(self.size)
    }

    /// Whether there are none, which is never so.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Writes fragment `i` of the frame into `out`, which is [`Self::len`] bytes long.
    ///
    /// # Panics
    /// If `i` is not below [`Self::count`], or `out` is of another length.
    pub fn emit(&self, frame: &[u8], i: usize, out: &mut [u8]) {
        let from = self.payload_at + i * self.size;
        let to = (from + self.size).min(self.end);
        out[..self.payload_at].copy_from_slice(&frame[..self.payload_at]);
        out[self.payload_at..].copy_from_slice(&frame[from..to]);
        let ip = &mut out[self.ip_at..self.payload_at];
        if i > 0 {
            leave_out_options(&mut ip[20..]);
        }
        let len = (ip.len() + to - from) as u16;
        ip[2..4].copy_from_slice(&len.to_be_bytes());
        let word = u16::from_be_bytes([ip[6], ip[7]]);
        let offset = (word & OFFSET_MASK) + ((i * self.size) >> 3) as u16;
        let more = if to < self.end { MORE } else { word & MORE };
        let word = (word & !OFFSET_MASK & !MORE) | more | (offset & OFFSET_MASK);
        ip[6..8].copy_from_slice(&word.to_be_bytes());
        ip[10..12].fill(0);
        let check = checksum::of(ip);
        ip[10..12].copy_from_slice(&check.to_be_bytes());
    }
}

fn leave_out_options(mut options: &mut [u8]) {
    while let [kind, ..] = options {
        let len = match *kind {
            END_OF_OPTIONS => return,
            NO_OPERATION => 1,
            kind => {
                let len = options.get(1).map_or(0, |&len| usize::from(len));
                if !(2..=options.len()).contains(&len) {
                    return; // malformed: left to who receives it
                }
                if kind & COPIED == 0 {
                    options[..len].fill(NO_OPERATION);
                }
                len
            }
        };
        options = &mut options[len..];
    }
}
