//! How golife has `go test` and `go run` start programs: by `-exec` in `GOFLAGS`, which every `go` command reads that
//! descends from the program of `golife run`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use crate::go::Image;
use crate::host::account::Account;
use crate::host::clock::now_ns;

/// The variable with flags for the `go` command.
pub(super) const FLAGS: &str = "GOFLAGS";
/// The variable that tells a launcher what it must know.
pub(super) const GATE: &str = "GOLIFE_GATE";
/// What Go calls this CPU.
pub(super) const CPU: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
/// Between the parts of [`GATE`]: a character that no flag has.
const BETWEEN: char = '\u{1f}';

/// What a launcher is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// The name of the gate.
    pub(super) gate: String,
    /// `GOFLAGS` as golife has set it.
    pub(super) flags: String,
    /// `GOFLAGS` as it was before; `None` where it was not set.
    pub(super) flags_before: Option<String>,
}

impl Told {
    pub(super) fn read(text: &str) -> Option<Told> {
        let mut parts = text.split(BETWEEN).map(str::to_owned);
        let (gate, flags) = (parts.next()?, parts.next()?);
        Some(Told { gate, flags, flags_before: parts.next() })
    }

    fn write(&self) -> String {
        let parts = [Some(&self.gate), Some(&self.flags), self.flags_before.as_ref()];
        parts.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(&BETWEEN.to_string())
    }
}

/// How the `go` commands of a program start what they have built.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Exec {
    /// By golife's launcher, which passes this gate.
    Golife(Told),
    /// By what the user has said.
    Users,
    /// As ever, since golife cannot be put in between.
    Impossible(&'static str),
    /// There is no `go` command that golife knows of: the program is another one in Go.
    Nobody,
}

impl Exec {
    /// How it is for this command. `program` is the file that it executes, as the user with this account if there is one.
    pub(super) fn of(command: &[OsString], program: &Path, account: Option<&Account>) -> Exec {
        let name = program_name(command);
        let runs_go = name == "go" || name.starts_with("go1.") || name == "gotestsum" || name == "ginkgo";
        let is_go = || File::open(program).is_ok_and(|file| Image::of_go(&file, program).is_some());
        if !runs_go && is_go() {
            return Exec::Nobody;
        }
        if is_on_command_line(command) {
            return Exec::Users;
        }
        let before = env::var_os(FLAGS).map(|flags| flags.into_string());
        let before = match before {
            None => None,
            Some(Ok(flags)) => Some(flags),
            Some(Err(_)) => return Exec::Impossible("GOFLAGS is not UTF-8"),
        };
        let home = account.and_then(|account| account.home.clone());
        match env::current_exe() {
            Ok(golife) if account.is_some_and(|account| !account.may_execute(&golife)) => {
                Exec::Impossible("the user may not execute golife's own file")
            }
            Ok(golife) => Exec::with(before, || from_file(home), &golife),
            Err(_) => Exec::Impossible("golife does not find its own file"),
        }
    }

    /// How it is with these flags, from the environment or else from Go's own file.
    fn with(before: Option<String>, from_file: impl FnOnce() -> Option<String>, golife: &Path) -> Exec {
        // An empty variable is the same as none to `go`.
        let given = before.clone().filter(|flags| !flags.is_empty()).or_else(from_file).unwrap_or_default();
        let Some(words) = words(&given) else {
            return Exec::Impossible("GOFLAGS has a quote without an end");
        };
        if words.iter().any(|word| is_exec(word)) {
            return Exec::Users;
        }
        if access(golife, AccessFlags::X_OK).is_err() {
            return Exec::Impossible("golife's own file cannot be executed any more");
        }
        let Some(flag) = flag(golife) else {
            return Exec::Impossible("the path of golife has spaces or quotes");
        };
        let flags = [given.trim(), &flag].join(" ").trim_start().to_owned();
        let gate = format!("golife-{}-{}", std::process::id(), now_ns());
        Exec::Golife(Told { gate, flags, flags_before: before })
    }

    /// What the program's environment has for that.
    pub(super) fn environment(&self) -> Vec<(&'static str, OsString)> {
        match self {
            Exec::Golife(told) => vec![(FLAGS, told.flags.clone().into()), (GATE, told.write().into())],
            Exec::Users | Exec::Impossible(_) | Exec::Nobody => Vec::new(),
        }
    }

    /// The name of the gate, if there is one.
    pub(super) fn gate(&self) -> Option<String> {
        match self {
            Exec::Golife(told) => Some(told.gate.clone()),
            Exec::Users | Exec::Impossible(_) | Exec::Nobody => None,
        }
    }
}

/// Whether a command is one that runs tests: `go test` or `gotestsum`.
pub(super) fn runs_tests(command: &[OsString]) -> bool {
    match program_name(command).as_str() {
        "gotestsum" => true,
        name if name == "go" || name.starts_with("go1.") => subcommand(command) == Some(OsStr::new("test")),
        _ => false,
    }
}

fn program_name(command: &[OsString]) -> String {
    let name = command.first().and_then(|program| Path::new(program).file_name());
    name.unwrap_or_default().to_string_lossy().into_owned()
}

/// The first argument of `go` that is no flag. The only flag that may come before it is `-C DIRECTORY`.
fn subcommand(command: &[OsString]) -> Option<&OsStr> {
    let mut arguments = command.iter().skip(1);
    loop {
        match arguments.next()?.as_os_str() {
            flag if flag.to_str().and_then(name_of) == Some("C")
                && !flag.as_encoded_bytes().contains(&b'=') =>
            {
                arguments.next()?;
            }
            flag if flag.as_encoded_bytes().starts_with(b"-") => {}
            word => return Some(word),
        }
    }
}

/// Whether the user has said `-exec` to `go` itself. What follows `-args` is for the test binary.
fn is_on_command_line(command: &[OsString]) -> bool {
    let flags = command.iter().skip(1).map(|word| word.to_string_lossy());
    flags.take_while(|word| name_of(word) != Some("args")).any(|word| is_exec(&word))
}

fn is_exec(word: &str) -> bool {
    name_of(word) == Some("exec")
}

/// The name of a flag, which begins with one hyphen or two; `None` for what is no flag.
fn name_of(word: &str) -> Option<&str> {
    let flag = word.strip_prefix('-')?;
    flag.strip_prefix('-').unwrap_or(flag).split('=').next()
}

/// The words of `GOFLAGS` as `cmd/internal/quoted` splits them: a quote at the beginning of a word ends with the next one,
/// and means nothing elsewhere. `None` where a quote has no end.
fn words(flags: &str) -> Option<Vec<&str>> {
    let is_space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r');
    let mut words = Vec::new();
    let mut rest = flags.trim_start_matches(is_space);
    while let Some(first) = rest.chars().next() {
        let (word, after) = match first {
            '"' | '\'' => rest.get(1..)?.split_once(first)?,
            _ => rest.split_at(rest.find(is_space).unwrap_or(rest.len())),
        };
        words.push(word);
        rest = after.trim_start_matches(is_space);
    }
    Some(words)
}

/// The flag that names golife as the launcher. It has no quotes, which Go knows in `GOFLAGS` since 1.20 only; so there is
/// none for a path with spaces, and no argument says what golife is started for.
fn flag(golife: &Path) -> Option<String> {
    let path = golife
        .to_str()
        .filter(|path| !path.contains(|c: char| c.is_whitespace() || "\"'\u{1f}".contains(c)))?;
    Some(format!("-exec={path}"))
}

/// What `go env -w` has set, of who has this home if that is not who golife runs as: a variable that is set hides it.
fn from_file(home: Option<PathBuf>) -> Option<String> {
    let file = match env::var_os("GOENV").filter(|file| !file.is_empty()) {
        Some(file) if file == "off" => return None,
        Some(file) => PathBuf::from(file),
        None => {
            let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
            let own = || home.or_else(|| set("HOME")).map(|home| home.join(".config"));
            set("XDG_CONFIG_HOME").or_else(own)?.join("go/env")
        }
    };
    in_file(&fs::read_to_string(file).ok()?)
}

fn in_file(text: &str) -> Option<String> {
    let set = text.lines().filter_map(|line| line.trim().strip_prefix("GOFLAGS=")).next_back()?;
    Some(set.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLIFE: &str = "/proc/self/exe";

    fn with(before: Option<&str>, file: Option<&str>) -> Exec {
        Exec::with(before.map(str::to_owned), || file.map(str::to_owned), Path::new(GOLIFE))
    }

    #[test]
    fn what_was_in_goflags_stays() {
        let flags = |before, file| {
            let Exec::Golife(told) = with(before, file) else { panic!("it is golife's") };
            assert_eq!(Told::read(&told.write()), Some(told.clone()));
            (told.flags, told.flags_before)
        };
        let ours = format!("-exec={GOLIFE}");
        assert_eq!(flags(None, None), (ours.clone(), None));
        assert_eq!(flags(Some(""), None), (ours.clone(), Some(String::new())));
        assert_eq!(
            flags(None, Some("-race")),
            (format!("-race {ours}"), None),
            "the variable hides the file"
        );
        assert_eq!(flags(Some(""), Some("-race")).0, format!("-race {ours}"), "an empty one does not");
        let own = "-mod=mod '-ldflags=-s -w'";
        assert_eq!(flags(Some(own), Some("-race")), (format!("{own} {ours}"), Some(own.into())));
    }

    #[test]
    fn who_says_exec_has_it() {
        let two_hyphens = ["-", "-exec=sudo"].concat();
        for flags in ["-exec=sudo", &two_hyphens, "-race \"-exec=sudo -E\""] {
            assert_eq!(with(Some(flags), None), Exec::Users, "{flags}");
            assert_eq!(with(None, Some(flags)), Exec::Users, "{flags}");
        }
        assert!(matches!(with(Some("'-race"), None), Exec::Impossible(_)));
        let command = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert!(is_on_command_line(&command("go test -exec sudo ./...")));
        assert!(is_on_command_line(&command("gotestsum -- -exec=sudo ./...")));
        assert!(!is_on_command_line(&command("go test ./... -args -exec")));
        assert!(!is_on_command_line(&command("go test -run exec ./...")));
    }

    #[test]
    fn no_flag_needs_quotes() {
        let flag = |path: &str| flag(Path::new(path));
        assert_eq!(flag("/opt/golife").as_deref(), Some("-exec=/opt/golife"));
        assert_eq!([flag("/opt/go life"), flag("/opt/it's"), flag("/opt/\t")], [None, None, None]);
    }

    #[test]
    fn words_are_those_of_go() {
        assert_eq!(words(" -a  -b=c'd \t\n'-e=\"f g\"' "), Some(vec!["-a", "-b=c'd", "-e=\"f g\""]));
        assert_eq!(words("''-a"), Some(vec!["", "-a"]));
        assert_eq!(words("\"-a"), None);
        assert_eq!(in_file("GOPROXY=off\nGOFLAGS=-mod=mod -race\n"), Some("-mod=mod -race".into()));
        assert_eq!(in_file("# GOFLAGS=-x\n"), None);
    }

    #[test]
    fn tests_are_run_by_go_test_and_gotestsum() {
        let runs = |line: &str| runs_tests(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert!(runs("go test ./...") && runs("/usr/local/go/bin/go -C dir test") && runs("gotestsum"));
        assert!(!runs("go run test") && !runs("go") && !runs("./pkg.test") && !runs("gofmt test"));
    }
}
