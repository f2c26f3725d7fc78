//! Tests of the tracker: single cases here, and in the other files random histories against naive models that know
//! everything.

mod absurd;
mod ancestry;
mod model;
mod test_runs;

use super::*;
use crate::event::StackCode;
use crate::stats::Eldest;

const GOPC: u64 = 0x1000;
const START: u64 = 0x2000;

/// Where the `runtime.g` of a goroutine is, unless a test says otherwise.
fn g_of(goid: u64) -> u64 {
    0xc000_0000_0000 + 480 * goid
}

fn created(time_ns: u64, goid: u64) -> Event {
    created_on(g_of(goid), time_ns, goid)
}

fn created_on(g: u64, time_ns: u64, goid: u64) -> Event {
    happened(
        time_ns,
        What::Created { g, goid, parent: 1, gopc: GOPC, startpc: START, stack: StackCode::NONE },
    )
}

fn exited(time_ns: u64, goid: u64) -> Event {
    happened(time_ns, What::Exited { g: g_of(goid) })
}

fn happened(time_ns: u64, what: What) -> Event {
    Event { time_ns, pid: 7, losses: 0, what }
}

fn after_losses(losses: u32, event: Event) -> Event {
    Event { losses, ..event }
}

fn tracker(events: &[Event]) -> Tracker {
    let mut tracker = Tracker::new(Limits::default());
    events.iter().for_each(|event| tracker.apply(event));
    tracker
}

fn listed(goid: u64) -> Existing {
    Existing { g: g_of(goid), goid, parent: 1, gopc: GOPC, startpc: START }
}

#[test]
fn an_exit_that_others_overtook_is_its_own_goroutines() {
    let g = g_of(5);
    let late = |time_ns| happened(time_ns, What::Exited { g });
    let mut tracker = tracker(&[created(100, 1), created_on(g, 1_000, 5), created_on(g, 3_000, 6)]);
    let counts = |tracker: &Tracker| {
        let instance = tracker.instances().next().unwrap();
        let site = &instance.sites()[0];
        (site.live, site.exited, site.reconciled, site.lifetimes.max_ns(), instance.unmatched_exits)
    };
    assert_eq!(counts(&tracker), (2, 0, 1, None, 0));
    tracker.apply(&late(2_000));
    assert_eq!(counts(&tracker), (2, 1, 0, Some(1_000), 0));
    // There is no other before the one that holds the g now.
    tracker.apply(&late(2_500));
    assert_eq!(counts(&tracker), (2, 1, 0, Some(1_000), 1));
    tracker.apply(&late(3_400));
    assert_eq!(counts(&tracker), (1, 2, 0, Some(1_000), 1));
    // An exit of a goroutine of which no creation came is not that of one which was overtaken.
    tracker.apply(&created_on(g, 4_000, 7));
    tracker.apply(&created_on(g, 5_000, 8));
    tracker.apply(&late(6_000));
    tracker.apply(&late(7_000));
    assert_eq!(counts(&tracker), (1, 3, 1, Some(1_000), 2));
}

#[test]
fn a_goroutine_that_ended_has_a_lifetime() {
    let tracker = tracker(&[created(100, 1), created(1_000, 5), exited(4_000, 5)]);
    let instance = tracker.instances().next().unwrap();
    let site = &instance.sites()[0];
    assert_eq!((site.created, site.exited, site.live, site.peak), (2, 1, 1, 2));
    assert_eq!((site.lifetimes.count(), site.lifetimes.max_ns()), (1, Some(3_000)));
    assert_eq!(site.parents.by_count(), [(SiteId(0), 1)]);
    assert!(!instance.existed);
}

#[test]
fn a_lost_creation_makes_no_lifetime() {
    let tracker = tracker(&[created(100, 1), created(1_000, 5), exited(4_000, 6), exited(5_000, 5)]);
    let instance = tracker.instances().next().unwrap();
    assert_eq!(instance.unmatched_exits, 1);
    assert_eq!(instance.sites()[0].lifetimes.max_ns(), Some(4_000));
    assert_eq!(instance.sites()[0].lifetimes.count(), 1);
}

#[test]
fn a_g_that_is_used_again_gives_each_its_own_lifetime() {
    let g = g_of(5);
    let tracker = tracker(&[
        created_on(g, 1_000, 5),
        happened(4_000, What::Exited { g }),
        created_on(g, 5_000, 9),
        happened(5_100, What::Exited { g }),
    ]);
    let site = &tracker.instances().next().unwrap().sites()[0];
    assert_eq!((site.lifetimes.count(), site.lifetimes.sum_ns()), (2, 3_100));
}

#[test]
fn a_g_that_is_used_again_shows_that_an_exit_was_lost() {
    let g = g_of(5);
    let tracker = tracker(&[
        created_on(g, 1_000, 5),
        after_losses(1, created_on(g, 5_000, 9)),
        after_losses(1, happened(5_100, What::Exited { g })),
    ]);
    let instance = tracker.instances().next().unwrap();
    let site = &instance.sites()[0];
    assert_eq!((site.created, site.exited, site.reconciled, site.live), (2, 1, 1, 0));
    assert_eq!((instance.corrected, site.lifetimes.sum_ns(), tracker.live()), (1, 100, 0));
}

#[test]
fn a_lost_exit_and_a_lost_creation_on_one_g_make_no_lifetime() {
    let g = g_of(5);
    let exit = after_losses(2, happened(9_000, What::Exited { g }));
    let tracker = tracker(&[created_on(g, 1_000, 5), exit]);
    let site = &tracker.instances().next().unwrap().sites()[0];
    assert_eq!((site.created, site.exited, site.live, site.lifetimes.count()), (1, 1, 0, 0));
}

#[test]
fn an_exit_before_a_listed_goroutines_creation_is_of_another() {
    let mut tracker = tracker(&[created(1_000, 50)]);
    tracker.begin_scan(7, 1_500);
    tracker.adopt(7, [listed(3)].into_iter(), 2_000);
    // The ring is behind: the listed goroutine was born during the scan, on the g of one from before tracing.
    tracker.apply(&exited(1_600, 3));
    let site = |tracker: &Tracker| {
        let instance = tracker.instances().next().unwrap();
        let site = &instance.sites()[0];
        (site.created, site.at_attach, site.exited, site.live, instance.unattributed_exits)
    };
    assert_eq!(site(&tracker), (1, 1, 1, 1, 0), "it looks as if the listed one had ended");
    tracker.apply(&created(1_700, 3));
    assert_eq!(site(&tracker), (2, 0, 0, 2, 1));
}

/// The kernel puts the probes of exits in place first, and takes its time for those of creations. Meanwhile goroutine 5
/// ended, and goroutine 6 was created on its g.
#[test]
fn an_exit_from_before_the_scan_is_not_of_who_is_listed_on_its_g() {
    let mut tracker = Tracker::new(Limits::default());
    tracker.process_started(7, 10, true, 900);
    tracker.begin_scan(7, 1_000);
    tracker.apply(&exited(800, 5));
    tracker.adopt(7, [Existing { g: g_of(5), ..listed(6) }].into_iter(), 1_100);
    let instance = tracker.instances().next().unwrap();
    assert_eq!(
        (instance.sites()[0].live, instance.sites()[0].exited, instance.unattributed_exits),
        (1, 0, 1)
    );
}

#[test]
fn exits_without_creations_raise_an_alarm() {
    let misses = |tracker: &Tracker| tracker.misses_creations(tracker.instances().next().unwrap());
    let exits: Vec<Event> = (0..20).map(|at| exited(4_000 + at, 100 + at)).collect();
    let seen: Vec<Event> = (0..30).map(|at| created(1_000 + at, 200 + at)).collect();
    let mut one = tracker(&[created(100, 1)]);
    exits.iter().for_each(|event| one.apply(event));
    assert!(misses(&one));
    one.lost(Lost { created: 20, ..Lost::default() });
    assert!(!misses(&one), "lost records explain it");
    let mut most = tracker(&[created(100, 1)]);
    seen.iter().chain(&exits).for_each(|event| most.apply(event));
    assert!(!misses(&most), "most creations are seen");
    let mut before = tracker(&[created(100, 50)]);
    exits.iter().for_each(|event| before.apply(event));
    assert!(!misses(&before), "they are from before tracing");
}

#[test]
fn exits_from_before_tracing_are_not_unmatched() {
    let tracker = tracker(&[created(1_000, 50), exited(4_000, 6)]);
    let instance = tracker.instances().next().unwrap();
    assert_eq!((instance.unmatched_exits, instance.unattributed_exits), (0, 1));
}

#[test]
fn a_lost_exit_is_found_by_a_scan_and_taken_back_when_it_was_only_late() {
    let mut tracker = tracker(&[created(100, 1), created(1_000, 5), created(2_000, 6)]);
    tracker.begin_scan(7, 10_000);
    tracker.reconcile(7, [listed(1)].into_iter(), 11_000);
    let site = &tracker.instances().next().unwrap().sites()[0];
    assert_eq!((site.live, site.reconciled, site.exited), (1, 2, 0));
    tracker.apply(&exited(10_500, 6));
    let instance = tracker.instances().next().unwrap();
    let site = &instance.sites()[0];
    assert_eq!((site.live, site.reconciled, site.exited, instance.corrected), (1, 1, 1, 1));
    assert_eq!((site.lifetimes.count(), site.lifetimes.max_ns()), (1, Some(8_500)));
    assert_eq!(tracker.live(), 1);
}

#[test]
fn an_exec_ends_all_goroutines_without_lifetimes() {
    let tracker =
        tracker(&[created(1, 1), created(2, 2), happened(10, What::Exec), created(20, 1), created(21, 2)]);
    let before = tracker.instances().next().unwrap();
    let after = tracker.instances().nth(1).unwrap();
    assert_eq!(before.ended, Some(Ended { time_ns: 10, how: End::Exec }));
    assert_eq!(
        (before.sites()[0].live, before.sites()[0].exited, before.sites()[0].lifetimes.count()),
        (2, 0, 0)
    );
    assert_eq!(before.living(99)[0].eldest, Some(Eldest { age_ns: 9, at_least: false }));
    assert_eq!((after.execs, after.existed, after.ended), (1, false, None));
    assert_eq!(tracker.live(), 2);
}

#[test]
fn a_goid_that_comes_twice_is_another_process() {
    let tracker = tracker(&[created(1, 1), created(2, 2), created(500, 1), created(501, 3)]);
    assert_eq!(tracker.instances().next().unwrap().ended, Some(Ended { time_ns: 500, how: End::Replaced }));
    assert_eq!(tracker.instances().nth(1).unwrap().sites()[0].created, 2);
}

#[test]
fn a_scan_may_list_a_goroutine_before_its_creation_is_recorded() {
    let mut tracker = Tracker::new(Limits::default());
    tracker.process_started(7, 50, true, 100);
    tracker.begin_scan(7, 100);
    tracker.adopt(7, [1, 5].map(listed).into_iter(), 1_000);
    tracker.apply(&created(750_000, 5));
    let instance = tracker.instances().next().unwrap();
    let site = &instance.sites()[0];
    assert_eq!(instance.ended, None);
    assert_eq!((site.at_attach, site.created, site.live), (1, 1, 2));
    // No thread is preempted for an hour, so this is another process.
    tracker.apply(&created(3_600_000_000_000, 1));
    assert_eq!(
        tracker.instances().next().unwrap().ended,
        Some(Ended { time_ns: 3_600_000_000_000, how: End::Replaced })
    );
}

#[test]
fn another_start_time_is_another_process() {
    let mut tracker = tracker(&[created(1, 1)]);
    assert_eq!(tracker.process_started(7, 0, false, 5), InstanceId::new(0, 0));
    assert_eq!(tracker.process_started(7, 0, false, 6), InstanceId::new(0, 0));
    assert_eq!(tracker.process_started(7, 900, false, 1_000), InstanceId::new(1, 1));
    assert_eq!(tracker.take_new(), [InstanceId::new(0, 0), InstanceId::new(1, 1)]);
    assert!(tracker.take_new().is_empty());
}

#[test]
fn a_record_of_how_a_process_began_does_not_end_it() {
    let mut tracker = Tracker::new(Limits::default());
    tracker.process_started(7, 1_000, false, 3_000);
    let forked = |time_ns| Event { pid: 3, ..happened(time_ns, What::Fork { child: 7, thread: 1 }) };
    tracker.apply(&forked(1_000));
    tracker.apply(&happened(2_000, What::Exec));
    tracker.apply(&created(3_100, 1));
    assert_eq!(tracker.instances().count(), 1);
    tracker.apply(&forked(9_000));
    assert_eq!(tracker.instances().next().unwrap().ended, Some(Ended { time_ns: 9_000, how: End::Replaced }));
}

#[test]
fn what_comes_after_the_end_is_ignored() {
    let tracker = tracker(&[created(1, 1), happened(10, What::ProcessExit), created(9, 2), created(50, 1)]);
    assert_eq!((tracker.loss().late, tracker.instances().count(), tracker.live()), (1, 2, 1));
}

#[test]
fn strangers_make_no_instance() {
    let events =
        [What::Exec, What::Fork { child: 9, thread: 1 }, What::ProcessExit].map(|what| happened(5, what));
    assert_eq!(tracker(&events).instances().count(), 0);
}

#[test]
fn sites_beyond_the_limit_share_a_row() {
    let mut tracker = Tracker::new(Limits { max_sites: 3, ..Limits::default() });
    for site in 0..10 {
        let what = What::Created {
            g: g_of(site),
            goid: site + 1,
            parent: 0,
            gopc: site,
            startpc: START,
            stack: StackCode::NONE,
        };
        tracker.apply(&happened(site + 1, what));
    }
    let sites = tracker.instances().next().unwrap().sites();
    assert_eq!(
        sites.iter().map(|site| (site.created, site.overflow)).collect::<Vec<_>>(),
        [(1, false), (1, false), (1, false), (7, true)]
    );
}

#[test]
fn beyond_the_budget_goroutines_are_counted_only() {
    let mut tracker = Tracker::new(Limits { max_goroutines: 2, ..Limits::default() });
    (1..=5).for_each(|goid| tracker.apply(&created(goid, goid)));
    (1..=5).for_each(|goid| tracker.apply(&exited(10 + goid, goid)));
    let instance = tracker.instances().next().unwrap();
    let site = &instance.sites()[0];
    assert_eq!((site.created, site.exited, site.live, site.untracked), (5, 2, 0, 3));
    assert_eq!((instance.untracked_exits, instance.unmatched_exits), (3, 0));
}

#[test]
fn ended_processes_are_forgotten_oldest_first() {
    let mut tracker = Tracker::new(Limits { max_gone: 2, max_sites: 3, ..Limits::default() });
    for turn in 0..10u64 {
        tracker.apply(&created(100 * turn + 1, 1));
        tracker.apply(&happened(100 * turn + 50, What::ProcessExit));
    }
    assert_eq!((tracker.instances().count(), tracker.loss().forgotten), (2, 8));
    assert!(tracker.instances().all(|instance| !instance.sites()[0].overflow));
}

#[test]
fn the_adopted_are_at_least_as_old_as_the_scan() {
    let mut tracker = tracker(&[created(1_000, 50)]);
    tracker.begin_scan(7, 1_500);
    tracker.adopt(7, [listed(3), listed(50)].into_iter(), 2_000);
    tracker.apply(&exited(9_000, 3));
    tracker.apply(&exited(9_000, 4));
    let instance = tracker.instances().next().unwrap();
    let site = &instance.sites()[0];
    assert_eq!(
        (site.created, site.at_attach, site.exited, site.live, site.lifetimes.count()),
        (1, 1, 1, 1, 0)
    );
    assert_eq!(instance.unmatched_exits, 1);
    assert_eq!(instance.living(10_000)[0].eldest, Some(Eldest { age_ns: 9_000, at_least: false }));
}

/// One that was created after the probes were in place and before the first scan is known to the nanosecond, but it is
/// not the oldest.
#[test]
fn an_age_is_a_lower_bound_for_as_long_as_a_birth_is_unknown() {
    let mut tracker = tracker(&[created(1_000, 50)]);
    tracker.begin_scan(7, 1_500);
    tracker.adopt(7, [listed(3), listed(50)].into_iter(), 2_000);
    let eldest = |tracker: &Tracker| tracker.instances().next().unwrap().living(10_000)[0].eldest;
    assert_eq!(eldest(&tracker), Some(Eldest { age_ns: 9_000, at_least: true }));
    tracker.apply(&exited(9_000, 3));
    assert_eq!(eldest(&tracker), Some(Eldest { age_ns: 9_000, at_least: false }));
}

/// A second in ns.
const S: u64 = 1_000_000_000;

/// A process with one site, which creates goroutines of which some end and some stay.
struct Worker {
    tracker: Tracker,
    now: u64,
    next: u64,
}

impl Worker {
    fn new() -> Worker {
        let mut tracker = Tracker::new(Limits::default());
        tracker.process_started(7, 0, false, S);
        Worker { tracker, now: S, next: 1 }
    }

    /// Lets an hour pass. Each minute, `ends` goroutines are created that end after a second, and `stays` that stay.
    fn hour(&mut self, ends: u64, stays: u64) {
        for _ in 0..60 {
            for at in 0..ends + stays {
                self.tracker.apply(&created(self.now, self.next));
                if at < ends {
                    self.tracker.apply(&exited(self.now + S, self.next));
                }
                self.next += 1;
            }
            self.now += 60 * S;
            self.tracker.tick(self.now);
        }
        self.tracker.begin_epoch(self.now);
    }

    fn check(&self) -> (u64, u64, u64) {
        let instance = self.tracker.instances().next().unwrap();
        let site = &instance.sites()[0];
        let window = site.window();
        assert_eq!(
            window.created + window.at_begin,
            window.exited + site.live + window.reconciled + site.untracked
        );
        assert_eq!(window.lifetimes.count(), window.exited);
        let points = instance.series_of(SiteId(0), self.tracker.timeline(), self.now);
        assert!(points.len() <= Timeline::MOST + 1 && points.last().unwrap().1 == site.live, "{points:?}");
        let span = points.last().unwrap().0 - points[0].0;
        assert!(span <= 2 * 3600 * S, "{} s", span / S);
        (window.created, window.at_begin, site.live)
    }
}

#[test]
fn a_month_is_judged_by_its_last_hours() {
    let mut worker = Worker::new();
    worker.hour(10, 1);
    assert_eq!(worker.check(), (660, 0, 60), "the first epoch is the whole time");
    for _ in 0..24 * 30 {
        worker.hour(10, 0);
    }
    assert_eq!(worker.check(), (600, 60, 60), "what leaked a month ago is only there");
    worker.hour(10, 2);
    let (created, at_begin, live) = worker.check();
    assert_eq!((created, at_begin, live), (720, 60, 180));
    let instance = worker.tracker.instances().next().unwrap();
    let window = instance.sites()[0].window();
    assert_eq!(window.entered.iter().map(|&(_, n)| n).sum::<u64>(), 60);
    let points = instance.series_of(SiteId(0), worker.tracker.timeline(), worker.now);
    let trend = crate::stats::Trend::of(&points);
    assert!(trend.grown > 100, "{trend:?}");
}

#[test]
fn what_ended_before_the_last_epoch_is_forgotten() {
    let mut worker = Worker::new();
    worker.hour(1, 0);
    worker.tracker.apply(&happened(worker.now + S, What::ProcessExit));
    worker.hour(0, 0);
    assert_eq!(worker.tracker.instances().count(), 1);
    worker.hour(0, 0);
    worker.hour(0, 0);
    assert_eq!((worker.tracker.instances().count(), worker.tracker.loss().forgotten), (0, 0));
    assert_eq!(worker.tracker.take_new(), [], "it was never asked for");
    assert_eq!(worker.tracker.take_forgotten(), []);
}

#[test]
fn slots_are_used_again_and_ids_are_not() {
    let mut tracker = Tracker::new(Limits { max_gone: 2, ..Limits::default() });
    let mut ids = std::collections::HashSet::new();
    for at in 0..1_000 {
        ids.insert(tracker.process_started(at, 0, false, u64::from(at) * 10));
        tracker.take_new();
        tracker.apply(&Event {
            time_ns: u64::from(at) * 10 + 5,
            pid: at,
            losses: 0,
            what: What::ProcessExit,
        });
        let forgotten = tracker.take_forgotten();
        assert_eq!(forgotten.len(), usize::from(at >= 2));
        assert!(forgotten.iter().all(|id| ids.contains(id) && tracker.instance(*id).is_none()));
    }
    assert_eq!((ids.len(), tracker.instances.len()), (1_000, 3));
    assert!(tracker.instances().zip(tracker.instances().skip(1)).all(|(a, b)| a.id < b.id));
}
