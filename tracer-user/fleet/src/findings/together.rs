//! What all hosts say of a statement together, for the pooled rank test. Where a host was swept and the statement was not there, none
//! of its goroutines lived.

use std::collections::HashMap;

use golife::stats::pooled::{self, Flow, Leak, Sweep};

use super::{HostSeries, Point};
use crate::queries::Loads;

/// The leak that hosts together show and that none of them is sure of; the statement is one of so many sites. A host in it is the
/// number of its series.
pub fn leaks(hosts: &[HostSeries<'_>], loads: &Loads, sites: usize) -> Option<Leak> {
    let sweeps: Vec<Vec<Sweep>> = hosts.iter().map(|series| sweeps(series, loads)).collect();
    pooled::judge(&sweeps, sites)
}

fn sweeps(series: &HostSeries<'_>, loads: &Loads) -> Vec<Sweep> {
    let Some(service) = series.points.first().map(|point| point.service.clone()) else { return Vec::new() };
    let mut at: HashMap<i64, Vec<&Point>> = HashMap::new();
    for point in &series.points {
        at.entry(point.time_ms).or_default().push(point);
    }
    let all = loads.get(&(series.host.to_owned(), service)).map_or(&[][..], Vec::as_slice);
    let mut life = (None, 0);
    let mut sweeps = Vec::with_capacity(all.len());
    for (time_ms, load) in all {
        let points = at.get(time_ms).map_or(&[][..], Vec::as_slice);
        if let Some(point) = points.first() {
            let pid = point.started_ms.or((point.processes == 1).then_some(point.pid));
            let now = Some((point.version.as_deref(), point.processes, pid));
            if life.0 != now {
                life = (now, life.1 + 1);
            }
        }
        sweeps.push(sweep(points, *time_ms, life.1, *load));
    }
    sweeps
}

fn sweep(points: &[&Point], time_ms: i64, life: u64, load: f64) -> Sweep {
    let sum = |of: fn(&Point) -> u64| golife::human::sum(points.iter().map(|point| of(point)));
    let oldest = points.iter().filter_map(|point| point.oldest_ns).max().unwrap_or(0);
    let is_counted = |point: &&Point| point.counts != "incomplete" && point.window_ns > 0;
    let flow = points.iter().all(is_counted).then(|| Flow {
        seconds: points.iter().map(|point| point.window_ns).max().unwrap_or(0) as f64 / 1e9,
        created: sum(|point| point.created),
        ended: sum(|point| point.lifetime_count),
        lifetime_s: points.iter().map(|point| point.lifetime_sum_s).sum(),
    });
    Sweep {
        at_s: time_ms as f64 / 1e3,
        life,
        live: sum(|point| point.live),
        oldest_s: oldest as f64 / 1e9,
        wanting: sum(|point| point.wanting),
        flow: flow.filter(|flow| flow.seconds > 0.0),
        load,
    }
}
