//! What is asked in SQL for findings. Rows come ordered by function, so that no more than one function's are in memory at once.

use std::collections::BTreeSet;

use datafusion::arrow::array::RecordBatch;

use crate::findings::points::COLUMNS;
use crate::findings::{HostSeries, LastSweeps, Point, Points, Seen, of_function};
use crate::output::{Cell, arrow};
use crate::session::Session;

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
pub fn of_functions(functions: &BTreeSet<String>) -> String {
    let mut names: Vec<String> = functions.iter().map(|name| literal(name)).collect();
    if names.is_empty() {
        names.push("NULL".into());
    }
    let names = names.join(", ");
    format!("SELECT {COLUMNS} FROM sites WHERE function IN ({names}) ORDER BY function, module")
}

/// All that was seen of the statements of these functions, judged.
///
/// # Errors
/// The store cannot be read.
pub async fn judged(
    session: &Session,
    functions: &BTreeSet<String>,
    last: &LastSweeps,
    together: &dyn Fn(&[HostSeries<'_>]) -> bool,
) -> anyhow::Result<Vec<Seen>> {
    if functions.is_empty() {
        return Ok(Vec::new());
    }
    let sql = of_functions(functions);
    let begin = || (Vec::<Seen>::new(), Vec::<Point>::new());
    let is_same = |a: &Point, b: &Point| (&a.function, &a.module) == (&b.function, &b.module);
    let (mut seen, rest) = session
        .fold(&sql, begin, |(seen, open), batch| {
            for point in Points::of(batch)? {
                if open.last().is_some_and(|before| !is_same(before, &point)) {
                    seen.extend(of_function(std::mem::take(open), last, together));
                }
                open.push(point);
            }
            Ok(())
        })
        .await?;
    seen.extend(of_function(rest, last, together));
    Ok(seen)
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
