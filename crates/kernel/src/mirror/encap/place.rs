//! Where the program keeps what on the stack, from R10.
//!
//! ```text
//! -512  what is known of the packet
//! -438  outer headers, or the hand-up's prefix, and behind them the frame's begin
//! -304  the flow hash's
//! -160  whatever a late filter uses
//! ```

/// The slot's number, as a key.
pub const SLOT: i16 = -512;
/// 1: the packet was sent.
pub const WAY: i16 = -508;
pub const HASH: i16 = -504;
/// The frame's first two bytes.
pub const FIRST: i16 = -500;
/// Bytes of the frame with its tag in band.
pub const LENGTH: i16 = -496;
/// The tag that stood beside the frame, as in band; 0: none.
pub const TAG: i16 = -492;
/// The member's number, as a key.
pub const MEMBER: i16 = -488;
/// Any other key.
pub const KEY: i16 = -484;
/// Bytes that go in.
pub const KEPT: i16 = -480;
/// What is told as sent, bytes.
pub const SENT_BYTES: i16 = -476;
/// 1: it is cut to fit the path.
pub const IS_CUT: i16 = -472;
/// 1: the packet has been sliced.
pub const IS_SLICED: i16 = -468;
/// Bytes between the outer headers and the frame's own begin, in front of it.
pub const EXTRA: i16 = -464;
/// 1: a second tag stands in the frame, which the kernel would take out.
pub const IS_DOUBLE: i16 = -460;
/// The number in the lane.
pub const SEQUENCE: i16 = -456;
pub const SPARE: i16 = -448;
/// Outer headers. IP's stand at a multiple of 8.
pub const HEADER: i16 = -438;
/// The hand-up's prefix.
pub const PREFIX: i16 = -432;
/// The flow hash's own.
pub const FLOW_HASH: i16 = -304;
/// The sum of what goes in; used when the flow hash is done.
pub const SUM: i16 = -304;
/// How far has been summed. Half a word: the verifier does not follow it, so that it sees the steps
/// as alike.
pub const SUMMED: i16 = -292;
/// Steps made: those it follows.
pub const STEPS: i16 = -288;
/// The member's entry, meanwhile.
pub const ENTRY: i16 = -280;
