//! What Go's own profile of leaked goroutines finds in the corpus, beside what golife does. `cargo xtask compare` makes
//! the table in `docs/compared.md` of it.
//!
//! The profile (`goroutineleak`, <https://go.dev/doc/go1.27>) has the garbage collector look for goroutines that wait on
//! a channel or a lock which nothing that can still run can reach.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use crate::corpus::{Case, PROGRAMS, build, marked};

/// How long the cases run before the profile is taken.
const RUN: &str = "8s";

/// The `go` statement that made a goroutine.
struct Statement {
    function: String,
    file: String,
    line: u64,
}

impl Statement {
    /// Reads `created by FUNCTION in goroutine 1` and the line after it from a goroutine's stack.
    fn parse(stack: &str) -> Option<Statement> {
        let (_, created) = stack.split_once("created by ")?;
        let (function, place) = created.split_once("\n\t")?;
        let (file, line) = place.split_whitespace().next()?.rsplit_once(':')?;
        let function = function.split(" in goroutine ").next()?;
        Some(Statement { function: function.into(), file: file.into(), line: line.parse().ok()? })
    }
}

/// The statements whose goroutines Go marks as leaked after cases have run.
fn leaked(binary: &Path, args: &[&str]) -> Vec<Statement> {
    let mut corpus = Command::new(binary);
    corpus.args(["-goroutineleak", RUN, "-case"]).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut corpus = corpus.spawn().unwrap();
    corpus.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let output = corpus.wait_with_output().unwrap();
    assert!(output.status.success(), "{args:?}: {:?}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    let is_leaked = |stack: &&str| stack.lines().next().is_some_and(|state| state.contains("leaked"));
    text.split("\n\n").filter(is_leaked).filter_map(Statement::parse).collect()
}

#[test]
#[ignore = "needs Go 1.27, and says nothing of golife: cargo xtask compare"]
fn what_goroutineleak_finds() {
    // For each cause how many cases there are, and how many of them the profile finds.
    let mut causes: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut accused = 0;
    let marks = marked("leak");
    for binary in PROGRAMS.iter().filter_map(|program| build(program)) {
        let cases = Case::all(&binary);
        accused += leaked(&binary, &["all", "-fixed"]).len();
        let together = leaked(&binary, &["all"]);
        for case in cases.iter().filter(|case| case.leaks()) {
            let own = if case.alone { leaked(&binary, &[&case.name]) } else { Vec::new() };
            let mut found = if case.alone { own.iter() } else { together.iter() };
            let is_of = |statement: &Statement| match &case.within {
                Some(function) => statement.function.starts_with(function),
                None => marks[&case.name]
                    .iter()
                    .any(|(file, line)| statement.file.ends_with(file) && statement.line == *line),
            };
            let is_found = found.any(is_of);
            println!("{:<28} {:<13} {}", case.name, case.cause, if is_found { "found" } else { "" });
            let (all, of_go) = causes.entry(case.cause.clone()).or_default();
            *all += 1;
            *of_go += usize::from(is_found);
        }
    }
    assert_eq!(accused, 0, "Go accuses corrected twins");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/accuracy.txt");
    let said = fs::read_to_string(golden).unwrap();
    // A row of the golden table: the cause, how many leaks, how many of them are missed or said to have another cause.
    let of_golife = |cause: &str| -> usize {
        let mut rows = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|row| row.len() == 5 && row[0] == cause && row[1].parse::<usize>().is_ok());
        let number = |at: usize| row.as_ref().map_or(0, |row| row[at].parse::<usize>().unwrap());
        number(1).saturating_sub(number(2).max(number(3)))
    };
    let mut table = String::from("| cause | leaks | golife | `goroutineleak` |\n|---|---:|---:|---:|\n");
    let mut sums = (0, 0, 0);
    for (cause, (all, of_go)) in &causes {
        let named = of_golife(cause);
        sums = (sums.0 + all, sums.1 + named, sums.2 + of_go);
        writeln!(table, "| {cause} | {all} | {named} | {of_go} |").unwrap();
    }
    writeln!(table, "| all | {} | {} | {} |", sums.0, sums.1, sums.2).unwrap();
    println!("{table}");
    if let Some(path) = std::env::var_os("GOLIFE_COMPARED") {
        fs::write(path, table).unwrap();
    }
}
