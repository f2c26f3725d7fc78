//! Who a program is started as: a user's ids, groups and home directory, as the machine knows them.

use std::env::var;
use std::ffi::CString;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use caps::Capability;
use nix::unistd::{Gid, Uid, User, geteuid, getgrouplist};

use super::capabilities;

/// Why a program cannot be started as a user.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The machine knows no such user.
    #[error("there is no user {0}: give a name or a UID that getent passwd shows")]
    Unknown(String),
    /// This process may not become another user.
    #[error("cannot run programs as {user}: that needs {needs}; {remedy}")]
    Forbidden {
        /// The name of the user.
        user: String,
        /// What is needed.
        needs: &'static str,
        /// What the user can do about it.
        remedy: &'static str,
    },
    /// The groups of the user cannot be listed.
    #[error("cannot list the groups of {user}: {source}")]
    Groups {
        /// The name of the user.
        user: String,
        /// What the system says.
        source: io::Error,
    },
}

/// A user that a program is to be started as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user's name.
    pub name: String,
    /// The home directory; `None` where it is not known.
    pub home: Option<PathBuf>,
    /// The ids that its processes have.
    pub ids: Ids,
}

/// The ids that a user's processes have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    uid: libc::uid_t,
    gid: libc::gid_t,
    groups: Vec<libc::gid_t>,
}

impl Account {
    /// The account of a user that is named, by name or by UID. `None` where this process is that user already.
    ///
    /// # Errors
    /// There is no such user, or this process may not become another one.
    pub fn named(user: &str) -> Result<Option<Account>, AccountError> {
        let of_number = || User::from_uid(Uid::from_raw(user.parse().ok()?)).ok().flatten();
        let known = User::from_name(user).ok().flatten().or_else(of_number);
        Account::of(known.ok_or_else(|| AccountError::Unknown(user.to_owned()))?)
    }

    /// The account of who has called sudo, if this process is root by that. `None` where it is not, or where root has
    /// called it.
    ///
    /// # Errors
    /// This process may not become another user.
    pub fn of_sudo() -> Result<Option<Account>, AccountError> {
        let Some(name) = sudo_user() else { return Ok(None) };
        if let Some(known) = User::from_name(&name).ok().flatten() {
            return Account::of(known);
        }
        // A user of a directory service may be unknown here, but sudo has found the ids.
        let id = |name| var(name).ok().and_then(|id| id.parse().ok());
        let (Some(uid), Some(gid)) = (id("SUDO_UID"), id("SUDO_GID")) else {
            return Err(AccountError::Unknown(name));
        };
        let home = var("SUDO_HOME").ok().map(PathBuf::from);
        Account { name, home, ids: Ids { uid, gid, groups: vec![gid] } }.if_other()
    }

    fn of(user: User) -> Result<Option<Account>, AccountError> {
        let User { name, uid, gid, dir, .. } = user;
        let ids = Ids { uid: uid.as_raw(), gid: gid.as_raw(), groups: Vec::new() };
        let Some(account) = (Account { name, home: Some(dir), ids }).if_other()? else { return Ok(None) };
        let groups = groups(&account.name, gid)
            .map_err(|source| AccountError::Groups { user: account.name.clone(), source })?;
        Ok(Some(Account { ids: Ids { groups, ..account.ids }, ..account }))
    }

    /// The same, unless this process is that user. Then nothing is to be done.
    fn if_other(self) -> Result<Option<Account>, AccountError> {
        if self.ids.uid == geteuid().as_raw() {
            return Ok(None);
        }
        if [Capability::CAP_SETUID, Capability::CAP_SETGID].into_iter().all(capabilities::has) {
            return Ok(Some(self));
        }
        let (needs, remedy) = match geteuid().is_root() {
            true => ("CAP_SETUID and CAP_SETGID", "grant them, or keep root with --user root"),
            false => ("root", "run golife itself as root, with sudo, or leave --user out"),
        };
        Err(AccountError::Forbidden { user: self.name, needs, remedy })
    }
}

fn groups(name: &str, gid: Gid) -> io::Result<Vec<libc::gid_t>> {
    let name = CString::new(name).map_err(io::Error::other)?;
    Ok(getgrouplist(&name, gid)?.into_iter().map(Gid::as_raw).collect())
}

/// The name of who has called sudo, if this process is root by that.
pub fn sudo_user() -> Option<String> {
    var("SUDO_USER").ok().filter(|name| !name.is_empty() && geteuid().is_root())
}

impl Account {
    /// Whether the user may execute a file, by the permissions of it and of the directories that lead to it. Access control
    /// lists are not asked.
    pub fn may_execute(&self, path: &Path) -> bool {
        path.ancestors()
            .all(|part| std::fs::metadata(part).is_ok_and(|metadata| self.ids.may_execute(&metadata)))
    }
}

impl Ids {
    fn may_execute(&self, metadata: &Metadata) -> bool {
        let shift = if self.uid == 0 || self.uid == metadata.uid() {
            6
        } else if self.gid == metadata.gid() || self.groups.contains(&metadata.gid()) {
            3
        } else {
            0
        };
        metadata.mode() >> shift & 1 == 1
    }

    /// Makes this process that user, for good. It makes system calls and nothing else, so that it may be called between
    /// `fork` and `exec`.
    ///
    /// # Errors
    /// The system refuses, with the error of the call.
    pub fn assume(&self) -> io::Result<()> {
        let done = |result: libc::c_long| match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        };
        let Ids { uid, gid, groups } = self;
        // The user comes last: who is no longer root may not change the groups. The C library's own functions would first
        // tell all threads, of which a forked child has only one.
        // SAFETY: the calls take numbers, and a list of as many as are said.
        done(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
        // SAFETY: as above.
        done(unsafe { libc::syscall(libc::SYS_setresgid, *gid, *gid, *gid) })?;
        // SAFETY: as above.
        done(unsafe { libc::syscall(libc::SYS_setresuid, *uid, *uid, *uid) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_this_is_already_needs_no_account() {
        let own = User::from_uid(geteuid()).ok().flatten().expect("this user is known");
        assert_eq!(Account::named(&own.name).expect("it is"), None);
        assert_eq!(Account::named(&own.uid.to_string()).expect("it is"), None);
    }

    #[test]
    fn who_may_execute_what() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("golife");
        std::fs::write(&file, "").expect("a file");
        let set = |path: &Path, mode| {
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(path, permissions).expect("it is ours");
        };
        let own = std::fs::metadata(&file).expect("it is there");
        let ids = |uid, gid| Ids { uid, gid, groups: vec![gid] };
        let may = |ids| Account { name: "one".into(), home: None, ids }.may_execute(&file);
        let (other, member) = (ids(own.uid() + 7, own.gid() + 7), ids(own.uid() + 7, own.gid()));
        for (directory_mode, file_mode, by_others, by_members) in [
            (0o755, 0o755, true, true),
            (0o700, 0o755, false, false),
            (0o755, 0o750, false, true),
            (0o711, 0o644, false, false),
        ] {
            set(directory.path(), directory_mode);
            set(&file, file_mode);
            assert_eq!(
                (may(other.clone()), may(member.clone())),
                (by_others, by_members),
                "{directory_mode:o} {file_mode:o}"
            );
        }
    }

    #[test]
    fn an_unknown_user_is_named() {
        for user in ["no-such-user-anywhere", "4294967294", ""] {
            let error = Account::named(user).expect_err("there is none").to_string();
            assert!(error.contains(&format!("there is no user {user}")), "{error}");
        }
    }
}
