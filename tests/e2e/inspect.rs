//! Checks what golife says goroutines wait for, in reports, in dumps and in sweeps.

use std::collections::BTreeMap;

use crate::support::*;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// A fixture with goroutines that stay, and what it says of them.
fn leaky(toolchain: &'static str) -> (Running, Sites) {
    let build = Build { toolchain: Some(toolchain), stripped: true, pie: true, ..Build::default() };
    let mut fixture = ready(&fixture("leaky", build), &["-rate", "100", "-for", "1s"]);
    fixture.write("go");
    let truth = truth("leaky", &fixture.line());
    (fixture, truth)
}

fn site_at(process: &Value, line: u64) -> &Value {
    let sites = process["sites"].as_array().unwrap();
    let found = sites.iter().find(|site| {
        site["site"]["line"] == line && site["site"]["file"].as_str().unwrap().ends_with("leaky/main.go")
    });
    found.unwrap_or_else(|| panic!("no site at line {line} in {process:#}"))
}

#[test]
fn a_dump_says_that_nothing_matches() {
    need_root();
    let fixture = ready(&fixture("tiny", Build::default()), &[]);
    let pid = fixture.pid().to_string();
    let dump = |filter: &[&str]| {
        let ended = run(&[&["dump", "--pid", &pid], filter].concat());
        assert!(ended.status.success() && ended.stdout.is_empty(), "{ended:?}");
        ended.stderr
    };
    let states = dump(&["--waiting", "no such state"]);
    assert!(states.contains("none of the ") && states.contains("their states: "), "{states}");
    let site = dump(&["--site", "no such place"]);
    assert!(site.contains("none of the ") && site.contains("the go statement that created them"), "{site}");
}

#[test]
fn a_report_says_where_goroutines_wait() {
    need_root();
    for toolchain in [OLDEST, NEWEST] {
        let (fixture, truth) = leaky(toolchain);
        let pid = fixture.pid().to_string();
        let report = run(&["trace", "--format", "json", "--for", "500ms", "--pid", &pid]).report();
        let process = only_process(&report);
        let line = line_of("leaky", "leak");
        let site = site_at(process, line);
        let live = truth[&line].live;
        let [waiting] = site["waiting"].as_array().unwrap().as_slice() else { panic!("{site:#}") };
        assert_eq!(waiting["reason"], "chan receive");
        assert_eq!((&waiting["count"], &waiting["unmoved"]), (&live.into(), &live.into()), "{site:#}");
        assert_eq!(waiting["at"][0]["line"], line + 1);
        assert_eq!(waiting["goids"].as_array().unwrap().len(), 10);
        let [on] = waiting["on"].as_array().unwrap().as_slice() else { panic!("{site:#}") };
        assert_eq!((&on["kind"], &on["count"], &on["cap"]), (&"chan".into(), &live.into(), &0.into()));
        // Go's smallest stack has 2,048 bytes.
        assert!(site["stack_bytes"].as_u64().unwrap() >= live * 2048, "{site:#}");
        assert_eq!((&process["scan"]["torn"], &process["scan"]["cut_short"]), (&0.into(), &false.into()));
        assert_eq!(report["loss"]["reconciled"], 0);
    }
}

/// Its memory is not kept, and it ends before the first glance.
#[test]
fn of_a_process_that_ended_unseen_no_waits_are_known() {
    need_root();
    let program = fixture("leaky", Build::default());
    let program = program.to_str().unwrap();
    let run =
        run(&["run", "--no-hold", "--format", "json", "--", program, "-now", "-rate", "50", "-for", "100ms"]);
    let report: Value = serde_json::from_str(&run.stderr[run.stderr.find('{').unwrap()..]).unwrap();
    let process = only_process(&report);
    assert_eq!(process["mode"], "gone");
    let site = site_at(process, line_of("leaky", "leak"));
    assert!(site["waiting"].is_null() && site["stack_bytes"].is_null(), "{site:#}");
}

#[test]
fn a_dump_is_gos_own_traceback() {
    need_root();
    for toolchain in [OLDEST, NEWEST] {
        let (fixture, _) = leaky(toolchain);
        let pid = fixture.pid().to_string();
        let dump = run(&["dump", "--pid", &pid]);
        assert_eq!((dump.status.code(), dump.stderr.as_str()), (Some(0), ""));
        // Go prints goroutines in another order, and with arguments, which golife does not know.
        fixture.signal(Signal::SIGQUIT);
        let go = fixture.wait().stderr;
        let (golife, go) = (blocked(&dump.stdout), blocked(&go));
        assert!(golife.len() > 50, "{}", dump.stdout);
        assert_eq!(golife, go, "{toolchain}");
    }
}

/// The stack of each goroutine that receives from a channel, by its id, without arguments and without the runtime's
/// frames.
fn blocked(text: &str) -> BTreeMap<u64, String> {
    let goroutines = text.split("\n\n").filter_map(|text| {
        let (header, frames) = text.trim_start().split_once('\n')?;
        let goid = header.strip_prefix("goroutine ")?.split(' ').next()?.parse().ok()?;
        let mut kept = String::new();
        let mut lines = frames.lines();
        while let (Some(call), Some(place)) = (lines.next(), lines.next()) {
            if !call.starts_with("runtime.") {
                let function = if call.starts_with("created by") { call } else { call.rsplit_once('(')?.0 };
                // In some modes Go adds registers.
                let place = place.split(" fp=").next()?;
                kept += &format!("{function}\n{place}\n");
            }
        }
        header.contains("[chan receive").then_some((goid, kept))
    });
    goroutines.collect()
}

#[test]
fn a_dump_is_filtered_and_grouped() {
    need_root();
    let (fixture, truth) = leaky(NEWEST);
    let pid = fixture.pid().to_string();
    let leaks = truth[&line_of("leaky", "leak")].live;
    let site = format!("leaky/main.go:{}$", line_of("leaky", "leak"));
    let dump =
        run(&["dump", "--format", "json", "--site", &site, "--waiting", "chan receive", "--pid", &pid]);
    let document: Value = serde_json::from_str(&dump.stdout).unwrap();
    assert_eq!(document["schema"], "golife.dump/1");
    let goroutines = document["goroutines"].as_array().unwrap();
    assert_eq!(goroutines.len() as u64, leaks);
    for goroutine in goroutines {
        let [channel] = goroutine["waits_on"].as_array().unwrap().as_slice() else { panic!("{goroutine:#}") };
        assert_eq!((&channel["kind"], &channel["direction"]), (&"channel".into(), &"receive".into()));
        assert_eq!(channel["address"], goroutines[0]["waits_on"][0]["address"]);
    }
    assert_eq!(run(&["dump", "--waiting", "select", "--pid", &pid]).stdout, "");
    assert_eq!(run(&["dump", "--older", "1h", "--pid", &pid]).stdout, "");
    let by_state = run(&["dump", "--group", "state", "--pid", &pid]).stdout;
    assert!(by_state.contains(&format!("{}  chan receive", leaks + 4)), "{by_state}");
    let by_site = run(&["dump", "--group", "site", "--pid", &pid]).stdout;
    assert!(
        by_site.contains(&format!("{leaks} chan receive at main.go:{}", line_of("leaky", "leak") + 1)),
        "{by_site}"
    );
    let by_stack = run(&["dump", "--group", "stack", "--pid", &pid]).stdout;
    assert!(by_stack.contains(&format!("{leaks} goroutines [chan receive]: ")), "{by_stack}");
    run(&["dump", "--group", "site", "--format", "json", "--pid", &pid]).expect_error(2, &["--group"]);
    run(&["dump", "--pid", "1073741824"]).expect_error(4, &["1073741824", "no such process"]);
    run(&["dump", "--pid", &std::process::id().to_string()]).expect_error(4, &["not a go program"]);
}

#[test]
fn a_sweep_finds_what_grows() {
    need_root();
    let mut growing = ready(&fixture("leaky", Build::default()), &["-rate", "100", "-for", "60s"]);
    growing.write("go");
    let (still, truth) = leaky(OLDEST);
    let name = ["--name", "^leaky$", "--format", "json"];
    let once = run(&[&["sweep"], &name[..]].concat()).report();
    let find = |report: &Value, pid: u32| {
        let processes = report["processes"].as_array().unwrap();
        processes
            .iter()
            .find(|process| process["pid"] == pid)
            .cloned()
            .unwrap_or_else(|| panic!("{report:#}"))
    };
    let line = line_of("leaky", "leak");
    let process = find(&once, still.pid());
    assert_eq!(process["mode"], "scanned");
    let site = site_at(&process, line);
    assert_eq!((&site["live"], &site["created"]), (&truth[&line].live.into(), &0.into()));
    assert_eq!(site["waiting"][0]["unmoved"], Value::Null);
    assert_eq!(site["verdict"]["level"], "unknown");

    let twice = [&["sweep", "--twice", "1s", "--fail-on", "watch"], &name[..]].concat();
    let ended = run(&twice);
    assert_eq!(ended.status.code(), Some(3));
    let twice = ended.report();
    let process = find(&twice, growing.pid());
    let site = site_at(&process, line);
    let number = |field: &str| site[field].as_u64().unwrap();
    assert!(number("created") > 10 && number("exited") == 0, "{site:#}");
    assert_eq!(number("live"), number("created") + number("at_attach"));
    assert_eq!(site["waiting"][0]["unmoved"], number("at_attach"));
    let verdict = &site["verdict"];
    assert_eq!((&verdict["level"], &verdict["cause"]), (&"watch".into(), &"chan-receive".into()), "{site:#}");
    assert_eq!(site_at(&find(&twice, still.pid()), line)["verdict"]["level"], "unknown");
    let text = run(&["sweep", "--name", "^leaky$"]).stdout;
    assert!(text.contains("chan receive at main.go:") && text.contains(" Go processes, "), "{text}");
    run(&["sweep", "--name", "^no such name$"]).expect_error(4, &["no go process matches"]);
}

#[test]
fn a_stopped_process_is_read_all_the_same() {
    need_root();
    let (fixture, truth) = leaky(NEWEST);
    fixture.signal(Signal::SIGSTOP);
    let by_state = run(&["dump", "--group", "state", "--pid", &fixture.pid().to_string()]).stdout;
    let live: u64 = truth.values().map(|counts| counts.live).sum();
    assert!(by_state.contains(&format!("{live}  chan receive")), "{by_state}");
    fixture.signal(Signal::SIGCONT);
}

#[test]
fn a_report_names_channels_and_locks() {
    need_root();
    for toolchain in [OLDEST, "go1.25.5", NEWEST] {
        let build = Build { toolchain: Some(toolchain), ..Build::default() };
        let mut fixture = ready(&fixture("queues", build), &[]);
        fixture.write("go");
        let addresses: Value = serde_json::from_str(&fixture.line()).unwrap();
        fixture.line();
        let pid = fixture.pid().to_string();
        let report = run(&["trace", "--format", "json", "--for", "300ms", "--pid", &pid]).report();
        let sites = only_process(&report)["sites"].as_array().unwrap();
        let on = |site: &str, kind: &str| {
            let line = line_of("queues", site);
            let site = sites.iter().find(|site| site["site"]["line"] == line).unwrap();
            let all = site["waiting"][0]["on"].as_array().unwrap();
            let found = all.iter().find(|on| on["address"] == addresses[kind]);
            let found = found.unwrap_or_else(|| panic!("{toolchain} {kind} {addresses} {site:#}")).clone();
            assert_eq!(found["kind"], kind, "{toolchain}");
            found
        };
        let numbers = |on: &Value| (on["count"].as_u64().unwrap(), on["waiters"].as_u64().unwrap());
        let channel = on("hold", "chan");
        assert_eq!(numbers(&channel), (1, 4), "{toolchain}: {channel:#}");
        assert_eq!(
            (&channel["others"][0]["doing"], &channel["others"][0]["count"]),
            (&"select".into(), &3.into())
        );
        assert_eq!(channel["element"], "int");
        let mutex = on("lock", "mutex");
        assert_eq!(numbers(&mutex), (3, 3), "{toolchain}: {mutex:#}");
        // The goroutine that holds the mutex has its address on the stack, for the deferred Unlock.
        assert_eq!(mutex["known_to"][0]["doing"], "chan receive", "{toolchain}: {mutex:#}");
        assert_eq!(numbers(&on("read", "rwmutex")), (3, 4), "{toolchain}");
        assert_eq!(numbers(&on("write", "rwmutex")), (1, 4), "{toolchain}");
        assert_eq!(numbers(&on("wait", "waitgroup")), (3, 3), "{toolchain}");
        let cond = on("listen", "cond");
        assert_eq!(numbers(&cond), (3, 6), "{toolchain}: {cond:#}");
        let other = &cond["others"][0];
        assert_eq!((&other["doing"], &other["count"]), (&"sync.Cond.Wait".into(), &3.into()), "{toolchain}");
        assert_eq!(other["at"]["function"], "main.overhear", "{toolchain}");
        let dump = run(&["dump", "--format", "json", "--waiting", "sync.Cond.Wait", "--pid", &pid]).stdout;
        let dump: Value = serde_json::from_str(&dump).unwrap();
        for goroutine in dump["goroutines"].as_array().unwrap() {
            let expected = json!([{ "kind": "cond", "address": addresses["cond"], "waiters": 6 }]);
            assert_eq!(goroutine["waits_on"], expected, "{toolchain}");
        }
    }
}

#[test]
fn a_dump_has_labels() {
    need_root();
    for toolchain in [OLDEST, "go1.22.12", "go1.23.12", "go1.24.13", "go1.26.8", NEWEST] {
        let mut fixture =
            ready(&fixture("labels", Build { toolchain: Some(toolchain), ..Build::default() }), &[]);
        fixture.write("go");
        fixture.line();
        let pid = fixture.pid().to_string();
        let site = format!("labels/main.go:{}$", line_of("labels", "labelled"));
        let dump = run(&["dump", "--format", "json", "--site", &site, "--pid", &pid]).stdout;
        let document: Value = serde_json::from_str(&dump).unwrap();
        let mut labels: Vec<BTreeMap<String, String>> = (document["goroutines"].as_array().unwrap().iter())
            .map(|goroutine| {
                let labels = goroutine["labels"].as_array().unwrap().iter();
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                labels.map(|label| (text(&label["key"]), text(&label["value"]))).collect()
            })
            .collect();
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let odd = "two\nlines ] and \"quotes\", ünïcode";
        let many: BTreeMap<String, String> =
            (0..40).map(|n| (format!("key{n:02}"), format!("value{n:02}"))).collect();
        // Goroutines are listed by their ids, which are in no certain order, since each P gives them from a range of
        // its own.
        labels.sort();
        let mut expected = [
            map(&[("tenant", "acme"), ("odd key", odd)]),
            map(&[("empty", "")]),
            many,
            BTreeMap::new(),
            map(&[("service", "checkout")]),
        ];
        expected.sort();
        assert_eq!(labels, expected, "{toolchain}");

        let text = run(&["dump", "--site", &site, "--pid", &pid]).stdout;
        let quoted = r#""odd key": "two\nlines \x5d and \"quotes\", \u00fcn\u00efcode""#;
        let end = match toolchain {
            NEWEST => format!("[chan receive] {{{quoted}, tenant: acme}}:"),
            _ => format!("[chan receive labels:{{{quoted}, \"tenant\": \"acme\"}}]:"),
        };
        assert!(text.lines().any(|header| header.ends_with(&end)), "{toolchain}: {text}");
        assert!(text.contains(" [chan receive]:\n"), "{toolchain}: {text}");
    }
}

#[test]
fn what_the_garbage_collector_has_marked_is_proven() {
    need_root();
    let experiment = "goroutineleakprofile";
    let build = Build { toolchain: Some("go1.26.8"), experiment, ..Build::default() };
    let mut fixture = ready(&fixture("leaked", build), &[]);
    fixture.write("go");
    fixture.line();
    let pid = fixture.pid().to_string();
    let report = run(&["leaks", "--format", "json", "--for", "300ms", "--pid", &pid]).report();
    let sites = only_process(&report)["sites"].as_array().unwrap();
    let at = |site: &str| sites.iter().find(|found| found["site"]["line"] == line_of("leaked", site));
    let leak = at("leak").unwrap_or_else(|| panic!("{report:#}"));
    assert_eq!(leak["verdict"]["level"], "proven", "{leak:#}");
    assert_eq!(
        (&leak["waiting"][0]["leaked"], &leak["waiting"][0]["reason"]),
        (&true.into(), &"chan send".into())
    );
    assert!(at("held").is_none_or(|held| held["verdict"]["level"] != "proven"), "{report:#}");
    let dump = run(&["dump", "--pid", &pid]).stdout;
    assert!(dump.contains(" [chan send (leaked)]:\n"), "{dump}");
}

#[test]
fn what_began_after_the_first_look_and_does_not_move_is_said() {
    need_root();
    let program = fixture("leaky", Build::default());
    let mut fixture = ready(&program, &["-rate", "20", "-for", "5s"]);
    let pid = fixture.pid().to_string();
    let golife = attach(&["trace", "--format", "json", "--for", "3s", "--pid", &pid]);
    fixture.write("go");
    let report = golife.wait().report();
    let site = site_at(only_process(&report), line_of("leaky", "leak"));
    let waiting = &site["waiting"][0];
    let [count, compared, unmoved] = ["count", "compared", "unmoved"].map(|n| waiting[n].as_u64().unwrap());
    // The look between the first and the last was after a third of the time.
    assert!(unmoved > 3 && unmoved <= compared && compared < count && site["at_attach"] == 0, "{site:#}");
}

#[test]
fn a_process_that_executes_something_else_while_it_is_read() {
    need_root();
    let program = fixture("reexec", Build::default());
    for round in 0..6 {
        let mut fixture = ready(&program, &["-n", "50000"]);
        fixture.write("go");
        fixture.line();
        let pid = fixture.pid().to_string();
        let dump = Running::start(golife().args(["dump", "--group", "state", "--pid", &pid]));
        // The rounds wait longer and longer, so that the exec comes before, while and after the process is read.
        std::thread::sleep(std::time::Duration::from_millis(20 * round));
        fixture.write("go");
        let ended = dump.wait();
        assert!(matches!(ended.status.code(), Some(0 | 1 | 4)), "{ended:?}");
        assert!(!ended.stderr.contains("panicked"), "{ended:?}");
        if ended.status.code() != Some(0) {
            assert!(ended.stderr.contains(&pid), "says which process and what: {ended:?}");
        }
        assert_eq!(fixture.line(), "ready");
        let second = run(&["dump", "--group", "state", "--pid", &pid]);
        assert_eq!(second.status.code(), Some(0), "{second:?}");
        assert!(!second.stdout.contains("50,000"), "{second:?}");
    }
}

#[test]
fn a_process_that_ends_while_it_is_read() {
    need_root();
    let program = fixture("crowd", Build::default());
    for round in 0..4 {
        let mut fixture = Running::start(std::process::Command::new(&program).args(["-n", "50000"]));
        fixture.line();
        let pid = fixture.pid().to_string();
        let dump = Running::start(golife().args(["dump", "--group", "state", "--pid", &pid]));
        std::thread::sleep(std::time::Duration::from_millis(40 * round));
        fixture.signal(Signal::SIGKILL);
        let ended = dump.wait();
        assert!(matches!(ended.status.code(), Some(0 | 1 | 4)), "{ended:?}");
        assert!(!ended.stderr.contains("panicked"), "{ended:?}");
        if ended.status.code() != Some(0) {
            assert!(ended.stderr.contains(&pid), "says which process and what: {ended:?}");
        }
    }
}
