//! The index of a segment: a row for each flow, in Parquet.

mod address_set;
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
pub use read::{rows, rows_of};
pub use row::{Flow, Row, Tunnelled};
pub use schema::{VERSION, VERSION_KEY};
pub(crate) use table::{Gathered, Table, Tally, row};
pub use wanted::Wanted;
pub use write::write;
