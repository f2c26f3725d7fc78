//! What a Rust file uses of the other modules of its crate, and of other crates.
//!
//! It uses what its `use` declarations name, and each path in code and in macros that begins with `crate`, `self`,
//! `super`, one of the file's own child modules, or a name that stands for a module. All paths are made absolute.
//! Methods and fields need no import, so a type that is only handed on is not seen.

use std::collections::{BTreeMap, BTreeSet};

use super::code::Code;

/// A path from the crate's root: its modules, and an item at the end.
pub type Path = Vec<String>;

/// How something is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// `use …`.
    Use,
    /// `pub use …`, so that others find it here.
    Reexport,
    /// A path in code that says where it begins.
    Inline,
    /// A path in code that begins with a name from a `use`.
    Alias,
}

/// One use of something in the same crate.
#[derive(Debug, PartialEq, Eq)]
pub struct Import {
    /// What is used.
    pub path: Path,
    /// The line, from 1.
    pub line: usize,
    /// How it is used.
    pub how: How,
    /// Whether everything in the module is used, by `*`.
    pub is_glob: bool,
}

/// One use of another crate.
#[derive(Debug, PartialEq, Eq)]
pub struct Outside {
    /// The path, which begins with the name of the crate, or of a type.
    pub path: Path,
    /// The line, from 1.
    pub line: usize,
}

/// All that a file uses.
#[derive(Debug, Default)]
pub struct Imports {
    /// What it uses of its own crate.
    pub inside: Vec<Import>,
    /// What it uses of other crates. Paths that begin with another known name, such as a type's, are here as well.
    pub outside: Vec<Outside>,
    /// What the names stand for that `use` declarations bring in, by module, since a file can have several, and by
    /// name.
    pub names: BTreeMap<Path, BTreeMap<String, Path>>,
}

/// Reads what the code of a module uses. `krate` are the words that stand for the crate.
pub fn of(code: &Code, module: &[String], krate: &[&str]) -> Imports {
    let scopes = Scopes::of(code, module);
    let mut imports = Imports::default();
    let mut in_use = vec![false; code.tokens.len()];
    for index in 0..code.tokens.len() {
        // `impl A + use<'a>` captures lifetimes.
        if code.word(index) != Some("use") || code.is(index + 1, "<") {
            continue;
        }
        let scope = scopes.at(index);
        let mut tree = Tree { code, index: index + 1, leaves: Vec::new() };
        tree.read(&mut Vec::new());
        in_use[index..tree.index.min(code.tokens.len())].fill(true);
        let how = if is_public(code, index) { How::Reexport } else { How::Use };
        for Leaf { path, name, line, is_glob } in tree.leaves {
            let Some(path) = scopes.absolute(scope, &path, krate) else {
                imports.outside.push(Outside { path, line });
                continue;
            };
            if let Some(name) = name {
                imports.names.entry(scope.to_vec()).or_default().insert(name, path.clone());
            }
            imports.inside.push(Import { path, line, how, is_glob });
        }
    }
    let mut index = 0;
    while index < code.tokens.len() {
        let (path, end) = path_at(code, index);
        if path.len() < 2 || in_use[index] {
            index = end.max(index + 1);
            continue;
        }
        let line = code.tokens[end - 1].line;
        let scope = scopes.at(index);
        let known = imports.names.get(scope).and_then(|names| names.get(&path[0]));
        match (scopes.absolute(scope, &path, krate), known) {
            (Some(path), _) => imports.inside.push(Import { path, line, how: How::Inline, is_glob: false }),
            (None, Some(start)) => {
                let path = start.iter().chain(&path[1..]).cloned().collect();
                imports.inside.push(Import { path, line, how: How::Alias, is_glob: false });
            }
            (None, None) => imports.outside.push(Outside { path, line }),
        }
        index = end;
    }
    imports
}

/// The path at a place, which is words joined by `::`, and where it ends. The scope of a `pub(in …)` is no such path.
fn path_at(code: &Code, index: usize) -> (Path, usize) {
    if code.word(index) == Some("pub") && code.is(index + 1, "(") && code.is(index + 2, "in") {
        return (Vec::new(), code.close(index + 1) + 1);
    }
    let mut path = Vec::new();
    let mut end = index;
    // A path that goes on after a type's arguments, `<A>::b`, begins with that type.
    if code.before(index) == "::" {
        return (path, index);
    }
    while let Some(word) = code.word(end) {
        path.push(word.to_owned());
        end += 1;
        if !code.is(end, "::") || code.word(end + 1).is_none() {
            break;
        }
        end += 1;
    }
    (path, end)
}

fn is_public(code: &Code, index: usize) -> bool {
    if code.before(index) == "pub" {
        return true;
    }
    let open = (0..index).rev().take(8).find(|&at| code.is(at, "("));
    code.before(index) == ")" && open.is_some_and(|open| code.before(open) == "pub")
}

/// Which module each place of a file is in, and which modules have which children.
struct Scopes {
    /// The places from which on the code belongs to another module, with its path.
    starts: Vec<(usize, Path)>,
    children: BTreeSet<Path>,
}

impl Scopes {
    fn of(code: &Code, module: &[String]) -> Scopes {
        let mut starts = vec![(0, module.to_vec())];
        let mut children = BTreeSet::new();
        let mut open: Vec<(usize, Path)> = Vec::new();
        for index in 0..code.tokens.len() {
            while open.last().is_some_and(|(end, _)| index >= *end) {
                open.pop();
                starts.push((index, open.last().map_or(module, |(_, path)| path).to_vec()));
            }
            let Some(name) = code.word(index + 1).filter(|_| code.word(index) == Some("mod")) else {
                continue;
            };
            let mut child = open.last().map_or(module, |(_, path)| path).to_vec();
            child.push(name.to_owned());
            if code.is(index + 2, "{") {
                open.push((code.close(index + 2), child.clone()));
                starts.push((index + 2, child.clone()));
            }
            if code.is(index + 2, "{") || code.is(index + 2, ";") {
                children.insert(child);
            }
        }
        Scopes { starts, children }
    }

    fn at(&self, index: usize) -> &[String] {
        let after = self.starts.partition_point(|(start, _)| *start <= index);
        &self.starts[after.saturating_sub(1)].1
    }

    /// The path from the crate's root. `None` if it begins with another crate or with a type.
    fn absolute(&self, scope: &[String], path: &[String], krate: &[&str]) -> Option<Path> {
        let (first, rest) = path.split_first()?;
        let supers =
            path.iter().skip_while(|word| *word == "self").take_while(|word| *word == "super").count();
        let child = || [scope, std::slice::from_ref(first)].concat();
        match first.as_str() {
            word if krate.contains(&word) => Some(rest.to_vec()),
            "super" | "self" => {
                let start = scope.get(..scope.len().checked_sub(supers)?)?;
                let skipped = supers + usize::from(first == "self");
                Some([start, &path[skipped..]].concat())
            }
            _ if self.children.contains(&child()) => Some([scope, path].concat()),
            _ => None,
        }
    }
}

/// What one name of a `use` stands for.
struct Leaf {
    path: Path,
    /// The name that it gets; `None` for `_` and `*`.
    name: Option<String>,
    line: usize,
    is_glob: bool,
}

/// Reads what a `use` names, through all its braces.
struct Tree<'a> {
    code: &'a Code,
    index: usize,
    leaves: Vec<Leaf>,
}

impl Tree<'_> {
    /// From a place after `use`, `::`, `{` or `,` to the `,`, `}` or `;` after it.
    fn read(&mut self, path: &mut Path) {
        let before = path.len();
        if self.code.is(self.index, "::") {
            self.index += 1; // another crate's, for certain
        }
        loop {
            let line = self.code.tokens.get(self.index).map_or(0, |token| token.line);
            if let Some(word) = self.code.word(self.index) {
                path.push(word.to_owned());
                self.index += 1;
                if self.code.is(self.index, "::") {
                    self.index += 1;
                    continue;
                }
                self.leaf(path, line);
            } else if self.code.is(self.index, "*") {
                self.index += 1;
                self.leaves.push(Leaf { path: path.clone(), name: None, line, is_glob: true });
            } else if self.code.is(self.index, "{") {
                let end = self.code.close(self.index);
                self.index += 1;
                while self.index < end {
                    self.read(path);
                    if self.code.is(self.index, ",") {
                        self.index += 1;
                    }
                }
                self.index = end + 1;
            } else {
                self.index += 1; // not Rust; go on all the same
            }
            break;
        }
        path.truncate(before);
    }

    fn leaf(&mut self, path: &[String], line: usize) {
        let mut path = path.to_vec();
        // `a::{self}` is `a`.
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let mut name = path.last().cloned();
        if self.code.is(self.index, "as") {
            name = self.code.word(self.index + 1).filter(|name| *name != "_").map(str::to_owned);
            self.index += 2;
        }
        self.leaves.push(Leaf { path, name, line, is_glob: false });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        text.split("::").filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    fn read(module: &str, text: &str) -> Imports {
        of(&Code::of(text).unwrap(), &path(module), &["crate"])
    }

    /// What a text uses, each as `line: path`, with `*` if it uses everything, and how.
    fn inside(module: &str, text: &str) -> Vec<String> {
        let shown = |import: &Import| {
            let glob = if import.is_glob { "::*" } else { "" };
            format!("{}: {}{glob} {:?}", import.line, import.path.join("::"), import.how)
        };
        read(module, text).inside.iter().map(shown).collect()
    }

    #[test]
    fn each_name_in_nested_braces_is_seen_with_its_line() {
        let text = "use crate::{\n    a::{self, B, c::{D as E, F as _}},\n    g::*,\n};\nuse std::{fs, io};";
        assert_eq!(
            inside("x", text),
            ["2: a Use", "2: a::B Use", "2: a::c::D Use", "2: a::c::F Use", "3: g::* Use"]
        );
        let names = &read("x", text).names[&path("x")];
        assert_eq!(names.keys().collect::<Vec<_>>(), ["B", "E", "a"]);
        let outside: Vec<_> = read("x", text).outside.iter().map(|outside| outside.path.join("::")).collect();
        assert_eq!(outside, ["std::fs", "std::io"]);
    }

    #[test]
    fn relative_paths_become_absolute() {
        assert_eq!(
            inside("a::b", "use super::C; use super::super::d::E; use self::f::G;"),
            ["1: a::C Use", "1: d::E Use", "1: a::b::f::G Use"]
        );
        assert_eq!(
            inside("a", "mod b; pub use b::C; pub(crate) use b::D;"),
            ["1: a::b::C Reexport", "1: a::b::D Reexport"]
        );
        assert_eq!(inside("a", "use b::C; use ::crate_d::E;"), [""; 0], "other crates");
    }

    #[test]
    fn modules_inside_a_file_have_their_own_super() {
        let text = "mod b { use super::C; mod d { use super::super::E; } use super::F; } use super::G;";
        assert_eq!(inside("a", text), ["1: a::C Use", "1: a::E Use", "1: a::F Use", "1: G Use"]);
    }

    #[test]
    fn paths_in_code_and_in_macros_count() {
        let text = "mod own;\nfn f(x: &crate::a::B) -> super::C {\n    vec![crate::d::e(own::f::<u8>())]\n}\n\
                    pub(in crate::g) struct H; pub(crate) struct I(pub (crate::j::K, u8));\n\
                    macro_rules! m { () => { $crate::l::M } }";
        assert_eq!(
            inside("x::y", text),
            [
                "2: a::B Inline",
                "2: x::C Inline",
                "3: d::e Inline",
                "3: x::y::own::f Inline",
                "5: j::K Inline",
                "6: l::M Inline"
            ]
        );
    }

    #[test]
    fn a_path_may_begin_with_a_name_of_a_module() {
        let imports = inside("x", "use crate::{a, b as c};\nfn f() { a::D::new(); c::e(); g::h(); }");
        assert_eq!(imports, ["1: a Use", "1: b Use", "2: a::D::new Alias", "2: b::e Alias"]);
        assert_eq!(read("x", "fn f() -> impl A + use<> { g::h() }").outside[0].path, ["g", "h"]);
    }

    #[test]
    fn a_program_names_its_library() {
        let code = Code::of("use golife::{a::B, c};").unwrap();
        let imports = of(&code, &path("main"), &["golife"]);
        let paths: Vec<_> = imports.inside.iter().map(|import| import.path.join("::")).collect();
        assert_eq!(paths, ["a::B", "c"]);
    }
}
