//! What one sweep said of one site, as it is read for findings, and how a query's rows become that.

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};

/// The columns that a point is made of, as SQL.
pub const COLUMNS: &str = "module, function, file, line, ordinal, entry, service, version, host, CAST(sweep_time AS BIGINT) AS at, \
                           live, created, level, cause, pid, processes, CAST(started AS BIGINT) AS started, stack_bytes, blame, oldest_ns, \
                           waits, lifetime_count, lifetime_sum_s, window_ns, counts";

/// What nobody waits for for long who is well, by the names that Go has for it.
const WANTING: [&str; 5] =
    ["chan send", "chan send (nil chan)", "sync.Mutex.Lock", "sync.RWMutex.Lock", "sync.RWMutex.RLock"];

/// What one sweep said of one site.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "each is the column of that name, see docs/fleet-columns.md")]
pub struct Point {
    pub module: Option<String>,
    pub function: String,
    pub file: Option<String>,
    pub line: Option<i64>,
    pub ordinal: Option<i64>,
    pub entry: String,
    pub service: String,
    pub version: Option<String>,
    pub host: String,
    pub time_ms: i64,
    pub live: u64,
    pub created: u64,
    pub level: String,
    pub cause: Option<String>,
    pub pid: i64,
    pub processes: i64,
    pub started_ms: Option<i64>,
    pub stack_bytes: Option<u64>,
    pub blame: Option<String>,
    pub oldest_ns: Option<u64>,
    pub lifetime_count: u64,
    pub lifetime_sum_s: f64,
    pub window_ns: u64,
    pub counts: String,
    /// How many of the living want to send, or want a lock.
    pub wanting: u64,
}

impl Point {
    /// Whether the host calls it a leak.
    pub fn leaks(&self) -> bool {
        matches!(self.level.as_str(), "suspect" | "proven")
    }

    /// Whether the host sees nothing of a leak, not even what only many hosts together are sure of.
    pub fn is_clean(&self) -> bool {
        !self.leaks() && self.level != "watch"
    }

    /// Whether the site was seen executing.
    pub fn executes(&self) -> bool {
        self.created > 0 || self.live > 0
    }
}

/// A batch of a query for [`COLUMNS`].
#[derive(Debug)]
pub struct Points(RecordBatch);

impl Points {
    /// The points of a batch.
    ///
    /// # Errors
    /// A column is not there, or of a type that does not become its own.
    pub fn of(batch: RecordBatch) -> anyhow::Result<Vec<Point>> {
        let points = Points(batch);
        let rows = points.0.num_rows();
        let text = |name| points.texts(name);
        let number = |name| points.numbers(name);
        let count = |value: Option<i64>| u64::try_from(value.unwrap_or(0)).unwrap_or(0);
        let (mut module, mut function, mut file) = (text("module")?, text("function")?, text("file")?);
        let (mut entry, mut service, mut version) = (text("entry")?, text("service")?, text("version")?);
        let (mut host, mut level, mut cause, mut blame) =
            (text("host")?, text("level")?, text("cause")?, text("blame")?);
        let (line, ordinal, at) = (number("line")?, number("ordinal")?, number("at")?);
        let (live, created, pid) = (number("live")?, number("created")?, number("pid")?);
        let (processes, bytes) = (number("processes")?, number("stack_bytes")?);
        let (started, oldest) = (number("started")?, number("oldest_ns")?);
        let (ended, window, mut counts) = (number("lifetime_count")?, number("window_ns")?, text("counts")?);
        let lifetimes = points.column("lifetime_sum_s", &DataType::Float64)?;
        let lifetimes = lifetimes.as_primitive::<Float64Type>();
        let wanting = points.wanting()?;
        let points = (0..rows).map(|row| Point {
            module: module[row].take(),
            function: function[row].take().unwrap_or_default(),
            file: file[row].take(),
            line: line[row],
            ordinal: ordinal[row],
            entry: entry[row].take().unwrap_or_default(),
            service: service[row].take().unwrap_or_default(),
            version: version[row].take(),
            host: host[row].take().unwrap_or_default(),
            time_ms: at[row].unwrap_or(0),
            live: count(live[row]),
            created: count(created[row]),
            level: level[row].take().unwrap_or_default(),
            cause: cause[row].take(),
            pid: pid[row].unwrap_or(0),
            processes: processes[row].unwrap_or(1),
            stack_bytes: bytes[row].map(|bytes| count(Some(bytes))),
            blame: blame[row].take(),
            started_ms: started[row],
            oldest_ns: oldest[row].map(|ns| count(Some(ns))),
            lifetime_count: count(ended[row]),
            lifetime_sum_s: lifetimes.value(row),
            window_ns: count(window[row]),
            counts: counts[row].take().unwrap_or_default(),
            wanting: wanting[row],
        });
        Ok(points.collect())
    }

    fn column(&self, name: &str, kind: &DataType) -> anyhow::Result<datafusion::arrow::array::ArrayRef> {
        let column =
            self.0.column_by_name(name).ok_or_else(|| anyhow::anyhow!("there is no column {name}"))?;
        Ok(cast(column, kind)?)
    }

    fn texts(&self, name: &str) -> anyhow::Result<Vec<Option<String>>> {
        let column = self.column(name, &DataType::Utf8)?;
        Ok(column.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect())
    }

    fn numbers(&self, name: &str) -> anyhow::Result<Vec<Option<i64>>> {
        let column = self.column(name, &DataType::Int64)?;
        debug_assert_eq!(column.len(), self.0.num_rows());
        Ok(column.as_primitive::<Int64Type>().iter().collect())
    }

    fn wanting(&self) -> anyhow::Result<Vec<u64>> {
        let column =
            self.0.column_by_name("waits").ok_or_else(|| anyhow::anyhow!("there is no column waits"))?;
        let lists = column.as_list::<i32>();
        let of = lists.values().as_struct();
        let (reasons, counts) = (cast(of.column(0), &DataType::Utf8)?, cast(of.column(1), &DataType::Int64)?);
        let (reasons, counts) = (reasons.as_string::<i32>(), counts.as_primitive::<Int64Type>());
        let mut wanting = vec![0u64; lists.len()];
        for (row, range) in lists.offsets().windows(2).enumerate() {
            let its = (range[0] as usize..range[1] as usize).filter(|at| {
                lists.is_valid(row) && reasons.is_valid(*at) && WANTING.contains(&reasons.value(*at))
            });
            for at in its.filter(|at| counts.is_valid(*at)) {
                wanting[row] = wanting[row].saturating_add(u64::try_from(counts.value(at)).unwrap_or(0));
            }
        }
        Ok(wanting)
    }
}
