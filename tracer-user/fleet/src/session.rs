//! SQL over a store: DataFusion with bounded memory, and what it costs said before and while it goes on. A file that cannot be
//! read is left out and named; it never fails a query.

mod parts;
mod progress;
mod sites;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use anyhow::Context;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::TableReference;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::{col, lit};
use datafusion::physical_plan::{ExecutionPlan, displayable, execute_stream};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::scalar::ScalarValue;
use futures::StreamExt;
use golife::human;
use golife::store::location;

use crate::arguments::{Asking, ms};
use crate::listing::{self, HOUR_MS, LeftOut, SweepObject, Why, Window};
use crate::rollup::choice::Choice;
use crate::store::{self, Store};
pub use parts::{PARTS, REST, ROLLUPS};
pub use sites::SOURCES_KEY;
use sites::{Kind, Sites};

/// The least memory unless the user says otherwise.
const MEMORY: u64 = 1 << 30;
/// What the library keeps of each file that a query reads, in bytes, whatever is in it: 20 to 26 kB were measured.
const OF_A_FILE: u64 = 24 << 10;
/// The part of the memory that is for the footers of files.
const FOOTERS: u64 = 16;
/// So many files that are not compacted although their hour is over are a reason to say so.
const DUE: usize = 5_000;
/// How often a query begins anew without files that turned out to be broken.
const ATTEMPTS: usize = 3;
/// How the name of a table of all sweeps in some files begins, of which another one is those in the window.
const LISTED: &str = "listed";
/// What dialects say differently: the views that queries in `sql/` use, which are the same for Spark and Trino.
const VIEWS: &str = include_str!("../sql/views/datafusion.sql");
/// What DataFusion knows the store as.
const STORE: &str = "golife://store";

/// A store that can be asked.
pub struct Session {
    context: SessionContext,
    sites: Arc<Sites>,
    left_out: Arc<LeftOut>,
    store: Store,
    window: Window,
    /// Roll-ups that may be read.
    rollups: Arc<Sites>,
    /// Which of them are read, and the tables of `parts`.
    parts: Mutex<(Choice, Vec<Arc<Sites>>)>,
    /// Where queries go on that do not fit into memory. It is removed with the session.
    _spill: tempfile::TempDir,
}

impl Session {
    /// Lists a store's files with sweeps of a window, in ms since 1970, and makes them the table `sites`, of which `timed` and
    /// `lifetimes` are views.
    ///
    /// # Errors
    /// The store cannot be listed.
    pub async fn open(asking: &Asking, window: Window) -> anyhow::Result<Session> {
        Session::open_rolled(asking, window, false).await
    }

    /// The same, with the table [`PARTS`] made of roll-ups where there are any, if they `may` be read: those of hours that are in
    /// the window as a whole.
    ///
    /// # Errors
    /// The store cannot be listed.
    pub async fn open_rolled(asking: &Asking, window: Window, may: bool) -> anyhow::Result<Session> {
        let store = Store::open(&asking.url, asking.store_timeout)?;
        let left_out = Arc::new(LeftOut::default());
        let files = listing::list(&store, window, &left_out).await?;
        let (files, copies) = listing::without_copies(&store, files).await;
        for copy in copies {
            left_out.add(
                copy.path(),
                Why::Copy,
                "the same as another file of that host and moment, which counts",
            );
        }
        let rollups = if may { listing::rollups(&store, window, &left_out).await? } else { Vec::new() };
        let most_files = (memory(asking) / OF_A_FILE) as usize;
        Session::made(asking, store, (files, rollups, left_out), window, most_files).await
    }

    /// The files in portions of whole hours, in the order of time, each of about so many rows at most.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn portions(&self, most_rows: u64) -> anyhow::Result<Vec<Vec<SweepObject>>> {
        let mut hours: BTreeMap<i64, Vec<SweepObject>> = BTreeMap::new();
        for file in self.readable().await? {
            hours.entry(file.hour).or_default().push(file);
        }
        let mut portions: Vec<(u64, Vec<SweepObject>)> = Vec::new();
        for files in hours.into_values() {
            let rows = golife::human::sum(files.iter().map(SweepObject::rows));
            match portions.last_mut() {
                Some((sum, portion)) if sum.saturating_add(rows) <= most_rows => {
                    *sum += rows;
                    portion.extend(files);
                }
                _ => portions.push((rows, files)),
            }
        }
        Ok(portions.into_iter().map(|(_, files)| files).collect())
    }

    /// Some of the files as a store of their own, in the same window. What cannot be read is named by this one.
    ///
    /// # Errors
    /// This machine has no room for temporary files.
    pub async fn of_files(&self, asking: &Asking, files: Vec<SweepObject>) -> anyhow::Result<Session> {
        let files = (files, Vec::new(), self.left_out.clone());
        Session::made(asking, self.store.clone(), files, self.window, usize::MAX).await
    }

    /// Makes these files the table `sites`, whatever else the store has.
    ///
    /// # Errors
    /// This machine has no room for temporary files.
    pub async fn over(asking: &Asking, store: Store, files: Vec<SweepObject>) -> anyhow::Result<Session> {
        Session::made(asking, store, (files, Vec::new(), Arc::default()), (None, None), usize::MAX).await
    }

    async fn made(
        asking: &Asking,
        store: Store,
        (files, rollups, left_out): (Vec<SweepObject>, Vec<SweepObject>, Arc<LeftOut>),
        window: Window,
        most_files: usize,
    ) -> anyhow::Result<Session> {
        let memory = memory(asking);
        let spill = tempfile::tempdir().context("cannot make a folder for temporary files")?;
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new((memory - memory / FOOTERS) as usize)))
            .with_metadata_cache_limit((memory / FOOTERS) as usize)
            .with_temp_file_path(spill.path())
            .build_arc()?;
        let url = ObjectStoreUrl::parse(STORE)?;
        runtime.register_object_store(url.as_ref(), store.objects());
        let mut config = SessionConfig::new().with_information_schema(true);
        config.options_mut().execution.parquet.pushdown_filters = true;
        config.options_mut().execution.parquet.reorder_filters = true;
        config.options_mut().execution.time_zone = Some("+00:00".into());
        let context = SessionContext::new_with_config_rt(config, runtime);
        let sites = Sites::new(Kind::Sweeps, url.clone(), files, left_out.clone());
        let sites = Arc::new(sites.with_most_files(most_files));
        let rollups = Arc::new(Sites::new(Kind::Rollups, url, rollups, left_out.clone()));
        let parts = Mutex::default();
        let session = Session { context, sites, rollups, parts, left_out, store, window, _spill: spill };
        session.register("sites", session.sites.clone()).await?;
        for view in VIEWS.split_inclusive(';').filter(|text| text.ends_with(';')) {
            session.context.sql(view).await?;
        }
        session.arrange().await?;
        Ok(session)
    }

    /// Makes the sweeps in the window, of all in some files, a table of this name.
    async fn register(&self, name: &str, files: Arc<Sites>) -> anyhow::Result<()> {
        let listed = format!("{LISTED}_{name}");
        for old in [listed.as_str(), name] {
            self.context.deregister_table(old)?;
        }
        self.context.register_table(&listed, files)?;
        let mut table = self.context.table(&listed).await?;
        let moment = |ms| lit(ScalarValue::TimestampMillisecond(Some(ms), Some("UTC".into())));
        if let Some(since) = self.window.0 {
            table = table.filter(col("sweep_time").gt_eq(moment(since)))?;
        }
        if let Some(until) = self.window.1 {
            table = table.filter(col("sweep_time").lt(moment(until)))?;
        }
        self.context.register_table(TableReference::bare(name), table.into_view())?;
        Ok(())
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What DataFusion is asked through, to register further tables.
    pub fn context(&self) -> &SessionContext {
        &self.context
    }

    /// What a reader has to know: which files were left out.
    pub fn notes(&self) -> Vec<String> {
        self.left_out.said()
    }

    /// Whether files are left out that the store may hand out the next time.
    pub fn is_partial(&self) -> bool {
        self.left_out.count(Why::Refused) > 0
    }

    /// Whether each file can be read.
    pub fn is_whole(&self) -> bool {
        self.left_out.count(Why::Broken) + self.left_out.count(Why::Refused) == 0
    }

    /// What is to be done about many small files: nothing unless the last query has read many that could be one by now.
    pub fn due(&self) -> Option<String> {
        let over = ms(SystemTime::now()) - 2 * HOUR_MS;
        let files = self.sites.last_files();
        let late = files.iter().filter(|file| file.is_raw() && file.hour <= over).count();
        (late >= DUE).then(|| {
            let late = human::count(late as u64);
            format!("{late} files of hours that are over are not compacted, which makes each question slow: see golife fleet compact")
        })
    }

    /// Whether an object is left out because it cannot be read.
    pub fn is_left_out(&self, path: &str) -> bool {
        self.left_out.has(path)
    }

    /// The files that a query over everything reads: those that can be read, and that no other one stands for.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn readable(&self) -> anyhow::Result<Vec<SweepObject>> {
        self.plan("SELECT host FROM sites").await?;
        Ok(self.sites.last_files())
    }

    /// All files of sweeps that were listed, whether they can be read or not, but for copies.
    pub fn files(&self) -> &[SweepObject] {
        self.sites.files()
    }

    /// Whether there is no file of sweeps at all.
    pub fn is_empty(&self) -> bool {
        self.sites.files().is_empty()
    }

    /// Answers a query with all its rows, which must fit into memory.
    ///
    /// # Errors
    /// The query is wrong or would write, the store does not answer, or memory and disk do not suffice.
    pub async fn query(&self, sql: &str) -> anyhow::Result<(SchemaRef, Vec<RecordBatch>)> {
        let mut schema = None;
        let batches = self
            .fold(sql, Vec::new, |batches: &mut Vec<RecordBatch>, batch| {
                schema.get_or_insert_with(|| batch.schema());
                batches.push(batch);
                Ok(())
            })
            .await?;
        let schema = match schema {
            Some(schema) => schema,
            None => self.plan(sql).await?.schema(),
        };
        Ok((schema, batches))
    }

    /// Answers a query batch by batch. Where a file turns out to be broken, it begins anew without that.
    ///
    /// # Errors
    /// As for [`Session::query`], or what `add` fails with.
    pub async fn fold<T>(
        &self,
        sql: &str,
        begin: impl Fn() -> T,
        mut add: impl FnMut(&mut T, RecordBatch) -> anyhow::Result<()>,
    ) -> anyhow::Result<T> {
        let mut attempt = 1;
        'anew: loop {
            let plan = self.plan(sql).await?;
            let scan = self.last_scan();
            progress::say_cost(&scan);
            let _progress = progress::watch(plan.clone(), scan);
            let mut found = begin();
            let mut batches = execute_stream(plan, self.context.task_ctx())?;
            while let Some(batch) = batches.next().await {
                match batch {
                    Ok(batch) => add(&mut found, batch)?,
                    Err(error) if attempt < ATTEMPTS && is_of_data(&error) => {
                        // A store may do the next time what it did not do now; a damaged file stays as it is.
                        if self.leave_out_broken().await? == 0 && store::of_store(&error).is_none() {
                            return Err(self.explained(error));
                        }
                        attempt += 1;
                        continue 'anew;
                    }
                    Err(error) => return Err(self.explained(error)),
                }
            }
            return Ok(found);
        }
    }

    /// How a query is run, and which files it reads.
    ///
    /// # Errors
    /// As for [`Session::query`].
    pub async fn explain(&self, sql: &str) -> anyhow::Result<String> {
        let plan = self.plan(sql).await?;
        let scan = self.last_scan();
        let listed = self.sites.files().len() + self.rollups.files().len();
        let mut text = format!(
            "reads {} of {} files, {}, {} rows\n",
            human::count(scan.files),
            human::count(listed as u64),
            human::bytes(scan.bytes),
            human::count(scan.rows)
        );
        text += &displayable(plan.as_ref()).indent(false).to_string();
        Ok(text)
    }

    async fn plan(&self, sql: &str) -> anyhow::Result<Arc<dyn ExecutionPlan>> {
        let only_reads =
            SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        self.tables().for_each(|table| table.forget());
        let made = async {
            let frame = self.context.sql_with_options(sql, only_reads).await?;
            frame.create_physical_plan().await
        };
        made.await.map_err(|error| self.explained(error))
    }

    fn explained(&self, error: DataFusionError) -> anyhow::Error {
        let text = location::without_markup(&location::without_queries(&error.strip_backtrace()));
        match error.find_root() {
            DataFusionError::ResourcesExhausted(_) => {
                anyhow::anyhow!("{}: memory does not suffice, see --memory: {text}", self.store.name())
            }
            DataFusionError::External(own) => anyhow::anyhow!("{}: {own}", self.store.name()),
            _ => anyhow::anyhow!("{}: {text}", self.store.name()),
        }
    }
}

/// Whether an error is of what was read, not of the query or this machine.
fn is_of_data(error: &DataFusionError) -> bool {
    matches!(
        error.find_root(),
        DataFusionError::ParquetError(_)
            | DataFusionError::ObjectStore(_)
            | DataFusionError::ArrowError(..)
            | DataFusionError::External(_)
            | DataFusionError::Execution(_)
    )
}

/// What a query may take in bytes.
fn memory(asking: &Asking) -> u64 {
    asking.memory.unwrap_or_else(|| (machine_memory() / 4).max(MEMORY))
}

/// Memory of the machine in bytes; 0 where it is not known.
fn machine_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB"));
    kib.and_then(|kib| kib.trim().parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}
