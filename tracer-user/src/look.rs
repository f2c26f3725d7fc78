//! One look into a traced process: all its goroutines, and what those of each site wait for. Made on a thread of its own,
//! since it takes as long as the process is large.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::go::Binary;
use crate::inspect::{self, Depth, Limits, Places, SiteKey, SiteWaits, Snapshot};
use crate::report;
use crate::subject::Subject;
use crate::verdict::{Survey, Wait};

/// The longest that looking at all processes takes, together.
pub const MOST_TIME: Duration = Duration::from_secs(5);

/// How long golife listens before it compares the runtime's list with its own. A goroutine that has reported its end is on
/// the list until its thread has run a few more instructions, and the thread may just have lost its CPU.
const SETTLE: Duration = Duration::from_millis(50);

/// What was found.
pub struct Look {
    /// Everything.
    pub snapshot: Snapshot,
    /// By site.
    pub waits: HashMap<SiteKey, SiteWaits>,
    /// Who waits for whom.
    pub survey: Survey,
    /// For a later look.
    pub places: Arc<Places>,
    /// How long it took.
    pub took: Duration,
}

impl Look {
    /// Looks at a process until `deadline` at most; the time that naming takes comes on top. With an earlier look's
    /// places, says which goroutines have not moved since.
    pub fn at(
        subject: &Subject,
        earlier: Option<&Places>,
        deadline: Instant,
    ) -> Result<Look, inspect::WalkError> {
        let start = Instant::now();
        let time = deadline.saturating_duration_since(start);
        let limits = Limits { time, ..Limits::default() };
        let snapshot = subject.scan(limits, Depth::Objects)?;
        let waits = inspect::by_site(&snapshot, &subject.binary, earlier);
        let places = Arc::new(Places::of(&snapshot, earlier));
        let survey = Survey::of(&snapshot);
        Ok(Look { snapshot, waits, survey, places, took: start.elapsed() })
    }

    /// As [`Look::at`], for a comparison with what the probes have seen.
    pub fn settled(
        subject: &Subject,
        earlier: Option<&Places>,
        deadline: Instant,
    ) -> Result<Look, inspect::WalkError> {
        thread::sleep(SETTLE);
        Look::at(subject, earlier, deadline)
    }

    /// Its numbers, for the report.
    pub fn summary(&self) -> report::Scan {
        let Snapshot { listed, unreadable, torn, cut_short, .. } = self.snapshot;
        report::Scan {
            took_ns: self.took.as_nanos() as u64,
            found: self.snapshot.goroutines.len() as u64,
            listed,
            unreadable,
            torn,
            cut_short: cut_short.is_some(),
        }
    }

    /// What the goroutines of a site do, as a verdict needs it.
    pub fn judged(&self, site: &SiteWaits, binary: &Binary) -> Vec<Wait> {
        self.survey.waits(site, &self.snapshot, binary)
    }

    /// What the goroutines of a site wait for.
    pub fn waiting(&self, site: &SiteWaits, binary: &Binary) -> Vec<report::Waiting> {
        let stacks = &self.snapshot.stacks;
        let group = |group: &inspect::Group| report::Waiting {
            reason: group.state.to_owned(),
            count: group.count,
            at: group.stack.map(|stack| stacks.at_and_callers(stack, binary)).unwrap_or_default(),
            goids: group.goids.clone(),
            unmoved: group.unmoved,
            leaked: group.leaked,
            on: self.survey.queues().named(group, &self.snapshot, binary),
        };
        site.groups.iter().map(group).collect()
    }
}
