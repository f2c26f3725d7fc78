//! Compacting, expiring and checking a store: each row counts once, whatever is done meanwhile.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use golife::store::{Place, Row, SweepFile};
use golife_fleet::arguments::Cli;
use golife_fleet::commands;
use serde_json::Value;

const HOUR: i64 = 3_600_000;
/// 2026-11-01T00:00:00Z.
const START: i64 = 1_793_491_200_000;

fn write(store: &Path, host: &str, time: i64, live: u64) -> PathBuf {
    let row = |function: &str| Row {
        sweep_time_ms: time,
        host: host.into(),
        service: "api".into(),
        function: function.into(),
        entry: "main.f".into(),
        live,
        ..Row::default()
    };
    let file = SweepFile::new(Place::new(host, time, 7), vec![row("main.a"), row("main.b")]).unwrap();
    let path = store.join(file.place.to_string());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, &file.bytes).unwrap();
    path
}

/// Runs a command, and returns its document.
fn ask(store: &Path, command: &str, more: &[&str]) -> Value {
    let out = tempfile::NamedTempFile::new().unwrap();
    let path = out.path().to_str().unwrap();
    let fixed = ["golife-fleet", command, store.to_str().unwrap(), "--format", "json", "--output", path];
    let cli = Cli::try_parse_from(fixed.iter().chain(more)).unwrap();
    let code = commands::run(cli.command).unwrap();
    assert!(code == ExitCode::SUCCESS || command == "check", "{command} {more:?}");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Rows and living goroutines.
fn all(store: &Path) -> (u64, u64) {
    let answer = ask(store, "sql", &["SELECT count(*) AS rows, sum(live) AS live FROM sites"]);
    let row = &answer["rows"][0];
    (row["rows"].as_u64().unwrap(), row["live"].as_u64().unwrap())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Three hosts, two hours, two rows each.
fn store() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for hour in 0..2 {
        for (host, live) in [("a", 1), ("b", 10), ("c", 100)] {
            write(folder.path(), host, START + hour * HOUR + 1000, live);
        }
    }
    folder
}

#[test]
fn each_row_counts_once_however_often_an_hour_is_compacted() {
    let folder = store();
    let store = folder.path();
    assert_eq!(all(store), (12, 444));
    ask(store, "compact", &[]);
    assert_eq!((all(store), files(&store.join("compact")).len()), ((12, 444), 2));
    ask(store, "compact", &[]);
    assert_eq!(files(&store.join("compact")).len(), 2, "there is nothing more to do");
    // What a spool sends later.
    write(store, "d", START + 2000, 1000);
    assert_eq!(all(store), (14, 2444));
    ask(store, "compact", &[]);
    assert_eq!((all(store), files(&store.join("compact")).len()), ((14, 2444), 3));
}

#[test]
fn two_who_compact_at_once_make_one_file() {
    let folder = store();
    let store = folder.path();
    std::thread::scope(|scope| {
        (0..4).for_each(|_| {
            scope.spawn(|| ask(store, "compact", &[]));
        });
    });
    assert_eq!((all(store), files(&store.join("compact")).len()), ((12, 444), 2));
}

#[test]
fn only_what_is_compacted_or_too_old_is_deleted() {
    let folder = store();
    let store = folder.path();
    ask(store, "expire", &["--keep", "3650d"]);
    assert_eq!(files(&store.join("sites")).len(), 6, "nothing stands for them yet");
    let broken = write(store, "e", START + 5000, 5);
    fs::write(&broken, b"PAR1 not really PAR1").unwrap();
    ask(store, "compact", &[]);
    ask(store, "expire", &["--keep", "3650d", "--dry-run"]);
    assert_eq!(files(&store.join("sites")).len(), 7);
    ask(store, "expire", &["--keep", "3650d"]);
    assert_eq!((files(&store.join("sites")), all(store)), (vec![broken], (12, 444)));
    ask(store, "expire", &["--keep", "1s"]);
    assert_eq!(files(store), [] as [PathBuf; 0]);
}

#[test]
fn an_hour_that_is_not_over_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    ["a", "b"].iter().for_each(|host| {
        write(folder.path(), host, now - 1000, 1);
    });
    ask(folder.path(), "compact", &[]);
    assert_eq!(files(&folder.path().join("compact")).len(), 0);
}

#[test]
fn a_check_names_the_silent_and_the_broken() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path();
    for hour in 0..12 {
        write(store, "steady", START + hour * HOUR, 1);
        if hour < 4 {
            write(store, "silent", START + hour * HOUR + 7, 1);
        }
        if !(4..=7).contains(&hour) {
            write(store, "gap", START + hour * HOUR + 9, 1);
        }
    }
    let broken = write(store, "broken", START + 60_000, 1);
    let bytes = fs::read(&broken).unwrap();
    fs::write(&broken, &bytes[..bytes.len() - 20]).unwrap();
    let answer = ask(store, "check", &[]);
    let names = |list: &str| {
        let hosts =
            answer[list].as_array().unwrap().iter().map(|host| host["host"].as_str().unwrap().to_owned());
        hosts.collect::<Vec<_>>()
    };
    assert_eq!((names("silent"), names("gaps")), (vec!["silent".to_owned()], vec!["gap".to_owned()]));
    assert_eq!((&answer["hosts"], &answer["newest"]), (&3.into(), &"2026-11-01T11:00:00Z".into()));
    let notes = answer["notes"].to_string();
    assert!(notes.contains("broken-20261101T000100.000Z"), "{notes}");
}

fn now() -> i64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64
}

/// The sweeps of a host, each of which came as late by the clock of the store.
fn sweeps(store: &Path, host: &str, late: i64) {
    for minutes in [40, 30, 20, 10, 0] {
        let came = now() - minutes * 60_000 - 5_000;
        let path = write(store, host, came - late, 1);
        let came = std::time::UNIX_EPOCH + std::time::Duration::from_millis(came as u64);
        fs::File::options().write(true).open(path).unwrap().set_modified(came).unwrap();
    }
}

#[test]
fn a_check_names_hosts_whose_clocks_are_off_and_compares_no_other_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path();
    for (host, late) in [("a", 1000), ("b", 3000), ("c", 2000), ("ahead", -HOUR), ("behind", HOUR)] {
        sweeps(store, host, late);
    }
    let answer = ask(store, "check", &[]);
    let ahead_s = |answer: &Value, host: &str| {
        let clocks = answer["clocks"].as_array().unwrap();
        let its = clocks.iter().find(|clock| clock["host"] == host);
        its.map(|clock| clock["ahead_s"].as_f64().unwrap().round())
    };
    assert_eq!(answer["clocks"].as_array().unwrap().len(), 2, "{answer}");
    assert_eq!((ahead_s(&answer, "ahead"), ahead_s(&answer, "behind")), (Some(3600.0), Some(-3600.0)));
    assert_eq!((&answer["silent"], &answer["gaps"]), (&Value::Array(vec![]), &Value::Array(vec![])));
    // Somebody has copied the store, so that nobody knows when its files came.
    let copied = tempfile::tempdir().unwrap();
    for (host, hours) in [("a", 24), ("b", 25), ("long silent", 40), ("ahead", -1)] {
        (0..3).for_each(|minute| {
            write(copied.path(), host, now() - hours * HOUR + minute, 1);
        });
    }
    let answer = ask(copied.path(), "check", &[]);
    let clocks = answer["clocks"].as_array().unwrap();
    assert_eq!((clocks.len(), ahead_s(&answer, "ahead")), (1, Some(3600.0)), "{answer}");
}

#[test]
fn what_comes_from_the_future_waits_for_its_hour_and_is_not_lost() {
    let folder = store();
    let store = folder.path();
    let ahead = now() + HOUR;
    ["ahead", "far"].iter().zip([ahead, ahead + 100_000 * HOUR]).for_each(|(host, time)| {
        write(store, host, time, 1000);
        write(store, host, time + 1, 1000);
    });
    assert_eq!(all(store).0, 20);
    ask(store, "compact", &["--after", "0s"]);
    ask(store, "expire", &["--keep", "3650d", "--grace", "0s"]);
    assert_eq!((all(store).0, files(&store.join("sites")).len()), (20, 4));
}

#[test]
fn a_sweep_that_was_sent_twice_counts_once() {
    let folder = store();
    let store = folder.path();
    let original = files(&store.join(Place::folder(START))).into_iter().min().unwrap();
    let again = |random: &str| {
        let name = original.to_str().unwrap().replace("-00000007.", &format!("-{random}."));
        fs::copy(&original, &name).unwrap();
        PathBuf::from(name)
    };
    again("00000001");
    let copy = again("0000000f");
    let answer = ask(store, "sql", &["SELECT count(*) AS rows, sum(live) AS live FROM sites"]);
    assert_eq!((&answer["rows"][0]["rows"], &answer["rows"][0]["live"]), (&12.into(), &444.into()));
    let notes = answer["notes"].to_string();
    assert!(
        notes.contains(copy.file_name().unwrap().to_str().unwrap()) && notes.contains("the same as"),
        "{notes}"
    );
    assert_eq!(ask(store, "check", &[])["hosts"], 3, "and nothing is broken");
    // Another golife of the same host has swept another service in the same millisecond, in as many bytes.
    let row = |service: &str, live| Row {
        sweep_time_ms: START + 500,
        host: "a".into(),
        service: service.into(),
        function: "f".into(),
        live,
        ..Row::default()
    };
    let sizes: Vec<usize> = [(1, "web", 5), (2, "api", 6)]
        .map(|(random, service, live)| {
            let file =
                SweepFile::new(Place::new("a", START + 500, random), vec![row(service, live)]).unwrap();
            fs::write(store.join(file.place.to_string()), &file.bytes).unwrap();
            file.bytes.len()
        })
        .into();
    assert_eq!(sizes[0], sizes[1]);
    assert_eq!(all(store), (14, 455));
    ask(store, "compact", &[]);
    assert_eq!((all(store), files(&store.join("compact")).len()), ((14, 455), 2));
    // The compacted file stands for copies, too.
    ask(store, "expire", &["--keep", "3650d"]);
    assert_eq!((all(store), files(&store.join("sites"))), ((14, 455), vec![]));
}

#[test]
fn more_files_than_memory_allows_are_refused_until_they_are_compacted() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path();
    let first = write(store, "h", START, 1);
    let files = 3000;
    for random in 0..files - 1 {
        // Each a moment later, so that none is a copy.
        let place = Place::new("h", START + 1 + random, random as u32);
        fs::hard_link(&first, store.join(place.to_string())).unwrap();
    }
    let check = ["golife-fleet", "check", store.to_str().unwrap(), "--memory", "64M"];
    let error = commands::run(Cli::try_parse_from(check).unwrap().command).unwrap_err().to_string();
    assert!(
        error.contains("3,000 files are to be read, and memory allows 2,730: golife fleet compact"),
        "{error}"
    );
    ask(store, "compact", &[]);
    assert_eq!(all(store), (2 * files as u64, 2 * files as u64));
    assert_eq!(ask(store, "check", &["--memory", "64M"])["files"], 1);
}
