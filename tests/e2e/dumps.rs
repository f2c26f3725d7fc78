//! Checks what a dump says of single goroutines: file descriptors, labels, creators, and which of them it shows.

use crate::support::*;
use serde_json::{Value, json};

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
