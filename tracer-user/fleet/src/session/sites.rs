//! The files of a store that can be read, as one table: sweeps, or roll-ups. Files are left out by their hour and their moment
//! before any is opened; then each footer is read once, and what is no such file is left out by name.

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
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use golife::human;
use golife::store::columns::{self, VERSION, VERSION_KEY};
use golife::store::location;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, parquet_to_arrow_schema};
use parquet::file::metadata::ParquetMetaData;

use super::progress::Scan;
use crate::listing::{Footer, HOUR_MS, LeftOut, SweepObject, Why};
use crate::rollup;
use crate::store;
use crate::waiting::Waiting;

/// How many footers are read at once.
const FOOTERS_AT_ONCE: usize = 32;
/// Most files that an answer leaves out because the store does not hand them out. With more, there is no answer.
const MOST_REFUSED: usize = 16;
/// How many files are read at once in search of broken ones.
const READ_AT_ONCE: usize = 4;
/// Where the metadata of a compacted file or a roll-up has the paths of the files that it stands for, a line each.
pub const SOURCES_KEY: &str = "golife.sources";

/// What the files of a table hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Sweeps.
    Sweeps,
    /// Hours of all hosts together.
    Rollups,
}

impl Kind {
    /// The columns of a file as they are read: a column that a file of an older golife lacks is null.
    fn schema(self) -> SchemaRef {
        static SWEEPS: LazyLock<SchemaRef> = LazyLock::new(|| nullable(&columns::schema()));
        static ROLLUPS: LazyLock<SchemaRef> = LazyLock::new(|| nullable(&rollup::columns::schema()));
        match self {
            Kind::Sweeps => SWEEPS.clone(),
            Kind::Rollups => ROLLUPS.clone(),
        }
    }

    /// Where metadata has the version of the schema, and the newest that is known.
    fn version(self) -> (&'static str, u32) {
        match self {
            Kind::Sweeps => (VERSION_KEY, VERSION),
            Kind::Rollups => (rollup::columns::VERSION_KEY, rollup::columns::VERSION),
        }
    }
}

/// The table.
#[derive(Debug)]
pub struct Sites {
    kind: Kind,
    url: ObjectStoreUrl,
    files: Vec<SweepObject>,
    left_out: Arc<LeftOut>,
    last: Mutex<(Scan, Vec<SweepObject>)>,
    most_files: usize,
}

/// The same columns, each of which may be null, and within lists as well, since files that Spark has written say that of everything.
fn nullable(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(maybe).collect::<Vec<_>>()))
}

/// A field that may be null, with all that is within it.
fn maybe(field: &FieldRef) -> FieldRef {
    let kind = match field.data_type() {
        DataType::List(item) => DataType::List(maybe(item)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(maybe).collect()),
        other => other.clone(),
    };
    Arc::new(Field::new(field.name(), kind, true))
}

/// The columns that the folders say, by the types that Spark finds for them.
fn partition_columns() -> Vec<FieldRef> {
    let fields = [Field::new("dt", DataType::Date32, false), Field::new("hour", DataType::Int32, false)];
    fields.map(Arc::new).to_vec()
}

fn table_schema(kind: Kind) -> TableSchema {
    TableSchema::builder(kind.schema()).with_table_partition_cols(partition_columns()).build()
}

impl Sites {
    /// The table of these files.
    pub fn new(kind: Kind, url: ObjectStoreUrl, files: Vec<SweepObject>, left_out: Arc<LeftOut>) -> Sites {
        Sites { kind, url, files, left_out, last: Mutex::default(), most_files: usize::MAX }
    }

    /// The same, of which no query reads more than so many files.
    pub fn with_most_files(self, most_files: usize) -> Sites {
        Sites { most_files, ..self }
    }

    /// A table of other files of the same store.
    pub fn with(&self, files: Vec<SweepObject>) -> Arc<Sites> {
        let table = Sites::new(self.kind, self.url.clone(), files, self.left_out.clone());
        Arc::new(table.with_most_files(self.most_files))
    }

    /// The files that were listed.
    pub fn files(&self) -> &[SweepObject] {
        &self.files
    }

    /// Forgets what was planned last.
    pub fn forget(&self) {
        *self.last.lock().unwrap_or_else(|broken| broken.into_inner()) = Default::default();
    }

    /// What the scan reads that was planned last.
    pub fn last_scan(&self) -> Scan {
        self.last.lock().unwrap_or_else(|broken| broken.into_inner()).0
    }

    /// The files that the scan reads that was planned last.
    pub fn last_files(&self) -> Vec<SweepObject> {
        self.last.lock().unwrap_or_else(|broken| broken.into_inner()).1.clone()
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

    /// The files that can be read, and that no compacted file stands for. Footers of these are not even opened.
    async fn readable(&self, runtime: &RuntimeEnv, files: Vec<SweepObject>) -> Result<Vec<SweepObject>> {
        let (raw, compacted): (Vec<_>, Vec<_>) = files.into_iter().partition(SweepObject::is_raw);
        let compacted = self.with_footers(runtime, compacted).await?;
        let covered: HashSet<&str> = compacted.iter().flat_map(SweepObject::sources).collect();
        let raw: Vec<_> = raw.into_iter().filter(|file| !covered.contains(file.path())).collect();
        if raw.len() > self.most_files {
            let words = format!(
                "there is no answer, since {} files are to be read, and memory allows {}: golife fleet compact makes one of many; or \
                 ask about a shorter time (--since), or let it take more (--memory)",
                human::count(raw.len() as u64),
                human::count(self.most_files as u64)
            );
            return Err(DataFusionError::External(words.into()));
        }
        let mut files = self.with_footers(runtime, raw).await?;
        files.extend(compacted);
        Ok(files)
    }

    /// Reads those footers of files that have not been read before, and leaves out what is no such file.
    pub async fn with_footers(
        &self,
        runtime: &RuntimeEnv,
        files: Vec<SweepObject>,
    ) -> Result<Vec<SweepObject>> {
        let cache = runtime.cache_manager.get_file_metadata_cache();
        let readers = &CachedParquetFileReaderFactory::new(runtime.object_store(&self.url)?, cache);
        let waiting = Waiting::begin("reading footers".into(), "files");
        let files = files.into_iter().filter(|file| !self.left_out.has(file.path()));
        let looked = stream::iter(files).map(|file| {
            let waiting = &waiting;
            async move {
                if file.footer.get().is_none() {
                    let read = footer(readers, &file).await;
                    match read.and_then(|footer| usable(self.kind, &footer).map(|()| footer)) {
                        Ok(footer) => {
                            let _ = file.footer.set(said(&footer));
                        }
                        Err((why, words)) => {
                            self.left_out.add(file.path(), why, words);
                            return self.still_answers().map(|()| None);
                        }
                    }
                }
                waiting.add(1);
                Ok(Some(file))
            }
        });
        let looked = looked.buffer_unordered(FOOTERS_AT_ONCE).try_filter_map(async |file| Ok(file));
        let mut looked: Vec<SweepObject> = looked.try_collect().await?;
        looked.sort_by(|a, b| a.meta.location.cmp(&b.meta.location));
        Ok(looked)
    }

    /// Whether it makes sense to go on: a store that is away would be asked for each of its files, for long.
    fn still_answers(&self) -> Result<()> {
        match self.left_out.refused() {
            (refused, Some((path, why))) if refused > MOST_REFUSED => Err(DataFusionError::Execution(
                format!("there is no answer, since {refused} files are out of reach, such as {path}: {why}"),
            )),
            _ => Ok(()),
        }
    }

    /// Reads all of the files that were scanned last, and leaves out those that cannot be read to their end. Returns how many.
    pub async fn look_for_broken(&self, context: &SessionContext) -> usize {
        let files = self.last.lock().unwrap_or_else(|broken| broken.into_inner()).1.clone();
        let Ok(store) = context.runtime_env().object_store(&self.url) else { return 0 };
        let readers = DefaultParquetFileReaderFactory::new(store);
        let waiting = Waiting::begin("looking for the file that cannot be read".into(), "files");
        let read = stream::iter(files).map(|file| {
            let path = file.path().to_owned();
            let waiting = &waiting;
            let file = PartitionedFile::new_from_meta(file.meta);
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
                let read = read.await;
                waiting.add(1);
                read.map_err(|error| (path, error)).err()
            }
        });
        let broken: Vec<_> =
            read.buffer_unordered(READ_AT_ONCE).filter_map(async |broken| broken).collect().await;
        for (path, error) in &broken {
            let (why, words) = unreadable(error, &error.strip_backtrace());
            self.left_out.add(path, why, words);
        }
        broken.len()
    }
}

#[async_trait]
impl TableProvider for Sites {
    fn schema(&self) -> SchemaRef {
        table_schema(self.kind).table_schema().clone()
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
        let files = self.readable(state.runtime_env(), self.pruned(state, filters)?).await?;
        let scan = Scan {
            files: files.len() as u64,
            bytes: files.iter().map(|file| file.meta.size).sum(),
            rows: files.iter().map(SweepObject::rows).sum(),
        };
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
        let source =
            Arc::new(ParquetSource::new(table_schema(self.kind)).with_table_parquet_options(options.clone()));
        let files = files.into_iter().map(partitioned).collect();
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
) -> std::result::Result<Arc<ParquetMetaData>, (Why, String)> {
    let partitioned = PartitionedFile::new_from_meta(file.meta.clone());
    let reader = readers.create_reader(0, partitioned, None, &ExecutionPlanMetricsSet::new());
    let mut reader = reader.map_err(|error| unreadable(&error, &error.strip_backtrace()))?;
    // With checks of arithmetic, the library panics where the last bytes say that the footer is longer than the file.
    let read = AssertUnwindSafe(reader.get_metadata(None)).catch_unwind().await;
    let longer = |_| (Why::Broken, "cannot be read: its footer is longer than the file".to_owned());
    read.map_err(longer)?.map_err(|error| unreadable(&error, &error.to_string()))
}

/// Why a file cannot be read: because of the store, or of what is in it.
fn unreadable(error: &(dyn std::error::Error + 'static), text: &str) -> (Why, String) {
    const GONE: &str = "is gone since it was listed: golife fleet expire, or somebody else, has deleted it";
    let refused = |why: &str| format!("the store does not hand it out: {why}");
    match store::of_store(error) {
        Some(object_store::Error::NotFound { .. }) => (Why::Refused, GONE.into()),
        Some(error) => (Why::Refused, refused(&location::shortened(error))),
        // The library makes text of it where it reads a footer.
        None => match text.split_once("Object Store error: ") {
            Some((_, why)) if why.starts_with("Object at location") => (Why::Refused, GONE.into()),
            Some((_, why)) => {
                let why = why.rsplit_once(" - ").map_or(why, |(_, why)| why);
                (Why::Refused, refused(&location::without_markup(&location::without_queries(why))))
            }
            None => (Why::Broken, format!("cannot be read: {}", first_line(text))),
        },
    }
}

/// The first line of an error, without the queries of addresses.
fn first_line(text: &str) -> String {
    location::without_queries(text.lines().next().unwrap_or_default())
}

/// Whether a file's columns are those of the table. More of them may be there, and those that were added later may be missing.
fn usable(kind: Kind, footer: &ParquetMetaData) -> std::result::Result<(), (Why, String)> {
    let (key, known) = kind.version();
    let broken = |words: String| Err((Why::Broken, words));
    if let Some(version) = value(footer, key)
        && version.parse::<u32>().map_or(true, |version| version > known)
    {
        return broken(format!("is of schema {version}, and this golife-fleet knows schemas up to {known}"));
    }
    let metadata = footer.file_metadata();
    let schema = parquet_to_arrow_schema(metadata.schema_descr(), metadata.key_value_metadata());
    let schema =
        schema.map_err(|error| (Why::Broken, format!("has columns that cannot be read: {error}")))?;
    for ours in kind.schema().fields() {
        match schema.field_with_name(ours.name()) {
            Ok(theirs) if theirs.data_type() == ours.data_type() => {}
            Ok(theirs) if can_cast_types(theirs.data_type(), ours.data_type()) && is_alike(theirs, ours) => {}
            Ok(_) => return broken(format!("is of another schema: its {} is something else", ours.name())),
            Err(_) if ADDED.contains(&ours.name().as_str()) => {}
            Err(_) => return broken(format!("is of another schema: it has no {}", ours.name())),
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

/// What is remembered of a footer.
fn said(footer: &ParquetMetaData) -> Footer {
    let lines = |text: &str| text.lines().map(str::to_owned).collect();
    Footer {
        rows: footer.file_metadata().num_rows().max(0) as u64,
        sources: value(footer, SOURCES_KEY).map_or_else(Vec::new, lines),
        hosts: value(footer, rollup::columns::HOSTS_KEY).map(str::to_owned),
    }
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
