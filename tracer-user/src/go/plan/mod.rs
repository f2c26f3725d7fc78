//! Decides on which instruction each probe sits.
//!
//! What a uprobe costs its target is decided by the instruction under it: the kernel *emulates* a few kinds inside
//! the breakpoint handler and *single-steps* everything else, which costs several times as much. So a site is
//! planned: decode the function (`step`; only `amd64` and `arm64` know an instruction set), see which registers
//! hold the new goroutine where (`flow`), which instructions every path passes exactly once (`graph`), and take
//! the cheapest of them.
//!
//! The compiler inlines the functions that golife probes, so "the function" means a [`Body`] for each place where
//! its code stands.

mod amd64;
mod arm64;
mod flow;
mod graph;
mod held;
mod step;

use std::ops::Range;

use crate::go::file::image::Architecture;
use crate::go::runtime::layout::Layout;
use flow::Flow;
use graph::Graph;
pub(super) use held::before;
use step::Probe;
pub(super) use step::{Convention, Effect, Next, Operand, Place, Step, Value, decode};

/// Largest function that is analysed, in bytes; `runtime.newproc1` has about a thousand, unoptimised two.
pub(super) const MAX_CODE: usize = 32 << 10;

/// One place where the code of a probed function stands: the function itself, or one inlined copy of it.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    /// The CPU that the code is for.
    pub architecture: Architecture,
    /// Name of the physical function.
    pub function: &'a str,
    /// Address of the physical function's first instruction.
    pub entry: u64,
    /// Its machine code, from `entry` on.
    pub code: &'a [u8],
    /// Addresses of the inlined copy's instructions, what was inlined into the copy included. Empty: the physical
    /// function is the probed function. Two copies in one physical function are two bodies.
    pub inlined: &'a [Range<u64>],
}

impl Body<'_> {
    fn convention(&self) -> Convention {
        Convention::of(self.architecture)
    }

    fn contains(&self, address: u64) -> bool {
        self.inlined.is_empty() || self.inlined.iter().any(|range| range.contains(&address))
    }
}

/// Answers which function starts at an address, to name what code calls.
pub type CallTargets<'a> = dyn Fn(u64) -> Option<String> + 'a;

/// How the running kernel treats the instructions for which kernels differ.
///
/// The rest is the same for all kernels from 5.8 on: `branch_setup_xol_ops` and `push_setup_xol_ops` in
/// <https://github.com/torvalds/linux/blob/master/arch/x86/kernel/uprobes.c>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// Multi-byte nops are emulated, not only the one-byte nop.
    pub emulates_long_nops: bool,
    /// A probed five-byte nop is rewritten into a call, which saves the breakpoint.
    pub optimises_nop5: bool,
}

impl Kernel {
    /// What Linux `major.minor` does.
    pub fn from_version(major: u32, minor: u32) -> Kernel {
        let recent = (major, minor) >= (6, 18);
        Kernel { emulates_long_nops: recent, optimises_nop5: recent }
    }
}

/// What a probe sees happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A goroutine is created: `runtime.newproc1`.
    Creation,
    /// A goroutine ends: `runtime.goexit1`.
    Exit,
    /// A coroutine of `iter.Pull` ends: `runtime.coroexit`, Go 1.23 and later.
    CoroutineExit,
}

/// What a hit costs, cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cost {
    /// The kernel replaces the five-byte nop by a call: no exception at all.
    Nop5Optimised,
    /// One exception; the kernel emulates the instruction.
    Emulated,
    /// Two exceptions: the kernel lets the CPU step over a copy of the instruction. Worth a warning.
    SingleStepped,
}

/// Where a probe goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Virtual address in the ELF file, before any load bias.
    pub address: u64,
    /// The physical function around it.
    pub function: String,
    /// What is seen here.
    pub purpose: Purpose,
    /// Register that holds the goroutine's `*g` before the instruction runs, numbered as in
    /// [`tracer_ebpf::Cookie::register`].
    pub register: u8,
    /// What a hit costs.
    pub cost: Cost,
    /// The instruction, for humans: `nop`, `call runtime.mcall`.
    pub instruction: String,
}

/// Why a probe has no place. Each message is complete but for the name of the binary.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// No body was given.
    #[error(
        "no code of the probed function was found; is this a Go program built by a toolchain other than gc?"
    )]
    NoBody,
    /// The function is larger than any real one.
    #[error(
        "{function} has {bytes} bytes of code, more than golife analyses; the symbol table may be damaged"
    )]
    TooLarge {
        /// The physical function.
        function: String,
        /// Its size.
        bytes: usize,
    },
    /// Bytes that are no instruction, or a jump into the middle of one.
    #[error(
        "cannot decode {function} at {address:#x}; the symbol table may be damaged or the file encrypted"
    )]
    Undecodable {
        /// The physical function.
        function: String,
        /// Where.
        address: u64,
    },
    /// A jump whose targets are not in the code.
    #[error("{function} has an indirect jump at {address:#x}, so its paths cannot be followed")]
    IndirectJump {
        /// The physical function.
        function: String,
        /// Where.
        address: u64,
    },
    /// The data flow did not settle within its budget: not compiler output.
    #[error("{function} is too tangled to be analysed; the code may be obfuscated")]
    TooComplex {
        /// The physical function.
        function: String,
    },
    /// The stores that make a goroutine are not there, so layout and code disagree.
    #[error(
        "{function} never stores goid, gopc and startpc of one g at the expected offsets; the struct layout does not \
         match this binary"
    )]
    NoGoidStore {
        /// The physical function.
        function: String,
    },
    /// No instruction is passed exactly once with the g in a register.
    #[error("{function} has no instruction that every path passes once with the new g in a register")]
    NoSite {
        /// The physical function.
        function: String,
    },
    /// The end of a goroutine is the one call of `runtime.mcall`.
    #[error("{function} calls runtime.mcall {count} times where one call was expected")]
    Mcall {
        /// The physical function.
        function: String,
        /// How often.
        count: usize,
    },
    /// The register that holds the current g in Go code is written to.
    #[error("{function} changes the g register before it calls runtime.mcall, so the ending g is not known")]
    NoG {
        /// The physical function.
        function: String,
    },
}

/// Plans the probes for creations: at least one site for each body of `runtime.newproc1`.
///
/// Each goroutine passes exactly one of the sites, once, when its goid, gopc, startpc and parent goid are final. Where
/// nothing cheaper can be proven in the function itself, the sites are its return instructions, with the result in the
/// result register; they are marked [`Cost::SingleStepped`].
pub fn creation(
    bodies: &[Body],
    layout: &Layout,
    calls: &CallTargets,
    kernel: Kernel,
) -> Result<Vec<Site>, PlanError> {
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
/// The call runs once however often the prologue before it runs: a goroutine that ends on a full stack grows it first
/// and enters the function again.
pub fn exit(
    bodies: &[Body],
    purpose: Purpose,
    calls: &CallTargets,
    kernel: Kernel,
) -> Result<Vec<Site>, PlanError> {
    each(bodies, |body| exit_in(body, purpose, calls, kernel))
}

/// The obvious placement of creation probes, for comparison: `newproc1`'s return instructions.
pub fn single_stepped_creation(
    bodies: &[Body],
    calls: &CallTargets,
    kernel: Kernel,
) -> Result<Vec<Site>, PlanError> {
    each(bodies, |body| returns(body, calls, kernel))
}

/// The obvious placement of exit probes, for comparison: the function's entry. It runs twice for a goroutine whose
/// stack has to grow there.
pub fn single_stepped_exit(
    bodies: &[Body],
    purpose: Purpose,
    calls: &CallTargets,
    kernel: Kernel,
) -> Result<Vec<Site>, PlanError> {
    each(bodies, |body| {
        let steps = steps(body, calls, kernel)?;
        let first = steps.first().ok_or(PlanError::NoBody)?;
        Ok(vec![site(body, first, purpose, body.convention().g, calls)])
    })
}

/// Runs `plan` on every body; of several functions of one name the largest counts, since the others are wrappers
/// between calling conventions (`runtime.goexit1` has one).
fn each(
    bodies: &[Body],
    plan: impl Fn(&Body) -> Result<Vec<Site>, PlanError>,
) -> Result<Vec<Site>, PlanError> {
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
) -> Result<Vec<Site>, PlanError> {
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
        // Among equals the last one: everything about the goroutine is settled there.
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
) -> Result<Vec<Site>, PlanError> {
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
    Ok(vec![site(body, mcall, purpose, body.convention().g, calls)])
}

fn returns(body: &Body, calls: &CallTargets, kernel: Kernel) -> Result<Vec<Site>, PlanError> {
    let none = || PlanError::NoSite { function: body.function.to_owned() };
    if !body.inlined.is_empty() {
        return Err(none()); // an inlined copy does not return
    }
    let sites: Vec<Site> = steps(body, calls, kernel)?
        .iter()
        .filter(|step| step.next == Next::Return)
        .map(|step| site(body, step, Purpose::Creation, body.convention().result(), calls))
        .collect();
    if sites.is_empty() { Err(none()) } else { Ok(sites) }
}

fn steps(body: &Body, calls: &CallTargets, kernel: Kernel) -> Result<Vec<Step>, PlanError> {
    if body.code.len() > MAX_CODE {
        return Err(PlanError::TooLarge { function: body.function.to_owned(), bytes: body.code.len() });
    }
    Ok(decode(body.architecture, body.entry, body.code, calls, kernel))
}

fn site(body: &Body, step: &Step, purpose: Purpose, register: u8, calls: &CallTargets) -> Site {
    let mut instruction = step.text.clone();
    if let Next::Call(Some(target)) = step.next
        && let Some(name) = calls(target)
    {
        instruction.push(' ');
        instruction.push_str(&name);
    }
    Site {
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
