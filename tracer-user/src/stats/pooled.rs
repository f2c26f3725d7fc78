//! What many hosts show together and none alone: whether more and more stay, by a rank test over hosts and sweeps.
//!
//! What one sweep says of one host is little: one more per hour is lost in what comes and goes. Of a thousand hosts, it is not.
//! But hosts are no independent witnesses. Day and night, deploys and the number of hosts move all of them alike, and a test over
//! hosts would be sure of each of these. So there are two questions, and each has an answer of its own:
//!
//! 1. *Is it more than chance?* Each process life of each host has one vote, the rank correlation of what stays with time (the score
//!    of Mann and Kendall), and the votes are compared by Wilcoxon's signed-rank test. It takes the votes' spread from the votes
//!    themselves, so it does not matter how alike the sweeps of one host are. The first sweep of a life is left out, in which
//!    pools are filled. The chance is divided by the number of sites (Bonferroni) and by that of sweeps.
//! 2. *Is it more than what all hosts share?* No number of hosts can outvote this. What counts is not who lives but who stays: by
//!    Little's law, rate × mean lifetime of those that came and went explains a part of the living, and with it day, night and ramps.
//!    The rest must grow by more than a quarter of what the explained part has become more or less. It must grow by more than load or
//!    the number of hosts has grown (a pool grows with one, and what is kept for each peer with the other), or grow as fast
//!    in hours in which neither is at its highest. It must grow all the time: who is full
//!    stops. And in those lives that grow, the oldest must age as fast as the clock.
//!
//! Where lives are long against the time between sweeps, ends lag behind births and rate × lifetime explains nothing. There the
//! least of each day is compared, so that it takes four days to be told.
//!
//! A single host has one vote, which is no test. It needs evidence that leaves nothing to chance: what stays becomes more in each
//! of three intervals and more than twice as many, the oldest ages as fast as the clock, and no other host has that; or many
//! want to send or want a lock, which nobody does for hours and is well. What a host has at once and keeps is what a new
//! leader or a pool has, too: nothing is said of it.
//!
//! What cannot be told from a leak by any of this is a pool that grows for hours on all hosts although load does not.

use super::balance::chance;
use super::estimate::normal_tail;
use lives::{Life, lives};

mod lives;

/// What one sweep found of a site on one host. Where the host was swept and the site was not there, that is a sweep of zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sweep {
    /// When, in seconds, of any clock that all hosts share.
    pub at_s: f64,
    /// Which life of the process it is: another number after each restart or deploy.
    pub life: u64,
    /// How many lived.
    pub live: u64,
    /// Age of the oldest in seconds; 0 where none lived.
    pub oldest_s: f64,
    /// How many of them wait for what nobody waits for who is well: they want to send, or want a lock.
    pub wanting: u64,
    /// What was counted since the sweep before; `None` where only who lives is known.
    pub flow: Option<Flow>,
    /// The load of the host in any unit, such as all goroutines that were created per second; 0 where it is not known.
    pub load: f64,
}

/// What was counted in a time before a sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flow {
    /// The length of that time in seconds.
    pub seconds: f64,
    /// How many came.
    pub created: u64,
    /// How many lifetimes ended.
    pub ended: u64,
    /// The sum of these lifetimes in seconds.
    pub lifetime_s: f64,
}

/// What the sweeps say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Leak {
    /// Many hosts grow.
    Everywhere {
        /// How likely it is that chance alone makes as much of it at any site.
        chance: f64,
        /// By how many those that stay become more per hour and host.
        per_hour: f64,
        /// How many hosts vote for it.
        hosts: usize,
    },
    /// One host grows, or a few.
    OnHosts {
        /// The number of the one that grew most, from 0.
        host: usize,
        /// By how many those that stay became more.
        grown: f64,
    },
}

/// The largest chance, over all sites and sweeps together, at which anything is called a leak.
const CHANCE: f64 = 1e-4;
/// The fewest sweeps of a life that count.
const FEWEST: usize = 4;
/// Fewer votes than this are no test.
const VOTES: usize = 20;
/// Of those that stay, the last third of the time must bring this share of what a third is.
const STEADY: f64 = 0.75;
/// The share of what is explained that may not be, since it is never known that well.
const LEAN: f64 = 0.25;
/// The hours in the mean life without a record of load or peers, from which on it is asked whether growth goes on in them.
const IDLE_HOURS: f64 = 2.0;
/// The share of the lives that grow in which the oldest must age as fast as the clock.
const AGEING: f64 = 0.8;
/// What one host must gain to be seen, and the fewest that want to send or want a lock.
const ALONE: f64 = 16.0;
/// At most this many hosts are a few.
const FEW: usize = 3;

/// Judges one site by what all hosts say of it, each with its sweeps in their order. It is one of so many sites that are
/// judged.
pub fn judge(hosts: &[Vec<Sweep>], sites: usize) -> Option<Leak> {
    let site = Site::of(hosts);
    let lives: Vec<Life> = lives(hosts, site.mean_s);
    everywhere(&lives, &site, hosts, sites).or_else(|| on_hosts(hosts, &lives, &site))
}

/// What all hosts together say.
struct Site {
    /// The mean lifetime in seconds of those that ended anywhere; `None` if nobody ended, or nobody counted.
    mean_s: Option<f64>,
    /// Whether somebody counted who comes and goes.
    is_counted: bool,
    /// The largest number of sweeps of any host.
    sweeps: usize,
}

impl Site {
    fn of(hosts: &[Vec<Sweep>]) -> Site {
        let flows = || hosts.iter().flatten().filter_map(|sweep| sweep.flow);
        let (ended, sum) = flows().fold((0, 0.0), |(n, sum), flow| (n + flow.ended, sum + flow.lifetime_s));
        Site {
            mean_s: (ended > 0).then(|| sum / ended as f64),
            is_counted: flows().next().is_some(),
            sweeps: hosts.iter().map(Vec::len).max().unwrap_or(0),
        }
    }
}

fn everywhere(lives: &[Life], site: &Site, hosts: &[Vec<Sweep>], sites: usize) -> Option<Leak> {
    let lives: Vec<&Life> = lives.iter().filter(|life| life.stays.len() >= FEWEST).collect();
    let votes: Vec<f64> = lives.iter().map(|life| life.score()).collect();
    let chance = signed_ranks(&votes)? * sites.max(1) as f64 * site.sweeps.max(1) as f64;
    if chance > CHANCE {
        return None;
    }
    let count = lives.len() as f64;
    let mean = |of: &dyn Fn(&Life) -> f64| lives.iter().map(|life| of(life)).sum::<f64>() / count;
    let gain = mean(&|life| life.gain(0.0, 1.0));
    // What all hosts share: traffic, load and peers, of what was there before.
    let traffic = LEAN * mean(&|life| life.explained_gain()).abs() + mean(&|life| life.lag());
    let peers = Peers::of(hosts);
    let shared = mean(&|life| {
        let growth = life.load_growth().max(peers.growth(life.from_s));
        life.first() * (growth * (1.0 + LEAN) - 1.0)
    });
    // Or it goes on where neither load nor peers are more than they were.
    let idle: Vec<(f64, f64)> = lives.iter().map(|life| life.idle(&peers)).collect();
    let (idle_gain, idle_hours) = idle.iter().fold((0.0, 0.0), |sum, idle| (sum.0 + idle.0, sum.1 + idle.1));
    let hours = mean(&|life| life.hours());
    let goes_on = idle_hours >= IDLE_HOURS * count && idle_gain / idle_hours >= gain / hours / 2.0;
    let is_large = gain > mean(&|life| LEAN * life.first() + life.record());
    let late = mean(&|life| life.gain(2.0 / 3.0, 1.0));
    let is_steady = late >= STEADY * gain / 3.0 && mean(&|life| life.last_step()) > 0.0;
    let grown: Vec<&&Life> = lives.iter().filter(|life| life.gain(0.0, 1.0) > 0.0).collect();
    let ageing = grown.iter().filter(|life| life.is_ageing()).count() as f64;
    // Where nobody counts who comes and goes, nobody may be seen to go.
    let is_kept = site.is_counted || mean(&|life| life.falls()) < 0.01;
    let is_more = gain > traffic && (gain > shared || goes_on && is_large);
    let (hosts, per_hour) = (grown.len(), gain / hours);
    (is_more && is_steady && is_kept && ageing >= AGEING * hosts as f64).then_some(Leak::Everywhere {
        chance,
        per_hour,
        hosts,
    })
}

/// How many hosts there were at each sweep, as (time in seconds, number).
struct Peers(Vec<(f64, usize)>);

impl Peers {
    fn of(hosts: &[Vec<Sweep>]) -> Peers {
        let mut times: Vec<f64> = hosts.iter().flatten().map(|sweep| sweep.at_s).collect();
        times.sort_by(f64::total_cmp);
        Peers(times.chunk_by(|a, b| b - a < 60.0).map(|same| (same[0], same.len())).collect())
    }

    /// By which factor the number of hosts has grown since then, at most.
    fn growth(&self, from_s: f64) -> f64 {
        let since = &self.0[self.0.partition_point(|&(at, _)| at < from_s - 60.0)..];
        let most = since.iter().map(|&(_, count)| count).max().unwrap_or(1);
        most as f64 / since.first().map_or(1, |&(_, count)| count).max(1) as f64
    }

    /// How many there were at most from one time to another.
    fn most(&self, from_s: f64, until_s: f64) -> usize {
        let within = |at: f64| at > from_s - 60.0 && at < until_s + 60.0;
        self.0.iter().filter(|&&(at, _)| within(at)).map(|&(_, count)| count).max().unwrap_or(0)
    }
}

/// Looks for hosts whose evidence leaves nothing to chance.
fn on_hosts(hosts: &[Vec<Sweep>], lives: &[Life], site: &Site) -> Option<Leak> {
    let is_slow = lives.iter().any(|life| life.is_slow);
    let is_counted = site.is_counted && !is_slow;
    let is_stuck = |life: &Life| life.is_stuck(is_counted);
    let grows = |life: &&Life| life.is_latest && (life.grows_alone(is_counted) || is_stuck(life));
    let found: Vec<&Life> = lives.iter().filter(grows).collect();
    let most = FEW.min(hosts.len().div_ceil(10)).max(1);
    let worst = found.iter().max_by(|one, other| one.recent_gain().total_cmp(&other.recent_gain()))?;
    // What several hosts begin at the same time is a deploy or a load that they share, unless it is stuck.
    let is_alone =
        found.len() <= most && lives.iter().filter(|life| life.recent_gain() >= ALONE / 2.0).count() <= most;
    (is_alone || is_stuck(worst)).then_some(Leak::OnHosts { host: worst.host, grown: worst.recent_gain() })
}

/// The one-sided chance that as much is above 0: that of Wilcoxon's signed-rank test in the normal approximation
/// (<https://en.wikipedia.org/wiki/Wilcoxon_signed-rank_test>), or that of the sign test, which is exact also where there are few votes,
/// whichever is less, times two. `None` below [`VOTES`] votes that are not 0.
fn signed_ranks(votes: &[f64]) -> Option<f64> {
    let mut votes: Vec<f64> = votes.iter().copied().filter(|&vote| vote != 0.0).collect();
    if votes.len() < VOTES {
        return None;
    }
    votes.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let (mut sum, mut squares, mut before) = (0.0, 0.0, 0.0);
    for tied in votes.chunk_by(|a, b| a.abs() == b.abs()) {
        let n = tied.len() as f64;
        let rank = before + (n + 1.0) / 2.0;
        sum += rank * tied.iter().map(|vote| vote.signum()).sum::<f64>();
        squares += rank * rank * n;
        before += n;
    }
    let ranks = normal_tail(sum / f64::sqrt(squares));
    let up = votes.iter().filter(|&&vote| vote > 0.0).count() as u32;
    let down = votes.len() as u32 - up;
    let signs = if votes.len() > 1_000 { 1.0 } else { chance(up, down) };
    Some((2.0 * ranks.min(signs)).min(1.0))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
