//! A place that breaks a rule of the house, and the breaches that are known.

use std::fmt;

/// Breaches that are accepted for now: the file, and what is said about it. The list can only shrink, since an entry
/// without its breach is a fault itself.
pub const KNOWN: &[(&str, &str)] = &[];

/// What breaks a rule, and where.
#[derive(Debug)]
pub struct Breach {
    /// Path of the file, from the repository's root.
    pub file: String,
    /// The line, from 1; 0 if it is about the whole file.
    pub line: usize,
    /// What is wrong. The text does not depend on the line, so that [`KNOWN`] can name it.
    pub what: String,
    /// Where to look, for whoever mends it.
    pub detail: String,
}

impl Breach {
    /// A breach without any detail.
    pub fn new(file: impl Into<String>, line: usize, what: impl Into<String>) -> Breach {
        Breach { file: file.into(), line, what: what.into(), detail: String::new() }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}", self.what)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, " ({})", self.detail) }
    }
}

/// The faults: all breaches except the known ones, and all known ones that do not exist any more.
pub fn faults(breaches: &[Breach], known: &[(&str, &str)]) -> Vec<String> {
    let is =
        |breach: &Breach, (file, what): (&str, &str)| breach.file == file && breach.what.starts_with(what);
    let unknown = breaches.iter().filter(|breach| !known.iter().any(|known| is(breach, *known)));
    let gone = known.iter().filter(|known| !breaches.iter().any(|breach| is(breach, **known)));
    let gone = gone.map(|(file, what)| {
        format!("{file}: no longer \"{what}\": take it off KNOWN in xtask/src/tidy/breach.rs")
    });
    unknown.map(ToString::to_string).chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_the_known_can_only_shrink() {
        let breaches = [
            Breach::new("a.rs", 2, "a may not use b; see there"),
            Breach::new("a.rs", 3, "a may not use b; see there"),
            Breach::new("a.rs", 0, "prints"),
        ];
        let known = [("a.rs", "a may not use b"), ("c.rs", "prints")];
        assert_eq!(
            faults(&breaches, &known),
            ["a.rs: prints", "c.rs: no longer \"prints\": take it off KNOWN in xtask/src/tidy/breach.rs"]
        );
        assert_eq!(faults(&breaches, &[]).len(), 3);
        let circle = Breach { detail: "b.rs:1 uses a.rs".to_owned(), ..Breach::new("a.rs", 1, "a circle") };
        assert_eq!(circle.to_string(), "a.rs:1: a circle (b.rs:1 uses a.rs)");
    }
}
