//! The function that a goroutine really runs. For `go f(x)` the compiler makes a function without arguments that
//! calls `f(x)`: `main.main.gowrap1` since Go 1.22, `main.main.func1` before. Go's traceback leaves it out.

use iced_x86::{Decoder, DecoderOptions, FlowControl, OpKind};

use super::image::Architecture;
use super::pclntab::{Function, Pclntab};

/// Wrappers are tens of bytes long; what is longer is not searched.
const MAX_WRAPPER: u64 = 4096;

impl Pclntab {
    /// The `FuncID` of compiler-made wrappers, whose number differs between versions: `runtime.deferreturn` has
    /// always been declared to be one (<https://cs.opensource.google/go/go/+/master:src/cmd/internal/objabi/funcid.go>).
    pub(crate) fn wrapper_id(&self) -> Option<u8> {
        let functions = self.functions_named("runtime.deferreturn");
        functions.iter().find_map(|function| self.record(function.index)?.func_id()).filter(|id| *id != 0)
    }

    /// The name of the one function that a wrapper calls or that was inlined into it. None for other functions, and
    /// for wrappers that call what only the running program knows (a variable, an interface's method).
    pub(crate) fn wrapped(&self, function: &Function, wrapper_id: Option<u8>) -> Option<String> {
        let id = self.record(function.index)?.func_id()?;
        if Some(id) != wrapper_id || function.size() > MAX_WRAPPER {
            return None;
        }
        let (mut names, own) = self.inlined_callees(function);
        for range in own {
            for target in self.call_targets(range) {
                let name = self.function_at(target).filter(|callee| callee.entry == target)?.name;
                if !is_prologue_or_epilogue(&name) && !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        let [name] = names.as_slice() else { return None };
        Some(name.clone())
    }

    /// Where the direct calls in a range of code go to.
    fn call_targets(&self, range: std::ops::Range<u64>) -> Vec<u64> {
        let code = self.image.bytes(range.clone()).unwrap_or_default();
        match self.image.architecture() {
            Architecture::Amd64 => Decoder::with_ip(64, code, range.start, DecoderOptions::NONE)
                .into_iter()
                .filter(|instruction| {
                    instruction.flow_control() == FlowControl::Call
                        && instruction.op0_kind() == OpKind::NearBranch64
                })
                .map(|instruction| instruction.near_branch_target())
                .collect(),
            // BL: 100101, then a signed offset of 26 bits in words.
            Architecture::Arm64 => (code.as_chunks::<4>().0.iter().enumerate())
                .map(|(index, word)| (range.start + 4 * index as u64, u32::from_le_bytes(*word)))
                .filter(|(_, word)| word >> 26 == 0b100101)
                .map(|(pc, word)| pc.wrapping_add_signed(i64::from((word << 6) as i32 >> 6) * 4))
                .collect(),
        }
    }
}

/// What the compiler puts around every function.
fn is_prologue_or_epilogue(name: &str) -> bool {
    name.starts_with("runtime.morestack")
        || name.starts_with("runtime.race")
        || name.starts_with("runtime.panic")
}
