//! Capture files: pcap and pcapng as a source, and as what sinks write into.

mod compressed;
mod fifo;
mod origins;
mod source;
mod writer;

pub use compressed::decompressed;
pub use fifo::{FifoSink, is_fifo};
pub use origins::{Origin, OriginCounters};
pub use source::FileSource;
pub use writer::{FileFormat, FileWriter, reason};
