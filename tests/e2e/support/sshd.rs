//! An sshd of one's own, with hosts that answer and hosts that do not: each is a port of it. What they are asked to put into
//! a temporary folder goes into one that the test can look into.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use super::{Running, eventually};

/// What is in the place of a command there, as (host, what it executes). `$SSH_ORIGINAL_COMMAND` is what it was asked for.
const HOSTS: [(&str, &str); 9] = [
    ("plain", "eval \"$SSH_ORIGINAL_COMMAND\""),
    ("greeting", "echo golife: welcome to this host; eval \"$SSH_ORIGINAL_COMMAND\""),
    // The shell reads what golife sends, and never has it.
    ("stuck", "PATH=DIRECTORY/stuck.bin:$PATH; eval \"$SSH_ORIGINAL_COMMAND\""),
    // What arrives there is a program that fails.
    ("broken", "PATH=DIRECTORY/broken.bin:$PATH; eval \"$SSH_ORIGINAL_COMMAND\""),
    ("endless", "yes golife"),
    ("full", "ulimit -f 8; eval \"$SSH_ORIGINAL_COMMAND\""),
    ("foreign", "PATH=DIRECTORY/foreign.bin:$PATH; eval \"$SSH_ORIGINAL_COMMAND\""),
    (
        "nobody",
        "exec setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set -all sh -c \"$SSH_ORIGINAL_COMMAND\"",
    ),
    (
        "hostile",
        "echo golife: ask; read request; printf \"%b\" \"{\\\"schema\\\": \\\"\\\\\\\\u001b[2J\\\"}\\n\"; exec cat >/dev/null",
    ),
];

/// Programs that hosts have in the place of others, as (path, text).
const PROGRAMS: [(&str, &str); 3] = [
    ("stuck.bin/head", "#!/bin/sh\nexec cat >/dev/null\n"),
    (
        "broken.bin/gzip",
        "#!/bin/sh\ncat >/dev/null\nprintf '#!/bin/sh\\necho cannot do it >&2\\nexit 3\\n'\n",
    ),
    ("foreign.bin/uname", "#!/bin/sh\necho Linux riscv64\n"),
];

/// An sshd with all hosts, which ends with its test.
pub struct Sshd {
    directory: TempDir,
    ports: Vec<u16>,
    sshd: Running,
}

impl Sshd {
    /// Starts it with keys of its own.
    pub fn start() -> Sshd {
        let directory = tempfile::Builder::new().prefix("golife-e2e-").tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let shown = directory.path().display();
        for key in ["host", "user"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path(key));
            assert!(
                keygen.status().expect("cannot run ssh-keygen: `cargo xtask test` installs it").success()
            );
        }
        for (name, text) in PROGRAMS {
            fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            fs::write(path(name), text).unwrap();
        }
        let mut config = format!(
            "HostKey {shown}/host\nAuthorizedKeysFile {shown}/user.pub\n\
             PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\nMaxStartups 100\n"
        );
        let mut client = format!(
            "Host *\nUser root\nIdentityFile {shown}/user\nIdentitiesOnly yes\nIdentityAgent none\nHostKeyAlias golife\n\
             UserKnownHostsFile {shown}/known\nGlobalKnownHostsFile /dev/null\n"
        );
        // All are taken at once, so that they differ.
        let free: Vec<_> = HOSTS.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = free.iter().map(|free| free.local_addr().unwrap().port()).collect();
        // sshd listens at sixteen places at most, so only the first host has an IPv6 address, too.
        config += &format!("ListenAddress [::1]:{}\n", ports[0]);
        ports.iter().for_each(|port| config += &format!("ListenAddress 127.0.0.1:{port}\n"));
        for ((name, command), port) in HOSTS.iter().zip(&ports) {
            let command = command.replace("DIRECTORY", &shown.to_string());
            fs::create_dir(path(name)).unwrap();
            config +=
                &format!("Match LocalPort {port}\n SetEnv TMPDIR={shown}/{name}\n ForceCommand {command}\n");
            client += &format!("Host {name}\nHostName 127.0.0.1\nPort {port}\n");
        }
        let key = fs::read_to_string(path("host.pub")).unwrap();
        fs::write(path("known"), format!("golife {key}")).unwrap();
        fs::write(path("sshd_config"), config).unwrap();
        fs::write(path("ssh_config"), client).unwrap();
        // Whoever logs in gets through, and programs are executed.
        let mut chmod = Command::new("chmod");
        let places = PROGRAMS.map(|(name, _)| path(name));
        assert!(chmod.arg("755").arg(directory.path()).args(places).status().unwrap().success());
        assert!(
            Command::new("chmod")
                .arg("1777")
                .args(HOSTS.map(|(name, _)| path(name)))
                .status()
                .unwrap()
                .success()
        );
        fs::create_dir_all("/run/sshd").unwrap();
        drop(free);
        let mut sshd = Command::new("/usr/sbin/sshd");
        sshd.arg("-D").arg("-f").arg(path("sshd_config")).arg("-E").arg(path("log"));
        let sshd = Running::start(&mut sshd);
        let sshd = Sshd { directory, ports, sshd };
        eventually("sshd listens", || {
            sshd.ports.iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok())
        });
        sshd
    }

    /// The folder for the test's own files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The port of a host, at the addresses of this machine.
    pub fn port(&self, name: &str) -> u16 {
        self.ports[HOSTS.iter().position(|(host, _)| *host == name).unwrap()]
    }

    /// `golife sweep` of these hosts, with more arguments.
    pub fn sweep(&self, hosts: &[&str], more: &[&str]) -> Command {
        let list = self.directory().join("hosts");
        fs::write(&list, hosts.join("\n")).unwrap();
        let mut command = Command::new(small_golife());
        command.args(["sweep", "--ssh", "--hosts"]).arg(list);
        command.arg("--ssh-config").arg(self.directory().join("ssh_config")).args(more);
        command
    }

    /// What stands in the temporary folder of a host.
    pub fn left(&self, name: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.directory().join(name)).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// The processes of golife on a host, or what the shell there has started.
    pub fn processes(&self, name: &str) -> Vec<u32> {
        let variable = format!("TMPDIR={}\0", self.directory().join(name).display());
        let is_there = |pid: &u32| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|environment| String::from_utf8_lossy(&environment).contains(&variable))
        };
        pids().filter(is_there).collect()
    }

    /// Checks that no host has anything left of what was there.
    #[track_caller]
    pub fn expect_clean(&self) {
        for (name, _) in HOSTS {
            eventually(&format!("nothing is left on {name}"), || {
                self.left(name).is_empty() && self.processes(name).is_empty()
            });
        }
    }

    /// Breaks all connections, as a network does.
    pub fn break_connections(&self) {
        let parent = |pid: u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse::<u32>().ok()
        };
        let mut sessions = vec![self.sshd.pid()];
        let is_sshd = |pid: &u32| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("sshd"))
        };
        for at in 0.. {
            let Some(&above) = sessions.get(at) else { break };
            sessions.extend(pids().filter(|pid| parent(*pid) == Some(above)).filter(is_sshd));
        }
        for pid in &sessions[1..] {
            let _ = kill(Pid::from_raw(*pid as i32), Signal::SIGKILL);
        }
    }
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The golife under test without debug information, which would be most of what is sent.
fn small_golife() -> &'static Path {
    static SMALL: OnceLock<PathBuf> = OnceLock::new();
    SMALL.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("golife-to-send");
        let unfinished = path.with_extension(std::process::id().to_string());
        let mut strip = Command::new("strip");
        strip.arg("-o").arg(&unfinished).arg(env!("CARGO_BIN_EXE_golife")).stdin(Stdio::null());
        assert!(strip.status().expect("cannot run strip: `cargo xtask test` installs it").success());
        fs::rename(&unfinished, &path).unwrap();
        path
    })
}
