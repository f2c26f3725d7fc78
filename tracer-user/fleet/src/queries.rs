//! What is asked in SQL for findings. Rows come ordered by function, so that no more than one function's are in memory at once.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::arrow::array::RecordBatch;
use golife::stats::pooled::Leak;

use crate::findings::points::COLUMNS;
use crate::findings::{HostSeries, LastSweeps, Point, Points, Seen, of_function};
use crate::listing::SweepObject;
use crate::output::{Cell, arrow};
use crate::session::{PARTS, Session};

/// About how many rows are sorted at once, by function.
const ROWS_AT_ONCE: u64 = 1_000_000;

/// When each service of each host was swept last.
///
/// # Errors
/// The store cannot be read.
pub async fn last_sweeps(session: &Session) -> anyhow::Result<LastSweeps> {
    let sql = "SELECT host, service, max(CAST(sweep_time AS BIGINT)) AS at FROM sites GROUP BY host, service";
    let mut last = LastSweeps::new();
    for row in texts(&session.query(sql).await?.1)? {
        if let [host, service, at] = &row[..] {
            last.insert((host.clone(), service.clone()), at.parse()?);
        }
    }
    Ok(last)
}

/// The functions in which a host sees a leak.
///
/// # Errors
/// The store cannot be read.
pub async fn suspects(session: &Session) -> anyhow::Result<BTreeSet<String>> {
    let sql = "SELECT DISTINCT function FROM sites WHERE level IN ('suspect', 'proven')";
    Ok(texts(&session.query(sql).await?.1)?.into_iter().flatten().collect())
}

/// The query for all that was seen of functions.
pub fn of_functions<'a>(functions: impl IntoIterator<Item = &'a String>) -> String {
    let mut names: Vec<String> = functions.into_iter().map(|name| literal(name)).collect();
    if names.is_empty() {
        names.push("NULL".into());
    }
    let names = names.join(", ");
    format!("SELECT {COLUMNS} FROM sites WHERE function IN ({names}) ORDER BY function, module")
}

/// All that was seen of the statements of these functions, judged, one function after the other and some of them at once, since a day
/// of a thousand hosts does not fit into memory. What `each` makes of those begins anew where a file turns out to be broken.
///
/// # Errors
/// The store cannot be read.
pub async fn judged<T: Clone>(
    session: &Session,
    functions: &BTreeSet<String>,
    last: &LastSweeps,
    together: &dyn Fn(&[HostSeries<'_>]) -> Option<Leak>,
    begin: impl Fn() -> T,
    each: impl Fn(&mut T, Seen),
) -> anyhow::Result<T> {
    let rows = golife::human::sum(session.readable().await?.iter().map(SweepObject::rows));
    let functions: Vec<&String> = functions.iter().collect();
    // As if each function had as many rows as any other.
    let at_once = functions.len() as u64 * ROWS_AT_ONCE / rows.max(1);
    let mut made = begin();
    for functions in functions.chunks(at_once.max(1) as usize) {
        made = judged_at_once(session, functions, last, together, made, &each).await?;
    }
    Ok(made)
}

/// The same of so few functions that they can be sorted in memory, after what was made before.
async fn judged_at_once<T: Clone>(
    session: &Session,
    functions: &[&String],
    last: &LastSweeps,
    together: &dyn Fn(&[HostSeries<'_>]) -> Option<Leak>,
    before: T,
    each: &impl Fn(&mut T, Seen),
) -> anyhow::Result<T> {
    let begin = || (before.clone(), Vec::<Point>::new());
    let is_same = |a: &Point, b: &Point| (&a.function, &a.module) == (&b.function, &b.module);
    let judge = |made: &mut T, points| {
        of_function(points, last, together).into_iter().for_each(|seen| each(made, seen));
    };
    let (mut made, rest) = session
        .fold(&of_functions(functions.iter().copied()), begin, |(made, open), batch| {
            for point in Points::of(batch)? {
                if open.last().is_some_and(|before| !is_same(before, &point)) {
                    judge(made, std::mem::take(open));
                }
                open.push(point);
            }
            Ok(())
        })
        .await?;
    judge(&mut made, rest);
    Ok(made)
}

/// A text as SQL has it.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The cells of rows as text; what is not known is empty.
fn texts(batches: &[RecordBatch]) -> anyhow::Result<Vec<Vec<String>>> {
    let mut rows = Vec::new();
    for batch in batches {
        let cells = arrow::rows(batch)?.into_iter();
        rows.extend(cells.map(|row| {
            let text = |cell| if let Cell::Text(text) = cell { text } else { String::new() };
            row.into_iter().map(text).collect::<Vec<String>>()
        }));
    }
    Ok(rows)
}

/// When each service was first seen with a version, in ms since 1970.
///
/// # Errors
/// The store cannot be read.
pub async fn first_seen(session: &Session, version: &str) -> anyhow::Result<BTreeMap<String, i64>> {
    let sql = format!(
        "SELECT service, min(CAST(sweep_time AS BIGINT)) AS at FROM sites WHERE version = {} GROUP BY service",
        literal(version)
    );
    let rows = texts(&session.query(&sql).await?.1)?;
    rows.into_iter().map(|row| Ok((row[0].clone(), row[1].parse()?))).collect()
}

/// The versions of each service, in the order in which they were first seen.
///
/// # Errors
/// The store cannot be read.
pub async fn versions(
    session: &Session,
    service: Option<&str>,
) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let only = service.map_or(String::new(), |service| format!("AND service = {}", literal(service)));
    let sql = format!(
        "SELECT service, version, min(first_sweep) AS at FROM {PARTS} WHERE version IS NOT NULL {only} \
         GROUP BY service, version ORDER BY at, version"
    );
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in texts(&session.query(&sql).await?.1)? {
        versions.entry(row[0].clone()).or_default().push(row[1].clone());
    }
    Ok(versions)
}

/// What is known of a site of one version, over all hosts and sweeps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Number of goroutines that were created.
    pub created: u64,
    /// The time in seconds that they were counted over, summed over hosts and sweeps.
    pub seconds: f64,
    /// The sum of the living over sweeps, and the number of sweeps of all hosts.
    pub living: (u64, u64),
    /// The sum of their stacks in bytes over those sweeps that know it, and the number of these.
    pub stacks: (u64, u64),
    /// Lifetimes, by the buckets of [`golife::stats::native`].
    pub lifetimes: BTreeMap<i32, u64>,
}

impl Totals {
    /// Goroutines created per second on one host.
    pub fn rate(&self) -> Option<f64> {
        (self.seconds > 0.0).then(|| self.created as f64 / self.seconds)
    }

    /// The mean number of living goroutines on a host.
    pub fn live(&self) -> f64 {
        self.living.0 as f64 / self.living.1.max(1) as f64
    }

    /// The mean bytes of their stacks on a host.
    pub fn bytes(&self) -> Option<f64> {
        (self.stacks.1 > 0).then(|| self.stacks.0 as f64 / self.stacks.1 as f64)
    }
}

/// The sites of a version of a service, each called by its function and the place of its statement in that.
///
/// # Errors
/// The store cannot be read.
pub async fn totals(
    session: &Session,
    service: &str,
    version: &str,
) -> anyhow::Result<BTreeMap<String, Totals>> {
    const SITE: &str = "concat(function, CASE WHEN ordinal IS NULL THEN concat(' ', entry) ELSE concat('#', CAST(ordinal AS \
                        VARCHAR)) END)";
    let only = format!("WHERE service = {} AND version = {}", literal(service), literal(version));
    let sums = format!(
        "SELECT {SITE} AS site, sum(created), sum(CAST(coalesce(window_ns, 0) AS DOUBLE)) / 1e9, sum(live), sum(sweeps), \
         coalesce(sum(stack_bytes), 0), sum(stack_sweeps) FROM {PARTS} {only} GROUP BY 1"
    );
    let mut totals: BTreeMap<String, Totals> = BTreeMap::new();
    for row in texts(&session.query(&sums).await?.1)? {
        let number = |at: usize| row[at].parse::<u64>().unwrap_or(0);
        let site = Totals {
            created: number(1),
            seconds: row[2].parse().unwrap_or(0.0),
            living: (number(3), number(4)),
            stacks: (number(5), number(6)),
            lifetimes: BTreeMap::new(),
        };
        totals.insert(row[0].clone(), site);
    }
    let lifetimes = format!(
        "SELECT site, l['bucket'], sum(l['count']) FROM (SELECT {SITE} AS site, unnest(lifetime) AS l FROM {PARTS} {only}) \
         GROUP BY 1, 2"
    );
    for row in texts(&session.query(&lifetimes).await?.1)? {
        if let (Some(site), Ok(bucket), Ok(count)) = (totals.get_mut(&row[0]), row[1].parse(), row[2].parse())
        {
            site.lifetimes.insert(bucket, count);
        }
    }
    Ok(totals)
}

/// The sweeps of each service on each host, as (ms since 1970, goroutines created per second), in the order of time.
pub type Loads = BTreeMap<(String, String), Vec<(i64, f64)>>;

/// When each service of each host was swept, and what its load was.
///
/// # Errors
/// The store cannot be read.
pub async fn loads(session: &Session) -> anyhow::Result<Loads> {
    let sql = "SELECT host, service, CAST(sweep_time AS BIGINT) AS at, \
               sum(CAST(created AS DOUBLE)) * 1e9 / nullif(max(window_ns), 0) AS load \
               FROM sites GROUP BY host, service, at ORDER BY host, service, at";
    let mut loads = Loads::new();
    for row in texts(&session.query(sql).await?.1)? {
        let sweep = (row[2].parse()?, row[3].parse().unwrap_or(0.0));
        loads.entry((row[0].clone(), row[1].clone())).or_default().push(sweep);
    }
    Ok(loads)
}

/// The functions that may leak by what all hosts say together, and the number of sites that they were chosen from. It is asked
/// which way live counts go on each host: only where most go up, or one goes up far, can the pooled test find anything.
///
/// # Errors
/// The store cannot be read.
pub async fn risers(session: &Session) -> anyhow::Result<(BTreeSet<String>, usize)> {
    let sql = "SELECT function, sum(sites) AS sites, max(riser) AS riser FROM (\
               SELECT function, count(DISTINCT entry) AS sites, CASE WHEN \
               sum(CASE WHEN slope > 0 THEN 1 WHEN slope < 0 THEN -1 ELSE 0 END) > 2 * sqrt(count(*)) OR max(highest - lowest) >= 8 \
               THEN 1 ELSE 0 END AS riser FROM (\
               SELECT function, ordinal, entry, host, min(live) AS lowest, max(live) AS highest, \
               regr_slope(CAST(live AS DOUBLE), CAST(CAST(sweep_time AS BIGINT) AS DOUBLE)) AS slope \
               FROM sites GROUP BY function, ordinal, entry, host) AS hosts \
               GROUP BY function, ordinal) AS statements GROUP BY function";
    let mut functions = BTreeSet::new();
    let mut sites = 0;
    for row in texts(&session.query(sql).await?.1)? {
        sites += row[1].parse::<usize>().unwrap_or(0);
        if row[2] == "1" {
            functions.insert(row[0].clone());
        }
    }
    Ok((functions, sites))
}
