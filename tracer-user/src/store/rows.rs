//! A report becomes the rows of a sweep file: one for each creation site of each group of processes that run the same build of
//! the same service.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use super::row::{Counts, Row};
use crate::report::{BlamedFrame, Frame, Loss, Mode, Process, Report, Site, Verdict};
use crate::stats::durations::HdrError;
use crate::stats::{Durations, native};

/// Longest text in a row, in bytes. Names of generic functions are long; a longer one comes from no compiler.
const MOST_BYTES: usize = 4096;
/// Most reasons of a verdict in a row.
const MOST_EVIDENCE: usize = 8;
/// Most things that a row's goroutines wait for.
const MOST_WAITS: usize = 16;

/// What tells the rows of one sweep and one host apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    service: String,
    version: Option<String>,
    build_id: Option<String>,
    module: Option<String>,
    function: String,
    file: Option<String>,
    line: Option<u32>,
    ordinal: Option<u32>,
    entry: String,
}

/// Makes the rows of a report. `with_hdr` adds the whole distribution of lifetimes, which is most of a row.
///
/// # Errors
/// A distribution in a saved report cannot be decoded.
pub fn rows(report: &Report, host: &str, time_ms: i64, with_hdr: bool) -> Result<Vec<Row>, HdrError> {
    let mut groups: BTreeMap<Key, Group> = BTreeMap::new();
    for process in report.processes.iter().filter(|process| process.mode != Mode::Unsupported) {
        for site in process.sites.iter().filter(|site| !site.other) {
            let group = groups.entry(key(process, site)).or_default();
            group.add(process, site, &report.loss, report.window.duration_ns)?;
        }
    }
    let host = bounded(host);
    let made = groups.into_iter().map(|(key, group)| group.finish(key, &host, time_ms, with_hdr));
    Ok(made.collect())
}

fn key(process: &Process, site: &Site) -> Key {
    let go = process.go.as_ref();
    Key {
        service: bounded(process.service()),
        version: process.version().map(bounded),
        build_id: process.build_id.as_deref().map(bounded),
        module: go.and_then(|go| go.module.as_deref()).map(bounded),
        function: bounded(&site.site.function),
        file: site.site.file.as_deref().map(bounded),
        line: site.site.line,
        ordinal: site.ordinal,
        entry: bounded(&site.entry.function),
    }
}

/// What the processes of a group have in one row.
#[derive(Default)]
struct Group {
    row: Row,
    lifetimes: Durations,
    waits: BTreeMap<String, u64>,
    /// Number of the goroutines of the process that is the example.
    most: Option<u64>,
    /// Number of those whose process has the worst verdict.
    judged: Option<u64>,
}

impl Group {
    fn add(&mut self, process: &Process, site: &Site, loss: &Loss, window_ns: u64) -> Result<(), HdrError> {
        let row = &mut self.row;
        row.processes += 1;
        let started = process.start_time.as_deref().and_then(|time| humantime::parse_rfc3339(time).ok());
        let started = started.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        row.started_ms = row.started_ms.max(started.map(|since| since.as_millis() as i64));
        for (sum, more) in [
            (&mut row.created, site.created),
            (&mut row.exited, site.exited),
            (&mut row.live, site.live),
            (&mut row.at_attach, site.at_attach),
        ] {
            *sum = sum.saturating_add(more);
        }
        row.counts = row.counts.and(counts(process, site, loss));
        row.dropped = loss.dropped;
        row.window_ns = window_ns;
        row.go_version = process.go.as_ref().and_then(|go| go.version.as_deref()).map(bounded);
        if let Some(oldest) = site.oldest
            && row.oldest_ns.is_none_or(|before| before < oldest.age_ns)
        {
            (row.oldest_ns, row.oldest_at_least) = (Some(oldest.age_ns), Some(oldest.at_least));
        }
        if let Some(bytes) = site.stack_bytes {
            row.stack_bytes = Some(row.stack_bytes.unwrap_or(0).saturating_add(bytes));
        }
        for waiting in site.waiting.iter().flatten() {
            let sum = self.waits.entry(bounded(&waiting.reason)).or_default();
            *sum = sum.saturating_add(waiting.count);
        }
        if let Some(lifetime) = &site.lifetime {
            self.lifetimes.merge(&lifetime.durations()?);
        }
        if self.most.is_none_or(|most| most < site.live) {
            self.most = Some(site.live);
            (row.pid, row.memory_limit) = (process.pid, process.memory_limit);
            row.image =
                process.container.as_ref().and_then(|container| container.image.as_deref()).map(bounded);
        }
        // Equal verdicts are told by the process in which more live.
        if self.judged.is_none_or(|judged| (row.level, judged) < (site.verdict.level, site.live)) {
            self.judged = Some(site.live);
            judge(row, &site.verdict, site.blame.as_deref().unwrap_or_default());
        }
        Ok(())
    }

    fn finish(self, key: Key, host: &str, time_ms: i64, with_hdr: bool) -> Row {
        let Group { row, lifetimes, waits, .. } = self;
        let mut waits: Vec<_> = waits.into_iter().collect();
        waits.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        waits.truncate(MOST_WAITS);
        let mut buckets = BTreeMap::new();
        for (ns, count) in lifetimes.bins() {
            *buckets.entry(native::bucket(ns)).or_default() += count;
        }
        Row {
            sweep_time_ms: time_ms,
            host: host.to_owned(),
            service: key.service,
            version: key.version,
            build_id: key.build_id,
            module: key.module,
            function: key.function,
            file: key.file,
            line: key.line,
            ordinal: key.ordinal,
            entry: key.entry,
            waits,
            lifetime: buckets.into_iter().collect(),
            lifetime_count: lifetimes.count(),
            lifetime_sum_s: lifetimes.sum_ns() as f64 / 1e9,
            hdr: lifetimes.to_bytes().filter(|_| with_hdr),
            ..row
        }
    }
}

/// How far the counts of a site can be trusted.
fn counts(process: &Process, site: &Site, loss: &Loss) -> Counts {
    let lost = [loss.dropped, loss.read_faults, loss.undecodable, loss.late, site.untracked];
    match process.mode {
        Mode::Traced | Mode::Gone if lost.iter().all(|lost| *lost == 0) => Counts::Exact,
        _ => Counts::Incomplete,
    }
}

fn judge(row: &mut Row, verdict: &Verdict, blame: &[BlamedFrame]) {
    row.level = verdict.level;
    row.cause = verdict.cause.map(|cause| cause.name().to_owned());
    row.evidence = verdict.evidence.iter().take(MOST_EVIDENCE).map(|reason| bounded(&reason.text)).collect();
    row.blame = blame.first().map(|blamed| bounded(&place(&blamed.frame)));
}

fn place(frame: &Frame) -> String {
    match (&frame.file, frame.line) {
        (Some(file), Some(line)) => format!("{} {file}:{line}", frame.function),
        _ => frame.function.clone(),
    }
}

/// A text that is no longer than a row may hold.
fn bounded(text: &str) -> String {
    let end = text.floor_char_boundary(MOST_BYTES);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Cause, Evidence, EvidenceKind, Lifetime, Oldest, Run, Selection, Waiting};

    fn site(live: u64, level: crate::report::Level) -> Site {
        let frame =
            |function: &str| Frame { function: function.into(), file: Some("/a.go".into()), line: Some(7) };
        let mut lifetimes = Durations::default();
        lifetimes.record_n(1_000_000_000, live);
        let verdict = Verdict {
            level,
            evidence: vec![Evidence::new(EvidenceKind::Growth, format!("{live} more"))],
            cause: Some(Cause::ChanSend),
            ..Verdict::default()
        };
        Site {
            site: frame("main.leak"),
            ordinal: Some(2),
            entry: frame("main.leak.func1"),
            created: live + 1,
            exited: 1,
            live,
            oldest: Some(Oldest { age_ns: live, at_least: live > 5 }),
            lifetime: Some(Lifetime {
                count: live,
                min_ns: 1_000_000_000,
                mean_ns: 1_000_000_000,
                max_ns: 1_000_000_000,
                hdr: lifetimes.into(),
                ..Lifetime::default()
            }),
            stack_bytes: Some(live * 2048),
            waiting: Some(vec![Waiting { reason: "chan send".into(), count: live, ..Waiting::default() }]),
            verdict,
            ..Site::default()
        }
    }

    fn report(processes: Vec<Process>, loss: Loss) -> Report {
        let run = Run {
            tool: crate::report::Tool::default(),
            window: crate::report::BootWindow {
                start_ns: 0,
                end_ns: 9,
                end: std::time::SystemTime::UNIX_EPOCH,
            },
            overhead: crate::report::Overhead::default(),
            untraced: Vec::new(),
        };
        run.report(loss, processes, &Selection::default())
    }

    fn process(pid: u32, sites: Vec<Site>) -> Process {
        Process {
            pid,
            start_time: Some(format!("2026-11-28T00:00:0{pid}Z")),
            exe: Some("/srv/api".into()),
            build_id: Some("abc".into()),
            sites,
            ..Process::default()
        }
    }

    #[test]
    fn processes_of_one_build_share_a_row() {
        use crate::report::Level;
        let report = report(
            vec![
                process(1, vec![site(3, Level::Suspect)]),
                process(2, vec![site(9, Level::Healthy)]),
                Process { build_id: Some("def".into()), ..process(3, vec![site(1, Level::Watch)]) },
            ],
            Loss::default(),
        );
        let rows = rows(&report, "h", 5, true).unwrap();
        assert_eq!(rows.len(), 2);
        let row = &rows[0];
        assert_eq!((row.processes, row.created, row.exited, row.live), (2, 14, 2, 12));
        assert_eq!(
            (row.pid, row.level),
            (2, Level::Suspect),
            "the example has most, the verdict is the worst"
        );
        assert_eq!(row.evidence, ["3 more"]);
        assert_eq!((row.oldest_ns, row.oldest_at_least), (Some(9), Some(true)));
        assert_eq!(row.stack_bytes, Some(12 * 2048));
        assert_eq!(row.waits, [("chan send".to_owned(), 12)]);
        assert_eq!((row.lifetime.clone(), row.lifetime_count), (vec![(0, 12)], 12));
        assert!((row.lifetime_sum_s - 12.0).abs() < 1e-9);
        assert!(row.hdr.is_some());
        assert_eq!(row.started_ms, Some(1_795_824_002_000), "the youngest");
        assert_eq!((row.counts, row.window_ns, row.version.as_deref()), (Counts::Exact, 9, Some("abc")));
    }

    #[test]
    fn what_was_lost_makes_counts_incomplete() {
        use crate::report::Level;
        let lost = Loss { dropped: 4, ..Loss::default() };
        let traced = vec![process(1, vec![site(3, Level::Watch)])];
        let row = &rows(&report(traced.clone(), lost), "h", 5, false).unwrap()[0];
        assert_eq!((row.counts, row.dropped, row.hdr.is_none()), (Counts::Incomplete, 4, true));
        let scanned = traced.into_iter().map(|process| Process { mode: Mode::Scanned, ..process }).collect();
        assert_eq!(
            rows(&report(scanned, Loss::default()), "h", 5, false).unwrap()[0].counts,
            Counts::Incomplete
        );
    }
}
