//! What golife says of the mistakes that users make with common libraries, and of the same programs without them. Each
//! directory of `tests/fixtures/libraries` is a program with the real library. Its leaks must be suspect, blamed on the
//! right line, and with the remedy that the library has; where they are corrected, nothing may be suspect. Needs root:
//! `cargo xtask test` for five of them, `cargo xtask test --long` for all.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[allow(dead_code, unused_imports, reason = "shared with the e2e tests")]
#[path = "e2e/support.rs"]
mod support;

#[allow(dead_code, reason = "shared with the test of the accuracy")]
#[path = "accuracy/corpus.rs"]
mod corpus;
#[allow(dead_code, reason = "shared with the test of the accuracy")]
#[path = "accuracy/said.rs"]
mod said;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use corpus::{Case, marked_in};
use said::{LEVELS, Said, Site, watch};
use support::need_root;

/// For how long golife watches.
const WINDOW: &str = "12s";

/// Makes a test of each library, and the list of them all.
macro_rules! libraries {
    ($($(#[$attribute:meta])? $test:ident: $directory:literal;)*) => {
        const ALL: &[&str] = &[$($directory),*];
        $(#[test] $(#[$attribute])? fn $test() { check($directory) })*
    };
}

libraries! {
    cron: "cron";
    fsnotify: "fsnotify";
    go_redis: "go-redis";
    nats: "nats";
    sarama: "sarama";
    #[ignore = "cargo xtask test --long"] aws_sdk: "aws-sdk";
    #[ignore = "cargo xtask test --long"] client_go: "client-go";
    #[ignore = "cargo xtask test --long"] crypto_tls: "crypto-tls";
    #[ignore = "cargo xtask test --long"] database_sql: "database-sql";
    #[ignore = "cargo xtask test --long"] etcd: "etcd";
    #[ignore = "cargo xtask test --long"] franz_go: "franz-go";
    #[ignore = "cargo xtask test --long"] grpc: "grpc";
    #[ignore = "cargo xtask test --long"] mongodb: "mongodb";
    #[ignore = "cargo xtask test --long"] net_http: "net-http";
    #[ignore = "cargo xtask test --long"] opentelemetry: "opentelemetry";
    #[ignore = "cargo xtask test --long"] pgx: "pgx";
    #[ignore = "cargo xtask test --long"] x_net_http2: "x-net-http2";
}

#[test]
fn every_library_has_a_test() {
    let mut directories: Vec<_> =
        fs::read_dir(directory("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    directories.sort();
    let mut all = ALL.to_vec();
    all.sort_unstable();
    assert_eq!(directories, all);
}

fn directory(library: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/libraries").join(library)
}

fn build(library: &str) -> PathBuf {
    let binary = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libraries").join(library);
    let mut go = Command::new("go");
    go.args(["build", "-buildvcs=false", "-o"]).arg(&binary).arg(".").current_dir(directory(library));
    let output = go.env("CGO_ENABLED", "0").output().expect("cannot run go: `cargo xtask test` installs it");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cannot compile {library}: {errors}");
    binary
}

/// A leak, or its correction, in a program that does healthy work as well.
#[derive(Clone, Copy)]
struct Run<'library> {
    library: &'library str,
    binary: &'library Path,
    case: &'library Case,
    healthy: &'library [String],
    fixed: bool,
}

impl Run<'_> {
    /// What is wrong with what golife says. What it says of a leak is printed.
    fn wrong(self) -> Vec<String> {
        let Case { name, .. } = self.case;
        let names = [std::slice::from_ref(name), self.healthy].concat().join(",");
        let mut args = vec!["-case", &names, "-rate", "5", "-most", "200", "-for", "60s"];
        args.extend(self.fixed.then_some("-fixed"));
        let said = watch(self.binary, &args, WINDOW);
        let (what, wrong) = if self.fixed {
            ("corrected", self.wrong_of_corrected(&said))
        } else {
            ("leaking", self.wrong_of_leak(&said))
        };
        wrong.into_iter().map(|wrong| format!("{name}, {what}: {wrong}")).collect()
    }

    /// The lines that are marked for this case.
    fn marks(self, kind: &str) -> Vec<(String, u64)> {
        marked_in(&[directory(self.library)], kind).remove(&self.case.name).unwrap_or_default()
    }

    fn wrong_of_corrected(self, said: &Said) -> Vec<String> {
        let fixed = self.marks("fixed");
        let alarms = said.sites.iter().filter(|site| site.is_alarm());
        let mut wrong: Vec<String> = alarms.map(describe).collect();
        // Otherwise it would be right by doing nothing.
        if !said.sites.iter().any(|site| begins(site, &self.case.within) || site.is_at(&fixed)) {
            wrong.push("does not use the library".to_string());
        }
        wrong
    }

    /// There must be one mistake, and whoever reads of any of its goroutines in the library must find the remedy.
    fn wrong_of_leak(self, said: &Said) -> Vec<String> {
        let Case { name, cause, within, advice, .. } = self.case;
        let (leaks, blamed) = (self.marks("leak"), self.marks("blame"));
        let alarms: Vec<_> = said.findings.iter().filter(|finding| finding.is_alarm()).collect();
        let [finding] = &alarms[..] else {
            let sites = said.sites.iter().filter(|site| site.is_alarm() || begins(site, within));
            let sites: Vec<String> = sites.map(describe).collect();
            return vec![format!("{} findings, not 1: {sites:#?}", alarms.len())];
        };
        println!("{name} {} {}: {}", LEVELS[finding.level], finding.cause, finding.advice);
        let mut wrong = Vec::new();
        let has_remedy = |said: &str| advice.as_ref().unwrap().split('|').any(|remedy| said.contains(remedy));
        if !has_remedy(&finding.advice) || !cause.split('|').any(|cause| cause == finding.cause) {
            wrong.push(format!("expected {cause} and {advice:?}: {} {}", finding.cause, finding.advice));
        }
        let lines = [leaks.clone(), blamed].concat();
        if !lines.is_empty() && !finding.is_blamed_on(&lines) {
            wrong.push(format!("is blamed on {:?}, not {lines:?}", finding.blamed));
        }
        let of_library = |site: &&Site| begins(site, within) || site.is_at(&leaks);
        let sites = finding.sites.iter().map(|&at| &said.sites[at]);
        let without = sites.filter(of_library).filter(|site| !has_remedy(&site.advice));
        wrong.extend(without.map(|site| format!("has no {advice:?}: {}", describe(site))));
        wrong
    }
}

/// Whether its function begins in one of these ways. One mistake may leave goroutines of several kinds, so what a case
/// expects may have alternatives.
fn begins(site: &Site, functions: &Option<String>) -> bool {
    let mut functions = functions.iter().flat_map(|functions| functions.split('|'));
    functions.any(|function| site.function.starts_with(function))
}

fn describe(site: &Site) -> String {
    let Site { cause, advice, why, .. } = site;
    format!("{} is {} {cause} ({why}): {advice}", site.place(), LEVELS[site.level])
}

/// Watches all programs of a library at the same time. They do little, and most of a run is waiting.
fn check(library: &str) {
    need_root();
    let binary = build(library);
    let (leaks, healthy): (Vec<_>, Vec<_>) = Case::all(&binary).into_iter().partition(Case::leaks);
    let healthy: Vec<String> = healthy.into_iter().map(|case| case.name).collect();
    let wrong = thread::scope(|scope| {
        let runs = leaks.iter().flat_map(|case| [false, true].map(|fixed| (case, fixed)));
        let runs: Vec<_> = runs
            .map(|(case, fixed)| Run { library, binary: &binary, case, healthy: &healthy, fixed })
            .map(|run| scope.spawn(move || run.wrong()))
            .collect();
        runs.into_iter().flat_map(|run| run.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
