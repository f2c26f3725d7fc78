//! Buckets of Prometheus' native histograms with the schema 3: eight for each power of two, numbered the same everywhere, so
//! that counts of many hosts add up bucket by bucket. The bucket `i` holds what is above `2^((i-1)/8)` and at most `2^(i/8)`:
//! <https://prometheus.io/docs/specs/native_histograms/#schema>.

/// Buckets for each power of two.
const PER_DOUBLING: f64 = 8.0;

/// The bucket of a duration in ns, which counts in seconds. No time at all counts as a nanosecond.
pub fn bucket(ns: u64) -> i32 {
    let seconds = ns.max(1) as f64 / 1e9;
    let index = (seconds.log2() * PER_DOUBLING).ceil() as i32;
    // The logarithm of a bound may come out on either side of it.
    if seconds <= upper_s(index - 1) { index - 1 } else { index }
}

/// The upper bound of a bucket in seconds, which belongs to it.
pub fn upper_s(bucket: i32) -> f64 {
    (f64::from(bucket) / PER_DOUBLING).exp2()
}

/// The duration in seconds that the fraction `q` of a distribution did not exceed, in the middle of its bucket as exponents
/// go, which is how Prometheus interpolates. Buckets are (number, count) in any order; `None` if they hold nothing.
pub fn quantile_s(buckets: &[(i32, u64)], q: f64) -> Option<f64> {
    let mut sorted = buckets.to_vec();
    sorted.sort_unstable_by_key(|(bucket, _)| *bucket);
    let total: f64 = sorted.iter().map(|(_, count)| *count as f64).sum();
    let rank = q.clamp(0.0, 1.0) * total;
    let mut below = 0.0;
    let last = sorted.iter().rposition(|(_, count)| *count > 0)?;
    for (at, &(bucket, count)) in sorted.iter().enumerate() {
        let count = count as f64;
        if count > 0.0 && (below + count >= rank || at == last) {
            let part = ((rank - below) / count).clamp(0.0, 1.0);
            return Some(((f64::from(bucket) - 1.0 + part) / PER_DOUBLING).exp2());
        }
        below += count;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_the_bucket_below_it() {
        for doubling in -20..20 {
            let index = doubling * 8;
            assert!((upper_s(index) - f64::from(doubling).exp2()).abs() < 1e-12 * upper_s(index));
        }
        assert_eq!(bucket(1_000_000_000), 0);
        assert_eq!(bucket(1_000_000_001), 1);
        assert_eq!(bucket(2_000_000_000), 8);
        assert_eq!(bucket(500_000_000), -8);
        assert_eq!((bucket(0), bucket(1)), (-239, -239));
        assert_eq!(bucket(u64::MAX), 273);
    }

    #[test]
    fn each_duration_is_in_its_bucket() {
        for ns in (0..60).flat_map(|power| [1u64 << power, (1 << power) + 1, (1 << power) + (1 << power) / 3])
        {
            let (index, seconds) = (bucket(ns), ns as f64 / 1e9);
            assert!(upper_s(index - 1) < seconds && seconds <= upper_s(index), "{ns} ns in {index}");
        }
    }

    #[test]
    fn quantiles_are_within_a_bucket() {
        let buckets = [(8, 50), (0, 50)];
        assert_eq!(quantile_s(&buckets, 0.5), Some(1.0));
        assert_eq!(quantile_s(&buckets, 1.0), Some(2.0));
        assert_eq!(quantile_s(&[], 0.5), None);
        assert_eq!(quantile_s(&[(3, 0)], 0.5), None);
    }
}
