//! Draws distributions of lifetimes one below the other, a line each, over one logarithmic axis, so that they can be compared.

use golife::human;
use golife::stats::native;

/// Columns of the axis.
const ROOM: usize = 60;
/// Most columns of a name.
const NAME: usize = 36;
/// What stands on the axis, in seconds.
const TICKS: [f64; 18] = [
    1e-9,
    1e-8,
    1e-7,
    1e-6,
    1e-5,
    1e-4,
    1e-3,
    1e-2,
    0.1,
    1.0,
    10.0,
    60.0,
    600.0,
    3600.0,
    36_000.0,
    86_400.0,
    864_000.0,
    8_640_000.0,
];
/// Heights, from nothing on.
const HEIGHTS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The lines. Heights are logarithmic within each line, and even a single lifetime is visible.
pub fn draw(strips: &[(String, &[(i32, u64)])]) -> String {
    let buckets = || strips.iter().flat_map(|(_, buckets)| buckets.iter()).filter(|(_, count)| *count > 0);
    let (Some(first), Some(last)) =
        (buckets().map(|(bucket, _)| *bucket).min(), buckets().map(|(bucket, _)| *bucket).max())
    else {
        return String::new();
    };
    let span = usize::try_from(i64::from(last) - i64::from(first) + 1).unwrap_or(1);
    let each = span.div_ceil(ROOM);
    let column = |bucket: i32| usize::try_from(i64::from(bucket) - i64::from(first)).unwrap_or(0) / each;
    let names = strips.iter().map(|(name, _)| human::width(name).min(NAME)).max().unwrap_or(0);
    let mut axis = " ".repeat(names + 2);
    for tick in TICKS {
        let bucket = native::bucket((tick * 1e9) as u64);
        let (label, at) = (human::duration((tick * 1e9) as u64), names + 2 + column(bucket));
        let taken = human::width(axis.trim_end());
        if (first..=last).contains(&bucket) && (taken == 0 || at > taken) {
            axis += &" ".repeat(at - human::width(&axis));
            axis += &label;
        }
    }
    let mut text = axis.trim_end().to_owned() + "\n";
    for (name, buckets) in strips {
        let mut sums = vec![0u64; column(last) + 1];
        for (bucket, count) in buckets.iter().filter(|(_, count)| *count > 0) {
            let sum = &mut sums[column(*bucket)];
            *sum = sum.saturating_add(*count);
        }
        let most = sums.iter().max().map_or(0.0, |most| (*most as f64).ln_1p());
        let height = |sum: &u64| match (*sum as f64).ln_1p() / most {
            share if share > 0.0 => ((share * 8.0).round() as usize).clamp(1, 8),
            _ => 0,
        };
        let bars: String = sums.iter().map(|sum| HEIGHTS[height(sum)]).collect();
        let name = human::shorten(&human::clean(name), NAME);
        let pad = " ".repeat(names.saturating_sub(human::width(&name)) + 2);
        text += &format!("{name}{pad}{}\n", bars.trim_end());
    }
    text + "heights are logarithmic\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_longer_stands_further_right() {
        // A second is bucket 0; ten minutes are 74.
        let drawn = draw(&[("short".into(), &[(0, 100), (1, 1)]), ("a".into(), &[(74, 5), (3, 0)])]);
        let lines: Vec<&str> = drawn.lines().collect();
        assert!(lines[0].contains("1 s") && lines[0].contains("10 m"), "{drawn}");
        let at = |line: &str, of: char| line.chars().position(|char| char == of).unwrap();
        assert_eq!(at(lines[1], '█'), at(lines[0], '1'), "{drawn}");
        assert!(at(lines[2], '█') > at(lines[1], '█') + 30, "{drawn}");
        assert!(lines[1].chars().count() <= NAME + 2 + ROOM);
        assert_eq!(draw(&[("a".into(), &[])]), "");
    }
}
