//! The command line: what a user can ask for, and nothing of how it is done.

use std::{path::PathBuf, time::Duration};

use clap::{
    ArgGroup, Args, Parser, Subcommand, ValueEnum, ValueHint,
    builder::{PossibleValuesParser, TypedValueParser},
};
use regex::Regex;

use super::completion;
use crate::output::groups::Group;
use crate::report::{Level, MaxCreated, Sort};
use crate::targets::Selectors;
pub use diff::{Diff, DiffFormat, FailOnChange};
pub use hosts::{ASKED, Hosts};
pub use run::{Children, Mode, Run};
pub use storing::{Naming, Storing};

/// Shows where goroutines are created, when they end, and which ones never will: in running Go programs, without a
/// change to them.
#[derive(Debug, Parser)]
#[command(name = "golife", version, max_term_width = 100, propagate_version = true)]
#[command(after_help = format!("Examples:\n  {}\n\n{EXIT_CODES}", EXAMPLES.trim_end().replace('\n', "\n  ")))]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What people want most, a line each.
pub const EXAMPLES: &str = "\
golife leaks --pid 4242               which go statement leaks, after 30 s of watching
golife trace --all --for 10s          every Go process on this host
golife sweep --twice 30s              every Go process, without probes, and what grew
golife dump --pid 4242 --group stack  what its goroutines do right now, without probes
golife run -- ./server --port 8080    from the first goroutine on
golife hist --pid 4242 --scale 2x     lifetimes, and what twice the load would mean
golife diff old.json new.json         what has changed between two saved reports
golife doctor                         what this machine lacks, and what to do about it
";

/// What golife's exit code says, which is part of its contract.
pub const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 --fail-on found something (--strict: or is
undecided) or more was created than --max-created allows, 4 nothing could be traced.";

/// The names of the arguments in [`Targets`].
const SELECTORS: [&str; 4] = ["pid", "exe", "name", "all"];

/// The names of the arguments that say how to trace. They mean nothing for what was traced before.
const OF_TRACING: [&str; 10] = [
    "duration",
    "until",
    "interval",
    "min_age",
    "fail_on",
    "patterns",
    "include_system",
    "creation_stacks",
    "max_sites",
    "ring_bytes",
];

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Count creations, exits and lifetimes per go statement, until Ctrl-C or --for
    Trace(Trace),
    /// Name the go statements that leak, with the evidence
    Leaks(Trace),
    /// Draw lifetime histograms, of live processes or of saved reports, and do the capacity arithmetic
    Hist(Hist),
    /// Compare two saved reports: which go statements are new, gone, worse and better
    Diff(Diff),
    /// Start a program and trace it from its first goroutine on
    Run(Run),
    /// Print all goroutines of a process, in Go's own traceback format, without stopping it
    Dump(Dump),
    /// Look at every Go process of this host, without probes: what most goroutines wait for
    Sweep(Sweep),
    /// Ask what many hosts have written with --to: which go statements leak anywhere, and since when
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Fleet(Fleet),
    /// Check what this machine offers, and trace a tiny built-in target
    Doctor(Doctor),
    /// Write a shell completion script to standard output
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual page to standard output
    Man,
    /// The self-test's target: makes the hits that a parent golife counts.
    #[command(name = crate::probes::selftest::TARGET_COMMAND, hide = true)]
    SelftestTarget,
    /// What `golife sweep --hosts` starts on a host: the rest of its command line comes on standard input.
    #[command(name = ASKED, hide = true)]
    RemoteSweep,
}

/// What all commands share that trace and judge.
#[derive(Debug, Args)]
pub struct Tracing {
    /// For how long.
    #[command(flatten)]
    pub window: Window,
    /// What to show.
    #[command(flatten)]
    pub view: View,
    /// How to judge.
    #[command(flatten)]
    pub judging: Judging,
    /// What to silence.
    #[command(flatten)]
    pub silenced: Silenced,
    /// Where the sources are.
    #[command(flatten)]
    pub sources: Sources,
    /// What may not happen.
    #[command(flatten)]
    pub bounds: Bounds,
    /// What to spend.
    #[command(flatten)]
    pub limits: Limits,
    /// Where to keep what was found.
    #[command(flatten)]
    pub storing: Storing,
    /// How to call processes.
    #[command(flatten)]
    pub naming: Naming,
}

/// `golife trace` and `golife leaks`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("target").args(SELECTORS).required(true).multiple(true)))]
pub struct Trace {
    /// Whom to trace.
    #[command(flatten)]
    pub targets: Targets,
    /// How to trace.
    #[command(flatten)]
    pub tracing: Tracing,
}

/// `golife hist`.
#[derive(Debug, Args)]
#[command(mut_arg("top", |top| top.help("Show only the first N sites of all processes together; 10 unless said, all with --format json")))]
#[command(mut_arg("sort", |sort| sort.default_value("exited")))]
#[command(mut_arg("format", |format| format.help("Form of the report; jsonl, sarif, vet and junit are for golife trace")))]
#[command(group(ArgGroup::new("source").args(SELECTORS).arg("reports").required(true).multiple(true)))]
pub struct Hist {
    /// Saved reports (golife trace --format json --output FILE); several are merged
    #[arg(value_name = "REPORT", value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with_all = SELECTORS, conflicts_with_all = OF_TRACING, add = completion::reports())]
    pub reports: Vec<PathBuf>,
    /// Whom to trace.
    #[command(flatten)]
    pub targets: Targets,
    /// For how long.
    #[command(flatten)]
    pub window: Window,
    /// What to show.
    #[command(flatten)]
    pub view: View,
    /// How to judge.
    #[command(flatten)]
    pub judging: Judging,
    /// What to spend.
    #[command(flatten)]
    pub limits: Limits,
    /// Also show what rate and live goroutines become when the load is this many times as high and lifetimes stay as they are,
    /// with 95 % intervals. Where more or fewer live than rate and lifetime give, nothing is forecast
    #[arg(long, value_name = "FACTOR", value_parser = parse_factor)]
    pub scale: Option<f64>,
}

/// `golife sweep`.
#[derive(Debug, Args)]
pub struct Sweep {
    /// Whom to look at.
    #[command(flatten)]
    pub targets: Targets,
    /// Look again after this long: what came, what went, what has not moved
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub twice: Option<Duration>,
    /// Look again and again at about this interval until Ctrl-C, and store each sweep: with --to. Hosts that begin at the same
    /// time do not stay together
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, requires = "to", conflicts_with_all = ["twice", "fail_on"])]
    pub every: Option<Duration>,
    /// Form of the report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Write the report to this file instead of standard output
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Order of the sites
    #[arg(long, value_name = "BY", default_value = "live", value_parser = sort_parser())]
    pub sort: Sort,
    /// Show only the first N sites of all processes together
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    /// When to fail. Two looks can tell watch at most.
    #[command(flatten)]
    pub fail_on: FailOn,
    /// How to judge.
    #[command(flatten)]
    pub judging: Judging,
    /// What to silence.
    #[command(flatten)]
    pub silenced: Silenced,
    /// Where the sources are.
    #[command(flatten)]
    pub sources: Sources,
    /// Show the runtime's own goroutines, too
    #[arg(long)]
    pub include_system: bool,
    /// Where to keep what was found.
    #[command(flatten)]
    pub storing: Storing,
    /// How to call processes.
    #[command(flatten)]
    pub naming: Naming,
    /// Which hosts, if others than this one.
    #[command(flatten)]
    pub hosts: Hosts,
}

/// `golife dump`.
#[derive(Debug, Args)]
pub struct Dump {
    /// The process, by id
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(add = completion::go_processes())]
    pub pid: u32,
    /// Show groups instead of each goroutine, by what they have in common: site (the go statement), stack, state, entry (the
    /// function that they run), blame (the line of the program's own module), or label:KEY (the value of a profiler label)
    #[arg(long, value_name = "BY", add = completion::groups())]
    pub group: Option<Group>,
    /// Only the goroutine with this id (repeatable)
    #[arg(long, value_name = "N")]
    pub goid: Vec<u64>,
    /// Show who created each goroutine and who created those, in the form of Go's GODEBUG=tracebackancestors: with their
    /// stacks of then if Go has kept them, else with those of now, as long as they live
    #[arg(long)]
    pub ancestors: bool,
    /// Only goroutines in this state, e.g. 'chan receive' or running (repeatable)
    #[arg(long, value_name = "STATE", add = completion::states())]
    pub waiting: Vec<String>,
    /// Only goroutines that are known to wait at least this long; Go notes it at a garbage collection, so all may wait longer
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub older: Option<Duration>,
    /// Only goroutines whose go statement matches, by function or file:line
    #[arg(long, value_name = "REGEX")]
    pub site: Option<Regex>,
    /// Only goroutines without a function on their stack that matches (repeatable)
    #[arg(long, value_name = "REGEX")]
    pub without: Vec<Regex>,
    /// Whether to show goroutines that wait and do not run while golife watches: for a second, or as long as --for says
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = Idle::Show)]
    pub idle: Idle,
    /// Only one in N goroutines, chosen by a hash of their ids, with counts multiplied by N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..))]
    pub sample: Option<u64>,
    /// Look again and again for this long, and show how much of the time goroutines spent where; for --format pprof, folded
    /// and svg. Ctrl-C ends with what there is
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_window)]
    pub duration: Option<Duration>,
    /// How often to look with --for, on average. That costs 10 % of one CPU at most, so it may be less often
    #[arg(long, value_name = "N", default_value_t = 10, requires = "duration")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    pub hz: u32,
    /// Form of the dump
    #[arg(long, value_enum, default_value_t = DumpFormat::Text)]
    pub format: DumpFormat,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Show the runtime's own goroutines, too
    #[arg(long)]
    pub include_system: bool,
}

/// Whether goroutines are shown that do not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Idle {
    /// They are shown
    Show,
    /// They are left out
    Hide,
}

/// `golife doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Form of the report
    #[arg(long, value_enum, default_value_t = DoctorFormat::Text)]
    pub format: DoctorFormat,
}

/// Form of what `golife doctor` finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DoctorFormat {
    /// For people
    Text,
    /// One document
    Json,
}

/// Form of a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DumpFormat {
    /// Go's traceback format
    Text,
    /// One document
    Json,
    /// A gzip'd profile for go tool pprof, as the program's own goroutine profile
    Pprof,
    /// Folded stacks, a line each
    Folded,
    /// A flame graph
    Svg,
}

impl DumpFormat {
    /// The form of a profile that this is, or `None` if it is none.
    pub fn profile(self) -> Option<ProfileForm> {
        match self {
            DumpFormat::Text | DumpFormat::Json => None,
            DumpFormat::Pprof => Some(ProfileForm::Pprof),
            DumpFormat::Folded => Some(ProfileForm::Folded),
            DumpFormat::Svg => Some(ProfileForm::Svg),
        }
    }
}

/// Whom to trace: any of these selectors, together.
#[derive(Clone, Debug, Default, Args)]
pub struct Targets {
    /// A process, by id (repeatable)
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(add = completion::go_processes())]
    pub pid: Vec<u32>,
    /// Every process of an executable, running now or started later (repeatable)
    #[arg(long, value_name = "PATH", value_hint = ValueHint::ExecutablePath)]
    pub exe: Vec<PathBuf>,
    /// Every process whose program name matches, be it the file's or the one it was started as (repeatable)
    #[arg(long, value_name = "REGEX")]
    pub name: Vec<Regex>,
    /// Every Go process on this host
    #[arg(long)]
    pub all: bool,
}

impl Targets {
    /// The selectors as plain values, for those who know nothing of the command line.
    pub fn selectors(&self) -> Selectors {
        Selectors {
            pids: self.pid.clone(),
            executables: self.exe.clone(),
            names: self.name.clone(),
            all: self.all,
        }
    }
}

/// For how long to watch, and how often to look.
#[derive(Clone, Debug, Args)]
pub struct Window {
    /// Stop after this long, e.g. 30s or 5m (leaks, hist: 30s unless said; trace, run: until the end)
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_window)]
    pub duration: Option<Duration>,
    /// How often live goroutines are sampled, and how often jsonl prints a line
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_interval)]
    pub interval: Duration,
}

/// What to show, and where.
#[derive(Clone, Debug, Args)]
pub struct View {
    /// Form of the report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Write the report to this file instead of standard output (run: standard error)
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Order of the sites
    #[arg(long, value_name = "BY", default_value = "verdict", value_parser = sort_parser())]
    pub sort: Sort,
    /// Show only the first N sites of each process
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    /// Show only sites whose oldest live goroutine is at least this old
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub min_age: Option<Duration>,
    /// When to fail.
    #[command(flatten)]
    pub fail_on: FailOn,
    /// Stop as soon as a site is judged at this level or above; this is looked at once an interval
    #[arg(long, value_name = "LEVEL", value_parser = level_parser())]
    pub until: Option<Level>,
    /// Show the runtime's own goroutines, too
    #[arg(long)]
    pub include_system: bool,
}

/// When to fail.
#[derive(Clone, Debug, Args)]
pub struct FailOn {
    /// Exit with code 3 if a site is judged at this level or above (sweep: two looks can tell watch at most). Where none is
    /// but some cannot be told yet, that is said on standard error, and the code is 0
    #[arg(long, value_name = "LEVEL", value_parser = level_parser())]
    pub fail_on: Option<Level>,
    /// Exit with code 3 also where --fail-on is undecided, because some site cannot be told yet
    #[arg(long, requires = "fail_on")]
    pub strict: bool,
}

/// How to judge.
#[derive(Clone, Debug, Args)]
pub struct Judging {
    /// Causes and remedies of your own for stacks that you know, asked before golife's; the file (TOML) has a `[[pattern]]`
    /// each, with function = REGEX, waits = STATE (may be left out), cause = one of the report's, advice = TEXT with
    /// {place}, close = METHOD (may be left out)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub patterns: Option<PathBuf>,
}

/// What to silence.
#[derive(Clone, Debug, Args)]
pub struct Silenced {
    /// Silence sites that you know to be no leaks: those whose go statement matches, or the function that their goroutines
    /// run, or the line of your module that most of them go back to, or the innermost call that most of them wait in, each
    /// by function or file:line (repeatable). They stay in the report, last and with their verdicts, but are no findings, and
    /// --fail-on does not count them
    #[arg(long, value_name = "REGEX")]
    pub ignore: Vec<Regex>,
    /// Let the sites of this file pass, whose leaks you know and have not mended yet: they stay in the report, marked and with
    /// their verdicts, but are no findings, and --fail-on does not count them. Lines are FUNCTION#ORDINAL, the number of
    /// the go statement in its function, with a comment behind ' # '. What is listed and not there is said
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub baseline: Option<PathBuf>,
    /// Write the file of --baseline anew, instead of reading it: all sites at the level of --fail-on or above, or else those
    /// judged watch or above
    #[arg(long, requires = "baseline")]
    pub write_baseline: bool,
}

/// What may not happen, whatever the verdicts are.
#[derive(Clone, Debug, Args)]
pub struct Bounds {
    /// Exit with code 3 if more than N goroutines are created, in all processes together, at the sites whose go statement or
    /// function matches, by function or file:line (repeatable)
    #[arg(long, value_name = "REGEX=N")]
    pub max_created: Vec<MaxCreated>,
}

/// Where the sources are.
#[derive(Clone, Debug, Args)]
pub struct Sources {
    /// The directory that paths in --format sarif and junit are relative to, and where --format vet finds the files. Unless
    /// said, it is that of the module's go.mod, by the paths that were compiled in
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub source_root: Option<PathBuf>,
}

/// What golife may spend.
#[derive(Clone, Debug, Args)]
pub struct Limits {
    /// Read the creator's stack at each go statement: which calls led there. Costs the target more at each creation, and 18
    /// MB of kernel memory
    #[arg(long)]
    pub creation_stacks: bool,
    /// Creation sites kept apart; the rest share a row named other
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_sites: u32,
    /// Memory for the records that golife has not read yet: rings of all CPUs together, which grow to five times that if need
    /// be. 16 MiB unless said, on more than 85 CPUs 192 KiB for each
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(4096..=1 << 30))]
    pub ring_bytes: Option<u32>,
}

/// `golife fleet`.
#[derive(Debug, Args)]
pub struct Fleet {
    /// What golife-fleet is to do: `golife fleet help` lists it
    #[arg(value_name = "ARGUMENT", trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<std::ffi::OsString>,
}

/// Form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// One document at the end
    Json,
    /// One document a line at each interval, and one at the end
    Jsonl,
    /// A gzip'd profile for go tool pprof (-sample_index=goroutines, suspects, live_by_creation, created, exited, lifetime)
    Pprof,
    /// Folded stacks of the living, a line each, as flame graph tools read them
    Folded,
    /// A flame graph of the living, coloured by verdict
    Svg,
    /// Findings for code-scanning pages and editors (SARIF 2.1.0)
    Sarif,
    /// A line for each finding, file:line: message, as go vet prints
    Vet,
    /// Go tests as test cases, and elsewhere sites, for CI pages (JUnit XML)
    Junit,
}

impl Format {
    /// The form of a profile that this is, or `None` if it is none.
    pub fn profile(self) -> Option<ProfileForm> {
        match self {
            Format::Text | Format::Json | Format::Jsonl | Format::Sarif | Format::Vet | Format::Junit => None,
            Format::Pprof => Some(ProfileForm::Pprof),
            Format::Folded => Some(ProfileForm::Folded),
            Format::Svg => Some(ProfileForm::Svg),
        }
    }
}

/// The forms of a profile, which is stacks with numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfileForm {
    /// For `go tool pprof`.
    Pprof,
    /// A line for each stack.
    Folded,
    /// A flame graph.
    Svg,
}

fn sort_parser() -> impl TypedValueParser<Value = Sort> {
    PossibleValuesParser::new(Sort::NAMES.map(|(name, _)| name)).try_map(|name| name.parse::<Sort>())
}

fn level_parser() -> impl TypedValueParser<Value = Level> {
    PossibleValuesParser::new(Level::WORST_FIRST.map(Level::name)).try_map(|name| {
        Level::WORST_FIRST.into_iter().find(|level| level.name() == name).ok_or("no such level")
    })
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration =
        humantime::parse_duration(text).map_err(|error| format!("{error}; write 30s, 5m or 1h30m"))?;
    if duration.is_zero() { Err("must be longer than nothing".to_owned()) } else { Ok(duration) }
}

fn parse_window(text: &str) -> Result<Duration, String> {
    let window = parse_duration(text)?;
    if window < Duration::from_millis(10) {
        return Err("too short to see a goroutine begin and end: must be at least 10ms".to_owned());
    }
    Ok(window)
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval < Duration::from_millis(10) { Err("must be at least 10ms".to_owned()) } else { Ok(interval) }
}

fn parse_factor(text: &str) -> Result<f64, String> {
    match text.strip_suffix('x').unwrap_or(text).parse::<f64>() {
        Ok(factor) if factor.is_finite() && factor > 0.0 => Ok(factor),
        _ => Err("want a factor above 0, such as 2x".to_owned()),
    }
}

mod diff;
mod hosts;
mod run;
mod storing;
#[cfg(test)]
mod tests;
