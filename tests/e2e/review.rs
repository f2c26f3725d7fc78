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
