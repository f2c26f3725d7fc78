//! Profiler labels: what `pprof.Do` and `pprof.SetGoroutineLabels` gave to goroutines. The runtime keeps a pointer in each
//! `g`; what is behind it is `labelMap` in
//! <https://cs.opensource.google/go/go/+/master:src/runtime/pprof/label.go>, and never changes once it is there.

use std::collections::BTreeMap;

use serde::Serialize;

use super::limits::WalkError;
use super::memory::{MemoryError, Place, ProcessMemory, Reader};
use super::remembered::Remembered;
use crate::go::versions::{self, LabelForm};
use crate::go::{Binary, Layout, image};

/// Sets that are read. Programs that label each request have one for each.
const MOST_SETS: usize = 1 << 16;
/// Labels of one set that are read.
const MOST_OF_ONE: u64 = 64;
/// Bytes of a key or a value that are read.
const LONGEST: u64 = 1024;
/// Labels of all sets together.
const MOST_LABELS: usize = 1 << 18;
/// Bytes of all keys and values together.
const MOST_BYTES: u64 = 32 << 20;

/// A label of a goroutine. What is longer than a kilobyte is cut.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Label {
    /// What the label says something about.
    pub key: String,
    /// What it says.
    pub value: String,
}

/// A set of labels.
pub(super) type Labels = Vec<Label>;

/// Which set a goroutine has, counted from 1; 0 where it has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LabelsId(pub(super) u32);

/// The sets of a process, by where they are.
#[derive(Default)]
pub(super) struct LabelSets {
    ids: Remembered<u64, LabelsId>,
    sets: Vec<Set>,
}

/// Where a set is, and the `runtime.g` of the first and of the last goroutine that had it.
struct Set {
    address: u64,
    owners: [u64; 2],
}

/// Where the bytes of a string are, and how many.
type Str = (u64, u64);

impl LabelSets {
    /// The set of a goroutine whose `g.labels` has this value.
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

    /// Reads the sets. One that nobody has any more when it was read is left empty: the memory may be another's by now.
    pub(super) fn read(&self, memory: &ProcessMemory, binary: &Binary) -> Result<Vec<Labels>, WalkError> {
        let mut reader = Reader::new(*memory);
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
        // As a slice keeps them; a map has no order.
        labels.iter_mut().for_each(|labels| labels.sort());
        let still = self.still_owned(&mut reader, binary.layout())?;
        labels.iter_mut().zip(still).filter(|(_, still)| !still).for_each(|(labels, _)| labels.clear());
        Ok(labels)
    }

    /// Whether a goroutine has the set yet, so that the garbage collector has let it be.
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

/// Sets that are slices of pairs of strings ([`LabelForm::Slice`]).
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

/// Sets that are a `map[string]string` ([`LabelForm::Map`]), as `runtime.hmap` with buckets of eight:
/// <https://cs.opensource.google/go/go/+/refs/tags/go1.23.0:src/runtime/map.go>.
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

/// Log2 of the most buckets that a map of [`MOST_OF_ONE`] needs.
const MOST_BUCKETS_LOG2: u8 = 4;
/// Entries of a bucket.
const SLOTS: usize = 8;
/// Eight bytes of hashes, keys, values, and the bucket that goes on.
const BUCKET: usize = SLOTS + SLOTS * 16 + SLOTS * 16 + 8;
/// A slot with a smaller hash has no entry.
const FIRST_HASH: u8 = 5;
/// `hmap.flags`: it grows into as many buckets as it has.
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
    // A map that has been filled while it grew has some entries in its old buckets. None twice; keys in order.
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
