//! The columns of an index, as Arrow and Parquet have them.

use arrow_schema::{DataType, Field, Schema};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{BloomFilterProperties, WriterProperties};
use parquet::schema::types::ColumnPath;
use std::sync::Arc;

/// Version of the form, which a file's metadata says under [`VERSION_KEY`].
pub const VERSION: u32 = 1;
/// Key of the version in a file's metadata.
pub const VERSION_KEY: &str = "tapline.index.version";

/// Rows of a row group: few, so that the statistics of one exclude much.
pub(crate) const ROW_GROUP_ROWS: usize = 4096;

const ADDRESS_LEN: i32 = 16;
const MAC_LEN: i32 = 6;
const BLOOM_FALSE_POSITIVES: f64 = 0.02;
const COMPRESSION_LEVEL: i32 = 3;

/// Columns with a Bloom filter.
const BLOOM: [&str; 6] =
    ["ip_lo", "ip_hi", "community_id", "outer_ip_lo", "outer_ip_hi", "outer_community_id"];
/// Columns whose values are seldom equal, with the encoding that suits them.
const DISTINCT: [(&str, Encoding); 4] = [
    ("community_id", Encoding::PLAIN),
    ("outer_community_id", Encoding::PLAIN),
    ("first_ns", Encoding::DELTA_BINARY_PACKED),
    ("last_ns", Encoding::DELTA_BINARY_PACKED),
];

/// The schema; its order is that of [`super::write`].
pub(crate) fn schema() -> Schema {
    use DataType::{Boolean, FixedSizeBinary, Int64, UInt8, UInt16, UInt32, UInt64, Utf8};
    let (address, mac) = (FixedSizeBinary(ADDRESS_LEN), FixedSizeBinary(MAC_LEN));
    let null = |name: &str, kind: &DataType| Field::new(name, kind.clone(), true);
    let full = |name: &str, kind: &DataType| Field::new(name, kind.clone(), false);
    let list = |name: &str, kind: DataType| full(name, &DataType::List(Arc::new(item(kind))));
    let flow = |outer: &str| {
        [
            null(&format!("{outer}ip_lo"), &address),
            null(&format!("{outer}ip_hi"), &address),
            null(&format!("{outer}port_lo"), &UInt16),
            null(&format!("{outer}port_hi"), &UInt16),
            null(&format!("{outer}proto"), &UInt8),
            null(&format!("{outer}community_id"), &Utf8),
        ]
    };
    let before = [
        full("object", &Utf8),
        full("source", &Utf8),
        null("tunnel", &Utf8),
        null("tunnel_id", &UInt64),
        list("vlan", UInt16),
        full("ethertype", &UInt16),
        null("mac_lo", &mac),
        null("mac_hi", &mac),
    ];
    let counts = ["packets", "packets_fwd", "packets_rev", "bytes", "bytes_fwd", "bytes_rev"];
    let behind = [
        null("tcp_flags", &UInt8),
        full("truncated", &Boolean),
        full("flows", &UInt32),
        list("frames", UInt32),
    ];
    let fields = before.into_iter().chain(flow("")).chain(flow("outer_"));
    let fields = fields.chain(["first_ns", "last_ns"].map(|name| full(name, &Int64)));
    let fields = fields.chain(counts.map(|name| full(name, &UInt64))).chain(behind);
    Schema::new(fields.collect::<Vec<_>>())
}

/// An element of a list.
pub(crate) fn item(kind: DataType) -> Field {
    Field::new("element", kind, false)
}

/// How a file is written.
pub(crate) fn properties() -> WriterProperties {
    let level = ZstdLevel::try_new(COMPRESSION_LEVEL).expect("zstd has this level");
    let bloom = BloomFilterProperties::builder()
        .with_fpp(BLOOM_FALSE_POSITIVES)
        .with_max_ndv(ROW_GROUP_ROWS as u64)
        .build();
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_offset_index_disabled(true)
        .set_statistics_enabled(parquet::file::properties::EnabledStatistics::Chunk)
        .set_key_value_metadata(Some(vec![KeyValue::new(
            VERSION_KEY.to_owned(),
            VERSION.to_string(),
        )]));
    for column in BLOOM {
        properties =
            properties.set_column_bloom_filter_properties(ColumnPath::from(column), bloom.clone());
    }
    for (column, encoding) in DISTINCT {
        properties = properties
            .set_column_dictionary_enabled(ColumnPath::from(column), false)
            .set_column_encoding(ColumnPath::from(column), encoding);
    }
    properties.build()
}
