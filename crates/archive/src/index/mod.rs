//! The index of a segment: a row for each flow, in Parquet.
//!
//! [`write()`] and [`rows`] are the two ways; [`Row`] tells the columns. A file's metadata has the version of
//! the form under [`VERSION_KEY`]. Rows are sorted by `ip_hi`, then `ip_lo`, nulls first, in row groups of
//! 4,096, with Bloom filters on addresses and community ids. Any Parquet reader reads it.

mod address_set;
mod collapse;
mod community_id;
mod ends;
mod packet;
mod read;
mod row;
mod schema;
mod table;
mod wanted;
mod write;

pub use address_set::{ADDRESS_SET_LEN_MAX, AddressSet};
pub(crate) use packet::{FlowKey, Frames, Seen, carrier};
pub(crate) use read::each_row_in;
pub use read::{rows, rows_in, rows_of};
pub use row::{Flow, Row, Tunnelled};
pub use schema::{VERSION, VERSION_KEY};
pub use table::{BYTES_PER_ROW, ROWS_MAX, ROWS_MIN};
pub(crate) use table::{Gathered, Table, Tally, row};
pub use wanted::Wanted;
pub use write::write;
