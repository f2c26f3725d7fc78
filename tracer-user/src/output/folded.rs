//! Writes folded stacks, one line each, as flame graph tools and speedscope read them: `outermost;…;innermost;[wait
//! reason] count`.
//!
//! The counts are of the first sample type: goroutines at the stack that they are in. If there are several processes,
//! the process is the outermost frame.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::profile::{Profile, Sample};
use crate::human::{clean, imported};
use crate::report::Level;

/// What is known about the goroutines of one line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// Number of goroutines.
    pub count: u64,
    /// The worst verdict on any of their sites that is not ignored; none if nobody judged those.
    pub level: Option<Level>,
}

/// Writes a line for each stack.
///
/// # Errors
/// A line cannot be written to `out`.
pub fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    for (stack, folded) in fold(profile) {
        writeln!(out, "{stack} {}", folded.count)?;
    }
    Ok(())
}

/// Maps each folded stack, without its count, to what is known about its goroutines.
pub fn fold(profile: &Profile) -> BTreeMap<String, Folded> {
    let mut stacks: BTreeMap<String, Folded> = BTreeMap::new();
    for sample in &profile.samples {
        let Some(count) = sample.values.first().copied().filter(|count| *count > 0) else { continue };
        let folded = stacks.entry(line(profile, sample)).or_default();
        folded.count = folded.count.saturating_add(count);
        folded.level = folded.level.max(sample.level.filter(|_| !sample.silenced));
    }
    stacks
}

fn line(profile: &Profile, sample: &Sample) -> String {
    let process = profile.processes.get(sample.process).filter(|_| profile.processes.len() > 1);
    let root = process.map(|process| format!("{} (pid {})", process.service, process.pid));
    let calls = sample.stack.iter().rev().map(|frame| imported(&frame.function).into_owned());
    let leaf = sample.reason.iter().map(|reason| format!("[{reason}]"));
    let frames: Vec<String> = root.into_iter().chain(calls).chain(leaf).map(|name| field(&name)).collect();
    frames.join(";")
}

/// Removes from a name what has a meaning in the format: `;` separates frames, and a `#` at the beginning of a line
/// starts a comment.
fn field(name: &str) -> String {
    let name = clean(name).replace(';', ":");
    let name = name.trim();
    if name.is_empty() { "?".into() } else { name.strip_prefix("# ").unwrap_or(name).into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::profile::testing::two_processes;

    fn lines(profile: &Profile) -> Vec<String> {
        let mut out = Vec::new();
        write(profile, &mut out).unwrap();
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_goes_from_the_process_to_the_wait_reason() {
        let mut profile = two_processes();
        assert_eq!(
            lines(&profile),
            [
                "api (pid 11);main.main.func1;main.wait;[chan receive] 2",
                "api (pid 11);main.main.func1;main.wait;[select] 1",
                "worker (pid 12);main.main.func1;main.wait;[select] 1",
            ]
        );
        profile.processes.truncate(1);
        profile.samples.truncate(1);
        assert_eq!(lines(&profile), ["main.main.func1;main.wait;[chan receive] 2"]);
    }

    #[test]
    fn names_cannot_forge_frames_or_lines() {
        let mut profile = two_processes();
        profile.processes.clear();
        profile.samples.truncate(1);
        profile.samples[0].stack[1].function = "# a;b 7\nc \x1b[31m".into();
        assert_eq!(lines(&profile), ["a:b 7\\nc \\u{1b}[31m;main.wait;[chan receive] 2"]);
        profile.samples[0].stack[1].function = " ".into();
        assert_eq!(lines(&profile), ["?;main.wait;[chan receive] 2"]);
    }

    #[test]
    fn what_does_not_live_has_no_line() {
        let mut profile = two_processes();
        profile.samples.iter_mut().for_each(|sample| sample.values = vec![0]);
        assert_eq!(lines(&profile), [""; 0]);
    }
}
