//! `golife-fleet leaks`: one finding for each bug, worst first, and what has become of it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::SystemTime;

use golife::human;
use serde_json::{Value, json};

use super::{say, show};
use crate::alerts::{self, Alert, Alertmanager, Times};
use crate::arguments::{Leaks, ms};
use crate::findings::state::{self, Known, Memory, State};
use crate::findings::{Finding, HostSeries, Seen, cause, together};
use crate::output::{Answer, Cell, Table, rounded};
use crate::owners::Owners;
use crate::queries;
use crate::session::Session;

/// How far back is looked unless the user says otherwise.
const BACK_MS: i64 = 24 * 3_600_000;
/// Exit code where findings are shown and alerts could not be posted.
const NOT_POSTED: u8 = 5;

/// A finding that is shown.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// The finding.
    pub(super) finding: Finding,
    /// What has become of it.
    pub(super) state: State,
    /// Who owns it.
    pub(super) owner: Option<String>,
}

/// Runs it.
///
/// # Errors
/// The store cannot be read. That alerts cannot be posted is an exit code, since findings are shown all the same.
pub async fn run(arguments: &Leaks) -> anyhow::Result<ExitCode> {
    let asking = &arguments.asking;
    let alertmanager = arguments.alertmanager.as_deref().map(Alertmanager::open).transpose()?;
    let owners = arguments.owners.as_deref().map(Owners::read).transpose()?.unwrap_or_default();
    let now = ms(SystemTime::now());
    let (since, until) = arguments.window.ms();
    let since = since.unwrap_or_else(|| until.unwrap_or(now) - BACK_MS);
    let session = Session::open(asking, (Some(since), until)).await?;
    let last = queries::last_sweeps(&session).await?;
    // A host whose clock is ahead would have each run be as of another moment, or none before its own.
    let as_of = last.values().copied().filter(|at| *at <= now).max().unwrap_or(since);
    let memory = state::remembered(session.store(), as_of).await?;
    let mut functions = queries::suspects(&session).await?;
    let (risers, sites) = queries::risers(&session).await?;
    functions.extend(risers);
    functions.extend(memory.values().map(|known| known.function.clone()));
    if asking.explain {
        let mut answer = Answer { title: "Goroutine leaks".into(), ..Answer::default() };
        answer.drawn(session.explain(&queries::of_functions(&functions)).await?);
        answer.notes = session.notes();
        show(&answer, &asking.showing)?;
        return Ok(ExitCode::SUCCESS);
    }
    let loads = queries::loads(&session).await?;
    let together = |hosts: &[HostSeries<'_>]| together::leaks(hosts, &loads, sites);
    let begin = || (memory.clone(), Vec::new());
    let each = |(memory, found): &mut (Memory, Vec<(State, Finding)>), seen: Seen| {
        found.extend(states(seen, memory, arguments.fixed_after, as_of));
    };
    let (memory, found) = queries::judged(&session, &functions, &last, &together, begin, each).await?;
    let shown = owned(found, &owners);
    let mut notes = session.notes();
    notes.extend(session.due());
    if session.is_partial() {
        notes.push(
            "what was seen is not kept for the next time, since files are left out that may be read then"
                .into(),
        );
    } else if !arguments.read_only
        && !last.is_empty()
        && let Err(refused) = state::remember(session.store(), as_of, &memory).await
    {
        notes.push(format!("what was seen is not kept for the next time: {refused}"));
    }
    let acks = state::acks(session.store(), now).await?;
    let found: BTreeSet<String> = shown.iter().map(|shown| shown.finding.id.clone()).collect();
    let before = shown.len();
    let shown: Vec<Shown> = shown.into_iter().filter(|shown| !acks.contains_key(&shown.finding.id)).collect();
    if before > shown.len() {
        let acknowledged = before - shown.len();
        notes.push(format!("{acknowledged} acknowledged findings are not shown"));
    }
    let is_its = |shown: &Shown| arguments.owner.is_none() || shown.owner == arguments.owner;
    let shown: Vec<Shown> = shown.into_iter().filter(is_its).collect();
    let mut answer = answer(&shown, last.is_empty());
    answer.notes = notes;
    show(&answer, &asking.showing)?;
    let Some(alertmanager) = alertmanager else { return Ok(ExitCode::SUCCESS) };
    // What was seen within the window, and is not fixed, may be back with the next sweep.
    let only_unseen = |id: &str| {
        let is_open = |known: &Known| known.state != State::Fixed && known.last_ms >= since;
        !found.contains(id) && !acks.contains_key(id) && memory.get(id).is_some_and(is_open)
    };
    match tell(&alertmanager, &shown, arguments, session.store().name(), only_unseen).await {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            say(&format!("golife-fleet: alerts are not posted: {}", golife::commands::message(&error)));
            Ok(ExitCode::from(NOT_POSTED))
        }
    }
}

/// Tells Alertmanager what is shown, and what is not any more.
async fn tell(
    alertmanager: &Alertmanager,
    shown: &[Shown],
    arguments: &Leaks,
    store: &str,
    only_unseen: impl Fn(&str) -> bool,
) -> anyhow::Result<()> {
    let times = Times { now: SystemTime::now(), stay: arguments.alert_for };
    let is_alert = |shown: &&Shown| shown.state != State::Fixed;
    let alert =
        |shown: &Shown| alerts::alert(&shown.finding, shown.state, shown.owner.as_deref(), store, times);
    let mut alerts: Vec<Alert> = shown.iter().filter(is_alert).map(alert).collect();
    let listed = alertmanager.alerts(store).await?;
    let others = alerts::others(listed, &alerts, arguments.owner.as_deref(), only_unseen, times);
    let resolved = others.iter().filter(|(_, is_resolved)| *is_resolved).count() as u64;
    alerts.extend(others.into_iter().map(|(alert, _)| alert));
    if !alerts.is_empty() {
        alertmanager.post(&alerts).await?;
    }
    let posted = human::plural(alerts.len() as u64 - resolved, "alert", "alerts");
    say(&format!("note: posted {posted} to {}, and resolved {resolved}", alertmanager.name()));
    Ok(())
}

/// What has become of the findings of a statement.
fn states(seen: Seen, memory: &mut Memory, fixed_after: usize, as_of: i64) -> Vec<(State, Finding)> {
    let states = state::live_on(&seen, memory, fixed_after, as_of).into_iter();
    let states: BTreeMap<String, State> = states.map(|(state, id)| (id, state)).collect();
    let mut found: Vec<(State, Finding)> = seen
        .findings
        .into_iter()
        .map(|mut finding| {
            if let Some(known) = memory.get(&finding.id) {
                finding.since_version = known.since_version.clone();
            }
            (states.get(&finding.id).copied().unwrap_or(State::Known), finding)
        })
        .collect();
    let fixed = states.iter().filter(|(_, state)| **state == State::Fixed);
    found.extend(fixed.filter_map(|(id, state)| Some((*state, fixed_finding(memory.get(id)?)))));
    found
}

/// Findings with their owners, worst first and what is fixed last.
fn owned(found: Vec<(State, Finding)>, owners: &Owners) -> Vec<Shown> {
    let mut shown: Vec<Shown> = found
        .into_iter()
        .map(|(state, finding)| {
            let owner = owners.of(finding.module.as_deref(), &finding.function, finding.file.as_deref());
            Shown { owner: owner.map(str::to_owned), finding, state }
        })
        .collect();
    shown.sort_by(|a, b| {
        let is_fixed = |shown: &Shown| shown.state == State::Fixed;
        is_fixed(a).cmp(&is_fixed(b)).then_with(|| b.finding.rank().total_cmp(&a.finding.rank()))
    });
    shown
}

/// What is left of a finding that is fixed.
fn fixed_finding(known: &Known) -> Finding {
    Finding {
        id: known.id.clone(),
        module: known.module.clone(),
        function: known.function.clone(),
        file: known.file.clone(),
        line: known.line,
        ordinal: known.statement.parse().ok(),
        service: known.service.clone(),
        cause: known.cause.clone(),
        blame: None,
        is_proven: false,
        hosts: 0,
        live: 0,
        live_median: 0,
        live_max: 0,
        growth_per_h: None,
        bytes: None,
        since_version: known.since_version.clone(),
        first_ms: known.first_ms,
        last_ms: known.last_ms,
        example: (known.hosts.first().cloned().unwrap_or_default(), 0),
        versions: known.versions.clone(),
        on: known.hosts.clone(),
    }
}

impl Shown {
    fn json(&self) -> Value {
        let Finding { id, service, function, file, line, ordinal, blame, cause, .. } = &self.finding;
        let of = &self.finding;
        json!({
            "id": id,
            "state": self.state.name(),
            "owner": self.owner,
            "service": service,
            "site": { "function": function, "file": file, "line": line, "ordinal": ordinal },
            "blame": blame,
            "cause": cause,
            "advice": of.advice(),
            "hosts": of.hosts,
            "live": of.live,
            "live_median": of.live_median,
            "live_max": of.live_max,
            "growth_per_h": of.growth_per_h,
            "bytes": of.bytes,
            "since_version": of.since_version,
            "example": (of.example.1 > 0).then(|| json!({ "host": of.example.0, "pid": of.example.1 })),
        })
    }

    fn row(&self) -> Vec<Cell> {
        let of = &self.finding;
        let growth =
            of.growth_per_h.map_or(Cell::Missing, |growth| Cell::Number((growth * 100.0).round() / 100.0));
        vec![
            Cell::Text(of.id.clone()),
            Cell::Text(self.state.name().into()),
            Cell::text(self.owner.as_deref()),
            Cell::Text(of.service.clone()),
            Cell::Text(place(of)),
            Cell::text(of.cause.as_deref()),
            Cell::Count(of.hosts),
            Cell::Count(of.live),
            Cell::Count(of.live_median),
            Cell::Count(of.live_max),
            growth,
            of.bytes.map_or(Cell::Missing, Cell::Bytes),
            Cell::text(of.since_version.as_deref()),
            Cell::Text(if of.example.1 > 0 {
                format!("{} {}", of.example.0, of.example.1)
            } else {
                String::new()
            }),
        ]
    }
}

/// The `go` statement, as people look for it.
fn place(of: &Finding) -> String {
    let function = human::short_function(&of.function);
    match (&of.file, of.line) {
        (Some(file), Some(line)) => format!("{function} {}:{line}", human::file_name(file)),
        _ => function.into_owned(),
    }
}

const COLUMNS: [(&str, bool); 14] = [
    ("id", false),
    ("state", false),
    ("owner", false),
    ("service", false),
    ("go statement", false),
    ("cause", false),
    ("hosts", true),
    ("live", true),
    ("median", true),
    ("max", true),
    ("growth/h", true),
    ("bytes", true),
    ("since", false),
    ("example", false),
];

/// The answer, by owner.
pub(super) fn answer(shown: &[Shown], is_empty: bool) -> Answer {
    let mut answer =
        Answer { schema: "golife.fleet/1", title: "Goroutine leaks".into(), ..Answer::default() };
    answer.json.insert("findings".into(), shown.iter().map(Shown::json).collect());
    let count = shown.iter().filter(|shown| shown.state != State::Fixed).count();
    answer.words(match (is_empty, count) {
        (true, _) => "No sweep is there of the time that was asked for.".into(),
        (false, 0) => "No leak is seen on any host.".into(),
        (false, 1) => "1 finding.".into(),
        (false, count) => format!("{count} findings, worst first: by bytes × growth × hosts."),
    });
    let mut owners: Vec<&Option<String>> = Vec::new();
    for one in shown {
        if !owners.contains(&&one.owner) {
            owners.push(&one.owner);
        }
    }
    for owner in &owners {
        let its = || shown.iter().filter(|shown| shown.owner == **owner);
        let table = Table { rows: its().map(Shown::row).collect(), ..Table::new(COLUMNS) };
        let heading = (owners.len() > 1).then(|| owner.as_deref().unwrap_or("nobody's").to_owned());
        answer.table(heading, table);
    }
    for one in shown.iter().filter(|one| one.state != State::Fixed) {
        let of = &one.finding;
        let growth = of.growth_per_h.map_or(String::new(), |growth| {
            format!(", {} more per hour on the median host", rounded(growth))
        });
        let blame = of.blame.as_ref().map_or(String::new(), |blame| format!(" Most go back to {blame}."));
        let means = golife::output::rules::rule(cause(of.cause.as_deref())).means;
        answer.words(format!("{}: {means}{growth}.{blame} {}", of.id, of.advice()));
    }
    answer
}
