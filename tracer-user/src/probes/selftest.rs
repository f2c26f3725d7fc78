//! Traces a tiny target of golife's own with the real probes. This proves that tracing works on this machine, and
//! measures what a hit costs a target. The kernel's own statistics of BPF programs leave out the trap, which is most of
//! the cost.
//!
//! The target is this same program, started as `golife selftest-target`. Like a Go program, it has an instruction for a
//! creation and one for an exit, which it passes with a register that points to something laid out like a `runtime.g`.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    num::NonZeroU32,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tracer_ebpf::Constants;

use super::error::ProbeError;
use crate::event::{Event, StackCode, What};
use crate::host::files::FileId;
use crate::host::mapped;
use crate::probes::ring::RingKind;
use crate::probes::{Loading, Probe, Probes, Program, Scope};

/// The hidden command that runs the target.
pub const TARGET_COMMAND: &str = "selftest-target";

/// Fake goroutines in one round: enough for a stable mean, and few enough for a small ring and a few milliseconds.
const LIVES: u64 = 2_500;

/// Memory in bytes of the ring of each CPU, which has room for all records of a round: nobody reads during one.
const RING_BYTES: u32 = 192 << 10;

/// Number of rounds. The quickest one counts, since other programs on the machine can only make a round slower.
const ROUNDS: usize = 3;

/// The fields of the fake goroutine, which are at the offsets in [`CONSTANTS`].
const PARENT: u64 = 7;
const GOPC: u64 = 0x40_1234;
const STARTPC: u64 = 0x40_5678;

/// Number of the register with the first argument of a C function: rdi on x86-64, x0 on arm64.
const ARGUMENT: u64 = if cfg!(target_arch = "x86_64") { 7 } else { 0 };

const CONSTANTS: Constants = Constants {
    register: ARGUMENT,
    goid: 152,
    parent: 280,
    gopc: 288,
    startpc: 304,
    m: 0,
    curg: 0,
    bp: 0,
    pid: 0,
    point: 0,
    name: 0,
};

// The functions begin with an instruction that the kernel emulates under a probe: `nop` on x86-64, `ret` on arm64.
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".pushsection .text.golife_selftest, \"ax\", @progbits",
    ".p2align 4",
    "golife_selftest_birth: nop",
    "ret",
    ".p2align 4",
    "golife_selftest_death: nop",
    "ret",
    ".popsection",
);

#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(
    ".pushsection .text.golife_selftest, \"ax\", %progbits",
    ".p2align 4",
    "golife_selftest_birth: ret",
    ".p2align 4",
    "golife_selftest_death: ret",
    ".popsection",
);

unsafe extern "C" {
    safe fn golife_selftest_birth(g: &[u64; 64]);
    safe fn golife_selftest_death(g: &[u64; 64]);
}

/// What the self-test found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Time that a hit adds to the target, in ns: half of what a creation and an exit add together.
    pub ns_per_hit: f64,
    /// In which rings the records were.
    pub ring: RingKind,
    /// Hits that the target made. Each of them arrived with the right content.
    pub hits: u64,
}

/// Why the self-test failed.
#[derive(Debug, thiserror::Error)]
pub enum SelftestError {
    /// The probes could not be loaded or put in place.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The target could not be started, or ended early.
    #[error("the built-in target does not run: {0}")]
    Target(#[from] io::Error),
    /// Records are missing or wrong.
    #[error("made {made} hits, received {received} good records")]
    Lost {
        /// Hits that the target made.
        made: u64,
        /// Records that arrived with the right content.
        received: u64,
    },
}

/// Runs the target. For each line with a number on standard input, it lets so many fake goroutines begin and end, and
/// prints how many ns that took. It ends at the end of its input.
///
/// # Errors
/// Standard input or output fails, or a line is no number.
pub fn run_target() -> io::Result<()> {
    let mut g = [0u64; 64];
    (g[35], g[36], g[38]) = (PARENT, GOPC, STARTPC);
    for line in io::stdin().lock().lines() {
        let lives: u64 = line?.trim().parse().map_err(io::Error::other)?;
        let start = Instant::now();
        for goid in 1..=lives {
            g[19] = goid;
            golife_selftest_birth(std::hint::black_box(&g));
            golife_selftest_death(std::hint::black_box(&g));
        }
        println!("{}", start.elapsed().as_nanos());
        io::stdout().flush()?;
    }
    Ok(())
}

/// Traces the target and checks every record, which takes about a tenth of a second.
///
/// # Errors
/// Probes cannot be put in place, the target does not run, or records are missing or wrong.
pub fn run() -> Result<Outcome, SelftestError> {
    let exe = File::open("/proc/self/exe")?;
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
    let ring_bytes = Some(RING_BYTES.saturating_mul(cpus as u32));
    let (mut probes, mut records) = Probes::load(Loading { ring_bytes, creation_stacks: false })?;
    let mut target = Target::start()?;
    let bare = target.best_of(ROUNDS, || {})?;

    let place = |program, function: extern "C" fn(&[u64; 64])| -> io::Result<Probe> {
        let file_offset = file_offset(&exe, function as usize as u64)?;
        Ok(Probe { program, file_offset, constants: CONSTANTS })
    };
    let sites =
        [place(Program::Creation, golife_selftest_birth)?, place(Program::Exit, golife_selftest_death)?];
    let attachment =
        probes.attach(&exe, Path::new("/proc/self/exe"), &sites, Scope::Process(target.pid()?))?;
    let (mut received, mut g) = (0, None);
    let probed = target.best_of(ROUNDS, || {
        while records.drain(|event| received += u64::from(is_expected(event, &mut g))) {}
    })?;
    drop(attachment);
    let made = 2 * LIVES * ROUNDS as u64;
    if received != made {
        return Err(SelftestError::Lost { made, received });
    }
    let added = probed.saturating_sub(bare).as_nanos() as f64;
    Ok(Outcome { ns_per_hit: added / (2 * LIVES) as f64, ring: records.kind(), hits: made })
}

/// Whether a record has the right content. `of_g` is the address of the target's only g, which the first record tells.
fn is_expected(event: &Event, of_g: &mut Option<u64>) -> bool {
    match event.what {
        What::Created { g, goid, parent, gopc, startpc, stack: StackCode::NONE } => {
            *of_g.get_or_insert(g) == g
                && (1..=LIVES).contains(&goid)
                && (parent, gopc, startpc) == (PARENT, GOPC, STARTPC)
        }
        What::Exited { g } => *of_g == Some(g),
        _ => false,
    }
}

/// The offset in the executable's file of the function that this process has at an address.
fn file_offset(exe: &File, address: u64) -> io::Result<u64> {
    let mappings = mapped::executable(std::process::id(), FileId::of(exe)?).map_err(io::Error::other)?;
    mappings
        .iter()
        .rfind(|mapping| mapping.start <= address)
        .map(|mapping| address - mapping.start + mapping.file_offset)
        .ok_or_else(|| io::Error::other("golife's own code is not mapped from its file"))
}

/// The child process, which is killed when this is dropped.
struct Target {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Target {
    fn start() -> io::Result<Target> {
        let mut child = Command::new("/proc/self/exe")
            .arg(TARGET_COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
        Ok(Target { child, answers: BufReader::new(stdout) })
    }

    fn pid(&self) -> io::Result<NonZeroU32> {
        NonZeroU32::new(self.child.id()).ok_or_else(|| io::Error::other("no process id"))
    }

    /// Has the target do several rounds of [`LIVES`] goroutines, calls `between` after each, and returns the shortest
    /// time.
    fn best_of(&mut self, rounds: usize, mut between: impl FnMut()) -> io::Result<Duration> {
        let mut best = Duration::MAX;
        for _ in 0..rounds {
            let stdin = self.child.stdin.as_mut().ok_or_else(|| io::Error::other("no pipe"))?;
            writeln!(stdin, "{LIVES}")?;
            let mut answer = String::new();
            self.answers.read_line(&mut answer)?;
            let nanos = answer.trim().parse().map_err(|_| io::Error::other("it ended early"))?;
            best = best.min(Duration::from_nanos(nanos));
            between();
        }
        Ok(best)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // It may have ended by itself, so a failure means nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
