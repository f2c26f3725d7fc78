//! A decoded instruction in terms that are the same for every instruction set.

use std::ops::Range;

use super::kernel::Cost;

/// Says which function starts at an address: what code calls is known by its name.
pub type CallTargets<'a> = dyn Fn(u64) -> Option<String> + 'a;

/// A decoded instruction.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) address: u64,
    /// Size in bytes.
    pub(crate) size: u64,
    pub(crate) next: Next,
    pub(crate) effect: Effect,
    /// Where it stores whole words through a register: the register, the distance from it in bytes, and how many words.
    pub(super) store: Option<(u8, i64, u8)>,
    /// The register that it loads with a word of memory other than the stack, and which word that is.
    pub(crate) load: Option<(u8, Operand)>,
    /// Where it stores a word in such a way that other threads see everything that was stored before (`atomic.Store`,
    /// `StorepNoWB`).
    pub(crate) publishes: Option<Operand>,
    /// The register that it puts something into that is known without running the code, and what that is.
    pub(crate) value: Option<(u8, Value)>,
    /// What holds the address of the function that it calls.
    pub(crate) through: Option<Operand>,
    /// The distance from the stack pointer of the stack slot whose address it takes.
    pub(super) takes_address: Option<i64>,
    /// The registers, as bits, that have the address of memory which it writes to.
    pub(super) writes_through: u32,
    /// It puts something unknown into the register that holds the current g.
    pub(super) loses_g: bool,
    pub(super) probe: Probe,
    pub(super) text: String,
}

/// Where control goes after an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
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

/// What an instruction takes a value from, or stores one to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operand {
    Register(u8),
    /// The word in memory at a constant distance from a register, which is not the stack pointer.
    Memory(u8, i64),
    /// The word at an address.
    Variable(u64),
}

/// What is known of what an instruction puts into a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// A number or an address.
    Constant(i64),
    /// What a register held, plus a number.
    Sum(u8, i64),
}

/// A register or stack slot that can hold a pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Register(u8),
    /// Eight bytes at this distance from the stack pointer.
    Slot(i64),
}

/// What an instruction does to registers and stack slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// `to` holds what `from` holds.
    Copy { to: Place, from: Place },
    /// Two copies at once; without a place to copy from, what the place holds then is not known.
    Pair([(Place, Option<Place>); 2]),
    /// Two registers exchange what they hold.
    Swap(u8, u8),
    /// These registers, as bits, and these bytes of the stack hold something else afterwards, which is not known.
    Clobber { registers: u32, stack: Range<i64> },
}

/// The bytes of the whole stack frame.
pub(super) const STACK: Range<i64> = i64::MIN..i64::MAX;
/// No bytes of the stack frame.
pub(super) const NO_STACK: Range<i64> = 0..0;

impl Effect {
    /// The registers, as bits, that no longer hold what they did.
    pub(crate) fn registers(&self) -> u32 {
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
    /// The kernel steps over a copy of it, which does the same as the instruction itself.
    Step,
    /// The kernel refuses to put a probe here, or nobody has tried.
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
