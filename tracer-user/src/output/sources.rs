//! Finds source files for those who have the sources: paths relative to the root of the program's module, or to the current
//! directory, of paths that were true where the program was compiled.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::go::source_root;
use crate::go::standard::is_of_program;
use crate::human::{clean, count};
use crate::report::{Frame, Process, Report};

/// Where the sources of the programs in a report are. Those of the program with the first finding are meant, if several
/// have different modules.
#[derive(Debug, Default)]
pub struct Sources {
    /// What the paths of the module's files begin with, without a slash at its end.
    compiled: Option<String>,
    /// Where the root is on this machine, as far as that is known; several names of it.
    roots: Vec<PathBuf>,
    /// The current directory.
    here: Option<PathBuf>,
    /// Files of the programs that are not below the root, as far as they were asked for.
    outside: RefCell<BTreeSet<String>>,
}

impl Sources {
    /// Finds the root by the paths in a report: what they have beside the paths of their packages, or else the directory with
    /// the module's `go.mod` above them on this machine. `given` is what the user says it is, `here` is the current directory.
    pub fn find(report: &Report, given: Option<&Path>, here: Option<&Path>) -> Sources {
        let mut processes = report.processes.iter();
        let first = processes.clone().find(|process| !process.findings.is_empty());
        let process = first.or_else(|| processes.find(|process| !process.sites.is_empty()));
        let module = process.and_then(|process| process.go.as_ref()?.module.as_deref());
        let is_go_itself = matches!(module, Some("std" | "cmd"));
        let own = |frame: &&Frame| is_of_program(&frame.function, module);
        let frames = process.filter(|_| !is_go_itself).into_iter().flat_map(frames).filter(own);
        let named = frames.filter_map(|frame| Some((frame.function.as_str(), frame.file.as_deref()?)));
        let on_disk = |module: Option<&str>, below: &Path| {
            let found = source_root::on_disk(module, below)?;
            found.into_os_string().into_string().ok()
        };
        let compiled = module.and_then(|module| source_root::of_paths(module, named.clone()));
        let mut files = named.map(|(_, file)| file).filter(|file| file.starts_with('/'));
        let compiled = compiled.or_else(|| on_disk(module, Path::new(files.next()?)));
        let roots = match given {
            Some(given) => {
                // A path may lead through a link, on either side.
                let mut names: Vec<PathBuf> = std::path::absolute(given).into_iter().collect();
                names.extend(given.canonicalize().ok().filter(|real| !names.contains(real)));
                names
            }
            None => {
                let is_on_disk = compiled.as_ref().is_some_and(|root| root.starts_with('/'));
                let here = || on_disk(module, here?).filter(|_| module.is_some() && !is_go_itself);
                let root = if is_on_disk { compiled.clone() } else { here() };
                root.into_iter().map(PathBuf::from).collect()
            }
        };
        Sources { compiled, roots, here: here.map(Path::to_owned), outside: RefCell::default() }
    }

    /// The directory that paths are relative to, if it is known where it is.
    pub(super) fn root(&self) -> Option<&Path> {
        self.roots.first().map(PathBuf::as_path)
    }

    /// The path of a file relative to the root; `None` if it is not below it.
    pub(super) fn relative<'file>(&self, file: &'file str) -> Option<&'file str> {
        let below = |root: &str| file.strip_prefix(root.trim_end_matches('/'))?.strip_prefix('/');
        let given = self.roots.iter().filter_map(|root| below(root.to_str()?)).next();
        given.or_else(|| below(self.compiled.as_deref()?))
    }

    /// Does what [`Sources::relative`] does, and takes note of files of the program itself that are not below the root.
    pub(super) fn relative_of_program<'file>(&self, file: &'file str, is_own: bool) -> Option<&'file str> {
        let relative = self.relative(file);
        if relative.is_none() && is_own {
            self.outside.borrow_mut().insert(file.to_owned());
        }
        relative
    }

    /// The path of a file for who stands in the current directory: relative to it if it is below it.
    pub fn path_from_here(&self, file: &str) -> String {
        let on_this_machine = self.relative(file).and_then(|below| Some(self.root()?.join(below)));
        let path = match on_this_machine {
            Some(path) => path.to_string_lossy().into_owned(),
            None => self.relative(file).unwrap_or(file).to_owned(),
        };
        let below = self.here.as_ref().and_then(|here| Path::new(&path).strip_prefix(here).ok());
        below.map(|below| below.to_string_lossy().into_owned()).unwrap_or(path)
    }

    /// Which files of the programs could not be named relative to the root; `None` if there were none.
    pub fn outside(&self) -> Option<String> {
        let outside = self.outside.borrow();
        let first = clean(outside.first()?);
        let more = outside.len() - 1;
        let others = if more == 0 { String::new() } else { format!(" and {} more", count(more as u64)) };
        Some(format!(
            "{first}{others}: not relative, since the root of the sources is not known or elsewhere; --source-root names it"
        ))
    }
}

/// All places of a process that a report names.
fn frames(process: &Process) -> impl Iterator<Item = &Frame> + Clone {
    process.sites.iter().flat_map(|site| {
        let waiting = site.waiting.iter().flatten().flat_map(|waiting| &waiting.at);
        let blamed = site.blame.iter().flatten().map(|line| &line.frame);
        [&site.site, &site.entry].into_iter().chain(blamed).chain(waiting)
    })
}

/// A path as a URI, in which all is escaped that has a meaning in one.
pub(super) fn uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b'@' | b'+' => {
                uri.push(byte.into());
            }
            _ => uri += &format!("%{byte:02X}"),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Go, Site};

    fn report(module: &str, frames: &[(&str, &str)]) -> Report {
        let frame = |&(function, file): &(&str, &str)| Frame {
            function: function.into(),
            file: Some(file.into()),
            line: Some(7),
        };
        let site = |named| Site { site: frame(named), entry: frame(named), ..Site::default() };
        let go = Some(Go { module: Some(module.into()), ..Go::default() });
        let sites = frames.iter().map(site).collect();
        crate::output::testing::report(vec![Process { go, sites, ..Process::default() }])
    }

    #[test]
    fn paths_are_relative_to_the_module() {
        let packages =
            [("main.main", "/src/api/cmd/api/main.go"), ("example.com/api/hub.Run", "/src/api/hub/hub.go")];
        let sources =
            Sources::find(&report("example.com/api", &packages), None, Some(Path::new("/src/api/cmd")));
        assert_eq!(sources.root(), Some(Path::new("/src/api")));
        assert_eq!(sources.relative("/src/api/cmd/api/main.go"), Some("cmd/api/main.go"));
        assert_eq!(sources.relative("/src/apis/main.go"), None);
        assert_eq!(sources.path_from_here("/src/api/cmd/api/main.go"), "api/main.go");
        assert_eq!(sources.path_from_here("/src/api/hub/hub.go"), "/src/api/hub/hub.go");
        assert_eq!(sources.outside(), None);
        assert_eq!(sources.relative_of_program("/usr/go/src/net/net.go", false), None);
        assert_eq!(sources.outside(), None);
        sources.relative_of_program("/tmp/generated.go", true);
        assert!(sources.outside().unwrap().starts_with("/tmp/generated.go: not relative"));
    }

    #[test]
    fn what_the_user_says_is_where_the_sources_are() {
        let trimmed = [("main.main", "example.com/api@v1.2.0/cmd/main.go")];
        let sources = Sources::find(&report("example.com/api", &trimmed), None, None);
        assert_eq!((sources.root(), sources.relative(trimmed[0].1)), (None, Some("cmd/main.go")));
        assert_eq!(sources.path_from_here(trimmed[0].1), "cmd/main.go");
        let given = Path::new("/home/me/api");
        let sources = Sources::find(&report("example.com/api", &trimmed), Some(given), Some(given));
        assert_eq!(
            (sources.root(), sources.path_from_here(trimmed[0].1)),
            (Some(given), "cmd/main.go".into())
        );
        // A module may be in a directory of a repository.
        let packages = [("example.com/api/hub.Run", "/repo/api/hub/hub.go")];
        let sources = Sources::find(&report("example.com/api", &packages), Some(Path::new("/repo")), None);
        assert_eq!(sources.relative(packages[0].1), Some("api/hub/hub.go"));
        // Or it was compiled elsewhere.
        let sources = Sources::find(&report("example.com/api", &packages), Some(given), None);
        assert_eq!(sources.path_from_here(packages[0].1), "/home/me/api/hub/hub.go");
    }

    #[test]
    fn a_uri_has_no_meaning_of_its_own() {
        assert_eq!(uri("/a b/c:d#e?f%.go"), "/a%20b/c%3Ad%23e%3Ff%25.go");
        assert_eq!(uri("x.io/y@v1.0.0+incompatible/é.go"), "x.io/y@v1.0.0+incompatible/%C3%A9.go");
    }
}
