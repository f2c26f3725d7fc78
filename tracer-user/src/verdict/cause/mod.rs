//! Finds why the goroutines of a site do not end: a name for the cause, and the advice that a reviewer would write.
//!
//! What a goroutine waits for says most, and the functions it is in say the rest, by the table in `patterns`: the same
//! kind of `select` can be due to a body that nobody closes, a context that nobody cancels, or a query that nobody
//! finishes.

mod advice;
mod blamed;
mod closing;
mod holder;
mod library;
mod owner;
mod patterns;
mod static_check;
#[cfg(test)]
mod tests;

use super::waits::{HttpClients, Wait, stands_out};
use crate::go::Activity;
use crate::go::standard::waits_in;
use crate::human::{clean, count, file_name, imported};
use crate::report::{Cause, Frame, StaticCheck};
pub use blamed::Blamed;
pub use owner::is_of_dependency;
use owner::{Owner, owner};
pub use patterns::{PatternError, Patterns};

/// What is known of a program's code when the causes of its waits are named.
#[derive(Clone, Copy, Debug)]
pub struct Code<'report> {
    /// Path of the main module.
    pub module: Option<&'report str>,
    /// The user's own rows on stacks that tell more than their wait reason.
    pub patterns: &'report Patterns,
    /// The methods whose names say that they end something, by their full names; sorted.
    pub methods: &'report [String],
}

/// Where the goroutines of a site come from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start<'report> {
    /// Their `go` statement; `None` if it is not known.
    pub statement: Option<&'report Frame>,
    /// The function that the main module called to get to that statement, if that is in another module; `None` if it is
    /// not known.
    pub called: Option<&'report str>,
    /// The lines of the main module that they go back to; `None` if that is not known of most of them.
    pub blamed: Option<&'report Blamed>,
}

/// Why goroutines do not end, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What keeps them from ending.
    pub cause: Cause,
    /// What a reviewer would write.
    pub advice: String,
    /// If these goroutines are not most of the site's: by what they stand out, and what the others do.
    pub beside: Option<String>,
    /// The check of source code that reports such mistakes.
    pub static_check: Option<StaticCheck>,
}

/// Goroutines of a site that do not end for the same reason.
struct Sharing<'wait> {
    cause: Cause,
    count: u64,
    /// By how many they have grown since the look before, and how many have been created since.
    grown: (u64, u64),
    /// The wait that stands for them: the one that grew most, and of those the one of most goroutines.
    example: &'wait Wait,
}

/// Why the goroutines of a site do not end, and what to do about it: those that stand out since they grow from look to
/// look, else most of the living. `None` if nothing is known about them. The advice points to the main module's code, and to
/// where they come from if they are in other code themselves.
pub fn of(waits: &[Wait], code: Code, start: &Start) -> Option<Explanation> {
    let mut causes: Vec<Sharing> = Vec::new();
    for wait in waits.iter().filter(|wait| wait.count > 0) {
        let cause = of_wait(wait, code);
        let (by, new) = wait.grown.unwrap_or_default();
        match causes.iter_mut().find(|known| known.cause == cause) {
            Some(known) => {
                known.count += wait.count;
                known.grown = (known.grown.0 + by, known.grown.1 + new);
                let rank = |wait: &Wait| (wait.grown.map(|(by, _)| by), wait.count);
                if rank(wait) > rank(known.example) {
                    known.example = wait;
                }
            }
            None => causes.push(Sharing { cause, count: wait.count, grown: (by, new), example: wait }),
        }
    }
    // A goroutine that runs, or is about to, does not tell why it is still there. So such goroutines are left out if
    // enough others tell.
    let is_moving = |cause| matches!(cause, Cause::Running | Cause::Syscall | Cause::Other);
    let count_of = |moving: fn(bool) -> bool| -> u64 {
        causes.iter().filter(|of| moving(is_moving(of.cause))).map(|of| of.count).sum()
    };
    let (standing, all) = (count_of(|moving| !moving), count_of(|_| true));
    if standing * 4 >= all && standing > 0 {
        causes.retain(|of| !is_moving(of.cause));
    }
    let most = causes.iter().max_by_key(|of| (of.count, std::cmp::Reverse(of.cause)))?;
    let grew = causes.iter().filter_map(|of| Some((stands_out(of.grown)?, of)));
    let grew = grew.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, of)| of);
    let chosen = grew.unwrap_or(most);
    let beside = (chosen.cause != most.cause).then(|| beside(chosen, most));
    let advice = advice::of(chosen.cause, chosen.example, code, start);
    let static_check = static_check::of(chosen.cause, chosen.example, code, start);
    Some(Explanation { cause: chosen.cause, advice, beside, static_check })
}

/// Names both the goroutines that stand out and those that are most.
fn beside(grew: &Sharing, most: &Sharing) -> String {
    let name = |of: &Sharing| {
        let busy = match of.example.http_clients {
            Some(HttpClients::Idle) if of.cause == Cause::Io => ", idle connections",
            _ => "",
        };
        format!("{} in {} ({}{busy})", count(of.count), clean(of.example.reason), of.cause.name())
    };
    let by = count(grew.grown.0);
    format!("{} grew by {by} since the look before; beside them {}", name(grew), name(most))
}

/// The cause of one wait.
pub(super) fn of_wait(wait: &Wait, code: Code) -> Cause {
    if wait.cycle.is_some() {
        return Cause::Cycle;
    }
    if let Some(cause) = patterns::find(code.patterns, wait, code.module).and_then(|remedy| remedy.cause) {
        return cause;
    }
    let channels = &wait.channels[..];
    match wait.activity() {
        Activity::ChanReceiveNil | Activity::ChanSendNil => Cause::NilChan,
        Activity::SelectNoCases => Cause::Select,
        Activity::ChanReceive | Activity::Select if wait.asked_done => Cause::Context,
        Activity::ChanReceive | Activity::Select if channels.iter().any(|channel| channel.is_timer()) => {
            Cause::Timer
        }
        Activity::ChanReceive => Cause::ChanReceive,
        Activity::ChanSend => match channels {
            [slots] if slots.is_signal() && slots.capacity > 0 => Cause::Semaphore,
            _ => Cause::ChanSend,
        },
        Activity::Select if wait.hopeless().is_some() => Cause::NilChan,
        Activity::Select => Cause::Select,
        Activity::MutexLock | Activity::RwMutexLock | Activity::RwMutexRLock => Cause::Mutex,
        Activity::WaitGroupWait => Cause::WaitGroup,
        Activity::CondWait => Cause::Cond,
        Activity::Semacquire => Cause::Semaphore,
        Activity::Sleep => Cause::Sleep,
        Activity::IoWait => Cause::Io,
        Activity::Syscall => Cause::Syscall,
        Activity::Running | Activity::Runnable | Activity::Preempted | Activity::CopyStack => Cause::Running,
        Activity::Coroutine | Activity::Other => Cause::Other,
    }
}

/// The frame at which a reviewer would look: the innermost call in the program's own code. If there is none, the
/// innermost call in a dependency's code, else what [`waits_in`] says, which is where a report shows the wait.
pub fn place<'wait>(wait: &'wait Wait, module: Option<&str>) -> Option<&'wait Frame> {
    let of = |wanted| wait.frames.iter().find(|frame| owner(&frame.function, module) == wanted);
    of(Owner::Program)
        .or_else(|| of(Owner::Dependency))
        .or_else(|| wait.frames.get(waits_in(wait.frames.iter().map(|frame| frame.function.as_str()))?))
        .or(wait.frames.first())
}

/// The place of a frame such as `hub.go:88`, or as much of it as is known.
fn position(frame: &Frame) -> String {
    match (&frame.file, frame.line) {
        (Some(file), Some(line)) => format!("{}:{line}", clean(file_name(file))),
        (Some(file), None) => clean(file_name(file)),
        _ => clean(&imported(&frame.function)),
    }
}
