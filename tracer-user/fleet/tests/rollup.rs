//! Roll-ups: whoever asks hears the same with them and without, and no sweep counts twice or not at all.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{HOUR_MS, START_MS, ask, ask_json, write};
use golife::stats::native;
use golife::store::{Counts, Row};
use serde_json::Value;

/// What a host knows of two sites in an hour. Sums of such lifetimes are the same in any order.
fn sweep(store: &Path, host: u32, hour: i64, random: &mut fastrand::Rng) {
    let row = |function: &str, random: &mut fastrand::Rng| {
        let bucket = native::bucket(random.u64(1_000_000..9_000_000_000));
        let count = random.u64(1..50);
        Row {
            sweep_time_ms: START_MS + hour * HOUR_MS + i64::from(host),
            host: format!("h{host}"),
            service: if host < 6 { "it's" } else { "other" }.into(),
            version: Some(if hour < 2 { "v1" } else { "v2" }.into()),
            function: function.into(),
            ordinal: (function == "main.a").then_some(1),
            line: Some(10 + hour as u32),
            created: count + 1,
            exited: count,
            live: random.u64(1..9),
            stack_bytes: (host != 2).then_some(8192),
            lifetime: vec![(bucket, count), (bucket + 3, 1)],
            lifetime_count: count + 1,
            lifetime_sum_s: random.u32(1..1_000_000) as f64 / 1024.0,
            counts: if host == 4 { Counts::Incomplete } else { Counts::Exact },
            window_ns: 3_600_000_000_000,
            ..Row::default()
        }
    };
    let mut rows = vec![row("main.a", random)];
    if host.is_multiple_of(2) {
        rows.push(row("main.b", random));
    }
    write(store, rows);
}

/// Eight hosts in four hours, of which the last comes in the third.
fn store() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(3);
    for (host, hour) in (0..8).flat_map(|host| (0..4).map(move |hour| (host, hour))) {
        if host != 7 || hour >= 2 {
            sweep(folder.path(), host, hour, &mut random);
        }
    }
    folder
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn rollups(store: &Path) -> Vec<PathBuf> {
    files(&store.join("rollup"))
}

/// Everything that may be answered from roll-ups.
fn answers(store: &Path, more: &[&str]) -> Vec<Value> {
    let questions: [(&str, &[&str]); 4] = [
        ("hist", &[]),
        ("hist", &["--by", "site"]),
        ("hist", &["--service", "it's", "--since", "2026-11-02T00:30:00Z"]),
        ("compare", &[]),
    ];
    questions.iter().map(|(command, asked)| ask_json(command, store, &[asked, more].concat())).collect()
}

/// The answers, which must be the same without roll-ups.
fn both(store: &Path) -> Vec<Value> {
    let rolled = answers(store, &[]);
    assert_eq!(rolled, answers(store, &["--no-rollup"]));
    rolled
}

#[test]
fn answers_are_the_same_with_roll_ups_and_without() {
    let folder = store();
    let store = folder.path();
    let before = both(store);
    assert_eq!(before[0]["groups"][0]["hosts"], 6, "each counts once, however many hours it is in");
    ask("rollup", store, &["--until", "2026-11-02T03:00:00Z"]);
    assert_eq!(rollups(store).len(), 3);
    assert_eq!(both(store), before);
    let explained = ask("hist", store, &["--explain"]);
    assert!(explained.contains("rollup/dt="), "they are read: {explained}");
    assert!(!ask("hist", store, &["--explain", "--no-rollup"]).contains("rollup/dt="));
    // Whether files are compacted makes no difference.
    ask("compact", store, &[]);
    ask("rollup", store, &[]);
    assert_eq!((both(store), rollups(store).len()), (before.clone(), 4));
    let checked = ask_json("check", store, &[]);
    assert_eq!((&checked["hours"], &checked["rolled_up"]), (&4.into(), &4.into()));
    // What they were made of may go.
    ask("expire", store, &["--keep", "1s"]);
    assert_eq!((files(&store.join("sites")), files(&store.join("compact"))), (vec![], vec![]));
    let whole = |answers: &[Value]| [&answers[0], &answers[1], &answers[3]].map(Clone::clone);
    assert_eq!(whole(&answers(store, &[])), whole(&before));
}

#[test]
fn what_comes_late_counts_once_at_any_time() {
    let folder = store();
    let store = folder.path();
    let mut random = fastrand::Rng::with_seed(9);
    ask("rollup", store, &[]);
    ask("rollup", store, &[]);
    assert_eq!(rollups(store).len(), 4, "there is nothing more to do");
    sweep(store, 8, 0, &mut random);
    let late = both(store);
    assert_eq!(
        late[0]["groups"]
            .as_array()
            .unwrap()
            .iter()
            .map(|group| group["hosts"].as_u64().unwrap())
            .sum::<u64>(),
        9
    );
    // One compacted file has what the roll-up stands for, and what came late.
    ask("compact", store, &[]);
    assert_eq!(both(store), late);
    ask("rollup", store, &[]);
    assert_eq!((both(store), rollups(store).len()), (late.clone(), 5));
    assert_eq!(ask_json("check", store, &[])["rolled_up"], 4);
    ask("expire", store, &["--keep", "3650d", "--grace", "0s"]);
    assert_eq!((both(store), rollups(store).len()), (late.clone(), 4));
    // What comes when the sweeps of a roll-up are gone is read beside it.
    ask("expire", store, &["--keep", "1s"]);
    sweep(store, 9, 0, &mut random);
    let found = ask("rollup", store, &[]);
    assert!(found.contains("beside the roll-up"), "{found}");
    let hosts = ask_json("hist", store, &[])["groups"].clone();
    let hosts = hosts.as_array().unwrap().iter().map(|group| group["hosts"].as_u64().unwrap());
    assert_eq!((hosts.sum::<u64>(), rollups(store).len()), (10, 4));
    ask("expire", store, &["--keep", "1s", "--keep-rollups", "1s"]);
    assert_eq!(rollups(store), [] as [PathBuf; 0]);
}

#[test]
fn those_who_roll_up_at_once_make_one_file() {
    let folder = store();
    let store = folder.path();
    std::thread::scope(|scope| {
        (0..4).for_each(|_| {
            scope.spawn(|| ask("rollup", store, &[]));
        });
    });
    assert_eq!(rollups(store).len(), 4);
    both(store);
}

#[test]
fn a_broken_roll_up_is_named_and_sweeps_are_read_instead() {
    let folder = store();
    let store = folder.path();
    let before = both(store);
    ask("rollup", store, &[]);
    let mut broken = rollups(store);
    broken.sort();
    // One without an end, and one whose content is not what its end says.
    let bytes = fs::read(&broken[0]).unwrap();
    fs::write(&broken[0], &bytes[..bytes.len() - 10]).unwrap();
    let mut bytes = fs::read(&broken[1]).unwrap();
    bytes[4..400].fill(0xa5);
    fs::write(&broken[1], &bytes).unwrap();
    for (found, before) in answers(store, &[]).iter().zip(before) {
        let (groups, notes) = (&found["groups"], found["notes"].to_string());
        assert_eq!((groups, &found["sites"]), (&before["groups"], &before["sites"]));
        assert!(notes.contains("left out: rollup/"), "{notes}");
    }
}
