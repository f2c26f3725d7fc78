//! Which places hold, before an instruction, the result of one of some calls. It must be so on every path, and stores
//! through pointers into the frame must not be able to change it.

use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;

use super::body::Body;
use super::decode::Convention;
use super::graph::Graph;
use super::step::{CallTargets, Effect, Next, Place, Step};

/// The number of registers; all register numbers are below it, on every instruction set.
const REGISTERS: usize = 32;
/// Stack slots that are followed, as many as a `u128` has bits.
const MAX_SLOTS: usize = 128;
/// How often each instruction is looked at, on average, before the analysis gives up.
const PASSES: usize = 32;
/// For a register: it holds no address in the frame.
const NO_ADDRESS: i64 = i64::MAX;
/// For a register: it holds an address in the frame, and may hold any.
const ANY_ADDRESS: i64 = i64::MIN;
/// How the names of those functions of the runtime begin that the compiler calls to write over any part of the frame,
/// also over variables whose address the source never takes.
const WRITERS: [&str; 5] = ["duff", "mem", "typedmem", "typedslice", "wb"];

/// What is known before an instruction.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// The registers that hold a result, as bits.
    registers: u32,
    /// The stack slots that hold a result, as bits by their place in `offsets`.
    slots: u128,
    /// The distances of the slots from the stack pointer, sorted.
    offsets: Rc<[i64]>,
    /// For each register, the lowest place of the frame whose address it may hold, as a distance from the stack pointer.
    addresses: [i64; REGISTERS],
}

impl Held {
    /// Whether a register holds a result.
    pub(crate) fn register(&self, number: u8) -> bool {
        self.registers & (1 << number) != 0
    }

    /// Whether the slot at this distance from the stack pointer holds a result.
    pub(crate) fn slot(&self, offset: i64) -> bool {
        self.offsets.binary_search(&offset).is_ok_and(|slot| self.slots & (1 << slot) != 0)
    }

    /// The place of the frame whose address a register holds, as a distance from the stack pointer. None where it holds
    /// none, or may hold several.
    pub(crate) fn address(&self, register: u8) -> Option<i64> {
        Some(self.addresses[usize::from(register)])
            .filter(|address| ![NO_ADDRESS, ANY_ADDRESS].contains(address))
    }

    fn put(&mut self, place: Place, holds: bool) {
        match place {
            Place::Register(register) => set(&mut self.registers, u32::from(register), holds),
            Place::Slot(offset) => {
                self.forget(&(offset..offset.saturating_add(8)));
                if let Ok(slot) = self.offsets.binary_search(&offset)
                    && holds
                {
                    self.slots |= 1 << slot;
                }
            }
        }
    }

    /// Whether a place holds a result, and which address in the frame it holds.
    fn what_is_in(&self, place: Option<Place>) -> (bool, i64) {
        match place {
            Some(Place::Register(register)) => {
                (self.register(register), self.addresses[usize::from(register)])
            }
            Some(Place::Slot(offset)) => (self.slot(offset), NO_ADDRESS),
            None => (false, NO_ADDRESS),
        }
    }

    fn copy(&mut self, to: Place, (holds, address): (bool, i64)) {
        self.put(to, holds);
        if let Place::Register(register) = to {
            self.addresses[usize::from(register)] = address;
        }
    }

    fn forget(&mut self, range: &Range<i64>) {
        for (slot, &offset) in self.offsets.iter().enumerate() {
            if range.start < offset.saturating_add(8) && offset < range.end {
                self.slots &= !(1 << slot);
            }
        }
    }

    fn meet(&mut self, other: &Held) {
        self.registers &= other.registers;
        self.slots &= other.slots;
        for (address, other) in self.addresses.iter_mut().zip(other.addresses) {
            *address = (*address).min(other);
        }
    }
}

fn set(mask: &mut u32, bit: u32, on: bool) {
    *mask = *mask & !(1 << bit) | u32::from(on) << bit;
}

/// Finds the places that hold, before the call at address `at`, a result of the calls at the addresses `sources`.
/// `steps` are those of the body, and `exposed` are the parts of the frame that others may write to, as distances from
/// the stack pointer. None where the code cannot be followed.
pub(crate) fn before(
    body: &Body,
    steps: &[Step],
    sources: &BTreeSet<u64>,
    exposed: &[Range<i64>],
    at: u64,
    calls: &CallTargets,
) -> Option<Held> {
    let graph = Graph::new(body, steps, calls).ok()?;
    let result = Convention::of(body.architecture).result();
    let writes_anywhere = |step: &Step| match step.next {
        Next::Call(Some(target)) => calls(target).is_some_and(|name| {
            let name = name.strip_prefix("runtime.").unwrap_or_default();
            WRITERS.iter().any(|writer| name.starts_with(writer))
        }),
        _ => false,
    };
    let anywhere: BTreeSet<u64> =
        steps.iter().filter(|step| writes_anywhere(step)).map(|step| step.address).collect();
    let mut offsets: Vec<i64> = steps.iter().flat_map(|step| step.effect.slots()).collect();
    offsets.sort_unstable();
    offsets.dedup();
    offsets.truncate(MAX_SLOTS);
    let nothing =
        Held { registers: 0, slots: 0, offsets: offsets.into(), addresses: [NO_ADDRESS; REGISTERS] };
    let mut before: Vec<Option<Held>> = vec![None; steps.len()];
    before[0] = Some(nothing);
    let mut open = BTreeSet::from([0]);
    let mut budget = steps.len().saturating_mul(PASSES);
    while let Some(index) = open.pop_first() {
        budget = budget.checked_sub(1)?;
        let step = &steps[index];
        let Some(mut after) = before[index].clone() else { continue };
        apply(&mut after, step, exposed, anywhere.contains(&step.address));
        if sources.contains(&step.address) {
            after.put(Place::Register(result), true);
        }
        for next in graph.after(index) {
            let mut met = after.clone();
            if let Some(known) = &before[next] {
                met.meet(known);
            }
            if before[next].as_ref() != Some(&met) {
                before[next] = Some(met);
                open.insert(next);
            }
        }
    }
    let index = steps.binary_search_by_key(&at, |step| step.address).ok()?;
    before[index].take()
}

fn apply(held: &mut Held, step: &Step, exposed: &[Range<i64>], anywhere: bool) {
    if step.writes_through != 0 {
        let through = |register: &usize| step.writes_through & (1 << register) != 0;
        let lowest = (0..REGISTERS).filter(through).map(|register| held.addresses[register]).min();
        held.forget(&(lowest.unwrap_or(NO_ADDRESS)..i64::MAX));
        exposed.iter().for_each(|range| held.forget(range));
    }
    match step.effect {
        Effect::Copy { to, from } => held.copy(to, held.what_is_in(Some(from))),
        Effect::Pair(copies) => {
            let both = copies.map(|(to, from)| (to, held.what_is_in(from)));
            both.into_iter().for_each(|(to, what)| held.copy(to, what));
        }
        Effect::Swap(a, b) => {
            let (of_a, of_b) = (held.register(a), held.register(b));
            held.put(Place::Register(a), of_b);
            held.put(Place::Register(b), of_a);
            held.addresses.swap(a.into(), b.into());
        }
        Effect::Clobber { registers, ref stack } => {
            held.registers &= !registers;
            held.forget(stack);
            // A call may change all registers, and what is exposed of the frame. A write barrier is a call that keeps
            // most registers, and does not write to the frame.
            let calls = matches!(step.next, Next::Call(_)) && registers == u32::MAX;
            for (register, address) in held.addresses.iter_mut().enumerate() {
                if registers & (1 << register) == 0 {
                    continue;
                }
                *address = match (calls, step.takes_address, *address) {
                    (true, ..) => NO_ADDRESS,
                    (_, Some(taken), _) => taken,
                    (_, None, NO_ADDRESS) => NO_ADDRESS,
                    (_, None, _) => ANY_ADDRESS,
                };
            }
            if calls {
                exposed.iter().for_each(|range| held.forget(range));
            }
            if anywhere {
                held.slots = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::go::file::image::Architecture;
    use crate::go::plan::{Kernel, decode};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_code_is_followed_or_refused(
            code in proptest::collection::vec(any::<u8>(), 0..400),
            sources in proptest::collection::btree_set(0u64..400, 0..8),
            exposed in proptest::collection::vec((any::<i32>(), any::<i32>()), 0..4),
            at in 0u64..400,
        ) {
            let exposed: Vec<Range<i64>> = exposed.iter().map(|&(a, b)| a.into()..b.into()).collect();
            for architecture in [Architecture::Amd64, Architecture::Arm64] {
                let body = Body { architecture, function: "f", entry: 0, code: &code, inlined: &[] };
                let steps = decode(architecture, 0, &code, &|_| None, Kernel::default());
                let _ = before(&body, &steps, &sources, &exposed, at, &|_| None);
            }
        }
    }
}
