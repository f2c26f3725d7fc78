//! The function that a goroutine really runs. For `go f(x)` the compiler makes a function without arguments that
//! calls `f(x)`: `main.main.gowrap1` since Go 1.22, `main.main.func1` before. Go's traceback leaves it out.

use super::pclntab::{Function, Pclntab};
use crate::go::plan::{self, Kernel, Next};

/// Bytes of the longest function that is searched. Wrappers have some tens.
const MAX_WRAPPER: u64 = 4096;

impl Pclntab {
    /// The `FuncID` of wrappers that the compiler makes. The number differs between versions, but `runtime.deferreturn`
    /// has it in all of them: <https://cs.opensource.google/go/go/+/master:src/cmd/internal/objabi/funcid.go>.
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
        plan::decode(self.image.architecture(), range.start, code, &|_| None, Kernel::default())
            .into_iter()
            .filter_map(|step| match step.next {
                Next::Call(target) => target,
                _ => None,
            })
            .collect()
    }
}

/// Whether the compiler calls this function at the begin or end of every function, or where it panics.
fn is_prologue_or_epilogue(name: &str) -> bool {
    name.starts_with("runtime.morestack")
        || name.starts_with("runtime.race")
        || name.starts_with("runtime.panic")
}
