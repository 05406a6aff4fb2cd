//! The recorder: packets into rotated capture files.
//!
//! [`Recorder`] is a sink. It keeps one open file per series, closes it when it is large or old
//! enough, and names it as its [`Layout`] says: one file, tcpdump's numbered or timed files, or an
//! archive of segments by date, hour and source.

mod layout;
mod recorder;
mod segment;

pub use layout::{Layout, Rotation};
pub use recorder::{Recorder, RecorderOptions};
