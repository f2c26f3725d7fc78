//! Writes profiles for `go tool pprof`, in the format `profile.proto` with gzip:
//! <https://github.com/google/pprof/blob/main/proto/README.md>.
//!
//! Each frame is a location of its own with names and lines, so that pprof needs neither the binary nor addresses.

pub mod message;

use std::collections::HashMap;
use std::hash::Hash;
use std::io::{self, Write};
use std::time::SystemTime;

use flate2::{Compression, write::GzEncoder};
use prost::Message;

use super::profile::Profile;
use crate::human::clean;
use crate::report::Frame;
use message::{Function, Label, Line, Location, Mapping, Sample, ValueType};

/// Largest number that is written, so that a reader's sum over a million samples does not overflow.
const MOST: u64 = i64::MAX as u64 >> 20;

/// Writes a profile, compressed with gzip.
///
/// # Errors
/// The profile cannot be written to `out`.
pub fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    let mut gzip = GzEncoder::new(out, Compression::default());
    gzip.write_all(&encode(profile).encode_to_vec())?;
    gzip.finish()?;
    Ok(())
}

/// Converts a profile to pprof's message.
pub fn encode(profile: &Profile) -> message::Profile {
    let mut tables = Tables::default();
    // The format requires that the first text is empty.
    tables.text("");
    let types: Vec<ValueType> = profile
        .kinds
        .iter()
        .map(|kind| ValueType { r#type: tables.text(kind.name), unit: tables.text(kind.unit) })
        .collect();
    let mapping = profile.processes.iter().zip(1..).map(|(process, id)| Mapping {
        id,
        filename: tables.text(&process.exe),
        build_id: tables.text(&process.build_id),
        has_functions: true,
        has_filenames: true,
        has_line_numbers: true,
        has_inline_frames: true,
    });
    let mapping = mapping.collect();
    let sample = profile.samples.iter().map(|sample| tables.sample(profile, sample)).collect();
    let about = profile.kinds.iter().map(|kind| format!("# {}: {}", kind.name, kind.about));
    let comments = std::iter::once(format!("# {}", profile.tool)).chain(about).chain(profile.gaps.clone());
    let start = profile.start.and_then(|start| start.duration_since(SystemTime::UNIX_EPOCH).ok());
    message::Profile {
        sample,
        mapping,
        comment: comments.map(|comment| tables.text(&comment)).collect(),
        time_nanos: start.map_or(0, |start| start.as_nanos().try_into().unwrap_or(0)),
        duration_nanos: profile.duration.as_nanos().try_into().unwrap_or(i64::MAX),
        period_type: types.get(profile.shown).copied().filter(|_| profile.period.is_some()),
        period: profile.period.map_or(0, |period| period.min(MOST) as i64),
        default_sample_type: types.get(profile.shown).map_or(0, |shown| shown.r#type),
        sample_type: types,
        location: tables.locations.in_order(|id, (mapping_id, line)| Location {
            id,
            mapping_id,
            line: vec![line],
        }),
        function: tables.functions.in_order(|id, (name, filename)| Function {
            id,
            name,
            system_name: name,
            filename,
        }),
        string_table: tables.texts.in_order(|_, text| text),
    }
}

/// The texts, functions and locations that a message refers to by number. Each is kept once.
#[derive(Default)]
struct Tables {
    texts: Numbers<String>,
    /// The key is the index of the function's name and that of its file's path.
    functions: Numbers<(i64, i64)>,
    /// The key is the id of the mapping, and the line.
    locations: Numbers<(u64, Line)>,
}

impl Tables {
    /// Returns the index of a text, after it was made safe for a terminal: much text comes from targets, and pprof
    /// prints it as it is.
    fn text(&mut self, text: &str) -> i64 {
        self.texts.number(clean(text)) as i64 - 1
    }

    fn sample(&mut self, profile: &Profile, sample: &super::profile::Sample) -> Sample {
        let mapping = sample.process as u64 + 1;
        Sample {
            location_id: sample.stack.iter().map(|frame| self.location(mapping, frame)).collect(),
            value: sample.values.iter().map(|value| (*value).min(MOST) as i64).collect(),
            label: self.labels(profile, sample),
        }
    }

    fn location(&mut self, mapping: u64, frame: &Frame) -> u64 {
        let name = self.text(&frame.function);
        let file = self.text(frame.file.as_deref().unwrap_or_default());
        let function_id = self.functions.number((name, file));
        self.locations.number((mapping, Line { function_id, line: frame.line.unwrap_or(0).into() }))
    }

    fn labels(&mut self, profile: &Profile, sample: &super::profile::Sample) -> Vec<Label> {
        let process = profile.processes.get(sample.process);
        let known = [
            ("reason", sample.reason.as_deref()),
            ("verdict", sample.level.map(|level| level.name())),
            ("service", process.map(|process| process.service.as_str())),
            ("version", process.map(|process| process.version.as_str())),
        ];
        let known = known.into_iter().filter_map(|(key, value)| Some((key, value?)));
        let others = sample.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let texts = known.chain(others).filter(|(_, value)| !value.is_empty());
        let mut labels: Vec<Label> =
            texts.map(|(key, value)| Label { key: self.text(key), str: self.text(value), num: 0 }).collect();
        let pid = process.map(|process| process.pid).filter(|pid| *pid > 0);
        labels.extend(pid.map(|pid| Label { key: self.text("pid"), str: 0, num: pid.into() }));
        labels
    }
}

/// Gives numbers to things, counted from 1 in the order in which they came.
struct Numbers<T>(HashMap<T, u64>);

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Numbers(HashMap::new())
    }
}

impl<T: Eq + Hash> Numbers<T> {
    fn number(&mut self, thing: T) -> u64 {
        let next = self.0.len() as u64 + 1;
        *self.0.entry(thing).or_insert(next)
    }

    fn in_order<U>(self, make: impl Fn(u64, T) -> U) -> Vec<U> {
        let mut things: Vec<(T, u64)> = self.0.into_iter().collect();
        things.sort_unstable_by_key(|(_, number)| *number);
        things.into_iter().map(|(thing, number)| make(number, thing)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::profile::testing::two_processes;
    use std::io::Read;

    fn decoded(profile: &Profile) -> message::Profile {
        let mut gzip = Vec::new();
        write(profile, &mut gzip).unwrap();
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(gzip.as_slice()).read_to_end(&mut bytes).unwrap();
        let read = message::Profile::decode(bytes.as_slice()).unwrap();
        assert_eq!(read, encode(profile));
        read
    }

    #[test]
    fn what_is_written_is_what_was_there() {
        let profile = two_processes();
        let read = decoded(&profile);
        let text = |at: i64| read.string_table[at as usize].as_str();
        assert_eq!(read.string_table[0], "");
        assert_eq!(text(read.default_sample_type), "goroutines");
        let services: Vec<&str> = read.mapping.iter().map(|mapping| text(mapping.filename)).collect();
        assert_eq!(services, ["/srv/api", "/srv/worker"]);
        // Each frame is there once for each process.
        assert_eq!((read.location.len(), read.function.len(), read.sample.len()), (4, 2, 3));
        let frame = |id: u64| {
            let location = &read.location[id as usize - 1];
            let line = location.line[0];
            let function = read.function[line.function_id as usize - 1];
            assert_eq!((location.id, function.id), (id, line.function_id));
            (location.mapping_id, text(function.name), text(function.filename), line.line)
        };
        let stack: Vec<_> = read.sample[2].location_id.iter().map(|id| frame(*id)).collect();
        assert_eq!(stack, [(2, "main.wait", "/src/main.go", 7), (2, "main.main.func1", "/src/main.go", 3)]);
        let values: Vec<&[i64]> = read.sample.iter().map(|sample| sample.value.as_slice()).collect();
        assert_eq!(values, [[2], [1], [1]]);
        let labels: Vec<_> =
            read.sample[0].label.iter().map(|label| (text(label.key), text(label.str), label.num)).collect();
        let want = [
            ("reason", "chan receive", 0),
            ("verdict", "suspect", 0),
            ("service", "api", 0),
            ("site", "main.go:9 in main.main", 0),
            ("pid", "", 11),
        ];
        assert_eq!(labels, want);
    }

    #[test]
    fn numbers_and_names_of_any_size_are_written() {
        let mut profile = two_processes();
        profile.samples[0].values = vec![u64::MAX];
        profile.samples[0].stack[0].function = "\u{1b}]0;title\u{7}".repeat(1000);
        let read = decoded(&profile);
        assert!(read.sample[0].value[0] > 0);
        assert!(read.string_table.iter().all(|text| text.len() < 4000 && !text.contains('\u{1b}')));
        assert_eq!(decoded(&Profile::default()).string_table[0], "");
    }
}
