//! Checks where probes go in real Go runtimes: every version, built in every way, for each CPU that golife knows, is
//! compared with `golden/plan-amd64.txt` and `golden/plan-arm64.txt`.
//!
//! `cargo test --test plan` builds with the oldest and the newest measured Go; `GOLIFE_GO_VERSIONS=all` with all of
//! them, and with the race detector (for this machine's CPU alone: Go brings no other) and profile-guided optimisation,
//! which takes some twenty minutes the first time.
//! `GOLIFE_UPDATE_GOLDEN=1` rewrites the rows of what was built. Needs Go 1.21 or later, which fetches the others.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use golife::go::plan::{Body, Cost, Kernel, ProbeSite, Purpose, creation, exit};
use golife::go::releases::RELEASES;
use golife::go::{Binary, Function, Inlined};

/// The first minor version whose compiler takes a profile.
const FIRST_PROFILED: u32 = 21;

/// All measured versions as numbers, such as `1.26.8`, oldest first.
fn versions() -> Vec<&'static str> {
    RELEASES.into_iter().filter_map(|release| release.strip_prefix("go")).collect()
}

/// Names of the ways of building, with the arguments of `go build`.
const MODES: [(&str, &[&str]); 6] = [
    ("plain", &[]),
    ("stripped", &["-ldflags=-s -w"]),
    ("trimpath", &["-trimpath"]),
    ("pie", &["-buildmode=pie"]),
    ("unoptimised", &["-gcflags=all=-N -l"]),
    ("race", &["-race"]),
];

/// The CPUs that golife knows, as Go calls them.
const CPUS: [&str; 2] = ["amd64", "arm64"];

/// What Go calls the CPU of this machine.
const HOST: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

fn register(cpu: &str, number: u8) -> String {
    const AMD64: [&str; 16] = [
        "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
        "r14", "r15",
    ];
    if cpu == "amd64" { AMD64[number as usize].into() } else { format!("x{number}") }
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/spawn")
}

fn all_versions() -> bool {
    std::env::var("GOLIFE_GO_VERSIONS").is_ok_and(|versions| versions == "all")
}

/// The versions to build with: all of them, or the oldest and the newest.
fn built() -> Vec<&'static str> {
    match versions()[..] {
        [oldest, .., newest] if !all_versions() => vec![oldest, newest],
        ref all => all.to_vec(),
    }
}

fn minor(version: &str) -> u32 {
    version.split('.').nth(1).unwrap().parse().unwrap()
}

/// Builds the fixture. Fails the test with the compiler's errors.
fn build(version: &str, cpu: &str, name: &str, arguments: &[&str]) -> PathBuf {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("spawn-{version}-{cpu}-{name}"));
    let cgo = if name == "race" { "1" } else { "0" }; // the race detector is C++
    let mut go = Command::new("go");
    go.arg("build").args(arguments).arg("-o").arg(&out).arg(".").current_dir(fixture());
    go.env("GOTOOLCHAIN", format!("go{version}")).env("GOFLAGS", "").env("CGO_ENABLED", cgo);
    go.env("GOARCH", cpu);
    if minor(version) == 19 {
        // The module index of Go 1.19 does not find the standard library of a toolchain that was fetched as a module.
        go.env("GODEBUG", "goindex=0");
    }
    let done = go.output().expect("cannot run go; install Go 1.21 or later");
    assert!(
        done.status.success(),
        "go{version} build {arguments:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    out
}

/// Plans the sites for creations, exits and ends of coroutines.
fn plan(path: &Path, version: &str) -> Vec<(Function, ProbeSite)> {
    let binary = Binary::open_foreign(&File::open(path).unwrap(), path).unwrap();
    let kernel = Kernel::from_version(6, 18);
    let callee =
        |entry| binary.function_at(entry).filter(|found| found.entry == entry).map(|found| found.name);
    let mut sites = Vec::new();
    for (name, purpose) in [
        ("runtime.newproc1", Purpose::Creation),
        ("runtime.goexit1", Purpose::Exit),
        ("runtime.coroexit", Purpose::CoroutineExit),
    ] {
        if purpose == Purpose::CoroutineExit && minor(version) < 23 {
            continue;
        }
        let alone = binary.functions_named(name).into_iter().map(|into| Inlined { into, ranges: Vec::new() });
        let copies: Vec<Inlined> = alone.chain(binary.inlined_into(name).unwrap()).collect();
        let bodies: Vec<Body> = copies
            .iter()
            .map(|copy| Body {
                architecture: binary.image().architecture(),
                function: &copy.into.name,
                entry: copy.into.entry,
                code: binary.code(copy.into.entry..copy.into.end),
                inlined: &copy.ranges,
            })
            .collect();
        sites.extend(
            match purpose {
                Purpose::Creation => creation(&bodies, binary.layout(), &callee, kernel),
                _ => exit(&bodies, purpose, &callee, kernel),
            }
            .unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        );
    }
    sites.into_iter().map(|site| (binary.function_at(site.address).unwrap(), site)).collect()
}

fn row(cpu: &str, (function, site): &(Function, ProbeSite)) -> String {
    let offset = site.address - function.entry;
    let register = register(cpu, site.register);
    format!(
        "{:?} {}+{offset:#x} {register} {:?} {}",
        site.purpose, site.function, site.cost, site.instruction
    )
}

#[test]
fn sites_are_where_they_were_on_amd64() {
    sites_are_where_they_were("amd64");
}

#[test]
fn sites_are_where_they_were_on_arm64() {
    sites_are_where_they_were("arm64");
}

fn sites_are_where_they_were(cpu: &str) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/golden/plan-{cpu}.txt"));
    let text = fs::read_to_string(&golden).unwrap_or_default();
    let mut known: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        let (key, row) = line.split_at(line.match_indices(' ').nth(1).map_or(line.len(), |(at, _)| at));
        known.entry(key.to_owned()).or_default().push(row.trim().to_owned());
    }
    let has_race = all_versions() && cpu == HOST;
    let modes = if has_race { &MODES[..] } else { &MODES[..5] };
    let mut differs = Vec::new();
    for version in built() {
        for (mode, arguments) in modes {
            let sites = plan(&build(version, cpu, mode, arguments), version);
            let rows: Vec<String> = sites.iter().map(|site| row(cpu, site)).collect();
            let key = format!("{version} {mode}");
            if known.get(&key) != Some(&rows) {
                differs.push(format!("{key}: {rows:#?}, not {:#?}", known.get(&key)));
                known.insert(key, rows);
            }
        }
    }
    if std::env::var_os("GOLIFE_UPDATE_GOLDEN").is_some() {
        let keys =
            versions().into_iter().flat_map(|version| MODES.map(|(mode, _)| format!("{version} {mode}")));
        let rows =
            |key: String| known.get(&key).into_iter().flatten().map(move |row| format!("{key} {row}\n"));
        let text: String = keys.flat_map(|key| rows(key).collect::<Vec<_>>()).collect();
        fs::write(&golden, text).unwrap();
    } else {
        assert!(
            differs.is_empty(),
            "{}\nif the new sites are right, run again with GOLIFE_UPDATE_GOLDEN=1",
            differs.join("\n")
        );
    }
}

/// With a profile of a program that does little but create goroutines, the compiler inlines `newproc1` and what it
/// calls. The profile is made anew each time, so no two builds are alike. That is why no site is compared: it is enough
/// that each copy has a cheap one.
#[test]
fn inlined_copies_have_cheap_sites() {
    if !all_versions() {
        eprintln!("one version only; GOLIFE_GO_VERSIONS=all for all of them");
    }
    for version in built().into_iter().filter(|version| minor(version) >= FIRST_PROFILED) {
        let profile = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("spawn-{version}.pprof"));
        if !profile.exists() {
            let plain = build(version, HOST, "profiled", &[]);
            let ran = Command::new(plain).arg("profile").arg(&profile).env("GOMAXPROCS", "1").status();
            assert!(ran.unwrap().success());
        }
        let pgo = format!("-pgo={}", profile.display());
        for cpu in CPUS {
            let arguments = [&*pgo, "-gcflags=all=-d=pgoinlinebudget=8000"];
            let sites = plan(&build(version, cpu, "pgo", &arguments), version);
            let inlined = |(_, site): &&(Function, ProbeSite)| {
                site.purpose == Purpose::Creation && site.function != "runtime.newproc1"
            };
            assert!(sites.iter().any(|site| inlined(&site)), "{version} {cpu}: nothing inlined: {sites:#?}");
            for (_, site) in &sites {
                assert_ne!(site.cost, Cost::SingleStepped, "{version} {cpu}: {site:#?}");
            }
        }
    }
}
