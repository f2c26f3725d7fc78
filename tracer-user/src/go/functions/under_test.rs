//! Which package a test binary tests, by the names and files of its test functions. Toolchains before Go 1.24 do not write it
//! into the build info.

use std::collections::HashMap;

use super::pclntab::Pclntab;

/// What names of functions begin with that `go test` runs.
const BEGINNINGS: [&str; 4] = ["Test", "Benchmark", "Fuzz", "Example"];

/// So many functions that may be tests are looked at.
const MOST: usize = 4096;

impl Pclntab {
    /// The path of the package that has most functions which may be tests, in files of tests. Tests outside of the package, in
    /// one whose name ends in `_test`, count for it.
    pub(crate) fn package_under_test(&self) -> Option<String> {
        let candidates =
            (0..self.count()).filter_map(|index| Some((index, package_of_test(self.symbol(index))?)));
        let mut counts: HashMap<&str, u32> = HashMap::new();
        for (index, package) in candidates.take(MOST) {
            let Some(function) = self.function(index) else { continue };
            if self.file_and_line(&function, function.entry).0.ends_with("_test.go") {
                *counts.entry(package).or_default() += 1;
            }
        }
        let most = counts.into_iter().max_by_key(|&(package, count)| (count, std::cmp::Reverse(package)));
        most.map(|(package, _)| package.replace("%2e", "."))
    }
}

/// The package of a function that may be a test, by its name.
fn package_of_test(symbol: &[u8]) -> Option<&str> {
    let symbol = std::str::from_utf8(symbol).ok()?;
    let (package, name) = symbol.rsplit_once('.')?;
    let rest = BEGINNINGS.iter().find_map(|beginning| name.strip_prefix(beginning))?;
    let is_test = !rest.starts_with(|first: char| first.is_lowercase());
    // Methods and functions within others have more dots.
    let last = package.rsplit('/').next().unwrap_or(package);
    (is_test && !last.contains(['.', '(', '['])).then(|| package.strip_suffix("_test").unwrap_or(package))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tests() {
        let package = |name: &str| package_of_test(name.as_bytes()).map(str::to_owned);
        assert_eq!(package("example.com/m/pool.TestPool").as_deref(), Some("example.com/m/pool"));
        assert_eq!(package("example.com/m/pool_test.ExamplePool").as_deref(), Some("example.com/m/pool"));
        assert_eq!(package("gopkg.in/yaml%2ev3.Test").as_deref(), Some("gopkg.in/yaml%2ev3"));
        for other in ["m/pool.Testing", "m/pool.(*T).TestX", "m/pool.TestX.func1", "m/pool.New", "TestX", ""]
        {
            assert_eq!(package(other), None, "{other}");
        }
    }
}
