//! The baseline: the sites that are known to leak and are to be mended another day. They stay in a report with their verdicts,
//! and only what is new counts.
//!
//! The file has a line for each `go` statement, `FUNCTION#ORDINAL`, which stays true when lines move, with a comment behind
//! it. It is sorted, so that several who change it can merge their changes.

use std::collections::BTreeSet;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::site::Site;
use crate::human::imported;

/// The `go` statements that a baseline lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baseline {
    entries: BTreeSet<Entry>,
}

/// A `go` statement, by its place among those of its function.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The function, as it is imported: see [`imported`].
    function: String,
    /// Its number, from 1.
    ordinal: u32,
}

/// What `--baseline` lists, and what of it is not there any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Baselined {
    /// Number of `go` statements that it lists.
    pub entries: u64,
    /// Those that no site of the report has, as `FUNCTION#ORDINAL`, sorted: they are mended, renamed, or were not executed.
    pub unmatched: Vec<String>,
}

/// A line of a baseline that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {found:?} is not FUNCTION#ORDINAL, a comment behind it beginning with #")]
pub struct NoEntry {
    /// The number of the line, from 1.
    pub line: usize,
    /// What stands there.
    pub found: String,
}

impl Entry {
    /// What a baseline calls a site. None where it is not known which `go` statement of its function it is.
    pub fn of(site: &Site) -> Option<Entry> {
        let named = || Entry { function: imported(&site.site.function).into_owned(), ordinal: 0 };
        site.ordinal.map(|ordinal| Entry { ordinal, ..named() })
    }

    /// Reads a line that is not empty. None where it is no entry.
    fn parse(line: &str) -> Option<Entry> {
        let (key, comment) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        if !(comment.trim_start().is_empty() || comment.trim_start().starts_with('#')) {
            return None;
        }
        let (function, ordinal) = key.rsplit_once('#')?;
        let is_number = ordinal.bytes().all(|digit| digit.is_ascii_digit());
        let ordinal = ordinal.parse().ok().filter(|ordinal| is_number && *ordinal > 0)?;
        (!function.is_empty()).then(|| Entry { function: imported(function).into_owned(), ordinal })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}#{}", self.function, self.ordinal)
    }
}

impl Baseline {
    /// Reads a baseline. Empty lines and those that begin with `#` say nothing, and a statement may be listed twice, as it is
    /// where two have added it.
    ///
    /// # Errors
    /// The first line that is no entry, as those are that Git leaves where it cannot merge.
    pub fn parse(text: &str) -> Result<Baseline, NoEntry> {
        let lines = (1..).zip(text.lines().map(str::trim));
        let entries =
            lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).map(|(at, line)| {
                Entry::parse(line).ok_or_else(|| NoEntry { line: at, found: line.chars().take(80).collect() })
            });
        Ok(Baseline { entries: entries.collect::<Result<_, _>>()? })
    }

    /// Whether it lists the site's `go` statement.
    pub fn knows(&self, site: &Site) -> bool {
        Entry::of(site).is_some_and(|entry| self.entries.contains(&entry))
    }

    /// What it lists, and what of that none of these sites has.
    pub(super) fn compare<'s>(&self, sites: impl Iterator<Item = &'s Site>) -> Baselined {
        let found: BTreeSet<Entry> = sites.filter_map(Entry::of).collect();
        let unmatched = self.entries.difference(&found).map(Entry::to_string);
        Baselined { entries: self.entries.len() as u64, unmatched: unmatched.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Frame;

    fn site(function: &str, ordinal: Option<u32>) -> Site {
        let frame = Frame { function: function.into(), ..Frame::default() };
        Site { site: frame, ordinal, ..Site::default() }
    }

    #[test]
    fn a_baseline_knows_the_statements_that_it_lists() {
        let text = "# Known since May.\n\nmain.(*Hub).run#2  # hub.go:88 channel\r\n main.f[...]#1\nmain.f[...]#1 # again\n\
                    gopkg.in/yaml.v3.parse#11\n";
        let baseline = Baseline::parse(text).unwrap();
        let knows = |function, ordinal| baseline.knows(&site(function, ordinal));
        assert!(knows("main.(*Hub).run", Some(2)) && knows("main.f[...]", Some(1)));
        assert!(knows("gopkg.in/yaml%2ev3.parse", Some(11)), "as JSON has it");
        assert!(!knows("main.(*Hub).run", Some(1)) && !knows("main.(*Hub).run", None));
        let sites = [site("main.f[...]", Some(1)), site("main.g", Some(1)), site("x", None)];
        let unmatched = vec!["gopkg.in/yaml.v3.parse#11".into(), "main.(*Hub).run#2".into()];
        assert_eq!(baseline.compare(sites.iter()), Baselined { entries: 3, unmatched });
        assert_eq!(Baseline::parse("").unwrap(), Baseline::default());
    }

    #[test]
    fn a_line_that_is_no_entry_is_named() {
        for line in [
            "main.f",
            "#",
            "main.f#",
            "main.f#0",
            "main.f#+1",
            "#1 x",
            "main.f#1 hub.go",
            "< ours",
            "main.f#x",
        ] {
            let read = Baseline::parse(&format!("main.a#1\n\n{line}\n"));
            match line.starts_with('#') {
                true => assert!(read.is_ok(), "{line} is a comment"),
                false => assert_eq!(read.unwrap_err().line, 3, "{line}"),
            }
        }
        assert!(Baseline::parse("main.f").unwrap_err().to_string().starts_with("line 1: \"main.f\" is not"));
    }
}
