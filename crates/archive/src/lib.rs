//! The recorder, and the archive: segments sealed, shipped, kept and found again.
//!
//! [`Recorder`] is a sink. It keeps one open file per series, closes it when it is large or old
//! enough, and names it as its [`Layout`] says: one file, tcpdump's numbered or timed files, or an
//! archive of segments by date, hour and source. An archive may have a bound on its bytes. What a
//! recorder that was killed left behind open gets its place by [`adopt`].
//!
//! An archive is a [`store::Store`] with segments ([`SegmentName`]), the index of each ([`index`])
//! and chains that say what there must be ([`manifest`]). [`catalog`] lists what there is, [`holds`] say
//! what nobody removes, and [`expire`] removes.

mod adopt;
pub mod archiver;
pub mod catalog;
mod disk;
mod error;
pub mod expire;
pub mod fetch;
pub mod holds;
pub mod import;
pub mod index;
mod layout;
mod local;
mod location;
mod lock;
pub mod manifest;
mod name;
mod recorder;
pub mod repair;
mod retention;
pub mod seal;
pub mod search;
mod segment;
mod status;
pub mod store;
pub mod verify;
mod window;

pub use adopt::{Adopted, adopt};
pub use archiver::{Archiver, ArchiverOptions, ArchiverStatus};
pub use error::Error;
pub use layout::{Layout, Rotation};
pub use local::LocalFile;
pub use location::Location;
pub use name::{Part, SegmentName, SpoolState, source_name};
pub use recorder::{Recorder, RecorderOptions};
pub use status::{DiskState, RecorderStatus};
pub use window::Window;

/// A runtime for the archive's asynchronous functions, on the calling thread.
///
/// # Errors
/// If the system gives no descriptors for it.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
