//! What a process is called by those who run it, and which version of a program it runs. Both are the same in every output, so
//! that what several hosts say of one service can be put together.

use super::process::Process;

/// Digits of a commit or a build id that stand for a version.
const DIGITS: usize = 12;
/// The name of a process of which nothing is known.
const UNKNOWN: &str = "unknown";

impl Process {
    /// What the process is to the people who run it: what they have said (`--service`), or else its pod's workload, or else the
    /// name of its container, or else its systemd unit, or else the last part of its executable's path, or else that of its module's.
    pub fn service(&self) -> &str {
        let container = self.container.as_ref();
        let container =
            container.and_then(|container| container.workload.as_deref().or(container.name.as_deref()));
        let named = self.called.as_deref().or(container).or(self.unit.as_deref());
        let module = || self.go.as_ref().and_then(|go| go.module.as_deref()).and_then(last);
        named.or_else(|| self.exe_path().and_then(last)).or_else(module).unwrap_or(UNKNOWN)
    }

    /// The version of the program: that of its module, unless it was built from a working copy (`(devel)`), or else 12 digits of
    /// the commit, or else of the build id; `None` where nothing tells.
    pub fn version(&self) -> Option<&str> {
        let go = self.go.as_ref();
        let module = go.and_then(|go| go.module_version.as_deref());
        let module = module.filter(|version| !version.is_empty() && *version != "(devel)");
        let commit = go.and_then(|go| go.revision.as_deref()).filter(|commit| !commit.is_empty());
        let build_id = self.build_id.as_deref().filter(|id| !id.is_empty());
        module.or_else(|| commit.or(build_id).map(shortened))
    }

    /// Path of the executable as it was when it was started, though the file may not be there any more.
    pub fn exe_path(&self) -> Option<&str> {
        self.exe.as_deref().map(|exe| exe.strip_suffix(" (deleted)").unwrap_or(exe))
    }
}

fn last(path: &str) -> Option<&str> {
    path.rsplit('/').find(|part| !part.is_empty())
}

fn shortened(id: &str) -> &str {
    id.char_indices().nth(DIGITS).map_or(id, |(end, _)| &id[..end])
}

#[cfg(test)]
mod tests {
    use super::super::{Container, Go};
    use super::*;

    #[test]
    fn what_says_most_is_the_service() {
        let mut process = Process::default();
        assert_eq!((process.service(), process.version()), ("unknown", None));
        process.go = Some(Go { module: Some("example.com/api/".into()), ..Go::default() });
        assert_eq!(process.service(), "api");
        process.exe = Some("/srv/bin/server (deleted)".into());
        assert_eq!(process.service(), "server");
        process.unit = Some("billing".into());
        assert_eq!(process.service(), "billing");
        process.container = Some(Container { id: Some("0123".into()), ..Container::default() });
        assert_eq!(process.service(), "billing", "an id is no name");
        process.container = Some(Container { name: Some("web1".into()), ..Container::default() });
        assert_eq!(process.service(), "web1");
        let workload = Some("shop".into());
        process.container = Some(Container { name: Some("web1".into()), workload, ..Container::default() });
        assert_eq!(process.service(), "shop");
        process.called = Some("payments".into());
        assert_eq!(process.service(), "payments");
    }

    #[test]
    fn a_working_copy_has_its_commit_for_a_version() {
        let go = |version: &str, revision: Option<&str>| Process {
            go: Some(Go {
                module_version: Some(version.into()),
                revision: revision.map(str::to_owned),
                ..Go::default()
            }),
            build_id: Some("abcdefghijklmnopq".into()),
            ..Process::default()
        };
        assert_eq!(go("v1.2.3", Some("0123456789abcdef")).version(), Some("v1.2.3"));
        assert_eq!(go("(devel)", Some("0123456789abcdef")).version(), Some("0123456789ab"));
        assert_eq!(go("(devel)", None).version(), Some("abcdefghijkl"));
        assert_eq!(go("", Some("0123")).version(), Some("0123"));
    }
}
