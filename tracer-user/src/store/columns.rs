//! The columns of a sweep file, and how rows become them. What each column means is in `docs/fleet-columns.md`.
//!
//! Columns may be added to a version of the schema; anything else raises [`VERSION`]. All integers are signed, since not every
//! engine has others; counts that do not fit are the largest that does.

use std::sync::{Arc, LazyLock};

use arrow_array::builder::{
    ArrayBuilder, Int32Builder, Int64Builder, ListBuilder, StringBuilder, StructBuilder,
};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray,
};
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

use super::row::Row;

/// Version of the schema, which stands in the metadata of each file under [`VERSION_KEY`].
pub const VERSION: u32 = 1;
/// Where the metadata of a file has the version of its schema.
pub const VERSION_KEY: &str = "golife.schema";

/// The order of the rows in a file, which makes equal values neighbours.
pub const ORDER: [&str; 6] = ["service", "module", "function", "line", "version", "host"];

/// The columns.
pub fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| Arc::new(Schema::new(fields())));
    SCHEMA.clone()
}

fn fields() -> Vec<Field> {
    use DataType::{Binary, Boolean, Float64, Int32, Int64, Utf8};
    let known = |name: &str, kind: DataType| Field::new(name, kind, false);
    let maybe = |name: &str, kind: DataType| Field::new(name, kind, true);
    vec![
        known("sweep_time", time()),
        known("host", Utf8),
        known("service", Utf8),
        maybe("version", Utf8),
        maybe("build_id", Utf8),
        maybe("go_version", Utf8),
        maybe("image", Utf8),
        maybe("module", Utf8),
        known("function", Utf8),
        maybe("file", Utf8),
        maybe("line", Int32),
        maybe("ordinal", Int32),
        known("entry", Utf8),
        known("created", Int64),
        known("exited", Int64),
        known("live", Int64),
        known("at_attach", Int64),
        maybe("oldest_ns", Int64),
        maybe("oldest_at_least", Boolean),
        maybe("stack_bytes", Int64),
        known("waits", list(DataType::Struct(wait_fields()))),
        known("level", Utf8),
        maybe("cause", Utf8),
        known("evidence", list(Utf8)),
        known("lifetime", list(DataType::Struct(lifetime_fields()))),
        known("lifetime_count", Int64),
        known("lifetime_sum_s", Float64),
        maybe("hdr", Binary),
        known("counts", Utf8),
        known("dropped", Int64),
        known("pid", Int64),
        known("processes", Int32),
        maybe("started", time()),
        known("window_ns", Int64),
        maybe("memory_limit", Int64),
        maybe("blame", Utf8),
    ]
}

fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

fn list(of: DataType) -> DataType {
    DataType::List(Arc::new(item(of)))
}

fn item(of: DataType) -> Field {
    Field::new("item", of, false)
}

fn wait_fields() -> Fields {
    vec![Field::new("reason", DataType::Utf8, false), Field::new("count", DataType::Int64, false)].into()
}

fn lifetime_fields() -> Fields {
    vec![Field::new("bucket", DataType::Int32, false), Field::new("count", DataType::Int64, false)].into()
}

/// Puts rows into columns.
///
/// # Errors
/// Never for rows as they are; the error is that of the library.
pub fn batch(rows: &[Row]) -> Result<RecordBatch, ArrowError> {
    let texts =
        |of: fn(&Row) -> Option<&str>| -> ArrayRef { Arc::new(rows.iter().map(of).collect::<StringArray>()) };
    let small = |of: fn(&Row) -> Option<u32>| -> ArrayRef {
        let small = rows.iter().map(|row| of(row).map(|value| i32::try_from(value).unwrap_or(i32::MAX)));
        Arc::new(small.collect::<Int32Array>())
    };
    let numbers = |of: fn(&Row) -> Option<u64>| -> ArrayRef {
        Arc::new(rows.iter().map(|row| of(row).map(number)).collect::<Int64Array>())
    };
    let times = TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.sweep_time_ms));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(times.with_timezone("UTC")),
        texts(|row| Some(&row.host)),
        texts(|row| Some(&row.service)),
        texts(|row| row.version.as_deref()),
        texts(|row| row.build_id.as_deref()),
        texts(|row| row.go_version.as_deref()),
        texts(|row| row.image.as_deref()),
        texts(|row| row.module.as_deref()),
        texts(|row| Some(&row.function)),
        texts(|row| row.file.as_deref()),
        small(|row| row.line),
        small(|row| row.ordinal),
        texts(|row| Some(&row.entry)),
        numbers(|row| Some(row.created)),
        numbers(|row| Some(row.exited)),
        numbers(|row| Some(row.live)),
        numbers(|row| Some(row.at_attach)),
        numbers(|row| row.oldest_ns),
        Arc::new(rows.iter().map(|row| row.oldest_at_least).collect::<BooleanArray>()),
        numbers(|row| row.stack_bytes),
        waits(rows),
        texts(|row| Some(row.level.name())),
        texts(|row| row.cause.as_deref()),
        evidence(rows),
        lifetimes(rows),
        numbers(|row| Some(row.lifetime_count)),
        Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.lifetime_sum_s))),
        Arc::new(rows.iter().map(|row| row.hdr.as_deref()).collect::<BinaryArray>()),
        texts(|row| Some(row.counts.name())),
        numbers(|row| Some(row.dropped)),
        numbers(|row| Some(row.pid.into())),
        small(|row| Some(row.processes)),
        Arc::new(
            rows.iter().map(|row| row.started_ms).collect::<TimestampMillisecondArray>().with_timezone("UTC"),
        ),
        numbers(|row| Some(row.window_ns)),
        numbers(|row| row.memory_limit),
        texts(|row| row.blame.as_deref()),
    ];
    RecordBatch::try_new(schema(), columns)
}

/// The largest number of a column, in place of one that does not fit.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn waits(rows: &[Row]) -> ArrayRef {
    let fields: [Box<dyn ArrayBuilder>; 2] = [Box::new(StringBuilder::new()), Box::new(Int64Builder::new())];
    let items = StructBuilder::new(wait_fields(), fields.into());
    let mut lists = ListBuilder::new(items).with_field(item(DataType::Struct(wait_fields())));
    for row in rows {
        let items = lists.values();
        for (reason, count) in &row.waits {
            items.field_builder::<StringBuilder>(0).into_iter().for_each(|to| to.append_value(reason));
            items.field_builder::<Int64Builder>(1).into_iter().for_each(|to| to.append_value(number(*count)));
            items.append(true);
        }
        lists.append(true);
    }
    Arc::new(lists.finish())
}

fn lifetimes(rows: &[Row]) -> ArrayRef {
    let fields: [Box<dyn ArrayBuilder>; 2] = [Box::new(Int32Builder::new()), Box::new(Int64Builder::new())];
    let items = StructBuilder::new(lifetime_fields(), fields.into());
    let mut lists = ListBuilder::new(items).with_field(item(DataType::Struct(lifetime_fields())));
    for row in rows {
        let items = lists.values();
        for (bucket, count) in &row.lifetime {
            items.field_builder::<Int32Builder>(0).into_iter().for_each(|to| to.append_value(*bucket));
            items.field_builder::<Int64Builder>(1).into_iter().for_each(|to| to.append_value(number(*count)));
            items.append(true);
        }
        lists.append(true);
    }
    Arc::new(lists.finish())
}

fn evidence(rows: &[Row]) -> ArrayRef {
    let mut lists = ListBuilder::new(StringBuilder::new()).with_field(item(DataType::Utf8));
    for row in rows {
        row.evidence.iter().for_each(|text| lists.values().append_value(text));
        lists.append(true);
    }
    Arc::new(lists.finish())
}
