//! Writes a report as JUnit XML, in the form that Jenkins, GitLab and others show on their pages: a suite for each program, a
//! case for each of its sites.

mod packages;

use std::io::{self, Write};

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};

use super::finding::{Shown, not_shown, silenced_how};
use super::names::{located, numbers, processes};
use super::sources::Sources;
use crate::assemble::alike::{self, Alike, Program};
use crate::go::standard::package_path;
use crate::human::{clean, duration, imported, short_function};
use crate::report::{Level, Mode, Report, Sort};

/// The columns that the block of a finding is wide.
const WIDTH: usize = 100;

/// Writes the document. A test that leaves goroutines behind fails, and so does a site that leaks; one that is ignored or known or
/// cannot be told is skipped; a program that was not seen is a skipped case, too.
///
/// # Errors
/// The document cannot be written to `out`.
pub fn write(report: &Report, sources: &Sources, out: &mut dyn Write) -> io::Result<()> {
    let programs = alike::programs(&report.processes, Sort::Verdict);
    let mut suites = packages::suites(report, &programs, sources);
    let others = programs.iter().filter(|program| !packages::has_tests(report, program));
    suites.extend(others.map(|program| Suite::new(report, program, sources)));
    suites.extend(not_shown(report).map(|why| Suite::not_shown(report, why)));
    let mut xml = Writer::new_with_indent(out, b' ', 2);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let mut root = BytesStart::new("testsuites");
    let number = |of: fn(&Suite) -> usize| suites.iter().map(of).sum::<usize>().to_string();
    attribute(&mut root, "name", "golife");
    attribute(&mut root, "tests", &number(|suite| suite.cases.len()));
    attribute(&mut root, "failures", &number(|suite| suite.number(Outcome::is_failure)));
    attribute(&mut root, "errors", "0");
    attribute(&mut root, "skipped", &number(|suite| suite.number(Outcome::is_skipped)));
    attribute(&mut root, "time", &seconds(report.window.duration_ns));
    xml.write_event(Event::Start(root))?;
    for suite in &suites {
        suite.write(report, &mut xml)?;
    }
    xml.write_event(Event::End(BytesEnd::new("testsuites")))?;
    writeln!(xml.get_mut())
}

/// A package under test, or another program.
struct Suite {
    name: String,
    who: String,
    cases: Vec<Case>,
    /// What is to be said beside the cases.
    out: String,
    /// For how long it was watched; `None` where that is not how long its cases took.
    time_ns: Option<u64>,
}

/// A test, a site, or a program of which no site was seen.
struct Case {
    class: String,
    name: String,
    file: Option<String>,
    line: Option<u32>,
    /// Which statement of its function the site is.
    ordinal: Option<u32>,
    outcome: Outcome,
}

enum Outcome {
    Passed,
    /// It passed, and this is known of it.
    Told(String),
    Failed {
        kind: &'static str,
        message: String,
        text: String,
    },
    Skipped(String),
}

impl Outcome {
    fn is_failure(&self) -> bool {
        matches!(self, Outcome::Failed { .. })
    }

    fn is_skipped(&self) -> bool {
        matches!(self, Outcome::Skipped(_))
    }
}

impl Suite {
    fn new(report: &Report, program: &Program, sources: &Sources) -> Suite {
        let process = &program.process;
        let name = process.command.as_deref().or(process.exe.as_deref()).unwrap_or("unknown");
        let mut cases: Vec<Case> =
            program.sites.iter().map(|alike| Case::new(report, program, alike, sources)).collect();
        if process.mode == Mode::Unsupported {
            let why = process.detail.as_deref().unwrap_or("it cannot be traced");
            let outcome = Outcome::Skipped(format!("not seen: {}", clean(why)));
            let class = process.exe.as_deref().map_or("unknown".into(), clean);
            let name = "goroutines".into();
            cases.push(Case { class, name, file: None, line: None, ordinal: None, outcome });
        }
        let time_ns = Some(report.window.duration_ns);
        let mut suite = Suite { who: processes(&program.pids), cases, time_ns, ..Suite::named(&clean(name)) };
        suite.tell_apart();
        suite
    }

    fn named(name: &str) -> Suite {
        Suite { name: name.into(), who: String::new(), cases: Vec::new(), out: String::new(), time_ns: None }
    }

    /// Gives each case a name of its own, by which pages compare it with that of another run. So it has no line in it.
    fn tell_apart(&mut self) {
        for case in &mut self.cases {
            if let Some(ordinal @ 2..) = case.ordinal {
                case.name += &format!(" #{ordinal}");
            }
        }
        let names: Vec<_> = self.cases.iter().map(|case| ((&case.class, &case.name), case.line)).collect();
        let numbers = numbers(&names);
        for (case, number) in self.cases.iter_mut().zip(numbers).filter(|(_, number)| *number > 1) {
            case.name += &format!(" ({number})");
        }
    }

    /// Stands for findings that the report does not show, so that nobody takes it for a success.
    fn not_shown(report: &Report, why: String) -> Suite {
        let outcome = Outcome::Skipped(why);
        let (class, name) = ("golife".into(), "other sites".into());
        let case = Case { class, name, file: None, line: None, ordinal: None, outcome };
        let time_ns = Some(report.window.duration_ns);
        Suite { who: "all".into(), cases: vec![case], time_ns, ..Suite::named("golife") }
    }

    fn number(&self, of: fn(&Outcome) -> bool) -> usize {
        self.cases.iter().filter(|case| of(&case.outcome)).count()
    }

    fn write(&self, report: &Report, xml: &mut Writer<&mut dyn Write>) -> io::Result<()> {
        let mut suite = BytesStart::new("testsuite");
        attribute(&mut suite, "name", &self.name);
        attribute(&mut suite, "tests", &self.cases.len().to_string());
        attribute(&mut suite, "failures", &self.number(Outcome::is_failure).to_string());
        attribute(&mut suite, "errors", "0");
        attribute(&mut suite, "skipped", &self.number(Outcome::is_skipped).to_string());
        if let Some(time) = self.time_ns {
            attribute(&mut suite, "time", &seconds(time));
        }
        // The format has no time zone, and no fractions.
        attribute(&mut suite, "timestamp", report.window.start.get(..19).unwrap_or_default());
        if let Some(host) = &report.tool.host {
            attribute(&mut suite, "hostname", host);
        }
        xml.write_event(Event::Start(suite))?;
        xml.write_event(Event::Start(BytesStart::new("properties")))?;
        for (name, value) in [("golife", &report.tool.version), ("processes", &self.who)] {
            let mut property = BytesStart::new("property");
            attribute(&mut property, "name", name);
            attribute(&mut property, "value", value);
            xml.write_event(Event::Empty(property))?;
        }
        xml.write_event(Event::End(BytesEnd::new("properties")))?;
        for case in &self.cases {
            case.write(xml)?;
        }
        if !self.out.is_empty() {
            text(xml, BytesStart::new("system-out"), &self.out)?;
        }
        xml.write_event(Event::End(BytesEnd::new("testsuite")))
    }
}

impl Case {
    fn new(report: &Report, program: &Program, alike: &Alike, sources: &Sources) -> Case {
        let site = &alike.site;
        let shown = Shown::alone(program, alike);
        let block = || super::text::block(report, &shown, WIDTH);
        let evidence = site.verdict.evidence.first().map(|evidence| clean(&evidence.text));
        let why = evidence.clone().unwrap_or_else(|| "too little was seen".into());
        let outcome = match site.verdict.level {
            level if let Some(how) = silenced_how(site) => {
                Outcome::Skipped(format!("{how}; the verdict is {}", level.name()))
            }
            Level::Proven | Level::Suspect => {
                let about = evidence.map(|text| format!(": {text}")).unwrap_or_default();
                let check = shown.check_reports().map(|check| format!("; {check}")).unwrap_or_default();
                Outcome::Failed {
                    kind: site.verdict.cause.map_or("leak", |cause| cause.name()),
                    message: format!("{}, created at {}{about}{check}", shown.what(), located(&site.site)),
                    text: block(),
                }
            }
            Level::Watch => Outcome::Told(block()),
            Level::Healthy => Outcome::Passed,
            Level::Unknown => Outcome::Skipped(match site.verdict.needs_ns {
                Some(needs) => {
                    format!("cannot tell yet: {why} (a window of {} would tell more)", duration(needs))
                }
                None => format!("cannot tell yet: {why}"),
            }),
        };
        let module = program.process.go.as_ref().and_then(|go| go.module.as_deref());
        let (class, name) = if site.other {
            (module.unwrap_or("main").to_owned(), "all other sites".to_owned())
        } else {
            let (from, to) = (short_function(&site.site.function), short_function(&site.entry.function));
            let class = imported(package_path(&site.site.function)).into_owned();
            (class, format!("{from}: go {to}"))
        };
        let line = shown.line();
        let file = line.file.as_deref().map(|file| clean(sources.relative(file).unwrap_or(file)));
        let ordinal = site.ordinal;
        Case { class: clean(&class), name: clean(&name), file, line: line.line, ordinal, outcome }
    }

    fn write(&self, xml: &mut Writer<&mut dyn Write>) -> io::Result<()> {
        let mut case = BytesStart::new("testcase");
        attribute(&mut case, "classname", &self.class);
        attribute(&mut case, "name", &self.name);
        if let Some(file) = &self.file {
            attribute(&mut case, "file", file);
        }
        if let Some(line) = self.line {
            attribute(&mut case, "line", &line.to_string());
        }
        let (mut within, text) = match &self.outcome {
            Outcome::Passed => return xml.write_event(Event::Empty(case)),
            Outcome::Told(text) => (BytesStart::new("system-out"), Some(text)),
            Outcome::Failed { text, .. } => (BytesStart::new("failure"), Some(text)),
            Outcome::Skipped(_) => (BytesStart::new("skipped"), None),
        };
        match &self.outcome {
            Outcome::Failed { kind, message, .. } => {
                attribute(&mut within, "message", message);
                attribute(&mut within, "type", kind);
            }
            Outcome::Skipped(why) => attribute(&mut within, "message", why),
            Outcome::Passed | Outcome::Told(_) => {}
        }
        xml.write_event(Event::Start(case))?;
        match text {
            Some(text) => self::text(xml, within, text)?,
            None => xml.write_event(Event::Empty(within))?,
        }
        xml.write_event(Event::End(BytesEnd::new("testcase")))
    }
}

fn text(xml: &mut Writer<&mut dyn Write>, element: BytesStart, text: &str) -> io::Result<()> {
    let end = element.to_end().into_owned();
    xml.write_event(Event::Start(element))?;
    xml.write_event(Event::Text(BytesText::new(&allowed(text))))?;
    xml.write_event(Event::End(end))
}

fn attribute(element: &mut BytesStart, name: &str, value: &str) {
    element.push_attribute((name, allowed(value).as_str()));
}

/// A text without the characters that no XML document may have, not even escaped: <https://www.w3.org/TR/xml/#charsets>.
fn allowed(text: &str) -> String {
    let is_allowed = |char: char| matches!(char, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    text.chars().map(|char| if is_allowed(char) { char } else { '\u{fffd}' }).collect()
}

/// A time in ns as seconds, as the format has it.
fn seconds(ns: u64) -> String {
    format!("{:.3}", ns as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use quick_xml::Reader;

    use super::*;
    use crate::output::testing::{go_tests, golden, review};
    use crate::report::Process;

    fn document(report: &Report) -> String {
        let sources = Sources::find(report, None, None);
        let mut bytes = Vec::new();
        write(report, &sources, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// The elements of a document with the values of an attribute, in order. The reader checks that ends fit, and escapes.
    fn elements(document: &str, name: &str, attribute: &str) -> Vec<String> {
        let mut reader = Reader::from_str(document);
        let mut values = Vec::new();
        loop {
            match reader.read_event().unwrap() {
                Event::Eof => return values,
                Event::Start(element) | Event::Empty(element) => {
                    let mut attributes = element.attributes().map(Result::unwrap);
                    let found = attributes.find(|found| found.key.as_ref() == attribute.as_bytes());
                    if element.name().as_ref() == name.as_bytes() {
                        let value = found.map(|found| String::from_utf8(found.value.into_owned()).unwrap());
                        let value =
                            value.map(|value| quick_xml::escape::unescape(&value).unwrap().into_owned());
                        values.push(value.unwrap_or_default());
                    }
                }
                _ => {}
            }
        }
    }

    #[test]
    fn what_is_written_is_as_agreed() {
        golden("review.junit.xml", &document(&review()));
    }

    #[test]
    fn leaks_fail_and_what_is_not_known_is_skipped() {
        let document = document(&review());
        assert_eq!(elements(&document, "testsuites", "tests"), ["9"]);
        assert_eq!(elements(&document, "testsuite", "failures"), ["3", "0"]);
        assert_eq!(elements(&document, "testsuite", "skipped"), ["2", "1"]);
        assert_eq!(elements(&document, "failure", "type"), ["nil-chan", "chan-receive", "http-body"]);
        let skipped = elements(&document, "skipped", "message");
        assert!(skipped.iter().any(|why| why.starts_with("cannot tell yet: ")), "{skipped:?}");
        assert!(
            skipped.iter().any(|why| why == "silenced by --ignore; the verdict is suspect"),
            "{skipped:?}"
        );
        assert!(skipped.iter().any(|why| why == "not seen: Go 1.4 is too old"), "{skipped:?}");
        let mut known = review();
        let sites = known.processes.iter_mut().flat_map(|process| &mut process.sites);
        sites.for_each(|site| (site.ignored, site.known) = (false, site.ignored));
        let skipped = elements(&self::document(&known), "skipped", "message");
        assert!(
            skipped.iter().any(|why| why == "known by --baseline; the verdict is suspect"),
            "{skipped:?}"
        );
        assert_eq!(elements(&document, "testcase", "name").len(), 9);
        let mut names = elements(&document, "testcase", "name");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 9, "each case is told from the others: {names:?}");
    }

    #[test]
    fn what_is_not_shown_is_no_success() {
        let mut report = review();
        report.processes[0].sites.truncate(1);
        report.processes[0].findings.truncate(1);
        let skipped = elements(&document(&report), "skipped", "message");
        assert!(
            skipped.contains(&"not shown: 2 suspect, 2 watch, by --min-age or --top".to_owned()),
            "{skipped:?}"
        );
    }

    #[test]
    fn tests_are_the_cases_of_their_packages() {
        let written = document(&go_tests());
        golden("go-tests.junit.xml", &written);
        let suites = elements(&written, "testsuite", "name");
        assert_eq!(suites[..2], ["example.com/m/db", "example.com/m/pool"], "{suites:?}");
        assert_eq!(suites.len(), 3, "what a test has started is a program of its own: {suites:?}");
        assert_eq!(elements(&written, "testsuite", "failures"), ["0", "3", "0"]);
        assert_eq!(elements(&written, "testsuite", "skipped"), ["1", "0", "0"], "the site that is known");
        let names = elements(&written, "testcase", "name");
        // Twice in one package is one case, and what tests are told of is not told again.
        assert_eq!(names.iter().filter(|name| *name == "TestPool/full").count(), 1);
        assert!(!names.iter().any(|name| name.contains("work") && !name.contains("Start")), "{names:?}");
        let (classes, mut all) = (elements(&written, "testcase", "classname"), Vec::new());
        all.extend(classes.iter().zip(&names));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), names.len(), "each case is told from the others: {names:?}");
        let times = elements(&written, "testsuite", "time");
        assert_eq!(times, ["", "", "30.000"], "nobody knows how long tests took");
        let failures = elements(&written, "failure", "message");
        let full = "4 goroutines outlived it in 2 runs: 3 × pool.(*Pool).work, created at pool.go:31 in \
            pool.(*Pool).Start; 1 × http.(*persistConn).readLoop, created at transport.go:1948 in \
            http.(*Transport).dialConn";
        assert!(failures.iter().any(|message| message == full), "{failures:?}");
    }

    #[test]
    fn what_a_test_binary_leaks_that_a_test_has_started_is_not_lost() {
        let mut report = go_tests();
        report.processes[0].sites.clear();
        report.processes[0].findings.clear();
        let of_tests = report.processes.iter().position(|process| process.pid == 102).unwrap();
        let helper = Process { pid: 103, ..go_tests().processes[0].clone() };
        let helper = Process { exe: report.processes[of_tests].exe.clone(), ..helper };
        report.processes.push(helper);
        let names = elements(&document(&report), "testcase", "name");
        assert_eq!(names.iter().filter(|name| *name == "pool.reap: go pool.reap").count(), 1, "{names:?}");
    }

    #[test]
    fn equal_names_are_told_apart_by_ordinal_or_by_line() {
        let names = |report: &Report| elements(&document(report), "testcase", "name");
        let of = |names: Vec<String>| -> Vec<String> {
            names.into_iter().filter(|name| name.starts_with("hub.(*Hub).Subscribe: ")).collect()
        };
        let is_numbered = |names: &[String], form: [&str; 3]| {
            let mut ends: Vec<&str> = names.iter().map(|name| name.split("func1").nth(1).unwrap()).collect();
            ends.sort_unstable();
            assert_eq!(ends, form, "{names:?}");
        };
        let mut report = review();
        is_numbered(&of(names(&report)), ["", " #2", " #3"]);
        report.processes[0].sites.iter_mut().for_each(|site| site.site.line = Some(1));
        is_numbered(&of(names(&report)), ["", " #2", " #3"]);
        let mut report = review();
        report.processes[0].sites.iter_mut().for_each(|site| site.ordinal = None);
        is_numbered(&of(names(&report)), ["", " (2)", " (3)"]);
    }

    #[test]
    fn names_cannot_leave_their_place() {
        let mut report = review();
        let hostile = "main.\"><failure>&amp;]]>\u{1}\u{ffff}\u{1b}[31m\n<f";
        for site in report.processes.iter_mut().flat_map(|process| &mut process.sites) {
            site.entry.function = hostile.into();
            site.site.function = hostile.into();
        }
        report.processes[0].command = Some(hostile.into());
        report.tool.host = Some(hostile.into());
        report.tests = go_tests().tests;
        for test in &mut report.tests {
            (test.package, test.test) = (Some(hostile.into()), format!("{hostile}{}", test.test));
            test.leaked.iter_mut().for_each(|leaked| leaked.entry.function = hostile.into());
        }
        let written = document(&report);
        assert!(
            elements(&written, "testsuite", "name").iter().any(|name| name.contains("main.\"><failure>"))
        );
        let failures = elements(&written, "failure", "message");
        assert!(
            !failures.is_empty() && failures.iter().all(|message| message.contains("\"><failure>&amp;]]>"))
        );
        let forbidden = |char: char| char.is_control() && char != '\n' || char == '\u{ffff}';
        assert!(!written.contains(forbidden), "{written}");
    }
}
