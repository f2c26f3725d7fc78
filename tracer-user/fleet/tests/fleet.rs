//! Findings and their life, from sweep files as hosts write them to what a person reads.

mod common;

use common::{Fleet, HOUR_MS, START_MS, sweep};
use golife::report::Level;
use golife::store::Row;
use serde_json::Value;

fn leaking(live: u64) -> Row {
    Row { live, created: live, level: Level::Suspect, cause: Some("chan-send".into()), ..sweep() }
}

#[test]
fn one_bug_is_one_finding_although_lines_move() {
    let fleet = Fleet::new();
    for host in 0..5u64 {
        for hour in 0..4 {
            // The deploy after two hours moves the line.
            let (line, version) = if hour < 2 { (40, "v1.0.0") } else { (57, "v1.1.0") };
            let row =
                Row { line: Some(line), version: Some(version.into()), ..leaking(10 + hour * (host + 1)) };
            fleet.write(&format!("h{host}"), hour, vec![row]);
        }
    }
    let found = fleet.leaks(&[]);
    let [finding] = &found[..] else { panic!("{found:?}") };
    assert_eq!(finding["hosts"], 5);
    assert_eq!(
        (&finding["live"], &finding["live_median"], &finding["live_max"]),
        (&95.into(), &19.into(), &25.into())
    );
    assert_eq!((&finding["site"]["line"], &finding["site"]["ordinal"]), (&57.into(), &1.into()));
    assert_eq!((&finding["since_version"], &finding["state"]), (&"v1.0.0".into(), &"new".into()));
    // Each host has one slope within each version: host + 1 an hour.
    assert_eq!(finding["growth_per_h"], 3.0);
    assert_eq!(finding["example"]["host"], "h4");
    assert!(finding["advice"].as_str().is_some_and(|advice| advice.contains("buffer")));
}

#[test]
fn a_line_tells_the_statement_where_no_ordinal_does() {
    let fleet = Fleet::new();
    fleet.write("a", 0, vec![Row { ordinal: Some(2), line: Some(7), ..leaking(5) }]);
    fleet.write("b", 0, vec![Row { ordinal: None, line: Some(7), ..leaking(5) }]);
    fleet.write("c", 0, vec![Row { ordinal: None, line: Some(9), entry: "main.other".into(), ..leaking(5) }]);
    let found = fleet.leaks(&[]);
    let mut hosts: Vec<_> =
        found.iter().map(|finding| (&finding["site"]["ordinal"], &finding["hosts"])).collect();
    hosts.sort_by_key(|(_, hosts)| hosts.as_u64());
    assert_eq!(hosts, [(&serde_json::Value::Null, &1.into()), (&2.into(), &2.into())]);
}

#[test]
fn one_host_with_a_huge_count_does_not_outrank_a_bug_on_many() {
    let fleet = Fleet::new();
    for host in 0..20 {
        for hour in 0..3u64 {
            let mut rows = vec![Row { function: "main.everywhere".into(), ..leaking(50 + hour * 10) }];
            if host == 0 {
                rows.push(Row { function: "main.everywhere".into(), ordinal: Some(2), ..leaking(8 + hour) });
                rows[0].live = 1_000_000;
            }
            fleet.write(&format!("h{host}"), hour, rows);
        }
    }
    let found = fleet.leaks(&[]);
    assert_eq!((&found[0]["site"]["ordinal"], &found[0]["live_median"]), (&1.into(), &70.into()));
    assert_eq!(found[0]["live_max"], 1_000_000);
    assert_eq!(found[0]["growth_per_h"], 10.0, "the median host's");
}

#[test]
fn what_is_broken_or_foreign_is_left_out_by_name() {
    let fleet = Fleet::new();
    fleet.write("good", 0, vec![leaking(5)]);
    fleet.write("short", 0, vec![leaking(6)]);
    fleet.damage("short", |bytes| bytes.truncate(bytes.len() / 2));
    fleet.write("none", 0, vec![leaking(7)]);
    fleet.damage("none", Vec::clear);
    fleet.write("page", 0, vec![leaking(8)]);
    // The footer is whole, the pages before it are not.
    fleet.damage("page", |bytes| {
        let end = bytes.len() / 4;
        bytes[4..end].fill(0xff);
    });
    fleet.write("newer", 0, vec![leaking(9)]);
    fleet.damage("newer", |bytes| *bytes = common::with_version(bytes, "2"));
    fleet.write("foreign", 0, vec![leaking(9)]);
    fleet.damage("foreign", |bytes| *bytes = common::foreign());
    std::fs::write(fleet.hour(0).join("notes.txt"), "hello").unwrap();
    std::fs::write(fleet.hour(0).join("_SUCCESS"), "").unwrap();
    let (found, notes) = fleet.leaks_and_notes(&[]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["live"], 5);
    for (name, why) in [
        ("short-", "cannot be read"),
        ("none-", "is empty"),
        ("page-", "cannot be read"),
        ("newer-", "is of schema 2"),
        ("foreign-", "is of another schema"),
        ("notes.txt", "not named as a sweep file"),
    ] {
        assert!(notes.iter().any(|note| note.contains(name) && note.contains(why)), "{name}: {notes:#?}");
    }
    assert!(!notes.iter().any(|note| note.contains("_SUCCESS") || note.contains("good-")), "{notes:?}");
}

#[test]
fn files_with_more_columns_and_with_fewer_are_read() {
    let fleet = Fleet::new();
    for (host, change) in [("more", common::with_more as fn(&[u8]) -> Vec<u8>), ("less", common::with_less)] {
        fleet.write(host, 0, vec![leaking(5)]);
        fleet.damage(host, |bytes| *bytes = change(bytes));
    }
    let (found, notes) = fleet.leaks_and_notes(&[]);
    assert_eq!((&found[0]["hosts"], &found[0]["live"], notes.len()), (&2.into(), &10.into(), 0));
}

#[test]
fn files_by_spark_are_read_and_compacted() {
    let fleet = Fleet::new();
    for host in ["one", "two"] {
        fleet.write(
            host,
            0,
            vec![Row { lifetime: vec![(3, 4)], waits: vec![("select".into(), 1)], ..sweep() }],
        );
        fleet.damage(host, |bytes| *bytes = common::by_spark(bytes));
    }
    let lived = || {
        let sql = "SELECT bucket, sum(ended) AS ended FROM lifetimes GROUP BY bucket";
        let text = fleet.run(&["sql", fleet.url(), sql, "--format", "json"]);
        serde_json::from_str::<Value>(&text).unwrap()
    };
    assert_eq!(lived()["rows"], serde_json::json!([{ "bucket": 3, "ended": 8 }]));
    fleet.run(&["compact", fleet.url()]);
    assert!(fleet.path().join("compact").is_dir());
    assert_eq!(lived()["rows"], serde_json::json!([{ "bucket": 3, "ended": 8 }]));
}

#[test]
fn a_clock_an_hour_off_changes_nothing() {
    let fleet = Fleet::new();
    for hour in 0..3 {
        fleet.write("right", hour, vec![leaking(10 + hour)]);
        fleet.write("ahead", hour + 1, vec![leaking(20 + hour)]);
    }
    let found = fleet.leaks(&[]);
    assert_eq!((&found[0]["hosts"], &found[0]["live"]), (&2.into(), &34.into()));
}

#[test]
fn a_finding_is_known_then_fixed_then_back() {
    let fleet = Fleet::new();
    let state = || fleet.leaks(&[]).first().map(|finding| finding["state"].as_str().unwrap().to_owned());
    fleet.write("h", 0, vec![leaking(10)]);
    assert_eq!(state().as_deref(), Some("new"));
    assert_eq!(state().as_deref(), Some("new"), "the same sweeps say the same");
    fleet.write("h", 1, vec![leaking(11)]);
    assert_eq!(state().as_deref(), Some("known"));
    fleet.write("h", 2, vec![leaking(40)]);
    assert_eq!(state().as_deref(), Some("worse"));
    let mended =
        || Row { live: 1, created: 30, level: Level::Healthy, version: Some("v2".into()), ..sweep() };
    fleet.write("h", 3, vec![mended()]);
    fleet.write("h", 4, vec![mended()]);
    // The site does not execute, which proves nothing.
    fleet.write("h", 5, vec![Row { live: 0, created: 0, ..mended() }]);
    assert_eq!(state(), None, "two sweeps are not enough");
    fleet.write("h", 6, vec![mended()]);
    assert_eq!(state().as_deref(), Some("fixed"));
    fleet.write("h", 7, vec![Row { version: Some("v3".into()), ..leaking(9) }]);
    assert_eq!(state().as_deref(), Some("regressed"));
    let found = fleet.leaks(&[]);
    assert_eq!(found[0]["since_version"], "v1.0.0");
}

#[test]
fn other_hosts_of_the_same_version_do_not_fix_it() {
    let fleet = Fleet::new();
    let healthy = || Row { live: 1, created: 30, level: Level::Healthy, ..sweep() };
    fleet.write("leaks", 0, vec![leaking(10)]);
    fleet.write("well", 0, vec![healthy()]);
    assert_eq!(fleet.leaks(&[]).len(), 1);
    for hour in 1..6 {
        fleet.write("well", hour, vec![healthy()]);
    }
    assert_eq!(fleet.leaks(&[])[0]["state"], "known", "its last sweep has it");
}

#[test]
fn acknowledged_findings_are_hidden_until_their_date() {
    let fleet = Fleet::new();
    fleet.write("h", 0, vec![leaking(10)]);
    let id = fleet.leaks(&[])[0]["id"].as_str().unwrap().to_owned();
    fleet.run(&["ack", fleet.url(), &id, "--until", "2999-01-01", "--why", "on it"]);
    let (found, notes) = fleet.leaks_and_notes(&[]);
    assert!(found.is_empty() && notes.iter().any(|note| note.contains("1 acknowledged")), "{notes:?}");
    fleet.run(&["unack", fleet.url(), &id]);
    assert_eq!(fleet.leaks(&[]).len(), 1);
    fleet.run(&["ack", fleet.url(), &id, "--until", "2020-01-01", "--why", "it was"]);
    assert_eq!(fleet.leaks(&[]).len(), 1, "an expired one");
}

#[test]
fn acks_of_many_writers_at_once_all_count() {
    let fleet = Fleet::new();
    let names: Vec<String> = (0..8).map(|at| format!("main.f{at}")).collect();
    let rows = names.iter().map(|name| Row { function: name.clone(), ..leaking(10) });
    fleet.write("h", 0, rows.collect());
    let ids: Vec<String> =
        fleet.leaks(&[]).iter().map(|finding| finding["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 8);
    std::thread::scope(|scope| {
        for id in &ids {
            scope.spawn(|| {
                fleet.run(&["ack", fleet.url(), id, "--until", "2999-01-01", "--why", "all at once"])
            });
        }
    });
    assert_eq!(fleet.leaks(&[]).len(), 0);
    assert_eq!(std::fs::read_dir(fleet.path().join("state/acks")).unwrap().count(), 8);
}

#[test]
fn a_page_asks_for_nothing_and_lets_names_do_nothing() {
    let fleet = Fleet::new();
    let hostile = "main.<img src=x onerror=alert(1)>\u{1b}[2J\u{202e}'\"|`";
    let row = Row { function: hostile.into(), service: "</table><script>".into(), ..leaking(10) };
    fleet.write("h", 0, vec![row]);
    let page = fleet.run(&["leaks", fleet.url(), "--since", "2026-11-01", "--format", "html"]);
    assert!(page.contains("&lt;img src=x") && page.contains("&lt;script&gt;"), "{page}");
    for forbidden in
        ["<img", "<script", "src=\"", "href", "url(", "@import", "http:", "https:", "\u{1b}", "\u{202e}"]
    {
        assert!(!page.contains(forbidden), "{forbidden}: {page}");
    }
    for format in ["text", "json", "csv", "markdown"] {
        let text = fleet.run(&["leaks", fleet.url(), "--since", "2026-11-01", "--format", format]);
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
    }
}

#[test]
fn owners_have_their_own() {
    let fleet = Fleet::new();
    let rows =
        ["example.com/a.F", "example.com/b.F"].map(|name| Row { function: name.into(), ..leaking(10) });
    fleet.write("h", 0, rows.into());
    let owners = fleet.path().join("OWNERS");
    std::fs::write(&owners, "example.com/a team-a\n").unwrap();
    let owners = owners.to_str().unwrap();
    let found = fleet.leaks(&["--owners", owners, "--owner", "team-a"]);
    assert_eq!(found.iter().map(|finding| &finding["owner"]).collect::<Vec<_>>(), ["team-a"]);
    assert_eq!(fleet.leaks(&["--owners", owners]).len(), 2);
}

#[test]
fn sql_reads_and_prunes_and_never_writes() {
    let fleet = Fleet::new();
    (0..4).for_each(|hour| fleet.write("h", hour, vec![leaking(hour)]));
    let count = |sql: &str| fleet.run(&["sql", fleet.url(), sql, "--format", "csv"]);
    assert_eq!(count("SELECT sum(live) AS n FROM sites WHERE hour >= 2 AND dt = '2026-11-02'"), "n\n5\n");
    let plan = |sql: &str| fleet.run(&["sql", fleet.url(), sql, "--explain"]);
    assert!(plan("SELECT * FROM sites WHERE hour = 1").starts_with("reads 1 of 4 files"));
    assert!(
        plan("SELECT * FROM sites WHERE sweep_time < '2026-11-02T02:00:00Z'").starts_with("reads 2 of 4")
    );
    for sql in ["DROP TABLE sites", "COPY sites TO 'x.csv'", "INSERT INTO sites SELECT * FROM sites"] {
        assert!(fleet.fails(&["sql", fleet.url(), sql]).contains("not supported"), "{sql}");
    }
    assert_eq!(START_MS % HOUR_MS, 0);
}

#[test]
fn the_golden_file_of_schema_1_is_read() {
    // It stays as it is. One of a later schema stands beside it, written once with GOLIFE_GOLDEN=write.
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/schema-1");
    let fleet = Fleet::new();
    if std::env::var("GOLIFE_GOLDEN").is_ok_and(|what| what == "write") {
        let row = Row {
            evidence: vec!["41 more".into()],
            lifetime: vec![(-8, 3), (0, 1)],
            lifetime_count: 4,
            lifetime_sum_s: 2.5,
            waits: vec![("chan send".into(), 42)],
            hdr: Some(vec![1, 2, 3]),
            stack_bytes: Some(86_016),
            memory_limit: Some(1 << 30),
            blame: Some("main.main /src/main.go:7".into()),
            ..leaking(42)
        };
        fleet.write("golden", 0, vec![row]);
        let folder = std::path::Path::new(golden).join(golife::store::Place::folder(START_MS));
        std::fs::create_dir_all(&folder).unwrap();
        for entry in std::fs::read_dir(fleet.hour(0)).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
        }
    }
    let found =
        fleet.run(&["sql", golden, "SELECT service, live, evidence[1] AS why FROM sites", "--format", "csv"]);
    assert_eq!(found, "service,live,why\napi,42,41 more\n");
}

#[test]
fn what_is_new_since_a_version_or_a_time_was_not_there_before() {
    let fleet = Fleet::new();
    for hour in 0..4 {
        let version = Some(if hour < 2 { "v1" } else { "v2" }.to_owned());
        let old = Row { version: version.clone(), ..leaking(5) };
        let mut new = Row { function: "main.new".into(), version, ..leaking(5) };
        if hour < 2 {
            new.level = Level::Healthy;
        }
        fleet.write("h", hour, vec![old, new]);
    }
    for since in ["v2", "2026-11-02T01:30:00Z"] {
        let text = fleet.run(&["new", fleet.url(), "--since", since, "--format", "json"]);
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        let found = document["findings"].as_array().unwrap();
        assert_eq!(found.len(), 1, "{since}: {text}");
        assert_eq!(
            (&found[0]["site"]["function"], &found[0]["since_version"]),
            (&"main.new".into(), &"v2".into())
        );
    }
    assert!(fleet.fails(&["new", fleet.url(), "--since", "v9"]).contains("no sweep has a version v9"));
}

#[test]
fn a_fix_is_seen_by_comparing_versions() {
    let fleet = Fleet::new();
    for hour in 0..4 {
        let lifetime = |bucket| Row { lifetime: vec![(bucket, 100)], lifetime_count: 100, ..sweep() };
        let row = match hour {
            0..2 => Row { live: 500, created: 300, stack_bytes: Some(1 << 20), ..lifetime(16) },
            _ => Row {
                live: 4,
                created: 600,
                version: Some("v2".into()),
                stack_bytes: Some(8192),
                ..lifetime(0)
            },
        };
        fleet.write("h", hour, vec![row]);
    }
    let text = fleet.run(&["compare", fleet.url(), "--by", "version", "--format", "json"]);
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let site = &document["sites"][0];
    assert_eq!((&site["old_version"], &site["new_version"]), (&"v1.0.0".into(), &"v2".into()));
    assert_eq!((&site["before"]["rate_per_s"], &site["after"]["rate_per_s"]), (&10.0.into(), &20.0.into()));
    assert_eq!(
        (&site["before"]["live_per_host"], &site["after"]["live_per_host"]),
        (&500.0.into(), &4.0.into())
    );
    let p50 = |when: &str| site[when]["lifetime_p50_s"].as_f64().unwrap();
    assert!(p50("before") > 3.0 && p50("after") < 1.1, "{text}");
    assert_eq!(site["differs"], serde_json::json!(["rate", "lifetime"]));
}
