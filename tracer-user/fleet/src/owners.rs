//! Who owns what: a file with `PREFIX TEAM` a line, as CODEOWNERS has it. The longest prefix of the function, its module or its
//! source file wins.

use std::path::Path;

use anyhow::{Context, bail};

/// Prefixes and teams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners(Vec<(String, String)>);

impl Owners {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or a line is not `PREFIX TEAM`.
    pub fn read(path: &Path) -> anyhow::Result<Owners> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Owners::parse(&text).with_context(|| path.display().to_string())
    }

    /// Reads the text of a file. What follows a `#` is a comment.
    ///
    /// # Errors
    /// A line is not `PREFIX TEAM`.
    pub fn parse(text: &str) -> anyhow::Result<Owners> {
        let mut owners = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
            match words[..] {
                [] => {}
                [prefix, team] => owners.push((prefix.to_owned(), team.to_owned())),
                _ => bail!("line {}: want PREFIX TEAM", at + 1),
            }
        }
        Ok(Owners(owners))
    }

    /// Who owns a place in the source.
    pub fn of(&self, module: Option<&str>, function: &str, file: Option<&str>) -> Option<&str> {
        let places = [Some(function), module, file];
        let is_its = |prefix: &str| places.iter().flatten().any(|place| begins(place, prefix));
        let own = self.0.iter().filter(|(prefix, _)| is_its(prefix));
        own.max_by_key(|(prefix, _)| prefix.len()).map(|(_, team)| team.as_str())
    }
}

/// Whether a path begins with another: `example.com/api` begins `example.com/api/hub`, not `example.com/apis`.
fn begins(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || prefix.ends_with('/') || rest.starts_with(['/', '.']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins() {
        let text =
            "example.com/shop team-shop\nexample.com/shop/pay  team-pay # since May\n\n/src/gen/ team-gen\n";
        let owners = Owners::parse(text).unwrap();
        let of = |function, file| owners.of(Some("example.com/shop"), function, file);
        assert_eq!(of("example.com/shop/pay.(*Hub).Run", None), Some("team-pay"));
        assert_eq!(of("example.com/shop/payments.Run", None), Some("team-shop"));
        assert_eq!(owners.of(None, "main.main", Some("/src/gen/a.go")), Some("team-gen"));
        assert_eq!(owners.of(None, "main.main", None), None);
        assert!(Owners::parse("a b c").is_err() && Owners::parse("alone").is_err());
    }
}
