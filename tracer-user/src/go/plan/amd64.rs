//! x86-64: decodes machine code into [`Step`]s and knows what the kernel does with a probe on each instruction.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, OpAccess, OpKind,
    Register,
};

use super::kernel::Kernel;
use super::step::{CallTargets, Effect, NO_STACK, Next, Operand, Place, Probe, STACK, Step, Value};

/// R14 holds the current g in Go code:
/// <https://go.dev/s/regabi>, "Special-purpose registers" of the amd64 architecture.
pub(super) const G: u8 = 14;

/// The write barriers have a calling convention of their own: they keep every register but R11, see `gcWriteBarrier`
/// in <https://github.com/golang/go/blob/master/src/runtime/asm_amd64.s>.
const WRITE_BARRIER: &str = "runtime.gcWriteBarrier";
const WRITE_BARRIER_RESULT: u8 = 11;

/// Page size in bytes. The kernel does not replace a nop that crosses the end of a page.
const PAGE: u64 = 4096;

/// Decodes all of the code that begins at the address `entry`, one step after the other. Bytes that are no instruction
/// give a step that says so.
pub(super) fn decode(entry: u64, code: &[u8], calls: &CallTargets, kernel: Kernel) -> Vec<Step> {
    let mut decoder = Decoder::with_ip(64, code, entry, DecoderOptions::NONE);
    let mut info = InstructionInfoFactory::new();
    let mut steps = Vec::with_capacity(code.len() / 4);
    while decoder.can_decode() {
        let start = decoder.position();
        let instruction = decoder.decode();
        let bytes = code.get(start..decoder.position()).unwrap_or_default();
        steps.push(Step {
            address: instruction.ip(),
            size: instruction.len() as u64,
            next: next(&instruction),
            effect: effect(&instruction, &mut info, calls),
            store: store(&instruction),
            load: load(&instruction),
            publishes: publishes(&instruction),
            value: value(&instruction),
            through: through(&instruction),
            takes_address: takes_address(&instruction),
            writes_through: writes_through(&instruction, &mut info),
            loses_g: loses_g(&instruction, &mut info),
            probe: probe(&instruction, bytes, kernel),
            text: text(&instruction),
        });
    }
    steps
}

fn next(instruction: &Instruction) -> Next {
    let target = instruction.near_branch_target();
    match instruction.flow_control() {
        _ if instruction.is_invalid() => Next::Undecodable,
        FlowControl::Next => Next::Following,
        FlowControl::UnconditionalBranch if instruction.is_jmp_short_or_near() => Next::Jump(target),
        FlowControl::ConditionalBranch => Next::Branch(target),
        FlowControl::Call if instruction.is_call_near() => Next::Call(Some(target)),
        // A system call may change registers as a call may.
        FlowControl::Call | FlowControl::IndirectCall => Next::Call(None),
        FlowControl::Return => Next::Return,
        FlowControl::Interrupt | FlowControl::Exception => Next::Stop,
        FlowControl::UnconditionalBranch | FlowControl::IndirectBranch | FlowControl::XbeginXabortXend => {
            Next::Unknown
        }
    }
}

fn effect(instruction: &Instruction, info: &mut InstructionInfoFactory, calls: &CallTargets) -> Effect {
    match (instruction.code(), place(instruction, 0), place(instruction, 1)) {
        (Code::Mov_r64_rm64 | Code::Mov_rm64_r64, Some(to), Some(from)) => return Effect::Copy { to, from },
        (Code::Xchg_rm64_r64, Some(Place::Register(a)), Some(Place::Register(b))) => {
            return Effect::Swap(a, b);
        }
        _ => {}
    }
    if let Next::Call(target) = next(instruction) {
        // In Go's calling convention the callee saves no register, and does not write into the caller's frame.
        let name = target.and_then(calls);
        let saves_registers = name.is_some_and(|name| name.starts_with(WRITE_BARRIER));
        let registers = if saves_registers { 1 << WRITE_BARRIER_RESULT } else { u32::MAX };
        return Effect::Clobber { registers, stack: NO_STACK };
    }
    let info = info.info(instruction);
    let mut registers = 0;
    let mut stack = NO_STACK;
    for used in info.used_registers().iter().filter(|used| writes(used.access())) {
        match used.register().full_register() {
            Register::RSP => stack = STACK, // slots are named by their distance from it
            register => registers |= number(register).map_or(0, |number| 1 << number),
        }
    }
    for used in info.used_memory().iter().filter(|used| writes(used.access())) {
        let written = match (used.base(), used.index()) {
            (Register::RSP, Register::None) => {
                let from = used.displacement() as i64;
                from..from.saturating_add(used.memory_size().size() as i64)
            }
            (Register::RSP | Register::RBP, _) => STACK,
            _ => continue,
        };
        stack = if stack == NO_STACK { written } else { STACK };
    }
    Effect::Clobber { registers, stack }
}

/// The register or the stack slot that an operand names. None for parts of a register and for other memory.
fn place(instruction: &Instruction, operand: u32) -> Option<Place> {
    match instruction.try_op_kind(operand).ok()? {
        OpKind::Register => {
            let register = instruction.op_register(operand);
            (register != Register::RSP).then(|| number(register).map(Place::Register)).flatten()
        }
        OpKind::Memory if is_plain_memory(instruction) && instruction.memory_base() == Register::RSP => {
            Some(Place::Slot(instruction.memory_displacement64() as i64))
        }
        _ => None,
    }
}

/// What a 64-bit store through a pointer writes to: see [`Step::store`].
fn store(instruction: &Instruction) -> Option<(u8, i64, u8)> {
    if !matches!(instruction.code(), Code::Mov_rm64_r64 | Code::Mov_rm64_imm32)
        || instruction.op0_kind() != OpKind::Memory
        || !is_plain_memory(instruction)
    {
        return None;
    }
    match instruction.memory_base() {
        Register::RSP => None,
        base => number(base).map(|base| (base, instruction.memory_displacement64() as i64, 1)),
    }
}

fn load(instruction: &Instruction) -> Option<(u8, Operand)> {
    (instruction.code() == Code::Mov_r64_rm64)
        .then(|| Some((number(instruction.op0_register())?, memory(instruction)?)))
        .flatten()
}

/// An exchange with memory, which is how x86-64 code stores atomically.
fn publishes(instruction: &Instruction) -> Option<Operand> {
    (instruction.code() == Code::Xchg_rm64_r64).then(|| memory(instruction)).flatten()
}

fn through(instruction: &Instruction) -> Option<Operand> {
    if instruction.flow_control() != FlowControl::IndirectCall {
        return None;
    }
    match instruction.op0_kind() {
        OpKind::Register => number(instruction.op0_register()).map(Operand::Register),
        _ => memory(instruction),
    }
}

/// The memory that an instruction names, other than the stack.
fn memory(instruction: &Instruction) -> Option<Operand> {
    let named = (0..instruction.op_count()).any(|operand| instruction.op_kind(operand) == OpKind::Memory);
    if !named || !is_plain_memory(instruction) {
        return None;
    }
    let displacement = instruction.memory_displacement64();
    match instruction.memory_base() {
        Register::RIP => Some(Operand::Variable(displacement)),
        Register::RSP => None,
        base => number(base).map(|base| Operand::Memory(base, displacement as i64)),
    }
}

fn value(instruction: &Instruction) -> Option<(u8, Value)> {
    let value = match instruction.code() {
        Code::Mov_r32_imm32 | Code::Mov_r64_imm64 => Value::Constant(instruction.immediate(1).cast_signed()),
        Code::Xor_r32_rm32 | Code::Xor_rm32_r32
            if instruction.op1_kind() == OpKind::Register
                && instruction.op0_register() == instruction.op1_register() =>
        {
            Value::Constant(0)
        }
        Code::Lea_r64_m => match memory(instruction)? {
            Operand::Variable(address) => Value::Constant(address.cast_signed()),
            Operand::Memory(base, offset) => Value::Sum(base, offset),
            Operand::Register(_) => return None,
        },
        _ => return None,
    };
    (instruction.op0_kind() == OpKind::Register)
        .then(|| number(instruction.op0_register().full_register()))
        .flatten()
        .map(|register| (register, value))
}

fn takes_address(instruction: &Instruction) -> Option<i64> {
    (instruction.code() == Code::Lea_r64_m && instruction.memory_base() == Register::RSP)
        .then(|| instruction.memory_displacement64() as i64)
}

fn writes_through(instruction: &Instruction, info: &mut InstructionInfoFactory) -> u32 {
    let info = info.info(instruction);
    let written = info.used_memory().iter().filter(|used| writes(used.access()));
    let registers = written.flat_map(|used| [used.base(), used.index()]);
    let numbers = registers.filter(|register| *register != Register::RSP).filter_map(number);
    numbers.fold(0, |mask, number| mask | 1 << number)
}

/// Whether the instruction names memory as `[base+displacement]`, without an index and a segment.
fn is_plain_memory(instruction: &Instruction) -> bool {
    instruction.memory_index() == Register::None && instruction.segment_prefix() == Register::None
}

fn loses_g(instruction: &Instruction, info: &mut InstructionInfoFactory) -> bool {
    // A call leaves the current g in the register, and wrappers for assembly load it from thread-local storage.
    let keeps = matches!(next(instruction), Next::Call(_))
        || (instruction.code() == Code::Mov_r64_rm64 && instruction.segment_prefix() == Register::FS);
    !keeps
        && info
            .info(instruction)
            .used_registers()
            .iter()
            .any(|used| writes(used.access()) && number(used.register().full_register()) == Some(G))
}

fn writes(access: OpAccess) -> bool {
    !matches!(access, OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess)
}

/// The instruction set's own number of a 64-bit register.
fn number(register: Register) -> Option<u8> {
    register.is_gpr64().then(|| register.number() as u8)
}

/// What the kernel does with a probe here. The kernel goes by the bytes, so this does, too. Instructions with prefixes
/// that the kernel treats in a way of their own are never chosen.
fn probe(instruction: &Instruction, bytes: &[u8], kernel: Kernel) -> Probe {
    match *bytes {
        [0x90] => Probe::Nop,
        [0x0f, 0x1f, 0x44, 0, 0] if kernel.optimises_nop5 && instruction.ip() % PAGE <= PAGE - 5 => {
            Probe::Nop5
        }
        [0x66, 0x90]
        | [0x0f, 0x1f, 0]
        | [0x0f, 0x1f, 0x40, 0]
        | [0x0f, 0x1f, 0x44, 0, 0]
        | [0x66, 0x0f, 0x1f, 0x44, 0, 0]
        | [0x0f, 0x1f, 0x80, 0, 0, 0, 0]
        | [0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0] => {
            if kernel.emulates_long_nops {
                Probe::Nop
            } else {
                Probe::Never
            }
        }
        [0x70..=0x7f, _] | [0x0f, 0x80..=0x8f, _, _, _, _] | [0xeb, _] | [0xe9, _, _, _, _] => Probe::Branch,
        [0x50..=0x57] | [0x41, 0x50..=0x57] => Probe::Push,
        [0xe8, _, _, _, _] => Probe::Call,
        _ if is_safe_to_step(instruction) => Probe::Step,
        _ => Probe::Never,
    }
}

fn is_safe_to_step(instruction: &Instruction) -> bool {
    use iced_x86::Mnemonic::{Add, And, Cmp, Lea, Mov, Or, Ret, Sub, Test, Xor};
    matches!(instruction.mnemonic(), Add | And | Cmp | Lea | Mov | Or | Ret | Sub | Test | Xor)
        && !instruction.has_lock_prefix()
        && !instruction.has_rep_prefix()
        && !instruction.has_repne_prefix()
        && !instruction.has_segment_prefix()
}

/// The instruction for humans: its mnemonic, and its operand where that is one register: `nop`, `jne`, `push rbp`.
fn text(instruction: &Instruction) -> String {
    let mut text = format!("{:?}", instruction.mnemonic()).to_lowercase();
    if instruction.op_count() == 1 && instruction.op0_kind() == OpKind::Register {
        text.push_str(&format!(" {:?}", instruction.op0_register()).to_lowercase());
    }
    text
}
