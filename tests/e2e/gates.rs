//! Checks what reviews and CI stand on: known leaks pass, new ones do not, and no more is created than may be.

use std::fs;

use crate::support::*;
use serde_json::{Value, json};

/// The site of the fixture `leaky` that leaks.
fn leak(report: &Value) -> &Value {
    let line = line_of("leaky", "leak");
    let sites = only_process(report)["sites"].as_array().unwrap();
    sites.iter().find(|site| site["site"]["line"] == line).unwrap_or_else(|| panic!("{report:#}"))
}

#[test]
fn a_baseline_lets_known_sites_pass_and_no_others() {
    need_root();
    let mut fixture = ready(&fixture("leaky", Build::default()), &["-rate", "20", "-for", "50s"]);
    fixture.write("go");
    let pid = fixture.pid().to_string();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("known.txt");
    let baseline = ["--baseline", file.to_str().unwrap()];
    let leaks = ["leaks", "--for", "8s", "--fail-on", "suspect", "--pid", &pid];
    // It need not be there to be written, but to be read.
    run(&[&leaks[..], &baseline].concat()).expect_error(2, &["--baseline", "known.txt", "No such file"]);
    let ended = run(&[&leaks[..], &baseline, &["--write-baseline"]].concat());
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(!ended.stdout.contains("known by"), "what was found is shown: {ended:?}");
    let written = fs::read_to_string(&file).unwrap();
    let line = line_of("leaky", "leak");
    assert_eq!(
        written.lines().nth(1),
        Some(&*format!("main.main#2  # main.go:{line} chan-receive")),
        "{written}"
    );
    assert_eq!(written.lines().count(), 2, "{written}");

    // Another line for the same statement, and a statement that is gone.
    fs::write(&file, written.replace(&line.to_string(), "7") + "main.gone#1\n\n").unwrap();
    let ended = run(&[&leaks[..], &baseline, &["--format", "json"]].concat());
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(ended.stderr.contains("note: no site is what --baseline lists as main.gone#1\n"), "{ended:?}");
    let report = ended.report();
    let site = leak(&report);
    assert_eq!(
        (&site["known"], &site["ignored"], &site["ordinal"]),
        (&true.into(), &false.into(), &2.into())
    );
    assert_eq!(site["verdict"]["level"], "suspect", "{site:#}");
    assert_eq!(report["summary"]["known"], 1);
    assert_eq!(report["baseline"], json!({"entries": 2, "unmatched": ["main.gone#1"]}));
    assert_eq!(only_process(&report)["findings"], json!([]));

    let sweep = ["sweep", "--twice", "1s", "--fail-on", "watch", "--pid", &pid];
    let ended = run(&[&sweep[..], &baseline].concat());
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(ended.stdout.contains("watch, but known"), "{ended:?}");
    assert!(ended.stdout.ends_with("\n1 site is known by --baseline\n"), "{ended:?}");
    fs::write(&file, "main.main#1\n").unwrap();
    assert_eq!(run(&[&sweep[..], &baseline].concat()).status.code(), Some(3), "it is another statement");

    fs::write(&file, format!("main.main#2\n{} ours\n", "<".repeat(7))).unwrap();
    run(&[&sweep[..], &baseline].concat()).expect_error(2, &["known.txt", "line 2", "<< ours"]);
    let nowhere = ["--baseline", "/nowhere/known.txt", "--write-baseline"];
    run(&[&sweep[..], &nowhere].concat()).expect_error(2, &["/nowhere/known.txt"]);
    run(&[&sweep[..], &baseline, &["--write-baseline", "--top", "1"]].concat())
        .expect_error(2, &["--write-baseline", "--top"]);
}

#[test]
fn more_than_may_be_created_ends_with_3() {
    need_root();
    let fixture = fixture("leaky", Build::default());
    let line = line_of("leaky", "pool");
    let pool = |most: u64| format!(r"leaky/main\.go:{line}$={most}");
    let run_with = |limits: &[&str]| {
        let limits = limits.iter().flat_map(|limit| ["--max-created", limit]);
        let arguments: Vec<&str> = ["run", "--format", "json"].into_iter().chain(limits).collect();
        let program = [fixture.to_str().unwrap(), "-for", "200ms"];
        let mut golife = golife();
        golife.args(arguments).arg("--").args(program);
        let mut running = Running::start(&mut golife);
        running.line();
        running.write("go");
        running.close_stdin();
        running.wait()
    };
    let ended = run_with(&[&pool(4), "no such function=0"]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let ended = run_with(&[&pool(3), "=1000000"]);
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    let said = format!(
        "golife: 4 goroutines were created at sites that match 'leaky/main\\.go:{line}$', more than the 3 of --max-created"
    );
    assert!(ended.stderr.contains(&said), "{ended:?}");
    run(&["run", "--max-created", "main", "--", "true"]).expect_error(2, &["--max-created", "REGEX=N"]);
}

#[test]
fn two_reports_are_compared_statement_by_statement() {
    need_root();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let [old, new] = ["old.json", "new.json"].map(path);
    for (file, rate) in [(&old, "20"), (&new, "60")] {
        let mut fixture = ready(&fixture("leaky", Build::default()), &["-rate", rate, "-for", "20s"]);
        fixture.write("go");
        let pid = fixture.pid().to_string();
        let ended = run(&["trace", "--for", "6s", "--pid", &pid, "--format", "json", "--output", file]);
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    }
    // The same code one line further down.
    let mut moved: Value = serde_json::from_str(&fs::read_to_string(&old).unwrap()).unwrap();
    for site in moved["processes"][0]["sites"].as_array_mut().unwrap() {
        let line = site["site"]["line"].as_u64().unwrap_or_default();
        site["site"]["line"] = (line + 1).into();
    }
    let shifted = path("shifted.json");
    fs::write(&shifted, moved.to_string()).unwrap();
    let diff = |old: &str, new: &str, more: &[&str]| run(&[&["diff", old, new], more].concat());
    let same = diff(&old, &shifted, &["--format", "json", "--fail-on", "worse"]);
    assert_eq!(same.status.code(), Some(0), "{same:?}");
    let found: Value = serde_json::from_str(&same.stdout).unwrap();
    assert_eq!((&found["schema"], &found["sites"]), (&"golife.diff/1".into(), &json!([])), "{found:#}");

    let ended = diff(&old, &new, &["--format", "json", "--fail-on", "worse"]);
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    let found: Value = serde_json::from_str(&ended.stdout).unwrap();
    let leak = &found["sites"][0];
    let about = (&leak["site"]["line"], &leak["ordinal"], &leak["change"], &leak["regression"]);
    assert_eq!(
        about,
        (&line_of("leaky", "leak").into(), &2.into(), &"worse".into(), &true.into()),
        "{found:#}"
    );
    assert!(leak["differences"][0]["p"].as_f64().unwrap() < 1e-6, "{found:#}");
    let pool = line_of("leaky", "pool");
    let sites = found["sites"].as_array().unwrap();
    assert!(sites.iter().all(|site| site["site"]["line"] != pool), "the pool is as it was: {found:#}");
    assert_eq!(diff(&new, &old, &["--fail-on", "worse"]).status.code(), Some(0), "better is no failure");
    let text = diff(&old, &new, &[]).stdout;
    assert!(text.contains("\nworse   main.go:") && text.contains(" → "), "{text}");
    let markdown = diff(&old, &new, &["--format", "markdown"]).stdout;
    let row = format!("\n| **worse** | `main.go:{} in main.main #2` | ", line_of("leaky", "leak"));
    assert!(markdown.contains(&row), "{markdown}");
    run(&["diff", &old, "/nowhere.json"]).expect_error(1, &["/nowhere.json", "No such file"]);
    fs::write(&new, "{}").unwrap();
    run(&["diff", &old, &new]).expect_error(1, &["new.json", "schema"]);
}
