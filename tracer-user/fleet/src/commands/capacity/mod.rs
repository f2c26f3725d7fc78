//! `golife-fleet capacity`: what services carry, hour by hour, and what would become of them.

mod shown;

use std::collections::BTreeMap;
use std::process::ExitCode;

use datafusion::arrow::array::{Array, Float64Array};
use golife::human;

use super::groups::{Columns, Group};
use super::show;
use crate::arguments::{Asking, Capacity as Arguments, Grouping, Per};
use crate::capacity::{Capacity, GroupHour, SiteHour, WhatIf};
use crate::output::Answer;
use crate::session::Session;
use crate::waiting::Waiting;

/// Sites and hours, as Spark and Trino ask for them, too.
const FLOWS: &str = include_str!("../../../sql/flows.sql");
/// The start of the hour in ms.
const HOUR: &str = "CAST(CAST(date_trunc('hour', sweep_time) AS TIMESTAMP(3)) AS BIGINT)";

/// About how many rows are put together at once: some hours of a large fleet. Of ten times as many, groups no longer fit into caches.
const ROWS_AT_ONCE: u64 = 1_000_000;

/// What the hosts know of one group.
#[derive(Debug, Default)]
struct Known {
    sites: BTreeMap<Group, Vec<SiteHour>>,
    hours: Vec<GroupHour>,
    /// Bytes of stacks per goroutine: p50 and p99 over rows.
    stack_each: Option<(f64, f64)>,
}

/// Runs it.
///
/// # Errors
/// The store cannot be read.
pub async fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (asking, grouping) = (&arguments.asking, &arguments.grouping);
    let session = Session::open(asking, arguments.window.ms()).await?;
    let what_if = WhatIf {
        scale: arguments.scale,
        target_rate: arguments.target_rate,
        hosts: arguments.hosts,
        lose: arguments.lose,
    };
    let mut answer =
        Answer { schema: "golife.fleet-capacity/1", title: "Capacity".into(), ..Answer::default() };
    if asking.explain {
        answer.drawn(session.explain(&sites_sql(grouping)).await?);
    } else {
        let mut groups = known(&session, asking, grouping).await?;
        let live = |known: &Known| known.hours.iter().map(|hour| hour.live).sum::<f64>();
        groups.sort_by(|(_, a), (_, b)| live(b).total_cmp(&live(a)));
        if groups.len() > grouping.top {
            let (top, all) = (human::count(grouping.top as u64), human::count(groups.len() as u64));
            answer.notes.push(format!("{top} of {all}: see --top"));
            groups.truncate(grouping.top);
        }
        let judged = groups.into_iter().filter_map(|(group, known)| {
            let sites: Vec<Vec<SiteHour>> = known.sites.into_values().collect();
            Some((group, Capacity::of(&sites, &known.hours)?, known.stack_each))
        });
        shown::fill(&mut answer, &judged.collect::<Vec<_>>(), what_if);
    }
    answer.notes.extend(session.notes());
    show(&answer, &asking.showing)?;
    Ok(ExitCode::SUCCESS)
}

/// What came and went at each site in each hour.
fn sites_sql(grouping: &Grouping) -> String {
    format!("SELECT * FROM ({FLOWS}) AS flows {} ORDER BY hour_ms", grouping.condition())
}

/// What hosts held of each group in each hour.
fn hours_sql(grouping: &Grouping) -> String {
    let (columns, table) = (grouping.columns(), grouping.of("sites"));
    format!(
        "WITH swept AS (SELECT {columns}, host, sweep_time, SUM(CAST(live AS DOUBLE)) AS live, \
         SUM(CAST(stack_bytes AS DOUBLE)) AS stack, MIN(CAST(memory_limit AS DOUBLE)) AS memory_limit \
         FROM {table} GROUP BY {columns}, host, sweep_time), \
         hosted AS (SELECT {columns}, host, {HOUR} AS hour_ms, AVG(live) AS live, AVG(stack) AS stack, \
         MAX(stack) AS stack_max, MIN(memory_limit) AS memory_limit FROM swept GROUP BY {columns}, host, {HOUR}) \
         SELECT {columns}, hour_ms, COUNT(*) AS hosts, SUM(live) AS live, \
         percentile_cont(0.5) WITHIN GROUP (ORDER BY live) AS p50, \
         percentile_cont(0.95) WITHIN GROUP (ORDER BY live) AS p95, MAX(live) AS most, SUM(stack) AS stack, \
         MAX(stack_max) AS stack_max, MIN(memory_limit) AS memory_limit \
         FROM hosted GROUP BY {columns}, hour_ms ORDER BY hour_ms"
    )
}

fn stacks_sql(grouping: &Grouping) -> String {
    let (columns, table) = (grouping.columns(), grouping.of("sites"));
    format!(
        "SELECT {columns}, approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY each) AS p50, \
         approx_percentile_cont(0.99) WITHIN GROUP (ORDER BY each) AS p99 FROM (SELECT {columns}, \
         CAST(stack_bytes AS DOUBLE) / CAST(live AS DOUBLE) AS each FROM {table} \
         WHERE live > 0 AND stack_bytes IS NOT NULL) GROUP BY {columns}"
    )
}

/// What is known of all groups. Hours are asked for one after the other, since nothing is put together but within an hour: so what is
/// kept meanwhile is that of some hours, however many there are.
async fn known(
    session: &Session,
    asking: &Asking,
    grouping: &Grouping,
) -> anyhow::Result<Vec<(Group, Known)>> {
    let mut groups: BTreeMap<Group, Known> = BTreeMap::new();
    let waiting = Waiting::begin("putting hours together".into(), "files");
    for files in session.portions(ROWS_AT_ONCE).await? {
        let count = files.len() as u64;
        add_hours(&session.of_files(asking, files).await?, grouping, &mut groups).await?;
        waiting.add(count);
    }
    drop(waiting);
    for batch in &session.query(&stacks_sql(grouping)).await?.1 {
        let columns = Columns::of(batch);
        let [p50, p99] = columns.all(["p50", "p99"])?;
        for (row, group) in columns.groups()?.into_iter().enumerate() {
            groups.entry(group).or_default().stack_each = maybe(&p50, row).zip(maybe(&p99, row));
        }
    }
    Ok(groups.into_iter().collect())
}

fn maybe(column: &Float64Array, row: usize) -> Option<f64> {
    column.is_valid(row).then(|| column.value(row))
}

/// Adds the hours of some files, which come after those that are there.
async fn add_hours(
    session: &Session,
    grouping: &Grouping,
    groups: &mut BTreeMap<Group, Known>,
) -> anyhow::Result<()> {
    for batch in &session.query(&hours_sql(grouping)).await?.1 {
        let columns = Columns::of(batch);
        let names = ["hour_ms", "hosts", "live", "p50", "p95", "most", "stack", "stack_max", "memory_limit"];
        let [hour_ms, hosts, live, p50, p95, most, stack, stack_max, limit] = columns.all(names)?;
        for (row, group) in columns.groups()?.into_iter().enumerate() {
            groups.entry(group).or_default().hours.push(GroupHour {
                hour_ms: hour_ms.value(row) as i64,
                hosts: hosts.value(row),
                live: live.value(row),
                live_p50: p50.value(row),
                live_p95: p95.value(row),
                live_max: most.value(row),
                stack: maybe(&stack, row),
                stack_max: maybe(&stack_max, row),
                limit: maybe(&limit, row),
            });
        }
    }
    for batch in &session.query(&sites_sql(grouping)).await?.1 {
        let columns = Columns::of(batch);
        let names = ["hour_ms", "hosts", "live", "rate", "exited", "ended", "lifetime_s", "incomplete"];
        let [hour_ms, hosts, live, rate, exited, ended, lifetime_s, incomplete] = columns.all(names)?;
        for (row, site) in columns.groups()?.into_iter().enumerate() {
            let group = match grouping.by {
                Per::Service => Group { service: site.service.clone(), site: None },
                Per::Site => site.clone(),
            };
            let hours = groups.entry(group).or_default().sites.entry(site).or_default();
            hours.push(SiteHour {
                hour_ms: hour_ms.value(row) as i64,
                hosts: hosts.value(row),
                live: live.value(row),
                rate: maybe(&rate, row).unwrap_or(0.0),
                exited: exited.value(row),
                ended: ended.value(row),
                lifetime_s: lifetime_s.value(row),
                is_at_least: incomplete.value(row) > 0.0,
            });
        }
    }
    Ok(())
}
