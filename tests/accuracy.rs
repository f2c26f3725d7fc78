//! Measures how often golife is right. Every program of `tests/fixtures/corpus`, and of `tests/fixtures/modules` for
//! what needs other modules, runs under `golife leaks`. Each leak must be at least suspect, with the right cause and
//! blamed on the right line, and neither a corrected twin nor a healthy program may be suspect. The outcome is compared
//! with `tests/golden/accuracy.txt`. Needs root: `cargo xtask test`, or `sudo -E cargo test --test accuracy`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[allow(dead_code, reason = "shared with the test of libraries")]
#[path = "accuracy/corpus.rs"]
mod corpus;
#[path = "accuracy/goroutineleak.rs"]
mod goroutineleak;
#[allow(dead_code, reason = "shared with the test of libraries")]
#[path = "accuracy/said.rs"]
mod said;
#[allow(dead_code, unused_imports, reason = "shared with the e2e tests")]
#[path = "e2e/support.rs"]
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::Path,
    thread,
};

use corpus::{Case, PROGRAMS, build, marked};
use said::{LEVELS, Site, rank};
use support::need_root;

/// For how long golife watches.
const WINDOW: &str = "20s";
fn watch(binary: &Path, args: &[&str]) -> Vec<Site> {
    said::watch(binary, args, WINDOW).sites
}

/// How golife does on one cause of leaks.
#[derive(Default)]
struct Kind {
    leaks: usize,
    /// Leaks that are not even suspect.
    missed: usize,
    /// Leaks that are said to have another cause.
    misnamed: usize,
    /// Healthy statements that are said to leak for this cause.
    accused: usize,
}

/// What is compared with the golden file.
#[derive(Default)]
struct Outcome {
    leaks: usize,
    found: usize,
    named: usize,
    kinds: BTreeMap<String, Kind>,
    cases: String,
    wrong: Vec<String>,
    quiet: BTreeMap<&'static str, (usize, usize)>,
}

impl Outcome {
    /// Checks a run with leaks. Each leak must be found, and every other alarm is a false one.
    fn leaks(&mut self, cases: &[&Case], sites: &[Site]) {
        let marks = marked("leak");
        let mut explained = vec![false; sites.len()];
        // Which case each finding is of.
        let mut findings: BTreeMap<usize, &str> = BTreeMap::new();
        for case in cases {
            let mut said: Vec<&Site> = Vec::new();
            for (site, explained) in sites.iter().zip(&mut explained) {
                let is_of = match &case.within {
                    Some(function) => site.function.starts_with(function) && site.live > 0,
                    None => site
                        .is_at(marks.get(&case.name).unwrap_or_else(|| panic!("no mark of {}", case.name))),
                };
                let also = case.also.as_ref().is_some_and(|function| site.function.starts_with(function));
                *explained |= is_of || also;
                if is_of {
                    said.push(site);
                }
            }
            // What a library has left is one finding, and no other leak is a part of it.
            for finding in said.iter().filter_map(|site| site.finding) {
                let first = *findings.entry(finding).or_insert(&case.name);
                if first != case.name {
                    self.wrong.push(format!("{} is in the finding of {first}", case.name));
                }
            }
            let findings: BTreeSet<_> = said.iter().map(|site| site.finding).collect();
            if case.within.is_some() && findings.len() > 1 {
                self.wrong.push(format!("{} is {} findings", case.name, findings.len()));
            }
            self.leak(case, &said);
        }
        for (site, _) in
            sites.iter().zip(&explained).filter(|(site, explained)| site.is_alarm() && !**explained)
        {
            self.kinds.entry(site.cause.clone()).or_default().accused += 1;
            self.wrong.push(format!("not a leak: {} is {} {}", site.place(), LEVELS[site.level], site.cause));
        }
    }

    fn leak(&mut self, case: &Case, said: &[&Site]) {
        let level = said.iter().map(|site| site.level).min().unwrap_or(0);
        // All sites of a case must agree.
        let mut causes: Vec<&str> = said.iter().map(|site| site.cause.as_str()).collect();
        causes.sort_unstable();
        causes.dedup();
        let cause = if causes.is_empty() { "not seen".into() } else { causes.join("+") };
        let (is_found, is_named) = (level >= rank(&case.level), cause == case.cause);
        self.leaks += 1;
        self.found += usize::from(is_found);
        self.named += usize::from(is_named);
        let kind = self.kinds.entry(case.cause.clone()).or_default();
        kind.leaks += 1;
        kind.missed += usize::from(!is_found);
        kind.misnamed += usize::from(!is_named);
        let (name, level) = (&case.name, LEVELS[level]);
        if !is_found || !is_named {
            self.wrong.push(format!("{name} is {level} {cause}, expected {} {}", case.level, case.cause));
        }
        let blamed = marked("blame");
        for place in blamed.get(name).into_iter().flatten() {
            for site in said {
                let is_it = |(file, line): &(String, u64)| file.ends_with(&place.0) && *line == place.1;
                if !site.blame.as_ref().is_some_and(is_it) {
                    self.wrong.push(format!("{name} at {} is blamed on {:?}", site.place(), site.blame));
                }
            }
        }
        let advice = steady(said.first().map(|site| site.advice.as_str()).unwrap_or_default());
        writeln!(self.cases, "{name:<24} {level:<8} {cause:<13} {advice}").unwrap();
    }

    /// Checks a run without leaks, in which every alarm is a false one.
    fn quiet(&mut self, what: &'static str, programs: usize, sites: &[Site]) {
        let alarms: Vec<&Site> = sites.iter().filter(|site| site.is_alarm()).collect();
        let counts = self.quiet.entry(what).or_default();
        *counts = (counts.0 + programs, counts.1 + alarms.len());
        for site in alarms {
            self.kinds.entry(site.cause.clone()).or_default().accused += 1;
            self.wrong.push(format!("{what}: {} is {} {}", site.place(), LEVELS[site.level], site.cause));
        }
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{} leaks: {} at least as bad as expected, {} with the right cause\n",
            self.leaks, self.found, self.named
        );
        for (what, (programs, alarms)) in &self.quiet {
            writeln!(text, "{programs} {what}: {alarms} false alarms").unwrap();
        }
        writeln!(text, "\n{:<13} leaks  missed  other cause  falsely accused", "cause").unwrap();
        for (cause, Kind { leaks, missed, misnamed, accused }) in &self.kinds {
            writeln!(text, "{cause:<13} {leaks:>5} {missed:>7} {misnamed:>12} {accused:>16}").unwrap();
        }
        write!(text, "\n{}", self.cases).unwrap();
        for wrong in &self.wrong {
            writeln!(text, "WRONG {wrong}").unwrap();
        }
        text
    }
}

/// The advice without what differs from run to run: how many are served in a second, and who is at that moment.
fn steady(advice: &str) -> String {
    let Some((before, rest)) = advice.split_once(": about ") else { return advice.into() };
    let (_, after) = rest.split_once(": ").expect("rates end with a colon");
    format!("{before}: …: {after}")
}

#[test]
fn every_leak_is_found_and_named_and_nothing_else_is() {
    need_root();
    let mut outcome = Outcome::default();
    PROGRAMS.iter().filter_map(|program| build(program)).for_each(|binary| judge(&binary, &mut outcome));
    let got = outcome.text();
    println!("{got}");
    if std::env::var_os("GOLIFE_ACCURACY_GO").is_some() {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/accuracy.txt");
    if std::env::var_os("GOLIFE_GOLDEN").is_some_and(|value| value == "update") {
        fs::write(&path, got).unwrap();
        return;
    }
    let want = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        want == got,
        "\naccuracy.txt differs.\n--- want\n{want}\n--- got\n{got}\nif this is meant: GOLIFE_GOLDEN=update cargo test --test accuracy\n"
    );
}

/// Watches all cases of a program.
fn judge(binary: &Path, outcome: &mut Outcome) {
    let cases = Case::all(binary);
    let together: Vec<&Case> = cases.iter().filter(|case| case.leaks() && !case.alone).collect();
    let alone: Vec<&Case> = cases.iter().filter(|case| case.alone).collect();
    let healthy = cases.iter().filter(|case| !case.leaks()).count();

    thread::scope(|scope| {
        let watch = |args: Vec<&str>| watch(binary, &args);
        let leaks = scope.spawn(move || watch(vec!["-case", "all"]));
        let fixed = scope.spawn(move || watch(vec!["-case", "all", "-fixed"]));
        let fine = scope.spawn(move || watch(vec!["-case", "healthy"]));
        outcome.leaks(&together, &leaks.join().unwrap());
        outcome.quiet("corrected twins", together.len(), &fixed.join().unwrap());
        outcome.quiet("healthy programs", healthy, &fine.join().unwrap());
    });
    // These run one after the other, since some of them use all the CPU time that they can get.
    for case in alone {
        thread::scope(|scope| {
            let watch = |args: Vec<&str>| watch(binary, &args);
            let leak = scope.spawn(move || watch(vec!["-case", &case.name]));
            let fixed = scope.spawn(move || watch(vec!["-case", &case.name, "-fixed"]));
            outcome.leaks(&[case], &leak.join().unwrap());
            outcome.quiet("corrected twins", 1, &fixed.join().unwrap());
        });
    }
}
