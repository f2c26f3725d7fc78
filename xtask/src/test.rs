//! `cargo xtask test`: all tests, with all they need. Those with real probes on real Go programs need root.

use std::{ffi::OsStr, fs, process::Command};

use anyhow::{Context, Result, bail};

use crate::machine::{self, find, is_root, output, say};

/// The test programs that need root.
const E2E: [&str; 3] = ["e2e", "accuracy", "libraries"];

/// What `test` can be told.
#[derive(clap::Args)]
pub struct Args {
    /// Leave out the tests with real probes, which need root.
    #[arg(long)]
    no_root: bool,
    /// Run only the tests with real probes.
    #[arg(long, conflicts_with = "no_root")]
    root: bool,
    /// Watch programs with every common library, not with five of them. Their Go builds take minutes.
    #[arg(long, conflicts_with = "no_root")]
    long: bool,
    /// Run only tests whose names contain this.
    filter: Option<String>,
}

/// Installs what the tests need, and runs them.
pub fn run(args: Args) -> Result<()> {
    let go = machine::go()?;
    let path = machine::path_with(&go)?;
    say(format!("{} at {}", output(Command::new(&go).arg("version"))?, go.display()));
    let filter = args.filter.as_slice();

    if !args.root {
        // Some unit tests look into a Go program of another CPU while it runs.
        if ["qemu-aarch64-static", "qemu-aarch64"].iter().all(|emulator| find(emulator).is_none()) {
            machine::apt_install(&["qemu-user-static"])?;
        }
        say("unit, property and replay tests");
        let mut cargo = machine::cargo();
        // Not with golife-fleet: its dependencies would have others of golife's compiled with features that golife does not
        // ship with, such as another way to compress.
        cargo
            .args(["test", "--quiet", "--workspace", "--exclude", "golife-fleet", "--lib", "--bins"])
            .env("PATH", &path);
        for test in test_programs()?.iter().filter(|test| !E2E.contains(&test.as_str())) {
            cargo.args(["--test", test]);
        }
        machine::run(cargo.arg("--").args(filter))?;
        let mut fleet = machine::cargo();
        fleet.args(["test", "--quiet", "--package", "golife-fleet", "--lib", "--bins", "--tests", "--"]);
        machine::run(fleet.args(filter))?;
        machine::run(machine::cargo().args(["test", "--quiet", "--workspace", "--doc", "--"]).args(filter))?;
    }
    if args.no_root {
        say("NOT RUN: the e2e tests, which trace real Go programs and need root (--no-root)");
        return Ok(());
    }
    // Some of the Go programs contain C code, linked with shared libraries or without, and one is loaded by Python. What
    // docs/ci.md says is done as it says it, which takes make and setcap. Other hosts are reached by ssh, and an Alertmanager
    // is told what leaks.
    machine::apt_install(&[
        "gcc",
        "libc6-dev",
        "make",
        "libcap2-bin",
        "curl",
        "openssh-client",
        "openssh-server",
        "openssl",
        "prometheus-alertmanager",
    ])?;
    if find("python3").is_none() {
        machine::apt_install(&["python3"])?;
    }
    let moto = machine::moto()?;
    // golife looks for it beside itself.
    machine::run(machine::cargo().args(["build", "--quiet", "--package", "golife-fleet"]))?;
    say("e2e tests: real probes on real Go programs, as root");
    let mut cargo = e2e(&path, &E2E)?;
    cargo.env("PYTHONPATH", &moto).args(filter);
    machine::mount_tracefs()?;
    machine::run(&mut cargo)?;
    if args.long {
        say("the libraries that take long to build");
        let mut cargo = e2e(&path, &["libraries"])?;
        machine::run(cargo.args(["--ignored", "--nocapture"]).args(filter))?;
    }
    Ok(())
}

/// The command that runs these test programs as root. Arguments that are added are for the programs.
fn e2e(path: &OsStr, programs: &[&str]) -> Result<Command> {
    let mut cargo = machine::cargo();
    cargo.args(["test", "--package", "tracer-user"]).env("PATH", path);
    cargo.args(programs.iter().flat_map(|test| ["--test", test])).arg("--");
    if !is_root()? {
        if find("sudo").is_none() {
            bail!(
                "the e2e tests need root: run `cargo xtask test` as root, or leave them out with --no-root"
            );
        }
        // sudo sets a PATH of its own; env puts ours back.
        let runner = format!("sudo --preserve-env env PATH={}", path.to_string_lossy());
        let host = std::env::consts::ARCH.to_uppercase();
        cargo.env(format!("CARGO_TARGET_{host}_UNKNOWN_LINUX_GNU_RUNNER"), runner);
    }
    Ok(cargo)
}

/// The names of the programs in `tests/`.
fn test_programs() -> Result<Vec<String>> {
    let directory = machine::root().join("tests");
    let mut names = Vec::new();
    for entry in fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}
