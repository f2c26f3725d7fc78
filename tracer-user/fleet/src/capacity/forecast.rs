//! What becomes of a group at another load, or on other hosts.

use golife::stats::Estimate;
use golife::stats::usl::Scaling;

use super::{Balance, Capacity};

/// How often lifetime and load are made to fit each other before it is said that they do not.
const STEPS: usize = 10_000;

/// Another load, and other hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WhatIf {
    /// So many times the rate.
    pub scale: Option<f64>,
    /// That rate on all hosts together, per second.
    pub target_rate: Option<f64>,
    /// On so many hosts.
    pub hosts: Option<u64>,
    /// So many hosts fewer.
    pub lose: Option<u64>,
}

/// What is forecast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Forecast {
    /// Nothing, since there is no steady state.
    NotSteady,
    /// Nothing, since nothing comes that could be more.
    NoRate,
    /// No host is left.
    NoHost,
    /// More comes to a host than it can do, whatever lives at the same time.
    Saturated,
    /// This.
    Then {
        /// How many come per second on all hosts.
        rate: f64,
        /// On so many hosts.
        hosts: f64,
        /// How many live on all hosts, in the mean.
        live: Estimate,
        /// Bytes of stacks on a host, in the mean.
        stack_host: Option<f64>,
        /// Bytes of stacks on the fullest host.
        stack_max: Option<f64>,
        /// How many times as long goroutines live then.
        longer: f64,
    },
}

impl WhatIf {
    /// Whether anything is asked.
    pub fn is_asked(&self) -> bool {
        *self != WhatIf::default()
    }

    /// What becomes of a group.
    pub fn of(&self, now: &Capacity) -> Forecast {
        let factor = match (self.scale, self.target_rate) {
            _ if now.balance == Balance::NotSteady => return Forecast::NotSteady,
            (Some(scale), _) => scale,
            (None, Some(_)) if now.rate <= 0.0 => return Forecast::NoRate,
            (None, Some(rate)) => rate / now.rate,
            (None, None) => 1.0,
        };
        let hosts = self.hosts.map_or(now.hosts, |hosts| hosts as f64) - self.lose.unwrap_or(0) as f64;
        if hosts < 1.0 || now.hosts <= 0.0 {
            return Forecast::NoHost;
        }
        let of_a_host = factor * now.hosts / hosts;
        let Some(longer) = longer(now, of_a_host) else { return Forecast::Saturated };
        let flowing = now.flowing();
        let standing = now.standing * hosts / now.hosts;
        let come = flowing.times(factor * longer);
        let live =
            Estimate { value: come.value + standing, low: come.low + standing, high: come.high + standing };
        // What a host holds grows with the living on it.
        let share =
            (live.value / hosts) / ((flowing.value + now.standing) / now.hosts).max(f64::MIN_POSITIVE);
        let stack = |bytes: Option<f64>| bytes.map(|bytes| bytes * share);
        let (stack_host, stack_max) = (stack(now.stack_host), stack(now.stack_max));
        Forecast::Then { rate: now.rate * factor, hosts, live, stack_host, stack_max, longer }
    }
}

/// How many times as long goroutines live where so many times as many come to a host. `None` where no lifetime fits that load.
fn longer(now: &Capacity, factor: f64) -> Option<f64> {
    let (alpha, beta) = match now.scaling {
        Some(Scaling::Contention(alpha)) => (alpha.value, 0.0),
        Some(Scaling::Coherency { alpha, beta, .. }) => (alpha, beta),
        _ => return Some(1.0),
    };
    let live = now.flowing().value / now.hosts;
    let shape = |n: f64| (1.0 + alpha * (n - 1.0) + beta * n * (n - 1.0)).max(0.0);
    let shape_now = shape(live);
    if live <= 0.0 || shape_now <= 0.0 {
        return Some(1.0);
    }
    // From below, N = λW(N) is approached step by step, unless there is none.
    let mut n = 0.0;
    for _ in 0..STEPS {
        let next = factor * live * shape(n) / shape_now;
        if (next - n).abs() <= 1e-9 * next {
            return Some(shape(next) / shape_now);
        }
        n = next;
        if !n.is_finite() {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::{GroupHour, Growth, NextWeek, Runway};
    use super::*;

    fn service(scaling: Scaling) -> Capacity {
        Capacity {
            hours: 24,
            hosts: 10.0,
            live: 60.0,
            standing: 10.0,
            rate: 100.0,
            little: None,
            balance: Balance::Steady,
            peak: GroupHour::default(),
            scaling: Some(scaling),
            growth: Growth::TooShort(1.0),
            next_week: NextWeek::TooShort,
            stack_host: Some(600.0),
            stack_max: Some(1200.0),
            limit: None,
            runway: Runway::NoLimit,
        }
    }

    #[test]
    fn what_stays_does_not_scale_with_the_load() {
        let flat = service(Scaling::TooFew);
        let Forecast::Then { live, stack_host, stack_max, hosts, .. } =
            (WhatIf { scale: Some(2.0), ..WhatIf::default() }).of(&flat)
        else {
            panic!("no forecast")
        };
        assert_eq!((live.value, stack_host, stack_max, hosts), (110.0, Some(1100.0), Some(2200.0), 10.0));
        let doubled = WhatIf { hosts: Some(20), ..WhatIf::default() }.of(&flat);
        assert!(matches!(doubled, Forecast::Then { live, .. } if live.value == 70.0), "{doubled:?}");
        assert_eq!(WhatIf { lose: Some(10), ..WhatIf::default() }.of(&flat), Forecast::NoHost);
    }

    #[test]
    fn contention_makes_more_than_twice_of_twice() {
        // N = 5 on a host. W ∝ 1 + 0.05 (N - 1) = 1.2, so twice the load is N = 10 / 1.2 (0.95 + 0.05 N), which is 13.57.
        let contended = service(Scaling::Contention(Estimate::around(0.05, 0.0, 0.0)));
        let twice = WhatIf { scale: Some(2.0), ..WhatIf::default() }.of(&contended);
        let want = 10.0 + 10.0 * (10.0 / 1.2 * 0.95) / (1.0 - 10.0 / 1.2 * 0.05);
        assert!(
            matches!(twice, Forecast::Then { live, .. } if (live.value - want).abs() < 1e-3),
            "{twice:?}"
        );
        let five_times = WhatIf { scale: Some(5.0), ..WhatIf::default() }.of(&contended);
        assert_eq!(five_times, Forecast::Saturated);
    }
}
