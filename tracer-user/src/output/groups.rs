//! Writes goroutines in groups for people, largest first.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::{self, Write};

use super::dump::{creation, frames};
use super::names::{descriptor, function, is_of_timer, located, place};
use crate::human::{clean, count, duration};
use crate::inspect::{Goroutine, StackId};
use crate::look::dump::Dump;
use crate::report::Frame;

/// Most goroutines of each group whose ids are shown, and most places at which they are.
const EXAMPLES: usize = 10;
/// Most file descriptors that are shown for a group.
const DESCRIPTORS: usize = 5;

/// What goroutines of a group have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group {
    /// The `go` statement that created them.
    Site,
    /// Their state, their stack, and the `go` statement that created them.
    Stack,
    /// Their wait reason or status.
    State,
    /// The function that they run.
    Entry,
    /// The line of the program's own module that they are at or that led to them.
    Blame,
    /// The value of the profiler label with this key.
    Label(String),
}

impl Group {
    /// Each kind of group: the name by which a person asks for it, and what its goroutines have in common.
    pub const NAMES: [(&'static str, &'static str); 6] = [
        ("site", "the go statement that created them"),
        ("stack", "state, stack and the go statement"),
        ("state", "wait reason or status"),
        ("entry", "the function that they run"),
        ("blame", "the line of the program's own module"),
        ("label:KEY", "the value of a profiler label"),
    ];
}

impl std::str::FromStr for Group {
    type Err = String;

    fn from_str(text: &str) -> Result<Group, String> {
        Ok(match text {
            "site" => Group::Site,
            "stack" => Group::Stack,
            "state" => Group::State,
            "entry" => Group::Entry,
            "blame" => Group::Blame,
            _ => match text.strip_prefix("label:").filter(|key| !key.is_empty()) {
                Some(key) => Group::Label(key.to_owned()),
                None => {
                    let names = Group::NAMES.map(|(name, _)| name).join(", ");
                    return Err(format!("goroutines are grouped by one of {names}"));
                }
            },
        })
    }
}

/// What distinguishes a group from others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// The return address of the `go` statement, and the function where the statement is one for all of these.
    Site {
        gopc: u64,
        startpc: Option<u64>,
    },
    Stack {
        gopc: u64,
        state: &'static str,
        stack: Option<StackId>,
        is_old: bool,
    },
    Named(String),
}

/// Writes the goroutines in groups.
///
/// # Errors
/// The text cannot be written to `out`.
pub fn write(dump: &Dump, group: &Group, out: &mut dyn Write) -> io::Result<()> {
    if let Some(header) = dump.sampled() {
        writeln!(out, "{header}\n")?;
    }
    let mut keys =
        Keys { dump, group, timers: HashMap::new(), entries: HashMap::new(), lines: HashMap::new() };
    let mut groups: HashMap<Key, Vec<&Goroutine>> = HashMap::new();
    for goroutine in &dump.goroutines {
        groups.entry(keys.of(goroutine)).or_default().push(goroutine);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, members)| (Reverse(members.len()), members[0].goid));
    for (key, members) in &groups {
        let number = dump.scaled(members.len());
        let longest = longest(members);
        match key {
            Key::Named(name) => {
                writeln!(out, "{:>12}  {name}{longest}", count(number))?;
                if *group != Group::State {
                    places(dump, members, out)?;
                }
            }
            Key::Site { .. } => {
                writeln!(out, "{:>12}  created at {}{longest}", count(number), created_at(dump, members[0]))?;
                places(dump, members, out)?;
            }
            Key::Stack { state, stack, is_old, .. } => {
                let plural = if number == 1 { "goroutine" } else { "goroutines" };
                writeln!(out, "{} {plural} [{state}]{longest}: {}", count(number), examples(members))?;
                if *is_old {
                    writeln!(out, "\trunning; where it last stopped:")?;
                }
                if let Some(stack) = *stack {
                    out.write_all(frames(&dump.snapshot.stacks.shown(stack)).as_bytes())?;
                }
                descriptors(dump, members, out)?;
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

/// Finds the group of each goroutine. What many have in common is named once.
struct Keys<'a, 'dump> {
    dump: &'a Dump<'dump>,
    group: &'a Group,
    /// By the return address of a `go` statement, whether it is that of timers.
    timers: HashMap<u64, bool>,
    /// The names of functions by their addresses.
    entries: HashMap<u64, String>,
    /// Lines of the program by stack and `go` statement.
    lines: HashMap<(Option<StackId>, u64), Option<Frame>>,
}

impl Keys<'_, '_> {
    fn of(&mut self, goroutine: &Goroutine) -> Key {
        let dump = self.dump;
        let site = dump.snapshot.site(goroutine);
        match self.group {
            Group::State => Key::Named(goroutine.state().to_owned()),
            Group::Stack => Key::Stack {
                gopc: site.gopc,
                state: goroutine.state(),
                stack: goroutine.stack,
                is_old: goroutine.stack_is_old,
            },
            Group::Site => {
                let of_timer = || dump.created_by(goroutine).is_some_and(|frame| is_of_timer(&frame));
                let is_of_timer = *self.timers.entry(site.gopc).or_insert_with(of_timer);
                Key::Site { gopc: site.gopc, startpc: is_of_timer.then_some(site.startpc) }
            }
            Group::Entry => {
                let name =
                    || dump.entry(goroutine).map_or_else(|| "not known".into(), |frame| function(&frame));
                Key::Named(self.entries.entry(site.startpc).or_insert_with(name).clone())
            }
            Group::Blame => {
                let here = (goroutine.stack, site.gopc);
                let line = self.lines.entry(here).or_insert_with(|| dump.own_line(goroutine)).clone();
                // A goroutine of a library is blamed on what created its creators, which differ.
                let line = line.or_else(|| dump.own_line_of_creators(goroutine));
                Key::Named(
                    line.map_or_else(|| "no line of the program is known".into(), |line| located(&line)),
                )
            }
            Group::Label(key) => {
                let label = dump.snapshot.labels(goroutine).iter().find(|label| label.key == *key);
                Key::Named(match label {
                    Some(label) => format!("{}={}", clean(key), clean(&label.value)),
                    None => format!("without {}", clean(key)),
                })
            }
        }
    }
}

/// Writes what goroutines wait for, with one line for each place.
fn places(dump: &Dump, members: &[&Goroutine], out: &mut dyn Write) -> io::Result<()> {
    let stacks = &dump.snapshot.stacks;
    let mut places: HashMap<(String, &str), usize> = HashMap::new();
    for goroutine in members {
        let at = goroutine.stack.and_then(|stack| stacks.waits_at(stack, &dump.subject.binary));
        let at = at.map(|frame| place(&Frame::from(frame))).unwrap_or_default();
        *places.entry((at, goroutine.state())).or_default() += 1;
    }
    let mut places: Vec<_> = places.into_iter().collect();
    places.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    for ((at, state), number) in places.iter().take(EXAMPLES) {
        let at = if at.is_empty() { String::new() } else { format!(" at {at}") };
        writeln!(out, "{:14}{} {state}{at}", "", count(dump.scaled(*number)))?;
    }
    Ok(())
}

/// Writes for which file descriptors the first goroutines wait.
fn descriptors(dump: &Dump, members: &[&Goroutine], out: &mut dyn Write) -> io::Result<()> {
    let io = dump.io(members.iter().take(DESCRIPTORS).map(|goroutine| goroutine.goid));
    for io in io.values() {
        writeln!(out, "\ton {}", descriptor(io))?;
    }
    if io.len() == DESCRIPTORS && members.len() > DESCRIPTORS {
        writeln!(out, "\t…")?;
    }
    Ok(())
}

fn created_at(dump: &Dump, goroutine: &Goroutine) -> String {
    if goroutine.goid == 1 {
        return "the start of the program".into();
    }
    let Some(frame) = dump.created_by(goroutine) else { return "an unknown place".into() };
    let entry = dump.entry(goroutine).filter(|_| is_of_timer(&frame));
    let whose = entry.map(|entry| format!(": {}", function(&entry))).unwrap_or_default();
    format!("{}{whose}", located(&frame))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_asked_for_by_name() {
        for (name, _) in Group::NAMES {
            assert!(name.parse::<Group>().is_ok(), "{name}");
        }
        assert_eq!("label:a:b".parse(), Ok(Group::Label("a:b".into())));
        for wrong in ["label:", "labels", "", "Site"] {
            assert!(wrong.parse::<Group>().unwrap_err().contains("label:KEY"), "{wrong}");
        }
    }
}
