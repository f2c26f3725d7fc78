//! Runs this very program on another host, by the system's `ssh`, and leaves nothing there.
//!
//! One connection does it all. A shell on the other side makes a fresh folder, is sent the program, opens the file, removes
//! the folder and executes what it has open: while the program runs, its file has no name any more, so that nothing is left
//! however it ends. Where the connection breaks, standard input ends on the other side, which ends whatever still reads it.
//!
//! What the other side says is bounded in size, and nothing of it is taken for more than text.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flate2::{Compression, write::GzEncoder};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, setsid};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;
use tokio::time::timeout;

use super::destination::Destination;
use crate::human::{clean, duration};

/// What the program that was started there says when it waits for its request.
pub const ASK: &str = "golife: ask";
/// What the shell there says when it waits for the program.
const SEND: &str = "golife: send";
/// What the shell there says with its kind of machine, where the program cannot run.
const MACHINE: &str = "golife: machine ";
/// What the shell there says where it finds no place for the program.
const NOWHERE: &str = "golife: nowhere";

/// Most bytes that are read of what the start-up files of a shell print.
const MOST_NOISE: u64 = 1 << 20;
/// Most bytes of an answer.
const MOST_ANSWER: u64 = 64 << 20;
/// How much of the end of standard error is kept, in bytes.
const MOST_ERRORS: usize = 8 << 10;
/// How long a host that has its request may take to answer when there is no more time.
const HURRY: Duration = Duration::from_secs(5);
/// How long `ssh` may take to end when all was said.
const GRACE: Duration = Duration::from_secs(2);
/// How long `ssh` may take to reach a host.
const LONGEST_CONNECT: Duration = Duration::from_secs(15);

/// How `ssh` is called, beside where to go: it never asks anybody, and keeps to this one connection, which has no forwarding,
/// no terminal and no command but ours. A connection that it shares by itself is used, but none is left open for others.
const OPTIONS: [&str; 13] = [
    "-T",
    "-x",
    "-a",
    "-o",
    "BatchMode=yes",
    "-o",
    "ControlMaster=no",
    "-o",
    "ClearAllForwardings=yes",
    "-o",
    "PermitLocalCommand=no",
    "-o",
    "RemoteCommand=none",
];

/// What the shell there does, in one line for whatever shell reads it first, so without quotes, backslashes and exclamation
/// marks. The folder is one that may hold programs, which the empty one shows that is executed there. Where the network
/// swallows everything, `timeout` ends the wait for the rest of the program.
const SCRIPT: &str = "umask 077; d=; \
    clean() { [ -z \"$d\" ] || rm -rf \"$d\"; d=; }; trap clean 0; trap \"exit 1\" 1 2 13 15; \
    m=$(uname -sm); [ \"$m\" = \"Linux {machine}\" ] || { echo \"golife: machine $m\"; exit 1; }; \
    for b in \"${TMPDIR:-/tmp}\" /tmp /var/tmp /dev/shm \"$HOME\"; do \
        d=$(mktemp -d \"$b/golife.XXXXXX\") || continue; \
        : >\"$d/golife\" && chmod 700 \"$d/golife\" && \"$d/golife\" 2>/dev/null && break; clean; \
    done; \
    [ -n \"$d\" ] || { echo \"golife: nowhere\"; exit 1; }; \
    t=; timeout 1 true 2>/dev/null && t=\"timeout {limit}\"; \
    echo \"golife: send\"; \
    $t head -c {size} | gzip -dc >\"$d/golife\" || exit 1; \
    exec 3<\"$d/golife\"; clean; {sudo}/proc/$$/fd/3 {subcommand}";

/// This program, as it is sent, and how it is run on another host.
pub struct Remote {
    /// What is executed there, with gzip.
    image: Vec<u8>,
    /// The configuration of `ssh`; `None` for the user's own.
    pub config: Option<PathBuf>,
    /// Whether it runs there by `sudo`.
    pub sudo: bool,
    /// The one argument that it is started with. It prints [`ASK`] when it is ready for its request, and answers by a line.
    pub subcommand: &'static str,
    /// How long a host may take for everything.
    pub limit: Duration,
}

/// What a host has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The line that the program there has printed, with nothing made safe yet.
    pub line: String,
    /// What came on standard error, or the last of it, line by line and safe to be shown.
    pub errors: Vec<String>,
}

/// How far a host has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// `ssh` connects and logs in.
    Connecting,
    /// The program is sent.
    Copying,
    /// The program is started.
    Starting,
    /// The program has its request.
    Running,
}

/// Why a host has not answered.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// There is no `ssh`, or it cannot be started.
    #[error("cannot run ssh: {0}")]
    NoSsh(io::Error),
    /// The program is for another kind of machine.
    #[error("that is {found}, and this golife is for Linux {}", std::env::consts::ARCH)]
    Machine {
        /// What `uname -sm` says there.
        found: String,
    },
    /// No folder there takes a program.
    #[error(
        "no folder there may hold programs: TMPDIR, /tmp, /var/tmp, /dev/shm and HOME are full, read-only or noexec"
    )]
    Nowhere,
    /// It took too long.
    #[error("no answer within {}, still {stage}", duration(after.as_nanos() as u64))]
    TimedOut {
        /// How far it had come.
        stage: Stage,
        /// How long was waited.
        after: Duration,
    },
    /// This side had no more time for it.
    #[error("cut off while {0}")]
    Stopped(Stage),
    /// What it said is longer than any answer.
    #[error("what it says does not end")]
    Endless,
    /// `ssh`, or what it has started there, has failed. The text is the last that was said of it.
    #[error("{0}")]
    Failed(String),
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Connecting => "logging in",
            Stage::Copying => "copying golife",
            Stage::Starting => "starting golife",
            Stage::Running => "waiting for the report",
        })
    }
}

/// How the talk with a host has ended.
enum Talk {
    Answer(String),
    Unanswered(Unanswered),
    /// The other side has closed its output.
    Ended,
}

impl Remote {
    /// This program, to be run by `ssh` with a subcommand that nobody else uses.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn itself(subcommand: &'static str, limit: Duration) -> io::Result<Remote> {
        // Most of what ssh would save by compressing it again for each host is saved by the fastest level.
        let mut image = GzEncoder::new(Vec::new(), Compression::fast());
        image.write_all(&std::fs::read("/proc/self/exe")?)?;
        Ok(Remote { image: image.finish()?, config: None, sudo: false, subcommand, limit })
    }

    /// The arguments of `ssh` for a host.
    fn arguments(&self, to: &Destination) -> Vec<String> {
        // Where nobody is there, ssh says so better than a time-out here.
        let connect = (self.limit / 2).min(LONGEST_CONNECT).as_secs().max(1);
        let mut arguments: Vec<String> = OPTIONS.map(str::to_owned).into();
        arguments.extend(["-o".to_owned(), format!("ConnectTimeout={connect}")]);
        if let Some(user) = &to.user {
            arguments.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = to.port {
            arguments.extend(["-p".to_owned(), port.to_string()]);
        }
        arguments.extend(["--".to_owned(), to.host.clone(), format!("exec /bin/sh -c '{}'", self.script())]);
        arguments
    }

    fn script(&self) -> String {
        SCRIPT
            .replace("{machine}", std::env::consts::ARCH)
            .replace("{limit}", &self.limit.as_secs().max(1).to_string())
            .replace("{size}", &self.image.len().to_string())
            .replace("{sudo}", if self.sudo { "sudo -n " } else { "" })
            .replace("{subcommand}", self.subcommand)
    }

    fn command(&self, to: &Destination) -> Command {
        let mut command = Command::new("ssh");
        if let Some(config) = &self.config {
            command.arg("-F").arg(config);
        }
        command.args(self.arguments(to)).env("SSH_ASKPASS_REQUIRE", "never").kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A session of its own has no terminal to ask for a password at, as a jump host would, and Ctrl-C reaches golife alone.
        // It ends with golife, however that ends.
        let alone = || setsid().and_then(|_| set_pdeathsig(Signal::SIGTERM)).map_err(io::Error::from);
        // SAFETY: setsid(2) and prctl(2) may be called between fork and exec.
        unsafe { command.pre_exec(alone) };
        command
    }

    /// Runs the program on a host with a request of one line, until it has answered or the time is over. When `stop` becomes
    /// true, a program that has its request is sent an empty line, and has a moment to answer.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn ask(
        &self,
        to: &Destination,
        request: &str,
        mut stop: watch::Receiver<bool>,
    ) -> Result<Answer, Unanswered> {
        let mut child = self.command(to).spawn().map_err(Unanswered::NoSsh)?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Unanswered::NoSsh(io::ErrorKind::BrokenPipe.into()));
        };
        let errors = Arc::new(Mutex::new(Vec::new()));
        let mut listener = tokio::spawn(listen(stderr, errors.clone()));
        let stage = Cell::new(Stage::Connecting);
        let hurry = stop.clone();
        let cut = async {
            // Without anybody who could say so, there is time.
            if stop.wait_for(|stop| *stop).await.is_err() {
                return std::future::pending().await;
            }
            if stage.get() == Stage::Running {
                tokio::time::sleep(HURRY).await;
            }
        };
        let talk = tokio::select! {
            talk = self.talk(stdin, stdout, request, &stage, hurry) => talk,
            () = tokio::time::sleep(self.limit) => {
                Talk::Unanswered(Unanswered::TimedOut { stage: stage.get(), after: self.limit })
            }
            () = cut => Talk::Unanswered(Unanswered::Stopped(stage.get())),
        };
        let is_over = !matches!(talk, Talk::Unanswered(_));
        let status = end(&mut child, is_over).await;
        let _ = timeout(GRACE, &mut listener).await;
        listener.abort();
        let errors = lines(&errors.lock().unwrap_or_else(PoisonError::into_inner));
        match talk {
            Talk::Answer(line) => Ok(Answer { line, errors }),
            Talk::Unanswered(why) => Err(why),
            Talk::Ended => Err(Unanswered::Failed(reason(errors, status, stage.get()))),
        }
    }

    /// Sends what the other side waits for, and returns what it says in the end. What cannot be written is not wanted any
    /// more, and the other side says why.
    async fn talk(
        &self,
        mut stdin: ChildStdin,
        stdout: ChildStdout,
        request: &str,
        stage: &Cell<Stage>,
        mut stop: watch::Receiver<bool>,
    ) -> Talk {
        // Start-up files of shells may print what they like, before golife's own lines.
        let mut stdout = BufReader::new(stdout);
        let mut noise = (&mut stdout).take(MOST_NOISE);
        loop {
            let mut line = Vec::new();
            if !noise.read_until(b'\n', &mut line).await.is_ok_and(|length| length > 0) {
                return match noise.limit() {
                    0 => Talk::Unanswered(Unanswered::Endless),
                    _ => Talk::Ended,
                };
            }
            match String::from_utf8_lossy(&line).trim_end() {
                SEND => {
                    stage.set(Stage::Copying);
                    let _ = stdin.write_all(&self.image).await;
                    let _ = stdin.flush().await;
                    stage.set(Stage::Starting);
                }
                ASK => break,
                NOWHERE => return Talk::Unanswered(Unanswered::Nowhere),
                line => {
                    if let Some(found) = line.strip_prefix(MACHINE) {
                        let found = clean(&found.chars().take(40).collect::<String>());
                        return Talk::Unanswered(Unanswered::Machine { found });
                    }
                }
            }
        }
        stage.set(Stage::Running);
        let _ = stdin.write_all(format!("{request}\n").as_bytes()).await;
        let _ = stdin.flush().await;
        let mut line = Vec::new();
        let mut stdout = stdout.take(MOST_ANSWER);
        let mut read = std::pin::pin!(stdout.read_until(b'\n', &mut line));
        let read = tokio::select! {
            read = &mut read => read,
            _ = stop.wait_for(|stop| *stop) => {
                let _ = stdin.write_all(b"\n").await;
                let _ = stdin.flush().await;
                read.await
            }
        };
        match (read, line.pop_if(|last| *last == b'\n')) {
            (Ok(_), Some(_)) => match String::from_utf8(line) {
                Ok(line) => Talk::Answer(line),
                Err(_) => Talk::Unanswered(Unanswered::Failed("its answer is no text".to_owned())),
            },
            (Ok(length), None) if length as u64 == MOST_ANSWER => Talk::Unanswered(Unanswered::Endless),
            _ => Talk::Ended,
        }
    }
}

/// Waits for `ssh` to end, or makes it end, with whatever it has started itself. The other side notices that its input ends.
async fn end(child: &mut Child, is_over: bool) -> Option<ExitStatus> {
    if is_over && let Ok(Ok(status)) = timeout(GRACE, child.wait()).await {
        return Some(status);
    }
    let group = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // It fails only where everything has ended already.
        let _ = group.map(|group| killpg(group, signal));
        if let Ok(Ok(status)) = timeout(GRACE, child.wait()).await {
            return Some(status);
        }
    }
    None
}

/// Reads standard error to its end, and keeps the last of it.
async fn listen(mut stderr: ChildStderr, kept: Arc<Mutex<Vec<u8>>>) {
    let mut chunk = [0; 4096];
    while let Ok(length @ 1..) = stderr.read(&mut chunk).await {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(&chunk[..length]);
        let excess = kept.len().saturating_sub(MOST_ERRORS);
        kept.drain(..excess);
    }
}

/// The lines of what came on standard error, safe to be shown.
fn lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    text.lines().map(|line| clean(line.trim())).filter(|line| !line.is_empty()).collect()
}

/// The last that was said, which is why it ended.
fn reason(mut errors: Vec<String>, status: Option<ExitStatus>, stage: Stage) -> String {
    errors.pop().unwrap_or_else(|| match status.and_then(|status| status.code()) {
        Some(code) => format!("it ended with exit code {code} and without a word, while {stage}"),
        None => format!("it ended without a word, while {stage}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote() -> Remote {
        let limit = Duration::from_secs(60);
        Remote { image: vec![7; 1_234], config: None, sudo: false, subcommand: "look", limit }
    }

    #[test]
    fn ssh_is_told_where_to_go_behind_all_options() {
        let arguments = |text| remote().arguments(&Destination::parse(text).unwrap());
        let all = arguments("ann@[::1]:2222");
        let end = all.iter().position(|argument| argument == "--").unwrap();
        assert_eq!(all[end - 4..end], ["-l", "ann", "-p", "2222"]);
        assert_eq!((all[end + 1].as_str(), all.len()), ("::1", end + 3));
        assert!(all[..end].contains(&"BatchMode=yes".to_owned()));
        assert!(all[..end].contains(&"ConnectTimeout=15".to_owned()));
        let plain = arguments("web-1");
        assert!(!plain.contains(&"-l".to_owned()) && !plain.contains(&"-p".to_owned()));
    }

    #[test]
    fn every_login_shell_reads_the_script_as_one_quoted_word() {
        let script = Remote { sudo: true, ..remote() }.script();
        assert!(
            script.ends_with("sudo -n /proc/$$/fd/3 look") && script.contains("head -c 1234 "),
            "{script}"
        );
        let is_odd = |char: &char| matches!(char, '\'' | '\\' | '!' | '\n');
        assert_eq!(script.chars().find(is_odd), None, "{script}");
        assert!(!script.contains("{machine}") && !script.contains("{limit}"), "{script}");
    }

    #[test]
    fn the_last_line_says_why_and_cannot_control_the_terminal() {
        let errors = lines(b"banner\n\nssh: connect to host web\x1b[2J port 22: refused\r\n");
        let why = reason(errors, None, Stage::Connecting);
        assert_eq!(why, "ssh: connect to host web\\u{1b}[2J port 22: refused");
        assert!(reason(Vec::new(), None, Stage::Copying).ends_with("while copying golife"));
    }
}
