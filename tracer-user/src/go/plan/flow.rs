//! Which places hold the new goroutine at each instruction.
//!
//! The state before an instruction says which places (registers and stack slots) hold equal values on every path: it is
//! a partition of all places into classes. Each store to a field of interest is a place, too, which from then on holds
//! the base pointer of that store. So if register 3 is in one class with a store of a goid and a store of a gopc, it
//! holds the g that both were stored to. Where paths meet, only what is equal on all of them stays in one class.
//!
//! The compiler saves registers in stack slots. Calls and stores through pointers do not change these, except slots whose
//! address the function takes.

use std::collections::BTreeSet;
use std::ops::Range;

use super::body::Body;
use super::error::PlanError;
use super::graph::Graph;
use super::step::{Effect, Place, Step};
use crate::go::runtime::layout::Layout;

/// The number of registers; all register numbers are below it, on every instruction set.
const REGISTERS: usize = 32;
/// Stack slots that are followed.
const MAX_SLOTS: usize = 128;
/// Stores that are followed.
const MAX_STORES: usize = 32;
/// How often each instruction is looked at, on average, before the analysis gives up.
const PASSES: usize = 32;

/// The fields whose stores make a goroutine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Goid,
    Gopc,
    Startpc,
    Parent,
}

/// For each place, the lowest place of its class.
type State = Box<[u16]>;

/// The solved data flow of one body.
pub(super) struct Flow {
    /// The state before each instruction. None where control never gets there.
    before: Vec<Option<State>>,
    /// The instruction and the field of each store, in the order of the stores' places.
    stores: Vec<(usize, Field)>,
    bases: Vec<u8>,
    slots: Vec<i64>,
    wanted: Vec<Field>,
}

impl Flow {
    /// Solves the data flow from the function's entry on.
    pub(super) fn new(
        body: &Body,
        steps: &[Step],
        graph: &Graph,
        layout: &Layout,
    ) -> Result<Flow, PlanError> {
        let fields = [
            (Some(layout.goid), Field::Goid),
            (Some(layout.gopc), Field::Gopc),
            (Some(layout.startpc), Field::Startpc),
            (layout.parent, Field::Parent),
        ];
        let (mut stores, mut bases) = (Vec::new(), Vec::new());
        for (index, step) in steps.iter().enumerate().filter(|(_, step)| body.contains(step.address)) {
            let Some((base, first, words)) = step.store else { continue };
            for (at, field) in fields {
                let stored = |at| (0..i64::from(words)).any(|word| first.checked_add(8 * word) == Some(at));
                if at.is_some_and(|at| stored(at.into())) && stores.len() < MAX_STORES {
                    stores.push((index, field));
                    bases.push(base);
                }
            }
        }
        let wanted = if layout.parent.is_some() {
            vec![Field::Gopc, Field::Startpc, Field::Parent]
        } else {
            vec![Field::Gopc, Field::Startpc]
        };
        let mut flow =
            Flow { before: vec![None; steps.len()], stores, bases, slots: slots_of(steps), wanted };
        flow.solve(steps, graph)
            .then_some(flow)
            .ok_or_else(|| PlanError::TooComplex { function: body.function.to_owned() })
    }

    /// The instructions that store the goid of a g whose gopc and startpc, and parent goid where there is one, were
    /// stored before.
    pub(super) fn goid_stores(&self) -> Vec<usize> {
        (0..self.stores.len())
            .filter(|&number| {
                let (index, field) = self.stores[number];
                field == Field::Goid
                    && self.before[index].as_ref().is_some_and(|state| {
                        let class = state[self.bases[number] as usize];
                        self.wanted.iter().all(|&wanted| {
                            (0..self.stores.len()).any(|other| {
                                self.stores[other].1 == wanted && state[self.store_place(other)] == class
                            })
                        })
                    })
            })
            .map(|number| self.stores[number].0)
            .collect()
    }

    /// The lowest register that holds, before the instruction `index`, the g of the goid store `store`.
    pub(super) fn register_with_new_g(&self, store: usize, index: usize) -> Option<u8> {
        let number = self.stores.iter().position(|&(at, field)| at == store && field == Field::Goid)?;
        let state = self.before[index].as_ref()?;
        let class = state[self.store_place(number)];
        (0..REGISTERS).find(|&register| state[register] == class).map(|register| register as u8)
    }

    fn store_place(&self, number: usize) -> usize {
        REGISTERS + self.slots.len() + number
    }

    fn place(&self, place: Place) -> Option<usize> {
        match place {
            Place::Register(register) => Some(register as usize),
            Place::Slot(offset) => self.slots.binary_search(&offset).ok().map(|slot| REGISTERS + slot),
        }
    }

    fn solve(&mut self, steps: &[Step], graph: &Graph) -> bool {
        let places = REGISTERS + self.slots.len() + self.stores.len();
        let nothing_known: State = (0..places as u16).collect();
        let mut open = BTreeSet::from([0]);
        self.before[0] = Some(nothing_known);
        let mut budget = steps.len().saturating_mul(PASSES);
        while let Some(index) = open.pop_first() {
            if budget == 0 {
                return false;
            }
            budget -= 1;
            let Some(before) = &self.before[index] else { continue };
            let after = self.apply(index, &steps[index].effect, before);
            for next in graph.after(index) {
                let met = match &self.before[next] {
                    None => after.clone(),
                    Some(known) => meet(known, &after),
                };
                if self.before[next].as_ref() != Some(&met) {
                    self.before[next] = Some(met);
                    open.insert(next);
                }
            }
        }
        true
    }

    /// The state after an instruction, from the state before it.
    fn apply(&self, index: usize, effect: &Effect, before: &State) -> State {
        // Here a class is named by any number. Those from `fresh` on are new.
        let mut state = before.clone();
        let mut fresh = before.len() as u16;
        let mut unknown = || {
            fresh += 1;
            fresh - 1
        };
        // A store takes its base as it was before the instruction.
        let stored = (0..self.stores.len()).filter(|&number| self.stores[number].0 == index);
        let stored = stored.map(|number| (self.store_place(number), before[self.bases[number] as usize]));
        match effect {
            Effect::Copy { to, from } => self.copy(*to, Some(*from), before, &mut state, &mut unknown),
            Effect::Pair(copies) => {
                for (to, from) in copies {
                    self.copy(*to, *from, before, &mut state, &mut unknown);
                }
            }
            Effect::Swap(a, b) => state.swap(*a as usize, *b as usize),
            Effect::Clobber { registers, stack } => {
                for register in (0..REGISTERS).filter(|register| registers & (1 << register) != 0) {
                    state[register] = unknown();
                }
                self.forget_stack(&mut state, stack, &mut unknown);
            }
        }
        for (place, class) in stored {
            state[place] = class;
        }
        canonical(&state)
    }

    fn copy(
        &self,
        to: Place,
        from: Option<Place>,
        before: &State,
        state: &mut State,
        unknown: &mut impl FnMut() -> u16,
    ) {
        let value = from.and_then(|from| self.place(from)).map(|place| before[place]);
        if let Place::Slot(offset) = to {
            self.forget_stack(state, &(offset..offset.saturating_add(8)), unknown);
        }
        if let Some(place) = self.place(to) {
            state[place] = value.unwrap_or_else(unknown);
        }
    }

    fn forget_stack(&self, state: &mut State, range: &Range<i64>, unknown: &mut impl FnMut() -> u16) {
        for (slot, &offset) in self.slots.iter().enumerate() {
            if range.start < offset.saturating_add(8) && offset < range.end {
                state[REGISTERS + slot] = unknown();
            }
        }
    }
}

/// The stack slots that a register is ever saved to, lowest first, without those whose address is taken.
fn slots_of(steps: &[Step]) -> Vec<i64> {
    let mut slots: Vec<i64> = steps
        .iter()
        .flat_map(|step| step.effect.slots())
        .filter(|offset| !steps.iter().any(|step| step.takes_address == Some(*offset)))
        .collect();
    slots.sort_unstable();
    slots.dedup();
    slots.truncate(MAX_SLOTS);
    slots
}

/// The state in which two places are equal if they are equal in both of these.
fn meet(a: &State, b: &State) -> State {
    let mut met: State = (0..a.len() as u16).collect();
    for place in 0..a.len() {
        // The lowest place of the new class is in both old classes, so it is not below the lowest of either.
        let lowest = a[place].max(b[place]) as usize;
        if let Some(same) = (lowest..place).find(|&other| a[other] == a[place] && b[other] == b[place]) {
            met[place] = same as u16;
        }
    }
    met
}

/// Names each class by its lowest place.
fn canonical(state: &State) -> State {
    let mut lowest = vec![u16::MAX; 2 * state.len()];
    let mut named = state.clone();
    for (place, class) in state.iter().enumerate() {
        let lowest = &mut lowest[*class as usize];
        if *lowest == u16::MAX {
            *lowest = place as u16;
        }
        named[place] = *lowest;
    }
    named
}
