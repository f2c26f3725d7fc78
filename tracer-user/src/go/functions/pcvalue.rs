//! The coding of tables that give each instruction of a function a number: its file, its line, its place in the
//! inline tree. Go's own decoder: `step` in
//! <https://cs.opensource.google/go/go/+/master:src/runtime/symtab.go>.

use std::ops::Range;

/// Reads a number of variable length and takes it off the bytes. None where the bytes end or the number has more than 32
/// bits.
pub(crate) fn varint(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0u32;
    for index in 0..5 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u32::from(byte & 0x7f).checked_shl(7 * index)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The runs of one table: which value holds for which instructions, as offsets from the function's entry in bytes.
#[derive(Clone, Debug)]
pub(crate) struct PcValues<'data> {
    bytes: &'data [u8],
    quantum: u32,
    value: i32,
    pc: u32,
    end: u32,
}

impl<'data> PcValues<'data> {
    /// The table that begins with `bytes`, of a function of `size` bytes on a CPU whose instructions are multiples
    /// of `quantum` bytes. Runs end at `size` whatever the table says, so there are at most `size` of them.
    pub(crate) fn new(bytes: &'data [u8], quantum: u8, size: u32) -> PcValues<'data> {
        PcValues { bytes, quantum: u32::from(quantum), value: -1, pc: 0, end: size }
    }

    /// The value for the instruction at an offset from the function's entry. None where the table ends before it.
    pub(crate) fn at(self, offset: u32) -> Option<i32> {
        self.into_iter().find(|(run, _)| run.contains(&offset)).map(|(_, value)| value)
    }
}

impl Iterator for PcValues<'_> {
    type Item = (Range<u32>, i32);

    fn next(&mut self) -> Option<Self::Item> {
        if self.pc >= self.end {
            return None;
        }
        let delta = varint(&mut self.bytes)?;
        if delta == 0 && self.pc != 0 {
            return None;
        }
        let run = varint(&mut self.bytes)?.checked_mul(self.quantum).filter(|run| *run > 0)?;
        let zigzag = if delta & 1 != 0 { !(delta >> 1) } else { delta >> 1 };
        self.value = self.value.wrapping_add(zigzag as i32);
        let start = self.pc;
        self.pc = start.saturating_add(run).min(self.end);
        Some((start..self.pc, self.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put_varint(out: &mut Vec<u8>, mut value: u32) {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }

    proptest! {
        #[test]
        fn a_varint_is_read_back(value: u32, rest: Vec<u8>) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            bytes.extend(&rest);
            let mut left = bytes.as_slice();
            prop_assert_eq!(varint(&mut left), Some(value));
            prop_assert_eq!(left, rest.as_slice());
        }

        #[test]
        fn runs_are_read_back(first in 0i32..1000, runs in prop::collection::vec((1i32..1000, any::<bool>(), 1u32..500), 1..50)) {
            let mut bytes = Vec::new();
            let (mut value, mut pc) = (-1, 0);
            let mut expected = Vec::new();
            for (index, (delta, down, run)) in runs.into_iter().enumerate() {
                let delta = if index == 0 { first } else if down { -delta } else { delta };
                value += delta;
                put_varint(&mut bytes, ((delta << 1) ^ (delta >> 31)) as u32);
                put_varint(&mut bytes, run);
                expected.push((pc..pc + run * 4, value));
                pc += run * 4;
            }
            bytes.push(0);
            bytes.extend([7, 7, 7, 7]);
            let table = PcValues::new(&bytes, 4, pc + 100);
            prop_assert_eq!(table.clone().collect::<Vec<_>>(), expected.clone());
            for (run, value) in expected {
                prop_assert_eq!(table.clone().at(run.start), Some(value));
                prop_assert_eq!(table.clone().at(run.end - 1), Some(value));
            }
            prop_assert_eq!(table.at(pc), None);
        }

        #[test]
        fn any_bytes_end_and_never_panic(bytes: Vec<u8>, quantum in 1u8..=4, size: u32, offset: u32) {
            let table = PcValues::new(&bytes, quantum, size);
            prop_assert!(table.clone().count() <= bytes.len());
            let mut before = 0;
            for (run, _) in table.clone() {
                prop_assert!(run.start == before && run.start < run.end && run.end <= size);
                before = run.end;
            }
            let _ = table.at(offset);
        }
    }
}
