//! `cargo xtask build-ebpf`: compiles the probes with Debian's Rust, which ships `core` for the BPF target, and links
//! them with bpf-linker. The object is committed, so nobody else needs that toolchain.
//!
//! The same compilers give the same bytes in every directory, since paths are mapped to fixed ones and DWARF is
//! stripped. So the object can be checked against its source wherever the compilers have the versions that are written
//! beside it. The BTF keeps the line of each instruction: a comment that moves code to other lines changes the object,
//! too.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::machine::{self, output, say};

const BPF_LINKER: &str = "0.13.0";
const LLVM_CONFIG: &str = "llvm-config-22";

/// What `build-ebpf` can be told.
#[derive(clap::Args)]
pub struct Args {
    /// Write nothing; fail where the committed object is not what the source gives.
    #[arg(long)]
    check: bool,
}

/// The CPU architectures that there is an object for, by Rust's names.
const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

/// Compiles the probes for every architecture, then writes the objects or compares them.
pub fn run(args: Args) -> Result<()> {
    let tools = Tools::ensure()?;
    for architecture in ARCHITECTURES {
        make(architecture, &tools, &args)?;
    }
    Ok(())
}

fn make(architecture: &str, tools: &Tools, args: &Args) -> Result<()> {
    let prebuilt = machine::root().join(format!("tracer-ebpf/prebuilt/golife-probes.{architecture}.o"));
    let note = prebuilt.with_extension("txt");
    let one_line = |versions: &str| versions.lines().collect::<Vec<_>>().join(", ");
    say(format!("compiling the probes for {architecture} with {}", one_line(&tools.versions)));
    let object = compile(architecture, tools)?;
    let fresh = read(&object)?;
    if !args.check {
        fs::write(&prebuilt, &fresh).with_context(|| format!("cannot write {}", prebuilt.display()))?;
        fs::write(&note, &tools.versions).with_context(|| format!("cannot write {}", note.display()))?;
        say(format!("wrote {} ({} bytes)", prebuilt.display(), fresh.len()));
        return Ok(());
    }
    let noted = String::from_utf8(read(&note)?)?;
    if noted != tools.versions {
        say(format!("not compared: the committed object was made by {}", one_line(&noted)));
        if architecture == env::consts::ARCH {
            say(format!("test the fresh one: GOLIFE_PROBES={} cargo xtask test e2e", object.display()));
        }
    } else if fresh != read(&prebuilt)? {
        bail!(
            "{} is not what its source gives: run `cargo xtask build-ebpf` and commit it",
            prebuilt.display()
        );
    } else {
        say(format!("{} is what its source gives", prebuilt.display()));
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The programs that make the object.
struct Tools {
    rustc: PathBuf,
    linker: PathBuf,
    strip: PathBuf,
    /// The versions of all of them, one in each line, as they are committed beside the object.
    versions: String,
}

impl Tools {
    /// Finds the programs, and installs those that are missing.
    fn ensure() -> Result<Tools> {
        machine::apt_install(&["rustc-web", "libstd-rust-web-dev-bpf", "llvm-22-dev", "libpolly-22-dev"])?;
        // The rustc in PATH may be rustup's, so the package is asked where its own one is.
        let files = output(Command::new("dpkg").args(["-L", "rustc-web"]))?;
        let rustc =
            files.lines().find(|file| file.ends_with("/bin/rustc")).context("no bin/rustc in rustc-web")?;
        let rustc = PathBuf::from(rustc);
        let llvm = PathBuf::from(output(Command::new(LLVM_CONFIG).arg("--prefix"))?);
        let linker = cargo_home()?.join("bin/bpf-linker");
        let wanted = format!("bpf-linker {BPF_LINKER}");
        let linker_version = || output(Command::new(&linker).arg("--version"));
        if linker_version().ok().as_deref() != Some(&wanted) {
            say(format!("installing {wanted} by cargo install (a minute or two)"));
            machine::run(
                machine::cargo()
                    .args(["install", "--quiet", "--force", "bpf-linker", "--version", BPF_LINKER])
                    .args(["--no-default-features", "--features", "llvm-22"])
                    .env("LLVM_PREFIX", &llvm)
                    .env_remove("CARGO_TARGET_DIR"),
            )?;
        }
        let versions = format!(
            "{}\n{}\nLLVM {}\n",
            output(Command::new(&rustc).arg("--version"))?,
            linker_version()?,
            output(Command::new(LLVM_CONFIG).arg("--version"))?
        );
        Ok(Tools { rustc, linker, strip: llvm.join("bin/llvm-strip"), versions })
    }
}

/// Makes the object of one architecture in the target directory, and returns its path.
fn compile(architecture: &str, tools: &Tools) -> Result<PathBuf> {
    let target = machine::target_dir().join("ebpf").join(architecture);
    let mut cargo = machine::cargo();
    cargo
        .args([
            "build",
            "--quiet",
            "--locked",
            "--release",
            "--package",
            "tracer-ebpf",
            "--features",
            "probes",
        ])
        .args(["--bin", "golife-probes", "--target", "bpfel-unknown-none", "--target-dir"])
        .arg(&target)
        .env("RUSTC", &tools.rustc)
        // The BPF target and its intrinsics are unstable. With this, a stable compiler lets us use them.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &tools.linker)
        .env("CARGO_ENCODED_RUSTFLAGS", rustc_flags(architecture)?.join("\x1f"))
        .env_remove("RUSTFLAGS");
    machine::run(&mut cargo)?;
    let linked = target.join("bpfel-unknown-none/release/golife-probes");
    let object = target.join("golife-probes.o");
    // Only DWARF is stripped. The BTF stays, since the kernel reads it.
    machine::run(Command::new(&tools.strip).arg("--strip-debug").arg("-o").args([&object, &linked]))?;
    Ok(object)
}

fn rustc_flags(architecture: &str) -> Result<Vec<String>> {
    // The target is BPF for every architecture, but a probe is handed the registers of the CPU that it runs on.
    let mut flags = vec!["--cfg".to_owned(), format!("bpf_target_arch=\"{architecture}\"")];
    flags.extend(["-C", "debuginfo=2", "-C", "link-arg=--btf"].map(String::from));
    flags.push(format!("--remap-path-prefix={}=golife", machine::root().display()));
    // BTF has the paths of source files, which must not depend on the machine. Cargo unpacks crates into one directory
    // for each registry.
    let crates = cargo_home()?.join("registry/src");
    for registry in fs::read_dir(&crates).with_context(|| format!("cannot list {}", crates.display()))? {
        flags.push(format!("--remap-path-prefix={}=crates", registry?.path().display()));
    }
    Ok(flags)
}

fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    Ok(PathBuf::from(env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?).join(".cargo"))
}
