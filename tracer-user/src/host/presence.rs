//! Tells whether another golife traces on this host. Both work and count exactly, but a process that both trace pays
//! twice for each probe, and its owner may wonder why.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// The file on which each golife holds a shared lock while it traces. It is never removed, since another golife may
/// just be opening it.
const LOCK: &str = "/run/golife.lock";

/// Shows others that this golife traces, until it is dropped or golife dies.
pub struct Presence {
    _lock: Option<File>,
    /// Whether another golife was there first.
    pub is_second: bool,
}

impl Presence {
    /// Shows this golife to others, and looks for them. If the lock file cannot be opened, no other golife is reported.
    pub fn announce() -> Presence {
        Presence::at(Path::new(LOCK))
    }

    fn at(path: &Path) -> Presence {
        // Only its owner may open the file. Otherwise any user could hold the lock and be taken for a golife.
        let options = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).clone();
        let Ok(file) = options.open(path) else { return Presence { _lock: None, is_second: false } };
        // Only the one who is alone gets the exclusive lock. It is made a shared one at once.
        let is_second = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
        // This fails only while another golife is between these two steps, and then there is nothing more to do.
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
