//! Names processes, functions and places in the same way for all forms of text.

use super::style::{BOLD, DIM, paint};
use crate::assemble::alike::Program;
use crate::human::{clean, count, file_name, short_function, shorten, width, wrap};
use crate::report::{Container, Frame, Mode, Waiting};

/// Names such as `container 0123456789ab` and `pod api-7d9f`. Of a container's id only the first digits are shown, as
/// the commands of container runtimes do.
fn container_names(container: &Container) -> impl Iterator<Item = String> {
    const DIGITS: usize = 12;
    let id = container.id.as_ref().map(|id| id.chars().take(DIGITS).collect());
    let own = id.or(container.name.clone()).map(|name: String| format!("container {}", clean(&name)));
    own.into_iter().chain(container.pod.as_ref().map(|pod| format!("pod {}", clean(pod))))
}

/// A line such as `pid 4242  api --port 80  go1.26.8, example.com/api v1.4.2`, or `50 processes  /usr/bin/api  …`. The
/// command is shortened so that the line fits into `columns`, if possible.
pub fn program_name(program: &Program, columns: usize) -> String {
    let process = &program.process;
    let command = process.command.as_deref().or(process.exe.as_deref()).unwrap_or("?");
    let go = process.go.iter().flat_map(|go| {
        let module = go.module.as_ref().map(|module| match &go.module_version {
            Some(version) => format!("{module} {version}"),
            None => module.clone(),
        });
        [go.version.clone(), module]
    });
    let mut about: Vec<String> = go.flatten().map(|text| clean(&text)).collect();
    about.extend(process.container.iter().flat_map(container_names));
    match process.mode {
        Mode::Traced => {}
        Mode::Gone => about.push("ended".into()),
        Mode::Scanned => about.push("no probes".into()),
        Mode::Unsupported => about.push("not traced".into()),
    }
    if process.stopped {
        about.push("stopped".into());
    }
    // The detail of a process that was scanned is shown only if the scan was cut short.
    let went_well = process.mode == Mode::Scanned && process.scan.is_some_and(|scan| !scan.cut_short);
    if let Some(detail) = process.detail.as_ref().filter(|_| !went_well) {
        about.push(clean(detail));
    }
    let about = about.join(", ");
    let who = processes(&program.pids);
    let room = columns.saturating_sub(width(&about) + 18).max(20);
    let command = shorten(&clean(command), room);
    if width(&who) + width(&command) + width(&about) + 4 <= columns {
        return format!("{who}  {}  {}", paint(BOLD, command), paint(DIM, about));
    }
    let mut lines = vec![format!("{who}  {}", paint(BOLD, command))];
    lines
        .extend(wrap(&about, columns.saturating_sub(2)).iter().map(|line| format!("  {}", paint(DIM, line))));
    lines.join("\n")
}

/// Names a process by its id, and counts several.
pub fn processes(pids: &[u32]) -> String {
    match pids {
        [only] => format!("pid {only}"),
        several => format!("{} processes", count(several.len() as u64)),
    }
}

/// A function's name in its short form, made safe for a terminal.
pub fn function(frame: &Frame) -> String {
    clean(short_function(&frame.function))
}

/// A place with its function, such as `hub.go:88 in hub.(*Hub).Subscribe`.
pub fn located(frame: &Frame) -> String {
    if starts_program(frame) {
        return "the start of the program".into();
    }
    format!("{} in {}", place(frame), function(frame))
}

/// A place such as `hub.go:88`, or as much of it as is known.
pub fn place(frame: &Frame) -> String {
    if starts_program(frame) {
        return "program start".into();
    }
    match (&frame.file, frame.line) {
        (Some(file), Some(line)) => format!("{}:{line}", clean(file_name(file))),
        (Some(file), None) => clean(file_name(file)),
        _ => "an unknown line".into(),
    }
}

/// How many goroutines have not moved since an earlier look, of those that it has seen: one that came later or was not
/// looked at is no evidence either way. `None` if there is nothing to say.
pub fn unmoved(waiting: &Waiting) -> Option<String> {
    let unmoved = waiting.unmoved.filter(|&unmoved| unmoved > 0)?;
    Some(match waiting.compared {
        _ if unmoved == waiting.count => "none has moved".into(),
        Some(compared) if unmoved == compared => {
            format!("none of the {} seen before has moved", count(compared))
        }
        Some(compared) => {
            format!("{} of the {} seen before have not moved", count(unmoved), count(compared))
        }
        None => format!("{} have not moved", count(unmoved)),
    })
}

/// Whether each of the goroutines keeps a thread of the system from doing anything else, as in a system call.
pub fn holds_thread(waiting: &Waiting) -> bool {
    waiting.reason == "syscall"
}

/// Whether the frame is the creation of the first goroutine. The runtime creates it before any code with a `go`
/// statement runs: `runtime.rt0_go` calls `runtime.newproc` through a wrapper that has no line.
fn starts_program(frame: &Frame) -> bool {
    frame.function == "runtime.newproc"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_call_holds_a_thread_and_a_channel_does_not() {
        let reason = |reason: &str| Waiting { reason: reason.into(), ..Waiting::default() };
        let in_call = crate::go::Status::Syscall.name();
        assert!(holds_thread(&reason(in_call)) && !holds_thread(&reason("chan receive")));
    }

    #[test]
    fn a_limit_of_what_was_looked_at_is_shown_as_one() {
        let said = |moved: Option<u64>, compared| {
            unmoved(&Waiting { count: 100_160, unmoved: moved, compared, ..Waiting::default() })
        };
        let capped = "65,528 of the 65,536 seen before have not moved";
        assert_eq!(said(Some(65_528), Some(65_536)).as_deref(), Some(capped));
        assert_eq!(said(Some(100_160), Some(100_160)).as_deref(), Some("none has moved"));
        let all_seen = "none of the 13 seen before has moved";
        assert_eq!(said(Some(13), Some(13)).as_deref(), Some(all_seen));
        assert_eq!(said(Some(7), None).as_deref(), Some("7 have not moved"));
        assert_eq!((said(Some(0), Some(9)), said(None, None)), (None, None));
    }
}
