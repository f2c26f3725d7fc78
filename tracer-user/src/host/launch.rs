//! Starts the program of `golife run` so that its probes can be in place before its first instruction: the child waits
//! between `fork` and `exec` until it is released.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read, Write},
    os::{fd::AsRawFd, unix::process::CommandExt},
    path::PathBuf,
    process::{Child, Command},
    thread::{self, JoinHandle},
};

use nix::{
    sys::wait::{Id, WaitPidFlag, waitid},
    unistd::{AccessFlags, Pid, access, pipe},
};

use super::account::{self, Account};

/// Why the program did not start.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// No directory in PATH has such a program.
    #[error("cannot run {0}: not found in PATH; give its path, e.g. ./{0}")]
    NotFound(String),
    /// No directory in the PATH that sudo has set has such a program.
    #[error(
        "cannot run {0}: not found in PATH, which sudo has replaced (secure_path); keep yours with sudo env \"PATH=$PATH\" \
         golife run …, or give the path of {0}"
    )]
    NotFoundBySudo(String),
    /// The system refused to start the program as another user.
    #[error("cannot run {program} as {user}: {source}")]
    As {
        /// The name of the user.
        user: String,
        /// The program as the user named it.
        program: String,
        /// What the system says.
        source: io::Error,
    },
    /// The system refused to start the program.
    #[error("cannot run {program}: {source}")]
    Spawn {
        /// The program as the user named it.
        program: String,
        /// What the system says.
        source: io::Error,
    },
}

impl LaunchError {
    fn of(program: &str, user: Option<&str>, source: io::Error) -> LaunchError {
        let program = program.to_owned();
        match user {
            Some(user) => LaunchError::As { user: user.to_owned(), program, source },
            None => LaunchError::Spawn { program, source },
        }
    }
}

/// A child that has been forked and waits until it may become its program.
pub struct Launch {
    pid: u32,
    program: String,
    /// The name of the user that it is started as, if that is another one.
    user: Option<String>,
    release: File,
    spawned: JoinHandle<io::Result<Child>>,
}

/// The file that a command name leads to, as execvp(3) would find it.
///
/// # Errors
/// [`LaunchError::NotFound`], [`LaunchError::NotFoundBySudo`]: no directory in PATH has such a program.
pub fn resolve(program: &OsStr) -> Result<PathBuf, LaunchError> {
    let not_found = || {
        let program = program.to_string_lossy().into_owned();
        match account::sudo_user() {
            Some(_) => LaunchError::NotFoundBySudo(program),
            None => LaunchError::NotFound(program),
        }
    };
    if program.as_encoded_bytes().contains(&b'/') {
        return Ok(PathBuf::from(program));
    }
    let path = std::env::var_os("PATH").ok_or_else(not_found)?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file() && access(candidate, AccessFlags::X_OK).is_ok())
        .ok_or_else(not_found)
}

impl Launch {
    /// Forks a child that waits. It inherits standard input, output and error, the terminal and the process group, and has
    /// what is in `environment` beside what it inherits. If there is an account, it is that user's from then on.
    ///
    /// # Errors
    /// - [`LaunchError::NotFound`]: the command is empty.
    /// - [`LaunchError::Spawn`], [`LaunchError::As`]: the system refused to fork, or to make it that user's.
    pub fn fork(
        command: &[OsString],
        environment: &[(&str, OsString)],
        account: Option<&Account>,
    ) -> Result<Launch, LaunchError> {
        let (program, arguments) =
            command.split_first().ok_or_else(|| LaunchError::NotFound(String::new()))?;
        let name = program.to_string_lossy().into_owned();
        let user = account.map(|account| account.name.clone());
        let fail = |source: io::Error| LaunchError::of(&name, user.as_deref(), source);
        let (announced, announce) = pipe().map_err(|errno| fail(errno.into()))?;
        let (wait, release) = pipe().map_err(|errno| fail(errno.into()))?;
        // The child must see the end of this pipe when golife dies, so it may not hold the writing end itself.
        let inherited = release.as_raw_fd();
        let mut announce = File::from(announce);
        let mut wait = File::from(wait);

        let mut command = Command::new(program);
        command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value)));
        if let Some(Account { name, home, .. }) = account {
            command.env("USER", name).env("LOGNAME", name);
            match home {
                Some(home) => command.env("HOME", home),
                None => command.env_remove("HOME"),
            };
        }
        let ids = account.map(|account| account.ids.clone());
        let in_child = move || {
            // SAFETY: this is the forked child's own copy of the descriptor, and it is not used again there.
            unsafe { libc::close(inherited) };
            if let Some(ids) = &ids {
                ids.assume()?;
            }
            announce.write_all(&std::process::id().to_ne_bytes())?;
            let mut go = [0];
            match wait.read(&mut go)? {
                0 => Err(io::Error::from_raw_os_error(libc::ECANCELED)),
                _ => Ok(()),
            }
        };
        // SAFETY: between fork and exec the closure makes system calls alone, which is async-signal-safe.
        unsafe { command.pre_exec(in_child) };
        // `spawn` returns only after exec, so it runs on another thread while the child waits for its release.
        let spawned = thread::spawn(move || command.spawn());

        let mut pid = [0; 4];
        match File::from(announced).read_exact(&mut pid) {
            Ok(()) => Ok(Launch {
                pid: u32::from_ne_bytes(pid),
                program: name,
                user,
                release: File::from(release),
                spawned,
            }),
            Err(error) => {
                // The fork itself failed, or to become the user, and the thread knows why.
                let source = match spawned.join() {
                    Ok(Err(source)) => source,
                    _ => error,
                };
                Err(fail(source))
            }
        }
    }

    /// The program as the user named it.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// The child's process id, which it keeps when it becomes its program.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets the child become its program.
    ///
    /// # Errors
    /// [`LaunchError::Spawn`], [`LaunchError::As`]: the program could not be executed.
    pub fn release(mut self) -> Result<Child, LaunchError> {
        let fail = |source| LaunchError::of(&self.program, self.user.as_deref(), source);
        self.release.write_all(&[1]).map_err(fail)?;
        match self.spawned.join() {
            Ok(child) => child.map_err(fail),
            Err(_) => Err(fail(io::Error::other("the starting thread panicked"))),
        }
    }
}

/// Waits until a child has ended. It can still be looked at and has to be waited for afterwards.
///
/// # Errors
/// This process has no such child.
pub fn wait_for_end(pid: u32) -> io::Result<()> {
    let child = Id::Pid(Pid::from_raw(pid as i32));
    waitid(child, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_waits_until_it_is_released() {
        let launch = Launch::fork(&["sh".into(), "-c".into(), "exit 7".into()], &[], None).expect("fork");
        let comm =
            std::fs::read_to_string(format!("/proc/{}/comm", launch.pid())).expect("the child is there");
        assert_ne!(comm.trim(), "sh", "it has not become its program yet");
        let mut child = launch.release().expect("exec");
        wait_for_end(child.id()).expect("it ends");
        assert_eq!(child.wait().expect("wait").code(), Some(7));
    }

    #[test]
    fn an_abandoned_child_goes_away() {
        let launch = Launch::fork(&["sh".into(), "-c".into(), "exit 0".into()], &[], None).expect("fork");
        let pid = launch.pid();
        drop(launch.release);
        assert!(launch.spawned.join().expect("thread").is_err());
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn what_does_not_exist_is_named() {
        let error = resolve(OsStr::new("no-such-program-anywhere")).expect_err("it does not exist");
        assert_eq!(
            error.to_string(),
            "cannot run no-such-program-anywhere: not found in PATH; give its path, e.g. ./no-such-program-anywhere"
        );
        let launch = Launch::fork(&["/no/such/program".into()], &[], None).expect("the fork itself works");
        assert!(launch.release().expect_err("exec fails").to_string().contains("No such file"));
    }
}
