//! A finding in a report: sites that leak together, since one mistake is behind them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::frame::Frame;
use super::site::Site;
use super::verdict::{Cause, Level, Verdict};

/// What one mistake has left: a site with the verdict `watch` or worse, or several that grow alike and belong together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// The worst verdict of its sites.
    pub level: Level,
    /// What keeps the goroutines of its first site from ending; `null` where no scan has looked at what they wait for.
    pub cause: Option<Cause>,
    /// What to do about it, for people to read; `null` where there is no cause.
    pub advice: Option<String>,
    /// The line of the main module that most of the goroutines go back to; `null` where it is not known.
    pub blamed: Option<Frame>,
    /// Its sites, as indices into `sites` from 0 on: first that whose wait tells what to do, then those that follow from
    /// it. Sites that the report does not show are left out.
    pub sites: Vec<usize>,
}

impl Finding {
    /// A finding of one site alone, which has this index; `None` if its verdict is better than `watch`, or it is ignored or known.
    pub fn alone(at: usize, site: &Site) -> Option<Finding> {
        let Verdict { level, cause, advice, .. } = &site.verdict;
        (*level >= Level::Watch && !site.is_silenced()).then(|| Finding {
            level: *level,
            cause: *cause,
            advice: advice.clone(),
            blamed: None,
            sites: vec![at],
        })
    }
}

/// How many findings there are of each verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FindingCounts {
    /// Number of findings whose worst site is `proven`.
    pub proven: u64,
    /// Number of findings whose worst site is `suspect`.
    pub suspect: u64,
    /// Number of findings whose worst site is `watch`.
    pub watch: u64,
}

impl FindingCounts {
    /// The number of findings with this verdict; `None` for verdicts that are none.
    pub fn of(&self, level: Level) -> Option<u64> {
        match level {
            Level::Proven => Some(self.proven),
            Level::Suspect => Some(self.suspect),
            Level::Watch => Some(self.watch),
            Level::Healthy | Level::Unknown => None,
        }
    }

    pub(super) fn add(&mut self, finding: &Finding) {
        match finding.level {
            Level::Proven => self.proven += 1,
            Level::Suspect => self.suspect += 1,
            Level::Watch => self.watch += 1,
            Level::Healthy | Level::Unknown => {}
        }
    }

    pub(super) fn merge(&mut self, other: &FindingCounts) {
        self.proven = self.proven.saturating_add(other.proven);
        self.suspect = self.suspect.saturating_add(other.suspect);
        self.watch = self.watch.saturating_add(other.watch);
    }
}
