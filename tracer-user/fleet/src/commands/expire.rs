//! `golife-fleet expire`: deletes what is older than it needs to be, what a compacted file stands for, and roll-ups that are replaced.

use std::process::ExitCode;
use std::time::SystemTime;

use golife::human;

use super::{say, show};
use crate::arguments::{Expire, ms};
use crate::listing::{LeftOut, SweepObject, list};
use crate::output::{Answer, Cell, Table};
use crate::session::Session;
use crate::store::Store;

/// Runs it.
///
/// # Errors
/// The store cannot be read, or refuses to delete.
pub async fn run(arguments: &Expire) -> anyhow::Result<ExitCode> {
    let asking = &arguments.asking;
    let store = Store::open(&asking.url, asking.store_timeout)?;
    let left_out = LeftOut::default();
    let now = ms(SystemTime::now());
    let (oldest, settled) =
        (now - arguments.keep.as_millis() as i64, now - arguments.grace.as_millis() as i64);
    let files = list(&store, (None, None), &left_out).await?;
    let session = Session::over(asking, store.clone(), files.clone()).await?;
    let asked: std::collections::HashSet<String> =
        session.readable().await?.into_iter().map(|file| file.meta.location.to_string()).collect();
    // What cannot be read is not deleted before its time: somebody may want to know why.
    let is_covered = |file: &&SweepObject| {
        let path = file.meta.location.as_ref();
        file.is_raw() && file.times.1 < settled && !asked.contains(path) && !session.is_left_out(path)
    };
    let (old, young): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.times.1 < oldest);
    let covered: Vec<_> = young.into_iter().filter(is_covered).collect();
    let rolled = Session::open_rolled(asking, (None, None), true).await?;
    let choice = rolled.choice();
    // What stands in the place of a roll-up has been there for so long: queries that began before that have ended.
    let is_settled = |by: &SweepObject| by.meta.last_modified.timestamp_millis() < settled;
    let replaced = choice.replaced.into_iter().filter(|(_, by)| is_settled(by)).map(|(file, _)| file);
    let replaced: Vec<SweepObject> = replaced.collect();
    let is_old = |file: &SweepObject| {
        arguments.keep_rollups.is_some_and(|keep| file.times.1 < now - keep.as_millis() as i64)
    };
    let old_rollups: Vec<SweepObject> =
        rolled.rollups().iter().filter(|file| is_old(file)).cloned().collect();
    let replaced: Vec<&SweepObject> = replaced.iter().filter(|file| !is_old(file)).collect();
    let mut table = Table::new([("what", false), ("files", true), ("bytes", true)]);
    let old_rollups: Vec<&SweepObject> = old_rollups.iter().collect();
    for (what, files) in [
        ("older than --keep", &old),
        ("in a compacted file, and older than --grace", &covered),
        ("roll-ups older than --keep-rollups", &old_rollups),
        ("roll-ups that are replaced, longer than --grace", &replaced),
    ] {
        let bytes = files.iter().map(|file| file.meta.size).sum();
        table.rows.push(vec![Cell::Text(what.into()), Cell::Count(files.len() as u64), Cell::Bytes(bytes)]);
    }
    if !arguments.dry_run {
        let all: Vec<_> = old.into_iter().chain(covered).chain(old_rollups).chain(replaced).collect();
        if !all.is_empty() {
            say(&format!("deleting {}", human::plural(all.len() as u64, "file", "files")));
        }
        for file in all {
            store.delete(&file.meta.location).await?;
        }
    }
    let done = if arguments.dry_run { "would be deleted" } else { "deleted" };
    let title = format!("{done} in {}", store.name());
    let mut answer = Answer { schema: "golife.fleet-expire/1", title, ..Answer::default() };
    answer.table(None, table);
    answer.notes = session.notes();
    show(&answer, &asking.showing)?;
    Ok(ExitCode::SUCCESS)
}
