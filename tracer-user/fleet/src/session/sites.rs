//! The table `sites`: the files of a store that can be read, as one table. Files are left out by their hour and their moment
//! before any is opened; then each footer is read once, and what is no sweep file is left out by name.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, LazyLock, Mutex};

use async_trait::async_trait;
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Int32Array, TimestampMillisecondArray, UInt64Array,
};
use datafusion::arrow::compute::can_cast_types;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::{
    CachedParquetFileReaderFactory, DefaultParquetFileReaderFactory,
};
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfigBuilder, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use futures::{FutureExt, StreamExt, stream};
use golife::store::columns::{self, VERSION, VERSION_KEY};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, parquet_to_arrow_schema};
use parquet::file::metadata::ParquetMetaData;

use super::progress::Scan;
use crate::listing::{HOUR_MS, LeftOut, SweepObject};

/// How many footers are read at once.
const FOOTERS_AT_ONCE: usize = 32;
/// How many files are read at once in search of broken ones.
const READ_AT_ONCE: usize = 4;
/// Where the metadata of a compacted file has the paths of the files that it stands for, a line each.
pub const SOURCES_KEY: &str = "golife.sources";

/// The table.
#[derive(Debug)]
pub struct Sites {
    url: ObjectStoreUrl,
    files: Vec<SweepObject>,
    left_out: Arc<LeftOut>,
    last: Mutex<(Scan, Vec<PartitionedFile>)>,
}

/// The columns of a file as they are read: a column that a file of an older golife lacks is null.
pub fn file_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let fields = columns::schema();
        let fields = fields.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    });
    SCHEMA.clone()
}

/// The columns that the folders say, by the types that Spark finds for them.
fn partition_columns() -> Vec<FieldRef> {
    let fields = [Field::new("dt", DataType::Date32, false), Field::new("hour", DataType::Int32, false)];
    fields.map(Arc::new).to_vec()
}

fn table_schema() -> TableSchema {
    TableSchema::builder(file_schema()).with_table_partition_cols(partition_columns()).build()
}

impl Sites {
    /// The table of these files.
    pub fn new(url: ObjectStoreUrl, files: Vec<SweepObject>, left_out: Arc<LeftOut>) -> Sites {
        Sites { url, files, left_out, last: Mutex::default() }
    }

    /// Number of files that were listed.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// What the scan reads that was planned last.
    pub fn last_scan(&self) -> Scan {
        self.last.lock().unwrap_or_else(|broken| broken.into_inner()).0
    }

    /// The files that the scan reads that was planned last.
    pub fn last_files(&self) -> Vec<SweepObject> {
        let last = self.last.lock().unwrap_or_else(|broken| broken.into_inner());
        let read: HashSet<_> = last.1.iter().map(|file| file.object_meta.location.clone()).collect();
        self.files.iter().filter(|file| read.contains(&file.meta.location)).cloned().collect()
    }

    /// The files of which some row may satisfy the filters, by their folders and names alone.
    fn pruned(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<SweepObject>> {
        let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(self.files.clone()) };
        let schema = self.schema();
        let filter = state.create_physical_expr(filter, &DFSchema::try_from(schema.clone())?)?;
        let predicate = PruningPredicateBuilder::new().with_file_schema(schema).try_build(filter)?;
        let keep = predicate.prune(&Names(&self.files))?;
        Ok(self.files.iter().zip(keep).filter(|(_, keep)| *keep).map(|(file, _)| file.clone()).collect())
    }

    /// Reads the footers of files, and leaves out what is no sweep file or is in a compacted file already. With each file comes
    /// its number of rows.
    async fn readable(
        &self,
        readers: &CachedParquetFileReaderFactory,
        files: Vec<SweepObject>,
    ) -> Vec<(SweepObject, u64)> {
        let files = files.into_iter().filter(|file| !self.left_out.has(file.meta.location.as_ref()));
        let looked = stream::iter(files).map(|file| async move {
            let footer = footer(readers, &file).await.and_then(|footer| usable(&footer).map(|()| footer));
            match footer {
                Ok(footer) => {
                    let rows = footer.file_metadata().num_rows().max(0) as u64;
                    Some((file, rows, sources(&footer)))
                }
                Err(why) => {
                    self.left_out.add(file.meta.location.as_ref(), why);
                    None
                }
            }
        });
        let mut looked: Vec<_> =
            looked.buffer_unordered(FOOTERS_AT_ONCE).filter_map(async |file| file).collect().await;
        looked.sort_by(|(a, ..), (b, ..)| a.meta.location.cmp(&b.meta.location));
        let covered: HashSet<String> = looked.iter().flat_map(|(_, _, sources)| sources.clone()).collect();
        let left = looked.into_iter().filter(|(file, ..)| !covered.contains(file.meta.location.as_ref()));
        left.map(|(file, rows, _)| (file, rows)).collect()
    }

    /// Reads all of the files that were scanned last, and leaves out those that cannot be read to their end. Returns how many.
    pub async fn look_for_broken(&self, context: &SessionContext) -> usize {
        let files = self.last.lock().unwrap_or_else(|broken| broken.into_inner()).1.clone();
        let Ok(store) = context.runtime_env().object_store(&self.url) else { return 0 };
        let readers = DefaultParquetFileReaderFactory::new(store);
        let read = stream::iter(files).map(|file| {
            let path = file.object_meta.location.to_string();
            let reader = readers.create_reader(0, file, None, &ExecutionPlanMetricsSet::new());
            async move {
                let read = async {
                    let reader: Box<dyn AsyncFileReader> = reader?;
                    let mut rows = ParquetRecordBatchStreamBuilder::new(reader).await?.build()?;
                    while let Some(batch) = rows.next().await {
                        batch?;
                    }
                    Ok::<_, DataFusionError>(())
                };
                read.await.map_err(|error| (path, error)).err()
            }
        });
        let broken: Vec<_> =
            read.buffer_unordered(READ_AT_ONCE).filter_map(async |broken| broken).collect().await;
        for (path, error) in &broken {
            self.left_out.add(path, format!("cannot be read: {}", shortened(&error.strip_backtrace())));
        }
        broken.len()
    }
}

#[async_trait]
impl TableProvider for Sites {
    fn schema(&self) -> SchemaRef {
        table_schema().table_schema().clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let store = state.runtime_env().object_store(&self.url)?;
        let cache = state.runtime_env().cache_manager.get_file_metadata_cache();
        let readers = CachedParquetFileReaderFactory::new(store, cache);
        let files = self.readable(&readers, self.pruned(state, filters)?).await;
        let scan = Scan {
            files: files.len() as u64,
            bytes: files.iter().map(|(file, _)| file.meta.size).sum(),
            rows: files.iter().map(|(_, rows)| rows).sum(),
        };
        let files: Vec<PartitionedFile> = files.into_iter().map(|(file, _)| partitioned(file)).collect();
        *self.last.lock().unwrap_or_else(|broken| broken.into_inner()) = (scan, files.clone());
        if files.is_empty() {
            let schema = self.schema();
            let schema =
                projection.map_or(Ok(schema.clone()), |columns| schema.project(columns).map(Arc::new))?;
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let options = TableParquetOptions {
            global: state.config_options().execution.parquet.clone(),
            ..TableParquetOptions::default()
        };
        let source = Arc::new(ParquetSource::new(table_schema()).with_table_parquet_options(options.clone()));
        let groups = FileGroup::new(files).split_files(state.config().target_partitions());
        let config = FileScanConfigBuilder::new(self.url.clone(), source)
            .with_file_groups(groups)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        ParquetFormat::new().with_options(options).create_physical_plan(state, config).await
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}

fn partitioned(file: SweepObject) -> PartitionedFile {
    let day = (file.hour / (24 * HOUR_MS)) as i32;
    let hour = (file.hour / HOUR_MS % 24) as i32;
    let values = vec![ScalarValue::Date32(Some(day)), ScalarValue::Int32(Some(hour))];
    PartitionedFile::new_from_meta(file.meta).with_partition_values(values)
}

async fn footer(
    readers: &CachedParquetFileReaderFactory,
    file: &SweepObject,
) -> std::result::Result<Arc<ParquetMetaData>, String> {
    let partitioned = PartitionedFile::new_from_meta(file.meta.clone());
    let reader = readers.create_reader(0, partitioned, None, &ExecutionPlanMetricsSet::new());
    let mut reader = reader.map_err(|error| error.to_string())?;
    // With checks of arithmetic, the library panics where the last bytes say that the footer is longer than the file.
    let read = AssertUnwindSafe(reader.get_metadata(None)).catch_unwind().await;
    let read = read.map_err(|_| "cannot be read: its footer is longer than the file".to_owned())?;
    read.map_err(|error| format!("cannot be read: {}", shortened(&error.to_string())))
}

/// The first line of an error, without the queries of addresses.
fn shortened(text: &str) -> String {
    golife::store::location::without_queries(text.lines().next().unwrap_or_default())
}

/// Whether a file's columns are those of a sweep file. More of them may be there, and those that were added later may be missing.
fn usable(footer: &ParquetMetaData) -> std::result::Result<(), String> {
    if let Some(version) = value(footer, VERSION_KEY)
        && version.parse::<u32>().map_or(true, |version| version > VERSION)
    {
        return Err(format!("is of schema {version}, and this golife-fleet knows schemas up to {VERSION}"));
    }
    let metadata = footer.file_metadata();
    let schema = parquet_to_arrow_schema(metadata.schema_descr(), metadata.key_value_metadata());
    let schema = schema.map_err(|error| format!("has columns that cannot be read: {error}"))?;
    for ours in file_schema().fields() {
        match schema.field_with_name(ours.name()) {
            Ok(theirs) if theirs.data_type() == ours.data_type() => {}
            Ok(theirs) if can_cast_types(theirs.data_type(), ours.data_type()) && is_alike(theirs, ours) => {}
            Ok(_) => return Err(format!("is of another schema: its {} is something else", ours.name())),
            Err(_) if ADDED.contains(&ours.name().as_str()) => {}
            Err(_) => return Err(format!("is of another schema: it has no {}", ours.name())),
        }
    }
    Ok(())
}

/// The columns that were added to schema 1, or that may be left out.
const ADDED: [&str; 7] = ["hdr", "pid", "processes", "started", "window_ns", "memory_limit", "blame"];

/// Texts are not read as numbers, nor numbers as texts.
fn is_alike(theirs: &Field, ours: &Field) -> bool {
    let is_text = |kind: &DataType| matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    is_text(theirs.data_type()) == is_text(ours.data_type())
}

fn value<'a>(footer: &'a ParquetMetaData, key: &str) -> Option<&'a str> {
    let all = footer.file_metadata().key_value_metadata()?;
    all.iter().find(|pair| pair.key == key)?.value.as_deref()
}

/// The paths of the files that a compacted file stands for.
fn sources(footer: &ParquetMetaData) -> Vec<String> {
    value(footer, SOURCES_KEY).map_or_else(Vec::new, |text| text.lines().map(str::to_owned).collect())
}

/// What names and folders say of the rows of files.
struct Names<'a>(&'a [SweepObject]);

impl Names<'_> {
    fn of(&self, column: &Column, time: fn(&SweepObject) -> i64) -> Option<ArrayRef> {
        let hours = self.0.iter().map(|file| file.hour);
        Some(match column.name() {
            "dt" => Arc::new(Date32Array::from_iter_values(hours.map(|hour| (hour / (24 * HOUR_MS)) as i32))),
            "hour" => Arc::new(Int32Array::from_iter_values(hours.map(|hour| (hour / HOUR_MS % 24) as i32))),
            "sweep_time" => {
                let times = TimestampMillisecondArray::from_iter_values(self.0.iter().map(time));
                Arc::new(times.with_timezone("UTC"))
            }
            _ => return None,
        })
    }
}

impl PruningStatistics for Names<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.of(column, |file| file.times.0)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.of(column, |file| file.times.1)
    }

    fn num_containers(&self) -> usize {
        self.0.len()
    }

    fn null_counts(&self, _: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None::<UInt64Array>.map(|counts| Arc::new(counts) as ArrayRef)
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
