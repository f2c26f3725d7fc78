//! What differs between versions of Go: the only place where they are compared. Everybody else asks a question here and
//! gets an answer by name, so that a new version is one more case of a function below, and none elsewhere.
//!
//! Most of what differs is in two tables that `cargo xtask go-facts` reads from the toolchains: offsets of fields
//! (`layout_table`) and wait reasons (`wait_reason_table`). Here is what no such table can say: the form of things.
//!
//! To add a version of Go, write its newest release into `releases.txt`, run `cargo xtask go-facts`, which writes both
//! tables, and look through the sources that the functions below link to. Where one of them has changed, it gets another
//! case here. With an experiment for the new toolchain in `tests/e2e/matrix.rs` that is five files; the goldens of
//! `tests/plan.rs` are written by itself.

use super::layout_table::TEST_NAMES;
use crate::go::file::buildinfo::GoVersion;

/// The oldest Go that golife traces. Before it, the function table has another format, and code for arm64 passes
/// arguments on the stack.
pub const OLDEST: GoVersion = GoVersion { major: 1, minor: 18, patch: 0 };

/// How a `runtime.sudog` refers to its channel and to its element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SudogPointers {
    /// By a pointer: Go 1.18 to 1.25.
    Plain,
    /// By two words, `maybeTraceablePtr` and `maybeTraceableChan`: a pointer that may be nil, so that the garbage
    /// collector does not follow it, and then the same address as a number, which always is there.
    Paired,
}

impl SudogPointers {
    /// Bytes from the start of the field to the word that always has the address.
    pub fn address(self) -> u16 {
        match self {
            SudogPointers::Plain => 0,
            SudogPointers::Paired => 8,
        }
    }
}

/// See [`SudogPointers`]; `type sudog` in <https://cs.opensource.google/go/go/+/master:src/runtime/runtime2.go>.
pub fn sudog_pointers(version: GoVersion) -> SudogPointers {
    if version.minor >= 26 { SudogPointers::Paired } else { SudogPointers::Plain }
}

/// What `g.labels` points to: profiler labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelForm {
    /// A `map[string]string`, Go 1.18 to 1.23: `type labelMap` in
    /// <https://cs.opensource.google/go/go/+/refs/tags/go1.23.0:src/runtime/pprof/label.go>.
    Map,
    /// A slice of pairs of strings, sorted by key: `type labelMap` in
    /// <https://cs.opensource.google/go/go/+/master:src/runtime/pprof/label.go>.
    Slice,
}

/// See [`LabelForm`].
pub fn label_form(version: GoVersion) -> LabelForm {
    if version.minor < 24 { LabelForm::Map } else { LabelForm::Slice }
}

/// Where a traceback has the labels of a goroutine in its first line: `goroutineheader` in
/// <https://cs.opensource.google/go/go/+/master:src/runtime/traceback.go>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelsInHeader {
    /// `goroutine 1 [running labels:{"key": "value"}]:` as Go 1.26 prints them where it is asked to. Readers of
    /// tracebacks that know nothing of labels take them for a part of the state, so older versions are shown like this,
    /// too.
    WithState,
    /// `goroutine 1 [running] {key: value}:` from Go 1.27 on, with quotation marks only where they are needed.
    BehindState,
}

/// See [`LabelsInHeader`].
pub fn labels_in_header(version: GoVersion) -> LabelsInHeader {
    if version.minor >= 27 { LabelsInHeader::BehindState } else { LabelsInHeader::WithState }
}

/// Offsets in bytes of those fields of `runtime.moduledata` that have moved: `type moduledata` in
/// <https://cs.opensource.google/go/go/+/master:src/runtime/symtab.go>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleDataOffsets {
    /// `types`: where the descriptions of types begin.
    pub types: usize,
    /// `gofunc`: where the data of functions begins.
    pub gofunc: usize,
}

/// Bytes of `runtime.moduledata` up to the end of the last field that is read, in the version where that is farthest.
pub const MODULE_DATA_SIZE: usize = 344 + 8;

/// See [`ModuleDataOffsets`].
pub fn module_data_offsets(version: GoVersion) -> ModuleDataOffsets {
    match version.minor {
        ..20 => ModuleDataOffsets { types: 280, gofunc: 304 },
        20..27 => ModuleDataOffsets { types: 296, gofunc: 320 },
        27.. => ModuleDataOffsets { types: 296, gofunc: 344 },
    }
}

/// Offsets in bytes in a `sync.Cond`, which has not changed from Go 1.18 to 1.27: an interface of two words (`L`), the
/// list of those that wait (`notify`), and its own address (`checker`).
/// <https://cs.opensource.google/go/go/+/master:src/sync/cond.go>, and `notifyList` in
/// <https://cs.opensource.google/go/go/+/master:src/runtime/sema.go>.
pub mod cond {
    /// `notify`: what `sudog.elem` points to from Go 1.26 on.
    pub const LIST: u64 = 16;
    /// `notify.head`: the first `runtime.sudog` of the list, behind two numbers and a lock.
    pub const HEAD: u64 = 32;
    /// `checker`: the first `Wait` puts its own address here, to find out about copies.
    pub const CHECKER: u64 = 48;
}

/// A lock of package sync. Goroutines wait for a semaphore in it, from which golife finds the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lock {
    /// `sync.Mutex`, since Go 1.24 made of `internal/sync.Mutex`.
    Mutex,
    /// `sync.RWMutex`.
    RwMutex,
    /// `sync.WaitGroup`.
    WaitGroup,
}

impl Lock {
    /// The lock that has a method, by the method's name as Go prints it, without `internal/`: `sync.(*Mutex).Lock`.
    pub fn with_method(name: &str) -> Option<Lock> {
        let receiver = name.strip_prefix("sync.(*")?;
        [("Mutex)", Lock::Mutex), ("RWMutex)", Lock::RwMutex), ("WaitGroup)", Lock::WaitGroup)]
            .into_iter()
            .find_map(|(prefix, lock)| receiver.starts_with(prefix).then_some(lock))
    }

    /// Where the semaphores in it are for which goroutines wait, in bytes from its start.
    pub fn semaphores(self) -> &'static [u64] {
        match self {
            Lock::Mutex => &[4],
            Lock::RwMutex => &[4, 8, 12],
            Lock::WaitGroup => &[8],
        }
    }

    /// How many hold it, or have yet to be done for a `sync.WaitGroup`, from the bytes that it consists of. None if these
    /// are too few. The fields have not changed from Go 1.18 to 1.27: a mutex is locked if the lowest bit of its state is
    /// set; an RWMutex has two numbers behind its semaphores, that of its readers, from which a writer takes 2³⁰, and that
    /// of the readers that this writer waits for; a WaitGroup has its counter in the upper half of its first word.
    pub fn taken(self, bytes: &[u8]) -> Option<u64> {
        let number = |at: usize| bytes.get(at..)?.first_chunk().map(|word| i32::from_le_bytes(*word));
        let taken = match self {
            Lock::Mutex => number(0)? & 1,
            Lock::RwMutex => match (number(16)?, number(20)?) {
                (readers @ 0.., _) => readers,
                (_, 0) => 1,
                (_, awaited) => awaited,
            },
            Lock::WaitGroup => number(4)?,
        };
        u64::try_from(taken).ok()
    }

    /// Its size in bytes, as far as it is used.
    pub fn size(self) -> u64 {
        match self {
            Lock::Mutex => 8,
            Lock::RwMutex => 16,
            Lock::WaitGroup => 12,
        }
    }
}

/// What a method of a lock does with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Whoever has called it holds the lock.
    Acquire,
    /// Whoever has called it no longer holds the lock. For a `sync.WaitGroup` that is `Done`.
    Release,
}

/// What a function does with a lock, by its name as Go prints it. None for functions that do neither.
pub fn operation(function: &str) -> Option<(Lock, Operation)> {
    let function = function.strip_prefix("internal/").unwrap_or(function);
    let lock = Lock::with_method(function)?;
    let (_, method) = function.rsplit_once('.')?;
    let operation = match method {
        "Lock" | "RLock" | "TryLock" | "TryRLock" | "lockSlow" => Operation::Acquire,
        "Unlock" | "RUnlock" | "unlockSlow" | "rUnlockSlow" | "Done" => Operation::Release,
        _ => return None,
    };
    Some((lock, operation))
}

/// Where a function whose deferred calls are open-coded keeps them: `emitOpenDeferInfo` in
/// <https://cs.opensource.google/go/go/+/master:src/cmd/compile/internal/ssagen/ssa.go>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenDeferForm {
    /// The place of each is told, that of the last one first: Go 1.18 to 1.21.
    Listed,
    /// The place of the first one is told, and the others follow it.
    Consecutive,
}

/// See [`OpenDeferForm`].
pub fn open_defer_form(version: GoVersion) -> OpenDeferForm {
    if version.minor < 22 { OpenDeferForm::Listed } else { OpenDeferForm::Consecutive }
}

/// Offset in bytes of `runtime._defer.fn`, the function that is to be called, in all versions.
pub const DEFER_FUNCTION: usize = 24;

/// Offset in bytes of `runtime._defer.link`, the record of the call that was deferred before: `type _defer` in
/// <https://cs.opensource.google/go/go/+/master:src/runtime/runtime2.go>.
pub fn defer_link(version: GoVersion) -> usize {
    if version.minor < 22 { 40 } else { 32 }
}

/// How far from the start of its lock a semaphore is, in bytes, by the method that waits for it. None for semaphores that
/// are in no lock. This has not changed from Go 1.18 to 1.27: a `sync.Mutex` has its semaphore behind its state, and is
/// the first field of a `sync.RWMutex`, which has two more behind that, for a writer and for readers; a `sync.WaitGroup`
/// has it behind its counters.
///
/// <https://cs.opensource.google/go/go/+/master:src/internal/sync/mutex.go>,
/// <https://cs.opensource.google/go/go/+/master:src/sync/rwmutex.go>,
/// <https://cs.opensource.google/go/go/+/master:src/sync/waitgroup.go>.
pub fn semaphore_offset(method: &str) -> Option<u64> {
    Some(match Lock::with_method(method)? {
        Lock::Mutex => 4,
        Lock::RwMutex if method == "sync.(*RWMutex).RLock" => 12,
        Lock::RwMutex | Lock::WaitGroup => 8,
    })
}

/// Offset in bytes of the name of a test in `testing.T`, `testing.B` and `testing.F`; that of the newest version for those that
/// are newer than the table.
pub(in crate::go) fn test_name_offset(version: GoVersion) -> u16 {
    row_at_most(&TEST_NAMES, version).map_or(TEST_NAMES[0].1, |row| TEST_NAMES[row].1)
}

/// The row of a table by minor versions, lowest first, that was measured with this version. None where there is none.
pub(super) fn measured_row<T>(table: &[(u16, T)], version: GoVersion) -> Option<&T> {
    table.iter().find(|(minor, _)| version.major == 1 && version.minor == *minor).map(|(_, row)| row)
}

/// The place of the row that holds for this version in a table by minor versions, lowest first: a version that is newer
/// than the table is like the newest there. None where it is older than the table.
pub(super) fn row_at_most<T>(table: &[(u16, T)], version: GoVersion) -> Option<usize> {
    table.iter().rposition(|(minor, _)| *minor <= version.minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn go(minor: u16) -> GoVersion {
        GoVersion { major: 1, minor, patch: 0 }
    }

    #[test]
    fn each_form_begins_with_its_version() {
        assert_eq!([25, 26, 99].map(|minor| sudog_pointers(go(minor)).address()), [0, 8, 8]);
        assert_eq!([23, 24].map(|minor| label_form(go(minor))), [LabelForm::Map, LabelForm::Slice]);
        let header = [26, 27].map(|minor| labels_in_header(go(minor)));
        assert_eq!(header, [LabelsInHeader::WithState, LabelsInHeader::BehindState]);
        let offsets = [18, 19, 20, 26, 27, 99].map(|minor| module_data_offsets(go(minor)));
        assert_eq!(offsets.map(|of| of.types), [280, 280, 296, 296, 296, 296]);
        assert_eq!(offsets.map(|of| of.gofunc), [304, 304, 320, 320, 344, 344]);
        assert!(offsets.iter().all(|of| of.types.max(of.gofunc) + 8 <= MODULE_DATA_SIZE));
    }

    #[test]
    fn locks_are_known_by_their_methods() {
        assert_eq!(semaphore_offset("sync.(*Mutex).lockSlow"), Some(4));
        assert_eq!(semaphore_offset("sync.(*RWMutex).RLock"), Some(12));
        assert_eq!(semaphore_offset("sync.(*RWMutex).Lock"), Some(8));
        assert_eq!(semaphore_offset("sync.(*WaitGroup).Wait"), Some(8));
        assert_eq!(semaphore_offset("sync.(*Once).doSlow"), None);
        assert_eq!(semaphore_offset(""), None);
    }

    #[test]
    fn how_many_hold_a_lock() {
        let bytes = |words: &[i32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        assert_eq!(Lock::Mutex.taken(&bytes(&[9])), Some(1));
        assert_eq!(Lock::Mutex.taken(&bytes(&[8])), Some(0));
        let pending = 3 - (1 << 30);
        assert_eq!(Lock::RwMutex.taken(&bytes(&[0, 0, 0, 0, 3, 0])), Some(3));
        assert_eq!(Lock::RwMutex.taken(&bytes(&[1, 0, 0, 0, pending, 2])), Some(2));
        assert_eq!(Lock::RwMutex.taken(&bytes(&[1, 0, 0, 0, pending, 0])), Some(1));
        assert_eq!(Lock::WaitGroup.taken(&bytes(&[1, 7])), Some(7));
        assert_eq!(Lock::WaitGroup.taken(&bytes(&[1, -7])), None, "no count can be negative");
        assert_eq!(Lock::RwMutex.taken(&bytes(&[0])), None);
    }

    #[test]
    fn what_methods_do() {
        let (acquire, release) = (Operation::Acquire, Operation::Release);
        assert_eq!(operation("sync.(*Mutex).Lock"), Some((Lock::Mutex, acquire)));
        assert_eq!(operation("internal/sync.(*Mutex).unlockSlow"), Some((Lock::Mutex, release)));
        assert_eq!(operation("sync.(*RWMutex).RUnlock"), Some((Lock::RwMutex, release)));
        assert_eq!(operation("sync.(*WaitGroup).Done"), Some((Lock::WaitGroup, release)));
        assert_eq!(operation("sync.(*WaitGroup).Wait"), None);
        assert_eq!(operation("main.(*Mutex).Lock"), None);
        assert_eq!([21, 22].map(|minor| defer_link(go(minor))), [40, 32]);
        let forms = [21, 22].map(|minor| open_defer_form(go(minor)));
        assert_eq!(forms, [OpenDeferForm::Listed, OpenDeferForm::Consecutive]);
    }

    #[test]
    fn rows_of_tables() {
        let table = [(18, 'a'), (19, 'b'), (21, 'c')];
        assert_eq!(
            [17, 18, 20, 21, 22].map(|of| measured_row(&table, go(of)).copied()),
            [None, Some('a'), None, Some('c'), None]
        );
        assert_eq!(
            [17, 18, 20, 21, 22].map(|of| row_at_most(&table, go(of))),
            [None, Some(0), Some(1), Some(2), Some(2)]
        );
    }
}
