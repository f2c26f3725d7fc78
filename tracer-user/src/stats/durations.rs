//! How long goroutines lived: one distribution per creation site, small enough for ten thousand sites.
//!
//! Each is an HdrHistogram with a resolution of 64 ns and at most 1 % error above 10 µs, up to 30 days. It starts with
//! the range of its first value and grows by reallocation to exactly the buckets it needs. Its counters are 16 bits
//! wide, so the whole range costs 10 KB (102 MB for 10,000 sites). Before a counter can overflow, the counts of full
//! bins move to a short list beside the histogram. That list gains at most one entry for each 32,768 recorded values,
//! so it stays small for as long as anyone can trace.
//!
//! Values are nanoseconds throughout. They are in the saved form, too, so that other HdrHistogram tools read it as it
//! is.

use std::io::Read;

use base64::{Engine, engine::general_purpose::STANDARD};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

/// The finest difference that HdrHistogram is asked to tell, in ns. It rounds this down to a power of two, 64 ns.
const LOWEST_NS: u64 = 100;
/// The longest duration that the distribution tells apart: 30 days in ns. Longer ones count as this long, but their
/// exact maximum is kept.
pub const HIGHEST_NS: u64 = 30 * 24 * 3600 * 1_000_000_000;
/// Significant decimal digits. Two of them give 128 bins for each power of two, so a bin spans at most 0.8 % of its
/// value.
const DIGITS: u8 = 2;
/// A count of at least this size is moved out of its bin to the list.
const FULL: u16 = 1 << 15;

/// A distribution of durations in nanoseconds: lifetimes, or the ages of the living.
#[derive(Clone, Debug, Default)]
pub struct Durations {
    bins: Option<Histogram<u16>>,
    /// How many more values can be recorded before a counter might overflow.
    headroom: u16,
    /// Counts that were moved out of full bins, as (a value within the bin, count), ordered by value.
    moved: Vec<(u64, u64)>,
    count: u64,
    sum_ns: u128,
    min_ns: u64,
    max_ns: u64,
}

/// Why a saved distribution cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HdrError {
    /// The text is not base64.
    #[error("not base64: {0}")]
    Base64(#[from] base64::DecodeError),
    /// The bytes are not zlib data, or they are cut off.
    #[error("cannot inflate: {0}")]
    Inflate(#[from] std::io::Error),
    /// The data is no HdrHistogram, or none that golife reads.
    #[error("not a HdrHistogram in V2 format: {0}")]
    Format(String),
}

impl Durations {
    /// Adds one duration.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.note(ns, 1);
        let binned = ns.min(HIGHEST_NS);
        if self.headroom == 0 {
            self.settle();
        }
        self.headroom -= 1;
        if self.bins.as_mut().is_none_or(|bins| bins.record(binned).is_err()) {
            self.grow(binned);
            // This cannot fail, since the range was just grown to hold the value.
            self.bins.as_mut().map(|bins| bins.record(binned));
        }
    }

    /// Adds `n` durations of the same length.
    pub fn record_n(&mut self, ns: u64, n: u64) {
        if n == 0 {
            return;
        }
        self.note(ns, n);
        self.grow_to(ns.min(HIGHEST_NS));
        self.push_moved(ns.min(HIGHEST_NS), n);
    }

    /// Adds all durations of another distribution.
    pub fn merge(&mut self, other: &Durations) {
        for (ns, n) in other.bins() {
            self.record_n(ns, n);
        }
        if other.count > 0 {
            // Bins know a duration only to 1 %, so the exact figures replace what was added from bins.
            self.sum_ns =
                self.sum_ns.saturating_sub(other.bins().map(|(ns, n)| u128::from(ns) * u128::from(n)).sum());
            self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
            self.min_ns = self.min_ns.min(other.min_ns);
            self.max_ns = self.max_ns.max(other.max_ns);
        }
    }

    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The shortest duration in ns, exact; `None` if none was recorded.
    pub fn min_ns(&self) -> Option<u64> {
        (self.count > 0).then_some(self.min_ns)
    }

    /// The longest duration in ns, exact; `None` if none was recorded.
    pub fn max_ns(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max_ns)
    }

    /// The sum of all durations in ns, exact.
    pub fn sum_ns(&self) -> u128 {
        self.sum_ns
    }

    /// The mean duration in ns, exact; `None` if none was recorded.
    pub fn mean_ns(&self) -> Option<u64> {
        let mean = self.sum_ns.checked_div(u128::from(self.count))?;
        u64::try_from(mean).ok()
    }

    /// For each fraction in `qs`, the duration in ns that this fraction of all durations did not exceed; at most 1 %
    /// too long above 10 µs. `None` if none was recorded.
    pub fn quantiles<const N: usize>(&self, qs: [f64; N]) -> Option<[u64; N]> {
        let all = self.whole()?;
        Some(qs.map(|q| all.value_at_quantile(q).clamp(self.min_ns, self.max_ns)))
    }

    /// The duration in ns that the fraction `q` of all did not exceed: see [`Durations::quantiles`].
    pub fn quantile(&self, q: f64) -> Option<u64> {
        self.quantiles([q]).map(|[value]| value)
    }

    /// The bins that hold something, shortest first, as (a duration in ns within the bin, count).
    pub fn bins(&self) -> impl Iterator<Item = (u64, u64)> {
        let all = self.whole();
        let bins: Vec<_> = all
            .iter()
            .flat_map(|all| {
                all.iter_recorded().map(|bin| {
                    let middle = all.median_equivalent(bin.value_iterated_to());
                    (middle.clamp(self.min_ns, self.max_ns), bin.count_at_value())
                })
            })
            .collect();
        bins.into_iter()
    }

    /// The distribution in ns in HdrHistogram's V2 encoding with deflate compression; `None` if it is empty.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let all = self.whole()?;
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(&all, &mut bytes).ok()?;
        Some(bytes)
    }

    /// [`Durations::to_bytes`] as base64; `None` if it is empty.
    pub fn to_base64(&self) -> Option<String> {
        self.to_bytes().map(|bytes| STANDARD.encode(bytes))
    }

    /// Reads what [`Durations::to_base64`] writes, or any other HdrHistogram in V2 encoding with deflate compression,
    /// whose values are ns with up to 3 digits. The exact extremes and the sum are not in it, so they are estimated
    /// from the bins.
    ///
    /// # Errors
    /// The text is not base64, cannot be inflated, or is no such histogram.
    pub fn from_base64(text: &str) -> Result<Durations, HdrError> {
        let bytes = STANDARD.decode(text.trim())?;
        let plain = inflate(&bytes)?;
        check_header(&plain)?;
        let all: Histogram<u64> = Deserializer::new()
            .deserialize(&mut plain.as_slice())
            .map_err(|error| HdrError::Format(error.to_string()))?;
        let mut read = Durations::default();
        for bin in all.iter_recorded() {
            read.record_n(all.median_equivalent(bin.value_iterated_to()), bin.count_at_value());
        }
        Ok(read)
    }

    /// Replaces the figures that were estimated from bins by the exact ones of a saved report, in ns.
    pub fn with_exact(mut self, min_ns: u64, max_ns: u64, mean_ns: u64) -> Durations {
        if self.count > 0 {
            self.min_ns = min_ns;
            self.max_ns = max_ns.max(min_ns);
            self.sum_ns = u128::from(mean_ns) * u128::from(self.count);
        }
        self
    }

    /// How many bytes the distribution takes on the heap.
    pub fn heap_bytes(&self) -> usize {
        let bins = self.bins.as_ref().map_or(0, Histogram::distinct_values) * size_of::<u16>();
        bins + self.moved.capacity() * size_of::<(u64, u64)>()
    }

    fn note(&mut self, ns: u64, n: u64) {
        self.min_ns = if self.count == 0 { ns } else { self.min_ns.min(ns) };
        self.max_ns = self.max_ns.max(ns);
        self.count = self.count.saturating_add(n);
        self.sum_ns = self.sum_ns.saturating_add(u128::from(ns) * u128::from(n));
    }

    fn grow_to(&mut self, ns: u64) {
        if self.bins.as_ref().is_none_or(|bins| bins.high() < ns) {
            self.grow(ns);
        }
    }

    /// Reallocates the bins to exactly the range that holds `ns`. Left to itself, a vector would double its size.
    #[cold]
    fn grow(&mut self, ns: u64) {
        if let Some(mut larger) = empty::<u16>(ns) {
            if let Some(old) = self.bins.take() {
                // This cannot fail, since the new range includes the old one.
                let _ = larger.add(&old);
            } else {
                self.headroom = u16::MAX;
            }
            self.bins = Some(larger);
        }
    }

    /// Moves the counts of full bins to the list, so that no counter overflows.
    #[cold]
    fn settle(&mut self) {
        self.headroom = u16::MAX;
        let Some(old) = self.bins.take() else { return };
        let Some(mut kept) = empty::<u16>(old.high()) else { return };
        let mut fullest = 0;
        for bin in old.iter_recorded() {
            let (value, count) = (bin.value_iterated_to(), bin.count_at_value());
            if count >= FULL {
                self.push_moved(value, count.into());
            } else {
                // This cannot fail, since both have the same range.
                let _ = kept.record_n(value, count);
                fullest = fullest.max(count);
            }
        }
        self.headroom = u16::MAX - fullest;
        self.bins = Some(kept);
    }

    fn push_moved(&mut self, value: u64, count: u64) {
        let value = self.bins.as_ref().map_or(value, |bins| bins.lowest_equivalent(value));
        match self.moved.binary_search_by_key(&value, |&(value, _)| value) {
            Ok(at) => self.moved[at].1 = self.moved[at].1.saturating_add(count),
            Err(at) => {
                self.moved.reserve_exact(1);
                self.moved.insert(at, (value, count));
            }
        }
    }

    /// All counts in one histogram with counters that hold them. It is large, so it is made when asked for and not
    /// kept.
    fn whole(&self) -> Option<Histogram<u64>> {
        let bins = self.bins.as_ref()?;
        let mut all = empty::<u64>(bins.high())?;
        for bin in bins.iter_recorded() {
            let _ = all.record_n(bin.value_iterated_to(), bin.count_at_value().into());
        }
        for &(value, count) in &self.moved {
            let _ = all.record_n(value, count);
        }
        (!all.is_empty()).then_some(all)
    }
}

/// An empty histogram whose range ends with the bucket that holds `ns`. Buckets end at powers of two.
fn empty<C: hdrhistogram::Counter>(ns: u64) -> Option<Histogram<C>> {
    let high = (ns.clamp(2 * LOWEST_NS, HIGHEST_NS) + 1).next_power_of_two() - 1;
    // Only arguments out of range fail, and these are in range whatever `ns` is.
    Histogram::new_with_bounds(LOWEST_NS, high, DIGITS).ok()
}

/// Bytes of the largest plain encoding that is accepted. A histogram of 3 digits over all of `u64` with 9 bytes for
/// each count needs less.
const LARGEST: u64 = 1 << 20;

/// Takes off the outer header (cookie and length), and inflates what follows it.
fn inflate(bytes: &[u8]) -> Result<Vec<u8>, HdrError> {
    let (head, rest) = bytes.split_at_checked(8).ok_or_else(|| HdrError::Format("too short".into()))?;
    // This is HdrHistogram's cookie for V2 with compression; the upper nibble of the last byte is the word size, 1.
    if head[0] != 0x1c || head[1] != 0x84 || head[2] != 0x93 || head[3] != 0x14 {
        return Err(HdrError::Format("another cookie".into()));
    }
    let mut plain = Vec::new();
    flate2::read::ZlibDecoder::new(rest).take(LARGEST).read_to_end(&mut plain)?;
    Ok(plain)
}

/// Checks what the library trusts: it reserves the memory that a header asks for, and it negates a count, which
/// overflows for the least one.
fn check_header(plain: &[u8]) -> Result<(), HdrError> {
    let bad = |what: &str| Err(HdrError::Format(what.into()));
    let Some((head, payload)) = plain.split_at_checked(40) else { return bad("too short") };
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if word(4) as usize > payload.len() {
        return bad("counts are cut");
    }
    if word(12) > 3 {
        return bad("more than 3 digits");
    }
    let mut rest = &payload[..word(4) as usize];
    while !rest.is_empty() {
        // A count has up to nine bytes, and all bits of the ninth belong to it. A zigzag count of all ones cannot be
        // negated.
        let length = rest.iter().take(8).position(|byte| byte & 0x80 == 0).map_or(9, |last| last + 1);
        if length > rest.len() || rest[..length].iter().all(|&byte| byte == 0xff) {
            return bad("a count is cut or out of range");
        }
        rest = &rest[length..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_quantile_is_within_one_percent(values in proptest::collection::vec(10_000u64..HIGHEST_NS, 1..200), q in 0.0f64..1.0) {
            let mut durations = Durations::default();
            let mut sorted = values.clone();
            sorted.sort_unstable();
            for value in values {
                durations.record(value);
            }
            let rank = ((q * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len());
            let (exact, got) = (sorted[rank - 1], durations.quantile(q).unwrap());
            prop_assert!(got.abs_diff(exact) as f64 <= 0.01 * exact as f64, "{exact} became {got}");
            prop_assert_eq!(durations.min_ns(), sorted.first().copied());
            prop_assert_eq!(durations.max_ns(), sorted.last().copied());
            prop_assert_eq!(durations.sum_ns(), sorted.iter().map(|&ns| u128::from(ns)).sum::<u128>());
        }

        #[test]
        fn what_was_saved_is_read(values in proptest::collection::vec(0u64..HIGHEST_NS, 1..100)) {
            let mut durations = Durations::default();
            values.iter().for_each(|&ns| durations.record(ns));
            let read = Durations::from_base64(&durations.to_base64().unwrap()).unwrap();
            let counts = |d: &Durations| d.bins().map(|(_, n)| n).collect::<Vec<_>>();
            prop_assert_eq!(counts(&read), counts(&durations));
            prop_assert_eq!(read.count(), durations.count());
            for (a, b) in read.bins().zip(durations.bins()) {
                prop_assert!(a.0.abs_diff(b.0) <= 64 + b.0 / 100);
            }
        }

        #[test]
        fn any_plain_bytes_are_read_or_refused(
            low in prop_oneof![Just(64u64), any::<u64>()], high in any::<u64>(), digits in 0u32..6,
            payload in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0xff)], 0..40),
        ) {
            let _ = Durations::from_base64(&packed(low, high, digits, &payload));
        }

        #[test]
        fn any_text_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Durations::from_base64(&STANDARD.encode(bytes));
        }
    }

    /// A histogram with these figures in its header, and these bytes as its counts, in the form of a saved report.
    fn packed(low: u64, high: u64, digits: u32, payload: &[u8]) -> String {
        let mut plain = Vec::new();
        plain.extend(0x1c84_9313u32.to_be_bytes());
        plain.extend((payload.len() as u32).to_be_bytes());
        plain.extend(0u32.to_be_bytes());
        plain.extend(digits.to_be_bytes());
        plain.extend(low.to_be_bytes());
        plain.extend(high.to_be_bytes());
        plain.extend(1.0f64.to_be_bytes());
        plain.extend(payload);
        let mut packed = Vec::new();
        packed.extend(0x1c84_9314u32.to_be_bytes());
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut zlib, &plain).unwrap();
        let zlib = zlib.finish().unwrap();
        packed.extend((zlib.len() as u32).to_be_bytes());
        packed.extend(zlib);
        STANDARD.encode(packed)
    }

    #[test]
    fn plain_bytes_with_a_right_header_get_to_the_counts() {
        // Counts are zigzag: 2 means one value in the first bin, 3 means two empty bins, and then three values.
        let read = Durations::from_base64(&packed(64, 1_000_000, 2, &[2, 3, 6])).unwrap();
        assert_eq!(read.bins().map(|(_, n)| n).collect::<Vec<_>>(), [1, 3]);
        assert!(Durations::from_base64(&packed(64, 1_000_000, 4, &[2])).is_err());
    }

    #[test]
    fn a_counter_never_saturates() {
        let mut durations = Durations::default();
        for turn in 0..1_000_000u64 {
            durations.record(if turn % 10 == 0 { 2_000_000_000 } else { 1_000 });
        }
        let bins: Vec<_> = durations.bins().map(|(_, n)| n).collect();
        assert_eq!(bins, [900_000, 100_000]);
        assert_eq!(durations.quantile(0.5).unwrap() / 100, 10);
        assert!(durations.heap_bytes() < 11_000);
    }

    #[test]
    fn the_whole_range_costs_ten_kilobytes() {
        let mut durations = Durations::default();
        let mut ns = 1u64;
        while ns < 2 * HIGHEST_NS {
            durations.record(ns);
            ns += 1 + ns / 200;
        }
        assert!(durations.heap_bytes() <= 12_000, "{}", durations.heap_bytes());
        assert!(durations.max_ns().unwrap() > HIGHEST_NS / 100 * 199);
    }

    #[test]
    fn merging_adds_counts_and_keeps_the_exact_figures() {
        let (mut a, mut b) = (Durations::default(), Durations::default());
        [1, 2, 3_000_000].into_iter().for_each(|ns| a.record(ns));
        [7, 9_000_000_001].into_iter().for_each(|ns| b.record(ns));
        a.merge(&b);
        assert_eq!((a.count(), a.min_ns(), a.max_ns()), (5, Some(1), Some(9_000_000_001)));
        assert_eq!(a.sum_ns(), 9_003_000_011);
    }

    #[test]
    fn nothing_recorded_is_nothing_known() {
        let none = Durations::default();
        assert_eq!(
            (none.min_ns(), none.mean_ns(), none.quantile(0.5), none.to_base64()),
            (None, None, None, None)
        );
    }
}
