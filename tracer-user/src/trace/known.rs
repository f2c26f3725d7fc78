//! What is known of a process that is traced, beside its goroutines, and what a report says of that.

use std::collections::HashMap;
use std::sync::Arc;

use super::names::Names;
use super::trust::Trust;
use super::unseen::unbelievable;
use crate::assemble::{Described, DescribedSite, Looked};
use crate::go::Binary;
use crate::host::clock::{now_ns, ticks_to_ns};
use crate::inspect::{Places, SiteKey};
use crate::look::Findings;
use crate::report;
use crate::targets::{PlannedBinary, Subject};
use crate::tracker::{Instance, LineageId};
use crate::verdict::{Parked, SeenCalls};

/// What a report says of a process whose binary was written under it.
const OVERWRITTEN: &str = "not traced any more since its file was written: the counts end there";

/// What a report says of a process that had goroutines before its probes were in place, and ended too soon.
const UNREAD: &str =
    "ended before its goroutines could be read: those from before its probes were in place are missing";

/// A process that is traced.
pub struct Traced {
    /// The process as it was when tracing of it began, except for its plugins, which are kept up to date.
    pub subject: Subject,
    /// Its binary as it is in the file, without plugins.
    pub planned: Arc<PlannedBinary>,
    /// A number for this image in this process, which is never used again.
    pub(super) number: u64,
}

/// What a report says of a process that has ended, without the file that it executed.
pub(super) struct Settled {
    process: report::Process,
    module: Option<String>,
    package: Option<String>,
    methods: Vec<String>,
    bias: u64,
}

impl Settled {
    fn of(traced: &Traced) -> Settled {
        Settled {
            process: traced.subject.describe(),
            module: traced.binary().module().map(str::to_owned),
            package: traced.binary().package_under_test().map(str::to_owned),
            methods: traced.binary().ending_methods().to_vec(),
            bias: traced.subject.bias,
        }
    }
}

/// What is known of a process instance beside its goroutines.
#[derive(Default)]
pub(super) struct Known {
    /// What it executes; `None` where it ended before anybody could look, or where that is settled.
    pub(super) traced: Option<Arc<Traced>>,
    /// What is kept of a process that has ended and whose file is gone.
    pub(super) settled: Option<Settled>,
    /// What the last look has found.
    pub(super) look: Option<LastLook>,
    pub(super) names: Names,
    /// The calls that looks have found the creators of each lineage in.
    pub(super) seen_calls: HashMap<LineageId, SeenCalls>,
    /// Whether it is one of Go's own tools, which are not in the report.
    pub(super) is_left_out: bool,
    /// Why its records cannot be right, if they cannot.
    pub(super) unfit: Option<String>,
    /// Whether there was a notice that creations are missing.
    pub(super) is_alarmed: bool,
    /// Whether somebody has written its binary since, which says nothing about it any more.
    pub(super) is_overwritten: bool,
    /// Whether it ran on then, without probes.
    pub(super) is_cut_short: bool,
    /// What goroutines were doing that tests may have left behind, by their ids; `None` where nobody has looked.
    pub(super) parked: Option<HashMap<u64, Parked>>,
    /// How long its memory was kept after its end, in ns; `None` where it was not.
    pub(super) held_ns: Option<u64>,
}

/// What the last look at an instance has found.
pub(super) struct LastLook {
    pub(super) findings: Findings,
    /// When it was taken in, in ns of boot time.
    pub(super) time_ns: u64,
    /// Where its goroutines were at the last look that others are compared with.
    pub(super) places: Arc<Places>,
}

impl LastLook {
    pub(super) fn new(findings: Findings, places: Arc<Places>) -> LastLook {
        LastLook { findings, time_ns: now_ns(), places }
    }
}

impl Known {
    /// Whether it is an instance of what this process executes.
    pub(super) fn is_of(&self, traced: &Arc<Traced>) -> bool {
        self.traced.as_ref().is_some_and(|own| Arc::ptr_eq(own, traced))
    }

    /// Keeps only what a report says of the process, if it has ended and its file is not there any more. Nobody can run
    /// that again, and as long as it is open, it takes its room on the disk: `go test` removes each test binary after its test.
    pub(super) fn settle(&mut self, instance: Option<&Instance>, trust: &Trust) {
        let Some(instance) = instance.filter(|instance| instance.ended.is_some()) else { return };
        let Some(traced) = &self.traced else { return };
        let is_named = self.names.sites.len() == instance.sites().len();
        let is_sure = trust.is_trusted(traced.planned.file) || instance.sites().is_empty();
        if is_named && is_sure && traced.planned.opened.is_removed() {
            self.settled = Some(Settled::of(traced));
            self.traced = None;
        }
    }

    pub(super) fn described(&self, instance: &Instance, keeps_stacks: bool) -> Described<'_> {
        let (described, module, package, methods, bias) = match (&self.settled, &self.traced) {
            (Some(settled), _) => (
                settled.process.clone(),
                settled.module.as_deref(),
                settled.package.as_deref(),
                &settled.methods[..],
                settled.bias,
            ),
            (None, Some(traced)) => (
                traced.subject.describe(),
                traced.binary().module(),
                traced.binary().package_under_test(),
                traced.binary().ending_methods(),
                traced.subject.bias,
            ),
            (None, None) => {
                let why = "ended before it could be looked at, and fits no binary that is traced";
                return Described { process: unbelievable(why), ..Described::default() };
            }
        };
        let process = match &self.unfit {
            Some(why) => report::Process { exe: described.exe, ..unbelievable(why) },
            None => {
                let described = Findings::described(self.look.as_ref().map(|look| &look.findings), described);
                let overwritten = self.is_cut_short.then(|| OVERWRITTEN.to_owned());
                let is_unread = instance.ended.is_some() && instance.has_unknown_goroutines();
                let unread = is_unread.then(|| UNREAD.to_owned());
                let detail = overwritten.or(unread).or(described.detail);
                let ended = instance.ended.map(|ended| ended.time_ns);
                let before = self.look.as_ref().and_then(|look| Some(ended?.saturating_sub(look.time_ns)));
                let scan = described.scan.map(|scan| report::Scan { before_end_ns: before, ..scan });
                report::Process { detail, scan, held_ns: self.held_ns, ..described }
            }
        };
        let code = |address: u64| if address == 0 { 0 } else { address.wrapping_sub(bias) };
        let sites = self.names.sites.iter().zip(instance.sites()).map(|(names, counts)| {
            let key = SiteKey { gopc: code(counts.gopc), startpc: code(counts.startpc) };
            let looked = self.look.as_ref().map(|look| match look.findings.sites.get(&key) {
                Some(found) => Looked {
                    waiting: &found.waiting,
                    waits: &found.judged,
                    labels: &found.labels,
                    stack_bytes: found.waits.stack_bytes,
                },
                None => Looked::default(),
            });
            DescribedSite {
                site: names.site.as_ref(),
                ordinal: names.ordinal,
                entry: names.entry.as_ref(),
                is_system: names.is_system,
                looked,
            }
        });
        Described {
            is_left_out: self.is_left_out,
            process,
            module,
            methods,
            sites: sites.collect(),
            creation_stacks: keeps_stacks.then_some(&self.names.stacks),
            seen_calls: Some(&self.seen_calls),
            package,
            parked: self.parked.as_ref(),
        }
    }
}

impl Traced {
    /// Whether both are the same image in the same process.
    pub fn is(&self, other: &Traced) -> bool {
        self.number == other.number
    }

    /// The process's binary.
    pub fn binary(&self) -> &Binary {
        &self.subject.binary
    }

    /// When the process started, on the boot-time clock in ns, as precise as the kernel's ticks.
    pub fn start_ns(&self) -> u64 {
        ticks_to_ns(self.subject.process.start_ticks)
    }
}
