//! Compares lineages with a naive model that keeps the whole chain of creators of every goroutine there ever was.

use std::collections::{BTreeMap, HashMap};

use crate::event::StackCode;
use crate::tracker::*;
use proptest::prelude::*;

const PID: u32 = 9;

/// Every goroutine has a g of its own here.
fn g_of(goid: u64) -> u64 {
    0xc000_0000_0000 + 480 * goid
}

/// One thing that happens to goroutines. An index chooses one of those that live.
#[derive(Clone, Copy, Debug)]
enum Step {
    Create { creator: usize, gopc: u64 },
    Exit { which: usize },
}

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (any::<usize>(), 0u64..6).prop_map(|(creator, gopc)| Step::Create { creator, gopc }),
        1 => any::<usize>().prop_map(|which| Step::Exit { which }),
    ];
    proptest::collection::vec(step, 0..most)
}

/// The site of a goroutine, that of its creator, and so on to its first known creator.
type Chain = Vec<u64>;

/// What happened to all goroutines, dead or alive.
#[derive(Default)]
struct Model {
    chains: HashMap<u64, Chain>,
    living: Vec<u64>,
    parents: HashMap<u64, u64>,
    created: BTreeMap<Chain, u64>,
}

impl Model {
    fn create(&mut self, goid: u64, parent: u64, gopc: u64) {
        let chain = child(self.chains.get(&parent), gopc);
        *self.created.entry(chain.clone()).or_default() += 1;
        self.chains.insert(goid, chain);
        self.parents.insert(goid, parent);
        self.living.push(goid);
    }

    fn live(&self) -> BTreeMap<Chain, u64> {
        let mut live = BTreeMap::new();
        self.living.iter().for_each(|goid| *live.entry(self.chains[goid].clone()).or_default() += 1);
        live
    }
}

/// The chain of a goroutine that is created at a site. With recursion, the site keeps the creators that it had before.
fn child(creators: Option<&Chain>, gopc: u64) -> Chain {
    let creators = creators.map(Vec::as_slice).unwrap_or_default();
    match creators.iter().position(|site| *site == gopc) {
        Some(at) => creators[at..].to_vec(),
        None => [&[gopc], creators].concat(),
    }
}

/// Runs the steps through the tracker and the model. A goroutine is created by one of the last ten in the list of the
/// living.
fn run(model: &mut Model, tracker: &mut Tracker, steps: &[Step], mut time_ns: u64) {
    for step in steps {
        time_ns += 1;
        let what = match *step {
            Step::Create { creator, gopc } => {
                let (goid, known) = (model.chains.len() as u64 + 1, model.living.len());
                let parent = match known {
                    0 => 0,
                    _ => model.living[known - 1 - creator % known.min(10)],
                };
                model.create(goid, parent, gopc);
                What::Created { g: g_of(goid), goid, parent, gopc, startpc: 7, stack: StackCode::NONE }
            }
            Step::Exit { which } if !model.living.is_empty() => {
                let goid = model.living.swap_remove(which % model.living.len());
                What::Exited { g: g_of(goid) }
            }
            Step::Exit { .. } => continue,
        };
        tracker.apply(&Event { time_ns, pid: PID, losses: 0, what });
    }
}

/// The live and the created counts by chain, as the tracker has them.
fn counted(instance: &Instance) -> (BTreeMap<Chain, u64>, BTreeMap<Chain, u64>) {
    let (mut live, mut created) = (BTreeMap::new(), BTreeMap::new());
    let all = instance.lineages().all();
    for lineage in all {
        let mut chain = Vec::new();
        let mut next = Some(lineage);
        while let Some(lineage) = next {
            chain.push(instance.sites()[lineage.site.0 as usize].gopc);
            next = lineage.parent.map(|parent| &all[parent.0 as usize]);
        }
        for (counts, n) in [(&mut live, lineage.live), (&mut created, lineage.created)] {
            if n > 0 {
                *counts.entry(chain.clone()).or_default() += n;
            }
        }
    }
    (live, created)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn every_goroutine_keeps_its_creators_beyond_their_death(steps in steps(300)) {
        let (mut model, mut tracker) = (Model::default(), Tracker::new(Limits::default()));
        run(&mut model, &mut tracker, &steps, 0);
        let Some(instance) = tracker.instances().next() else { return Ok(()) };
        let (live, created) = counted(instance);
        prop_assert_eq!(live, model.live());
        prop_assert_eq!(created, model.created);
    }

    #[test]
    fn what_existed_before_has_the_creators_that_live(
        before in steps(200),
        during in (any::<bool>(), steps(50)),
        order in any::<prop::sample::Index>(),
    ) {
        let (only_exits, mut during) = during;
        during.retain(|step| !only_exits || matches!(step, Step::Exit { .. }));
        let mut world = Model::default();
        run(&mut world, &mut Tracker::new(Limits::default()), &before, 0);
        let mut list: Vec<Existing> = world.living.iter().map(|&goid| {
            Existing { g: g_of(goid), goid, parent: world.parents[&goid], gopc: world.chains[&goid][0], startpc: 7 }
        }).collect();
        if !list.is_empty() {
            let at = order.index(list.len());
            list.rotate_left(at);
        }
        let mut model = Model { living: world.living.clone(), ..Model::default() };
        model.chains = world.chains.clone();
        let mut tracker = Tracker::new(Limits::default());
        tracker.process_started(PID, 0, true, 1_000);
        tracker.begin_scan(PID, 1_000);
        // Of what happens while the process is read, the list says nothing.
        run(&mut model, &mut tracker, &during, 1_000);
        tracker.adopt(PID, list.into_iter(), 2_000);
        let instance = tracker.instances().next().unwrap();
        let (live, _) = counted(instance);
        let total: u64 = live.values().sum();
        prop_assert_eq!(total, model.living.len() as u64);
        if only_exits {
            // A goroutine whose creator is gone starts a new chain.
            let mut goids: Vec<u64> = world.chains.keys().copied().collect();
            goids.sort_unstable();
            for goid in goids {
                let creator = Some(world.parents[&goid]).filter(|parent| model.living.contains(parent));
                let chain = child(creator.and_then(|parent| model.chains.get(&parent)), world.chains[&goid][0]);
                model.chains.insert(goid, chain);
            }
            prop_assert_eq!(live, model.live());
        }
        let sites: u64 = instance.sites().iter().map(|site| site.live).sum();
        prop_assert_eq!(sites, total);
    }

    #[test]
    fn hostile_lists_end_and_keep_the_balance(
        list in proptest::collection::vec((0u64..12, 0u64..12, 0u64..4), 0..60),
        max_lineages in 0usize..20,
    ) {
        let mut tracker = Tracker::new(Limits { max_lineages, ..Limits::default() });
        tracker.process_started(PID, 0, true, 1);
        for (at, list) in list.chunks(15).enumerate() {
            let time_ns = 10 * at as u64 + 2;
            tracker.begin_scan(PID, time_ns);
            let existing = list.iter().map(|&(goid, parent, gopc)| Existing { g: g_of(goid), goid, parent, gopc, startpc: 7 });
            tracker.reconcile(PID, existing, time_ns + 5);
            let instance = tracker.instances().next().unwrap();
            for (at, site) in instance.sites().iter().enumerate() {
                let of_site = || instance.lineages().all().iter().filter(|one| one.site.0 as usize == at);
                prop_assert_eq!(of_site().map(|lineage| lineage.live).sum::<u64>(), site.live);
                prop_assert_eq!(of_site().map(|lineage| lineage.created).sum::<u64>(), site.created);
            }
            prop_assert!(instance.lineages().all().len() <= max_lineages + instance.sites().len());
        }
    }
}

fn created(goid: u64, parent: u64, gopc: u64) -> Event {
    Event {
        time_ns: goid,
        pid: PID,
        losses: 0,
        what: What::Created { g: g_of(goid), goid, parent, gopc, startpc: 7, stack: StackCode::NONE },
    }
}

#[test]
fn recursion_does_not_make_the_tree_grow() {
    let mut tracker = Tracker::new(Limits::default());
    // Two functions start each other, for ever.
    (1..=10_000).for_each(|goid| tracker.apply(&created(goid, goid - 1, goid % 2)));
    let instance = tracker.instances().next().unwrap();
    assert_eq!(instance.lineages().all().len(), 2);
}

#[test]
fn beyond_the_budget_creators_are_not_known_and_counted() {
    let mut tracker = Tracker::new(Limits { max_lineages: 3, ..Limits::default() });
    (1..=6).for_each(|goid| tracker.apply(&created(goid, goid - 1, goid)));
    tracker.apply(&created(7, 3, 6));
    let instance = tracker.instances().next().unwrap();
    let (live, _) = counted(instance);
    let chains: Vec<_> = live.into_iter().collect();
    let alone = |site| vec![site];
    assert_eq!(
        chains,
        [(alone(1), 1), (vec![2, 1], 1), (vec![3, 2, 1], 1), (alone(4), 1), (alone(5), 1), (alone(6), 2)]
    );
    assert_eq!(instance.lineages().cut(), 4);
}

#[test]
fn a_forgotten_process_gives_its_budget_back() {
    let mut tracker = Tracker::new(Limits { max_lineages: 4, max_gone: 1, ..Limits::default() });
    for turn in 0..10u64 {
        for goid in 1..=2 {
            tracker.apply(&Event { time_ns: 100 * turn + goid, ..created(goid, goid - 1, goid) });
        }
        tracker.apply(&Event { time_ns: 100 * turn + 50, pid: PID, losses: 0, what: What::ProcessExit });
    }
    assert!(tracker.instances().all(|instance| instance.lineages().cut() == 0));
}
