//! The binaries that golife has read: ELF, function table, layout and probe plan, each done once per file, whoever
//! executes it and under whatever path.

use std::{collections::HashMap, fs::File, path::Path, sync::Arc};

use tracer_ebpf::Cookie;

use crate::go::plan::{Cost, Kernel, Purpose, Site};
use crate::go::probe_sites::Placement;
use crate::go::{Binary, ErrorKind, Image, Layout, probe_sites, truncated};
use crate::host::files::FileId;
use crate::host::process::Process;
use crate::host::{kernel, launch, mapped};
use crate::probes::{Probe, Program};
use crate::session::Error;
use crate::subject::Subject;
use crate::{cli, go};

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

/// Go code that a process has mapped.
#[derive(Clone)]
pub struct Code {
    /// The file.
    pub id: FileId,
    /// What is in it.
    pub binary: Arc<Binary>,
    /// What was added to its addresses when it was mapped.
    pub bias: u64,
}

/// What of Go is in a process.
pub struct Found {
    /// The process.
    pub process: Process,
    /// Its runtime: the executable, or the library whose goroutines are looked at; with its plugins.
    pub code: Code,
    /// The file of the runtime.
    pub file: Arc<File>,
    /// The plugins in [`Found::code`].
    pub plugins: Vec<Code>,
    /// Further runtimes, each with goroutines of its own: libraries that bring one along.
    pub others: Vec<Code>,
}

/// All binaries that were read.
pub struct Library {
    kernel: Kernel,
    /// `None` for files that are no Go programs. A file stays open as long as it is known, so that no other gets its
    /// identity.
    binaries: HashMap<FileId, Option<Opened>>,
    targets: HashMap<FileId, Arc<Target>>,
    /// The files that processes have loaded: `None` for those without Go.
    loaded: HashMap<mapped::Key, Option<FileId>>,
    warnings: Vec<String>,
}

impl Default for Library {
    fn default() -> Library {
        Library {
            kernel: running_kernel(),
            binaries: HashMap::new(),
            targets: HashMap::new(),
            loaded: HashMap::new(),
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
        self.find(pid, |_| false).and_then(Subject::new)
    }

    /// Finds the Go runtime of a process, which is in its executable or in a library that it has loaded. Where there are
    /// several, it is the executable's, or else the first one that is preferred.
    ///
    /// # Errors
    /// No such process, no permission, no Go in it.
    pub fn find(&mut self, pid: u32, prefer: impl Fn(FileId) -> bool) -> Result<Found, Error> {
        let (process, file) = Process::open(pid)?;
        // Most of a host's processes are no Go programs: what they execute is read once.
        let is_no_go = FileId::of(&file).is_ok_and(|id| self.is_no_go(id));
        let read = match is_no_go {
            true => Err(go::Error { path: process.exe.clone(), kind: ErrorKind::NotGo }.into()),
            false => self.read(file, &process.exe),
        };
        let (id, binary, file) = match read {
            Err(error) if error.is_not_go() => return self.find_library(process, prefer, error),
            other => other?,
        };
        let bias = mapped::executable(pid, id)?;
        let bias = bias_of(&bias, &binary).ok_or(Error::NotMapped(pid))?;
        let mut code = Code { id, binary, bias };
        let (plugins, others) = self.add_plugins(pid, &mut code);
        Ok(Found { process, code, file, plugins, others })
    }

    fn find_library(
        &mut self,
        process: Process,
        prefer: impl Fn(FileId) -> bool,
        executable: Error,
    ) -> Result<Found, Error> {
        let (mut runtimes, broken) = self.libraries(process.pid);
        runtimes.retain(|code| code.binary.has_runtime());
        let preferred = runtimes.iter().position(|code| prefer(code.id)).unwrap_or(0);
        if runtimes.is_empty() {
            return Err(broken.unwrap_or(match executable {
                Error::Go(error) if matches!(error.kind, ErrorKind::NotGo) => {
                    Error::NoGo { pid: process.pid, path: process.exe }
                }
                other => other,
            }));
        }
        let code = runtimes.remove(preferred);
        let Some(Some((_, file))) = self.binaries.get(&code.id) else {
            return Err(Error::NotMapped(process.pid));
        };
        Ok(Found { process, code, file: file.clone(), plugins: Vec::new(), others: runtimes })
    }

    /// Puts the plugins of a process beside its executable. Returns them, and the libraries that have a runtime of their
    /// own.
    pub fn add_plugins(&mut self, pid: u32, code: &mut Code) -> (Vec<Code>, Vec<Code>) {
        // Without a dynamic linker there is nothing else.
        if !code.binary.image().interpreter() {
            return (Vec::new(), Vec::new());
        }
        let (libraries, _) = self.libraries_beside(pid, Some(&code.binary));
        let (others, plugins): (Vec<Code>, Vec<Code>) =
            libraries.into_iter().partition(|code| code.binary.has_runtime());
        if !plugins.is_empty() {
            let loaded: Vec<_> = plugins.iter().map(|plugin| (plugin.binary.clone(), plugin.bias)).collect();
            code.binary = Arc::new(code.binary.with_modules(code.bias, &loaded));
        }
        (plugins, others)
    }

    /// The libraries with Go code that a process has loaded, and what is wrong with the last one that cannot be read.
    pub fn libraries(&mut self, pid: u32) -> (Vec<Code>, Option<Error>) {
        self.libraries_beside(pid, None)
    }

    /// `host`: the executable, if that is Go; then libraries without a runtime are its plugins.
    fn libraries_beside(&mut self, pid: u32, host: Option<&Binary>) -> (Vec<Code>, Option<Error>) {
        let (mut found, mut broken) = (Vec::new(), None);
        for loaded in mapped::libraries(pid).unwrap_or_default() {
            match self.library(pid, &loaded, host) {
                Ok(code) => found.extend(code),
                Err(error) => broken = Some(error),
            }
        }
        (found, broken)
    }

    /// Reads a library, once. `None` where it has no Go.
    fn library(
        &mut self,
        pid: u32,
        loaded: &mapped::Loaded,
        host: Option<&Binary>,
    ) -> Result<Option<Code>, Error> {
        let code = |id, binary: &Arc<Binary>| {
            let bias = bias_of(&loaded.mappings, binary);
            bias.map(|bias| Code { id, binary: binary.clone(), bias })
        };
        if let Some(known) = self.loaded.get(&loaded.key) {
            let binary = known.and_then(|id| Some((id, &self.binaries.get(&id)?.as_ref()?.0)));
            return Ok(binary.and_then(|(id, binary)| code(id, binary)));
        }
        let path = loaded.path();
        let fail = |source| Error::File { path: path.clone(), source };
        // Files that cannot be opened now may be at another time; most of what is mapped has no Go, which its headers tell.
        let Ok(file) = loaded.open(pid) else { return Ok(None) };
        if !Image::open(&file, path).is_ok_and(|image| image.has_go_mark()) {
            self.loaded.insert(loaded.key.clone(), None);
            return Ok(None);
        }
        let id = FileId::of(&file).map_err(fail)?;
        let known = self.binaries.get(&id).and_then(Option::as_ref).map(|(binary, _)| binary.clone());
        let binary = match (known, host) {
            (Some(known), _) => known,
            (None, None) => Arc::new(Binary::open(&file, path)?),
            (None, Some(host)) => Arc::new(Binary::open_plugin(&file, path, host)?),
        };
        self.loaded.insert(loaded.key.clone(), Some(id));
        self.binaries.insert(id, Some((binary.clone(), Arc::new(file))));
        Ok(code(id, &binary))
    }

    /// Reads a binary and plans its probes, or remembers having done so.
    pub fn target(&mut self, file: File, path: &Path) -> Result<Arc<Target>, Error> {
        let (id, binary, file) = self.read(file, path)?;
        if let Some(target) = self.targets.get(&id) {
            return Ok(target.clone());
        }
        self.plan_new(id, binary, file)
    }

    /// Plans the probes of what was found in a process, or remembers having done so.
    pub fn plan_of(&mut self, found: &Found) -> Result<Arc<Target>, Error> {
        let id = found.code.id;
        if let Some(target) = self.targets.get(&id) {
            return Ok(target.clone());
        }
        // As it is in the file, without the plugins of one process.
        let known = self.binaries.get(&id).and_then(Option::as_ref).map(|(binary, _)| binary.clone());
        let binary = known.unwrap_or_else(|| found.code.binary.clone());
        self.plan_new(id, binary, found.file.clone())
    }

    /// The same for one of its plugins.
    pub fn plan_of_plugin(&mut self, plugin: &Code) -> Result<Arc<Target>, Error> {
        let known = self.binaries.get(&plugin.id).and_then(Option::as_ref).map(|(_, file)| file.clone());
        match (self.targets.get(&plugin.id), known) {
            (Some(target), _) => Ok(target.clone()),
            (None, Some(file)) => self.plan_new(plugin.id, plugin.binary.clone(), file),
            (None, None) => Err(Error::File {
                path: plugin.binary.path().to_path_buf(),
                source: std::io::ErrorKind::NotFound.into(),
            }),
        }
    }

    fn plan_new(&mut self, id: FileId, binary: Arc<Binary>, file: Arc<File>) -> Result<Arc<Target>, Error> {
        let path = binary.path().to_path_buf();
        let probes = self.plan(&binary, &path)?;
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
        // What is no ELF file either is soon told again.
        if matches!(&binary, Err(Error::Go(error)) if matches!(error.kind, ErrorKind::NotGo)) {
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
                "{}: no cheap instruction for a probe in {}, using {}: each hit costs the target several times as much",
                path.display(),
                site.function,
                site.instruction,
            ));
        }
        if binary.layout_source().is_unverified() {
            let why = match Layout::has(binary.version()) {
                true => {
                    "was built by a toolchain or with experiments that nobody measured; using the layout of its release"
                }
                false => "is newer than this golife knows; using the newest layout it has",
            };
            self.warnings.push(format!(
                "{}: {} {why}, checked against the process's memory",
                path.display(),
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
        if truncated::take() {
            let what = "a binary was truncated or written anew while golife read it: what it says is missing";
            self.warnings.push(format!("{what}, names above all; trace it again"));
        }
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
            bp: layout.sched_bp,
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

/// What was added to a file's addresses when it was mapped.
fn bias_of(mappings: &[mapped::Mapping], binary: &Binary) -> Option<u64> {
    mappings.iter().find_map(|mapping| binary.image().load_bias(mapping.start, mapping.file_offset))
}

/// What the running kernel does with probes.
pub fn running_kernel() -> Kernel {
    let (major, minor) = kernel::running();
    Kernel::from_version(major, minor)
}
