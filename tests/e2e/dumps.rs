//! Checks what a dump says of single goroutines: file descriptors, labels, creators, and which of them it shows.

use crate::support::*;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::Write,
    process::{Command, Stdio},
};

/// The fixture with connections, labels, timers and creators, and the line in which it says its addresses.
fn served(toolchain: &'static str) -> (Running, String) {
    let build = Build { toolchain: Some(toolchain), stripped: true, pie: true, ..Build::default() };
    let mut fixture = ready(&fixture("served", build), &[]);
    fixture.write("go");
    let line = fixture.line();
    // Now all of its goroutines are where they stay.
    fixture.line();
    (fixture, line)
}

/// The goroutines of a dump as JSON.
fn goroutines(fixture: &Running, args: &[&str]) -> Vec<Value> {
    let pid = fixture.pid().to_string();
    let ended = run(&[&["dump", "--format", "json", "--pid", &pid], args].concat());
    assert!(ended.status.success(), "{ended:?}");
    let mut document: Value = serde_json::from_str(&ended.stdout).unwrap();
    serde_json::from_value(document["goroutines"].take()).unwrap()
}

/// The goroutines that this statement of the fixture has created.
fn created_at(fixture: &Running, site: &str) -> Vec<Value> {
    goroutines(fixture, &["--site", &format!("served/main.go:{}$", line_of("served", site))])
}

#[test]
fn io_waits_name_descriptor_addresses_and_deadline() {
    need_root();
    for toolchain in [OLDEST, NEWEST] {
        let (fixture, line) = served(toolchain);
        let [listener, client, until] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let io = |site: &str| {
            let found = created_at(&fixture, site);
            assert_eq!(found.len(), 1, "{site}: {found:?}");
            assert_eq!(found[0]["state"], "IO wait");
            found[0]["io"].clone()
        };
        let ends = |io: &Value| (io["kind"].clone(), io["local"].clone(), io["remote"].clone());
        let tcp = |local: &str, remote: Value| (json!("tcp"), json!(local), remote);
        let [accepts, reads, serves] = ["accept", "client", "server"].map(io);
        assert_eq!(ends(&accepts), tcp(listener, Value::Null));
        assert_eq!(ends(&reads), tcp(client, json!(listener)));
        assert_eq!(ends(&serves), tcp(listener, json!(client)));
        // A deadline is kept to the millisecond, so its second may be rounded down.
        let deadline = humantime::parse_rfc3339(reads["deadline"].as_str().unwrap()).unwrap();
        let until = humantime::parse_rfc3339(&format!("{until}Z")).unwrap();
        let apart = deadline.duration_since(until).unwrap_or_else(|before| before.duration());
        assert!(apart.as_secs() < 2, "{reads}: {line}");
        assert!(serves["deadline"].is_null() && accepts["deadline"].is_null());
        assert_eq!(io("pipe")["kind"], "pipe");
        let own = std::fs::read_dir(format!("/proc/{}/fd", fixture.pid())).unwrap();
        let own: Vec<String> = own.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        for io in [accepts, reads, serves] {
            assert!(own.contains(&io["fd"].to_string()), "{io} in {own:?}");
        }
        // A report has the same of one of each group.
        let pid = fixture.pid().to_string();
        let report = run(&["sweep", "--format", "json", "--pid", &pid]).report();
        let sites = only_process(&report)["sites"].as_array().unwrap().clone();
        let site = sites.iter().find(|site| site["site"]["line"] == line_of("served", "client")).unwrap();
        assert_eq!(ends(&site["waiting"][0]["io"]), tcp(client, json!(listener)));
        let states = &only_process(&report)["goroutines"]["states"];
        let sum: u64 = states.as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
        assert_eq!(sum, only_process(&report)["scan"]["found"], "{states}");
    }
}

/// The sites of a sweep.
fn sites(fixture: &Running) -> Vec<Value> {
    let report = run(&["sweep", "--format", "json", "--pid", &fixture.pid().to_string()]).report();
    only_process(&report)["sites"].as_array().unwrap().clone()
}

#[test]
fn a_report_counts_the_labels_of_a_site() {
    need_root();
    for toolchain in [OLDEST, NEWEST] {
        let (fixture, _) = served(toolchain);
        let sites = sites(&fixture);
        let labelled =
            sites.iter().find(|site| site["site"]["line"] == line_of("served", "labelled")).unwrap();
        let labels = labelled["labels"].as_array().unwrap();
        let tenants = [("acme", 33), ("other", 2)]
            .map(|(value, count)| json!({"key": "tenant", "value": value, "count": count}));
        assert_eq!((labels.len(), &labels[..2]), (10, &tenants[..]));
        assert!(
            labels[2..].iter().all(|label| label["key"] == "request" && label["count"] == 1),
            "{labels:?}"
        );
        let other = sites.iter().find(|site| site["site"]["line"] == line_of("served", "client")).unwrap();
        assert_eq!(other["labels"], json!([]));
    }
}

#[test]
fn goroutines_of_timers_are_known_by_their_functions() {
    need_root();
    for toolchain in [OLDEST, NEWEST] {
        let (fixture, _) = served(toolchain);
        let of_timers: Vec<String> = sites(&fixture)
            .iter()
            .filter(|site| site["site"]["function"] == "time.goFunc")
            .map(|site| site["entry"]["function"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(of_timers.len(), 3, "{of_timers:?}");
        for function in ["main.fired", "main.(*job).run", "main.main.func"] {
            assert!(of_timers.iter().any(|entry| entry.contains(function)), "{function}: {of_timers:?}");
        }
    }
}

/// A dump as text, and what it says beside it.
fn dump(fixture: &Running, args: &[&str]) -> Ended {
    let ended = run(&[&["dump", "--pid", &fixture.pid().to_string()], args].concat());
    assert!(ended.status.success(), "{ended:?}");
    ended
}

/// The creators of each goroutine that receives from a channel, as a traceback has them, without the runtime's own calls:
/// Go shows those when it is told to quit.
fn creators(text: &str) -> BTreeMap<u64, String> {
    let goroutines = text.split("\n\n").filter_map(|text| {
        let header = text.trim_start().strip_prefix("goroutine ")?;
        let goid = header.split(' ').next()?.parse().ok()?;
        let mut lines = text[text.find("[originating from")?..].trim_end().lines();
        let mut kept = String::new();
        while let Some(line) = lines.next() {
            if line.starts_with("runtime.") || line.starts_with("internal/runtime/") {
                lines.next();
            } else {
                kept += &format!("{line}\n");
            }
        }
        header.contains("[chan receive").then_some((goid, kept))
    });
    goroutines.collect()
}

#[test]
fn creators_that_go_has_kept_are_those_of_its_own_traceback() {
    need_root();
    for toolchain in [OLDEST, NEWEST] {
        let build = Build { toolchain: Some(toolchain), ..Build::default() };
        let mut command = Command::new(fixture("served", build));
        let mut fixture = ready_as(command.env("GODEBUG", "tracebackancestors=9"));
        fixture.write("go");
        fixture.line();
        fixture.line();
        let golife = creators(&dump(&fixture, &["--ancestors"]).stdout);
        fixture.signal(Signal::SIGQUIT);
        let go = creators(&fixture.wait().stderr);
        assert!(
            golife.len() > 3 && golife.values().any(|text| text.contains("main.ends(...)")),
            "{golife:?}"
        );
        // Go 1.27 shows labels in another place, and golife shows those of older versions, too.
        let go: BTreeMap<u64, String> =
            go.into_iter().filter(|(goid, _)| golife.contains_key(goid)).collect();
        for (goid, creators) in golife {
            assert_eq!(creators, go[&goid], "{toolchain}");
        }
    }
}

#[test]
fn creators_that_live_are_followed_and_others_are_said_to_have_ended() {
    need_root();
    let (old, _) = served(OLDEST);
    let ended = dump(&old, &["--ancestors"]);
    assert!(ended.stderr.contains("before 1.21") && !ended.stdout.contains("originating"), "{ended:?}");

    let (fixture, _) = served(NEWEST);
    let goid = |site: &str| created_at(&fixture, site)[0]["goid"].to_string();
    let [child, creator, orphan] = ["child", "creator", "orphan"].map(goid);
    let ended = dump(&fixture, &["--goid", &child, "--goid", &orphan, "--ancestors"]);
    assert!(ended.stderr.contains("stacks that they have now"), "{}", ended.stderr);
    let creators = creators(&ended.stdout);
    assert_eq!(creators.len(), 1, "{ended:?}");
    let of_child = &creators[&child.parse::<u64>().unwrap()];
    let begin = format!("[originating from goroutine {creator}]:\nmain.creator(...)\n");
    assert!(of_child.starts_with(&begin), "{of_child}");
    assert!(
        of_child.contains("created by main.main\n") && of_child.contains("[originating from goroutine 1]:")
    );
    assert!(ended.stdout.trim_end().ends_with(", which has ended]"), "{}", ended.stdout);
    run(&["dump", "--ancestors", "--format", "json", "--pid", &fixture.pid().to_string()])
        .expect_error(2, &["--ancestors"]);

    // What other programs read of it.
    let mut viewer = Command::new(crate::support::fixture("viewer", Build::default()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    viewer.stdin.take().unwrap().write_all(ended.stdout.as_bytes()).unwrap();
    let seen: Value = serde_json::from_slice(&viewer.wait_with_output().unwrap().stdout).unwrap();
    let of = |goid: &str| {
        let goroutines = seen.as_array().unwrap().iter();
        goroutines
            .clone()
            .find(|one| one["ID"].as_u64() == goid.parse().ok())
            .unwrap_or_else(|| panic!("{seen:#}"))
    };
    let nearest = &of(&child)["Ancestor"];
    assert_eq!((nearest["ID"].to_string(), &nearest["Ancestor"]["ID"]), (creator, &json!(1)), "{seen:#}");
    assert_eq!(nearest["Stack"][0]["Func"], "main.creator");
    assert_eq!(of(&orphan)["CreatedBy"]["Func"], "main.ends");
}

#[test]
fn dumps_are_grouped_thinned_and_sampled() {
    need_root();
    let (fixture, _) = served(NEWEST);
    let grouped = |by: &str, args: &[&str]| {
        let text = dump(&fixture, &[&["--group", by], args].concat()).stdout;
        let groups = text.lines().filter_map(|line| {
            let (number, name) = line.strip_prefix("   ")?.trim_start().split_once("  ")?;
            Some((name.split(", longest").next()?.to_owned(), number.parse::<u64>().ok()?))
        });
        groups.collect::<BTreeMap<String, u64>>()
    };
    let tenants = grouped("label:tenant", &[]);
    let all = goroutines(&fixture, &[]).len() as u64;
    let of = |name: &str| tenants.get(name).copied();
    assert_eq!(
        (of("tenant=acme"), of("tenant=other"), of("without tenant")),
        (Some(33), Some(2), Some(all - 35))
    );
    let entries = grouped("entry", &[]);
    assert_eq!((entries["main.read"], entries["main.fired"]), (3, 1), "{entries:?}");
    let blame = grouped("blame", &[]);
    let place = |site: &str| format!("main.go:{} in main.main.func", line_of("served", site));
    assert!(blame.iter().any(|(name, n)| name.starts_with(&place("labelled")) && *n == 35), "{blame:?}");
    let timers = grouped("site", &["--site", "^time.goFunc$"]);
    assert!(timers["created at the firing of a timer (time.AfterFunc): main.fired"] == 1, "{timers:?}");
    assert_eq!(grouped("state", &["--without", "^internal/poll", "--without", "func"]).get("IO wait"), None);

    // Who sleeps 10 ms again and again runs, and main is in a system call.
    let busy = goroutines(&fixture, &["--idle", "hide"]);
    let ticks = line_of("served", "ticks");
    assert!(busy.iter().any(|one| one["created_by"]["line"] == ticks), "{busy:?}");
    assert!(busy.len() <= 2, "{busy:?}");

    let sampled = dump(&fixture, &["--sample", "4", "--group", "state"]).stdout;
    assert!(sampled.starts_with(&format!("# a sample of 1 in 4 of {all} goroutines")), "{sampled}");
    let counts = grouped("state", &["--sample", "4"]);
    let kept = goroutines(&fixture, &["--sample", "4"]).len() as u64;
    assert!(kept > 0 && kept < all / 2 && counts.values().sum::<u64>() == 4 * kept, "{counts:?}: {kept}");
}

/// The numbers of folded stacks: by the outermost function, how often it was seen.
fn folded(text: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        let (stack, count) = line.rsplit_once(' ').unwrap();
        *counts.entry(stack.split(';').next().unwrap().to_owned()).or_default() +=
            count.parse::<u64>().unwrap();
    }
    counts
}

#[test]
fn samples_over_time_are_a_profile_of_the_time_that_goroutines_spend() {
    need_root();
    let (mut fixture, _) = served(NEWEST);
    let pid = fixture.pid().to_string();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("wall.pb.gz");
    let wall = ["dump", "--pid", &pid, "--for", "2s", "--hz", "20"];
    let ended = run(&[&wall[..], &["--format", "pprof", "--output", path.to_str().unwrap()]].concat());
    assert!(ended.status.success(), "{ended:?}");
    let output = Command::new("go").args(["tool", "pprof", "-raw"]).arg(&path).output().unwrap();
    let raw = String::from_utf8(output.stdout).unwrap();
    assert!(raw.contains("samples/count wall/nanoseconds[dflt]"), "{raw}");
    let rows = raw.lines().filter_map(|line| {
        let (numbers, _) = line.split_once(": ").filter(|(_, stack)| stack.starts_with(char::is_numeric))?;
        let mut numbers = numbers.split_whitespace().map(|number| number.parse::<u64>());
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    let (samples, wall_ns) = rows.fold((0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
    // All of them lived all the time: one more than the fixture has declared, which is the first.
    let live = goroutines(&fixture, &[]).len() as u64;
    assert!(samples > 5 * live && samples % live == 0, "{samples} of {live}");
    let seconds = wall_ns as f64 / 1e9;
    let lived = live as f64 * 2.0;
    assert!((lived..lived * 1.2).contains(&seconds), "{seconds} s of {lived}");

    let all = folded(&run(&[&wall[..], &["--format", "folded"]].concat()).stdout);
    let busy = folded(&run(&[&wall[..], &["--format", "folded", "--idle", "hide"]].concat()).stdout);
    assert!(all.contains_key("main.child") && !busy.contains_key("main.child"), "{busy:?}");
    let ticks = |counts: &BTreeMap<String, u64>| {
        counts.iter().filter(|(name, _)| name.starts_with("main.main.func")).map(|(_, n)| n).sum::<u64>()
    };
    assert!(ticks(&busy) > 5 && ticks(&busy) < ticks(&all), "{busy:?}");
    let without =
        folded(&run(&[&wall[..], &["--format", "folded", "--without", "^main.child$"]].concat()).stdout);
    assert_eq!(without.len() + 1, all.len(), "{without:?}");

    // Ctrl-C, and the end of the process, end with what there is.
    let long = ["dump", "--pid", &pid, "--for", "1h", "--format", "folded"];
    let golife = Running::start(golife().args(long));
    std::thread::sleep(std::time::Duration::from_millis(700));
    let ended = stop(golife);
    assert!(ended.status.success() && folded(&ended.stdout).contains_key("main.child"), "{ended:?}");
    let golife = Running::start(crate::support::golife().args(long));
    std::thread::sleep(std::time::Duration::from_millis(700));
    fixture.close_stdin();
    let ended = golife.wait();
    assert!(ended.stderr.contains("this is what was seen before"), "{ended:?}");
    assert!(folded(&ended.stdout).contains_key("main.child"), "{ended:?}");
    run(&["dump", "--for", "1s", "--pid", &pid]).expect_error(2, &["--for"]);
}
