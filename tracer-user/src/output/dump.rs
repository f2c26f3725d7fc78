//! Writes each goroutine in the format of Go's own traceback, which other programs can read.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use crate::go::versions::{self, LabelsInHeader};
use crate::go::{CodeFrame, Status};
use crate::human::clean;
use crate::inspect::{Ancestor, Goroutine, StackId, is_shown};
use crate::look::ancestry::Creator;
use crate::look::dump::Dump;

/// Writes every goroutine in the format of `runtime.Stack` and of Go's answer to SIGQUIT, with their creators if
/// `ancestors` says so.
///
/// # Errors
/// The text cannot be written to `out`.
pub fn traceback(dump: &Dump, ancestors: bool, out: &mut dyn Write) -> io::Result<()> {
    if let Some(header) = dump.sampled() {
        writeln!(out, "{header}\n")?;
    }
    let mut names = Names::default();
    for goroutine in &dump.goroutines {
        writeln!(out, "{}:", header(dump, goroutine))?;
        names.calls(dump, goroutine, out)?;
        let parent = Some(goroutine.parent).filter(|parent| *parent > 0);
        names.created_by(dump, goroutine, parent, out)?;
        if ancestors {
            for creator in dump.creators(goroutine) {
                names.creator(dump, &creator, out)?;
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// The texts of what many goroutines have in common.
#[derive(Default)]
struct Names {
    stacks: HashMap<StackId, String>,
    creations: HashMap<u64, Option<(String, String)>>,
}

impl Names {
    /// Writes the calls that a goroutine is in.
    fn calls(&mut self, dump: &Dump, goroutine: &Goroutine, out: &mut dyn Write) -> io::Result<()> {
        match goroutine.stack {
            Some(stack) if !goroutine.stack_is_old => {
                let text = self.stacks.entry(stack);
                let text = text.or_insert_with(|| frames(&dump.snapshot.stacks.shown(stack)));
                out.write_all(text.as_bytes())
            }
            stack => {
                let last = stack.and_then(|stack| dump.snapshot.stacks.frames(stack).next());
                let last = last.map(|frame| format!("; last stopped in {}", clean(&frame.function)));
                let last = last.unwrap_or_default();
                writeln!(out, "\tgoroutine running on other thread; stack unavailable{last}")
            }
        }
    }

    /// Writes the `go` statement of a goroutine.
    fn created_by(
        &mut self,
        dump: &Dump,
        goroutine: &Goroutine,
        parent: Option<u64>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        self.statement(dump, dump.gopc(goroutine), goroutine.goid, parent, out)
    }

    fn statement(
        &mut self,
        dump: &Dump,
        gopc: u64,
        goid: u64,
        parent: Option<u64>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let creation = self.creations.entry(gopc).or_insert_with(|| creation(dump, gopc));
        let Some((function, place)) = creation.as_ref().filter(|_| goid != 1) else { return Ok(()) };
        let parent = parent.map(|parent| format!(" in goroutine {parent}")).unwrap_or_default();
        writeln!(out, "created by {function}{parent}\n\t{place}")
    }

    /// Writes a creator as `printAncestorTraceback` of
    /// <https://cs.opensource.google/go/go/+/master:src/runtime/traceback.go> does. That names who created it only by the
    /// next of these headers.
    fn creator(&mut self, dump: &Dump, creator: &Creator, out: &mut dyn Write) -> io::Result<()> {
        match creator {
            Creator::Kept(kept) => {
                writeln!(out, "[originating from goroutine {}]:", kept.goid)?;
                out.write_all(kept_frames(dump, kept).as_bytes())?;
                self.statement(dump, kept.gopc, kept.goid, None, out)
            }
            Creator::Living(living) => {
                writeln!(out, "[originating from goroutine {}]:", living.goid)?;
                self.calls(dump, living, out)?;
                self.created_by(dump, living, None, out)
            }
            // Go has no such line. Readers of tracebacks would give the goroutine up for it, so an empty line, where they
            // take a goroutine to end, keeps it out of what they read.
            Creator::Ended(goid) => writeln!(out, "\n[originating from goroutine {goid}, which has ended]"),
        }
    }
}

/// The calls that a creator was in. Go has kept an address for each, also for inlined ones, and looks up the address as it
/// is.
fn kept_frames(dump: &Dump, kept: &Ancestor) -> String {
    /// `tracebackInnerFrames`: most calls that Go keeps, from Go 1.21 on. Before, it kept twice as many.
    const MOST: usize = 50;
    let binary = &dump.subject.binary;
    let mut text = String::new();
    for &pc in &kept.pcs {
        let calls = binary.frames_at(pc);
        // Whether an inlined call is shown is decided by the function that it is in.
        if let (Some(frame), Some(true)) = (calls.first(), calls.last().map(is_shown)) {
            let offset = binary.function_at(pc).map(|function| pc - function.entry);
            text += &frames(&[(frame, offset.filter(|offset| *offset > 0))]);
        }
    }
    if kept.pcs.len() == MOST {
        text += "...additional frames elided...\n";
    }
    text
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

/// Frames with their lines, as a traceback has them.
pub(super) fn frames(frames: &[(&CodeFrame, Option<u64>)]) -> String {
    let mut text = String::new();
    for (frame, offset) in frames {
        let offset = offset.map(|offset| format!(" +{offset:#x}")).unwrap_or_default();
        let CodeFrame { function, file, line, .. } = frame;
        let _ = writeln!(text, "{}(...)\n\t{}:{line}{offset}", clean(function), clean(file));
    }
    text
}

/// The function and the line of a `go` statement, as a traceback has them.
pub(super) fn creation(dump: &Dump, gopc: u64) -> Option<(String, String)> {
    let binary = &dump.subject.binary;
    let frame = binary.go_statement(gopc)?;
    let offset = gopc - binary.function_at(gopc)?.entry;
    let offset = if offset > 0 { format!(" +{offset:#x}") } else { String::new() };
    Some((clean(&frame.function), format!("{}:{}{offset}", clean(&frame.file), frame.line)))
}
