//! Rows to Parquet.

use super::row::{Flow, Row};
use super::schema::{ROW_GROUP_ROWS, item, properties, schema};
use arrow_array::builder::{ListBuilder, UInt16Builder, UInt32Builder};
use arrow_array::{
    ArrayRef, BooleanArray, FixedSizeBinaryArray, Int64Array, RecordBatch, StringArray, UInt8Array,
    UInt16Array, UInt32Array, UInt64Array,
};
use arrow_schema::{ArrowError, DataType, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use std::sync::Arc;

/// Writes an index of rows in their order; `object` is the key of the segment's data. The same rows
/// give the same bytes.
///
/// # Errors
/// [`ParquetError`] if there is no memory for it; nothing else can fail.
pub fn write(rows: &[Row], object: &str) -> Result<Vec<u8>, ParquetError> {
    let schema = Arc::new(schema());
    let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties()))?;
    for rows in rows.chunks(ROW_GROUP_ROWS) {
        writer.write(&batch(&schema, rows, object)?)?;
    }
    writer.into_inner()
}

fn batch(schema: &SchemaRef, rows: &[Row], object: &str) -> Result<RecordBatch, ArrowError> {
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|_| object))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.source))),
        Arc::new(StringArray::from_iter(rows.iter().map(|row| Some(&*row.tunnel.as_ref()?.kind)))),
        Arc::new(UInt64Array::from_iter(rows.iter().map(|row| row.tunnel.as_ref()?.id))),
        vlans(rows),
        Arc::new(UInt16Array::from_iter_values(rows.iter().map(|row| row.ethertype))),
        fixed(rows.iter().map(|row| Some(row.macs?.0)))?,
        fixed(rows.iter().map(|row| Some(row.macs?.1)))?,
    ];
    columns.extend(flow(|n| rows[n].flow.as_ref(), rows.len())?);
    columns.extend(flow(|n| rows[n].outer.as_ref(), rows.len())?);
    let time = |of: fn(&Row) -> u64| -> ArrayRef {
        let clamped = |row| i64::try_from(of(row)).unwrap_or(i64::MAX);
        Arc::new(Int64Array::from_iter_values(rows.iter().map(clamped)))
    };
    let count = |of: fn(&Row) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(of)))
    };
    columns.extend([
        time(|row| row.span_ns.0),
        time(|row| row.span_ns.1),
        count(|row| row.packets.0 + row.packets.1),
        count(|row| row.packets.0),
        count(|row| row.packets.1),
        count(|row| row.bytes.0 + row.bytes.1),
        count(|row| row.bytes.0),
        count(|row| row.bytes.1),
        Arc::new(UInt8Array::from_iter(rows.iter().map(|row| row.tcp_flags))),
        Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(row.truncated)))),
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.flows))),
        frames(rows),
    ]);
    RecordBatch::try_new(schema.clone(), columns)
}

fn flow<'a>(
    of: impl Fn(usize) -> Option<&'a Flow>,
    len: usize,
) -> Result<[ArrayRef; 6], ArrowError> {
    let flows = || (0..len).map(&of);
    Ok([
        fixed(flows().map(|flow| Some(flow?.ip_lo?.octets())))?,
        fixed(flows().map(|flow| Some(flow?.ip_hi?.octets())))?,
        Arc::new(UInt16Array::from_iter(flows().map(|flow| flow?.port_lo))),
        Arc::new(UInt16Array::from_iter(flows().map(|flow| flow?.port_hi))),
        Arc::new(UInt8Array::from_iter(flows().map(|flow| Some(flow?.proto)))),
        Arc::new(StringArray::from_iter(flows().map(|flow| flow?.community_id.as_deref()))),
    ])
}

fn fixed<const N: usize>(
    values: impl Iterator<Item = Option<[u8; N]>>,
) -> Result<ArrayRef, ArrowError> {
    let array = FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, N as i32)?;
    Ok(Arc::new(array))
}

fn vlans(rows: &[Row]) -> ArrayRef {
    let mut list = ListBuilder::new(UInt16Builder::new()).with_field(item(DataType::UInt16));
    for row in rows {
        list.values().append_slice(&row.vlan);
        list.append(true);
    }
    Arc::new(list.finish())
}

fn frames(rows: &[Row]) -> ArrayRef {
    let mut list = ListBuilder::new(UInt32Builder::new()).with_field(item(DataType::UInt32));
    for row in rows {
        list.values().append_slice(&row.frames);
        list.append(true);
    }
    Arc::new(list.finish())
}
