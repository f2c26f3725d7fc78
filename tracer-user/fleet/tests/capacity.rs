//! What is forecast for services whose future is known, and what is not.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::path::Path;

use common::{HOUR_MS, START_MS, ask, ask_json, write};
use golife::stats::native;
use golife::store::{Counts, Row};
use serde_json::Value;

const MEAN_S: f64 = 1.5;
const GIB: u64 = 1 << 30;

/// A host's row of a site at which so many come per second, with a mean lifetime in seconds.
fn row(host: u32, hour: i64, rate: f64, mean_s: f64, live: u64) -> Row {
    let created = (rate * 3600.0).round() as u64;
    Row {
        sweep_time_ms: START_MS + hour * HOUR_MS,
        host: format!("h{host}"),
        service: "api".into(),
        function: "main.serve".into(),
        ordinal: Some(1),
        created,
        exited: created,
        live,
        stack_bytes: Some(live * 8192),
        lifetime: vec![(native::bucket((mean_s * 1e9) as u64), created)],
        lifetime_count: created,
        lifetime_sum_s: created as f64 * mean_s,
        window_ns: 3_600_000_000_000,
        memory_limit: Some(GIB),
        ..Row::default()
    }
}

/// A service on ten hosts for a day, in which 40 a second come to a host, give or take. Of it, `also` may be changed or added.
fn service(store: &Path, also: impl Fn(&mut Vec<Row>, i64)) {
    let mut random = fastrand::Rng::with_seed(3);
    let mut about = |mean: f64| mean * (0.9 + 0.2 * random.f64());
    for (host, hour) in (0..10).flat_map(|host| (0..24).map(move |hour| (host, hour))) {
        let (rate, mean_s) = (about(40.0), about(MEAN_S));
        let mut rows = vec![row(host, hour, rate, mean_s, about(rate * mean_s) as u64)];
        also(&mut rows, hour);
        write(store, rows);
    }
}

fn of(found: &Value) -> &Value {
    &found["groups"][0]
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value}"))
}

fn is_near(got: f64, want: f64) -> bool {
    (got / want - 1.0).abs() < 1e-9
}

#[test]
fn a_steady_service_is_scaled() {
    let store = tempfile::tempdir().unwrap();
    service(store.path(), |_, _| {});
    let found = ask_json("capacity", store.path(), &["--scale", "2x"]);
    assert_eq!(found["schema"], "golife.fleet-capacity/1");
    let twice = of(&found);
    assert_eq!(twice["state"], "steady", "{twice:#}");
    for (name, want) in [("rate", 400.0), ("mean_s", MEAN_S), ("flowing", 600.0)] {
        let (low, value, high) =
            (number(&twice[name]["low"]), number(&twice[name]["value"]), number(&twice[name]["high"]));
        assert!(
            low < value && value < high && (value / want - 1.0).abs() < 0.03,
            "{name}: {low} {value} {high}"
        );
    }
    let (live, forecast) = (number(&twice["live"]), &twice["forecast"]);
    assert!(is_near(number(&forecast["live"]["value"]), 2.0 * live), "{forecast}");
    assert!(number(&forecast["live"]["low"]) < 2.0 * live && number(&forecast["live"]["high"]) > 2.0 * live);
    let stack = |of: &Value| number(&of["stack_bytes"]["fullest_host"]);
    assert!(is_near(stack(forecast), 2.0 * stack(twice)));
    let same = ask_json(
        "capacity",
        store.path(),
        &["--target-rate", &(2.0 * number(&twice["rate"]["value"])).to_string()],
    );
    assert!(is_near(number(&of(&same)["forecast"]["live"]["value"]), 2.0 * live), "{same:#}");
    // A day tells nothing of weeks.
    assert_eq!((&twice["growth_per_week"], &twice["runway"]["state"]), (&Value::Null, &"too-short".into()));
    assert_eq!(twice["next_week"]["state"], "too-short");
    assert!(
        number(&twice["peak"]["to_mean"]) >= 1.0
            && twice["peak"]["live_max"].as_f64() >= twice["peak"]["live_p95"].as_f64()
    );
}

#[test]
fn lost_hosts_leave_their_load_to_the_others() {
    let store = tempfile::tempdir().unwrap();
    service(store.path(), |_, _| {});
    let found = ask_json("capacity", store.path(), &["--lose", "1"]);
    let (now, then) = (of(&found), &of(&found)["forecast"]);
    assert_eq!(then["hosts"], 9.0);
    assert!(is_near(number(&then["live"]["value"]), number(&now["live"])), "{then}");
    let of_a_host = |of: &Value| number(&of["stack_bytes"]["host"]);
    assert!(is_near(of_a_host(then), of_a_host(now) * 10.0 / 9.0), "{then}");
    assert_eq!(
        of(&ask_json("capacity", store.path(), &["--hosts", "1", "--lose", "1"]))["forecast"]["state"],
        "no-host"
    );
}

#[test]
fn a_leak_gets_no_forecast() {
    let store = tempfile::tempdir().unwrap();
    service(store.path(), |rows, hour| {
        // Three more an hour.
        let host = rows[0].host.clone();
        let born = row(0, hour, 3.0 / 3600.0, 0.0, 3 * hour.unsigned_abs());
        let function = "main.leak".into();
        rows.push(Row { host, function, exited: 0, lifetime: Vec::new(), lifetime_count: 0, ..born });
    });
    let found = ask_json("capacity", store.path(), &["--scale", "2x"]);
    let leaking = of(&found);
    assert_eq!(
        (&leaking["state"], &leaking["forecast"]),
        (&"not-steady".into(), &serde_json::json!({ "state": "not-steady" }))
    );
    assert!(number(&leaking["residual"]["low"]) > 0.0, "{leaking:#}");
    assert_eq!(leaking["runway"]["state"], "not-steady");
    let text = ask("capacity", store.path(), &["--scale", "2x"]);
    assert!(text.contains("no forecast"), "{text}");
    let sites = ask_json("capacity", store.path(), &["--by", "site"]);
    let state = |function: &str| {
        let groups = sites["groups"].as_array().unwrap();
        groups.iter().find(|group| group["function"] == function).map(|group| group["state"].clone()).unwrap()
    };
    assert_eq!((state("main.serve"), state("main.leak")), ("steady".into(), "not-steady".into()));
}

#[test]
fn a_pool_is_no_leak_and_does_not_scale() {
    let store = tempfile::tempdir().unwrap();
    service(store.path(), |rows, hour| {
        let host = rows[0].host.clone();
        let function = "main.pool".into();
        rows.push(Row { host, function, exited: 0, lifetime_count: 0, ..row(0, hour, 0.0, 0.0, 30) });
    });
    let found = ask_json("capacity", store.path(), &["--scale", "2x"]);
    let pooled = of(&found);
    assert_eq!((&pooled["state"], number(&pooled["standing"])), (&"steady".into(), 300.0));
    let want = 2.0 * number(&pooled["live"]) - 300.0;
    assert!(is_near(number(&pooled["forecast"]["live"]["value"]), want), "{pooled:#}");
}

#[test]
fn linear_growth_reaches_the_limit_on_its_day() {
    let store = tempfile::tempdir().unwrap();
    // A MiB more every hour, from 100 MiB on, of a GiB. What comes grows with it.
    for (host, hour) in (0..2).flat_map(|host| (0..10 * 24).map(move |hour| (host, hour))) {
        let live = 100 + hour as u64;
        let bytes = Some(live << 20);
        write(
            store.path(),
            vec![Row { stack_bytes: bytes, ..row(host, hour, live as f64 / MEAN_S, MEAN_S, live) }],
        );
    }
    let found = ask_json("capacity", store.path(), &[]);
    let grows = of(&found);
    assert_eq!(grows["state"], "steady", "{grows:#}");
    assert!(is_near(number(&grows["growth_per_week"]["value"]), 2.0 * 168.0), "{grows:#}");
    let want_ms = START_MS + (1024 - 100) * HOUR_MS;
    let want = humantime::format_rfc3339_seconds(
        std::time::UNIX_EPOCH + std::time::Duration::from_millis(want_ms.unsigned_abs()),
    );
    let runway = &grows["runway"];
    let day = |name: &str| runway[name].as_str().unwrap()[..10].to_owned();
    assert_eq!(
        (&runway["state"], day("time")),
        (&"at".into(), want.to_string()[..10].to_owned()),
        "{runway}"
    );
    assert!(day("low") <= day("time") && day("time") <= day("high"));
    let constant = ask_json("capacity", store.path(), &["--until", "2026-11-08"]);
    assert_eq!(of(&constant)["runway"]["state"], "too-short", "six days are no week");
}

#[test]
fn what_does_not_grow_has_no_date() {
    let store = tempfile::tempdir().unwrap();
    let day = |hour: i64| 1.0 + 0.5 * (hour as f64 / 24.0 * std::f64::consts::TAU).sin();
    for hour in 0..10 * 24 {
        let rate = 40.0 * day(hour);
        write(store.path(), vec![row(0, hour, rate, MEAN_S, (rate * MEAN_S).round() as u64)]);
    }
    let found = ask_json("capacity", store.path(), &[]);
    assert_eq!(of(&found)["runway"]["state"], "never", "{found:#}");
    assert_eq!(of(&found)["scaling"]["kind"], "flat");
}

#[test]
fn the_week_to_come_is_as_those_before() {
    let store = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    for hour in 0..28 * 24 {
        let day = 1.0 + 0.5 * (hour as f64 / 24.0 * std::f64::consts::TAU).sin();
        let weekend = if hour / 24 % 7 >= 5 { 0.5 } else { 1.0 };
        let rate = 400.0 * day * weekend * (0.98 + 0.04 * random.f64());
        write(store.path(), vec![row(0, hour, rate, MEAN_S, (rate * MEAN_S).round() as u64)]);
    }
    let found = ask_json("capacity", store.path(), &["--since", "28d", "--until", "2026-11-30"]);
    let next = &of(&found)["next_week"];
    // Among the five noons of a week is one with nearly all that the noise can add.
    let peak = 400.0 * 1.5 * MEAN_S * 1.02;
    assert_eq!(next["state"], "made", "{found:#}");
    assert!((number(&next["live"]["value"]) / peak - 1.0).abs() < 0.05, "{next}");
    assert!(number(&next["live"]["low"]) < peak && number(&next["live"]["high"]) > peak, "{next}");
    assert!(next["hour"].as_str().unwrap().contains("T06:00:00Z"), "{next}");
    let text = ask("capacity", store.path(), &["--since", "28d", "--until", "2026-11-30"]);
    assert!(text.contains("next week's peak"), "{text}");
}

#[test]
fn contention_is_named_and_forecast() {
    let store = tempfile::tempdir().unwrap();
    for hour in 0..48 {
        // W = 10 ms × (1 + 0.05 (N - 1)), and N = λW.
        let rate = 100.0 + 400.0 * (1.0 + (hour as f64 / 24.0 * std::f64::consts::TAU).sin());
        let live = 0.0095 * rate / (1.0 - 0.0005 * rate);
        let counts = row(0, hour, rate, live / rate, live.round() as u64);
        write(store.path(), vec![counts]);
    }
    let found = ask_json("capacity", store.path(), &["--scale", "1.5"]);
    let busy = of(&found);
    assert_eq!(busy["scaling"]["kind"], "contention", "{busy:#}");
    assert!((number(&busy["scaling"]["alpha"]["value"]) - 0.05).abs() < 0.005, "{busy:#}");
    assert!(number(&busy["forecast"]["live"]["value"]) > 1.6 * number(&busy["live"]), "{busy:#}");
}

#[test]
fn incomplete_counts_are_lower_bounds() {
    let store = tempfile::tempdir().unwrap();
    service(store.path(), |rows, _| rows[0].counts = Counts::Incomplete);
    let found = ask_json("capacity", store.path(), &["--scale", "2x"]);
    let seen = of(&found);
    assert_eq!(
        (&seen["state"], &seen["rate_at_least"], &seen["residual"]),
        (&"incomplete".into(), &true.into(), &Value::Null)
    );
    assert_eq!(seen["scaling"], Value::Null);
    assert!(found["notes"][0].as_str().unwrap().contains("lower bounds"), "{found:#}");
    assert!(ask("capacity", store.path(), &[]).contains('≥'));
}
