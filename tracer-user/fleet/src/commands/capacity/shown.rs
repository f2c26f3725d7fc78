//! How people and programs read it.

use golife::human;
use golife::stats::Estimate;
use golife::stats::usl::Scaling;
use serde_json::{Map, Value, json};

use super::super::groups::Group;
use crate::capacity::{Balance, Capacity, Forecast, Growth, NextWeek, Runway, WhatIf};
use crate::output::{Answer, Cell, Table, rounded};

type Judged = (Group, Capacity, Option<(f64, f64)>);

/// Puts all of it into an answer.
pub fn fill(answer: &mut Answer, groups: &[Judged], what_if: WhatIf) {
    let objects = groups.iter().map(|judged| object(judged, what_if));
    answer.json.insert("groups".into(), objects.collect());
    if groups.is_empty() {
        answer.words("no goroutine is known in these sweeps");
        return;
    }
    answer.table(Some("What lives, and Little's law (L = λW)".into()), law(groups));
    answer.words("Not steady: the residual L − λW is beyond its error, so it is not stationary, or leaking, and nothing is forecast. [ ] are 95 % intervals.");
    answer.table(Some("Peaks and growth".into()), peaks(groups));
    answer.table(Some("Stacks, and when they fill the memory".into()), stacks(groups));
    answer.table(Some("As load rises".into()), scaling(groups));
    if what_if.is_asked() {
        answer.table(Some(asked(what_if)), forecasts(groups, what_if));
    }
    if groups.iter().any(|(_, found, _)| found.balance == Balance::Incomplete) {
        answer.notes.push(
            "some hosts could not see every goroutine (their counts are incomplete): rates are lower bounds (≥), and whether there \
             is a steady state cannot be told, so that forecasts take it for granted"
                .into(),
        );
    }
}

fn table(groups: &[Judged], columns: &[(&str, bool)], cells: impl Fn(&Judged) -> Vec<Cell>) -> Table {
    let is_of_sites = groups.iter().any(|(group, ..)| group.site.is_some());
    let named = [("service", false)].into_iter().chain(is_of_sites.then_some(("site", false)));
    let mut table = Table::new(named.chain(columns.iter().copied()));
    for judged in groups {
        let mut row = vec![Cell::Text(judged.0.service.clone())];
        row.extend(is_of_sites.then(|| Cell::Text(judged.0.name())));
        row.extend(cells(judged));
        table.rows.push(row);
    }
    table
}

fn law(groups: &[Judged]) -> Table {
    let columns = [
        ("hosts", true),
        ("live", true),
        ("stay", true),
        ("created/s", true),
        ("mean lifetime", true),
        ("residual", true),
        ("state", false),
    ];
    table(groups, &columns, |(_, found, _)| {
        let little = found.little.as_ref();
        let live = little.and_then(|little| little.live).map(|live| {
            let more = |of: f64| of + found.standing;
            Estimate { value: found.live, low: more(live.low), high: more(live.high) }
        });
        let rate = little.map(|little| little.rate);
        let is_at_least = found.balance == Balance::Incomplete;
        let residual = little.and_then(|little| little.residual).filter(|_| !is_at_least);
        vec![
            Cell::Number(found.hosts),
            live.map_or(Cell::Number(found.live), |live| ranged(live, "", rounded)),
            Cell::Number(found.standing),
            rate.map_or(Cell::Number(found.rate), |rate| {
                ranged(rate, if is_at_least { "≥ " } else { "" }, rounded)
            }),
            little.map_or(Cell::Missing, |little| ranged(little.mean_s, "", seconds)),
            residual.map_or(Cell::Missing, |residual| ranged(residual, "", rounded)),
            Cell::Text(state(found.balance).into()),
        ]
    })
}

fn peaks(groups: &[Judged]) -> Table {
    let columns = [
        ("peak hour", false),
        ("live", true),
        ("p50 of hosts", true),
        ("p95", true),
        ("max", true),
        ("peak ÷ mean", true),
        ("growth a week", true),
        ("next week's peak", true),
    ];
    table(groups, &columns, |(_, found, _)| {
        let peak = &found.peak;
        vec![
            Cell::Text(time(peak.hour_ms)),
            Cell::Number(peak.live),
            Cell::Number(peak.live_p50),
            Cell::Number(peak.live_p95),
            Cell::Number(peak.live_max),
            found.peak_to_mean().map_or(Cell::Missing, Cell::Number),
            match found.growth {
                Growth::TooShort(days) => Cell::Text(format!("needs a week, has {} d", rounded(days))),
                Growth::Weekly(growth) => ranged(growth, "", rounded),
            },
            match found.next_week {
                NextWeek::Peak { live, .. } => ranged(live, "", rounded),
                NextWeek::TooShort => Cell::Text("needs three weeks".into()),
                NextWeek::Gaps => Cell::Text("too many hours are missing".into()),
                NextWeek::NotSteady => Cell::Text("not steady".into()),
            },
        ]
    })
}

fn stacks(groups: &[Judged]) -> Table {
    let columns = [
        ("p50 of one", true),
        ("p99", true),
        ("on a host", true),
        ("on the fullest", true),
        ("limit", true),
        ("reached", false),
    ];
    table(groups, &columns, |(_, found, each)| {
        vec![
            bytes(each.map(|each| each.0)),
            bytes(each.map(|each| each.1)),
            bytes(found.stack_host),
            bytes(found.stack_max),
            bytes(found.limit),
            Cell::Text(runway(found.runway)),
        ]
    })
}

fn scaling(groups: &[Judged]) -> Table {
    table(groups, &[("lifetimes", false)], |(_, found, _)| vec![Cell::Text(usl(found.scaling))])
}

fn forecasts(groups: &[Judged], what_if: WhatIf) -> Table {
    let columns = [
        ("hosts", true),
        ("created/s", true),
        ("live", true),
        ("stacks of a host", true),
        ("of the fullest", true),
        ("limit", true),
        ("", false),
    ];
    table(groups, &columns, |(_, found, _)| match what_if.of(found) {
        Forecast::Then { rate, hosts, live, stack_host, stack_max, longer } => vec![
            Cell::Number(hosts),
            Cell::Number(rate),
            ranged(live, "", rounded),
            bytes(stack_host),
            bytes(stack_max),
            bytes(found.limit),
            Cell::Text(match stack_max.zip(found.limit) {
                Some((most, limit)) if most >= limit => "more than the limit".into(),
                _ if longer > 1.005 => format!("lifetimes are {} times as long", rounded(longer)),
                _ => String::new(),
            }),
        ],
        other => {
            let mut row = vec![Cell::Missing; 6];
            row.push(Cell::Text(no_forecast(other).into()));
            row
        }
    })
}

fn no_forecast(forecast: Forecast) -> &'static str {
    match forecast {
        Forecast::NotSteady => "no forecast: not steady",
        Forecast::NoRate => "no forecast: nothing comes that could be more",
        Forecast::NoHost => "no host is left",
        Forecast::Saturated => "more than a host can do: the living become ever more",
        Forecast::Then { .. } => "",
    }
}

fn state(balance: Balance) -> &'static str {
    match balance {
        Balance::Steady => "steady",
        Balance::NotSteady => "not steady",
        Balance::Still => "nothing comes and goes",
        Balance::Incomplete => "cannot tell: incomplete counts",
        Balance::TooShort => "cannot tell: needs six hours",
    }
}

fn runway(runway: Runway) -> String {
    match runway {
        Runway::NoLimit => "no limit is known".into(),
        Runway::TooShort => "cannot tell: needs a week".into(),
        Runway::NotSteady => "no forecast: not steady".into(),
        Runway::Reached => "now".into(),
        Runway::Never => "not at this growth".into(),
        Runway::At { ms, earliest_ms, latest_ms } => {
            let (day, from, to) = (date(ms), date(earliest_ms), date(latest_ms));
            if from == day && to == day { day } else { format!("{day} [{from} – {to}]") }
        }
    }
}

fn usl(scaling: Option<Scaling>) -> String {
    let percent = |share: f64| format!("{} %", rounded(share * 100.0));
    let share = |of: Estimate| format!("{} [{} – {}]", percent(of.value), percent(of.low), percent(of.high));
    match scaling {
        None => "cannot tell: needs six hours of complete counts".into(),
        Some(Scaling::TooFew) => "cannot tell: needs eight hours whose loads differ".into(),
        Some(Scaling::TooLittle(range)) => {
            format!("load varied too little to tell: by a factor of {}", rounded(range))
        }
        Some(Scaling::Flat(rise)) => format!("do not rise with the load: {}", share(rise)),
        Some(Scaling::Contention(alpha)) => format!("rise with the load: contention {}", share(alpha)),
        Some(Scaling::Coherency { knee, .. }) => {
            let high = if knee.high.is_finite() { rounded(knee.high) } else { "∞".into() };
            let (at, low) = (rounded(knee.value), rounded(knee.low));
            format!("knee at {at} on a host [{low} – {high}]: of more, fewer are done")
        }
    }
}

fn asked(what_if: WhatIf) -> String {
    let parts = [
        what_if.scale.map(|scale| format!("{scale} times the load")),
        what_if.target_rate.map(|rate| format!("{rate} created per second")),
        what_if.hosts.map(|hosts| format!("on {} hosts", human::count(hosts))),
        what_if.lose.map(|lose| format!("with {} lost", human::count(lose))),
    ];
    format!("What if: {}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

/// An estimate with its interval for people, and without it for programs that read tables.
fn ranged(estimate: Estimate, before: &str, text: fn(f64) -> String) -> Cell {
    let (value, low, high) = (text(estimate.value), text(estimate.low), text(estimate.high));
    let is_narrow = low == value && high == value;
    let shown = if is_narrow { value } else { format!("{value} [{low} – {high}]") };
    Cell::Shown(format!("{before}{shown}"), estimate.value)
}

fn seconds(seconds: f64) -> String {
    human::duration((seconds.max(0.0) * 1e9) as u64)
}

fn bytes(bytes: Option<f64>) -> Cell {
    bytes.map_or(Cell::Missing, |bytes| Cell::Bytes(bytes.round() as u64))
}

fn time(ms: i64) -> String {
    let since = std::time::Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    std::time::SystemTime::UNIX_EPOCH
        .checked_add(since)
        .map_or_else(String::new, |time| humantime::format_rfc3339_seconds(time).to_string())
}

fn date(ms: i64) -> String {
    time(ms).chars().take_while(|char| *char != 'T').collect()
}

fn estimate(estimate: Estimate) -> Value {
    json!({ "value": estimate.value, "low": estimate.low, "high": estimate.high })
}

fn object((group, found, each): &Judged, what_if: WhatIf) -> Value {
    let mut object = group.json();
    let mut put = |name: &str, value: Value| object.insert(name.into(), value);
    let little = found.little.as_ref();
    let is_at_least = found.balance == Balance::Incomplete;
    put("hours", found.hours.into());
    put("hosts", json!(found.hosts));
    put("live", json!(found.live));
    put("standing", json!(found.standing));
    put("flowing", little.and_then(|little| little.live).map(estimate).into());
    put("rate", little.map_or_else(|| json!({ "value": found.rate }), |little| estimate(little.rate)));
    put("rate_at_least", is_at_least.into());
    put("mean_s", little.map(|little| estimate(little.mean_s)).into());
    let residual = little.and_then(|little| little.residual).filter(|_| !is_at_least);
    put("residual", residual.map(estimate).into());
    let state = match found.balance {
        Balance::Steady => "steady",
        Balance::NotSteady => "not-steady",
        Balance::Still => "still",
        Balance::Incomplete => "incomplete",
        Balance::TooShort => "too-short",
    };
    put("state", state.into());
    let peak = &found.peak;
    put(
        "peak",
        json!({
            "hour": time(peak.hour_ms), "hosts": peak.hosts, "live": peak.live, "live_p50": peak.live_p50,
            "live_p95": peak.live_p95, "live_max": peak.live_max, "to_mean": found.peak_to_mean(),
        }),
    );
    put(
        "growth_per_week",
        match found.growth {
            Growth::Weekly(growth) => estimate(growth),
            Growth::TooShort(_) => Value::Null,
        },
    );
    put(
        "next_week",
        match found.next_week {
            NextWeek::Peak { live, hour_ms } => {
                json!({ "state": "made", "live": estimate(live), "hour": time(hour_ms) })
            }
            NextWeek::TooShort => json!({ "state": "too-short" }),
            NextWeek::Gaps => json!({ "state": "gaps" }),
            NextWeek::NotSteady => json!({ "state": "not-steady" }),
        },
    );
    put(
        "stack_bytes",
        json!({
            "p50": each.map(|each| each.0), "p99": each.map(|each| each.1), "host": found.stack_host,
            "fullest_host": found.stack_max,
        }),
    );
    put("memory_limit", json!(found.limit));
    put(
        "runway",
        match found.runway {
            Runway::At { ms, earliest_ms, latest_ms } => {
                json!({ "state": "at", "time": time(ms), "low": time(earliest_ms), "high": time(latest_ms) })
            }
            Runway::NoLimit => json!({ "state": "no-limit" }),
            Runway::TooShort => json!({ "state": "too-short" }),
            Runway::NotSteady => json!({ "state": "not-steady" }),
            Runway::Reached => json!({ "state": "reached" }),
            Runway::Never => json!({ "state": "never" }),
        },
    );
    put("scaling", scaling_json(found.scaling));
    if what_if.is_asked() {
        put("forecast", forecast_json(what_if.of(found)));
    }
    object.into()
}

fn scaling_json(scaling: Option<Scaling>) -> Value {
    let named = |kind: &str, more: &[(&str, Value)]| {
        let mut object = Map::new();
        object.insert("kind".into(), kind.into());
        object.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        Value::Object(object)
    };
    match scaling {
        None => Value::Null,
        Some(Scaling::TooFew) => named("too-few", &[]),
        Some(Scaling::TooLittle(range)) => named("too-little", &[("range", json!(range))]),
        Some(Scaling::Flat(rise)) => named("flat", &[("rise", estimate(rise))]),
        Some(Scaling::Contention(alpha)) => named("contention", &[("alpha", estimate(alpha))]),
        Some(Scaling::Coherency { alpha, beta, knee }) => {
            named("coherency", &[("alpha", json!(alpha)), ("beta", json!(beta)), ("knee", estimate(knee))])
        }
    }
}

fn forecast_json(forecast: Forecast) -> Value {
    match forecast {
        Forecast::Then { rate, hosts, live, stack_host, stack_max, longer } => json!({
            "state": "made", "rate": rate, "hosts": hosts, "live": estimate(live), "live_per_host": live.value / hosts,
            "stack_bytes": { "host": stack_host, "fullest_host": stack_max }, "lifetime_factor": longer,
        }),
        Forecast::NotSteady => json!({ "state": "not-steady" }),
        Forecast::NoRate => json!({ "state": "no-rate" }),
        Forecast::NoHost => json!({ "state": "no-host" }),
        Forecast::Saturated => json!({ "state": "saturated" }),
    }
}
