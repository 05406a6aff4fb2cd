//! What makes two packets the same: 128 bits of all that is compared of a packet.
//!
//! Compared is everything, payload and IP identification included, but for what is to be ignored:
//!
//! | ignored | left out |
//! |---|---|
//! | `ttl` | TTL or hop limit of the outermost IP header, and the IPv4 header checksum, which follows it |
//! | `mac` | the link header but for tags and EtherType, and what stands behind the IP or ARP packet |
//! | `vlan` | all tags before the EtherType, and what stands behind the IP or ARP packet |
//! | `checksum` | checksums of the outermost IPv4 header and of the TCP, UDP, SCTP, ICMP or ICMPv6 behind it |
//!
//! What stands behind the packet is padding, whose length depends on the tags and on the side of
//! the NIC where a frame is seen. A checksum behind more than [`NEAR`] bytes of headers is
//! compared.
//!
//! The hash is XXH3 with a secret of 192 random bytes: two packets that differ get one
//! fingerprint with a chance of about 2^-128, and a sender who does not know the secret cannot look
//! for such a pair beforehand. It is no cryptographic hash.

use api::DedupIgnore;
use io::Packet;
use std::ops::Range;
use twox_hash::xxhash3_128::{DEFAULT_SECRET_LENGTH, Hasher};
use wire::walk::{IpVersion, Network, Stop, Transport, TransportKind, Walk, Why};
use wire::{Layer, LinkType};

/// Bytes of a packet in which fields are left out: headers stand here.
const NEAR: usize = 256;

/// Bytes of tags that are hashed as they are.
const TAGS: usize = 16;

/// Upper-layer protocol number of SCTP, RFC 9260.
const SCTP: u8 = 132;

/// Takes fingerprints.
pub(super) struct Fingerprints {
    secret: [u8; DEFAULT_SECRET_LENGTH],
    ignore: DedupIgnore,
}

impl Fingerprints {
    /// Fingerprints of one stage; those of another seed have nothing in common with them.
    pub(super) fn new(ignore: DedupIgnore, seed: [u64; 4]) -> Fingerprints {
        let mut secret = [0; DEFAULT_SECRET_LENGTH];
        // SplitMix64 over four streams.
        for (index, word) in secret.chunks_exact_mut(8).enumerate() {
            let step = (index as u64 / 4 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut z = seed[index % 4].wrapping_add(step);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word.copy_from_slice(&(z ^ (z >> 31)).to_ne_bytes());
        }
        Fingerprints { secret, ignore }
    }

    /// The fingerprint of a packet.
    #[inline]
    pub(super) fn of(&self, packet: &Packet) -> u128 {
        let frame = &packet.data[..];
        let walk = Walk::new(packet.meta.link_type, frame);
        let mut input = Input::new();
        let body = self.link(&walk, packet, &mut input);
        input.push_number(body.len());
        let (start, near_at) = (body.start, input.len);
        let body = &frame[body];
        let (near, far) = body.split_at(body.len().min(NEAR));
        input.push(near);
        for field in self.ignored(&walk).into_iter().flatten() {
            if let Some(at) = field.start.checked_sub(start) {
                let near = &mut input.bytes[near_at..near_at + near.len()];
                near.iter_mut().skip(at).take(field.len()).for_each(|byte| *byte = 0);
            }
        }
        if !far.is_empty() {
            input.push(&self.hash(far).to_ne_bytes());
        }
        self.hash(&input.bytes[..input.len])
    }

    // Puts what is compared below the network layer; where that begins and ends.
    #[inline]
    fn link(&self, walk: &Walk, packet: &Packet, input: &mut Input) -> Range<usize> {
        let frame = &packet.data[..];
        let DedupIgnore { mac, vlan, .. } = self.ignore;
        let network_at = match (walk.network, walk.ethertype_at) {
            (Some(network), _) => network.at as usize,
            (None, Some(_)) if walk.link == LinkType::LINUX_SLL2 => 20,
            (None, Some(at)) => at as usize + 2,
            (None, None) => 0,
        };
        if !(mac || vlan) || network_at == 0 && walk.network.is_none() {
            input.push_number(usize::from(walk.link.0));
            input.push_number(packet.meta.origlen as usize);
            return 0..frame.len();
        }
        let addresses_len = match walk.link {
            LinkType::ETHERNET => 12,
            LinkType::LINUX_SLL => 14,
            _ => network_at.min(20),
        };
        if !mac {
            input.push_number(usize::from(walk.link.0));
            input.push(&frame[..addresses_len]);
        }
        if !vlan {
            let tags_end = walk.ethertype_at.map_or(0, |at| at as usize);
            let tags = frame.get(addresses_len..tags_end).unwrap_or_default();
            input.push_number(tags.len());
            if tags.len() <= TAGS {
                input.push(tags);
            } else {
                input.push(&self.hash(tags).to_ne_bytes());
            }
        }
        input.push_number(walk.ethertype.unwrap_or(0).into());
        let end = match walk.network {
            Some(network) => packet_end(&network, frame.len()),
            None if walk.stop
                == (Stop { layer: Layer::Arp, at: network_at as u32, why: Why::Complete }) =>
            {
                walk.end as usize
            }
            None => {
                // No length of its own: what the wire carried stands for it.
                input.push_number((packet.meta.origlen as usize).saturating_sub(network_at));
                frame.len()
            }
        };
        network_at..end
    }

    // The fields that are left out, as offsets into the frame.
    #[inline]
    fn ignored(&self, walk: &Walk) -> [Option<Range<usize>>; 3] {
        let DedupIgnore { ttl, checksum, .. } = self.ignore;
        let Some(Network { version, at, protocol, .. }) = walk.network else {
            return [None, None, None];
        };
        let field = |at: u32, offset: usize, len: usize| {
            let at = at as usize + offset;
            at..at + len
        };
        let v4 = version == IpVersion::V4;
        let hops = ttl.then(|| field(at, if v4 { 8 } else { 7 }, 1));
        let header = (v4 && (ttl || checksum)).then(|| field(at, 10, 2));
        let upper = checksum.then_some(()).and_then(|()| match walk.transport {
            Some(Transport { kind: TransportKind::Tcp, at, .. }) => Some(field(at, 16, 2)),
            Some(Transport { kind: TransportKind::Udp, at, .. }) => Some(field(at, 6, 2)),
            Some(Transport { at, .. }) => Some(field(at, 2, 2)),
            None if protocol == SCTP && !later_fragment(walk) => Some(field(walk.payload_at, 8, 4)),
            None => None,
        });
        [hops, header, upper]
    }

    #[inline]
    fn hash(&self, bytes: &[u8]) -> u128 {
        Hasher::oneshot_with_secret(&self.secret, bytes)
            .expect("the secret is as long as the default one")
    }
}

fn later_fragment(walk: &Walk) -> bool {
    walk.network.and_then(|network| network.fragment).is_some_and(|fragment| fragment.offset > 0)
}

// Where an IP packet ends in its frame: where it says so, unless it contradicts itself.
fn packet_end(network: &Network, frame_len: usize) -> usize {
    let at = network.at as usize;
    match network.declared_len {
        Some(len) if len >= network.header_len => frame_len.min(at.saturating_add(len as usize)),
        _ => frame_len,
    }
}

/// What is hashed: a packet's begin, and hashes of the rest.
struct Input {
    bytes: [u8; Input::LEN_MAX],
    len: usize,
}

impl Input {
    // Numbers before the body, link addresses, tags, the body's begin and the hash of the rest.
    const LEN_MAX: usize = 6 * 4 + 20 + TAGS + NEAR + 16;

    #[inline]
    fn new() -> Input {
        Input { bytes: [0; Input::LEN_MAX], len: 0 }
    }

    #[inline]
    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    // Lengths are below 4 GiB; a frame is looked at no further.
    #[inline]
    fn push_number(&mut self, number: usize) {
        self.push(&(number as u32).to_ne_bytes());
    }
}
