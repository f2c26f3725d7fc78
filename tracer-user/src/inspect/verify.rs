//! Checks whether a layout fits a process. With a wrong offset other numbers would be taken for goroutines, so nothing
//! that was read with a layout is shown before it has passed these checks.

use std::collections::HashSet;

use super::limits::{WalkError, WalkLimits};
use super::memory::ProcessMemory;
use super::walk::{G, StackExtent, Walk, walk};
use crate::go::Binary;

/// Largest goroutine id that is believed. Go counts ids up by one, in blocks of 16 for each processor, so it would take
/// centuries to reach this one.
const MAX_GOID: u64 = 1 << 48;
/// Largest stack that is believed, in bytes. `runtime.maxstacksize` of 64-bit programs is 1 GB; `debug.SetMaxStack` can
/// raise it, but nobody raises it beyond this.
const MAX_STACK: u64 = 1 << 36;
/// Of the listed goroutines, at most one in this many may be unreadable. Some may be, since the process runs on while
/// it is read.
const MAX_UNREADABLE: u64 = 100;

/// A layout does not fit the process. It holds the first finding that shows so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the goroutines of {path} ({version}) are not where golife expects them: {finding}; \
     please report this with the program's Go version and how it was built"
)]
pub struct Mismatch {
    /// The executable.
    pub path: String,
    /// Its Go version as the executable states it.
    pub version: String,
    /// Which field of which goroutine cannot be right, and what was found in it.
    pub finding: String,
}

/// How often a process is read before a mismatch counts. The process runs on, so a goroutine can be replaced by another
/// one while it is read.
const ATTEMPTS: usize = 3;

/// Why there is no list of goroutines that can be trusted.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The list could not be read.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// The list was read, but cannot be right.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// Nobody is on the list. Right after an exec the runtime has made no goroutine yet.
    #[error("there is no goroutine yet")]
    NoneYet,
}

/// Lists the goroutines of a process and checks them. If they do not fit, it tries again a few times.
///
/// # Errors
/// Those of [`walk`], and those of [`verify`] at the last attempt, or [`InspectError::NoneYet`].
pub fn walk_verified(
    memory: &ProcessMemory,
    binary: &Binary,
    bias: u64,
    limits: WalkLimits,
) -> Result<Walk, InspectError> {
    for _ in 1..ATTEMPTS {
        let goroutines = walk(memory, binary, bias, limits)?;
        if verify(&goroutines, binary, bias).is_ok() {
            return Ok(goroutines);
        }
    }
    let goroutines = walk(memory, binary, bias, limits)?;
    match verify(&goroutines, binary, bias) {
        Ok(()) => Ok(goroutines),
        Err(_) if goroutines.live.is_empty() => Err(InspectError::NoneYet),
        Err(mismatch) => Err(mismatch.into()),
    }
}

/// Checks the list of goroutines that was read from a process that runs `binary`, loaded `bias` above its link-time
/// addresses.
///
/// # Errors
/// A [`Mismatch`] with the first field that cannot be right.
pub fn verify(goroutines: &Walk, binary: &Binary, bias: u64) -> Result<(), Mismatch> {
    let checks = || -> Result<(), String> {
        let mut goids = HashSet::with_capacity(goroutines.live.len());
        for goroutine in &goroutines.live {
            check(goroutine, binary, bias)?;
            if !goids.insert(goroutine.goid) {
                return Err(format!("goid {} is there twice", goroutine.goid));
            }
        }
        if goroutines.unreadable > 1 + goroutines.listed / MAX_UNREADABLE {
            return Err(format!(
                "{} of {} listed goroutines are not readable or have a status that Go does not know",
                goroutines.unreadable, goroutines.listed
            ));
        }
        if goroutines.cut_short {
            return Ok(());
        }
        let Some(main) = goroutines.live.iter().find(|goroutine| goroutine.goid == 1) else {
            // In a library goroutine 1 ends when all is set up. The other goroutines go on, and they have been checked
            // above.
            if binary.is_library() && goroutines.live.iter().any(|goroutine| goroutine.gopc != 0) {
                return Ok(());
            }
            return Err("there is no goroutine with goid 1".into());
        };
        match binary.function_at(main.startpc.wrapping_sub(bias)) {
            Some(function) if function.name == "runtime.main" => Ok(()),
            Some(function) => Err(format!("startpc of goroutine 1 is {}, not runtime.main", function.name)),
            None => Err(format!("startpc of goroutine 1 is {:#x}, which is not Go code", main.startpc)),
        }
    };
    checks().map_err(|finding| mismatch(binary, finding))
}

/// Checks the two code addresses of one creation event. This serves for a process that has no list of goroutines in
/// memory yet.
///
/// # Errors
/// A [`Mismatch`] that says which of the two cannot be right.
pub fn verify_creation(gopc: u64, startpc: u64, binary: &Binary, bias: u64) -> Result<(), Mismatch> {
    check_code(gopc, startpc, binary, bias)
        .map_err(|finding| mismatch(binary, format!("of a new goroutine, {finding}")))
}

fn mismatch(binary: &Binary, finding: String) -> Mismatch {
    let version = binary.build_info().version_text.clone();
    Mismatch { path: binary.path().display().to_string(), version, finding }
}

fn check(goroutine: &G, binary: &Binary, bias: u64) -> Result<(), String> {
    let G { address, goid, gopc, startpc, stack: StackExtent { low: lo, end: hi }, .. } = *goroutine;
    if goid == 0 || goid > MAX_GOID {
        return Err(format!("goid of the goroutine at {address:#x} is {goid}"));
    }
    if let Some(parent) = goroutine.parent.filter(|&parent| parent > MAX_GOID) {
        return Err(format!("parentGoid of goroutine {goid} is {parent}"));
    }
    if lo == 0 || hi <= lo || hi - lo > MAX_STACK {
        return Err(format!("the stack of goroutine {goid} is from {lo:#x} to {hi:#x}"));
    }
    // The runtime creates goroutines for C threads without a `go` statement.
    if gopc == 0 && startpc == 0 {
        return Ok(());
    }
    check_code(gopc, startpc, binary, bias).map_err(|finding| format!("of goroutine {goid}, {finding}"))
}

fn check_code(gopc: u64, startpc: u64, binary: &Binary, bias: u64) -> Result<(), String> {
    if !binary.is_code(gopc.wrapping_sub(bias)) {
        return Err(format!("gopc is {gopc:#x}, which is not Go code"));
    }
    let entry = startpc.wrapping_sub(bias);
    match binary.function_at(entry) {
        Some(function) if function.entry == entry => Ok(()),
        Some(function) => {
            Err(format!("startpc is {startpc:#x}, in {} but not its first instruction", function.name))
        }
        None => Err(format!("startpc is {startpc:#x}, which is not Go code")),
    }
}
