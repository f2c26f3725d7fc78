//! The floors of golife's house: which folder may use which, and what each never holds.
//!
//! A file may use its own folder and what its row names, nothing else. ARCHITECTURE.md shows the same table.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{
    Breach,
    house::{File, House, SOURCES},
    imports::How,
};
use crate::tables;

/// The document that shows the table.
const DOCUMENT: &str = "ARCHITECTURE.md";
/// The name in the comments around the table.
const TABLE: &str = "floors";

/// What one folder may use, or one file that is in no folder.
struct Row {
    /// The floor, from 1, the lowest.
    floor: u8,
    /// Its name in the folder of sources: `name.rs`, or `name/`.
    folder: &'static str,
    /// The other rows that it may use, by their names alone.
    may_use: May,
    /// The crates of [`GUARDED`] that it may use.
    crates: &'static [&'static str],
    /// What it never holds, because that belongs elsewhere. This is for people, and not checked.
    never: &'static str,
}

impl Row {
    const fn new(
        floor: u8,
        folder: &'static str,
        may_use: &'static [&'static str],
        never: &'static str,
    ) -> Row {
        Row { floor, folder, may_use: May::Use(may_use), crates: &[], never }
    }

    const fn of_all(floor: u8, folder: &'static str, never: &'static str) -> Row {
        Row { floor, folder, may_use: May::UseAll, crates: &[], never }
    }

    const fn with_crate(mut self, crates: &'static [&'static str]) -> Row {
        self.crates = crates;
        self
    }

    fn name(&self) -> &'static str {
        self.folder.trim_end_matches('/').trim_end_matches(".rs")
    }

    fn allows(&self, room: &str) -> bool {
        match self.may_use {
            May::Use(rooms) => rooms.contains(&room),
            May::UseAll => true,
        }
    }
}

enum May {
    Use(&'static [&'static str]),
    UseAll,
}

/// Crates that not every row may use, since few are to know the command line or the records.
const GUARDED: [&str; 2] = ["clap", "tracer_ebpf"];

/// Rows whose folders are still to come.
const TO_COME: &[&str] = &["agent", "top"];

/// The rows from the ground up. Each uses only rows above it in this table.
const FLOORS: [Row; 21] = [
    Row::new(
        1,
        "human.rs",
        &[],
        "what only golife knows: it makes numbers, durations, errors and foreign text readable",
    ),
    Row::new(1, "stats/", &[], "a goroutine or a process: samples go in, sums come out"),
    Row::new(
        1,
        "host/",
        &["human"],
        "Go, and golife's own state: `/proc` and the kernel say the same to every program",
    ),
    Row::new(1, "go/", &[], "a process: what it says is true of a binary, whoever runs it"),
    Row::new(
        2,
        "report/",
        &["human", "stats"],
        "a way to find anything out: plain types that are filled by others",
    ),
    Row::new(2, "event.rs", &[], "memory of earlier records: it says what one record means")
        .with_crate(&["tracer_ebpf"]),
    Row::new(
        2,
        "inspect/",
        &["go", "host"],
        "a judgement, a word for the user, a Go version: it says what stands in memory",
    ),
    Row::new(
        3,
        "verdict/",
        &["report", "stats", "human", "go"],
        "a process, its memory or a clock: it judges what it is given",
    ),
    Row::new(
        3,
        "probes/",
        &["event", "host", "human"],
        "knowledge of Go: it is given files, offsets and what programs must know",
    )
    .with_crate(&["tracer_ebpf"]),
    Row::new(
        3,
        "tracker/",
        &["event", "stats"],
        "a clock, a file or a name: time is the event's, sites are addresses",
    ),
    Row::new(
        3,
        "targets/",
        &["go", "inspect", "host", "report", "human"],
        "a probe, or an argument of the command line",
    ),
    Row::new(
        4,
        "look/",
        &["targets", "inspect", "verdict", "report", "stats", "go", "host", "human"],
        "a record or a probe: everything comes from one look into memory",
    ),
    Row::new(
        4,
        "assemble/",
        &["tracker", "verdict", "report", "stats", "go", "human"],
        "a process: the names it needs are given to it as plain values",
    ),
    Row::new(
        5,
        "trace/",
        &[
            "look", "assemble", "targets", "probes", "tracker", "verdict", "inspect", "report", "event",
            "go", "host", "stats", "human",
        ],
        "an argument, a progress bar, a printed word: it is the engine, and has no face",
    )
    .with_crate(&["tracer_ebpf"]),
    Row::new(
        5,
        "output/",
        &["look", "assemble", "targets", "inspect", "go", "report", "stats", "human"],
        "a judgement, or a stream of its own: it writes what there is into what it is given",
    ),
    Row::new(
        5,
        "store/",
        &["report", "stats"],
        "a judgement, or a question to the store: it only ever adds files",
    ),
    Row::new(
        6,
        "agent/",
        &[
            "trace", "output", "store", "look", "assemble", "targets", "probes", "tracker", "verdict",
            "inspect", "report", "event", "go", "host", "stats", "human",
        ],
        "a loop beside the engine's: it sends what that says",
    ),
    Row::new(
        6,
        "top/",
        &[
            "trace", "output", "store", "look", "assemble", "targets", "probes", "tracker", "verdict",
            "inspect", "report", "event", "go", "host", "stats", "human",
        ],
        "a loop beside the engine's: it draws what that says",
    ),
    Row::of_all(
        7,
        "commands/",
        "what an agent would need, too: only arguments, files, signals and what is printed",
    )
    .with_crate(&["clap"]),
    Row::of_all(7, "main.rs", "more than parsing, running and how it ended").with_crate(&["clap"]),
    Row::of_all(7, "lib.rs", "code: it names the rooms"),
];

/// The table as ARCHITECTURE.md shows it.
fn table() -> String {
    let mut text = String::from("| floor | folder | may use | never holds |\n|---|---|---|---|\n");
    for row in &FLOORS {
        let mut uses = match row.may_use {
            May::Use(rooms) => rooms.iter().map(|room| (*room).to_owned()).collect(),
            May::UseAll => vec!["everything".to_owned()],
        };
        uses.extend(row.crates.iter().map(|name| format!("the crate `{name}`")));
        let uses = if uses.is_empty() { "–".to_owned() } else { uses.join(", ") };
        let to_come = if TO_COME.contains(&row.name()) { " (to come)" } else { "" };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {} | `{}`{to_come} | {uses} | {} |", row.floor, row.folder, row.never);
    }
    text
}

/// Adds a fault if ARCHITECTURE.md shows another table. `write` writes the table into it first.
pub fn check_document(write: bool, faults: &mut Vec<String>) {
    let table = table();
    let written = if write { tables::put(DOCUMENT, TABLE, &table) } else { Ok(()) };
    match written.and_then(|()| tables::table(DOCUMENT, TABLE)) {
        Ok(shown) if shown == table => {}
        Ok(_) => faults.push(format!(
            "{DOCUMENT}: the table of floors is not that of the code: read the difference, then cargo xtask tidy --write"
        )),
        Err(error) => faults.push(format!("{error:#}")),
    }
}

/// Adds what breaks the table's rules.
pub fn check(house: &House, breaches: &mut Vec<Breach>) {
    check_rows(house, breaches);
    for file in &house.files {
        let Some(row) = FLOORS.iter().find(|row| row.name() == file.room()) else { continue };
        let mut fault = |line: usize, what: &str| {
            let what = format!("{} may not use {what}; see \"Floors\" in {DOCUMENT}", row.name());
            breaches.push(Breach::new(file.path(), line, what));
        };
        for (line, room) in rooms(house, file) {
            if room != row.name() && !row.allows(room) {
                fault(line, room);
            }
        }
        let guarded =
            |path: &[String]| GUARDED.into_iter().find(|name| path.first().is_some_and(|it| it == name));
        let crates: BTreeSet<_> =
            file.imports.outside.iter().filter_map(|used| Some((used.line, guarded(&used.path)?))).collect();
        for (line, name) in crates.into_iter().filter(|(_, name)| !row.crates.contains(name)) {
            fault(line, &format!("the crate {name}"));
        }
    }
}

/// The rooms that a file uses, each with the line. No room is there twice for one line.
fn rooms<'a>(house: &'a House, file: &File) -> BTreeSet<(usize, &'a str)> {
    // A path that begins with a name from a `use` was counted at that `use`.
    let inside = file.imports.inside.iter().filter(|import| import.how != How::Alias);
    inside.filter_map(|import| Some((import.line, house.room_of(&import.path)?))).collect()
}

/// Adds rooms without a row, and rows without a room that are not still to come.
fn check_rows(house: &House, breaches: &mut Vec<Breach>) {
    let mut rooms = BTreeSet::new();
    for file in &house.files {
        if rooms.insert(file.room()) && !FLOORS.iter().any(|row| row.name() == file.room()) {
            let what = format!("{} has no row; see \"Floors\" in {DOCUMENT}", file.room());
            breaches.push(Breach::new(file.path(), 0, what));
        }
    }
    for row in &FLOORS {
        let what = match (rooms.contains(row.name()), TO_COME.contains(&row.name())) {
            (false, false) => "has a row among the floors, and does not exist",
            (true, true) => "exists, and the floors say that it is to come",
            _ => continue,
        };
        breaches.push(Breach::new(format!("{SOURCES}{}", row.folder), 0, what));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::house::testing;

    /// The faults that imports are in a house with these files.
    fn faults(files: &[(&str, &str)]) -> Vec<String> {
        let mut breaches = Vec::new();
        check(&testing::house(files), &mut breaches);
        let absent = |text: &String| text.ends_with("does not exist");
        breaches.iter().map(ToString::to_string).filter(|text| !absent(text)).collect()
    }

    #[test]
    fn no_row_uses_a_higher_one() {
        for (index, row) in FLOORS.iter().enumerate() {
            assert!(FLOORS[..index].iter().all(|lower| lower.floor <= row.floor), "{}: order", row.folder);
            assert!(FLOORS[..index].iter().all(|other| other.name() != row.name()), "{}: twice", row.folder);
            assert!(row.crates.iter().all(|name| GUARDED.contains(name)), "{}: crates", row.folder);
            let May::Use(rooms) = row.may_use else { continue };
            for room in rooms {
                let lower = FLOORS[..index].iter().any(|lower| lower.name() == *room);
                assert!(lower, "{} uses {room}, which is no row before it", row.folder);
            }
        }
        assert!(TO_COME.iter().all(|name| FLOORS.iter().any(|row| row.name() == *name)));
    }

    #[test]
    fn a_row_uses_what_it_names() {
        let files = [
            ("lib.rs", "pub mod go; pub mod inspect; pub mod report; pub mod human; pub mod commands;"),
            ("go/mod.rs", "pub struct Binary;"),
            ("report/mod.rs", "pub struct Site; pub const A: crate::human::B = 0;"),
            ("human.rs", "pub type B = u8; pub type C = super::go::Binary;"),
            ("inspect/mod.rs", "mod queues; use queues::Queues; pub struct Own;"),
            (
                "inspect/queues.rs",
                "//! Why.\nuse super::Own;\nuse crate::{\n    go::Binary,\n    report::{self, Site},\n};\n\
                 fn f() { report::f(crate::human::g()) }\n#[cfg(test)]\nmod tests { use crate::report; }",
            ),
            ("commands/mod.rs", "use crate::{human, report}; use clap::Parser;"),
        ];
        assert_eq!(
            faults(&files),
            [
                "tracer-user/src/human.rs:1: human may not use go; see \"Floors\" in ARCHITECTURE.md",
                "tracer-user/src/inspect/queues.rs:5: inspect may not use report; see \"Floors\" in ARCHITECTURE.md",
                "tracer-user/src/inspect/queues.rs:7: inspect may not use human; see \"Floors\" in ARCHITECTURE.md",
            ]
        );
    }

    #[test]
    fn the_root_hides_nothing() {
        let files = [
            ("lib.rs", "pub mod go; pub mod human; pub use human::B; pub struct Own;"),
            ("human.rs", "pub type B = u8;"),
            ("go/mod.rs", "use crate::B;\nuse crate::Own;"),
        ];
        assert_eq!(
            faults(&files),
            [
                "tracer-user/src/go/mod.rs:1: go may not use human; see \"Floors\" in ARCHITECTURE.md",
                "tracer-user/src/go/mod.rs:2: go may not use lib; see \"Floors\" in ARCHITECTURE.md",
            ]
        );
    }

    #[test]
    fn some_crates_are_for_some_rows() {
        let files = [
            ("event.rs", "pub use tracer_ebpf::Kind;"),
            ("tracker/mod.rs", "\nuse tracer_ebpf::{Kind, Head};"),
            ("output/mod.rs", "#[derive(clap::ValueEnum)]\npub enum Group {}"),
            ("main.rs", "use clap::Parser; use golife::output::Group;"),
        ];
        assert_eq!(
            faults(&files),
            [
                "tracer-user/src/output/mod.rs:1: output may not use the crate clap; see \"Floors\" in ARCHITECTURE.md",
                "tracer-user/src/tracker/mod.rs:2: tracker may not use the crate tracer_ebpf; see \"Floors\" in ARCHITECTURE.md",
            ]
        );
    }

    #[test]
    fn rooms_and_rows_are_the_same() {
        let mut breaches = Vec::new();
        let house = testing::house(&[("session/mod.rs", ""), ("session/fit.rs", ""), ("agent/mod.rs", "")]);
        check(&house, &mut breaches);
        let texts: Vec<_> = breaches.iter().map(ToString::to_string).collect();
        assert!(
            texts.contains(
                &"tracer-user/src/session/fit.rs: session has no row; see \"Floors\" in ARCHITECTURE.md"
                    .to_owned()
            )
        );
        assert!(
            texts.contains(
                &"tracer-user/src/agent/: exists, and the floors say that it is to come".to_owned()
            )
        );
        let absent = "tracer-user/src/human.rs: has a row among the floors, and does not exist";
        assert!(texts.contains(&absent.to_owned()));
        assert!(!texts.iter().any(|text| text.contains("src/top/")));
    }

    #[test]
    fn the_table_has_a_row_for_each() {
        let table = table();
        assert!(table.contains("| 1 | `human.rs` | – | "));
        assert!(table.contains("| 3 | `probes/` | event, host, human, the crate `tracer_ebpf` | "));
        assert!(table.contains("| 6 | `agent/` (to come) | trace, "));
        assert!(table.contains("| 7 | `commands/` | everything, the crate `clap` | "));
        assert_eq!(table.lines().count(), FLOORS.len() + 2);
    }
}
