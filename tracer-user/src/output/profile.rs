//! A profile is a set of stacks with numbers. pprof, folded stacks and flame graphs all show one, each in its own form.
//!
//! A profile has several sample types, and each sample has one number for each type. Living goroutines are counted at
//! the stack they are blocked in, creations and ends at the `go` statement, and a sample has zero for the types that it
//! does not count. So the sum of each type is exactly the report's sum over the sites that it shows.

mod dump;
mod report;
mod wall;

use std::time::{Duration, SystemTime};

use crate::report::{Frame, Level, Process};

/// A sample type: what one of the numbers of each sample counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its name; `go tool pprof -sample_index=NAME` chooses it.
    pub name: &'static str,
    /// Its unit, as pprof names it.
    pub unit: &'static str,
    /// What it counts, in words for people.
    pub about: &'static str,
}

/// Stacks with numbers, which can be written in several formats.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// The sample types. Folded stacks and flame graphs show the first.
    pub kinds: Vec<Kind>,
    /// The processes that the samples are of.
    pub processes: Vec<ProcessName>,
    /// The samples.
    pub samples: Vec<Sample>,
    /// The beginning of the time that the profile covers; none if it is not known.
    pub start: Option<SystemTime>,
    /// The length of the time that the profile covers.
    pub duration: Duration,
    /// Name and version of the program that made the profile.
    pub tool: String,
    /// What is missing in the profile, in one sentence each.
    pub gaps: Vec<String>,
    /// How much of the sample type that is shown each thing counted stands for, as a profile of `runtime/pprof` says it: 1 for
    /// goroutines at one moment. `None` if the numbers are sums over a time.
    pub period: Option<u64>,
    /// Index of the sample type that pprof shows unless another is asked for.
    pub shown: usize,
}

/// One stack and its numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Index of its process in [`Profile::processes`].
    pub process: usize,
    /// The frames, innermost first. Never empty.
    pub stack: Vec<Frame>,
    /// One number for each of [`Profile::kinds`], in their order.
    pub values: Vec<u64>,
    /// What the goroutines wait for; none if the sample does not count goroutines at the stack that they are in.
    pub reason: Option<String>,
    /// The verdict on their site; none if nobody judged it.
    pub level: Option<Level>,
    /// Whether the user has silenced the site, so that the verdict counts for nothing.
    pub silenced: bool,
    /// Further labels, as pairs of key and value.
    pub labels: Vec<(String, String)>,
}

/// What distinguishes a process from the others in a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessName {
    /// Its id.
    pub pid: u32,
    /// What it is to the people who run it: see [`Process::service`].
    pub service: String,
    /// Version of the program: see [`Process::version`]; empty if it is not known.
    pub version: String,
    /// Path of its executable.
    pub exe: String,
    /// GNU or Go build id of its executable; empty if there is none.
    pub build_id: String,
}

/// The keys of the labels that golife itself gives to samples, both from the fields of [`Sample`] and within
/// [`Sample::labels`].
const OWN_LABELS: [&str; 10] =
    ["reason", "verdict", "service", "version", "pid", "site", "cause", "ignored", "known", "stack"];

/// The sample type of samples that are taken over a time.
pub const SAMPLES: &str = "samples";

/// The wait reason of goroutines that could not be read, or that nobody looked at.
const UNKNOWN: &str = "unknown";

impl Profile {
    /// The sum of one sample type, by its index.
    pub fn total(&self, kind: usize) -> u64 {
        self.samples.iter().filter_map(|sample| sample.values.get(kind)).fold(0, |a, b| a.saturating_add(*b))
    }
}

impl ProcessName {
    fn of(process: &Process) -> ProcessName {
        ProcessName {
            pid: process.pid,
            service: process.service().to_owned(),
            version: process.version().unwrap_or_default().to_owned(),
            exe: process.exe_path().unwrap_or_default().into(),
            build_id: process.build_id.clone().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
pub(super) mod testing {
    //! A small profile for the tests of all formats.

    use super::*;

    pub(crate) fn frame(function: &str, line: u32) -> Frame {
        Frame { function: function.into(), file: Some("/src/main.go".into()), line: Some(line) }
    }

    /// A profile of two processes, with 3 suspect goroutines of the first and a healthy one of the second.
    pub(crate) fn two_processes() -> Profile {
        let process = |pid, name: &str| ProcessName {
            pid,
            service: name.into(),
            version: String::new(),
            exe: format!("/srv/{name}"),
            build_id: "b1".into(),
        };
        let sample = |process, reason: &str, level, count| Sample {
            process,
            stack: vec![frame("main.wait", 7), frame("main.main.func1", 3)],
            values: vec![count],
            reason: Some(reason.into()),
            level: Some(level),
            labels: vec![("site".into(), "main.go:9 in main.main".into())],
            ..Sample::default()
        };
        Profile {
            kinds: vec![Kind { name: "goroutines", unit: "count", about: "living" }],
            processes: vec![process(11, "api"), process(12, "worker")],
            samples: vec![
                sample(0, "chan receive", Level::Suspect, 2),
                sample(0, "select", Level::Suspect, 1),
                sample(1, "select", Level::Healthy, 1),
            ],
            tool: "golife".into(),
            ..Profile::default()
        }
    }

    #[test]
    fn a_service_is_named_after_its_program() {
        let of = |exe: Option<&str>, module: Option<&str>| {
            let go =
                module.map(|module| crate::report::Go { module: Some(module.into()), ..Default::default() });
            ProcessName::of(&Process { exe: exe.map(Into::into), go, ..Process::default() }).service
        };
        assert_eq!(of(Some("/srv/api"), Some("example.com/shop")), "api");
        assert_eq!(of(Some("/srv/api (deleted)"), None), "api");
        assert_eq!(of(None, Some("example.com/shop")), "shop");
        assert_eq!(of(None, None), "unknown");
    }
}
