//! Types shared by configuration, command line and machine-readable output.
//!
//! One set of types serves the command line, the files and the JSON, so that a name means the same
//! everywhere: [`Endpoint`] is where packets come from or go to, [`DropReason`] is why a packet
//! went no further, [`Stats`] is the ledger that `--stats-json` writes.

mod archive;
mod broker;
mod broker_file;
mod datapath;
mod decap;
mod drops;
mod endpoint;
mod error;
mod file;
mod inline;
mod inline_file;
mod keys;
mod l2tp_file;
mod ledger;
mod mirror_file;
mod policy;
mod rules;
mod status;
mod store_file;
mod tunnels;
mod units;

pub use archive::{ArchiveStats, StoreState};
pub use broker::{
    Action, Anchor, AnonymizeKey, AnonymizeKeyError, Balance, BrokerConfig, BrokerMistake, Check,
    DedupIgnore, FlowKey, Health, Layer, MapConfig, Name, Origin, Overflow, Pace, Part,
    QUEUE_BYTES, QueueConfig, QueueSize, SourceConfig, StageConfig, StageKind, Start, Tags,
    TargetConfig, Tpid,
};
pub use broker_file::{BrokerFile, EveryTarget, parse_source};
pub use datapath::{Datapath, Rate, TrafficMode};
pub use decap::{DecapStats, FragmentStats};
pub use drops::{DropReason, Drops};
pub use endpoint::{
    Endpoint, ErspanType, Group, Membership, Scheme, TAP_MTU_MAX, TAP_MTU_MIN, TunnelEndpoint,
    parse_keep_alive,
};
pub use error::Error;
pub use file::FileError;
pub use inline::{
    INLINE_NAME_MAX, INLINE_RULES_MAX, INLINE_SESSIONS, INLINE_SESSIONS_MAX, INLINE_TABLE,
    InlineConfig, InlineFail, InlineKey, InlineProtocol, InlineRule, InlineTimeouts, InlineView,
    parse_inline_name,
};
pub use inline_file::{parse_inline_file, read_inline_file};
pub use l2tp_file::{
    L2tpId, L2tpReceive, L2tpTransmit, MirrorPort, MirrorPorts, add_l2tp_lines, parse_l2tp_receive,
    parse_l2tp_transmit, read_l2tp_receive, read_l2tp_transmit, remove_l2tp_tunnel,
};
pub use ledger::{
    NetworkStats, Removed, RuleStats, SourceStats, StageStats, Stats, TapStats, TargetStats,
    WireTrue,
};
pub use mirror_file::{
    FilterConfig, SNAPSHOT_LENGTH_MIN, TapConfig, TapSource, parse_mirror_file, read_mirror_file,
    snapshot_length,
};
pub use policy::{DSCP_MAX, DirectionChoice, Oversize, RingSize, Sending, Workers};
pub use rules::{RULE_FILE_BYTES_MAX, RuleFile};
pub use status::{InterfaceStats, Status};
pub use store_file::{ObjectLock, ServerEncryption, StoreFile};
pub use tunnels::{TunnelEnd, TunnelStats, TunnelStatus};
pub use units::{parse_buffer_size, parse_duration, parse_size, parse_size_tcpdump};
