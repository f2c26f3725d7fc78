//! `golife-fleet new`: what leaks since a time or a version and did not before.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use super::leaks::{Shown, answer};
use super::show;
use crate::arguments::{New, Since, ms};
use crate::findings::state::State;
use crate::findings::{Point, Seen};
use crate::queries;
use crate::session::Session;

/// How far back from the time asked for it is looked whether a finding was there before.
const BEFORE_MS: i64 = 7 * 24 * 3_600_000;

/// Since when something counts as new.
enum Start {
    /// The same moment for every service, in ms since 1970.
    Time(i64),
    /// When each service was first seen with the version.
    Services(BTreeMap<String, i64>),
}

impl Start {
    /// Whether a sweep of a service is of the new time; `None` where that service never had the version.
    fn has_begun(&self, point: &Point) -> Option<bool> {
        let start = match self {
            Start::Time(start) => *start,
            Start::Services(services) => *services.get(&point.service)?,
        };
        Some(point.time_ms >= start)
    }
}

/// Runs it.
///
/// # Errors
/// The store cannot be read, or nobody has seen the version.
pub async fn run(arguments: &New) -> anyhow::Result<ExitCode> {
    let asking = &arguments.asking;
    let from = match &arguments.since {
        Since::Time(time) => Some(ms(*time) - BEFORE_MS),
        Since::Version(_) => None,
    };
    let session = Session::open(asking, (from, None)).await?;
    let start = match &arguments.since {
        Since::Time(time) => Start::Time(ms(*time)),
        Since::Version(version) => {
            let services = queries::first_seen(&session, version).await?;
            if services.is_empty() {
                let store = session.store().name();
                anyhow::bail!("{store}: no sweep has a version {version}, nor is that a time");
            }
            Start::Services(services)
        }
    };
    let last = queries::last_sweeps(&session).await?;
    let functions = queries::suspects(&session).await?;
    let each = |shown: &mut Vec<Shown>, seen: Seen| {
        let mut leaks = seen.points.iter().filter(|point| point.leaks());
        let is_new = leaks.all(|point| start.has_begun(point) != Some(false))
            && seen.points.iter().any(|point| point.leaks() && start.has_begun(point) == Some(true));
        if is_new {
            let new = |finding| Shown { finding, state: State::New, owner: None };
            shown.extend(seen.findings.into_iter().map(new));
        }
    };
    let mut shown = queries::judged(&session, &functions, &last, &|_| None, Vec::new, each).await?;
    shown.sort_by(|a, b| b.finding.rank().total_cmp(&a.finding.rank()));
    let mut answer = answer(&shown, last.is_empty());
    answer.title = "New goroutine leaks".into();
    answer.notes = session.notes();
    if let Start::Services(services) = &start {
        let all: BTreeSet<&String> = last.keys().map(|(_, service)| service).collect();
        let never = all.into_iter().filter(|service| !services.contains_key(*service)).count();
        if never > 0 {
            answer.notes.push(format!("left out: {never} services that never had this version"));
        }
    }
    show(&answer, &asking.showing)?;
    Ok(ExitCode::SUCCESS)
}
