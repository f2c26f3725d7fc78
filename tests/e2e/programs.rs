//! Traces Go programs that nobody here wrote, under load of their own kind, and compares what golife counts with what
//! they say themselves. `cargo xtask programs` fetches them and makes the table in `docs/tested.md`.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::*;

#[path = "programs/servers.rs"]
mod servers;
use servers::{Address, Load, Place, esbuild, gh, hugo};

/// How long each is under load.
const LOADED: Duration = Duration::from_secs(5);
/// How many clients ask it for something at the same time.
const CLIENTS: usize = 8;
/// Number of goroutines that serve the request for the profile: that of the connection, and the one that waits for the
/// client to leave (`backgroundRead` in <https://cs.opensource.google/go/go/+/master:src/net/http/server.go>).
const OF_THE_REQUEST: u64 = 2;

/// A server that tells how many goroutines it has.
struct Server {
    name: &'static str,
    binary: PathBuf,
    process: Running,
    /// Other processes that it needs, which are stopped after it.
    _others: Vec<Running>,
    profiles: Address,
    load: Load,
    /// The number of clients. There are fewer if a client is a series of Go programs, which takes seconds.
    clients: usize,
}

impl Server {
    /// How many goroutines it says it has, without those that serve the question. Like `runtime.NumGoroutine`, this
    /// leaves out the runtime's own.
    fn own(&self) -> io::Result<u64> {
        let answer = self.profiles.get("/debug/pprof/goroutine?debug=1")?;
        let (_, rest) =
            answer.split_once("goroutine profile: total ").ok_or_else(|| io::Error::other(answer.clone()))?;
        let total: u64 = rest.split_whitespace().next().unwrap().parse().unwrap();
        Ok(total - OF_THE_REQUEST)
    }

    /// Waits until it answers and its number has been the same for half a second.
    fn settled(&self) -> u64 {
        let deadline = Instant::now() + limit();
        let (mut last, mut times) = (0, 0);
        loop {
            let now = self.own();
            match &now {
                Ok(now) if *now == last => times += 1,
                Ok(now) => (last, times) = (*now, 0),
                Err(_) => times = 0,
            }
            if times == 5 {
                return last;
            }
            assert!(Instant::now() < deadline, "{}: its goroutines never settle: {now:?}", self.name);
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The number that `golife dump` finds, if the program says the same before and after. This is tried several times,
    /// since a program also does things by itself, while a mistake of golife's is there each time.
    fn agree_at_rest(&self) -> Result<u64, String> {
        let mut seen = String::new();
        for _ in 0..20 {
            let before = self.settled();
            let dump = run(&["dump", "--format", "json", "--pid", &self.process.pid().to_string()]);
            let after = self.own().map_err(|error| error.to_string())?;
            let found = dump.report()["goroutines"].as_array().unwrap().len() as u64;
            if before == after && found == before {
                return Ok(found);
            }
            write!(seen, " {before}/{found}/{after}").unwrap();
        }
        Err(format!("golife's number is never its own:{seen}"))
    }
}

/// The least and the most that a number was when it was looked at several times.
#[derive(Clone, Copy)]
struct Seen {
    least: u64,
    most: u64,
}

impl Seen {
    fn of(numbers: &[u64]) -> Seen {
        Seen { least: *numbers.iter().min().unwrap(), most: *numbers.iter().max().unwrap() }
    }

    fn text(self) -> String {
        if self.least == self.most {
            self.least.to_string()
        } else {
            format!("{}–{}", self.least, self.most)
        }
    }
}

/// What was measured of one server.
struct Row {
    before: u64,
    own: Seen,
    found: Seen,
    after: u64,
    created: u64,
    seconds: f64,
}

/// Traces a server under load.
fn measure(server: &Server) -> Result<Row, String> {
    let pid = server.process.pid().to_string();
    let before = server.agree_at_rest()?;
    let golife =
        attach(&["trace", "--format", "jsonl", "--interval", "250ms", "--ring-bytes", ROOMY, "--pid", &pid]);
    let over = AtomicBool::new(false);
    let own = Mutex::new(Vec::new());
    let failed = Mutex::new(None);
    let (start, load) = (Instant::now(), &server.load);
    thread::scope(|scope| {
        for _ in 0..server.clients {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    if let Err(error) = load() {
                        *failed.lock().unwrap() = Some(error);
                        return;
                    }
                }
            });
        }
        while start.elapsed() < LOADED {
            own.lock().unwrap().extend(server.own());
            thread::sleep(Duration::from_millis(50));
        }
        over.store(true, Ordering::Relaxed);
    });
    let seconds = start.elapsed().as_secs_f64();
    if let Some(error) = failed.into_inner().unwrap() {
        return Err(format!("the load failed: {error}"));
    }
    let settled = server.settled();
    let ended = stop(golife);
    let reports: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = reports.last().ok_or("no report")?;
    for (what, count) in last["loss"].as_object().unwrap() {
        // Unattributed exits are of goroutines that began or ended while the probes were put in place.
        if what != "unattributed_exits" && *count != 0 {
            return Err(format!("loss.{what} is {count}: {}", last["loss"]));
        }
    }
    let live = |report: &Value| report["summary"]["live"].as_u64().unwrap();
    if live(last) != settled {
        return Err(format!("{settled} goroutines after the load, and {} are traced", live(last)));
    }
    let loaded: Vec<u64> = reports
        .iter()
        .filter(|report| {
            // Goroutines from before tracing are only known in reports that come after a look.
            let read = !only_process(report)["scan"].is_null();
            read && report["window"]["duration_ns"].as_u64().unwrap() < LOADED.as_nanos() as u64
        })
        .map(live)
        .collect();
    let (own, found) = (Seen::of(&own.into_inner().unwrap()), Seen::of(&loaded));
    // Both are samples of the same number at different moments, so their ranges must only overlap.
    if found.least > own.most + OF_THE_REQUEST || own.least > found.most {
        return Err(format!("under load it says {}, golife {}", own.text(), found.text()));
    }
    if patched_bytes(server.process.pid()) != 0 {
        return Err("golife left a probe".into());
    }
    let after = server.agree_at_rest()?;
    Ok(Row { before, own, found, after, created: last["summary"]["created"].as_u64().unwrap(), seconds })
}

fn variable(name: &str) -> PathBuf {
    std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: run cargo xtask programs")).into()
}

/// The program's version and size for the table.
fn about(binary: &Path) -> String {
    let program = golife::go::Binary::open(&fs::File::open(binary).unwrap(), binary).unwrap();
    let version = program.build_info().version.to_string();
    let megabytes = fs::metadata(binary).unwrap().len() / 1_000_000;
    let stripped = if program.is_stripped() { ", stripped" } else { "" };
    format!("{}{stripped} | {megabytes}", version.trim_start_matches("go"))
}

/// Traces a program from its first instruction to its end. Nothing may be lost, and what was created must have ended or
/// be there at the end. Returns its cells of the table.
fn run_to_end(command: &Command) -> Result<String, String> {
    let binary = PathBuf::from(command.get_program());
    let output = tempfile::NamedTempFile::new().unwrap();
    let path = output.path().to_str().unwrap();
    let mut golife = golife();
    golife.args(["run", "--format", "json", "--ring-bytes", ROOMY, "--output", path, "--"]).arg(&binary);
    golife.args(command.get_args()).current_dir(command.get_current_dir().unwrap());
    golife.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ended = Running::start(&mut golife).wait();
    if ended.status.code() != Some(0) {
        return Err(format!("{ended:?}"));
    }
    let report: Value =
        serde_json::from_str(&fs::read_to_string(path).unwrap()).map_err(|error| error.to_string())?;
    for (what, count) in report["loss"].as_object().unwrap() {
        if *count != 0 {
            return Err(format!("loss.{what} is {count}"));
        }
    }
    let [created, exited, live] =
        ["created", "exited", "live"].map(|field| report["summary"][field].as_u64().unwrap());
    // The first goroutine is always there.
    if created == 0 || created != exited + live {
        return Err(format!("created {created}, exited {exited}, live {live}"));
    }
    Ok(format!("{created} created = {exited} ended + {live} at its end"))
}

/// Traces all programs, and writes a table to the file that GOLIFE_PROGRAMS_TABLE names.
#[test]
#[ignore = "needs programs from the package registries: cargo xtask programs"]
fn counts_are_their_own() {
    need_root();
    let output = variable("GOLIFE_PROGRAMS_TABLE");
    let mut table = String::from(
        "| server | Go | MB | at rest | under load, its own | golife's | after | goroutines/s |\n\
         |---|---|---:|---:|---:|---:|---:|---:|\n",
    );
    let mut failures = Vec::new();
    let servers: [fn(&Place) -> Server; 9] = [
        Place::caddy,
        Place::containerd_alone,
        Place::dockerd,
        Place::etcd,
        Place::nats,
        |place| place.prometheus("prometheus", place.program("bin/prometheus")),
        |place| place.prometheus("prometheus 3, with DWARF", Command::new(variable("GOLIFE_PROGRAMS_LARGE"))),
        Place::rclone,
        Place::syncthing,
    ];
    for start in servers {
        let place = Place::new();
        let server = start(&place);
        let about = about(&server.binary);
        match measure(&server) {
            Ok(Row { before, own, found, after, created, seconds }) => {
                let rate = created as f64 / seconds;
                let (own, found) = (own.text(), found.text());
                eprintln!("{}: {before}, {own}, {found}, {after}", server.name);
                writeln!(
                    table,
                    "| {} | {about} | {before} | {own} | {found} | {after} | {rate:.0} |",
                    server.name
                )
                .unwrap();
            }
            Err(why) => {
                eprintln!("{}: {why}", server.name);
                writeln!(table, "| {} | {about} | failed | | | | |", server.name).unwrap();
                failures.push(format!("{}: {why}", server.name));
            }
        }
    }
    table += "\n| program, from its first instruction | Go | MB | |\n|---|---|---:|---|\n";
    let place = Place::new();
    for (name, command) in
        [("esbuild, a bundle", esbuild(&place)), ("gh help", gh(&place)), ("hugo, a site", hugo(&place))]
    {
        let about = about(Path::new(command.get_program()));
        let cells = run_to_end(&command).unwrap_or_else(|why| {
            failures.push(format!("{name}: {why}"));
            "failed".into()
        });
        eprintln!("{name}: {cells}");
        writeln!(table, "| {name} | {about} | {cells} |").unwrap();
    }
    fs::write(&output, table).unwrap();
    assert!(failures.is_empty(), "not all is as it should be:\n{}", failures.join("\n"));
}
