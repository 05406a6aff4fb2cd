//! Parquet to rows: all, or those that a search may need.

use super::row::{Flow, Row, Tunnelled};
use super::schema::{VERSION, VERSION_KEY, schema};
use super::wanted::Wanted;
use crate::Error;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{Array, RecordBatch};
use bytes::Bytes;
use futures_util::{FutureExt, TryStreamExt};
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::statistics::Statistics;
use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// Rows that are made at a time.
const BATCH_ROWS: usize = 1024;

/// Reads those rows of an index that may hold what is wanted, in their order. What the statistics and
/// the Bloom filters of a row group exclude is not read.
///
/// # Errors
/// [`Error::Damaged`] if it is no index, one of another version, or cannot be read.
pub async fn rows<R>(reader: R, wanted: &Wanted) -> Result<Vec<Row>, Error>
where
    R: AsyncFileReader + Unpin + Send + 'static,
{
    let mut found = Vec::new();
    each_row(reader, wanted, |row| found.push(row)).await?;
    Ok(found)
}

/// Gives each row that [`rows`] gives to `each`; only some at a time are in memory.
async fn each_row<R>(reader: R, wanted: &Wanted, each: impl FnMut(Row)) -> Result<(), Error>
where
    R: AsyncFileReader + Unpin + Send + 'static,
{
    // The Parquet reader gives up, instead of an answer, on some headers that lie.
    let reading = AssertUnwindSafe(each_row_unguarded(reader, wanted, each)).catch_unwind();
    reading.await.unwrap_or_else(|_| Err(damaged("its pages contradict their headers".into())))
}

async fn each_row_unguarded<R>(
    reader: R,
    wanted: &Wanted,
    mut each: impl FnMut(Row),
) -> Result<(), Error>
where
    R: AsyncFileReader + Unpin + Send + 'static,
{
    let mut builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(broken)?;
    check(&builder)?;
    let mut groups = Vec::new();
    for number in 0..builder.metadata().num_row_groups() {
        if may_hold(&mut builder, number, wanted).await? {
            groups.push(number);
        }
    }
    let stream = builder.with_row_groups(groups).with_batch_size(BATCH_ROWS).build();
    let mut batches = stream.map_err(broken)?;
    let mut texts = Texts::default();
    while let Some(batch) = batches.try_next().await.map_err(broken)? {
        let rows = of_batch(&batch, &mut texts)
            .ok_or_else(|| damaged("a column of a list or text is not as it should be".into()))?;
        rows.into_iter().filter(|row| wanted.may_be_in(row)).for_each(&mut each);
    }
    Ok(())
}

/// Reads all rows of an index that is in memory.
///
/// # Errors
/// As [`rows`].
pub fn rows_of(index: Bytes) -> Result<Vec<Row>, Error> {
    rows_in(index, &Wanted::default())
}

/// As [`rows`], of an index that is in memory.
///
/// # Errors
/// As [`rows`].
pub fn rows_in(index: Bytes, wanted: &Wanted) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    each_row_in(index, wanted, |row| rows.push(row))?;
    Ok(rows)
}

/// Gives each row of an index in memory that may hold what is wanted to `each`.
///
/// # Errors
/// As [`rows`].
pub(crate) fn each_row_in(
    index: Bytes,
    wanted: &Wanted,
    each: impl FnMut(Row),
) -> Result<(), Error> {
    let reading = each_row(InMemory(index), wanted, each);
    reading.now_or_never().expect("memory is there at once")
}

/// An index in memory.
struct InMemory(Bytes);

impl AsyncFileReader for InMemory {
    fn get_bytes(
        &mut self,
        range: Range<u64>,
    ) -> futures_util::future::BoxFuture<'_, Result<Bytes, ParquetError>> {
        let range = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let bytes = range
            .filter(|&(start, end)| start <= end && end <= self.0.len())
            .map(|(start, end)| self.0.slice(start..end))
            .ok_or_else(|| ParquetError::EOF("it ends before a range that it names".into()));
        std::future::ready(bytes).boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> futures_util::future::BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        let metadata = ParquetMetaDataReader::new()
            .with_arrow_reader_options(options)
            .parse_and_finish(&self.0)
            .map(Arc::new);
        std::future::ready(metadata).boxed()
    }
}

fn check<R>(builder: &ParquetRecordBatchStreamBuilder<R>) -> Result<(), Error> {
    let pairs = builder.metadata().file_metadata().key_value_metadata();
    let version = pairs.and_then(|pairs| pairs.iter().find(|pair| pair.key == VERSION_KEY));
    match version.and_then(|pair| pair.value.as_deref()) {
        Some(version) if version == VERSION.to_string() => {}
        Some(version) => {
            return Err(damaged(format!("of version {version}, {VERSION} is known")));
        }
        None => return Err(damaged(format!("no {VERSION_KEY} in its metadata"))),
    }
    let (want, got) = (schema(), builder.schema());
    let alike = |(want, got): (&Arc<arrow_schema::Field>, &Arc<arrow_schema::Field>)| {
        want.name() == got.name() && want.data_type() == got.data_type()
    };
    if want.fields.len() != got.fields.len() || !want.fields.iter().zip(&got.fields).all(alike) {
        return Err(damaged("its columns are not those of its version".into()));
    }
    Ok(())
}

/// Whether a row group may hold what is wanted.
async fn may_hold<R>(
    builder: &mut ParquetRecordBatchStreamBuilder<R>,
    number: usize,
    wanted: &Wanted,
) -> Result<bool, Error>
where
    R: AsyncFileReader + Unpin + Send + 'static,
{
    let group = builder.metadata().row_group(number).clone();
    let span = bounds(&group, "first_ns").zip(bounds(&group, "last_ns"));
    if span.is_some_and(|(first, last)| !wanted.window.overlaps((first.0, last.1))) {
        return Ok(false);
    }
    // A row that does not say all of its flows may hold any.
    let says_all = bounds(&group, "flows").is_some_and(|(_, flows)| flows == 1)
        && ["ip_lo", "ip_hi"].iter().all(|name| nulls(&group, name) == Some(0));
    if !says_all {
        return Ok(true);
    }
    if let Some(id) = &wanted.community_id
        && !in_any(builder, number, ["community_id", "outer_community_id"], id.as_bytes()).await?
    {
        return Ok(false);
    }
    for address in &wanted.addresses {
        let columns = ["ip_lo", "ip_hi", "outer_ip_lo", "outer_ip_hi"];
        if !in_any(builder, number, columns, &address.octets()).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the Bloom filter of any of the columns may hold a value.
async fn in_any<R, const N: usize>(
    builder: &mut ParquetRecordBatchStreamBuilder<R>,
    number: usize,
    columns: [&str; N],
    value: &[u8],
) -> Result<bool, Error>
where
    R: AsyncFileReader + Unpin + Send + 'static,
{
    for name in columns {
        let group = builder.metadata().row_group(number);
        if nulls(group, name) == u64::try_from(group.num_rows()).ok() {
            continue;
        }
        let Some(column) = column(group, name) else { return Ok(true) };
        let bloom = builder.get_row_group_column_bloom_filter(number, column).await;
        match bloom.map_err(broken)? {
            Some(bloom) if !bloom.check(value) => {}
            _ => return Ok(true),
        }
    }
    Ok(false)
}

fn column(group: &RowGroupMetaData, name: &str) -> Option<usize> {
    group.columns().iter().position(|column| column.column_path().string() == name)
}

fn nulls(group: &RowGroupMetaData, name: &str) -> Option<u64> {
    group.column(column(group, name)?).statistics()?.null_count_opt()
}

/// Least and greatest value of a column of integers.
fn bounds(group: &RowGroupMetaData, name: &str) -> Option<(u64, u64)> {
    let (least, greatest) = match group.column(column(group, name)?).statistics()? {
        Statistics::Int32(s) => (i64::from(*s.min_opt()?), i64::from(*s.max_opt()?)),
        Statistics::Int64(s) => (*s.min_opt()?, *s.max_opt()?),
        _ => return None,
    };
    Some((u64::try_from(least).ok()?, u64::try_from(greatest).ok()?))
}

/// One copy of each text that comes in many rows.
#[derive(Default)]
struct Texts(HashMap<String, Arc<str>>);

impl Texts {
    fn shared(&mut self, text: &str) -> Arc<str> {
        match self.0.get(text) {
            Some(shared) => shared.clone(),
            None => self.0.entry(text.to_owned()).or_insert_with(|| text.into()).clone(),
        }
    }
}

fn of_batch(batch: &RecordBatch, texts: &mut Texts) -> Option<Vec<Row>> {
    let column = |name| batch.column_by_name(name);
    let text = |name| column(name)?.as_string_opt::<i32>();
    let fixed = |name| column(name)?.as_fixed_size_binary_opt();
    let time = |name| column(name)?.as_primitive_opt::<Int64Type>();
    let count = |name| column(name)?.as_primitive_opt::<UInt64Type>();
    let short = |name| column(name)?.as_primitive_opt::<UInt16Type>();
    let list = |name| column(name)?.as_list_opt::<i32>();
    let (source, tunnel, tunnel_id) = (text("source")?, text("tunnel")?, count("tunnel_id")?);
    let (vlan, ethertype) = (list("vlan")?, short("ethertype")?);
    let (mac_lo, mac_hi) = (fixed("mac_lo")?, fixed("mac_hi")?);
    let (first, last) = (time("first_ns")?, time("last_ns")?);
    let (packets_fwd, packets_rev) = (count("packets_fwd")?, count("packets_rev")?);
    let (bytes_fwd, bytes_rev) = (count("bytes_fwd")?, count("bytes_rev")?);
    let tcp_flags = column("tcp_flags")?.as_primitive_opt::<UInt8Type>()?;
    let truncated = column("truncated")?.as_boolean_opt()?;
    let flows = column("flows")?.as_primitive_opt::<UInt32Type>()?;
    let frames = list("frames")?;
    let (inner, outer) = (Flows::of(batch, "")?, Flows::of(batch, "outer_")?);
    let mut rows = Vec::with_capacity(batch.num_rows());
    for n in 0..batch.num_rows() {
        let some = |array: &dyn Array| array.is_valid(n);
        let macs = mac(mac_lo.value(n)).zip(mac(mac_hi.value(n)));
        rows.push(Row {
            source: texts.shared(source.value(n)),
            tunnel: some(tunnel).then(|| Tunnelled {
                kind: texts.shared(tunnel.value(n)),
                id: some(tunnel_id).then(|| tunnel_id.value(n)),
            }),
            vlan: vlan.value(n).as_primitive_opt::<UInt16Type>()?.values().to_vec(),
            ethertype: ethertype.value(n),
            macs: macs.filter(|_| some(mac_lo) && some(mac_hi)),
            flow: inner.flow(n)?,
            outer: outer.flow(n)?,
            span_ns: (first.value(n) as u64, last.value(n) as u64),
            packets: (packets_fwd.value(n), packets_rev.value(n)),
            bytes: (bytes_fwd.value(n), bytes_rev.value(n)),
            tcp_flags: some(tcp_flags).then(|| tcp_flags.value(n)),
            truncated: truncated.value(n),
            flows: flows.value(n),
            frames: frames.value(n).as_primitive_opt::<UInt32Type>()?.values().to_vec(),
        });
    }
    Some(rows)
}

fn mac(bytes: &[u8]) -> Option<[u8; 6]> {
    bytes.try_into().ok()
}

/// The columns of the innermost or of the outermost flow.
struct Flows<'a> {
    ip_lo: &'a arrow_array::FixedSizeBinaryArray,
    ip_hi: &'a arrow_array::FixedSizeBinaryArray,
    port_lo: &'a arrow_array::UInt16Array,
    port_hi: &'a arrow_array::UInt16Array,
    proto: &'a arrow_array::UInt8Array,
    community_id: &'a arrow_array::StringArray,
}

impl<'a> Flows<'a> {
    fn of(batch: &'a RecordBatch, which: &str) -> Option<Flows<'a>> {
        let column = |name: &str| batch.column_by_name(&format!("{which}{name}"));
        Some(Flows {
            ip_lo: column("ip_lo")?.as_fixed_size_binary_opt()?,
            ip_hi: column("ip_hi")?.as_fixed_size_binary_opt()?,
            port_lo: column("port_lo")?.as_primitive_opt()?,
            port_hi: column("port_hi")?.as_primitive_opt()?,
            proto: column("proto")?.as_primitive_opt()?,
            community_id: column("community_id")?.as_string_opt()?,
        })
    }

    fn flow(&self, n: usize) -> Option<Option<Flow>> {
        if self.proto.is_null(n) {
            return Some(None);
        }
        let address = |array: &arrow_array::FixedSizeBinaryArray| match array.is_valid(n) {
            true => Some(Some(Ipv6Addr::from(<[u8; 16]>::try_from(array.value(n)).ok()?))),
            false => Some(None),
        };
        let port = |array: &arrow_array::UInt16Array| array.is_valid(n).then(|| array.value(n));
        let id = self.community_id;
        Some(Some(Flow {
            ip_lo: address(self.ip_lo)?,
            ip_hi: address(self.ip_hi)?,
            port_lo: port(self.port_lo),
            port_hi: port(self.port_hi),
            proto: self.proto.value(n),
            community_id: id.is_valid(n).then(|| id.value(n).to_owned()),
        }))
    }
}

fn broken(error: ParquetError) -> Error {
    damaged(error.to_string())
}

fn damaged(what: String) -> Error {
    let mend = "; `tapline archive reindex` makes it anew from the segment's data";
    Error::Damaged { object: "an index".into(), what, mend }
}
