//! Where the sources of a program's main module are: the directory that its `go.mod` is in, as the paths of source files
//! that were compiled in begin with it.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::standard::package_path;

/// Most directories above a file that are looked into for a `go.mod`.
const MOST_ABOVE: usize = 32;
/// How much of a `go.mod` is read, in bytes. The module is named in its beginning.
const MOST_READ: u64 = 1 << 16;

/// The directory that the paths of a module's files begin with, without a slash at its end: what is left of them without the
/// directories of their packages. `functions` are functions with their files. With `-trimpath` it is the module's path, and its
/// version where it has one. `None` where no file tells: the path of package `main` says nothing of its directory.
pub fn of_paths<'a>(module: &str, functions: impl Iterator<Item = (&'a str, &'a str)>) -> Option<String> {
    let mut roots: HashMap<&str, usize> = HashMap::new();
    for (function, file) in functions {
        if let Some(root) = root_of(module, function, file) {
            *roots.entry(root).or_default() += 1;
        }
    }
    // `//line` comments may name others.
    let most = roots.into_iter().max_by_key(|&(root, files)| (files, std::cmp::Reverse(root)))?;
    Some(most.0.to_owned())
}

fn root_of<'a>(module: &str, function: &str, file: &'a str) -> Option<&'a str> {
    let after = |path: &str| path.strip_prefix(module).filter(|rest| rest.starts_with('/')).map(str::len);
    if !file.starts_with('/') {
        let rest = file.strip_prefix(module)?;
        let end = if rest.starts_with('@') { rest.find('/')? } else { 0 };
        return rest[end..].starts_with('/').then(|| &file[..module.len() + end]);
    }
    // In the last part of a path the linker has escaped dots.
    let package = package_path(function).replace("%2e", ".");
    // The tests of a package may be in another package beside it, whose name ends in `_test`.
    let beside = package.strip_suffix("_test");
    let (directory, _) = file.rsplit_once('/')?;
    [Some(package.as_str()), beside].into_iter().flatten().find_map(|package| {
        if package == module {
            return Some(directory);
        }
        let within = &package[package.len() - after(package)?..];
        directory.strip_suffix(within)
    })
}

/// The directory above a file, or a directory, in which there is a `go.mod` on this machine; of that module, if it is known which.
pub fn on_disk(module: Option<&str>, below: &Path) -> Option<PathBuf> {
    let above = below.ancestors().take(MOST_ABOVE);
    let mut named = above.filter_map(|directory| Some((directory, module_in(&directory.join("go.mod"))?)));
    match module {
        Some(module) => named.find(|(_, name)| name == module),
        None => named.next(),
    }
    .map(|(directory, _)| directory.to_owned())
}

/// The module that a `go.mod` is of. The path comes from a program, so it may be that of anything.
fn module_in(path: &Path) -> Option<String> {
    let file = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(MOST_READ).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let name =
        text.lines().find_map(|line| line.trim_start().strip_prefix("module")?.strip_prefix([' ', '\t']))?;
    let name = name.split("//").next()?.trim();
    Some(name.trim_matches(['"', '`']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_what_packages_leave_of_their_paths() {
        let of = |function, file| of_paths("example.com/api", [(function, file)].into_iter());
        let src = Some("/src".to_owned());
        assert_eq!(of("example.com/api/hub.(*Hub).Run", "/src/hub/hub.go"), src);
        assert_eq!(of("example.com/api/hub.Map[...].func1", "/src/hub/hub.go"), src);
        assert_eq!(of("example.com/api/hub_test.TestRun", "/src/hub/run_test.go"), src);
        assert_eq!(of("example.com/api/x%2ey.Run", "/src/x.y/run.go"), src);
        assert_eq!(of("example.com/api.Run", "/src/run.go"), src);
        assert_eq!(of("main.main", "/src/cmd/api/main.go"), None, "it may be of any directory");
        assert_eq!(of("example.com/apis.Run", "/src/run.go"), None, "another module");
        assert_eq!(of("example.com/api/hub.Run", "/tmp/generated.go"), None);
        let trimmed = |file| of("main.main", file);
        assert_eq!(trimmed("example.com/api/cmd/main.go").as_deref(), Some("example.com/api"));
        assert_eq!(trimmed("example.com/api@v1.2.0/cmd/main.go").as_deref(), Some("example.com/api@v1.2.0"));
        assert_eq!((trimmed("example.com/apis/main.go"), trimmed("net/http/server.go")), (None, None));
        let most = [("a/x.A", "/one/x/a.go"), ("a/x.A", "/two/x/a.go"), ("a/y.A", "/two/y/a.go")];
        assert_eq!(of_paths("a", most.into_iter()).as_deref(), Some("/two"));
    }

    #[test]
    fn a_module_is_found_above_its_files() {
        let directory = tempfile::tempdir().unwrap();
        let (root, deep) = (directory.path(), directory.path().join("cmd/api"));
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(root.join("go.mod"), "// Ours.\n\nmodule  \"example.com/api\" // here\n\ngo 1.25\n")
            .unwrap();
        std::fs::create_dir(deep.join("go.mod")).unwrap();
        let main = deep.join("main.go");
        assert_eq!(on_disk(Some("example.com/api"), &main).as_deref(), Some(root));
        assert_eq!(on_disk(None, &main).as_deref(), Some(root));
        assert_eq!(on_disk(Some("example.com/other"), &main), None);
    }
}
