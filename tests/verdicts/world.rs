//! Synthetic goroutines of one `go` statement: those that end, those that leak, and those that stood there before. They
//! pass through the real tracker, and the report's verdict is the answer.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use golife::assemble::{self, Described, DescribedSite, Looked};
use golife::event::{Event, StackCode, What};
use golife::report::{BootWindow, Level, Overhead, Process, Run, Selection, Tool};
use golife::stats::random::Random;
use golife::tracker::{Existing, Limits, TestNames, Tracker};
use golife::verdict::{Wait, cause::Patterns};

const S: u64 = 1_000_000_000;
/// Boot time in ns at which the window begins.
const START: u64 = 10_000 * S;
const PID: u32 = 4242;
const SITE: u64 = 0x48_1010;

/// After so many seconds, verdicts are asked for.
pub const AFTER_S: [u64; 4] = [5, 10, 30, 60];

/// What goroutines of the statement that end do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Traffic {
    /// They come one by one at a constant rate, so many a second, and live so many seconds in the mean.
    Poisson(f64, f64),
    /// A hundred come at once, each ten seconds in the mean, and live two seconds in the mean.
    Bursts,
    /// They come at a rate that swings between 2 and 18 a second within four minutes, and live so many seconds in the mean.
    DayAndNight(f64),
    /// A hundred workers, each of which is replaced after a minute in the mean.
    FullPool,
    /// Connections that come at two a second, and live five minutes in the mean.
    Connections,
    /// One comes each tenth of a second, and they are served one after the other, 150 ms each; since so many seconds
    /// before the window.
    Queue(f64),
    /// A pool that is filled, two a second, for as long as anybody watches.
    Filling,
}

/// What happens at the statement.
#[derive(Clone, Copy, Debug)]
pub struct World {
    /// Those that end.
    pub traffic: Traffic,
    /// How many leak each second.
    pub leak_per_s: f64,
    /// How many had leaked before.
    pub standing: u64,
}

impl Traffic {
    /// Births and ends in seconds from the begin of the window, of all that live at some time until `until_s`.
    fn lives(self, random: &mut Random, until_s: f64) -> Vec<(f64, f64)> {
        match self {
            Traffic::Poisson(per_s, mean_s) => arrivals(random, until_s, per_s, mean_s, |_| 1.0),
            Traffic::Bursts => {
                let starts = arrivals(random, until_s, 0.1, 2.0, |_| 1.0);
                let each =
                    starts.iter().flat_map(|&(start, _)| (0..100).map(move |at| start + f64::from(at) / 1e4));
                each.map(|birth| (birth, birth + random.wait(2.0))).collect()
            }
            Traffic::DayAndNight(mean_s) => {
                let phase = random.uniform();
                let share = move |time: f64| {
                    (10.0 + 8.0 * ((time / 240.0 + phase) * std::f64::consts::TAU).sin()) / 18.0
                };
                arrivals(random, until_s, 18.0, mean_s, share)
            }
            Traffic::FullPool => {
                let mut lives = Vec::new();
                for _ in 0..100 {
                    let mut birth = -1.0;
                    while birth < until_s {
                        let end = birth + random.wait(60.0);
                        lives.push((birth, end));
                        birth = end;
                    }
                }
                lives
            }
            Traffic::Connections => arrivals(random, until_s, 2.0, 300.0, |_| 1.0),
            Traffic::Queue(since_s) => {
                let mut served = f64::NEG_INFINITY;
                let births = (1..).map(|at| f64::from(at) / 10.0 - since_s);
                let births =
                    births.take_while(|&birth| birth < until_s).map(|birth| birth + random.uniform() / 100.0);
                let serve = |birth: f64| {
                    served = served.max(birth) + 0.15;
                    (birth, served)
                };
                births.map(serve).collect()
            }
            Traffic::Filling => {
                let mut lives = arrivals(random, until_s, 2.0, 1.0, |time| f64::from(u8::from(time >= 0.0)));
                lives.iter_mut().for_each(|(_, end)| *end = f64::INFINITY);
                lives
            }
        }
    }
}

/// Those that come at a rate of `per_s`, times `share` at each time, and live `mean_s` in the mean. It begins so early
/// that as many end as come.
fn arrivals(
    random: &mut Random,
    until_s: f64,
    per_s: f64,
    mean_s: f64,
    share: impl Fn(f64) -> f64,
) -> Vec<(f64, f64)> {
    let mut lives = Vec::new();
    let mut birth = -8.0 * mean_s;
    loop {
        birth += random.wait(1.0 / per_s);
        if birth >= until_s {
            return lives;
        }
        if random.uniform() <= share(birth) {
            lives.push((birth, birth + random.wait(mean_s)));
        }
    }
}

fn g_of(goid: u64) -> u64 {
    0xc000_0000_0000 + 480 * goid
}

fn boot(time_s: f64) -> u64 {
    START + (time_s * 1e9) as u64
}

impl World {
    /// The levels at [`AFTER_S`].
    pub fn judge(&self, seed: u64) -> [Level; AFTER_S.len()] {
        let mut random = Random::new(seed);
        let until_s = AFTER_S[AFTER_S.len() - 1] as f64;
        let mut lives = self.traffic.lives(&mut random, until_s);
        if self.leak_per_s > 0.0 {
            let mut birth = random.wait(1.0 / self.leak_per_s);
            while birth < until_s {
                lives.push((birth, f64::INFINITY));
                birth += random.wait(1.0 / self.leak_per_s);
            }
        }
        lives.retain(|&(_, end)| end > 0.0);
        let before = lives.iter().filter(|&&(birth, _)| birth < 0.0).count() as u64;
        lives.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut tracker = Tracker::new(Limits::default());
        tracker.process_started(PID, START - 3_600 * S, true, START);
        tracker.begin_scan(PID, START);
        let existing = |goid| Existing { g: g_of(goid), goid, parent: 1, gopc: SITE, startpc: SITE + 0x800 };
        // Those of the traffic have ids from 1 on, and those that stand there the ones after.
        let standing = lives.len() as u64 + 1..lives.len() as u64 + 1 + self.standing;
        tracker.adopt(PID, (1..=before).chain(standing).map(existing), START);
        let mut events = Vec::with_capacity(2 * lives.len());
        for (goid, &(birth, end)) in (1..).zip(&lives) {
            if birth >= 0.0 {
                let (g, parent, gopc, startpc) = (g_of(goid), 1, SITE, SITE + 0x800);
                let what = What::Created { g, goid, parent, gopc, startpc, stack: StackCode::NONE };
                events.push((boot(birth), what));
            }
            if end < until_s {
                events.push((boot(end), What::Exited { g: g_of(goid) }));
            }
        }
        events.sort_by_key(|&(time, _)| time);
        let mut events = events.into_iter().peekable();
        let mut levels = [Level::Unknown; AFTER_S.len()];
        for second in 0..=AFTER_S[AFTER_S.len() - 1] {
            let now_ns = START + second * S;
            while let Some((time_ns, what)) = events.next_if(|&(time, _)| time <= now_ns) {
                tracker.apply(&Event { time_ns, pid: PID, losses: 0, what });
            }
            tracker.tick(now_ns);
            if let Some(at) = AFTER_S.iter().position(|&after| after == second) {
                levels[at] = self.level(&tracker, now_ns);
            }
        }
        levels
    }

    /// What a report says of the statement.
    fn level(&self, tracker: &Tracker, now_ns: u64) -> Level {
        let run = Run {
            tool: Tool { version: String::new(), host: None, kernel: None, arch: String::new() },
            window: BootWindow {
                start_ns: START,
                end_ns: now_ns,
                end: SystemTime::UNIX_EPOCH + Duration::from_secs(86_400),
            },
            overhead: Overhead::default(),
            untraced: Vec::new(),
        };
        let live = tracker.instances().flat_map(|instance| instance.sites()).map(|site| site.live).sum();
        // All wait for the same, so nothing but births and ends can tell. Nobody has looked before.
        let waits = [Wait { reason: "chan receive", count: live, ..Wait::default() }];
        let looked = Some(Looked { waits: &waits, ..Looked::default() });
        let described = |sites: usize| Described {
            is_left_out: false,
            process: Process::default(),
            module: None,
            methods: &[],
            sites: vec![DescribedSite { looked, ..DescribedSite::default() }; sites],
            creation_stacks: None,
            seen_calls: None,
            ..Described::default()
        };
        let described: HashMap<_, _> =
            tracker.instances().map(|instance| (instance.id, described(instance.sites().len()))).collect();
        let report = assemble::report(
            tracker,
            &described,
            &TestNames::default(),
            &Patterns::default(),
            &run,
            &Selection::default(),
        );
        let levels =
            report.processes.iter().flat_map(|process| &process.sites).map(|site| site.verdict.level);
        levels.max().unwrap_or_default()
    }
}
