//! The goroutines of one process. A goroutine takes 32 bytes, and some 5 to 11 bytes in each of two indices. There are
//! two because a record names a goroutine by its id when it is created, or creates another, but by the address of its
//! `runtime.g` when it ends.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::ids::LineageId;

/// One living goroutine, as far as is known.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Goroutine {
    /// Its id, never reused within a process.
    pub goid: u64,
    /// Boot time in ns of its creation, or where [`BIRTH_UNKNOWN`] is set, of the scan that found it.
    pub birth_ns: u64,
    g_low: u32,
    g_high: u16,
    /// The flags that are defined below.
    pub flags: u16,
    /// How many records had been lost before its creation, modulo 2³².
    pub losses: u32,
    /// Its site, and the sites of its creators.
    pub lineage: LineageId,
}

const _: () = assert!(size_of::<Goroutine>() == 32);

/// Flag: a scan found it. So it is at least as old as `birth_ns` says, and its lifetime will not be known.
pub(super) const BIRTH_UNKNOWN: u16 = 1;
/// Flag: it is counted as one that existed at attach, not as created.
pub(super) const AT_ATTACH: u16 = 2;
/// Flag: its creator is counted among the parents of its site.
pub(super) const PARENT_COUNTED: u16 = 4;
/// Flag: it is on the list of the scan that is being applied.
pub(super) const LISTED: u16 = 8;
/// Flag: it is on that list with a creator that its lineage does not have yet.
pub(super) const UNPLACED: u16 = 16;
/// Flag: it is gone, and the next goroutine on its g takes its place.
const GONE: u16 = 1 << 15;

/// Tables with fewer places than this do not shrink.
const SMALL: usize = 1024;

impl Goroutine {
    /// A goroutine with these values. `g` is an address of user space, of which 48 bits are kept.
    #[inline]
    pub fn new(g: u64, goid: u64, birth_ns: u64, losses: u32, lineage: LineageId, flags: u16) -> Goroutine {
        Goroutine { goid, birth_ns, g_low: g as u32, g_high: (g >> 32) as u16, flags, losses, lineage }
    }

    /// Whether it is known to be younger than this, so that what happened on its g then happened to the one before it.
    #[inline]
    pub fn is_born_after(&self, time_ns: u64) -> bool {
        self.flags & BIRTH_UNKNOWN == 0 && self.birth_ns > time_ns
    }

    /// Address of its `runtime.g`.
    #[inline]
    pub fn g(&self) -> u64 {
        u64::from(self.g_low) | u64::from(self.g_high) << 32
    }
}

/// The goroutine that stands in the way of a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conflict {
    /// This goroutine has the same g, but another id.
    SameG(Goroutine),
    /// This goroutine has the same id.
    SameGoid(Goroutine),
}

/// Goroutines by goid and by g. No two living goroutines have the same goid or the same g.
///
/// A g keeps its place for the next goroutine on it, as it keeps its memory in the process: short-lived
/// goroutines share few g's, so their places stay in the cache. The places grow by a sixteenth, and the indices by
/// doubling; the table shrinks when seven eighths of the places are empty. Whatever a process does, there are hardly
/// more than twice as many places as goroutines that ever lived at the same time.
pub(super) struct Table {
    places: Vec<Goroutine>,
    /// The place of each g, also where the goroutine on it is gone.
    by_g: HashTable<u32>,
    /// The place of each living goroutine.
    by_goid: HashTable<u32>,
    seed: u64,
}

impl Table {
    /// An empty table. `seed` makes collisions unpredictable for a hostile target.
    pub fn new(seed: u64) -> Table {
        Table { places: Vec::new(), by_g: HashTable::new(), by_goid: HashTable::new(), seed }
    }

    pub fn len(&self) -> usize {
        self.by_goid.len()
    }

    /// The living goroutine with this id.
    pub fn get(&self, goid: u64) -> Option<&Goroutine> {
        let places = &self.places;
        let at = self.by_goid.find(hash_goid(goid, self.seed), |&at| places[at as usize].goid == goid)?;
        Some(&places[*at as usize])
    }

    pub fn get_mut(&mut self, goid: u64) -> Option<&mut Goroutine> {
        let places = &mut self.places;
        let at = self.by_goid.find(hash_goid(goid, self.seed), |&at| places[at as usize].goid == goid)?;
        Some(&mut places[*at as usize])
    }

    /// The living goroutine whose g is at this address.
    #[cfg(test)]
    pub fn at(&self, g: u64) -> Option<&Goroutine> {
        Some(&self.places[self.place_of(g)? as usize]).filter(|goroutine| goroutine.flags & GONE == 0)
    }

    #[inline]
    fn place_of(&self, g: u64) -> Option<u32> {
        let places = &self.places;
        self.by_g.find(hash_g(g, self.seed), |&at| places[at as usize].g() == g).copied()
    }

    /// Says which goroutine would stand in the way of this one.
    #[cold]
    pub fn check(&self, goroutine: &Goroutine) -> Result<(), Conflict> {
        let of_its_g = self.place_of(goroutine.g()).map(|at| &self.places[at as usize]);
        match of_its_g.filter(|known| known.flags & GONE == 0) {
            Some(known) if known.goid != goroutine.goid => Err(Conflict::SameG(*known)),
            _ => self.get(goroutine.goid).map_or(Ok(()), |known| Err(Conflict::SameGoid(*known))),
        }
    }

    /// Adds a goroutine, or says which one stands in its way.
    #[inline]
    pub fn insert(&mut self, goroutine: Goroutine) -> Result<(), Conflict> {
        if self.places.len() == self.places.capacity() {
            self.make_room();
        }
        let (goid, seed) = (goroutine.goid, self.seed);
        let of_its_g = self.place_of(goroutine.g());
        let places = &self.places;
        let place = |&at: &u32| &places[at as usize];
        if let Some(known) = of_its_g.as_ref().map(place).filter(|known| known.flags & GONE == 0) {
            let same = known.goid == goid;
            return Err(if same { Conflict::SameGoid(*known) } else { Conflict::SameG(*known) });
        }
        let entry = self.by_goid.entry(
            hash_goid(goid, seed),
            |at| place(at).goid == goid,
            |at| hash_goid(place(at).goid, seed),
        );
        let entry = match entry {
            Entry::Vacant(entry) => entry,
            Entry::Occupied(known) => return Err(Conflict::SameGoid(*place(known.get()))),
        };
        match of_its_g {
            Some(at) => {
                entry.insert(at);
                self.places[at as usize] = goroutine;
            }
            None => {
                let at = self.places.len() as u32;
                entry.insert(at);
                self.places.push(goroutine);
                let places = &self.places;
                let hash_of = |&at: &u32| hash_g(places[at as usize].g(), seed);
                self.by_g.insert_unique(hash_of(&at), at, hash_of);
            }
        }
        Ok(())
    }

    /// Makes room for another place. The places grow by a sixteenth only: half-empty memory of a table this large would
    /// cost more than moving it. If more than half of the places belong to goroutines that are gone, those are given up
    /// instead, since Go would have used their g's again.
    #[cold]
    fn make_room(&mut self) {
        if self.len() < self.places.len() / 2 {
            self.shrink();
        } else {
            self.places.reserve_exact((self.places.len() / 16).max(64));
        }
    }

    /// Removes and returns the goroutine whose g is at this address.
    #[inline]
    pub fn remove(&mut self, g: u64) -> Option<Goroutine> {
        self.remove_if(g, |_| true)
    }

    /// The same, if it is meant.
    #[inline]
    pub fn remove_if(&mut self, g: u64, is_meant: impl FnOnce(&Goroutine) -> bool) -> Option<Goroutine> {
        let at = self.place_of(g)?;
        let place = &mut self.places[at as usize];
        let goroutine = *place;
        if goroutine.flags & GONE != 0 || !is_meant(&goroutine) {
            return None;
        }
        place.flags = GONE;
        let hash = hash_goid(goroutine.goid, self.seed);
        if let Ok(entry) = self.by_goid.find_entry(hash, |&other| other == at) {
            entry.remove();
        }
        if self.places.len() > SMALL && self.len() < self.places.len() / 8 {
            self.shrink();
        }
        Some(goroutine)
    }

    /// Removes all goroutines that `keep` refuses.
    pub fn retain(&mut self, mut keep: impl FnMut(&mut Goroutine) -> bool) {
        let living = self.places.iter_mut().filter(|goroutine| goroutine.flags & GONE == 0);
        let refused: Vec<u64> =
            living.filter_map(|goroutine| (!keep(goroutine)).then(|| goroutine.g())).collect();
        for g in refused {
            self.remove(g);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Goroutine> {
        self.places.iter().filter(|goroutine| goroutine.flags & GONE == 0)
    }

    /// Gives up the places of goroutines that are gone.
    #[cold]
    fn shrink(&mut self) {
        let (places, seed) = (&mut self.places, self.seed);
        places.retain(|goroutine| goroutine.flags & GONE == 0);
        // Some room is left, so that the table need not grow at once.
        places.shrink_to(places.len() * 2);
        places.reserve_exact(64);
        self.by_g = HashTable::with_capacity(places.len());
        self.by_goid = HashTable::with_capacity(places.len());
        for (at, goroutine) in (0u32..).zip(places.iter()) {
            let place = |&at: &u32| &places[at as usize];
            self.by_g.insert_unique(hash_g(goroutine.g(), seed), at, |at| hash_g(place(at).g(), seed));
            self.by_goid
                .insert_unique(hash_goid(goroutine.goid, seed), at, |at| hash_goid(place(at).goid, seed));
        }
    }
}

/// The lowest bits of the hash, by which 64 neighbours stay together: goroutines that are young together stay in the
/// cache together, however many old ones there are. Where the 64 lie depends on the seed.
const NEIGHBOURS: u64 = 63;

/// The hash of a goid. Neighbours are goroutines with goids close to each other.
#[inline]
fn hash_goid(goid: u64, seed: u64) -> u64 {
    hash(goid >> NEIGHBOURS.count_ones(), goid, goid, seed)
}

/// The hash of the address of a `runtime.g`. Neighbours are those in the same 32 KiB; a g takes 384 to 512 bytes.
#[inline]
fn hash_g(g: u64, seed: u64) -> u64 {
    hash(g >> 15, g >> 9, g >> 5, !seed)
}

/// Puts together the hash of a group, the place of a neighbour in it, and a tag. A [`HashTable`] finds a place by the
/// low bits of the hash, and tells entries at one place apart by the highest seven.
#[inline]
fn hash(group: u64, neighbour: u64, tag: u64, seed: u64) -> u64 {
    let place = mix(group, seed);
    (place & !NEIGHBOURS | neighbour & NEIGHBOURS) & (u64::MAX >> 7) | (tag ^ place) << 57
}

/// Mixes a value with the seed by folding a 128-bit product. That takes a few cycles, and unlike a plain product it
/// lets no low bits through unmixed.
#[inline]
pub(super) fn mix(value: u64, seed: u64) -> u64 {
    let product = u128::from(value ^ seed) * 0x9e37_79b9_7f4a_7c15;
    (product as u64) ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn goroutine(g: u64, goid: u64) -> Goroutine {
        Goroutine::new(g, goid, goid, 3, LineageId(1), 0)
    }

    #[test]
    fn no_pattern_of_keys_makes_lookups_long() {
        type Hash = fn(u64, u64) -> u64;
        for (hash, unit) in [(hash_goid as Hash, 1), (hash_g as Hash, 480)] {
            for stride in [1u64, 2, 16, 64, 65, 1 << 10, 1 << 20, 1 << 40, 0x9e37_79b9_7f4a_7c15] {
                let mut places = HashMap::<u64, u32>::new();
                for at in 0..50_000u64 {
                    let key = at.wrapping_mul(stride).wrapping_mul(unit);
                    // A table of this many goroutines has groups of 16 places.
                    *places.entry((hash(key, 77) & 0xffff) / 16).or_default() += 1;
                }
                let fullest = places.values().max().copied().unwrap_or(0);
                assert!(
                    fullest < 150 && places.len() > 700,
                    "unit {unit}, stride {stride:#x}: {fullest} in one of {}",
                    places.len()
                );
            }
        }
    }

    #[test]
    fn a_table_that_empties_shrinks() {
        let mut table = Table::new(7);
        let g = |goid: u64| 0xc000_0000_0000 + 480 * goid;
        for goid in 0..100_000 {
            assert_eq!(table.insert(goroutine(g(goid), goid)), Ok(()));
        }
        let size = |table: &Table| {
            32 * table.places.capacity() + table.by_g.allocation_size() + table.by_goid.allocation_size()
        };
        let full = size(&table);
        for goid in 0..99_000 {
            assert_eq!(table.remove(g(goid)).map(|goroutine| goroutine.birth_ns), Some(goid));
        }
        assert!(size(&table) < full / 8);
        assert_eq!((table.len(), table.remove(g(5)), table.iter().count()), (1_000, None, 1_000));
        assert!(table.get(99_999).is_some() && table.at(g(99_999)).is_some());
    }

    #[test]
    fn a_process_that_never_uses_a_g_again_fills_no_memory() {
        let mut table = Table::new(7);
        for goid in 0..1_000_000u64 {
            assert_eq!(table.insert(goroutine(480 * goid, goid)), Ok(()));
            if goid >= 10_000 {
                assert!(table.remove(480 * (goid - 10_000)).is_some());
            }
            assert!(table.places.capacity() < 25_000);
        }
        assert!(table.by_g.capacity() < 50_000 && table.by_goid.capacity() < 50_000);
    }

    #[test]
    fn an_address_survives() {
        for g in [0, 0xffff_ffff_ffff, 0xc000_1234_5678] {
            assert_eq!(goroutine(g, 1).g(), g);
        }
    }

    proptest! {
        #[test]
        fn it_is_two_maps_in_one(steps in proptest::collection::vec((0u8..8, 0u64..40, 0u64..40), 0..400)) {
            let mut table = Table::new(5);
            let mut model = HashMap::<u64, u64>::new();
            for (step, g, goid) in steps {
                let holder = model.iter().find(|(_, known)| **known == goid).map(|(g, _)| *g);
                match step {
                    0..4 => {
                        let checked = table.check(&goroutine(g, goid));
                        let outcome = table.insert(goroutine(g, goid));
                        prop_assert_eq!(checked, outcome);
                        match (model.get(&g), holder) {
                            (Some(&known), _) if known == goid => prop_assert_eq!(outcome, Err(Conflict::SameGoid(goroutine(g, goid)))),
                            (Some(&known), _) => prop_assert_eq!(outcome, Err(Conflict::SameG(goroutine(g, known)))),
                            (None, Some(other)) => prop_assert_eq!(outcome, Err(Conflict::SameGoid(goroutine(other, goid)))),
                            (None, None) => {
                                prop_assert_eq!(outcome, Ok(()));
                                model.insert(g, goid);
                            }
                        }
                    }
                    4..7 => prop_assert_eq!(table.remove(g).map(|known| known.goid), model.remove(&g)),
                    _ => {
                        table.retain(|known| known.goid % 7 != goid % 7);
                        model.retain(|_, known| *known % 7 != goid % 7);
                    }
                }
                prop_assert_eq!(table.len(), model.len());
                prop_assert_eq!(table.iter().count(), model.len());
                for (&g, &goid) in &model {
                    prop_assert_eq!(table.at(g).map(|known| known.goid), Some(goid));
                    prop_assert_eq!(table.get(goid).map(|known| known.g()), Some(g));
                }
            }
        }
    }
}
