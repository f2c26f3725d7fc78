//! golife's own sources as a house: which file is which module, what each uses, and in which file that is defined.
//!
//! What only tests compile is not part of it, since tests may look into every room.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Breach,
    code::Code,
    imports::{self, Imports, Path},
};

/// Where golife's sources are.
pub const SOURCES: &str = "tracer-user/src/";

/// What `main.rs`, which is a crate of its own, calls the library.
const LIBRARY: &str = "golife";

/// Most re-exports of re-exports that are followed.
const MOST_STEPS: usize = 16;

/// One file.
#[derive(Debug)]
pub struct File {
    /// Its path from [`SOURCES`].
    pub name: String,
    /// The path of its module.
    pub module: Path,
    /// The words of its code.
    pub code: Code,
    /// What it uses.
    pub imports: Imports,
    /// Its folder. A module whose child modules have files of their own is in the folder of these.
    pub folder: Path,
    /// Whether it is the module of its folder.
    pub is_head: bool,
}

impl File {
    /// Its path from the repository's root.
    pub fn path(&self) -> String {
        format!("{SOURCES}{}", self.name)
    }

    /// The first part of its path, without `.rs`.
    pub fn room(&self) -> &str {
        let first = self.name.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }
}

/// All files.
#[derive(Debug, Default)]
pub struct House {
    /// The files, in the order of their paths.
    pub files: Vec<File>,
    modules: BTreeMap<Path, usize>,
}

impl House {
    /// Reads those files that are golife's sources. Each has its path from the repository's root and its text. What is
    /// no Rust is a breach.
    pub fn of(files: &[(String, String)], breaches: &mut Vec<Breach>) -> House {
        let mut read = Vec::new();
        for (name, text) in files {
            let Some(name) = name.strip_prefix(SOURCES).filter(|name| name.ends_with(".rs")) else {
                continue;
            };
            if is_named_as_test(name) {
                continue;
            }
            match Code::of(text) {
                Ok(code) => read.push((name.to_owned(), module(name), code)),
                Err(line) => {
                    breaches.push(Breach::new(format!("{SOURCES}{name}"), line, "cannot be read as Rust"))
                }
            }
        }
        let tests: BTreeSet<Path> = read
            .iter()
            .flat_map(|(_, module, code)| {
                code.test_modules.iter().map(|name| [module.as_slice(), std::slice::from_ref(name)].concat())
            })
            .collect();
        read.retain(|(_, module, _)| !tests.iter().any(|test| module.starts_with(test)));
        read.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        let parents: BTreeSet<Path> =
            read.iter().filter_map(|(_, module, _)| Some(module.split_last()?.1.to_vec())).collect();
        let files: Vec<File> = read
            .into_iter()
            .map(|(name, module, code)| {
                let is_head = parents.contains(&module) || name.ends_with("/mod.rs");
                let parent = module.split_last().map_or(&[][..], |(_, parent)| parent);
                let folder = if is_head { module.as_slice() } else { parent }.to_vec();
                // `main.rs` has no modules of its own, so nothing in the library is what it calls `crate`.
                let krate = if name == "main.rs" { LIBRARY } else { "crate" };
                let imports = imports::of(&code, &module, &[krate]);
                File { name, module, code, imports, folder, is_head }
            })
            .collect();
        let modules = files.iter().enumerate().map(|(index, file)| (file.module.clone(), index)).collect();
        House { files, modules }
    }

    /// Whether this is a module in a file of its own.
    pub fn is_module(&self, path: &[String]) -> bool {
        self.modules.contains_key(path)
    }

    /// The file that defines what a path leads to, through all re-exports.
    pub fn definer(&self, path: &[String]) -> Option<&File> {
        let mut path = path.to_vec();
        for _ in 0..MOST_STEPS {
            let (module, file) = self.module_of(&path)?;
            match self.target(file, &path[..module], path.get(module)) {
                Some(target) if target != &path[..=module] => path = [target, &path[module + 1..]].concat(),
                _ => return Some(file),
            }
        }
        None
    }

    /// The room that a path leads into. What the library's root re-exports is in the room that it comes from.
    pub fn room_of(&self, path: &[String]) -> Option<&str> {
        let (depth, file) = self.module_of(path)?;
        let target = self.target(file, &path[..depth], path.get(depth)).filter(|_| depth == 0);
        Some(match target {
            Some(target) => self.module_of(target)?.1.room(),
            None => file.room(),
        })
    }

    /// The innermost module of a path that has a file, as the number of words up to it.
    fn module_of(&self, path: &[String]) -> Option<(usize, &File)> {
        (0..=path.len())
            .rev()
            .find_map(|depth| Some((depth, &self.files[*self.modules.get(&path[..depth])?])))
    }

    /// What a name stands for in a module.
    fn target<'a>(&self, file: &'a File, module: &[String], name: Option<&String>) -> Option<&'a Path> {
        file.imports.names.get(module)?.get(name?)
    }
}

/// Whether a file is a test by its name, wherever it stands.
fn is_named_as_test(name: &str) -> bool {
    let mut parts = name.rsplit('/');
    matches!(parts.next(), Some("tests.rs" | "testing.rs")) || parts.any(|folder| folder == "tests")
}

/// The path of the module that a file is.
fn module(name: &str) -> Path {
    let stem = name.strip_suffix(".rs").unwrap_or(name);
    let stem = stem.strip_suffix("/mod").unwrap_or(stem);
    if stem == "lib" { Vec::new() } else { stem.split('/').map(str::to_owned).collect() }
}

#[cfg(test)]
pub mod testing {
    use super::*;

    /// A house of files with these names, from [`SOURCES`], and texts.
    pub fn house(files: &[(&str, &str)]) -> House {
        let mut breaches = Vec::new();
        let files: Vec<_> =
            files.iter().map(|(name, text)| (format!("{SOURCES}{name}"), (*text).to_owned())).collect();
        let house = House::of(&files, &mut breaches);
        assert!(breaches.is_empty(), "{breaches:?}");
        house
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(path: &str) -> Path {
        path.split("::").map(str::to_owned).collect()
    }

    #[test]
    fn tests_are_not_part_of_it() {
        let house = testing::house(&[
            ("lib.rs", "pub mod a;"),
            ("a/mod.rs", "#[cfg(test)] mod model; mod tests;"),
            ("a/model.rs", ""),
            ("a/model/part.rs", ""),
            ("a/tests.rs", ""),
            ("a/tests/b.rs", ""),
            ("a/testing.rs", ""),
            ("a/c.rs", ""),
        ]);
        let names: Vec<_> = house.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["a/c.rs", "a/mod.rs", "lib.rs"]);
    }

    #[test]
    fn a_name_leads_through_re_exports_to_its_file() {
        let house = testing::house(&[
            ("lib.rs", "pub mod a; pub mod d; pub use a::B as Best;"),
            ("a/mod.rs", "mod b; mod c; pub use b::B; pub struct Own;"),
            ("a/b.rs", "pub use super::c::B;"),
            ("a/c.rs", "pub struct B;"),
            ("d.rs", "use crate::a::B; mod inner { pub struct E; }"),
        ]);
        let file = |path: &str| house.definer(&words(path)).map(|file| file.name.clone());
        assert_eq!(file("a::B").as_deref(), Some("a/c.rs"));
        assert_eq!(file("a::B::new").as_deref(), Some("a/c.rs"));
        assert_eq!(file("a::Own").as_deref(), Some("a/mod.rs"));
        assert_eq!(file("d::inner::E").as_deref(), Some("d.rs"));
        assert_eq!(file("Best").as_deref(), Some("a/c.rs"));
        assert_eq!(house.room_of(&words("Best")), Some("a"));
        assert_eq!(house.room_of(&words("d::B")), Some("d"), "as it is written");
        assert_eq!(house.room_of(&words("Nobody")), Some("lib"));
    }

    #[test]
    fn a_module_with_files_below_it_stands_in_their_folder() {
        let house = testing::house(&[("a.rs", "mod b;"), ("a/b.rs", ""), ("c/mod.rs", ""), ("d.rs", "")]);
        let folders: Vec<_> = house
            .files
            .iter()
            .map(|file| (file.name.as_str(), file.folder.join("/"), file.is_head))
            .collect();
        assert_eq!(
            folders,
            [
                ("a.rs", "a".to_owned(), true),
                ("a/b.rs", "a".to_owned(), false),
                ("c/mod.rs", "c".to_owned(), true),
                ("d.rs", String::new(), false)
            ]
        );
    }

    #[test]
    fn what_is_no_rust_is_a_breach() {
        let mut breaches = Vec::new();
        House::of(&[("tracer-user/src/a.rs".to_owned(), "fn (".to_owned())], &mut breaches);
        assert_eq!(breaches[0].to_string(), "tracer-user/src/a.rs:1: cannot be read as Rust");
    }
}
