//! Checks what code-scanning pages, editors and CI pages get of a real program.

use std::fs;
use std::path::Path;

use crate::support::*;
use serde_json::Value;

/// A fixture that leaks, and its process id.
fn leaky(build: Build) -> (Running, String) {
    let mut fixture = ready(&fixture("leaky", build), &["-rate", "40", "-for", "60s"]);
    fixture.write("go");
    let pid = fixture.pid().to_string();
    (fixture, pid)
}

/// Starts golife in a directory, for findings in the form of `go vet`.
fn vet(directory: &Path, args: &[&str]) -> Running {
    let mut command = golife();
    command.args(["leaks", "--format", "vet", "--for", "8s"]).args(args).current_dir(directory);
    Running::start(&mut command)
}

/// What it has printed.
fn said(golife: Running) -> String {
    let ended = golife.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    ended.stdout
}

#[test]
fn sarif_is_at_the_line_relative_to_the_module() {
    need_root();
    let (_fixture, pid) = leaky(Build::default());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("leaks.sarif");
    let output = path.to_str().unwrap();
    let ended = run(&["leaks", "--format", "sarif", "--for", "8s", "--output", output, "--pid", &pid]);
    assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(0), ""), "{ended:?}");
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains('\x1b'), "{text}");
    let log: Value = serde_json::from_str(&text).unwrap();
    serde_json::from_str::<serde_sarif::sarif::Sarif>(&text).unwrap();

    let results = log["runs"][0]["results"].as_array().unwrap();
    let result = results.iter().find(|result| result["level"] == "warning").unwrap();
    assert_eq!(result["ruleId"], "chan-receive", "{result:#}");
    let place = |location: &Value| {
        let physical = &location["physicalLocation"];
        let artifact = &physical["artifactLocation"];
        assert_eq!(artifact["uriBaseId"], "%SRCROOT%", "{result:#}");
        (artifact["uri"].as_str().unwrap().to_owned(), physical["region"]["startLine"].as_u64().unwrap())
    };
    let line = line_of("leaky", "leak");
    assert_eq!(place(&result["locations"][0]), ("leaky/main.go".into(), line));
    let blocked = &result["relatedLocations"][0];
    assert_eq!(place(blocked), ("leaky/main.go".into(), line + 1));
    assert!(blocked["message"]["text"].as_str().unwrap().contains("in chan receive here"), "{blocked:#}");
    let root = fixtures().canonicalize().unwrap();
    let said = log["runs"][0]["originalUriBaseIds"]["%SRCROOT%"]["uri"].as_str().unwrap();
    assert_eq!(Path::new(said.strip_prefix("file://").unwrap()).canonicalize().unwrap(), root);
}

#[test]
fn vet_lines_lead_to_the_files_from_where_one_stands() {
    need_root();
    let (line, root) = (line_of("leaky", "leak"), fixtures().canonicalize().unwrap());
    let begin = |place: &str| format!("{place}:{line}: suspect: ");
    let (_usual, pid) = leaky(Build::default());
    // With -trimpath the paths have nothing of the directory in which the program was built.
    let (_trimmed, trimmed) = leaky(Build { way: Way::Trimmed, ..Build::default() });
    let (directory, ignored) = (root.to_str().unwrap(), format!("leaky/main.go:{line}$"));
    let here = [vet(&root, &["--pid", &pid]), vet(&root, &["--pid", &trimmed])];
    let elsewhere = vet(Path::new("/"), &["--pid", &trimmed, "--source-root", directory]);
    let silenced = vet(&root, &["--pid", &pid, "--ignore", &ignored]);
    for said in here.map(said) {
        assert!(said.starts_with(&begin("leaky/main.go")), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let (said_elsewhere, place) = (said(elsewhere), root.join("leaky/main.go"));
    let place = place.strip_prefix("/").unwrap().to_str().unwrap();
    assert!(said_elsewhere.starts_with(&begin(place)), "{said_elsewhere}");
    assert_eq!(said(silenced), "");
}

#[test]
fn a_leaking_site_is_a_failing_case_of_its_command() {
    need_root();
    let (_fixture, pid) = leaky(Build::default());
    let ended = run(&["leaks", "--format", "junit", "--for", "8s", "--pid", &pid, "--fail-on", "suspect"]);
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    let line = line_of("leaky", "leak");
    let failing = format!(r#"line="{line}">"#);
    let after = ended.stdout.split_once(&failing).map(|(_, after)| after.trim_start());
    assert!(after.is_some_and(|after| after.starts_with("<failure message=")), "{}", ended.stdout);
    assert!(ended.stdout.contains(" failures=\"1\" "), "{}", ended.stdout);
    assert!(ended.stdout.contains("-rate 40 -for 60s\" tests="), "{}", ended.stdout);
    let sweep = run(&["sweep", "--format", "junit", "--pid", &pid]);
    assert!(sweep.stdout.contains("<testsuites name=\"golife\" "), "{sweep:?}");
}

#[test]
fn a_histogram_has_no_findings() {
    for format in ["sarif", "vet", "junit"] {
        run(&["hist", "--format", format, "--pid", "1"]).expect_error(2, &["golife trace --format json"]);
    }
}
