//! Who wrote a function: the program, one of its dependencies, or Go.

use crate::go::standard::is_of_program;

/// Who wrote a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// It is of the runtime, or of a package that runtime functions are called through.
    Runtime,
    /// It is of the rest of the standard library.
    Standard,
    /// It is of a dependency.
    Dependency,
    /// It is of the program itself.
    Program,
}

/// Who wrote a function. `module` is the path of the main module.
pub(super) fn owner(function: &str, module: Option<&str>) -> Owner {
    if is_of_program(function, module) {
        return Owner::Program;
    }
    let within = |path: &str| function.strip_prefix(path).is_some_and(|rest| rest.starts_with(['.', '/']));
    if within("runtime") || within("internal/runtime") || within("reflect") {
        return Owner::Runtime;
    }
    // Paths of the standard library have no domain, and so no dot before the first slash.
    match function.split_once('/') {
        Some((first, _)) if first.contains('.') => Owner::Dependency,
        _ => Owner::Standard,
    }
}

/// Whether a function is of a dependency, neither of the program itself nor of Go.
pub fn is_of_dependency(function: &str, module: Option<&str>) -> bool {
    owner(function, module) == Owner::Dependency
}
