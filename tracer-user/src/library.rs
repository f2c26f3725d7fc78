//! The binaries that golife has read: ELF, function table, layout and probe plan, each done once per file, whoever
//! executes it and under whatever path.

use std::{collections::HashMap, fs::File, path::Path, sync::Arc};

use tracer_ebpf::Cookie;

use crate::{
    cli,
    go::{
        Binary,
        plan::{Cost, Kernel, Purpose, Site},
        probe_sites::{self, Placement},
    },
    kernel::{self, Probe, Program},
    launch,
    process::{self, FileId, Process},
    session::Error,
    subject::Subject,
};

/// A Go binary and where its probes go.
pub struct Target {
    /// The binary.
    pub binary: Arc<Binary>,
    /// The open file: it stands for the binary, whatever its path leads to by now.
    pub file: Arc<File>,
    /// Its identity.
    pub id: FileId,
    /// What is to be attached.
    pub probes: Vec<Probe>,
}

/// A binary, and the open file that it was read from.
type Opened = (Arc<Binary>, Arc<File>);

/// All binaries that were read.
pub struct Library {
    kernel: Kernel,
    /// `None` for files that are no Go programs. A file stays open as long as it is known, so that no other gets its
    /// identity.
    binaries: HashMap<FileId, Option<Opened>>,
    targets: HashMap<FileId, Arc<Target>>,
    warnings: Vec<String>,
}

impl Default for Library {
    fn default() -> Library {
        Library {
            kernel: running_kernel(),
            binaries: HashMap::new(),
            targets: HashMap::new(),
            warnings: Vec::new(),
        }
    }
}

impl Library {
    /// Reads what the user named, as far as it can be read: what is wrong with the rest shows when it is asked for.
    pub fn read_ahead(&mut self, selectors: &cli::Targets) {
        let executed = selectors.pid.iter().filter_map(|pid| {
            let (process, file) = Process::open(*pid).ok()?;
            Some((file, process.exe))
        });
        let named = selectors.exe.iter().filter_map(|path| Some((File::open(path).ok()?, path.clone())));
        for (file, path) in executed.chain(named) {
            let _ = self.target(file, &path);
        }
    }

    /// Reads the program that the user wants to run, likewise.
    pub fn read_program(&mut self, command: &[std::ffi::OsString]) {
        let path = command.first().and_then(|program| launch::resolve(program).ok());
        if let Some((file, path)) = path.and_then(|path| Some((File::open(&path).ok()?, path))) {
            let _ = self.target(file, &path);
        }
    }

    /// Opens a process to look into it, without probes.
    ///
    /// # Errors
    /// No such process, no permission, no Go program, or one whose goroutines are not where its version says.
    pub fn subject(&mut self, pid: u32) -> Result<Subject, Error> {
        let (process, file) = Process::open(pid)?;
        let (id, binary, _) = self.read(file, &process.exe)?;
        Subject::new(process, binary, id)
    }

    /// Reads a binary and plans its probes, or remembers having done so.
    pub fn target(&mut self, file: File, path: &Path) -> Result<Arc<Target>, Error> {
        let (id, binary, file) = self.read(file, path)?;
        if let Some(target) = self.targets.get(&id) {
            return Ok(target.clone());
        }
        let probes = self.plan(&binary, path)?;
        let target = Arc::new(Target { binary, file, id, probes });
        self.targets.insert(id, target.clone());
        Ok(target)
    }

    fn read(&mut self, file: File, path: &Path) -> Result<(FileId, Arc<Binary>, Arc<File>), Error> {
        let id = FileId::of(&file).map_err(|source| Error::File { path: path.to_path_buf(), source })?;
        if let Some(Some((binary, file))) = self.binaries.get(&id) {
            return Ok((id, binary.clone(), file.clone()));
        }
        let binary = Binary::open(&file, path).map_err(Error::from);
        if binary.as_ref().is_err_and(Error::is_not_go) {
            self.binaries.insert(id, None);
        }
        let (binary, file) = (Arc::new(binary?), Arc::new(file));
        self.binaries.insert(id, Some((binary.clone(), file.clone())));
        Ok((id, binary, file))
    }

    fn plan(&mut self, binary: &Binary, path: &Path) -> Result<Vec<Probe>, Error> {
        let fail = |source| Error::Plan { path: path.to_path_buf(), source };
        let sites = probe_sites::of(binary, self.kernel, Placement::Cheapest).map_err(fail)?;
        for site in sites.iter().filter(|site| site.cost == Cost::SingleStepped) {
            self.warnings.push(format!(
                "{}: no cheap instruction for a probe in {}, using {}: each hit costs the target ten times as much or more",
                process::printable(path),
                site.function,
                site.instruction,
            ));
        }
        if binary.layout_source().is_unverified() {
            self.warnings.push(format!(
                "{}: {} is newer than this golife knows; using the newest layout it has, checked against the process's memory",
                process::printable(path),
                binary.build_info().version_text,
            ));
        }
        Ok(sites.iter().filter_map(|site| probe(binary, site)).collect())
    }

    /// A binary that was read.
    pub fn known(&self, file: FileId) -> Option<Arc<Target>> {
        self.targets.get(&file).cloned()
    }

    /// Whether a file is known to be no Go program.
    pub fn is_no_go(&self, file: FileId) -> bool {
        matches!(self.binaries.get(&file), Some(None))
    }

    /// A binary is not to be traced any more.
    pub fn refuse(&mut self, file: FileId) {
        self.targets.remove(&file);
        self.binaries.insert(file, None);
    }

    /// What the user should know about the binaries, once.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }
}

/// How the kernel is to place the probe of a planned site; `None` where the site is not in the file.
pub fn probe(binary: &Binary, site: &Site) -> Option<Probe> {
    let layout = binary.layout();
    let cookie = match site.purpose {
        Purpose::Creation => Cookie {
            ends: false,
            register: site.register,
            goid: layout.goid,
            parent: layout.parent.unwrap_or(0),
            gopc: layout.gopc,
            startpc: layout.startpc,
            m: layout.m,
            curg: layout.curg,
        },
        // Equal for all binaries: kernels without attach cookies have room for few different ones.
        Purpose::Exit | Purpose::CoroutineExit => {
            Cookie { ends: true, register: site.register, ..Cookie::default() }
        }
    };
    Some(Probe {
        program: Program::Goroutine,
        file_offset: binary.vaddr_to_file_offset(site.address)?,
        cookie,
    })
}

/// What the running kernel does with probes.
pub fn running_kernel() -> Kernel {
    let (major, minor) = kernel::running();
    Kernel::from_version(major, minor)
}
