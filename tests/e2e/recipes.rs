//! Runs what `docs/ci.md` tells people to write into their CI, as it stands there, on a small module with all that may go
//! wrong in tests.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::*;

/// The line of the pool that a test forgets, which every report must name.
const LEAK: &str = "pool.go";

/// The lines of the blocks of code in a section of the document. There is one block.
fn block(section: &str) -> Vec<String> {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ci.md");
    let text = fs::read_to_string(document).unwrap();
    let (_, rest) = text.split_once(&format!("\n## {section}\n")).unwrap_or_else(|| panic!("no {section}"));
    let section = rest.split("\n## ").next().unwrap();
    let mut parts = section.split("\n```");
    let code = parts.nth(1).unwrap_or_else(|| panic!("no code in {section}"));
    let mut lines: Vec<String> = code.lines().skip(1).map(str::to_owned).collect();
    lines.retain(|line| !line.is_empty());
    assert!(!lines.is_empty(), "{section}");
    lines
}

/// What comes after the beginning of those lines that begin so.
fn after(lines: &[String], begin: &str) -> Vec<String> {
    let found: Vec<_> =
        lines.iter().filter_map(|line| line.trim_start().strip_prefix(begin)).map(str::to_owned).collect();
    assert!(!found.is_empty(), "no line begins with `{begin}` in {lines:#?}");
    found
}

/// A machine as the document asks for: a copy of the module, and in that a golife.
struct Machine {
    directory: tempfile::TempDir,
    /// What `PATH` begins with.
    path: Vec<PathBuf>,
    /// What root must be content with, as setpriv calls it; all if there are none.
    capabilities: Vec<String>,
}

impl Machine {
    fn new() -> Machine {
        need_root();
        let directory = tempfile::tempdir().unwrap();
        let machine = Machine { directory, path: Vec::new(), capabilities: Vec::new() };
        for file in ["go.mod", "pool/pool.go", "pool/pool_test.go"] {
            let to = machine.file(file);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(fixtures().join("ci").join(file), to).unwrap();
        }
        let tools = machine.file("tools");
        fs::create_dir(&tools).unwrap();
        // A copy, since it is given capabilities.
        fs::copy(env!("CARGO_BIN_EXE_golife"), tools.join("golife")).unwrap();
        machine
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a line of the document in the module's directory. What it says of sudo is done by root, and the rest with no
    /// capability but those that golife was given.
    #[track_caller]
    fn run(&self, line: &str, environment: &[(&str, &str)]) -> Ended {
        let (mut command, line) = match line.strip_prefix("sudo ") {
            Some(line) => (Command::new("bash"), line),
            None => (self.with_capabilities("bash"), line),
        };
        let path = std::env::var_os("PATH").unwrap();
        let path = self.path.iter().cloned().chain(std::env::split_paths(&path));
        command
            .args(["-e", "-c", line])
            .current_dir(self.directory.path())
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("GOFLAGS", "-timeout=4s")
            .envs(environment.iter().copied());
        let mut running = Running::start(&mut command);
        running.close_stdin();
        running.wait()
    }

    fn with_capabilities(&self, program: &str) -> Command {
        if self.capabilities.is_empty() {
            return Command::new(program);
        }
        let set: String = self.capabilities.iter().map(|name| format!(",+{name}")).collect();
        let mut command = Command::new("setpriv");
        command.arg(format!("--bounding-set=-all{set}")).arg(program);
        command
    }

    /// Does what the document says of capabilities, and has no others from then on.
    #[track_caller]
    fn grant(&mut self, line: &str) {
        let ended = self.run(line, &[]);
        assert!(ended.status.success(), "{line}: {ended:?}");
        let (_, list) = line.split_once("setcap ").unwrap();
        let (list, _) = list.split_once('=').unwrap();
        self.capabilities = list.split(',').map(|name| name.trim_start_matches("cap_").to_owned()).collect();
    }
}

const LEAKS: (&str, &str) = ("LEAK", "yes");

#[test]
fn github_actions() {
    let mut machine = Machine::new();
    let steps = after(&block("GitHub Actions"), "run: ");
    let [path, grant, race, shuffled] = &steps[..] else { panic!("{steps:#?}") };
    let added = machine.file("added");
    let ended = machine.run(path, &[("GITHUB_PATH", added.to_str().unwrap())]);
    assert!(ended.status.success(), "{ended:?}");
    machine.path = fs::read_to_string(added).unwrap().lines().map(PathBuf::from).collect();
    machine.grant(grant);

    for step in [race, shuffled] {
        let ended = machine.run(step, &[]);
        assert_eq!(ended.status.code(), Some(0), "{step}: {ended:?}");
        assert!(!ended.stderr.contains("TestForgotten"), "{step}: {ended:?}");
    }
    let ended = machine.run(race, &[LEAKS]);
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    assert!(ended.stderr.contains("TestForgotten") && ended.stderr.contains(LEAK), "{ended:?}");
    let ended = machine.run(race, &[LEAKS, ("END", "race")]);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!((ended.stdout.clone() + &ended.stderr).contains("DATA RACE"), "{ended:?}");
    assert!(ended.stderr.contains("TestForgotten"), "{ended:?}");
    let ended = machine.run(shuffled, &[LEAKS]);
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    let sarif = fs::read_to_string(machine.file("leaks.sarif")).unwrap();
    assert!(sarif.contains(LEAK), "{sarif}");
}

#[test]
fn gitlab_ci() {
    let mut machine = Machine::new();
    machine.path = vec![machine.file("tools")];
    let [grant] = &block("What it needs")[..] else { panic!("one line") };
    machine.grant(grant);
    let lines = block("GitLab CI");
    let script = after(&lines, "- ");
    let [doctor, test] = &script[..] else { panic!("{script:#?}") };
    assert_eq!(machine.run(doctor, &[]).status.code(), Some(0));
    for (environment, code) in [(&[][..], 0), (&[LEAKS], 3)] {
        let ended = machine.run(test, environment);
        assert_eq!(ended.status.code(), Some(code), "{ended:?}");
        let file = after(&lines, "junit: ").remove(0);
        let results = fs::read_to_string(machine.file(&file)).unwrap();
        assert_eq!(results.contains("<failure") && results.contains(LEAK), code == 3, "{results}");
    }
}

#[test]
fn makefile() {
    let mut machine = Machine::new();
    machine.path = vec![machine.file("tools")];
    fs::write(machine.file("Makefile"), block("Makefile").join("\n") + "\n").unwrap();
    let make = |target: &str, environment: &[(&str, &str)]| {
        let ended = machine.run(&format!("make {target}"), environment);
        let (_, code) = ended.stderr.rsplit_once("Error ").unwrap_or(("", "0"));
        let code = code.trim().parse::<i32>().unwrap_or_else(|_| panic!("{ended:?}"));
        (code, ended.stdout + &ended.stderr)
    };
    let expect = |target: &str, environment: &[(&str, &str)], code: i32, names: bool| {
        let (found, said) = make(target, environment);
        assert_eq!(found, code, "{target} {environment:?}: {said}");
        assert_eq!(said.contains("TestForgotten"), names, "{target} {environment:?}: {said}");
    };
    // Nothing leaks yet, and the list of that is empty.
    expect("known-leaks.txt", &[], 0, false);
    expect("leaks", &[], 0, false);
    expect("leaks", &[LEAKS], 3, true);
    for end in ["panic", "exit", "hang"] {
        expect("leaks", &[LEAKS, ("END", end)], 1, true);
    }
    expect("race", &[LEAKS], 3, true);
    expect("each", &[], 0, false);
    expect("each", &[LEAKS], 1, true);
    fs::remove_file(machine.file("known-leaks.txt")).unwrap();
    assert_eq!(make("known-leaks.txt", &[LEAKS]).0, 0);
    let known = fs::read_to_string(machine.file("known-leaks.txt")).unwrap();
    assert!(known.contains("pool.Start#1"), "{known}");
    assert_eq!(make("leaks", &[LEAKS]).0, 0);
    assert_eq!(make("leaks", &[LEAKS, ("END", "panic")]).0, 1);
}

/// Whom nothing else is allowed: with the capabilities that the document names, and as a user of its own.
#[test]
fn the_capabilities_are_enough() {
    let mut machine = Machine::new();
    machine.path = vec![machine.file("tools")];
    let ended = machine.run("go test -c -o pool.test ./pool", &[("CGO_ENABLED", "0")]);
    assert!(ended.status.success(), "{ended:?}");
    let [grant] = &block("What it needs")[..] else { panic!("one line") };
    machine.grant(grant);
    const NOBODY: &str = "65534";
    let owned = format!("chown -R {NOBODY}:{NOBODY} . && chmod 755 .");
    assert!(machine.run(&format!("sudo {owned}"), &[]).status.success());
    // A change of the owner takes a file's capabilities away.
    machine.grant(grant);
    machine.capabilities.extend(["setuid".to_owned(), "setgid".to_owned()]);
    let user = format!("setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups");
    let test = format!("{user} golife run --fail-on suspect -- ./pool.test");
    for (environment, code) in [(&[][..], 0), (&[LEAKS], 3)] {
        let ended = machine.run(&test, environment);
        assert_eq!(ended.status.code(), Some(code), "{ended:?}");
    }
}
