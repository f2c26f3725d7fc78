//! The tracker against the truth: random histories, records applied in time order, lists applied anywhere.

use std::collections::BTreeMap;

use super::*;
use crate::decode::StackCode;
use proptest::prelude::*;

const PID: u32 = 9;

/// What really happened to one goroutine.
#[derive(Clone, Debug)]
struct Truth {
    birth: u64,
    death: Option<u64>,
    site: u64,
    /// When the scan reads it, as a fraction of the scan's time.
    passed: f64,
    loses_creation: bool,
    loses_exit: bool,
}

#[derive(Clone, Debug)]
struct History {
    truths: Vec<Truth>,
    attach: u64,
    scan: (u64, u64),
    /// How many events are applied between the begin of the scan and its list.
    list_after: usize,
}

fn histories(losses: bool) -> impl Strategy<Value = History> {
    let truth = (
        1u64..1_000,
        prop_oneof![Just(None), (1u64..600).prop_map(Some)],
        0u64..3,
        0.0f64..1.0,
        any::<[u8; 2]>(),
    )
        .prop_map(move |(birth, life, site, passed, luck)| Truth {
            birth,
            death: life.map(|life| birth + life),
            site,
            passed,
            loses_creation: losses && luck[0] < 50,
            loses_exit: losses && luck[1] < 50,
        });
    (proptest::collection::vec(truth, 0..60), 1u64..600, 0u64..200, 1u64..300, 0usize..150).prop_map(
        |(truths, attach, wait, scan, list_after)| History {
            truths,
            attach,
            scan: (attach + wait, attach + wait + scan),
            list_after,
        },
    )
}

/// Everything that must not depend on when a list is applied.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    /// By site: created, exited, live, at attach, lifetimes, their sum.
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
            let goid = Self::goid(index);
            let creation =
                What::Created { goid, parent: 0, gopc: truth.site, startpc: 1, stack: StackCode::NONE };
            if truth.birth >= self.attach && !truth.loses_creation {
                events.push(Event { time_ns: truth.birth, pid: PID, what: creation });
            }
            if let Some(death) = truth.death.filter(|&death| death >= self.attach && !truth.loses_exit) {
                events.push(Event { time_ns: death, pid: PID, what: What::Exited { goid } });
            }
        }
        events.sort_by_key(|event| (event.time_ns, matches!(event.what, What::Exited { .. })));
        events
    }

    /// What a scan lists that passes each goroutine at some time while it runs.
    fn list(&self, scan: (u64, u64)) -> Vec<Existing> {
        let mut list = Vec::new();
        for (index, truth) in self.truths.iter().enumerate() {
            let passed = scan.0 + (truth.passed * (scan.1 - scan.0) as f64) as u64;
            if truth.birth <= passed && truth.death.is_none_or(|death| death > passed) {
                list.push(Existing { goid: Self::goid(index), parent: 0, gopc: truth.site, startpc: 1 });
            }
        }
        list
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
    let instance = tracker.instance(InstanceId(0)).unwrap();
    let used = instance.sites().iter().filter(|site| site.is_used());
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
        let (mut lifetimes, mut sum) = (0, 0);
        for truth in history.truths.iter().filter(|truth| truth.birth >= history.attach) {
            if let Some(death) = truth.death.filter(|_| !truth.loses_creation && !truth.loses_exit) {
                lifetimes += 1;
                sum += u128::from(death - truth.birth);
            }
        }
        let instance = tracker.instance(InstanceId(0)).unwrap();
        let seen: u64 = instance.sites().iter().map(|site| site.lifetimes.count()).sum();
        let seen_sum: u128 = instance.sites().iter().map(|site| site.lifetimes.sum_ns()).sum();
        prop_assert_eq!((seen, seen_sum), (lifetimes, sum));

        tracker.begin_scan(PID, 3_000);
        tracker.reconcile(PID, history.list((3_000, 3_000)).into_iter(), 3_001);
        let instance = tracker.instance(InstanceId(0)).unwrap();
        let alive = |site: u64| history.truths.iter().filter(|truth| truth.site == site && truth.death.is_none()).count() as u64;
        for site in instance.sites() {
            prop_assert_eq!(site.live, alive(site.gopc));
            prop_assert_eq!(site.created + site.at_attach, site.exited + site.live + site.reconciled + site.untracked);
        }
        prop_assert_eq!(tracker.live() as u64, (0..3).map(alive).sum::<u64>());
    }

    #[test]
    fn any_events_keep_the_balance(
        events in proptest::collection::vec((0u64..50, 1u32..4, 0u8..20, 1u64..12, 0u64..6), 0..300),
        max_goroutines in 0usize..10,
    ) {
        let limits = Limits { max_sites: 4, max_goroutines, max_lineages: 6, max_gone: 3, max_remembered: 4 };
        let mut tracker = Tracker::new(limits);
        for (time_ns, pid, what, goid, gopc) in events {
            let listing = || (1..goid).map(|goid| Existing { goid, parent: 0, gopc, startpc: 2 });
            let what = match what {
                0 => What::Exec,
                1 => What::Fork { child: goid as u32 },
                2 => What::ProcessExit,
                3 => { tracker.begin_scan(pid, time_ns); continue }
                4 => { tracker.adopt(pid, listing(), time_ns); continue }
                5 => { tracker.reconcile(pid, listing(), time_ns); continue }
                6 => { tracker.tick(time_ns); continue }
                7..=13 => What::Created { goid, parent: gopc, gopc, startpc: 1, stack: StackCode::NONE },
                _ => What::Exited { goid },
            };
            tracker.apply(&Event { time_ns, pid, what });
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
