//! The releases of Go that golife was measured with, from `releases.txt`, as constants.

const TEXT: &str = include_str!("releases.txt");

/// One release for each minor version that golife supports, as `GOTOOLCHAIN` takes them (`go1.26.8`), oldest first.
pub const RELEASES: [&str; count()] = list();

/// The release of a minor version: `go1.26.8` of 26.
///
/// # Panics
/// Where `releases.txt` has none: a test asks for a version that golife does not support.
pub fn release_of(minor: u16) -> &'static str {
    let prefix = format!("go1.{minor}.");
    let release = RELEASES.into_iter().find(|release| release.starts_with(&prefix));
    release.unwrap_or_else(|| panic!("releases.txt has no release of Go 1.{minor}"))
}

const fn count() -> usize {
    let (mut rest, mut count) = (TEXT, 0);
    while !rest.is_empty() {
        let (line, after) = first_line(rest);
        count += is_release(line) as usize;
        rest = after;
    }
    count
}

const fn list() -> [&'static str; count()] {
    let (mut rest, mut list, mut at) = (TEXT, [""; count()], 0);
    while !rest.is_empty() {
        let (line, after) = first_line(rest);
        if is_release(line) {
            list[at] = line;
            at += 1;
        }
        rest = after;
    }
    list
}

/// The first line of a text that has one, and what follows it.
const fn first_line(text: &'static str) -> (&'static str, &'static str) {
    let bytes = text.as_bytes();
    let mut end = 0;
    while end < bytes.len() && bytes[end] != b'\n' {
        end += 1;
    }
    let (line, rest) = text.split_at(end);
    (line, if rest.is_empty() { rest } else { rest.split_at(1).1 })
}

/// Other lines are empty, or comments.
const fn is_release(line: &str) -> bool {
    !line.is_empty() && line.as_bytes()[0] != b'#'
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::go::file::buildinfo::GoVersion;

    #[test]
    fn releases_are_in_order_one_for_each_minor_version() {
        let versions = RELEASES.map(|release| GoVersion::parse(release).unwrap());
        assert!(versions.is_sorted_by(|a, b| a.minor + 1 == b.minor), "{versions:?}");
        assert_eq!(versions.map(|version| version.to_string()), RELEASES);
        assert_eq!(release_of(versions[0].minor), RELEASES[0]);
    }
}
