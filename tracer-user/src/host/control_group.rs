//! What the control groups of a process say of it beyond its container: its systemd unit, and how much memory it may use.

use std::path::Path;

use super::files::read_text;

/// What the control groups of a process say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Name of the systemd service that the process belongs to, without `.service`; `None` where it belongs to none.
    pub unit: Option<String>,
    /// The memory that the process and the others of its group may use, in bytes: the least of its group and those around it;
    /// `None` where they may use all.
    pub memory_bytes: Option<u64>,
}

/// Where control groups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// Reads what the control groups of a process say. What cannot be read is `None`.
pub fn of(pid: u32) -> Limits {
    let groups = read_text(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let memory_bytes = memory(&groups).and_then(|(root, path, file)| least(Path::new(&root), path, file));
    Limits { unit: unit(&groups), memory_bytes }
}

/// The innermost service in the paths of `/proc/PID/cgroup`. The manager of a user's services is none itself.
fn unit(groups: &str) -> Option<String> {
    let paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let mut parts = paths.flat_map(|path| path.rsplit('/'));
    let unit =
        parts.find_map(|part| part.strip_suffix(".service").filter(|unit| !unit.starts_with("user@")))?;
    // systemd writes a dash within a name as \x2d.
    Some(unit.replace("\\x2d", "-"))
}

/// Where the limits of memory are: the root of their hierarchy, the path of the process's group, and the name of the file.
/// Version 1 has a hierarchy for memory where version 2 does not have the controller.
fn memory(groups: &str) -> Option<(String, &str, &'static str)> {
    let mut lines = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        Some((parts.next()?, parts.next()?, parts.next()?))
    });
    let version_1 =
        lines.clone().find(|(_, controllers, _)| controllers.split(',').any(|name| name == "memory"));
    match version_1 {
        Some((_, _, path)) => Some((format!("{MOUNT}/memory"), path, "memory.limit_in_bytes")),
        None => {
            lines.find(|(number, ..)| *number == "0").map(|(_, _, path)| (MOUNT.into(), path, "memory.max"))
        }
    }
}

/// The least limit of a group and of all around it.
fn least(root: &Path, path: &str, file: &str) -> Option<u64> {
    if path.split('/').any(|part| part == "..") {
        // That of a process outside golife's own namespace of control groups.
        return None;
    }
    let own = root.join(path.trim_start_matches('/'));
    let groups = own.ancestors().take_while(|group| group.starts_with(root));
    groups.filter_map(|group| read_text(group.join(file)).ok().as_deref().and_then(limit)).min()
}

/// A limit in bytes. Version 2 writes `max` where there is none, version 1 the largest number of whole pages.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes < 1 << 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_the_innermost_unit() {
        let cases = [
            ("0::/system.slice/ssh.service", Some("ssh")),
            ("1:name=systemd:/system.slice/my\\x2dapi.service/worker\n0::/", Some("my-api")),
            ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/api.service", Some("api")),
            ("0::/user.slice/user-1000.slice/user@1000.service/init.scope", None),
            ("0::/user.slice/user-1000.slice/session-3.scope", None),
            ("", None),
        ];
        for (groups, expected) in cases {
            assert_eq!(unit(groups).as_deref(), expected, "{groups}");
        }
    }

    #[test]
    fn the_least_limit_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            std::fs::create_dir_all(root.path().join(path)).unwrap();
            std::fs::write(root.path().join(path).join("memory.max"), text).unwrap();
        };
        write("pods", "1000000\n");
        write("pods/a", "2000000\n");
        write("pods/a/main", "max\n");
        write("free", "max\n");
        let least = |path| least(root.path(), path, "memory.max");
        assert_eq!(least("/pods/a/main"), Some(1_000_000));
        assert_eq!(least("/free"), None);
        assert_eq!(least("/../../.."), None, "a path outside golife's namespace");
        assert_eq!((limit("9223372036854771712\n"), limit("nonsense")), (None, None));
    }

    #[test]
    fn whichever_version_has_the_controller_is_read() {
        let hybrid = "9:cpu,memory:/kubepods/x\n0::/y";
        assert_eq!(memory(hybrid), Some((format!("{MOUNT}/memory"), "/kubepods/x", "memory.limit_in_bytes")));
        assert_eq!(memory("2:cpu:/x\n0::/y"), Some((MOUNT.into(), "/y", "memory.max")));
        assert_eq!(memory("2:cpu:/x"), None);
    }
}
