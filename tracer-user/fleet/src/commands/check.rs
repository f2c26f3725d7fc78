//! `golife-fleet check`: whether a store can be read, who writes to it and with which golife, and who has stopped.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use golife::human;
use golife::store::Place;
use serde_json::json;

use super::show;
use crate::arguments::{Check, ms};
use crate::listing::SweepObject;
use crate::output::{Answer, Cell, Table, arrow};
use crate::session::Session;

/// A host is silent that has missed so many of its own intervals.
const MISSED: i64 = 3;
/// Most hosts that are named.
const MOST: usize = 50;
/// A clock that is so far ahead of the store's is wrong, in ms.
const AHEAD_MS: i64 = 60_000;
/// What always comes so late, in ms, comes from a clock that is behind.
const BEHIND_MS: i64 = 10 * 60_000;
/// Number of sweeps from which that is told: single ones may have waited in a spool.
const ENOUGH: u64 = 3;
/// Where the sweeps of the median host come later than this, in ms, the store's times are not those at which they came: somebody has
/// copied it.
const COPIED_MS: i64 = 5 * 60_000;

/// Who has swept when. What a host has written twice counts once.
const TIMES: &str = "SELECT DISTINCT host, CAST(sweep_time AS BIGINT) AS at FROM sites ORDER BY host, at";

/// Runs it.
///
/// # Errors
/// The store cannot be read.
pub async fn run(arguments: &Check) -> anyhow::Result<ExitCode> {
    let asking = &arguments.asking;
    let session = Session::open_rolled(asking, arguments.window.ms(), true).await?;
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
    let rolled_up: HashSet<i64> = session.choice().rollups.iter().map(|rollup| rollup.hour).collect();
    let hours: HashSet<i64> = files.iter().map(|file| file.hour).chain(rolled_up.iter().copied()).collect();
    let hosts: Vec<Host> = times.into_iter().map(|(name, times)| Host::of(name, times)).collect();
    let clocks = clocks(session.files(), ms(SystemTime::now()));
    let off = |host: &Host| clocks.get(&Place::new(&host.name, 0, 0).host).copied().unwrap_or(0);
    // Hosts are compared with each other, not with this one's clock, and not with one that is ahead of all others.
    let last = |host: &Host| host.last - off(host);
    let newest = hosts.iter().map(last).max().unwrap_or(0);
    let mut silent: Vec<&Host> = hosts.iter().filter(|host| host.is_silent(newest + off(host))).collect();
    silent.sort_by_key(|host| host.last);
    let gaps: Vec<&Host> =
        hosts.iter().filter(|host| host.has_gap() && !host.is_silent(newest + off(host))).collect();
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
    answer.words(format!(
        "{} of {} rolled up",
        human::count(rolled_up.len() as u64),
        human::plural(hours.len() as u64, "hour is", "hours are")
    ));
    named("silent hosts, which have missed three of their sweeps", &silent, &mut answer);
    named("hosts with gaps of three sweeps or more", &gaps, &mut answer);
    let wrong: Vec<(&Host, i64)> =
        hosts.iter().map(|host| (host, off(host))).filter(|(_, off)| *off != 0).collect();
    if !wrong.is_empty() {
        let mut table = Table::new([("host", false), ("clock", false), ("last", false)]);
        for (host, off) in wrong.iter().take(MOST) {
            let side = if *off > 0 { "ahead" } else { "behind, or its sweeps come late" };
            let clock = format!("{} {side}", milliseconds(*off));
            table.rows.push(vec![
                Cell::Text(host.name.clone()),
                Cell::Text(clock),
                Cell::Text(time(host.last)),
            ]);
        }
        let heading =
            format!("{}: hosts whose clock is off, by the store's", human::count(wrong.len() as u64));
        answer.table(Some(heading), table);
    }
    answer.notes = session.notes();
    let is_whole = session.is_whole();
    answer.notes.extend(session.due());
    if silent.is_empty() && gaps.is_empty() && wrong.is_empty() && is_whole {
        answer.words("all files can be read, and all hosts report");
    }
    let list = |hosts: &[&Host]| {
        hosts.iter().map(|host| json!({ "host": host.name, "last": time(host.last) })).collect()
    };
    let clock = |(host, off): &(&Host, i64)| json!({ "host": host.name, "ahead_s": *off as f64 / 1e3 });
    for (key, value) in [
        ("clocks", wrong.iter().map(clock).collect()),
        ("files", json!(number)),
        ("bytes", json!(bytes)),
        ("hours", json!(hours.len())),
        ("rolled_up", json!(rolled_up.len())),
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

/// By how many ms hosts' clocks are ahead of the store's; negative where they are behind. Hosts are called as in names of files. A host
/// is behind whose sweeps all come late, where those of others do not.
fn clocks(files: &[SweepObject], now: i64) -> HashMap<String, i64> {
    let mut hosts: HashMap<String, (i64, u64)> = HashMap::new();
    for file in files.iter().filter(|file| file.is_raw()) {
        let Some(place) = Place::parse(file.path()) else { continue };
        let late = file.meta.last_modified.timestamp_millis().min(now) - place.time_ms;
        let (least, sweeps) = hosts.entry(place.host).or_insert((i64::MAX, 0));
        (*least, *sweeps) = ((*least).min(late), *sweeps + 1);
    }
    let mut all: Vec<i64> = hosts.values().map(|(least, _)| *least).collect();
    all.sort_unstable();
    let is_copied = all.get(all.len() / 2).is_some_and(|usual| *usual > COPIED_MS);
    let off = hosts.into_iter().filter(|(_, (late, sweeps))| {
        *late < -AHEAD_MS || (*late > BEHIND_MS && *sweeps >= ENOUGH && !is_copied)
    });
    off.map(|(host, (late, _))| (host, -late)).collect()
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
