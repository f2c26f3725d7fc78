//! How files are written that stand for others: sorted, in zstd, and by a name that depends on what they stand for alone, so that
//! two who make one at once make the same.

use datafusion::arrow::datatypes::Schema;
use golife::store::place::EXTENSION;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::WriterProperties;
use sha2::{Digest, Sha256};

use crate::listing::SweepObject;
use crate::session::SOURCES_KEY;

/// Most rows of a row group, which is what an engine reads or skips at once.
const ROWS_OF_A_GROUP: usize = 128 * 1024;

/// Where a file of this hour stands that stands for others.
pub fn path(top: &str, file: &SweepObject, sources: &[String]) -> String {
    let digest = Sha256::digest(sources.join("\n"));
    let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{top}/{}/{name}{EXTENSION}", file.folder())
}

/// How a file is written whose rows are in the order of these columns, all of which come before the first list.
///
/// # Errors
/// Never; the error is that of the library.
pub fn properties(
    schema: &Schema,
    order: &[&str],
    sources: &[String],
    more: Vec<KeyValue>,
) -> anyhow::Result<WriterProperties> {
    let order = order.iter().filter_map(|name| schema.index_of(name).ok());
    let order = order.map(|column| SortingColumn {
        column_idx: column as i32,
        descending: false,
        nulls_first: false,
    });
    let mut metadata = vec![KeyValue::new(SOURCES_KEY.to_owned(), sources.join("\n"))];
    metadata.extend(more);
    Ok(WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_max_row_group_row_count(Some(ROWS_OF_A_GROUP))
        .set_created_by(concat!("golife-fleet ", env!("CARGO_PKG_VERSION")).into())
        .set_sorting_columns(Some(order.collect()))
        .set_key_value_metadata(Some(metadata))
        .build())
}
