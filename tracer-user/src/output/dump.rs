//! Writes goroutines as text: each in the format of Go's own traceback, which other programs can read, or in groups for
//! people.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use super::names::{descriptor, located, place};
use crate::go::versions::{self, LabelsInHeader};
use crate::go::{CodeFrame, Status};
use crate::human::{clean, count, duration};
use crate::inspect::{Goroutine, StackId};
use crate::look::dump::Dump;
use crate::report;

/// Most goroutines of each group whose ids are shown.
const EXAMPLES: usize = 10;

/// Most file descriptors that are shown for a group.
const DESCRIPTORS: usize = 5;

/// What goroutines of a group have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The `go` statement that created them.
    Site,
    /// Their state, their stack, and the `go` statement that created them.
    Stack,
    /// Their wait reason or status.
    State,
}

impl Group {
    /// All kinds of groups.
    pub const ALL: [Group; 3] = [Group::Site, Group::Stack, Group::State];

    /// The name by which a person asks for it.
    pub fn name(self) -> &'static str {
        match self {
            Group::Site => "site",
            Group::Stack => "stack",
            Group::State => "state",
        }
    }

    /// What goroutines of such a group have in common, in a few words.
    pub fn about(self) -> &'static str {
        match self {
            Group::Site => "The go statement that created them",
            Group::Stack => "State, stack and the go statement",
            Group::State => "Wait reason or status",
        }
    }
}

/// Writes every goroutine in the format of `runtime.Stack` and of Go's answer to SIGQUIT.
///
/// # Errors
/// The text cannot be written to `out`.
pub fn traceback(dump: &Dump, out: &mut dyn Write) -> io::Result<()> {
    let mut stacks: HashMap<StackId, String> = HashMap::new();
    let mut creations: HashMap<u64, Option<(String, String)>> = HashMap::new();
    for goroutine in &dump.goroutines {
        writeln!(out, "{}:", header(dump, goroutine))?;
        match goroutine.stack {
            Some(stack) if !goroutine.stack_is_old => {
                let text = stacks.entry(stack).or_insert_with(|| frames(&dump.snapshot.stacks.shown(stack)));
                out.write_all(text.as_bytes())?;
            }
            stack => {
                let last = stack.and_then(|stack| dump.snapshot.stacks.frames(stack).next());
                let last = last.map(|frame| format!("; last stopped in {}", clean(&frame.function)));
                let last = last.unwrap_or_default();
                writeln!(out, "\tgoroutine running on other thread; stack unavailable{last}")?;
            }
        }
        let gopc = dump.gopc(goroutine);
        let creation = creations.entry(gopc).or_insert_with(|| creation(dump, gopc));
        if let Some((function, place)) = creation.as_ref().filter(|_| goroutine.goid != 1) {
            let parent = Some(goroutine.parent).filter(|parent| *parent > 0);
            let parent = parent.map(|parent| format!(" in goroutine {parent}")).unwrap_or_default();
            writeln!(out, "created by {function}{parent}\n\t{place}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// A header such as `goroutine 17 [chan receive, 5 minutes, locked to thread]`, with the labels at the place at which
/// the process's Go version prints them. It follows `goroutineheader` in
/// <https://cs.opensource.google/go/go/+/master:src/runtime/traceback.go>.
fn header(dump: &Dump, goroutine: &Goroutine) -> String {
    const MINUTE: u64 = 60_000_000_000;
    let mut header = format!("goroutine {} [{}", goroutine.goid, goroutine.state());
    if goroutine.status == Status::Leaked {
        header.push_str(" (leaked)");
    }
    if let Some(minutes) = goroutine.waits_at_least_ns().map(|ns| ns / MINUTE).filter(|minutes| *minutes > 0)
    {
        // Writing to a `String` cannot fail.
        let _ = write!(header, ", {minutes} minutes");
    }
    if goroutine.locked_to_thread {
        header.push_str(", locked to thread");
    }
    let labels = dump.snapshot.labels(goroutine);
    let form = versions::labels_in_header(dump.subject.binary.version());
    let quote = match form {
        LabelsInHeader::WithState => quoted,
        LabelsInHeader::BehindState => quoted_if_needed,
    };
    let labels: Vec<String> =
        labels.iter().map(|label| format!("{}: {}", quote(&label.key), quote(&label.value))).collect();
    let labels = labels.join(", ");
    let _ = match form {
        _ if labels.is_empty() => write!(header, "]"),
        LabelsInHeader::WithState => write!(header, " labels:{{{labels}}}]"),
        LabelsInHeader::BehindState => write!(header, "] {{{labels}}}"),
    };
    header
}

/// Quotes a text as Go's `print` does. It also escapes `]`, since readers of tracebacks may take that for the end of
/// the state.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for char in text.chars() {
        let _ = match char {
            '\n' => write!(quoted, "\\n"),
            '\r' => write!(quoted, "\\r"),
            '\t' => write!(quoted, "\\t"),
            '\\' | '"' => write!(quoted, "\\{char}"),
            ']' => write!(quoted, "\\x5d"),
            ' '..='~' => write!(quoted, "{char}"),
            '\0'..='\x7e' => write!(quoted, "\\x{:02x}", u32::from(char)),
            '\x7f'..='\u{ffff}' => write!(quoted, "\\u{:04x}", u32::from(char)),
            _ => write!(quoted, "\\U{:08x}", u32::from(char)),
        };
    }
    quoted.push('"');
    quoted
}

fn quoted_if_needed(text: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '.' | '/' | '_');
    if text.chars().all(plain) { text.to_owned() } else { quoted(text) }
}

fn frames(frames: &[(&CodeFrame, Option<u64>)]) -> String {
    let mut text = String::new();
    for (frame, offset) in frames {
        let offset = offset.map(|offset| format!(" +{offset:#x}")).unwrap_or_default();
        let CodeFrame { function, file, line, .. } = frame;
        let _ = writeln!(text, "{}(...)\n\t{}:{line}{offset}", clean(function), clean(file));
    }
    text
}

fn creation(dump: &Dump, gopc: u64) -> Option<(String, String)> {
    let binary = &dump.subject.binary;
    let frame = binary.go_statement(gopc)?;
    let offset = gopc - binary.function_at(gopc)?.entry;
    let offset = if offset > 0 { format!(" +{offset:#x}") } else { String::new() };
    Some((clean(&frame.function), format!("{}:{}{offset}", clean(&frame.file), frame.line)))
}

/// Writes the goroutines in groups, largest first.
///
/// # Errors
/// The text cannot be written to `out`.
pub fn groups(dump: &Dump, group: Group, out: &mut dyn Write) -> io::Result<()> {
    let mut groups: HashMap<GroupKey, Vec<&Goroutine>> = HashMap::new();
    for goroutine in &dump.goroutines {
        let state = goroutine.state();
        let key = match group {
            Group::Site => GroupKey { gopc: Some(dump.gopc(goroutine)), ..GroupKey::default() },
            Group::Stack => GroupKey {
                gopc: Some(dump.gopc(goroutine)),
                state,
                stack: goroutine.stack,
                is_old: goroutine.stack_is_old,
            },
            Group::State => GroupKey { state, ..GroupKey::default() },
        };
        groups.entry(key).or_default().push(goroutine);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, members)| (std::cmp::Reverse(members.len()), members[0].goid));
    for (key, members) in &groups {
        let number = count(members.len() as u64);
        let longest = longest(members);
        match group {
            Group::State => writeln!(out, "{number:>12}  {}{longest}", key.state)?,
            Group::Site => {
                writeln!(out, "{number:>12}  created at {}{longest}", created_at(dump, members[0]))?;
                states(dump, members, out)?;
            }
            Group::Stack => {
                let plural = if members.len() == 1 { "goroutine" } else { "goroutines" };
                writeln!(out, "{number} {plural} [{}]{longest}: {}", key.state, examples(members))?;
                if key.is_old {
                    writeln!(out, "\trunning; where it last stopped:")?;
                }
                if let Some(stack) = key.stack {
                    out.write_all(frames(&dump.snapshot.stacks.shown(stack)).as_bytes())?;
                }
                let io = dump.io(members.iter().take(DESCRIPTORS).copied());
                for io in io.values() {
                    writeln!(out, "\ton {}", descriptor(io))?;
                }
                if io.len() == DESCRIPTORS && members.len() > DESCRIPTORS {
                    writeln!(out, "\t…")?;
                }
                let creation = creation(dump, dump.gopc(members[0])).filter(|_| members[0].goid != 1);
                if let Some((function, place)) = creation {
                    writeln!(out, "created by {function}\n\t{place}")?;
                }
                writeln!(out)?;
            }
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct GroupKey {
    gopc: Option<u64>,
    state: &'static str,
    stack: Option<StackId>,
    is_old: bool,
}

/// Writes what the goroutines of a site wait for, with one line for each place.
fn states(dump: &Dump, members: &[&Goroutine], out: &mut dyn Write) -> io::Result<()> {
    let stacks = &dump.snapshot.stacks;
    let mut places: HashMap<(String, &str), u64> = HashMap::new();
    for goroutine in members {
        let at = goroutine.stack.and_then(|stack| stacks.waits_at(stack, &dump.subject.binary));
        let at = at.map(|frame| place(&report::Frame::from(frame))).unwrap_or_default();
        *places.entry((at, goroutine.state())).or_default() += 1;
    }
    let mut places: Vec<_> = places.into_iter().collect();
    places.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    for ((at, state), number) in places.iter().take(EXAMPLES) {
        let at = if at.is_empty() { String::new() } else { format!(" at {at}") };
        writeln!(out, "{:14}{} {state}{at}", "", count(*number))?;
    }
    Ok(())
}

fn created_at(dump: &Dump, goroutine: &Goroutine) -> String {
    if goroutine.goid == 1 {
        return "the start of the program".into();
    }
    dump.created_by(goroutine).map_or_else(|| "an unknown place".into(), |frame| located(&frame))
}

fn longest(members: &[&Goroutine]) -> String {
    let longest = members.iter().filter_map(|goroutine| goroutine.waits_at_least_ns()).max();
    longest.map(|ns| format!(", longest at least {}", duration(ns))).unwrap_or_default()
}

/// The ids of the first goroutines, such as `17 18 19 …`.
fn examples(members: &[&Goroutine]) -> String {
    let mut text: Vec<String> =
        members.iter().take(EXAMPLES).map(|goroutine| goroutine.goid.to_string()).collect();
    if members.len() > EXAMPLES {
        text.push("…".into());
    }
    text.join(" ")
}
