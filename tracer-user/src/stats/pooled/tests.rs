//! How soon seeded leaks are found in a fleet, and how often a healthy fleet is accused.

use super::world::{Fleet, Leak as Seeded, Shape};
use super::*;

/// All that is well, as large and as small as it comes.
const HEALTHY: [Shape; 20] = [
    Shape::Heartbeats(1),
    Shape::Heartbeats(3),
    Shape::Pool(8, 0.2),
    Shape::Pool(64, 0.5),
    Shape::Pool(500, 1.0),
    Shape::LazyPool(5.0),
    Shape::LazyPool(40.0),
    Shape::Requests(0.3, 0.05, 0),
    Shape::Requests(10.0, 2.0, 0),
    Shape::Requests(200.0, 5.0, 0),
    Shape::Requests(30.0, 2.0, 1),
    Shape::Requests(5.0, 60.0, 0),
    Shape::Requests(50.0, 60.0, 2),
    Shape::Requests(40.0, 600.0, 0),
    Shape::Connections(20.0, 1.0),
    Shape::Connections(100.0, 3.0),
    Shape::Connections(8.0, 12.0),
    Shape::Peers,
    Shape::Leader(20),
    Shape::Nightly(50),
];

/// What those who sweep knew at each sweep, from the first one on.
fn so_far(hosts: &[Vec<Sweep>], sweep: usize) -> Vec<Vec<Sweep>> {
    let until = sweep as f64 * 3_600.0 + 1.0;
    hosts.iter().map(|sweeps| sweeps.iter().copied().filter(|sweep| sweep.at_s < until).collect()).collect()
}

/// The sweep, from 1 on, at which a site is called a leak.
fn found(hosts: &[Vec<Sweep>], sweeps: usize, sites: usize) -> Option<(usize, Leak)> {
    (2..sweeps).find_map(|sweep| Some((sweep + 1, judge(&so_far(hosts, sweep), sites)?)))
}

/// Which sites of healthy fleets are called leaks, at any sweep of a day.
fn accused(seeds: std::ops::Range<u64>, hosts: usize, sites: usize) -> Vec<String> {
    let mut accused = Vec::new();
    for seed in seeds {
        let fleet = Fleet::new(hosts, 24, (0.3, (seed % 3) as usize), seed);
        for site in 0..sites {
            let shape = HEALTHY[site % HEALTHY.len()];
            let seen = fleet.site(shape, Seeded::Nothing, seed * 1_000 + site as u64);
            if let Some(found) = found(&seen, 24, sites) {
                accused.push(format!("{seed}: {shape:?} {found:?}"));
            }
        }
    }
    accused
}

#[test]
fn one_an_hour_on_a_thousand_hosts_is_found_within_six_sweeps() {
    for (seed, shape) in
        [Shape::Heartbeats(0), Shape::Requests(10.0, 2.0, 0), Shape::Heartbeats(2)].into_iter().enumerate()
    {
        let fleet = Fleet::new(1_000, 6, (0.3, 0), seed as u64);
        let hosts = fleet.site(shape, Seeded::Everywhere(1.0), 7);
        let found = found(&hosts, 6, 300);
        let Some((_, Leak::Everywhere { per_hour, .. })) = found else { panic!("{shape:?}: {found:?}") };
        assert!((0.7..1.3).contains(&per_hour), "{shape:?}: {found:?}");
    }
}

#[test]
fn twenty_on_one_host_are_found_within_three_sweeps() {
    for seed in 0..20 {
        let fleet = Fleet::new(20, 12, (0.3, 0), seed);
        for leak in [Seeded::Slowly(20, 5), Seeded::AtOnce(20, 5)] {
            let hosts = fleet.site(Shape::Heartbeats(0), leak, seed);
            let found = found(&hosts, 12, 300);
            // The sixth sweep is the last one without it.
            assert!(
                matches!(found, Some((7..=9, Leak::OnHosts { host: 19, .. }))),
                "{seed} {leak:?}: {found:?}"
            );
        }
    }
}

#[test]
fn a_healthy_fleet_is_not_accused() {
    let accused = accused(0..5, 60, 40);
    assert!(accused.is_empty(), "{accused:#?}");
}

#[test]
#[ignore = "takes minutes, and a release build"]
fn no_healthy_fleet_of_a_hundred_is_accused() {
    let accused = accused(0..100, 200, 300);
    assert!(accused.is_empty(), "{}: {accused:#?}", accused.len());
}

#[test]
#[ignore = "takes minutes, and a release build"]
fn how_often_leaks_are_found() {
    let on = [
        Shape::Heartbeats(0),
        Shape::Heartbeats(2),
        Shape::Requests(10.0, 2.0, 0),
        Shape::Requests(100.0, 2.0, 0),
    ];
    for (hosts, deploys) in [(30, 0), (100, 0), (300, 0), (1_000, 0), (1_000, 2)] {
        for (shape, leak) in on
            .iter()
            .flat_map(|shape| [Seeded::Everywhere(1.0), Seeded::Standing(1.0)].map(|leak| (shape, leak)))
        {
            let mut at = Vec::new();
            for seed in 0..50 {
                let fleet = Fleet::new(hosts, 24, (0.3, deploys), seed);
                let seen = fleet.site(*shape, leak, seed);
                at.push(found(&seen, 24, 300).map_or(99, |(sweep, _)| sweep));
            }
            at.sort_unstable();
            let within = |sweeps| at.iter().filter(|&&found| found <= sweeps).count() * 2;
            let (six, day) = (within(6), within(24));
            let is_bound = hosts == 1_000 && deploys == 0;
            assert!(day == 100 || !is_bound, "{shape:?}, {leak:?}: {day} % in 24 sweeps");
            println!(
                "{hosts} hosts, {deploys} deploys, {shape:?}, {leak:?}: {six} % in 6 sweeps, {day} % in 24, median {}",
                at[25]
            );
        }
    }
}

#[test]
fn where_only_who_lives_is_known_nobody_may_go() {
    let uncounted = |hosts: Vec<Vec<Sweep>>| -> Vec<Vec<Sweep>> {
        let without = |sweep| Sweep { flow: None, ..sweep };
        hosts.into_iter().map(|sweeps| sweeps.into_iter().map(without).collect()).collect()
    };
    let fleet = Fleet::new(100, 24, (0.3, 1), 3);
    for (number, shape) in HEALTHY.into_iter().enumerate() {
        let seen = uncounted(fleet.site(shape, Seeded::Nothing, number as u64));
        assert_eq!(found(&seen, 24, 300), None, "{shape:?}");
    }
    let leaking = uncounted(fleet.site(Shape::Heartbeats(1), Seeded::Everywhere(1.0), 3));
    assert!(found(&leaking, 24, 300).is_some());
}

#[test]
fn long_lives_take_days() {
    let fleet = Fleet::new(40, 7 * 24, (0.0, 0), 1);
    let shape = Shape::Connections(20.0, 3.0);
    let healthy = fleet.site(shape, Seeded::Nothing, 1);
    let leaking = fleet.site(shape, Seeded::Everywhere(1.0), 1);
    let at_end = |hosts: &[Vec<Sweep>], days: usize| judge(&so_far(hosts, days * 24), 300);
    assert!((1..=7).all(|days| at_end(&healthy, days).is_none()));
    assert!(
        matches!(at_end(&leaking, 6), Some(Leak::Everywhere { per_hour, .. }) if (0.5..1.5).contains(&per_hour))
    );
    assert_eq!(at_end(&leaking, 2), None);
}

#[test]
fn chance_is_that_of_the_signed_ranks() {
    assert_eq!(signed_ranks(&[1.0; 19]), None);
    assert!(signed_ranks(&[1.0; 20]).is_some_and(|chance| chance < 1e-5));
    let even: Vec<f64> = (0..40).map(|at| if at % 2 == 0 { 1.0 } else { -1.0 }).collect();
    assert!(signed_ranks(&even).is_some_and(|chance| (chance - 1.0).abs() < 1e-6));
    // W = 2 of 20 different ranks against, of 210: z = (208 − 2) / √2870.
    let mut votes: Vec<f64> = (1..=20).map(f64::from).collect();
    votes[1] = -2.0;
    let z: f64 = 206.0 / 2_870f64.sqrt();
    assert!(signed_ranks(&votes).is_some_and(|chance| {
        (chance - 2.0 * (21.0 / (1 << 20) as f64).min(crate::stats::estimate::normal_tail(z))).abs() < 1e-12
    }));
}
