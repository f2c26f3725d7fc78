//! Where goroutines come from: creators that are gone, and whom the program's author has to ask.

use crate::support::*;
use serde_json::Value;

/// Traces the fixture, which checks its own counts, and returns the sites.
#[track_caller]
fn sites(build: Build, flags: &[&str]) -> Vec<Value> {
    let (truth, reported, report) = trace_with("ancestry", build, &[], flags);
    assert_eq!(reported, truth, "{build:?}");
    check_exact(&report);
    only_process(&report)["sites"].as_array().unwrap().clone()
}

/// The sites whose goroutines run this function.
fn entered<'a>(sites: &'a [Value], function: &str) -> Vec<&'a Value> {
    sites.iter().filter(|site| site["entry"]["function"] == function).collect()
}

/// A frame of the fixture, and how many goroutines.
fn counted(function: &str, mark: &str, count: u64) -> (String, u64, u64) {
    (function.into(), line_marked("ancestry", mark), count)
}

fn blame(site: &Value) -> Vec<(String, u64, u64)> {
    let frames = site["blame"].as_array().unwrap_or_else(|| panic!("no blame in {site:#}"));
    let each = |frame: &Value| {
        let text = frame["function"].as_str().unwrap().to_owned();
        (text, frame["line"].as_u64().unwrap(), frame["count"].as_u64().unwrap())
    };
    frames.iter().map(each).collect()
}

/// A connection has a reader and a writer. Both were created by a goroutine that dialled, created by one that fetched,
/// created by one that crawled: all three are dead.
#[track_caller]
fn dead_creators(build: Build) {
    let sites = sites(build, &[]);
    for entry in ["net/http.(*persistConn).readLoop", "net/http.(*persistConn).writeLoop"] {
        let found = entered(&sites, entry);
        assert_eq!(found.len(), 1, "{sites:#?}");
        assert_eq!((&found[0]["live"], &found[0]["exited"]), (&20.into(), &0.into()), "{:#}", found[0]);
        assert_eq!(blame(found[0]), [counted("main.crawl", "site: page", 20)], "{build:?}");
        assert_eq!(found[0]["creation_stacks"], Value::Null);
    }
    let own = entered(&sites, "main.stay");
    assert_eq!(own[0]["blame"], Value::Null, "its own place says it");
}

#[test]
fn the_dead_are_blamed_for_what_lives() {
    dead_creators(Build::default());
}

#[test]
fn the_dead_are_blamed_for_what_lives_oldest_go_stripped() {
    dead_creators(Build { toolchain: Some(OLDEST), stripped: true, ..Build::default() });
}

#[test]
fn the_dead_are_blamed_for_what_lives_newest_go_pie() {
    dead_creators(Build { toolchain: Some(NEWEST), pie: true, ..Build::default() });
}
