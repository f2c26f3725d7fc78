//! Whether coefficients are found again, and no knee where there is none.

use super::*;

/// Three days in which load goes up and down between these numbers at the same time, with a noise of lifetimes that is alike in
/// neighbouring hours.
fn days(curve: impl Fn(f64) -> f64, (least, most): (f64, f64), noise: f64, seed: u64) -> Vec<Hour> {
    let mut random = Random::new(seed);
    let mut lasting = 0.0;
    let hour = |at: usize| {
        let wave = (1.0 - (at as f64 / 24.0 * std::f64::consts::TAU).cos()) / 2.0;
        let live = least + (most - least) * (wave + 0.1 * random.uniform()) / 1.1;
        lasting = 0.5 * lasting + noise * 0.75f64.sqrt() * random.normal();
        Hour { rate: live / curve(live), mean_s: curve(live) * (1.0 + lasting) }
    };
    (0..72).map(hour).collect()
}

fn usl(alpha: f64, beta: f64) -> impl Fn(f64) -> f64 {
    move |n| 0.02 * (1.0 + alpha * (n - 1.0) + beta * n * (n - 1.0))
}

fn is_near(a: f64, b: f64) -> bool {
    (a / b - 1.0).abs() < 0.1
}

#[test]
fn coefficients_are_found_again() {
    for (alpha, beta, most) in [(0.05, 0.002, 20.0), (0.02, 0.000_5, 40.0), (0.1, 0.001, 40.0)] {
        let (mut held, mut near) = (0, 0);
        for seed in 0..40 {
            let found = Scaling::of(&days(usl(alpha, beta), (2.0, most), 0.005, seed), seed);
            let Scaling::Coherency { alpha: a, beta: b, knee } = found else {
                panic!("{alpha} {beta}: {found:?}")
            };
            let at = ((1.0 - alpha) / beta).sqrt();
            assert!(is_near(knee.value, at), "{at}: {found:?}");
            near += u32::from(is_near(a, alpha) && is_near(b, beta));
            held += u32::from(knee.low <= at && at <= knee.high);
        }
        assert!(near >= 38 && held >= 34, "{alpha} {beta}: {near} near, {held} held");
    }
}

#[test]
fn no_knee_is_invented() {
    let count = |curve: &dyn Fn(f64) -> f64, most: f64, noise: f64, seeds: u64| -> [u32; 3] {
        let mut kinds = [0; 3];
        for seed in 0..seeds {
            match Scaling::of(&days(curve, (5.0, most), noise, seed), seed) {
                Scaling::Flat(_) => kinds[0] += 1,
                Scaling::Contention(_) => kinds[1] += 1,
                Scaling::Coherency { .. } => kinds[2] += 1,
                other => panic!("{other:?}"),
            }
        }
        kinds
    };
    for (noise, seeds) in [(0.01, 50), (0.05, 200), (0.2, 50)] {
        let [flat, rising, knees] = count(&usl(0.0, 0.0), 50.0, noise, seeds);
        assert!(rising <= 2 && knees == 0, "noise of {noise}: {flat} flat, {rising} rising, {knees} knees");
    }
    let [_, rising, knees] = count(&usl(0.03, 0.0), 50.0, 0.03, 200);
    assert!(rising >= 198 && knees == 0, "{rising}, {knees} knees");
    // A queue for ten places, which is a limit and no knee: sharp, and blurred by chance.
    let sharp = |n: f64| 0.02 * f64::max(1.0, n / 10.0);
    let blurred = |n: f64| 0.02 * (1.0 + (n / 10.0).powi(4)).powf(0.25);
    for queue in [&sharp as &dyn Fn(f64) -> f64, &blurred] {
        let [_, _, knees] = count(queue, 25.0, 0.02, 100);
        assert_eq!(knees, 0);
    }
}

#[test]
fn what_varies_too_little_says_nothing() {
    let hours = days(usl(0.05, 0.002), (18.0, 20.0), 0.005, 1);
    assert!(matches!(Scaling::of(&hours, 1), Scaling::TooLittle(range) if range < 1.3));
    assert_eq!(Scaling::of(&hours[..7], 1), Scaling::TooFew);
    let idle = [Hour { rate: 0.0, mean_s: 1.0 }; 50];
    assert_eq!(Scaling::of(&idle, 1), Scaling::TooFew);
    // Two loads make a line, and nothing tells whether it bends.
    let same = [Hour { rate: 1.0, mean_s: 1.0 }, Hour { rate: 2.0, mean_s: 1.0 }].repeat(10);
    assert!(matches!(Scaling::of(&same, 1), Scaling::TooFew));
}
