//! `cargo xtask dist`: builds golife as one file that needs nothing of the machine it runs on. It can be built for
//! every CPU architecture that golife knows, on any of them.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};

use crate::{
    kernels::architecture::{self, Architecture},
    machine::{self, output, say},
};

/// What `dist` can be told.
#[derive(clap::Args)]
pub struct Args {
    /// For which CPU architecture: x86-64 or arm64 [default: both]
    #[arg(long, value_parser = architecture::named)]
    arch: Vec<&'static Architecture>,
    /// Build nothing; fail where it would not compile, which the C library of this machine cannot tell.
    #[arg(long)]
    check: bool,
}

/// Compiles and says where the result is.
pub fn run(args: Args) -> Result<()> {
    let chosen = if args.arch.is_empty() { architecture::ALL.to_vec() } else { args.arch };
    if args.check {
        return chosen.into_iter().try_for_each(|architecture| {
            let check = ["check", "--quiet", "--locked", "--package", "tracer-user", "--target"];
            machine::run(cargo(architecture)?.args(check).arg(architecture.target))
        });
    }
    let place = machine::target_dir().join("dist");
    fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
    for architecture in chosen {
        say(format!("compiling golife for {}", architecture.name));
        machine::run(cargo(architecture)?.args([
            "build",
            "--locked",
            "--release",
            "--package",
            "tracer-user",
            "--target",
            architecture.target,
            // What no path leads to is left out over the borders of crates, too: half of the file.
            "--config=profile.release.lto='fat'",
            "--config=profile.release.codegen-units=1",
            // Debug information would make the file five times as large. The names of functions stay, for backtraces.
            "--config=profile.release.debug=false",
            "--config=profile.release.strip='debuginfo'",
        ]))?;
        let built = machine::target_dir().join(architecture.target).join("release/golife");
        let golife = place.join(format!("golife-linux-{}", architecture.debian));
        fs::copy(&built, &golife).with_context(|| format!("cannot write {}", golife.display()))?;
        say(format!("wrote {}", golife.display()));
    }
    Ok(())
}

/// A cargo that compiles and links for an architecture with what rustup has, without a C compiler or a C library.
pub fn cargo(architecture: &Architecture) -> Result<Command> {
    let target = architecture.target;
    let libraries = output(Command::new("rustc").args(["--print", "target-libdir", "--target", target]))?;
    if !fs::exists(&libraries)? {
        ensure!(
            machine::find("rustup").is_some(),
            "there is no rustup here: install Rust's standard library for {target} by hand"
        );
        say(format!("installing Rust's standard library for {target} by rustup"));
        machine::run(Command::new("rustup").args(["target", "add", target]))?;
    }
    let mut cargo = machine::cargo();
    let variable = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
    cargo.env(variable, "rust-lld");
    Ok(cargo)
}
