//! What belongs to Go's standard library and what to the program.

use crate::go::functions::pclntab::CodeFrame;

/// Whether a frame is of the standard library. Its file says so, if it is in `root`, where Go was installed; else the
/// path of its package does, whose first part has a dot for everything that was downloaded. `module` is the program's
/// own.
pub(super) fn is_standard(frame: &CodeFrame, root: &str, module: Option<&str>) -> bool {
    let path = package_path(&frame.function);
    if path == "main" || module.is_some_and(|module| is_within(path, module)) {
        return false;
    }
    if !root.is_empty() && !frame.is_generated() && frame.file != "?" {
        return frame.file.starts_with(root);
    }
    !path.split('/').next().unwrap_or_default().contains('.')
}

/// Whether a function is of the program's own module, or of its package `main`. Dependencies are not, even if vendored.
/// Functions that cgo has generated are, since the program calls C there.
pub fn is_of_program(function: &str, module: Option<&str>) -> bool {
    let path = package_path(function);
    if path == "main" {
        return true;
    }
    // The standard library's own module is called `std`.
    module.filter(|module| *module != "std").is_some_and(|module| {
        // The tests of a package may be in another package beside it, whose name ends in `_test`.
        let path = path.strip_suffix("_test").unwrap_or(path);
        is_within(path, module) || path.contains("%2e") && path.replace("%2e", ".") == module
    })
}

/// Packages in which a goroutine waits on behalf of others.
const ON_BEHALF: [&str; 5] = ["runtime", "sync", "internal", "syscall", "time"];

/// The function that a person would say a goroutine waits in whose stack is wholly of the standard library: the innermost
/// one outside the packages that wait on behalf of others, or else the innermost one that Go's traceback shows. Takes
/// the functions of the stack, innermost first, and returns an index.
pub fn waits_in<'a>(functions: impl Iterator<Item = &'a str> + Clone) -> Option<usize> {
    let waits_for_others =
        |function: &str| ON_BEHALF.contains(&function.split(['.', '/']).next().unwrap_or_default());
    let outside = functions.clone().position(|function| !waits_for_others(function));
    outside.or_else(|| functions.clone().position(is_shown))
}

/// Whether Go's traceback shows a function that somebody has written. It hides the runtime's own, except for exported
/// ones such as `runtime.Gosched` (`showfuncinfo` in
/// <https://cs.opensource.google/go/go/+/master:src/runtime/traceback.go>).
pub fn is_shown(name: &str) -> bool {
    const SHOWN: [&str; 2] = ["runtime.runFinalizers", "runtime.runCleanups"];
    if !name.contains('.') {
        return false;
    }
    match name.strip_prefix("runtime.") {
        None => true,
        Some(_) if SHOWN.contains(&name) => true,
        Some(name) => {
            let exported = |name: &str| name.starts_with(|first: char| first.is_ascii_uppercase());
            match name.strip_prefix("(*").and_then(|method| method.split_once(").")) {
                Some((receiver, method)) => exported(receiver) && exported(method),
                None => exported(name) && name.split('.').all(exported),
            }
        }
    }
}

/// Whether goroutines that this function starts, or that run it, belong to all tests of a program: those of package `testing`
/// itself, and those that the standard library starts once and keeps, whichever test is the first to need them.
pub fn is_shared_by_tests(function: &str) -> bool {
    package_path(function) == "testing" || ["os/signal.loop", "os/signal.Notify.func1.1"].contains(&function)
}

fn is_within(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The path of a function's package: `net/http` of `net/http.(*conn).serve`. In its last part the linker has escaped
/// dots.
pub fn package_path(function: &str) -> &str {
    let name = function.find('[').map_or(function, |bracket| &function[..bracket]);
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    name[last..].find('.').map_or(name, |dot| &name[..last + dot])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, file: &str) -> CodeFrame {
        CodeFrame { function: function.into(), file: file.into(), line: 1, inlined: false }
    }

    #[test]
    fn the_standard_library_is_told_from_the_program() {
        let root = "/usr/local/go/src/";
        let standard =
            |function: &str, file: &str, root| is_standard(&frame(function, file), root, Some("shop"));
        assert!(standard("net/http.(*conn).serve", "/usr/local/go/src/net/http/server.go", root));
        assert!(standard("net/http.(*conn).serve", "net/http/server.go", ""));
        assert!(standard("golang.org/x/net/http2.f", "/usr/local/go/src/vendor/golang.org/x/net/f.go", root));
        assert!(!standard("golang.org/x/net/http2.f", "golang.org/x/net@v0.1.0/http2/f.go", ""));
        assert!(!standard("main.main", "/src/main.go", root));
        assert!(!standard("main.main", "./main.go", ""));
        assert!(!standard("shop/cart.(*T).run", "shop/cart/t.go", ""));
        assert!(!standard("shop.f[...]", "/src/shop/t.go", root));
        assert!(!standard("gopkg.in/yaml%2ev3.parse", "/go/pkg/mod/gopkg.in/yaml.v3/parse.go", root));
    }

    #[test]
    fn the_program_is_told_from_its_dependencies() {
        let own = |function: &str| is_of_program(function, Some("example.com/api.v2"));
        assert!(own("main.main.func1") && own("example.com/api.v2/users.(*Store).Get"));
        assert!(own("example.com/api%2ev2.Serve") && own("example.com/api%2ev2_test.TestServe"));
        assert!(!own("example.com/api.v2x/users.Get") && !own("net/http.(*conn).serve"));
        assert!(!own("github.com/x/y.F") && !own("mainframe.F"));
        assert!(!is_of_program("std/x.F", Some("std")));
    }

    #[test]
    fn the_package_of_a_function() {
        assert_eq!(package_path("net/http.(*conn).serve"), "net/http");
        assert_eq!(package_path("main.f[example.com/a.T]"), "main");
        assert_eq!(package_path("memmove"), "memmove");
    }
}
