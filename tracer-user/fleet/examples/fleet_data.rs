//! A synthetic fleet: the sweep files that so many hosts would have written, with leaks, a deploy in the middle that moves lines
//! and mends one of them, hosts that are missing, clocks that are off, and files that are damaged. `cargo xtask fleet-data` runs it.
//!
//! What it has sown is written beside the files, as `sown.json`, so that tests and benchmarks know what there is to find.
#![allow(clippy::unwrap_used, reason = "a tool for developers")]

use std::path::{Path, PathBuf};

use clap::Parser;
use golife::report::Level;
use golife::stats::native;
use golife::store::{Counts, Place, Row, SweepFile};

/// Writes a synthetic fleet.
#[derive(Parser)]
struct Args {
    /// Number of hosts
    #[arg(long, default_value_t = 100)]
    hosts: u32,
    /// Number of creation sites on each
    #[arg(long, default_value_t = 300)]
    sites: u32,
    /// Number of sweeps, an hour apart
    #[arg(long, default_value_t = 24)]
    sweeps: u32,
    /// Seed of all that is random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The fleet is healthy
    #[arg(long)]
    healthy: bool,
    /// All files are whole, all hosts there and all clocks right
    #[arg(long)]
    tidy: bool,
    /// Where to write: a folder, which must not be there
    out: PathBuf,
}

const HOUR_MS: i64 = 3_600_000;
/// 2026-11-01T00:00:00Z.
const START_MS: i64 = 1_793_491_200_000;
/// Sites of one service.
const OF_A_SERVICE: u32 = 30;

/// What goroutines of a site do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One more an hour on each host, until the deploy.
    Mended,
    /// One more an hour on each host.
    Slow,
    /// Twenty on one host from the middle on, and they stay.
    OneHost,
    /// Forty more an hour on one host in ten.
    Some,
    /// Come and go with day and night.
    Requests,
    /// Fill once after a start.
    Pool,
    /// One for ever.
    Heartbeat,
    /// A few that live for minutes.
    LongPoll,
}

impl Kind {
    fn of(site: u32, healthy: bool) -> Kind {
        match site {
            0 if !healthy => Kind::Mended,
            1 if !healthy => Kind::Slow,
            2 if !healthy => Kind::OneHost,
            3 if !healthy => Kind::Some,
            _ => match site % 8 {
                0..=3 => Kind::Requests,
                4 => Kind::Pool,
                5 => Kind::Heartbeat,
                _ => Kind::LongPoll,
            },
        }
    }
}

fn main() {
    let args = Args::parse();
    assert!(!args.out.exists(), "{} is there already", args.out.display());
    let mut random = fastrand::Rng::with_seed(args.seed);
    let deploy = args.sweeps / 2;
    // Each host has a seed of its own, so that the files are the same however many threads write them.
    let hosts: Vec<(u32, fastrand::Rng)> = (0..args.hosts).map(|host| (host, random.fork())).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let rows: usize = std::thread::scope(|scope| {
        let portions = hosts.chunks(hosts.len().div_ceil(threads).max(1));
        let written: Vec<_> = portions
            .map(|portion| {
                let args = &args;
                scope.spawn(move || {
                    portion
                        .iter()
                        .map(|(host, random)| write_host(args, *host, random.clone()))
                        .sum::<usize>()
                })
            })
            .collect();
        written.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let sown = serde_json::json!({
        "rows": rows,
        "deploy": deploy,
        "leaks": if args.healthy { Vec::new() } else { (0..4).map(function).collect::<Vec<_>>() },
        "mended": if args.healthy { None } else { Some(function(0)) },
    });
    std::fs::write(args.out.join("sown.json"), serde_json::to_string_pretty(&sown).unwrap()).unwrap();
    println!("{rows} rows in {}", args.out.display());
}

/// Writes what one host has swept. Returns the number of rows.
fn write_host(args: &Args, host: u32, mut random: fastrand::Rng) -> usize {
    let deploy = args.sweeps / 2;
    let skew_ms = if args.tidy { 0 } else { [0, 0, 0, 0, 0, 0, 0, HOUR_MS][host as usize % 8] };
    // A host comes, and a host goes: autoscaling.
    let is_late = host % 10 == 9;
    let mut rows = 0;
    for sweep in (0..args.sweeps).filter(|sweep| !is_late || *sweep >= args.sweeps / 4) {
        if !args.tidy && random.u32(..200) == 0 {
            continue;
        }
        let time_ms = START_MS + i64::from(sweep) * HOUR_MS + random.i64(0..600_000) + skew_ms;
        let host_name = format!("node-{host:05}");
        let made: Vec<Row> = (0..args.sites)
            .map(|site| {
                row(&host_name, host, site, sweep, deploy, time_ms, skew_ms, args.healthy, &mut random)
            })
            .collect();
        rows += made.len();
        let file = SweepFile::new(Place::new(&host_name, time_ms, random.u32(..)), made).unwrap();
        write(&args.out, &file);
        if args.tidy {
            continue;
        }
        match random.u32(..2000) {
            // Sent twice.
            0 => {
                write(&args.out, &SweepFile { place: Place { random: random.u32(..), ..file.place }, ..file })
            }
            // Cut off.
            1 => {
                let bytes = file.bytes[..file.bytes.len() / 2].to_vec();
                write(&args.out, &SweepFile { place: Place { random: random.u32(..), ..file.place }, bytes });
            }
            _ => {}
        }
    }
    rows
}

fn write(out: &Path, file: &SweepFile) {
    let path = out.join(file.place.to_string());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, &file.bytes).unwrap();
}

fn function(site: u32) -> String {
    let service = site / OF_A_SERVICE;
    format!("example.com/svc{service:02}/pkg{}.(*Worker).Run{site}", site % 7)
}

#[expect(clippy::too_many_arguments, reason = "what a row depends on")]
fn row(
    host_name: &str,
    host: u32,
    site: u32,
    sweep: u32,
    deploy: u32,
    time_ms: i64,
    skew_ms: i64,
    healthy: bool,
    random: &mut fastrand::Rng,
) -> Row {
    let service = site / OF_A_SERVICE;
    let is_new = sweep >= deploy;
    let kind = Kind::of(site, healthy);
    // Hours since the process began, which the deploy does anew.
    let age = u64::from(if is_new { sweep - deploy } else { sweep }) + 1;
    let day = 1.0 + 0.6 * (f64::from(sweep % 24) / 24.0 * std::f64::consts::TAU).sin();
    let (live, created) = match kind {
        Kind::Mended if is_new => (2, 400),
        Kind::Mended | Kind::Slow => (age + 2, 401),
        Kind::OneHost if host == 3 && sweep + 4 >= deploy && sweep < deploy => (22, 400),
        Kind::OneHost => (2, 400),
        Kind::Some if host % 10 == 4 => (40 * age, 440),
        Kind::Some => (1, 400),
        Kind::Requests => ((20.0 * day * (0.8 + 0.4 * random.f64())) as u64, (7200.0 * day) as u64),
        Kind::Pool => ((age * 8).min(16), if age <= 2 { 8 } else { 0 }),
        Kind::Heartbeat => (1, u64::from(age == 1)),
        Kind::LongPoll => (random.u64(2..9), random.u64(50..80)),
    };
    let leaks = matches!(kind, Kind::Mended | Kind::Slow | Kind::OneHost | Kind::Some) && live > 2;
    let exited = match kind {
        Kind::Heartbeat | Kind::Pool => 0,
        _ => created.saturating_sub(u64::from(leaks)),
    };
    let mean_s = if kind == Kind::LongPoll { 300.0 } else { 0.02 + f64::from(site % 50) / 20.0 };
    let lifetime = lifetimes(exited, mean_s, random);
    // The first sweep of a process finds it some minutes old.
    let started_ms = START_MS + if is_new { i64::from(deploy) * HOUR_MS } else { 0 } - HOUR_MS / 20;
    let oldest = match kind {
        Kind::Requests | Kind::LongPoll => (mean_s * 5e9) as u64,
        _ => (time_ms - skew_ms - started_ms).unsigned_abs() * 1_000_000,
    };
    Row {
        sweep_time_ms: time_ms,
        host: host_name.into(),
        service: format!("svc{service:02}"),
        version: Some(if is_new { "v1.1.0" } else { "v1.0.0" }.into()),
        build_id: Some(format!("{service:04x}{:036x}", u32::from(is_new))),
        go_version: Some("go1.26.8".into()),
        module: Some(format!("example.com/svc{service:02}")),
        function: function(site),
        file: Some(format!("/src/svc{service:02}/pkg{}/worker.go", site % 7)),
        // The deploy has moved every line.
        line: Some(40 + 7 * (site % OF_A_SERVICE) + if is_new { 3 } else { 0 }),
        ordinal: Some(1),
        entry: format!("{}.func1", function(site)),
        created,
        exited,
        live,
        at_attach: live.saturating_sub(created - exited),
        oldest_ns: Some(oldest),
        oldest_at_least: Some(true),
        stack_bytes: Some(live * 8192),
        waits: vec![(if leaks { "chan send" } else { "select" }.into(), live)],
        level: if leaks && live > 30 {
            Level::Suspect
        } else if leaks {
            Level::Watch
        } else {
            Level::Healthy
        },
        cause: leaks.then(|| "chan-send".into()),
        evidence: if leaks { vec![format!("{live} wait to send")] } else { Vec::new() },
        lifetime_count: lifetime.iter().map(|(_, count)| count).sum(),
        lifetime_sum_s: lifetime.iter().map(|(bucket, count)| native::upper_s(*bucket) * *count as f64).sum(),
        lifetime,
        counts: Counts::Exact,
        pid: 1000 + service,
        processes: 1,
        started_ms: Some(started_ms + skew_ms),
        window_ns: 3_600_000_000_000,
        memory_limit: Some(2 << 30),
        ..Row::default()
    }
}

/// Lifetimes around a mean, in the buckets of a sweep file.
fn lifetimes(count: u64, mean_s: f64, random: &mut fastrand::Rng) -> Vec<(i32, u64)> {
    let middle = native::bucket((mean_s * 1e9) as u64);
    let shares = [0.02, 0.05, 0.1, 0.16, 0.2, 0.18, 0.12, 0.08, 0.05, 0.03, 0.01];
    let jitter = random.i32(-1..=1);
    let buckets = (middle - 8 + jitter..).step_by(2).zip(shares);
    buckets
        .map(|(bucket, share)| (bucket, (share * count as f64) as u64))
        .filter(|(_, count)| *count > 0)
        .collect()
}
