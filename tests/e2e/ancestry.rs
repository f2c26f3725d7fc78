//! Checks what golife says about where goroutines come from: about creators that have ended, and about the line that is
//! to blame.

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

/// A function and a marked line of the fixture, with a number of goroutines.
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

/// A connection has a reader and a writer. Both were created by a goroutine that dialled, which was created by one that
/// fetched, which was created by one that crawled. All three have ended.
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

/// The frames of a stack, as functions with lines, then how many goroutines were created by it and how many of these
/// live.
type Stack = (Vec<(String, u64)>, u64, u64);

/// The frame that stands for calls which are not known.
fn elided() -> (String, u64) {
    ("...additional frames elided...".to_owned(), 0)
}

/// The creation stacks of a site.
fn stacks(site: &Value) -> Vec<Stack> {
    let stacks = site["creation_stacks"].as_array().unwrap_or_else(|| panic!("no stacks in {site:#}"));
    let frame = |frame: &Value| {
        (frame["function"].as_str().unwrap().to_owned(), frame["line"].as_u64().unwrap_or_default())
    };
    let each = |stack: &Value| {
        let frames = stack["frames"].as_array().unwrap().iter().map(frame).collect();
        (frames, stack["created"].as_u64().unwrap(), stack["live"].as_u64().unwrap())
    };
    stacks.iter().map(each).collect()
}

/// Checks one statement that is reached in three ways, and a call that is to blame for a leak three generations later.
#[track_caller]
fn creation_stacks(build: Build) {
    let sites = sites(build, &["--creation-stacks"]);
    let frames = |calls: &[(&str, &str)]| -> Vec<(String, u64)> {
        let frame =
            |&(function, mark): &(&str, &str)| (format!("main.{function}"), line_marked("ancestry", mark));
        calls.iter().map(frame).collect()
    };
    let [deep, start] = [("deep", "call: deep"), ("spawn", "site: stay")];
    let expected = [
        (
            frames(&[start, ("inlined", "call: inlined"), ("right", "call: right"), ("main", "call: five")]),
            5,
            5,
        ),
        (frames(&[start, ("left", "call: left"), ("main", "call: three")]), 3, 3),
        (
            frames(&[
                start,
                ("left", "call: left"),
                ("deep", "call: bottom"),
                deep,
                deep,
                deep,
                deep,
                ("main", "call: four"),
            ]),
            2,
            2,
        ),
    ];
    let own = entered(&sites, "main.stay");
    assert_eq!(own.len(), 1);
    // On arm64, Go before 1.21 does not correct the frame pointers of a stack that it copies, so calls from before
    // cannot be followed. The report says that the stack is cut, and the creators' sites are blamed instead.
    let is_cut = cfg!(target_arch = "aarch64") && build.toolchain == Some(OLDEST);
    if is_cut {
        let found = stacks(own[0]);
        let is_part = |(frames, ..): &Stack| {
            let known = frames.strip_suffix(&[elided()]).unwrap_or(frames);
            expected.iter().any(|(whole, ..)| whole.starts_with(known))
        };
        assert!(found.iter().all(is_part), "{found:#?}");
        assert_eq!(found.iter().map(|(_, created, _)| created).sum::<u64>(), 10, "{found:#?}");
    } else {
        assert_eq!(stacks(own[0]), expected, "{build:?}");
    }

    for entry in ["net/http.(*persistConn).readLoop", "net/http.(*persistConn).writeLoop"] {
        let found = entered(&sites, entry);
        if is_cut {
            let blamed = blame(found[0]);
            assert!(blamed.iter().all(|(function, ..)| function.starts_with("main.")), "{blamed:#?}");
            assert_eq!(blamed.iter().map(|(.., count)| count).sum::<u64>(), 20, "{blamed:#?}");
            let dialled = stacks(found[0]);
            let dials = |(frames, ..): &Stack| frames[0].0 == "net/http.(*Transport).dialConn";
            assert!(dialled.iter().all(dials), "{dialled:#?}");
            continue;
        }
        assert_eq!(blame(found[0]), [counted("main.fetch", "call: get", 20)], "{build:?}");
        // A connection that was dialled for one request may serve another, so only the sum is certain.
        let dialled: u64 = stacks(found[0]).iter().map(|(_, created, _)| created).sum();
        assert_eq!(dialled, 20, "{:#}", found[0]);
        assert!(stacks(found[0]).iter().all(|(frames, ..)| frames[0].0 == "net/http.(*Transport).dialConn"));
    }
}

#[test]
fn creation_stacks_of_today() {
    creation_stacks(Build::default());
}

#[test]
fn creation_stacks_stripped() {
    creation_stacks(Build { stripped: true, ..Build::default() });
}

#[test]
fn creation_stacks_pie() {
    creation_stacks(Build { pie: true, stripped: true, ..Build::default() });
}

#[test]
fn creation_stacks_unoptimised() {
    creation_stacks(Build { unoptimised: true, ..Build::default() });
}

#[test]
fn creation_stacks_oldest_go() {
    creation_stacks(Build { toolchain: Some(OLDEST), ..Build::default() });
}

#[test]
fn creation_stacks_oldest_go_stripped_and_pie() {
    creation_stacks(Build { toolchain: Some(OLDEST), pie: true, stripped: true, ..Build::default() });
}

#[test]
fn creation_stacks_of_go_1_21() {
    creation_stacks(Build { toolchain: Some("go1.21.13"), ..Build::default() });
}

#[test]
fn creation_stacks_newest_go_stripped() {
    creation_stacks(Build { toolchain: Some(NEWEST), stripped: true, ..Build::default() });
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

/// There is room for 16,384 stacks. Creations whose stack finds none are counted, and nothing else suffers.
#[test]
fn stacks_without_room_are_counted() {
    let (truth, reported, report) = trace_with("paths", Build::default(), &[], &["--creation-stacks"]);
    assert_eq!(reported, truth);
    check_exact(&report);
    let lost = report["loss"]["without_stack"].as_u64().unwrap();
    assert!((16_384..20_000).contains(&lost), "{lost} of 32,768 stacks were lost");
    let sites = only_process(&report)["sites"].as_array().unwrap();
    let site = &entered(sites, "sync.(*WaitGroup).Done")[0];
    let shown = stacks(site);
    assert_eq!(shown.len(), 20);
    let (frames, unknown, live) = &shown[0];
    assert!(frames.is_empty() && *live == 0, "those that are not known are the most: {shown:#?}");
    // The runtime may have started a few goroutines of its own, for which there was no room, either.
    assert!((lost - 10..=lost).contains(unknown), "{unknown} of {lost}");
    assert!(shown[1..].iter().all(|(frames, created, _)| *created == 1 && frames.len() == 18));
}

/// Of a deep stack the inner calls are kept, and the report says that there are more.
#[test]
fn deep_stacks_are_cut() {
    let arguments = ["-levels", "0", "-deep", "200"];
    let (truth, reported, report) = trace_with("paths", Build::default(), &arguments, &["--creation-stacks"]);
    assert_eq!(reported, truth);
    let site = &entered(only_process(&report)["sites"].as_array().unwrap(), "sync.(*WaitGroup).Done")[0];
    let stacks = stacks(site);
    let (deep, ..) = stacks.iter().find(|(frames, ..)| frames.len() > 3).expect("the deep one");
    let (ends, inner) = deep.split_last().unwrap();
    assert_eq!(ends, &elided());
    assert_eq!(inner[0].0, "main.spawn");
    assert!(inner[1..].iter().all(|(function, _)| function == "main.dive"), "{inner:#?}");
    // One of the 128 entries says that there are more, and on arm64 one is of the runtime.
    assert!((126..=127).contains(&inner.len()), "{}", inner.len());
    assert_eq!(stacks.iter().map(|(_, created, _)| created).sum::<u64>(), 2, "{stacks:#?}");
}

/// A few hundred stacks all find room.
#[test]
fn stacks_with_room_are_all_kept() {
    let flags = ["--creation-stacks"];
    let (truth, reported, report) = trace_with("paths", Build::default(), &["-levels", "8"], &flags);
    assert_eq!(reported, truth);
    assert_eq!(report["loss"]["without_stack"], 0, "{report:#}");
}

/// Nobody saw these goroutines come, but their creator has not returned from the call that led to them.
#[test]
fn calls_that_creators_are_still_in_are_seen() {
    need_root();
    let fixture = ready(&fixture("serving", Build::default()), &[]);
    let pid = fixture.pid().to_string();
    let traced = run(&["trace", "--format", "json", "--for", "300ms", "--pid", &pid]).report();
    let swept = run(&["sweep", "--format", "json", "--pid", &pid]).report();
    for report in [traced, swept] {
        let sites = only_process(&report)["sites"].as_array().unwrap();
        let [served] = entered(sites, "net/http.(*conn).serve")[..] else { panic!("{sites:#?}") };
        let call = line_marked("serving", "call: serve");
        assert_eq!(blame(served), [("main.serve".to_owned(), call, 5)], "{served:#}");
        assert_eq!((&served["blame"][0]["by"], &served["blame_unknown"]), (&"look".into(), &0.into()));
    }
}
