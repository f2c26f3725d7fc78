//! `golife-fleet ack` and `unack`: findings that somebody knows of and wants not to see for a while.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use super::say;
use crate::arguments::{Acknowledge, TakeBack, ms};
use crate::findings::state::{self, Ack};
use crate::store::Store;

/// Acknowledges findings.
///
/// # Errors
/// The store cannot be written.
pub async fn ack(arguments: &Acknowledge) -> anyhow::Result<ExitCode> {
    let (until, why) = (Some(ms(arguments.until)), Some(arguments.why.clone()));
    write((&arguments.url, arguments.store_timeout), &arguments.ids, until, why).await
}

/// Takes acknowledgements back.
///
/// # Errors
/// The store cannot be written.
pub async fn unack(arguments: &TakeBack) -> anyhow::Result<ExitCode> {
    write((&arguments.url, arguments.store_timeout), &arguments.ids, None, None).await
}

async fn write(
    (url, timeout): (&str, Duration),
    ids: &[String],
    until_ms: Option<i64>,
    why: Option<String>,
) -> anyhow::Result<ExitCode> {
    let store = Store::open(url, timeout)?;
    let now = ms(SystemTime::now());
    let known = state::remembered(&store, i64::MAX).await?;
    for id in ids.iter().filter(|id| !known.contains_key(*id)) {
        say(&format!("note: no finding {id} has been seen so far"));
    }
    let ack = |id: &String| Ack { time_ms: now, id: id.clone(), until_ms, why: why.clone() };
    state::acknowledge(&store, &ids.iter().map(ack).collect::<Vec<_>>()).await?;
    Ok(ExitCode::SUCCESS)
}
