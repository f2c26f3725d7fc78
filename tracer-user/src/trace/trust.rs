//! Checks whether a process's records fit its binary. The first few creation sites tell: with a wrong layout, register
//! or binary, the numbers in them are no places in the code. The same check also finds the binary of a process that
//! ended before anybody could look at it in `/proc`.

use std::collections::HashSet;

use crate::go::Binary;
use crate::host::FileId;
use crate::inspect::{self, Mismatch};
use crate::tracker::{Instance, InstanceId};

/// How many creation sites of a process are checked.
const FEW: usize = 4;

/// How many checks in a row must fail. Right after an exec, the records of the old image may for a moment be compared
/// with the binary of the new one.
const STRIKES: u8 = 2;

/// Which binaries are trusted, and which instances are still to be checked.
#[derive(Default)]
pub(super) struct Trust {
    /// Layouts that the memory or the records of some process have confirmed.
    verified: HashSet<FileId>,
    /// Instances of binaries that are not trusted yet.
    doubtful: Vec<Doubt>,
}

/// A process instance whose records have not been found to fit its binary.
pub(super) struct Doubt {
    pub(super) instance: InstanceId,
    /// How many checks in a row have failed.
    strikes: u8,
}

/// What is to be done about a doubtful instance.
pub(super) enum Finding {
    /// The records fit, so that the binary is to be trusted.
    Fits,
    /// Nothing is decided yet, so that the instance is to be checked again.
    Open,
    /// The records do not fit, so that the binary is not to be traced.
    Unfit(Mismatch),
}

impl Trust {
    /// Trusts a binary from now on, since the memory or the records of a process have confirmed its layout.
    pub(super) fn confirm(&mut self, file: FileId) {
        self.verified.insert(file);
    }

    /// Has an instance of this binary checked by its records, unless the binary is trusted.
    pub(super) fn watch(&mut self, instance: InstanceId, file: FileId) {
        if !self.is_trusted(file) {
            self.doubtful.push(Doubt { instance, strikes: 0 });
        }
    }

    pub(super) fn is_trusted(&self, file: FileId) -> bool {
        self.verified.contains(&file)
    }

    /// All doubts, to be judged one by one; those that stay come back by [`Trust::keep_doubting`].
    pub(super) fn take_doubts(&mut self) -> Vec<Doubt> {
        std::mem::take(&mut self.doubtful)
    }

    pub(super) fn keep_doubting(&mut self, doubt: Doubt) {
        self.doubtful.push(doubt);
    }

    /// Forgets all binaries but these.
    pub(super) fn keep(&mut self, files: &HashSet<FileId>) {
        self.verified.retain(|file| files.contains(file));
    }
}

impl Doubt {
    /// Checks the first records of an instance. `last` says that no more records come, so that this check decides.
    pub(super) fn check(&mut self, instance: &Instance, binary: &Binary, bias: u64, last: bool) -> Finding {
        match check(instance, binary, bias) {
            Ok(0) => Finding::Open,
            Ok(_) => Finding::Fits,
            Err(_) if !last && self.strikes + 1 < STRIKES => {
                self.strikes += 1;
                Finding::Open
            }
            Err(mismatch) => Finding::Unfit(mismatch),
        }
    }
}

/// Checks the first sites of an instance. Returns how many there were; all of them fit.
///
/// # Errors
/// What does not fit about the first site that does not.
pub(super) fn check(instance: &Instance, binary: &Binary, bias: u64) -> Result<usize, Mismatch> {
    let sites = instance.sites().iter().filter(|site| !site.overflow).take(FEW);
    let mut checked = 0;
    for site in sites {
        inspect::verify_creation(site.gopc, site.startpc, binary, bias)?;
        checked += 1;
    }
    Ok(checked)
}

/// The load bias with which a binary fits the addresses of an instance: 0 if the linker has fixed its addresses,
/// otherwise the one with which a goroutine runs `runtime.main`. `None` if no bias fits.
pub(super) fn bias_of(instance: &Instance, binary: &Binary) -> Option<u64> {
    const PAGE: u64 = 4096;
    let main = binary.functions_named("runtime.main");
    let moved = main.iter().flat_map(|main| {
        let sites = instance.sites().iter().filter(|site| !site.overflow).take(FEW);
        sites.map(|site| site.startpc.wrapping_sub(main.entry)).filter(|bias| bias % PAGE == 0)
    });
    let fits = |bias: u64| check(instance, binary, bias).is_ok_and(|checked| checked > 0);
    std::iter::once(0).chain(moved).find(|&bias| fits(bias))
}
