//! Do a process's records fit its binary? The first few creation sites tell: a wrong layout, register or binary gives
//! numbers that are no places in the code. It also works the other way round: a process that ended before anybody could
//! look at it in `/proc` is known by its addresses.

use std::{collections::HashSet, sync::Arc, time::SystemTime};

use super::{Session, Traced};
use crate::go::Binary;
use crate::host::files::FileId;
use crate::host::process::Process;
use crate::inspect;
use crate::library::Target;
use crate::subject::Subject;
use crate::tracker::InstanceId;
use crate::tracker::{Instance, Tracker};

/// How many creation sites of a process are checked.
const FEW: usize = 4;

/// How many looks in a row must find a misfit: right after an exec, the records of the old image may for a moment stand
/// beside the name of the new one.
const STRIKES: u8 = 2;

/// Which binaries are trusted, and which are still to be.
#[derive(Default)]
pub(super) struct Trust {
    /// Layouts that the memory or the records of some process have confirmed.
    verified: HashSet<FileId>,
    /// Instances of others, and how often in a row their records did not fit.
    doubtful: Vec<(InstanceId, u8)>,
}

impl Trust {
    pub(super) fn confirm(&mut self, file: FileId) {
        self.verified.insert(file);
    }

    pub(super) fn watch(&mut self, instance: InstanceId, file: FileId) {
        if !self.verified.contains(&file) {
            self.doubtful.push((instance, 0));
        }
    }
}

impl Session {
    /// Checks the first records of processes whose memory could not be checked. Returns the binaries that they do not
    /// fit; call [`Session::give_up`] with them. `last`: no more records come, so one look decides.
    pub fn misfits(&mut self, tracker: &Tracker, last: bool) -> Vec<(Arc<Target>, inspect::Mismatch)> {
        let mut found = Vec::new();
        for (id, strikes) in std::mem::take(&mut self.trust.doubtful) {
            let (Some(instance), Some(traced)) = (tracker.instance(id), self.instances.get(&id)) else {
                continue;
            };
            if self.trust.verified.contains(&traced.target.id)
                || instance.execs > 0 && instance.ended.is_some()
            {
                continue;
            }
            match check(instance, traced.binary(), traced.subject.bias) {
                Ok(0) => self.trust.doubtful.push((id, 0)),
                Ok(_) => self.trust.confirm(traced.target.id),
                Err(_) if !last && strikes + 1 < STRIKES => self.trust.doubtful.push((id, strikes + 1)),
                Err(mismatch) => found.push((traced.target.clone(), mismatch)),
            }
        }
        found
    }

    /// The traced binary that an instance's addresses fit, where `/proc` does not say it any more.
    pub(super) fn identify(&self, instance: &Instance) -> Option<Arc<Traced>> {
        let attached: HashSet<FileId> = self.attachments.keys().map(|(id, _)| *id).collect();
        attached.into_iter().filter_map(|id| self.library.known(id)).find_map(|target| {
            let bias = bias_of(instance, &target)?;
            let (process, binary) = (unseen(instance, &target), target.binary.clone());
            let subject = Subject { process, binary, bias, others: Vec::new(), verified: false };
            Some(Arc::new(Traced { subject, target, number: 0 }))
        })
    }
}

/// How many of the first sites could be checked; all of them fit.
pub(super) fn check(instance: &Instance, binary: &Binary, bias: u64) -> Result<usize, inspect::Mismatch> {
    let sites = instance.sites().iter().filter(|site| !site.overflow).take(FEW);
    let mut checked = 0;
    for site in sites {
        inspect::verify_creation(site.gopc, site.startpc, binary, bias)?;
        checked += 1;
    }
    Ok(checked)
}

/// What must be added to the binary's addresses for the instance's to fit: nothing where the linker fixed them, else
/// whatever makes the first goroutine run `runtime.main`.
fn bias_of(instance: &Instance, target: &Target) -> Option<u64> {
    const PAGE: u64 = 4096;
    let main = target.binary.functions_named("runtime.main");
    let moved = main.iter().flat_map(|main| {
        let sites = instance.sites().iter().filter(|site| !site.overflow).take(FEW);
        sites.map(|site| site.startpc.wrapping_sub(main.entry)).filter(|bias| bias % PAGE == 0)
    });
    std::iter::once(0)
        .chain(moved)
        .find(|&bias| check(instance, &target.binary, bias).is_ok_and(|checked| checked > 0))
}

/// What is known of a process that nobody looked at.
fn unseen(instance: &Instance, target: &Target) -> Process {
    Process {
        pid: instance.pid,
        start_ticks: 0,
        start_time: SystemTime::UNIX_EPOCH,
        exe: target.binary.path().to_path_buf(),
        command: String::new(),
        comm: String::new(),
        container: None,
    }
}
