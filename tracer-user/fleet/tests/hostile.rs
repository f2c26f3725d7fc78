//! Names of functions, services, hosts and versions are chosen by others. In no form of any answer may they do anything.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{HOUR_MS, START_MS, program, sweep, write};
use golife::report::Level;
use golife::store::Row;

/// Begins as a formula; has quotes of SQL, marks of Markdown and HTML, escapes of terminals, line breaks, and writing from right to left.
const NAME: &str = "=cmd|'/C calc'!A1\"; DROP TABLE sites; --<img src=x onerror=alert(1)>[a](javascript:b)`*_|\u{1b}[2J\u{1b}]0;t\u{7}\r\n# x\u{202e}\u{200b}\u{feff}\u{9b}31m";

/// What a spreadsheet would run at the beginning of a cell.
const FORMULAS: [char; 4] = ['=', '+', '-', '@'];

#[test]
fn names_do_nothing_in_any_form_of_any_answer() {
    let folder = tempfile::tempdir().unwrap();
    for hour in 0..4u64 {
        for (first, host) in FORMULAS.iter().zip(0..) {
            let name = |what: &str| format!("{first}{what}{NAME}");
            let row = Row {
                sweep_time_ms: START_MS + i64::try_from(hour).unwrap() * HOUR_MS + host,
                host: name("host"),
                service: name("service"),
                version: Some(name(if hour < 2 { "old" } else { "new" })),
                module: Some(name("module")),
                function: name("function"),
                file: Some(name("file")),
                entry: name("entry"),
                blame: Some(name("blame")),
                evidence: vec![name("evidence")],
                waits: vec![(name("wait"), 9)],
                level: if hour < 2 { Level::Healthy } else { Level::Suspect },
                cause: Some("chan-send".into()),
                live: 10 * (hour + 1),
                created: 30,
                exited: 20,
                lifetime: vec![(8, 20)],
                lifetime_count: 20,
                lifetime_sum_s: 40.0,
                ..sweep()
            };
            write(folder.path(), vec![row]);
        }
    }
    // A file whose name is as bad as the others, and cannot be read.
    let bad = folder.path().join("sites/dt=2026-11-02/hour=00").join("=x\u{1b}[2J<img>\n\u{202e}.parquet");
    std::fs::write(bad, "x").unwrap();
    let url = folder.path().to_str().unwrap();
    let since = ["--since", "2026-11-01"];
    let all = "SELECT host, service, version, function, file, evidence, waits FROM sites";
    let owners = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(owners.path(), "=function =team<img>\n").unwrap();
    for (command, more) in [
        ("leaks", [&since[..], &["--owners", owners.path().to_str().unwrap()]].concat()),
        ("new", vec!["--since", "2026-11-02T01:30:00Z"]),
        ("compare", vec![]),
        ("hist", vec!["--by", "service"]),
        ("capacity", vec!["--by", "service"]),
        ("sql", vec![all]),
        ("check", vec![]),
    ] {
        for format in ["text", "json", "csv", "markdown", "html"] {
            let output =
                program().args([command, url]).args(&more).args(["--format", format]).output().unwrap();
            let (out, said) =
                (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
            // What cannot be read makes `check` end with 1.
            assert!(output.status.success() || command == "check", "{command}: {said}");
            for text in [&out, &said] {
                let unsafe_one = text.chars().find(|char| *char != '\n' && golife::human::is_unsafe(*char));
                assert_eq!(unsafe_one, None, "{command} {format}: {text}");
            }
            assert!(
                out.contains("cmd") || out.contains("u{feff}") || command == "check",
                "{command} {format} does not show names: {out}"
            );
            match format {
                "json" => _ = serde_json::from_str::<serde_json::Value>(&out).unwrap(),
                "csv" => no_formula(command, &out),
                "markdown" => {
                    assert!(
                        !out.contains("<img")
                            && !out.replace("\\]", "").contains("](java")
                            && !out.contains("\n# x"),
                        "{out}"
                    );
                    same_columns(&out);
                }
                "html" => {
                    assert!(!out.contains("<img") && !out.contains("onerror=alert(1)>"), "{command}: {out}")
                }
                _ => {}
            }
        }
    }
    let found = common::ask_json("leaks", folder.path(), &since);
    let functions = found["findings"].as_array().unwrap().iter();
    let functions: Vec<_> =
        functions.map(|finding| finding["site"]["function"].as_str().unwrap().to_owned()).collect();
    assert_eq!(functions.len(), 4);
    assert!(functions.contains(&format!("=function{NAME}")), "JSON has the name as it is: {functions:?}");
}

fn no_formula(command: &str, text: &str) {
    // Cells of RFC 4180; a quote within quotes is two.
    let (mut cells, mut is_quoted) = (vec![String::new()], false);
    for char in text.chars() {
        match char {
            '"' => is_quoted = !is_quoted,
            ',' | '\n' if !is_quoted => cells.push(String::new()),
            char => cells.last_mut().unwrap().push(char),
        }
    }
    assert!(!is_quoted, "{command}: {text}");
    let is_number = |cell: &str| cell.parse::<f64>().is_ok();
    let bad = cells.iter().find(|cell| cell.starts_with(FORMULAS) && !is_number(cell));
    assert_eq!(bad, None, "{command}: {text}");
}

/// All rows of a table have as many cells.
fn same_columns(text: &str) {
    let cells = |line: &str| line.replace("\\\\", "").replace("\\|", "").matches('|').count();
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.windows(2).filter(|pair| pair.iter().all(|line| line.starts_with("| "))) {
        assert_eq!(cells(pair[0]), cells(pair[1]), "{text}");
    }
}
