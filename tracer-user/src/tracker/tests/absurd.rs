//! Records with times and ids that no kernel writes: the tracker may say nonsense of them, but it goes on.

use super::*;
use proptest::prelude::*;

/// A number that is as small or as large as it can be, or anything.
fn extreme() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..4, (0u64..4).prop_map(|less| u64::MAX - less), any::<u64>()]
}

#[derive(Clone, Debug)]
enum Step {
    Event(Event),
    Started(u64, bool, u64),
    Scan(u64),
    List(Vec<Existing>, u64, bool),
    Tick(u64),
    Epoch(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let existing = (0u64..4, extreme()).prop_map(|(goid, parent)| Existing { parent, ..listed(goid) });
    let created = (0u64..4, 0u64..4, extreme()).prop_map(|(g, goid, parent)| What::Created {
        g,
        goid,
        parent,
        gopc: GOPC,
        startpc: START,
        stack: StackCode::NONE,
    });
    let what = prop_oneof![
        4 => created,
        4 => (0u64..4).prop_map(|g| What::Exited { g }),
        1 => Just(What::Exec),
        1 => (6u32..9).prop_map(|child| What::Fork { child, thread: child }),
        1 => Just(What::ProcessExit),
        2 => (0..TestPoint::ALL.len(), 0u64..4).prop_map(|(point, goid)| What::Test {
            point: TestPoint::ALL[point],
            goid,
            thread: goid as u32,
            name: TestName::UNKNOWN,
        }),
    ];
    prop_oneof![
        8 => (extreme(), any::<u32>(), what)
            .prop_map(|(time_ns, losses, what)| Step::Event(Event { time_ns, pid: 7, losses, what })),
        1 => (extreme(), any::<bool>(), extreme()).prop_map(|(start, existed, now)| Step::Started(start, existed, now)),
        1 => extreme().prop_map(Step::Scan),
        1 => (proptest::collection::vec(existing, 0..4), extreme(), any::<bool>())
            .prop_map(|(list, now, adopt)| Step::List(list, now, adopt)),
        2 => extreme().prop_map(Step::Tick),
        1 => extreme().prop_map(Step::Epoch),
    ]
}

proptest! {
    #[test]
    fn no_time_is_too_absurd(steps in proptest::collection::vec(step(), 0..40), now in extreme()) {
        let mut tracker = Tracker::new(Limits::default());
        for step in steps {
            match step {
                Step::Event(event) => tracker.apply(&event),
                Step::Started(start, existed, now) => _ = tracker.process_started(7, start, existed, now),
                Step::Scan(now) => tracker.begin_scan(7, now),
                Step::List(list, now, true) => tracker.adopt(7, list.into_iter(), now),
                Step::List(list, now, false) => tracker.reconcile(7, list.into_iter(), now),
                Step::Tick(now) => tracker.tick(now),
                Step::Epoch(now) => tracker.begin_epoch(now),
            }
        }
        for instance in tracker.instances() {
            prop_assert_eq!(instance.living(now).len(), instance.sites().len());
            prop_assert!(instance.descendants(now).iter().all(|one| one.goid < 4));
            for site in 0..instance.sites().len() {
                let series = instance.series_of(SiteId(site as u32), tracker.timeline(), now);
                let trend = crate::stats::Trend::of(&series);
                prop_assert!(trend.lowest <= trend.highest);
            }
        }
    }
}
