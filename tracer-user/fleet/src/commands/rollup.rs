//! `golife-fleet rollup`: an hour of all hosts becomes one small file. It says which files of hosts it stands for, appears whole or
//! not at all, and is replaced by one of more files where something comes late. Nothing is deleted; `expire` does that.

use std::collections::{BTreeMap, HashSet};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use golife::human;
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;

use super::{say, show};
use crate::arguments::{Hourly, ms};
use crate::listing::{HOUR_MS, LeftOut, ROLLUP, SweepObject, hour_text, list, rollups, without_copies};
use crate::output::{Answer, Cell, Table};
use crate::rollup::columns::{HOSTS_KEY, SITE, VERSION, VERSION_KEY, batch, schema};
use crate::rollup::merge::{Merged, SWEEPS};
use crate::session::Session;
use crate::store::Store;
use crate::written;

/// Runs it.
///
/// # Errors
/// The store cannot be read or written.
pub async fn run(arguments: &Hourly) -> anyhow::Result<ExitCode> {
    let asking = &arguments.asking;
    let store = Store::open(&asking.url, asking.store_timeout)?;
    let left_out = Arc::new(LeftOut::default());
    let over = ms(SystemTime::now()) - arguments.after.as_millis() as i64;
    let window = arguments.window.ms();
    let mut hours: BTreeMap<i64, Vec<SweepObject>> = BTreeMap::new();
    for file in list(&store, window, &left_out).await? {
        hours.entry(file.hour).or_default().push(file);
    }
    // An hour of which only a part is asked for is left alone.
    let is_whole = |hour: i64| {
        window.0.is_none_or(|since| hour >= since) && window.1.is_none_or(|until| hour + HOUR_MS <= until)
    };
    hours.retain(|hour, _| hour + HOUR_MS <= over && is_whole(*hour));
    let before = rollups(&store, window, &left_out).await?;
    let mut answer = Answer {
        schema: "golife.fleet-rollup/1",
        title: format!("rolled up {}", store.name()),
        ..Answer::default()
    };
    let mut table =
        Table::new([("hour", false), ("sweeps", true), ("bytes", true), ("rows", true), ("bytes now", true)]);
    for (hour, files) in hours {
        let there = before.iter().filter(|rollup| rollup.hour == hour).cloned().collect();
        let (files, copies) = without_copies(&store, files).await;
        let session = Session::over(asking, store.clone(), files).await?;
        let there = session.rollups_of(there).await?;
        let sources = sources(&session, &copies).await?;
        let here: HashSet<&str> = sources.iter().map(String::as_str).collect();
        let is_done = |rollup: &SweepObject| {
            let stands_for: HashSet<&str> = rollup.sources().collect();
            here.is_subset(&stands_for)
        };
        if sources.len() == copies.len() || there.iter().any(is_done) {
            answer.notes.extend(session.notes());
            continue;
        }
        // A roll-up is made of sweeps alone. One that outlives some of its own stays, and what came late is read beside it.
        if there.iter().any(|rollup| rollup.sources().any(|source| !here.contains(source))) {
            let hour = hour_text(hour);
            answer.notes.push(format!(
                "{hour}: what came late is read beside the roll-up, as sweeps of that have expired"
            ));
            continue;
        }
        say(&format!("rolling up {}", hour_text(hour)));
        let made = rolled_up(&session, &copies, &store, hour).await?;
        table.rows.push(vec![
            Cell::Text(hour_text(hour)),
            Cell::Count(made.sweeps),
            Cell::Bytes(made.bytes_before),
            Cell::Count(made.rows),
            Cell::Bytes(made.bytes),
        ]);
        answer.notes.extend(session.notes());
    }
    if table.rows.is_empty() {
        answer.words("nothing to roll up: each hour that is over is rolled up already");
    } else {
        answer.table(None, table);
    }
    answer.notes.extend(left_out.said());
    show(&answer, &asking.showing)?;
    Ok(ExitCode::SUCCESS)
}

/// The files of hosts whose sweeps are read, whether they are compacted or not, and copies of them, in the order of their paths.
async fn sources(session: &Session, copies: &[SweepObject]) -> anyhow::Result<Vec<String>> {
    let mut sources: Vec<String> = copies.iter().map(|copy| copy.path().to_owned()).collect();
    for file in session.readable().await? {
        let before = sources.len();
        sources.extend(file.sources().map(str::to_owned));
        if sources.len() == before {
            sources.push(file.path().to_owned());
        }
    }
    sources.sort_unstable();
    sources.dedup();
    Ok(sources)
}

/// What an hour has become.
struct Made {
    sweeps: u64,
    bytes_before: u64,
    rows: u64,
    bytes: u64,
}

async fn rolled_up(
    session: &Session,
    copies: &[SweepObject],
    store: &Store,
    hour: i64,
) -> anyhow::Result<Made> {
    let merged = session.fold(SWEEPS, Merged::default, |merged, batch| merged.add(&batch)).await?;
    // What turned out to be broken while it was read is no longer among them.
    let sources = sources(session, copies).await?;
    let files = session.readable().await?;
    let Some(first) = files.first() else {
        anyhow::bail!("{}: no file can be read to its end", hour_text(hour));
    };
    let (hosts, places) = merged.names.sorted();
    let rows: Vec<_> = merged
        .sorted()
        .into_iter()
        .map(|(site, part)| (site, part, part.hosts.renumbered(&places)))
        .collect();
    let metadata = vec![
        KeyValue::new(VERSION_KEY.to_owned(), VERSION.to_string()),
        KeyValue::new(HOSTS_KEY.to_owned(), serde_json::to_string(&hosts)?),
    ];
    let properties = written::properties(&schema(), &SITE, &sources, metadata)?;
    let mut writer = ArrowWriter::try_new(Vec::new(), schema(), Some(properties))?;
    writer.write(&batch(hour, &rows)?)?;
    let bytes = writer.into_inner()?;
    let made = Made {
        sweeps: human::sum(rows.iter().map(|(_, part, _)| part.sweeps.unsigned_abs())),
        bytes_before: files.iter().map(|file| file.meta.size).sum(),
        rows: rows.len() as u64,
        bytes: bytes.len() as u64,
    };
    // Another one that rolls up the same files gives them the same name.
    store.put_new(&written::path(ROLLUP, first, &sources), bytes).await?;
    Ok(made)
}
