//! Reads the profiler labels that `pprof.Do` and `pprof.SetGoroutineLabels` gave to goroutines. The runtime keeps a
//! pointer to them in each `g`. It points to a `labelMap` of
//! <https://cs.opensource.google/go/go/+/master:src/runtime/pprof/label.go>, which is never changed once it is there.

use std::collections::BTreeMap;

use serde::Serialize;

use super::limits::WalkError;
use super::memory::{MemoryError, Place, ProcessMemory, Reader};
use super::remembered::Remembered;
use crate::go::versions::{self, LabelForm};
use crate::go::{Binary, Layout, image};

/// Most sets of labels that are read. A program that labels each request has a set for each.
const MOST_SETS: usize = 1 << 16;
/// Most labels of one set that are read.
const MOST_OF_ONE: u64 = 64;
/// Most bytes of a key or a value that are read.
const LONGEST: u64 = 1024;
/// Most labels of all sets together.
const MOST_LABELS: usize = 1 << 18;
/// Most bytes of all keys and values together.
const MOST_BYTES: u64 = 32 << 20;

/// A label of a goroutine. Keys and values longer than 1024 bytes are cut.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Label {
    /// The name of the label.
    pub key: String,
    /// The value that the label has.
    pub value: String,
}

/// A set of labels, ordered by key.
pub(super) type Labels = Vec<Label>;

/// The number of the set that a goroutine has, counted from 1; 0 if it has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LabelsId(pub(super) u32);

/// The sets of labels of a process, each known by its address.
#[derive(Default)]
pub(super) struct LabelSets {
    ids: Remembered<u64, LabelsId>,
    sets: Vec<Set>,
}

/// The address of a set, and the addresses of the `runtime.g` of the first and the last goroutine that was found to
/// have it.
struct Set {
    address: u64,
    owners: [u64; 2],
}

/// The address of a string's bytes, and how many there are.
type Str = (u64, u64);

impl LabelSets {
    /// Returns the set of the goroutine at `g`, whose `g.labels` is `address`.
    #[inline]
    pub(super) fn of(&mut self, address: u64, g: u64) -> LabelsId {
        if address == 0 {
            return LabelsId(0);
        }
        let sets = &mut self.sets;
        let id = self.ids.get(address, || {
            if sets.len() == MOST_SETS {
                return LabelsId(0);
            }
            sets.push(Set { address, owners: [g; 2] });
            LabelsId(sets.len() as u32)
        });
        if let Some(set) = id.0.checked_sub(1).and_then(|at| self.sets.get_mut(at as usize)) {
            set.owners[1] = g;
        }
        id
    }

    /// Reads all sets. A set that no goroutine has any more after it was read is left empty, since its memory may hold
    /// something else by now.
    pub(super) fn read(&self, memory: &ProcessMemory, binary: &Binary) -> Result<Vec<Labels>, WalkError> {
        let mut reader = Reader::new(memory.clone());
        let found = match versions::label_form(binary.version()) {
            LabelForm::Map => maps(memory, &self.sets)?,
            LabelForm::Slice => slices(&mut reader, &self.sets)?,
        };
        let mut places = Vec::new();
        let mut bytes = 0;
        for &(_, [key, value]) in &found {
            for (address, length) in [key, value] {
                let size = length.min(LONGEST).min(MOST_BYTES - bytes);
                bytes += size;
                places.push(Place { address, size: size as usize });
            }
        }
        let mut texts = vec![String::new(); places.len()];
        reader.read_many(&places, |index, bytes| {
            texts[index] = String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        })?;
        let mut labels = vec![Labels::new(); self.sets.len()];
        let texts = texts.as_chunks_mut::<2>().0.iter_mut().map(|pair| pair.each_mut().map(std::mem::take));
        for (&(set, _), [key, value]) in found.iter().zip(texts) {
            labels[set].push(Label { key, value });
        }
        // A slice keeps its labels in this order, but a map has no order.
        labels.iter_mut().for_each(|labels| labels.sort());
        let still = self.still_owned(&mut reader, binary.layout())?;
        labels.iter_mut().zip(still).filter(|(_, still)| !still).for_each(|(labels, _)| labels.clear());
        Ok(labels)
    }

    /// For each set, whether one of its two known goroutines still has it. If so, the garbage collector cannot have
    /// freed it.
    fn still_owned(&self, reader: &mut Reader, layout: &Layout) -> Result<Vec<bool>, MemoryError> {
        let pointer = |g: u64| Place { address: g.wrapping_add(layout.labels.into()), size: 8 };
        let places: Vec<Place> = self.sets.iter().flat_map(|set| set.owners.map(pointer)).collect();
        let mut still = vec![false; self.sets.len()];
        reader.read_many(&places, |index, bytes| {
            still[index / 2] |=
                bytes.and_then(|bytes| image::u64_at(bytes, 0)) == Some(self.sets[index / 2].address);
        })?;
        Ok(still)
    }
}

/// Reads sets that are slices of pairs of strings ([`LabelForm::Slice`]). Each result is the index of a set, and where
/// a key and its value are.
fn slices(reader: &mut Reader, sets: &[Set]) -> Result<Vec<(usize, [Str; 2])>, MemoryError> {
    let mut lists = Vec::new();
    let headers: Vec<Place> = sets.iter().map(|set| Place { address: set.address, size: 16 }).collect();
    reader.read_many(&headers, |set, bytes| {
        if let Some(&[address, length]) = bytes.map(words).as_deref() {
            lists.push((set, Place { address, size: 32 * length.min(MOST_OF_ONE) as usize }));
        }
    })?;
    let places: Vec<Place> = lists.iter().map(|(_, place)| *place).collect();
    let mut found = Vec::new();
    reader.read_many(&places, |index, bytes| {
        for &[key, key_length, value, value_length] in words(bytes.unwrap_or_default()).as_chunks::<4>().0 {
            if found.len() < MOST_LABELS {
                found.push((lists[index].0, [(key, key_length), (value, value_length)]));
            }
        }
    })?;
    Ok(found)
}

/// Reads sets that are a `map[string]string` ([`LabelForm::Map`]), which is a `runtime.hmap` with buckets of eight
/// entries: <https://cs.opensource.google/go/go/+/refs/tags/go1.23.0:src/runtime/map.go>. The results have the same
/// form as those of [`slices`].
fn maps(memory: &ProcessMemory, sets: &[Set]) -> Result<Vec<(usize, [Str; 2])>, MemoryError> {
    let mut found = Vec::new();
    for (at, set) in sets.iter().enumerate() {
        let entries = match entries(memory, set.address) {
            Err(MemoryError::Unmapped { .. }) => continue,
            entries => entries?,
        };
        let room = MOST_LABELS - found.len();
        found.extend(entries.into_iter().take(room).map(|entry| (at, entry)));
    }
    Ok(found)
}

/// Base-2 logarithm of the most buckets that a map with [`MOST_OF_ONE`] entries needs.
const MOST_BUCKETS_LOG2: u8 = 4;
/// Number of entries in a bucket (`abi.MapBucketCount`).
const SLOTS: usize = 8;
/// Size of a bucket in bytes: a byte of the hash of each entry, the keys, the values, and a pointer to the overflow
/// bucket.
const BUCKET: usize = SLOTS + SLOTS * 16 + SLOTS * 16 + 8;
/// A slot whose byte of the hash is smaller than this has no entry (`minTopHash`).
const FIRST_HASH: u8 = 5;
/// The bit of `hmap.flags` that says that the map grows into as many buckets as it has (`sameSizeGrow`).
const SAME_SIZE: u8 = 8;

fn entries(memory: &ProcessMemory, pointer: u64) -> Result<Vec<[Str; 2]>, MemoryError> {
    let mut map = [0; 32];
    memory.read(memory.read_u64(pointer)?, &mut map)?;
    let (flags, log2) = (map[8], map[9]);
    let [_, _, buckets, old] = words(&map)[..] else { return Ok(Vec::new()) };
    if log2 > MOST_BUCKETS_LOG2 {
        return Ok(Vec::new());
    }
    let old_log2 = if flags & SAME_SIZE != 0 { log2 } else { log2.saturating_sub(1) };
    let mut open = Vec::new();
    for (array, log2) in [(buckets, log2), (old, old_log2)] {
        let array = (0..1u64 << log2).map(|at| array.wrapping_add(at * BUCKET as u64)).filter(|_| array != 0);
        open.extend(array);
    }
    // A map that is growing still has some of its entries in its old buckets. The tree keeps each key once, and in
    // order.
    let mut entries = BTreeMap::new();
    let mut seen = 0;
    while let Some(address) = open.pop() {
        seen += 1;
        if seen > 4 * (1 << MOST_BUCKETS_LOG2) {
            break;
        }
        let mut bucket = [0; BUCKET];
        memory.read(address, &mut bucket)?;
        let (hashes, rest) = bucket.split_at(SLOTS);
        let rest = words(rest);
        let (keys, rest) = rest.split_at(2 * SLOTS);
        let (values, next) = rest.split_at(2 * SLOTS);
        let slots = hashes.iter().zip(keys.as_chunks::<2>().0.iter().zip(values.as_chunks::<2>().0));
        for (_, (key, value)) in slots.filter(|(hash, _)| **hash >= FIRST_HASH) {
            entries.insert((key[0], key[1]), (value[0], value[1]));
        }
        open.extend(next.iter().filter(|next| **next != 0));
    }
    Ok(entries.into_iter().take(MOST_OF_ONE as usize).map(|(key, value)| [key, value]).collect())
}

fn words(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect()
}
