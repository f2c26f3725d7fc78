//! Makes origins of the lineages that the tracker keeps, from which the blame is found.

use std::sync::Arc;

use super::Described;
use crate::report::Frame;
use crate::tracker::{Instance, LineageId, SiteId};
use crate::verdict::{Blame, Origin};

/// The blame for all sites of a process instance, by the numbers of their ids.
pub(super) fn of(instance: &Instance, described: &Described) -> Blame {
    let statements = instance.sites().iter().enumerate().map(|(at, site)| {
        let statement = described.site(SiteId(at as u32)).site;
        statement.filter(|_| !site.overflow)
    });
    let statements: Vec<Option<&Frame>> = statements.collect();
    let origins = instance.lineages().all().iter().enumerate().map(|(at, lineage)| {
        let stacks = described.creation_stacks;
        let seen = described.seen_calls.and_then(|seen| seen.get(&LineageId(at as u32)));
        Origin {
            site: lineage.site.0 as usize,
            parent: lineage.parent.map(|parent| parent.0 as usize),
            live: lineage.live,
            came: lineage.live.min(lineage.created_in_window()),
            stack: stacks.and_then(|stacks| stacks.get(&(lineage.site, lineage.stack))).map(Arc::as_ref),
            seen: seen.map(Vec::as_slice).unwrap_or_default(),
        }
    });
    Blame::of(&origins.collect::<Vec<_>>(), &statements, described.module)
}
