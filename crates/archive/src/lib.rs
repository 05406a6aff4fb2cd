//! The recorder: packets into rotated capture files.
//!
//! [`Recorder`] is a sink. It keeps one open file per series, closes it when it is large or old
//! enough, and names it as its [`Layout`] says: one file, tcpdump's numbered or timed files, or an
//! archive of segments by date, hour and source. An archive may have a bound on its bytes. What a
//! recorder that was killed left behind open gets its place by [`adopt`].

mod adopt;
mod disk;
mod layout;
mod lock;
mod recorder;
mod retention;
mod segment;
mod status;

pub use adopt::{Adopted, adopt};
pub use layout::{Layout, Rotation};
pub use recorder::{Recorder, RecorderOptions};
pub use status::{DiskState, RecorderStatus};
