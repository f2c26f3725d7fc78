//! A fleet whose sites are known to be well, or to leak: what hourly sweeps would see of it. Hosts come and go with the load of
//! day and night, new ones get their share of it step by step, there are deploys, and now and then a process is restarted.

use super::{Flow, Sweep};
use crate::stats::random::Random;

/// Seconds between two sweeps.
const HOUR_S: f64 = 3_600.0;

/// The hosts, and how they fare hour by hour.
pub struct Fleet {
    hosts: Vec<Host>,
    /// How many hosts there are at each sweep.
    present: Vec<usize>,
}

struct Host {
    /// For each sweep, what is so at that time; `None` while the host is not there.
    hours: Vec<Option<Hour>>,
}

#[derive(Clone, Copy)]
struct Hour {
    life: u64,
    /// How long the process has run, in hours.
    age_h: f64,
    /// Its share of the load at the sweep; 1 in the mean.
    load: f64,
    /// That of the hour before the sweep, in the mean.
    load_before: f64,
}

/// What a site does on each host.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// So many that live as long as the process.
    Heartbeats(u64),
    /// A pool of so many, which is filled within this time constant in hours.
    Pool(u64, f64),
    /// A pool that never shrinks and has as many workers as there were at most at the same time.
    LazyPool(f64),
    /// Requests: so many at the same time in the mean, each for so many seconds, and so many others that live as long as the process.
    Requests(f64, f64, u64),
    /// Connections: so many in the mean, each for so many hours.
    Connections(f64, f64),
    /// One for each other host, made when that comes and ended when that goes.
    Peers,
    /// So many workers on the one host that leads, made at once when it becomes that.
    Leader(u64),
    /// So many for a quarter of an hour, once a day.
    Nightly(u64),
}

/// What leaks beside that.
#[derive(Clone, Copy, Debug)]
pub enum Leak {
    /// Nothing.
    Nothing,
    /// So many an hour on each host. It begins in the hour before the first sweep.
    Everywhere(f64),
    /// So many an hour on each host, since each process was started, maybe two days before the first sweep.
    Standing(f64),
    /// So many on the last host within three hours after this sweep, at least one in each.
    Slowly(u64, usize),
    /// So many on the last host at once after this sweep, which want to send.
    AtOnce(u64, usize),
}

impl Fleet {
    /// A fleet of at most so many hosts, watched for so many sweeps. Of it `moves` are the share of hosts that come and go with the
    /// load, and the number of deploys.
    pub fn new(hosts: usize, sweeps: usize, moves: (f64, usize), seed: u64) -> Fleet {
        let mut random = Random::new(seed);
        let phase = random.uniform();
        let day = |sweep: usize| 1.0 + 0.6 * ((sweep as f64 / 24.0 + phase) * std::f64::consts::TAU).sin();
        let deploys: Vec<f64> = (0..moves.1).map(|_| random.uniform() * sweeps as f64).collect();
        let mut life = 0;
        let mut all = Vec::new();
        for host in 0..hosts {
            let is_moving = (host as f64) < moves.0 * hosts as f64;
            let needed_from = if is_moving { 0.5 + 1.0 * random.uniform() } else { 0.0 };
            // A deploy takes two hours to reach all hosts.
            let restarts: Vec<f64> = deploys.iter().map(|at| at + 2.0 * random.uniform()).collect();
            let (mut age_h, mut hours) = (48.0 * random.uniform() * random.uniform(), Vec::new());
            let (mut was_there, mut last) = (true, 1.0);
            for sweep in 0..sweeps {
                let is_there = day(sweep) >= needed_from;
                let now = sweep as f64;
                let deployed = restarts.iter().find(|&&at| at > now - 1.0 && at <= now);
                let crashed = moves.1 > 0 && random.uniform() < 0.002;
                age_h += 1.0;
                if !was_there || deployed.is_some() || crashed {
                    life += 1;
                    age_h = deployed.map_or(random.uniform(), |at| now - at);
                }
                was_there = is_there;
                // A new host gets its share within two hours.
                let ramp = (0.2 + age_h * 0.4).min(1.0);
                let noise = (0.05 * random.normal()).exp();
                let load = day(sweep) * ramp * noise;
                let load_before = if sweep == 0 || age_h < 1.0 { load } else { (load + last) / 2.0 };
                last = load;
                hours.push(is_there.then_some(Hour { life, age_h, load, load_before }));
            }
            life += 1;
            all.push(Host { hours });
        }
        let there = |sweep: usize| all.iter().filter(|host: &&Host| host.hours[sweep].is_some()).count();
        let present = (0..sweeps).map(there).collect();
        Fleet { hosts: all, present }
    }

    /// What is seen of a site on each host.
    pub fn site(&self, shape: Shape, leak: Leak, seed: u64) -> Vec<Vec<Sweep>> {
        let mut random = Random::new(seed ^ 0x5117e);
        // The last host does not come and go.
        let chosen = self.hosts.len() - 1;
        let leader = (random.below(self.hosts.len()), 2 + random.below(18), 3 + random.below(9));
        let nightly = random.below(24);
        let seen = |(number, host): (usize, &Host)| {
            let mut site = Site::default();
            let one = |(at, hour): (usize, &Option<Hour>)| {
                let hour = (*hour)?;
                site.is_new = site.life != Some(hour.life);
                if site.is_new {
                    site = Site { life: Some(hour.life), is_new: true, ..Site::default() };
                }
                let leads = leader.0 == number && (leader.1..leader.1 + leader.2).contains(&at);
                let begins =
                    (leads && leader.1 == at, !leads && leader.0 == number && leader.1 + leader.2 == at);
                let around = Around { leads, begins, peers: self.present[at], nightly: at % 24 == nightly };
                let mut sweep = site.sweep(shape, hour, around, &mut random);
                let leaks = if number == chosen { leak } else { leak.elsewhere() };
                site.leak(leaks, hour, at, &mut sweep, &mut random);
                Some(Sweep { at_s: at as f64 * HOUR_S, life: hour.life, load: 100.0 * hour.load, ..sweep })
            };
            host.hours.iter().enumerate().filter_map(one).collect()
        };
        self.hosts.iter().enumerate().map(seen).collect()
    }
}

impl Leak {
    fn elsewhere(self) -> Leak {
        match self {
            Leak::Slowly(..) | Leak::AtOnce(..) => Leak::Nothing,
            same => same,
        }
    }
}

/// What is around a site at one sweep.
#[derive(Clone, Copy)]
struct Around {
    leads: bool,
    /// Whether it begins and ceases to lead.
    begins: (bool, bool),
    peers: usize,
    nightly: bool,
}

/// A site on one host, in one life of its process.
#[derive(Default)]
struct Site {
    leaked: u64,
    oldest_s: f64,
    /// (birth in hours of the process's age, how many of that hour live).
    cohorts: Vec<(f64, u64)>,
    most: u64,
    life: Option<u64>,
    /// Whether this is the first sweep of the life.
    is_new: bool,
}

impl Site {
    fn sweep(&mut self, shape: Shape, hour: Hour, around: Around, random: &mut Random) -> Sweep {
        let age_s = hour.age_h * HOUR_S;
        let idle = Flow { seconds: HOUR_S, ..Flow::default() };
        // Those that came in this hour and stay as long as the process.
        let staying = |live: u64, before: u64| {
            let flow = Flow { created: live.saturating_sub(before), ..idle };
            Sweep { live, oldest_s: if live > 0 { age_s } else { 0.0 }, flow: Some(flow), ..Sweep::default() }
        };
        match shape {
            Shape::Heartbeats(n) => staying(n, if hour.age_h < 1.0 { 0 } else { n }),
            Shape::Pool(n, fills_h) => {
                let filled =
                    |age_h: f64| (n as f64 * (1.0 - (-age_h.max(0.0) / fills_h).exp())).round() as u64;
                staying(filled(hour.age_h), filled(hour.age_h - 1.0))
            }
            Shape::LazyPool(mean) => {
                // The most of an hour is some errors above its mean.
                let peak = random.count(mean * hour.load) + (2.0 * (mean * hour.load).sqrt()) as u64;
                let before = self.most;
                self.most = self.most.max(peak);
                staying(self.most, before)
            }
            Shape::Requests(mean, seconds, others) => {
                let live = random.count(mean * hour.load);
                let ended = random.count(mean * hour.load_before * HOUR_S / seconds);
                let lifetime_s =
                    ended as f64 * seconds * (1.0 + random.normal() / (ended.max(1) as f64).sqrt());
                let flow = Flow { created: ended, ended, lifetime_s: lifetime_s.max(0.0), ..idle };
                let oldest_s = (seconds * (live as f64 + 1.0).ln() + random.wait(seconds)).min(age_s);
                let oldest_s = if others > 0 { age_s } else { oldest_s };
                let wanting = random.count(live as f64 / 4.0).min(live);
                Sweep { live: live + others, oldest_s, wanting, flow: Some(flow), ..Sweep::default() }
            }
            Shape::Connections(mean, hours) => {
                let before_h = (hour.age_h - 1.0).max(0.0);
                if self.cohorts.is_empty() && hour.age_h > 1.0 {
                    // Those that were there before anybody looked, each as old as half of the mean.
                    self.cohorts = vec![((before_h - hours / 2.0).max(0.0), random.count(mean * hour.load))];
                }
                let mut flow = idle;
                for (birth, live) in &mut self.cohorts {
                    let ended = random.count(*live as f64 * (1.0 - (-1.0 / hours).exp())).min(*live);
                    *live -= ended;
                    flow.ended += ended;
                    flow.lifetime_s += ended as f64 * (hour.age_h - *birth) * HOUR_S;
                }
                flow.created = random.count(mean * hour.load * (1.0 - (-1.0 / hours).exp()));
                self.cohorts.push((before_h + random.uniform(), flow.created));
                self.cohorts.retain(|&(_, live)| live > 0);
                let live = self.cohorts.iter().map(|&(_, live)| live).sum();
                let oldest_s = self.cohorts.first().map_or(0.0, |&(birth, _)| (hour.age_h - birth) * HOUR_S);
                Sweep { live, oldest_s, flow: Some(flow), ..Sweep::default() }
            }
            Shape::Peers => {
                let (live, before) = (around.peers as u64, self.most);
                self.most = live;
                let ended = before.saturating_sub(live);
                let mut sweep = staying(live, before);
                let flow = sweep.flow.unwrap_or_default();
                sweep.flow = Some(Flow { ended, lifetime_s: ended as f64 * 6.0 * HOUR_S, ..flow });
                sweep
            }
            Shape::Leader(n) if around.leads => {
                self.oldest_s =
                    if around.begins.0 { HOUR_S * random.uniform() } else { self.oldest_s + HOUR_S };
                let flow = Flow { created: if around.begins.0 { n } else { 0 }, ..idle };
                Sweep { live: n, oldest_s: self.oldest_s, flow: Some(flow), ..Sweep::default() }
            }
            Shape::Leader(n) => {
                let ended = if around.begins.1 { n } else { 0 };
                Sweep {
                    flow: Some(Flow { ended, lifetime_s: ended as f64 * self.oldest_s, ..idle }),
                    ..Sweep::default()
                }
            }
            Shape::Nightly(n) if around.nightly => {
                let flow = Flow { created: n, ended: n / 2, lifetime_s: (n / 2) as f64 * 900.0, ..idle };
                Sweep { live: n - n / 2, oldest_s: 800.0, flow: Some(flow), ..Sweep::default() }
            }
            Shape::Nightly(_) => Sweep { flow: Some(idle), ..Sweep::default() },
        }
    }

    /// Adds what leaks.
    fn leak(&mut self, leak: Leak, hour: Hour, at: usize, sweep: &mut Sweep, random: &mut Random) {
        let new = match leak {
            Leak::Nothing => 0,
            // What leaked before the first sweep of a life is there already.
            Leak::Standing(per_hour) if self.is_new => random.count(per_hour * hour.age_h),
            Leak::Everywhere(per_hour) if self.is_new => random.count(per_hour * hour.age_h.min(1.0)),
            Leak::Everywhere(per_hour) | Leak::Standing(per_hour) => random.count(per_hour),
            Leak::Slowly(n, after) => match at.checked_sub(after) {
                Some(hour @ 1..=2) => {
                    random.count(n as f64 / 3.0).clamp(1, n - self.leaked - (3 - hour as u64))
                }
                Some(3) => n - self.leaked,
                _ => 0,
            },
            Leak::AtOnce(n, after) => {
                if at == after + 1 {
                    n
                } else {
                    0
                }
            }
        };
        if let Leak::AtOnce(n, after) = leak
            && at > after
        {
            sweep.wanting += n;
        }
        let is_first = self.leaked == 0;
        self.leaked += new;
        sweep.live += self.leaked;
        if let Some(flow) = &mut sweep.flow {
            flow.created += new;
        }
        if self.leaked > 0 {
            let is_old = matches!(leak, Leak::Standing(_)) && self.is_new && hour.age_h > 1.0;
            let age_s =
                if is_old { hour.age_h * HOUR_S * random.uniform() } else { HOUR_S * random.uniform() };
            self.oldest_s = if is_first { age_s } else { self.oldest_s + HOUR_S };
            sweep.oldest_s = sweep.oldest_s.max(self.oldest_s);
        }
    }
}
