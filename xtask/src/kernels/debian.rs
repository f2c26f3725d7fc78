//! Debian's packages, fetched by the package manager into a directory of ours and unpacked there. Nothing is installed,
//! and what this machine's package manager knows stays as it is.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::machine::{self, output, say};

/// The packages of one suite for one CPU architecture.
pub struct Suite<'a> {
    /// The name of the suite, such as `bookworm-backports`.
    pub name: &'a str,
    /// The name of the architecture as Debian calls it, such as `arm64`.
    pub architecture: &'a str,
    /// Where its list and downloads are kept.
    pub place: &'a Path,
}

impl Suite<'_> {
    /// Unpacks packages below `root`; if they were already, returns at once.
    pub fn unpack(&self, packages: &[&str], root: &Path) -> Result<()> {
        if root.is_dir() {
            return Ok(());
        }
        self.update()?;
        let packages = packages.iter().map(|package| self.newest(package)).collect::<Result<Vec<_>>>()?;
        say(format!("fetching {} ({}, {})", packages.join(", "), self.name, self.architecture));
        // The directory has another name until it is complete.
        let unfinished = root.with_extension("unfinished");
        let downloads = unfinished.join("downloads");
        let _ = fs::remove_dir_all(&unfinished);
        fs::create_dir_all(&downloads).with_context(|| format!("cannot make {}", downloads.display()))?;
        machine::run(self.apt("apt-get").args(["download", "-qq"]).args(&packages).current_dir(&downloads))?;
        for package in entries(&downloads)? {
            machine::run(Command::new("dpkg").arg("-x").arg(&package).arg(&unfinished))?;
        }
        fs::remove_dir_all(&downloads)?;
        fs::rename(&unfinished, root).with_context(|| format!("cannot make {}", root.display()))
    }

    fn update(&self) -> Result<()> {
        for part in ["lists/partial", "cache/archives/partial"] {
            let part = self.place.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
        }
        let source = format!("deb {} {} main\n", archive(self.name)?, self.name);
        fs::write(self.place.join("sources.list"), source)?;
        fs::write(self.place.join("status"), "")?;
        machine::run(self.apt("apt-get").args(["update", "-qq"]))
    }

    /// The package to fetch: this one, or the kernel that it stands for if it has no content of its own.
    fn newest(&self, package: &str) -> Result<String> {
        let depends = output(self.apt("apt-cache").args(["depends", "--important", package]))?;
        let kernel = depends
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|needed| needed.starts_with("linux-image-"));
        Ok(kernel.unwrap_or(package).to_owned())
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let option = |name: &str, file: &str| format!("{name}={}", self.place.join(file).display());
        for option in [
            format!("APT::Architecture={}", self.architecture),
            format!("APT::Architectures={}", self.architecture),
            option("Dir::Etc::SourceList", "sources.list"),
            "Dir::Etc::SourceParts=-".to_owned(),
            option("Dir::State", ""),
            option("Dir::State::status", "status"),
            option("Dir::Cache", "cache"),
            "Acquire::Check-Valid-Until=false".to_owned(),
            // apt may be configured to fetch as a user who cannot write here.
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }
}

/// Where this machine gets Debian's packages of a suite from: the archive that it has configured for its own.
fn archive(suite: &str) -> Result<String> {
    let security = suite.ends_with("-security");
    let targets =
        output(Command::new("apt-get").args(["indextargets", "--format", "$(ORIGIN) $(SITE) $(RELEASE)"]))?;
    targets
        .lines()
        .filter_map(|line| line.strip_prefix("Debian ")?.split_once(' '))
        .find(|(_, release)| release.ends_with("-security") == security)
        .map(|(site, _)| site.to_owned())
        .context("this machine's apt has no archive of Debian, from which the kernels come")
}

/// The paths of what is in a directory.
pub fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let found = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    Ok(found.collect::<std::io::Result<Vec<_>>>()?.into_iter().map(|entry| entry.path()).collect())
}
