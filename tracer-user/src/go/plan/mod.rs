//! Decides on which instruction each probe sits.
//!
//! What a uprobe costs its target is decided by the instruction under it: the kernel *emulates* a few kinds inside
//! the breakpoint handler and *single-steps* everything else, which costs several times as much. So a site is
//! planned: decode the function (`decode`; only `amd64` and `arm64` know an instruction set), see which registers
//! hold the new goroutine where (`flow`), which instructions every path passes exactly once (`graph`), and take
//! the cheapest of them.
//!
//! The compiler inlines the functions that golife probes, so "the function" means a [`Body`] for each place where
//! its code stands.

mod amd64;
mod arm64;
mod body;
mod decode;
mod error;
mod flow;
mod graph;
mod held;
mod kernel;
mod step;

pub use body::Body;
pub(super) use decode::{Convention, decode};
pub use error::PlanError;
use flow::Flow;
use graph::Graph;
pub(super) use held::before;
pub use kernel::{Cost, Kernel};
pub use step::CallTargets;
use step::Probe;
pub(super) use step::{Next, Operand, Step, Value};

use crate::go::runtime::layout::Layout;

/// Bytes of the largest function that is analysed. `runtime.newproc1` has about a thousand, unoptimised two thousand.
pub(super) const MAX_CODE: usize = 32 << 10;

/// What a probe sees happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A goroutine is created: `runtime.newproc1`.
    Creation,
    /// A goroutine ends: `runtime.goexit1`.
    Exit,
    /// A coroutine of `iter.Pull` ends: `runtime.coroexit`, Go 1.23 and later.
    CoroutineExit,
    /// A test binary comes to a point of its tests.
    Test(TestPoint),
}

/// What a test binary is about to do, in <https://cs.opensource.google/go/go/+/master:src/testing/>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TestPoint {
    /// It begins with `main.main`, when all packages are initialised.
    Main,
    /// It runs a test function: `testing.tRunner`, in a goroutine of its own.
    Test,
    /// It runs a benchmark function: `testing.(*B).runN`, in a goroutine of its own.
    Benchmark,
    /// It runs a fuzz function: `testing.fRunner`, in a goroutine of its own.
    Fuzz,
    /// It runs an example: `testing.runExample`.
    Example,
    /// An example has ended: `testing.(*InternalExample).processRunResult`.
    ExampleEnd,
    /// It starts a process: `syscall.forkAndExecInChild1`.
    Fork,
    /// A test or a fuzz function has ended, with its subtests and all that they had to clean up, and is not waited for any more
    /// soon: `testing.(*T).report` and the same of `F`, before whoever waits is told.
    End,
}

impl TestPoint {
    /// The functions at whose beginnings these points are. None of them is ever inlined: they defer calls, are large, or say so.
    pub const FUNCTIONS: [(&'static str, TestPoint); 9] = [
        ("main.main", TestPoint::Main),
        ("testing.tRunner", TestPoint::Test),
        ("testing.(*B).runN", TestPoint::Benchmark),
        ("testing.fRunner", TestPoint::Fuzz),
        ("testing.runExample", TestPoint::Example),
        ("testing.(*InternalExample).processRunResult", TestPoint::ExampleEnd),
        ("syscall.forkAndExecInChild1", TestPoint::Fork),
        ("testing.(*T).report", TestPoint::End),
        ("testing.(*F).report", TestPoint::End),
    ];
}

/// Where a probe goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeSite {
    /// Virtual address in the ELF file, before any load bias.
    pub address: u64,
    /// Name of the function that the instruction is in.
    pub function: String,
    /// What the probe sees happen.
    pub purpose: Purpose,
    /// Register that holds the goroutine's `*g` before the instruction runs, numbered as in
    /// [`tracer_ebpf::Constants::register`].
    pub register: u8,
    /// What it costs the target each time that it comes here.
    pub cost: Cost,
    /// The instruction, for humans: `nop`, `call runtime.mcall`.
    pub instruction: String,
}

/// Plans the probes for creations: at least one site for each body of `runtime.newproc1`.
///
/// Each goroutine passes exactly one of the sites, once, when its goid, gopc, startpc and parent goid are final. Where
/// nothing cheaper can be proven in the function itself, the sites are its return instructions, with the result in the
/// result register; they are marked [`Cost::SingleStepped`].
///
/// # Errors
/// Why one of the bodies has no place for a probe.
pub fn creation(
    bodies: &[Body],
    layout: &Layout,
    calls: &CallTargets,
    kernel: Kernel,
) -> Result<Vec<ProbeSite>, PlanError> {
    each(bodies, |body| {
        let planned = creation_in(body, layout, calls, kernel);
        match planned {
            // A missing store means that the layout is wrong: no other site would help.
            Err(ref error) if body.inlined.is_empty() && !matches!(error, PlanError::NoGoidStore { .. }) => {
                returns(body, calls, kernel).or(planned)
            }
            _ => planned,
        }
    })
}

/// Plans the probes for ends: the call of `runtime.mcall` in each body of `runtime.goexit1` ([`Purpose::Exit`]) or
/// `runtime.coroexit` ([`Purpose::CoroutineExit`]), with the ending g in the g register.
///
/// The call runs once, however often the prologue before it runs: a goroutine that ends on a full stack grows it first
/// and enters the function again.
///
/// # Errors
/// Why one of the bodies has no place for a probe.
pub fn exit(
    bodies: &[Body],
    purpose: Purpose,
    calls: &CallTargets,
    kernel: Kernel,
) -> Result<Vec<ProbeSite>, PlanError> {
    each(bodies, |body| exit_in(body, purpose, calls, kernel))
}

/// Plans a probe at the beginning of a function, where its arguments are still in registers: the first cheap instruction that
/// every call passes before the first two and g hold anything else, such as the jump to where the stack grows. It is hit twice where the stack
/// has to. Without one, it is the entry.
///
/// # Errors
/// The function has no code that can be decoded.
pub fn beginning(
    bodies: &[Body],
    purpose: Purpose,
    calls: &CallTargets,
    kernel: Kernel,
) -> Result<Vec<ProbeSite>, PlanError> {
    each(bodies, |body| Ok(vec![beginning_of(body, purpose, calls, kernel)?]))
}

fn beginning_of(
    body: &Body,
    purpose: Purpose,
    calls: &CallTargets,
    kernel: Kernel,
) -> Result<ProbeSite, PlanError> {
    let steps = steps(body, calls, kernel)?;
    let first = steps.first().ok_or(PlanError::NoBody)?;
    let convention = Convention::of(body.architecture);
    let needed =
        convention.arguments[..2].iter().chain([&convention.g]).fold(0, |mask, of| mask | 1u32 << of);
    let mut cheap = None;
    for step in &steps {
        if step.probe.cost() != Cost::SingleStepped {
            cheap = Some(step);
            break;
        }
        if step.next != Next::Following || step.effect.registers() & needed != 0 {
            break;
        }
    }
    Ok(site(body, cheap.unwrap_or(first), purpose, convention.result(), calls))
}

/// Plans the probes for creations in the obvious way, on the return instructions of `newproc1`. For comparison.
///
/// # Errors
/// Why one of the bodies has no place for a probe.
pub fn single_stepped_creation(
    bodies: &[Body],
    calls: &CallTargets,
    kernel: Kernel,
) -> Result<Vec<ProbeSite>, PlanError> {
    each(bodies, |body| returns(body, calls, kernel))
}

/// Plans the probes for ends in the obvious way, on the entry of the function, which runs twice for a goroutine whose
/// stack has to grow there. For comparison.
///
/// # Errors
/// Why one of the bodies has no place for a probe.
pub fn single_stepped_exit(
    bodies: &[Body],
    purpose: Purpose,
    calls: &CallTargets,
    kernel: Kernel,
) -> Result<Vec<ProbeSite>, PlanError> {
    each(bodies, |body| {
        let steps = steps(body, calls, kernel)?;
        let first = steps.first().ok_or(PlanError::NoBody)?;
        Ok(vec![site(body, first, purpose, Convention::of(body.architecture).g, calls)])
    })
}

/// Runs `plan` on every body. Of several functions of one name only the largest counts, since the others are wrappers
/// between calling conventions (`runtime.goexit1` has one).
fn each(
    bodies: &[Body],
    plan: impl Fn(&Body) -> Result<Vec<ProbeSite>, PlanError>,
) -> Result<Vec<ProbeSite>, PlanError> {
    let is_wrapper = |body: &Body| {
        body.inlined.is_empty()
            && bodies.iter().any(|other| {
                other.inlined.is_empty()
                    && other.function == body.function
                    && other.code.len() > body.code.len()
            })
    };
    let mut sites = Vec::new();
    for body in bodies.iter().filter(|body| !is_wrapper(body)) {
        sites.extend(plan(body)?);
    }
    if sites.is_empty() { Err(PlanError::NoBody) } else { Ok(sites) }
}

fn creation_in(
    body: &Body,
    layout: &Layout,
    calls: &CallTargets,
    kernel: Kernel,
) -> Result<Vec<ProbeSite>, PlanError> {
    let steps = steps(body, calls, kernel)?;
    let graph = Graph::new(body, &steps, calls)?;
    let flow = Flow::new(body, &steps, &graph, layout)?;
    let stores = flow.goid_stores();
    if stores.is_empty() {
        return Err(PlanError::NoGoidStore { function: body.function.to_owned() });
    }
    let best = stores
        .iter()
        .flat_map(|&store| (0..steps.len()).map(move |index| (store, index)))
        .filter(|&(_, index)| steps[index].probe != Probe::Never && body.contains(steps[index].address))
        .filter_map(|(store, index)| {
            let rank = steps[index].probe;
            let register = flow.register_with_new_g(store, index)?;
            graph.passed_once_after(store, index).then_some((rank, index, register))
        })
        // Among equally cheap places the last one is best, where everything about the goroutine is settled.
        .min_by_key(|&(rank, index, _)| (rank, std::cmp::Reverse(index)));
    match best {
        Some((_, index, register)) => Ok(vec![site(body, &steps[index], Purpose::Creation, register, calls)]),
        None => Err(PlanError::NoSite { function: body.function.to_owned() }),
    }
}

fn exit_in(
    body: &Body,
    purpose: Purpose,
    calls: &CallTargets,
    kernel: Kernel,
) -> Result<Vec<ProbeSite>, PlanError> {
    let steps = steps(body, calls, kernel)?;
    let graph = Graph::new(body, &steps, calls)?;
    let function = || body.function.to_owned();
    let is_mcall = |step: &&Step| matches!(step.next, Next::Call(Some(target)) if calls(target).as_deref() == Some("runtime.mcall"));
    let mcalls: Vec<&Step> =
        steps.iter().filter(|step| body.contains(step.address)).filter(is_mcall).collect();
    let &[mcall] = mcalls.as_slice() else {
        return Err(PlanError::Mcall { function: function(), count: mcalls.len() });
    };
    if steps.iter().any(|step| step.loses_g) {
        return Err(PlanError::NoG { function: function() });
    }
    if !graph.passed_at_most_once(mcall.address) {
        return Err(PlanError::NoSite { function: function() });
    }
    Ok(vec![site(body, mcall, purpose, Convention::of(body.architecture).g, calls)])
}

fn returns(body: &Body, calls: &CallTargets, kernel: Kernel) -> Result<Vec<ProbeSite>, PlanError> {
    let none = || PlanError::NoSite { function: body.function.to_owned() };
    if !body.inlined.is_empty() {
        // An inlined copy has no return instruction.
        return Err(none());
    }
    let sites: Vec<ProbeSite> = steps(body, calls, kernel)?
        .iter()
        .filter(|step| step.next == Next::Return)
        .map(|step| site(body, step, Purpose::Creation, Convention::of(body.architecture).result(), calls))
        .collect();
    if sites.is_empty() { Err(none()) } else { Ok(sites) }
}

fn steps(body: &Body, calls: &CallTargets, kernel: Kernel) -> Result<Vec<Step>, PlanError> {
    if body.code.len() > MAX_CODE {
        return Err(PlanError::TooLarge { function: body.function.to_owned(), bytes: body.code.len() });
    }
    Ok(decode(body.architecture, body.entry, body.code, calls, kernel))
}

fn site(body: &Body, step: &Step, purpose: Purpose, register: u8, calls: &CallTargets) -> ProbeSite {
    let mut instruction = step.text.clone();
    if let Next::Call(Some(target)) = step.next
        && let Some(name) = calls(target)
    {
        instruction.push(' ');
        instruction.push_str(&name);
    }
    ProbeSite {
        address: step.address,
        function: body.function.to_owned(),
        purpose,
        register,
        cost: step.probe.cost(),
        instruction,
    }
}

#[cfg(test)]
mod tests;
