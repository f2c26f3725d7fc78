//! Checks what only some rooms may do, which is to compare Go versions and to print, and what none may do, which is to
//! import all of a module.

use super::{
    Breach,
    code::Code,
    house::{File, House},
};

/// The room with all knowledge of Go.
const OF_GO: &str = "go";

/// Who may print. The self-test's target does because it is a process of its own, which talks to its parent that way.
const PRINTING_ROOMS: [&str; 2] = ["commands", "main"];
const PRINTING_FILE: &str = "probes/selftest.rs";

const PRINTERS: [&str; 4] = ["print", "println", "eprint", "eprintln"];
const STREAMS: [&str; 2] = ["stdout", "stderr"];
const OWNERS_OF_STREAMS: [&str; 2] = ["io", "anstream"];

const COMPARISONS: [&str; 6] = ["<", ">", "<=", ">=", "==", "!="];

const COMPARES: &str = "only go/ compares Go versions; elsewhere code asks what go/ says of the binary";
const PRINTS: &str = "only commands/, main.rs and the self-test print; others return what there is to say";
const TAKES_ALL: &str = "imports all of a module: name what is used";

/// Adds what files do that only other rooms may do.
pub fn check(house: &House, breaches: &mut Vec<Breach>) {
    for file in &house.files {
        let mut fault = |line: usize, what: &str| breaches.push(Breach::new(file.path(), line, what));
        if file.room() != OF_GO {
            compared(&file.code).into_iter().for_each(|line| fault(line, COMPARES));
        }
        if !PRINTING_ROOMS.contains(&file.room()) && file.name != PRINTING_FILE {
            printed(file).into_iter().for_each(|line| fault(line, PRINTS));
        }
        for import in file.imports.inside.iter().filter(|import| import.is_glob) {
            // An enum may be imported with all its variants, since these are a known set.
            if house.is_module(&import.path) {
                fault(import.line, TAKES_ALL);
            }
        }
    }
}

/// Lines that compare a part of a Go version, or make a version. Code that only shows one may be anywhere. The versions
/// of kernels have no names for their parts, so they are not mistaken for it.
fn compared(code: &Code) -> Vec<usize> {
    let is_compared = |index: usize| {
        if code.before(index) != "." || !matches!(code.word(index), Some("minor" | "major")) {
            return false;
        }
        let after = code.tokens.get(index + 1).map_or("", |token| &token.text);
        let before = code.before(start(code, index));
        let is_asked = index > 4 && code.is(index - 4, "version") && code.is(index - 3, "(");
        is_asked
            || after == "{"
            || before == "match"
            || COMPARISONS.contains(&after)
            || COMPARISONS.contains(&before)
    };
    // After these words the brace opens a body, not the fields of a version.
    let is_made = |index: usize| {
        let is_body = matches!(code.before(index), "->" | "for" | "impl" | "struct" | "&");
        code.is(index, "GoVersion") && code.is(index + 1, "{") && !is_body
    };
    let places = (0..code.tokens.len()).filter(|&index| is_compared(index) || is_made(index));
    lines(code, places)
}

/// Where the expression begins whose field is at a place: `a.b().c`, `*a.b`.
fn start(code: &Code, field: usize) -> usize {
    let mut index = field;
    while index > 0 {
        index = match code.before(index) {
            ")" | "]" => match (0..index - 1).rev().find(|&open| code.close(open) == index - 1) {
                Some(open) => open,
                None => return index,
            },
            "." | "::" | "&" | "*" => index - 1,
            _ if code.word(index - 1).is_some_and(|word| word != "match") => index - 1,
            _ => return index,
        };
    }
    index
}

/// Lines that write to a standard stream.
fn printed(file: &File) -> Vec<usize> {
    let code = &file.code;
    let macros = (0..code.tokens.len()).filter(|&index| {
        code.word(index).is_some_and(|word| PRINTERS.contains(&word)) && code.is(index + 1, "!")
    });
    let mut lines = lines(code, macros);
    let streams = file.imports.outside.iter().filter(|used| {
        let mut pairs = used.path.windows(2);
        pairs.any(|pair| OWNERS_OF_STREAMS.contains(&pair[0].as_str()) && STREAMS.contains(&pair[1].as_str()))
    });
    lines.extend(streams.map(|used| used.line));
    lines.sort_unstable();
    lines.dedup();
    lines
}

fn lines(code: &Code, places: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut lines: Vec<_> = places.map(|index| code.tokens[index].line).collect();
    lines.dedup();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::house::testing;

    /// Lines with breaches of a file.
    fn lines_of(name: &str, text: &str, what: &str) -> Vec<usize> {
        let mut breaches = Vec::new();
        check(&testing::house(&[(name, text)]), &mut breaches);
        assert!(breaches.iter().all(|breach| breach.what == what), "{breaches:?}");
        breaches.iter().map(|breach| breach.line).collect()
    }

    #[test]
    fn go_versions_are_compared_in_go_alone() {
        for text in [
            "fn f() { let a = binary.version().minor >= 26; }",
            "fn f() { let minor = binary.version().minor; }",
            "fn f() { match binary.build.version.minor { ..24 => a, _ => b } }",
            "fn f() { match (version.minor == 1) { _ => b } }",
            "fn f() { if 1 != self.version.major { } }",
            "fn f() { if 24 <= a.f(b).minor && c { } }",
            "fn f() { g(GoVersion { major: 1, minor: 20, patch: 0 }) }",
        ] {
            assert_eq!(lines_of("inspect/a.rs", text, COMPARES), [1], "{text}");
            assert_eq!(lines_of("go/a.rs", text, COMPARES), [0; 0], "{text}");
        }
        for text in [
            "fn f() -> GoVersion { a.version() }",
            "impl Show for GoVersion { }",
            "fn f(kernel: (u32, u32)) -> bool { kernel >= (6, 10) }",
            "fn f() { write!(f, \"{}.{}\", version.major, version.minor) }",
            "fn f() { A { minor: version.minor } }",
            "#[cfg(test)] mod tests { fn f() { version.minor > 1 } }",
            "// version.minor >= 1\n",
        ] {
            assert_eq!(lines_of("inspect/a.rs", text, COMPARES), [0; 0], "{text}");
        }
    }

    #[test]
    fn few_may_print() {
        let text = "use std::io::{self, stderr};\nfn f() {\n    println!(\"a\");\n    vec![eprint!()];\n\
                    \n    io::stdout().lock(); anstream::stderr();\n    std::io::stderr();\n    anstream::println!();\n}\n\
                    // print!()\nfn print() { write!(out, \"print!()\"); print(stdout); if print != a { } }";
        assert_eq!(lines_of("trace/mod.rs", text, PRINTS), [1, 3, 4, 6, 7, 8]);
        for name in ["commands/trace.rs", "main.rs", "probes/selftest.rs"] {
            assert_eq!(lines_of(name, text, PRINTS), [0; 0], "{name}");
        }
        assert_eq!(lines_of("probes/ring.rs", "fn f() { print!() }", PRINTS), [1]);
    }

    #[test]
    fn what_is_imported_is_named() {
        let text = "mod b { }\nuse super::*;\nuse Own::*;\nuse std::fmt::*;\n#[cfg(test)] mod tests { use super::*; }";
        let mut breaches = Vec::new();
        check(&testing::house(&[("a/mod.rs", ""), ("a/c.rs", text)]), &mut breaches);
        let shown: Vec<_> = breaches.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["tracer-user/src/a/c.rs:2: imports all of a module: name what is used"]);
    }
}
