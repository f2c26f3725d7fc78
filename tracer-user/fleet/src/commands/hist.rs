//! `golife-fleet hist`: how long goroutines lived, on all hosts together. Buckets are the same everywhere, so they are added.

use std::collections::BTreeMap;
use std::process::ExitCode;

use golife::human;
use golife::stats::native;
use serde_json::{Value, json};

use super::groups::{Columns, Group};
use super::{hosts, show};
use crate::arguments::{Grouping, Hist};
use crate::output::{Answer, Cell, Table, strips};
use crate::session::{PARTS, Session};

/// The quantiles, with their names in text and in JSON.
const QUANTILES: [(f64, &str, &str); 4] =
    [(0.5, "p50", "p50_s"), (0.9, "p90", "p90_s"), (0.99, "p99", "p99_s"), (0.999, "p99.9", "p999_s")];

/// What all hosts know of one group.
#[derive(Clone, Debug, Default)]
struct Merged {
    hosts: u64,
    created: f64,
    ended: f64,
    sum_s: f64,
    is_at_least: bool,
    buckets: Vec<(i32, u64)>,
}

/// Runs it.
///
/// # Errors
/// The store cannot be read.
pub async fn run(arguments: &Hist) -> anyhow::Result<ExitCode> {
    let (asking, grouping) = (&arguments.asking, &arguments.grouping);
    let session = Session::open_rolled(asking, arguments.window.ms(), !arguments.no_rollup).await?;
    let (columns, table) = (grouping.columns(), grouping.of(PARTS));
    let merged = format!(
        "SELECT {columns}, bucket, SUM(CAST(count AS DOUBLE)) AS count FROM (SELECT {columns}, one['bucket'] AS bucket, \
         one['count'] AS count FROM (SELECT {columns}, UNNEST(lifetime) AS one FROM {table})) GROUP BY {columns}, bucket"
    );
    let counted = format!(
        "SELECT {columns}, SUM(CAST(created AS DOUBLE)) AS created, SUM(CAST(lifetime_count AS DOUBLE)) AS ended, \
         SUM(lifetime_sum_s) AS sum_s, SUM(incomplete) AS incomplete FROM {table} GROUP BY {columns}"
    );
    let mut answer = Answer {
        schema: "golife.fleet-hist/1",
        title: "Lifetimes of goroutines".into(),
        ..Answer::default()
    };
    if asking.explain {
        answer.drawn(session.explain(&merged).await?);
    } else {
        let groups = merge(&session, grouping, &merged, &counted).await?;
        fill(&mut answer, groups, grouping.top);
    }
    answer.notes.extend(session.notes());
    show(&answer, &asking.showing)?;
    Ok(ExitCode::SUCCESS)
}

/// Those of which any goroutine has ended, the most ended first.
async fn merge(
    session: &Session,
    grouping: &Grouping,
    merged: &str,
    counted: &str,
) -> anyhow::Result<Vec<(Group, Merged)>> {
    let mut groups: BTreeMap<Group, Merged> = BTreeMap::new();
    for (group, hosts) in hosts::count(session, grouping).await? {
        groups.entry(group).or_default().hosts = hosts;
    }
    for batch in &session.query(counted).await?.1 {
        let columns = Columns::of(batch);
        let [created, ended, sum_s, incomplete] = columns.all(["created", "ended", "sum_s", "incomplete"])?;
        for (row, group) in columns.groups()?.into_iter().enumerate() {
            let found = groups.entry(group).or_default();
            found.created = created.value(row);
            found.ended = ended.value(row);
            found.sum_s = sum_s.value(row);
            found.is_at_least = incomplete.value(row) > 0.0;
        }
    }
    for batch in &session.query(merged).await?.1 {
        let columns = Columns::of(batch);
        let (buckets, counts) = (columns.numbers("bucket")?, columns.numbers("count")?);
        for (row, group) in columns.groups()?.into_iter().enumerate() {
            let found = groups.entry(group).or_default();
            found.buckets.push((buckets.value(row) as i32, counts.value(row) as u64));
        }
    }
    let mut groups: Vec<_> = groups.into_iter().filter(|(_, found)| !found.buckets.is_empty()).collect();
    groups.iter_mut().for_each(|(_, found)| found.buckets.sort_unstable());
    groups.sort_by(|(_, a), (_, b)| b.ended.total_cmp(&a.ended));
    Ok(groups)
}

fn fill(answer: &mut Answer, groups: Vec<(Group, Merged)>, top: usize) {
    if groups.is_empty() {
        answer.words("no goroutine is known to have ended in these sweeps");
    }
    let shown = &groups[..top.min(groups.len())];
    let is_of_sites = groups.iter().any(|(group, _)| group.site.is_some());
    let mut columns = vec![("service", false)];
    columns.extend(is_of_sites.then_some(("site", false)));
    columns.extend([("hosts", true), ("created", true), ("ended", true), ("mean", true)]);
    columns.extend(QUANTILES.map(|(_, name, _)| (name, true)));
    let mut table = Table::new(columns);
    for (group, found) in shown {
        let mut row = vec![Cell::Text(group.service.clone())];
        row.extend(is_of_sites.then(|| Cell::Text(group.name())));
        row.extend([
            Cell::Count(found.hosts),
            Cell::Count(found.created as u64),
            Cell::Count(found.ended as u64),
        ]);
        row.push(Cell::Seconds(found.sum_s / found.ended));
        row.extend(
            QUANTILES
                .map(|(q, ..)| native::quantile_s(&found.buckets, q).map_or(Cell::Missing, Cell::Seconds)),
        );
        table.rows.push(row);
    }
    answer.json.insert("groups".into(), shown.iter().map(|(group, found)| object(group, found)).collect());
    if !shown.is_empty() {
        answer.table(None, table);
        let strips: Vec<_> =
            shown.iter().map(|(group, found)| (group.name(), found.buckets.as_slice())).collect();
        answer.drawn(strips::draw(&strips));
    }
    if shown.iter().any(|(_, found)| found.is_at_least) {
        answer.notes.push(
            "some hosts could not see every goroutine (their counts are incomplete): created and ended are at least that \
             many, and of lifetimes the shortest are missing"
                .into(),
        );
    }
    if groups.len() > top {
        let (top, all) = (human::count(top as u64), human::count(groups.len() as u64));
        answer.notes.push(format!("{top} of {all}: see --top"));
    }
}

fn object(group: &Group, found: &Merged) -> Value {
    let mut object = group.json();
    object.insert("hosts".into(), found.hosts.into());
    object.insert("created".into(), (found.created as u64).into());
    object.insert("ended".into(), (found.ended as u64).into());
    object.insert("at_least".into(), found.is_at_least.into());
    object.insert("mean_s".into(), json!(found.sum_s / found.ended));
    for (q, _, name) in QUANTILES {
        object.insert(name.into(), json!(native::quantile_s(&found.buckets, q)));
    }
    let bucket = |(bucket, count): &(i32, u64)| json!({ "bucket": bucket, "count": count });
    object.insert("lifetime".into(), found.buckets.iter().map(bucket).collect());
    object.into()
}
