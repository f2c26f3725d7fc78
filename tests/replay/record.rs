//! Makes a recording, which is events as bytes, and between them whatever else the engine tells the tracker.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use std::collections::HashMap;
use std::sync::Arc;

use golife::assemble::{self, CreationStacks, Described, DescribedSite};
use golife::event::{Decoder, Event, StackCode, TestNames, TestPoint, What, encode};
use golife::report::{BootWindow, Frame, Go, Overhead, Process, Report, Run, Selection, Tool, Waiting};
use golife::tracker::{Existing, Instance, Limits, Lost, StackId, Tracker};
use golife::verdict::Parked;
use golife::verdict::cause::Patterns;

pub const MS: u64 = 1_000_000;
pub const S: u64 = 1_000_000_000;

pub const LEAK: u64 = 0x48_1010;
pub const SERVE: u64 = 0x48_2020;
pub const POOL: u64 = 0x48_3030;
pub const DIAL: u64 = 0x48_4040;
pub const READ: u64 = 0x48_5050;

/// Boot time in ns at which every recording begins.
const START: u64 = 10_000 * S;

enum Step {
    Record(Vec<u64>),
    Lost(Lost),
    Begin(u32),
    Adopt(u32, Vec<Existing>),
    Reconcile(u32, Vec<Existing>),
}

/// The address of a goroutine's `runtime.g` in every recorded process.
pub fn g_of(goid: u64) -> u64 {
    480u64.wrapping_mul(goid).wrapping_add(0xc000_0000_0000)
}

/// Steps with their times in ns since the begin, in any order.
pub struct Recording {
    pid: u32,
    existing: bool,
    limits: Limits,
    steps: Vec<(u64, Step)>,
    losses: u32,
    stack: StackCode,
    names: TestNames,
    parked: HashMap<u64, Parked>,
    pub command: String,
}

impl Recording {
    /// A recording of a process that starts while it is traced.
    pub fn new(pid: u32) -> Recording {
        let command = "api --port 80".into();
        Recording {
            pid,
            existing: false,
            limits: Limits::default(),
            steps: Vec::new(),
            losses: 0,
            stack: StackCode::NONE,
            names: TestNames::default(),
            parked: HashMap::new(),
            command,
        }
    }

    /// A recording of a process that ran before it was traced.
    pub fn existing(pid: u32) -> Recording {
        Recording { existing: true, ..Recording::new(pid) }
    }

    pub fn limits(self, limits: Limits) -> Recording {
        Recording { limits, ..self }
    }

    /// What is recorded from here on is of another process.
    pub fn of(&mut self, pid: u32) -> &mut Recording {
        self.pid = pid;
        self
    }

    pub fn create(&mut self, at: u64, goid: u64, parent: u64, gopc: u64) {
        let (startpc, stack) = (gopc.wrapping_add(0x800), self.stack);
        self.event(at, What::Created { g: g_of(goid), goid, parent, gopc, startpc, stack });
    }

    /// Goroutines that are recorded from here on are created by these calls.
    pub fn called_from(&mut self, stack: StackCode) {
        self.stack = stack;
    }

    pub fn exit(&mut self, at: u64, goid: u64) {
        self.event(at, What::Exited { g: g_of(goid) });
    }

    /// Records an exit that is read at one time and happened at an earlier one.
    pub fn late_exit(&mut self, at: u64, happened: u64, goid: u64) {
        let what = What::Exited { g: g_of(goid) };
        let event = Event { time_ns: START + happened, pid: self.pid, losses: self.losses, what };
        self.steps.push((at, Step::Record(encode(&event, &self.names))));
    }

    /// A test binary comes to a point of its tests.
    pub fn reach(&mut self, at: u64, point: TestPoint, goid: u64, name: &str) {
        let name = self.names.number(name);
        self.event(at, What::Test { point, goid, thread: self.pid, name });
    }

    /// What a goroutine was last seen to do.
    pub fn park(&mut self, goid: u64, is_blocked: bool, reason: &str) {
        let at = vec![frame("example.com/api/hub.(*Hub).Subscribe.func1", "hub/hub.go", 91)];
        let waiting =
            Waiting { reason: reason.into(), count: 1, at, goids: vec![goid], ..Waiting::default() };
        self.parked.insert(goid, Parked { is_blocked, waiting });
    }

    /// Records words that are no record.
    pub fn garbage(&mut self, at: u64) {
        self.steps.push((at, Step::Record(vec![u64::MAX; 6])));
    }

    pub fn exec(&mut self, at: u64) {
        self.event(at, What::Exec);
    }

    pub fn process_exit(&mut self, at: u64) {
        self.event(at, What::ProcessExit);
    }

    /// Records a loss. What is recorded from here on comes after it.
    pub fn lost(&mut self, at: u64, loss: Lost) {
        let more = (loss.created + loss.exited + loss.process + loss.read_faults) as u32;
        self.losses = self.losses.wrapping_add(more);
        self.steps.push((at, Step::Lost(loss)));
    }

    pub fn adopt(&mut self, begin: u64, end: u64, list: Vec<Existing>) {
        self.steps.push((begin, Step::Begin(self.pid)));
        self.steps.push((end, Step::Adopt(self.pid, list)));
    }

    pub fn reconcile(&mut self, begin: u64, end: u64, list: Vec<Existing>) {
        self.steps.push((begin, Step::Begin(self.pid)));
        self.steps.push((end, Step::Reconcile(self.pid, list)));
    }

    fn event(&mut self, at: u64, what: What) {
        let losses = self.losses;
        let event = Event { time_ns: START + at, pid: self.pid, losses, what };
        self.steps.push((at, Step::Record(encode(&event, &self.names))));
    }

    /// The report that there is `until` ns after the begin, with samples taken each second.
    pub fn report(&self, until: u64) -> Report {
        self.report_with(until, &Selection::default())
    }

    pub fn report_with(&self, until: u64, selection: &Selection) -> Report {
        let mut steps: Vec<_> = self.steps.iter().filter(|(at, _)| *at <= until).collect();
        steps.sort_by_key(|(at, _)| *at);
        let mut tracker = Tracker::new(self.limits);
        if self.existing {
            tracker.process_started(self.pid, START - 3_600 * S, true, START);
        }
        let (mut next_tick, mut hits) = (0, 0);
        let mut decoder = Decoder::default();
        for (at, step) in steps {
            while next_tick <= *at {
                tracker.tick(START + next_tick);
                next_tick += S;
            }
            match step {
                Step::Record(words) => {
                    hits += 1;
                    if let Some(event) = decoder.decode(words) {
                        tracker.apply(&event);
                    }
                }
                Step::Lost(loss) => tracker.lost(*loss),
                Step::Begin(pid) => tracker.begin_scan(*pid, START + at),
                Step::Adopt(pid, list) => tracker.adopt(*pid, list.iter().copied(), START + at),
                Step::Reconcile(pid, list) => tracker.reconcile(*pid, list.iter().copied(), START + at),
            }
        }
        tracker.lost(Lost { undecodable: decoder.take_undecodable(), ..Lost::default() });
        while next_tick <= until {
            tracker.tick(START + next_tick);
            next_tick += S;
        }
        let names: Vec<Names> = tracker.instances().map(|instance| self.names(instance)).collect();
        let described = tracker.instances().zip(&names);
        let described: HashMap<_, _> =
            described.map(|(instance, names)| (instance.id, self.described(instance, names))).collect();
        let names = decoder.test_names();
        assemble::report(&tracker, &described, names, &Patterns::default(), &run(until, hits), selection)
    }
}

fn run(until: u64, hits: u64) -> Run {
    // This is 2026-01-02T03:04:05Z.
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045);
    Run {
        tool: Tool {
            version: "0.0.0".into(),
            host: Some("node-7".into()),
            kernel: Some("6.18.0".into()),
            arch: "x86_64".into(),
        },
        window: BootWindow { start_ns: START, end_ns: START + until, end },
        overhead: Overhead {
            probe_hits: Some(hits),
            target_ns_per_hit: Some(820),
            target_cpu_ns: Some(hits * 820),
            golife_cpu_ns: Some(hits * 100),
            targets_used_cpu_ns: Some(until),
            rings: None,
        },
        untraced: Vec::new(),
    }
}

/// Invented names for the addresses of one process instance.
struct Names {
    sites: Vec<(Option<Frame>, Option<Frame>, bool)>,
    stacks: CreationStacks,
}

impl Recording {
    fn names(&self, instance: &Instance) -> Names {
        let sites = instance.sites().iter().map(|site| {
            let entry = go_statement(site.startpc.wrapping_sub(0x800));
            let entry = entry.map(|made| Frame { function: format!("{}.func1", made.function), ..made });
            (go_statement(site.gopc), entry, site.startpc == 0x1800)
        });
        let mut stacks = CreationStacks::default();
        for lineage in instance.lineages().all().iter().filter(|lineage| lineage.stack != StackId::NONE) {
            let gopc = instance.sites()[lineage.site.0 as usize].gopc;
            stacks.insert((lineage.site, lineage.stack), creation_stack(gopc, lineage.stack));
        }
        Names { sites: sites.collect(), stacks }
    }

    fn described<'a>(&'a self, instance: &Instance, names: &'a Names) -> Described<'a> {
        let process = Process {
            exe: Some("/srv/api".into()),
            command: Some(if instance.pid == 77 { "worker".into() } else { self.command.clone() }),
            build_id: Some("abcdef".into()),
            go: Some(Go {
                version: Some("go1.26.8".into()),
                module: Some("example.com/api".into()),
                module_version: Some("v1.4.2".into()),
                revision: None,
                stripped: Some(false),
            }),
            ..Process::default()
        };
        let site = |(site, entry, is_system): &'a (Option<Frame>, Option<Frame>, bool)| DescribedSite {
            site: site.as_ref(),
            entry: entry.as_ref(),
            is_system: *is_system,
            ..DescribedSite::default()
        };
        Described {
            is_left_out: false,
            process,
            module: Some("example.com/api"),
            methods: &[],
            sites: names.sites.iter().map(site).collect(),
            creation_stacks: (self.stack != StackCode::NONE).then_some(&names.stacks),
            package: (!self.parked.is_empty()).then_some("example.com/api/hub"),
            parked: Some(&self.parked),
            ..Described::default()
        }
    }
}

fn frame(function: &str, file: &str, line: u32) -> Frame {
    Frame { function: function.into(), file: Some(format!("/src/api/{file}")), line: Some(line) }
}

fn go_statement(gopc: u64) -> Option<Frame> {
    match gopc {
        0x1000 => Some(frame("runtime.main", "proc.go", 1)),
        LEAK => Some(frame("example.com/api/hub.(*Hub).Subscribe", "hub/hub.go", 88)),
        SERVE => Some(frame("main.serve", "main.go", 42)),
        POOL => Some(frame("main.startPool", "pool.go", 17)),
        DIAL => Some(frame("github.com/x/rpc.(*Client).dial", "vendor/rpc/client.go", 70)),
        READ => Some(frame("github.com/x/rpc.newConn", "vendor/rpc/conn.go", 31)),
        _ => None,
    }
}

fn creation_stack(gopc: u64, stack: StackId) -> Arc<[Frame]> {
    let callers = match stack.0 {
        1 => vec![frame("main.(*Shop).prices", "shop.go", 61), frame("main.serve.func1", "main.go", 44)],
        2 => vec![frame("main.warmUp", "pool.go", 23)],
        _ => return Arc::new([]),
    };
    go_statement(gopc).into_iter().chain(callers).collect()
}

/// The text that is written, without styles.
pub fn plain(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
    let mut bytes = Vec::new();
    write(&mut anstream::StripStream::new(&mut bytes)).expect("writing to memory");
    String::from_utf8(bytes).expect("text")
}

/// Compares a text with a file in `tests/golden`, or replaces the file if that was asked for.
pub fn golden(name: &str, got: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name);
    if std::env::var_os("GOLIFE_GOLDEN").is_some_and(|value| value == "update") {
        std::fs::write(&path, got).expect("tests/golden is writable");
        return;
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        want == got,
        "\n{name} differs.\n--- want\n{want}\n--- got\n{got}\nif this is meant: GOLIFE_GOLDEN=update cargo test --test replay\n"
    );
}
