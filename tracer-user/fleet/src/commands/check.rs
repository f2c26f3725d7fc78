//! `golife-fleet check`: whether a store can be read, who writes to it and with which golife, and who has stopped.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use golife::human;
use serde_json::json;

use super::show;
use crate::arguments::{Check, ms};
use crate::output::{Answer, Cell, Table, arrow};
use crate::session::Session;

/// A host is silent that has missed so many of its own intervals.
const MISSED: i64 = 3;
/// Most hosts that are named.
const MOST: usize = 50;
/// What is said of clocks beyond this, in ms.
const AHEAD_MS: i64 = 60_000;

/// Who has swept when. What a host has written twice counts once.
const TIMES: &str = "SELECT DISTINCT host, CAST(sweep_time AS BIGINT) AS at FROM sites ORDER BY host, at";

/// Runs it.
///
/// # Errors
/// The store cannot be read.
pub async fn run(arguments: &Check) -> anyhow::Result<ExitCode> {
    let asking = &arguments.asking;
    let session = Session::open(asking, arguments.window.ms()).await?;
    let mut times: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let (_, batches) = session.query(TIMES).await?;
    for batch in &batches {
        for row in arrow::rows(batch)? {
            if let [Cell::Text(host), at] = &row[..] {
                times.entry(host.clone()).or_default().push(at.raw().parse().unwrap_or(0));
            }
        }
    }
    let files = session.readable().await?;
    let (number, bytes) = (files.len() as u64, files.iter().map(|file| file.meta.size).sum::<u64>());
    let hosts: Vec<Host> = times.into_iter().map(|(name, times)| Host::of(name, times)).collect();
    // Hosts are compared with each other, not with this one's clock.
    let newest = hosts.iter().map(|host| host.last).max().unwrap_or(0);
    let mut silent: Vec<&Host> = hosts.iter().filter(|host| host.is_silent(newest)).collect();
    silent.sort_by_key(|host| host.last);
    let gaps: Vec<&Host> = hosts.iter().filter(|host| host.has_gap() && !host.is_silent(newest)).collect();
    let summary = format!(
        "{}, {}, {}, the newest sweep is of {}",
        human::plural(number, "file", "files"),
        human::bytes(bytes),
        human::plural(hosts.len() as u64, "host", "hosts"),
        time(newest)
    );
    let title = session.store().name().to_owned();
    let mut answer = Answer { schema: "golife.fleet-check/1", title, ..Answer::default() };
    answer.words(summary);
    named("silent hosts, which have missed three of their sweeps", &silent, &mut answer);
    named("hosts with gaps of three sweeps or more", &gaps, &mut answer);
    answer.notes = session.notes();
    let is_whole = answer.notes.is_empty();
    let ahead = newest - ms(SystemTime::now());
    if ahead > AHEAD_MS {
        let by = milliseconds(ahead);
        answer
            .notes
            .push(format!("the newest sweep is {by} in the future: a host's clock is wrong, or this one's"));
    }
    if silent.is_empty() && gaps.is_empty() && is_whole {
        answer.words("all files can be read, and all hosts report");
    }
    let list = |hosts: &[&Host]| {
        hosts.iter().map(|host| json!({ "host": host.name, "last": time(host.last) })).collect()
    };
    for (key, value) in [
        ("files", json!(number)),
        ("bytes", json!(bytes)),
        ("hosts", json!(hosts.len())),
        ("newest", json!(time(newest))),
        ("silent", list(&silent)),
        ("gaps", list(&gaps)),
    ] {
        answer.json.insert(key.into(), value);
    }
    show(&answer, &asking.showing)?;
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn named(heading: &str, hosts: &[&Host], answer: &mut Answer) {
    if hosts.is_empty() {
        return;
    }
    let columns =
        [("host", false), ("sweeps", true), ("last", false), ("every", true), ("longest gap", true)];
    let mut table = Table::new(columns);
    for host in hosts.iter().take(MOST) {
        let seconds = |ms: i64| Cell::Seconds(ms as f64 / 1e3);
        table.rows.push(vec![
            Cell::Text(host.name.clone()),
            Cell::Count(host.sweeps as u64),
            Cell::Text(time(host.last)),
            host.every.map_or(Cell::Missing, seconds),
            seconds(host.gap),
        ]);
    }
    answer.table(Some(format!("{}: {heading}", human::count(hosts.len() as u64))), table);
}

/// What the times of a host's sweeps say. All times are in ms.
struct Host {
    name: String,
    sweeps: usize,
    last: i64,
    /// The median time between two sweeps; `None` with fewer than three.
    every: Option<i64>,
    /// The longest time between two sweeps.
    gap: i64,
}

impl Host {
    fn of(name: String, times: Vec<i64>) -> Host {
        let mut between: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        between.sort_unstable();
        let every = between.get(between.len() / 2).copied().filter(|every| between.len() > 1 && *every > 0);
        let (last, gap) = (times.last().copied().unwrap_or(0), between.last().copied().unwrap_or(0));
        Host { name, sweeps: times.len(), last, every, gap }
    }

    fn is_silent(&self, newest: i64) -> bool {
        self.every.is_some_and(|every| newest - self.last > MISSED * every)
    }

    fn has_gap(&self) -> bool {
        self.every.is_some_and(|every| self.gap > MISSED * every)
    }
}

fn time(ms: i64) -> String {
    const LAST_MS: i64 = 253_402_300_799_999;
    let time = UNIX_EPOCH + Duration::from_millis(ms.clamp(0, LAST_MS).unsigned_abs());
    humantime::format_rfc3339_seconds(time).to_string()
}

fn milliseconds(ms: i64) -> String {
    human::duration(ms.unsigned_abs().saturating_mul(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_silent_by_its_own_rhythm() {
        let host = |times: &[i64]| Host::of("h".into(), times.to_vec());
        let hourly = host(&[0, 60, 120, 180]);
        assert!(!hourly.is_silent(360) && hourly.is_silent(361) && !hourly.has_gap());
        let gap = host(&[0, 60, 120, 400, 460]);
        assert!(gap.has_gap() && !gap.is_silent(500));
        assert!(!host(&[7]).is_silent(i64::MAX), "nobody knows how often it sweeps");
    }
}
