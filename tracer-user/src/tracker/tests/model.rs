//! Compares the tracker with the truth: in random histories g's are used again, records are applied in the order of
//! time, and lists are applied at any time.

use std::collections::BTreeMap;

use crate::event::StackCode;
use crate::tracker::*;
use proptest::prelude::*;

const PID: u32 = 9;

/// What really happened to one goroutine.
#[derive(Clone, Debug)]
struct Truth {
    birth: u64,
    death: Option<u64>,
    site: u64,
    g: u64,
    loses_creation: bool,
    loses_exit: bool,
}

#[derive(Clone, Debug)]
struct History {
    truths: Vec<Truth>,
    attach: u64,
    scan: (u64, u64),
    /// When the scan passes each g, as a fraction of the scan's time.
    passed: Vec<f64>,
    /// How many events are applied between the begin of the scan and its list.
    list_after: usize,
}

const MOST: usize = 60;

fn histories(losses: bool) -> impl Strategy<Value = History> {
    let truth = (1u64..1_000, prop_oneof![Just(None), (1u64..600).prop_map(Some)], 0u64..3, any::<[u8; 2]>())
        .prop_map(move |(birth, life, site, luck)| Truth {
            birth,
            death: life.map(|life| birth + life),
            site,
            g: 0,
            loses_creation: losses && luck[0] < 50,
            loses_exit: losses && luck[1] < 50,
        });
    let truths = proptest::collection::vec(truth, 0..MOST).prop_map(give_gs);
    let passed = proptest::collection::vec(0.0f64..1.0, MOST);
    (truths, passed, 1u64..600, 0u64..200, 1u64..300, 0usize..150).prop_map(
        |(truths, passed, attach, wait, scan, list_after)| History {
            truths,
            attach,
            scan: (attach + wait, attach + wait + scan),
            passed,
            list_after,
        },
    )
}

/// Gives each goroutine a g as Go does: the one that became free last, or a new one.
fn give_gs(mut truths: Vec<Truth>) -> Vec<Truth> {
    let mut order: Vec<usize> = (0..truths.len()).collect();
    order.sort_by_key(|&index| truths[index].birth);
    // For each g, the time when it becomes free.
    let mut gs: Vec<Option<u64>> = Vec::new();
    for index in order {
        let birth = truths[index].birth;
        let free = gs.iter().enumerate().filter_map(|(g, free)| free.map(|free| (free, g)));
        let g = match free.filter(|(free, _)| *free < birth).max() {
            Some((_, g)) => g,
            None => {
                gs.push(None);
                gs.len() - 1
            }
        };
        gs[g] = truths[index].death;
        truths[index].g = g as u64;
    }
    truths
}

/// Everything that must not depend on when a list is applied.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    /// For each site: created, exited, live, at attach, number of lifetimes, and their sum.
    sites: BTreeMap<u64, [u64; 6]>,
    unattributed: u64,
    unmatched: u64,
}

impl History {
    fn goid(index: usize) -> u64 {
        index as u64 + 2
    }

    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for (index, truth) in self.truths.iter().enumerate() {
            let (g, goid) = (truth.g, Self::goid(index));
            let creation =
                What::Created { g, goid, parent: 0, gopc: truth.site, startpc: 1, stack: StackCode::NONE };
            if truth.birth >= self.attach {
                events.push((truth.birth, creation, truth.loses_creation));
            }
            if let Some(death) = truth.death.filter(|&death| death >= self.attach) {
                events.push((death, What::Exited { g }, truth.loses_exit));
            }
        }
        events.sort_by_key(|(time, what, _)| (*time, matches!(what, What::Exited { .. })));
        let mut losses = 0;
        let keep = |(time_ns, what, lost): (u64, What, bool)| {
            losses += u32::from(lost);
            (!lost).then_some(Event { time_ns, pid: PID, losses, what })
        };
        events.into_iter().filter_map(keep).collect()
    }

    /// The list of a scan that passes each g at some time while it runs.
    fn list(&self, scan: (u64, u64)) -> Vec<Existing> {
        let mut list = Vec::new();
        for (index, truth) in self.truths.iter().enumerate() {
            let passed = scan.0 + (self.passed[truth.g as usize] * (scan.1 - scan.0) as f64) as u64;
            if truth.birth <= passed && truth.death.is_none_or(|death| death > passed) {
                let (g, goid) = (truth.g, Self::goid(index));
                list.push(Existing { g, goid, parent: 0, gopc: truth.site, startpc: 1 });
            }
        }
        list
    }

    /// The indices of goroutines whose creation and exit were recorded, with no loss in between.
    fn measured(&self) -> Vec<usize> {
        let events = self.events();
        let losses = |wanted: &dyn Fn(&Event) -> bool| {
            events.iter().find(|event| wanted(event)).map(|event| event.losses)
        };
        let measured = |(index, truth): (usize, &Truth)| {
            let birth = losses(
                &|event| matches!(event.what, What::Created { goid, .. } if goid == Self::goid(index)),
            )?;
            let death = losses(&|event| {
                Some(event.time_ns) == truth.death && event.what == What::Exited { g: truth.g }
            })?;
            (birth == death && !truth.loses_exit).then_some(index)
        };
        self.truths.iter().enumerate().filter_map(measured).collect()
    }

    fn run(&self) -> Tracker {
        let events = self.events();
        let mut tracker = Tracker::new(Limits::default());
        tracker.process_started(PID, 0, true, self.attach);
        let begin = events.iter().position(|event| event.time_ns >= self.scan.0).unwrap_or(events.len());
        let apply = (begin + self.list_after).min(events.len());
        events[..begin].iter().for_each(|event| tracker.apply(event));
        tracker.begin_scan(PID, self.scan.0);
        events[begin..apply].iter().for_each(|event| tracker.apply(event));
        tracker.adopt(PID, self.list(self.scan).into_iter(), self.scan.1);
        events[apply..].iter().for_each(|event| tracker.apply(event));
        tracker
    }

    fn expected(&self) -> Counts {
        let listed: Vec<u64> = self.list(self.scan).into_iter().map(|existing| existing.goid).collect();
        let mut counts = Counts::default();
        for (index, truth) in self.truths.iter().enumerate() {
            let (born_here, is_listed) = (truth.birth >= self.attach, listed.contains(&Self::goid(index)));
            let died = truth.death.is_some_and(|death| death >= self.attach);
            if !born_here && !is_listed {
                counts.unattributed +=
                    u64::from(died && truth.death.is_some_and(|death| death <= self.scan.1));
                counts.unmatched += u64::from(died && truth.death.is_some_and(|death| death > self.scan.1));
                continue;
            }
            let site = counts.sites.entry(truth.site).or_default();
            site[0] += u64::from(born_here);
            site[1] += u64::from(died);
            site[2] += u64::from(!died);
            site[3] += u64::from(!born_here);
            if let Some(death) = truth.death.filter(|_| born_here) {
                site[4] += 1;
                site[5] += death - truth.birth;
            }
        }
        counts
    }
}

fn counts(tracker: &Tracker) -> Counts {
    let instance = tracker.instances().next().unwrap();
    let used = instance.sites().iter().filter(|site| site.window().is_used());
    let sites = used.map(|site| {
        let lifetimes = [site.lifetimes.count(), site.lifetimes.sum_ns() as u64];
        (site.gopc, [site.created, site.exited, site.live, site.at_attach, lifetimes[0], lifetimes[1]])
    });
    let (unattributed, unmatched) = (instance.unattributed_exits, instance.unmatched_exits);
    Counts { sites: sites.collect(), unattributed, unmatched }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn adoption_is_exact_whenever_its_list_is_applied(history in histories(false)) {
        prop_assert_eq!(counts(&history.run()), history.expected());
    }

    #[test]
    fn loss_never_makes_a_lifetime_and_a_scan_repairs_the_counts(history in histories(true)) {
        let mut tracker = history.run();
        let measured = history.measured();
        let life = |index: usize| u128::from(history.truths[index].death.unwrap() - history.truths[index].birth);
        let sum: u128 = measured.iter().map(|&index| life(index)).sum();
        let instance = tracker.instances().next().unwrap();
        let seen: usize = instance.sites().iter().map(|site| site.lifetimes.count() as usize).sum();
        let seen_sum: u128 = instance.sites().iter().map(|site| site.lifetimes.sum_ns()).sum();
        prop_assert_eq!((seen, seen_sum), (measured.len(), sum));

        tracker.begin_scan(PID, 3_000);
        tracker.reconcile(PID, history.list((3_000, 3_000)).into_iter(), 3_001);
        let instance = tracker.instances().next().unwrap();
        let alive = |site: u64| history.truths.iter().filter(|truth| truth.site == site && truth.death.is_none()).count() as u64;
        for site in instance.sites() {
            prop_assert_eq!(site.live, alive(site.gopc));
            prop_assert_eq!(site.created + site.at_attach, site.exited + site.live + site.reconciled + site.untracked);
        }
        prop_assert_eq!(tracker.live() as u64, (0..3).map(alive).sum::<u64>());
    }

    /// Each goroutine has a site of its own, so that its lifetime can be told from others. Scans come one after the
    /// other at any time, and their lists are applied at any time after they began.
    #[test]
    fn no_scan_makes_a_false_lifetime(
        mut history in prop_oneof![histories(false), histories(true)],
        scans in proptest::collection::vec((0u64..400, 0u64..200, 0usize..40, any::<bool>()), 0..6),
    ) {
        history.truths.iter_mut().enumerate().for_each(|(index, truth)| truth.site = index as u64);
        let events = history.events();
        let mut tracker = Tracker::new(Limits::default());
        tracker.process_started(PID, 0, true, history.attach);
        let (mut next, mut now) = (0, 0);
        for (wait, long, after, adopts) in scans {
            // A scan begins when the one before has ended and all events until then were applied, or later.
            let begin = events[..next].last().map_or(0, |event| event.time_ns).max(now) + wait;
            let scan = (begin, begin + long);
            now = scan.1;
            let upto = events.iter().position(|event| event.time_ns >= begin).unwrap_or(events.len());
            let upto = upto.max(next);
            events[next..upto].iter().for_each(|event| tracker.apply(event));
            next = upto;
            tracker.begin_scan(PID, scan.0);
            let list_at = (next + after).min(events.len());
            events[next..list_at].iter().for_each(|event| tracker.apply(event));
            next = list_at;
            let list = history.list(scan).into_iter();
            if adopts { tracker.adopt(PID, list, scan.1) } else { tracker.reconcile(PID, list, scan.1) }
        }
        events[next..].iter().for_each(|event| tracker.apply(event));
        let measured = history.measured();
        let whole = history.truths.iter().all(|truth| !truth.loses_creation && !truth.loses_exit);
        let instance = tracker.instances().next().unwrap();
        for site in instance.sites() {
            let truth = &history.truths[site.gopc as usize];
            prop_assert_eq!(site.created + site.at_attach, site.exited + site.live + site.reconciled + site.untracked);
            prop_assert!(!whole || site.created + site.at_attach <= 1, "{:?} counted twice", truth);
            if let Some(seen) = site.lifetimes.max_ns() {
                prop_assert_eq!((site.lifetimes.count(), Some(truth.birth + seen)), (1, truth.death));
                prop_assert!(measured.contains(&(site.gopc as usize)));
            }
        }
    }

    #[test]
    fn any_events_keep_the_balance(
        events in proptest::collection::vec((0u64..50, 1u32..4, 0u8..20, 1u64..12, 0u64..6), 0..300),
        max_goroutines in 0usize..10,
    ) {
        let limits = Limits {
            max_sites: 4,
            max_goroutines,
            max_lineages: 6,
            max_gone: 3,
            max_remembered: 4,
            ..Limits::default()
        };
        let mut tracker = Tracker::new(limits);
        for (time_ns, pid, what, goid, gopc) in events {
            let listing = || (1..goid).map(|goid| Existing { g: goid % 5, goid, parent: gopc, gopc, startpc: 2 });
            let what = match what {
                0 => What::Exec,
                1 => What::Fork { child: goid as u32, thread: 1 },
                2 => What::ProcessExit,
                3 => { tracker.begin_scan(pid, time_ns); continue }
                4 => { tracker.adopt(pid, listing(), time_ns); continue }
                5 => { tracker.reconcile(pid, listing(), time_ns); continue }
                6 => { tracker.tick(time_ns); continue }
                7..=13 => What::Created { g: goid % 7, goid, parent: gopc, gopc, startpc: 1, stack: StackCode::NONE },
                _ => What::Exited { g: goid % 7 },
            };
            tracker.apply(&Event { time_ns, pid, losses: gopc as u32 / 4, what });
            let mut live = 0;
            for instance in tracker.instances() {
                for (at, site) in instance.sites().iter().enumerate() {
                    prop_assert_eq!(site.created + site.at_attach, site.exited + site.live + site.reconciled + site.untracked);
                    let of_site = || instance.lineages().all().iter().filter(|one| one.site.0 as usize == at);
                    prop_assert_eq!(of_site().map(|lineage| lineage.live).sum::<u64>(), site.live);
                    prop_assert_eq!(of_site().map(|lineage| lineage.created).sum::<u64>(), site.created);
                    live += if instance.ended.is_some() { 0 } else { site.live };
                }
            }
            prop_assert_eq!(live, tracker.live() as u64);
            prop_assert!(tracker.live() <= max_goroutines);
        }
    }
}
