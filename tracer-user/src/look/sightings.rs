//! Which goroutines of a process several looks in a row have seen, and what that tells of each site.
//!
//! Goroutine ids are never used again, so one that a look has seen and the next one has not is gone. Who came and went
//! between two looks was never seen, and nothing is known of it. That is why growth is judged by those alone that two
//! looks have seen: who came within the time and stayed is set against who was there before and went. Where nothing
//! leaks, both are equally many on the long run, and the many that live only for a moment are on neither side.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::inspect::{SiteKey, Snapshot};

/// The goroutines of one process, as the looks of a sweep have seen them.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    /// Number of looks so far.
    looks: u16,
    /// Those that the last look has seen, by their ids.
    living: Vec<Sighting>,
    /// Those that are gone, by site.
    gone: HashMap<SiteKey, Tally>,
    /// When the very first look was.
    origin: Option<Instant>,
}

/// A goroutine that the last look has seen.
#[derive(Clone, Copy, Debug)]
struct Sighting {
    goid: u64,
    site: SiteKey,
    /// Number of the look that saw it first, counted from 0.
    first: u16,
    /// When that was or, if the count of looks has begun anew since, when it was seen first of all: in seconds since the
    /// very first look.
    since_s: u32,
}

/// What several looks tell of the goroutines of a site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// How many the first look has seen.
    pub at_first: u64,
    /// How many of those are still there.
    pub remained: u64,
    /// When the one that has been there for longest was seen first: in seconds since the very first look; `None` if none is
    /// there.
    oldest_s: Option<u32>,
    /// How many later looks have seen for the first time.
    pub came: u64,
    /// How many were seen and are gone.
    pub went: u64,
    /// How many came after the first look, were seen by two looks or more, and are still there.
    pub stayed: u64,
    /// How many of those of the first look were seen by another one, too, and are gone.
    pub left: u64,
    /// For the time between each two looks, who came in it and stayed, less who was seen at its begin for the last time
    /// and left.
    net: Vec<i64>,
    /// Number of such times. In the last one nobody can have come and been seen twice.
    pub parts: usize,
}

impl Tally {
    /// In how many of the times between looks more came and stayed than left, and in how many it was the other way round.
    pub fn up_and_down(&self) -> (u32, u32) {
        let count = |is: fn(i64) -> bool| self.net.iter().filter(|&&net| is(net)).count() as u32;
        (count(|net| net > 0), count(|net| net < 0))
    }

    fn add(&mut self, part: u16, change: i64) {
        let part = usize::from(part);
        if self.net.len() <= part {
            self.net.resize(part + 1, 0);
        }
        self.net[part] += change;
    }
}

impl Sightings {
    /// Takes in what a further look has found, which began at `at`.
    pub fn add(&mut self, snapshot: &Snapshot, at: Instant) {
        let since = at.saturating_duration_since(*self.origin.get_or_insert(at));
        let goroutines = snapshot.by_goid().map(|goroutine| {
            let site = snapshot.site(goroutine);
            (goroutine.goid, SiteKey::of(site))
        });
        self.add_all(goroutines, since.as_secs().try_into().unwrap_or(u32::MAX));
    }

    /// Takes the last look for the first: who came and went before it counts no more. How long the living have been there is
    /// kept.
    pub fn begin_anew(&mut self) {
        self.looks = self.looks.min(1);
        self.gone.clear();
        self.living.iter_mut().for_each(|sighting| sighting.first = 0);
    }

    /// How long the goroutine of a site has been seen that has been seen for longest; `None` if none is there.
    pub fn seen_for(&self, tally: &Tally, at: Instant) -> Option<Duration> {
        let first = self.origin? + Duration::from_secs(tally.oldest_s?.into());
        Some(at.saturating_duration_since(first))
    }

    /// Takes in the goroutines of a further look, in the order of their ids.
    fn add_all(&mut self, found: impl IntoIterator<Item = (u64, SiteKey)>, since_s: u32) {
        let look = self.looks;
        self.looks = look.saturating_add(1);
        let mut before = std::mem::take(&mut self.living).into_iter().peekable();
        let mut living = Vec::with_capacity(before.len());
        for (goid, site) in found {
            while let Some(gone) = before.next_if(|before| before.goid < goid) {
                self.leave(gone, look);
            }
            let known = before.next_if(|before| before.goid == goid);
            living.push(known.unwrap_or(Sighting { goid, site, first: look, since_s }));
        }
        before.for_each(|gone| self.leave(gone, look));
        self.living = living;
    }

    /// Counts a goroutine that look number `look` is the first not to see any more.
    fn leave(&mut self, gone: Sighting, look: u16) {
        let tally = self.gone.entry(gone.site).or_default();
        tally.went += 1;
        if gone.first > 0 {
            tally.came += 1;
            return;
        }
        tally.at_first += 1;
        let last = look - 1;
        if last > 0 {
            tally.left += 1;
            tally.add(last, -1);
        }
    }

    /// What the looks tell of each site.
    pub fn tallies(&self) -> HashMap<SiteKey, Tally> {
        let mut tallies = self.gone.clone();
        for one in &self.living {
            let tally = tallies.entry(one.site).or_default();
            tally.oldest_s = Some(tally.oldest_s.map_or(one.since_s, |oldest| oldest.min(one.since_s)));
            match one.first {
                0 => {
                    tally.at_first += 1;
                    tally.remained += 1;
                }
                first => {
                    tally.came += 1;
                    if first + 1 < self.looks {
                        tally.stayed += 1;
                        tally.add(first, 1);
                    }
                }
            }
        }
        tallies.values_mut().for_each(|tally| tally.parts = usize::from(self.looks.saturating_sub(2)));
        tallies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: SiteKey = SiteKey { gopc: 1, startpc: 2 };
    /// Looks in a second.
    const HZ: u64 = 2;

    /// What looks tell of goroutines, each given by its birth and its end in ms, over ten seconds.
    fn seen(lives: &[(u64, u64)]) -> Tally {
        let mut sightings = Sightings::default();
        for look in 0..=10 * HZ {
            let now = 100_000 + look * 1_000 / HZ;
            let lives = (1..).zip(lives).filter(|(_, life)| life.0 <= now && now < life.1);
            sightings.add_all(lives.map(|(goid, _)| (goid, SITE)), look as u32);
        }
        sightings.tallies().remove(&SITE).unwrap_or_default()
    }

    /// So many a second for as long as there are looks and before, each living so many ms.
    fn traffic(rate: u64, life_ms: u64) -> Vec<(u64, u64)> {
        (0..120 * rate).map(|n| n * 1_000 / rate).map(|born| (born, born.saturating_add(life_ms))).collect()
    }

    fn together(lives: [Vec<(u64, u64)>; 2]) -> Vec<(u64, u64)> {
        let mut all = lives.concat();
        all.sort_unstable();
        all
    }

    #[test]
    fn those_that_stay_are_told_from_those_that_end_at_the_same_statement() {
        let leak = seen(&together([traffic(2, u64::MAX), traffic(3, 1_000)]));
        assert!(leak.stayed >= 18 && leak.left < 4, "{leak:?}");
        assert!(leak.up_and_down().0 >= 17 && leak.up_and_down().1 <= 1, "{leak:?}");
        assert_eq!(leak.at_first + leak.came - leak.went, leak.at_first + 20, "{leak:?}");
    }

    #[test]
    fn those_that_live_for_a_moment_neither_stay_nor_leave() {
        let short = seen(&traffic(15, 100));
        assert!(short.came > 0 && short.went > 0, "{short:?}");
        assert_eq!((short.stayed, short.left, short.up_and_down()), (0, 0, (0, 0)), "{short:?}");
    }

    #[test]
    fn as_many_leave_as_stay_where_nothing_leaks() {
        let steady = seen(&traffic(5, 3_000));
        assert!(steady.stayed.abs_diff(steady.left) <= 3, "{steady:?}");
        let burst: Vec<_> = (0..400).map(|n| (104_001 + n, u64::MAX)).collect();
        assert_eq!(seen(&burst).up_and_down(), (1, 0), "a burst falls into one part");
    }

    #[test]
    fn two_looks_alone_tell_who_came_but_not_who_stays() {
        let mut sightings = Sightings::default();
        sightings.add_all([(1, SITE), (2, SITE)], 0);
        sightings.add_all([(2, SITE), (7, SITE), (8, SITE)], 0);
        let tally = &sightings.tallies()[&SITE];
        assert_eq!((tally.at_first, tally.came, tally.went, tally.stayed), (2, 2, 1, 0));
    }

    #[test]
    fn who_came_before_a_new_beginning_was_there_from_the_start_but_keeps_its_age() {
        let start = Instant::now();
        let mut sightings = Sightings { origin: Some(start), ..Sightings::default() };
        let looks: [&[u64]; 3] = [&[1, 2], &[2, 3], &[2, 3, 4]];
        for (look, goids) in looks.iter().enumerate() {
            sightings.add_all(goids.iter().map(|goid| (*goid, SITE)), 60 * look as u32);
            if look == 1 {
                sightings.begin_anew();
            }
        }
        let tally = sightings.tallies().remove(&SITE).unwrap();
        assert_eq!((tally.at_first, tally.remained, tally.came, tally.went), (2, 2, 1, 0), "{tally:?}");
        let now = start + Duration::from_secs(120);
        assert_eq!(sightings.seen_for(&tally, now), Some(Duration::from_secs(120)));
        assert_eq!(sightings.seen_for(&Tally::default(), now), None);
    }
}
