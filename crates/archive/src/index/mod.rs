//! The index of a segment: a row for each flow, in Parquet.

mod row;

pub use row::{Flow, Row, Tunnelled};
