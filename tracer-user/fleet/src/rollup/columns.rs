//! The columns of a roll-up, and how merged rows become them. What each column means is in `docs/fleet-columns.md`.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::builder::{
    ArrayBuilder, Int32Builder, Int64Builder, ListBuilder, StructBuilder,
};
use datafusion::arrow::array::{
    ArrayRef, BinaryArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use golife::store::columns as sweeps;

use super::hosts::HostSet;
use super::merge::{Part, Site};

/// Version of the schema, which stands in the metadata of each file under [`VERSION_KEY`].
pub const VERSION: u32 = 1;
/// Where the metadata of a file has the version of its schema.
pub const VERSION_KEY: &str = "golife.rollup";
/// Where the metadata of a file has its hosts: a JSON array of their names, in their order.
pub const HOSTS_KEY: &str = "golife.hosts";

/// The columns that tell one row of an hour from the others, which is the order of the rows, too.
pub const SITE: [&str; 8] =
    ["service", "module", "function", "line", "ordinal", "entry", "version", "build_id"];

/// The columns. Those that sweep files have, too, are of the same types.
pub fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let as_in_sweeps = |name: &str| sweeps::schema().field_with_name(name).cloned().ok();
        let number = |name: &str| Some(Field::new(name, DataType::Int64, false));
        let time = |name: &str| Some(as_in_sweeps("sweep_time")?.with_name(name));
        let mut fields = vec![time("start")];
        fields.extend(SITE.map(as_in_sweeps));
        fields.extend([
            Some(Field::new("hosts", DataType::Int32, false)),
            Some(Field::new("host_set", DataType::Binary, false)),
            number("sweeps"),
            time("first_sweep"),
            number("created"),
            number("exited"),
            number("live"),
            number("live_max"),
            as_in_sweeps("oldest_ns"),
            as_in_sweeps("stack_bytes"),
            number("stack_sweeps"),
            number("window_ns"),
            as_in_sweeps("lifetime"),
            number("lifetime_count"),
            as_in_sweeps("lifetime_sum_s"),
            number("incomplete"),
        ]);
        Arc::new(Schema::new(fields.into_iter().flatten().collect::<Vec<_>>()))
    });
    SCHEMA.clone()
}

/// Puts merged rows of one hour, which starts at `start` in ms since 1970, into columns. With each comes the set of its hosts.
///
/// # Errors
/// Never for rows as they are; the error is that of the library.
pub fn batch(start: i64, rows: &[(&Site, &Part, HostSet)]) -> anyhow::Result<RecordBatch> {
    let texts = |of: fn(&Site) -> Option<&str>| -> ArrayRef {
        Arc::new(rows.iter().map(|row| of(row.0)).collect::<StringArray>())
    };
    let small = |of: fn(&Site) -> Option<i32>| -> ArrayRef {
        Arc::new(rows.iter().map(|row| of(row.0)).collect::<Int32Array>())
    };
    let numbers = |of: fn(&Part) -> Option<i64>| -> ArrayRef {
        Arc::new(rows.iter().map(|row| of(row.1)).collect::<Int64Array>())
    };
    let times = |of: &dyn Fn(&Part) -> i64| -> ArrayRef {
        let times = rows.iter().map(|row| of(row.1));
        Arc::new(TimestampMillisecondArray::from_iter_values(times).with_timezone("UTC"))
    };
    let host_counts = rows.iter().map(|row| i32::try_from(row.2.len()).unwrap_or(i32::MAX));
    let columns: Vec<ArrayRef> = vec![
        times(&|_| start),
        texts(|site| Some(&site.service)),
        texts(|site| site.module.as_deref()),
        texts(|site| Some(&site.function)),
        small(|site| site.line),
        small(|site| site.ordinal),
        texts(|site| Some(&site.entry)),
        texts(|site| site.version.as_deref()),
        texts(|site| site.build_id.as_deref()),
        Arc::new(host_counts.collect::<Int32Array>()),
        Arc::new(BinaryArray::from_iter_values(rows.iter().map(|row| row.2.bytes()))),
        numbers(|part| Some(part.sweeps)),
        times(&|part| part.first_ms),
        numbers(|part| Some(part.created)),
        numbers(|part| Some(part.exited)),
        numbers(|part| Some(part.live)),
        numbers(|part| Some(part.live_max)),
        numbers(|part| part.oldest_ns),
        numbers(|part| part.stack_bytes),
        numbers(|part| Some(part.stack_sweeps)),
        numbers(|part| Some(part.window_ns)),
        lifetimes(rows),
        numbers(|part| Some(part.lifetime_count)),
        Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.1.lifetime_sum_s))),
        numbers(|part| Some(part.incomplete)),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

fn lifetimes(rows: &[(&Site, &Part, HostSet)]) -> ArrayRef {
    let schema = schema();
    let item = schema.field_with_name("lifetime").ok().and_then(|field| match field.data_type() {
        DataType::List(item) => Some(item.clone()),
        _ => None,
    });
    let fields = item.as_ref().and_then(|item| match item.data_type() {
        DataType::Struct(fields) => Some(fields.clone()),
        _ => None,
    });
    let (Some(item), Some(fields)) = (item, fields) else {
        unreachable!("lifetimes are lists of structures")
    };
    let builders: [Box<dyn ArrayBuilder>; 2] = [Box::new(Int32Builder::new()), Box::new(Int64Builder::new())];
    let mut lists = ListBuilder::new(StructBuilder::new(fields, builders.into())).with_field(item);
    for (_, part, _) in rows {
        let items = lists.values();
        for (bucket, count) in &part.lifetime {
            items.field_builder::<Int32Builder>(0).into_iter().for_each(|to| to.append_value(*bucket));
            items.field_builder::<Int64Builder>(1).into_iter().for_each(|to| to.append_value(*count));
            items.append(true);
        }
        lists.append(true);
    }
    Arc::new(lists.finish())
}
