//! What runs in a guest: golife, its e2e tests and the Go programs that they trace, in an otherwise empty system.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{architecture::Architecture, debian::Suite};
use crate::{
    dist,
    machine::{self, output, say},
};

/// What the guest prints before the output of `uname -r`.
pub const RELEASE: &str = "golife-kernel-release: ";

/// What the guest prints last, before the tests' exit code.
pub const VERDICT: &str = "golife-kernel-test: ";

/// The suite that the rest of the guest comes from.
const SUITE: &str = "bookworm";

/// The programs for one CPU architecture.
pub struct Programs {
    architecture: &'static Architecture,
    golife: PathBuf,
    tests: PathBuf,
    /// Where the tests look for the Go programs that were compiled before.
    fixtures: PathBuf,
    /// The directory with the guest's shell, the loader of position-independent programs, and `setpriv`.
    system: PathBuf,
}

impl Programs {
    /// Builds golife and its e2e tests without shared libraries.
    pub fn build(architecture: &'static Architecture, directory: &Path) -> Result<Programs> {
        say(format!("building golife and its e2e tests for {}, statically linked", architecture.name));
        let target = directory.join("target");
        let mut cargo = dist::cargo(architecture)?;
        cargo
            .args(["test", "--no-run", "--release", "--target", architecture.target])
            .args(["--package", "tracer-user", "--test", "e2e"])
            .args(["--message-format", "json-render-diagnostics", "--quiet"])
            .env("CARGO_TARGET_DIR", &target);
        let messages = output(&mut cargo)?;
        let executable = |name: &str| {
            messages
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .filter(|message| message["target"]["name"] == name)
                .find_map(|message| message["executable"].as_str().map(PathBuf::from))
                .with_context(|| format!("cargo built no {name}"))
        };
        let place = directory.join(architecture.name);
        let system = place.join("system");
        Suite { name: SUITE, architecture: architecture.debian, place: &place }
            .unpack(&["busybox-static", "libc6", "util-linux", "libcap-ng0"], &system)?;
        Ok(Programs {
            architecture,
            golife: executable("golife")?,
            tests: executable("e2e")?,
            fixtures: target.join(architecture.target).join("tmp/fixtures"),
            system,
        })
    }

    /// Runs these tests on this machine, since what fails here need not be tried elsewhere. They compile the Go
    /// programs for themselves, and for the `others`.
    pub fn try_here(&self, tests: &[String], others: &[&Programs], go: &Path) -> Result<()> {
        say("the same tests on this machine's kernel");
        machine::mount_tracefs()?;
        let others: Vec<String> = others
            .iter()
            .filter(|other| other.architecture.name != self.architecture.name)
            .map(|other| format!("{}={}", other.architecture.debian, other.fixtures.display()))
            .collect();
        machine::run(
            machine::as_root("env")?
                .arg(format!("PATH={}", machine::path_with(go)?.to_string_lossy()))
                .arg(format!("GOLIFE_FIXTURES_FOR={}", others.join(":")))
                .arg(&self.tests)
                .args(tests)
                .current_dir(machine::root().join("tracer-user")),
        )
    }

    /// Packs everything into the guest's file system, under the paths that were compiled into the tests.
    pub fn initramfs(&self, directory: &Path, tests: &[String]) -> Result<PathBuf> {
        let root = directory.join(self.architecture.name).join("guest");
        let _ = fs::remove_dir_all(&root);
        for empty in ["bin", "dev", "etc", "proc", "run", "sys", "tmp"] {
            fs::create_dir_all(root.join(empty)).context("cannot make the guest's directories")?;
        }
        let inside = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
        copy(&self.system.join("bin/busybox"), &root.join("bin/busybox"))?;
        symlink("busybox", root.join("bin/sh"))?;
        let Architecture { loader, libraries, .. } = self.architecture;
        let loader_file = Path::new(libraries).join(Path::new(loader).file_name().unwrap_or_default());
        copy(&self.system.join(loader_file), &root.join(loader))?;
        copy(&self.system.join("usr/bin/setpriv"), &root.join("bin/setpriv"))?;
        for library in ["libc.so.6", "libcap-ng.so.0"] {
            let library = Path::new(libraries).join(library);
            copy(&self.system.join(&library), &root.join(&library))?;
        }
        for file in [&self.golife, &self.tests] {
            copy(file, &inside(file))?;
        }
        let tests_directory = machine::root().join("tracer-user");
        fs::create_dir_all(inside(&tests_directory))?;
        for tree in [&machine::root().join("tests/fixtures"), &self.fixtures] {
            copy_tree(tree, &inside(tree))?;
        }
        let init = root.join("init");
        fs::write(&init, self.init(tests))?;
        machine::run(Command::new("chmod").arg("755").arg(&init))?;
        let archive = root.with_extension("cpio");
        let pack = format!("find . | cpio --quiet -o -H newc > {}", quoted(&archive));
        machine::run(Command::new("sh").args(["-c", &pack]).current_dir(&root))?;
        fs::remove_dir_all(&root)?;
        Ok(archive)
    }

    /// The script that is the guest's first process.
    fn init(&self, tests: &[String]) -> String {
        let program = quoted(&self.tests);
        let directory = quoted(&machine::root().join("tracer-user"));
        let tests = tests.join(" ");
        format!(
            "#!/bin/sh\n\
             /bin/busybox --install -s /bin\n\
             export PATH=/bin GOLIFE_FIXTURES=built GOLIFE_PATIENCE=5 RUST_BACKTRACE=0 TMPDIR=/run\n\
             mount -t proc none /proc && mount -t sysfs none /sys && mount -t devtmpfs none /dev\n\
             mount -t tracefs none /sys/kernel/tracing && mount -t tmpfs none /run\n\
             mount -t cgroup2 none /sys/fs/cgroup\n\
             ip link set lo up; insmod /overlay.ko\n\
             echo \"{RELEASE}$(uname -r)\"\n\
             cd {directory} && {program} --test-threads=1 {tests}\n\
             echo \"{VERDICT}$?\"\n\
             poweroff -f\n"
        )
    }
}

/// The guest's files together with the modules of a kernel that tests need. They are two archives in one file, which
/// the kernel reads one after the other.
pub fn with_modules(kernel: &Path, initramfs: &Path) -> Result<PathBuf> {
    let staged = kernel.join("modules");
    fs::create_dir_all(&staged).with_context(|| format!("cannot make {}", staged.display()))?;
    let all = kernel.join("initramfs.cpio");
    let script = format!(
        "set -e; module=$(find {root} -name 'overlay.ko*' | head -n 1); \
         case $module in *.xz) xz -dc $module ;; *) cat $module ;; esac > overlay.ko; \
         cat {initramfs} > {all}; find . | cpio --quiet -o -H newc >> {all}",
        root = quoted(&kernel.join("root/lib/modules")),
        initramfs = quoted(initramfs),
        all = quoted(&all),
    );
    machine::run(Command::new("sh").args(["-c", &script]).current_dir(&staged))?;
    Ok(all)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let fail = || format!("cannot copy {} to {}", from.display(), to.display());
    fs::create_dir_all(to.parent().context("a root is no file")?).with_context(fail)?;
    fs::copy(from, to).with_context(fail).map(|_| ())
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    machine::run(Command::new("cp").arg("-r").arg(from.join(".")).arg(to))
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}
