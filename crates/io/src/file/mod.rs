//! Capture files: pcap and pcapng as a source, and as what sinks write into.

mod compressed;
mod direct;
mod encoder;
mod fifo;
mod gathered;
mod origins;
mod source;
mod sys;
mod writer;

pub use compressed::decompressed;
pub use direct::Lanes;
pub use encoder::FileFormat;
pub use fifo::{FifoSink, is_fifo};
pub use gathered::reason;
pub use origins::{Origin, OriginCounters};
pub use source::FileSource;
pub use writer::FileWriter;
