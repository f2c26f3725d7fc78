//! The goroutines of one process: 24 bytes each and a byte of hash table, nothing else.

use hashbrown::HashTable;
use hashbrown::hash_table::{Entry, VacantEntry};

use super::lineage::LineageId;

/// One goroutine that lives, as far as known.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Goroutine {
    /// Never reused within a process.
    pub goid: u64,
    /// Boot time of its creation in ns; of the scan that found it where [`BIRTH_UNKNOWN`] is set.
    pub birth_ns: u64,
    /// Its site, and its creators' before it.
    pub lineage: LineageId,
    /// The constants of this module.
    pub flags: u32,
}

const _: () = assert!(size_of::<Goroutine>() == 24);

/// Found by a scan: its age is at least what `birth_ns` says, its lifetime will not be known.
pub(super) const BIRTH_UNKNOWN: u32 = 1;
/// Counted as one that existed at attach, not as created.
pub(super) const AT_ATTACH: u32 = 2;
/// Its parent is counted already.
pub(super) const PARENT_COUNTED: u32 = 4;
/// On the list of the scan that is being applied.
pub(super) const LISTED: u32 = 8;
/// On that list with a creator whose lineage it has not got yet.
pub(super) const UNPLACED: u32 = 16;

/// Tables with fewer places than this do not shrink.
const SMALL: usize = 1024;

/// Goroutines by goid. Grows by doubling, shrinks to half when seven eighths of it are empty.
pub(super) struct Table {
    goroutines: HashTable<Goroutine>,
    seed: u64,
}

impl Table {
    /// `seed` makes collisions unpredictable for a hostile target.
    pub fn new(seed: u64) -> Table {
        Table { goroutines: HashTable::new(), seed }
    }

    pub fn len(&self) -> usize {
        self.goroutines.len()
    }

    pub fn get(&self, goid: u64) -> Option<&Goroutine> {
        self.goroutines.find(hash(goid, self.seed), |goroutine| goroutine.goid == goid)
    }

    /// The goroutine with this id, or the place for it.
    #[inline]
    pub fn entry(&mut self, goid: u64) -> Result<&mut Goroutine, Place<'_>> {
        let seed = self.seed;
        let same = |goroutine: &Goroutine| goroutine.goid == goid;
        match self.goroutines.entry(hash(goid, seed), same, |goroutine| hash(goroutine.goid, seed)) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(place) => Err(Place(place)),
        }
    }

    #[inline]
    pub fn remove(&mut self, goid: u64) -> Option<Goroutine> {
        let found = self.goroutines.find_entry(hash(goid, self.seed), |goroutine| goroutine.goid == goid);
        let (goroutine, _) = found.ok()?.remove();
        self.shrink();
        Some(goroutine)
    }

    /// Removes all that `keep` refuses.
    pub fn retain(&mut self, keep: impl FnMut(&mut Goroutine) -> bool) {
        self.goroutines.retain(keep);
        self.shrink();
    }

    pub fn iter(&self) -> impl Iterator<Item = &Goroutine> {
        self.goroutines.iter()
    }

    #[inline]
    fn shrink(&mut self) {
        let capacity = self.goroutines.capacity();
        if capacity > SMALL && self.goroutines.len() < capacity / 8 {
            let seed = self.seed;
            self.goroutines.shrink_to(capacity / 4, |goroutine| hash(goroutine.goid, seed));
        }
    }
}

/// Where a new goroutine goes.
pub(super) struct Place<'table>(VacantEntry<'table, Goroutine>);

impl Place<'_> {
    pub fn insert(self, goroutine: Goroutine) {
        self.0.insert(goroutine);
    }
}

/// Neighbours in goid are neighbours in the table, 64 at a time: goroutines that are young together stay in the cache
/// together, however many old ones there are. Where the 64 lie is mixed with the seed.
#[inline]
fn hash(goid: u64, seed: u64) -> u64 {
    const NEIGHBOURS: u64 = 63;
    let place = mix(goid >> NEIGHBOURS.count_ones(), seed);
    // The table takes the place from the low bits, and tells neighbours apart by the highest seven.
    (place & !NEIGHBOURS | goid & NEIGHBOURS) & (u64::MAX >> 7) | (goid ^ place) << 57
}

/// Folds a 128-bit product: a few cycles, and unlike a plain product it lets no low bits through unmixed.
#[inline]
pub(super) fn mix(value: u64, seed: u64) -> u64 {
    let product = u128::from(value ^ seed) * 0x9e37_79b9_7f4a_7c15;
    (product as u64) ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pattern_of_goids_makes_lookups_long() {
        for stride in [1u64, 2, 16, 64, 65, 1 << 10, 1 << 20, 1 << 40, 0x9e37_79b9_7f4a_7c15] {
            let mut places = std::collections::HashMap::<u64, u32>::new();
            for at in 0..50_000u64 {
                // The groups of 16 of a table of this many goroutines.
                *places.entry((hash(at.wrapping_mul(stride), 77) & 0xffff) / 16).or_default() += 1;
            }
            let fullest = places.values().max().copied().unwrap_or(0);
            assert!(
                fullest < 150 && places.len() > 700,
                "stride {stride:#x}: {fullest} in one of {}",
                places.len()
            );
        }
    }

    #[test]
    fn a_table_that_empties_shrinks() {
        let mut table = Table::new(7);
        for goid in 0..100_000 {
            if let Err(place) = table.entry(goid) {
                place.insert(Goroutine { goid, birth_ns: goid, lineage: LineageId(1), flags: 0 });
            }
        }
        let full = table.goroutines.allocation_size();
        for goid in 0..99_000 {
            assert_eq!(table.remove(goid).map(|goroutine| goroutine.birth_ns), Some(goid));
        }
        assert!(table.goroutines.allocation_size() < full / 8);
        assert_eq!((table.len(), table.remove(5)), (1_000, None));
        assert!(table.get(99_999).is_some());
    }
}
