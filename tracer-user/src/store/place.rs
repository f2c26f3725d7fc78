//! Where a sweep file stands in a store: `sites/dt=YYYY-MM-DD/hour=HH/HOST-TIME-RANDOM.parquet`, all in UTC. Engines find a
//! day or an hour by its folder, and the name tells who wrote it and when without opening it.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The folder of the files that hosts write.
pub const SITES: &str = "sites";
/// How the name of a sweep file ends.
pub const EXTENSION: &str = ".parquet";
/// Most bytes of a host's name in a file's.
const MOST_OF_HOST: usize = 128;

/// The place of one sweep file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When the sweep was made: milliseconds since 1970, UTC.
    pub time_ms: i64,
    /// The host, in the characters that any store allows.
    pub host: String,
    /// What tells it from others of that host and time.
    pub random: u32,
}

impl Place {
    /// A place that no other file has.
    pub fn new(host: &str, time_ms: i64, random: u32) -> Place {
        Place { time_ms, host: plain(host), random }
    }

    /// The folder of one hour's files.
    pub fn folder(time_ms: i64) -> String {
        let time = rfc3339(time_ms);
        format!("{SITES}/dt={}/hour={}", &time[..10], &time[11..13])
    }

    /// Reads a path, which may have folders before `sites/`. `None` if no sweep file stands there.
    pub fn parse(path: &str) -> Option<Place> {
        let (_, name) = path.rsplit_once('/')?;
        Place::of_name(name).filter(|place| path.ends_with(&place.to_string()))
    }

    /// Reads the name alone, which tells the folders, too. `None` if it is not that of a sweep file.
    pub fn of_name(name: &str) -> Option<Place> {
        let mut parts = name.strip_suffix(EXTENSION)?.rsplitn(3, '-');
        let random = u32::from_str_radix(parts.next().filter(|digits| digits.len() == 8)?, 16).ok()?;
        let time = parts.next()?;
        let host = parts.next().filter(|host| !host.is_empty())?;
        Some(Place { time_ms: from_compact(time)?, host: host.to_owned(), random })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let compact: String = rfc3339(self.time_ms).chars().filter(|c| !matches!(c, '-' | ':')).collect();
        write!(to, "{}/{}-{compact}-{:08x}{EXTENSION}", Place::folder(self.time_ms), self.host, self.random)
    }
}

/// A host's name in letters, digits, dots, dashes and underscores.
fn plain(host: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let plain: String = host.chars().take(MOST_OF_HOST).map(|c| if is_plain(c) { c } else { '_' }).collect();
    // A name of dots alone would mean another folder.
    if plain.chars().all(|c| c == '.') { "unknown".into() } else { plain }
}

/// The last moment that RFC 3339 can write: the end of the year 9999.
const LAST_MS: i64 = 253_402_300_799_999;

fn rfc3339(time_ms: i64) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(time_ms.clamp(0, LAST_MS).unsigned_abs());
    humantime::format_rfc3339_millis(time).to_string()
}

/// Reads `20261128T034512.123Z`.
fn from_compact(text: &str) -> Option<i64> {
    let (day, time) = text.split_once('T')?;
    if !text.is_ascii() || day.len() != 8 || time.len() < 7 {
        return None;
    }
    let full =
        format!("{}-{}-{}T{}:{}:{}", &day[..4], &day[4..6], &day[6..], &time[..2], &time[2..4], &time[4..]);
    let time: SystemTime = humantime::parse_rfc3339(&full).ok()?;
    time.duration_since(UNIX_EPOCH).ok()?.as_millis().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: i64 = 1_795_837_512_123;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let place = Place::new("api-7d9f.example.com", TIME, 0xc0ffee);
        let path = place.to_string();
        assert_eq!(
            path,
            "sites/dt=2026-11-28/hour=03/api-7d9f.example.com-20261128T034512.123Z-00c0ffee.parquet"
        );
        assert_eq!(Place::parse(&path), Some(place.clone()));
        assert_eq!(Place::parse(&format!("fleet/{path}")), Some(place));
    }

    #[test]
    fn a_host_may_be_called_anything() {
        for (host, plain) in
            [("../../etc", ".._.._etc"), ("..", "unknown"), ("", "unknown"), ("a b\n", "a_b_")]
        {
            let place = Place::new(host, TIME, 1);
            assert_eq!(place.host, plain);
            assert_eq!(Place::parse(&place.to_string()), Some(place));
        }
    }

    #[test]
    fn other_files_are_no_sweep_files() {
        for path in [
            "sites/dt=2026-11-28/hour=04/h-20261128T034512.123Z-00c0ffee.parquet",
            "sites/dt=2026-11-28/hour=03/h-20261128T034512.123Z-00c0ffee.parquet#1",
            "sites/dt=2026-11-28/hour=03/h-2026-00c0ffee.parquet",
            "sites/dt=2026-11-28/hour=03/h-99999999T999999.123Z-00c0ffee.parquet",
            "h.parquet",
            "sites/\u{e4}-\u{e4}\u{e4}\u{e4}\u{e4}T\u{e4}\u{e4}\u{e4}\u{e4}-00c0ffee.parquet",
            "",
        ] {
            assert_eq!(Place::parse(path), None, "{path}");
        }
    }
}
