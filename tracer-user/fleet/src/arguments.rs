//! The command line: what a user can ask for, and nothing of how it is done.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

mod capacity;
mod upkeep;

pub use capacity::{Capacity, Grouping, Hist, Per};
pub use upkeep::{Check, Expire, Hourly};

/// Asks what many hosts have written with `golife sweep --to URL`.
#[derive(Debug, Parser)]
#[command(name = "golife-fleet", version, max_term_width = 100, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Name the go statements that leak on any host, one finding for each bug, worst first
    Leaks(Leaks),
    /// Name what leaks since a version or a time and did not before
    New(New),
    /// Set the sites of a service before and after beside each other, by version
    Compare(Compare),
    /// Hide findings that are known, until a date
    Ack(Acknowledge),
    /// Show findings again that were hidden
    Unack(TakeBack),
    /// Answer a query in SQL, which can only read; the table is called sites
    Sql(Sql),
    /// Show how long goroutines lived, on all hosts together
    Hist(Hist),
    /// Say whether the store can be read, which hosts write to it, and which have stopped
    Check(Check),
    /// Make one file of the many of an hour: sorted, well compressed, quick to ask. Nothing is deleted
    Compact(Hourly),
    /// Make one small file of each hour, with all hosts together, which hist and compare then read. Nothing is deleted
    Rollup(Hourly),
    /// Delete sweeps that are too old, and files that a compacted one stands for
    Expire(Expire),
    /// Show what services carry, when that reaches a limit, and what another load would make of it
    Capacity(Capacity),
}

/// Where to look, and how.
#[derive(Clone, Debug, Args)]
pub struct Asking {
    /// The store: a folder, s3://BUCKET/PATH, gs://BUCKET/PATH or az://CONTAINER/PATH. Keys come from the environment
    #[arg(value_name = "URL")]
    pub url: String,
    /// How long a request to the store is made again, with growing pauses, before its object counts as out of reach
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = humantime::parse_duration)]
    pub store_timeout: Duration,
    /// Memory that the query may take before it goes on in temporary files, such as 512M or 4G; a quarter of the machine's
    /// unless said, and 1G at least
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub memory: Option<u64>,
    /// Show how the query is run and which files it reads, instead of the answer
    #[arg(long)]
    pub explain: bool,
    /// How to show it.
    #[command(flatten)]
    pub showing: Showing,
}

/// How to show an answer.
#[derive(Clone, Debug, Args)]
pub struct Showing {
    /// Form of the answer
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Write the answer to this file instead of standard output
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
}

/// Which sweeps count.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Window {
    /// Only sweeps from then on: a time such as 2026-11-28T03:00:00Z or 2026-11-28, or how long ago, such as 6h
    #[arg(long, value_name = "WHEN", value_parser = parse_time)]
    pub since: Option<SystemTime>,
    /// Only sweeps before then, written in the same way
    #[arg(long, value_name = "WHEN", value_parser = parse_time)]
    pub until: Option<SystemTime>,
}

impl Window {
    /// The window in ms since 1970: the first that counts, and the first that no longer does.
    pub fn ms(&self) -> (Option<i64>, Option<i64>) {
        (self.since.map(ms), self.until.map(ms))
    }
}

/// `golife-fleet sql`.
#[derive(Debug, Args)]
pub struct Sql {
    /// Where to look, and how.
    #[command(flatten)]
    pub asking: Asking,
    /// The query
    #[arg(value_name = "QUERY")]
    pub query: String,
    /// Which sweeps count.
    #[command(flatten)]
    pub window: Window,
}

/// `golife-fleet leaks`.
#[derive(Debug, Args)]
pub struct Leaks {
    /// Where to look, and how.
    #[command(flatten)]
    pub asking: Asking,
    /// Which sweeps count: those of the last 24 hours unless said.
    #[command(flatten)]
    pub window: Window,
    /// Call a finding fixed after so many sweeps in which its site executed and did not leak
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub fixed_after: usize,
    /// Who owns what: a file with PREFIX TEAM a line, of which the longest prefix of function, module or file wins
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub owners: Option<PathBuf>,
    /// Only the findings of this team
    #[arg(long, value_name = "TEAM", requires = "owners")]
    pub owner: Option<String>,
    /// Post findings as alerts to this Alertmanager, such as http://alertmanager:9093, and resolve those that are fixed or
    /// acknowledged. ALERTMANAGER_TOKEN, or ALERTMANAGER_USER and ALERTMANAGER_PASSWORD, is what it lets in. If it does not
    /// answer, the exit code is 5
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub alertmanager: Option<String>,
    /// How long an alert stays without another run: a few times as long as it is from one run to the next
    #[arg(long, value_name = "DURATION", default_value = "3h", value_parser = humantime::parse_duration, requires = "alertmanager")]
    pub alert_for: Duration,
    /// Write nothing into the store, so that the next time nothing is known of this time
    #[arg(long)]
    pub read_only: bool,
}

/// `golife-fleet new`.
#[derive(Debug, Args)]
pub struct New {
    /// Where to look, and how.
    #[command(flatten)]
    pub asking: Asking,
    /// Since when: a version, from its first sweep on, or a time such as 2026-11-28T03:00:00Z, or how long ago, such as 6h
    #[arg(long, value_name = "VERSION|TIME", value_parser = parse_since)]
    pub since: Since,
}

/// A version or a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Since {
    /// From then on.
    Time(SystemTime),
    /// From the first sweep with this version on.
    Version(String),
}

/// By what a comparison tells before from after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// By the version of the program
    Version,
}

/// `golife-fleet compare`.
#[derive(Debug, Args)]
pub struct Compare {
    /// Where to look, and how.
    #[command(flatten)]
    pub asking: Asking,
    /// Which sweeps count.
    #[command(flatten)]
    pub window: Window,
    /// By what before is told from after
    #[arg(long, value_enum, default_value_t = By::Version)]
    pub by: By,
    /// Read sweeps only, also where hours are rolled up
    #[arg(long)]
    pub no_rollup: bool,
    /// Only this service
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// The version before; the one that was first seen before the newest unless said
    #[arg(long, value_name = "VERSION")]
    pub old: Option<String>,
    /// The version after; the one that was first seen last unless said
    #[arg(long, value_name = "VERSION")]
    pub new: Option<String>,
    /// Only the first N sites of each service, those first whose live goroutines have changed most
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub top: usize,
}

/// `golife-fleet ack`.
#[derive(Debug, Args)]
pub struct Acknowledge {
    /// The store
    #[arg(value_name = "URL")]
    pub url: String,
    /// How long a request to the store is made again, with growing pauses, before its object counts as out of reach
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = humantime::parse_duration)]
    pub store_timeout: Duration,
    /// The findings
    #[arg(value_name = "ID", required = true, value_parser = parse_id)]
    pub ids: Vec<String>,
    /// Until when, such as 2027-01-31
    #[arg(long, value_name = "DATE", value_parser = parse_date)]
    pub until: SystemTime,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub why: String,
}

/// `golife-fleet unack`.
#[derive(Debug, Args)]
pub struct TakeBack {
    /// The store
    #[arg(value_name = "URL")]
    pub url: String,
    /// How long a request to the store is made again, with growing pauses, before its object counts as out of reach
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = humantime::parse_duration)]
    pub store_timeout: Duration,
    /// The findings
    #[arg(value_name = "ID", required = true, value_parser = parse_id)]
    pub ids: Vec<String>,
}

/// Form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// One document
    Json,
    /// The table alone, with a line of names
    Csv,
    /// For issues and chats
    Markdown,
    /// One page that asks for nothing else
    Html,
}

/// A moment in ms since 1970.
pub fn ms(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_millis().try_into().unwrap_or(i64::MAX)
}

fn parse_since(text: &str) -> Result<Since, String> {
    Ok(parse_time(text).map_or_else(|_| Since::Version(text.to_owned()), Since::Time))
}

fn parse_id(text: &str) -> Result<String, String> {
    let is_id = text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { Ok(text.to_ascii_lowercase()) } else { Err("an id has 12 hexadecimal digits".to_owned()) }
}

fn parse_date(text: &str) -> Result<SystemTime, String> {
    let day = humantime::parse_rfc3339_weak(&format!("{text}T00:00:00Z"));
    day.or_else(|_| humantime::parse_rfc3339_weak(text))
        .map_err(|_| "want a date such as 2027-01-31".to_owned())
}

/// Reads a time, or how long ago it was.
///
/// # Errors
/// It is neither.
pub fn parse_time(text: &str) -> Result<SystemTime, String> {
    let as_time = |text: &str| humantime::parse_rfc3339_weak(text).ok();
    if let Some(time) = as_time(text).or_else(|| as_time(&format!("{text}T00:00:00Z"))) {
        return Ok(time);
    }
    let ago: Duration = humantime::parse_duration(text)
        .map_err(|_| "want a time such as 2026-11-28T03:00:00Z, or how long ago, such as 6h".to_owned())?;
    SystemTime::now().checked_sub(ago).ok_or_else(|| "that is too long ago".to_owned())
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    const LEAST: u64 = 64 << 20;
    let upper = text.to_ascii_uppercase();
    let bare = upper.trim_end_matches("IB").trim_end_matches('B');
    let (number, unit) = match bare.char_indices().last() {
        Some((at, 'K')) => (&bare[..at], 1u64 << 10),
        Some((at, 'M')) => (&bare[..at], 1 << 20),
        Some((at, 'G')) => (&bare[..at], 1 << 30),
        _ => (bare, 1),
    };
    let bytes = number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    match bytes {
        Some(bytes) if bytes >= LEAST => Ok(bytes),
        Some(_) => Err("that is too little: want 64M at least".to_owned()),
        None => Err("want a number of bytes, such as 512M or 4G".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_and_sizes_are_read() {
        assert_eq!(parse_time("1970-01-01T00:00:01Z").map(ms), Ok(1000));
        assert_eq!(parse_time("1970-01-02").map(ms), Ok(86_400_000));
        assert!(parse_time("6h").is_ok_and(|time| time < SystemTime::now()));
        assert!(parse_time("soon").is_err());
        assert_eq!(parse_bytes("64MiB"), Ok(64 << 20));
        assert_eq!(parse_bytes("2g"), Ok(2 << 30));
        assert!(parse_bytes("1K").is_err() && parse_bytes("x").is_err() && parse_bytes("").is_err());
    }
}
