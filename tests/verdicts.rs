//! How soon a leak is found, and how often a healthy statement is accused, over seeds of synthetic goroutines that pass
//! through the real tracker. `cargo xtask verdicts` makes `docs/verdicts.md` of it; here one seed in fifty is run.

#[path = "verdicts/world.rs"]
mod world;

use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use golife::human;
use golife::report::Level;
use world::{AFTER_S, Traffic, World};

/// Seeds of a cell in which something leaks.
const LEAKING: u64 = 200;
/// Seeds of a cell in which nothing leaks.
const HEALTHY: u64 = 5_000;

/// What each cell has that does not say otherwise: one in ten leaks, one a second, and nothing had leaked before.
const DEFAULT: World = World { traffic: traffic_beside(1.0, 0.1), leak_per_s: 1.0, standing: 0 };

/// Goroutines that live 100 ms in the mean, so many that those that leak are this share of all.
const fn traffic_beside(leak_per_s: f64, share: f64) -> Traffic {
    Traffic::Poisson(leak_per_s * (1.0 - share) / share, 0.1)
}

/// A row of a table.
struct Row {
    name: String,
    world: World,
}

fn row(name: impl Into<String>, world: World) -> Row {
    Row { name: name.into(), world }
}

/// The rows in which something leaks, by what they vary.
fn leaking() -> Vec<(&'static str, Vec<Row>)> {
    let rate = |name: &str, per_s| {
        row(name, World { traffic: traffic_beside(per_s, 0.1), leak_per_s: per_s, ..DEFAULT })
    };
    let standing = [0, 1_000, 100_000, 1_000_000];
    let share = |percent: u32| {
        let traffic = match percent {
            100 => Traffic::Poisson(1e-9, 0.1),
            _ => traffic_beside(1.0, f64::from(percent) / 100.0),
        };
        row(format!("{percent} %"), World { traffic, ..DEFAULT })
    };
    let beside = healthy_traffic().map(|(name, traffic)| row(name, World { traffic, ..DEFAULT }));
    vec![
        (
            "leaked",
            vec![
                rate("1 a minute", 1.0 / 60.0),
                rate("10 a minute", 1.0 / 6.0),
                rate("1 a second", 1.0),
                rate("10 a second", 10.0),
                rate("100 a second", 100.0),
                rate("1,000 a second", 1_000.0),
            ],
        ),
        (
            "leaked before",
            standing.map(|standing| row(human::count(standing), World { standing, ..DEFAULT })).into(),
        ),
        ("share that leaks", [1, 10, 50, 100].map(share).into()),
        ("beside", beside.into()),
        (
            "a queue that gets longer",
            [("since golife came", 0.0), ("since a minute before", 60.0)]
                .map(|(name, since_s)| {
                    let traffic = Traffic::Queue(since_s);
                    row(name, World { traffic, leak_per_s: 0.0, ..DEFAULT })
                })
                .into(),
        ),
    ]
}

fn healthy_traffic() -> [(&'static str, Traffic); 8] {
    [
        ("9 a second for 100 ms", Traffic::Poisson(9.0, 0.1)),
        ("10 a second for 10 s", Traffic::Poisson(10.0, 10.0)),
        ("1 a second for 5 s", Traffic::Poisson(1.0, 5.0)),
        ("bursts of 100 for 2 s", Traffic::Bursts),
        ("day and night, for 1 s", Traffic::DayAndNight(1.0)),
        ("day and night, for 20 s", Traffic::DayAndNight(20.0)),
        ("a full pool of 100 that turns over", Traffic::FullPool),
        ("2 connections a second for 5 min", Traffic::Connections),
    ]
}

/// The rows in which nothing leaks.
fn healthy() -> Vec<Row> {
    let none = |traffic, standing| World { traffic, leak_per_s: 0.0, standing };
    let mut rows: Vec<Row> = healthy_traffic().map(|(name, traffic)| row(name, none(traffic, 0))).into();
    rows.push(row("the first, and 1,000 that stand there", none(healthy_traffic()[0].1, 1_000)));
    rows.push(row("the second, and 1,000 that stand there", none(healthy_traffic()[1].1, 1_000)));
    rows
}

/// The row for a pool that is filled while it is watched. It cannot be told from a leak.
fn filling() -> Row {
    row("a pool that still fills", World { traffic: Traffic::Filling, leak_per_s: 0.0, standing: 0 })
}

/// In how many of the seeds `0, step, 2·step, …` below `seeds` the world is judged suspect or worse, and in how many
/// healthy, at each of [`AFTER_S`].
fn judged(world: &World, seeds: u64, step: u64) -> [Judged; AFTER_S.len()] {
    let next = AtomicU64::new(0);
    let sum = Mutex::new([Judged::default(); AFTER_S.len()]);
    let work = || {
        loop {
            let seed = next.fetch_add(step, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            let levels = world.judge(seed);
            let mut sum = sum.lock().expect("nobody panics with it");
            for (sum, level) in sum.iter_mut().zip(levels) {
                sum.suspect += u64::from(level >= Level::Suspect);
                sum.healthy += u64::from(level == Level::Healthy);
            }
        }
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (0..cores).for_each(|_| _ = scope.spawn(work));
    });
    sum.into_inner().expect("nobody panics with it")
}

/// How often a world is judged so.
#[derive(Clone, Copy, Debug, Default)]
struct Judged {
    suspect: u64,
    healthy: u64,
}

/// In how many of these seeds the world is judged suspect or worse.
fn suspects(world: &World, seeds: u64, step: u64) -> [u64; AFTER_S.len()] {
    judged(world, seeds, step).map(|judged| judged.suspect)
}

fn head(table: &mut String, first: &str) {
    let after = AFTER_S.map(|after| format!(" {after} s |")).concat();
    let lines = AFTER_S.map(|_| "---:|").concat();
    writeln!(table, "| {first} |{after}\n|---|{lines}").expect("writing to memory");
}

fn line(table: &mut String, name: &str, cells: [String; AFTER_S.len()]) {
    println!("{name}: {}", cells.join(", "));
    writeln!(table, "| {name} | {} |", cells.join(" | ")).expect("writing to memory");
}

#[test]
#[ignore = "takes minutes: `cargo xtask verdicts` runs it"]
fn all_seeds() {
    let path = std::env::var_os("GOLIFE_VERDICTS_TABLE").expect("the file for the table");
    let begin = Instant::now();
    let mut table = format!("Found in percent of {LEAKING} runs, after so many seconds:\n\n");
    for (axis, rows) in leaking() {
        head(&mut table, axis);
        for Row { name, world } in rows {
            let found = judged(&world, LEAKING, 1);
            let percent = |n: u64| format!("{:.0} %", n as f64 * 100.0 / LEAKING as f64);
            let cell = |found: Judged| match found.healthy {
                0 => percent(found.suspect),
                missed => format!("{} ({} healthy)", percent(found.suspect), percent(missed)),
            };
            line(&mut table, &name, found.map(cell));
        }
        table.push('\n');
    }
    write!(table, "Accused in so many of {} runs, where nothing leaks:\n\n", human::count(HEALTHY))
        .expect("writing to memory");
    head(&mut table, "healthy");
    let mut worst = 0;
    // In brackets how often a statement is neither accused nor called healthy.
    let cell = |Judged { suspect, healthy }: Judged| match (HEALTHY - suspect - healthy) * 100 / HEALTHY {
        0 => suspect.to_string(),
        undecided => format!("{suspect} ({undecided} % undecided)"),
    };
    for Row { name, world } in healthy() {
        let judged = judged(&world, HEALTHY, 1);
        worst = judged.iter().map(|judged| judged.suspect).max().unwrap_or(0).max(worst);
        line(&mut table, &name, judged.map(cell));
    }
    let Row { name, world } = filling();
    line(&mut table, &format!("{name} (not bounded)"), judged(&world, HEALTHY, 1).map(cell));
    println!("took {:.0} s", begin.elapsed().as_secs_f64());
    std::fs::write(path, table).expect("the table can be written");
    assert!(worst <= 1, "{worst} of {HEALTHY} accused falsely");
}

#[test]
fn one_seed_in_fifty() {
    for Row { name, world } in healthy() {
        assert_eq!(suspects(&world, HEALTHY, 50), [0; AFTER_S.len()], "{name} is accused");
    }
    // What the table promises: these are always found in half a minute, however much had leaked before.
    for standing in [0, 100_000] {
        let world = World { traffic: traffic_beside(10.0, 0.1), leak_per_s: 10.0, standing };
        assert_eq!(suspects(&world, LEAKING, 50)[2..], [4, 4], "with {standing} before");
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    assert_eq!(DEFAULT.judge(7), DEFAULT.judge(7));
    let different = (0..40).map(|seed| DEFAULT.judge(seed)).collect::<std::collections::HashSet<_>>();
    assert!(different.len() > 1, "{different:?}");
}
