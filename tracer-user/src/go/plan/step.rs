//! A decoded instruction in the terms of the analyses, which know no instruction set.

use std::ops::Range;

use super::kernel::Cost;

/// Answers which function starts at an address, to name what code calls.
pub type CallTargets<'a> = dyn Fn(u64) -> Option<String> + 'a;

/// A decoded instruction.
#[derive(Debug)]
pub(in crate::go) struct Step {
    pub(in crate::go) address: u64,
    /// In bytes.
    pub(in crate::go) size: u64,
    pub(in crate::go) next: Next,
    pub(in crate::go) effect: Effect,
    /// It stores so many whole words through a register: base, offset, how many.
    pub(super) store: Option<(u8, i64, u8)>,
    /// It loads a word from memory other than the stack into a register.
    pub(in crate::go) load: Option<(u8, Operand)>,
    /// It stores a word such that other threads see all that was stored before (`atomic.Store`, `StorepNoWB`).
    pub(in crate::go) publishes: Option<Operand>,
    /// It puts something known into a register.
    pub(in crate::go) value: Option<(u8, Value)>,
    /// It calls what this holds the address of.
    pub(in crate::go) through: Option<Operand>,
    /// It takes the address of the stack slot at this distance from the stack pointer.
    pub(super) takes_address: Option<i64>,
    /// The registers, as bits, that it writes to memory through.
    pub(super) writes_through: u32,
    /// It puts something unknown into the register that holds the current g.
    pub(super) loses_g: bool,
    pub(super) probe: Probe,
    pub(super) text: String,
}

/// Where control goes after an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::go) enum Next {
    /// To the following instruction.
    Following,
    /// To an address.
    Jump(u64),
    /// To an address or the following instruction.
    Branch(u64),
    /// Into a function, at an address that is known or not, and then to the following instruction.
    Call(Option<u64>),
    /// Back to the caller.
    Return,
    /// Nowhere: a trap.
    Stop,
    /// To an address that the code does not tell.
    Unknown,
    /// The bytes are no instruction.
    Undecodable,
}

/// What an instruction names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::go) enum Operand {
    Register(u8),
    /// The word in memory at a constant distance from a register, which is not the stack pointer.
    Memory(u8, i64),
    /// The word at an address.
    Variable(u64),
}

/// What is known of what an instruction puts into a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::go) enum Value {
    /// A number or an address.
    Constant(i64),
    /// What a register held, and so much more.
    Sum(u8, i64),
}

/// A register or stack slot that can hold a pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::go) enum Place {
    Register(u8),
    /// Eight bytes at this distance from the stack pointer.
    Slot(i64),
}

/// What an instruction does to the places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::go) enum Effect {
    /// `to` holds what `from` holds.
    Copy { to: Place, from: Place },
    /// Two copies at once; without a place to copy from, what the place holds then is not known.
    Pair([(Place, Option<Place>); 2]),
    /// The two exchange what they hold.
    Swap(u8, u8),
    /// These registers (a bit each) and these bytes of the stack hold something else.
    Clobber { registers: u32, stack: Range<i64> },
}

/// The whole stack frame.
pub(super) const STACK: Range<i64> = i64::MIN..i64::MAX;
/// Nothing of it.
pub(super) const NO_STACK: Range<i64> = 0..0;

impl Effect {
    /// The registers, as bits, that no longer hold what they did.
    pub(in crate::go) fn registers(&self) -> u32 {
        let bit = |place| match place {
            Place::Register(register) => 1 << register,
            Place::Slot(_) => 0,
        };
        match *self {
            Effect::Copy { to, .. } => bit(to),
            Effect::Pair([(a, _), (b, _)]) => bit(a) | bit(b),
            Effect::Swap(a, b) => 1 << a | 1 << b,
            Effect::Clobber { registers, .. } => registers,
        }
    }

    /// The stack slots that it saves something to, by their distance from the stack pointer.
    pub(super) fn slots(&self) -> impl Iterator<Item = i64> + use<> {
        let to = match *self {
            Effect::Copy { to, .. } => [Some(to), None],
            Effect::Pair([(a, _), (b, _)]) => [Some(a), Some(b)],
            Effect::Swap(..) | Effect::Clobber { .. } => [None; 2],
        };
        to.into_iter().flatten().filter_map(|place| match place {
            Place::Slot(offset) => Some(offset),
            Place::Register(_) => None,
        })
    }
}

/// How the kernel runs an instruction that is probed, cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Probe {
    Nop5,
    Nop,
    Branch,
    Push,
    Call,
    /// Single-stepped, and safe to be.
    Step,
    /// The kernel refuses it, or nobody has tried.
    Never,
}

impl Probe {
    pub(super) fn cost(self) -> Cost {
        match self {
            Probe::Nop5 => Cost::Nop5Optimised,
            Probe::Nop | Probe::Branch | Probe::Push | Probe::Call => Cost::Emulated,
            Probe::Step | Probe::Never => Cost::SingleStepped,
        }
    }
}
