//! Reads what the runtime has kept of a goroutine's creators: `g.ancestors`, which is there if the environment variable
//! `GODEBUG` has `tracebackancestors=N`. See `saveAncestors` in
//! <https://cs.opensource.google/go/go/+/master:src/runtime/proc.go>.

use super::memory::{MemoryError, ProcessMemory};
use crate::go::{Layout, image};

/// Most creators of one goroutine that are read.
const MOST: u64 = 128;
/// Most calls of one creator that are read. The runtime keeps 100 at most.
const MOST_CALLS: u64 = 128;
/// Size of an `ancestorInfo` in bytes: a slice of addresses (`pcs`), `goid` and `gopc`. No version of Go from 1.18 on has
/// another: <https://cs.opensource.google/go/go/+/master:src/runtime/runtime2.go>.
const SIZE: usize = 40;

/// What the runtime has kept of a creator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ancestor {
    /// Its id.
    pub goid: u64,
    /// Link-time return address of the `go` statement that created it; 0 if there is none.
    pub gopc: u64,
    /// Link-time addresses of the calls that it was in when it created the next one, innermost first. There is one for
    /// each inlined call as well.
    pub pcs: Vec<u64>,
}

/// Reads what is kept of the creators of the goroutine at `g`, the nearest first. Empty if nothing is kept, and if another
/// goroutine is there by now.
///
/// # Errors
/// The memory cannot be read.
pub fn ancestors(
    memory: &ProcessMemory,
    layout: &Layout,
    bias: u64,
    g: u64,
    goid: u64,
) -> Result<Vec<Ancestor>, MemoryError> {
    let field = g.wrapping_add(layout.ancestors.into());
    let list = memory.read_u64(field)?;
    if list == 0 {
        return Ok(Vec::new());
    }
    let mut header = [0; 16];
    memory.read(list, &mut header)?;
    let [array, length] = words(&header);
    let mut entries = vec![0; SIZE * length.min(MOST) as usize];
    memory.read(array, &mut entries)?;
    let code = |address: u64| if address == 0 { 0 } else { address.wrapping_sub(bias) };
    let mut found = Vec::new();
    for entry in entries.as_chunks::<SIZE>().0 {
        let [pcs, calls, _, goid, gopc] = words(entry);
        let mut addresses = vec![0; 8 * calls.min(MOST_CALLS) as usize];
        memory.read(pcs, &mut addresses)?;
        let pcs = addresses.as_chunks::<8>().0.iter().map(|word| code(u64::from_le_bytes(*word)));
        found.push(Ancestor { goid, gopc: code(gopc), pcs: pcs.collect() });
    }
    // The list is never changed once it is there, but it is gone with its goroutine.
    let is_same =
        memory.read_u64(field)? == list && memory.read_u64(g.wrapping_add(layout.goid.into()))? == goid;
    Ok(if is_same { found } else { Vec::new() })
}

fn words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    std::array::from_fn(|at| image::u64_at(bytes, 8 * at).unwrap_or(0))
}
