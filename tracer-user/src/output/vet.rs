//! Writes findings as `go vet` prints its own, `file:line: message`, which editors and CI read as a list of places to go to.

use std::io::{self, Write};

use super::finding::Shown;
use super::names::{located, place};
use super::sources::Sources;
use crate::assemble::alike;
use crate::human::{clean, count};
use crate::report::{EvidenceKind, Report, Sort};

/// Writes a line for each finding: the place where the goroutines are created, or else where the program led to them, what is
/// wrong, where they wait, and what to do.
///
/// # Errors
/// A line cannot be written to `out`.
pub fn write(report: &Report, sources: &Sources, out: &mut dyn Write) -> io::Result<()> {
    for program in &alike::programs(&report.processes, Sort::Verdict) {
        for shown in Shown::findings(program) {
            writeln!(out, "{}: {}", position(&shown, sources), message(&shown))?;
        }
    }
    Ok(())
}

/// Where it is, in the form of Go's own positions: what is not known is left out, and `-` is a place of which nothing is.
fn position(shown: &Shown, sources: &Sources) -> String {
    let line = shown.line();
    let Some(file) = &line.file else { return "-".into() };
    let file = clean(&sources.path_from_here(file));
    line.line.map_or(file.clone(), |line| format!("{file}:{line}"))
}

fn message(shown: &Shown) -> String {
    let site = &shown.alike.site;
    let mut text = format!("{}: {}", shown.level.name(), shown.what());
    if *shown.line() != site.site {
        text += &format!(", created at {}", located(&site.site));
    }
    if let Some(waiting) = site.waiting.iter().flatten().next() {
        let at = waiting.at.first().map(|frame| format!(" at {}", place(frame))).unwrap_or_default();
        text += &format!(", {} in {}{at}", count(waiting.count), clean(&waiting.reason));
    }
    // Of which tests it is, is said in any case.
    let told = site.verdict.evidence.iter().enumerate();
    let told = told.filter(|(at, evidence)| *at == 0 || evidence.kind == EvidenceKind::Test);
    let told: Vec<String> = told.map(|(_, evidence)| clean(&evidence.text)).collect();
    if !told.is_empty() {
        text += &format!(" ({})", told.join("; "));
    }
    let advice = site.verdict.advice.as_ref().map(|advice| clean(advice));
    for more in advice.into_iter().chain(shown.check_reports().map(Into::into)) {
        text += &format!("; {more}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::output::testing::{go_tests, golden, review};
    use crate::report::Evidence;

    fn lines(report: &Report) -> String {
        let sources = Sources::find(report, None, Some(Path::new("/src/api")));
        let mut bytes = Vec::new();
        write(report, &sources, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn each_finding_is_a_line_with_a_place() {
        let text = lines(&review());
        golden("review.vet.txt", &text);
        let form = regex::Regex::new(r"^[^:]+:[0-9]+: (proven|suspect|watch): .+$").unwrap();
        assert_eq!(text.lines().count(), 4);
        assert!(text.lines().all(|line| form.is_match(line)), "{text}");
    }

    #[test]
    fn the_tests_are_named_whatever_else_is_known() {
        let mut report = go_tests();
        for site in report.processes.iter_mut().flat_map(|process| &mut process.sites) {
            site.verdict.evidence.insert(0, Evidence::new(EvidenceKind::Growth, "live grew by 3"));
        }
        let text = lines(&report);
        assert!(text.contains("(live grew by 3; 3 of 3 outlived TestPool/full, TestPool/idle)"), "{text}");
    }

    #[test]
    fn names_cannot_forge_lines_and_unknown_places_are_none() {
        let mut report = review();
        for site in report.processes.iter_mut().flat_map(|process| &mut process.sites) {
            site.entry.function = "main.a\nb.go:1: c".into();
            site.site.line = None;
        }
        let text = lines(&report);
        assert_eq!(text.lines().count(), 4);
        assert!(text.starts_with("cmd/api/main.go: proven: "), "{text}");
        assert!(!text.contains(":0"), "{text}");
        report.processes[0].sites[0].site.file = None;
        assert!(lines(&report).starts_with("-: proven: "));
    }
}
