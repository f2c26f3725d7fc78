//! `cargo xtask programs`: golife beside Go programs that nobody here wrote, from the package registries, under load.
//! What golife says of them is compared with what they say of themselves, and a table of `docs/tested.md` is made of that.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    machine::{self, is_root, say},
    tables,
};

/// Debian's packages that are traced, or that one of those needs.
const DEBIAN: [&str; 12] = [
    "caddy",
    "containerd",
    "docker.io",
    "etcd-server",
    "gh",
    "hugo",
    "libsass1",
    "nats-server",
    "prometheus",
    "rclone",
    "runc",
    "syncthing",
];

/// A package of the npm registry that contains one Go program, which has no symbols and no build info.
const NPM: &str = "@esbuild/linux-x64@0.28.2";

/// A large program with debug information, by module and version.
const WITH_DWARF: (&str, &str) = ("github.com/prometheus/prometheus/cmd/prometheus", "v0.305.0");

/// Fetches all these programs, runs the test, and rewrites the table.
pub fn run() -> Result<()> {
    if !is_root()? {
        bail!("the programs are traced with real probes: run `cargo xtask programs` as root");
    }
    let go = machine::go()?;
    machine::mount_tracefs()?;
    let root = debian(&DEBIAN)?;
    let esbuild = npm(NPM)?;
    let large = with_dwarf(&go)?;
    let table = tables::draft("programs")?;
    say("golife beside each of them, a few minutes");
    let tested = machine::run(
        machine::cargo()
            .args(["test", "--package", "tracer-user", "--test", "e2e", "--"])
            .args(["programs::", "--ignored", "--nocapture", "--test-threads=1"])
            .env("PATH", machine::path_with(&go)?)
            .env("GOLIFE_PROGRAMS", &root)
            .env("GOLIFE_PROGRAMS_ESBUILD", esbuild)
            .env("GOLIFE_PROGRAMS_LARGE", large)
            .env("GOLIFE_PROGRAMS_TABLE", &table),
    );
    tables::adopt(tables::TESTED, "programs", &table)?;
    tested
}

fn directory() -> Result<PathBuf> {
    let directory = machine::target_dir().join("programs");
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}

/// The root of a tree with these packages, which are unpacked, not installed.
pub fn debian(packages: &[&str]) -> Result<PathBuf> {
    let directory = directory()?;
    let root = directory.join("root");
    for package in packages {
        let done = directory.join(format!("{package}.unpacked"));
        if done.exists() {
            continue;
        }
        say(format!("fetching Debian's {package}"));
        machine::run(Command::new("apt-get").current_dir(&directory).args(["download", "-qq", package]))?;
        let unpack = format!("dpkg -x {package}_*.deb root && rm {package}_*.deb");
        machine::run(Command::new("sh").current_dir(&directory).args(["-c", &unpack]))?;
        fs::write(&done, "").with_context(|| format!("cannot write {}", done.display()))?;
    }
    Ok(root)
}

/// The program that a package of the npm registry contains.
fn npm(package: &str) -> Result<PathBuf> {
    let directory = directory()?;
    let binary = directory.join("package/bin/esbuild");
    if !binary.exists() {
        if machine::find("npm").is_none() {
            machine::apt_install(&["npm"])?;
        }
        say(format!("fetching {package} from the npm registry"));
        let archive =
            machine::output(Command::new("npm").current_dir(&directory).args(["pack", "--silent", package]))?;
        machine::run(Command::new("tar").current_dir(&directory).args(["-xzf", &archive]))?;
    }
    Ok(binary)
}

/// The large program with debug information. It is built only once, since that takes minutes.
pub fn with_dwarf(go: &Path) -> Result<PathBuf> {
    let bin = directory()?.join("bin");
    let binary = bin.join("prometheus");
    if !binary.exists() {
        let (package, version) = WITH_DWARF;
        say(format!("building {package} {version} with its debug information"));
        let mut install = Command::new(go);
        install.args(["install", &format!("{package}@{version}")]).env("GOBIN", &bin).env("GOFLAGS", "");
        machine::run(&mut install)?;
    }
    Ok(binary)
}
