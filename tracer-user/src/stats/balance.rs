//! Whether more come and stay than go, by the sign test over equal parts of a window.
//!
//! What is there already is no yardstick: it neither comes nor goes. Who came and went within the window cancels out. So
//! a population grows by those that came and stayed, and shrinks by those of before that went. Where nothing changes,
//! both are equally many on the long run, however long a life is, so a part of the window in which more stayed is as
//! likely as one in which more went. A burst falls into few parts, so it counts little, however large it is.

/// Into how many parts a window is cut.
const PARTS: usize = 32;
/// A rise that chance brings about more rarely than this is taken for real.
const CHANCE: f64 = 1.0 / 8_192.0;

/// Who stayed and who went in a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// How many came in the window and stayed.
    pub stayed: u64,
    /// How many of those of before went.
    pub went: u64,
    /// In how many parts of the window more stayed than went.
    pub up: u32,
    /// In how many parts of the window more went than stayed.
    pub down: u32,
    /// Whether those that stayed came all through the window.
    pub all_through: bool,
    /// Whether they still come: the time since the last one is not too long for chance.
    pub goes_on: bool,
}

impl Balance {
    /// Counts those beyond the age of `least_ns`, in a window of `window_ns`. `ages` are the (age in ns, count) of those
    /// that stayed, `gone` the (ns from the begin of the window, count) of those that went. Of `untimed` more it is not
    /// known when they went: each counts as if it had gone in a part of its own.
    pub fn of(
        window_ns: u64,
        least_ns: u64,
        ages: impl IntoIterator<Item = (u64, u64)>,
        gone: impl IntoIterator<Item = (u64, u64)>,
        untimed: u64,
    ) -> Balance {
        let part = |at_ns: u64| {
            let part = u128::from(at_ns) * PARTS as u128 / u128::from(window_ns.max(1));
            (part as usize).min(PARTS - 1)
        };
        let mut net = [0i64; PARTS];
        let (mut stayed, mut went) = (0, 0);
        // Those that came in the first half of the time in which one could get old enough, in the next quarter, and in
        // the last quarter.
        let mut came = [0u64; 3];
        let (time_ns, mut last_ns) = (window_ns.saturating_sub(least_ns), 0);
        // Ages are known to 1 %, so one that is hardly longer than the window is not from before it.
        let longest_ns = window_ns.saturating_add(window_ns / 100);
        for (age_ns, n) in ages.into_iter().filter(|&(age, _)| age > least_ns && age <= longest_ns) {
            let at_ns = window_ns.saturating_sub(age_ns);
            net[part(at_ns)] += n as i64;
            stayed += n;
            last_ns = last_ns.max(at_ns);
            match () {
                () if at_ns < time_ns / 2 => came[0] += n,
                () if at_ns < time_ns / 4 * 3 => came[1] += n,
                () => came[2] += n,
            }
        }
        for (at_ns, n) in gone.into_iter().filter(|&(at, _)| at > least_ns) {
            net[part(at_ns)] -= n as i64;
            went += n;
        }
        let count = |is: fn(i64) -> bool| net.iter().filter(|&&net| is(net)).count() as u32;
        let up = count(|net| net > 0);
        // Of as many that come at any time, it is this likely that none comes after the last one.
        let likely = (last_ns as f64 / time_ns.max(1) as f64).powi(up as i32);
        Balance {
            stayed,
            went: went + untimed,
            up,
            down: count(|net| net < 0) + untimed.min(PARTS as u64) as u32,
            // A twelfth is what chance leaves of a quarter.
            all_through: came.iter().all(|&n| n > 0 && n * 12 >= stayed),
            goes_on: likely >= 0.05,
        }
    }

    /// Whether more stay than go, all through the window, still now, and not by chance.
    pub fn is_rise(&self) -> bool {
        self.all_through && self.goes_on && is_sure(self.up, self.down)
    }

    /// The most that may have leaked with 99 % confidence, where each comes and goes for itself: what stays beyond what
    /// goes, and what chance can hide of it.
    pub fn most_leaked(&self) -> f64 {
        let gain = self.stayed as f64 - self.went as f64;
        (gain + 2.33 * ((self.stayed + self.went) as f64).sqrt()).max(0.0)
    }

    /// Whether the difference is more than chance would bring about with 99 % confidence, where each comes and goes for
    /// itself.
    pub fn is_gain(&self) -> bool {
        let gain = self.stayed as f64 - self.went as f64;
        gain >= 2.33 * ((self.stayed + self.went) as f64).sqrt()
    }
}

/// Whether `up` of `up + down` are too many for chance, by the one-sided sign test.
pub fn is_sure(up: u32, down: u32) -> bool {
    let all = up + down;
    // Where there are many, the normal approximation is as good.
    if all > 1_000 {
        return f64::from(up) - f64::from(down) > 3.7 * f64::from(all).sqrt();
    }
    chance(up, down) <= CHANCE
}

/// How likely it is that at most `down` of `up + down` are down by chance, where up and down are equally likely. For at
/// most 1,000, since higher powers of a half vanish.
pub fn chance(up: u32, down: u32) -> f64 {
    let all = up + down;
    let mut term = 0.5f64.powi(all as i32);
    let mut chance = term;
    for at in 0..down.min(all) {
        term *= f64::from(all - at) / f64::from(at + 1);
        chance += term;
    }
    chance
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn the_sign_test_by_hand() {
        // None of 13 is down with a chance of 2⁻¹³. At most one of 18 is with 19 / 2¹⁸, of 17 with 18 / 2¹⁷.
        assert!(is_sure(13, 0) && !is_sure(12, 0));
        assert!(is_sure(17, 1) && !is_sure(16, 1));
        assert!(!is_sure(20, 20) && !is_sure(0, 30) && is_sure(1_200, 900) && !is_sure(1_020, 1_000));
    }

    #[test]
    fn who_was_there_before_is_no_yardstick() {
        let leak = (1..30).map(|s| (s * S, 2));
        let balance = Balance::of(30 * S, 3 * S, leak.clone(), [], 0);
        assert!(balance.is_rise() && balance.is_gain(), "{balance:?}");
        // As many go as stay.
        let even = Balance::of(30 * S, 3 * S, leak.clone(), (1..30).map(|s| (s * S, 2)), 0);
        assert!(!even.is_rise() && !even.is_gain(), "{even:?}");
        assert!(!Balance::of(30 * S, 3 * S, leak, [], 40).is_rise(), "nobody knows when the 40 went");
    }

    #[test]
    fn who_comes_and_goes_can_hide_a_leak() {
        let lives =
            |n| Balance::of(30 * S, 3 * S, (4..30).map(move |s| (s * S, n)), (4..30).map(|s| (s * S, 4)), 0);
        // As many stay as go, and chance hides 2.33 √(104 + 104) of them.
        assert!((33.0..34.0).contains(&lives(4).most_leaked()), "{}", lives(4).most_leaked());
        assert!(lives(0).most_leaked() < 1e-9, "all end");
        assert!(Balance::default().most_leaked() < 1e-9);
    }

    #[test]
    fn bursts_and_what_levels_off_are_no_rise() {
        let burst = Balance::of(30 * S, 3 * S, [(20 * S, 5_000)], [], 0);
        assert!(!burst.is_rise() && burst.is_gain(), "{burst:?}");
        assert!(!Balance::of(30 * S, 3 * S, (10..30).map(|s| (s * S, 9)), [], 0).is_rise());
        assert!(!Balance::of(30 * S, 3 * S, (1..12).map(|s| (s * S, 9)), [], 0).is_rise());
    }
}
