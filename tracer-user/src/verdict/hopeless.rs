//! The finding that goroutines wait for what can never come.

use super::{Finding, Found, Standing};
use crate::human::count;
use crate::report::{EvidenceKind, Level};

/// It is a proven leak if several goroutines wait so. A single one may be meant to stay as long as the program runs.
pub(super) struct Hopeless;

impl Finding<Standing<'_>> for Hopeless {
    fn check(&self, standing: &Standing) -> Option<Found> {
        let mut hopeless = standing.waits.iter().filter_map(|wait| Some((wait.hopeless()?, wait)));
        let (why, first) = hopeless.clone().max_by_key(|(_, wait)| wait.count)?;
        let n: u64 = hopeless.by_ref().map(|(_, wait)| wait.count).sum();
        let level = if n > 1 || first.leaked { Level::Proven } else { Level::Watch };
        let text = match n == standing.live {
            true => format!("all {} {why}: nothing can end that", count(n)),
            false => format!("{} of {} {why}: nothing can end that", count(n), count(standing.live.max(n))),
        };
        Some(Found::new(level, EvidenceKind::Hopeless, text))
    }
}
