//! Does a layout fit a process? A wrong offset gives numbers that look like goroutines, so nothing that was read
//! with a layout is shown before it has passed here.

use std::collections::HashSet;

use super::limits::{WalkError, WalkLimits};
use super::memory::ProcessMemory;
use super::walk::{G, Walk, walk};
use crate::go::Binary;

/// Goroutine ids above this would take centuries to give out: Go counts up by one, in blocks of 16 for each processor.
const MAX_GOID: u64 = 1 << 48;
/// `runtime.maxstacksize` of 64-bit programs is 1 GB; debug.SetMaxStack can raise it, and nobody does further.
const MAX_STACK: u64 = 1 << 36;
/// Of all that are listed, at most one in this many may be unreadable: the process runs on while it is read.
const MAX_UNREADABLE: u64 = 100;

/// A layout that does not fit, with the first thing that shows it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the goroutines of {path} ({version}) are not where golife expects them: {finding}; \
     please report this with the program's Go version and how it was built"
)]
pub struct Mismatch {
    /// The executable.
    pub path: String,
    /// Its Go version as written.
    pub version: String,
    /// Which field, of which goroutine, and what was found.
    pub finding: String,
}

/// How often a process is read before a disagreement counts: it runs on, so a goroutine can be replaced by another
/// while it is read.
const ATTEMPTS: usize = 3;

/// Why there is no list of goroutines that can be trusted.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It could not be read.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// It was read, and cannot be right.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
}

/// Lists the goroutines of a process and checks them, again where they do not fit.
///
/// # Errors
/// As [`walk`] and [`verify`].
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
    verify(&goroutines, binary, bias)?;
    Ok(goroutines)
}

/// Checks everything that was read of a process.
///
/// # Errors
/// The first field that cannot be right.
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
            // That of a library ends when all is set up, and others, which were checked, go on.
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

/// Checks the pair of code addresses of one creation event, for a process that has no goroutines in memory yet.
///
/// # Errors
/// Which of the two cannot be right.
pub fn verify_creation(gopc: u64, startpc: u64, binary: &Binary, bias: u64) -> Result<(), Mismatch> {
    check_code(gopc, startpc, binary, bias)
        .map_err(|finding| mismatch(binary, format!("of a new goroutine, {finding}")))
}

fn mismatch(binary: &Binary, finding: String) -> Mismatch {
    let version = binary.build_info().version_text.clone();
    Mismatch { path: binary.path().display().to_string(), version, finding }
}

fn check(goroutine: &G, binary: &Binary, bias: u64) -> Result<(), String> {
    let G { address, goid, gopc, startpc, stack: (lo, hi), .. } = *goroutine;
    if goid == 0 || goid > MAX_GOID {
        return Err(format!("goid of the goroutine at {address:#x} is {goid}"));
    }
    if goroutine.parent.is_some_and(|parent| parent > MAX_GOID) {
        return Err(format!("parentGoid of goroutine {goid} is {:?}", goroutine.parent));
    }
    if lo == 0 || hi <= lo || hi - lo > MAX_STACK {
        return Err(format!("the stack of goroutine {goid} is from {lo:#x} to {hi:#x}"));
    }
    // The runtime makes goroutines for threads of C without a go statement.
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
