//! Classic programs as one eBPF program on an AF_PACKET socket, which counts what it decides.
//!
//! ```text
//! find the counters
//! count the wire packets of this frame (wire_packets)
//! sent or received? ── a program for each
//!   ├ a tag in metadata, or a super-packet it must not judge ── undecided: let through
//!   └ the program (classic) ── accept: let through
//!                           └─ reject: stop
//! ```
//!
//! A program of one return decides every frame, tagged and super-packets too.
//!
//! **Counters** are u64 in one per-CPU array map whose elements hold [`COUNTERS_PER_ELEMENT`] each.
//!
//! ```text
//! element 0     0  the counters of `Counter`
//!               6  the place of a rule, the frame's wire packets: only while the program runs
//!               8  the scratch words of classic BPF: only while the program runs
//!              16  rule 1, rule 2, …: the wire packets that it decided, excluded ones too
//! element 1     0  rule 497, …
//! ```
//!
//! So a packet costs one look-up of the map unless a rule beyond the 496th decides it. Counting is a
//! plain addition: a socket's filter runs with bottom halves off, so nothing gets in between.

use super::classic::{self, Exits, SCRATCH_AT, SCRATCH_BYTES, SKB_LEN, WORD_AT};
use super::decides::{Decides, decides};
use super::wire_packets::WirePackets;
use super::{Alu, Assembler, Bits, Code, Condition, Error, Helper, Label, MapRef, Register, Width};
use crate::{Action, Program, Rules};
use Register::{R0, R1, R2, R3, R6, R7, R9, R10};
use std::collections::BTreeMap;
use wire::LinkType;

/// Counters in one element of the map: 4 kB.
pub const COUNTERS_PER_ELEMENT: usize = 512;
/// Where a rule beyond element 0 leaves its place in its element, from R9. Through memory the
/// verifier loses sight of the number, and so looks at the code behind it once for all rules; with
/// a look-up for each rule instead, it would copy the whole program for each, which takes minutes
/// with ten thousand.
const HANDOVER_AT: i16 = 6 * 8;
/// Where the wire packets of the frame stand, from R9.
pub(super) const COUNT_AT: i16 = 7 * 8;
/// The place of the first rule's counter.
const FIRST_RULE: usize = 16;
const _: () = assert!((SCRATCH_AT + SCRATCH_BYTES) as usize <= FIRST_RULE * 8);

pub(super) const SKB_PKT_TYPE: i16 = 4;
const SKB_VLAN_PRESENT: i16 = 20;
const PACKET_OUTGOING: i32 = 4;
/// Lets all bytes through: a socket filter's return value is a snap length.
pub(super) const ALL_BYTES: i32 = i32::MAX;
const COUNTERS: MapRef = MapRef(0);

/// How much of what the kernel has not finished yet a filter judges. From [`Decides`](super::Decides).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Super-packets too: the filter sees nothing in them that their segments do not share.
    Everything,
    /// Frames as they are on the wire; super-packets go to user space undecided.
    WholeFrames,
}

/// What a program's verdict means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdicts<'a> {
    /// 0 rejects, all else accepts.
    Expression,
    /// The number of a rule, from 1, in this list; 0 rejects.
    Rules(&'a Rules),
}

impl Verdicts<'_> {
    /// What the programs of received and of sent packets can decide in the kernel.
    pub fn decides(self, received: &Program, sent: &Program, link_type: LinkType) -> Decides {
        match self {
            // They read what all segments of a super-packet share, and nothing else.
            Verdicts::Rules(_) => Decides::Everything,
            Verdicts::Expression => decides(received, link_type).and(decides(sent, link_type)),
        }
    }
}

/// What a socket filter is made of.
#[derive(Debug, Clone, Copy)]
pub struct SocketFilterOptions<'a> {
    /// What the frames start with: [`LinkType::ETHERNET`], or IP at once ([`LinkType::RAW`]).
    pub link_type: LinkType,
    /// The program for received packets.
    pub received: &'a Program,
    /// The program for sent packets; it may be the same.
    pub sent: &'a Program,
    /// What their verdicts mean.
    pub verdicts: Verdicts<'a>,
    /// Whether they judge super-packets.
    pub scope: Scope,
}

/// A counter for all packets. Of a packet exactly one of the first three counts its wire packets,
/// and the one three behind it counts 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Counter {
    /// Wire packets that were stopped.
    Filtered = 0,
    /// Wire packets that were decided and let through.
    Matched = 1,
    /// Wire packets that were let through for user space to decide.
    Undecided = 2,
    /// Frames of [`Self::Filtered`].
    FilteredFrames = 3,
    /// Frames of [`Self::Matched`].
    MatchedFrames = 4,
    /// Frames of [`Self::Undecided`].
    UndecidedFrames = 5,
}

/// Where the counters stand in the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CounterLayout {
    /// How many rules are counted.
    pub rules: usize,
}

impl CounterLayout {
    /// How many elements the map needs.
    pub const fn elements(self) -> usize {
        (FIRST_RULE + self.rules).div_ceil(COUNTERS_PER_ELEMENT)
    }

    /// Element, and place in it, of the counter of a rule; rules are numbered from 1.
    pub const fn rule(self, number: usize) -> (usize, usize) {
        let at = FIRST_RULE + number - 1;
        (at / COUNTERS_PER_ELEMENT, at % COUNTERS_PER_ELEMENT)
    }
}

/// A program to be loaded with one map: a per-CPU array of `counters.elements()` elements of
/// [`COUNTERS_PER_ELEMENT`] u64 each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketFilter {
    /// The program.
    pub code: Code,
    /// Where it counts.
    pub counters: CounterLayout,
    /// Which frames it decides.
    pub reach: Reach,
}

/// Which frames a filter decides; by default none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reach {
    judge: Option<Judge>,
    /// Whether the program of received packets, and that of sent ones, looks at nothing.
    is_constant: [bool; 2],
}

/// A frame as the kernel sees it, as far as that tells whether a filter decides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameState {
    /// Sent, not received.
    pub is_sent: bool,
    /// A VLAN tag is kept beside the frame.
    pub has_tag_in_metadata: bool,
    /// Payload bytes in a segment of a super-packet; 0: it is none.
    pub gso_size: u16,
    /// Bytes of the frame, without a tag that is kept beside it.
    pub len: u32,
}

impl Reach {
    /// Whether the program decides a frame, rather than leave it to user space.
    #[inline]
    pub fn contains(&self, frame: &FrameState) -> bool {
        self.is_constant[usize::from(frame.is_sent)]
            || self.judge.is_some_and(|judge| judge.judges(frame))
    }
}

/// Makes the program.
///
/// # Errors
/// [`Error::LinkType`], [`Error::JumpsBack`], [`Error::ReturnsA`], [`Error::NoSuchRule`],
/// [`Error::TooLong`].
pub fn socket_filter(options: &SocketFilterOptions<'_>) -> Result<SocketFilter, Error> {
    let link_type = options.link_type;
    let ethernet = match link_type {
        LinkType::ETHERNET => true,
        LinkType::RAW | LinkType::IPV4 | LinkType::IPV6 => false,
        _ => return Err(Error::LinkType { link_type }),
    };
    let rules = match options.verdicts {
        Verdicts::Expression => 0,
        Verdicts::Rules(rules) => rules.as_slice().len(),
    };
    let mut asm = Assembler::new();
    let mut ends = Ends::new(&mut asm, options.verdicts, CounterLayout { rules });
    asm.copy(R6, R1);
    find_counters(&mut asm, ends.uncounted);
    let wire_packets = WirePackets::count(&mut asm, COUNT_AT);

    let (received, sent) = (options.received, options.sent);
    let judge = Judge { scope: options.scope, ethernet };
    if received == sent {
        judge.emit(&mut asm, received, &mut ends)?;
    } else {
        let outgoing = asm.label();
        asm.load(Width::B4, R1, R6, SKB_PKT_TYPE);
        asm.jump_if(Bits::B32, Condition::Equal, R1, PACKET_OUTGOING, outgoing);
        judge.emit(&mut asm, received, &mut ends)?;
        asm.bind(outgoing);
        judge.emit(&mut asm, sent, &mut ends)?;
    }
    let counters = ends.counters;
    ends.finish(&mut asm);
    wire_packets.finish(&mut asm, ethernet);
    let is_constant =
        [received, sent].map(|program| classic::constant(program.instructions()).is_some());
    let reach = Reach { judge: Some(judge), is_constant };
    Ok(SocketFilter { code: asm.finish()?, counters, reach })
}

/// Puts the address of element 0 into R9.
pub(super) fn find_counters(asm: &mut Assembler, uncounted: Label) {
    look_up(asm, 0);
    asm.jump_if(Bits::B64, Condition::Equal, R0, 0, uncounted);
    asm.copy(R9, R0);
}

fn look_up(asm: &mut Assembler, element: i32) {
    asm.store(Width::B4, R10, WORD_AT, element);
    asm.map_address(R1, COUNTERS);
    asm.copy(R2, R10);
    asm.alu(Bits::B64, Alu::Add, R2, i32::from(WORD_AT));
    asm.call(Helper::MAP_LOOKUP);
}

/// `base[place] += by`, for a register or constant.
pub(super) fn add(
    asm: &mut Assembler,
    base: Register,
    place: usize,
    by: impl Into<super::Operand>,
) {
    let at = (place * 8) as i16; // below 4096
    asm.load(Width::B8, R3, base, at);
    asm.alu(Bits::B64, Alu::Add, R3, by);
    asm.store(Width::B8, base, at, R3);
}

/// Which frames a program that looks at something judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Judge {
    scope: Scope,
    ethernet: bool,
}

impl Judge {
    /// The longest super-packet that is judged: one longer than an IP packet can say has a jumbo
    /// header that its segments lack.
    fn longest(self) -> u32 {
        u32::from(u16::MAX) + if self.ethernet { 14 } else { 0 }
    }

    /// What [`Self::emit`] asks in the kernel.
    fn judges(self, frame: &FrameState) -> bool {
        let is_tagged = self.ethernet && frame.has_tag_in_metadata;
        let is_whole = frame.gso_size == 0;
        !is_tagged && (is_whole || self.scope == Scope::Everything && frame.len <= self.longest())
    }

    /// Appends one direction's program. R7 holds gso_size.
    fn emit(self, asm: &mut Assembler, program: &Program, ends: &mut Ends) -> Result<(), Error> {
        let instructions = program.instructions();
        if let Some(verdict) = classic::constant(instructions) {
            let to = ends.constant(asm, 0, verdict)?;
            asm.jump(to);
            return Ok(());
        }
        if self.ethernet {
            asm.load(Width::B4, R1, R6, SKB_VLAN_PRESENT);
            asm.jump_if(Bits::B32, Condition::NotEqual, R1, 0, ends.undecided);
        }
        match self.scope {
            Scope::WholeFrames => {
                asm.jump_if(Bits::B32, Condition::NotEqual, R7, 0, ends.undecided);
            }
            Scope::Everything => {
                let judged = asm.label();
                asm.jump_if(Bits::B32, Condition::Equal, R7, 0, judged);
                asm.load(Width::B4, R1, R6, SKB_LEN);
                asm.jump_if(Bits::B32, Condition::Above, R1, self.longest() as i32, ends.undecided);
                asm.bind(judged);
            }
        }
        classic::emit(asm, instructions, ends)
    }
}

/// The ends of the program, made when something first leads there.
struct Ends<'a> {
    verdicts: Verdicts<'a>,
    counters: CounterLayout,
    matched: Label,
    filtered: Label,
    undecided: Label,
    /// The map has no element 0, which cannot be.
    uncounted: Label,
    rules: BTreeMap<u32, Label>,
}

impl<'a> Ends<'a> {
    fn new(asm: &mut Assembler, verdicts: Verdicts<'a>, counters: CounterLayout) -> Ends<'a> {
        Ends {
            verdicts,
            counters,
            matched: asm.label(),
            filtered: asm.label(),
            undecided: asm.label(),
            uncounted: asm.label(),
            rules: BTreeMap::new(),
        }
    }

    /// Appends all ends that something leads to. R9 is element 0; the count is at [`COUNT_AT`].
    fn finish(self, asm: &mut Assembler) {
        // Further elements, by what their rules do.
        let mut further: BTreeMap<(usize, bool), Label> = BTreeMap::new();
        for (&rule, &label) in &self.rules {
            asm.bind(label);
            let (element, place) = self.counters.rule(rule as usize);
            let includes = self.includes(rule);
            if element == 0 {
                asm.load(Width::B8, R1, R9, COUNT_AT);
                add(asm, R9, place, R1);
                asm.jump(if includes { self.matched } else { self.filtered });
            } else {
                asm.store(Width::B8, R9, HANDOVER_AT, place as i32);
                let to = further.entry((element, includes)).or_insert_with(|| asm.label());
                asm.jump(*to);
            }
        }
        for ((element, includes), label) in further {
            asm.bind(label);
            let end = if includes { self.matched } else { self.filtered };
            look_up(asm, element as i32);
            asm.jump_if(Bits::B64, Condition::Equal, R0, 0, end);
            asm.load(Width::B8, R1, R9, HANDOVER_AT);
            asm.jump_if(Bits::B64, Condition::AtLeast, R1, COUNTERS_PER_ELEMENT as i32, end);
            asm.alu(Bits::B64, Alu::ShiftLeft, R1, 3);
            asm.alu(Bits::B64, Alu::Add, R0, R1);
            asm.load(Width::B8, R1, R9, COUNT_AT);
            add(asm, R0, 0, R1);
            asm.jump(end);
        }
        let ends = [
            (self.matched, Counter::Matched, ALL_BYTES),
            (self.undecided, Counter::Undecided, ALL_BYTES),
            (self.filtered, Counter::Filtered, 0),
        ];
        for (label, counter, snap_len) in ends {
            if !asm.is_used(label) {
                continue;
            }
            asm.bind(label);
            asm.load(Width::B8, R1, R9, COUNT_AT);
            add(asm, R9, counter as usize, R1);
            add(asm, R9, counter as usize + Counter::FilteredFrames as usize, 1);
            asm.alu(Bits::B32, Alu::Move, R0, snap_len);
            asm.exit();
        }
        asm.bind(self.uncounted);
        asm.alu(Bits::B32, Alu::Move, R0, 0);
        asm.exit();
    }

    fn includes(&self, rule: u32) -> bool {
        let action = match self.verdicts {
            Verdicts::Expression => None,
            Verdicts::Rules(rules) => rules.action(rule),
        };
        action == Some(Action::Include)
    }
}

impl Exits for Ends<'_> {
    fn constant(&mut self, asm: &mut Assembler, _at: usize, verdict: u32) -> Result<Label, Error> {
        let rules = match self.verdicts {
            _ if verdict == 0 => return Ok(self.filtered),
            Verdicts::Expression => return Ok(self.matched),
            Verdicts::Rules(rules) => rules.as_slice().len(),
        };
        if verdict as usize > rules {
            return Err(Error::NoSuchRule { rule: verdict, rules });
        }
        Ok(*self.rules.entry(verdict).or_insert_with(|| asm.label()))
    }

    fn in_a(&mut self, _asm: &mut Assembler, at: usize) -> Result<(Label, Label), Error> {
        match self.verdicts {
            Verdicts::Expression => Ok((self.filtered, self.matched)),
            Verdicts::Rules(_) => Err(Error::ReturnsA { at }),
        }
    }
}
