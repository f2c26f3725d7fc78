//! `cargo xtask kernels`: the e2e tests on other kernels than this machine's, in emulation.
//!
//! Each kernel is a Debian package, booted by QEMU with nothing but busybox, golife, the tests and the Go programs that
//! they trace. Emulation tells whether things work, never how long they take.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::machine::{self, output, say};

/// What `kernels` can be told.
#[derive(clap::Args)]
pub struct Args {
    /// Only these kernels, e.g. 6.1 [default: all]
    releases: Vec<String>,
    /// Only tests whose names contain this (repeatable) [default: those that need no compiler and no second tool]
    #[arg(long)]
    test: Vec<String>,
}

/// A kernel that Debian has.
struct Kernel {
    release: &'static str,
    /// The suite with the package `linux-image-cloud-amd64` of that release.
    suite: &'static str,
}

/// From the lowest that golife supports on.
const KERNELS: [Kernel; 3] = [
    Kernel { release: "5.10", suite: "bullseye-security" },
    Kernel { release: "6.1", suite: "bookworm-security" },
    Kernel { release: "6.12", suite: "bookworm-backports" },
];

/// The part of the tests that runs without a Go compiler, another tool, or a fast machine.
const TESTS: [&str; 3] = ["counts::", "processes::", "containers::"];

/// How long one kernel may take, boot included.
const PATIENCE: Duration = Duration::from_secs(20 * 60);

/// What loads position-independent programs.
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

/// The emulator itself brings newer kernels down now and then, while they patch their own code at boot.
const BOOTS: u32 = 4;

/// What the guest prints last.
const VERDICT: &str = "golife-kernel-test: ";

/// Boots every kernel and runs the tests.
pub fn run(args: Args) -> Result<()> {
    let kernels: Vec<&Kernel> = KERNELS
        .iter()
        .filter(|kernel| args.releases.is_empty() || args.releases.iter().any(|name| name == kernel.release))
        .collect();
    if kernels.is_empty() {
        bail!("no such kernel: there are {}", KERNELS.map(|kernel| kernel.release).join(", "));
    }
    let filters = if args.test.is_empty() { TESTS.map(str::to_owned).to_vec() } else { args.test };
    machine::apt_install(&["qemu-system-x86", "busybox-static", "cpio"])?;
    let go = machine::go()?;
    let directory = machine::target_dir().join("kernels");
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let images = kernels.iter().map(|kernel| image(kernel, &directory)).collect::<Result<Vec<_>>>()?;
    let programs = Programs::build(&directory)?;
    programs.try_here(&filters, &go)?;
    let initramfs = programs.initramfs(&directory, &filters)?;
    let mut failed = Vec::new();
    for (kernel, image) in kernels.into_iter().zip(images) {
        let initramfs = with_modules(kernel, &initramfs, &directory)?;
        let mut outcome = boot(kernel, &image, &initramfs, &directory)?;
        for _ in 1..BOOTS {
            if outcome.tests_began {
                break;
            }
            say("it did not get as far as the tests: once more");
            outcome = boot(kernel, &image, &initramfs, &directory)?;
        }
        match outcome.verdict {
            Ok(said) => say(format!("Linux {}: {said}", kernel.release)),
            Err(why) => {
                say(format!("Linux {}: FAILED: {why}", kernel.release));
                failed.push(kernel.release);
            }
        }
    }
    if !failed.is_empty() {
        bail!("the tests failed on Linux {}; the logs are in {}", failed.join(", "), directory.display());
    }
    Ok(())
}

/// Fetches a kernel by the package manager, into a directory of ours: nothing is installed.
fn image(kernel: &Kernel, directory: &Path) -> Result<PathBuf> {
    let place = directory.join(kernel.release);
    if let Some(image) = find_image(&place) {
        return Ok(image);
    }
    say(format!("fetching Linux {} of Debian's {}", kernel.release, kernel.suite));
    let state = place.join("apt");
    for part in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(state.join(part)).with_context(|| format!("cannot make {}", state.display()))?;
    }
    let sources = state.join("sources.list");
    fs::write(&sources, format!("deb {} {} main\n", archive(kernel.suite)?, kernel.suite))?;
    fs::write(state.join("status"), "")?;
    let apt = |program: &str| {
        let mut command = Command::new(program);
        let option = |name: &str, value: &Path| format!("{name}={}", value.display());
        for option in [
            option("Dir::Etc::SourceList", &sources),
            option("Dir::Etc::SourceParts", Path::new("-")),
            option("Dir::State", &state),
            option("Dir::State::status", &state.join("status")),
            option("Dir::Cache", &state.join("cache")),
            "Acquire::Check-Valid-Until=false".to_owned(),
            // Root may be told to fetch as somebody who cannot write here.
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command.current_dir(&place);
        command
    };
    machine::run(apt("apt-get").args(["update", "-qq"]))?;
    let newest = output(apt("apt-cache").args(["depends", "--important", "linux-image-cloud-amd64"]))?;
    let package = newest
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|package| package.starts_with("linux-image-"))
        .with_context(|| format!("linux-image-cloud-amd64 of {} names no kernel", kernel.suite))?;
    machine::run(apt("apt-get").args(["download", "-qq", package]))?;
    let is_package = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "deb");
    let archive = entries(&place)?.into_iter().find(is_package).context("nothing was downloaded")?;
    machine::run(Command::new("dpkg").arg("-x").arg(&archive).arg(place.join("root")))?;
    find_image(&place).with_context(|| format!("no kernel in {package}"))
}

fn find_image(place: &Path) -> Option<PathBuf> {
    let is_image =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"));
    entries(&place.join("root/boot")).ok()?.into_iter().find(is_image)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let found = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    Ok(found.collect::<std::io::Result<Vec<_>>>()?.into_iter().map(|entry| entry.path()).collect())
}

/// Where this machine gets Debian's packages of a suite from: the archive that it has configured for its own.
fn archive(suite: &str) -> Result<String> {
    let security = suite.ends_with("-security");
    let targets =
        output(Command::new("apt-get").args(["indextargets", "--format", "$(ORIGIN) $(SITE) $(RELEASE)"]))?;
    targets
        .lines()
        .filter_map(|line| line.strip_prefix("Debian ")?.split_once(' '))
        .find(|(_, release)| release.ends_with("-security") == security)
        .map(|(site, _)| site.to_owned())
        .context("this machine's apt has no archive of Debian, from which the kernels come")
}

/// What runs in the guest.
struct Programs {
    golife: PathBuf,
    tests: PathBuf,
    /// Where the tests keep the Go programs that they compiled.
    fixtures: PathBuf,
}

impl Programs {
    /// Builds golife and its e2e tests without shared libraries, so that they run in an otherwise empty guest.
    fn build(directory: &Path) -> Result<Programs> {
        const TARGET: &str = "x86_64-unknown-linux-gnu";
        say("building golife and its e2e tests, statically linked");
        let target = directory.join("target");
        let mut cargo = machine::cargo();
        cargo
            // With a target, these flags are for it alone, not for build scripts and macros.
            .args(["test", "--no-run", "--release", "--target", TARGET, "--package", "tracer-user"])
            .args(["--test", "e2e", "--message-format", "json-render-diagnostics", "--quiet"])
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
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
        Ok(Programs {
            golife: executable("golife")?,
            tests: executable("e2e")?,
            fixtures: target.join(TARGET).join("tmp/fixtures"),
        })
    }

    /// Runs the same tests on this machine: what fails here need not be tried elsewhere, and they compile the Go
    /// programs.
    fn try_here(&self, filters: &[String], go: &Path) -> Result<()> {
        say("the same tests on this machine's kernel");
        machine::mount_tracefs()?;
        let tests = self.tests.to_string_lossy();
        machine::run(
            machine::as_root("env")?
                .arg(format!("PATH={}", machine::path_with(go)?.to_string_lossy()))
                .arg(tests.as_ref())
                .args(filters)
                .current_dir(machine::root().join("tracer-user")),
        )
    }

    /// Packs everything under the paths that the tests know from their compilation.
    fn initramfs(&self, directory: &Path, filters: &[String]) -> Result<PathBuf> {
        let root = directory.join("guest");
        let _ = fs::remove_dir_all(&root);
        for empty in ["bin", "dev", "etc", "proc", "run", "sys", "tmp"] {
            fs::create_dir_all(root.join(empty)).context("cannot make the guest's directories")?;
        }
        let inside = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
        let busybox = machine::find("busybox").context("busybox is not in PATH")?;
        fs::copy(busybox, root.join("bin/busybox"))?;
        symlink("busybox", root.join("bin/sh"))?;
        for file in [&self.golife, &self.tests] {
            copy(file, &inside(file))?;
        }
        let sources = machine::root().join("tests/fixtures");
        for source in entries(&sources)?.into_iter().map(|fixture| fixture.join("main.go")) {
            if source.is_file() {
                copy(&source, &inside(&source))?;
            }
        }
        fs::create_dir_all(inside(&machine::root().join("tracer-user")))?;
        for build in entries(&self.fixtures)? {
            for program in entries(&build)?.into_iter().filter(|path| path.is_file()) {
                copy(&program, &inside(&program))?;
            }
        }
        // Position-independent Go programs name it, although they use no library.
        copy(Path::new(LOADER), &inside(Path::new(LOADER)))?;
        let init = root.join("init");
        fs::write(&init, self.init(filters))?;
        machine::run(Command::new("chmod").arg("755").arg(&init))?;
        let archive = directory.join("initramfs.cpio");
        let pack = format!("find . | cpio --quiet -o -H newc > {}", quoted(&archive));
        machine::run(Command::new("sh").args(["-c", &pack]).current_dir(&root))?;
        Ok(archive)
    }

    /// Tests that pretend an older kernel are for the newest.
    fn init(&self, filters: &[String]) -> String {
        let tests = quoted(&self.tests);
        let directory = quoted(&machine::root().join("tracer-user"));
        let filters = filters.join(" ");
        format!(
            "#!/bin/sh\n\
             /bin/busybox --install -s /bin\n\
             export PATH=/bin GOLIFE_FIXTURES=built GOLIFE_PATIENCE=5 RUST_BACKTRACE=0\n\
             mount -t proc none /proc && mount -t sysfs none /sys && mount -t devtmpfs none /dev\n\
             mount -t tracefs none /sys/kernel/tracing && mount -t tmpfs none /tmp\n\
             mount -t cgroup2 none /sys/fs/cgroup\n\
             ip link set lo up; insmod /overlay.ko\n\
             uname -r\n\
             cd {directory} && {tests} --test-threads=1 --skip as_on_linux {filters}\n\
             echo \"{VERDICT}$?\"\n\
             poweroff -f\n"
        )
    }
}

/// The guest's files and this kernel's modules that tests need: the kernel reads archives one after the other.
fn with_modules(kernel: &Kernel, initramfs: &Path, directory: &Path) -> Result<PathBuf> {
    let place = directory.join(kernel.release);
    let staged = place.join("modules");
    fs::create_dir_all(&staged).with_context(|| format!("cannot make {}", staged.display()))?;
    let all = place.join("initramfs.cpio");
    let script = format!(
        "set -e; module=$(find {root} -name 'overlay.ko*' | head -n 1); \
         case $module in *.xz) xz -dc $module ;; *) cat $module ;; esac > overlay.ko; \
         cat {initramfs} > {all}; find . | cpio --quiet -o -H newc >> {all}",
        root = quoted(&place.join("root/lib/modules")),
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

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}

/// How far a guest came.
struct Outcome {
    tests_began: bool,
    /// What the tests said at their end, or why they did not get there.
    verdict: Result<String, String>,
}

/// Boots a kernel and waits for its tests.
fn boot(kernel: &Kernel, image: &Path, initramfs: &Path, directory: &Path) -> Result<Outcome> {
    let log = directory.join(format!("{}.log", kernel.release));
    say(format!("booting Linux {} in emulation (log: {})", kernel.release, log.display()));
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "3072"])
        .args([
            "-nographic",
            "-no-reboot",
            "-net",
            "none",
            "-append",
            "console=ttyS0 panic=-1 quiet",
            "-kernel",
        ])
        .arg(image)
        .arg("-initrd")
        .arg(initramfs)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut guest = Guest(qemu.spawn().context("cannot run qemu-system-x86_64")?);
    let serial = guest.0.stdout.take().context("no pipe")?;
    let (lines, said) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(serial).split(b'\n').map_while(Result::ok) {
            // The reader is gone when the verdict is known.
            let _ = lines.send(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
    });
    let deadline = Instant::now() + PATIENCE;
    let fail = || format!("cannot write {}", log.display());
    let mut written = fs::File::create(&log).with_context(fail)?;
    let (mut result, mut tests_began) = (String::new(), false);
    let verdict = loop {
        match said.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                writeln!(written, "{line}").with_context(fail)?;
                tests_began |= line.starts_with("running ");
                if !tests_began && line.contains("Oops:") {
                    break Err("the kernel crashed at boot".into());
                }
                if line.starts_with("test result: ") {
                    result = line;
                } else if let Some(code) = line.strip_prefix(VERDICT) {
                    break if code == "0" { Ok(result) } else { Err(result) };
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                break Err(format!("no end after {} s", PATIENCE.as_secs()));
            }
            Err(RecvTimeoutError::Disconnected) => {
                break Err("the guest ended without a verdict".into());
            }
        }
    };
    Ok(Outcome { tests_began, verdict })
}

/// A guest that does not outlive its test.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        // Both fail only where it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
