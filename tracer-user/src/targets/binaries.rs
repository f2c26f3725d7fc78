//! The binaries that golife has read. ELF headers, function table, layout and probe plan are done once per file,
//! whoever executes it and under whatever path. [`Binaries::keep`] lets go of what nobody uses any more.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::Selectors;
use super::error::TargetError;
use super::go_tools::GoTools;
use super::mapped_binary::MappedBinary;
use super::read_ahead::{ReadAhead, running_kernel};
use super::subject::Subject;
use crate::go::file::budget::TooMuch;
use crate::go::plan::{Cost, Kernel, PlanError, ProbeSite, Purpose};
use crate::go::probe_sites::{self, Placement};
use crate::go::{Binary, GoError, GoErrorKind, Image, Layout, truncated};
use crate::host::executed::Executed;
use crate::host::files::{FileStamp, OpenFile};
use crate::host::mapped::{self, Loaded, MappedFile, Mapping};
use crate::host::{FileId, RunningProcess};

/// A Go binary and where its probes go.
pub struct PlannedBinary {
    /// The binary.
    pub binary: Arc<Binary>,
    /// The file, held open. It stays this binary, whatever its path leads to by now.
    pub opened: Arc<OpenFile>,
    /// The identity of the file.
    pub file: FileId,
    /// Where its probes go, and what each of them sees.
    pub sites: Vec<ProbeSite>,
}

/// Go code that a process has loaded beside its executable.
#[derive(Clone, Default)]
pub struct Beside {
    /// Plugins of the executable, which use its runtime.
    pub plugins: Vec<MappedBinary>,
    /// Libraries with a runtime of their own.
    pub others: Vec<MappedBinary>,
}

/// The libraries with Go code that a process has loaded.
#[derive(Default)]
pub struct Libraries {
    /// Those that could be read.
    pub libraries: Vec<MappedBinary>,
    /// What is wrong with the last one that could not.
    pub broken: Option<TargetError>,
}

/// Something about a binary that its user should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// A function has no place where a probe would be cheap.
    Expensive {
        /// The binary.
        path: PathBuf,
        /// The function that is probed.
        function: String,
        /// The instruction that the probe is on.
        instruction: String,
    },
    /// The layout was not measured for this build of Go, only checked against a process's memory.
    Unmeasured {
        /// The binary.
        path: PathBuf,
        /// Its Go version, as its build info has it.
        version: String,
        /// Whether the release itself was measured. If so, the build has another toolchain or an experiment; if not, it
        /// is newer than this golife.
        release_is_known: bool,
        /// Why the program's own debug information does not say the layout, if it has too much of that.
        unread: Option<TooMuch>,
    },
    /// A file was truncated or written anew while it was read.
    Truncated,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remark::Expensive { path, function, instruction } => write!(
                f,
                "{}: no cheap instruction for a probe in {function}, using {instruction}: each hit costs the target several \
                 times as much",
                path.display()
            ),
            Remark::Unmeasured { path, version, release_is_known, unread } => {
                let why = match release_is_known {
                    true => {
                        "was built by a toolchain or with experiments that nobody measured; using the layout of its release"
                    }
                    false => "is newer than this golife knows; using the newest layout it has",
                };
                write!(f, "{}: {version} {why}, checked against the process's memory", path.display())?;
                unread.map_or(Ok(()), |unread| write!(f, "; {unread}"))
            }
            Remark::Truncated => f.write_str(
                "a binary was truncated or written anew while golife read it: what it says is missing, names above all; trace \
                 it again",
            ),
        }
    }
}

/// A binary, and the open file that it was read from. The file stays open as long as the binary is known, so that no
/// other file gets its identity.
#[derive(Clone)]
struct ReadBinary {
    binary: Arc<Binary>,
    opened: Arc<OpenFile>,
}

/// All binaries that were read.
pub struct Binaries {
    kernel: Kernel,
    read: HashMap<FileId, ReadBinary>,
    planned: HashMap<FileId, Arc<PlannedBinary>>,
    /// Go programs whose records could not be right, so that they are not traced again.
    refused: HashSet<FileId>,
    /// Files that are no Go programs. They are not kept open, so another file may have the identity of one some day;
    /// that is why more than the identity is remembered.
    no_go: HashSet<FileStamp>,
    go_tools: GoTools,
    /// The files that processes have loaded, with `None` for those without Go.
    loaded: HashMap<MappedFile, Option<FileId>>,
    remarks: Vec<Remark>,
}

/// Most files without Go that are remembered, executables and libraries each. Beyond this, all are forgotten and looked
/// at anew. A host has some thousands.
const MOST_WITHOUT_GO: usize = 1 << 16;

impl Default for Binaries {
    fn default() -> Binaries {
        Binaries {
            kernel: running_kernel(),
            read: HashMap::new(),
            planned: HashMap::new(),
            refused: HashSet::new(),
            no_go: HashSet::new(),
            go_tools: GoTools::default(),
            loaded: HashMap::new(),
            remarks: Vec::new(),
        }
    }
}

impl Binaries {
    /// Reads what was asked for before it is needed. Whatever cannot be read is left out: the error shows when it is
    /// needed.
    pub fn read_ahead(&mut self, selectors: &Selectors) {
        let executed = selectors.pids.iter().filter_map(|pid| {
            let (process, file) = RunningProcess::open(*pid).ok()?;
            Some((file, process.exe))
        });
        let named =
            selectors.executables.iter().filter_map(|path| Some((File::open(path).ok()?, path.clone())));
        for (file, path) in executed.chain(named) {
            let _ = self.plan(file, &path);
        }
    }

    /// Reads a program before it is needed, without an error if it cannot be read.
    pub fn read_program(&mut self, path: &Path) {
        if let Ok(file) = File::open(path) {
            let _ = self.plan(file, path);
        }
    }

    /// Opens a process to look into it, without probes.
    ///
    /// # Errors
    /// No such process, no permission, no Go program, or one whose goroutines are not where its version says.
    pub fn subject(&mut self, pid: u32) -> Result<Subject, TargetError> {
        let subject = self.find(pid, |_| false)?;
        subject.verify()?;
        Ok(subject)
    }

    /// Finds the Go runtime of a process, which is in its executable or in a library that it has loaded. Where there
    /// are several, the executable's comes first, then the first library that `prefer` accepts, then any other.
    ///
    /// # Errors
    /// No such process, no permission, no Go in it.
    pub fn find(&mut self, pid: u32, prefer: impl Fn(FileId) -> bool) -> Result<Subject, TargetError> {
        let (process, file) = RunningProcess::open(pid)?;
        // Most of a host's processes are no Go programs, so what they execute is not read again.
        let read = match self.is_no_go(&file) {
            true => Err(GoError { path: process.exe.clone(), kind: GoErrorKind::NotGo }.into()),
            false => self.read(file, &process.exe),
        };
        let (file, ReadBinary { binary, opened }) = match read {
            Err(error) if error.is_not_go() => return self.find_library(process, prefer, error),
            other => other?,
        };
        let mappings = mapped::executable(pid, file)?;
        let bias = bias_of(&mappings, &binary).ok_or(TargetError::NotMapped(pid))?;
        let mut executable = MappedBinary { file, binary, bias };
        let Beside { plugins, others } = self.add_plugins(pid, &mut executable);
        let MappedBinary { file, binary, bias } = executable;
        Ok(Subject { process, binary, bias, file, opened, plugins, others, kept: None })
    }

    fn find_library(
        &mut self,
        process: RunningProcess,
        prefer: impl Fn(FileId) -> bool,
        executable: TargetError,
    ) -> Result<Subject, TargetError> {
        let Libraries { libraries: mut runtimes, broken } = self.libraries(process.pid);
        runtimes.retain(|library| library.binary.has_runtime());
        let preferred = runtimes.iter().position(|library| prefer(library.file)).unwrap_or(0);
        if runtimes.is_empty() {
            return Err(broken.unwrap_or(match executable {
                TargetError::Go(error) if matches!(error.kind, GoErrorKind::NotGo) => {
                    TargetError::NoGo { pid: process.pid, path: process.exe }
                }
                other => other,
            }));
        }
        let MappedBinary { file, binary, bias } = runtimes.remove(preferred);
        let Some(ReadBinary { opened, .. }) = self.read.get(&file).cloned() else {
            return Err(TargetError::NotMapped(process.pid));
        };
        let plugins = Vec::new();
        Ok(Subject { process, binary, bias, file, opened, plugins, others: runtimes, kept: None })
    }

    /// The Go runtime of a process that has just executed a Go program, also if it has ended since. `memory` is its memory,
    /// which is kept.
    ///
    /// # Errors
    /// What it executes is no Go program that golife knows.
    pub fn find_executed(&mut self, executed: &Executed, memory: Arc<File>) -> Result<Subject, TargetError> {
        let process = executed.process.clone();
        let fail = |source| TargetError::File { path: process.exe.clone(), source };
        let (file, ReadBinary { binary, opened }) =
            self.read(executed.file.try_clone().map_err(fail)?, &process.exe)?;
        let bias = bias_of(&executed.mappings, &binary).ok_or(TargetError::NotMapped(process.pid))?;
        let (plugins, others) = (Vec::new(), Vec::new());
        Ok(Subject { process, binary, bias, file, opened, plugins, others, kept: Some(memory) })
    }

    /// Whether a file is a Go program, as far as its headers tell.
    pub fn seems_go(&self, file: &File) -> bool {
        let is_read = || FileId::of(file).is_ok_and(|id| self.read.contains_key(&id));
        let is_marked = || Image::of_go(file, Path::new("")).is_some();
        !self.is_no_go(file) && (is_read() || is_marked())
    }

    /// Whether a file is one of Go's own tools, such as its compiler or the `go` command.
    pub fn is_go_tool(&mut self, file: &File) -> bool {
        !self.is_no_go(file) && self.go_tools.has(file)
    }

    /// Adds the plugins that a process has loaded to its executable. Returns the plugins, and the libraries that have a
    /// runtime of their own.
    pub fn add_plugins(&mut self, pid: u32, executable: &mut MappedBinary) -> Beside {
        // A program without a dynamic linker cannot load anything.
        if !executable.binary.image().interpreter() {
            return Beside::default();
        }
        let Libraries { libraries, .. } = self.libraries_beside(pid, Some(&executable.binary));
        let (others, plugins): (Vec<MappedBinary>, Vec<MappedBinary>) =
            libraries.into_iter().partition(|library| library.binary.has_runtime());
        if !plugins.is_empty() {
            let loaded: Vec<_> = plugins.iter().map(|plugin| (plugin.binary.clone(), plugin.bias)).collect();
            executable.binary = Arc::new(executable.binary.with_modules(executable.bias, &loaded));
        }
        Beside { plugins, others }
    }

    /// The libraries with Go code that a process has loaded, and what is wrong with the last one that cannot be read.
    pub fn libraries(&mut self, pid: u32) -> Libraries {
        self.libraries_beside(pid, None)
    }

    /// The files with a Go runtime that a process has loaded, other than its executable.
    pub fn runtimes_loaded(&mut self, pid: u32) -> Vec<FileId> {
        let Libraries { libraries, .. } = self.libraries(pid);
        libraries
            .into_iter()
            .filter(|library| library.binary.has_runtime())
            .map(|library| library.file)
            .collect()
    }

    /// Does the work of [`Binaries::libraries`]. `host` is the executable if that is a Go program; then libraries
    /// without a runtime are its plugins.
    fn libraries_beside(&mut self, pid: u32, host: Option<&Binary>) -> Libraries {
        let mut found = Libraries::default();
        for loaded in mapped::libraries(pid).unwrap_or_default() {
            match self.library(pid, &loaded, host) {
                Ok(library) => found.libraries.extend(library),
                Err(error) => found.broken = Some(error),
            }
        }
        found
    }

    /// Reads a library, unless it was read before. `None` if it has no Go code.
    fn library(
        &mut self,
        pid: u32,
        loaded: &Loaded,
        host: Option<&Binary>,
    ) -> Result<Option<MappedBinary>, TargetError> {
        let mapped = |file, binary: &Arc<Binary>| {
            let bias = bias_of(&loaded.mappings, binary);
            bias.map(|bias| MappedBinary { file, binary: binary.clone(), bias })
        };
        let known = self.loaded.get(&loaded.file).copied();
        match known.map(|file| file.map(|file| (file, self.known(file)))) {
            Some(None) => return Ok(None),
            Some(Some((file, Some(read)))) => return Ok(mapped(file, &read.binary)),
            // It was let go, or written since.
            Some(Some((_, None))) | None => {}
        }
        let path = loaded.path();
        let fail = |source| TargetError::File { path: path.clone(), source };
        // A file that cannot be opened now may be opened another time, so this is not remembered. Most of what is
        // mapped has no Go code, and its headers are enough to see that.
        let Ok(opened) = loaded.open(pid) else { return Ok(None) };
        if Image::of_go(&opened, path).is_none() {
            if self.loaded.len() >= MOST_WITHOUT_GO {
                self.loaded.retain(|_, known| known.is_some());
            }
            self.loaded.insert(loaded.file.clone(), None);
            return Ok(None);
        }
        let opened = OpenFile::new(opened).map_err(fail)?;
        let file = opened.id();
        let read = match (self.known(file), host) {
            (Some(known), _) => known,
            (None, host) => {
                let binary = match host {
                    None => Binary::open(opened.file(), path)?,
                    Some(host) => Binary::open_plugin(opened.file(), path, host)?,
                };
                ReadBinary { binary: Arc::new(binary), opened: Arc::new(opened) }
            }
        };
        self.loaded.insert(loaded.file.clone(), Some(file));
        let library = mapped(file, &read.binary);
        self.read.insert(file, read);
        Ok(library)
    }

    /// Takes in what was read on another thread, unless the file is known.
    ///
    /// # Errors
    /// It is no Go program that golife knows, or has no place for a probe.
    pub fn take_in(&mut self, ahead: ReadAhead) -> Result<Arc<PlannedBinary>, TargetError> {
        let ReadAhead { opened, binary } = ahead;
        let file = opened.id();
        if let Some(read) = self.known(file) {
            return self.plan_once(file, read);
        }
        let (binary, sites) = binary?;
        let sites = self.checked(&binary, sites)?;
        let read = ReadBinary { binary: Arc::new(binary), opened: Arc::new(opened) };
        self.read.insert(file, read.clone());
        let ReadBinary { binary, opened } = read;
        let planned = Arc::new(PlannedBinary { binary, opened, file, sites });
        self.planned.insert(file, planned.clone());
        Ok(planned)
    }

    /// Reads a binary and plans its probes, unless that was done before.
    ///
    /// # Errors
    /// It is no Go program that golife knows, or has no place for a probe.
    pub fn plan(&mut self, opened: File, path: &Path) -> Result<Arc<PlannedBinary>, TargetError> {
        let (file, read) = self.read(opened, path)?;
        self.plan_once(file, read)
    }

    /// Plans the probes of the binary with a process's runtime, unless that was done before.
    ///
    /// # Errors
    /// It has no place for a probe.
    pub fn plan_of(&mut self, subject: &Subject) -> Result<Arc<PlannedBinary>, TargetError> {
        let as_found = || ReadBinary { binary: subject.binary.clone(), opened: subject.opened.clone() };
        // The plan is for all processes, so it is made of the binary as it is in the file, without the plugins of this
        // one.
        let read = self.read.get(&subject.file).cloned().unwrap_or_else(as_found);
        self.plan_once(subject.file, read)
    }

    /// Plans the probes of a plugin, unless that was done before.
    ///
    /// # Errors
    /// It has no place for a probe, or was let go.
    pub fn plan_of_plugin(&mut self, plugin: &MappedBinary) -> Result<Arc<PlannedBinary>, TargetError> {
        let read = self.read.get(&plugin.file).cloned().ok_or_else(|| TargetError::File {
            path: plugin.binary.path().to_path_buf(),
            source: std::io::ErrorKind::NotFound.into(),
        })?;
        self.plan_once(plugin.file, ReadBinary { binary: plugin.binary.clone(), ..read })
    }

    fn plan_once(&mut self, file: FileId, read: ReadBinary) -> Result<Arc<PlannedBinary>, TargetError> {
        if let Some(planned) = self.planned.get(&file) {
            return Ok(planned.clone());
        }
        let ReadBinary { binary, opened } = read;
        let sites = self.sites_of(&binary)?;
        let planned = Arc::new(PlannedBinary { binary, opened, file, sites });
        self.planned.insert(file, planned.clone());
        Ok(planned)
    }

    fn read(&mut self, opened: File, path: &Path) -> Result<(FileId, ReadBinary), TargetError> {
        let fail = |source| TargetError::File { path: path.to_path_buf(), source };
        let opened = OpenFile::new(opened).map_err(fail)?;
        let file = opened.id();
        if let Some(read) = self.known(file) {
            return Ok((file, read));
        }
        let binary = Binary::open(opened.file(), path).map_err(TargetError::from);
        // Only ELF files are remembered here. That a file is none is quick to see again.
        if matches!(&binary, Err(TargetError::Go(error)) if matches!(error.kind, GoErrorKind::NotGo)) {
            if self.no_go.len() >= MOST_WITHOUT_GO {
                self.no_go.clear();
            }
            self.no_go.insert(opened.stamp());
        }
        let read = ReadBinary { binary: Arc::new(binary?), opened: Arc::new(opened) };
        self.read.insert(file, read.clone());
        Ok((file, read))
    }

    /// What was read of a file, if nothing has happened to it since. Otherwise it has to be read anew.
    fn known(&mut self, file: FileId) -> Option<ReadBinary> {
        let read = self.read.get(&file)?;
        if read.opened.is_untouched() {
            return Some(read.clone());
        }
        self.forget(file);
        None
    }

    /// Forgets what was read of a file.
    pub fn forget(&mut self, file: FileId) {
        self.read.remove(&file);
        self.planned.remove(&file);
    }

    fn sites_of(&mut self, binary: &Binary) -> Result<Vec<ProbeSite>, TargetError> {
        self.checked(binary, probe_sites::of(binary, self.kernel, Placement::Cheapest))
    }

    /// Takes note of what the user should know about the plan of a binary.
    fn checked(
        &mut self,
        binary: &Binary,
        sites: Result<Vec<ProbeSite>, PlanError>,
    ) -> Result<Vec<ProbeSite>, TargetError> {
        let path = || binary.path().to_path_buf();
        let sites = sites.map_err(|source| TargetError::Plan { path: path(), source })?;
        // What is hit once for each test may cost more.
        let is_often_hit = |site: &&ProbeSite| !matches!(site.purpose, Purpose::Test(_));
        for site in sites.iter().filter(is_often_hit).filter(|site| site.cost == Cost::SingleStepped) {
            let (function, instruction) = (site.function.clone(), site.instruction.clone());
            self.remarks.push(Remark::Expensive { path: path(), function, instruction });
        }
        if binary.layout_source().is_unverified() {
            self.remarks.push(Remark::Unmeasured {
                path: path(),
                version: binary.build_info().version_text.clone(),
                release_is_known: Layout::has(binary.version()),
                unread: binary.unread_debug_information(),
            });
        }
        Ok(sites)
    }

    /// The binary with this identity, if its probes were planned.
    pub fn planned(&self, file: FileId) -> Option<Arc<PlannedBinary>> {
        self.planned.get(&file).cloned()
    }

    /// All binaries whose probes were planned.
    pub fn all_planned(&self) -> impl Iterator<Item = &Arc<PlannedBinary>> {
        self.planned.values()
    }

    /// Whether a file is known to be no Go program, or one that is not to be traced.
    pub fn is_no_go(&self, opened: &File) -> bool {
        let is_refused = FileId::of(opened).is_ok_and(|file| self.refused.contains(&file));
        is_refused || FileStamp::of(opened).is_ok_and(|stamp| self.no_go.contains(&stamp))
    }

    /// Takes note that a binary is not to be traced any more.
    pub fn refuse(&mut self, file: FileId) {
        self.planned.remove(&file);
        self.refused.insert(file);
    }

    /// Lets go of all binaries but those that are in use, with their descriptors and mappings.
    pub fn keep(&mut self, is_used: impl Fn(FileId) -> bool) {
        let refused = &self.refused;
        // The file of a refused binary stays open, so that no other file gets its identity.
        self.read.retain(|file, _| is_used(*file) || refused.contains(file));
        self.planned.retain(|file, _| is_used(*file));
        self.loaded.retain(|_, file| file.is_none_or(&is_used));
    }

    /// How many binaries are held open.
    pub fn len(&self) -> usize {
        self.read.len()
    }

    /// Whether no binary is held open.
    pub fn is_empty(&self) -> bool {
        self.read.is_empty()
    }

    /// Takes what the user should know about the binaries. The next call does not say it again.
    pub fn take_remarks(&mut self) -> Vec<Remark> {
        if truncated::take() {
            self.remarks.push(Remark::Truncated);
        }
        std::mem::take(&mut self.remarks)
    }
}

/// The load bias of a binary: what is added to its link-time addresses to get those in the process. `None` if the
/// process has not mapped it.
fn bias_of(mappings: &[Mapping], binary: &Binary) -> Option<u64> {
    mappings.iter().find_map(|mapping| binary.image().load_bias(mapping.start, mapping.file_offset))
}
