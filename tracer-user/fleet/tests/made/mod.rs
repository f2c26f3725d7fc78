//! A fleet made by hand in a temporary folder, and the program asked about it.

#![allow(dead_code, reason = "each test program uses some of it")]

use std::path::Path;
use std::process::Command;

use golife::store::{Place, Row, SweepFile};
use serde_json::Value;

/// 2026-11-02T00:00:00Z.
pub const START_MS: i64 = 1_793_577_600_000;
pub const HOUR_MS: i64 = 3_600_000;

/// Writes the file of one host's sweep.
pub fn write(store: &Path, rows: Vec<Row>) {
    let place = Place::new(&rows[0].host, rows[0].sweep_time_ms, 1);
    let file = SweepFile::new(place, rows).unwrap();
    let path = store.join(file.place.to_string());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, file.bytes).unwrap();
}

/// What the program says, which must succeed.
pub fn ask(command: &str, store: &Path, arguments: &[&str]) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_golife-fleet"));
    let asked = program.arg(command).arg(store).args(arguments).output().unwrap();
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    String::from_utf8(asked.stdout).unwrap()
}

/// The same as JSON.
pub fn ask_json(command: &str, store: &Path, arguments: &[&str]) -> Value {
    let text = ask(command, store, &[arguments, &["--format", "json"]].concat());
    serde_json::from_str(&text).unwrap()
}
