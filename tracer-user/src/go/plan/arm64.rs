//! arm64: decodes machine code into [`Step`]s and knows what the kernel does with a probe on each instruction.

use std::ops::Range;

use yaxpeax_arch::{Decoder as _, U8Reader};
use yaxpeax_arm::armv8::a64::{InstDecoder, Instruction, Opcode, Operand as Arm, ShiftStyle, SizeCode};

use super::step::{CallTargets, Effect, NO_STACK, Next, Operand, Place, Probe, STACK, Step, Value};

/// R28 holds the current g in Go code:
/// <https://go.dev/s/regabi>, "Special-purpose registers" of the arm64 architecture.
pub(super) const G: u8 = 28;

/// The write barriers have a calling convention of their own: they answer in R25 and keep the other registers, but for
/// those of the linker (16, 17), the assembler's (27) and the return address (30). See `gcWriteBarrier` in
/// <https://github.com/golang/go/blob/master/src/runtime/asm_arm64.s>.
const WRITE_BARRIER: &str = "runtime.gcWriteBarrier";
const LOST_IN_WRITE_BARRIER: u32 = 1 << 16 | 1 << 17 | 1 << 25 | 1 << 27 | 1 << 30;

/// The number of the stack pointer in operands that can be the stack pointer. In others it is the register that is always
/// zero.
const SP_OR_ZERO: u16 = 31;
/// The frame pointer, which holds an address in the frame.
const FP: u8 = 29;
/// Most bytes that one instruction writes (`st4`).
const MOST_WRITTEN: i64 = 64;
/// How many instructions after a load-exclusive its store-exclusive may be. The kernel looks back as far.
const EXCLUSIVE: usize = 32;
/// Size of an instruction in bytes.
const INSTRUCTION: usize = 4;

/// Decodes all of the code that begins at the address `entry`, one step after the other. Bytes that are no instruction
/// give a step that says so.
pub(super) fn decode(entry: u64, code: &[u8], calls: &CallTargets) -> Vec<Step> {
    let decoder = InstDecoder::default();
    let mut exclusive = 0;
    let mut steps = Vec::with_capacity(code.len().div_ceil(INSTRUCTION));
    for (index, bytes) in code.chunks(INSTRUCTION).enumerate() {
        let address = entry.wrapping_add((INSTRUCTION * index) as u64);
        let instruction = decoder.decode(&mut U8Reader::new(bytes)).unwrap_or_default();
        // An exception makes the CPU forget that a load-exclusive came before, so that the store-exclusive fails: with a
        // probe between them the program would try for ever.
        exclusive = match instruction.opcode {
            opcode if loads_exclusively(opcode) => EXCLUSIVE,
            _ => exclusive.saturating_sub(1),
        };
        let probe = if exclusive > 0 { Probe::Never } else { probe(&instruction) };
        if stores_exclusively(instruction.opcode) {
            exclusive = 0;
        }
        steps.push(Step {
            address,
            size: INSTRUCTION as u64,
            next: next(&instruction, address),
            effect: effect(&instruction, address, calls),
            store: store(&instruction),
            load: load(&instruction),
            publishes: publishes(&instruction),
            value: value(&instruction, address),
            through: match (instruction.opcode, instruction.operands[0]) {
                (Opcode::BLR, register) => number(register).map(Operand::Register),
                _ => None,
            },
            takes_address: takes_address(&instruction),
            writes_through: writes_through(&instruction),
            loses_g: !matches!(next(&instruction, address), Next::Call(_))
                && registers_written(&instruction) & 1 << G != 0,
            probe,
            text: text(&instruction),
        });
    }
    steps
}

fn next(instruction: &Instruction, address: u64) -> Next {
    let target = || target(instruction, address);
    match instruction.opcode {
        Opcode::Invalid => Next::Undecodable,
        Opcode::B => target().map_or(Next::Unknown, Next::Jump),
        Opcode::Bcc(_) | Opcode::CBZ | Opcode::CBNZ | Opcode::TBZ | Opcode::TBNZ => {
            target().map_or(Next::Unknown, Next::Branch)
        }
        Opcode::BL => Next::Call(target()),
        // A system call may change registers as a call may.
        Opcode::BLR | Opcode::SVC | Opcode::BLRAA | Opcode::BLRAAZ | Opcode::BLRAB | Opcode::BLRABZ => {
            Next::Call(None)
        }
        Opcode::RET | Opcode::RETAA | Opcode::RETAB => Next::Return,
        Opcode::BR | Opcode::BRAA | Opcode::BRAAZ | Opcode::BRAB | Opcode::BRABZ => Next::Unknown,
        Opcode::UDF
        | Opcode::BRK
        | Opcode::HLT
        | Opcode::HVC
        | Opcode::SMC
        | Opcode::DCPS1
        | Opcode::DCPS2
        | Opcode::DCPS3
        | Opcode::ERET
        | Opcode::ERETAA
        | Opcode::ERETAB
        | Opcode::DRPS => Next::Stop,
        _ => Next::Following,
    }
}

/// The address that a branch goes to, or that `adr` computes.
fn target(instruction: &Instruction, address: u64) -> Option<u64> {
    instruction.operands.iter().find_map(|operand| match *operand {
        Arm::PCOffset(offset) => Some(address.wrapping_add_signed(offset)),
        _ => None,
    })
}

fn effect(instruction: &Instruction, address: u64, calls: &CallTargets) -> Effect {
    if let Next::Call(target) = next(instruction, address) {
        // In Go's calling convention the callee saves no register, and does not write into the caller's frame.
        let name = target.and_then(calls);
        let saves_registers = name.is_some_and(|name| name.starts_with(WRITE_BARRIER));
        let registers = if saves_registers { LOST_IN_WRITE_BARRIER } else { u32::MAX };
        return Effect::Clobber { registers, stack: NO_STACK };
    }
    let register = || whole(instruction.operands[0]);
    let slot = || match memory(instruction) {
        Some(Memory { base: SP_OR_ZERO, offset: Some(offset), moves_base: false }) => {
            Some(Place::Slot(offset))
        }
        _ => None,
    };
    let copy = match instruction.opcode {
        Opcode::LDR | Opcode::LDUR => register().map(Place::Register).zip(slot()),
        Opcode::STR | Opcode::STUR => slot().zip(register().map(Place::Register)),
        // `mov` between registers
        Opcode::ORR => match instruction.operands {
            [
                to,
                Arm::Register(SizeCode::X, SP_OR_ZERO),
                Arm::RegShift(ShiftStyle::LSL, 0, size, from),
                Arm::Nothing,
            ] => whole(to).map(Place::Register).zip(whole(Arm::Register(size, from)).map(Place::Register)),
            _ => None,
        },
        _ => None,
    };
    if let Some((to, from)) = copy {
        return Effect::Copy { to, from };
    }
    if let Some(pair) = pair_on_stack(instruction) {
        return Effect::Pair(pair);
    }
    Effect::Clobber { registers: registers_written(instruction), stack: stack_written(instruction) }
}

/// What `stp` and `ldp` copy between whole registers and the stack. None for other instructions.
fn pair_on_stack(instruction: &Instruction) -> Option<[(Place, Option<Place>); 2]> {
    let Some(Memory { base: SP_OR_ZERO, offset: Some(offset), moves_base: false }) = memory(instruction)
    else {
        return None;
    };
    let [first @ Arm::Register(SizeCode::X, _), second @ Arm::Register(SizeCode::X, _), ..] =
        instruction.operands
    else {
        return None;
    };
    let of = |operand| whole(operand).map(Place::Register);
    let slots = [offset, offset + 8].map(Place::Slot);
    match instruction.opcode {
        Opcode::STP => Some([(slots[0], of(first)), (slots[1], of(second))]),
        Opcode::LDP => Some([(of(first)?, Some(slots[0])), (of(second)?, Some(slots[1]))]),
        _ => None,
    }
}

/// The registers that an instruction changes, as bits. For instructions that compilers do not use, these are all that it
/// names.
fn registers_written(instruction: &Instruction) -> u32 {
    use Opcode::{
        ADC, ADCS, ADD, ADDS, ADR, ADRP, AND, ANDS, ASRV, BFM, BIC, BICS, CLS, CLZ, CSEL, CSINC, CSINV,
        CSNEG, EON, EOR, EXTR, LDAR, LDARB, LDARH, LDAXR, LDAXRB, LDAXRH, LDR, LDRB, LDRH, LDRSB, LDRSH,
        LDRSW, LDUR, LDURB, LDURH, LDURSB, LDURSH, LDURSW, LDXR, LDXRB, LDXRH, LSLV, LSRV, MADD, MOVK, MOVN,
        MOVZ, MRS, MSUB, ORN, ORR, RBIT, REV, REV16, REV32, RORV, SBC, SBCS, SBFM, SDIV, SMADDL, SMSUBL,
        SMULH, STLXR, STLXRB, STLXRH, STXR, STXRB, STXRH, SUB, SUBS, UBFM, UDIV, UMADDL, UMSUBL, UMULH,
    };
    let [first, ..] = instruction.operands;
    let through_base = match memory(instruction) {
        Some(Memory { base, moves_base: true, .. }) if base < SP_OR_ZERO => 1 << base,
        _ => 0,
    };
    let named = match instruction.opcode {
        Opcode::LDP | Opcode::LDPSW => named(instruction.operands[0]) | named(instruction.operands[1]),
        ADC | ADCS | ADD | ADDS | ADR | ADRP | AND | ANDS | ASRV | BFM | BIC | BICS | CLS | CLZ | CSEL
        | CSINC | CSINV | CSNEG | EON | EOR | EXTR | LDAR | LDARB | LDARH | LDAXR | LDAXRB | LDAXRH | LDR
        | LDRB | LDRH | LDRSB | LDRSH | LDRSW | LDUR | LDURB | LDURH | LDURSB | LDURSH | LDURSW | LDXR
        | LDXRB | LDXRH | LSLV | LSRV | MADD | MOVK | MOVN | MOVZ | MRS | MSUB | ORN | ORR | RBIT | REV
        | REV16 | REV32 | RORV | SBC | SBCS | SBFM | SDIV | SMADDL | SMSUBL | SMULH | STLXR | STLXRB
        | STLXRH | STXR | STXRB | STXRH | SUB | SUBS | UBFM | UDIV | UMADDL | UMSUBL | UMULH => named(first),
        Opcode::STP
        | Opcode::STR
        | Opcode::STRB
        | Opcode::STRH
        | Opcode::STUR
        | Opcode::STURB
        | Opcode::STURH
        | Opcode::STLR
        | Opcode::STLRB
        | Opcode::STLRH
        | Opcode::CCMP
        | Opcode::CCMN
        | Opcode::CBZ
        | Opcode::CBNZ
        | Opcode::TBZ
        | Opcode::TBNZ => 0,
        _ => instruction.operands.iter().fold(0, |mask, operand| mask | named(*operand)),
    };
    named | through_base
}

/// The general registers that an operand names, as bits.
fn named(operand: Arm) -> u32 {
    match operand {
        Arm::Register(_, number) | Arm::RegisterOrSP(_, number) if number < SP_OR_ZERO => 1 << number,
        Arm::RegisterPair(_, number) if number < SP_OR_ZERO => 1 << number | 1 << (number + 1),
        _ => 0,
    }
}

fn stack_written(instruction: &Instruction) -> Range<i64> {
    let memory = memory(instruction);
    let moves_sp = matches!(memory, Some(Memory { base: SP_OR_ZERO, moves_base: true, .. }))
        || matches!(instruction.operands[0], Arm::RegisterOrSP(_, SP_OR_ZERO));
    if moves_sp {
        return STACK; // slots are named by their distance from it
    }
    let written = memory.filter(|_| writes_memory(instruction.opcode));
    let Some(Memory { base, offset, .. }) = written else { return NO_STACK };
    let size = match (instruction.opcode, instruction.operands[0]) {
        (Opcode::STP, Arm::Register(..)) => 16,
        (_, Arm::Register(..)) => 8,
        _ => MOST_WRITTEN,
    };
    match offset {
        Some(offset) if base == SP_OR_ZERO => offset..offset + size,
        None if base == SP_OR_ZERO => STACK,
        _ if base == u16::from(FP) => STACK,
        _ => NO_STACK,
    }
}

/// Memory that an instruction names.
#[derive(Clone, Copy, Debug)]
struct Memory {
    base: u16,
    /// Its distance from the base in bytes. None where a register has it.
    offset: Option<i64>,
    /// The instruction changes the base.
    moves_base: bool,
}

fn memory(instruction: &Instruction) -> Option<Memory> {
    instruction.operands.iter().find_map(|operand| {
        let (base, offset, moves_base) = match *operand {
            Arm::RegPreIndex(base, offset, moves_base) => (base, Some(offset.into()), moves_base),
            Arm::RegPostIndex(base, _) | Arm::RegPostIndexReg(base, _) => (base, Some(0), true),
            Arm::RegRegOffset(base, ..) => (base, None, false),
            _ => return None,
        };
        Some(Memory { base, offset, moves_base })
    })
}

/// Whether an instruction may write to the memory that it names.
fn writes_memory(opcode: Opcode) -> bool {
    use Opcode::{
        LDAR, LDARB, LDARH, LDAXR, LDP, LDPSW, LDR, LDRB, LDRH, LDRSB, LDRSH, LDRSW, LDUR, LDURB, LDURH,
        LDURSB, LDURSH, LDURSW, LDXR, PRFM, PRFUM,
    };
    !matches!(
        opcode,
        LDAR | LDARB
            | LDARH
            | LDAXR
            | LDP
            | LDPSW
            | LDR
            | LDRB
            | LDRH
            | LDRSB
            | LDRSH
            | LDRSW
            | LDUR
            | LDURB
            | LDURH
            | LDURSB
            | LDURSH
            | LDURSW
            | LDXR
            | PRFM
            | PRFUM
    )
}

/// The number of an operand that is a whole general register, other than the stack pointer and the zero register.
fn whole(operand: Arm) -> Option<u8> {
    match operand {
        Arm::Register(SizeCode::X, _) | Arm::RegisterOrSP(SizeCode::X, _) => number(operand),
        _ => None,
    }
}

/// The number of an operand that is a general register or its lower half.
fn number(operand: Arm) -> Option<u8> {
    match operand {
        Arm::Register(_, number) | Arm::RegisterOrSP(_, number) if number < SP_OR_ZERO => Some(number as u8),
        _ => None,
    }
}

/// The base and the distance from it where an instruction names memory, other than the stack, at a constant distance.
fn word(instruction: &Instruction) -> Option<(u8, i64)> {
    match memory(instruction)? {
        Memory { base, offset: Some(offset), moves_base: false } if base < SP_OR_ZERO => {
            Some((base as u8, offset))
        }
        _ => None,
    }
}

/// What a store of one or two whole registers, or of zeros, through a pointer writes to: see [`Step::store`].
fn store(instruction: &Instruction) -> Option<(u8, i64, u8)> {
    let Arm::Register(SizeCode::X, _) = instruction.operands[0] else { return None };
    let words = match instruction.opcode {
        Opcode::STR | Opcode::STUR => 1,
        Opcode::STP => 2,
        _ => return None,
    };
    word(instruction).map(|(base, offset)| (base, offset, words))
}

fn load(instruction: &Instruction) -> Option<(u8, Operand)> {
    if !matches!(instruction.opcode, Opcode::LDR | Opcode::LDUR) {
        return None;
    }
    let (base, offset) = word(instruction)?;
    Some((whole(instruction.operands[0])?, Operand::Memory(base, offset)))
}

/// Where a store-release writes to, which is how arm64 code stores atomically.
fn publishes(instruction: &Instruction) -> Option<Operand> {
    let (Opcode::STLR, Arm::Register(SizeCode::X, _)) = (instruction.opcode, instruction.operands[0]) else {
        return None;
    };
    word(instruction).map(|(base, offset)| Operand::Memory(base, offset))
}

fn value(instruction: &Instruction, address: u64) -> Option<(u8, Value)> {
    let [to, a, b, _] = instruction.operands;
    let shifted = |operand| match operand {
        Arm::ImmShift(immediate, shift) => u64::from(immediate).checked_shl(shift.into()),
        Arm::Immediate(immediate) => Some(immediate.into()),
        Arm::Imm64(immediate) => Some(immediate),
        _ => None,
    };
    let is_zero = |operand| matches!(operand, Arm::Register(_, SP_OR_ZERO));
    let constant = |value: u64| Some(Value::Constant(value.cast_signed()));
    let value = match instruction.opcode {
        Opcode::MOVZ => constant(shifted(a)?),
        Opcode::MOVN if matches!(to, Arm::Register(SizeCode::X, _)) => constant(!shifted(a)?),
        // This is how `mov` of zero, or of a number that is a pattern of bits, is encoded.
        Opcode::ORR if is_zero(a) => match b {
            Arm::RegShift(_, _, _, SP_OR_ZERO) => constant(0),
            _ => constant(shifted(b)?),
        },
        Opcode::ADR => constant(target(instruction, address)?),
        Opcode::ADRP => constant(target(instruction, address & !0xfff)?),
        Opcode::ADD => Some(Value::Sum(whole(a)?, shifted(b)?.cast_signed())),
        Opcode::SUB => Some(Value::Sum(whole(a)?, shifted(b)?.cast_signed().checked_neg()?)),
        _ => None,
    };
    number(to).zip(value)
}

/// The distance from the stack pointer whose address `add x, sp, #n` takes. `mov x, sp` is the same with 0.
fn takes_address(instruction: &Instruction) -> Option<i64> {
    let distance = match instruction.operands {
        [to, Arm::RegisterOrSP(SizeCode::X, SP_OR_ZERO), Arm::Immediate(distance), _]
            if number(to).is_some() =>
        {
            i64::from(distance)
        }
        [to, Arm::RegisterOrSP(SizeCode::X, SP_OR_ZERO), Arm::ImmShift(distance, shift), _]
            if number(to).is_some() =>
        {
            i64::from(distance).checked_shl(shift.into())?
        }
        _ => return None,
    };
    match instruction.opcode {
        Opcode::ADD => Some(distance),
        Opcode::SUB => Some(-distance),
        _ => None,
    }
}

fn writes_through(instruction: &Instruction) -> u32 {
    if !writes_memory(instruction.opcode) {
        return 0;
    }
    let registers = instruction.operands.iter().map(|operand| match *operand {
        Arm::RegRegOffset(base, index, ..) => [base, index],
        Arm::RegPreIndex(base, ..) | Arm::RegPostIndex(base, _) | Arm::RegPostIndexReg(base, _) => {
            [base, SP_OR_ZERO]
        }
        _ => [SP_OR_ZERO; 2],
    });
    registers.flatten().filter(|number| *number < SP_OR_ZERO).fold(0, |mask, number| mask | 1 << number)
}

fn loads_exclusively(opcode: Opcode) -> bool {
    use Opcode::{LDAXP, LDAXR, LDAXRB, LDAXRH, LDXP, LDXR, LDXRB, LDXRH};
    matches!(opcode, LDAXP | LDAXR | LDAXRB | LDAXRH | LDXP | LDXR | LDXRB | LDXRH)
}

fn stores_exclusively(opcode: Opcode) -> bool {
    use Opcode::{CLREX, STLXP, STLXR, STLXRB, STLXRH, STXP, STXR, STXRB, STXRH};
    matches!(opcode, CLREX | STLXP | STLXR | STLXRB | STLXRH | STXP | STXR | STXRB | STXRH)
}

/// What the kernel does with a probe here: `arm_probe_decode_insn` in
/// <https://github.com/torvalds/linux/blob/master/arch/arm64/kernel/probes/decode-insn.c>. Since 5.10 it simulates all
/// instructions that read or write the program counter. Two kinds are left out: nops, which it simulates only from 6.13
/// on, and loads relative to the program counter, which it got wrong before 6.12 and has refused since.
fn probe(instruction: &Instruction) -> Probe {
    use Opcode::{
        ADD, AND, EOR, LDP, LDR, LDRB, LDRH, LDUR, MOVK, MOVN, MOVZ, ORR, STP, STR, STUR, SUB, SUBS,
    };
    let relative = || instruction.operands.iter().any(|operand| matches!(operand, Arm::PCOffset(_)));
    match instruction.opcode {
        Opcode::B
        | Opcode::Bcc(_)
        | Opcode::CBZ
        | Opcode::CBNZ
        | Opcode::TBZ
        | Opcode::TBNZ
        | Opcode::ADR
        | Opcode::ADRP
        | Opcode::BL
        | Opcode::RET => Probe::Branch,
        ADD | AND | EOR | LDP | LDR | LDRB | LDRH | LDUR | MOVK | MOVN | MOVZ | ORR | STP | STR | STUR
        | SUB | SUBS
            if !relative() =>
        {
            Probe::Step
        }
        _ => Probe::Never,
    }
}

/// The instruction for humans: its mnemonic, and the register that a branch looks at: `ret`, `bl`, `cbz x0`.
fn text(instruction: &Instruction) -> String {
    let mut text = instruction.opcode.to_string();
    if matches!(instruction.opcode, Opcode::CBZ | Opcode::CBNZ | Opcode::TBZ | Opcode::TBNZ | Opcode::ADRP) {
        text.push_str(&format!(" {}", instruction.operands[0]));
    }
    text
}
