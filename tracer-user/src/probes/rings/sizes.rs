//! How large rings are.

use tracer_ebpf::UNIT_WORDS;

/// Memory for the rings that CPUs begin with, unless the user says otherwise.
const FIRST_BYTES: u64 = 16 << 20;
/// The least that a CPU begins with, unless the user says otherwise: the records of 2,700 goroutines.
const LEAST_UNITS: u64 = 1 << 13;
/// The largest ring that CPUs grow to, unless they begin with a larger one: 12 MiB, the records of 175,000 goroutines.
const LARGEST_UNITS: u64 = 1 << 19;
/// Bytes of a unit.
const UNIT: u64 = (UNIT_WORDS * 8) as u64;

/// How large rings are, and how many may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Units in the ring that a CPU begins with, a power of two.
    pub first: u64,
    /// Units in the ring that it grows to, a power of two.
    pub grown: u64,
    /// So many CPUs may grow.
    pub may_grow: u64,
}

impl Sizes {
    /// The sizes for a machine that can have so many CPUs. `bytes` is what the user wants to spend on the rings that they begin
    /// with, or 16 MiB unless said. Rings that grow take at most four times that.
    pub fn of(cpus: u32, bytes: Option<u32>) -> Sizes {
        let cpus = u64::from(cpus.max(1));
        let total = bytes.map_or(FIRST_BYTES.max(cpus * LEAST_UNITS * UNIT), u64::from);
        let first = power_of_two(total / cpus / UNIT);
        Sizes::from_first(first, total)
    }

    /// The same with rings of half the size, for kernels that do not give that much in one piece.
    pub fn halved(self) -> Sizes {
        let first = power_of_two(self.first / 2);
        Sizes { first, grown: self.grown / 2, may_grow: self.may_grow * 2 }
    }

    fn from_first(first: u64, total: u64) -> Sizes {
        let grown = (8 * first).min(LARGEST_UNITS).max(2 * first);
        Sizes { first, grown, may_grow: 4 * total / (grown * UNIT) }
    }

    /// Bytes of a ring of so many units.
    pub fn bytes(units: u64) -> u32 {
        u32::try_from(units * UNIT).unwrap_or(u32::MAX)
    }
}

/// The largest power of two that is not larger, but at least 64: a quarter of a ring must have room for a record, and the reader
/// is woken then.
fn power_of_two(units: u64) -> u64 {
    1 << units.max(64).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_from_1_to_256_cpus() {
        for cpus in 1..=256 {
            let Sizes { first, grown, may_grow } = Sizes::of(cpus, None);
            let at_first = u64::from(cpus) * first * UNIT;
            let at_most = at_first + may_grow * grown * UNIT;
            assert!(first >= LEAST_UNITS / 2 && grown >= 2 * first && may_grow >= 1, "{cpus}");
            assert!(at_first <= (16 << 20).max(u64::from(cpus) * (192 << 10)), "{cpus}: {at_first}");
            assert!(at_most <= 5 * (16 << 20).max(u64::from(cpus) * (192 << 10)), "{cpus}: {at_most}");
        }
        assert_eq!(Sizes::of(1, None), Sizes { first: 1 << 19, grown: 1 << 20, may_grow: 2 });
        assert_eq!(Sizes::of(2, None), Sizes { first: 1 << 18, grown: 1 << 19, may_grow: 5 });
        assert_eq!(Sizes::of(256, None), Sizes { first: 1 << 13, grown: 1 << 16, may_grow: 128 });
    }

    #[test]
    fn what_the_user_wants_is_the_limit() {
        for bytes in [0, 1, 4096, 16_384, 1 << 20, 1 << 30] {
            for cpus in [1, 2, 64, 256] {
                let Sizes { first, .. } = Sizes::of(cpus, Some(bytes));
                assert!(first == 64 || u64::from(cpus) * first * UNIT <= u64::from(bytes));
            }
        }
    }
}
