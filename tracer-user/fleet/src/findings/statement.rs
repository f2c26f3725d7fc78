//! Which `go` statement of its function a row is about: by its ordinal, which stays when lines move. Where a host does not know it,
//! the line tells it, as long as another host knows the ordinal of that line in that version, or else the function that the
//! goroutines run.

use std::collections::{BTreeSet, HashMap};

use super::Point;

/// What a statement looks like to a host: version, ordinal, line and entry.
type Look<'a> = (Option<&'a str>, Option<i64>, Option<i64>, &'a str);

/// The name of each point's statement in an id.
pub fn names(points: &[Point]) -> Vec<String> {
    let mut by_line: HashMap<(Option<&str>, i64), i64> = HashMap::new();
    let mut by_entry: HashMap<&str, BTreeSet<i64>> = HashMap::new();
    for point in points {
        if let Some(ordinal) = point.ordinal {
            by_entry.entry(&point.entry).or_default().insert(ordinal);
            if let Some(line) = point.line {
                by_line.insert((point.version.as_deref(), line), ordinal);
            }
        }
    }
    let mut lines: HashMap<(Option<&str>, &str), BTreeSet<i64>> = HashMap::new();
    for point in points.iter().filter(|point| point.ordinal.is_none()) {
        lines.entry((point.version.as_deref(), &point.entry)).or_default().extend(point.line);
    }
    let name = |point: &Point| {
        let version = point.version.as_deref();
        let of_line = || by_line.get(&(version, point.line?)).copied();
        let of_entry = || by_entry.get(point.entry.as_str()).filter(|all| all.len() == 1)?.first().copied();
        if let Some(ordinal) = point.ordinal.or_else(of_line).or_else(of_entry) {
            return ordinal.to_string();
        }
        // Two lines of one version are two statements, in the order of their lines.
        let before = lines.get(&(version, point.entry.as_str())).zip(point.line);
        match before.map_or(0, |(lines, line)| lines.range(..line).count()) {
            0 => format!("?{}", point.entry),
            place => format!("?{}+{place}", point.entry),
        }
    };
    let mut known: HashMap<Look<'_>, String> = HashMap::new();
    let names = points.iter().map(|point| {
        let key = (point.version.as_deref(), point.ordinal, point.line, point.entry.as_str());
        known.entry(key).or_insert_with(|| name(point)).clone()
    });
    names.collect()
}
