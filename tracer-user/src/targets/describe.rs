//! What a report says of this golife, of a process, and of a place in its code.

use std::path::Path;

use crate::go::{self, Binary};
use crate::host::container::ContainerNames;
use crate::host::{RunningProcess, kernel};
use crate::report;

/// What a report says of this golife and of the host.
pub fn tool() -> report::Tool {
    let uname = nix::sys::utsname::uname().ok();
    report::Tool {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: uname.map(|uname| uname.nodename().to_string_lossy().into_owned()),
        kernel: Some(kernel::release()).filter(|release| !release.is_empty()),
        arch: std::env::consts::ARCH.to_owned(),
    }
}

/// What a report says of a process and its binary. The start time and the command are missing if the process ended
/// before anybody looked.
pub fn process(process: &RunningProcess, binary: &Binary) -> report::Process {
    let info = binary.build_info();
    let was_seen = process.start_ticks != 0;
    report::Process {
        pid: process.pid,
        start_time: was_seen.then(|| humantime::format_rfc3339_millis(process.start_time).to_string()),
        exe: Some(text(&process.exe)),
        library: (binary.path() != process.exe && binary.is_library()).then(|| text(binary.path())),
        command: was_seen.then(|| process.command.clone()),
        build_id: binary.build_id().map(str::to_owned),
        go: Some(report::Go {
            version: Some(info.version_text.clone()),
            module: info.module.clone(),
            module_version: info.module_version.clone(),
            revision: info.setting("vcs.revision").map(str::to_owned),
            stripped: Some(binary.is_stripped()),
        }),
        container: process.container.clone().map(container),
        stopped: process.is_stopped(),
        ..report::Process::default()
    }
}

/// What a report says of a process that is not traced, with the reason.
pub fn unsupported(pid: u32, why: &impl std::fmt::Display) -> report::Process {
    let process = RunningProcess::look(pid).ok();
    report::Process {
        pid,
        exe: process.as_ref().map(|process| text(&process.exe)),
        command: process.map(|process| process.command),
        mode: report::Mode::Unsupported,
        detail: Some(why.to_string()),
        ..report::Process::default()
    }
}

fn container(ContainerNames { id, name, cgroup, pod }: ContainerNames) -> report::Container {
    report::Container { id, name, cgroup, pod, namespace: None }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Where the function table knows no line, neither file nor line is known.
impl From<&go::CodeFrame> for report::Frame {
    fn from(frame: &go::CodeFrame) -> report::Frame {
        let is_known = frame.line > 0;
        report::Frame {
            function: frame.function.clone(),
            file: is_known.then(|| frame.file.clone()),
            line: is_known.then_some(frame.line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_not_known_is_null() {
        let frame = |file: &str, line| {
            report::Frame::from(&go::CodeFrame {
                function: "f".into(),
                file: file.into(),
                line,
                inlined: false,
            })
        };
        assert_eq!(frame("?", 0), report::Frame { function: "f".into(), file: None, line: None });
        assert_eq!(frame("/a.go", 3).file.as_deref(), Some("/a.go"));
    }
}
