//! Capture files: pcap and pcapng as a source, and as what sinks write into.

mod source;
mod writer;

pub use source::FileSource;
pub use writer::{FileFormat, FileWriter, Origin, OriginCounters, reason};
