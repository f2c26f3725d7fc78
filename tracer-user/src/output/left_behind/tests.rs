//! Checks what is said of tests that leak, and of those that do not.

use super::*;
use crate::output::testing::{connection, frame, go_tests, golden, test, worker};
use crate::output::text::{self, Text};
use crate::report::{BlamedFrame, Finding, Frame, LedBy, Sort, Test};

fn page(report: &Report, columns: usize) -> String {
    let mut bytes = Vec::new();
    let text = Text { width: columns, table: true, sort: Sort::Verdict };
    text::write(report, &text, &mut anstream::StripStream::new(&mut bytes)).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn with(tests: Vec<Test>) -> Report {
    Report { tests, ..go_tests() }
}

/// The lines from one that contains `from` on, up to an empty one.
fn from<'page>(page: &'page str, from: &str) -> Vec<&'page str> {
    let lines = page.lines().skip_while(|line| !line.contains(from));
    lines.take_while(|line| !line.is_empty()).collect()
}

const POOL: &str = "example.com/m/pool";

#[test]
fn what_is_written_is_as_agreed() {
    golden("go-tests.txt", &page(&go_tests(), 100));
}

#[test]
fn a_leak_is_told_first_and_once() {
    let page = page(&go_tests(), 100);
    assert!(
        page.starts_with(
            "leak     TestPool/full   example.com/m/pool   4 goroutines outlived it in 2 runs\n"
        )
    );
    assert_eq!(page.matches("the channel received from").count(), 1, "{page}");
    assert_eq!(page.matches("outlived TestPool/full").count(), 0, "no finding says it again: {page}");
    assert_eq!(
        from(&page, "suspect  pool.reap")[0],
        "suspect  pool.reap   pid 100   created at reap.go:9 in pool.reap"
    );
    let idle = from(&page, "leak     TestPool/idle");
    assert!(idle[1].ends_with("as in TestPool/full") && idle.len() == 2, "{idle:?}");
}

#[test]
fn what_is_not_told_of_a_test_stays_in_its_finding() {
    let mut report = go_tests();
    let process = &mut report.processes[0];
    let at =
        |entry: &str| process.sites.iter().position(|site| site.entry.function.ends_with(entry)).unwrap();
    let (leak, grew) = (at(".work"), at(".reap"));
    let together = Finding { level: Level::Suspect, sites: vec![leak, grew], ..Finding::default() };
    process.findings.retain(|finding| finding.sites != [leak] && finding.sites != [grew]);
    process.findings.push(together);
    let text = page(&report, 100);
    assert_eq!(from(&text, "suspect  pool.reap").len(), 3, "{text}");
    assert!(!text.contains("suspect  pool.(*Pool).work "), "{text}");
    // A statement that no test is told of is shown, whatever the reason for its verdict.
    report.tests.retain(|test| test.leaked.is_empty());
    let text = page(&report, 100);
    assert!(text.contains("suspect  pool.(*Pool).work "), "{text}");
    assert!(text.contains("1 more statement follows from it"), "{text}");
}

#[test]
fn no_line_is_too_long_where_names_are_short() {
    for columns in [60, 100, 160] {
        let page = page(&go_tests(), columns);
        let (tests, _) = page.split_once("\n\nsuspect ").unwrap();
        let longest = tests.lines().map(width).max();
        assert!(longest <= Some(columns), "{longest:?}:\n{tests}");
    }
}

#[test]
fn many_tests_that_leave_the_same_are_one_block() {
    let test = |n| test(100, POOL, &format!("TestPool/{n:03}"), vec![worker(n)]);
    let page = page(&with((0..200).map(test).collect()), 120);
    let block = from(&page, "leak ");
    assert_eq!(block.iter().filter(|line| line.starts_with("leak ")).count(), TESTS, "{page}");
    let more = "         and 195 more tests leave the same behind: TestPool/005, TestPool/006, TestPool/007 and 192 more";
    assert_eq!(block[TESTS], more);
    assert!(
        block[TESTS + 1].starts_with("         200 × pool.(*Pool).work   created at pool.go:31"),
        "{page}"
    );
    assert!(block[TESTS + 1].ends_with("goroutine 0 of TestPool/000"), "{page}");
    assert!(block.contains(&"         outlived   their tests by 1 s to 3 s"), "{page}");
    assert_eq!(page.matches(" close it when").count(), 1);
    assert!(page.contains("\ntests    200 of 200 tests of 1 package left goroutines behind\n"), "{page}");
}

#[test]
fn tests_without_a_leak_are_good_news_in_a_line() {
    let clean =
        |n: u64| test(1, if n.is_multiple_of(2) { "a" } else { "b" }, &format!("Test{n}"), Vec::new());
    let head = |report: &Report| page(report, 100).lines().next().unwrap().to_owned();
    let all: Vec<_> = (0..142).map(clean).collect();
    assert_eq!(head(&with(all)), "tests    142 tests of 2 packages ran, none left a goroutine behind");
    assert_eq!(head(&with(vec![clean(0)])), "tests    1 test of 1 package ran, and left no goroutine behind");
    let known = Leaked { silenced: true, ..worker(1) };
    let known = head(&with(vec![clean(0), test(1, "a", "TestKnown", vec![known])]));
    assert!(known.ends_with("ran, none left a goroutine behind that is not silenced"), "{known}");
    assert!(!page(&with(Vec::new()), 100).contains("tests "));
    let no_test = Test { kind: TestKind::Init, living: 1, ..test(1, "a", "init", Vec::new()) };
    assert_eq!(head(&with(vec![no_test])), "kept     started outside of tests and kept: 1 by init of a");
}

#[test]
fn what_does_not_count_is_said_in_a_line_each() {
    let page = page(&go_tests(), 120);
    let said = from(&page, "ending ");
    let labels: Vec<&str> = said.iter().filter_map(|line| line.get(..8)).map(str::trim_end).collect();
    assert_eq!(labels, ["ending", "kept", "other", "cut off", "tests"], "{page}");
    let young = with(vec![Test { living: 2, ..test(1, "a", "TestA", Vec::new()) }]);
    let said = self::page(&young, 100);
    assert!(
        said.starts_with("young    2 goroutines outlive TestA by less than --grace and are not known to stay: not counted\n"),
        "{said}"
    );
}

#[test]
fn what_is_not_known_or_not_listed_is_said() {
    let unseen = Leaked { waiting: None, cause: None, advice: None, ended: true, ..worker(7) };
    let known = Leaked { silenced: true, ..worker(8) };
    let many = Test { leaked_count: 52, ..test(1, "", "", vec![unseen, known]) };
    let page = page(&with(vec![Test { package: None, ..many }]), 100);
    let block = from(&page, "leak ");
    assert_eq!(block[0], "leak     an unknown test   51 goroutines outlived it", "{page}");
    assert_eq!(
        block[2..4],
        [
            "         waits for  not known: nobody could look",
            "         outlived   its test by 1.1 s, then ended",
        ],
        "{page}"
    );
    assert_eq!(block[4], "         and 50 goroutines that the report does not list", "{page}");
    assert_eq!(block[5], "         beside 1 goroutine, silenced by --ignore or --baseline", "{page}");
}

#[test]
fn the_program_is_named_where_a_library_waits() {
    let own = frame("example.com/m/client.Fetch", "/src/m/client/fetch.go", 31);
    let mut report = with(vec![test(100, POOL, "TestFetch", vec![connection(36)])]);
    let line = BlamedFrame { frame: own.clone(), count: 1, came: 1, by: LedBy::Call };
    let mut sites = report.processes[0].sites.iter_mut();
    let site = sites.find(|site| site.site == report.tests[0].leaked[0].site).unwrap();
    (site.live, site.blame) = (1, Some(vec![line]));
    report.tests[0].leaked[0].ended = false;
    report.tests[0].leaked[0].waiting.as_mut().unwrap().at.push(own);
    let page = page(&report, 100);
    let block = from(&page, "leak ");
    assert!(
        block.contains(
            &"         waits for  select at transport.go:2325, called at fetch.go:31 in client.Fetch"
        ),
        "{page}"
    );
    assert!(block.contains(&"         blame      client.Fetch at fetch.go:31 (1 of 1)"), "{page}");
}

#[test]
fn a_program_that_a_test_has_started_is_named_with_it() {
    let page = page(&go_tests(), 160);
    assert!(page.contains("started by TestKnown of example.com/m/db"), "{page}");
}

#[test]
fn names_cannot_leave_their_place_and_numbers_not_their_range() {
    let hostile = "T\u{1b}[31m\nleak     TestForged\u{202e}";
    let mut report = go_tests();
    for test in &mut report.tests {
        (test.package, test.test) = (Some(hostile.into()), format!("{hostile}{}", test.test));
        (test.leaked_count, test.ending, test.living, test.runs) = (u64::MAX, u64::MAX, u64::MAX, u64::MAX);
        for leaked in &mut test.leaked {
            leaked.advice = Some(hostile.into());
            leaked.entry.function = hostile.into();
            leaked.site = Frame { function: hostile.into(), file: Some(hostile.into()), line: Some(0) };
            leaked.outlived_ns = u64::MAX;
            leaked.waiting.iter_mut().for_each(|waiting| waiting.reason = hostile.into());
        }
    }
    for process in &mut report.processes {
        process
            .started_by
            .iter_mut()
            .for_each(|by| (by.test, by.package) = (hostile.into(), Some(hostile.into())));
    }
    let page = page(&report, 100);
    assert!(!page.contains(|char: char| char != '\n' && crate::human::is_unsafe(char)), "{page}");
    assert!(!page.lines().any(|line| line.starts_with("leak     TestForged")), "{page}");
}
