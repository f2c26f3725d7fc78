//! Names processes, functions and places in the same way for all forms of text.

use std::collections::HashMap;
use std::hash::Hash;

use super::style::{BOLD, DIM, paint};
use crate::assemble::alike::Program;
use crate::human::{clean, count, file_name, short_function, shorten, width, wrap};
use crate::report::{Container, CountedLabel, Frame, Io, Mode, Site, Waiting};

/// Names such as `container server` and `pod api-7d9f8b6c5-x2x9z`. Of a container without a name, the first digits of its id are
/// shown, as the commands of container runtimes do.
fn container_names(container: &Container) -> impl Iterator<Item = String> {
    const DIGITS: usize = 12;
    let id = container.id.as_ref().map(|id| id.chars().take(DIGITS).collect());
    let own = container.name.clone().or(id).map(|name: String| format!("container {}", clean(&name)));
    let pod = container.pod_name.as_ref().or(container.pod.as_ref());
    own.into_iter().chain(pod.map(|pod| format!("pod {}", clean(pod))))
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
        Mode::Scanned if process.ended.is_some() => about.extend(["no probes".into(), "ended".into()]),
        Mode::Scanned => about.push("no probes".into()),
        Mode::Unsupported => about.push("not traced".into()),
    }
    if process.stopped {
        about.push("stopped".into());
    }
    about.extend(process.started_by.as_ref().map(|by| {
        let package = by.package.as_ref().map(|package| format!(" of {}", clean(package)));
        format!("started by {}{}", clean(&by.test), package.unwrap_or_default())
    }));
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
    clean(&short_function(&frame.function))
}

/// A place with its function, such as `hub.go:88 in hub.(*Hub).Subscribe`.
pub fn located(frame: &Frame) -> String {
    if starts_program(frame) {
        return "the start of the program".into();
    }
    if is_of_timer(frame) {
        return "the firing of a timer (time.AfterFunc)".into();
    }
    format!("{} in {}", place(frame), function(frame))
}

/// A place such as `hub.go:88`, or as much of it as is known.
pub fn place(frame: &Frame) -> String {
    if starts_program(frame) {
        return "program start".into();
    }
    if is_of_timer(frame) {
        return "a timer".into();
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

/// A file descriptor that a goroutine waits for, such as `tcp 127.0.0.1:5000 → 10.0.0.7:5432 (fd 9), no deadline`.
pub fn descriptor(io: &Io) -> String {
    let kind = io.kind.as_deref().unwrap_or("a file descriptor");
    let ends: Vec<String> = [&io.local, &io.remote].into_iter().flatten().map(|end| clean(end)).collect();
    let ends = if ends.is_empty() { String::new() } else { format!(" {}", ends.join(" → ")) };
    let fd = io.fd.map(|fd| format!(" (fd {fd})")).unwrap_or_default();
    let until = match &io.deadline {
        Some(deadline) => format!("until {}", clean(deadline)),
        None => "no deadline".into(),
    };
    format!("{}{ends}{fd}, {until}", clean(kind))
}

/// The same of a group, with how many of those that were looked at wait for the same other end.
pub fn descriptor_of_group(waiting: &Waiting) -> Option<String> {
    let io = waiting.io.as_ref()?;
    let looked_at = waiting.goids.len() as u64;
    let alike = waiting.io_alike.unwrap_or(1);
    Some(match looked_at {
        0 | 1 => descriptor(io),
        _ if alike == 1 => format!("{}; each of the {looked_at} looked at has another end", descriptor(io)),
        _ => format!("{}; the other end of {alike} of the {looked_at} looked at", descriptor(io)),
    })
}

/// The labels that more than half of a site's goroutines carry, such as `33 of 35 carry tenant=acme`.
pub fn labels(site: &Site, live: u64) -> impl Iterator<Item = String> {
    const SHOWN: usize = 3;
    let most = site.labels.iter().flatten().filter(move |label| label.count.saturating_mul(2) > live);
    most.take(SHOWN).map(move |CountedLabel { key, value, count: number }| {
        let label = format!("{}={}", clean(key), clean(value));
        match live {
            // Some may have ended since they were looked at.
            _ if *number >= live && *number > 1 => format!("all carry {label}"),
            1 => format!("carries {label}"),
            _ => format!("{} of {} carry {label}", count(*number), count(live)),
        }
    })
}

/// Whether each of the goroutines keeps a thread of the system from doing anything else, as in a system call.
pub fn holds_thread(waiting: &Waiting) -> bool {
    waiting.reason == "syscall"
}

/// Whether the frame is the creation of the first goroutine. The runtime creates it before any code with a `go`
/// statement runs: `runtime.rt0_go` calls `runtime.newproc` through a wrapper that has no line.
pub fn starts_program(frame: &Frame) -> bool {
    frame.function == "runtime.newproc"
}

/// Whether the frame is the `go` statement of the standard library that calls the functions of timers. No goroutine has
/// executed it but a thread that looked after timers: `goFunc` in
/// <https://cs.opensource.google/go/go/+/master:src/time/sleep.go>.
pub fn is_of_timer(frame: &Frame) -> bool {
    frame.function == "time.goFunc"
}

/// Tells equal names apart, each with its line: which one of them it is by the lines, from 1.
pub(super) fn numbers<N: Eq + Hash>(names: &[(N, Option<u32>)]) -> Vec<u32> {
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by_key(|&at| names[at].1);
    let (mut seen, mut numbers) = (HashMap::new(), vec![0; names.len()]);
    for at in order {
        let number: &mut u32 = seen.entry(&names[at].0).or_default();
        *number += 1;
        numbers[at] = *number;
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timers_function_is_not_created_by_the_standard_library() {
        let frame = |function: &str| Frame {
            function: function.into(),
            file: Some("/go/src/time/sleep.go".into()),
            line: Some(215),
        };
        let named = |function: &str| (located(&frame(function)), place(&frame(function)));
        let timer = ("the firing of a timer (time.AfterFunc)".to_owned(), "a timer".to_owned());
        assert_eq!(named("time.goFunc"), timer);
        assert_eq!(named("time.sendTime").1, "sleep.go:215");
    }

    #[test]
    fn a_system_call_holds_a_thread_and_a_channel_does_not() {
        let reason = |reason: &str| Waiting { reason: reason.into(), ..Waiting::default() };
        let in_call = crate::go::Status::Syscall.name();
        assert!(holds_thread(&reason(in_call)) && !holds_thread(&reason("chan receive")));
    }

    #[test]
    fn a_descriptor_is_named_with_what_is_known_of_it() {
        let io = Io {
            fd: Some(9),
            kind: Some("tcp".into()),
            local: Some("127.0.0.1:5000".into()),
            remote: Some("10.0.0.7:5432".into()),
            deadline: None,
        };
        let whole = "tcp 127.0.0.1:5000 → 10.0.0.7:5432 (fd 9), no deadline";
        assert_eq!(descriptor(&io), whole);
        let until = Some("2026-01-02T03:04:05.000Z".to_owned());
        let little = Io { fd: Some(3), deadline: until, ..Io::default() };
        assert_eq!(descriptor(&little), "a file descriptor (fd 3), until 2026-01-02T03:04:05.000Z");
        let group = |goids: u64, io_alike| {
            let waiting = Waiting { io: Some(io.clone()), io_alike, ..Waiting::default() };
            descriptor_of_group(&Waiting { goids: (0..goids).collect(), ..waiting })
        };
        assert_eq!(group(1, Some(1)).as_deref(), Some(whole));
        assert_eq!(group(4, Some(3)), Some(format!("{whole}; the other end of 3 of the 4 looked at")));
        assert_eq!(group(4, Some(1)), Some(format!("{whole}; each of the 4 looked at has another end")));
        assert_eq!(descriptor_of_group(&Waiting::default()), None);
    }

    #[test]
    fn what_most_goroutines_carry_is_said() {
        let label = |value: &str, count| CountedLabel { key: "tenant".into(), value: value.into(), count };
        let site = Site { labels: Some(vec![label("acme", 33), label("other", 2)]), ..Site::default() };
        let said = |live| labels(&site, live).collect::<Vec<_>>();
        assert_eq!(said(35), ["33 of 35 carry tenant=acme"]);
        assert_eq!(said(33), ["all carry tenant=acme"]);
        assert_eq!(said(66), [""; 0]);
        assert_eq!(said(30)[0], "all carry tenant=acme");
        assert_eq!(labels(&Site::default(), 5).count(), 0);
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
