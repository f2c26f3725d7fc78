//! Rows of many hosts become one for each creation site of a build: sums, the largest, the oldest, lifetimes bucket by bucket.

use std::collections::{BTreeMap, HashMap};

use datafusion::arrow::array::{Array, AsArray, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type};

use super::columns;
use super::hosts::{HostSet, Names};

/// What is read of sweeps, as SQL.
pub const SWEEPS: &str = "SELECT host, service, module, function, line, ordinal, entry, version, build_id, \
                          CAST(sweep_time AS BIGINT) AS at, created, exited, live, oldest_ns, stack_bytes, window_ns, lifetime, \
                          lifetime_count, lifetime_sum_s, counts FROM sites";

/// A creation site of one build, as its rows stand in a roll-up.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the column of that name, see docs/fleet-columns.md")]
pub struct Site {
    pub service: String,
    pub module: Option<String>,
    pub function: String,
    pub line: Option<i32>,
    pub ordinal: Option<i32>,
    pub entry: String,
    pub version: Option<String>,
    pub build_id: Option<String>,
}

/// What all hosts know of it together.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "each is the column of that name, see docs/fleet-columns.md")]
pub struct Part {
    /// The hosts, by their numbers in [`Merged::names`].
    pub hosts: HostSet,
    pub sweeps: i64,
    /// When the first of the sweeps was made, in ms since 1970.
    pub first_ms: i64,
    pub created: i64,
    pub exited: i64,
    pub live: i64,
    pub live_max: i64,
    pub oldest_ns: Option<i64>,
    pub stack_bytes: Option<i64>,
    pub stack_sweeps: i64,
    pub window_ns: i64,
    pub lifetime: BTreeMap<i32, i64>,
    pub lifetime_count: i64,
    pub lifetime_sum_s: f64,
    pub incomplete: i64,
}

/// Rows that are put together.
#[derive(Debug, Default)]
pub struct Merged {
    /// The hosts.
    pub names: Names,
    places: HashMap<Vec<u8>, usize>,
    parts: Vec<(Site, Part)>,
}

impl Merged {
    /// Adds a batch of what [`SWEEPS`] finds.
    ///
    /// # Errors
    /// A column is not there, or of a type that does not become its own.
    pub fn add(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        let rows = Rows(batch);
        let texts = columns::SITE.map(|name| rows.texts(name));
        let [service, module, function, line, ordinal, entry, version, build_id] = texts;
        let site = [service?, module?, function?, line?, ordinal?, entry?, version?, build_id?];
        let (host, counts) = (rows.texts("host")?, rows.texts("counts")?);
        let numbers =
            ["at", "created", "exited", "live", "window_ns", "lifetime_count"].map(|name| rows.numbers(name));
        let [at, created, exited, live, window_ns, ended] = numbers;
        let (at, created, exited, live) = (at?, created?, exited?, live?);
        let (window_ns, ended) = (window_ns?, ended?);
        let (oldest, stack) = (rows.numbers("oldest_ns")?, rows.numbers("stack_bytes")?);
        let sum_s = rows.column("lifetime_sum_s", &DataType::Float64)?;
        let sum_s = sum_s.as_primitive::<Float64Type>();
        let lifetimes = rows.lifetimes()?;
        let mut key = Vec::new();
        for row in 0..batch.num_rows() {
            let place = self.place(&site, row, &mut key);
            let number = self.names.number(host.value(row));
            let part = &mut self.parts[place].1;
            part.hosts.add(number);
            part.first_ms =
                if part.sweeps == 0 { at[row].unwrap_or(0) } else { part.first_ms.min(at[row].unwrap_or(0)) };
            part.sweeps += 1;
            let add = |to: &mut i64, more: Option<i64>| *to = to.saturating_add(more.unwrap_or(0));
            add(&mut part.created, created[row]);
            add(&mut part.exited, exited[row]);
            add(&mut part.live, live[row]);
            add(&mut part.window_ns, window_ns[row]);
            add(&mut part.lifetime_count, ended[row]);
            part.live_max = part.live_max.max(live[row].unwrap_or(0));
            part.oldest_ns = part.oldest_ns.max(oldest[row]);
            if let Some(bytes) = stack[row] {
                part.stack_bytes = Some(part.stack_bytes.unwrap_or(0).saturating_add(bytes));
                part.stack_sweeps += 1;
            }
            part.lifetime_sum_s += sum_s.value(row);
            part.incomplete += i64::from(counts.value(row) == "incomplete");
            for (bucket, count) in lifetimes.of(row) {
                add(part.lifetime.entry(bucket).or_default(), Some(count));
            }
        }
        Ok(())
    }

    /// All of them in the order of the columns that tell them apart.
    pub fn sorted(&self) -> Vec<(&Site, &Part)> {
        let mut parts: Vec<_> = self.parts.iter().map(|(site, part)| (site, part)).collect();
        parts.sort_unstable_by_key(|(site, _)| *site);
        parts
    }

    /// Where the site of a row is kept. Texts are compared as they lie, so that only a new site costs more than that.
    fn place(&mut self, site: &[StringArray; 8], row: usize, key: &mut Vec<u8>) -> usize {
        key.clear();
        for column in site {
            let text = column.is_valid(row).then(|| column.value(row));
            key.extend(text.map_or(u64::MAX, |text| text.len() as u64).to_le_bytes());
            key.extend(text.unwrap_or_default().as_bytes());
        }
        if let Some(place) = self.places.get(key) {
            return *place;
        }
        let text = |at: usize| site[at].is_valid(row).then(|| site[at].value(row).to_owned());
        let number = |at: usize| text(at).and_then(|text| text.parse().ok());
        let new = Site {
            service: text(0).unwrap_or_default(),
            module: text(1),
            function: text(2).unwrap_or_default(),
            line: number(3),
            ordinal: number(4),
            entry: text(5).unwrap_or_default(),
            version: text(6),
            build_id: text(7),
        };
        self.parts.push((new, Part::default()));
        self.places.insert(key.clone(), self.parts.len() - 1);
        self.parts.len() - 1
    }
}

/// A batch, whatever types its columns have.
struct Rows<'a>(&'a RecordBatch);

impl Rows<'_> {
    fn column(&self, name: &str, kind: &DataType) -> anyhow::Result<datafusion::arrow::array::ArrayRef> {
        let column = self.0.column_by_name(name);
        Ok(cast(column.ok_or_else(|| anyhow::anyhow!("there is no column {name}"))?, kind)?)
    }

    fn texts(&self, name: &str) -> anyhow::Result<StringArray> {
        Ok(self.column(name, &DataType::Utf8)?.as_string::<i32>().clone())
    }

    fn numbers(&self, name: &str) -> anyhow::Result<Vec<Option<i64>>> {
        Ok(self.column(name, &DataType::Int64)?.as_primitive::<Int64Type>().iter().collect())
    }

    fn lifetimes(&self) -> anyhow::Result<Lifetimes> {
        let column = self.0.column_by_name("lifetime");
        let column = column.ok_or_else(|| anyhow::anyhow!("there is no column lifetime"))?;
        let lists = column.as_list::<i32>();
        let items = lists.values().as_struct();
        let offsets = lists.offsets().iter().map(|offset| *offset as usize).collect();
        let buckets = cast(items.column(0), &DataType::Int32)?.as_primitive::<Int32Type>().values().to_vec();
        let counts = cast(items.column(1), &DataType::Int64)?.as_primitive::<Int64Type>().values().to_vec();
        Ok(Lifetimes { offsets, buckets, counts })
    }
}

/// The lists of lifetimes of a batch.
struct Lifetimes {
    offsets: Vec<usize>,
    buckets: Vec<i32>,
    counts: Vec<i64>,
}

impl Lifetimes {
    fn of(&self, row: usize) -> impl Iterator<Item = (i32, i64)> {
        let range = self.offsets[row]..self.offsets[row + 1];
        self.buckets[range.clone()].iter().copied().zip(self.counts[range].iter().copied())
    }
}
