//! `golife-fleet compare`: the sites of a service before and after, by version.

use std::collections::BTreeMap;
use std::process::ExitCode;

use golife::stats::{compare, native};
use serde_json::{Value, json};

use super::show;
use crate::arguments::Compare;
use crate::output::{Answer, Cell, Table};
use crate::queries::{self, Totals};
use crate::session::Session;

/// Rates and lifetimes that chance makes differ this rarely are said to differ.
const SURE: f64 = 0.01;

/// Runs it.
///
/// # Errors
/// The store cannot be read, or no service has had two versions.
pub async fn run(arguments: &Compare) -> anyhow::Result<ExitCode> {
    let asking = &arguments.asking;
    let session = Session::open_rolled(asking, arguments.window.ms(), !arguments.no_rollup).await?;
    let mut versions = queries::versions(&session, arguments.service.as_deref()).await?;
    versions.retain(|_, versions| versions.len() > 1 || arguments.old.is_some());
    let mut answer =
        Answer { schema: "golife.fleet-compare/1", title: "Before and after".into(), ..Answer::default() };
    let mut all: Vec<Value> = Vec::new();
    for (service, versions) in &versions {
        // The two that were first seen last, unless said.
        let new = arguments.new.clone().or_else(|| versions.last().cloned());
        let old = arguments
            .old
            .clone()
            .or_else(|| versions.iter().rev().find(|old| Some(*old) != new.as_ref()).cloned());
        let (Some(old), Some(new)) = (old, new) else { continue };
        let before = queries::totals(&session, service, &old).await?;
        let after = queries::totals(&session, service, &new).await?;
        let mut sites: Vec<(&String, Option<&Totals>, Option<&Totals>)> =
            before.iter().map(|(site, totals)| (site, Some(totals), after.get(site))).collect();
        let is_new = |(site, _): &(&String, &Totals)| !before.contains_key(*site);
        sites.extend(after.iter().filter(is_new).map(|(site, totals)| (site, None, Some(totals))));
        let change = |before: Option<&Totals>, after: Option<&Totals>| {
            (after.map_or(0.0, Totals::live) - before.map_or(0.0, Totals::live)).abs()
        };
        sites.sort_by(|a, b| change(b.1, b.2).total_cmp(&change(a.1, a.2)).then_with(|| a.0.cmp(b.0)));
        let mut table = Table::new(COLUMNS);
        for (site, before, after) in sites.into_iter().take(arguments.top) {
            table.rows.push(row(site, before, after));
            all.push(json!({
                "service": service, "site": site, "old_version": old, "new_version": new,
                "before": before.map(shown), "after": after.map(shown), "differs": differs(before, after),
            }));
        }
        answer.table(Some(format!("{service}: {old} → {new}")), table);
    }
    if versions.is_empty() {
        answer.words("No service has had two versions in the time that was asked for.");
    }
    answer.json.insert("sites".into(), all.into());
    answer.notes = session.notes();
    show(&answer, &asking.showing)?;
    Ok(ExitCode::SUCCESS)
}

const COLUMNS: [(&str, bool); 11] = [
    ("go statement", false),
    ("rate before", true),
    ("after", true),
    ("p50 before", true),
    ("after", true),
    ("p99 before", true),
    ("after", true),
    ("live a host before", true),
    ("after", true),
    ("bytes before", true),
    ("after", true),
];

fn row(site: &str, before: Option<&Totals>, after: Option<&Totals>) -> Vec<Cell> {
    let mut row = vec![Cell::Text(site.to_owned())];
    let cells: [fn(&Totals) -> Cell; 5] = [
        |totals| totals.rate().map_or(Cell::Missing, Cell::Number),
        |totals| quantile(totals, 0.5).map_or(Cell::Missing, Cell::Seconds),
        |totals| quantile(totals, 0.99).map_or(Cell::Missing, Cell::Seconds),
        |totals| Cell::Number(totals.live()),
        |totals| totals.bytes().map_or(Cell::Missing, |bytes| Cell::Bytes(bytes as u64)),
    ];
    for cell in cells {
        row.extend([before, after].map(|totals| totals.map_or(Cell::Missing, cell)));
    }
    row
}

fn quantile(totals: &Totals, share: f64) -> Option<f64> {
    let buckets: Vec<(i32, u64)> = totals.lifetimes.iter().map(|(bucket, count)| (*bucket, *count)).collect();
    native::quantile_s(&buckets, share)
}

fn shown(totals: &Totals) -> Value {
    json!({
        "rate_per_s": totals.rate(),
        "lifetime_p50_s": quantile(totals, 0.5),
        "lifetime_p99_s": quantile(totals, 0.99),
        "live_per_host": totals.live(),
        "bytes_per_host": totals.bytes(),
    })
}

/// What differs by more than chance.
fn differs(before: Option<&Totals>, after: Option<&Totals>) -> Vec<&'static str> {
    let (Some(before), Some(after)) = (before, after) else { return Vec::new() };
    let mut differs = Vec::new();
    let rates = compare::rates(before.created, before.seconds, after.created, after.seconds);
    if rates.is_some_and(|p| p < SURE) {
        differs.push("rate");
    }
    // Ranks need no durations, only their order.
    let bins = |lifetimes: &BTreeMap<i32, u64>| -> Vec<(u64, u64)> {
        let place = |bucket: i32| (i64::from(bucket) - i64::from(i32::MIN)).unsigned_abs();
        lifetimes.iter().map(|(bucket, count)| (place(*bucket), *count)).collect()
    };
    let ranks = compare::ranks(&bins(&before.lifetimes), &bins(&after.lifetimes));
    if ranks.is_some_and(|ranks| ranks.p < SURE) {
        differs.push("lifetime");
    }
    differs
}
