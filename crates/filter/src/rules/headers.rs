//! The head of a program of rules: reads the headers once and keeps the fields.
//!
//! Nearly every frame is untagged and has no options: its fields stand at fixed offsets and one
//! look at the length covers them. All else (tags, IPv4 options, IPv6 extension headers, short
//! frames) goes the general way, where X is what the headers so far add to the offset and each
//! header is looked for before it is read. `#pktlen` stands for the bytes present.
//!
//! Only fields that all segments of a super-packet share are read: EtherTypes, addresses, next
//! headers, fragment bits, ports, ICMP type and code; no length of IP, no checksum.

use super::RulesError;
use super::assembler::{Assembler, Label};
use super::fields::{FIELDS, Field, NO_PROTOCOL, SPARE, Upper};
use crate::op;
use wire::LinkType;
use wire::walk::{ethertype, protocol};

/// VLAN tags that rules look past, 802.1Q and 802.1ad together. A frame with more is not IP to them.
pub const VLAN_TAGS_MAX: u32 = 4;
/// IPv6 extension headers that rules look past. Behind more, the protocol is not known.
pub const EXTENSION_HEADERS_MAX: u32 = 8;

/// Mobility, RFC 6275; HIP, RFC 7401; Shim6, RFC 5533: laid out as the options headers are.
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;

/// Extension headers whose second byte is their length in units of 8 bytes, less the first.
const OPTION_HEADERS: [u8; 6] =
    [protocol::HOP_BY_HOP, protocol::ROUTING, protocol::DESTINATION, MOBILITY, HIP, SHIM6];

const TPIDS: [u16; 3] = [ethertype::VLAN, ethertype::QINQ, ethertype::QINQ_OLD];

const IPV4_BYTES: u32 = 20;
const IPV6_BYTES: u32 = 40;
/// Bytes of an extension header that must be there.
const EXTENSION_BYTES: u32 = 8;

/// Where packets of one IP version go on, and what must have been read of them by then.
#[derive(Debug, Clone)]
pub(super) struct Version {
    /// Where TCP, UDP and ICMP go on with their fields; `None`: as the rest.
    pub(super) upper: [Option<Label>; 3],
    /// Where the rest goes on.
    pub(super) rest: Label,
    /// The fields that are asked for.
    pub(super) reads: [bool; FIELDS],
}

impl Version {
    fn reads(&self, field: Field) -> bool {
        self.reads[usize::from(field.0)]
    }

    /// Whether the header behind IP matters.
    fn looks_up(&self) -> bool {
        self.reads(Field::PROTOCOL) || self.upper.iter().any(Option::is_some)
    }
}

/// Where frames go on.
#[derive(Debug, Clone)]
pub(super) struct Ways {
    /// `None`: as frames that are not IP.
    pub(super) v4: Option<Version>,
    pub(super) v6: Option<Version>,
    /// Frames that are not IP, or whose IP header is cut or broken.
    pub(super) other: Label,
}

/// Where a header begins: at a fixed offset, or X bytes behind it.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: u32,
    indexed: bool,
}

impl Place {
    fn plus(self, bytes: u32) -> Place {
        Place { at: self.at + bytes, ..self }
    }
}

/// Writes the head for a link type.
pub(super) fn write(asm: &mut Assembler, link: LinkType, ways: &Ways) -> Result<(), RulesError> {
    let mut head = Head { asm, ways };
    match link {
        LinkType::ETHERNET => head.tagged(12, 14),
        LinkType::LINUX_SLL => head.tagged(14, 16),
        LinkType::LINUX_SLL2 => head.tagged(0, 20),
        LinkType::NULL | LinkType::LOOP => head.family(),
        LinkType::RAW => head.nibble(),
        LinkType::IPV4 => head.implied(true),
        LinkType::IPV6 => head.implied(false),
        _ => return Err(RulesError::LinkType(link)),
    }
    Ok(())
}

struct Head<'a> {
    asm: &'a mut Assembler,
    ways: &'a Ways,
}

/// The four entries of the code that reads IP headers.
struct Entries {
    v4: Label,
    v6: Label,
    general_v4: Label,
    general_v6: Label,
}

impl Head<'_> {
    /// An EtherType at `ethertype_at`, what it announces at `base`; tags may stand between.
    fn tagged(&mut self, ethertype_at: u32, base: u32) {
        let entries = self.entries();
        let (other, tags) = (self.ways.other, self.asm.label());
        self.begin(base, base, &entries, |head, v4, v6| {
            head.load(op::H, Place { at: ethertype_at, indexed: false });
            head.dispatch(v4, v6, tags);
        });
        let mut here = tags;
        for tag in 1..=VLAN_TAGS_MAX {
            let more = if tag == VLAN_TAGS_MAX { other } else { self.asm.label() };
            self.asm.here(here);
            self.length_at_least(base + 4 * tag, other);
            self.load(op::H, Place { at: base + 4 * tag - 2, indexed: false });
            self.asm.plain(op::LDX | op::IMM, 4 * tag);
            self.dispatch(entries.general_v4, entries.general_v6, more);
            here = more;
        }
        self.ip(base, &entries);
    }

    /// Goes on by the EtherType in A.
    fn dispatch(&mut self, v4: Label, v6: Label, tags: Label) {
        self.asm.leave_if(op::JEQ, ethertype::IPV4.into(), v4);
        self.asm.leave_if(op::JEQ, ethertype::IPV6.into(), v6);
        for tpid in TPIDS {
            self.asm.leave_if(op::JEQ, tpid.into(), tags);
        }
        self.asm.jump(self.ways.other);
    }

    /// NULL and LOOP: an address family in either byte order, as files say one and hold the other.
    fn family(&mut self) {
        let entries = self.entries();
        self.begin(4, 4, &entries, |head, v4, v6| {
            head.load(op::W, Place { at: 0, indexed: false });
            for (family, way) in [(2u32, v4), (10, v6), (24, v6), (28, v6), (30, v6)] {
                head.asm.leave_if(op::JEQ, family, way);
                head.asm.leave_if(op::JEQ, family.swap_bytes(), way);
            }
            head.asm.jump(head.ways.other);
        });
        self.ip(4, &entries);
    }

    /// RAW: the version is in the header itself.
    fn nibble(&mut self) {
        let entries = self.entries();
        self.begin(0, 1, &entries, |head, v4, v6| {
            head.load(op::B, Place { at: 0, indexed: false });
            head.asm.plain(op::ALU | op::AND | op::K, 0xf0);
            head.asm.leave_if(op::JEQ, 0x40, v4);
            head.asm.leave_if(op::JEQ, 0x60, v6);
            head.asm.jump(head.ways.other);
        });
        self.ip(0, &entries);
    }

    /// IPV4 and IPV6: every frame is of that version.
    fn implied(&mut self, v4: bool) {
        let entries = self.entries();
        self.begin(0, 1, &entries, |head, to_v4, to_v6| {
            head.asm.jump(if v4 { to_v4 } else { to_v6 });
        });
        self.ip(0, &entries);
    }

    /// Picks the version of frames whose IP header begins at `base`, those that are long enough for
    /// the plain way apart from the others. `needed` bytes are what `dispatch` reads.
    fn begin(
        &mut self,
        base: u32,
        needed: u32,
        entries: &Entries,
        dispatch: impl Fn(&mut Self, Label, Label),
    ) {
        let short = self.asm.label();
        self.length_at_least(base + IPV4_BYTES + 4, short);
        dispatch(self, entries.v4, entries.v6);
        self.asm.here(short);
        self.length_at_least(needed, self.ways.other);
        self.asm.plain(op::LDX | op::IMM, 0);
        dispatch(self, entries.general_v4, entries.general_v6);
    }

    fn entries(&mut self) -> Entries {
        let (v4, v6, other) = (self.ways.v4.is_some(), self.ways.v6.is_some(), self.ways.other);
        let mut entry = |wanted| if wanted { self.asm.label() } else { other };
        Entries { v4: entry(v4), v6: entry(v6), general_v4: entry(v4), general_v6: entry(v6) }
    }

    /// The code behind the four entries. At `v4` and `v6`, [`IPV4_BYTES`] and 4 more bytes are there.
    fn ip(&mut self, base: u32, entries: &Entries) {
        if let Some(version) = &self.ways.v4 {
            let place = Place { at: base, indexed: false };
            self.asm.here(entries.v4);
            self.plain_v4(place, version, entries.general_v4);
            self.asm.here(entries.general_v4);
            self.general_v4(Place { indexed: true, ..place }, version);
        }
        if let Some(version) = &self.ways.v6 {
            let place = Place { at: base, indexed: false };
            self.asm.here(entries.v6);
            self.plain_v6(place, version, entries.general_v6);
            self.asm.here(entries.general_v6);
            self.general_v6(Place { indexed: true, ..place }, version);
        }
    }

    /// IPv4 without options at a fixed place.
    fn plain_v4(&mut self, place: Place, version: &Version, general: Label) {
        let plain = self.asm.label();
        self.load(op::B, place);
        self.asm.plain(op::LDX | op::IMM, 0);
        self.asm.compare(op::JEQ, 0x45, plain, general);
        self.asm.here(plain);
        self.addresses(place.plus(12), 1, version);
        if !version.looks_up() {
            return self.asm.jump(version.rest);
        }
        self.protocol_v4(place, version);
        self.upper(true, version, |head, upper| head.transport(place.plus(20), upper, version));
    }

    /// IPv4 anywhere.
    fn general_v4(&mut self, place: Place, version: &Version) {
        self.present(place, IPV4_BYTES, self.ways.other);
        self.load(op::B, place);
        self.asm.plain(op::ALU | op::AND | op::K, 0xf0);
        self.asm.expect(op::JEQ, 0x40, self.ways.other);
        self.load(op::B, place);
        self.asm.plain(op::ALU | op::AND | op::K, 0x0f);
        self.asm.expect(op::JGE, 5, self.ways.other);
        self.addresses(place.plus(12), 1, version);
        if !version.looks_up() {
            return self.asm.jump(version.rest);
        }
        self.protocol_v4(place, version);
        self.upper(true, version, |head, upper| {
            head.load(op::B, place);
            head.asm.plain(op::ALU | op::AND | op::K, 0x0f);
            head.asm.plain(op::ALU | op::LSH | op::K, 2);
            head.asm.plain(op::ALU | op::ADD | op::X, 0);
            head.asm.plain(op::MISC | op::TAX, 0);
            head.present(place, 4, version.rest);
            head.transport(place, upper, version);
        });
    }

    /// Keeps IPv4's protocol and leaves later fragments to the rest; the protocol is in A then.
    fn protocol_v4(&mut self, place: Place, version: &Version) {
        if version.reads(Field::PROTOCOL) {
            self.load(op::B, place.plus(9));
            self.keep(Field::PROTOCOL);
        }
        if version.upper.iter().any(Option::is_some) {
            self.load(op::H, place.plus(6));
            self.asm.leave_if(op::JSET, 0x1fff, version.rest);
            self.load(op::B, place.plus(9));
        }
    }

    /// IPv6 without extension headers at a fixed place.
    fn plain_v6(&mut self, place: Place, version: &Version, general: Label) {
        self.asm.plain(op::LDX | op::IMM, 0);
        self.length_at_least(place.at + IPV6_BYTES + 4, general);
        self.load(op::B, place);
        self.asm.plain(op::ALU | op::AND | op::K, 0xf0);
        self.asm.expect(op::JEQ, 0x60, self.ways.other);
        if version.looks_up() {
            self.load(op::B, place.plus(6));
            for number in OPTION_HEADERS.into_iter().chain([protocol::AH, protocol::FRAGMENT]) {
                self.asm.leave_if(op::JEQ, number.into(), general);
            }
            if version.reads(Field::PROTOCOL) {
                self.keep(Field::PROTOCOL);
            }
        }
        self.addresses(place.plus(8), 4, version);
        if !version.looks_up() {
            return self.asm.jump(version.rest);
        }
        self.load(op::B, place.plus(6));
        self.upper(false, version, |head, upper| head.transport(place.plus(40), upper, version));
    }

    /// IPv6 anywhere, with extension headers.
    fn general_v6(&mut self, place: Place, version: &Version) {
        self.present(place, IPV6_BYTES, self.ways.other);
        self.load(op::B, place);
        self.asm.plain(op::ALU | op::AND | op::K, 0xf0);
        self.asm.expect(op::JEQ, 0x60, self.ways.other);
        self.addresses(place.plus(8), 4, version);
        if !version.looks_up() {
            return self.asm.jump(version.rest);
        }
        self.load(op::B, place.plus(6));
        let place = place.plus(IPV6_BYTES);
        let [found, unknown, later] = [(); 3].map(|()| self.asm.label());
        for _ in 0..EXTENSION_HEADERS_MAX {
            self.extension(place, found, unknown, later);
        }
        for number in OPTION_HEADERS.into_iter().chain([protocol::AH, protocol::FRAGMENT]) {
            self.asm.leave_if(op::JEQ, number.into(), unknown);
        }
        self.asm.here(found);
        self.keep(Field::PROTOCOL);
        self.upper(false, version, |head, upper| {
            head.present(place, 4, version.rest);
            head.transport(place, upper, version);
        });

        // A later fragment: what follows is not the header that the protocol is of.
        let tells = self.asm.label();
        self.asm.here(later);
        self.load(op::B, place);
        for number in OPTION_HEADERS.into_iter().chain([protocol::AH, protocol::FRAGMENT]) {
            self.asm.leave_if(op::JEQ, number.into(), unknown);
        }
        self.asm.jump(tells);
        self.asm.here(unknown);
        self.asm.plain(op::LD | op::IMM, NO_PROTOCOL);
        self.asm.here(tells);
        self.keep(Field::PROTOCOL);
        self.asm.jump(version.rest);
    }

    /// Steps over one extension header: the number in A says which it is, and at the end what
    /// follows it, to which X leads then.
    fn extension(&mut self, place: Place, found: Label, unknown: Label, later: Label) {
        let [options, authentication, fragment, length, next] = [(); 5].map(|()| self.asm.label());
        for number in OPTION_HEADERS {
            self.asm.leave_if(op::JEQ, number.into(), options);
        }
        self.asm.leave_if(op::JEQ, protocol::AH.into(), authentication);
        self.asm.compare(op::JEQ, protocol::FRAGMENT.into(), fragment, found);

        self.asm.here(fragment);
        self.present(place, EXTENSION_BYTES, unknown);
        self.load(op::H, place.plus(2));
        self.asm.leave_if(op::JSET, 0xfff8, later);
        self.asm.plain(op::LD | op::IMM, EXTENSION_BYTES);
        self.asm.jump(length);

        self.asm.here(authentication);
        self.present(place, EXTENSION_BYTES, unknown);
        self.load(op::B, place.plus(1));
        self.asm.plain(op::ALU | op::ADD | op::K, 2);
        self.asm.plain(op::ALU | op::LSH | op::K, 2);
        self.asm.jump(length);

        self.asm.here(options);
        self.present(place, EXTENSION_BYTES, unknown);
        self.load(op::B, place.plus(1));
        self.asm.plain(op::ALU | op::ADD | op::K, 1);
        self.asm.plain(op::ALU | op::LSH | op::K, 3);

        self.asm.here(length);
        self.asm.plain(op::ALU | op::ADD | op::X, 0);
        self.asm.plain(op::ST, SPARE);
        self.load(op::B, place);
        self.asm.plain(op::LDX | op::MEM, SPARE);
        self.asm.jump(next);
        self.asm.here(next);
    }

    /// Goes on by the protocol in A: `each` writes what reads the header of one.
    fn upper(&mut self, v4: bool, version: &Version, mut each: impl FnMut(&mut Self, Upper)) {
        let mut wanted = Vec::new();
        for (upper, way) in Upper::READ.into_iter().zip(version.upper) {
            if let (Some(number), Some(_)) = (upper.protocol(v4), way) {
                let label = self.asm.label();
                self.asm.leave_if(op::JEQ, number.into(), label);
                wanted.push((upper, label));
            }
        }
        self.asm.jump(version.rest);
        for (upper, label) in wanted {
            self.asm.here(label);
            each(self, upper);
        }
    }

    /// Keeps ports, or type and code, and goes on.
    fn transport(&mut self, place: Place, upper: Upper, version: &Version) {
        let (size, bytes) = if upper == Upper::Icmp { (op::B, 1) } else { (op::H, 2) };
        for (field, at) in [(Field::SOURCE_PORT, 0), (Field::DESTINATION_PORT, bytes)] {
            if version.reads(field) {
                self.load(size, place.plus(at));
                self.keep(field);
            }
        }
        let way = version.upper[upper as usize];
        self.asm.jump(way.unwrap_or(version.rest));
    }

    /// Keeps the words of the source address at `place` and of the destination behind it.
    fn addresses(&mut self, place: Place, words: u8, version: &Version) {
        for (side, first) in [(0, Field::SOURCE), (words, Field::DESTINATION)] {
            for word in 0..words {
                if version.reads(first.plus(word)) {
                    self.load(op::W, place.plus(4 * u32::from(side + word)));
                    self.keep(first.plus(word));
                }
            }
        }
    }

    fn load(&mut self, size: u16, place: Place) {
        let mode = if place.indexed { op::IND } else { op::ABS };
        self.asm.plain(op::LD | size | mode, place.at);
    }

    fn keep(&mut self, field: Field) {
        self.asm.plain(op::ST, field.0.into());
    }

    fn length_at_least(&mut self, bytes: u32, no: Label) {
        self.asm.plain(op::LD | op::LEN, 0);
        self.asm.expect(op::JGE, bytes, no);
    }

    /// Whether so many bytes from an indexed place are there. X may be large: it is compared with
    /// what the length leaves for it, so that nothing wraps.
    fn present(&mut self, place: Place, bytes: u32, no: Label) {
        self.length_at_least(place.at + bytes, no);
        self.asm.plain(op::ALU | op::SUB | op::K, place.at + bytes);
        let yes = self.asm.label();
        self.asm.compare_x(op::JGE, yes, no);
        self.asm.here(yes);
    }
}
