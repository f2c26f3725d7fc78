//! Checks documents against the official schema, and what is in them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

use super::*;
use crate::output::testing::{go_tests, golden, review};
use crate::report::Baselined;

fn document(report: &Report) -> Value {
    let sources = Sources::find(report, None, None);
    let mut bytes = Vec::new();
    write(report, &sources, &mut bytes).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// The official schema, which the source of the crate serde-sarif comes with.
fn schema() -> Value {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--locked", "--offline"]);
    let metadata = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"] == "serde-sarif").unwrap();
    let manifest = Path::new(package["manifest_path"].as_str().unwrap());
    let schema = fs::read_to_string(manifest.with_file_name("src").join("schema.json")).unwrap();
    // Its pattern of languages has a `]` too many, which not every engine of regular expressions takes for itself.
    serde_json::from_str(&schema.replace("-[a-zA-Z]{2}]?$", "-[a-zA-Z]{2}$")).unwrap()
}

/// All problems that the official schema has with a document.
fn problems(document: &Value) -> Vec<String> {
    static SCHEMA: LazyLock<Value> = LazyLock::new(schema);
    let schema = &*SCHEMA;
    let validator = jsonschema::options().should_validate_formats(true).build(schema).unwrap();
    validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn a_document_is_valid_by_the_schema() {
    let mut document = document(&review());
    assert_eq!(problems(&document), [""; 0]);
    // The schema would say so if it were not.
    document["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"]["startLine"] = 0.into();
    document["runs"][0]["results"][1]["level"] = "fatal".into();
    assert_eq!(problems(&document).len(), 2);
}

#[test]
fn what_is_written_is_as_agreed() {
    let report = review();
    let sources = Sources::find(&report, None, None);
    let mut bytes = Vec::new();
    write(&report, &sources, &mut bytes).unwrap();
    golden("review.sarif", &String::from_utf8(bytes).unwrap());
    assert!(sources.outside().is_none());
}

#[test]
fn findings_are_told_apart_by_what_does_not_move() {
    let prints = |document: &Value| -> Vec<String> {
        let results = document["runs"][0]["results"].as_array().unwrap();
        let print = |result: &Value| result["partialFingerprints"][FINGERPRINT].as_str().unwrap().to_owned();
        results.iter().map(print).collect()
    };
    let mut report = review();
    let before = prints(&document(&report));
    let mut different = before.clone();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), before.len());
    assert!(before.iter().any(|print| print.contains(" main.serve#2 main.serve.func1 ")), "{before:?}");
    for site in report.processes.iter_mut().flat_map(|process| &mut process.sites) {
        site.site.line = site.site.line.map(|line| line + 100);
        site.live += 7;
    }
    assert_eq!(prints(&document(&report)), before);
}

#[test]
fn an_unknown_place_has_no_line() {
    let mut report = review();
    for frame in report.processes.iter_mut().flat_map(|process| &mut process.sites).map(|site| &mut site.site)
    {
        *frame = Frame { function: "0x4821f0".into(), ..Frame::default() };
    }
    for site in report.processes.iter_mut().flat_map(|process| &mut process.sites) {
        site.blame = None;
    }
    let document = document(&report);
    assert_eq!(problems(&document), [""; 0]);
    let location = &document["runs"][0]["results"][0]["locations"][0];
    assert_eq!(location["physicalLocation"], Value::Null);
    assert_eq!(location["logicalLocations"][0]["fullyQualifiedName"], "0x4821f0");
}

#[test]
fn what_is_known_is_suppressed_as_what_is_ignored_is() {
    let mut known = review();
    let sites = known.processes.iter_mut().flat_map(|process| &mut process.sites);
    sites.for_each(|site| (site.ignored, site.known) = (false, site.ignored));
    let ignored = document(&review()).to_string();
    let expected = ignored.replace("silenced by --ignore", "known by --baseline");
    assert!(expected != ignored);
    assert_eq!(document(&known).to_string(), expected);
}

#[test]
fn nothing_found_is_a_run_without_results() {
    let mut report = review();
    report.processes.clear();
    let document = document(&report);
    assert_eq!(problems(&document), [""; 0]);
    assert_eq!(document["runs"][0]["results"].as_array().map(Vec::len), Some(0));
}

#[test]
fn a_finding_keeps_its_identity_where_another_is_gone() {
    let prints = |report: &Report| -> Vec<String> {
        let document = document(report);
        let results = document["runs"][0]["results"].as_array().unwrap().clone();
        let print = |result: Value| result["partialFingerprints"][FINGERPRINT].as_str().unwrap().to_owned();
        results.into_iter().map(print).collect()
    };
    // Two statements of one function start the same function.
    let of_hub = |prints: Vec<String>| -> Vec<String> {
        prints.into_iter().filter(|print| print.contains("Subscribe#")).collect()
    };
    let mut report = review();
    let process = &mut report.processes[0];
    process.findings = vec![process.findings[1].clone()];
    process.findings[0].sites = vec![3];
    let both = of_hub(prints(&review()));
    let alone = of_hub(prints(&report));
    assert_eq!(both.len(), 1, "the second follows from the first: {both:?}");
    assert!(alone.iter().any(|print| print.contains("Subscribe#2 ")), "{alone:?}");
    // Where no ordinal is known, they are still told apart.
    for site in &mut report.processes[0].sites {
        site.ordinal = None;
    }
    let mut all = prints(&report);
    all.sort();
    let before = all.len();
    all.dedup();
    assert_eq!(all.len(), before, "{all:?}");
}

#[test]
fn with_a_baseline_each_result_says_whether_it_is_new() {
    let states = |report: &Report| -> Vec<Value> {
        let document = document(report);
        assert_eq!(problems(&document), [""; 0]);
        let results = document["runs"][0]["results"].as_array().unwrap();
        results.iter().map(|result| result["baselineState"].clone()).collect()
    };
    let mut report = review();
    assert!(states(&report).iter().all(Value::is_null), "there is none to compare with");
    report.baseline = Some(Baselined::default());
    assert!(states(&report).iter().all(|state| state == "new"));
    let sites = report.processes.iter_mut().flat_map(|process| &mut process.sites);
    sites.for_each(|site| (site.ignored, site.known) = (false, site.ignored));
    let all = states(&report);
    assert_eq!(all.iter().filter(|state| *state == "unchanged").count(), 1, "{all:?}");
}

#[test]
fn what_tests_leave_behind_names_them_all() {
    let document = document(&go_tests());
    assert_eq!(problems(&document), [""; 0]);
    let results = document["runs"][0]["results"].as_array().unwrap();
    let tests: Vec<&Value> = results.iter().map(|result| &result["properties"]["tests"]).collect();
    let of = |names: &[&str]| {
        Value::from(names.iter().map(|name| format!("example.com/m/{name}")).collect::<Vec<_>>())
    };
    assert!(tests.contains(&&of(&["pool TestPool/full", "pool TestPool/idle"])), "{tests:?}");
    assert!(tests.contains(&&of(&["db TestKnown"])), "{tests:?}");
    assert_eq!(tests.iter().filter(|tests| tests.is_null()).count(), 1, "one grew without a test: {tests:?}");
    let said = |result: &&Value| {
        result["message"]["text"].as_str().unwrap().contains("outlived TestPool/full, TestPool/idle")
    };
    assert_eq!(results.iter().filter(said).count(), 1);
}
