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
