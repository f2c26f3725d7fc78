//! The life of findings: what was seen when, and what is known and acknowledged. It lies beside the data as JSON lines, a new file
//! for each change, so that any engine reads it and two writers never overwrite each other.
//!
//! `state/findings/TIME.jsonl` has all findings as they were by the sweeps up to that time. `state/acks/TIME-RANDOM.jsonl` has
//! acknowledgements; of two for one finding, the later one counts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Finding, Seen};
use crate::arguments::ms;
use crate::store::{Refused, Store};

/// The folder of findings.
const FINDINGS: &str = "state/findings";
/// The folder of acknowledgements.
const ACKS: &str = "state/acks";
/// How often another name is tried where there is a file already.
const NAMES: u32 = 16;

/// What a finding is by what was known before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nobody has seen it before.
    New,
    /// It was there before.
    Known,
    /// It is on more hosts, or more of it is on the median host, than when it was new or worse the last time.
    Worse,
    /// It is absent although the site was seen executing.
    Fixed,
    /// It was fixed, and is back.
    Regressed,
}

impl State {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            State::New => "new",
            State::Known => "known",
            State::Worse => "worse",
            State::Fixed => "fixed",
            State::Regressed => "regressed",
        }
    }
}

/// What is remembered of a finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "see docs/fleet.md, State")]
pub struct Known {
    pub id: String,
    pub state: State,
    pub module: Option<String>,
    pub function: String,
    pub file: Option<String>,
    pub line: Option<i64>,
    pub statement: String,
    pub cause: Option<String>,
    pub service: String,
    pub since_version: Option<String>,
    pub first_ms: i64,
    pub last_ms: i64,
    pub fixed_ms: Option<i64>,
    pub versions: BTreeSet<String>,
    pub hosts: BTreeSet<String>,
    /// Hosts and live goroutines on the median host, by which it is told whether it is worse.
    pub base_hosts: u64,
    pub base_live: u64,
}

/// All that is remembered, by id.
pub type Memory = BTreeMap<String, Known>;

/// An acknowledgement, or that there is none any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// When it was given, in ms since 1970.
    pub time_ms: i64,
    /// The finding.
    pub id: String,
    /// Until when it holds, in ms since 1970; `None` takes it back.
    pub until_ms: Option<i64>,
    /// Why.
    pub why: Option<String>,
}

/// What was remembered before a time, and the name of the file for that time.
///
/// # Errors
/// The store refuses, or does not answer.
pub async fn remembered(store: &Store, as_of: i64) -> Result<Memory, Refused> {
    let before = findings_path(as_of);
    let (listed, _) = store.list(FINDINGS).await?;
    let paths = listed.iter().map(|meta| meta.location.to_string());
    let Some(path) = paths.filter(|path| path.ends_with(".jsonl") && *path < before).max() else {
        return Ok(Memory::new());
    };
    let known: Vec<Known> = lines(store, &path).await?;
    Ok(known.into_iter().map(|known| (known.id.clone(), known)).collect())
}

/// Keeps what is known as of a time, unless somebody has done so.
///
/// # Errors
/// The store refuses, or does not answer.
pub async fn remember(store: &Store, as_of: i64, memory: &Memory) -> Result<(), Refused> {
    store.put_new(&findings_path(as_of), text(memory.values())).await.map(|_| ())
}

/// The acknowledgements that hold at a time, by id.
///
/// # Errors
/// The store refuses, or does not answer.
pub async fn acks(store: &Store, now: i64) -> Result<BTreeMap<String, Ack>, Refused> {
    let mut all: Vec<Ack> = Vec::new();
    for meta in store.list(ACKS).await?.0 {
        all.extend(lines::<Ack>(store, meta.location.as_ref()).await?);
    }
    all.sort_by_key(|ack| ack.time_ms);
    let mut last: BTreeMap<String, Ack> = all.into_iter().map(|ack| (ack.id.clone(), ack)).collect();
    last.retain(|_, ack| ack.until_ms.is_some_and(|until| until > now));
    Ok(last)
}

/// Writes acknowledgements, in a file of their own.
///
/// # Errors
/// The store refuses, or does not answer.
pub async fn acknowledge(store: &Store, acks: &[Ack]) -> anyhow::Result<()> {
    let time = compact(ms(SystemTime::now()));
    for _ in 0..NAMES {
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), &time);
        if store.put_new(&format!("{ACKS}/{time}-{random:016x}.jsonl"), text(acks.iter())).await? {
            return Ok(());
        }
    }
    anyhow::bail!("{}: cannot find a free name below {ACKS}", store.name())
}

fn text<T: Serialize>(lines: impl Iterator<Item = T>) -> Vec<u8> {
    let mut text = String::new();
    for line in lines {
        text += &serde_json::to_string(&line).unwrap_or_default();
        text.push('\n');
    }
    text.into_bytes()
}

/// The lines of an object that can be read; others are those of a newer golife.
async fn lines<T: for<'a> Deserialize<'a>>(store: &Store, path: &str) -> Result<Vec<T>, Refused> {
    let bytes = store.get(path).await?.unwrap_or_default();
    let lines = bytes.split(|byte| *byte == b'\n');
    Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

fn findings_path(as_of: i64) -> String {
    format!("{FINDINGS}/{}.jsonl", compact(as_of))
}

/// A time as it stands in names, whose order is that of times.
fn compact(time_ms: i64) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(time_ms.clamp(0, 253_402_300_799_999).unsigned_abs());
    humantime::format_rfc3339_millis(time).to_string().replace(['-', ':'], "")
}

/// What becomes of the findings of a statement: the state of each, those that are fixed, and what is to be remembered.
pub fn live_on(seen: &Seen, memory: &mut Memory, fixed_after: usize, as_of: i64) -> Vec<(State, String)> {
    let mut states = Vec::new();
    for finding in &seen.findings {
        let before = memory.get(&finding.id);
        let state = match before {
            None => State::New,
            Some(known) if known.state == State::Fixed => State::Regressed,
            Some(known) if is_worse(finding, known) => State::Worse,
            Some(_) => State::Known,
        };
        let known = known(finding, state, before, &seen.statement);
        states.push((state, known.id.clone()));
        memory.insert(known.id.clone(), known);
    }
    let first = seen.points.first();
    let is_its = |known: &&mut Known| {
        first.is_some_and(|point| point.function == known.function && point.module == known.module)
            && known.statement == seen.statement
            && known.state != State::Fixed
            && !seen.findings.iter().any(|finding| finding.id == known.id)
    };
    for known in memory.values_mut().filter(is_its) {
        if clean_sweeps(seen, known) >= fixed_after.max(1) {
            (known.state, known.fixed_ms) = (State::Fixed, Some(as_of));
            states.push((State::Fixed, known.id.clone()));
        }
    }
    states
}

fn is_worse(finding: &Finding, known: &Known) -> bool {
    // Half as many hosts again, but not one more of one; or twice as many on the median host.
    finding.hosts * 2 > known.base_hosts * 3 && finding.hosts > known.base_hosts + 1
        || finding.live_median >= known.base_live.max(1) * 2
}

fn known(finding: &Finding, state: State, before: Option<&Known>, statement: &str) -> Known {
    let base = before.filter(|_| state == State::Known).map(|known| (known.base_hosts, known.base_live));
    let (base_hosts, base_live) = base.unwrap_or((finding.hosts, finding.live_median));
    let earlier = before.map(|known| known.versions.clone()).unwrap_or_default();
    Known {
        id: finding.id.clone(),
        state,
        module: finding.module.clone(),
        function: finding.function.clone(),
        file: finding.file.clone(),
        line: finding.line,
        statement: statement.to_owned(),
        cause: finding.cause.clone(),
        service: finding.service.clone(),
        since_version: before
            .map_or_else(|| finding.since_version.clone(), |known| known.since_version.clone()),
        first_ms: before.map_or(finding.first_ms, |known| known.first_ms),
        last_ms: finding.last_ms,
        fixed_ms: None,
        versions: earlier.union(&finding.versions).cloned().collect(),
        hosts: finding.on.clone(),
        base_hosts,
        base_live,
    }
}

/// The number of sweeps since it was seen last in which the site executed and did not leak, on the host with most of them: one
/// that had it, or one with a version that never had it.
fn clean_sweeps(seen: &Seen, known: &Known) -> usize {
    let leaks = seen.points.iter().filter(|point| point.leaks()).map(|point| point.time_ms);
    let last = leaks.max().unwrap_or(known.last_ms).max(known.last_ms);
    let mut sweeps: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
    for point in
        seen.points.iter().filter(|point| point.time_ms > last && point.executes() && point.is_clean())
    {
        let is_other = point.version.as_ref().is_some_and(|version| !known.versions.contains(version));
        if is_other || known.hosts.contains(&point.host) {
            sweeps.entry(&point.host).or_default().insert(point.time_ms);
        }
    }
    sweeps.values().map(BTreeSet::len).max().unwrap_or(0)
}
