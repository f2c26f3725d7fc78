//! How many goroutines may be created: what `--max-created` asks for, and what was counted.

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::site::Site;

/// At most how many goroutines may be created at the sites that a pattern names.
#[derive(Clone, Debug)]
pub struct MaxCreated {
    /// Names sites, by their `go` statements or by the functions that their goroutines run.
    pub pattern: Regex,
    /// So many may be created at all of them together.
    pub most: u64,
}

/// A pattern of `--max-created`, with how many goroutines were created.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreatedOf {
    /// The regular expression.
    pub pattern: String,
    /// Number of goroutines that may be created.
    pub most: u64,
    /// Number of goroutines that were created in all processes at the sites whose `go` statement or function matches, also
    /// at those that the report does not show.
    pub created: u64,
}

impl MaxCreated {
    /// Counts what was created at the sites that the pattern names. A row that stands for many sites has no name.
    pub(super) fn count<'s>(&self, sites: impl Iterator<Item = &'s Site>) -> CreatedOf {
        let is_named = |site: &&Site| {
            !site.other && (site.site.matches(&self.pattern) || site.entry.matches(&self.pattern))
        };
        let created = sites.filter(is_named).fold(0u64, |sum, site| sum.saturating_add(site.created));
        CreatedOf { pattern: self.pattern.as_str().to_owned(), most: self.most, created }
    }
}

impl std::str::FromStr for MaxCreated {
    type Err = String;

    /// Reads `REGEX=N`. The regular expression may have an `=` of its own.
    fn from_str(text: &str) -> Result<MaxCreated, String> {
        let (pattern, most) = text.rsplit_once('=').ok_or("it is REGEX=N, such as 'pool\\.go:88$=100'")?;
        let most = most.parse().map_err(|_| format!("{most:?} is no number of goroutines"))?;
        let pattern = Regex::new(pattern).map_err(|error| error.to_string())?;
        Ok(MaxCreated { pattern, most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Frame;

    #[test]
    fn what_was_created_is_counted_by_statement_or_function() {
        let frame = |function: &str| Frame { function: function.into(), ..Frame::default() };
        let site = |site, entry, created| Site {
            site: frame(site),
            entry: frame(entry),
            created,
            ..Site::default()
        };
        let other = Site { other: true, ..site("a.x", "a.x", 1_000) };
        let sites = [site("a.f", "b.g", 3), site("b.h", "c.i", 5), site("a.j", "a.k", 7), other];
        let count = |text: &str| text.parse::<MaxCreated>().unwrap().count(sites.iter());
        assert_eq!(count("^b=4"), CreatedOf { pattern: "^b".into(), most: 4, created: 8 });
        assert_eq!(count("^a=9").created, 10);
        assert_eq!((count("x=y=0").pattern.as_str(), count("=1").created), ("x=y", 15));
    }

    #[test]
    fn what_is_no_pattern_with_a_number_is_refused() {
        for text in ["main", "main=", "main=-1", "main=x", "(=1", "main=1.5"] {
            assert!(text.parse::<MaxCreated>().is_err(), "{text}");
        }
    }
}
