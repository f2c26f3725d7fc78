//! Builds fixtures, runs them and golife, and compares what both say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant},
};

use golife::go::releases::RELEASES;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

#[path = "support/moto.rs"]
mod moto;
pub use moto::Moto;
#[path = "support/patched.rs"]
mod patched;
pub use patched::{patched_bytes, patched_bytes_in, wait_for_probes};
#[path = "support/sshd.rs"]
mod sshd;
pub use sshd::Sshd;

/// The longest that anything may take here. On a slow machine it may take GOLIFE_PATIENCE times as long.
pub fn limit() -> Duration {
    Duration::from_secs(60) * patience()
}

fn patience() -> u32 {
    std::env::var("GOLIFE_PATIENCE").map_or(1, |times| times.parse().expect("GOLIFE_PATIENCE is a number"))
}

/// The oldest toolchain that golife supports.
pub const OLDEST: &str = RELEASES[0];
/// The newest toolchain that golife knows.
pub const NEWEST: &str = RELEASES[RELEASES.len() - 1];

/// Fails the test without root. It is not skipped, so that nobody takes it for a success.
pub fn need_root() {
    assert!(
        fs::metadata("/proc/self").unwrap().uid() == 0,
        "this test needs root: run `cargo xtask test`, or `sudo -E cargo test --test e2e`"
    );
}

/// How a fixture is compiled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Build {
    /// The value of `GOTOOLCHAIN`; `None` for the local Go.
    pub toolchain: Option<&'static str>,
    /// Without symbols and DWARF.
    pub stripped: bool,
    /// Position-independent.
    pub pie: bool,
    /// Without optimisation and inlining.
    pub unoptimised: bool,
    /// The value of `GOEXPERIMENT`; empty for none.
    pub experiment: &'static str,
    /// What else is out of the ordinary.
    pub way: Way,
}

/// A way to build that goes with all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// As `go build` does it without cgo.
    #[default]
    Usual,
    /// With paths of source files that do not have the directory in which they were.
    Trimmed,
    /// With cgo, by the system's linker, against shared libraries.
    CgoDynamic,
    /// With cgo, by the system's linker, C library included.
    CgoStatic,
    /// With the race detector, which needs cgo.
    Race,
    /// Optimised for a profile full of goroutine creation: the runtime's own functions get inlined. Go 1.21 and newer.
    Profiled,
    /// As a library for programs in other languages (`-buildmode=c-shared`): [`host`] runs it.
    Library,
    /// As a plugin of another program in Go: [`host`] runs it.
    Plugin,
}

/// The path of a fixture's binary, which is compiled once for each way to build.
pub fn fixture(name: &str, build: Build) -> PathBuf {
    /// Those that are there. Go touches what it would build again, and golife takes a touched file for a written one.
    static BUILT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let Build { toolchain, way, .. } = build;
    let binary = directory(build).join(name);
    // On a machine without a compiler, the fixtures were built elsewhere.
    if std::env::var_os("GOLIFE_FIXTURES").is_some_and(|fixtures| fixtures == "built") {
        assert!(binary.is_file(), "{} was not built", binary.display());
        return binary;
    }
    let profile = (way == Way::Profiled).then(|| profile(toolchain));
    let mut built_before = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if built_before.contains(&binary) {
        return binary;
    }
    compile(name, build, profile.as_deref(), &binary, &[]);
    // Fixtures for machines without a compiler are built here as well. The variable says which, as `arm64=DIRECTORY`,
    // separated by colons.
    let others = std::env::var("GOLIFE_FIXTURES_FOR").unwrap_or_default();
    for (architecture, place) in others.split(':').filter_map(|other| other.split_once('=')) {
        let binary = Path::new(place).join(binary.strip_prefix(built()).unwrap());
        compile(name, build, profile.as_deref(), &binary, &[("GOARCH", architecture)]);
    }
    built_before.insert(binary.clone());
    binary
}

fn compile(name: &str, build: Build, profile: Option<&Path>, binary: &Path, environment: &[(&str, &str)]) {
    let Build { toolchain, stripped, pie, unoptimised, experiment, way } = build;
    let mut go = Command::new("go");
    go.arg("build").arg("-o").arg(binary);
    if stripped {
        go.arg("-ldflags=-s -w");
    }
    if pie {
        go.arg("-buildmode=pie");
    }
    if unoptimised {
        go.arg("-gcflags=all=-N -l");
    }
    match way {
        Way::Usual | Way::Profiled => {}
        Way::Trimmed => _ = go.arg("-trimpath"),
        Way::CgoDynamic => _ = go.arg("-ldflags=-linkmode=external"),
        Way::CgoStatic => _ = go.arg("-ldflags=-linkmode=external -extldflags=-static"),
        Way::Race => _ = go.arg("-race"),
        Way::Library => _ = go.args(["-tags=loaded", "-buildmode=c-shared"]),
        Way::Plugin => _ = go.args(["-tags=loaded", "-buildmode=plugin"]),
    }
    if let Some(profile) = profile {
        go.arg(format!("-pgo={}", profile.display())).arg("-gcflags=all=-d=pgoinlinebudget=8000");
    }
    let cgo = !matches!(way, Way::Usual | Way::Trimmed | Way::Profiled);
    // Some fixtures are modules of their own.
    go.arg(".")
        .current_dir(fixtures().join(name))
        .env("GOFLAGS", "-buildvcs=false")
        .env("CGO_ENABLED", if cgo { "1" } else { "0" })
        .env("GOEXPERIMENT", experiment)
        .envs(environment.iter().copied());
    if let Some(toolchain) = toolchain {
        go.env("GOTOOLCHAIN", toolchain);
        if toolchain.starts_with("go1.19.") {
            // The module index of Go 1.19 does not find the standard library of a toolchain that was fetched as a
            // module.
            go.env("GODEBUG", "goindex=0");
        }
    }
    let output = go.output().expect("cannot run go: `cargo xtask test` installs it");
    assert!(output.status.success(), "cannot compile {name}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The directory with everything that was compiled.
fn built() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("fixtures")
}

/// The command that starts a fixture: its own binary, or the program that loads it.
pub fn host(name: &str, build: Build) -> Command {
    let binary = fixture(name, build);
    match build.way {
        Way::Library => {
            let mut command = Command::new(loader());
            command.arg(binary);
            command
        }
        Way::Plugin => {
            let mut command = Command::new(fixture("opener", Build { way: Way::CgoDynamic, ..build }));
            command.arg(binary);
            command
        }
        _ => Command::new(binary),
    }
}

/// The path of a program in C that loads libraries, which is compiled once.
pub fn loader() -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let loader = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fixtures/loader");
    fs::create_dir_all(loader.parent().unwrap()).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.args(["-Wall", "-o"]).arg(&loader).arg(fixtures().join("loader/main.c")).arg("-ldl");
    if !loader.exists() {
        assert!(gcc.status().expect("cannot run gcc: `cargo xtask test` installs it").success());
    }
    loader
}

/// The directory with the binaries of a build.
fn directory(build: Build) -> PathBuf {
    let Build { toolchain, stripped, pie, unoptimised, experiment, way } = build;
    built().join(format!(
        "{}{}{}{}{experiment}{}",
        toolchain.unwrap_or("local"),
        if stripped { "-stripped" } else { "" },
        if pie { "-pie" } else { "" },
        if unoptimised { "-unoptimised" } else { "" },
        match way {
            Way::Usual => "",
            Way::Trimmed => "-trimmed",
            Way::CgoDynamic => "-cgo-dynamic",
            Way::CgoStatic => "-cgo-static",
            Way::Race => "-race",
            Way::Profiled => "-profiled",
            Way::Library => "-library",
            Way::Plugin => "-plugin",
        }
    ))
}

/// A CPU profile of a program that does little but create goroutines. It is made once by each toolchain.
fn profile(toolchain: Option<&'static str>) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let build = Build { toolchain, ..Build::default() };
    let path = directory(build).join("spawn.pprof");
    if !path.exists() {
        let unfinished = path.with_extension("unfinished");
        let mut spawn = Command::new(fixture("spawn", build));
        let status = spawn.arg("profile").arg(&unfinished).env("GOMAXPROCS", "1").status();
        assert!(status.unwrap().success(), "spawn writes its profile");
        fs::rename(&unfinished, &path).unwrap();
    }
    path
}

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}

/// The line of the `go` statement that is marked `// site: SITE` in a fixture's source.
pub fn line_of(name: &str, site: &str) -> u64 {
    line_marked(name, &format!("site: {site}"))
}

/// The line that ends with this comment in a fixture's source.
pub fn line_marked(name: &str, mark: &str) -> u64 {
    let source = fs::read_to_string(fixtures().join(name).join("main.go")).unwrap();
    let mark = format!("// {mark}");
    let found = source.lines().position(|line| line.trim_end().ends_with(&mark));
    found.unwrap_or_else(|| panic!("{name} has no line marked `{mark}`")) as u64 + 1
}

/// The first line of a fixture's file with this text.
pub fn line_with(file: &str, text: &str) -> u64 {
    let source = fs::read_to_string(fixtures().join(file)).unwrap();
    let found = source.lines().position(|line| line.contains(text));
    found.unwrap_or_else(|| panic!("{file} has no line with `{text}`")) as u64 + 1
}

/// How many goroutines one creation site has created, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many were created while it was watched.
    pub created: u64,
    /// How many of them, or of those from before, ended while it was watched.
    pub exited: u64,
    /// How many were there at the end.
    pub live: u64,
}

/// The counts of a fixture's sites, by the line of the `go` statement.
pub type Sites = BTreeMap<u64, Counts>;

/// What a fixture says of itself, as a line of JSON.
pub fn truth(name: &str, line: &str) -> Sites {
    let truth: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let sites = truth["sites"].as_array().cloned().unwrap_or_default();
    // A site without a name has no `go` statement in the fixture itself.
    let named = sites.iter().filter(|site| site["name"] != "");
    named.map(|site| (line_of(name, site["name"].as_str().unwrap()), counts(site))).collect()
}

fn counts(site: &Value) -> Counts {
    let number =
        |field: &str| site[field].as_u64().unwrap_or_else(|| panic!("no number `{field}` in {site}"));
    Counts { created: number("created"), exited: number("exited"), live: number("live") }
}

/// What a report says of the fixture's own `go` statements in one process.
pub fn reported(name: &str, process: &Value) -> Sites {
    let file = format!("/{name}/main.go");
    let sites = process["sites"].as_array().unwrap_or_else(|| panic!("no sites in {process}"));
    let own =
        sites.iter().filter(|site| site["site"]["file"].as_str().is_some_and(|path| path.ends_with(&file)));
    let mut by_line = Sites::new();
    for site in own {
        let line = site["site"]["line"].as_u64().unwrap();
        let Counts { created, exited, live } = counts(site);
        // The goroutines of one statement may begin with different functions.
        let sum = by_line.entry(line).or_default();
        *sum = Counts { created: sum.created + created, exited: sum.exited + exited, live: sum.live + live };
    }
    by_line
}

/// The only process of a report.
pub fn only_process(report: &Value) -> &Value {
    let processes = report["processes"].as_array().expect("no processes");
    assert_eq!(processes.len(), 1, "one process in {report:#}");
    &processes[0]
}

/// Checks that the report's sums agree with each other, and that nothing was lost.
pub fn check_exact(report: &Value) {
    assert_eq!(report["schema"], "golife.report/1");
    for field in ["dropped", "unmatched_exits", "read_faults"] {
        assert_eq!(report["loss"][field], 0, "loss.{field} in {report:#}");
    }
}

/// Checks that what is not known of a place is null, so that there is no file `?` and no line 0.
fn check_positions(value: &Value) {
    match value {
        Value::Array(items) => items.iter().for_each(check_positions),
        Value::Object(fields) => {
            assert!(fields.get("file").is_none_or(|file| file != "?"), "{value}");
            assert!(fields.get("line").is_none_or(|line| line != 0), "{value}");
            fields.values().for_each(check_positions);
        }
        _ => {}
    }
}

/// A child whose output is read as it comes, and which does not outlive its test.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: Receiver<String>,
    seen_errors: String,
}

/// What is left of a child that has ended.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// The rest of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Ended {
    /// Its output as a report in JSON.
    pub fn report(&self) -> Value {
        let report = serde_json::from_str(&self.stdout).unwrap_or_else(|error| {
            panic!("no JSON report ({error}), {}: {}\n{}", self.status, self.stdout, self.stderr)
        });
        check_positions(&report);
        report
    }

    /// Checks its exit code, and that all the words are in its standard error, in any order.
    #[track_caller]
    pub fn expect_error(&self, code: i32, words: &[&str]) {
        assert_eq!(self.status.code(), Some(code), "exit code in {self:?}");
        let message = self.stderr.to_lowercase();
        for word in words {
            assert!(message.contains(&word.to_lowercase()), "`{word}` in {self:?}");
        }
        assert!(!message.contains("panicked"), "{self:?}");
    }
}

fn read_lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    receive
}

/// All further lines. The wait for them has a limit, since a grandchild may hold the pipe open.
fn rest(lines: &Receiver<String>) -> String {
    let mut text = String::new();
    while let Ok(line) = lines.recv_timeout(Duration::from_secs(5)) {
        text += &line;
        text.push('\n');
    }
    text
}

impl Running {
    /// Starts a command. It is tried again while the file is busy: another test may be starting a child, which still
    /// has a file open that was just written.
    pub fn start(command: &mut Command) -> Running {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut child = loop {
            match command.spawn() {
                Ok(child) => break child,
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(5));
                }
                Err(error) => panic!("cannot start {command:?}: {error}"),
            }
        };
        let lines = read_lines(child.stdout.take().unwrap());
        let errors = read_lines(child.stderr.take().unwrap());
        Running { stdin: child.stdin.take(), child, lines, errors, seen_errors: String::new() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of its standard output.
    #[track_caller]
    pub fn line(&mut self) -> String {
        match self.lines.recv_timeout(limit()) {
            Ok(line) => line,
            Err(_) => panic!(
                "no line from {}, which {}: {}",
                self.pid(),
                self.child.try_wait().unwrap().map_or("runs".into(), |status| format!("has ended: {status}")),
                self.errors.try_iter().collect::<Vec<_>>().join("\n")
            ),
        }
    }

    /// Waits for a line of standard error that begins like this.
    #[track_caller]
    pub fn wait_for_error_line(&mut self, begin: &str) -> String {
        loop {
            let Ok(line) = self.errors.recv_timeout(limit()) else {
                panic!("no line `{begin}…` on standard error, only: {}", self.seen_errors);
            };
            self.seen_errors += &format!("{line}\n");
            if line.starts_with(begin) {
                return line;
            }
        }
    }

    /// Writes a line to its standard input.
    pub fn write(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Closes its standard input, at which a fixture ends.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).unwrap();
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Fails with its exit status and what it said, if it has ended.
    #[track_caller]
    pub fn expect_alive(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            let said = std::mem::take(&mut self.seen_errors) + &rest(&self.errors);
            panic!("{} has ended, {status}: {said}", self.pid());
        }
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self) -> Ended {
        let deadline = Instant::now() + limit();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "{} does not end; it said: {}", self.pid(), self.seen_errors);
            thread::sleep(Duration::from_millis(5));
        };
        let stdout = rest(&self.lines);
        let stderr = std::mem::take(&mut self.seen_errors) + &rest(&self.errors);
        Ended { status, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Size in bytes of a ring that holds every record of a fixture. These tests are about counting, and an unoptimised
/// golife on a busy machine reads slowly. Whether a real one keeps up is measured by `cargo xtask bench`.
pub const ROOMY: &str = "67108864";

/// The golife under test.
pub fn golife() -> Command {
    Command::new(env!("CARGO_BIN_EXE_golife"))
}

/// Starts golife and waits until its probes are live.
#[track_caller]
pub fn attach(args: &[&str]) -> Running {
    let mut golife = Running::start(golife().args(args));
    golife.wait_for_error_line("tracing ");
    golife
}

/// Runs golife to its end.
#[track_caller]
pub fn run(args: &[&str]) -> Ended {
    let mut golife = Running::start(golife().args(args));
    golife.close_stdin();
    golife.wait()
}

/// Starts a fixture that waits to be told to begin.
#[track_caller]
pub fn ready(binary: &Path, args: &[&str]) -> Running {
    ready_as(Command::new(binary).args(args))
}

/// Starts a command whose program waits to be told to begin.
#[track_caller]
pub fn ready_as(command: &mut Command) -> Running {
    let mut fixture = Running::start(command);
    assert_eq!(fixture.line(), "ready");
    fixture
}

/// Ends a golife as Ctrl-C would, and returns its report.
#[track_caller]
pub fn interrupt(golife: Running) -> Value {
    stop(golife).report()
}

/// Ends a golife as Ctrl-C would, and returns everything that it has said.
#[track_caller]
pub fn stop(golife: Running) -> Ended {
    // Records are read in batches. Even so, the report must have everything that happened before this signal.
    golife.signal(Signal::SIGINT);
    let ended = golife.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    ended
}

/// Traces a fixture by its pid from before its work to after it. Returns what the fixture says, what golife says, and
/// the whole report.
#[track_caller]
pub fn trace(name: &str, build: Build, args: &[&str]) -> (Sites, Sites, Value) {
    trace_with(name, build, args, &[])
}

/// Does what [`trace`] does, with more flags for golife.
#[track_caller]
pub fn trace_with(name: &str, build: Build, args: &[&str], flags: &[&str]) -> (Sites, Sites, Value) {
    need_root();
    let mut fixture = ready(&fixture(name, build), args);
    let pid = fixture.pid().to_string();
    let golife =
        attach(&[&["trace", "--format", "json", "--ring-bytes", ROOMY, "--pid", &pid], flags].concat());
    fixture.write("go");
    let truth = truth(name, &fixture.line());
    let report = interrupt(golife);
    let reported = reported(name, only_process(&report));
    fixture.expect_alive();
    (truth, reported, report)
}

/// Waits until something holds, and fails the test with `what` if it never does.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15) * patience();
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
