//! Tells whether another golife traces on this host. Both work and count exactly, but a target of both pays for each
//! probe twice, and whoever wonders about that should know.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Each golife holds a shared lock on this file while it traces. It is never removed, which would be a race.
const LOCK: &str = "/run/golife.lock";

/// Keeps this golife visible to others until it is dropped, or golife dies.
pub struct Presence {
    _lock: Option<File>,
    /// Whether another was there first.
    pub is_second: bool,
}

impl Presence {
    /// Shows this golife to others, and looks for them. Where the file cannot be created, nothing is known and nothing
    /// is said.
    pub fn announce() -> Presence {
        Presence::at(Path::new(LOCK))
    }

    fn at(path: &Path) -> Presence {
        // Only its owner may open it: else any user could hold the lock and be taken for a golife.
        let options = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).clone();
        let Ok(file) = options.open(path) else { return Presence { _lock: None, is_second: false } };
        // An exclusive lock is there for whoever is alone, and is at once made a shared one.
        let is_second = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
        // It fails only where another is between the two steps, and then that one has not been missed.
        let _ = file.try_lock_shared();
        Presence { _lock: Some(file), is_second }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_knows_of_the_first() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lock");
        let first = Presence::at(&path);
        let second = Presence::at(&path);
        let third = Presence::at(&path);
        assert_eq!([&first, &second, &third].map(|golife| golife.is_second), [false, true, true]);
        drop([first, second, third]);
        assert!(!Presence::at(&path).is_second, "nobody is left");
    }

    #[test]
    fn no_place_for_the_lock_is_no_failure() {
        assert!(!Presence::at(Path::new("/no/such/directory/lock")).is_second);
    }
}
