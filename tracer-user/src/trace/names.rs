//! Names for what the tracker knows by address. They are found once for each process instance, and handed to the report
//! as plain values.

use std::sync::Arc;

use super::attachments::Attachments;
use super::creation_stacks::RawStacks;
use crate::assemble::CreationStacks;
use crate::report::Frame;
use crate::targets::Subject;
use crate::tracker::{Instance, StackId};

/// The names of one creation site.
pub(super) struct SiteNames {
    /// The `go` statement.
    pub(super) site: Option<Frame>,
    /// Which `go` statement of its function it is.
    pub(super) ordinal: Option<u32>,
    /// The function that its goroutines run.
    pub(super) entry: Option<Frame>,
    /// Whether its goroutines are the runtime's own.
    pub(super) is_system: bool,
}

/// The names of one process instance.
#[derive(Default)]
pub(super) struct Names {
    /// The names of the creation sites, in the order of `SiteId`.
    pub(super) sites: Vec<SiteNames>,
    /// The creators' stacks; empty unless creation stacks are kept.
    pub(super) stacks: CreationStacks,
}

impl Names {
    /// Names the sites and stacks that are new since the last call.
    pub(super) fn update(
        &mut self,
        instance: &Instance,
        subject: &Subject,
        attachments: &Attachments,
        raw: &mut RawStacks,
    ) {
        let code = |address: u64| address.wrapping_sub(subject.bias);
        for site in instance.sites().get(self.sites.len()..).unwrap_or_default() {
            let (gopc, startpc) = (code(site.gopc), code(site.startpc));
            self.sites.push(SiteNames {
                site: subject.binary.go_statement(gopc).as_ref().map(Frame::from),
                ordinal: subject.binary.go_ordinal(gopc),
                entry: subject.binary.entry_function(startpc).as_ref().map(Frame::from),
                is_system: subject.binary.is_system(startpc),
            });
        }
        if !attachments.keep_stacks() {
            return;
        }
        for lineage in instance.lineages().all().iter().filter(|lineage| lineage.stack != StackId::NONE) {
            let gopc = instance.sites()[lineage.site.0 as usize].gopc;
            let name = || -> Arc<[Frame]> { raw.frames(attachments, subject, gopc, lineage.stack) };
            self.stacks.entry((lineage.site, lineage.stack)).or_insert_with(name);
        }
    }
}
