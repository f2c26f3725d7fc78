//! Measures what a goroutine's whole life, creation and exit, costs the target: with golife, with the least that probes
//! can cost, with probes on single-stepped instructions, and with bpftrace.
//!
//! A machine has quick and slow seconds, so nothing is compared that was measured at different times. Each way to watch
//! has a target of its own, made from a copy of the same Go program, so that its probes are in no other one. All targets
//! are there at once and idle. They live a batch of a millisecond or less in turn, each of them once in a rotation, and
//! what counts is the median of the differences within a rotation.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{
    line,
    tools::{Beside, End, Golife, Lives, Tools, pinned},
};
use crate::machine::say;

/// Rotations of a round that count, and those before them that fill caches and memory.
const ROTATIONS: usize = 800;
const WARM_UP: usize = 20;
/// How often a target may begin a batch anew while something else takes its CPUs. After that the rotation does not count.
const TRIES: u32 = 5;
/// A cache line that takes as long as this, in ns, comes from a CPU that shares no cache with this one. From one that does it
/// takes a third of that.
const FAR_NS: f64 = 100.0;
/// Fewer rotations than this say nothing of a mood.
const FEW: usize = 50;

/// A way to watch a target.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Nothing,
    Floor,
    Golife,
    OneRing,
    Pid,
    Stacks,
    SingleStepped,
    Bpftrace,
}

impl Way {
    /// All ways, as the table has them. The others are compared with the first two.
    const ALL: [Way; 8] = [
        Way::Nothing,
        Way::Floor,
        Way::Golife,
        Way::OneRing,
        Way::Pid,
        Way::Stacks,
        Way::SingleStepped,
        Way::Bpftrace,
    ];

    fn name(self) -> &'static str {
        match self {
            Way::Nothing => "no probes",
            Way::Floor => "floor: empty programs at golife's sites",
            Way::Golife => "`golife trace`",
            Way::OneRing => "`golife trace`, one ring for all CPUs (as on kernels before 5.12)",
            Way::Pid => "`golife trace --pid`",
            Way::Stacks => "`golife trace --creation-stacks`",
            Way::SingleStepped => "golife's records, single-stepped sites",
            Way::Bpftrace => "bpftrace on the functions' entries",
        }
    }

    /// Goroutines of a batch on each P: half a millisecond or so, whatever a life costs.
    fn batch(self) -> u32 {
        match self {
            Way::Nothing => 1_500,
            Way::SingleStepped | Way::Bpftrace => 50,
            _ => 300,
        }
    }

    /// Puts the probes on a target.
    fn watch(self, tools: &Tools, binary: &Path, pid: u32, procs: u32) -> Result<Watcher> {
        // The target with one P has the first CPU. With two it has both, and what watches it has what is left.
        let command = |program: &Path| if procs == 1 { pinned(1, program) } else { Command::new(program) };
        let path = binary.to_string_lossy();
        let placed = |program: &str, placement: &str| {
            let mut command = command(&tools.place_probes);
            command.arg(binary).args([program, placement]);
            Beside::start(command, "live")
        };
        let golife = |arguments: &[&str]| {
            Golife::start(command(&tools.golife), &[&["trace"], arguments].concat()).map(Watcher::Golife)
        };
        match self {
            Way::Nothing => Ok(Watcher::Nothing),
            Way::Floor => placed("floor", "cheapest").map(Watcher::Floor),
            Way::Golife => golife(&["--exe", &path]),
            Way::OneRing => {
                let mut command = command(&tools.golife);
                command.env("GOLIFE_RING", "shared");
                Golife::start(command, &["trace", "--exe", &path]).map(Watcher::Golife)
            }
            Way::Pid => golife(&["--pid", &pid.to_string()]),
            Way::Stacks => golife(&["--exe", &path, "--creation-stacks"]),
            Way::SingleStepped => placed("records", "single-stepped").map(Watcher::Records),
            Way::Bpftrace => {
                let program = tools.bpftrace.as_ref().context("there is no bpftrace")?;
                let mut command = command(program);
                command.arg("-e").arg(format!(
                    "interval:ms:200 {{ printf(\"live\\n\"); }} \
                     uprobe:{path}:runtime.newproc1 {{ @created = count(); }} \
                     uprobe:{path}:runtime.goexit1 {{ @exited = count(); }}"
                ));
                Beside::start(command, "live").map(Watcher::Bpftrace)
            }
        }
    }
}

/// What holds the probes.
enum Watcher {
    Nothing,
    Floor(Beside),
    Golife(Golife),
    Records(Beside),
    Bpftrace(Beside),
}

impl Watcher {
    /// Takes the probes off, and makes sure that they have seen both ends of each life and that no record was lost.
    /// Otherwise something else would have been measured. Empty programs see nothing.
    fn stop(self, lives: u64) -> Result<()> {
        // A goroutine that is preempted as it enters a function enters it again, and only golife's sites are such that it
        // is counted once.
        let again = if matches!(self, Watcher::Golife(_)) { 0 } else { lives / 100 };
        let number = |text: &str| text.trim().parse::<u64>().ok();
        let seen = match self {
            Watcher::Nothing => return Ok(()),
            Watcher::Floor(beside) => return beside.stop(End::OfInput).map(drop),
            Watcher::Golife(golife) => {
                let (report, _) = golife.stop()?;
                ensure!(report["loss"]["dropped"] == 0, "golife lost records: {}", report["loss"]);
                report["overhead"]["probe_hits"].as_u64()
            }
            Watcher::Records(beside) => {
                beside.stop(End::OfInput)?.lines().find_map(|line| number(line.strip_suffix(" records")?))
            }
            Watcher::Bpftrace(beside) => {
                let said = beside.stop(End::Interrupt)?;
                let count = |map| said.lines().find_map(|line| number(line.strip_prefix(map)?));
                count("@created:").zip(count("@exited:")).map(|(created, exited)| created + exited)
            }
        };
        let seen = seen.context("it does not say what it has seen")?;
        ensure!((2 * lives..=2 * lives + again).contains(&seen), "{seen} hits in {lives} lives");
        Ok(())
    }
}

/// A target with what watches it.
struct Subject {
    way: Way,
    target: Lives,
    watcher: Watcher,
    /// Goroutines that have lived in the target since its start.
    lives: u64,
}

impl Subject {
    fn start(tools: &Tools, way: Way, original: &Path, procs: u32) -> Result<Subject> {
        let binary = copy(tools, original, way)?;
        let target = Lives::preferred(&binary, procs)?;
        let watcher = way.watch(tools, &binary, target.pid(), procs)?;
        Ok(Subject { way, target, watcher, lives: 0 })
    }

    /// CPU time of a life in ns; `None` if something else took the target's CPUs.
    fn live(&mut self) -> Result<Option<f64>> {
        for _ in 0..TRIES {
            let batch = self.target.live(self.way.batch())?;
            self.lives = batch.all;
            if batch.is_undisturbed() {
                return Ok(Some(batch.cpu_ns as f64 / batch.lives as f64));
            }
        }
        Ok(None)
    }
}

/// A copy of the program that no other way has, in a file that is not written any more.
fn copy(tools: &Tools, original: &Path, way: Way) -> Result<PathBuf> {
    let copy = tools.directory().join(format!("lives-{}", way as usize));
    let _ = fs::remove_file(&copy); // which may not be there
    fs::copy(original, &copy).with_context(|| format!("cannot write {}", copy.display()))?;
    Ok(copy)
}

/// What one rotation said of one way.
#[derive(Clone, Copy)]
struct Sample {
    /// CPU time of a life in ns.
    life: f64,
    /// Less that of a life without probes in the same rotation.
    added: f64,
    /// By what the floor added in the same rotation.
    factor: f64,
    /// How long a cache line took between CPUs in the same rotation, in ns, if there are two.
    transfer: Option<f64>,
}

/// What one round measured.
struct Round {
    /// For each way, its samples.
    ways: Vec<Vec<Sample>>,
    /// Which share of the samples there is not, since something else took a target's CPUs.
    left_out: f64,
}

impl Round {
    /// The median factor of one way.
    fn factor(&self, way: usize) -> f64 {
        Spread::of(self.ways[way].iter().map(|sample| sample.factor)).median()
    }
}

/// Measures all ways in rotation, with one P and with two. Everything is started anew for each round.
pub fn measure(tools: &Tools, rounds: u32) -> Result<String> {
    ensure!(thread::available_parallelism()?.get() > 1, "two Ps at once need two CPUs");
    let original = tools.fixture("lives")?;
    let ways: Vec<Way> =
        Way::ALL.into_iter().filter(|way| *way != Way::Bpftrace || tools.bpftrace.is_some()).collect();
    let mut measured = [Vec::new(), Vec::new()];
    for round in 1..=rounds {
        for (procs, measured) in (1..).zip(&mut measured) {
            say(format!("cost, round {round} of {rounds}, {procs} P: {ROTATIONS} rotations"));
            measured.push(rotate(tools, &ways, &original, procs)?);
        }
    }
    Ok(format!("{}\n{}", table(&ways, &measured)?, moods(&ways, &measured)?))
}

/// One round.
fn rotate(tools: &Tools, ways: &[Way], original: &Path, procs: u32) -> Result<Round> {
    let mut order: Vec<usize> = (0..ways.len()).collect();
    // Chance decides, too, in which order the kernel finds their probes.
    fastrand::shuffle(&mut order);
    let mut subjects = BTreeMap::new();
    for way in &order {
        let subject = Subject::start(tools, ways[*way], original, procs);
        subjects.insert(*way, subject.with_context(|| format!("cannot watch: {}", ways[*way].name()))?);
    }
    let mut subjects: Vec<Subject> = subjects.into_values().collect();
    // golife measures what a hit costs when it starts, and is given the time to end that.
    thread::sleep(Duration::from_millis(700));
    let mut samples = vec![Vec::with_capacity(ROTATIONS); ways.len()];
    let mut lives = vec![None; ways.len()];
    for rotation in 0..WARM_UP + ROTATIONS {
        fastrand::shuffle(&mut order);
        for way in &order {
            lives[*way] = subjects[*way].live()?;
        }
        let transfer = line::transfer_ns();
        if rotation < WARM_UP {
            continue;
        }
        let (Some(bare), Some(floor)) = (lives[0], lives[1]) else { continue };
        for (samples, life) in samples.iter_mut().zip(&lives) {
            samples.extend(life.map(|life| Sample {
                life,
                added: life - bare,
                factor: (life - bare) / (floor - bare),
                transfer,
            }));
        }
    }
    for subject in subjects {
        let name = subject.way.name();
        subject.watcher.stop(subject.lives).with_context(|| format!("this was not measured: {name}"))?;
    }
    let taken: usize = samples.iter().map(Vec::len).sum();
    ensure!(samples.iter().all(|samples| !samples.is_empty()), "something else takes the targets' CPUs");
    let left_out = 1.0 - taken as f64 / (ROTATIONS * ways.len()) as f64;
    Ok(Round { ways: samples, left_out })
}

/// The median, and the quartiles about it.
struct Spread([f64; 3]);

impl Spread {
    fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |quarter: usize| values.get(values.len() * quarter / 4).copied().unwrap_or(f64::NAN);
        Spread([at(1), at(2), at(3)])
    }

    fn median(&self) -> f64 {
        self.0[1]
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [low, median, high] = self.0;
        write!(f, "{median:.0} ({low:.0}–{high:.0})")
    }
}

fn table(ways: &[Way], measured: &[Vec<Round>; 2]) -> Result<String> {
    let mut table = format!(
        "CPU time of one goroutine's life in the target: what it has more than without probes, and how many times as much \
         that is as what the floor adds. Medians of {ROTATIONS} rotations in each of {} rounds, each paired within its rotation; \
         in brackets the quartiles of the rotations (ns), and the lowest and highest median of a round (×).\n\n\
         | | one P, ns | × floor | two Ps, ns | × floor |\n|---|---:|---:|---:|---:|\n",
        measured[0].len(),
    );
    for (at, way) in ways.iter().enumerate() {
        write!(table, "| {} ", way.name())?;
        for rounds in measured {
            let all = |what: fn(&Sample) -> f64| {
                Spread::of(rounds.iter().flat_map(|round| &round.ways[at]).map(what))
            };
            match way {
                Way::Nothing => write!(table, "| a life: {} | ", all(|sample| sample.life))?,
                Way::Floor => write!(table, "| {} | 1 ", all(|sample| sample.added))?,
                _ => {
                    let medians = || rounds.iter().map(|round| round.factor(at));
                    let (low, high) = (medians().fold(f64::MAX, f64::min), medians().fold(0.0, f64::max));
                    let median = all(|sample| sample.factor).median();
                    let digits = if median < 10.0 { 2 } else { 1 };
                    write!(table, "| {} ", all(|sample| sample.added))?;
                    write!(table, "| {median:.digits$} ({low:.digits$}–{high:.digits$}) ")?;
                }
            }
        }
        table.push_str("|\n");
    }
    Ok(table)
}

/// The factors while the CPUs were near to each other, and while they were not: on a virtual machine that changes.
fn moods(ways: &[Way], measured: &[Vec<Round>; 2]) -> Result<String> {
    let mut table = format!(
        "The same factors by how long a cache line took from one CPU to the other in the same rotation\n\n\
         | Ps | a cache line, ns | rotations | {} | {} |\n|---:|---:|---:|---:|---:|\n",
        Way::Golife.name(),
        Way::OneRing.name(),
    );
    let at = |wanted| ways.iter().position(|way| *way == wanted).context("it was not measured");
    let (golife, one_ring) = (at(Way::Golife)?, at(Way::OneRing)?);
    for (procs, rounds) in (1..).zip(measured) {
        for are_near in [true, false] {
            let samples = |way: usize| -> Vec<&Sample> {
                let all = rounds.iter().flat_map(|round| &round.ways[way]);
                all.filter(|sample| sample.transfer.is_some_and(|ns| (ns < FAR_NS) == are_near)).collect()
            };
            let of_golife = samples(golife);
            if of_golife.len() < FEW {
                continue;
            }
            let factor =
                |samples: &[&Sample]| Spread::of(samples.iter().map(|sample| sample.factor)).median();
            writeln!(
                table,
                "| {procs} | {} | {} | {:.2} | {:.2} |",
                Spread::of(of_golife.iter().filter_map(|sample| sample.transfer)),
                of_golife.len(),
                factor(&of_golife),
                factor(&samples(one_ring)),
            )?;
        }
    }
    let [one, two] = measured
        .each_ref()
        .map(|rounds| 1e2 * rounds.iter().map(|round| round.left_out).sum::<f64>() / rounds.len() as f64);
    writeln!(
        table,
        "\nLeft out, since something else took the target's CPUs: {one:.0} % with one P, {two:.0} % with two."
    )?;
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_median_with_its_quartiles() {
        assert_eq!(Spread::of((0..=100).rev().map(f64::from)).to_string(), "50 (25–75)");
        assert_eq!(Spread::of([7.0]).to_string(), "7 (7–7)");
        assert!(Spread::of([]).median().is_nan());
    }
}
