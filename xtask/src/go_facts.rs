//! `cargo xtask go-facts`: what golife must know of each version of Go, read from the toolchains themselves: offsets from
//! the debug information of a program that each builds, and wait reasons from each one's own source of the runtime.

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::machine::{self, output, say};

/// The file with one release of each minor version that golife supports, oldest first. It also has comments.
const RELEASES: &str = include_str!("../../tracer-user/src/go/runtime/releases.txt");

/// What `go-facts` can be told.
#[derive(clap::Args)]
pub struct Args {
    /// Write nothing; fail where the committed tables are not what the toolchains say.
    #[arg(long)]
    check: bool,
}

/// Builds a program by each toolchain, reads the facts, and writes the tables or compares them.
pub fn run(args: Args) -> Result<()> {
    let go = machine::go()?;
    machine::run(machine::cargo().args([
        "build",
        "--quiet",
        "--package",
        "tracer-user",
        "--example",
        "go_facts",
    ]))?;
    let reader = machine::target_dir().join("debug/examples/go_facts");
    let mut layouts = Vec::new();
    let mut reasons = Vec::new();
    let mut names = Vec::new();
    for version in versions() {
        say(format!("go{version}"));
        let toolchain = Toolchain { go: &go, version };
        let [layout, arm64] = [toolchain.layout(&reader, "amd64")?, toolchain.layout(&reader, "arm64")?];
        // The table has one row for both architectures.
        ensure!(layout == arm64, "go{version} lays structs out otherwise on arm64:\n{arm64}\nnot\n{layout}");
        layouts.push((minor(version)?, layout));
        reasons.push((minor(version)?, toolchain.wait_reasons()?));
        names.push((minor(version)?, toolchain.test_name()?));
    }
    let directory = machine::root().join("tracer-user/src/go/runtime");
    let tables = [
        (directory.join("layout_table.rs"), layout_table(&layouts, &names)?),
        (directory.join("wait_reason_table.rs"), wait_reason_table(&reasons)?),
    ];
    for (path, fresh) in tables {
        let fresh = formatted(&fresh)?;
        let shown = path.display();
        if !args.check {
            fs::write(&path, &fresh).with_context(|| format!("cannot write {shown}"))?;
            say(format!("wrote {shown}"));
        } else if fs::read_to_string(&path).with_context(|| format!("cannot read {shown}"))? != fresh {
            bail!(
                "{shown} is not what the toolchains say: run `cargo xtask go-facts` and look at what changed"
            );
        } else {
            say(format!("{shown} is what the toolchains say"));
        }
    }
    Ok(())
}

/// The releases as numbers: `1.26.8` and so on.
fn versions() -> impl Iterator<Item = &'static str> {
    RELEASES.lines().filter_map(|line| line.strip_prefix("go"))
}

fn minor(version: &str) -> Result<u16> {
    let minor = version.strip_prefix("1.").and_then(|rest| rest.split('.').next()?.parse().ok());
    minor.with_context(|| format!("{version} is no version of Go 1"))
}

/// A toolchain, which Go fetches by itself.
struct Toolchain<'a> {
    go: &'a Path,
    version: &'static str,
}

impl Toolchain<'_> {
    fn command(&self) -> Command {
        let mut command = Command::new(self.go);
        command
            .current_dir(machine::root().join("tests/fixtures"))
            .env("GOTOOLCHAIN", format!("go{}", self.version))
            .env("GOFLAGS", "-buildvcs=false")
            .env("CGO_ENABLED", "0");
        if self.version.starts_with("1.19.") {
            // The module index of Go 1.19 does not find the standard library of a toolchain that was fetched as a
            // module.
            command.env("GODEBUG", "goindex=0");
        }
        command
    }

    /// The layout that this toolchain's programs have, as Rust source: `Layout { … }`.
    fn layout(&self, reader: &Path, goarch: &str) -> Result<String> {
        let directory = machine::target_dir().join("go-facts");
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let binary = directory.join(format!("{}-{goarch}", self.version));
        let mut command = self.command();
        machine::run(command.env("GOARCH", goarch).args(["build", "-o"]).arg(&binary).arg("./tiny"))?;
        output(Command::new(reader).arg(&binary))
    }

    /// Where package `testing` keeps the name of a test: an offset in bytes.
    fn test_name(&self) -> Result<u16> {
        Ok(output(self.command().args(["run", "./testnames"]))?.trim().parse()?)
    }

    /// The texts of `waitReasonStrings`, in the order of the constants that index it:
    /// <https://cs.opensource.google/go/go/+/master:src/runtime/runtime2.go>.
    fn wait_reasons(&self) -> Result<Vec<String>> {
        let root = PathBuf::from(output(self.command().args(["env", "GOROOT"]))?);
        let path = root.join("src/runtime/runtime2.go");
        let source = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let block = |from: &str, to: &str| {
            let found = source.split_once(from).and_then(|(_, rest)| Some(rest.split_once(to)?.0));
            found.with_context(|| format!("go{} has no `{from}`: its runtime was rewritten", self.version))
        };
        let texts: HashMap<&str, &str> = block("var waitReasonStrings = [...]string{", "\n}")?
            .lines()
            .filter_map(|line| {
                let (name, text) = line.trim().split_once(':')?;
                Some((name, text.trim().strip_prefix('"')?.strip_suffix("\",")?))
            })
            .collect();
        let names = block("type waitReason uint8\n\nconst (", "\n)")?
            .lines()
            .filter_map(|line| line.split_whitespace().next().filter(|name| name.starts_with("waitReason")));
        let reasons: Vec<String> = names
            .map(|name| {
                texts.get(name).map(|text| (*text).to_owned()).with_context(|| format!("{name} has no text"))
            })
            .collect::<Result<_>>()?;
        ensure!(reasons.len() > 20 && reasons[0].is_empty(), "go{}: no wait reasons found", self.version);
        Ok(reasons)
    }
}

fn layout_table(layouts: &[(u16, String)], names: &[(u16, u16)]) -> Result<String> {
    let mut source = format!(
        "//! Offsets of the runtime's structs per Go version; written by `cargo xtask go-facts`, do not edit.\n\
         //!\n\
         //! From the debug information of programs that these toolchains built, the same for linux/amd64 and linux/arm64:\n\
         //! {}.\n\
         //! In the first patch release of each of these minor versions (on linux/amd64) they were found to be the\n\
         //! same. The structs: <https://cs.opensource.google/go/go/+/master:src/runtime/runtime2.go> and\n\
         //! <https://cs.opensource.google/go/go/+/master:src/runtime/chan.go> (hchan) and\n\
         //! <https://cs.opensource.google/go/go/+/master:src/runtime/netpoll.go> (pollDesc).\n\n\
         use super::layout::Layout;\n\n\
         /// The minor version of Go 1, and its layout; in order.\n\
         pub(crate) const TABLE: [(u16, Layout); {}] = [\n",
        versions().collect::<Vec<_>>().join(", "),
        layouts.len()
    );
    for (minor, layout) in layouts {
        writeln!(source, "({minor}, {layout}),")?;
    }
    write!(
        source,
        "];\n\n\
         /// The minor version of Go 1, and the offset of a test's name (`common.name` in\n\
         /// <https://cs.opensource.google/go/go/+/master:src/testing/testing.go>) in `testing.T`, `testing.B` and `testing.F`,\n\
         /// as each toolchain's package reflect tells it; in order.\n\
         pub(crate) const TEST_NAMES: [(u16, u16); {}] = {names:?};\n",
        names.len()
    )?;
    Ok(source)
}

fn wait_reason_table(reasons: &[(u16, Vec<String>)]) -> Result<String> {
    let mut source = format!(
        "//! The texts of `g.waitreason` per Go version; written by `cargo xtask go-facts`, do not edit.\n\
         //!\n\
         //! `waitReasonStrings` in src/runtime/runtime2.go of these toolchains:\n\
         //! {}.\n\n\
         /// The minor version of Go 1, and its texts by number; in order.\n\
         pub(crate) const TABLE: [(u16, &[&str]); {}] = [\n",
        versions().collect::<Vec<_>>().join(", "),
        reasons.len()
    );
    for (minor, texts) in reasons {
        writeln!(source, "({minor}, &{texts:?}),")?;
    }
    source.push_str("];\n");
    Ok(source)
}

fn formatted(source: &str) -> Result<String> {
    let path = machine::target_dir().join("go-facts/table.rs");
    fs::write(&path, source).with_context(|| format!("cannot write {}", path.display()))?;
    let config = machine::root().join("rustfmt.toml");
    machine::run(
        Command::new("rustfmt").args(["--edition", "2024", "--config-path"]).arg(config).arg(&path),
    )?;
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}
