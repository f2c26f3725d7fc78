//! A sweep file: rows as Parquet, in the order of [`columns::ORDER`], compressed by what needs no C library.

use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::WriterProperties;

use super::columns::{self, ORDER, VERSION, VERSION_KEY};
use super::place::Place;
use super::row::Row;

/// Most rows of a row group, which is what an engine reads or skips at once.
const ROWS_OF_A_GROUP: usize = 128 * 1024;

/// What one host writes at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepFile {
    /// Where it goes.
    pub place: Place,
    /// Its content: Parquet.
    pub bytes: Vec<u8>,
}

impl SweepFile {
    /// Puts the rows of a host and a moment into a file. No rows make a file, too: they say that the host was there.
    ///
    /// # Errors
    /// The library fails, which rows do not make it do.
    pub fn new(place: Place, rows: Vec<Row>) -> Result<SweepFile, ParquetError> {
        Ok(SweepFile { place, bytes: encode(rows)? })
    }
}

fn encode(mut rows: Vec<Row>) -> Result<Vec<u8>, ParquetError> {
    rows.sort_by(|a, b| {
        let key = |row: &Row| (row.line, row.version.clone(), row.host.clone());
        (&a.service, &a.module, &a.function)
            .cmp(&(&b.service, &b.module, &b.function))
            .then_with(|| key(a).cmp(&key(b)))
    });
    let schema = columns::schema();
    let order = ORDER.iter().filter_map(|name| schema.index_of(name).ok());
    let order = order.map(|column| SortingColumn {
        // Lists become columns of their own, but all of these come before the first list.
        column_idx: column as i32,
        descending: false,
        nulls_first: true,
    });
    let version = KeyValue::new(VERSION_KEY.to_owned(), VERSION.to_string());
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(ROWS_OF_A_GROUP))
        .set_created_by(concat!("golife ", env!("CARGO_PKG_VERSION")).into())
        .set_sorting_columns(Some(order.collect()))
        .set_key_value_metadata(Some(vec![version]))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
    writer.write(&columns::batch(&rows)?)?;
    writer.into_inner()
}

#[cfg(test)]
mod tests {
    use arrow_array::Array;
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Int32Type, Int64Type};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;
    use crate::store::Counts;

    #[test]
    fn a_file_holds_the_rows_in_order() {
        let row = |service: &str, function: &str| Row {
            service: service.into(),
            function: function.into(),
            live: u64::MAX,
            line: Some(7),
            waits: vec![("chan send".into(), 2), ("select".into(), 1)],
            evidence: vec!["all of it".into()],
            lifetime: vec![(-8, 3)],
            counts: Counts::Incomplete,
            ..Row::default()
        };
        let rows = vec![
            row("b", "main.f"),
            row("a", "main.g"),
            Row { line: None, waits: Vec::new(), ..row("a", "main.f") },
        ];
        let file = SweepFile::new(Place::new("h", 0, 1), rows).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(file.bytes)).unwrap();
        let metadata = reader.metadata().file_metadata().key_value_metadata().unwrap().clone();
        assert!(metadata.contains(&KeyValue::new("golife.schema".into(), "1".to_owned())));
        let batch = reader.build().unwrap().next().unwrap().unwrap();
        assert_eq!(batch.schema().fields(), columns::schema().fields());
        let text =
            |name: &str, at| batch.column_by_name(name).unwrap().as_string::<i32>().value(at).to_owned();
        assert_eq!(
            [0, 1, 2].map(|at| text("service", at) + &text("function", at)),
            ["amain.f", "amain.g", "bmain.f"]
        );
        let live = batch.column_by_name("live").unwrap().as_primitive::<Int64Type>();
        assert_eq!(live.value(0), i64::MAX, "the largest number that there is");
        let line = batch.column_by_name("line").unwrap().as_primitive::<Int32Type>();
        assert_eq!((line.is_valid(0), line.value(1)), (false, 7));
        let waits = batch.column_by_name("waits").unwrap().as_list::<i32>();
        assert_eq!((waits.value_length(0), waits.value_length(1)), (0, 2));
        let counts = waits.value(1).as_struct().column(1).as_primitive::<Int64Type>().values().to_vec();
        assert_eq!(counts, [2, 1]);
        assert_eq!(text("counts", 0), "incomplete");
    }

    #[test]
    fn a_host_without_a_site_has_a_file_all_the_same() {
        let file = SweepFile::new(Place::new("h", 0, 1), Vec::new()).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(file.bytes)).unwrap();
        assert_eq!(reader.metadata().file_metadata().num_rows(), 0);
    }
}
