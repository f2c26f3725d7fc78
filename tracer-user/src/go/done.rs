//! Is it a context that a goroutine waits for? A channel does not say whose it is, but the code does: right before the
//! wait, it called `Done`. Nothing of the process is read for it.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, OpKind, Register};

use super::{Architecture, Binary};

/// Where the methods of an interface begin in its `abi.ITab`, and the place of `Done` among those of `context.Context`:
/// they are sorted by name (Deadline, Done, Err, Value).
const DONE: u64 = 24 + 8;
/// Instructions from a call's preparation to the call, and from a call to the use of its result.
const NEAR: usize = 12;
/// A `select` evaluates the channels of all its cases first.
const MOST_CASES: usize = 8;
/// Code of functions longer than this is not looked at.
const LONGEST: u64 = 64 << 10;

impl Binary {
    /// Whether the wait that returns to this link-time address is on what a call of `Done` on a context has just returned.
    /// `many`: it is a `select`, so it is enough if one of its channels is. Always false on processors other than x86-64.
    pub fn asked_done(&self, pc: u64, many: bool) -> bool {
        let Some(function) =
            self.function_at(pc).filter(|_| self.image().architecture() == Architecture::Amd64)
        else {
            return false;
        };
        if pc - function.entry > LONGEST {
            return false;
        }
        let code = self.code(function.entry..pc);
        let mut instructions: Vec<Instruction> =
            Decoder::with_ip(64, code, function.entry, DecoderOptions::NONE).into_iter().collect();
        // The last is the wait itself.
        instructions.pop();
        let is_call = |instruction: &Instruction| {
            matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall)
        };
        let calls = (0..instructions.len()).rev().filter(|&at| is_call(&instructions[at]));
        let calls = calls.filter(|&at| !self.calls_runtime(&instructions[at]));
        calls.take(if many { MOST_CASES } else { 1 }).any(|at| {
            (self.calls_done(&instructions[at]) || calls_second_method(&instructions[..=at]))
                && (!many || keeps_result(&instructions[at + 1..]))
        })
    }

    fn callee(&self, call: &Instruction) -> Option<String> {
        let target = Some(call.near_branch_target()).filter(|target| *target != 0)?;
        self.frames_at(target).into_iter().last().map(|frame| frame.function)
    }

    fn calls_runtime(&self, call: &Instruction) -> bool {
        self.callee(call)
            .is_some_and(|name| name.starts_with("runtime.") || name.starts_with("gcWriteBarrier"))
    }

    fn calls_done(&self, call: &Instruction) -> bool {
        self.callee(call).is_some_and(|name| name.starts_with("context.") && name.ends_with(").Done"))
    }
}

/// `mov rcx, [rax+20h]`, …, `call rcx`, or at once `call [rax+20h]`.
fn calls_second_method(until: &[Instruction]) -> bool {
    let is_done = |instruction: &Instruction| {
        instruction.memory_displacement64() == DONE
            && instruction.memory_index() == Register::None
            && !matches!(instruction.memory_base(), Register::None | Register::RSP | Register::RIP)
    };
    let Some((call, before)) = until.split_last() else { return false };
    if call.flow_control() != FlowControl::IndirectCall {
        return false;
    }
    if call.op0_kind() == OpKind::Memory {
        return is_done(call);
    }
    let method = call.op0_register();
    let load = before.iter().rev().take(NEAR).find(|instruction| {
        instruction.op0_kind() == OpKind::Register && instruction.op0_register() == method
    });
    load.is_some_and(|load| load.op_count() == 2 && load.op1_kind() == OpKind::Memory && is_done(load))
}

/// The result goes into the list of cases, on the stack.
fn keeps_result(after: &[Instruction]) -> bool {
    for instruction in after.iter().take(NEAR) {
        let stores = instruction.op_count() == 2
            && instruction.op0_kind() == OpKind::Memory
            && matches!(instruction.memory_base(), Register::RSP | Register::RBP)
            && instruction.op1_kind() == OpKind::Register;
        if stores && instruction.op1_register() == Register::RAX {
            return true;
        }
        let overwrites = instruction.op0_kind() == OpKind::Register
            && instruction.op0_register().full_register() == Register::RAX;
        if overwrites || instruction.flow_control() != FlowControl::Next {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(code: &[u8]) -> Vec<Instruction> {
        Decoder::with_ip(64, code, 0x1000, DecoderOptions::NONE).into_iter().collect()
    }

    #[test]
    fn a_call_of_the_second_method() {
        // mov rcx, [rax+20h]; mov rax, rbx; call rcx
        assert!(calls_second_method(&decode(b"\x48\x8b\x48\x20\x48\x89\xd8\xff\xd1")));
        // call [rax+20h]
        assert!(calls_second_method(&decode(b"\xff\x50\x20")));
        // The third method; a closure; a field of the frame; a direct call.
        assert!(!calls_second_method(&decode(b"\x48\x8b\x48\x28\x48\x89\xd8\xff\xd1")));
        assert!(!calls_second_method(&decode(b"\x48\x8b\x0a\xff\xd1")));
        assert!(!calls_second_method(&decode(b"\x48\x8b\x4c\x24\x20\xff\xd1")));
        assert!(!calls_second_method(&decode(b"\xe8\x00\x00\x00\x00")));
        assert!(!calls_second_method(&[]));
    }

    #[test]
    fn a_result_that_becomes_a_case() {
        // mov [rsp+30h], rax
        assert!(keeps_result(&decode(b"\x48\x89\x44\x24\x30")));
        // xor eax, eax first; a call first; nothing.
        assert!(!keeps_result(&decode(b"\x31\xc0\x48\x89\x44\x24\x30")));
        assert!(!keeps_result(&decode(b"\xe8\x00\x00\x00\x00\x48\x89\x44\x24\x30")));
        assert!(!keeps_result(&[]));
    }
}
