//! Writes findings as SARIF 2.1.0 (<https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>), which code-scanning
//! pages and editors show beside the lines that they are about.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use serde::Serialize;

use super::finding::{Shown, not_shown, silenced_how};
use super::json;
use super::names::{function, located, numbers, starts_program};
use super::rules::{Rule, rule};
use super::sources::{Sources, uri};
use crate::assemble::alike::{self, Alike, Program};
use crate::go::standard::is_of_program;
use crate::human::{clean, count};
use crate::report::{Cause, ELIDED, Frame, LedBy, Level, Mode, Report, Site, Sort, Waiting};

/// The schema that documents are valid by.
const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";
/// The name of the directory that paths of the program are relative to.
const ROOT: &str = "%SRCROOT%";
/// The name of the places that paths of programs built with `-trimpath` are relative to, if they are not the program's own.
const TRIMMED: &str = "TRIMPATH";
/// The name and version of the fingerprint.
const FINGERPRINT: &str = "golifeSite/v1";
/// Most places each at which goroutines wait, and most sites that follow from the first one.
const WAITS: usize = 3;
const PARTS: usize = 12;

/// Writes a result for each finding, and for what is ignored or known but would be one. What is not known has no field.
///
/// # Errors
/// The document cannot be written to `out`.
pub fn write(report: &Report, sources: &Sources, out: &mut dyn Write) -> io::Result<()> {
    json::write(&Page { report, sources }.log(), out)
}

#[derive(Serialize)]
struct Log {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [Run; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    tool: Tool,
    invocations: [Invocation; 1],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    original_uri_base_ids: BTreeMap<&'static str, Artifact>,
    results: Vec<Finding>,
}

#[derive(Serialize)]
struct Tool {
    driver: Driver,
}

#[derive(Serialize)]
struct Driver {
    name: &'static str,
    version: String,
    rules: Vec<Descriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    id: &'static str,
    short_description: Message,
    full_description: Message,
    help: Message,
    properties: Tags,
}

#[derive(Serialize)]
struct Tags {
    tags: [&'static str; 2],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Invocation {
    execution_successful: bool,
    start_time_utc: String,
    end_time_utc: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_execution_notifications: Vec<Notification>,
}

#[derive(Serialize)]
struct Notification {
    level: &'static str,
    message: Message,
}

#[derive(Serialize)]
struct Message {
    text: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    rule_id: &'static str,
    rule_index: usize,
    level: &'static str,
    message: Message,
    locations: [Location; 1],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    related_locations: Vec<Location>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stacks: Vec<Stack>,
    partial_fingerprints: BTreeMap<&'static str, String>,
    /// How it stands against the file of `--baseline`.
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline_state: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    suppressions: Vec<Suppression>,
    properties: Properties,
}

#[derive(Serialize)]
struct Suppression {
    kind: &'static str,
    justification: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    verdict: &'static str,
    live: u64,
    created: u64,
    exited: u64,
    at_attach: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_ns: Option<u64>,
    /// Whether it may be older.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_at_least: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    static_check: Option<crate::report::StaticCheck>,
    pids: Vec<u32>,
    /// The tests that have left its goroutines behind, by package and name.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    tests: BTreeSet<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Location {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    physical_location: Option<Physical>,
    logical_locations: Vec<Logical>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Message>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Physical {
    artifact_location: Artifact,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<Region>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Artifact {
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri_base_id: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<Message>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Logical {
    fully_qualified_name: String,
    kind: &'static str,
}

#[derive(Serialize)]
struct Stack {
    message: Message,
    frames: Vec<StackFrame>,
}

#[derive(Serialize)]
struct StackFrame {
    location: Location,
}

impl Message {
    fn new(text: impl Into<String>) -> Message {
        Message { text: text.into() }
    }
}

struct Page<'report> {
    report: &'report Report,
    sources: &'report Sources,
}

impl Page<'_> {
    fn log(&self) -> Log {
        let programs = alike::programs(&self.report.processes, Sort::Verdict);
        let shown: Vec<Shown> = programs.iter().flat_map(reported).collect();
        let mut rules: Vec<(&str, Rule)> =
            shown.iter().map(|shown| rule(cause(shown))).map(|rule| (rule.id, rule)).collect();
        rules.sort_by_key(|(id, _)| *id);
        rules.dedup_by_key(|(id, _)| *id);
        let fingerprints = fingerprints(&shown);
        let results: Vec<Finding> = shown
            .iter()
            .zip(fingerprints)
            .map(|(shown, fingerprint)| {
                let id = rule(cause(shown)).id;
                let at = rules.iter().position(|(other, _)| *other == id).unwrap_or_default();
                self.finding(shown, id, at, fingerprint)
            })
            .collect();
        let window = &self.report.window;
        let invocation = Invocation {
            execution_successful: true,
            start_time_utc: window.start.clone(),
            end_time_utc: window.end.clone(),
            tool_execution_notifications: self.notifications(),
        };
        let version = self.report.tool.version.clone();
        let rules = rules.into_iter().map(|(_, rule)| descriptor(&rule)).collect();
        let run = Run {
            tool: Tool { driver: Driver { name: "golife", version, rules } },
            invocations: [invocation],
            original_uri_base_ids: self.bases(&results),
            results,
        };
        Log { schema: SCHEMA, version: "2.1.0", runs: [run] }
    }

    fn finding(&self, shown: &Shown, id: &'static str, at: usize, fingerprint: String) -> Finding {
        let Alike { site, pids, .. } = shown.alike;
        let line = shown.line();
        let suppressed = |justification| Suppression { kind: "external", justification };
        Finding {
            rule_id: id,
            rule_index: at,
            level: match shown.level {
                Level::Proven => "error",
                Level::Suspect => "warning",
                _ => "note",
            },
            message: Message::new(message(shown)),
            locations: [self.location(shown.program, line)],
            related_locations: self.related(shown, line),
            stacks: site
                .waiting
                .iter()
                .flatten()
                .take(WAITS)
                .filter_map(|one| self.stack(shown, one))
                .collect(),
            partial_fingerprints: BTreeMap::from([(FINGERPRINT, fingerprint)]),
            baseline_state: self
                .report
                .baseline
                .as_ref()
                .map(|_| if site.known { "unchanged" } else { "new" }),
            suppressions: silenced_how(site).map(suppressed).into_iter().collect(),
            properties: Properties {
                verdict: shown.level.name(),
                live: site.live,
                created: site.created,
                exited: site.exited,
                at_attach: site.at_attach,
                oldest_ns: site.oldest.map(|oldest| oldest.age_ns),
                oldest_at_least: site.oldest.map(|oldest| oldest.at_least),
                static_check: shown.static_check(),
                pids: pids.clone(),
                tests: self.tests(shown),
                command: shown.program.process.command.as_ref().map(|command| clean(command)),
            },
        }
    }

    fn tests(&self, shown: &Shown) -> BTreeSet<String> {
        let Site { site, entry, .. } = &shown.alike.site;
        let of = self.report.tests.iter().filter(|test| shown.alike.pids.contains(&test.pid));
        let of = of.filter(|test| test.leaked.iter().any(|left| left.site == *site && left.entry == *entry));
        of.map(|test| clean(format!("{} {}", test.package.as_deref().unwrap_or_default(), test.test).trim()))
            .collect()
    }

    /// The other places that belong to it, each with what happens there.
    fn related(&self, shown: &Shown, line: &Frame) -> Vec<Location> {
        let site = &shown.alike.site;
        let mut places: Vec<(&Frame, String)> = Vec::new();
        if site.site != *line && !starts_program(&site.site) {
            places.push((&site.site, "created here".into()));
        }
        for waiting in site.waiting.iter().flatten().take(WAITS) {
            let Some(frame) = waiting.at.first() else { continue };
            places.push((
                frame,
                format!("blocked: {} in {} here", count(waiting.count), clean(&waiting.reason)),
            ));
            // The library's line is not the reviewer's.
            let own = waiting.at.iter().skip(1).find(|frame| is_own(shown.program, frame));
            if let Some(own) = own.filter(|_| !is_own(shown.program, frame)) {
                places.push((own, "in this call of the program".into()));
            }
        }
        if let Some(blamed) = shown.blamed() {
            let (n, of) = (count(blamed.count), count(shown.alike.live_of_most));
            let what = match blamed.by {
                LedBy::Call => "this call",
                LedBy::Look => "this call, which their creators are still in,",
                LedBy::Statement => "a go statement here",
            };
            places.push((&blamed.frame, format!("blamed: {what} led to {n} of {of}")));
        }
        for part in shown.following.iter().take(PARTS) {
            let part = &part.site;
            let (n, what) = (count(part.live), function(&part.entry));
            places.push((&part.site, format!("{n} more of {what}, created here, follow from it")));
        }
        let known = places.into_iter().filter(|(frame, _)| frame.file.is_some());
        let location = |(at, (frame, text)): (usize, (&Frame, String))| Location {
            id: Some(at + 1),
            message: Some(Message::new(text)),
            ..self.location(shown.program, frame)
        };
        known.enumerate().map(location).collect()
    }

    fn stack(&self, shown: &Shown, waiting: &Waiting) -> Option<Stack> {
        let frames = waiting.at.iter().filter(|frame| frame.function != ELIDED);
        let frames: Vec<_> =
            frames.map(|frame| StackFrame { location: self.location(shown.program, frame) }).collect();
        let text = format!("{} in {}", count(waiting.count), clean(&waiting.reason));
        (!frames.is_empty()).then(|| Stack { message: Message::new(text), frames })
    }

    fn location(&self, program: &Program, frame: &Frame) -> Location {
        let name = Logical { fully_qualified_name: clean(&frame.function), kind: "function" };
        let physical = frame.file.as_ref().map(|file| Physical {
            artifact_location: self.artifact(file, is_own(program, frame)),
            region: frame.line.filter(|&line| line > 0).map(|start_line| Region { start_line }),
        });
        Location { physical_location: physical, logical_locations: vec![name], ..Location::default() }
    }

    fn artifact(&self, file: &str, is_own: bool) -> Artifact {
        let (path, base) = match self.sources.relative_of_program(file, is_own) {
            Some(relative) => (uri(relative), Some(ROOT)),
            None if file.starts_with('/') => (format!("file://{}", uri(file)), None),
            None => (uri(file), Some(TRIMMED)),
        };
        Artifact { uri: Some(path), uri_base_id: base, description: None }
    }

    /// Where the places are that paths are relative to, of those that are used.
    fn bases(&self, results: &[Finding]) -> BTreeMap<&'static str, Artifact> {
        let locations = results.iter().flat_map(|result| {
            let frames = result.stacks.iter().flat_map(|stack| &stack.frames);
            let related = result.related_locations.iter();
            result.locations.iter().chain(related).chain(frames.map(|frame| &frame.location))
        });
        let used = locations
            .filter_map(|location| location.physical_location.as_ref()?.artifact_location.uri_base_id);
        let base = |name: &'static str| {
            let root = self.sources.root().filter(|_| name == ROOT);
            let about = match name {
                ROOT => "the root of the program's sources",
                _ => "the module cache, or src in Go's own directory, of a program built with -trimpath",
            };
            let uri = root.map(|root| format!("file://{}/", uri(&root.to_string_lossy())));
            Artifact { uri, uri_base_id: None, description: Some(Message::new(about)) }
        };
        used.map(|name| (name, base(name))).collect()
    }

    /// What the results do not say: what was not seen, and what is not known yet.
    fn notifications(&self) -> Vec<Notification> {
        let mut all = Vec::new();
        let mut say = |level, text: String| all.push(Notification { level, message: Message::new(text) });
        for process in self.report.processes.iter().filter(|process| process.mode == Mode::Unsupported) {
            let why = process.detail.as_deref().unwrap_or("it cannot be traced");
            say("warning", clean(&format!("process {} was not seen: {why}", process.pid)));
        }
        let dropped = self.report.loss.dropped;
        if dropped > 0 {
            say("warning", format!("{} records were lost", count(dropped)));
        }
        let summary = &self.report.summary;
        if summary.unknown > 0 {
            let (unknown, all) = (count(summary.unknown), count(summary.sites));
            say("note", format!("{unknown} of {all} sites cannot be told yet"));
        }
        if let Some(hidden) = not_shown(self.report) {
            say("note", hidden);
        }
        if let Some(outside) = self.sources.outside() {
            say("note", outside);
        }
        all
    }
}

/// The findings of a program, and the sites that would be some if they were not ignored or known.
fn reported(program: &Program) -> Vec<Shown<'_>> {
    let silenced = program.sites.iter().filter(|alike| alike.site.is_silenced());
    let silenced = silenced.filter(|alike| alike.site.verdict.level >= Level::Watch);
    Shown::findings(program).chain(silenced.map(|alike| Shown::alone(program, alike))).collect()
}

fn cause(shown: &Shown) -> Option<Cause> {
    shown.alike.site.verdict.cause
}

fn is_own(program: &Program, frame: &Frame) -> bool {
    let module = program.process.go.as_ref().and_then(|go| go.module.as_deref());
    is_of_program(&frame.function, module)
}

fn descriptor(rule: &Rule) -> Descriptor {
    Descriptor {
        id: rule.id,
        short_description: Message::new(rule.means),
        full_description: Message::new(format!("{}.", rule.means)),
        help: Message::new(format!("{}. {}", rule.means, rule.remedy)),
        properties: Tags { tags: ["goroutine-leak", "reliability"] },
    }
}

/// What is wrong, how that is known, and what to do about it.
fn message(shown: &Shown) -> String {
    let verdict = &shown.alike.site.verdict;
    let evidence: Vec<String> = verdict.evidence.iter().map(|evidence| clean(&evidence.text)).collect();
    let mut text = format!("{}, created at {}", shown.what(), located(&shown.alike.site.site));
    if !evidence.is_empty() {
        text += &format!(": {}", evidence.join("; "));
    }
    for sentence in verdict.advice.iter().map(|advice| format!("To do: {}", clean(advice))) {
        text += &format!(". {sentence}");
    }
    if let Some(check) = shown.check_reports() {
        text += &format!(". {check}");
    }
    text + "."
}

/// A name for each finding that stays the same where lines move and counts change: its statement by function and ordinal, the
/// function that it starts and its cause. Findings with the same, as where the ordinal is not known, are numbered by their lines.
fn fingerprints(shown: &[Shown]) -> Vec<String> {
    let name = |shown: &Shown| {
        let site = &shown.alike.site;
        let module = shown.program.process.go.as_ref().and_then(|go| go.module.as_deref());
        let ordinal = site.ordinal.map(|ordinal| format!("#{ordinal}")).unwrap_or_default();
        let statement = format!("{}{ordinal}", site.site.function);
        let rule = rule(cause(shown)).id;
        let parts = [module.unwrap_or_default(), &statement, &site.entry.function, rule];
        parts.map(clean).join(" ")
    };
    let names: Vec<(String, Option<u32>)> =
        shown.iter().map(|shown| (name(shown), shown.alike.site.site.line)).collect();
    let numbers = numbers(&names);
    let numbered = |((name, _), number)| if number == 1 { name } else { format!("{name} {number}") };
    names.into_iter().zip(numbers).map(numbered).collect()
}

#[cfg(test)]
mod tests;
