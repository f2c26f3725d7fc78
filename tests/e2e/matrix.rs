//! Checks for every Go version and every way to build that counts, lines, waits and stacks are exact. `cargo xtask
//! matrix` makes the table in `docs/tested.md`.

use std::{
    fmt::Write,
    fs::{self, File},
    panic::{AssertUnwindSafe, catch_unwind},
};

use golife::go::{Binary, releases::RELEASES};
use serde_json::Value;

use crate::support::*;

const USUAL: Build = Build {
    toolchain: None,
    stripped: false,
    pie: false,
    unoptimised: false,
    experiment: "",
    way: Way::Usual,
};

/// A column of the table.
struct Column {
    heading: &'static str,
    fixture: &'static str,
    build: Build,
    /// The first minor version whose toolchain has this.
    since: u32,
}

const fn column(heading: &'static str, build: Build) -> Column {
    Column { heading, fixture: "counts", build, since: 18 }
}

const COLUMNS: [Column; 14] = [
    column("plain", USUAL),
    column("stripped", Build { stripped: true, ..USUAL }),
    column("`-trimpath`", Build { way: Way::Trimmed, ..USUAL }),
    column("PIE", Build { pie: true, ..USUAL }),
    column("cgo, dynamic", Build { way: Way::CgoDynamic, ..USUAL }),
    column("cgo, static", Build { way: Way::CgoStatic, ..USUAL }),
    column("`-race`", Build { way: Way::Race, ..USUAL }),
    column("`-N -l`", Build { unoptimised: true, ..USUAL }),
    Column { heading: "PGO", fixture: "counts", build: Build { way: Way::Profiled, ..USUAL }, since: 21 },
    column(EXPERIMENT, Build { stripped: true, ..USUAL }),
    column("c-shared", Build { way: Way::Library, ..USUAL }),
    column("c-shared, stripped", Build { way: Way::Library, stripped: true, ..USUAL }),
    column("plugin", Build { way: Way::Plugin, ..USUAL }),
    Column { fixture: "callbacks", ..column("threads of C", Build { way: Way::CgoDynamic, ..USUAL }) },
];

/// One `GOEXPERIMENT` of each toolchain that changes structs of the runtime, by its minor version. They are built
/// without debug information, so that the table of layouts has to be right.
const EXPERIMENTS: [(u32, &str); 10] = [
    (18, "staticlockranking"),
    (19, "staticlockranking"),
    (20, "pagetrace"),
    (21, "staticlockranking"),
    (22, "noexectracer2"),
    (23, "staticlockranking"),
    (24, "nospinbitmutex"),
    (25, "greenteagc"),
    (26, "goroutineleakprofile"),
    (27, "staticlockranking"),
];
const EXPERIMENT: &str = "`GOEXPERIMENT`";

/// The numbers are exact, but each creation costs the target several times as much.
const SINGLE_STEPPED: &str = "single-stepped";

/// The builds of which that is known: where an instruction would be cheap, the new g is in no register
/// (`golden/plan-amd64.txt`).
const KNOWN_SINGLE_STEPPED: [(&str, &str); 2] = [("go1.22.12", "`-N -l`"), ("go1.23.12", "`-N -l`")];

/// Something that is not as it should be: in a word, and in full.
type Fault = (&'static str, String);

/// Traces a fixture that starts and ends goroutines in all ways, and checks everything that a report says of it.
fn faults(name: &str, build: Build) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut check = |what: &'static str, test: &mut dyn FnMut()| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(test)) {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            faults.push((what, text.unwrap_or_default()));
        }
    };
    let mut binary = None;
    check("not built", &mut || {
        host(name, build);
        binary = Some(fixture(name, build));
    });
    let Some(binary) = binary else { return faults };
    if build.way == Way::Profiled {
        check("not built", &mut || {
            let program = Binary::open(&File::open(&binary).unwrap(), &binary).unwrap();
            assert!(
                !program.inlined_into("runtime.newproc1").unwrap().is_empty(),
                "newproc1 was not inlined"
            );
        });
    }
    let mut traced = None;
    check("not traced", &mut || {
        let mut fixture = ready_as(&mut host(name, build));
        let pid = fixture.pid().to_string();
        let golife = attach(&["trace", "--format", "json", "--ring-bytes", ROOMY, "--pid", &pid]);
        fixture.write("go");
        let truth = truth(name, &fixture.line());
        let ended = stop(golife);
        fixture.expect_alive();
        traced = Some((truth, ended.report(), ended.stderr));
    });
    let Some((truth, report, said)) = traced else { return faults };
    check("counts", &mut || {
        assert_eq!(reported(name, only_process(&report)), truth);
        check_exact(&report);
    });
    check(SINGLE_STEPPED, &mut || {
        let warning = said.lines().find_map(|line| line.split_once(": no cheap instruction"));
        assert!(warning.is_none(), "no cheap instruction{}", warning.map_or("", |(_, rest)| rest));
    });
    check("waits", &mut || waits_are_right(&report));
    check("stacks", &mut || stacks_are_right(name, build, &report));
    faults
}

/// The sites that have living goroutines, of the main package and of the main goroutine.
fn living(report: &Value) -> impl Iterator<Item = &Value> {
    only_process(report)["sites"].as_array().unwrap().iter().filter(|site| {
        let named = |place: &str, name: &str| site[place]["function"].as_str().unwrap().starts_with(name);
        // A plugin calls its package main by its path.
        let is_own = named("site", "main.") || named("site", "golife.test/fixtures/counts.");
        site["live"] != 0 && (is_own || named("entry", "runtime.main"))
    })
}

fn waiting(site: &Value) -> &[Value] {
    site["waiting"].as_array().unwrap_or_else(|| panic!("no waits in {site:#}"))
}

fn waits_are_right(report: &Value) {
    for site in living(report) {
        let waits = waiting(site);
        let sum: u64 = waits.iter().map(|wait| wait["count"].as_u64().unwrap()).sum();
        assert_eq!(sum, site["live"], "{site:#}");
        let reason = if stays(site) { "chan receive" } else { "syscall" };
        assert!(waits.iter().all(|wait| wait["reason"] == reason), "{reason} in {site:#}");
    }
}

fn stays(site: &Value) -> bool {
    site["entry"]["function"].as_str().is_some_and(|name| name.ends_with(".stay"))
}

fn stacks_are_right(name: &str, build: Build, report: &Value) {
    let main = format!("{name}/main.go");
    let sites: Vec<_> = living(report).collect();
    // The main goroutine of a library has ended, and a goroutine for a call from C has no `go` statement.
    let expected = if build.way == Way::Library { 1 } else { 2 };
    assert_eq!(sites.len(), expected, "main and stay in {sites:#?}");
    for site in sites {
        for wait in waiting(site) {
            let frames = wait["at"].as_array().unwrap();
            let is = |found: &Value, function: &str, end: &str, line: u64| {
                assert_eq!(
                    (&found["function"], &found["line"]),
                    (&function.into(), &line.into()),
                    "{site:#}"
                );
                assert!(found["file"].as_str().unwrap().ends_with(end), "{site:#}");
            };
            if stays(site) {
                let [only] = frames.as_slice() else { panic!("{site:#}") };
                let entry = site["entry"]["function"].as_str().unwrap();
                is(only, entry, &main, line_with(&main, "<-gate"));
            } else {
                let read = line_with("truth/truth.go", "stdin.ReadString");
                let [first, .., last] = frames.as_slice() else { panic!("{site:#}") };
                is(first, "golife.test/fixtures/truth.WaitLine", "/truth/truth.go", read);
                match build.way {
                    Way::Plugin => is(
                        last,
                        "main.main",
                        "/opener/main.go",
                        line_with("opener/main.go", "run.(func())()"),
                    ),
                    _ => is(last, "main.main", &main, line_with(&main, "truth.End()")),
                }
            }
        }
    }
}

/// Builds with the local Go in those ways in which no other test builds.
#[test]
fn other_ways_to_build() {
    need_root();
    for way in [Way::Trimmed, Way::CgoDynamic, Way::CgoStatic, Way::Race, Way::Profiled] {
        let faults = faults("counts", Build { way, ..USUAL });
        assert!(faults.is_empty(), "{way:?}: {faults:#?}");
    }
}

/// Tries the ways in which Go code gets into a process.
#[test]
fn libraries_plugins_and_threads_of_c() {
    need_root();
    for toolchain in [None, Some(OLDEST)] {
        let build = Build { toolchain, ..USUAL };
        for (name, build) in [
            ("counts", Build { way: Way::Library, stripped: true, ..build }),
            ("counts", Build { way: Way::Plugin, stripped: true, ..build }),
            ("callbacks", Build { way: Way::CgoDynamic, ..build }),
        ] {
            let faults = faults(name, build);
            assert!(faults.is_empty(), "{name} as {build:?}: {faults:#?}");
        }
    }
}

/// Tries all combinations, and writes a table of them to the file that GOLIFE_MATRIX names.
#[test]
#[ignore = "compiles 130 programs by ten toolchains: cargo xtask matrix"]
fn every_go_in_every_way() {
    need_root();
    let output = std::env::var_os("GOLIFE_MATRIX").expect("GOLIFE_MATRIX names the file to write");
    let headings = COLUMNS.map(|column| column.heading).join(" | ");
    let mut table = format!("| Go | {headings} |\n|---|{}\n", "---|".repeat(COLUMNS.len()));
    let (mut notes, mut unknown) = (Vec::<String>::new(), Vec::new());
    for version in RELEASES {
        let minor: u32 = version.split('.').nth(1).unwrap().parse().unwrap();
        write!(table, "| {} ", version.trim_start_matches("go")).unwrap();
        for Column { heading, fixture, build, since } in &COLUMNS {
            if minor < *since {
                table += "| – ";
                continue;
            }
            let experiment = EXPERIMENTS.iter().find(|(of, _)| *heading == EXPERIMENT && *of == minor);
            let experiment = experiment.map_or("", |(_, experiment)| experiment);
            let faults = faults(fixture, Build { toolchain: Some(version), experiment, ..*build });
            eprintln!("{version} {heading}: {}", if faults.is_empty() { "exact" } else { "NOT ALL WELL" });
            let is_exact = faults.iter().all(|(what, _)| *what == SINGLE_STEPPED);
            let mut cell = Vec::from_iter(is_exact.then(|| "exact".to_owned()));
            cell.extend((!experiment.is_empty()).then(|| format!("`{experiment}`")));
            for (what, why) in &faults {
                let first = why.lines().next().unwrap_or_default().replace(env!("CARGO_TARGET_TMPDIR"), "…");
                let note: String = first.chars().take(300).collect();
                let index = notes.iter().position(|known| *known == note).unwrap_or_else(|| {
                    notes.push(note);
                    notes.len() - 1
                });
                cell.push(format!("{what}[^matrix-{}]", index + 1));
                if *what != SINGLE_STEPPED || !KNOWN_SINGLE_STEPPED.contains(&(version, heading)) {
                    unknown.push(format!("{version} {heading}: {what}: {why}"));
                }
            }
            write!(table, "| {} ", cell.join(", ")).unwrap();
        }
        table += "|\n";
    }
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let kernel = kernel.split('.').take(2).collect::<Vec<_>>().join(".");
    write!(table, "\nMeasured on Linux {kernel}, x86-64.\n").unwrap();
    for (index, note) in notes.iter().enumerate() {
        write!(table, "\n[^matrix-{}]: {note}\n", index + 1).unwrap();
    }
    fs::write(&output, table).unwrap();
    assert!(unknown.is_empty(), "not everything is exact:\n{}", unknown.join("\n"));
}
